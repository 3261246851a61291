/*
 * quota.c - how many bytes the files of a volume have, reserving capacity, and refusing growth over the quota.
 *
 * The usage count is one number, in a page that all processes share that have the volume open. It is the sum of the
 * sizes of all files, holes included, and of what the processes have in their accounts; see account.c. Until a process
 * opens the volume with a quota, or reserves capacity, nothing updates the count; then a walk over the tree initialises
 * it, and every process charges growth before it writes: all of it, or none. Changes that bypass aiofs are found by the
 * next walk: by `estimate`, after a process died during a change, or when a process opens the volume while no other has
 * it open. A file with several names (hard links) counts once for each of them; a change of its size through one name
 * is charged once only. So the count of a volume with such a file is inexact, and a refusal is preceded by a walk. The
 * sum of a walk becomes the count only if no size changed through aiofs meanwhile.
 *
 * A charge is how much of an open file's size is in the usage count, so that concurrent requests on one file pay for
 * the same bytes once. The lock references of a file share its charge. A file that is unlinked while it is open keeps
 * its bytes charged, as a number in the account, until the last of its lock references is released.
 *
 * Capacity that a volume reserved is in the usage count already. Growth of its files uses it first, which changes the
 * account and not the count. What it drew goes back to the reservation when files shrink or are removed.
 *
 * The namespace lock guards the charges and the capacity of the volumes. The numbers in the shared page are atomic,
 * because other processes change them too.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>

#include "cached.h"
#include "volume_internal.h"

#define EXACT_TRIES 20 /* walks, 1 ms apart, before the first count is taken as it is */

static unsigned forks; /* of this process's ancestors, since the library was loaded */

/* ---- the usage count ------------------------------------------------------------------------------------ */

struct counting {
    int64_t sum;
    bool linked; /* a file has several names */
};

static int add_size(const struct aiofs_found *found, void *context)
{
    struct stat status;
    struct counting *counting = context;
    if (found->is_directory)
        return 0;
    int error = aiofs_sys.fstatat(found->directory, found->name, &status, AT_SYMLINK_NOFOLLOW);
    if (error == 0 && S_ISREG(status.st_mode))
        counting->sum += status.st_size;
    counting->linked |= error == 0 && S_ISREG(status.st_mode) && status.st_nlink > 1;
    return error == -ENOENT ? 0 : error;
}

static int count(const struct aiofs_tree *tree, struct counting *counting)
{
    *counting = (struct counting){0};
    return aiofs_tree_walk(tree, "", add_size, counting, true);
}

/* Counts, and makes the sum the usage count. -EAGAIN: sizes changed meanwhile, and the usage count is what it was. */
static int recount(struct aiofs_tree *tree, int64_t *sum)
{
    struct aiofs_tally *tally = tree->tally;
    uint32_t changes = atomic_load(&tally->changes);
    bool settled = aiofs_sizes_settled(tree);
    int64_t before = atomic_load(&tally->usage);
    struct counting counting;
    int status = count(tree, &counting);
    if (status < 0)
        return status;
    *sum = counting.sum;
    int64_t usage = *sum + aiofs_accounts_sum(tree);
    if (!settled || atomic_load(&tally->changes) != changes)
        return -EAGAIN;
    atomic_fetch_add(&tally->recounts, 1);
    if (!atomic_compare_exchange_strong(&tally->usage, &before, usage))
        return -EAGAIN;
    atomic_store(&tally->inexact, counting.linked);
    return 0;
}

/* Initialises the usage count by a walk, if no process has done so. */
static int counted_once(struct aiofs_tree *tree)
{
    const struct timespec pause = {0, 1000000};
    int64_t unknown = -1, sum = 0;
    int status = 0;
    for (int i = 0; i < EXACT_TRIES && atomic_load(&tree->tally->usage) < 0; i++) {
        status = recount(tree, &sum);
        if (status != -EAGAIN)
            return status;
        nanosleep(&pause, NULL);
    }
    if (atomic_compare_exchange_strong(&tree->tally->usage, &unknown, sum + aiofs_accounts_sum(tree)))
        atomic_store(&tree->tally->inexact, 1);
    return 0;
}

void aiofs_quota_start(struct aiofs_tree *tree)
{
    atomic_store(&tree->tally->counted, 1);
}

void aiofs_quota_prepare(struct aiofs_tree *tree)
{
    if (aiofs_quota_counted(tree) && atomic_load(&tree->tally->usage) < 0 && !cached_refuse())
        counted_once(tree);
}

