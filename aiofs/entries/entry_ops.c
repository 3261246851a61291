/*
 * entry_ops.c - operations on one path of a volume: open, stat, mkdir, remove, truncate.
 *
 * An operation takes the lock on the canonical path first, and opens or changes the file under it. So it never creates,
 * truncates or removes a file that another holder has locked, and the file that it opens is the one that the lock is
 * for. Opening and closing an existing file costs five system calls: lock, open, fstat, close, unlock.
 *
 * A call owns its descriptors and its temporary lock references, and closes them before it returns. The descriptor and
 * the lock reference of an opened file pass to the caller.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "cached.h"
#include "volume_internal.h"

#define RACES_MAX 8 /* retries while other processes create and remove the file that we open */

/* ---- open -------------------------------------------------------------------------------------------- */

struct opening {
    aiofs_volume *volume;
    struct aiofs_canonical canonical;
    int flags;
    mode_t mode;
    aiofs_lock_ref *lock_ref;
    bool created;
};

static bool writes(int flags)
{
    return (flags & O_ACCMODE) != O_RDONLY;
}

static int check_opening(const aiofs_volume *volume, int flags, enum aiofs_lock lock)
{
    if (volume->tree->root < 0)
        return -ENOSYS;
    if ((flags & O_TMPFILE) == O_TMPFILE || flags & O_PATH)
        return -EOPNOTSUPP;
    bool changes = writes(flags) || flags & O_TRUNC || (lock != AIOFS_LOCK_NONE && lock != AIOFS_LOCK_READ_ONLY);
    return changes && volume->flags & AIOFS_VOLUME_READ_ONLY ? -EROFS : 0;
}

static int create(struct opening *opening, int flags)
{
    struct aiofs_tree *tree = opening->volume->tree;
    aiofs_dir_sync_begin(tree, &opening->canonical);
    int fd = aiofs_open_beneath(tree, opening->canonical.path, flags, opening->mode);
    opening->created = fd >= 0;
    uint64_t number = aiofs_dir_sync_end(tree, &opening->canonical, opening->created);
    if (number)
        opening->lock_ref->unsynced = number;
    return fd;
}

/* Opens the file, or creates it. Creation uses O_EXCL, so that `created` says whether this call created the file. */
static int open_or_create(struct opening *opening)
{
    const struct aiofs_tree *tree = opening->volume->tree;
    /* O_NONBLOCK: opening a FIFO must not wait for its other end. */
    int plain = (opening->flags & ~(O_CREAT | O_EXCL | O_TRUNC)) | O_NONBLOCK, fd = -ENOENT;
    if (opening->canonical.slash)
        plain |= O_DIRECTORY;
    for (int i = 0; i < RACES_MAX; i++) {
        bool exclusive = opening->flags & O_CREAT && opening->flags & O_EXCL;
        if (!exclusive) {
            fd = aiofs_open_beneath(tree, opening->canonical.path, plain, 0);
            if (fd != -ENOENT || !(opening->flags & O_CREAT))
                return fd;
        }
        if (opening->volume->flags & AIOFS_VOLUME_READ_ONLY)
            return -EROFS;
        if (opening->canonical.slash)
            return -EISDIR;
        if (cached_refuse())
            return -EAGAIN;
        fd = create(opening, plain | O_CREAT | O_EXCL);
        if (fd != -EEXIST || exclusive)
            return fd;
    }
    return fd;
}

static int check_kind(const struct stat *status)
{
    if (S_ISDIR(status->st_mode))
        return -EISDIR;
    return S_ISREG(status->st_mode) ? 0 : -EOPNOTSUPP;
}

/* O_TRUNC, now that the lock is held. */
static int truncate_opened(struct opening *opening, int fd, int64_t before)
{
    struct aiofs_tree *tree = opening->volume->tree;
    bool begun = aiofs_change_begin(tree);
    int status;
    if (writes(opening->flags)) {
        status = aiofs_sys.ftruncate(fd, 0);
    } else { /* O_RDONLY | O_TRUNC: Linux allows it to a user with write permission */
        status = aiofs_open_beneath(tree, opening->canonical.path, O_RDONLY | O_TRUNC, 0);
        if (status >= 0)
            aiofs_sys.close(status);
    }
    if (status >= 0)
        aiofs_lock_ref_changed(opening->lock_ref);
    if (status >= 0 && aiofs_quota_counted(tree)) {
        aiofs_namespace_lock();
        aiofs_quota_truncated_locked(opening->volume, opening->lock_ref->entry, before);
        aiofs_namespace_unlock();
    }
    aiofs_change_end(tree, begun);
    return status < 0 ? status : 0;
}

