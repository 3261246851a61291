/*
 * recursive_ops.c - what is done to a directory with all that is in it: count, remove, rename.
 *
 * Removing or renaming needs everything below to be unlocked, and kept so: the locks of all that is found
 * are taken first, one by one, and given back at the end; one that is refused ends the call with nothing
 * done. All locks of one call have one owner, its caller's or else the call itself, so that it does not
 * meet its own. A file that another process makes below while the call runs is met by `rmdir` (ENOTEMPTY)
 * or moves along with its directory.
 *
 * A rename takes along the lock references of the files that the same owner has open: they get the entry of the new
 * path, whose lock was taken beforehand, and give up the old one.
 *
 * A walk keeps the paths of the directories still to visit and one open directory, so depth costs memory
 * and no descriptors. Nothing is locked while the disk is asked; entries are gone through under the
 * namespace lock.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "sys.h"
#include "volume_internal.h"

/* ---- lists of paths --------------------------------------------------------------------------------------- */

struct listed {
    struct listed *next;
    aiofs_lock_ref *lock_ref; /* a lock set's */
    bool is_directory;
    size_t length;
    char path[];
};

/* Puts a path at the head of a list. */
static int stack_push(struct listed **list, const char *path, size_t length, bool directory)
{
    struct listed *listed = malloc(sizeof *listed + length + 1);
    if (!listed)
        return -ENOMEM;
    *listed = (struct listed){.next = *list, .is_directory = directory, .length = length};
    memcpy(listed->path, path, length);
    listed->path[length] = 0;
    *list = listed;
    return 0;
}

static struct listed *stack_pop(struct listed **list)
{
    struct listed *listed = *list;
    if (listed)
        *list = listed->next;
    return listed;
}

static void stack_free(struct listed *list)
{
    struct listed *listed;
    while ((listed = stack_pop(&list)))
        free(listed);
}

/* ---- the walk ----------------------------------------------------------------------------------------------- */

struct walk {
    struct listed *directories; /* still to visit */
    aiofs_visit visit;
    void *context;
};

/* linux_dirent64, as getdents64 fills it in. */
struct record {
    uint64_t ino;
    int64_t offset;
    unsigned short size;
    unsigned char type;
    char name[];
};

