/*
 * cancel.c - cancellation: of one request, of all requests on a descriptor, by several threads at once.
 */
#include "check.h"
#include "fault.h"

#include <pty.h>
#include <termios.h>

static char much[256 * 1024];

static void take_back_read(const char *name, int reader, int writer)
{
    char in[8] = "";
    struct op *running = start(AIOFS_READ, reader, in, 1, 0), *waiting = start(AIOFS_READ, reader, in + 1, 1, 0);
    pause_ms(10);
    CHECK(aiofs_cancel(&waiting->request) == AIOFS_CANCEL_CANCELED && op_ended(waiting),
          "%s: a waiting read is cancelled",
          name);
    CHECK(aiofs_cancel(&running->request) == AIOFS_CANCEL_CANCELED && op_ended(running),
          "%s: a read that waits for data is cancelled",
          name);
    CHECK(op_finish(waiting) == -ECANCELED && op_finish(running) == -ECANCELED, "%s: both end with ECANCELED", name);
    if (writer >= 0) {
        CHECK(write(writer, "hi\n", 3) == 3 && perform(AIOFS_READ, reader, in, 3, 0) == 3 && memcmp(in,
              "hi\n", 3) == 0,
              "%s: the cancelled reads took no data", name);
        close(writer);
    }
    close(reader);
}