static int usage_add(struct aiofs_tree *tree, int64_t growth, int64_t quota)
{
    int64_t usage = atomic_load(&tree->tally->usage);
    do {
        if (growth > (quota >= 0 ? quota : INT64_MAX) - usage)
            return -EDQUOT;
    } while (!atomic_compare_exchange_weak(&tree->tally->usage, &usage, usage + growth));
    return 0;
}

/* After a refusal: whether the usage count was too high, because a process has died. */
static bool found_dead(struct aiofs_tree *tree)
{
    int64_t sum;
    aiofs_namespace_lock();
    bool found = aiofs_accounts_settle_locked(tree);
    aiofs_namespace_unlock();
    return (atomic_load(&tree->tally->inexact) && recount(tree, &sum) == 0) || found;
}

int aiofs_volume_estimate(aiofs_volume *volume, int64_t *usage, int64_t *quota)
{
    struct aiofs_tree *tree = volume->tree;
    *quota = volume->quota;
    if (tree->root < 0)
        return -ENOSYS;
    if (!aiofs_quota_counted(tree)) {
        struct counting counting;
        int counted = count(tree, &counting);
        *usage = counting.sum;
        return counted;
    }
    aiofs_namespace_lock();
    aiofs_accounts_settle_locked(tree);
    aiofs_namespace_unlock();
    int status = recount(tree, usage);
    return status == -EAGAIN ? 0 : status;
}

/* ---- reserved capacity --------------------------------------------------------------------------------- */

/* Forgets, in a forked child, what the parent reserved. */
static void forget_inherited_locked(aiofs_volume *volume)
{
    if (volume->forks != forks)
        volume->capacity = volume->drawn = 0;
    volume->forks = forks;
}

void aiofs_quota_fork_child(void)
{
    forks++;
}

/* Moves bytes between the reservation and what is not reserved; the usage count contains both. */
static void change_capacity_locked(aiofs_volume *volume, int64_t bytes)
{
    struct aiofs_account *account = aiofs_account_locked(volume->tree);
    volume->capacity += bytes;
    if (account)
        atomic_fetch_add(&account->reserved, bytes);
}

static int request_locked(aiofs_volume *volume, int64_t bytes)
{
    if (!aiofs_account_locked(volume->tree)) /* nobody could give the capacity back if this process died */
        return -EAGAIN;
    aiofs_change_begin_locked(volume->tree);
    int status = usage_add(volume->tree, bytes, volume->quota);
    if (status == 0)
        change_capacity_locked(volume, bytes);
    aiofs_change_end_locked(volume->tree);
    return status;
}

static int release_locked(aiofs_volume *volume, int64_t bytes)
{
    if (bytes > volume->capacity)
        return -ERANGE;
    aiofs_change_begin_locked(volume->tree);
    change_capacity_locked(volume, -bytes);
    aiofs_usage_subtract(volume->tree->tally, bytes);
    aiofs_change_end_locked(volume->tree);
    return 0;
}

static int64_t change_reservation(aiofs_volume *volume, int64_t bytes, int (*change)(aiofs_volume *, int64_t))
{
    struct aiofs_tree *tree = volume->tree;
    int64_t capacity = 0;
    aiofs_quota_start(tree);
    int status = counted_once(tree);
    for (int tries = 0; status == 0; tries++) {
        aiofs_namespace_lock();
        forget_inherited_locked(volume);
        status = bytes ? change(volume, bytes) : 0;
        capacity = volume->capacity;
        aiofs_namespace_unlock();
        if (status != -EDQUOT || tries > 0 || !found_dead(tree))
            break;
        status = 0;
    }
    return status < 0 ? status : capacity;
}

int64_t aiofs_quota_request(aiofs_volume *volume, int64_t bytes)
{
    return change_reservation(volume, bytes, request_locked);
}

int64_t aiofs_quota_release(aiofs_volume *volume, int64_t bytes)
{
    return change_reservation(volume, bytes, release_locked);
}

void aiofs_quota_close(aiofs_volume *volume)
{
    aiofs_namespace_lock();
    forget_inherited_locked(volume);
    if (volume->capacity > 0)
        release_locked(volume, volume->capacity);
    aiofs_namespace_unlock();
}

/* Charges growth: what is reserved first, and the rest to the quota. */
static int draw_locked(aiofs_volume *volume, int64_t growth)
{
    forget_inherited_locked(volume);
    int64_t reserved = growth < volume->capacity ? growth : volume->capacity;
    int status = usage_add(volume->tree, growth - reserved, volume->quota);
    if (status == 0 && reserved > 0) {
        change_capacity_locked(volume, -reserved);
        volume->drawn += reserved;
    }
    return status;
}

