/*
 * recursive_ops.c - operations on a directory with everything below it: remove, rename.
 *
 * Removing or renaming a directory needs every entry below it unlocked until the call returns. So the call first takes
 * a temporary lock on each entry that it finds, and releases them all at the end: the lock set. One refused lock ends
 * the call before it has changed anything. All locks of a call have the same owner, the caller's or else the call
 * itself, so that a call does not refuse its own locks. A file that another process creates below the directory during
 * the call makes rmdir(2) fail with ENOTEMPTY, or moves along with its directory.
 *
 * A rename moves the lock references of files that the same owner has open to the entries of the new paths. The call
 * locks those entries before the rename, so a moved lock reference is never without its lock.
 *
 * No lock is held during system calls that read the directories; the namespace lock is held while entries are searched.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sys.h"
#include "volume_internal.h"

/* ---- the locks of a call ----------------------------------------------------------------------------------- */

/* The temporary locks of one call, with the path of each; the last one taken is first in the list. */
struct lock_set {
    aiofs_volume *volume;
    const void *owner;
    struct aiofs_listed *taken;
    int claim; /* see aiofs_absence_claim; -1: none */
};

static int lock_set_push(struct lock_set *set, const char *path, size_t length, bool directory,
                         struct aiofs_canonical *canonical)
{
    int status = aiofs_canonical_set(canonical, path, length);
    return status < 0 ? status : aiofs_listed_push(&set->taken, path, length, directory);
}

static int lock_set_take_locked(struct lock_set *set, const char *path, size_t length, bool directory,
                                enum aiofs_lock lock)
{
    struct aiofs_canonical canonical;
    int status = lock_set_push(set, path, length, directory, &canonical);
    if (status < 0)
        return status;
    status = aiofs_lock_ref_take_locked(set->volume, &canonical, lock, set->owner, &set->taken->lock_ref);
    if (status == 0)
        set->taken->lock_ref->temporary = true;
    else
        free(aiofs_listed_pop(&set->taken));
    return status;
}

static int lock_set_take(struct lock_set *set, const char *path, size_t length, bool directory)
{
    struct aiofs_canonical canonical;
    int status = lock_set_push(set, path, length, directory, &canonical);
    if (status < 0)
        return status;
    status = aiofs_lock_ref_take_temporary(set->volume, &canonical, set->owner, &set->taken->lock_ref);
    if (status < 0)
        free(aiofs_listed_pop(&set->taken));
    return status;
}

static void lock_set_release(struct lock_set *set)
{
    struct aiofs_listed *listed;
    while ((listed = aiofs_listed_pop(&set->taken))) {
        aiofs_lock_ref_release(listed->lock_ref);
        free(listed);
    }
    aiofs_absence_unclaim(set->claim);
    set->claim = -1;
}

static int lock_set_visit(const struct aiofs_found *found, void *context)
{
    return lock_set_take(context, found->path, found->length, found->is_directory);
}

/* Lists the entries below a directory that have a lock reference of an open file, not only temporary ones. */
static int list_referenced_locked(const struct aiofs_tree *tree, const struct aiofs_canonical *top,
                                  struct aiofs_listed **list)
{
    int status = 0;
    for (size_t i = 0; i < tree->bucket_count; i++) {
        for (const struct aiofs_entry *entry = tree->buckets[i]; entry && status == 0; entry = entry->next) {
            const struct aiofs_lock_ref *lock_ref = entry->lock_refs;
            while (lock_ref && lock_ref->temporary)
                lock_ref = lock_ref->next;
            if (lock_ref && aiofs_path_below(entry->path, entry->length, top->path, top->length))
                status = aiofs_listed_push(list, entry->path, entry->length, false);
        }
    }
    return status;
}

/* -EBUSY if an entry below has a lock of another owner. This finds open files that were unlinked, which the walk does
 * not. */
static int refuse_other_locks(const struct lock_set *set, const struct aiofs_canonical *top)
{
    const struct aiofs_tree *tree = set->volume->tree;
    int status = 0;
    aiofs_namespace_lock();
    for (size_t i = 0; i < tree->bucket_count; i++)
        for (const struct aiofs_entry *entry = tree->buckets[i]; entry; entry = entry->next)
            if (entry->lock != AIOFS_LOCK_NONE && entry->owner != set->owner &&
                aiofs_path_below(entry->path, entry->length, top->path, top->length))
                status = -EBUSY;
    aiofs_namespace_unlock();
    return status;
}

/* Locks every entry below a directory. */
static int lock_set_take_below(struct lock_set *set, const struct aiofs_canonical *top)
{
    int status = aiofs_tree_walk(set->volume->tree, top->path, lock_set_visit, set, false);
    return status < 0 ? status : refuse_other_locks(set, top);
}

