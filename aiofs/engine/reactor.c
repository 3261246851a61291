/*
 * reactor.c - the reactor: the thread that runs io_uring (ring.c) or epoll (poll.c), by the table reactor_ops.
 *
 * The reactor first leaves the program's descriptor table for one of its own. The workers that it starts share that
 * table. Then it runs a loop. In each round it
 *
 *   - takes requests from the run queues of its two carriers, and begins them;
 *   - cancels the requests in engine.cancelling;
 *   - closes the engine's descriptors of files in engine.releasing, or passes them to a worker;
 *   - writes to the wakeup fds in engine.wakeups;
 *   - starts workers;
 *   - sends signals again that the kernel refused;
 *   - ends kept bindings whose time is over (binding.c), and looks for the exit of the main thread (main_exit.c);
 *   - sleeps in reactor_ops.turn until there is such work, or until the kernel has completions.
 *
 * It blocks nowhere else.
 *
 * No wake-up is lost: the reactor announces that it is about to sleep (channel_sleep), and only then checks the queues
 * for the last time. Other threads first put work into a queue, and then check whether the reactor sleeps
 * (engine_wake). Each side stores before it loads, so one of them sees the other's store.
 *
 * Locking. The engine lock guards the queues. It is not held while a request begins, is cancelled or completes.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <time.h>

#include "internal.h"

_Thread_local bool on_engine_table, on_reactor;

/* ---- its work ------------------------------------------------------------------------------------------- */

void engine_nap(void)
{
    const struct timespec moment = {.tv_nsec = 1000000};
    nanosleep(&moment, NULL);
}

bool engine_has_work(void)
{
    return !list_empty(&engine.run_queue[CARRIER_STREAMS]) || !list_empty(&engine.run_queue[CARRIER_RING]) ||
           !list_empty(&engine.cancelling) || !list_empty(&engine.releasing) || !list_empty(&engine.wakeups) ||
           pool_wants_worker();
}

/* Cancels the requests in engine.cancelling. It takes one at a time, because a request that is still on that list may
 * complete and be freed at any time; it leaves the list then. */
static void cancel_asked(void)
{
    for (;;) {
        pthread_mutex_lock(&engine.lock);
        struct aiofs_link *link = list_pop(&engine.cancelling);
        pthread_mutex_unlock(&engine.lock);
        if (!link)
            return;
        engine.reactor->cancel(CONTAINER(link, aiofs_request, queued));
    }
}

/* Closes the engine's descriptor of a file, or passes it to a worker if the close can block. */
static void close_engine_fd(aiofs_file *file)
{
    if (!file_close_can_block(file)) {
        engine_fd_close(file);
        aiofs_file_release(file);
        return;
    }
    if (file->watched)
        engine.reactor->release(file);
    pthread_mutex_lock(&engine.lock);
    list_append(&engine.closing, &file->leaving);
    pool_signal();
    pthread_mutex_unlock(&engine.lock);
}

/* One round over the queues. True: the queues may hold more. */
static bool serve(void)
{
    enum { BATCH = 64 };
    aiofs_request *begun[BATCH];
    unsigned count = 0, room = engine.reactor->room();
    struct aiofs_link releasing, *link;
    list_init(&releasing);

    pthread_mutex_lock(&engine.lock);
    while (count < BATCH / 2 && (begun[count] = lane_take(&engine.run_queue[CARRIER_STREAMS])))
        count++;
    while (count < BATCH && room && (begun[count] = lane_take(&engine.run_queue[CARRIER_RING]))) {
        count++;
        room--;
    }
    list_splice(&releasing, &engine.releasing);
    bool asked = !list_empty(&engine.cancelling), wakeups = !list_empty(&engine.wakeups);
    bool more = count >= BATCH / 2;
    pthread_mutex_unlock(&engine.lock);

    for (unsigned i = 0; i < count; i++)
        engine.reactor->begin(begun[i]);
    if (asked)
        cancel_asked();
    while ((link = list_pop(&releasing)))
        close_engine_fd(CONTAINER(link, aiofs_file, leaving));
    if (wakeups)
        wakeups_serve();
    return more;
}

/* ---- its thread ----------------------------------------------------------------------------------------- */

static struct { /* the reactor's report to the thread that started it */
    pthread_mutex_t lock;
    pthread_cond_t made;
    bool is_made;
    int outcome;
} report = {.lock = PTHREAD_MUTEX_INITIALIZER, .made = PTHREAD_COND_INITIALIZER};

static void make_report(int outcome)
{
    pthread_mutex_lock(&report.lock);
    report.outcome = outcome;
    report.is_made = true;
    pthread_cond_signal(&report.made);
    pthread_mutex_unlock(&report.lock);
}

static void *reactor_main(void *argument)
{
    enum { RETRY_MS = 1 };
    (void)argument;
    on_engine_table = on_reactor = true;
    channel_leave_table();
    int outcome = engine.reactor->open();
    if (outcome == 0 && !pool_start()) {
        engine.reactor->close();
        outcome = -EAGAIN;
    }
    make_report(outcome);
    if (outcome < 0)
        return NULL; /* the exit of the thread closes its own table */
    for (;;) {
        channel_drain();
        bool more = serve();
        bool spawn_failed = !pool_spawn();
        bool unsent = notify_retry();
        if (more) {
            engine.reactor->turn(0);
            channel_awake();
            continue;
        }
        channel_sleep(); /* from here on a thread with work for the reactor wakes it */
        int look_ms = main_exit_watch();
        pthread_mutex_lock(&engine.lock);
        int kept_ms = files_expire_kept();
        bool work = !list_empty(&engine.run_queue[CARRIER_STREAMS]) || !list_empty(&engine.cancelling) ||
                    !list_empty(&engine.releasing) || !list_empty(&engine.wakeups) ||
                    (!spawn_failed && pool_wants_worker()) ||
                    (!list_empty(&engine.run_queue[CARRIER_RING]) && engine.reactor->room());
        pthread_mutex_unlock(&engine.lock);
        if (kept_ms >= 0 && (look_ms < 0 || kept_ms < look_ms))
            look_ms = kept_ms;
        engine.reactor->turn(work ? 0 : spawn_failed || unsent ? RETRY_MS : look_ms);
        channel_awake();
    }
}

int reactor_start(const struct reactor_ops *reactor)
{
    int error = channel_open();
    if (error < 0)
        return error;
    engine.reactor = reactor;
    pthread_mutex_lock(&report.lock);
    report.is_made = false;
    error = thread_start("aiofs", reactor_main, SMALL_STACK);
    while (error == 0 && !report.is_made)
        pthread_cond_wait(&report.made, &report.lock);
    if (error == 0)
        error = report.outcome;
    pthread_mutex_unlock(&report.lock);
    if (error < 0 || channel_has_own_table())
        channel_close_inside();
    if (error < 0)
        channel_close();
    return error;
}
