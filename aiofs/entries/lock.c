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
 * Renames. A file that is renamed while it is open stays locked under both paths: its lock reference moves to the new
 * entry, and leaves another one on the old entry, which ends with it.
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
#include "wait_table.h"

/* ---- locks in the process ------------------------------------------------------------------------------ */

static bool may_share(const struct aiofs_entry *entry, enum aiofs_lock lock, const void *owner)
{
    if (entry->lock == AIOFS_LOCK_NONE)
        return true;
    if (aiofs_excludes_all(lock) && aiofs_excludes_all(entry->lock))
        return owner && entry->owner == owner;
    return entry->lock == lock;
}

/* Whether the lock would pass somebody who waits for the entry. What the owner of an exclusive lock opens once more
 * passes nobody, because the owner has the lock anyway. */
static bool passes_queue(struct aiofs_tree *tree, const struct aiofs_entry *entry, enum aiofs_lock lock, uint64_t ticket)
{
    if (entry->locks > 0 && lock == AIOFS_LOCK_EXCLUSIVE)
        return false;
    return aiofs_waits_before_locked(tree, entry->hash, ticket, 1) > 0;
}

static int lock_entry(struct aiofs_tree *tree, struct aiofs_entry *entry, enum aiofs_lock lock, const void *owner,
                      uint64_t ticket)
{
    if (lock == AIOFS_LOCK_NONE)
        return 0;
    if (!may_share(entry, lock, owner) || passes_queue(tree, entry, lock, ticket))
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
    entry->charge = NULL; /* lock references that are closed keep it; for who locks next, others may change the file first */
    aiofs_bytes_release(tree, entry->hash);
    aiofs_waits_released_locked(tree, entry->hash);
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

int aiofs_lock_ref_take_turn_locked(aiofs_volume *volume, const struct aiofs_canonical *canonical, enum aiofs_lock lock,
                                    const void *owner, uint64_t ticket, aiofs_lock_ref **out)
{
    struct aiofs_tree *tree = volume->tree;
    struct aiofs_lock_ref *lock_ref = calloc(1, sizeof *lock_ref);
    struct aiofs_entry *entry = lock_ref ? aiofs_entry_make_locked(tree, canonical) : NULL;
    int status = entry ? lock_entry(tree, entry, lock, owner, ticket) : -ENOMEM;
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

int aiofs_lock_ref_take_locked(aiofs_volume *volume, const struct aiofs_canonical *canonical, enum aiofs_lock lock,
                               const void *owner, aiofs_lock_ref **out)
{
    return aiofs_lock_ref_take_turn_locked(volume, canonical, lock, owner, WAIT_NEWCOMER, out);
}

/* Takes the lock reference out of the table of holders: it is about to be unlocked. */
static void unlist(aiofs_lock_ref *lock_ref)
{
    struct aiofs_tree *tree = lock_ref->volume->tree;
    aiofs_waits_unlocking_locked(tree, lock_ref);
    aiofs_waits_unhold_locked(tree, lock_ref);
}

static void unlock_locked(aiofs_lock_ref *lock_ref)
{
    struct aiofs_tree *tree = lock_ref->volume->tree;
    unlist(lock_ref);
    if (!lock_ref->lost)
        unlock_entry(tree, lock_ref->entry, lock_ref->lock);
    if (lock_ref->releasing)
        aiofs_releasing_remove_locked(tree, lock_ref->entry);
    lock_ref->releasing = false;
    lock_ref->lock = AIOFS_LOCK_NONE;
    lock_ref->closed = true;
}

void aiofs_lock_ref_unlock(aiofs_lock_ref *lock_ref)
{
    aiofs_swap_end(lock_ref);
    aiofs_namespace_lock();
    for (aiofs_lock_ref *each = lock_ref; each; each = each->left)
        unlock_locked(each);
    if (lock_ref->charge)
        aiofs_charge_unlocked_locked(lock_ref->volume, lock_ref->charge);
    aiofs_namespace_unlock();
}

/* Releases one lock reference, and returns the one that it left on another path. */
static aiofs_lock_ref *release_one(aiofs_lock_ref *lock_ref)
{
    aiofs_volume *volume = lock_ref->volume;
    aiofs_lock_ref *left = lock_ref->left;
    aiofs_namespace_lock();
    lock_ref_unlink(lock_ref);
    unlock_locked(lock_ref);
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
    return left;
}

void aiofs_lock_ref_release(aiofs_lock_ref *lock_ref)
{
    if (lock_ref)
        aiofs_swap_end(lock_ref);
    while (lock_ref)
        lock_ref = release_one(lock_ref);
}

/* Leaves a lock reference on the entry that the open file has been renamed away from, with its share of the lock. */
static bool leave_behind(aiofs_lock_ref *lock_ref, struct aiofs_entry *from)
{
    aiofs_lock_ref *left = calloc(1, sizeof *left);
    if (!left)
        return false;
    left->volume = lock_ref->volume;
    left->lock = lock_ref->lock;
    left->temporary = true;
    left->left = lock_ref->left;
    lock_ref->left = left;
    aiofs_volume_retain(left->volume);
    lock_ref_link(from, left);
    aiofs_waits_hold_locked(left->volume->tree, left);
    if (lock_ref->releasing)
        aiofs_releasing_mark_locked(left);
    return true;
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
        aiofs_waits_unhold_locked(tree, lock_ref);
        aiofs_waits_hold_locked(tree, lock_ref);
        to->locks++;
        if (!leave_behind(lock_ref, from))
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

struct aiofs_write_backoff *aiofs_lock_ref_write_backoff(aiofs_lock_ref *lock_ref)
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
    aiofs_lock_files_fork_prepare();
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
        lock_ref->slot = 0;
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
        aiofs_waits_fork_child(tree);
        atomic_store(&tree->swaps, 0);
        atomic_store(&tree->exchanging, 0);
        for (size_t i = 0; i < tree->bucket_count; i++)
            for (struct aiofs_entry *entry = tree->buckets[i]; entry; entry = entry->next)
                entry_mark_lost(entry);
    }
    aiofs_releasing_fork_child();
    aiofs_quota_fork_child();
    aiofs_volume_fork_parent();
}
