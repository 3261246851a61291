/*
 * quota.c - how many bytes the files of a volume have, and refusing growth over the quota.
 *
 * The usage count is one number, in a page that all processes share that have the volume open. It is the sum of the
 * sizes of all files, holes included. Until a process opens the volume with a quota, nothing updates the count; then a
 * walk over the tree initialises it, and every process charges growth before it writes: all of it, or none. Changes
 * that bypass aiofs are found by the next walk: by `estimate`, or when a process opens the volume while no other has it
 * open.
 *
 * A charge is how much of an open file's size is in the usage count, so that concurrent requests on one file pay for
 * the same bytes once. The lock references of a file share its charge. A file that is unlinked while it is open keeps
 * its bytes charged until the last of its lock references is released. The namespace lock guards the charges. The usage
 * count is atomic, because other processes change it too.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "sys.h"
#include "volume_internal.h"

/* ---- the usage count ------------------------------------------------------------------------------------ */

static int add_size(const struct aiofs_found *found, void *context)
{
    struct stat status;
    int64_t *sum = context;
    if (found->is_directory)
        return 0;
    int error = aiofs_sys.fstatat(found->directory, found->name, &status, AT_SYMLINK_NOFOLLOW);
    if (error == 0 && S_ISREG(status.st_mode))
        *sum += status.st_size;
    return error == -ENOENT ? 0 : error;
}

static int count(const struct aiofs_tree *tree, int64_t *sum)
{
    *sum = 0;
    return aiofs_tree_walk(tree, "", add_size, sum);
}

void aiofs_quota_start(struct aiofs_tree *tree)
{
    atomic_store(&tree->tally->counted, 1);
}

/* Initialises the usage count by a walk, if no process has done so. */
static int counted_once(struct aiofs_tree *tree)
{
    int64_t unknown = -1, sum;
    if (atomic_load(&tree->tally->usage) >= 0)
        return 0;
    int status = count(tree, &sum);
    if (status == 0)
        atomic_compare_exchange_strong(&tree->tally->usage, &unknown, sum);
    return status;
}

void aiofs_quota_prepare(struct aiofs_tree *tree)
{
    if (aiofs_quota_counted(tree))
        counted_once(tree);
}

static int reserve(struct aiofs_tree *tree, int64_t growth, int64_t quota)
{
    int64_t usage = atomic_load(&tree->tally->usage);
    do {
        if (quota >= 0 && growth > quota - usage)
            return -EDQUOT;
    } while (!atomic_compare_exchange_weak(&tree->tally->usage, &usage, usage + growth));
    return 0;
}

/* The count does not fall below zero, as it could where a program truncated files without aiofs. */
static void unreserve(struct aiofs_tree *tree, int64_t bytes)
{
    int64_t usage = atomic_load(&tree->tally->usage), less;
    do {
        if (usage < 0)
            return;
        less = usage > bytes ? usage - bytes : 0;
    } while (!atomic_compare_exchange_weak(&tree->tally->usage, &usage, less));
}

int aiofs_volume_estimate(aiofs_volume *volume, int64_t *usage, int64_t *quota)
{
    struct aiofs_tree *tree = volume->tree;
    *quota = volume->quota;
    if (tree->root < 0)
        return -ENOSYS;
    int64_t before = tree->tally ? atomic_load(&tree->tally->usage) : -1;
    int status = count(tree, usage);
    if (status == 0 && aiofs_quota_counted(tree)) /* unless a process changed the count during the walk */
        atomic_compare_exchange_strong(&tree->tally->usage, &before, *usage);
    return status;
}

/* ---- charges -------------------------------------------------------------------------------------------- */

static struct aiofs_charge *charge_of(struct aiofs_entry *entry)
{
    if (!entry->charge && (entry->charge = calloc(1, sizeof *entry->charge)))
        entry->charge->size = -1;
    return entry->charge;
}

static bool attach_charge(struct aiofs_lock_ref *lock_ref)
{
    if (!lock_ref->charge && (lock_ref->charge = charge_of(lock_ref->entry)))
        lock_ref->charge->refs++;
    return lock_ref->charge != NULL;
}

void aiofs_charge_release_locked(struct aiofs_tree *tree, struct aiofs_charge *charge)
{
    if (--charge->refs > 0)
        return;
    if (charge->orphan && charge->size > charge->base)
        unreserve(tree, charge->size - charge->base);
    free(charge);
}

/* Raises a charge to the file's present size. Growth since the last charge is added to the usage count only under an
 * exclusive lock: under another lock, another process may have charged it already. */
static void catch_up(struct aiofs_lock_ref *lock_ref, int64_t current)
{
    struct aiofs_charge *charge = lock_ref->charge;
    if (charge->size >= 0 && current > charge->size && (lock_ref->lock == AIOFS_LOCK_EXCLUSIVE || charge->swap))
        reserve(lock_ref->volume->tree, current - charge->size, -1);
    if (current > charge->size)
        charge->size = current;
}

