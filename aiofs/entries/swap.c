/*
 * swap.c - swap files: the bytes of an open file whose changes appear all or nothing.
 *
 * An access handle in mode exclusive or shared, and a writable stream, read and write a swap file, in the directory
 * .aiofs/swap of the volume: a copy of the entry's file, or an empty file. The commit gives the swap file the attributes
 * of the entry's file, syncs it, renames it to the entry's path, and syncs the entry's directory. A file that is not
 * committed is removed before its lock is released. Killed at any moment, the process leaves the old file or the new
 * one, and perhaps a stale swap file.
 *
 * A stale swap file is found by the lock that its maker has on it; see swap_file.c. Where the entry lies on another
 * filesystem than .aiofs, the commit is that of swap_beside.c.
 *
 * Ownership. The lock reference owns its swap. The open file owns the descriptor.
 *
 * Locking. The functions here are called without the namespace lock. Only the owner of the open file calls
 * aiofs_swap_commit, after its last request; `changed` is atomic, because requests in flight set it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "swap.h"
#include "sys.h"

/* Whether somebody waits for the copy. The opening of an abandoned handle ends early. */
static bool is_wanted(void *context, int64_t copied)
{
    const struct aiofs_lock_ref *lock_ref = context;
    (void)copied;
    aiofs_namespace_lock();
    bool wanted = !lock_ref->releasing;
    aiofs_namespace_unlock();
    return wanted;
}

/* Sets a time that no change leaves as it is. On an error, the change of size or time has to show. */
static void set_old_time(struct aiofs_swap *swap, int fd)
{
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1}};
    if (aiofs_sys.utimensat(fd, NULL, times, 0) == 0)
        swap->mtime = times[1];
}

static int fill(struct aiofs_lock_ref *lock_ref, int fd, int source, bool copy)
{
    struct stat found;
    int status = aiofs_sys.fstat(source, &found);
    if (status == 0 && copy)
        status = aiofs_copy_bytes(source, fd, &found, &lock_ref->volume->tree->cannot_clone, is_wanted, lock_ref);
    if (status == 0)
        status = aiofs_quota_swap_begin(lock_ref, found.st_size);
    if (status == 0 && copy) /* an empty file is committed in any case, with its time */
        set_old_time(lock_ref->swap, fd);
    return status;
}

static void canonical_of(const struct aiofs_lock_ref *lock_ref, struct aiofs_canonical *canonical)
{
    aiofs_namespace_lock();
    aiofs_canonical_set(canonical, lock_ref->entry->path, lock_ref->entry->length);
    aiofs_namespace_unlock();
}

/* Whether the commit may rename in the entry's directory: better refused now than after the work. 0, -EACCES, -EROFS, or
 * another errno. */
static int check_directory(const struct aiofs_lock_ref *lock_ref)
{
    struct aiofs_canonical canonical;
    struct aiofs_parent parent;
    canonical_of(lock_ref, &canonical);
    int status = aiofs_parent_open(lock_ref->volume->tree, &canonical, &parent);
    if (status < 0)
        return status;
    status = aiofs_sys.faccessat(parent.fd, ".", W_OK | X_OK, AT_EACCESS);
    aiofs_parent_close(&parent);
    return status;
}

int aiofs_swap_make(aiofs_lock_ref *lock_ref, int source, bool copy)
{
    struct aiofs_tree *tree = lock_ref->volume->tree;
    int refused = check_directory(lock_ref);
    struct aiofs_swap *swap = refused < 0 ? NULL : calloc(1, sizeof *swap);
    if (!swap)
        return refused < 0 ? refused : -ENOMEM;
    aiofs_swap_begin(tree);
    int fd = aiofs_swap_open(tree, swap, false);
    lock_ref->swap = swap; /* from here on, the release of the lock reference removes the file */
    if (fd < 0) {
        swap->name[0] = 0;
        return fd;
    }
    atomic_store(&swap->changed, !copy); /* an empty file is a change */
    int status = fill(lock_ref, fd, source, copy);
    if (status < 0) {
        aiofs_sys.close(fd);
        return status;
    }
    return fd;
}

int aiofs_swap_adopt(aiofs_lock_ref *lock_ref, bool changed, aiofs_swap_commit_function *commit,
                     void (*release)(void *self), void *self)
{
    struct aiofs_swap *swap = calloc(1, sizeof *swap);
    if (!swap)
        return -ENOMEM;
    *swap = (struct aiofs_swap){.commit = commit, .release = release, .self = self};
    atomic_store(&swap->changed, changed);
    lock_ref->swap = swap;
    return 0;
}

