/*
 * lock.c - the descriptors of locks: descriptor base + n is the lock of the program's descriptor n. See preload.h.
 *
 * This file has no state: it asks the kernel which descriptors are locks. A lock is taken, attached to a descriptor,
 * copied to a duplicate, detached while its descriptor is closed, and closed. Before it is attached and after it is
 * detached, it has a temporary number from 2 * base on, which belongs to no descriptor of the program.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>

#include "preload.h"

/* ---- the library's own descriptors --------------------------------------------------------------------------- */

static int last_own(void)
{
    return 2 * run.base + RUN_SPARE + RUN_VOLUMES - 1;
}

enum occupant { FREE, A_LOCK, OTHER };

/* Which kind of descriptor a number is; other threads may change that at any time. A lock is recognised by an empty
 * regular file with a file offset over 0: lock files are empty, and a program has no use for an offset in an empty
 * file. */
static enum occupant occupant_of(int fd)
{
    struct stat status;
    int64_t offset = aiofs_sys.lseek(fd, 0, SEEK_CUR);
    int error = offset > 0 ? aiofs_sys.fstat(fd, &status) : (int)offset;
    if (error == -EBADF)
        return FREE;
    return offset > 0 && error == 0 && S_ISREG(status.st_mode) && status.st_size == 0 ? A_LOCK : OTHER;
}

static bool is_lock(int fd)
{
    return occupant_of(fd) == A_LOCK;
}

static bool is_session_fd(int fd)
{
    for (int i = 0; i < run.volumes; i++)
        if (run.volume[i].session_fd == fd)
            return true;
    return false;
}

bool is_own(int fd)
{
    return run.base && fd >= run.base && fd <= last_own() && (is_session_fd(fd) || is_lock(fd));
}

int next_own(const struct open_fds *open, unsigned from, unsigned last)
{
    if (from < (unsigned)run.base)
        from = (unsigned)run.base;
    int fd = open_fds_next(open, from, last);
    while (fd >= 0 && !is_own(fd))
        fd = open_fds_next(open, (unsigned)fd + 1, last);
    return fd;
}

/* The number of a descriptor's lock, or -1. */
static int lock_of(int fd)
{
    return fd >= 0 && fd < run.base && is_lock(run.base + fd) ? run.base + fd : -1;
}

/* ---- the tag: which file a lock is for ----------------------------------------------------------------------- */

enum { UNTAGGED = 1 }; /* offset of a lock whose file is not open yet */

/* In 31 bits, so that every filesystem accepts it as an offset, and larger than UNTAGGED. */
static int64_t tag_of_file(const struct stat *status)
{
    uint64_t both[2] = {status->st_dev, status->st_ino};
    return 2 + (int64_t)(aiofs_path_hash((const char *)both, sizeof both) >> 34);
}

static void lock_set_tag(int lock, int fd)
{
    struct stat status;
    if (aiofs_sys.fstat(fd, &status) == 0)
        aiofs_sys.lseek(lock, tag_of_file(&status), SEEK_SET);
}

/* ---- taking a lock ------------------------------------------------------------------------------------------- */

int lock_take(const struct resolved *resolved, int *next)
{
    if (resolved->session <= 0)
        return -ENOLCK;
    *next = resolved_open_lock_file(resolved);
    int lock = move_up(*next);
    if (lock < 0)
        return lock;
    struct aiofs_patience patience = {0};
    int status;
    do
        status = aiofs_bytes_share(lock, resolved->hash, resolved->session);
    while (status == -EBUSY && aiofs_bytes_retry(lock, resolved->hash, resolved->session, &patience));
    if (status == 0 && aiofs_sys.lseek(lock, UNTAGGED, SEEK_SET) < 0)
        status = -ENOLCK;
    if (status < 0)
        aiofs_sys.close(lock);
    return status < 0 ? status : lock;
}

/* ---- attaching a lock ---------------------------------------------------------------------------------------- */

bool lock_has_room(int fd)
{
    int number = run.base + fd;
    struct rlimit limit;
    if (fd >= run.base || aiofs_sys.getrlimit(RLIMIT_NOFILE, &limit) < 0 || (rlim_t)number >= limit.rlim_cur)
        return false;
    return occupant_of(number) != OTHER;
}

/* Duplicates a lock to the number beside `fd`. A lock that is already there belongs to a descriptor that was closed
 * without our interposed close (by a raw system call, for instance), and is closed. */
static int lock_dup_to(int lock, int fd)
{
    int number = run.base + fd;
    if (fd >= run.base)
        return -EMFILE;
    if (is_lock(number))
        aiofs_sys.close(number);
    int got = aiofs_sys.fcntl(lock, F_DUPFD, number);
    if (got >= 0 && got != number)
        aiofs_sys.close(got);
    return got == number ? 0 : -EMFILE;
}

