/*
 * lock.c - lock references: taking, releasing and counting the locks on entries.
 *
 * An entry's lock has two halves. Inside the process it is a state of the entry: the mode, how many lock references
 * share it, and their owner. Between processes it is a range of bytes in a lock file; see lock_file.c. The first lock
 * reference of an entry locks the bytes, the last one unlocks them.
 *
 * Ownership. An open file owns its lock reference. A lock reference owns a share of its entry's lock and a reference to
 * its volume. The namespace lock guards all of it.
 *
 * Fork. The child closes its copies of the lock files, so that the parent's locks end with the parent. It marks every
 * inherited lock reference as lost, so that releasing one leaves the lock files alone.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sys.h"
#include "volume_internal.h"

/* ---- locks in the process ------------------------------------------------------------------------------ */

static bool may_share(const struct aiofs_entry *entry, enum aiofs_lock lock, const void *owner)
{
    if (entry->lock == AIOFS_LOCK_NONE)
        return true;
    if (entry->lock != lock)
        return false;
    return lock != AIOFS_LOCK_EXCLUSIVE || (owner && entry->owner == owner);
}

static int lock_entry(struct aiofs_tree *tree, struct aiofs_entry *entry, enum aiofs_lock lock, const void *owner)
{
    if (lock == AIOFS_LOCK_NONE)
        return 0;
    if (!may_share(entry, lock, owner))
        return -EBUSY;
    if (entry->locks == 0) {
        int status = aiofs_bytes_take(tree, entry->hash, lock);
        if (status < 0)
            return status;
        entry->lock = lock;
        entry->owner = owner;
    }
    entry->locks++;
    return 0;
}

static void unlock_entry(struct aiofs_tree *tree, struct aiofs_entry *entry, enum aiofs_lock lock)
{
    if (lock == AIOFS_LOCK_NONE || --entry->locks > 0)
        return;
    entry->lock = AIOFS_LOCK_NONE;
    entry->owner = NULL;
    aiofs_bytes_release(tree, entry->hash);
}

/* ---- lock references ------------------------------------------------------------------------------------------- */

static void lock_ref_link(struct aiofs_entry *entry, struct aiofs_lock_ref *lock_ref)
{
    lock_ref->entry = entry;
    lock_ref->prev = NULL;
    lock_ref->next = entry->lock_refs;
    if (entry->lock_refs)
        entry->lock_refs->prev = lock_ref;
    entry->lock_refs = lock_ref;
}

static void lock_ref_unlink(struct aiofs_lock_ref *lock_ref)
{
    if (lock_ref->prev)
        lock_ref->prev->next = lock_ref->next;
    else
        lock_ref->entry->lock_refs = lock_ref->next;
    if (lock_ref->next)
        lock_ref->next->prev = lock_ref->prev;
}

int aiofs_lock_ref_take_locked(aiofs_volume *volume, const struct aiofs_canonical *canonical, enum aiofs_lock lock,
                               const void *owner, aiofs_lock_ref **out)
{
    struct aiofs_tree *tree = volume->tree;
    struct aiofs_lock_ref *lock_ref = calloc(1, sizeof *lock_ref);
    struct aiofs_entry *entry = lock_ref ? aiofs_entry_make_locked(tree, canonical) : NULL;
    int status = entry ? lock_entry(tree, entry, lock, owner) : -ENOMEM;
    if (status < 0) {
        if (entry)
            aiofs_entry_free_if_unused_locked(tree, entry);
        free(lock_ref);
        return status;
    }
    aiofs_volume_retain(volume);
    lock_ref->volume = volume;
    lock_ref->lock = lock;
    lock_ref->unsynced = aiofs_dir_sync_outstanding_locked(tree);
    lock_ref_link(entry, lock_ref);
    *out = lock_ref;
    return 0;
}

