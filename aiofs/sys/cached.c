/*
 * cached.c - see cached.h: what this kernel answers from memory.
 *
 * Filesystems. The type of a filesystem says whether its open and close can block. Asking for the type (fstatfs) is
 * itself a question to the server of a network filesystem. So a thread that may block asks, and the answer is remembered
 * for a few seconds under the device number; the kernel reuses the numbers of filesystems that were unmounted.
 *
 * Places. Even openat2 with RESOLVE_CACHED calls the open function of the filesystem. So before a path is opened here,
 * an O_PATH descriptor and statx(AT_STATX_DONT_SYNC), which no filesystem sees, say where it leads. This costs as much
 * as the open. So the answer is remembered for the directory, for a second: a path in the same directory, without
 * symbolic links, is on the same filesystem, unless somebody mounts something just then.
 *
 * Locking. None. What is remembered is one atomic word each; a lost one costs a few system calls.
 */
#define _GNU_SOURCE
#include "cached.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <linux/stat.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#ifndef RESOLVE_CACHED
#define RESOLVE_CACHED 0x20
#endif
#ifndef AT_STATX_DONT_SYNC
#define AT_STATX_DONT_SYNC 0x4000
#endif

/* ---- sections ------------------------------------------------------------------------------------------------ */

_Thread_local bool cached_only;
static _Thread_local bool refused;

void cached_begin(void)
{
    cached_only = true;
    refused = false;
}

bool cached_end(void)
{
    cached_only = false;
    return refused;
}

bool cached_refuse(void)
{
    if (cached_only)
        refused = true;
    return cached_only;
}

/* A section begins on a filesystem that is local, and stays there. */
#define IN_SECTION (RESOLVE_CACHED | RESOLVE_NO_XDEV)

static int or_refuse(int status)
{
    /* -EXDEV: another filesystem is mounted on the way. The last three are of older kernels and of sandboxes. The thread
     * that may block gets the real error. */
    if (status == -EAGAIN || status == -EXDEV || status == -EINVAL || status == -ENOSYS || status == -EPERM)
        refused = true;
    return status;
}

int cached_openat(int dirfd, const char *path, int flags, uint64_t resolve)
{
    if (flags & (O_CREAT | O_TRUNC) || (flags & O_TMPFILE) == O_TMPFILE)
        return or_refuse(-EAGAIN);
    return or_refuse(aiofs_sys.openat2(dirfd, path, flags, 0, resolve | IN_SECTION));
}

int cached_fstatat(int dirfd, const char *path, struct stat *out, int flags)
{
    int follow = flags & AT_SYMLINK_NOFOLLOW ? O_NOFOLLOW : 0;
    int fd = or_refuse(aiofs_sys.openat2(dirfd, path, O_PATH | O_CLOEXEC | follow, 0, IN_SECTION));
    if (fd < 0)
        return fd;
    int status = aiofs_sys.fstat(fd, out);
    aiofs_sys.close(fd);
    return status;
}

/* ---- filesystems ---------------------------------------------------------------------------------------------- */

enum { DEVICES = 64, PLACES = 256 };
enum { LOCAL = 1, IN_MEMORY = 2, KNOWN = 4 };
enum { DEVICE_SECONDS = 8, PLACE_SECONDS = 1 };

static _Atomic uint64_t devices[DEVICES]; /* number << 16 | seconds << 3 | facts */
static _Atomic uint64_t places[PLACES];   /* hash, the low bits replaced by the seconds */

static uint64_t seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec;
}

static _Atomic uint64_t *device_slot(dev_t filesystem)
{
    return &devices[(major(filesystem) * 31u + minor(filesystem)) % DEVICES];
}

static uint64_t device_number(dev_t filesystem)
{
    return ((uint64_t)major(filesystem) << 20 | minor(filesystem)) << 16;
}

