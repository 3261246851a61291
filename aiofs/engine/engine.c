/*
 * engine.c - the engine's start, its reactor thread, and what fork does to it all.
 *
 * One engine a process, started by the first call that needs it. Its threads:
 *
 *   the reactor    runs io_uring or epoll (reactor_ops). Started here; it leaves the program's
 *                 descriptor table for one of its own, which the workers it starts share. It never
 *                 blocks but in reactor_ops.turn.
 *   workers       pool.c, on the engine's table.   host threads   host_threads.c, on the program's table.
 *
 * Open files, and what wakes the reactor, go through channel.c.
 *
 * Locks, in the order in which fork takes them: start lock, engine lock, the channel's. In the child
 * there is no engine: its conditions are made anew, the parent's requests are ended as cancelled, and the
 * next call starts an engine of the child's own.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

/* Complete without our constructor: under LD_PRELOAD the constructors of other libraries run before it. */
#define EMPTY(list) {&engine.list, &engine.list}
struct engine engine = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .drained = PTHREAD_COND_INITIALIZER,
    .files = EMPTY(files),
    .calls = EMPTY(calls),
    .run_queue = {EMPTY(run_queue[0]), EMPTY(run_queue[1]), EMPTY(run_queue[2])},
    .adopted = EMPTY(adopted),
    .cancelling = EMPTY(cancelling),
    .kept = EMPTY(kept),
    .releasing = EMPTY(releasing),
    .closing = EMPTY(closing),
};
_Static_assert(CARRIERS == 3, "a run queue for each carrier");
_Thread_local bool on_engine_table, on_reactor;

static struct {
    pthread_mutex_t lock; /* held from the first to the last step of a start: no fork in the middle of it */
    bool own_table;       /* the engine's threads have a descriptor table of their own */
    bool is_prepared;
} start = {.lock = PTHREAD_MUTEX_INITIALIZER};

static struct { /* what the reactor reports to the start that made it */
    pthread_mutex_t lock;
    pthread_cond_t made;
    bool is_made;
    int outcome;
} report = {.lock = PTHREAD_MUTEX_INITIALIZER, .made = PTHREAD_COND_INITIALIZER};

void condition_init(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

int condition_wait_until(pthread_cond_t *condition, pthread_mutex_t *mutex, int64_t until)
{
    enum { SECOND = 1000000000 };
    const struct timespec time = {.tv_sec = until / SECOND, .tv_nsec = until % SECOND};
    return pthread_cond_timedwait(condition, mutex, &time);
}

/* ---- threads ------------------------------------------------------------------------------------------ */

/* What libc puts on each stack before the thread's first frame: the program's static thread-local storage has no
 * upper bound. glibc tells it to those that know the name; musl adds it by itself. */
static size_t least_stack(const pthread_attr_t *attributes)
{
    static _Atomic(size_t) known;
    size_t least = atomic_load_explicit(&known, memory_order_relaxed);
    if (least)
        return least;
    size_t (*ask)(const pthread_attr_t *) = (size_t(*)(const pthread_attr_t *))dlsym(RTLD_DEFAULT, "__pthread_get_minstack");
    least = ask ? ask(attributes) : 0;
    if (least < (size_t)PTHREAD_STACK_MIN)
        least = (size_t)PTHREAD_STACK_MIN;
    atomic_store_explicit(&known, least, memory_order_relaxed);
    return least;
}

int engine_thread(const char *name, void *(*main)(void *), size_t stack)
{
    enum { LARGEST_STACK = 64 * 1024 * 1024 };
    sigset_t all, before;
    pthread_attr_t attributes;
    pthread_t thread;
    sigfillset(&all);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    size_t size = stack + least_stack(&attributes);
    pthread_attr_setstacksize(&attributes, size);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&thread, &attributes, main, NULL);
    while (error == EINVAL && size < LARGEST_STACK) { /* a libc that does not tell how much it needs */
        size *= 2;
        pthread_attr_setstacksize(&attributes, size);
        error = pthread_create(&thread, &attributes, main, NULL);
    }
    if (error == 0)
        pthread_setname_np(thread, name);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return error ? -EAGAIN : 0;
}

void engine_nap(void)
{
    const struct timespec moment = {.tv_nsec = 1000000};
    nanosleep(&moment, NULL);
}

/* ---- the reactor ------------------------------------------------------------------------------------------ */

bool engine_has_work(void)
{
    return !list_empty(&engine.run_queue[CARRIER_STREAMS]) || !list_empty(&engine.run_queue[CARRIER_RING]) ||
           !list_empty(&engine.cancelling) || !list_empty(&engine.releasing) || pool_wants_worker();
}

/* Cancels what it has been asked to. One at a time: until then each may end and be gone. */
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

/* Closes the engine's descriptor of a file, or leaves that to a worker. */
static void let_go_of(aiofs_file *file)
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

