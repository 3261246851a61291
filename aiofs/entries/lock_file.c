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
 * Ownership. The tree owns the descriptors of its lock files; they are opened at their first use, without a lock, because
 * that can wait for the disk (aiofs_lock_file_prepare), and stay open while the tree lives.
 *
 * Locking. Functions that take or release an entry's bytes require the namespace lock. Functions that take a descriptor
 * require no lock.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "sys.h"
#include "volume_internal.h"

static _Atomic unsigned forks; /* of this process; changed under the namespace lock */

unsigned aiofs_lock_file_of(uint64_t hash)
{
    return (unsigned)(hash >> 56);
}

int64_t aiofs_range_of(uint64_t hash)
{
    return (int64_t)(hash & (((uint64_t)1 << (63 - AIOFS_RANGE_BITS)) - 1)) << AIOFS_RANGE_BITS;
}

/* Opens a lock file, and creates it if it is missing. A read-only volume also opens it for writing if it may, because the
 * tree keeps the descriptor, and a writable volume of this process then needs it for write locks. -ENOENT: there is no
 * .aiofs, or the volume is read-only and the file does not exist, so no process has a lock in it. */
static int lock_file_open(const struct aiofs_tree *tree, unsigned number)
{
    char name[sizeof "locks/ff"];
    if (tree->own_dir < 0)
        return -ENOENT;
    snprintf(name, sizeof name, "locks/%02x", number & 0xff);
    const int flags = O_NOFOLLOW | O_CLOEXEC;
    int fd = aiofs_sys.openat(tree->own_dir, name, flags | O_RDWR, 0);
    if (fd == -ENOENT && tree->writable)
        fd = aiofs_sys.openat(tree->own_dir, name, flags | O_RDWR | O_CREAT, 0666);
    if (!tree->writable && (fd == -EACCES || fd == -EROFS))
        fd = aiofs_sys.openat(tree->own_dir, name, flags | O_RDONLY, 0);
    return fd;
}

/* Gives the descriptor to the tree, unless another thread was faster. False: the process has forked since it was opened,
 * and the child has a copy that it does not know of. A lock on this description would then outlive this process. */
static bool lock_file_give(struct aiofs_tree *tree, unsigned number, int fd, unsigned forks_before)
{
    aiofs_namespace_lock();
    bool forked = forks != forks_before, taken = tree->lock_files[number] >= 0;
    if (!forked && !taken)
        tree->lock_files[number] = fd;
    aiofs_namespace_unlock();
    if (forked || taken)
        aiofs_sys.close(fd);
    return taken || !forked;
}

int aiofs_lock_file_prepare(struct aiofs_tree *tree, uint64_t hash)
{
    unsigned number = aiofs_lock_file_of(hash), forks_before;
    int fd;
    if (tree->root < 0)
        return 0;
    do {
        if (atomic_load(&tree->lock_files[number]) >= 0)
            return 0;
        forks_before = atomic_load(&forks);
        fd = lock_file_open(tree, number);
        if (fd < 0)
            return fd != -ENOENT ? fd : tree->writable ? -EIO : 0; /* -EIO: somebody has removed .aiofs */
    } while (!lock_file_give(tree, number, fd, forks_before));
    return 0;
}

void aiofs_lock_files_fork_prepare(void)
{
    atomic_fetch_add(&forks, 1);
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
    if (status == 0 && bytes_check(fd, range, AIOFS_RANGE_MARK) < 0) { /* others are there, perhaps in the same mode */
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
    int fd = tree->lock_files[aiofs_lock_file_of(hash)];
    if (fd < 0)
        return 0;
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