void aiofs_swap_changed(struct aiofs_swap *swap)
{
    atomic_store_explicit(&swap->changed, true, memory_order_relaxed);
}

bool aiofs_lock_ref_swapped(const aiofs_lock_ref *lock_ref)
{
    return lock_ref->swap != NULL;
}

/* ---- commit ------------------------------------------------------------------------------------------------ */

static int rename_swap(struct aiofs_lock_ref *lock_ref, const struct aiofs_canonical *canonical,
                       const struct aiofs_parent *parent, int fd, const struct stat *now, struct stat *old)
{
    struct aiofs_tree *tree = lock_ref->volume->tree;
    struct aiofs_swap *swap = lock_ref->swap;
    int status = aiofs_swap_rename(tree, tree->own_dir, swap->name, parent, old);
    if (status == 0)
        swap->name[0] = 0;
    return status == -EXDEV ? aiofs_swap_replace_beside(lock_ref, canonical, parent, fd, now, old) : status;
}

static int replace(struct aiofs_lock_ref *lock_ref, const struct aiofs_canonical *canonical,
                   const struct aiofs_parent *parent, int fd, const struct stat *now)
{
    struct stat old;
    int status = aiofs_swap_take_attributes(parent, fd, now, &old);
    if (status == 0)
        status = aiofs_quota_swap_charge(lock_ref, old.st_size, now->st_size);
    bool charged = status > 0;
    if (status >= 0)
        status = aiofs_lock_ref_is_durable(lock_ref) ? aiofs_fsync(fd) : 0;
    if (status == 0)
        status = rename_swap(lock_ref, canonical, parent, fd, now, &old);
    if (status == 0 && charged)
        aiofs_quota_swap_end(lock_ref, old.st_size, now->st_size);
    aiofs_change_end(lock_ref->volume->tree, charged);
    return status;
}

static bool is_changed(struct aiofs_swap *swap, const struct stat *now)
{
    return atomic_load(&swap->changed) || now->st_mtim.tv_sec != swap->mtime.tv_sec ||
           now->st_mtim.tv_nsec != swap->mtime.tv_nsec;
}

static int sync_name(struct aiofs_lock_ref *lock_ref)
{
    return aiofs_lock_ref_is_durable(lock_ref) ? aiofs_lock_ref_sync_dir(lock_ref) : 0;
}

static int commit_file(struct aiofs_lock_ref *lock_ref, int fd)
{
    struct aiofs_tree *tree = lock_ref->volume->tree;
    struct aiofs_canonical canonical;
    struct aiofs_parent parent;
    struct stat now;
    int status = aiofs_sys.fstat(fd, &now);
    if (status == 0 && now.st_ino != lock_ref->swap->ino)
        status = -EBADF; /* the program closed the descriptor */
    if (status == 0 && !is_changed(lock_ref->swap, &now))
        return sync_name(lock_ref);
    if (status < 0)
        return status;
    canonical_of(lock_ref, &canonical);
    status = aiofs_parent_open(tree, &canonical, &parent);
    if (status == 0) {
        aiofs_dir_sync_begin(tree, &canonical);
        status = replace(lock_ref, &canonical, &parent, fd, &now);
        uint64_t number = aiofs_dir_sync_end(tree, &canonical, status == 0);
        if (number)
            atomic_store(&lock_ref->unsynced, number);
        aiofs_parent_close(&parent);
    }
    if (status < 0)
        return status == -ENOTDIR ? -ENOENT : status;
    aiofs_generation_increment(lock_ref);
    return sync_name(lock_ref);
}

int64_t aiofs_swap_commit(aiofs_lock_ref *lock_ref, int fd)
{
    struct aiofs_swap *swap = lock_ref->swap;
    if (lock_ref->lost)
        return -EBADF;
    if (!swap->commit)
        return commit_file(lock_ref, fd);
    if (!atomic_load(&swap->changed))
        return 0;
    int64_t status = swap->commit(swap->self, fd);
    aiofs_generation_increment(lock_ref);
    return status;
}

/* ---- the end --------------------------------------------------------------------------------------------- */

void aiofs_swap_end(struct aiofs_lock_ref *lock_ref)
{
    struct aiofs_swap *swap = lock_ref->swap;
    struct aiofs_tree *tree = lock_ref->volume->tree;
    lock_ref->swap = NULL;
    if (!swap)
        return;
    if (swap->release)
        swap->release(swap->self);
    if (!swap->commit && !lock_ref->lost) { /* else the file is the parent process's */
        aiofs_swap_remove(tree, swap);
        aiofs_swap_ended(tree);
    }
    free(swap);
}
