/*
 * dir_sync.c - making names durable.
 *
 * A file that was synced can still be lost with its name: the directory has to be synced too, and so has
 * the directory that this one was made in. Every name that aiofs makes gets a number, and its directory
 * remembers the first and the last number that may not be on disk. A lock reference knows the last number there was
 * when it was taken; its first flush syncs the directories above it that remember one up to there. So each
 * directory is synced once for all the names made in it, and a flush where nothing was made costs nothing.
 *
 * The table hangs on the tree and is guarded by the namespace lock; no lock is held during an fsync.
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

/* Notes `first`..`last` for a directory; without memory for it, the name is only as durable as the kernel
 * makes it by itself. */
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

/* A name was made at `place`: its number. */
uint64_t aiofs_name_made(struct aiofs_tree *tree, const struct aiofs_place *place)
{
    aiofs_namespace_lock();
    uint64_t number = ++tree->name_number;
    note_locked(tree, place->path, directory_length(place->path, place->length), number, number);
    aiofs_namespace_unlock();
    return number;
}

/* The last number, if any name of the tree may not be durable; else 0. */
uint64_t aiofs_dir_sync_outstanding_locked(const struct aiofs_tree *tree)
{
    return tree->name_count ? tree->name_number : 0;
}

/* Syncs one directory if it remembers a name up to `number`. */
static int sync_directory(struct aiofs_tree *tree, const char *path, size_t length, uint64_t number)
{
    aiofs_namespace_lock();
    struct aiofs_unsynced *names = *find_locked(tree, path, length);
    uint64_t last = names && names->first <= number ? names->last : 0;
    aiofs_namespace_unlock();
    if (last == 0)
        return 0;

    int fd = aiofs_open_beneath(tree, path, O_RDONLY | O_DIRECTORY, 0);
    int status = fd < 0 ? fd : aiofs_sys.fsync(fd);
    if (fd >= 0)
        aiofs_sys.close(fd);
    if (status < 0 && status != -ENOENT) /* a directory that is gone has nothing to lose */
        return status;

    aiofs_namespace_lock();
    struct aiofs_unsynced **link = find_locked(tree, path, length);
    if (*link && (*link)->last <= last)
        drop_locked(tree, link);
    else if (*link)
        (*link)->first = last + 1;
    aiofs_namespace_unlock();
    return 0;
}

int aiofs_lock_ref_sync_dir(aiofs_lock_ref *lock_ref)
{
    struct aiofs_place place;
    struct aiofs_tree *tree = lock_ref->volume->tree;
    uint64_t number = atomic_load(&lock_ref->unsynced);
    int status = 0;
    if (number == 0)
        return 0;
    aiofs_namespace_lock();
    aiofs_place_set(&place, lock_ref->entry->path, lock_ref->entry->length);
    aiofs_namespace_unlock();
    while (place.length > 0 && status == 0) {
        place.length = directory_length(place.path, place.length);
        place.path[place.length] = 0;
        status = sync_directory(tree, place.path, place.length, number);
    }
    if (status == 0)
        atomic_compare_exchange_strong(&lock_ref->unsynced, &number, 0);
    return status;
}

/* The directory `from` is now `to`: so is what was remembered for it and for those below. */
void aiofs_dir_sync_move_locked(struct aiofs_tree *tree, const struct aiofs_place *from, const struct aiofs_place *to)
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

/* Nothing is left to sync in a directory that was removed. */
void aiofs_dir_sync_removed_locked(struct aiofs_tree *tree, const struct aiofs_place *place)
{
    struct aiofs_unsynced **link = find_locked(tree, place->path, place->length);
    if (*link)
        drop_locked(tree, link);
}

/* At the end of the tree. */
void aiofs_dir_sync_forget(struct aiofs_tree *tree)
{
    for (size_t i = 0; i < AIOFS_NAME_BUCKETS; i++)
        while (tree->names[i])
            drop_locked(tree, &tree->names[i]);
}