/* What is remembered of a filesystem; 0: nothing. */
static unsigned facts_of(dev_t filesystem)
{
    uint64_t word = atomic_load_explicit(device_slot(filesystem), memory_order_relaxed);
    if ((word & ~UINT64_C(0xffff)) != device_number(filesystem))
        return 0;
    uint64_t age = (seconds_now() - (word >> 3)) & 0x1fff;
    return age < DEVICE_SECONDS ? word & 7 : 0;
}

static unsigned facts_of_type(unsigned long type)
{
    switch (type) {
    case TMPFS_MAGIC:
    case RAMFS_MAGIC:
        return KNOWN | LOCAL | IN_MEMORY;
    case EXT4_SUPER_MAGIC: /* also ext2 and ext3 */
    case BTRFS_SUPER_MAGIC:
    case F2FS_SUPER_MAGIC:
    case SQUASHFS_MAGIC:
    case ISOFS_SUPER_MAGIC:
    case 0x58465342: /* xfs */
    case 0xe0f5e1e2: /* erofs */
    case 0xca451a4e: /* bcachefs */
        return KNOWN | LOCAL;
    default:
        return KNOWN;
    }
}

bool aiofs_filesystem_is_local(int fd)
{
    struct stat found;
    struct statfs system;
    if (aiofs_sys.fstat(fd, &found) < 0)
        return false;
    unsigned facts = facts_of(found.st_dev);
    if (!facts) { /* one that does not say its type is not in the list */
        facts = aiofs_sys.fstatfs(fd, &system) == 0 ? facts_of_type((unsigned long)system.f_type) : KNOWN;
        atomic_store_explicit(device_slot(found.st_dev),
                              device_number(found.st_dev) | (seconds_now() & 0x1fff) << 3 | facts, memory_order_relaxed);
    }
    return facts & LOCAL;
}

bool aiofs_filesystem_in_memory(dev_t filesystem)
{
    return facts_of(filesystem) & IN_MEMORY;
}

static bool filesystem_is_known_local(dev_t filesystem)
{
    return facts_of(filesystem) & LOCAL;
}

bool aiofs_closes_at_once(int fd)
{
    struct stat found;
    int flags = aiofs_sys.fcntl(fd, F_GETFL, 0);
    return flags >= 0 && (flags & O_ACCMODE) == O_RDONLY && aiofs_sys.fstat(fd, &found) == 0 && found.st_nlink > 0 &&
           filesystem_is_known_local(found.st_dev);
}

/* ---- places ---------------------------------------------------------------------------------------------------- */

static int status_of(int dirfd, const char *path, int flags, struct stat *out)
{
    struct statx found;
    int status = aiofs_sys.statx(dirfd, path, flags | AT_STATX_DONT_SYNC, STATX_BASIC_STATS, &found);
    if (status < 0)
        return status;
    *out = (struct stat){
        .st_dev = makedev(found.stx_dev_major, found.stx_dev_minor),
        .st_ino = found.stx_ino,
        .st_mode = found.stx_mode,
        .st_nlink = found.stx_nlink,
        .st_uid = found.stx_uid,
        .st_gid = found.stx_gid,
        .st_rdev = makedev(found.stx_rdev_major, found.stx_rdev_minor),
        .st_size = (int64_t)found.stx_size,
        .st_blksize = found.stx_blksize,
        .st_blocks = (int64_t)found.stx_blocks,
        .st_atim = {found.stx_atime.tv_sec, found.stx_atime.tv_nsec},
        .st_mtim = {found.stx_mtime.tv_sec, found.stx_mtime.tv_nsec},
        .st_ctim = {found.stx_ctime.tv_sec, found.stx_ctime.tv_nsec},
    };
    return 0;
}

int aiofs_fstat_cached(int fd, struct stat *found)
{
    int status = status_of(fd, "", AT_EMPTY_PATH, found);
    return status == -ENOSYS || status == -EPERM ? aiofs_sys.fstat(fd, found) : status; /* a sandbox */
}

