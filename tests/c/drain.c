/*
 * drain.c - aiofs_engine_drain: it cancels requests on streams and gives other requests some time, before the program
 * exits.
 */
#include "check.h"
#include "fault.h"

#include <pty.h>
#include <termios.h>

static char much[512 * 1024];

#define UNTIL_THE_ALARM 10000 /* seconds: longer than the alarm() of the program */

static int64_t nap(aiofs_request *request)
{
    pause_ms(request->offset);
    return 1;
}

static struct op *call_nap(long ms)
{
    struct op *op = op_new(AIOFS_CALL, -1, NULL, 0, ms);
    op->request.call = nap;
    aiofs_submit(&op->request, NULL);
    return op;
}

static void before_the_first_submission(void)
{
    aiofs_engine_drain(UNTIL_THE_ALARM);
    CHECK(true, "the drain returns at once before the first submission");
}

static void streams_are_cancelled(void)
{
    int pairs[4][2], ended = 0;
    struct op *ops[16];
    char byte[16];
    struct termios raw;
    MUST(pipe2(pairs[0], O_CLOEXEC));
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pairs[1]));
    MUST(openpty(&pairs[2][0], &pairs[2][1], NULL, NULL, NULL));
    tcgetattr(pairs[2][1], &raw);
    cfmakeraw(&raw);
    tcsetattr(pairs[2][1], TCSANOW, &raw);
    pairs[3][0] = pairs[3][1] = eventfd(0, EFD_CLOEXEC);
    int count = 0;
    for (int i = 0; i < 4; i++) {
        ops[count] = start(AIOFS_READ, pairs[i][0], byte, i == 3 ? 8 : 1, 0);
        count++;
        ops[count] = start(AIOFS_READ, pairs[i][0], byte, i == 3 ? 8 : 1, 0);
        count++;
        if (i < 2) {
            ops[count++] = start(AIOFS_WRITE, pairs[i][1], much, sizeof much, 0);
            ops[count++] = start(AIOFS_WRITE, pairs[i][1], much, sizeof much, 0);
        }
    }
    pause_ms(20);
    aiofs_engine_drain(UNTIL_THE_ALARM);
    CHECK(true, "the drain does not wait for requests on streams");
    for (int i = 0; i < count; i++) {
        ended += op_ended(ops[i]);
        op_drop(ops[i]);
    }
    CHECK(ended == count && outstanding() == 0, "all %d are terminal (%d)", count, ended);
    for (int i = 0; i < 4; i++) {
        close(pairs[i][0]);
        close(pairs[i][1]);
    }
}

static void files_get_time(void)
{
    struct op *ops[6];
    int fd = scratch(O_RDWR), good = 0;
    fault_inject("pwritev2", 0, FAULT_DELAY, 40000);
    for (int i = 0; i < 4; i++)
        ops[i] = start(AIOFS_WRITE, fd, "data", 4, i * 4);
    ops[4] = start(AIOFS_FSYNC, fd, NULL, 0, 0);
    ops[5] = call_nap(100);
    aiofs_engine_drain(UNTIL_THE_ALARM);
    for (int i = 0; i < 6; i++)
        good += op_ended(ops[i]) && ops[i]->ends == 1 && ops[i]->request.result == (i < 4 ? 4 : i == 4 ? 0 : 1);
    CHECK(good == 6, "disk requests and calls are complete and notified when the drain returns (%d)", good);
    for (int i = 0; i < 6; i++)
        op_drop(ops[i]);
    fault_clear();
    close(fd);
}

static _Atomic bool released;

static int64_t until_released(aiofs_request *request)
{
    (void)request;
    while (!released)
        pause_ms(1);
    return 1;
}

static void slow_requests_are_left(void)
{
    int fd = scratch(O_RDWR);
    long calls = fault_calls("pwritev2");
    fault_inject("pwritev2", 0, FAULT_LOCK, 0);
    struct op *slow = start(AIOFS_WRITE, fd, "data", 4, 0), *call = op_new(AIOFS_CALL, -1, NULL, 0, 0);
    call->request.call = until_released;
    aiofs_submit(&call->request, NULL);
    CHECK(EVENTUALLY(PATIENCE, fault_calls("pwritev2") > calls), "the write has begun");
    double before = now();
    aiofs_engine_drain(0.2);
    CHECK(now() - before >= 0.15 && !op_ended(slow) && !op_ended(call),
          "the drain returns when its time is up, and leaves slower requests");
    aiofs_engine_drain(-1);
    CHECK(!op_ended(slow) && !op_ended(call), "a drain with no time returns at once");
    fault_clear();
    released = true;
    CHECK(op_finish(slow) == 4 && op_finish(call) == 1, "the slower requests complete later");
    close(fd);
}

static void engine_stays_usable(void)
{
    int fd = scratch(O_RDWR);
    CHECK(perform(AIOFS_WRITE, fd, "again", 5, 0) == 5, "the engine completes requests after the drain");
    close(fd);
}

/* A thread that submits new requests during the drain. */
static int pipe_pair[2];
static _Atomic int again = 200;

static void *submit_again(void *argument)
{
    static char bytes[4];
    (void)argument;
    while (atomic_fetch_sub(&again, 1) > 0)
        op_drop(start(AIOFS_READ, pipe_pair[0], bytes, 1, 0));
    return NULL;
}

static void submitted_during_the_drain(void)
{
    pthread_t thread;
    MUST(pipe2(pipe_pair, O_CLOEXEC));
    pthread_create(&thread, NULL, submit_again, NULL);
    aiofs_engine_drain(5);
    pthread_join(thread, NULL);
    aiofs_engine_drain(5);
    CHECK(outstanding() == 0 && ops_alive == 0, "requests that are submitted during the drain are cancelled");
    close(pipe_pair[0]);
    close(pipe_pair[1]);
}

int main(void)
{
    check_begin(40);
    fault_attach(&aiofs_sys);
    before_the_first_submission();
    check_engine();
    before_the_first_submission();
    streams_are_cancelled();
    files_get_time();
    slow_requests_are_left();
    engine_stays_usable();
    submitted_during_the_drain();
    CHECK(EVENTUALLY(PATIENCE, ops_alive == 0), "every request was given back");
    return check_end();
}
