/*
 * close.c - what closes descriptors, and what makes a second one of a file: the locks go along.
 *
 * A descriptor's lock is set aside before it is closed, and let go of afterwards: so nobody else gets the lock
 * while the file is still open, and whoever gets the number at once has room for a lock of its own. A copy has its
 * lock before it can be used, where its number is known beforehand.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <stdarg.h>

#include "preload.h"

/* ---- close --------------------------------------------------------------------------------------------------- */

FACE(int, close, (int fd))
{
    const struct libc *libc = libc_functions();
    if (is_ours(fd))
        return refuse(EBADF);
    int lock = lock_leave(fd);
    int status = libc->close(fd);
    lock_end(lock);
    return status;
}
ALSO(close, __close);

static int close_some(unsigned first, unsigned last, int flags)
{
    const struct libc *libc = libc_functions();
    if (libc->close_range)
        return libc->close_range(first, last, flags);
    int error = aiofs_sys.close_range(first, last, (unsigned)flags);
    return error < 0 ? refuse(-error) : 0;
}

/* Everything of the range that is not ours. */
static int close_around_ours(const struct numbers *open, unsigned first, unsigned last, int flags)
{
    for (int ours = next_ours(open, first, last); ours >= 0; ours = next_ours(open, first, last)) {
        if ((unsigned)ours > first && close_some(first, (unsigned)ours - 1, flags) < 0)
            return -1;
        first = (unsigned)ours + 1;
    }
    return first <= last ? close_some(first, last, flags) : 0;
}

FACE(int, close_range, (unsigned first, unsigned last, int flags))
{
    libc_functions();
    struct numbers open;
    bool keeps = flags & CLOSE_RANGE_CLOEXEC;
    if (!run.base || first > last)
        return close_some(first, last, flags);
    numbers_open(&open);
    if (!keeps)
        locks_linger(&open, first, last);
    int status = close_around_ours(&open, first, last, flags);
    if (!keeps && status == 0)
        locks_drop(&open, first, last);
    return status;
}

/* Linux before 5.9 closes no ranges. */
static void close_one_by_one(int first)
{
    struct rlimit limit;
    if (aiofs_sys.getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    for (int fd = first; (rlim_t)fd < limit.rlim_cur; fd++)
        run_close(fd);
}

FACE(void, closefrom, (int first))
{
    int saved = errno;
    if (first < 0)
        first = 0;
    if (run_close_range((unsigned)first, ~0u, 0) < 0)
        close_one_by_one(first);
    errno = saved;
}

/* ---- dup ----------------------------------------------------------------------------------------------------- */

/* `to` is a new descriptor of what `from` is open on, or -1. */
static int copied(int from, int to)
{
    if (to < 0 || lock_copy(from, to) == 0)
        return to;
    libc_functions()->close(to);
    return refuse(EMFILE);
}

FACE(int, dup, (int fd))
{
    const struct libc *libc = libc_functions();
    return is_ours(fd) ? refuse(EBADF) : copied(fd, libc->dup(fd));
}

static int dup_to(int from, int to, const int *flags)
{
    const struct libc *libc = libc_functions();
    return flags ? libc->dup3(from, to, *flags) : libc->dup2(from, to);
}

static int replace(int from, int to, const int *flags)
{
    libc_functions();
    if (is_ours(from) || is_ours(to) || !lock_fits(from, to))
        return refuse(EBADF); /* as if RLIMIT_NOFILE ended here */
    if (!run.base || from == to)
        return dup_to(from, to, flags);
    int lock = lock_leave(to);
    int number = dup_to(from, to, flags);
    if (number < 0) {
        lock_give(lock, to);
        return -1;
    }
    lock_end(lock);
    return copied(from, number);
}

FACE(int, dup2, (int from, int to))
{
    return replace(from, to, NULL);
}
ALSO(dup2, __dup2);

FACE(int, dup3, (int from, int to, int flags))
{
    return replace(from, to, &flags);
}

FACE(int, fcntl, (int fd, int command, ...))
{
    const struct libc *libc = libc_functions();
    va_list arguments;
    va_start(arguments, command);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    if (is_ours(fd))
        return refuse(EBADF);
    int answer = libc->fcntl(fd, command, argument);
    return command == F_DUPFD || command == F_DUPFD_CLOEXEC ? copied(fd, answer) : answer;
}
ALSO(fcntl, fcntl64);
ALSO(fcntl, __fcntl);
