/*
 * wait.c - aiofs_wait: for one of many requests, with time-outs, with signals, and in a signal handler.
 */
#include "check.h"

#include <linux/futex.h>

#include "sys.h"

enum { MANY = 2000 };

static int pair[2];

static int wait_ms(aiofs_request *const *list, size_t count, long ms)
{
    const struct timespec timeout = {ms / 1000, ms % 1000 * 1000000};
    return aiofs_wait(list, count, ms < 0 ? NULL : &timeout);
}

static void nothing_to_wait_for(void)
{
    struct op *fresh = op_new(AIOFS_READ, 0, NULL, 0, 0);
    aiofs_request *const list[] = {NULL, &fresh->request, NULL};
    CHECK(aiofs_wait(NULL, 0, NULL) == 0 && wait_ms(list, 3, -1) == 0,
          "a wait with nothing outstanding returns at once");
    op_drop(fresh);
}

static void times_out(void)
{
    char byte = 0;
    struct op *op = start(AIOFS_READ, pair[0], &byte, 1, 0);
    aiofs_request *const list[] = {NULL, &op->request};
    CHECK(wait_ms(list, 2, 0) == -EAGAIN, "a zero time-out: EAGAIN at once");
    double before = now();
    CHECK(wait_ms(list, 2, 50) == -EAGAIN && now() - before >= 0.05, "a time-out of 50 ms: EAGAIN after 50 ms");
    const struct timespec negative = {-1, 0}, endless = {INT64_MAX, 999999999};
    CHECK(aiofs_wait(list, 2, &negative) == -EAGAIN, "a negative time-out: EAGAIN");
    MUST(write(pair[1], "x", 1));
    CHECK(aiofs_wait(list, 2, &endless) == 0, "the longest time-out waits");
    CHECK(wait_ms(list, 2, 0) == 0, "a finished request ends a wait with a zero time-out");
    op_finish(op);
}

static struct {
    int (*kernel)(_Atomic uint32_t *, int, uint32_t, const struct timespec *, uint32_t);
    _Atomic int sleeps, by_wall_clock;
    _Atomic double until;
} sleeping;

static int sleep_on(_Atomic uint32_t *word, int operation, uint32_t value, const struct timespec *timeout, uint32_t bits)
{
    if (timeout) {
        sleeping.sleeps++;
        sleeping.by_wall_clock += (operation & FUTEX_CLOCK_REALTIME) != 0;
        sleeping.until = (double)timeout->tv_sec + (double)timeout->tv_nsec / 1e9;
    }
    return sleeping.kernel(word, operation, value, timeout, bits);
}

/* A test cannot set the machine's clock, so this looks at the clock in the arguments of futex(2). */
static void set_clocks(void)
{
    char byte = 0;
    struct op *op = start(AIOFS_READ, pair[0], &byte, 1, 0);
    aiofs_request *const list[] = {&op->request};
    double before = now();
    sleeping.sleeps = sleeping.by_wall_clock = 0;
    CHECK(wait_ms(list, 1, 50) == -EAGAIN && sleeping.sleeps > 0 && sleeping.by_wall_clock == 0 &&
              sleeping.until > before && sleeping.until < before + 50,
          "time-outs use CLOCK_MONOTONIC: setting the clock does not change them");
    aiofs_cancel(&op->request);
    op_finish(op);
}

static void any_of_many(void)
{
    static struct op *ops[MANY];
    static aiofs_request *list[MANY];
    static char bytes[MANY];
    int others[2];
    MUST(pipe2(others, O_CLOEXEC));
    for (int i = 0; i < MANY; i++) {
        ops[i] = start(AIOFS_READ, i == MANY / 2 ? others[0] : pair[0], &bytes[i], 1, 0);
        list[i] = &ops[i]->request;
    }
    CHECK(wait_ms(list, MANY, 20) == -EAGAIN, "none of %d requests has ended", MANY);
    MUST(write(others[1], "x", 1));
    CHECK(wait_ms(list, MANY, -1) == 0 && op_ended(ops[MANY / 2]),
          "the end of a request in the middle ends the wait");
    aiofs_cancel_all(pair[0]);
    int ended = 0;
    for (int i = 0; i < MANY; i++) {
        ended += op_ended(ops[i]);
        op_drop(ops[i]);
    }
    CHECK(ended == MANY, "all the other requests are cancelled");
    close(others[0]);
    close(others[1]);
}

static void *kick(void *thread)
{
    pause_ms(50);
    pthread_kill(*(pthread_t *)thread, SIGUSR1);
    return NULL;
}

