/*
 * waiting.c - taking a lock at once, or in its turn: acquisitions, the queue of this process, and the thread that serves
 * it.
 *
 * An acquisition says how long a lock may be waited for. An opening that is refused then takes a place in the queue of
 * the entry (wait_table.c), and the lock when its place is the first and the lock is free. There are two ways to wait:
 *
 *   in the call    The thread sleeps on the futex of its place, and tries when it is woken.
 *   by the thread  With a callback `ready`, the call returns -EINPROGRESS, and one thread per volume, `aiofs-wait`, sleeps
 *                  for all such places of the process. It takes the lock for a place itself, keeps it for the
 *                  acquisition, and calls `ready`. So a thousand waiting openings need no thousand threads.
 *
 * Who leaves a queue, for whatever reason, wakes who is first then. A place that nobody wakes tries by itself: every
 * 50 ms if it is the first, every n x 50 ms, at most 1 s, if n - 1 other processes are before it. The thread's places
 * behind another one of their process do so every 10 s, and the next of them 50 ms after one has left the queue. So a
 * holder or first places that were killed, or a release by somebody who wakes nobody, cost the next one at most 50 ms for
 * each process, and waiting costs no processor time to speak of.
 *
 * Asynchronous openings of one path run on host threads, which take them up in any order. So each arrives when it is
 * called, and one that asks for the lock before an earlier arrival has asked is called again after that.
 *
 * An acquisition can be abandoned by another thread. Before the lock is taken: it leaves the queue, and the lock is never
 * taken; a lock that the thread keeps for it is released at once. After: the lock reference is marked as releasing.
 *
 * A watcher is an acquisition that waits until somebody waits for its lock. The same thread serves it.
 *
 * Ownership. An acquisition owns its waiter, and the waiter a reference to its volume, until the lock is passed on or the
 * acquisition ends. So the tree outlives its waiters, and the last release of the tree stops the thread.
 *
 * Locking. The namespace lock guards everything here. It is held during `ready`, and not while a thread sleeps.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "thread.h"
#include "wait_table.h"

enum { LINGER_NS = 1000000000 }; /* the thread stays for a second without work */

_Atomic int64_t aiofs_wait_interval = 50000000;

/* ---- places in a queue --------------------------------------------------------------------------------------- */

static struct aiofs_tree *tree_of(const struct aiofs_waiter *waiter)
{
    return waiter->volume->tree;
}

static struct aiofs_waiter *waiter_new(aiofs_volume *volume, struct aiofs_acquisition *acquisition)
{
    struct aiofs_waiter *waiter = calloc(1, sizeof *waiter);
    if (!waiter)
        return NULL;
    list_init(&waiter->link);
    waiter->slot = -1;
    waiter->volume = volume;
    waiter->acquisition = acquisition;
    aiofs_volume_retain(volume);
    acquisition->waiter = waiter;
    return waiter;
}

/* The first of the thread's waiters for the entry may have relied on one that has left the queue: it tries soon. */
static void hurry_next_locked(struct aiofs_tree *tree, uint64_t hash)
{
    struct aiofs_link *const list = &tree->waits->waiters;
    struct aiofs_link *link = list->next;
    while (link != list && CONTAINER(link, struct aiofs_waiter, link)->canonical.hash != hash)
        link = link->next;
    int64_t soon = aiofs_now() + aiofs_wait_interval;
    struct aiofs_waiter *next = CONTAINER(link, struct aiofs_waiter, link);
    if (link == list || next->next_try <= soon)
        return;
    next->next_try = soon;
    if (tree->waits->wakes_at > soon)
        aiofs_waits_wake_process(tree);
}

/* Leaves the queue. The waiter stays, with its status, until its acquisition asks again or ends. */
static void end_locked(struct aiofs_waiter *waiter, int status)
{
    if (waiter->ended)
        return;
    waiter->ended = true;
    waiter->status = status;
    if (waiter->watches) {
        aiofs_waits_unwatch_locked(tree_of(waiter), waiter);
        return;
    }
    list_remove(&waiter->link);
    aiofs_waits_leave_locked(tree_of(waiter), waiter);
    if (tree_of(waiter)->waits)
        hurry_next_locked(tree_of(waiter), waiter->canonical.hash);
}