static bool is_directory(int dirfd, const struct record *record)
{
    struct stat status;
    if (record->type != DT_UNKNOWN)
        return record->type == DT_DIR;
    return aiofs_sys.fstatat(dirfd, record->name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(status.st_mode);
}

static int visit_record(struct walk *walk, int dirfd, const struct listed *directory, const struct record *record)
{
    char path[PATH_MAX];
    size_t length = directory->length, name_length = strlen(record->name);
    if (strcmp(record->name, ".") == 0 || strcmp(record->name, "..") == 0)
        return 0;
    if (length == 0 && strcmp(record->name, AIOFS_KEEP) == 0)
        return 0;
    if (length + 1 + name_length >= sizeof path)
        return -ENAMETOOLONG;
    memcpy(path, directory->path, length);
    if (length > 0)
        path[length++] = '/';
    memcpy(path + length, record->name, name_length + 1);
    struct aiofs_found found = {dirfd, record->name, path, length + name_length, is_directory(dirfd, record)};
    int status = walk->visit(&found, walk->context);
    if (status == 0 && found.is_directory)
        status = stack_push(&walk->directories, path, found.length, true);
    return status;
}

static int visit_directory(struct walk *walk, int dirfd, const struct listed *directory)
{
    _Alignas(struct record) char buffer[32768];
    ssize_t got;
    while ((got = aiofs_sys.getdents64(dirfd, buffer, sizeof buffer)) > 0) {
        for (ssize_t at = 0; at < got;) {
            const struct record *record = (const struct record *)(buffer + at);
            int status = visit_record(walk, dirfd, directory, record);
            if (status < 0)
                return status;
            at += record->size;
        }
    }
    return (int)got;
}

/* Visits all that is below `path`; a directory that vanishes on the way is passed over. */
int aiofs_tree_walk(const struct aiofs_tree *tree, const char *path, aiofs_visit visit, void *context)
{
    struct walk walk = {.visit = visit, .context = context};
    struct listed *directory;
    int status = stack_push(&walk.directories, path, strlen(path), true);
    while (status == 0 && (directory = stack_pop(&walk.directories))) {
        int dirfd = aiofs_open_beneath(tree, directory->path, O_RDONLY | O_DIRECTORY, 0);
        if (dirfd >= 0) {
            status = visit_directory(&walk, dirfd, directory);
            aiofs_sys.close(dirfd);
        } else if (dirfd != -ENOENT) {
            status = dirfd;
        }
        free(directory);
    }
    stack_free(walk.directories);
    return status;
}

/* ---- the locks of a call ----------------------------------------------------------------------------------- */

/* Locks taken for the time of a call, and the list of what they are on, last one first. */
struct lock_set {
    aiofs_volume *volume;
    const void *owner;
    struct listed *taken;
};

static int lock_set_push(struct lock_set *set, const char *path, size_t length, bool directory, struct aiofs_place *place)
{
    int status = aiofs_place_set(place, path, length);
    return status < 0 ? status : stack_push(&set->taken, path, length, directory);
}

static int lock_set_take_locked(struct lock_set *set, const char *path, size_t length, bool directory, enum aiofs_lock lock)
{
    struct aiofs_place place;
    int status = lock_set_push(set, path, length, directory, &place);
    if (status < 0)
        return status;
    status = aiofs_lock_ref_take_locked(set->volume, &place, lock, set->owner, &set->taken->lock_ref);
    if (status == 0)
        set->taken->lock_ref->stays = true;
    else
        free(stack_pop(&set->taken));
    return status;
}

static int lock_set_take(struct lock_set *set, const char *path, size_t length, bool directory)
{
    struct aiofs_place place;
    int status = lock_set_push(set, path, length, directory, &place);
    if (status < 0)
        return status;
    status = aiofs_lock_ref_take_briefly(set->volume, &place, set->owner, &set->taken->lock_ref);
    if (status < 0)
        free(stack_pop(&set->taken));
    return status;
}

static void lock_set_release(struct lock_set *set)
{
    struct listed *listed;
    while ((listed = stack_pop(&set->taken))) {
        aiofs_lock_ref_release(listed->lock_ref);
        free(listed);
    }
}

static int lock_set_found(const struct aiofs_found *found, void *context)
{
    return lock_set_take(context, found->path, found->length, found->is_directory);
}

/* The entries below a directory that somebody but calls like this one has a lock reference of. */
static int list_held_locked(const struct aiofs_tree *tree, const struct aiofs_place *top, struct listed **list)
{
    int status = 0;
    for (size_t i = 0; i < tree->bucket_count; i++) {
        for (const struct aiofs_entry *entry = tree->buckets[i]; entry && status == 0; entry = entry->next) {
            const struct aiofs_lock_ref *lock_ref = entry->lock_refs;
            while (lock_ref && lock_ref->stays)
                lock_ref = lock_ref->next;
            if (lock_ref && aiofs_path_below(entry->path, entry->length, top->path, top->length))
                status = stack_push(list, entry->path, entry->length, false);
        }
    }
    return status;
}

/* -EBUSY if a lock below is not the lock set's owner's, also one of a file that has no name any more. */
static int refuse_other_locks(const struct lock_set *set, const struct aiofs_place *top)
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

/* Locks everything below a directory. */
static int lock_set_below(struct lock_set *set, const struct aiofs_place *top)
{
    int status = aiofs_tree_walk(set->volume->tree, top->path, lock_set_found, set);
    return status < 0 ? status : refuse_other_locks(set, top);
}

bool aiofs_subtree_locked(aiofs_volume *volume, const struct aiofs_place *top)
{
    struct lock_set set = {.volume = volume, .owner = &set};
    int status = lock_set_below(&set, top);
    lock_set_release(&set);
    return status == -EBUSY;
}

/* ---- remove ------------------------------------------------------------------------------------------------- */

static int remove_one(struct aiofs_tree *tree, const struct listed *listed)
{
    struct aiofs_place place;
    struct aiofs_parent parent;
    struct stat found = {0};
    aiofs_place_set(&place, listed->path, listed->length);
    int status = aiofs_parent_open(tree, &place, &parent);
    if (status < 0)
        return status;
    if (aiofs_quota_counted(tree))
        aiofs_sys.fstatat(parent.fd, parent.name, &found, AT_SYMLINK_NOFOLLOW);
    status = aiofs_sys.unlinkat(parent.fd, parent.name, listed->is_directory ? AT_REMOVEDIR : 0);
    aiofs_parent_close(&parent);
    if (status == 0) {
        aiofs_namespace_lock();
        if (S_ISREG(found.st_mode))
            aiofs_quota_unnamed_locked(tree, listed->lock_ref->entry, found.st_size);
        aiofs_dir_sync_removed_locked(tree, &place);
        aiofs_namespace_unlock();
    }
    return status == -ENOENT ? 0 : status;
}

int aiofs_volume_remove_tree(aiofs_volume *volume, const char *path)
{
    struct aiofs_place place;
    struct stat found;
    struct lock_set set = {.volume = volume, .owner = &set};
    int status = aiofs_may_change(volume);
    if (status == 0)
        status = aiofs_locate(volume, path, false, &place);
    if (status == 0)
        status = aiofs_place_stat(volume->tree, &place, &found);
    if (status == 0 && !S_ISDIR(found.st_mode))
        status = -ENOTDIR;
    if (status == 0 && place.length > 0)
        status = lock_set_take(&set, place.path, place.length, true);
    if (status == 0)
        status = lock_set_below(&set, &place);
    /* Last found first: what is in a directory before the directory. */
    for (struct listed *listed = set.taken; listed && status == 0; listed = listed->next)
        status = remove_one(volume->tree, listed);
    lock_set_release(&set);
    return status;
}

/* ---- rename --------------------------------------------------------------------------------------------------- */

struct renaming {
    struct lock_set set;
    struct aiofs_place from, to;
    struct stat source, target; /* target.st_mode 0: there is none */
    bool directory;
};

/* Where what is at `path`, which is `from` or below it, will be. */
static int target_of(const struct renaming *renaming, const char *path, size_t length, struct aiofs_place *out)
{
    char target[PATH_MAX];
    size_t rest = length - renaming->from.length;
    if (renaming->to.length + rest >= sizeof target)
        return -ENAMETOOLONG;
    memcpy(target, renaming->to.path, renaming->to.length);
    memcpy(target + renaming->to.length, path + renaming->from.length, rest);
    return aiofs_place_set(out, target, renaming->to.length + rest);
}

/* A directory would come to lie below itself: no, and if that place cannot be, this comes first. */
static int refuse_below(const struct renaming *renaming)
{
    struct aiofs_parent parent;
    int status = aiofs_parent_open(renaming->set.volume->tree, &renaming->to, &parent);
    if (status < 0)
        return status;
    aiofs_parent_close(&parent);
    return -EINVAL;
}

static int look(struct renaming *renaming)
{
    const struct aiofs_tree *tree = renaming->set.volume->tree;
    int status = aiofs_place_stat(tree, &renaming->from, &renaming->source);
    if (status < 0)
        return status;
    renaming->directory = S_ISDIR(renaming->source.st_mode);
    if (!renaming->directory && (renaming->from.slash || renaming->to.slash))
        return -ENOTDIR;
    if (renaming->directory && aiofs_path_below(renaming->to.path, renaming->to.length, renaming->from.path,
                                                renaming->from.length))
        return refuse_below(renaming);
    status = aiofs_place_stat(tree, &renaming->to, &renaming->target);
    if (status == -ENOENT)
        renaming->target.st_mode = 0;
    return status == -ENOENT ? 0 : status;
}

/* The entries that open files of the owner will have: made, and locked where the file has a lock. */
static int lock_set_targets(struct renaming *renaming)
{
    struct aiofs_place place;
    struct listed *held = NULL;
    int status;
    aiofs_namespace_lock();
    status = list_held_locked(renaming->set.volume->tree, &renaming->from, &held);
    for (const struct listed *listed = held; listed && status == 0; listed = listed->next) {
        status = target_of(renaming, listed->path, listed->length, &place);
        if (status == 0)
            status = lock_set_take_locked(&renaming->set, place.path, place.length, false, AIOFS_LOCK_EXCLUSIVE);
    }
    aiofs_namespace_unlock();
    stack_free(held);
    return status;
}

static int lock_set_all(struct renaming *renaming)
{
    struct lock_set *set = &renaming->set;
    int status = lock_set_take(set, renaming->from.path, renaming->from.length, renaming->directory);
    if (status == 0)
        status = lock_set_take(set, renaming->to.path, renaming->to.length, renaming->directory);
    if (status == 0 && renaming->directory)
        status = lock_set_below(set, &renaming->from);
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
        status = aiofs_sys.renameat2(from.fd, from.name, to.fd, to.name, 0);
        aiofs_parent_close(&to);
    }
    aiofs_parent_close(&from);
    return status;
}

