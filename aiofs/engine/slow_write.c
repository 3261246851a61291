/*
 * slow_write.c - when writes inside the call stop, because one of them waited, and when they resume.
 *
 * A write to cached pages can wait: for the journal, or because the kernel throttles dirty pages. Then the next writes
 * wait too. So the writes of the volume go to workers for a while. A write is slow if it took more than SLOW_NS and its
 * thread slept meanwhile (a voluntary context switch). A thread that was preempted did not wait for the disk, whatever
 * the clock says.
 *
 * The count of context switches costs a system call (getrusage). So a thread keeps a sample of its count that is at
 * most SAMPLE_NS old when a write begins, and asks again only after a write of more than SLOW_NS.
 *
 * Writes inside the call stop for SHORTEST_NS. They stop for twice as long if they had resumed less than LONGEST_NS
 * before. While they are stopped, each slow write of a worker prolongs the stop. So where the kernel throttles a
 * program, its loop does not try again and again.
 *
 * Locking. The back-off is atomic, the sample belongs to its thread.
 */
#define _GNU_SOURCE
#include "internal.h"

enum { SLOW_NS = 1000000, SAMPLE_NS = 100000, SHORTEST_NS = 20000000, LONGEST_NS = 1000000000 };

static struct aiofs_write_backoff outside_volumes;

static _Thread_local struct {
    int64_t time;
    long switches;
} sample;

/* The voluntary context switches of this thread; -1: unknown. */
static long switches(void)
{
    struct rusage usage;
    return aiofs_sys.getrusage(RUSAGE_THREAD, &usage) == 0 ? usage.ru_nvcsw : -1;
}

struct aiofs_write_backoff *write_backoff_of(aiofs_lock_ref *lock_ref)
{
    return lock_ref ? aiofs_lock_ref_write_backoff(lock_ref) : &outside_volumes;
}

bool write_backoff_holds(const struct aiofs_write_backoff *backoff, int64_t now)
{
    return now < atomic_load_explicit(&backoff->until, memory_order_relaxed);
}

void write_begins(int64_t now)
{
    if (now - sample.time > SAMPLE_NS) {
        sample.switches = switches();
        sample.time = now;
    }
}

bool write_waited(int64_t begun, int64_t ended)
{
    if (ended - begun <= SLOW_NS)
        return false;
    long before = sample.switches;
    sample.switches = switches();
    sample.time = ended;
    return before < 0 || sample.switches != before;
}

void write_backoff_begin(struct aiofs_write_backoff *backoff, int64_t now)
{
    int64_t span = atomic_load_explicit(&backoff->span, memory_order_relaxed);
    bool again = now - atomic_load_explicit(&backoff->until, memory_order_relaxed) < LONGEST_NS;
    span = !again ? SHORTEST_NS : span < LONGEST_NS / 2 ? 2 * span : LONGEST_NS;
    atomic_store_explicit(&backoff->span, span, memory_order_relaxed);
    atomic_store_explicit(&backoff->until, now + span, memory_order_relaxed);
}

void write_backoff_prolong(struct aiofs_write_backoff *backoff, int64_t now)
{
    int64_t span = atomic_load_explicit(&backoff->span, memory_order_relaxed);
    atomic_store_explicit(&backoff->until, now + span, memory_order_relaxed);
}