/* Files have shrunk: what their growth drew from the reservation goes back to it, the rest to the quota. */
static void give_back_locked(aiofs_volume *volume, int64_t bytes)
{
    forget_inherited_locked(volume);
    int64_t kept = bytes < volume->drawn ? bytes : volume->drawn;
    if (kept > 0) {
        volume->drawn -= kept;
        change_capacity_locked(volume, kept);
    }
    aiofs_usage_subtract(volume->tree->tally, bytes - kept);
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

/* Sets how much of the file's size is charged. An unnamed file's bytes are in the account. */
static void set_size_locked(struct aiofs_tree *tree, struct aiofs_charge *charge, int64_t size)
{
    struct aiofs_account *account = charge->orphan ? aiofs_account_locked(tree) : NULL;
    if (account)
        atomic_fetch_add(&account->unnamed, size - charge->size);
    charge->size = size;
}

static void end_orphan_locked(aiofs_volume *volume, struct aiofs_charge *charge)
{
    int64_t excess = charge->size - charge->base;
    if (!charge->orphan || excess <= 0)
        return;
    aiofs_change_begin_locked(volume->tree);
    set_size_locked(volume->tree, charge, charge->base);
    give_back_locked(volume, excess);
    aiofs_change_end_locked(volume->tree);
}

void aiofs_charge_release_locked(aiofs_volume *volume, struct aiofs_charge *charge)
{
    if (--charge->refs > 0)
        return;
    end_orphan_locked(volume, charge);
    free(charge);
}

void aiofs_charge_unlocked_locked(aiofs_volume *volume, struct aiofs_charge *charge)
{
    if (charge->swap)
        end_orphan_locked(volume, charge);
}

/* Raises a charge to the file's present size. Growth since the last charge is added to the usage count only under an
 * exclusive lock: under another lock, another process may have charged it already. So may a walk. */
static void catch_up(struct aiofs_lock_ref *lock_ref, int64_t current)
{
    struct aiofs_tree *tree = lock_ref->volume->tree;
    struct aiofs_charge *charge = lock_ref->charge;
    uint32_t recounts = atomic_load(&tree->tally->recounts);
    bool alone = charge->swap || (lock_ref->lock == AIOFS_LOCK_EXCLUSIVE && charge->recounts == recounts);
    if (charge->size >= 0 && current > charge->size && alone)
        usage_add(tree, current - charge->size, -1);
    if (current > charge->size)
        set_size_locked(tree, charge, current);
    charge->recounts = recounts;
}

/* A change of sizes that is about to begin: of an open file, or of a name. */
struct change {
    aiofs_volume *volume;
    aiofs_lock_ref *lock_ref;
    int64_t before, after;
};

/* Charges the growth and announces the change. If a process has died meanwhile, it tries again. 1: charged, and
 * aiofs_change_end must follow the change. */
static int charge_and_begin(const struct change *change, int (*charge)(const struct change *))
{
    struct aiofs_tree *tree = change->volume->tree;
    int status = counted_once(tree);
    for (int tries = 0; status == 0; tries++) {
        aiofs_namespace_lock();
        aiofs_change_begin_locked(tree);
        status = charge(change);
        if (status < 0)
            aiofs_change_end_locked(tree);
        aiofs_namespace_unlock();
        if (status == 0)
            return 1;
        if (status == -EDQUOT && tries == 0 && found_dead(tree))
            status = 0;
    }
    return status;
}

/* Raises the charge of an open file to `size`. */
static int raise_locked(aiofs_volume *volume, struct aiofs_charge *charge, int64_t size)
{
    int status = size > charge->size ? draw_locked(volume, size - charge->size) : 0;
    if (status == 0 && size > charge->size)
        set_size_locked(volume->tree, charge, size);
    return status;
}

static int charge_locked(const struct change *change)
{
    aiofs_lock_ref *lock_ref = change->lock_ref;
    if (!attach_charge(lock_ref))
        return -ENOMEM;
    catch_up(lock_ref, change->before);
    int status = raise_locked(lock_ref->volume, lock_ref->charge, change->after);
    lock_ref->charge->changing += status == 0;
    return status;
}

bool aiofs_lock_ref_has_quota(const aiofs_lock_ref *lock_ref)
{
    return aiofs_quota_counted(lock_ref->volume->tree);
}

int aiofs_lock_ref_charge(aiofs_lock_ref *lock_ref, int64_t current, int64_t size)
{
    const struct change change = {lock_ref->volume, lock_ref, current, size};
    return aiofs_lock_ref_has_quota(lock_ref) ? charge_and_begin(&change, charge_locked) : 0;
}

/* The file is `size` bytes long: gives back what is charged beyond, but not the base of a swap file. */
static void shrink_locked(aiofs_volume *volume, struct aiofs_charge *charge, int64_t size)
{
    charge->partial = false;
    if (size < charge->base)
        size = charge->base;
    if (charge->size > size) {
        give_back_locked(volume, charge->size - size);
        set_size_locked(volume->tree, charge, size);
    }
}

void aiofs_lock_ref_charge_end(aiofs_lock_ref *lock_ref)
{
    struct aiofs_charge *charge = lock_ref->charge;
    aiofs_namespace_lock();
    if (--charge->changing == 0 && charge->partial)
        shrink_locked(lock_ref->volume, charge, charge->known);
    aiofs_change_end_locked(lock_ref->volume->tree);
    aiofs_namespace_unlock();
}

void aiofs_lock_ref_uncharge(aiofs_lock_ref *lock_ref, int64_t size)
{
    if (!aiofs_lock_ref_has_quota(lock_ref))
        return;
    aiofs_namespace_lock();
    struct aiofs_charge *charge = lock_ref->charge;
    if (charge && charge->changing > 1) { /* another change may be about to use what is charged */
        charge->partial = true;
        charge->known = size;
    } else if (charge) {
        shrink_locked(lock_ref->volume, charge, size);
    }
    aiofs_namespace_unlock();
}

void aiofs_lock_ref_wrote(aiofs_lock_ref *lock_ref, int64_t size)
{
    if (!aiofs_lock_ref_has_quota(lock_ref))
        return;
    aiofs_namespace_lock();
    if (lock_ref->charge) {
        catch_up(lock_ref, size);
        if (lock_ref->charge->known < size)
            lock_ref->charge->known = size;
    }
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

static int charge_swap_locked(const struct change *change)
{
    struct aiofs_charge *charge = change->lock_ref->charge;
    return raise_locked(change->volume, charge, change->after - change->before + charge->base);
}

int aiofs_quota_swap_charge(aiofs_lock_ref *lock_ref, int64_t old, int64_t size)
{
    const struct change change = {lock_ref->volume, lock_ref, old, size};
    return aiofs_lock_ref_has_quota(lock_ref) ? charge_and_begin(&change, charge_swap_locked) : 0;
}

/* The usage count has the old file and what was charged for the swap file beyond its base. */
void aiofs_quota_swap_end(aiofs_lock_ref *lock_ref, int64_t old, int64_t size)
{
    struct aiofs_tree *tree = lock_ref->volume->tree;
    aiofs_namespace_lock();
    struct aiofs_charge *charge = lock_ref->charge;
    int64_t excess = old + (charge->size - charge->base) - size;
    if (excess > 0)
        give_back_locked(lock_ref->volume, excess);
    else
        usage_add(tree, -excess, -1);
    set_size_locked(tree, charge, charge->base);
    aiofs_namespace_unlock();
}

/* ---- truncated and unlinked files ------------------------------------------------------------------------- */

/* A file of `before` bytes was truncated to 0 as it was opened. */
void aiofs_quota_truncated_locked(aiofs_volume *volume, struct aiofs_entry *entry, int64_t before)
{
    if (entry->charge && entry->charge->size >= 0) {
        before = entry->charge->size;
        entry->charge->size = 0;
    }
    give_back_locked(volume, before);
}

static int charge_name_locked(const struct change *change)
{
    return draw_locked(change->volume, change->after);
}

/* A hard link counts as a file of its own, as it does in a walk: unlinking it subtracts its size. */
int aiofs_quota_named(aiofs_volume *volume, int64_t size)
{
    const struct change change = {.volume = volume, .after = size};
    return aiofs_quota_counted(volume->tree) ? charge_and_begin(&change, charge_name_locked) : 0;
}

/* A file of `size` bytes was unlinked: subtracts its bytes from the usage count at the release of its last lock
 * reference, or now if it has none. `entry` may be NULL. */
void aiofs_quota_unnamed_locked(aiofs_volume *volume, struct aiofs_entry *entry, int64_t size)
{
    bool open = false;
    for (struct aiofs_lock_ref *lock_ref = entry ? entry->lock_refs : NULL; lock_ref; lock_ref = lock_ref->next) {
        bool older = lock_ref->charge && lock_ref->charge != entry->charge; /* of an earlier file of this name */
        if (lock_ref->lock != AIOFS_LOCK_NONE && !lock_ref->temporary && !lock_ref->lost && !older)
            open |= attach_charge(lock_ref);
    }
    if (!open) {
        give_back_locked(volume, size);
        return;
    }
    struct aiofs_charge *charge = entry->charge;
    struct aiofs_account *account = aiofs_account_locked(volume->tree);
    if (charge->size < size)
        charge->size = size;
    if (account)
        atomic_fetch_add(&account->unnamed, charge->size);
    charge->orphan = true;
    entry->charge = NULL;
}
