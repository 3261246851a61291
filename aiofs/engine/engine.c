/*
 * engine.c - the engine of this process: its state, its start, and its fork handlers.
 *
 * A process has one engine. The first call that needs the engine starts it. Its threads:
 *
 *   reactor        reactor.c, one thread. It has a descriptor table of its own, the engine's table.
 *   workers        pool.c. The reactor starts them, so they share its table.
 *   host threads   host_threads.c. They have the program's table.
 *
 * channel.c sends open files to the engine's table, and wakes the reactor.
 *
 * Locking. The engine lock (engine.lock) guards the state here; the start lock (start.lock) serialises the start. fork
 * takes all locks in this order: the start lock, the two locks of entries/, the engine lock, the locks of the channel,
 * the lock of notify.c.
 *
 * Fork. The child has no engine. The fork handler initialises the conditions again and cancels the parent's requests.
 * The next call in the child that needs an engine starts one.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* Initialised statically, not by our constructor: under LD_PRELOAD the constructors of other libraries run earlier and
 * may use the engine. */
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
    .wakeups = EMPTY(wakeups),
};
_Static_assert(CARRIERS == 3, "a run queue for each carrier");

static struct {
    pthread_mutex_t lock; /* held during the whole start, so that no fork happens in the middle of it */
    bool is_prepared;
} start = {.lock = PTHREAD_MUTEX_INITIALIZER};

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

static int start_reactor(int kind)
{
    int error = reactor_start(kind == AIOFS_ENGINE_THREADS ? &reactor_poll : &reactor_ring);
    return error < 0 && kind == AIOFS_ENGINE_AUTO ? reactor_start(&reactor_poll) : error;
}

int aiofs_engine_start(void)
{
    if (atomic_load_explicit(&engine.running, memory_order_acquire))
        return 0;
    pthread_mutex_lock(&start.lock);
    int kind = wanted_kind(), error = kind < 0 ? kind : 0;
    if (!start.is_prepared) { /* not in the constructor: other constructors may run earlier and start the engine */
        start.is_prepared = true;
        pool_reset();
        host_threads_reset();
    }
    if (error == 0 && !atomic_load(&engine.running)) {
        error = host_threads_start();
        if (error == 0)
            error = start_reactor(kind);
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
    channel_fork_child(atomic_load(&engine.running));
    files_after_fork();
    list_init(&engine.cancelling);
    list_init(&engine.kept);
    list_init(&engine.releasing);
    list_init(&engine.closing);
    list_init(&engine.wakeups);
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