/* Opens the entry under its lock: a descriptor. */
static int open_entry(struct opening *opening, struct stat *found)
{
    int fd = open_or_create(opening);
    if (fd < 0)
        return fd == -ENXIO ? -EOPNOTSUPP : fd; /* -ENXIO: a FIFO without a reader, or a missing device */
    int status = aiofs_sys.fstat(fd, found);
    if (status == 0)
        status = check_kind(found);
    if (status == 0 && !(opening->flags & O_NONBLOCK))
        status = aiofs_sys.fcntl(fd, F_SETFL, opening->flags);
    if (status == 0 && opening->flags & O_TRUNC && !opening->created)
        status = truncate_opened(opening, fd, found->st_size);
    if (status < 0) {
        aiofs_sys.close(fd);
        return status;
    }
    return fd;
}

/* The errno for a locked file. With O_CREAT | O_EXCL it is -EEXIST if the file exists: a program that tries names until
 * one is free expects that. */
static int busy_or_exists(const struct opening *opening)
{
    struct stat found;
    if (!(opening->flags & O_CREAT && opening->flags & O_EXCL))
        return -EBUSY;
    return aiofs_canonical_stat(opening->volume->tree, &opening->canonical, &found) == 0 ? -EEXIST : -EBUSY;
}

int aiofs_entry_open(aiofs_volume *volume, const char *path, int flags, mode_t mode, enum aiofs_lock lock,
                     const void *owner, aiofs_lock_ref **lock_ref, struct stat *found)
{
    struct opening opening = {.volume = volume, .flags = flags, .mode = mode};
    aiofs_lock_ref *guard = NULL; /* O_RDONLY | O_TRUNC needs a lock during the call only */
    bool follow = !(flags & O_NOFOLLOW || (flags & O_CREAT && flags & O_EXCL));

    int status = check_opening(volume, flags, lock);
    if (status == 0)
        status = aiofs_path_resolve(volume, path, follow, &opening.canonical);
    if (status < 0)
        return status;
    if (opening.canonical.length == 0)
        return -EISDIR;
    if (opening.canonical.special)
        return flags & O_CREAT && flags & O_EXCL ? -EEXIST : -EOPNOTSUPP;
    if (lock != AIOFS_LOCK_NONE || flags & O_TRUNC)
        status = aiofs_tree_prepare(volume->tree, !(volume->flags & AIOFS_VOLUME_READ_ONLY));
    if (status == 0 && writes(flags))
        aiofs_quota_prepare(volume->tree);
    if (status == 0 && lock == AIOFS_LOCK_NONE && flags & O_TRUNC)
        status = aiofs_lock_ref_take_temporary(volume, &opening.canonical, owner, &guard);
    if (status == 0)
        status = aiofs_lock_ref_take_at(volume, &opening.canonical, lock, owner, &opening.lock_ref);
    if (status == 0) {
        status = open_entry(&opening, found);
        if (status < 0) {
            aiofs_lock_ref_release(opening.lock_ref);
        } else {
            opening.lock_ref->created = opening.created;
            *lock_ref = opening.lock_ref;
        }
    } else if (status == -EBUSY) {
        status = busy_or_exists(&opening);
    }
    aiofs_lock_ref_release(guard);
    return status;
}

bool aiofs_lock_ref_created(const aiofs_lock_ref *lock_ref)
{
    return lock_ref->created;
}

int aiofs_volume_open_directory(aiofs_volume *volume, const char *path)
{
    struct aiofs_canonical canonical;
    if (volume->tree->root < 0)
        return -ENOSYS;
    int status = aiofs_path_resolve(volume, path, true, &canonical);
    return status < 0 ? status : aiofs_open_beneath(volume->tree, canonical.path, O_RDONLY | O_DIRECTORY, 0);
}

/* ---- stat -------------------------------------------------------------------------------------------- */

int aiofs_volume_lstat(aiofs_volume *volume, const char *path, struct stat *out)
{
    struct aiofs_canonical canonical;
    if (volume->tree->root < 0)
        return -ENOSYS;
    int status = aiofs_path_resolve(volume, path, false, &canonical);
    return status < 0 ? status : aiofs_canonical_stat(volume->tree, &canonical, out);
}

