/*
 * lock.c - the descriptors of locks: base + n is the lock of n. preload.h tells the whole story.
 *
 * Nothing is kept here; what there is, the kernel is asked. A lock is taken, given to a descriptor, copied to
 * another, set aside for the time in which its descriptor is closed (so that another thread, which gets the same
 * number at once, finds room for a lock of its own), and let go of. Between these it is on a number of its own
 * above all locks, where no descriptor of the program's leads to it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "preload.h"

/* ---- ours ---------------------------------------------------------------------------------------------------- */

static int last_of_ours(void)
{
    return 2 * run.base + RUN_SPARE + RUN_VOLUMES - 1;
}

enum occupant { NOBODY, A_LOCK, ANOTHER };

/* What is at a number, where other threads come and go. Lock files are empty, and nobody but us moves about in an
 * empty file. */
static enum occupant occupant_of(int fd)
{
    struct stat status;
    int64_t offset = aiofs_sys.lseek(fd, 0, SEEK_CUR);
    int error = offset > 0 ? aiofs_sys.fstat(fd, &status) : (int)offset;
    if (error == -EBADF)
        return NOBODY;
    return offset > 0 && error == 0 && S_ISREG(status.st_mode) && status.st_size == 0 ? A_LOCK : ANOTHER;
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

bool is_ours(int fd)
{
    return run.base && fd >= run.base && fd <= last_of_ours() && (is_session_fd(fd) || is_lock(fd));
}

int next_ours(const struct numbers *open, unsigned from, unsigned last)
{
    if (from < (unsigned)run.base)
        from = (unsigned)run.base;
    int fd = numbers_next(open, from, last);
    while (fd >= 0 && !is_ours(fd))
        fd = numbers_next(open, (unsigned)fd + 1, last);
    return fd;
}

/* The number of a descriptor's lock, or -1. */
static int lock_of(int fd)
{
    return fd >= 0 && fd < run.base && is_lock(run.base + fd) ? run.base + fd : -1;
}

/* ---- whose lock it is ---------------------------------------------------------------------------------------- */

enum { NAMELESS = 1 }; /* offset of a lock that was taken for a file not yet open */

/* In 31 bits, and larger than NAMELESS: what an offset can be on every filesystem. */
static int64_t name_of(const struct stat *status)
{
    uint64_t both[2] = {status->st_dev, status->st_ino};
    return 2 + (int64_t)(aiofs_path_hash((const char *)both, sizeof both) >> 34);
}

static void lock_name(int lock, int fd)
{
    struct stat status;
    if (aiofs_sys.fstat(fd, &status) == 0)
        aiofs_sys.lseek(lock, name_of(&status), SEEK_SET);
}

/* ---- taking it ----------------------------------------------------------------------------------------------- */

int move_up(int fd)
{
    if (fd < 0)
        return fd;
    int up = aiofs_sys.fcntl(fd, F_DUPFD_CLOEXEC, 2 * run.base);
    if (up < 0) /* too many threads open files now, or RLIMIT_NOFILE has been lowered: a low one must do */
        return fd;
    aiofs_sys.close(fd);
    return up;
}

int lock_take(const struct place *place, int *next)
{
    if (place->session <= 0)
        return -ENOLCK;
    *next = place_open_lock_file(place);
    int lock = move_up(*next);
    if (lock < 0)
        return lock;
    struct aiofs_patience patience = {0};
    int status;
    do
        status = aiofs_bytes_share(lock, place->hash, place->session);
    while (status == -EBUSY && aiofs_bytes_retry(lock, place->hash, place->session, &patience));
    if (status == 0 && aiofs_sys.lseek(lock, NAMELESS, SEEK_SET) < 0)
        status = -ENOLCK;
    if (status < 0)
        aiofs_sys.close(lock);
    return status < 0 ? status : lock;
}

/* ---- giving it ----------------------------------------------------------------------------------------------- */

bool lock_has_room(int fd)
{
    int number = run.base + fd;
    struct rlimit limit;
    if (fd >= run.base || aiofs_sys.getrlimit(RLIMIT_NOFILE, &limit) < 0 || (rlim_t)number >= limit.rlim_cur)
        return false;
    return occupant_of(number) != ANOTHER;
}

/* A lock that is there has outlived its descriptor, by a close that was not seen: it gives way. */
static int place_at(int lock, int fd)
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

int lock_give(int lock, int fd)
{
    if (lock < 0)
        return 0;
    lock_name(lock, fd);
    int status = place_at(lock, fd);
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
    return lock < 0 ? 0 : place_at(lock, to);
}

/* ---- letting go ---------------------------------------------------------------------------------------------- */

static bool lingers(int fd, int lock)
{
    int saved = errno;
    bool taken = deferred_close(fd, lock);
    errno = saved;
    return taken;
}

int lock_leave(int fd)
{
    int lock = lock_of(fd);
    if (lock < 0)
        return -1;
    int aside = aiofs_sys.fcntl(lock, F_DUPFD_CLOEXEC, 2 * run.base);
    aiofs_sys.close(lock);
    return aside < 0 || lingers(fd, aside) ? -1 : aside;
}

void lock_end(int lock)
{
    if (lock >= 0)
        aiofs_sys.close(lock);
}

/* The next descriptor from `first` on, at most `last`, that has a lock, or had one that is still there; -1: none. */
static int next_locked(const struct numbers *open, unsigned first, unsigned last)
{
    unsigned base = (unsigned)run.base;
    if (last >= base)
        last = base - 1;
    int lock = first <= last ? next_ours(open, base + first, base + last) : -1;
    return lock < 0 ? -1 : lock - run.base;
}

void locks_linger(const struct numbers *open, unsigned first, unsigned last)
{
    for (int fd = next_locked(open, first, last); fd >= 0; fd = next_locked(open, (unsigned)fd + 1, last)) {
        int copy = aiofs_sys.fcntl(run.base + fd, F_DUPFD_CLOEXEC, 2 * run.base);
        if (copy >= 0 && !lingers(fd, copy))
            aiofs_sys.close(copy);
    }
}

void locks_drop(const struct numbers *open, unsigned first, unsigned last)
{
    for (int fd = next_locked(open, first, last); fd >= 0; fd = next_locked(open, (unsigned)fd + 1, last))
        if (aiofs_sys.fcntl(fd, F_GETFD, 0) < 0)
            aiofs_sys.close(run.base + fd);
}

/* ---- after fork and exec ------------------------------------------------------------------------------------- */

/* What a lock of this descriptor would be named; 0: it has none. */
static int64_t name_wanted(int fd)
{
    struct stat status;
    int flags = aiofs_sys.fcntl(fd, F_GETFL, 0);
    bool writes = flags >= 0 && !(flags & O_PATH) && (flags & O_ACCMODE) != O_RDONLY;
    return writes && aiofs_sys.fstat(fd, &status) == 0 && S_ISREG(status.st_mode) ? name_of(&status) : 0;
}

static int64_t name_of_lock(int lock)
{
    return is_lock(lock) ? aiofs_sys.lseek(lock, 0, SEEK_CUR) : -1;
}

/* Gives a file the lock that was taken for it: it has come to another number in a way that was not seen. */
static void find_lock_for(const struct numbers *open, int fd)
{
    int64_t name = name_wanted(fd);
    if (name == 0 || name_of_lock(run.base + fd) == name)
        return;
    for (int lock = next_ours(open, 0, UINT_MAX); lock >= 0; lock = next_ours(open, (unsigned)lock + 1, UINT_MAX)) {
        if (name_of_lock(lock) == name) {
            place_at(lock, fd);
            return;
        }
    }
}

static bool is_in_place(int lock)
{
    int fd = lock - run.base;
    return fd < run.base && name_of_lock(lock) == name_wanted(fd);
}

void lock_settle(void)
{
    struct numbers open;
    unsigned last = (unsigned)run.base - 1;
    numbers_open(&open);
    for (int fd = numbers_next(&open, 0, last); fd >= 0; fd = numbers_next(&open, (unsigned)fd + 1, last))
        find_lock_for(&open, fd);
    for (int lock = next_ours(&open, 0, UINT_MAX); lock >= 0; lock = next_ours(&open, (unsigned)lock + 1, UINT_MAX))
        if (!is_session_fd(lock) && !is_in_place(lock))
            aiofs_sys.close(lock);
}