static void interrupted(int flags, const char *name)
{
    char byte = 0;
    pthread_t kicker, self = pthread_self();
    struct op *op = start(AIOFS_READ, pair[0], &byte, 1, 0);
    aiofs_request *const list[] = {&op->request};
    handle(SIGUSR1, flags, see_signal);
    signals_seen = 0;
    pthread_create(&kicker, NULL, kick, &self);
    CHECK(wait_ms(list, 1, -1) == -EINTR && signals_seen == 1, "a handler ends the wait with EINTR, %s", name);
    pthread_join(kicker, NULL);
    pthread_create(&kicker, NULL, kick, &self);
    CHECK(wait_ms(list, 1, 5000) == -EINTR, "a handler ends a wait with a time-out with EINTR");
    pthread_join(kicker, NULL);
    CHECK(!op_ended(op), "the interrupted wait leaves its request in flight");
    MUST(write(pair[1], "x", 1));
    CHECK(op_finish(op) == 1, "the request completes after the interrupted wait");
}

/* ---- in a handler ------------------------------------------------------------------------------------------------ */

static struct op *awaited;
static volatile sig_atomic_t handler_result = 1;

static void wait_in_handler(int signo)
{
    aiofs_request *const list[] = {&awaited->request};
    const struct timespec timeout = {5, 0};
    (void)signo;
    handler_result = aiofs_wait(list, 1, &timeout);
}

static void *feed(void *argument)
{
    (void)argument;
    pause_ms(50);
    MUST(write(pair[1], "y", 1));
    return NULL;
}

static void from_a_handler(void)
{
    char byte = 0;
    pthread_t feeder;
    awaited = start(AIOFS_READ, pair[0], &byte, 1, 0);
    handle(SIGUSR2, 0, wait_in_handler);
    pthread_create(&feeder, NULL, feed, NULL);
    raise(SIGUSR2);
    CHECK(handler_result == 0 && op_ended(awaited), "a handler can wait");
    pthread_join(feeder, NULL);
    op_finish(awaited);

    /* Signals come in the middle of submissions, while the thread holds any of the engine's locks. */
    int fd = scratch(O_RDWR);
    struct itimerval often = {{0, 500}, {0, 500}}, never = {{0, 0}, {0, 0}};
    awaited = start(AIOFS_WRITE, fd, "x", 1, 0);
    op_result(awaited);
    handle(SIGALRM, SA_RESTART, wait_in_handler);
    unsigned left = alarm(0);
    setitimer(ITIMER_REAL, &often, NULL);
    int good = 0;
    for (int i = 0; i < 2000; i++)
        good += perform(AIOFS_WRITE, fd, "x", 1, i) == 1;
    setitimer(ITIMER_REAL, &never, NULL);
    signal(SIGALRM, SIG_DFL);
    alarm(left);
    CHECK(good == 2000, "a signal handler can wait at any point of a submission");
    op_finish(awaited);
    close(fd);
}

/* Many threads wait, each for its own requests. No thread may miss a completion. */
static void *wait_own(void *argument)
{
    int fd = *(int *)argument;
    intptr_t good = 0;
    for (int i = 0; i < 1000; i++)
        good += perform(i % 2 ? AIOFS_READ : AIOFS_WRITE, fd, &(char){'x'}, 1, 0) == 1;
    return (void *)good;
}

static void by_many_threads(void)
{
    enum { THREADS = 6 };
    pthread_t threads[THREADS];
    int fd = scratch(O_RDWR);
    intptr_t total = 0;
    MUST(write(fd, "x", 1));
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, wait_own, &fd);
    for (int i = 0; i < THREADS; i++) {
        void *good;
        pthread_join(threads[i], &good);
        total += (intptr_t)good;
    }
    CHECK(total == THREADS * 1000, "six threads wait for a thousand requests each");
    close(fd);
}

int main(void)
{
    check_begin(30);
    sleeping.kernel = aiofs_sys.futex; /* before the first thread of the engine starts */
    aiofs_sys.futex = sleep_on;
    check_engine();
    MUST(pipe2(pair, O_CLOEXEC));
    nothing_to_wait_for();
    times_out();
    set_clocks();
    any_of_many();
    interrupted(0, "without SA_RESTART");
    interrupted(SA_RESTART, "with SA_RESTART");
    from_a_handler();
    by_many_threads();
    CHECK(EVENTUALLY(PATIENCE, ops_alive == 0), "every request was given back");
    return check_end();
}
