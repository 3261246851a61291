/*
 * dir_sync.c - making the names of created files durable.
 *
 * fsync(2) of a file does not make its name durable: the file's directory has to be synced too, and the directory that
 * this directory was created in. Every name that aiofs creates gets a sequence number, and the table of the tree keeps,
 * for each directory, the first and the last number that may not be on disk. A lock reference keeps the last number
 * that existed when it was taken. Its first flush syncs those directories on its entry's path that have an unsynced
 * name up to that number. So one fsync of a directory covers all names created in it, and a flush costs no fsync of a
 * directory where nothing was created.
 *
 * The tree owns the table and the namespace lock guards it. No lock is held during an fsync.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "sys.h"
#include "volume_internal.h"

static size_t directory_length(const char *path, size_t length)
{
    while (length > 0 && path[length - 1] != '/')
        length--;
    return length > 0 ? length - 1 : 0;
}

static struct aiofs_unsynced **find_locked(struct aiofs_tree *tree, const char *path, size_t length)
{
    struct aiofs_unsynced **link = &tree->names[aiofs_path_hash(path, length) % AIOFS_NAME_BUCKETS];
    while (*link && ((*link)->length != length || memcmp((*link)->path, path, length) != 0))
        link = &(*link)->next;
    return link;
}

static void drop_locked(struct aiofs_tree *tree, struct aiofs_unsynced **link)
{
    struct aiofs_unsynced *names = *link;
    *link = names->next;
    tree->name_count--;
    free(names);
}

/* Adds the numbers `first`..`last` to a directory's range. If malloc fails, the range is not kept, and the kernel alone
 * decides when the names are written. */
static void note_locked(struct aiofs_tree *tree, const char *path, size_t length, uint64_t first, uint64_t last)
{
    struct aiofs_unsynced **link = find_locked(tree, path, length), *names = *link;
    if (names) {
        names->first = first < names->first ? first : names->first;
        names->last = last > names->last ? last : names->last;
    } else if ((names = malloc(sizeof *names + length + 1))) {
        *names = (struct aiofs_unsynced){.first = first, .last = last, .length = length};
        memcpy(names->path, path, length);
        names->path[length] = 0;
        *link = names;
        tree->name_count++;
    }
}

/* A name is about to be created at this path: from the moment that it exists, others can open what is below it, and
 * their flushes cover the name. */
void aiofs_dir_sync_begin(struct aiofs_tree *tree, const struct aiofs_canonical *canonical)
{
    size_t length = directory_length(canonical->path, canonical->length);
    aiofs_namespace_lock();
    uint64_t number = ++tree->name_number;
    note_locked(tree, canonical->path, length, number, number);
    struct aiofs_unsynced *names = *find_locked(tree, canonical->path, length);
    if (names)
        names->making++;
    aiofs_namespace_unlock();
}

/* It was created, or not. Returns the sequence number of the new name, else 0. */
uint64_t aiofs_dir_sync_end(struct aiofs_tree *tree, const struct aiofs_canonical *canonical, bool created)
{
    size_t length = directory_length(canonical->path, canonical->length);
    aiofs_namespace_lock();
    struct aiofs_unsynced **link = find_locked(tree, canonical->path, length);
    uint64_t number = created ? ++tree->name_number : 0;
    if (*link && (*link)->making > 0)
        (*link)->making--;
    if (created)
        note_locked(tree, canonical->path, length, number, number);
    else if (*link && (*link)->making == 0 && (*link)->first == (*link)->last)
        drop_locked(tree, link); /* it was noted for this name only */
    aiofs_namespace_unlock();
    return number;
}

/* The last sequence number if a name of the tree may not be durable, else 0. */
uint64_t aiofs_dir_sync_outstanding_locked(const struct aiofs_tree *tree)
{
    return tree->name_count ? tree->name_number : 0;
}

int aiofs_fsync(int fd)
{
    int status;
    do
        status = aiofs_sys.fsync(fd);
    while (status == -EINTR);
    return status;
}