/* No lock is held: the releases take one. */
static void waiter_free(struct aiofs_waiter *waiter)
{
    if (!waiter)
        return;
    aiofs_lock_ref_release(waiter->granted);
    aiofs_volume_release(waiter->volume);
    free(waiter);
}

/* Tries to take the lock in its turn. -EBUSY: not yet. */
static int try_locked(struct aiofs_waiter *waiter)
{
    struct aiofs_tree *tree = tree_of(waiter);
    waiter->seen = aiofs_waits_word(tree, waiter);
    int status = aiofs_lock_ref_take_turn_locked(waiter->volume, &waiter->canonical, waiter->lock, waiter->owner,
                                                 waiter->ticket, &waiter->granted);
    if (status == -EBUSY)
        waiter->next_try = aiofs_now() + aiofs_wait_interval * aiofs_waits_intervals_locked(tree, waiter);
    else if (status == 0)
        aiofs_waits_hold_locked(tree, waiter->granted);
    return status;
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* ---- the thread ------------------------------------------------------------------------------------------------ */

static void finish_locked(struct aiofs_waiter *waiter, int status)
{
    end_locked(waiter, status);
    waiter->acquisition->ready(waiter->acquisition);
}

/* Serves the waiters. Returns when it has to look again. */
static int64_t serve_waiters_locked(struct aiofs_tree *tree, int64_t wakes_at)
{
    struct aiofs_link *const list = &tree->waits->waiters;
    for (struct aiofs_link *link = list->next, *next; link != list; link = next) {
        struct aiofs_waiter *waiter = CONTAINER(link, struct aiofs_waiter, link);
        int64_t now = aiofs_now(), until = waiter->acquisition->until;
        int status = -EBUSY;
        next = link->next;
        if (now >= waiter->next_try || now >= until || waiter->seen != aiofs_waits_word(tree, waiter))
            status = try_locked(waiter);
        if (status != -EBUSY || now >= until)
            finish_locked(waiter, status);
        else
            wakes_at = earlier(wakes_at, earlier(waiter->next_try, until));
    }
    return wakes_at;
}

static void serve_watchers_locked(struct aiofs_tree *tree)
{
    struct aiofs_link *const list = &tree->waits->watchers;
    for (struct aiofs_link *link = list->next, *next; link != list; link = next) {
        struct aiofs_waiter *watcher = CONTAINER(link, struct aiofs_waiter, link);
        next = link->next;
        if (!watcher->watched || aiofs_waits_contended_locked(tree, watcher->watched->entry->hash))
            finish_locked(watcher, watcher->watched ? 0 : -EBADF);
    }
}

static void *serve(void *argument)
{
    struct aiofs_tree *tree = argument;
    aiofs_namespace_lock();
    struct aiofs_waits *waits = tree->waits;
    int64_t idle_until = aiofs_now() + LINGER_NS;
    while (!waits->stopping) {
        uint32_t seen = aiofs_waits_process_word(tree);
        int64_t now = aiofs_now();
        if (!list_empty(&waits->waiters) || !list_empty(&waits->watchers))
            idle_until = now + LINGER_NS;
        else if (now >= idle_until)
            break;
        waits->wakes_at = serve_waiters_locked(tree, idle_until);
        serve_watchers_locked(tree);
        int64_t rest = waits->wakes_at - aiofs_now();
        aiofs_namespace_unlock();
        if (rest > 0)
            aiofs_waits_sleep_process(tree, seen, rest);
        aiofs_namespace_lock();
    }
    waits->thread = false;
    pthread_cond_broadcast(&waits->ended);
    aiofs_namespace_unlock();
    return NULL;
}

/* 0, or -EAGAIN: no thread can be started. */
static int start_thread_locked(struct aiofs_tree *tree)
{
    if (tree->waits->thread)
        return 0;
    int status = thread_start_with("aiofs-wait", serve, tree, SMALL_STACK);
    tree->waits->thread = status == 0;
    tree->waits->wakes_at = 0;
    return status;
}

/* ---- waiting ------------------------------------------------------------------------------------------------- */

/* Sleeps and tries until the lock is taken or the time is up. The namespace lock is released while it sleeps. */
static int wait_here_locked(struct aiofs_waiter *waiter)
{
    struct aiofs_tree *tree = tree_of(waiter);
    const struct aiofs_acquisition *acquisition = waiter->acquisition;
    for (;;) {
        int status = acquisition->abandoned ? -ECANCELED : try_locked(waiter);
        int64_t now = aiofs_now();
        if (status != -EBUSY || now >= acquisition->until) {
            end_locked(waiter, status);
            return status;
        }
        int64_t wake = earlier(waiter->next_try, acquisition->until);
        aiofs_namespace_unlock();
        status = aiofs_waits_sleep(tree, waiter, waiter->seen, wake - now);
        aiofs_namespace_lock();
        if (status == -EINTR || (status == -ETIMEDOUT && acquisition->looks))
            return -EINTR;
    }
}

/* Leaves the waiting to the thread. */
static int wait_by_thread_locked(struct aiofs_waiter *waiter)
{
    struct aiofs_waits *waits = tree_of(waiter)->waits;
    int status = try_locked(waiter);
    if (status != -EBUSY) {
        end_locked(waiter, status);
        return status;
    }
    list_append(&waits->waiters, &waiter->link);
    if (waits->wakes_at > earlier(waiter->next_try, waiter->acquisition->until))
        aiofs_waits_wake_process(tree_of(waiter));
    return -EINPROGRESS;
}

/* Takes a place in the queue, after a refusal. */
static int wait_locked(aiofs_volume *volume, const struct aiofs_canonical *canonical, enum aiofs_lock lock,
                       const void *owner)
{
    struct aiofs_waiter *waiter = waiter_new(volume, aiofs_acquiring);
    if (!waiter)
        return -ENOMEM;
    waiter->lock = lock;
    waiter->owner = owner;
    waiter->canonical = *canonical;
    bool threaded = aiofs_acquiring->ready && volume->tree->waits && start_thread_locked(volume->tree) == 0;
    aiofs_waits_enqueue_locked(volume->tree, waiter, threaded);
    return threaded ? wait_by_thread_locked(waiter) : wait_here_locked(waiter);
}

/* The acquisition asks again: the outcome of its wait, or goes on with it. */
static int wait_again_locked(struct aiofs_waiter *waiter)
{
    if (waiter->ended)
        return waiter->status;
    return waiter->acquisition->ready ? -EINPROGRESS : wait_here_locked(waiter);
}

/* ---- taking a lock ------------------------------------------------------------------------------------------- */

struct taking {
    aiofs_volume *volume;
    const struct aiofs_canonical *canonical;
    enum aiofs_lock lock;
    const void *owner;
};

static bool is_for(const struct aiofs_waiter *waiter, const struct taking *taking)
{
    return waiter->volume->tree == taking->volume->tree && waiter->lock == taking->lock &&
           !aiofs_waits_is_parents(taking->volume->tree, waiter) &&
           waiter->canonical.length == taking->canonical->length &&
           memcmp(waiter->canonical.path, taking->canonical->path, taking->canonical->length) == 0;
}

/* Takes the lock now. A refusal by a holder that is releasing its lock is not final: waits for that. */
static int take_now_locked(const struct taking *taking, bool patient, aiofs_lock_ref **out)
{
    struct aiofs_patience patience = {0};
    const struct aiofs_acquisition *acquisition = aiofs_acquiring;
    int status;
    do
        status = acquisition && acquisition->abandoned && !acquisition->lock_ref
                     ? -ECANCELED
                     : aiofs_lock_ref_take_locked(taking->volume, taking->canonical, taking->lock, taking->owner, out);
    while (status == -EBUSY && patient &&
           aiofs_releasing_wait_locked(taking->volume->tree, taking->canonical, taking->lock, &patience));
    if (status == 0 && taking->lock != AIOFS_LOCK_NONE)
        aiofs_waits_hold_locked(taking->volume->tree, *out);
    return status;
}

/* The first acquisition that arrived with this key. */
static struct aiofs_acquisition *first_arrival_locked(uint64_t key)
{
    for (struct aiofs_link *link = aiofs_arrivals.next; link != &aiofs_arrivals; link = link->next) {
        struct aiofs_acquisition *acquisition = CONTAINER(link, struct aiofs_acquisition, arrival);
        if (acquisition->key == key)
            return acquisition;
    }
    return NULL;
}

static bool arrives(const struct aiofs_acquisition *acquisition)
{
    return acquisition->arrival.next && !list_empty(&acquisition->arrival);
}

/* It has the lock, or a place in the queue, or neither for good: the next one may ask. */
static void settle_locked(struct aiofs_acquisition *acquisition)
{
    if (!arrives(acquisition))
        return;
    list_remove(&acquisition->arrival);
    struct aiofs_acquisition *next = first_arrival_locked(acquisition->key);
    if (next && next->behind) {
        next->behind = false;
        next->ready(next);
    }
}

/* Takes the lock now or in its turn. `spent`: the caller frees it when it holds no lock. */
static int take_turn_locked(const struct taking *taking, aiofs_lock_ref **out, struct aiofs_waiter **spent)
{
    struct aiofs_acquisition *acquisition = aiofs_acquiring;
    bool waits = taking->lock != AIOFS_LOCK_NONE && acquisition && acquisition->until && !acquisition->lock_ref;
    if (waits && acquisition->waiter && !is_for(acquisition->waiter, taking)) { /* the path may lead elsewhere by now */
        end_locked(acquisition->waiter, -ESTALE);
        *spent = acquisition->waiter;
        acquisition->waiter = NULL;
    }
    int status = waits && acquisition->waiter ? wait_again_locked(acquisition->waiter)
                                              : take_now_locked(taking, !waits, out);
    if (status == -EBUSY && waits && !acquisition->waiter)
        status = wait_locked(taking->volume, taking->canonical, taking->lock, taking->owner);
    struct aiofs_waiter *waiter = waits ? acquisition->waiter : NULL;
    if (waiter && waiter->ended) {
        if (status == 0)
            *out = waiter->granted;
        waiter->granted = NULL;
        acquisition->waiter = NULL;
        *spent = waiter;
    }
    return status;
}

/* Takes the namespace lock, with free slots in the table of waiting openings if there can be any. */
static void lock_with_room(struct aiofs_tree *tree, size_t length)
{
    for (;;) {
        bool prepared = aiofs_waits_prepare(tree, true, length);
        aiofs_namespace_lock();
        if (!prepared || aiofs_waits_have_room_locked(tree, length))
            return;
        aiofs_namespace_unlock(); /* other threads have filled them */
    }
}

int aiofs_lock_ref_take_at(aiofs_volume *volume, const struct aiofs_canonical *canonical, enum aiofs_lock lock,
                           const void *owner, aiofs_lock_ref **lock_ref)
{
    const struct taking taking = {volume, canonical, lock, owner};
    struct aiofs_waiter *spent = NULL;
    int status = aiofs_tree_prepare(volume->tree, lock != AIOFS_LOCK_NONE && !(volume->flags & AIOFS_VOLUME_READ_ONLY));
    if (status < 0)
        return status;
    if (lock != AIOFS_LOCK_NONE)
        status = aiofs_lock_file_prepare(volume->tree, canonical->hash);
    if (status < 0)
        return status;
    if (lock != AIOFS_LOCK_NONE)
        lock_with_room(volume->tree, canonical->length);
    else
        aiofs_namespace_lock();
    struct aiofs_acquisition *acquisition = aiofs_acquiring;
    if (acquisition && arrives(acquisition) && !acquisition->abandoned &&
        first_arrival_locked(acquisition->key) != acquisition) {
        acquisition->behind = acquisition->parked = true;
        aiofs_namespace_unlock();
        return -EINPROGRESS;
    }
    status = take_turn_locked(&taking, lock_ref, &spent);
    if (acquisition) {
        acquisition->parked = status == -EINPROGRESS;
        settle_locked(acquisition);
    }
    if (status == 0 && acquisition && !acquisition->lock_ref) {
        acquisition->lock_ref = *lock_ref;
        (*lock_ref)->acquisition = acquisition;
    }
    aiofs_namespace_unlock();
    waiter_free(spent);
    return status;
}

/* Takes an exclusive lock for one call: a temporary lock reference, which is not listed as a holder. It does not create
 * .aiofs: the caller has called aiofs_tree_prepare or aiofs_absence_claim. */
int aiofs_lock_ref_take_temporary(aiofs_volume *volume, const struct aiofs_canonical *canonical, const void *owner,
                                  aiofs_lock_ref **lock_ref)
{
    struct aiofs_patience patience = {0};
    int status = aiofs_tree_prepare(volume->tree, false);
    if (status == 0)
        status = aiofs_lock_file_prepare(volume->tree, canonical->hash);
    if (status < 0)
        return status;
    if (volume->tree->root < 0 || volume->tree->own_dir >= 0)
        aiofs_waits_prepare(volume->tree, false, 0);
    aiofs_namespace_lock();
    do
        status = aiofs_lock_ref_take_locked(volume, canonical, AIOFS_LOCK_EXCLUSIVE, owner, lock_ref);
    while (status == -EBUSY && aiofs_releasing_wait_locked(volume->tree, canonical, AIOFS_LOCK_EXCLUSIVE, &patience));
    if (status == 0)
        (*lock_ref)->temporary = true;
    aiofs_namespace_unlock();
    return status;
}

int aiofs_refuse_locked_target(aiofs_volume *volume, const char *path, const struct aiofs_canonical *canonical,
                               const void *owner)
{
    struct aiofs_canonical target;
    aiofs_lock_ref *lock_ref;
    if (!(volume->flags & AIOFS_VOLUME_HOST) || aiofs_path_resolve(volume, path, true, &target) < 0 ||
        strcmp(target.path, canonical->path) == 0)
        return 0;
    int status = aiofs_lock_ref_take_temporary(volume, &target, owner, &lock_ref);
    if (status == 0)
        aiofs_lock_ref_release(lock_ref);
    return status;
}

int aiofs_lock_ref_take(aiofs_volume *volume, const char *path, enum aiofs_lock lock, const void *owner,
                        aiofs_lock_ref **lock_ref)
{
    struct aiofs_canonical canonical;
    int status = aiofs_path_resolve(volume, path, true, &canonical);
    return status < 0 ? status : aiofs_lock_ref_take_at(volume, &canonical, lock, owner, lock_ref);
}

/* ---- acquisitions ------------------------------------------------------------------------------------------- */

void aiofs_acquisition_arrive(struct aiofs_acquisition *acquisition, uint64_t key)
{
    aiofs_namespace_lock();
    acquisition->key = key;
    list_append(&aiofs_arrivals, &acquisition->arrival);
    aiofs_namespace_unlock();
}

bool aiofs_acquisition_expected(uint64_t key)
{
    aiofs_namespace_lock();
    bool expected = first_arrival_locked(key) != NULL;
    aiofs_namespace_unlock();
    return expected;
}

/* A call that ended without having asked for a lock lets the next arrival ask. */
void aiofs_acquisition_begin(struct aiofs_acquisition *acquisition)
{
    struct aiofs_acquisition *before = aiofs_acquiring;
    aiofs_acquiring = acquisition;
    if (!before || !before->key)
        return;
    aiofs_namespace_lock();
    if (!before->parked)
        settle_locked(before);
    aiofs_namespace_unlock();
}

/* A thread that waits in its call finds `abandoned` when it wakes; it keeps its waiter. A call that is over is called
 * back, so that it asks again, and fails. */
void aiofs_acquisition_abandon(struct aiofs_acquisition *acquisition)
{
    aiofs_namespace_lock();
    struct aiofs_waiter *waiter = acquisition->waiter;
    aiofs_lock_ref *granted = NULL;
    acquisition->abandoned = true;
    if (acquisition->behind)
        acquisition->ready(acquisition);
    acquisition->behind = false;
    settle_locked(acquisition);
    if (waiter && !list_empty(&waiter->link)) {
        finish_locked(waiter, -ECANCELED);
    } else if (waiter && waiter->ended) {
        granted = waiter->granted;
        waiter->granted = NULL;
        waiter->status = -ECANCELED;
    } else if (waiter) {
        aiofs_waits_wake_waiter_locked(tree_of(waiter), waiter);
    }
    if (acquisition->lock_ref)
        aiofs_releasing_mark_locked(acquisition->lock_ref);
    aiofs_releasing_wake_all(); /* the thread of this acquisition may wait in aiofs_releasing_wait_locked */
    aiofs_namespace_unlock();
    aiofs_lock_ref_release(granted);
}

void aiofs_acquisition_end(struct aiofs_acquisition *acquisition)
{
    aiofs_namespace_lock();
    struct aiofs_waiter *waiter = acquisition->waiter;
    if (waiter)
        end_locked(waiter, -ECANCELED);
    acquisition->waiter = NULL;
    settle_locked(acquisition);
    if (acquisition->lock_ref)
        acquisition->lock_ref->acquisition = NULL;
    acquisition->lock_ref = NULL;
    aiofs_namespace_unlock();
    waiter_free(waiter);
}

/* ---- watching a lock of one's own ---------------------------------------------------------------------------- */

bool aiofs_lock_ref_contended(const aiofs_lock_ref *lock_ref)
{
    aiofs_namespace_lock();
    bool contended = !lock_ref->lost && lock_ref->lock != AIOFS_LOCK_NONE &&
                     aiofs_waits_contended_locked(lock_ref->volume->tree, lock_ref->entry->hash);
    aiofs_namespace_unlock();
    return contended;
}

static int watch_locked(aiofs_lock_ref *lock_ref)
{
    struct aiofs_tree *tree = lock_ref->volume->tree;
    if (lock_ref->lost || lock_ref->lock == AIOFS_LOCK_NONE || !tree->waits)
        return -EBADF;
    if (aiofs_waits_contended_locked(tree, lock_ref->entry->hash))
        return 0;
    int status = start_thread_locked(tree);
    if (status < 0)
        return status;
    struct aiofs_waiter *watcher = waiter_new(lock_ref->volume, aiofs_acquiring);
    if (!watcher)
        return -ENOMEM;
    watcher->watches = true;
    watcher->watched = lock_ref;
    aiofs_waits_watch_locked(tree, watcher);
    aiofs_waits_wake_process(tree); /* a place in the queue that was taken meanwhile has not seen the watcher */
    return -EINPROGRESS;
}

int aiofs_lock_ref_watch(aiofs_lock_ref *lock_ref)
{
    struct aiofs_waiter *spent = NULL;
    if (!aiofs_acquiring || !aiofs_acquiring->ready)
        return -EINVAL;
    aiofs_namespace_lock();
    struct aiofs_waiter *watcher = aiofs_acquiring->waiter;
    int status = aiofs_acquiring->abandoned ? -ECANCELED : -EINPROGRESS;
    if (!watcher || watcher->ended) {
        spent = watcher;
        aiofs_acquiring->waiter = NULL;
        status = status == -ECANCELED ? status : spent && spent->status == 0 ? 0 : watch_locked(lock_ref);
    }
    aiofs_acquiring->parked = status == -EINPROGRESS;
    aiofs_namespace_unlock();
    waiter_free(spent);
    return status;
}
