/*
 * call.c - AIOFS_CALL: calls on host threads, which share the program's descriptors and must not delay other work.
 */
#include "check.h"

#include "volume.h"

static _Atomic int running;
static _Atomic bool released;

static int64_t answer(aiofs_request *request)
{
    return (int64_t)request->offset * 2;
}

static int64_t fail(aiofs_request *request)
{
    (void)request;
    return -ENOTDIR;
}

static int64_t look_at_descriptor(aiofs_request *request)
{
    char bytes[8] = "";
    return pread(request->fd, bytes, 4, 0) == 4 && memcmp(bytes, "mine", 4) == 0;
}

static int64_t blocked_signals(aiofs_request *request)
{
    sigset_t mask;
    (void)request;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    return sigismember(&mask, SIGINT) && sigismember(&mask, SIGUSR1);
}

static int64_t block(aiofs_request *request)
{
    (void)request;
    running++;
    while (!released)
        pause_ms(1);
    return 7;
}

static struct op *call(int64_t (*function)(aiofs_request *), int fd, int64_t offset)
{
    struct op *op = op_new(AIOFS_CALL, fd, NULL, 0, offset);
    op->request.call = function;
    if (aiofs_submit(&op->request, NULL) != 0)
        exit(1);
    return op;
}

static void plain_calls(void)
{
    int fd = scratch(O_RDWR), good = 0;
    struct op *ops[200];
    MUST(pwrite(fd, "mine", 4, 0));
    CHECK(op_finish(call(answer, -1, 21)) == 42, "a call's result is the request's");
    CHECK(op_finish(call(fail, -1, 0)) == -ENOTDIR, "a call's error is the request's error");
    CHECK(op_finish(call(look_at_descriptor, fd, 0)) == 1, "a call has the program's descriptors");
    CHECK(op_finish(call(blocked_signals, -1, 0)) == 1, "a call's thread blocks all signals");
    for (int i = 0; i < 200; i++)
        ops[i] = call(answer, -1, i);
    for (int i = 0; i < 200; i++)
        good += op_finish(ops[i]) == 2 * i;
    CHECK(good == 200, "200 calls at once");
    close(fd);
}

/* Calls that do not return occupy all host threads for calls. The engine's own jobs on host threads still run. */
static void blocked_calls(void)
{
    enum { COUNT = 70 };
    struct op *ops[COUNT];
    char directory[] = "/tmp/aiofs-volume-XXXXXX";
    aiofs_volume *volume;
    aiofs_file *file;
    MUST(mkdtemp(directory) ? 0 : -1);
    if (aiofs_volume_open(directory, 0, -1, &volume) != 0)
        exit(1);
    for (int i = 0; i < COUNT; i++)
        ops[i] = call(block, -1, 0);
    CHECK(EVENTUALLY(PATIENCE, running == 63), "63 calls run at a time");
    int owner;
    CHECK(aiofs_volume_open_file(volume, "a", O_RDWR | O_CREAT, 0600, AIOFS_LOCK_EXCLUSIVE, &owner, &file) == 0,
          "a file is opened while all calls block");
    struct op *write = start_on(file, AIOFS_WRITE, -1, "hello", 5, 0), *flush = start_on(file, AIOFS_FLUSH, -1, NULL, 0, 0);
    flush->request.iovcnt = 0;
    CHECK(op_finish(write) == 5 && op_finish(flush) == 0, "the file is written and flushed while all calls block");
    struct op *last = start_on(file, AIOFS_WRITE, -1, "world", 5, 5);
    aiofs_file_close(file);
    aiofs_file_release(file);
    CHECK(op_finish(last) == 5 && aiofs_volume_lock_count(volume, "") == 0,
          "the file is closed while all calls block");

    int waiting = 0;
    for (int i = 0; i < COUNT; i++)
        waiting += aiofs_cancel(&ops[i]->request) == AIOFS_CANCEL_CANCELED;
    CHECK(waiting == COUNT - 63, "waiting calls are cancelled, running calls are not (%d)", waiting);
    released = true;
    int done = 0, canceled = 0;
    for (int i = 0; i < COUNT; i++) {
        int64_t result = op_finish(ops[i]);
        done += result == 7;
        canceled += result == -ECANCELED;
    }
    CHECK(done == 63 && canceled == COUNT - 63, "each call completes as aiofs_cancel reported");
    aiofs_volume_unlink(volume, "a", NULL);
    aiofs_volume_release(volume);
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", directory);
    if (system(command) != 0)
        printf("      (%s is left)\n", directory);
}

/* Submits a call in the `done` of another request, on a thread with the engine's descriptor table. */
static struct op *follower;
static int program_fd;

static void call_again(struct op *op)
{
    (void)op;
    follower = call(look_at_descriptor, program_fd, 0);
}

static void call_from_an_end(void)
{
    int fd = scratch(O_RDWR);
    program_fd = scratch(O_RDWR);
    MUST(pwrite(program_fd, "mine", 4, 0));
    struct op *first = op_new(AIOFS_WRITE, fd, "x", 1, 0);
    first->at_end = call_again;
    aiofs_submit(&first->request, NULL);
    op_result(first);
    CHECK(EVENTUALLY(PATIENCE, first->ends == 1), "the first request has ended");
    CHECK(op_finish(follower) == 1, "a call that is submitted at a completion has the program's descriptors");
    op_drop(first);
    close(fd);
    close(program_fd);
}

int main(void)
{
    check_begin(30);
    check_engine();
    call_from_an_end();
    plain_calls();
    blocked_calls();
    CHECK(EVENTUALLY(PATIENCE, ops_alive == 0), "every request was given back");
    return check_end();
}
