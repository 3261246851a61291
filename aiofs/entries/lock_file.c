/*
 * lock_file.c - an entry's lock between processes: byte ranges of the lock files.
 *
 * The lock is an open-file-description lock (F_OFD_SETLK) on the entry's range of bytes in one of 256 lock files under
 * .aiofs/locks. The hash of the entry's canonical path selects the file and the range. This process has one open file
 * description per lock file, so its lock references share one lock; the kernel unlocks it when the process dies.
 *
 *     the range:  [ 0..15: one byte per mode of sharing | 16..: one per session of `aiofs run` | the releasing mark ]
 *
 * An exclusive lock write-locks all bytes before the mark, which belongs to releasing.c. A sharing lock read-locks the
 * byte of its mode, and then asks with F_OFD_GETLK whether another description holds another byte. If two modes try at
 * the same moment, each may see the other and both are refused; a lock that never waits may do that.
 *
 * Ownership. The tree owns the descriptors of its lock files; they are opened at their first use. The namespace lock
 * guards them: functions that take a tree require it. Functions that take a descriptor require no lock.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "sys.h"
#include "volume_internal.h"

unsigned aiofs_lock_file_of(uint64_t hash)
{
    return (unsigned)(hash >> 56);
}

int64_t aiofs_range_of(uint64_t hash)
{
    return (int64_t)(hash & (((uint64_t)1 << (63 - AIOFS_RANGE_BITS)) - 1)) << AIOFS_RANGE_BITS;
}

/* The descriptor of a lock file: opened at its first use, created if it is missing. A read-only volume also opens it for
 * writing if it may, because the tree keeps the descriptor, and a writable volume of this process then needs it for
 * write locks. -ENOENT: there is no .aiofs, or the volume is read-only and the file does not exist, so no process has a
 * lock in it. */
static int lock_file_open(struct aiofs_tree *tree, unsigned number)
{
    char name[sizeof "locks/ff"];
    if (tree->lock_files[number] >= 0)
        return tree->lock_files[number];
    if (tree->own_dir < 0)
        return -ENOENT;
    snprintf(name, sizeof name, "locks/%02x", number & 0xff);
    const int flags = O_NOFOLLOW | O_CLOEXEC;
    int fd = aiofs_sys.openat(tree->own_dir, name, flags | O_RDWR | (tree->writable ? O_CREAT : 0), 0666);
    if (!tree->writable && (fd == -EACCES || fd == -EROFS))
        fd = aiofs_sys.openat(tree->own_dir, name, flags | O_RDONLY, 0);
    if (fd >= 0)
        tree->lock_files[number] = fd;
    return fd;
}

int aiofs_bytes_set(int fd, short type, int64_t start, int64_t length)
{
    struct flock bytes = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
    int status = aiofs_sys.fcntl(fd, F_OFD_SETLK, (long)&bytes);
    return status == -EAGAIN || status == -EACCES ? -EBUSY : status;
}

/* -EBUSY if another open file description holds a lock on one of the bytes. */
static int bytes_check(int fd, int64_t start, int64_t length)
{
    struct flock bytes = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
    int status = aiofs_sys.fcntl(fd, F_OFD_GETLK, (long)&bytes);
    return status < 0 ? status : bytes.l_type == F_UNLCK ? 0 : -EBUSY;
}

int aiofs_bytes_share(int fd, uint64_t hash, int64_t byte)
{
    int64_t range = aiofs_range_of(hash);
    int status = aiofs_bytes_set(fd, F_RDLCK, range + byte, 1);
    if (status == 0) {
        status = bytes_check(fd, range, byte);
        if (status == 0)
            status = bytes_check(fd, range + byte + 1, AIOFS_RANGE_MARK - byte - 1);
        if (status < 0)
            aiofs_bytes_set(fd, F_UNLCK, range, AIOFS_RANGE_MARK);
    }
    return status;
}

/* Locks the entry's bytes for `lock`. 0 without a lock where no other process can have one: in a virtual tree, or in a
 * read-only one without lock files. */
int aiofs_bytes_take(struct aiofs_tree *tree, uint64_t hash, enum aiofs_lock lock)
{
    if (tree->root < 0)
        return 0;
    int fd = lock_file_open(tree, aiofs_lock_file_of(hash));
    if (fd < 0)
        return fd != -ENOENT ? fd : tree->writable ? -EIO : 0; /* -EIO: somebody has removed .aiofs */
    if (aiofs_byte_of(lock) < 0)
        return aiofs_bytes_set(fd, F_WRLCK, aiofs_range_of(hash), AIOFS_RANGE_MARK);
    return aiofs_bytes_share(fd, hash, aiofs_byte_of(lock));
}

void aiofs_bytes_release(struct aiofs_tree *tree, uint64_t hash)
{
    int fd = tree->lock_files[aiofs_lock_file_of(hash)];
    if (fd >= 0)
        aiofs_bytes_set(fd, F_UNLCK, aiofs_range_of(hash), AIOFS_RANGE_MARK);
}
