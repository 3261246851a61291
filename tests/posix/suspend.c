/*
 * suspend.c - aio_suspend: what it waits for, what it ignores, and its calls in signal handlers.
 */
#include "program.h"

#include <sched.h>

static char bytes[16];
static struct conduit pipes;

/* A read that waits until the test writes to `pipes`. */
static struct aiocb *waiting_read(void)
{
    static struct aiocb cb;
    cb = request(pipes.out, bytes, 1, 0);
    MUST(aio_read(&cb));
    return &cb;
}

static void end_waiting(struct aiocb *cb)
{
    MUST(write(pipes.in, "x", 1));
    CHECK(succeeds(cb, 1), "the request's aiocb was not changed");
}

/* ---- completions ------------------------------------------------------------------------------------------------- */

static void *write_later(void *argument)
{
    pause_ms(30);
    MUST(write(*(int *)argument, "x", 1));
    return NULL;
}

static void *write_soon(void *argument)
{
    pause_ms(1);
    MUST(write(*(int *)argument, "x", 1));
    return NULL;
}

static void one_of_many(void)
{
    enum { COUNT = 50 };
    static struct aiocb cbs[COUNT];
    const struct aiocb *list[COUNT];
    struct conduit own[COUNT];
    const struct timespec patience = {.tv_sec = PATIENCE};
    pthread_t thread;
    for (int i = 0; i < COUNT; i++) {
        own[i] = conduit();
        cbs[i] = request(own[i].out, bytes, 1, 0);
        list[i] = &cbs[i];
        aio_read(&cbs[i]);
    }
    list[3] = list[40] = NULL;
    pthread_create(&thread, NULL, write_later, &own[31].in);
    CHECK(aio_suspend(list, COUNT, NULL) == 0 && aio_error(&cbs[31]) == 0,
          "aio_suspend returns when one of many requests is terminal");
    pthread_join(thread, NULL);
    CHECK(aio_suspend(list, COUNT, NULL) == 0, "aio_suspend returns at once if a request is terminal");
    aio_return(&cbs[31]);
    CHECK(aio_suspend(list, COUNT, &patience) == 0, "aio_suspend returns at once after aio_return of a request");
    list[31] = NULL;
    CHECK(REFUSED(aio_suspend(list, COUNT, &(struct timespec){0, 1000000}), EAGAIN),
          "the other requests stay in progress");
    pthread_create(&thread, NULL, write_later, &own[7].in);
    CHECK(aio_suspend(list, COUNT, &patience) == 0 && aio_error(&cbs[7]) == 0,
          "aio_suspend with a time-out returns when a request is terminal");
    pthread_join(thread, NULL);
    for (int i = 0; i < COUNT; i++) {
        aio_cancel(own[i].out, NULL);
        conduit_close(own[i]);
    }
}

static void failure_and_cancellation_end_it(void)
{
    struct aiocb *cb = waiting_read(), failed = request(-1, bytes, 1, 0);
    const struct aiocb *list[] = {cb, &failed};
    aio_read(&failed);
    CHECK(aio_suspend(list, 2, NULL) == 0 && end_of(&failed) == EBADF, "a failed request ends aio_suspend");
    list[1] = NULL;
    aio_cancel(pipes.out, cb);
    CHECK(aio_suspend(list, 2, NULL) == 0 && aio_error(cb) == ECANCELED, "a cancelled request ends aio_suspend");
}

static void nothing_to_wait_for(void)
{
    const struct aiocb *const nulls[] = {NULL, NULL};
    struct aiocb garbage = request(0, bytes, 1, 0);
    const struct aiocb *const never[] = {&garbage, NULL};
    int at_once = 0;
    CHECK(aio_suspend(nulls, 2, NULL) == 0, "a list of NULL entries returns at once");
    CHECK(aio_suspend(nulls, 0, NULL) == 0, "an empty list returns at once");
    for (int fill = 0; fill < 256; fill++) {
        memset(&garbage, fill, sizeof garbage);
        at_once += aio_suspend(never, 2, &(struct timespec){0, 0}) == 0;
    }
    CHECK(at_once == 256 && aio_suspend(never, 2, NULL) == 0,
          "a list of requests that were never submitted returns at once");
    CHECK(REFUSED(aio_suspend(nulls, -1, NULL), EINVAL), "nent < 0: EINVAL");
}

/* ---- time -------------------------------------------------------------------------------------------------------- */