int lock_attach(int lock, int fd)
{
    if (lock < 0)
        return 0;
    lock_set_tag(lock, fd);
    int status = lock_dup_to(lock, fd);
    aiofs_sys.close(lock);
    return status;
}

bool lock_fits(int from, int to)
{
    return lock_of(from) < 0 || lock_has_room(to);
}

int lock_copy(int from, int to)
{
    int lock = lock_of(from);
    return lock < 0 ? 0 : lock_dup_to(lock, to);
}

/* ---- detaching and closing a lock ---------------------------------------------------------------------------- */

static bool defer(int fd, int lock)
{
    int saved = errno, cancelling;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancelling); /* it may wait, under locks of the engine */
    bool taken = deferred_close(fd, lock);
    pthread_setcancelstate(cancelling, NULL);
    errno = saved;
    return taken;
}

int lock_detach(int fd)
{
    int lock = lock_of(fd);
    if (lock < 0)
        return -1;
    int aside = aiofs_sys.fcntl(lock, F_DUPFD_CLOEXEC, 2 * run.base);
    aiofs_sys.close(lock);
    return aside < 0 || defer(fd, aside) ? -1 : aside;
}

void lock_close(int lock)
{
    if (lock >= 0)
        aiofs_sys.close(lock);
}

int lock_detach_uncancelled(int fd, int *cancelling)
{
    int lock = lock_detach(fd);
    if (lock >= 0)
        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, cancelling);
    return lock;
}

void lock_close_uncancelled(int lock, int cancelling)
{
    lock_close(lock);
    if (lock >= 0)
        pthread_setcancelstate(cancelling, NULL);
}

/* The lowest number from `first` to `last` that has a lock beside it, even if it is closed by now; -1: none. */
static int next_locked(const struct open_fds *open, unsigned first, unsigned last)
{
    unsigned base = (unsigned)run.base;
    if (last >= base)
        last = base - 1;
    int lock = first <= last ? next_own(open, base + first, base + last) : -1;
    return lock < 0 ? -1 : lock - run.base;
}

void locks_defer(const struct open_fds *open, unsigned first, unsigned last)
{
    for (int fd = next_locked(open, first, last); fd >= 0; fd = next_locked(open, (unsigned)fd + 1, last)) {
        int copy = aiofs_sys.fcntl(run.base + fd, F_DUPFD_CLOEXEC, 2 * run.base);
        if (copy >= 0 && !defer(fd, copy))
            aiofs_sys.close(copy);
    }
}

void locks_close_unused(const struct open_fds *open, unsigned first, unsigned last)
{
    for (int fd = next_locked(open, first, last); fd >= 0; fd = next_locked(open, (unsigned)fd + 1, last))
        if (aiofs_sys.fcntl(fd, F_GETFD, 0) < 0)
            aiofs_sys.close(run.base + fd);
}

/* ---- after fork and exec ------------------------------------------------------------------------------------- */

/* The tag that the lock of this descriptor must have; 0: the descriptor needs no lock. */
static int64_t tag_wanted(int fd)
{
    struct stat status;
    int flags = aiofs_sys.fcntl(fd, F_GETFL, 0);
    bool writes = flags >= 0 && !(flags & O_PATH) && (flags & O_ACCMODE) != O_RDONLY;
    return writes && aiofs_sys.fstat(fd, &status) == 0 && S_ISREG(status.st_mode) ? tag_of_file(&status) : 0;
}

static int64_t tag_of_lock(int lock)
{
    return is_lock(lock) ? aiofs_sys.lseek(lock, 0, SEEK_CUR) : -1;
}

/* Attaches to `fd` the lock with its tag. The file may have come to this number without our functions, by a raw system
 * call or between the steps of a call in another thread of the parent. */
static void find_lock_for(const struct open_fds *open, int fd)
{
    int64_t tag = tag_wanted(fd);
    if (tag == 0 || tag_of_lock(run.base + fd) == tag)
        return;
    for (int lock = next_own(open, 0, UINT_MAX); lock >= 0; lock = next_own(open, (unsigned)lock + 1, UINT_MAX)) {
        if (tag_of_lock(lock) == tag) {
            lock_dup_to(lock, fd);
            return;
        }
    }
}

static bool is_at_its_number(int lock)
{
    int fd = lock - run.base;
    return fd < run.base && tag_of_lock(lock) == tag_wanted(fd);
}

void locks_reconcile(void)
{
    struct open_fds open;
    unsigned last = (unsigned)run.base - 1;
    open_fds_read(&open);
    for (int fd = open_fds_next(&open, 0, last); fd >= 0; fd = open_fds_next(&open, (unsigned)fd + 1, last))
        find_lock_for(&open, fd);
    for (int lock = next_own(&open, 0, UINT_MAX); lock >= 0; lock = next_own(&open, (unsigned)lock + 1, UINT_MAX))
        if (!is_session_fd(lock) && !is_at_its_number(lock))
            aiofs_sys.close(lock);
}