int aiofs_volume_stat(aiofs_volume *volume, const char *path, struct stat *out)
{
    struct aiofs_canonical canonical;
    if (volume->tree->root < 0)
        return -ENOSYS;
    int status = aiofs_path_resolve(volume, path, true, &canonical);
    if (status == 0)
        status = aiofs_canonical_stat(volume->tree, &canonical, out);
    if (status == 0 && S_ISLNK(out->st_mode))
        return -ELOOP;
    if (status == 0 && canonical.slash && !S_ISDIR(out->st_mode))
        return -ENOTDIR;
    return status;
}

int aiofs_lock_ref_stat(aiofs_lock_ref *lock_ref, struct stat *out)
{
    struct aiofs_canonical canonical;
    aiofs_namespace_lock();
    aiofs_canonical_set(&canonical, lock_ref->entry->path, lock_ref->entry->length);
    aiofs_namespace_unlock();
    return aiofs_canonical_stat(lock_ref->volume->tree, &canonical, out);
}

/* Whether a change at this moment could leave a timestamp as it is: timestamps come from a clock with a coarse tick. One
 * more than a tick ahead of the clock was set by utimensat(2), and no change yields it again. */
static bool later_change_may_keep(struct timespec timestamp)
{
    const int64_t tick = 20000000; /* ns; longer than the tick of any kernel configuration */
    struct timespec now;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    if (timestamp.tv_sec < now.tv_sec || timestamp.tv_sec > now.tv_sec + 1)
        return false;
    int64_t ahead = (timestamp.tv_sec - now.tv_sec) * 1000000000 + timestamp.tv_nsec - now.tv_nsec;
    return ahead >= 0 && ahead < tick;
}

int aiofs_volume_snapshot(aiofs_volume *volume, const char *path, struct stat *out)
{
    const struct timespec pause = {0, 1000000};
    int status;
    while ((status = aiofs_volume_stat(volume, path, out)) == 0 && !volume->tree->fine_times &&
           (later_change_may_keep(out->st_mtim) || later_change_may_keep(out->st_ctim))) {
        if (cached_refuse())
            return -EAGAIN;
        nanosleep(&pause, NULL);
    }
    return status;
}

int aiofs_volume_stat_cached(aiofs_volume *volume, const char *path, struct stat *out)
{
    if (!volume->tree->local)
        return -EAGAIN;
    cached_begin();
    int status = aiofs_volume_stat(volume, path, out);
    return cached_end() ? -EAGAIN : status;
}

int aiofs_volume_snapshot_cached(aiofs_volume *volume, const char *path, struct stat *out, uint64_t *generation)
{
    if (!volume->tree->local)
        return -EAGAIN;
    cached_begin();
    int status = aiofs_volume_snapshot(volume, path, out);
    *generation = aiofs_volume_generation(volume, path);
    return cached_end() ? -EAGAIN : status;
}

/* ---- mkdir, remove, truncate ---------------------------------------------------------------------------- */

int aiofs_volume_mkdir(aiofs_volume *volume, const char *path, mode_t mode)
{
    struct aiofs_canonical canonical;
    struct aiofs_parent parent;
    int status = aiofs_check_writable(volume);
    if (status == 0)
        status = aiofs_path_resolve(volume, path, false, &canonical);
    if (status < 0)
        return status;
    if (canonical.length == 0)
        return -EEXIST;
    status = aiofs_parent_open(volume->tree, &canonical, &parent);
    if (status < 0)
        return status;
    aiofs_dir_sync_begin(volume->tree, &canonical);
    status = aiofs_sys.mkdirat(parent.fd, parent.name, mode);
    aiofs_dir_sync_end(volume->tree, &canonical, status == 0);
    aiofs_parent_close(&parent);
    return status;
}

/* What a removal holds: a temporary lock on the entry, its parent directory, and perhaps a claim. */
struct removal {
    struct aiofs_canonical canonical;
    struct aiofs_parent parent;
    aiofs_lock_ref *lock_ref;
    int claim;
};

static void removal_end(struct removal *removal)
{
    aiofs_lock_ref_release(removal->lock_ref);
    aiofs_absence_unclaim(removal->claim);
}