/* Syncs one directory if it has an unsynced name up to `number`. */
static int sync_directory(struct aiofs_tree *tree, const char *path, size_t length, uint64_t number)
{
    aiofs_namespace_lock();
    struct aiofs_unsynced *names = *find_locked(tree, path, length);
    uint64_t last = names && names->first <= number ? names->last : 0;
    aiofs_namespace_unlock();
    if (last == 0)
        return 0;

    int fd = aiofs_open_beneath(tree, path, O_RDONLY | O_DIRECTORY, 0);
    int status = fd < 0 ? fd : aiofs_fsync(fd);
    if (fd >= 0)
        aiofs_sys.close(fd);
    if (status < 0 && status != -ENOENT) /* a removed directory has no names to sync */
        return status;

    aiofs_namespace_lock();
    struct aiofs_unsynced **link = find_locked(tree, path, length);
    if (*link && (*link)->last <= last && (*link)->making == 0)
        drop_locked(tree, link);
    else if (*link && (*link)->making == 0)
        (*link)->first = last + 1;
    aiofs_namespace_unlock();
    return 0;
}

bool aiofs_lock_ref_is_durable(const aiofs_lock_ref *lock_ref)
{
    return !(lock_ref->volume->flags & AIOFS_VOLUME_LAZY);
}

bool aiofs_lock_ref_dir_is_synced(const aiofs_lock_ref *lock_ref)
{
    return atomic_load(&lock_ref->unsynced) == 0;
}

int aiofs_lock_ref_sync_dir(aiofs_lock_ref *lock_ref)
{
    struct aiofs_canonical canonical;
    struct aiofs_tree *tree = lock_ref->volume->tree;
    uint64_t number = atomic_load(&lock_ref->unsynced);
    int status = 0;
    if (number == 0)
        return 0;
    aiofs_namespace_lock();
    aiofs_canonical_set(&canonical, lock_ref->entry->path, lock_ref->entry->length);
    aiofs_namespace_unlock();
    while (canonical.length > 0 && status == 0) {
        canonical.length = directory_length(canonical.path, canonical.length);
        canonical.path[canonical.length] = 0;
        status = sync_directory(tree, canonical.path, canonical.length, number);
    }
    if (status == 0)
        atomic_compare_exchange_strong(&lock_ref->unsynced, &number, 0);
    return status;
}

/* The directory `from` was renamed to `to`: moves its range, and those of the directories below it. */
void aiofs_dir_sync_move_locked(struct aiofs_tree *tree, const struct aiofs_canonical *from,
                                const struct aiofs_canonical *to)
{
    struct aiofs_unsynced *moved = NULL, *next;
    char path[PATH_MAX];
    for (size_t i = 0; i < AIOFS_NAME_BUCKETS; i++) {
        for (struct aiofs_unsynced **link = &tree->names[i], *names; (names = *link);) {
            bool itself = names->length == from->length && memcmp(names->path, from->path, from->length) == 0;
            if (itself || aiofs_path_below(names->path, names->length, from->path, from->length)) {
                *link = names->next;
                tree->name_count--;
                names->next = moved;
                moved = names;
            } else {
                link = &names->next;
            }
        }
    }
    for (; moved; moved = next) {
        size_t rest = moved->length - from->length;
        next = moved->next;
        if (to->length + rest < sizeof path) {
            memcpy(path, to->path, to->length);
            memcpy(path + to->length, moved->path + from->length, rest);
            note_locked(tree, path, to->length + rest, moved->first, moved->last);
        }
        free(moved);
    }
}

/* Drops the range of a removed directory. */
void aiofs_dir_sync_removed_locked(struct aiofs_tree *tree, const struct aiofs_canonical *canonical)
{
    struct aiofs_unsynced **link = find_locked(tree, canonical->path, canonical->length);
    if (*link)
        drop_locked(tree, link);
}

/* Frees the table, for tree_free. */
void aiofs_dir_sync_free(struct aiofs_tree *tree)
{
    for (size_t i = 0; i < AIOFS_NAME_BUCKETS; i++)
        while (tree->names[i])
            drop_locked(tree, &tree->names[i]);
}
