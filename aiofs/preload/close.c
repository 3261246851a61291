/*
 * close.c - interposes the functions that close and duplicate descriptors, and does the same to their locks.
 *
 * Before a descriptor is closed, its lock moves to a temporary number; after the close, the lock is closed. So another
 * holder cannot get the lock while the file is still open, and a thread that opens a file under the freed number has
 * room for that file's lock. Where the number of a duplicate is known in advance (dup2, dup3), the room for its lock is
 * checked before the descriptor is replaced.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <stdarg.h>

#include "preload.h"

/* ---- close --------------------------------------------------------------------------------------------------- */

INTERPOSE(int, close, (int fd))
{
    const struct libc *libc = libc_functions();
    if (is_own(fd))
        return refuse(EBADF);
    int cancelling, lock = lock_detach_uncancelled(fd, &cancelling);
    int status = libc->close(fd);
    lock_close_uncancelled(lock, cancelling);
    return status;
}
ALIAS(close, __close);

static int close_some(unsigned first, unsigned last, int flags)
{
    const struct libc *libc = libc_functions();
    if (libc->close_range)
        return libc->close_range(first, last, flags);
    int error = aiofs_sys.close_range(first, last, (unsigned)flags);
    return error < 0 ? refuse(-error) : 0;
}

/* Closes the range, except the library's own descriptors. */
static int close_around_own(const struct open_fds *open, unsigned first, unsigned last, int flags)
{
    for (int own = next_own(open, first, last); own >= 0; own = next_own(open, first, last)) {
        if ((unsigned)own > first && close_some(first, (unsigned)own - 1, flags) < 0)
            return -1;
        first = (unsigned)own + 1;
    }
    return first <= last ? close_some(first, last, flags) : 0;
}

INTERPOSE(int, close_range, (unsigned first, unsigned last, int flags))
{
    libc_functions();
    struct open_fds open;
    bool keeps = flags & CLOSE_RANGE_CLOEXEC;
    if (!run.base || first > last)
        return close_some(first, last, flags);
    open_fds_read(&open);
    if (!keeps)
        locks_defer(&open, first, last);
    int status = close_around_own(&open, first, last, flags);
    if (!keeps && status == 0)
        locks_close_unused(&open, first, last);
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

INTERPOSE(void, closefrom, (int first))
{
    int saved = errno;
    if (first < 0)
        first = 0;
    if (run_close_range((unsigned)first, ~0u, 0) < 0)
        close_one_by_one(first);
    errno = saved;
}

/* ---- dup ----------------------------------------------------------------------------------------------------- */

/* Copies the lock of `from` to its duplicate `to`, which may be -1. If the lock has no room, closes `to`: EMFILE. */
static int copy_lock(int from, int to)
{
    if (to < 0 || lock_copy(from, to) == 0)
        return to;
    libc_functions()->close(to);
    return refuse(EMFILE);
}

INTERPOSE(int, dup, (int fd))
{
    const struct libc *libc = libc_functions();
    return is_own(fd) ? refuse(EBADF) : copy_lock(fd, libc->dup(fd));
}

static int dup_to(int from, int to, const int *flags)
{
    const struct libc *libc = libc_functions();
    return flags ? libc->dup3(from, to, *flags) : libc->dup2(from, to);
}

static int replace(int from, int to, const int *flags)
{
    libc_functions();
    if (is_own(from) || is_own(to) || !lock_fits(from, to))
        return refuse(EBADF); /* what dup2 says of a number over RLIMIT_NOFILE */
    bool fails = aiofs_sys.fcntl(from, F_GETFD, 0) < 0; /* then `to` stays open, and its lock stays where it is */
    if (!run.base || from == to || fails)
        return dup_to(from, to, flags);
    int lock = lock_detach(to);
    int number = dup_to(from, to, flags);
    if (number < 0) {
        lock_attach(lock, to);
        return -1;
    }
    lock_close(lock);
    return copy_lock(from, number);
}

INTERPOSE(int, dup2, (int from, int to))
{
    return replace(from, to, NULL);
}
ALIAS(dup2, __dup2);

INTERPOSE(int, dup3, (int from, int to, int flags))
{
    return replace(from, to, &flags);
}

INTERPOSE(int, fcntl, (int fd, int command, ...))
{
    const struct libc *libc = libc_functions();
    va_list arguments;
    va_start(arguments, command);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    if (is_own(fd))
        return refuse(EBADF);
    int answer = libc->fcntl(fd, command, argument);
    return command == F_DUPFD || command == F_DUPFD_CLOEXEC ? copy_lock(fd, answer) : answer;
}
ALIAS(fcntl, fcntl64);
ALIAS(fcntl, __fcntl);