/* The lock references on one entry follow their file; the call's own stay and go with it. */
static void move_lock_refs_locked(const struct renaming *renaming, const struct aiofs_place *from, uint64_t number)
{
    struct aiofs_place place;
    struct aiofs_tree *tree = renaming->set.volume->tree;
    struct aiofs_entry *source = aiofs_entry_find_locked(tree, from), *target = NULL;
    if (source && target_of(renaming, from->path, from->length, &place) == 0)
        target = aiofs_entry_find_locked(tree, &place);
    if (!target)
        return;
    target->charge = source->charge;
    source->charge = NULL;
    for (struct aiofs_lock_ref *lock_ref = source->lock_refs, *next; lock_ref; lock_ref = next) {
        next = lock_ref->next;
        if (lock_ref->stays)
            continue;
        lock_ref->unsynced = number;
        aiofs_lock_ref_move_locked(lock_ref, target);
    }
}

static void follow(struct renaming *renaming)
{
    struct aiofs_tree *tree = renaming->set.volume->tree;
    struct aiofs_place place;
    struct listed *held = NULL;
    uint64_t number = aiofs_name_made(tree, &renaming->to);

    aiofs_namespace_lock();
    if (S_ISREG(renaming->target.st_mode) && aiofs_quota_counted(tree))
        aiofs_quota_unnamed_locked(tree, aiofs_entry_find_locked(tree, &renaming->to), renaming->target.st_size);
    move_lock_refs_locked(renaming, &renaming->from, number);
    if (renaming->directory) {
        aiofs_dir_sync_move_locked(tree, &renaming->from, &renaming->to);
        list_held_locked(tree, &renaming->from, &held);
    }
    for (const struct listed *listed = held; listed; listed = listed->next)
        if (aiofs_place_set(&place, listed->path, listed->length) == 0)
            move_lock_refs_locked(renaming, &place, number);
    aiofs_namespace_unlock();
    stack_free(held);
}

int aiofs_volume_rename(aiofs_volume *volume, const char *from, const char *to, const void *owner)
{
    struct renaming renaming = {.set = {.volume = volume}};
    renaming.set.owner = owner ? owner : &renaming;
    int status = aiofs_may_change(volume);
    if (status == 0)
        status = aiofs_locate(volume, from, false, &renaming.from);
    if (status == 0)
        status = aiofs_locate(volume, to, false, &renaming.to);
    if (status == 0 && (renaming.from.length == 0 || renaming.to.length == 0))
        status = -EBUSY;
    if (status == 0)
        status = look(&renaming);
    if (status < 0 || strcmp(renaming.from.path, renaming.to.path) == 0)
        return status;
    status = lock_set_all(&renaming);
    if (status == 0)
        status = rename_names(&renaming);
    if (status == 0)
        follow(&renaming);
    lock_set_release(&renaming.set);
    return status;
}