bool aiofs_subtree_locked(aiofs_volume *volume, const struct aiofs_canonical *top)
{
    struct lock_set set = {.volume = volume, .owner = &set, .claim = -1};
    int status = lock_set_take_below(&set, top);
    lock_set_release(&set);
    return status == -EBUSY;
}

int aiofs_volume_locked_below(aiofs_volume *volume, const char *path)
{
    struct aiofs_canonical canonical;
    int status = aiofs_path_resolve(volume, path, true, &canonical), claim;
    if (status == 0)
        status = aiofs_absence_claim(volume->tree, &claim);
    if (status < 0)
        return status;
    bool locked = aiofs_subtree_locked(volume, &canonical);
    aiofs_absence_unclaim(claim);
    return locked;
}

/* ---- remove ------------------------------------------------------------------------------------------------- */

static int remove_one(aiofs_volume *volume, const struct aiofs_listed *listed)
{
    struct aiofs_tree *tree = volume->tree;
    struct aiofs_canonical canonical;
    struct aiofs_parent parent;
    struct stat found = {0};
    aiofs_canonical_set(&canonical, listed->path, listed->length);
    int status = aiofs_parent_open(tree, &canonical, &parent);
    if (status < 0)
        return status;
    bool counted = aiofs_change_begin(tree);
    if (counted)
        aiofs_sys.fstatat(parent.fd, parent.name, &found, AT_SYMLINK_NOFOLLOW);
    status = aiofs_sys.unlinkat(parent.fd, parent.name, listed->is_directory ? AT_REMOVEDIR : 0);
    aiofs_parent_close(&parent);
    if (status == 0) {
        aiofs_namespace_lock();
        if (S_ISREG(found.st_mode))
            aiofs_quota_unnamed_locked(volume, listed->lock_ref->entry, found.st_size);
        aiofs_dir_sync_removed_locked(tree, &canonical);
        aiofs_namespace_unlock();
    }
    aiofs_change_end(tree, counted);
    return status == -ENOENT ? 0 : status;
}

int aiofs_volume_remove_tree(aiofs_volume *volume, const char *path)
{
    struct aiofs_canonical canonical;
    struct stat found;
    struct lock_set set = {.volume = volume, .owner = &set, .claim = -1};
    int status = aiofs_check_writable(volume);
    if (status == 0)
        status = aiofs_path_resolve(volume, path, false, &canonical);
    if (status == 0)
        status = aiofs_canonical_stat(volume->tree, &canonical, &found);
    if (status == 0 && !S_ISDIR(found.st_mode))
        status = -ENOTDIR;
    if (status == 0)
        status = aiofs_absence_claim(volume->tree, &set.claim);
    if (status == 0 && canonical.length > 0)
        status = lock_set_take(&set, canonical.path, canonical.length, true);
    if (status == 0)
        status = lock_set_take_below(&set, &canonical);
    /* The last entry found comes first, so a directory's content is removed before the directory. */
    for (struct aiofs_listed *listed = set.taken; listed && status == 0; listed = listed->next)
        status = remove_one(volume, listed);
    lock_set_release(&set);
    return status;
}

/* ---- rename --------------------------------------------------------------------------------------------------- */

struct renaming {
    struct lock_set set;
    struct aiofs_canonical from, to;
    struct stat source, target; /* target.st_mode 0: there is none */
    bool directory;
    bool moves; /* aiofs_volume_move: a directory replaces nothing */
};

/* The path that `path`, which is `from` or lies below it, has after the rename. */
static int target_of(const struct renaming *renaming, const char *path, size_t length, struct aiofs_canonical *out)
{
    char target[PATH_MAX];
    size_t rest = length - renaming->from.length;
    if (renaming->to.length + rest >= sizeof target)
        return -ENAMETOOLONG;
    memcpy(target, renaming->to.path, renaming->to.length);
    memcpy(target + renaming->to.length, path + renaming->from.length, rest);
    return aiofs_canonical_set(out, target, renaming->to.length + rest);
}

/* Returns `status`, or what is wrong with the directory of `path`: rename(2) looks at the directories first. */
static int parent_or(const struct renaming *renaming, const struct aiofs_canonical *path, int status)
{
    struct aiofs_parent parent;
    int opened = aiofs_parent_open(renaming->set.volume->tree, path, &parent);
    if (opened < 0)
        return opened;
    aiofs_parent_close(&parent);
    return status;
}

