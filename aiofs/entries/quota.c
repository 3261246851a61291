/*
 * quota.c - how many bytes a volume holds, and refusing more.
 *
 * The tally is one number for all processes that have the volume open, in a page they share. It counts
 * the sizes of all files, holes included; it starts by a walk over the tree, and nobody keeps it up until
 * somebody opens the volume with a quota. From then on everybody charges growth before writing: whole, or
 * not at all. What a stranger does to the files is found at the next count: `estimate`, or the first use
 * by a process that has the volume to itself.
 *
 * A charge says how much of a file's size is in the tally, so that requests in flight together pay for the
 * same bytes once. The holds of one file share it; a file that loses its name while it is open keeps its
 * bytes charged until its last hold goes. Charges are guarded by the namespace lock; the tally is atomic,
 * as other processes change it too.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "sys.h"
#include "volume_internal.h"

/* ---- the tally ------------------------------------------------------------------------------------------ */

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

/* Counts the tree if nobody has yet. */
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

static int reserve(struct aiofs_tree *tree, int64_t growth, int64_t quota)
{
    int64_t usage = atomic_load(&tree->tally->usage);
    do {
        if (quota >= 0 && growth > quota - usage)
            return -EDQUOT;
    } while (!atomic_compare_exchange_weak(&tree->tally->usage, &usage, usage + growth));
    return 0;
}

/* Never below zero, where strangers made files shorter behind our back. */
static void give_back(struct aiofs_tree *tree, int64_t bytes)
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
    if (status == 0 && aiofs_quota_counted(tree)) /* unless something was charged on the way */
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

static bool attach_charge(struct aiofs_hold *hold)
{
    if (!hold->charge && (hold->charge = charge_of(hold->entry)))
        hold->charge->refs++;
    return hold->charge != NULL;
}

void aiofs_charge_release_locked(struct aiofs_tree *tree, struct aiofs_charge *charge)
{
    if (--charge->refs > 0)
        return;
    if (charge->orphan && charge->size > 0)
        give_back(tree, charge->size);
    free(charge);
}

/* Brings a charge up to what the file is now. Only under an exclusive lock is what it grew by meanwhile
 * known to be uncounted: elsewhere another process may have charged it. */
static void catch_up(struct aiofs_hold *hold, int64_t current)
{
    struct aiofs_charge *charge = hold->charge;
    if (charge->size >= 0 && current > charge->size && hold->lock == AIOFS_LOCK_EXCLUSIVE)
        reserve(hold->volume->tree, current - charge->size, -1);
    if (current > charge->size)
        charge->size = current;
}

static int charge_locked(struct aiofs_hold *hold, int64_t current, int64_t size)
{
    if (!attach_charge(hold))
        return -ENOMEM;
    catch_up(hold, current);
    if (size <= hold->charge->size)
        return 0;
    int status = reserve(hold->volume->tree, size - hold->charge->size, hold->volume->quota);
    if (status == 0)
        hold->charge->size = size;
    return status;
}

bool aiofs_hold_has_quota(const aiofs_hold *hold)
{
    return aiofs_quota_counted(hold->volume->tree);
}

int aiofs_hold_charge(aiofs_hold *hold, int64_t current, int64_t size)
{
    if (!aiofs_hold_has_quota(hold))
        return 0;
    int status = counted_once(hold->volume->tree);
    if (status < 0)
        return status;
    aiofs_namespace_lock();
    status = charge_locked(hold, current, size);
    aiofs_namespace_unlock();
    return status;
}

void aiofs_hold_settle(aiofs_hold *hold, int64_t size)
{
    if (!aiofs_hold_has_quota(hold))
        return;
    aiofs_namespace_lock();
    if (hold->charge && hold->charge->size > size) {
        give_back(hold->volume->tree, hold->charge->size - size);
        hold->charge->size = size;
    }
    aiofs_namespace_unlock();
}

/* ---- changes of the tree ---------------------------------------------------------------------------------- */

/* A file of `before` bytes was cut to nothing as it was opened. */
void aiofs_quota_cut_locked(struct aiofs_tree *tree, struct aiofs_entry *entry, int64_t before)
{
    if (entry->charge && entry->charge->size >= 0) {
        before = entry->charge->size;
        entry->charge->size = 0;
    }
    give_back(tree, before);
}

/* A file of `size` bytes lost its name: its bytes are given back with the last hold, or at once if there is
 * none. `entry` may be NULL. */
void aiofs_quota_unnamed_locked(struct aiofs_tree *tree, struct aiofs_entry *entry, int64_t size)
{
    bool open = false;
    for (struct aiofs_hold *hold = entry ? entry->holds : NULL; hold; hold = hold->next) {
        bool older = hold->charge && hold->charge != entry->charge; /* of a file that had the name before */
        if (hold->lock != AIOFS_LOCK_NONE && !hold->stays && !hold->lost && !older)
            open |= attach_charge(hold);
    }
    if (!open) {
        give_back(tree, size);
        return;
    }
    if (entry->charge->size < size)
        entry->charge->size = size;
    entry->charge->orphan = true;
    entry->charge = NULL;
}