/* The word that stands for the directory of a path, now; 0: it has none. A relative path begins where this process is. */
static uint64_t place_of(const char *path, _Atomic uint64_t **slot)
{
    const char *name = strrchr(path, '/');
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    struct stat here;
    if (strcmp(name ? name + 1 : path, "..") == 0)
        return 0;
    if (!name || path[0] != '/') {
        if (status_of(AT_FDCWD, "", AT_EMPTY_PATH, &here) < 0)
            return 0;
        hash ^= here.st_ino * UINT64_C(0x9e3779b97f4a7c15) + here.st_dev;
    }
    for (const char *at = path; name && at < name; at++)
        hash = (hash ^ (unsigned char)*at) * UINT64_C(0x100000001b3);
    hash ^= hash >> 29;
    *slot = &places[hash % PLACES];
    return (hash & ~UINT64_C(0xffff)) | ((seconds_now() / PLACE_SECONDS) & 0xffff);
}

/* Where a path leads, by an O_PATH descriptor. */
static int look(const char *path, int flags, struct stat *found)
{
    int fd = aiofs_sys.openat2(AT_FDCWD, path, O_PATH | O_CLOEXEC | flags, 0, RESOLVE_CACHED);
    if (fd < 0)
        return fd == -EINVAL || fd == -ENOSYS || fd == -EPERM ? -EAGAIN : fd; /* the kernel is older, or a sandbox */
    int status = status_of(fd, "", AT_EMPTY_PATH, found);
    aiofs_sys.close(fd);
    return status == -ENOSYS || status == -EPERM ? -EAGAIN : status;
}

static int look_for_opening(const char *path, int flags, struct stat *found)
{
    int status = look(path, flags & O_NOFOLLOW, found);
    if (status < 0)
        return status;
    bool ordinary = S_ISREG(found->st_mode) || S_ISDIR(found->st_mode);
    return ordinary && filesystem_is_known_local(found->st_dev) ? 0 : -EAGAIN;
}

int aiofs_cached_stat(const char *path, int flags, struct stat *found)
{
    int status = look(path, flags, found);
    return status == 0 && !filesystem_is_known_local(found->st_dev) ? -EAGAIN : status;
}

/* ---- opening and reading ---------------------------------------------------------------------------------------- */

static int open_there(const char *path, int flags, uint64_t resolve)
{
    return aiofs_sys.openat2(AT_FDCWD, path, flags | O_NONBLOCK | O_CLOEXEC, 0, resolve | RESOLVE_CACHED);
}

int aiofs_cached_open(const char *path, int flags, struct stat *found)
{
    _Atomic uint64_t *slot = NULL;
    if (flags & (O_CREAT | O_TRUNC | O_PATH | __O_TMPFILE))
        return -EAGAIN;
    uint64_t place = place_of(path, &slot);
    bool known = place && atomic_load_explicit(slot, memory_order_relaxed) == place;
    int fd = known ? open_there(path, flags, RESOLVE_NO_SYMLINKS) : -ELOOP;
    if (fd == -ELOOP) {
        int status = look_for_opening(path, flags, found);
        if (status < 0)
            return status;
        fd = open_there(path, flags, 0);
    }
    if (fd < 0)
        return fd;
    int status = aiofs_sys.fstat(fd, found);
    bool ordinary = status == 0 && (S_ISREG(found->st_mode) || S_ISDIR(found->st_mode));
    if (!ordinary || !filesystem_is_known_local(found->st_dev)) {
        aiofs_sys.close(fd);
        return -EAGAIN;
    }
    if (place && !known)
        atomic_store_explicit(slot, place, memory_order_relaxed);
    return fd;
}

int64_t aiofs_cached_read(int fd, dev_t filesystem, void *buffer, size_t size)
{
    const struct iovec all = {buffer, size};
    if (size == 0)
        return 0;
    ssize_t got = facts_of(filesystem) & IN_MEMORY ? aiofs_sys.pread64(fd, buffer, size, 0)
                                                   : aiofs_sys.preadv2(fd, &all, 1, 0, RWF_NOWAIT);
    return got == (ssize_t)size ? got : -EAGAIN;
}
