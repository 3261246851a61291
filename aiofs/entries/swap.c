/*
 * swap.c - swap files: the bytes of an open file whose changes appear all or nothing.
 *
 * An access handle in mode exclusive or shared, and a writable stream, read and write a swap file, in the directory
 * .aiofs/swap of the volume: a copy of the entry's file, or an empty file. The commit gives the swap file the attributes
 * of the entry's file, syncs it, renames it to the entry's path, and syncs the entry's directory. A file that is not
 * committed is removed before its lock is released. Killed at any moment, the process leaves the old file or the new
 * one, and perhaps a stale swap file.
 *
 * Stale swap files. The maker has a write lock (F_OFD_SETLK) on the byte SWAP_BYTE of its swap file, and the kernel frees
 * it when the maker dies. Who can take that lock removes the file: at the opening of a volume, and before a swap file is
 * made if the shared page counts more swap files than this process has. The maker may lose the race for its own new file;
 * then it makes another.
 *
 * Ownership. The lock reference owns its swap. The open file owns the descriptor.
 *
 * Locking. The functions here are called without the namespace lock. Only the owner of the open file calls
 * aiofs_swap_commit, after its last request; `changed` is atomic, because requests in flight set it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sys.h"
#include "volume_internal.h"

#define SWAP_DIR "swap"
#define SWAP_BYTE ((int64_t)1 << 62)
#define TRIES_MAX 1000 /* names, and races with who removes stale files */

struct aiofs_swap {
    char name[sizeof SWAP_DIR "/0123456789abcdef"]; /* relative to .aiofs; "": there is no file of that name */
    ino_t ino;
    _Atomic bool changed;
    struct timespec mtime; /* of the swap file as it was made: another one shows changes that bypassed the engine */
    aiofs_swap_commit_function *commit; /* not NULL: the swap of a virtual volume */
    void (*release)(void *self);
    void *self;
};

/* ---- stale swap files ---------------------------------------------------------------------------------- */

static void count_by(const struct aiofs_tree *tree, int by)
{
    if (tree->tally)
        atomic_fetch_add(&tree->tally->swaps, by);
}

/* Removes a swap file if its maker is dead. True: it is alive, and the file stays. */
static bool is_alive_or_removed(const struct aiofs_tree *tree, int directory, const char *name)
{
    int fd = aiofs_sys.openat(directory, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0);
    if (fd < 0)
        return fd != -ENOENT;
    bool alive = aiofs_bytes_set(fd, F_WRLCK, SWAP_BYTE, 1) < 0;
    if (!alive && aiofs_sys.unlinkat(directory, name, 0) == 0)
        count_by(tree, -1);
    aiofs_sys.close(fd);
    return alive;
}

static int visit(const char *name, int directory, void *context)
{
    struct aiofs_tree *tree = context;
    unsigned alive = is_alive_or_removed(tree, directory, name);
    atomic_fetch_add(&tree->swaps_found, alive);
    return 0;
}

void aiofs_swap_clean(struct aiofs_tree *tree)
{
    atomic_store(&tree->swaps_searched, tree->own_dir >= 0);
    int directory = tree->own_dir < 0
                        ? -ENOENT
                        : aiofs_sys.openat(tree->own_dir, SWAP_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
    if (directory < 0)
        return;
    int32_t counted = tree->tally ? atomic_load(&tree->tally->swaps) : 0;
    atomic_store(&tree->swaps_found, 0);
    atomic_store(&tree->swaps_made, 0);
    int status = aiofs_directory_visit(directory, visit, tree);
    aiofs_sys.close(directory);
    /* A maker that died before it made the file was counted. */
    if (status == 0 && atomic_load(&tree->swaps_found) == 0 && tree->tally)
        atomic_compare_exchange_strong(&tree->tally->swaps, &counted, 0);
}

/* A search costs time in proportion to the living swap files, so there is one for as many new ones. */
static void clean_if_due(struct aiofs_tree *tree)
{
    if (!atomic_load(&tree->swaps_searched)) { /* the volume had no .aiofs open when it was opened */
        aiofs_swap_clean(tree);
        return;
    }
    if (tree->tally && atomic_load(&tree->tally->swaps) == atomic_load(&tree->swaps))
        return;
    if (atomic_fetch_add(&tree->swaps_made, 1) >= atomic_load(&tree->swaps_found))
        aiofs_swap_clean(tree);
}

/* ---- making a swap file ----------------------------------------------------------------------------------- */

static void name_swap(struct aiofs_swap *swap)
{
    static _Atomic uint32_t number;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t unique = (uint64_t)now.tv_sec << 32 ^ (uint64_t)now.tv_nsec << 8 ^ atomic_fetch_add(&number, 1);
    snprintf(swap->name, sizeof swap->name, SWAP_DIR "/%016llx", (unsigned long long)unique);
}

static int make_directory(const struct aiofs_tree *tree)
{
    struct stat own;
    int status = aiofs_sys.fstat(tree->own_dir, &own);
    if (status == 0)
        status = aiofs_sys.mkdirat(tree->own_dir, SWAP_DIR, own.st_mode & 0777);
    return status == -EEXIST ? 0 : status;
}

/* Locks a new swap file. -EEXIST: another process removed it, or is about to. */
static int lock_swap(struct aiofs_swap *swap, int fd)
{
    struct stat made;
    int status = aiofs_bytes_set(fd, F_WRLCK, SWAP_BYTE, 1);
    if (status == -EBUSY)
        return -EEXIST;
    if (status == 0)
        status = aiofs_sys.fstat(fd, &made);
    if (status == 0 && made.st_nlink == 0)
        status = -EEXIST;
    swap->ino = made.st_ino;
    swap->mtime = made.st_mtim;
    return status;
}

static void remove_swap(const struct aiofs_tree *tree, struct aiofs_swap *swap)
{
    if (swap->name[0])
        aiofs_sys.unlinkat(tree->own_dir, swap->name, 0);
    swap->name[0] = 0;
}

static int open_swap(const struct aiofs_tree *tree, struct aiofs_swap *swap)
{
    int fd = -EEXIST, status;
    for (int i = 0; i < TRIES_MAX && fd == -EEXIST; i++) {
        name_swap(swap);
        fd = aiofs_sys.openat(tree->own_dir, swap->name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd == -ENOENT)
            fd = (status = make_directory(tree)) == 0 ? -EEXIST : status;
        if (fd < 0 || (status = lock_swap(swap, fd)) == 0)
            continue;
        remove_swap(tree, swap);
        aiofs_sys.close(fd);
        fd = status;
    }
    return fd;
}

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
    if (status == 0)
        set_old_time(lock_ref->swap, fd);
    return status;
}

