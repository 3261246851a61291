/*
 * progress.c - requests complete while a C program does anything else, and do not interrupt it.
 */
#include "program.h"

#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/select.h>

#include <poll.h>

enum { LARGE = 600000 };

static char bytes[LARGE];
static struct conduit pipes;
static int file;

/* A peer that completes a read of `pipes` a moment later. */
static void *answer_later(void *argument)
{
    pause_ms(*(int *)argument);
    MUST(write(pipes.in, "x", 1));
    return NULL;
}

static struct aiocb cb;
static pthread_t peer;

static void begin_read(struct sigevent *event)
{
    static int delay = 30;
    cb = request(pipes.out, bytes, 1, 0);
    if (event)
        cb.aio_sigevent = *event;
    MUST(aio_read(&cb));
    pthread_create(&peer, NULL, answer_later, &delay);
}

static bool ended_well(void)
{
    bool good = succeeds(&cb, 1);
    pthread_join(peer, NULL);
    return good;
}

/* ---- progress ---------------------------------------------------------------------------------------------------- */

static sem_t posted;

static void post(union sigval value)
{
    (void)value;
    sem_post(&posted);
}

static void in_sem_wait(void)
{
    struct sigevent event;
    memset(&event, 0, sizeof event);
    notify_by_thread(&event, post, NULL);
    sem_init(&posted, 0, 0);
    begin_read(&event);
    while (sem_wait(&posted) < 0 && errno == EINTR)
        ;
    CHECK(ended_well(), "a program in sem_wait is notified");
}

static void in_sigwait(void)
{
    struct sigevent event;
    sigset_t set;
    int signo = 0;
    memset(&event, 0, sizeof event);
    notify_by_signal(&event, SIGRTMIN + 2, 1);
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 2);
    begin_read(&event);
    CHECK(sigwait(&set, &signo) == 0 && signo == SIGRTMIN + 2 && ended_well(), "a program in sigwait is notified");
}

static void in_sleep(void)
{
    struct sigevent event;
    memset(&event, 0, sizeof event);
    notify_by_signal(&event, SIGUSR2, 1);
    handle(SIGUSR2, 0, see_signal);
    signals_seen = 0;
    begin_read(&event);
    unsigned left = sleep(PATIENCE);
    CHECK(left > 0 && signals_seen == 1 && ended_well(), "a signal notification wakes a program in sleep");
}

static void in_a_loop(void)
{
    begin_read(NULL);
    double end = now() + PATIENCE;
    while (aio_error(&cb) == EINPROGRESS && now() < end)
        ;
    CHECK(ended_well(), "a program that polls aio_error sees the end");
    struct aiocb out = request(file, bytes, LARGE, 0);
    aio_write(&out);
    while (aio_error(&out) == EINPROGRESS && now() < end)
        ;
    CHECK(aio_error(&out) == 0 && aio_return(&out) == LARGE,
          "a program that polls aio_error sees the end of a long write");
}

static void while_it_computes(void)
{
    enum { COUNT = 32 };
    static struct aiocb cbs[COUNT];
    int good = 0;
    volatile unsigned sum = 0;
    for (int i = 0; i < COUNT; i++) {
        cbs[i] = request(file, bytes, 300000, i * 4096);
        MUST(aio_write(&cbs[i]));
    }
    for (double end = now() + PATIENCE; good < COUNT && now() < end;) {
        for (unsigned i = 0; i < 1000000; i++)
            sum += i;
        good = 0;
        for (int i = 0; i < COUNT; i++)
            good += !in_progress(&cbs[i]);
    }
    CHECK(good == COUNT, "requests end while the program computes and no thread waits");
}

/* ---- no interruption --------------------------------------------------------------------------------------------- */

static _Atomic bool busy_over;
static _Atomic unsigned long busy_ends;

/* Completes as many requests of all kinds as possible. */
static void *be_busy(void *argument)
{
    static char block[300000];
    struct conduit pipe = conduit();
    int fd = scratch(O_RDWR);
    (void)argument;
    while (!busy_over) {
        struct aiocb moves[3] = {request(fd, block, sizeof block, 0), request(pipe.out, block, 1, 0),
                                 request(fd, block, 100, 0)};
        aio_write(&moves[0]);
        aio_read(&moves[1]);
        MUST(write(pipe.in, "x", 1));
        for (int i = 0; i < 2; i++)
            end_of(&moves[i]);
        aio_read(&moves[2]);
        end_of(&moves[2]);
        busy_ends += 3;
    }
    close(fd);
    conduit_close(pipe);
    return NULL;
}

/*
 * A thread that submits nothing and waits in epoll_wait. If the process is stopped and continued, or frozen, that
 * interrupts epoll_wait in every thread (signal(7)). A completion could only interrupt a thread that has submitted.
 */
static int beside_poller;
static _Atomic int interrupted_beside;

static void *wait_beside(void *argument)
{
    struct epoll_event event;
    (void)argument;
    while (epoll_wait(beside_poller, &event, 1, -1) < 0)
        interrupted_beside++;
    return NULL;
}