static int stat_both(struct renaming *renaming)
{
    const struct aiofs_tree *tree = renaming->set.volume->tree;
    int status = aiofs_canonical_stat(tree, &renaming->from, &renaming->source);
    if (status < 0) {
        status = parent_or(renaming, &renaming->to, status);
        return parent_or(renaming, &renaming->from, status);
    }
    renaming->directory = S_ISDIR(renaming->source.st_mode);
    if (!renaming->directory && (renaming->from.slash || renaming->to.slash))
        return -ENOTDIR;
    if (renaming->directory && aiofs_path_below(renaming->to.path, renaming->to.length, renaming->from.path,
                                                renaming->from.length))
        return parent_or(renaming, &renaming->to, -EINVAL);
    status = aiofs_canonical_stat(tree, &renaming->to, &renaming->target);
    if (status == -ENOENT)
        renaming->target.st_mode = 0;
    return status == -ENOENT ? 0 : status;
}

/* Locks the entries that open files below the directory will have after the rename. */
static int lock_set_targets(struct renaming *renaming)
{
    struct aiofs_canonical canonical;
    struct aiofs_listed *held = NULL;
    int status;
    aiofs_namespace_lock();
    status = list_referenced_locked(renaming->set.volume->tree, &renaming->from, &held);
    for (const struct aiofs_listed *listed = held; listed && status == 0; listed = listed->next) {
        status = target_of(renaming, listed->path, listed->length, &canonical);
        if (status == 0)
            status = lock_set_take_locked(&renaming->set, canonical.path, canonical.length, false,
                                          AIOFS_LOCK_EXCLUSIVE);
    }
    aiofs_namespace_unlock();
    aiofs_listed_free(held);
    return status;
}

static int lock_set_all(struct renaming *renaming)
{
    struct lock_set *set = &renaming->set;
    int status = lock_set_take(set, renaming->from.path, renaming->from.length, renaming->directory);
    if (status == 0)
        status = lock_set_take(set, renaming->to.path, renaming->to.length, renaming->directory);
    if (status == 0 && renaming->directory)
        status = lock_set_take_below(set, &renaming->from);
    if (status == 0 && renaming->directory)
        status = lock_set_targets(renaming);
    return status;
}

static int rename_names(const struct renaming *renaming)
{
    const struct aiofs_tree *tree = renaming->set.volume->tree;
    struct aiofs_parent from, to;
    int status = aiofs_parent_open(tree, &renaming->from, &from);
    if (status < 0)
        return status;
    status = aiofs_parent_open(tree, &renaming->to, &to);
    if (status == 0) {
        unsigned flags = renaming->moves && renaming->directory ? RENAME_NOREPLACE : 0;
        status = aiofs_sys.renameat2(from.fd, from.name, to.fd, to.name, flags);
        if (status == -EINVAL && flags) /* a filesystem without this flag; stat_both found no target */
            status = aiofs_sys.renameat2(from.fd, from.name, to.fd, to.name, 0);
        aiofs_parent_close(&to);
    }
    aiofs_parent_close(&from);
    return status;
}

/* Moves the lock references of one entry to the entry of the new path; the call's temporary ones stay. */
static void move_lock_refs_locked(const struct renaming *renaming, const struct aiofs_canonical *from, uint64_t number)
{
    struct aiofs_canonical canonical;
    struct aiofs_tree *tree = renaming->set.volume->tree;
    struct aiofs_entry *source = aiofs_entry_find_locked(tree, from), *target = NULL;
    if (source && target_of(renaming, from->path, from->length, &canonical) == 0)
        target = aiofs_entry_find_locked(tree, &canonical);
    if (!target)
        return;
    target->charge = source->charge;
    source->charge = NULL;
    for (struct aiofs_lock_ref *lock_ref = source->lock_refs, *next; lock_ref; lock_ref = next) {
        next = lock_ref->next;
        if (lock_ref->temporary)
            continue;
        lock_ref->unsynced = number;
        aiofs_lock_ref_move_locked(lock_ref, target);
    }
}

static void update_after_rename(struct renaming *renaming, uint64_t number)
{
    struct aiofs_tree *tree = renaming->set.volume->tree;
    struct aiofs_canonical canonical;
    struct aiofs_listed *held = NULL;

    aiofs_namespace_lock();
    if (S_ISREG(renaming->target.st_mode) && aiofs_quota_counted(tree))
        aiofs_quota_unnamed_locked(renaming->set.volume, aiofs_entry_find_locked(tree, &renaming->to),
                                   renaming->target.st_size);
    move_lock_refs_locked(renaming, &renaming->from, number);
    if (renaming->directory) {
        aiofs_dir_sync_move_locked(tree, &renaming->from, &renaming->to);
        list_referenced_locked(tree, &renaming->from, &held);
    }
    for (const struct aiofs_listed *listed = held; listed; listed = listed->next)
        if (aiofs_canonical_set(&canonical, listed->path, listed->length) == 0)
            move_lock_refs_locked(renaming, &canonical, number);
    aiofs_namespace_unlock();
    aiofs_listed_free(held);
}

