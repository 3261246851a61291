/*
 * entry_ops.c - what is done to one path of a volume: open, stat, make, remove, cut.
 *
 * The lock comes first, on the canonical path, then the file: so nothing is made, cut or removed that
 * somebody else holds, and an open file is the one that its lock is for. Opening a file that exists costs
 * five system calls: lock, open, fstat, and at the end close, unlock.
 *
 * Everything here belongs to the call: descriptors, and the lock references that last only for it. The hold of an
 * opened file goes over to the open file.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "sys.h"
#include "volume_internal.h"

#define RACES_MAX 8 /* times that a file may come and go while we open it */

int aiofs_may_change(const aiofs_volume *volume)
{
    return volume->flags & AIOFS_VOLUME_READ_ONLY ? -EROFS : volume->tree->root < 0 ? -ENOSYS : 0;
}

/* ---- open -------------------------------------------------------------------------------------------- */

struct opening {
    aiofs_volume *volume;
    struct aiofs_place place;
    int flags;
    mode_t mode;
    aiofs_lock_ref *lock_ref;
    bool made;
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

/* Opens what is there, or makes it: a file that is made here is known to be. */
static int open_or_make(struct opening *opening)
{
    const struct aiofs_tree *tree = opening->volume->tree;
    int plain = (opening->flags & ~(O_CREAT | O_EXCL | O_TRUNC)) | O_NONBLOCK, fd = -ENOENT; /* no FIFO's peer is waited for */
    if (opening->place.slash)
        plain |= O_DIRECTORY;
    for (int i = 0; i < RACES_MAX; i++) {
        bool exclusive = opening->flags & O_CREAT && opening->flags & O_EXCL;
        if (!exclusive) {
            fd = aiofs_open_beneath(tree, opening->place.path, plain, 0);
            if (fd != -ENOENT || !(opening->flags & O_CREAT))
                return fd;
        }
        if (opening->volume->flags & AIOFS_VOLUME_READ_ONLY)
            return -EROFS;
        if (opening->place.slash)
            return -EISDIR;
        fd = aiofs_open_beneath(tree, opening->place.path, plain | O_CREAT | O_EXCL, opening->mode);
        opening->made = fd >= 0;
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
static int cut(struct opening *opening, int fd, int64_t before)
{
    struct aiofs_tree *tree = opening->volume->tree;
    int status;
    if (writes(opening->flags)) {
        status = aiofs_sys.ftruncate(fd, 0);
    } else { /* O_RDONLY | O_TRUNC, which Linux grants to who may write */
        status = aiofs_open_beneath(tree, opening->place.path, O_RDONLY | O_TRUNC, 0);
        if (status >= 0)
            aiofs_sys.close(status);
    }
    if (status >= 0 && aiofs_quota_counted(tree)) {
        aiofs_namespace_lock();
        aiofs_quota_cut_locked(tree, opening->lock_ref->entry, before);
        aiofs_namespace_unlock();
    }
    return status < 0 ? status : 0;
}

/* The descriptor of the entry, under its lock. */
static int open_entry(struct opening *opening)
{
    struct stat found;
    int fd = open_or_make(opening);
    if (fd < 0)
        return fd == -ENXIO ? -EOPNOTSUPP : fd; /* a FIFO that nobody reads, a device that is not there */
    int status = aiofs_sys.fstat(fd, &found);
    if (status == 0)
        status = check_kind(&found);
    if (status == 0 && !(opening->flags & O_NONBLOCK))
        status = aiofs_sys.fcntl(fd, F_SETFL, opening->flags);
    if (status == 0 && opening->flags & O_TRUNC && !opening->made)
        status = cut(opening, fd, found.st_size);
    if (status < 0) {
        aiofs_sys.close(fd);
        return status;
    }
    if (opening->made)
        opening->lock_ref->unsynced = aiofs_name_made(opening->volume->tree, &opening->place);
    return fd;
}

/* The file is locked: but a program that looks for a free name wants to hear that this one is taken. */
static int busy_or_taken(const struct opening *opening)
{
    struct stat found;
    if (!(opening->flags & O_CREAT && opening->flags & O_EXCL))
        return -EBUSY;
    return aiofs_place_stat(opening->volume->tree, &opening->place, &found) == 0 ? -EEXIST : -EBUSY;
}

int aiofs_entry_open(aiofs_volume *volume, const char *path, int flags, mode_t mode, enum aiofs_lock lock,
                     const void *owner, aiofs_lock_ref **lock_ref)
{
    struct opening opening = {.volume = volume, .flags = flags, .mode = mode};
    aiofs_lock_ref *guard = NULL; /* of a read-only open that cuts the file: it has the lock only meanwhile */
    bool follow = !(flags & O_NOFOLLOW || (flags & O_CREAT && flags & O_EXCL));

    int status = check_opening(volume, flags, lock);
    if (status == 0)
        status = aiofs_locate(volume, path, follow, &opening.place);
    if (status < 0)
        return status;
    if (opening.place.length == 0)
        return -EISDIR;
    if (lock == AIOFS_LOCK_NONE && flags & O_TRUNC)
        status = aiofs_lock_ref_take_briefly(volume, &opening.place, owner, &guard);
    if (status == 0)
        status = aiofs_lock_ref_take_at(volume, &opening.place, lock, owner, &opening.lock_ref);
    if (status == 0) {
        status = open_entry(&opening);
        if (status < 0)
            aiofs_lock_ref_release(opening.lock_ref);
        else
            *lock_ref = opening.lock_ref;
    } else if (status == -EBUSY) {
        status = busy_or_taken(&opening);
    }
    aiofs_lock_ref_release(guard);
    return status;
}

int aiofs_volume_open_directory(aiofs_volume *volume, const char *path)
{
    struct aiofs_place place;
    if (volume->tree->root < 0)
        return -ENOSYS;
    int status = aiofs_locate(volume, path, true, &place);
    return status < 0 ? status : aiofs_open_beneath(volume->tree, place.path, O_RDONLY | O_DIRECTORY, 0);
}

/* ---- stat -------------------------------------------------------------------------------------------- */

int aiofs_volume_stat(aiofs_volume *volume, const char *path, struct stat *out)
{
    struct aiofs_place place;
    if (volume->tree->root < 0)
        return -ENOSYS;
    int status = aiofs_locate(volume, path, true, &place);
    if (status == 0)
        status = aiofs_place_stat(volume->tree, &place, out);
    if (status == 0 && S_ISLNK(out->st_mode))
        return -ELOOP;
    if (status == 0 && place.slash && !S_ISDIR(out->st_mode))
        return -ENOTDIR;
    return status;
}

/* Whether a change at this moment could leave the file with the time it has: times come from a clock that
 * ticks. One that is further ahead was set by somebody, and no change will set it again. */
static bool later_change_may_hide(const struct stat *status)
{
    const int64_t tick = 20000000; /* ns; none is longer */
    struct timespec now;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    if (status->st_mtim.tv_sec < now.tv_sec || status->st_mtim.tv_sec > now.tv_sec + 1)
        return false;
    int64_t ahead = (status->st_mtim.tv_sec - now.tv_sec) * 1000000000 + status->st_mtim.tv_nsec - now.tv_nsec;
    return ahead >= 0 && ahead < tick;
}

int aiofs_volume_snapshot(aiofs_volume *volume, const char *path, struct stat *out)
{
    const struct timespec pause = {0, 1000000};
    int status;
    while ((status = aiofs_volume_stat(volume, path, out)) == 0 && !volume->tree->fine_times &&
           later_change_may_hide(out))
        nanosleep(&pause, NULL);
    return status;
}

/* ---- make, remove, cut --------------------------------------------------------------------------------- */

int aiofs_volume_mkdir(aiofs_volume *volume, const char *path, mode_t mode)
{
    struct aiofs_place place;
    struct aiofs_parent parent;
    int status = aiofs_may_change(volume);
    if (status == 0)
        status = aiofs_locate(volume, path, false, &place);
    if (status < 0)
        return status;
    if (place.length == 0)
        return -EEXIST;
    status = aiofs_parent_open(volume->tree, &place, &parent);
    if (status < 0)
        return status;
    status = aiofs_sys.mkdirat(parent.fd, parent.name, mode);
    aiofs_parent_close(&parent);
    if (status == 0)
        aiofs_name_made(volume->tree, &place);
    return status;
}

/* Takes the entry's lock for the time of a call that removes it, and finds its directory. */
static int begin_removal(aiofs_volume *volume, const char *path, const void *owner, struct aiofs_place *place,
                         aiofs_lock_ref **lock_ref, struct aiofs_parent *parent)
{
    int status = aiofs_may_change(volume);
    if (status == 0)
        status = aiofs_locate(volume, path, false, place);
    if (status == 0 && place->length == 0)
        status = -EBUSY;
    if (status == 0)
        status = aiofs_lock_ref_take_briefly(volume, place, owner, lock_ref);
    if (status < 0)
        return status;
    status = aiofs_parent_open(volume->tree, place, parent);
    if (status < 0)
        aiofs_lock_ref_release(*lock_ref);
    return status;
}

int aiofs_volume_rmdir(aiofs_volume *volume, const char *path)
{
    struct aiofs_place place;
    struct aiofs_parent parent;
    aiofs_lock_ref *lock_ref;
    int status = begin_removal(volume, path, NULL, &place, &lock_ref, &parent);
    if (status < 0)
        return status;
    status = aiofs_sys.unlinkat(parent.fd, parent.name, AT_REMOVEDIR);
    aiofs_parent_close(&parent);
    if (status == 0) {
        aiofs_namespace_lock();
        aiofs_dir_sync_removed_locked(volume->tree, &place);
        aiofs_namespace_unlock();
    } else if (status == -ENOTEMPTY || status == -EEXIST) {
        status = aiofs_subtree_locked(volume, &place) ? -EBUSY : -ENOTEMPTY;
    }
    aiofs_lock_ref_release(lock_ref);
    return status;
}

int aiofs_volume_unlink(aiofs_volume *volume, const char *path, const void *owner)
{
    struct aiofs_place place;
    struct aiofs_parent parent;
    struct stat found = {0};
    aiofs_lock_ref *lock_ref;
    struct aiofs_tree *tree = volume->tree;
    int status = begin_removal(volume, path, owner, &place, &lock_ref, &parent);
    if (status < 0)
        return status;
    bool counted = aiofs_quota_counted(tree);
    if (counted || place.slash)
        status = aiofs_sys.fstatat(parent.fd, parent.name, &found, AT_SYMLINK_NOFOLLOW);
    if (status == 0 && place.slash && !S_ISDIR(found.st_mode))
        status = -ENOTDIR;
    if (status == 0)
        status = aiofs_sys.unlinkat(parent.fd, parent.name, 0);
    aiofs_parent_close(&parent);
    if (status == 0 && counted && S_ISREG(found.st_mode)) {
        aiofs_namespace_lock();
        aiofs_quota_unnamed_locked(tree, lock_ref->entry, found.st_size);
        aiofs_namespace_unlock();
    }
    aiofs_lock_ref_release(lock_ref);
    return status;
}

/* Under the entry's lock: the size it has and the size it gets are charged as for an open file. */
static int truncate_open(aiofs_lock_ref *lock_ref, int fd, int64_t size)
{
    struct stat found;
    int status = aiofs_sys.fstat(fd, &found);
    if (status == 0)
        status = check_kind(&found);
    if (status == 0)
        status = aiofs_lock_ref_charge(lock_ref, found.st_size, size > found.st_size ? size : found.st_size);
    if (status == 0) {
        status = aiofs_sys.ftruncate(fd, size);
        aiofs_lock_ref_settle(lock_ref, status == 0 ? size : found.st_size);
        aiofs_lock_ref_changed(lock_ref);
    }
    return status;
}

int aiofs_volume_truncate(aiofs_volume *volume, const char *path, int64_t size, const void *owner)
{
    struct aiofs_place place;
    aiofs_lock_ref *lock_ref;
    int status = size < 0 ? -EINVAL : aiofs_may_change(volume);
    if (status == 0)
        status = aiofs_locate(volume, path, true, &place);
    if (status == 0 && place.length == 0)
        status = -EISDIR;
    if (status == 0)
        status = aiofs_lock_ref_take_briefly(volume, &place, owner, &lock_ref);
    if (status < 0)
        return status;
    int fd = aiofs_open_beneath(volume->tree, place.path, O_WRONLY | (place.slash ? O_DIRECTORY : 0), 0);
    status = fd;
    if (fd >= 0) {
        status = truncate_open(lock_ref, fd, size);
        aiofs_sys.close(fd);
    }
    aiofs_lock_ref_release(lock_ref);
    return status;
}