int aiofs_lock_ref_take_at(aiofs_volume *volume, const struct aiofs_canonical *canonical, enum aiofs_lock lock,
                           const void *owner, aiofs_lock_ref **lock_ref)
{
    struct aiofs_patience patience = {0};
    int status = aiofs_tree_prepare(volume->tree, lock != AIOFS_LOCK_NONE && !(volume->flags & AIOFS_VOLUME_READ_ONLY));
    if (status < 0)
        return status;
    aiofs_namespace_lock();
    do
        status = aiofs_acquisition_abandoned_locked()
                     ? -ECANCELED
                     : aiofs_lock_ref_take_locked(volume, canonical, lock, owner, lock_ref);
    while (status == -EBUSY && aiofs_releasing_wait_locked(volume->tree, canonical, lock, &patience));
    if (status == 0)
        aiofs_acquisition_done_locked(*lock_ref);
    aiofs_namespace_unlock();
    return status;
}

/* Takes an exclusive lock for one call: a temporary lock reference. It does not create .aiofs: the caller has called
 * aiofs_tree_prepare or aiofs_absence_claim. */
int aiofs_lock_ref_take_temporary(aiofs_volume *volume, const struct aiofs_canonical *canonical, const void *owner,
                                  aiofs_lock_ref **lock_ref)
{
    struct aiofs_patience patience = {0};
    int status = aiofs_tree_prepare(volume->tree, false);
    if (status < 0)
        return status;
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

void aiofs_lock_ref_unlock(aiofs_lock_ref *lock_ref)
{
    aiofs_swap_end(lock_ref);
    aiofs_namespace_lock();
    if (!lock_ref->lost)
        unlock_entry(lock_ref->volume->tree, lock_ref->entry, lock_ref->lock);
    if (lock_ref->releasing)
        aiofs_releasing_remove_locked(lock_ref->volume->tree, lock_ref->entry);
    lock_ref->releasing = false;
    lock_ref->lock = AIOFS_LOCK_NONE;
    lock_ref->closed = true;
    if (lock_ref->charge)
        aiofs_charge_unlocked_locked(lock_ref->volume, lock_ref->charge);
    aiofs_namespace_unlock();
}

void aiofs_lock_ref_release(aiofs_lock_ref *lock_ref)
{
    aiofs_volume *volume;
    if (!lock_ref)
        return;
    aiofs_swap_end(lock_ref);
    aiofs_namespace_lock();
    volume = lock_ref->volume;
    lock_ref_unlink(lock_ref);
    if (!lock_ref->lost)
        unlock_entry(volume->tree, lock_ref->entry, lock_ref->lock);
    if (lock_ref->releasing)
        aiofs_releasing_remove_locked(volume->tree, lock_ref->entry);
    if (lock_ref->acquisition)
        lock_ref->acquisition->lock_ref = NULL;
    if (lock_ref->charge) {
        if (lock_ref->entry->charge == lock_ref->charge && lock_ref->charge->refs == 1)
            lock_ref->entry->charge = NULL;
        aiofs_charge_release_locked(volume, lock_ref->charge);
    }
    aiofs_entry_free_if_unused_locked(volume->tree, lock_ref->entry);
    aiofs_namespace_unlock();
    free(lock_ref);
    aiofs_volume_release(volume);
}

/* Moves a lock reference to another entry, because its file was renamed. The entry `to` is locked in a mode, and by an
 * owner, with which the lock reference can share. */
void aiofs_lock_ref_move_locked(aiofs_lock_ref *lock_ref, struct aiofs_entry *to)
{
    struct aiofs_tree *tree = lock_ref->volume->tree;
    struct aiofs_entry *from = lock_ref->entry;
    lock_ref_unlink(lock_ref);
    lock_ref_link(to, lock_ref);
    if (!lock_ref->lost && lock_ref->lock != AIOFS_LOCK_NONE) {
        to->locks++;
        unlock_entry(tree, from, lock_ref->lock);
    }
    if (lock_ref->releasing) {
        aiofs_releasing_add_locked(tree, to);
        aiofs_releasing_remove_locked(tree, from);
    }
    aiofs_entry_free_if_unused_locked(tree, from);
}

aiofs_volume *aiofs_lock_ref_volume(const aiofs_lock_ref *lock_ref)
{
    return lock_ref->volume;
}

_Atomic int64_t *aiofs_lock_ref_write_backoff(aiofs_lock_ref *lock_ref)
{
    return &lock_ref->volume->tree->write_backoff;
}

struct aiofs_limiter *aiofs_lock_ref_limiter(aiofs_lock_ref *lock_ref)
{
    return &lock_ref->volume->limiter;
}

void aiofs_lock_ref_changed(aiofs_lock_ref *lock_ref)
{
    if (lock_ref->swap)
        aiofs_swap_changed(lock_ref->swap);
    else
        aiofs_generation_increment(lock_ref);
}

/* ---- counting open lock references -------------------------------------------------------------------- */

static long count_open(const struct aiofs_entry *entry)
{
    long count = 0;
    for (const struct aiofs_lock_ref *lock_ref = entry->lock_refs; lock_ref; lock_ref = lock_ref->next)
        count += !lock_ref->lost && !lock_ref->closed;
    return count;
}

long aiofs_volume_lock_count(aiofs_volume *volume, const char *path)
{
    struct aiofs_canonical top;
    struct aiofs_tree *tree = volume->tree;
    long count = 0;
    int status = aiofs_path_resolve(volume, path, true, &top);
    if (status < 0) /* it is gone, and what is open in it is known by the path as it is given */
        status = aiofs_path_normalize(path, &top);
    if (status < 0)
        return status;
    aiofs_namespace_lock();
    for (size_t i = 0; i < tree->bucket_count; i++) {
        for (const struct aiofs_entry *entry = tree->buckets[i]; entry; entry = entry->next) {
            bool itself = entry->length == top.length && memcmp(entry->path, top.path, top.length) == 0;
            if (itself || aiofs_path_below(entry->path, entry->length, top.path, top.length))
                count += count_open(entry);
        }
    }
    aiofs_namespace_unlock();
    return count;
}

/* ---- fork ----------------------------------------------------------------------------------------------- */

void aiofs_volume_fork_prepare(void)
{
    aiofs_opening_lock();
    aiofs_namespace_lock();
}

void aiofs_volume_fork_parent(void)
{
    aiofs_namespace_unlock();
    aiofs_opening_unlock();
}

static void entry_mark_lost(struct aiofs_entry *entry)
{
    entry->lock = AIOFS_LOCK_NONE;
    entry->locks = entry->releasing = 0;
    entry->owner = NULL;
    entry->charge = NULL;
    for (struct aiofs_lock_ref *lock_ref = entry->lock_refs; lock_ref; lock_ref = lock_ref->next) {
        lock_ref->lost = true;
        lock_ref->releasing = false;
        if (lock_ref->charge)
            lock_ref->charge->orphan = false; /* the parent subtracts the bytes from the usage count */
    }
}

void aiofs_volume_fork_child(void)
{
    for (struct aiofs_tree *tree = aiofs_trees; tree; tree = tree->next) {
        for (unsigned i = 0; i < AIOFS_LOCK_FILES; i++) {
            if (tree->lock_files[i] >= 0)
                aiofs_sys.close(tree->lock_files[i]);
            tree->lock_files[i] = -1;
        }
        if (tree->presence >= 0)
            aiofs_sys.close(tree->presence);
        tree->presence = tree->account = -1;
        atomic_store(&tree->swaps, 0);
        for (size_t i = 0; i < tree->bucket_count; i++)
            for (struct aiofs_entry *entry = tree->buckets[i]; entry; entry = entry->next)
                entry_mark_lost(entry);
    }
    aiofs_releasing_fork_child();
    aiofs_quota_fork_child();
    aiofs_volume_fork_parent();
}
