/*
 * descriptor.c - what a descriptor is: the kind of its file, and what the file's filesystem can do.
 *
 * Nothing is owned here. `granted` is the one static variable; it is atomic, and a lost update costs one system call.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "cached.h"
#include "internal.h"

int file_examine(int fd, struct file_facts *facts)
{
    if (channel_owns(fd))
        return -EBADF;
    int flags = aiofs_sys.fcntl(fd, F_GETFL, 0);
    if (flags < 0)
        return flags;
    if (flags & O_PATH)
        return -EBADF;
    int error = aiofs_fstat_cached(fd, &facts->stat);
    if (error < 0)
        return error;
    facts->flags = flags;
    facts->on_disk = false;
    mode_t mode = facts->stat.st_mode;
    facts->kind = S_ISREG(mode) || S_ISBLK(mode) ? KIND_REGULAR : S_ISDIR(mode) ? KIND_DIRECTORY : KIND_STREAM;
    facts->seekable = facts->kind != KIND_STREAM || (S_ISCHR(mode) && aiofs_sys.lseek(fd, 0, SEEK_CUR) >= 0);
    return 0;
}

bool file_is_cloned(const struct stat *stat)
{
    return (stat->st_mode & S_IFMT) == 0 || (S_ISCHR(stat->st_mode) && stat->st_rdev == makedev(5, 2));
}

/* Does the file refuse RWF_NOWAIT, as files of FUSE, network filesystems and /proc do? Such a file would block inside
 * io_uring_enter, and io_uring itself reads again after a short read. So the workers perform its requests. The probe is
 * a read far behind the end of the file: it moves no byte. It never waits, because the kernel checks the flag before it
 * calls the filesystem. All files of one disk filesystem behave alike, so one probe per disk is enough. */
bool file_refuses_nowait(int fd, const struct file_facts *facts)
{
    static _Atomic dev_t granted; /* the last disk whose probe succeeded; 0: none */
    const int64_t far = (int64_t)1 << 40;
    char byte;
    const struct iovec one = {&byte, 1};
    bool on_disk = major(facts->stat.st_dev) != 0;
    if (facts->kind != KIND_REGULAR || facts->stat.st_mode == 0)
        return false;
    if (on_disk && facts->stat.st_dev == atomic_load_explicit(&granted, memory_order_relaxed))
        return false;
    if ((facts->flags & O_ACCMODE) == O_WRONLY) /* a read cannot probe it */
        return !on_disk;
    if (aiofs_sys.preadv2(fd, &one, 1, far, RWF_NOWAIT) == -EOPNOTSUPP)
        return true;
    if (on_disk)
        atomic_store_explicit(&granted, facts->stat.st_dev, memory_order_relaxed);
    return false;
}

enum inline_hint file_hint_of(int fd, const struct file_facts *facts)
{
    if (!S_ISREG(facts->stat.st_mode) || facts->flags & O_DIRECT)
        return HINT_ENGINE;
    if (facts->on_disk)
        return HINT_NOWAIT;
    /* Only files of tmpfs have seals. fstatfs(2) would say it, too, but asks the server of a network filesystem. */
    return aiofs_sys.fcntl(fd, F_GET_SEALS, 0) >= 0 ? HINT_MEMORY : HINT_NOWAIT;
}

int file_classify(int fd)
{
    struct file_facts facts;
    if (file_examine(fd, &facts) < 0)
        return HINT_ENGINE;
    return (int)file_hint_of(fd, &facts) | (facts.flags & O_DSYNC ? HINT_SYNC : 0);
}