static void reads(void)
{
    int pair[2];
    char path[64];
    MUST(pipe2(pair, O_CLOEXEC));
    take_back_read("pipe", pair[0], pair[1]);
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
    take_back_read("socket", pair[0], pair[1]);
    snprintf(path, sizeof path, "/tmp/aiofs-fifo-%d", (int)getpid());
    MUST(mkfifo(path, 0600));
    pair[0] = (int)MUST(open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    pair[1] = (int)MUST(open(path, O_WRONLY | O_CLOEXEC));
    fcntl(pair[0], F_SETFL, 0);
    unlink(path);
    take_back_read("FIFO", pair[0], pair[1]);
    MUST(openpty(&pair[0], &pair[1], NULL, NULL, NULL));
    take_back_read("terminal", pair[1], pair[0]);
}

static void writes(void)
{
    int pair[2];
    MUST(pipe2(pair, O_CLOEXEC));
    struct op *begun = start(AIOFS_WRITE, pair[1], much, sizeof much, 0);
    struct op *behind = start(AIOFS_WRITE, pair[1], "never", 5, 0), *other = start(AIOFS_WRITE, pair[1], "nor", 3, 0);
    pause_ms(20);
    CHECK(aiofs_cancel(&begun->request) == AIOFS_CANCEL_NOTCANCELED && !op_ended(begun),
          "a write to a pipe that has begun is not cancelled");
    CHECK(aiofs_cancel(&behind->request) == AIOFS_CANCEL_CANCELED, "the write behind the begun write is cancelled");
    CHECK(aiofs_cancel_all(pair[1]) == AIOFS_CANCEL_NOTCANCELED && op_ended(other) && !op_ended(begun),
          "aiofs_cancel_all cancels the others, and returns AIOFS_CANCEL_NOTCANCELED");
    static char sink[sizeof much];
    for (size_t have = 0; have < sizeof much;)
        have += (size_t)MUST(read(pair[0], sink, sizeof sink));
    CHECK(op_finish(begun) == sizeof much, "the begun write completes in full");
    CHECK(op_finish(behind) == -ECANCELED && op_finish(other) == -ECANCELED,
          "the cancelled writes end with ECANCELED");
    fcntl(pair[0], F_SETFL, O_NONBLOCK);
    CHECK(read(pair[0], sink, 8) == -1 && errno == EAGAIN, "the cancelled writes wrote no byte");
    close(pair[0]);
    close(pair[1]);
}

static void files(void)
{
    enum { COUNT = 20 };
    struct op *ops[COUNT];
    int fd = scratch(O_RDWR), canceled = 0;
    long calls = fault_calls("pwritev2");
    fault_inject("pwritev2", 0, FAULT_LOCK, 0);
    for (int i = 0; i < COUNT; i++)
        ops[i] = start(AIOFS_WRITE, fd, "data", 4, i * 4);
    struct op *sync = start(AIOFS_FSYNC, fd, NULL, 0, 0);
    CHECK(EVENTUALLY(PATIENCE, fault_calls("pwritev2") > calls), "a worker makes the first write");
    CHECK(aiofs_cancel(&sync->request) == AIOFS_CANCEL_CANCELED, "a sync that waits for writes is cancelled");
    CHECK(aiofs_cancel(&ops[0]->request) == AIOFS_CANCEL_NOTCANCELED, "a write that a worker makes is not cancelled");
    CHECK(aiofs_cancel_all(fd) == AIOFS_CANCEL_NOTCANCELED, "aiofs_cancel_all does not cancel the running write");
    for (int i = 1; i < COUNT; i++)
        canceled += op_ended(ops[i]) && ops[i]->request.result == -ECANCELED;
    CHECK(canceled == COUNT - 1, "waiting requests are cancelled before aiofs_cancel_all returns");
    fault_clear();
    CHECK(op_result(ops[0]) == 4, "the write that ran succeeds");
    CHECK(aiofs_cancel(&ops[0]->request) == AIOFS_CANCEL_ALLDONE && aiofs_cancel_all(fd) == AIOFS_CANCEL_ALLDONE,
          "afterwards there is nothing to cancel");
    for (int i = 0; i < COUNT; i++) {
        for (int tries = 0; i == 0 && ops[i]->ends == 0 && tries < 10000; tries++)
            usleep(100); /* `done` may still be running when cancel returns */
        CHECK(ops[i]->ends == 1 || i, "`done` ran once");
        op_drop(ops[i]);
    }
    op_drop(sync);
    char in[8] = "";
    CHECK(pread(fd, in, 8, 0) == 4, "cancelled writes wrote no byte");
    struct op *fresh = op_new(AIOFS_READ, fd, in, 1, 0);
    CHECK(aiofs_cancel(&fresh->request) == AIOFS_CANCEL_ALLDONE, "a request never submitted: nothing to cancel");
    op_drop(fresh);
    close(fd);
    CHECK(aiofs_cancel_all(fd) == -EBADF, "a closed descriptor is EBADF");
}

static _Atomic bool given_up;

static void *interrupt(void *thread)
{
    while (!given_up) {
        pthread_kill(*(pthread_t *)thread, SIGUSR1);
        pause_ms(20);
    }
    return NULL;
}

/* The reactor is kept from answering until aiofs_cancel has given up. */
static void interrupted(void)
{
    static const char *const waits[] = {"io_uring_enter", "epoll_wait"};
    int pair[2];
    char in;
    const char *wait = waits[strcmp(aiofs_engine_name(), "threads") == 0];
    MUST(pipe2(pair, O_CLOEXEC));
    struct op *read = start(AIOFS_READ, pair[0], &in, 1, 0), *second = start(AIOFS_READ, pair[0], &in, 1, 0);
    pause_ms(10);
    long calls = fault_calls(wait);
    fault_inject(wait, 0, FAULT_LOCK, 0);
    aiofs_cancel(&second->request);
    struct op *stirs = start(AIOFS_READ, (int)MUST(eventfd(1, EFD_CLOEXEC)), &in, 1, 0);
    CHECK(EVENTUALLY(PATIENCE, fault_calls(wait) > calls), "the reactor does not answer");
    handle(SIGUSR1, 0, see_signal);
    pthread_t interrupter, self = pthread_self();
    pthread_create(&interrupter, NULL, interrupt, &self);
    CHECK(aiofs_cancel(&read->request) == AIOFS_CANCEL_NOTCANCELED, "aiofs_cancel gives up, however many signals arrive");
    given_up = true;
    pthread_join(interrupter, NULL);
    fault_clear();
    CHECK(op_result(read) == -ECANCELED && op_finish(second) == -ECANCELED, "the reactor cancels the read later");
    op_drop(read);
    op_finish(stirs);
    close(pair[0]);
    close(pair[1]);
}

static void other_kinds(void)
{
    uint64_t value;
    int event = eventfd(0, EFD_CLOEXEC), unrelated = eventfd(0, EFD_CLOEXEC);
    struct op *first = start(AIOFS_READ, event, &value, 8, 0), *second = start(AIOFS_READ, event, &value, 8, 0);
    struct op *other = start(AIOFS_READ, unrelated, &value, 8, 0);
    pause_ms(5);
    CHECK(aiofs_cancel_all(event) == AIOFS_CANCEL_CANCELED && op_ended(first) && op_ended(second),
          "all reads of an eventfd are cancelled");
    CHECK(!op_ended(other), "requests on another descriptor are not cancelled");
    CHECK(aiofs_cancel(&other->request) == AIOFS_CANCEL_CANCELED,
          "requests on the other descriptor are cancelled by its own call");
    op_drop(first);
    op_drop(second);
    op_drop(other);
    close(event);
    close(unrelated);

    int pair[2];
    char in[4] = "";
    MUST(pipe2(pair, O_CLOEXEC));
    struct op *soon = start(AIOFS_READ, pair[0], in, 1, 0);
    aiofs_cancel_soon(&soon->request);
    CHECK(op_finish(soon) == -ECANCELED, "a request cancelled without waiting ends");
    struct op *mine = start(AIOFS_READ, pair[0], in, 1, 0);
    CHECK(aiofs_cancel_all(pair[1]) == AIOFS_CANCEL_ALLDONE && !op_ended(mine),
          "the other end of a pipe is another descriptor");
    close(pair[1]);
    op_finish(mine);
    close(pair[0]);
}

static void of_closed_descriptors(void)
{
    int pair[2];
    char in[4] = "";
    MUST(pipe2(pair, O_CLOEXEC));
    struct op *read = start(AIOFS_READ, pair[0], in, 1, 0);
    close(pair[0]);
    CHECK(aiofs_cancel(&read->request) == AIOFS_CANCEL_CANCELED,
          "a request of a closed descriptor can be cancelled by itself");
    op_drop(read);
    signal(SIGPIPE, SIG_IGN);
    CHECK(EVENTUALLY(PATIENCE, write(pair[1], "x", 1) == -1 && errno == EPIPE),
          "after the cancellation the pipe has no reader");
    close(pair[1]);
}

/* ---- stress ---------------------------------------------------------------------------------------------------- */

enum { STORM = 64 };

static struct storm {
    pthread_mutex_t lock[STORM];
    struct op *ops[STORM]; /* each holds a reference */
    int fds[8];
    _Atomic bool over;
    _Atomic long submitted, canceled;
} storm;

static void *storm_submit(void *seed)
{
    static char bytes[STORM][16];
    unsigned dice = (unsigned)(uintptr_t)seed;
    while (!storm.over) {
        int slot = rand_r(&dice) % STORM;
        int fd = storm.fds[rand_r(&dice) % 8];
        int kind = (fcntl(fd, F_GETFL) & O_ACCMODE) == O_WRONLY ? AIOFS_WRITE : AIOFS_READ;
        struct op *op = op_new(kind, fd, bytes[slot], 1 + (size_t)rand_r(&dice) % 16, 0);
        aiofs_request_retain(&op->request); /* for storm.ops */
        pthread_mutex_lock(&storm.lock[slot]);
        struct op *before = storm.ops[slot];
        storm.ops[slot] = op;
        pthread_mutex_unlock(&storm.lock[slot]);
        aiofs_submit(&op->request, NULL); /* another thread may cancel it during this call */
        op_drop(op);
        storm.submitted++;
        if (before)
            op_drop(before);
        if (outstanding() > 500)
            pause_ms(1);
    }
    return NULL;
}

static void *storm_cancel(void *seed)
{
    unsigned dice = (unsigned)(uintptr_t)seed;
    while (!storm.over) {
        int slot = rand_r(&dice) % STORM;
        pthread_mutex_lock(&storm.lock[slot]);
        struct op *op = storm.ops[slot];
        if (op)
            aiofs_request_retain(&op->request);
        pthread_mutex_unlock(&storm.lock[slot]);
        if (op && rand_r(&dice) % 2)
            aiofs_cancel_soon(&op->request);
        else if (op)
            storm.canceled += aiofs_cancel(&op->request) == AIOFS_CANCEL_CANCELED;
        if (op)
            op_drop(op);
        if (rand_r(&dice) % 16 == 0)
            aiofs_cancel_all(storm.fds[rand_r(&dice) % 8]);
    }
    return NULL;
}

/* Writes and reads data, so that requests complete while other threads cancel them. */
static void *storm_feed(void *argument)
{
    char bytes[64];
    (void)argument;
    while (!storm.over) {
        for (int i = 0; i < 4; i++) {
            int got = (int)read(storm.fds[2 * i], bytes, sizeof bytes / 4);
            if (got <= 0 && write(storm.fds[2 * i + 1], "12345678", 1 + (size_t)i) < 0 && errno != EAGAIN)
                exit(1);
        }
        sched_yield();
    }
    return NULL;
}

static void storm_on(const char *name, void (*make)(int[2]), bool blocking, uintptr_t seed)
{
    pthread_t threads[5];
    memset(&storm, 0, sizeof storm);
    for (int i = 0; i < STORM; i++)
        pthread_mutex_init(&storm.lock[i], NULL);
    for (int i = 0; i < 8; i += 2)
        make(storm.fds + i);
    int feeders = blocking ? 0 : 1;
    pthread_create(&threads[0], NULL, storm_submit, (void *)seed);
    pthread_create(&threads[1], NULL, storm_submit, (void *)(seed + 1));
    pthread_create(&threads[2], NULL, storm_cancel, (void *)(seed + 2));
    pthread_create(&threads[3], NULL, storm_cancel, (void *)(seed + 3));
    if (feeders)
        pthread_create(&threads[4], NULL, storm_feed, NULL);
    pause_ms(400);
    storm.over = true;
    for (int i = 0; i < 4 + feeders; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < STORM; i++)
        if (storm.ops[i])
            op_drop(storm.ops[i]);
    bool drained = EVENTUALLY(10, ({
                                  static char sink[4096];
                                  for (int i = 0; i < 8; i++) {
                                      aiofs_cancel_all(storm.fds[i]);
                                      int flags = fcntl(storm.fds[i], F_GETFL);
                                      if ((flags & O_ACCMODE) != O_WRONLY && !(flags & O_APPEND)) {
                                          fcntl(storm.fds[i], F_SETFL, flags | O_NONBLOCK);
                                          while (read(storm.fds[i], sink, sizeof sink) > 0)
                                              ;
                                          fcntl(storm.fds[i], F_SETFL, flags);
                                      }
                                  }
                                  outstanding() == 0 && ops_alive == 0;
                              }));
    CHECK(drained, "%s: two threads submit %ld requests, two cancel %ld, and all complete", name, storm.submitted,
          storm.canceled);
    for (int i = 0; i < 8; i++)
        close(storm.fds[i]);
}

static void make_pipe(int pair[2])
{
    MUST(pipe2(pair, O_CLOEXEC));
}

static void make_nonblocking_pipe(int pair[2])
{
    MUST(pipe2(pair, O_CLOEXEC | O_NONBLOCK));
}

static void make_fifo(int pair[2])
{
    char path[64];
    snprintf(path, sizeof path, "/tmp/aiofs-fifo-%d", (int)getpid());
    MUST(mkfifo(path, 0600));
    pair[0] = (int)MUST(open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    pair[1] = (int)MUST(open(path, O_WRONLY | O_CLOEXEC));
    fcntl(pair[0], F_SETFL, 0);
    unlink(path);
}

static void make_files(int pair[2])
{
    pair[0] = scratch(O_RDONLY | O_APPEND); /* O_APPEND: for the tidying to leave alone */
    pair[1] = scratch(O_WRONLY | O_APPEND);
}

int main(void)
{
    check_begin(60);
    unsigned seed = chance(1);
    fault_attach(&aiofs_sys);
    check_engine();
    reads();
    writes();
    files();
    interrupted();
    other_kinds();
    of_closed_descriptors();
    CHECK(EVENTUALLY(PATIENCE, ops_alive == 0), "every request was given back");
    storm_on("pipes", make_pipe, true, seed);
    storm_on("pipes with data", make_nonblocking_pipe, false, seed);
    storm_on("FIFOs", make_fifo, true, seed);
    storm_on("files", make_files, true, seed);
    return check_end();
}