static void time_outs(void)
{
    struct aiocb *cb = waiting_read();
    const struct aiocb *const list[] = {cb};
    const long wrong[] = {-1, 1000000000, LONG_MAX, LONG_MIN};
    CHECK(REFUSED(aio_suspend(list, 1, &(struct timespec){0, 0}), EAGAIN), "a time-out of zero polls");
    double before = now();
    CHECK(REFUSED(aio_suspend(list, 1, &(struct timespec){0, 50000000}), EAGAIN) && now() - before >= 0.05,
          "EAGAIN when the time is up, and not before");
    CHECK(REFUSED(aio_suspend(list, 1, &(struct timespec){-1, 0}), EAGAIN) &&
              REFUSED(aio_suspend(list, 1, &(struct timespec){-1000000, 5}), EAGAIN),
          "a negative time-out: EAGAIN");
    for (size_t i = 0; i < COUNT_OF(wrong); i++)
        CHECK(REFUSED(aio_suspend(list, 1, &(struct timespec){1, wrong[i]}), EINVAL),
              "tv_nsec %ld: EINVAL", wrong[i]);
    CHECK(in_progress(cb), "the request continues");
    end_waiting(cb);
    CHECK(aio_suspend(list, 1, &(struct timespec){0, 0}) == 0 && aio_suspend(list, 1, &(struct timespec){-1, 0}) == 0,
          "what is terminal is seen before the time-out");
}

static void distant_time_outs(void)
{
    const time_t seconds[] = {100000, INT_MAX, LONG_MAX};
    for (size_t i = 0; i < COUNT_OF(seconds); i++) {
        struct aiocb *cb = waiting_read();
        const struct aiocb *const list[] = {cb};
        pthread_t thread;
        pthread_create(&thread, NULL, write_later, &pipes.in);
        CHECK(aio_suspend(list, 1, &(struct timespec){seconds[i], 999999999}) == 0, "a time-out of %ld s waits",
              (long)seconds[i]);
        pthread_join(thread, NULL);
    }
}

/* ---- signals ----------------------------------------------------------------------------------------------------- */

struct pester {
    pthread_t whom;
    _Atomic bool over;
};

/* Sends the signal repeatedly, because the first may come before the other thread sleeps. */
static void *pester(void *argument)
{
    struct pester *job = argument;
    while (!job->over) {
        pthread_kill(job->whom, SIGUSR1);
        pause_ms(5);
    }
    return NULL;
}

static void interrupted(int flags, const struct timespec *timeout, const char *what)
{
    struct aiocb *cb = waiting_read();
    const struct aiocb *const list[] = {cb};
    struct pester job = {.whom = pthread_self()};
    pthread_t thread;
    handle(SIGUSR1, flags, see_signal);
    pthread_create(&thread, NULL, pester, &job);
    CHECK(REFUSED(aio_suspend(list, 1, timeout), EINTR), "a handled signal: EINTR, %s", what);
    job.over = true;
    pthread_join(thread, NULL);
    end_waiting(cb);
}

/* The handler of the request's own signal must have run when aio_suspend returns. */
static void signal_comes_first(void)
{
    enum { ROUNDS = 300 };
    int first = 0;
    handle(SIGUSR2, SA_RESTART, see_signal);
    for (int i = 0; i < ROUNDS; i++) {
        struct aiocb cb = request(pipes.out, bytes, 1, 0);
        const struct aiocb *const list[] = {&cb};
        sigset_t blocked, before;
        pthread_t thread;
        notify_by_signal(&cb.aio_sigevent, SIGUSR2, 0);
        signals_seen = 0;
        aio_read(&cb);
        sigemptyset(&blocked);
        sigaddset(&blocked, SIGUSR2);
        pthread_sigmask(SIG_BLOCK, &blocked, &before);
        pthread_create(&thread, NULL, write_soon, &pipes.in);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        bool returned = aio_suspend(list, 1, NULL) == 0 && aio_error(&cb) == 0;
#ifdef __SANITIZE_THREAD__
        sched_yield(); /* ThreadSanitizer runs handlers later, at a call that it intercepts */
#endif
        first += returned && signals_seen == 1;
        pthread_join(thread, NULL);
        end_of(&cb);
    }
    CHECK(first == ROUNDS, "aio_suspend returns only after the notification (%d of %d)", first, ROUNDS);
}

/* ---- in a handler ------------------------------------------------------------------------------------------------ */

static struct aiocb *storm_waits;
static struct aiocb storm_moves;
static volatile sig_atomic_t storm_wrong, storm_calls;