int aiofs_swap_make(aiofs_lock_ref *lock_ref, int source, bool copy)
{
    struct aiofs_tree *tree = lock_ref->volume->tree;
    struct aiofs_swap *swap = calloc(1, sizeof *swap);
    if (!swap)
        return -ENOMEM;
    clean_if_due(tree);
    count_by(tree, 1);
    atomic_fetch_add(&tree->swaps, 1);
    int fd = open_swap(tree, swap);
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

static int sync_swap(int fd)
{
    int status;
    do
        status = aiofs_sys.fsync(fd);
    while (status == -EINTR);
    return status;
}

/* Gives the swap file the attributes of the file at the entry's path, and `old` what that is. -ENOENT: the file was
 * removed, or its directory. */
static int take_attributes(const struct aiofs_parent *parent, int fd, const struct stat *now, struct stat *old)
{
    int source = aiofs_sys.openat(parent->fd, parent->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0);
    int status = source >= 0           ? aiofs_sys.fstat(source, old)
                 : source == -EACCES   ? aiofs_sys.fstatat(parent->fd, parent->name, old, AT_SYMLINK_NOFOLLOW)
                                       : source;
    if (status == 0 && !S_ISREG(old->st_mode))
        status = S_ISDIR(old->st_mode) ? -EISDIR : -EOPNOTSUPP;
    if (status == 0)
        status = aiofs_copy_attributes(source, old, fd, now);
    if (source >= 0)
        aiofs_sys.close(source);
    return status == -ENOTDIR ? -ENOENT : status;
}

/* Renames the swap file to the entry's path. If sizes are counted, it exchanges the two files, so that the size of the
 * file that it replaced is certain: another process may commit at the same moment. */
static int rename_swap(const struct aiofs_tree *tree, struct aiofs_swap *swap, const struct aiofs_parent *parent,
                       struct stat *old)
{
    const unsigned exchange = 2; /* RENAME_EXCHANGE */
    int status = -EINVAL;
    if (aiofs_quota_counted(tree)) {
        status = aiofs_sys.renameat2(tree->own_dir, swap->name, parent->fd, parent->name, exchange);
        if (status == 0) {
            aiofs_sys.fstatat(tree->own_dir, swap->name, old, AT_SYMLINK_NOFOLLOW);
            remove_swap(tree, swap);
        }
    }
    if (status == -EINVAL)
        status = aiofs_sys.renameat2(tree->own_dir, swap->name, parent->fd, parent->name, 0);
    if (status == 0)
        swap->name[0] = 0;
    return status;
}

static int replace(struct aiofs_lock_ref *lock_ref, const struct aiofs_parent *parent, int fd, const struct stat *now)
{
    struct stat old;
    bool begun = aiofs_change_begin(lock_ref->volume->tree);
    int status = take_attributes(parent, fd, now, &old);
    if (status == 0)
        status = aiofs_quota_swap_charge(lock_ref, old.st_size, now->st_size);
    if (status == 0 && aiofs_lock_ref_is_durable(lock_ref))
        status = sync_swap(fd);
    if (status == 0)
        status = rename_swap(lock_ref->volume->tree, lock_ref->swap, parent, &old);
    if (status == 0)
        aiofs_quota_swap_end(lock_ref, old.st_size, now->st_size);
    aiofs_change_end(lock_ref->volume->tree, begun);
    return status;
}

static bool is_changed(struct aiofs_swap *swap, const struct stat *now)
{
    return atomic_load(&swap->changed) || now->st_mtim.tv_sec != swap->mtime.tv_sec ||
           now->st_mtim.tv_nsec != swap->mtime.tv_nsec;
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
    if (status < 0 || !is_changed(lock_ref->swap, &now))
        return status;
    aiofs_namespace_lock();
    aiofs_canonical_set(&canonical, lock_ref->entry->path, lock_ref->entry->length);
    aiofs_namespace_unlock();
    status = aiofs_parent_open(tree, &canonical, &parent);
    if (status == 0) {
        status = replace(lock_ref, &parent, fd, &now);
        aiofs_parent_close(&parent);
    }
    if (status < 0)
        return status == -ENOTDIR ? -ENOENT : status;
    aiofs_generation_increment(lock_ref);
    atomic_store(&lock_ref->unsynced, aiofs_dir_sync_created(tree, &canonical));
    return aiofs_lock_ref_is_durable(lock_ref) ? aiofs_lock_ref_sync_dir(lock_ref) : 0;
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
        remove_swap(tree, swap);
        count_by(tree, -1);
        atomic_fetch_sub(&tree->swaps, 1);
    }
    free(swap);
}
