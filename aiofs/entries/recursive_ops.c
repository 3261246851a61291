/*
 * recursive_ops.c - what is done to a directory with all that is in it: count, remove, rename.
 *
 * Removing or renaming needs everything below to be unlocked, and kept so: the locks of all that is found
 * are taken first, one by one, and given back at the end; one that is refused ends the call with nothing
 * done. All locks of one call have one owner, its caller's or else the call itself, so that it does not
 * meet its own. A file that another process makes below while the call runs is met by `rmdir` (ENOTEMPTY)
 * or moves along with its directory.
 *
 * A rename takes along the holds of the files that the same owner has open: they get the entry of the new
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
    aiofs_hold *hold; /* a grip's */
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
struct grip {
    aiofs_volume *volume;
    const void *owner;
    struct listed *taken;
};

static int grip_push(struct grip *grip, const char *path, size_t length, bool directory, struct aiofs_place *place)
{
    int status = aiofs_place_set(place, path, length);
    return status < 0 ? status : stack_push(&grip->taken, path, length, directory);
}

static int grip_take_locked(struct grip *grip, const char *path, size_t length, bool directory, enum aiofs_lock lock)
{
    struct aiofs_place place;
    int status = grip_push(grip, path, length, directory, &place);
    if (status < 0)
        return status;
    status = aiofs_hold_take_locked(grip->volume, &place, lock, grip->owner, &grip->taken->hold);
    if (status == 0)
        grip->taken->hold->stays = true;
    else
        free(stack_pop(&grip->taken));
    return status;
}

static int grip_take(struct grip *grip, const char *path, size_t length, bool directory)
{
    struct aiofs_place place;
    int status = grip_push(grip, path, length, directory, &place);
    if (status < 0)
        return status;
    status = aiofs_hold_take_briefly(grip->volume, &place, grip->owner, &grip->taken->hold);
    if (status < 0)
        free(stack_pop(&grip->taken));
    return status;
}

static void grip_release(struct grip *grip)
{
    struct listed *listed;
    while ((listed = stack_pop(&grip->taken))) {
        aiofs_hold_release(listed->hold);
        free(listed);
    }
}

static int grip_found(const struct aiofs_found *found, void *context)
{
    return grip_take(context, found->path, found->length, found->is_directory);
}

/* The entries below a directory that somebody but calls like this one has a hold of. */
static int list_held_locked(const struct aiofs_tree *tree, const struct aiofs_place *top, struct listed **list)
{
    int status = 0;
    for (size_t i = 0; i < tree->bucket_count; i++) {
        for (const struct aiofs_entry *entry = tree->buckets[i]; entry && status == 0; entry = entry->next) {
            const struct aiofs_hold *hold = entry->holds;
            while (hold && hold->stays)
                hold = hold->next;
            if (hold && aiofs_path_below(entry->path, entry->length, top->path, top->length))
                status = stack_push(list, entry->path, entry->length, false);
        }
    }
    return status;
}

/* -EBUSY if a lock below is not the grip's owner's, also one of a file that has no name any more. */
static int refuse_other_locks(const struct grip *grip, const struct aiofs_place *top)
{
    const struct aiofs_tree *tree = grip->volume->tree;
    int status = 0;
    aiofs_namespace_lock();
    for (size_t i = 0; i < tree->bucket_count; i++)
        for (const struct aiofs_entry *entry = tree->buckets[i]; entry; entry = entry->next)
            if (entry->lock != AIOFS_LOCK_NONE && entry->owner != grip->owner &&
                aiofs_path_below(entry->path, entry->length, top->path, top->length))
                status = -EBUSY;
    aiofs_namespace_unlock();
    return status;
}

/* Locks everything below a directory. */
static int grip_below(struct grip *grip, const struct aiofs_place *top)
{
    int status = aiofs_tree_walk(grip->volume->tree, top->path, grip_found, grip);
    return status < 0 ? status : refuse_other_locks(grip, top);
}

bool aiofs_subtree_locked(aiofs_volume *volume, const struct aiofs_place *top)
{
    struct grip grip = {.volume = volume, .owner = &grip};
    int status = grip_below(&grip, top);
    grip_release(&grip);
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
            aiofs_quota_unnamed_locked(tree, listed->hold->entry, found.st_size);
        aiofs_names_removed_locked(tree, &place);
        aiofs_namespace_unlock();
    }
    return status == -ENOENT ? 0 : status;
}