static void ask_everything(int signo)
{
    const struct aiocb *const list[] = {storm_waits, &storm_moves, NULL};
    int saved = errno, error = aio_error(&storm_moves);
    (void)signo;
    storm_wrong += !in_progress(storm_waits);
    storm_wrong += error != EINPROGRESS && error != 0 && error != ECANCELED;
    storm_wrong += !REFUSED(aio_return(storm_waits), EINPROGRESS);
    storm_wrong += !REFUSED(aio_suspend(list, 1, &(struct timespec){0, 10000}), EAGAIN);
    aio_suspend(list, 3, &(struct timespec){0, 0});
    storm_calls++;
    errno = saved;
}

static void handler_storm(void)
{
    static char block[300000];
    struct pester job = {.whom = pthread_self()};
    pthread_t thread;
    int fd = scratch(O_RDWR), good = 0, rounds = 0;
    storm_waits = waiting_read();
    storm_moves = request(fd, block, 10, 0);
    aio_write(&storm_moves);
    handle(SIGUSR1, SA_RESTART, ask_everything);
    pthread_create(&thread, NULL, pester, &job);
    for (double end = now() + 60; (rounds < 500 || storm_calls < 50) && now() < end; rounds++) {
        struct aiocb other = request(fd, block, 1000, 0), *const list[] = {&other};
        other.aio_lio_opcode = LIO_READ;
        aio_read(&other);
        good += end_of(&other) == 0;
        end_of(&storm_moves);
        storm_moves.aio_nbytes = rounds % 2 ? 10 : sizeof block;
        aio_write(&storm_moves);
        lio_listio(LIO_NOWAIT, list, 1, NULL);
        end_of(&other);
        aio_cancel(fd, NULL);
    }
    job.over = true;
    pthread_join(thread, NULL);
    end_of(&storm_moves);
    CHECK(good == rounds && storm_calls >= 50,
          "requests complete in a storm of signals (%d, %d)", rounds, (int)storm_calls);
    CHECK(storm_wrong == 0, "aio_error, aio_return and aio_suspend answer right in its handler");
    end_waiting(storm_waits);
    handle(SIGUSR1, 0, see_signal);
    close(fd);
}

/* ---- threads ----------------------------------------------------------------------------------------------------- */

static void *suspend_on(void *argument)
{
    const struct aiocb *const list[] = {argument};
    return (void *)(intptr_t)(aio_suspend(list, 1, NULL) == 0 && aio_error(argument) == 0);
}

static void several_threads(void)
{
    enum { THREADS = 16 };
    struct aiocb *cb = waiting_read();
    pthread_t threads[THREADS];
    void *good;
    int awake = 0;
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, suspend_on, cb);
    pause_ms(50);
    end_waiting(cb);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], &good);
        awake += (int)(intptr_t)good;
    }
    CHECK(awake == THREADS, "all threads that wait for one request are woken");
}

static _Atomic bool unwound;

static void note_unwinding(void *argument)
{
    (void)argument;
    unwound = true;
}

static void *suspend_until_cancelled(void *argument)
{
    pthread_cleanup_push(note_unwinding, NULL);
    suspend_on(argument);
    pthread_cleanup_pop(0);
    return NULL;
}

static void *suspend_uncancelled(void *argument)
{
    int before;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
    return suspend_on(argument);
}

#if defined(__SANITIZE_ADDRESS__)
enum { CAN_UNWIND = 0 }; /* AddressSanitizer does not see that unwinding left the frames */
#else
enum { CAN_UNWIND = 1 };
#endif

static void cancellation_point(void)
{
    struct aiocb *cb = waiting_read();
    pthread_t thread;
    void *result;
    if (CAN_UNWIND) {
        pthread_create(&thread, NULL, suspend_until_cancelled, cb);
        pause_ms(50);
        pthread_cancel(thread);
        pthread_join(thread, &result);
        CHECK(result == PTHREAD_CANCELED && unwound,
              "a thread that waits in aio_suspend can be cancelled and is unwound");
    }
    pthread_create(&thread, NULL, suspend_uncancelled, cb);
    pause_ms(50);
    pthread_cancel(thread);
    pause_ms(50);
    end_waiting(cb);
    pthread_join(thread, &result);
    CHECK(result == (void *)1, "a thread that has disabled cancellation is not cancelled in aio_suspend");
}

int main(void)
{
    begin(120);
    pipes = conduit();
    one_of_many();
    failure_and_cancellation_end_it();
    nothing_to_wait_for();
    time_outs();
    distant_time_outs();
    interrupted(0, NULL, "with no time-out");
    interrupted(SA_RESTART, NULL, "SA_RESTART and no time-out");
    interrupted(SA_RESTART, &(struct timespec){1000, 0}, "SA_RESTART and a time-out");
    signal_comes_first();
    several_threads();
    handler_storm();
    cancellation_point();
    return check_end();
}