static int removal_begin(aiofs_volume *volume, const char *path, const void *owner, struct removal *removal)
{
    removal->lock_ref = NULL;
    removal->claim = -1;
    int status = aiofs_check_writable(volume);
    if (status == 0)
        status = aiofs_path_resolve(volume, path, false, &removal->canonical);
    if (status == 0 && removal->canonical.length == 0)
        status = -EBUSY;
    if (status == 0)
        status = aiofs_absence_claim(volume->tree, &removal->claim);
    if (status == 0)
        status = aiofs_refuse_locked_target(volume, path, &removal->canonical, owner);
    if (status == 0)
        status = aiofs_lock_ref_take_temporary(volume, &removal->canonical, owner, &removal->lock_ref);
    if (status == 0)
        status = aiofs_parent_open(volume->tree, &removal->canonical, &removal->parent);
    if (status < 0)
        removal_end(removal);
    return status;
}

int aiofs_volume_rmdir(aiofs_volume *volume, const char *path)
{
    struct removal removal;
    int status = removal_begin(volume, path, NULL, &removal);
    if (status < 0)
        return status;
    status = aiofs_sys.unlinkat(removal.parent.fd, removal.parent.name, AT_REMOVEDIR);
    aiofs_parent_close(&removal.parent);
    if (status == 0) {
        aiofs_namespace_lock();
        aiofs_dir_sync_removed_locked(volume->tree, &removal.canonical);
        aiofs_namespace_unlock();
    } else if (status == -ENOTEMPTY || status == -EEXIST) {
        status = aiofs_subtree_locked(volume, &removal.canonical) ? -EBUSY : -ENOTEMPTY;
    }
    removal_end(&removal);
    return status;
}

int aiofs_volume_unlink(aiofs_volume *volume, const char *path, const void *owner)
{
    struct stat found = {0};
    struct aiofs_tree *tree = volume->tree;
    struct removal removal;
    int status = removal_begin(volume, path, owner, &removal);
    if (status < 0)
        return status;
    const struct aiofs_parent *parent = &removal.parent;
    bool counted = aiofs_change_begin(tree), slash = removal.canonical.slash;
    if (counted || slash)
        status = aiofs_sys.fstatat(parent->fd, parent->name, &found, AT_SYMLINK_NOFOLLOW);
    if (status == 0 && slash && !S_ISDIR(found.st_mode))
        status = -ENOTDIR;
    if (status == 0)
        status = aiofs_sys.unlinkat(parent->fd, parent->name, 0);
    aiofs_parent_close(parent);
    if (status == 0 && counted && S_ISREG(found.st_mode)) {
        aiofs_namespace_lock();
        aiofs_quota_unnamed_locked(volume, removal.lock_ref->entry, found.st_size);
        aiofs_namespace_unlock();
    }
    aiofs_change_end(tree, counted);
    removal_end(&removal);
    return status;
}

/* Truncates under the entry's lock, and charges the growth as for an open file. */
static int truncate_open(aiofs_lock_ref *lock_ref, int fd, int64_t size)
{
    struct stat found;
    int status = aiofs_sys.fstat(fd, &found);
    if (status == 0)
        status = check_kind(&found);
    if (status == 0)
        status = aiofs_lock_ref_charge(lock_ref, found.st_size, size > found.st_size ? size : found.st_size);
    if (status < 0)
        return status;
    bool charged = status > 0;
    status = aiofs_sys.ftruncate(fd, size);
    aiofs_lock_ref_uncharge(lock_ref, status == 0 ? size : found.st_size);
    aiofs_lock_ref_changed(lock_ref);
    if (charged)
        aiofs_lock_ref_charge_end(lock_ref);
    return status;
}

int aiofs_volume_truncate(aiofs_volume *volume, const char *path, int64_t size, const void *owner)
{
    struct aiofs_canonical canonical;
    aiofs_lock_ref *lock_ref;
    int status = size < 0 ? -EINVAL : aiofs_check_writable(volume);
    if (status == 0)
        status = aiofs_path_resolve(volume, path, true, &canonical);
    if (status == 0 && canonical.length == 0)
        status = -EISDIR;
    if (status == 0 && canonical.special)
        status = -EINVAL; /* as truncate(2) */
    if (status == 0)
        status = aiofs_tree_prepare(volume->tree, true);
    if (status == 0)
        status = aiofs_lock_ref_take_temporary(volume, &canonical, owner, &lock_ref);
    if (status < 0)
        return status;
    int fd = aiofs_open_beneath(volume->tree, canonical.path, O_WRONLY | O_NONBLOCK | (canonical.slash ? O_DIRECTORY : 0),
                                0);
    status = fd == -ENXIO ? -EINVAL : fd; /* a FIFO without a reader */
    if (fd >= 0) {
        status = truncate_open(lock_ref, fd, size);
        aiofs_sys.close(fd);
    }
    aiofs_lock_ref_release(lock_ref);
    return status;
}