static int renaming_begin(struct renaming *renaming, const char *from, const char *to)
{
    const aiofs_volume *volume = renaming->set.volume;
    int status = aiofs_check_writable(volume);
    if (status == 0)
        status = aiofs_path_resolve(volume, from, false, &renaming->from);
    if (status == 0) {
        status = aiofs_path_resolve(volume, to, false, &renaming->to);
        if (status < 0)
            status = parent_or(renaming, &renaming->from, status);
    }
    if (status == 0 && (renaming->from.length == 0 || renaming->to.length == 0))
        status = -EBUSY;
    return status < 0 ? status : stat_both(renaming);
}

/* Looks once more, now that both entries are locked: other processes may have changed them since stat_both. -EBUSY: the
 * source was a file and is a directory, in which nothing is locked, or the reverse. */
static int look_again(struct renaming *renaming)
{
    const struct aiofs_tree *tree = renaming->set.volume->tree;
    int status = aiofs_canonical_stat(tree, &renaming->from, &renaming->source);
    if (status == 0 && S_ISDIR(renaming->source.st_mode) != renaming->directory)
        status = -EBUSY;
    if (status < 0)
        return status;
    status = aiofs_canonical_stat(tree, &renaming->to, &renaming->target);
    if (status == -ENOENT)
        renaming->target.st_mode = 0;
    return status == -ENOENT ? 0 : status;
}

/* Locks what is renamed and what is replaced, and renames. */
static int rename_locked(struct renaming *renaming, const char *from, const char *to, const void *owner)
{
    aiofs_volume *volume = renaming->set.volume;
    int status = aiofs_absence_claim(volume->tree, &renaming->set.claim);
    if (status == 0)
        status = aiofs_refuse_locked_target(volume, from, &renaming->from, owner);
    if (status == 0 && S_ISLNK(renaming->target.st_mode))
        status = aiofs_refuse_locked_target(volume, to, &renaming->to, owner);
    if (status == 0)
        status = lock_set_all(renaming);
    if (status == 0 && strcmp(renaming->from.path, renaming->to.path) != 0) {
        bool begun = aiofs_change_begin(volume->tree);
        aiofs_dir_sync_begin(volume->tree, &renaming->to);
        status = look_again(renaming);
        if (status == 0)
            status = rename_names(renaming);
        uint64_t number = aiofs_dir_sync_end(volume->tree, &renaming->to, status == 0);
        if (status == 0)
            update_after_rename(renaming, number);
        aiofs_change_end(volume->tree, begun);
    }
    lock_set_release(&renaming->set);
    return status;
}

int aiofs_volume_rename(aiofs_volume *volume, const char *from, const char *to, const void *owner)
{
    struct renaming renaming = {.set = {.volume = volume, .claim = -1}};
    renaming.set.owner = owner ? owner : &renaming;
    int status = renaming_begin(&renaming, from, to);
    if (status < 0 || strcmp(renaming.from.path, renaming.to.path) == 0)
        return status;
    return rename_locked(&renaming, from, to, owner);
}

/* The kind of what a symbolic link leads to; that of a link, if it leads nowhere or out. */
static mode_t mode_behind(const aiofs_volume *volume, const char *path)
{
    struct aiofs_canonical canonical;
    struct stat found;
    int status = aiofs_path_resolve(volume, path, true, &canonical);
    if (status == 0)
        status = aiofs_canonical_stat(volume->tree, &canonical, &found);
    return status < 0 ? S_IFLNK : found.st_mode;
}

/* What a move refuses to replace: a directory, also by a link to it, and what is no entry for handles. */
static int refuse_replacing(const struct renaming *renaming, const char *to)
{
    mode_t mode = renaming->target.st_mode;
    if (mode == 0 || strcmp(renaming->from.path, renaming->to.path) == 0)
        return 0;
    if (S_ISLNK(mode))
        mode = mode_behind(renaming->set.volume, to);
    if (renaming->directory || S_ISDIR(mode))
        return -EEXIST;
    return S_ISREG(mode) ? 0 : -EOPNOTSUPP;
}

int aiofs_volume_move(aiofs_volume *volume, const char *from, const char *to)
{
    struct renaming renaming = {.set = {.volume = volume, .claim = -1}, .moves = true};
    renaming.set.owner = &renaming;
    int status = renaming_begin(&renaming, from, to);
    if (status == 0)
        status = refuse_replacing(&renaming, to);
    if (status == 0)
        status = rename_locked(&renaming, from, to, NULL);
    return status == -EISDIR ? -EEXIST : status; /* -EISDIR: a directory was created at the target meanwhile */
}