static int charge_locked(struct aiofs_lock_ref *lock_ref, int64_t current, int64_t size)
{
    if (!attach_charge(lock_ref))
        return -ENOMEM;
    catch_up(lock_ref, current);
    if (size <= lock_ref->charge->size)
        return 0;
    int status = reserve(lock_ref->volume->tree, size - lock_ref->charge->size, lock_ref->volume->quota);
    if (status == 0)
        lock_ref->charge->size = size;
    return status;
}

bool aiofs_lock_ref_has_quota(const aiofs_lock_ref *lock_ref)
{
    return aiofs_quota_counted(lock_ref->volume->tree);
}

int aiofs_lock_ref_charge(aiofs_lock_ref *lock_ref, int64_t current, int64_t size)
{
    if (!aiofs_lock_ref_has_quota(lock_ref))
        return 0;
    int status = counted_once(lock_ref->volume->tree);
    if (status < 0)
        return status;
    aiofs_namespace_lock();
    status = charge_locked(lock_ref, current, size);
    aiofs_namespace_unlock();
    return status;
}

void aiofs_lock_ref_uncharge(aiofs_lock_ref *lock_ref, int64_t size)
{
    if (!aiofs_lock_ref_has_quota(lock_ref))
        return;
    aiofs_namespace_lock();
    if (lock_ref->charge && size < lock_ref->charge->base)
        size = lock_ref->charge->base;
    if (lock_ref->charge && lock_ref->charge->size > size) {
        unreserve(lock_ref->volume->tree, lock_ref->charge->size - size);
        lock_ref->charge->size = size;
    }
    aiofs_namespace_unlock();
}

void aiofs_lock_ref_wrote(aiofs_lock_ref *lock_ref, int64_t size)
{
    if (!aiofs_lock_ref_has_quota(lock_ref))
        return;
    aiofs_namespace_lock();
    if (lock_ref->charge)
        catch_up(lock_ref, size);
    aiofs_namespace_unlock();
}

/* ---- swap files ------------------------------------------------------------------------------------------- */

int aiofs_quota_swap_begin(aiofs_lock_ref *lock_ref, int64_t base)
{
    struct aiofs_charge *charge = calloc(1, sizeof *charge);
    if (!charge)
        return -ENOMEM;
    *charge = (struct aiofs_charge){.refs = 1, .orphan = true, .swap = true, .size = base, .base = base};
    aiofs_namespace_lock();
    lock_ref->charge = charge;
    aiofs_namespace_unlock();
    return 0;
}

int aiofs_quota_swap_charge(aiofs_lock_ref *lock_ref, int64_t old, int64_t size)
{
    struct aiofs_tree *tree = lock_ref->volume->tree;
    int status = aiofs_lock_ref_has_quota(lock_ref) ? counted_once(tree) : 0;
    if (status < 0 || !aiofs_lock_ref_has_quota(lock_ref))
        return status;
    aiofs_namespace_lock();
    struct aiofs_charge *charge = lock_ref->charge;
    int64_t missing = size - old - (charge->size - charge->base);
    if (missing > 0)
        status = reserve(tree, missing, lock_ref->volume->quota);
    if (missing > 0 && status == 0)
        charge->size += missing;
    aiofs_namespace_unlock();
    return status;
}

/* The usage count has the old file and what was charged for the swap file beyond its base. */
void aiofs_quota_swap_end(aiofs_lock_ref *lock_ref, int64_t old, int64_t size)
{
    struct aiofs_tree *tree = lock_ref->volume->tree;
    if (!aiofs_lock_ref_has_quota(lock_ref))
        return;
    aiofs_namespace_lock();
    struct aiofs_charge *charge = lock_ref->charge;
    int64_t excess = old + (charge->size - charge->base) - size;
    if (excess > 0)
        unreserve(tree, excess);
    else
        reserve(tree, -excess, -1);
    charge->size = charge->base;
    aiofs_namespace_unlock();
}

/* ---- truncated and unlinked files ------------------------------------------------------------------------- */

/* A file of `before` bytes was truncated to 0 as it was opened. */
void aiofs_quota_truncated_locked(struct aiofs_tree *tree, struct aiofs_entry *entry, int64_t before)
{
    if (entry->charge && entry->charge->size >= 0) {
        before = entry->charge->size;
        entry->charge->size = 0;
    }
    unreserve(tree, before);
}

/* A file of `size` bytes was unlinked: subtracts its bytes from the usage count at the release of its last lock
 * reference, or now if it has none. `entry` may be NULL. */
void aiofs_quota_unnamed_locked(struct aiofs_tree *tree, struct aiofs_entry *entry, int64_t size)
{
    bool open = false;
    for (struct aiofs_lock_ref *lock_ref = entry ? entry->lock_refs : NULL; lock_ref; lock_ref = lock_ref->next) {
        bool older = lock_ref->charge && lock_ref->charge != entry->charge; /* of an earlier file of this name */
        if (lock_ref->lock != AIOFS_LOCK_NONE && !lock_ref->temporary && !lock_ref->lost && !older)
            open |= attach_charge(lock_ref);
    }
    if (!open) {
        unreserve(tree, size);
        return;
    }
    if (entry->charge->size < size)
        entry->charge->size = size;
    entry->charge->orphan = true;
    entry->charge = NULL;
}