/* This thread submits, and then waits in a system call. Counts which of these calls were interrupted. */
static void own_calls_are_not_interrupted(void)
{
    enum { ROUNDS = 40 };
    const struct timespec moment = {.tv_nsec = 2000000};
    struct epoll_event event;
    struct conduit idle = conduit();
    struct conduit over = conduit();
    pthread_t busy, beside;
    sigset_t set;
    int poller = (int)MUST(epoll_create1(0)), interrupted = 0, lost = 0;
    char byte;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 5);
    beside_poller = (int)MUST(epoll_create1(0));
    event.events = EPOLLIN;
    MUST(epoll_ctl(beside_poller, EPOLL_CTL_ADD, over.out, &event));
    pthread_create(&beside, NULL, wait_beside, NULL);
    pthread_create(&busy, NULL, be_busy, NULL);
    for (int i = 0; i < ROUNDS; i++) {
        struct aiocb cbs[2] = {request(file, bytes, 300000, 0), request(pipes.out, bytes, 1, 0)};
        aio_write(&cbs[0]);
        aio_read(&cbs[1]);
        MUST(write(pipes.in, "x", 1));
        interrupted += epoll_wait(poller, &event, 1, 2) < 0;
        interrupted += nanosleep(&moment, NULL) < 0;
        interrupted += sigtimedwait(&set, NULL, &moment) < 0 && errno == EINTR;
        interrupted += poll(&(struct pollfd){idle.out, POLLIN, 0}, 1, 2) < 0;
        interrupted += select(0, NULL, NULL, NULL, &(struct timeval){0, 2000}) < 0;
        MUST(write(idle.in, "y", 1));
        lost += read(idle.out, &byte, 1) != 1;
        lost += end_of(&cbs[0]) != 0 || end_of(&cbs[1]) != 0;
    }
    busy_over = true;
    pthread_join(busy, NULL);
    MUST(write(over.in, "z", 1));
    pthread_join(beside, NULL);
    CHECK(busy_ends > 0 && (interrupted == 0 || interrupted_beside > 0),
          "epoll_wait, nanosleep, sigtimedwait, poll and select are never interrupted by ends (%lu ends, %d EINTR)", busy_ends,
          interrupted);
    CHECK(lost == 0, "read takes its bytes during the completions");
    close(poller);
    close(beside_poller);
    conduit_close(over);
    conduit_close(idle);
}

static void *block_in_read(void *argument)
{
    static char block[300000];
    struct conduit *pipe = argument;
    struct aiocb own = request(file, block, sizeof block, 0);
    char byte = 0;
    aio_write(&own);
    ssize_t got = read(pipe->out, &byte, 1);
    end_of(&own);
    return (void *)(intptr_t)(got == 1 && byte == 'z');
}

static void blocked_read_is_not_interrupted(void)
{
    struct conduit pipe = conduit();
    pthread_t thread;
    void *good;
    pthread_create(&thread, NULL, block_in_read, &pipe);
    pause_ms(100); /* the request of the thread completes during this time */
    MUST(write(pipe.in, "z", 1));
    pthread_join(thread, &good);
    CHECK(good != NULL, "a read that blocks while the thread's own request ends is not interrupted");
    conduit_close(pipe);
}

/* ---- the submitter has exited ------------------------------------------------------------------------------------ */

static struct aiocb orphans[4];

static void *submit_and_leave(void *argument)
{
    (void)argument;
    orphans[0] = request(pipes.out, bytes, 1, 0);
    orphans[1] = request(file, bytes, LARGE, 0);
    orphans[2] = request(file, NULL, 0, 0);
    orphans[3] = request(pipes.out, bytes + 1, 1, 0);
    aio_read(&orphans[0]);
    aio_write(&orphans[1]);
    aio_fsync(O_SYNC, &orphans[2]);
    aio_read(&orphans[3]);
    return NULL;
}

static void threads_that_end(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, submit_and_leave, NULL);
    pthread_join(thread, NULL);
    pause_ms(50);
    CHECK(in_progress(&orphans[0]) && in_progress(&orphans[3]),
          "reads that wait survive the end of the thread that submitted them");
    MUST(write(pipes.in, "ab", 2));
    CHECK(succeeds(&orphans[0], 1) && succeeds(&orphans[3], 1) && bytes[0] == 'a' && bytes[1] == 'b',
          "reads of the ended thread get their data");
    CHECK(succeeds(&orphans[1], LARGE) && succeeds(&orphans[2], 0), "writes and syncs of the ended thread complete");
}

int main(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 2);
    sigaddset(&set, SIGRTMIN + 5);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    begin(120);
    pipes = conduit();
    file = scratch(O_RDWR);
    in_sem_wait();
    in_sigwait();
    in_a_loop();
    while_it_computes();
    own_calls_are_not_interrupted();
    blocked_read_is_not_interrupted();
    threads_that_end();
    in_sleep();
    return check_end();
}