/* One round over the queues. True: there may be more. */
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
    bool asked = !list_empty(&engine.cancelling);
    bool more = count >= BATCH / 2;
    pthread_mutex_unlock(&engine.lock);

    for (unsigned i = 0; i < count; i++)
        engine.reactor->begin(begun[i]);
    if (asked)
        cancel_asked();
    while ((link = list_pop(&releasing)))
        let_go_of(CONTAINER(link, aiofs_file, leaving));
    return more;
}

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
    start.own_table = channel_leave_table();
    int outcome = engine.reactor->open();
    if (outcome == 0 && !pool_start())
        outcome = -EAGAIN;
    make_report(outcome);
    if (outcome < 0)
        return NULL; /* a table of its own goes with it */
    for (;;) {
        channel_drain();
        bool more = serve();
        bool poor = !pool_spawn();
        bool unsent = notify_retry();
        if (more) {
            engine.reactor->turn(0);
            channel_awake();
            continue;
        }
        channel_sleep(); /* whoever has something for the reactor from here on wakes it */
        int look_ms = main_exit_watch();
        pthread_mutex_lock(&engine.lock);
        int kept_ms = files_let_go();
        bool work = !list_empty(&engine.run_queue[CARRIER_STREAMS]) || !list_empty(&engine.cancelling) ||
                    !list_empty(&engine.releasing) || (!poor && pool_wants_worker()) ||
                    (!list_empty(&engine.run_queue[CARRIER_RING]) && engine.reactor->room());
        pthread_mutex_unlock(&engine.lock);
        if (kept_ms >= 0 && (look_ms < 0 || kept_ms < look_ms))
            look_ms = kept_ms;
        engine.reactor->turn(work ? 0 : poor || unsent ? RETRY_MS : look_ms);
        channel_awake();
    }
}

/* ---- start --------------------------------------------------------------------------------------------- */

static int wanted_kind(void)
{
    const char *word = getenv("AIOFS_ENGINE");
    if (!word || !*word || strcmp(word, "auto") == 0)
        return AIOFS_ENGINE_AUTO;
    if (strcmp(word, "io_uring") == 0)
        return AIOFS_ENGINE_IO_URING;
    if (strcmp(word, "threads") == 0)
        return AIOFS_ENGINE_THREADS;
    return -EINVAL;
}

/* Starts the reactor with one way of waiting; start.lock held. */
static int start_reactor(const struct reactor_ops *reactor)
{
    int error = channel_open();
    if (error < 0)
        return error;
    engine.reactor = reactor;
    pthread_mutex_lock(&report.lock);
    report.is_made = false;
    error = engine_thread("aiofs", reactor_main, SMALL_STACK);
    while (error == 0 && !report.is_made)
        pthread_cond_wait(&report.made, &report.lock);
    if (error == 0)
        error = report.outcome;
    pthread_mutex_unlock(&report.lock);
    if (error < 0 || start.own_table)
        channel_close_inside();
    if (error < 0)
        channel_close();
    return error;
}

int aiofs_engine_start(void)
{
    if (atomic_load_explicit(&engine.running, memory_order_acquire))
        return 0;
    pthread_mutex_lock(&start.lock);
    int kind = wanted_kind(), error = kind < 0 ? kind : 0;
    if (!start.is_prepared) { /* not by the constructor: others may run before it, and come here */
        start.is_prepared = true;
        pool_reset();
        host_threads_reset();
    }
    if (error == 0 && !atomic_load(&engine.running)) {
        error = host_threads_start();
        if (error == 0)
            error = start_reactor(kind == AIOFS_ENGINE_THREADS ? &reactor_poll : &reactor_ring);
        if (error < 0 && kind == AIOFS_ENGINE_AUTO)
            error = start_reactor(&reactor_poll);
        if (error < 0)
            host_threads_stop();
        if (error == 0) {
            pthread_mutex_lock(&engine.lock);
            files_meet_reactor();
            pthread_mutex_unlock(&engine.lock);
            atomic_store_explicit(&engine.running, true, memory_order_release);
        }
    }
    pthread_mutex_unlock(&start.lock);
    return error;
}

const char *aiofs_engine_name(void)
{
    return aiofs_engine_start() < 0 ? NULL : engine.reactor->name;
}

void aiofs_engine_counters(struct aiofs_counters *out)
{
    pthread_mutex_lock(&engine.lock);
    *out = (struct aiofs_counters){.outstanding = engine.outstanding,
                                   .files = engine.counters.files,
                                   .workers = engine.counters.workers,
                                   .inline_reads = READ_COUNT(inline_reads),
                                   .inline_writes = READ_COUNT(inline_writes),
                                   .ring = READ_COUNT(ring),
                                   .polled = READ_COUNT(polled),
                                   .pooled = READ_COUNT(pooled)};
    pthread_mutex_unlock(&engine.lock);
}

/* ---- fork ---------------------------------------------------------------------------------------------- */

static void fork_prepare(void)
{
    pthread_mutex_lock(&start.lock);
    aiofs_volume_fork_prepare();
    pthread_mutex_lock(&engine.lock);
    channel_fork_prepare();
    notify_fork_prepare();
}

static void fork_parent(void)
{
    notify_fork_parent();
    channel_fork_parent();
    pthread_mutex_unlock(&engine.lock);
    aiofs_volume_fork_parent();
    pthread_mutex_unlock(&start.lock);
}

static void fork_child(void)
{
    notify_fork_child();
    pthread_cond_init(&engine.drained, NULL);
    channel_fork_child(atomic_load(&engine.running), start.own_table);
    files_after_fork();
    list_init(&engine.cancelling);
    list_init(&engine.kept);
    list_init(&engine.releasing);
    list_init(&engine.closing);
    list_init(&engine.adopted);
    for (enum carrier carrier = 0; carrier < CARRIERS; carrier++)
        list_init(&engine.run_queue[carrier]);
    engine.outstanding = 0;
    atomic_store(&engine.alive, 0);
    pool_reset();
    host_threads_reset();
    outside_after_fork();
    on_engine_table = on_reactor = false;
    atomic_store(&engine.running, false);
    pthread_mutex_unlock(&engine.lock);
    aiofs_volume_fork_child();
    pthread_mutex_unlock(&start.lock);
}

__attribute__((constructor)) static void set_up(void)
{
    pthread_atfork(fork_prepare, fork_parent, fork_child);
}
