/*
 * releasing.c - waiting for locks whose release is under way.
 *
 * A program drops or cancels an opening while a worker thread runs it, or drops an access handle: the lock is released
 * some milliseconds later. Meanwhile its lock reference is marked as releasing. A thread that is refused because of
 * such a lock reference waits until the mark is removed, at most PATIENCE_NS, and tries again. So the program sees a
 * lock that was free at once.
 *
 * The mark has two halves, as the lock has. Inside the process an entry counts its lock references that are releasing,
 * and threads wait on the condition variable `released`, which unlocks the namespace lock meanwhile. Between processes
 * the mark is a read lock on the last byte of the entry's range in the lock file. No entry's lock covers that byte, and
 * the kernel removes the mark of a process that dies. A process unlocks the entry before it removes the mark. Hence a
 * refusal is final only if the mark was missing before the attempt and after it.
 *
 * One more refusal is not final. If two processes ask for different sharing locks at the same moment, each sees the
 * other's byte and both are refused. If a third process shares one of the two bytes, the lock on that byte is
 * compatible, and its process tries again.
 *
 * Where somebody waits for the entry in its queue, a refusal is final at once: what is released is not for newcomers.
 *
 * The namespace lock guards all of this, except `aiofs_acquiring`, which is the thread's own.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <time.h>

#include "cached.h"
#include "thread.h"
#include "volume_internal.h"
#include "wait_table.h"

enum { MOMENT_NS = 50000, PATIENCE_NS = 2000000000 };

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_cond_t released;
_Thread_local struct aiofs_acquisition *aiofs_acquiring;
struct aiofs_link aiofs_arrivals = {&aiofs_arrivals, &aiofs_arrivals};

static void make_condition(void)
{
    condition_init(&released);
}

void aiofs_releasing_wake_all(void)
{
    pthread_once(&once, make_condition);
    pthread_cond_broadcast(&released);
}

/* ---- between processes ------------------------------------------------------------------------------ */

static int64_t mark_of(uint64_t hash)
{
    return aiofs_range_of(hash) + AIOFS_RANGE_MARK;
}

/* Whether another process has marked a lock on the entry as releasing. */
static bool is_marked(int fd, uint64_t hash)
{
    struct flock byte = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = mark_of(hash), .l_len = 1};
    return aiofs_sys.fcntl(fd, F_OFD_GETLK, (long)&byte) == 0 && byte.l_type != F_UNLCK;
}

/* Whether another open file description has a read lock on the byte. (An exclusive holder has a write lock.) Then no
 * lock on another byte can be valid: it belongs to a call that is being refused, and unlocks within microseconds. */
static bool is_shared(int fd, uint64_t hash, int64_t byte)
{
    struct flock one = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = aiofs_range_of(hash) + byte, .l_len = 1};
    return byte >= 0 && aiofs_sys.fcntl(fd, F_OFD_GETLK, (long)&one) == 0 && one.l_type == F_RDLCK;
}

static void set_mark(const struct aiofs_tree *tree, uint64_t hash, short type)
{
    int fd = tree->lock_files[aiofs_lock_file_of(hash)]; /* locking the entry opened it */
    if (fd >= 0)
        aiofs_bytes_set(fd, type, mark_of(hash), 1);
}

/* ---- the mark of a lock reference ------------------------------------------------------------------------------ */

void aiofs_releasing_add_locked(const struct aiofs_tree *tree, struct aiofs_entry *entry)
{
    if (entry->releasing++ == 0)
        set_mark(tree, entry->hash, F_RDLCK);
}

void aiofs_releasing_remove_locked(const struct aiofs_tree *tree, struct aiofs_entry *entry)
{
    if (--entry->releasing == 0)
        set_mark(tree, entry->hash, F_UNLCK);
    aiofs_releasing_wake_all();
}

void aiofs_releasing_mark_locked(aiofs_lock_ref *lock_ref)
{
    for (; lock_ref; lock_ref = lock_ref->left) {
        if (lock_ref->releasing || lock_ref->lost || lock_ref->lock == AIOFS_LOCK_NONE)
            continue;
        lock_ref->releasing = true;
        aiofs_releasing_add_locked(lock_ref->volume->tree, lock_ref->entry);
    }
}

void aiofs_lock_ref_releasing(aiofs_lock_ref *lock_ref)
{
    if (!lock_ref || lock_ref->lock == AIOFS_LOCK_NONE)
        return;
    aiofs_namespace_lock();
    aiofs_releasing_mark_locked(lock_ref);
    aiofs_namespace_unlock();
}

/* ---- waiting for the release -------------------------------------------------------------------------- */

static bool wait_inside(int64_t until)
{
    pthread_once(&once, make_condition);
    return aiofs_namespace_wait(&released, until) == 0 || aiofs_now() < until;
}

bool aiofs_bytes_retry(int fd, uint64_t hash, int64_t byte, struct aiofs_patience *patience)
{
    const struct timespec moment = {.tv_nsec = MOMENT_NS};
    int64_t now = aiofs_now();
    patience->until = patience->until ? patience->until : now + PATIENCE_NS;
    if (!is_marked(fd, hash) && !is_shared(fd, hash, byte)) {
        bool first = !patience->unmarked;
        patience->unmarked = true;
        return first;
    }
    patience->unmarked = false;
    if (now >= patience->until)
        return false;
    nanosleep(&moment, NULL);
    return true;
}

/* Unlocks the namespace lock while it sleeps, because other threads and event loops may wait for it. */
static bool wait_for_others(int fd, uint64_t hash, enum aiofs_lock lock, struct aiofs_patience *patience)
{
    aiofs_namespace_unlock();
    bool again = aiofs_bytes_retry(fd, hash, aiofs_byte_of(lock), patience);
    aiofs_namespace_lock();
    return again;
}

/* After a refusal: waits for a release that is under way. True: try again. */
bool aiofs_releasing_wait_locked(const struct aiofs_tree *tree, const struct aiofs_canonical *canonical,
                                 enum aiofs_lock lock, struct aiofs_patience *patience)
{
    if (cached_refuse() || aiofs_waits_before_locked(tree, canonical->hash, WAIT_NEWCOMER, 1))
        return false; /* the thread must not wait, or the lock goes to somebody who waits for it */
    const struct aiofs_entry *entry = aiofs_entry_find_locked(tree, canonical);
    if (entry && entry->lock != AIOFS_LOCK_NONE) {
        if (entry->releasing < entry->locks)
            return false;
        patience->until = patience->until ? patience->until : aiofs_now() + PATIENCE_NS;
        return wait_inside(patience->until);
    }
    int fd = tree->lock_files[aiofs_lock_file_of(canonical->hash)];
    return fd >= 0 && wait_for_others(fd, canonical->hash, lock, patience);
}

/* ---- fork ---------------------------------------------------------------------------------------------- */

/* The condition variable is initialised anew: the threads that waited on it exist in the parent only. */
void aiofs_releasing_fork_child(void)
{
    aiofs_acquiring = NULL;
    while (list_pop(&aiofs_arrivals)) /* the parent's */
        ;
    make_condition();
}