int aiofs_volume_remove_tree(aiofs_volume *volume, const char *path)
{
    struct aiofs_place place;
    struct stat found;
    struct grip grip = {.volume = volume, .owner = &grip};
    int status = aiofs_may_change(volume);
    if (status == 0)
        status = aiofs_locate(volume, path, false, &place);
    if (status == 0)
        status = aiofs_place_stat(volume->tree, &place, &found);
    if (status == 0 && !S_ISDIR(found.st_mode))
        status = -ENOTDIR;
    if (status == 0 && place.length > 0)
        status = grip_take(&grip, place.path, place.length, true);
    if (status == 0)
        status = grip_below(&grip, &place);
    /* Last found first: what is in a directory before the directory. */
    for (struct listed *listed = grip.taken; listed && status == 0; listed = listed->next)
        status = remove_one(volume->tree, listed);
    grip_release(&grip);
    return status;
}

/* ---- rename --------------------------------------------------------------------------------------------------- */

struct renaming {
    struct grip grip;
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
    int status = aiofs_parent_open(renaming->grip.volume->tree, &renaming->to, &parent);
    if (status < 0)
        return status;
    aiofs_parent_close(&parent);
    return -EINVAL;
}

static int look(struct renaming *renaming)
{
    const struct aiofs_tree *tree = renaming->grip.volume->tree;
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
static int grip_targets(struct renaming *renaming)
{
    struct aiofs_place place;
    struct listed *held = NULL;
    int status;
    aiofs_namespace_lock();
    status = list_held_locked(renaming->grip.volume->tree, &renaming->from, &held);
    for (const struct listed *listed = held; listed && status == 0; listed = listed->next) {
        status = target_of(renaming, listed->path, listed->length, &place);
        if (status == 0)
            status = grip_take_locked(&renaming->grip, place.path, place.length, false, AIOFS_LOCK_EXCLUSIVE);
    }
    aiofs_namespace_unlock();
    stack_free(held);
    return status;
}

static int grip_all(struct renaming *renaming)
{
    struct grip *grip = &renaming->grip;
    int status = grip_take(grip, renaming->from.path, renaming->from.length, renaming->directory);
    if (status == 0)
        status = grip_take(grip, renaming->to.path, renaming->to.length, renaming->directory);
    if (status == 0 && renaming->directory)
        status = grip_below(grip, &renaming->from);
    if (status == 0 && renaming->directory)
        status = grip_targets(renaming);
    return status;
}

static int rename_names(const struct renaming *renaming)
{
    const struct aiofs_tree *tree = renaming->grip.volume->tree;
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

/* The holds on one entry follow their file; the call's own stay and go with it. */
static void move_holds_locked(const struct renaming *renaming, const struct aiofs_place *from, uint64_t number)
{
    struct aiofs_place place;
    struct aiofs_tree *tree = renaming->grip.volume->tree;
    struct aiofs_entry *source = aiofs_entry_find_locked(tree, from), *target = NULL;
    if (source && target_of(renaming, from->path, from->length, &place) == 0)
        target = aiofs_entry_find_locked(tree, &place);
    if (!target)
        return;
    target->charge = source->charge;
    source->charge = NULL;
    for (struct aiofs_hold *hold = source->holds, *next; hold; hold = next) {
        next = hold->next;
        if (hold->stays)
            continue;
        hold->unsynced = number;
        aiofs_hold_move_locked(hold, target);
    }
}

static void follow(struct renaming *renaming)
{
    struct aiofs_tree *tree = renaming->grip.volume->tree;
    struct aiofs_place place;
    struct listed *held = NULL;
    uint64_t number = aiofs_name_made(tree, &renaming->to);

    aiofs_namespace_lock();
    if (S_ISREG(renaming->target.st_mode) && aiofs_quota_counted(tree))
        aiofs_quota_unnamed_locked(tree, aiofs_entry_find_locked(tree, &renaming->to), renaming->target.st_size);
    move_holds_locked(renaming, &renaming->from, number);
    if (renaming->directory) {
        aiofs_names_move_locked(tree, &renaming->from, &renaming->to);
        list_held_locked(tree, &renaming->from, &held);
    }
    for (const struct listed *listed = held; listed; listed = listed->next)
        if (aiofs_place_set(&place, listed->path, listed->length) == 0)
            move_holds_locked(renaming, &place, number);
    aiofs_namespace_unlock();
    stack_free(held);
}

int aiofs_volume_rename(aiofs_volume *volume, const char *from, const char *to, const void *owner)
{
    struct renaming renaming = {.grip = {.volume = volume}};
    renaming.grip.owner = owner ? owner : &renaming;
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
    status = grip_all(&renaming);
    if (status == 0)
        status = rename_names(&renaming);
    if (status == 0)
        follow(&renaming);
    grip_release(&renaming.grip);
    return status;
}
