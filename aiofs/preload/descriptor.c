/*
 * descriptor.c - the state of the run, and what the other files need of descriptors: their numbers and their paths.
 *
 * `run` is written by run.c at the start, and only read after that. Nothing here allocates or takes a lock.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "preload.h"

struct run run;

int refuse(int error)
{
    errno = error;
    return -1;
}

int move_up(int fd)
{
    if (fd < 0)
        return fd;
    int up = aiofs_sys.fcntl(fd, F_DUPFD_CLOEXEC, 2 * run.base);
    if (up < 0) /* too many threads open files now, or RLIMIT_NOFILE has been lowered: keep the low number */
        return fd;
    aiofs_sys.close(fd);
    return up;
}

char *descriptor_name(char *out, int fd)
{
    char digits[12], *digit = digits + sizeof digits;
    *--digit = 0;
    do
        *--digit = (char)('0' + fd % 10);
    while ((fd /= 10) > 0);
    return stpcpy(stpcpy(out, "/proc/self/fd/"), digit);
}

ssize_t path_of_descriptor(int fd, char *out, size_t size)
{
    char name[DESCRIPTOR_NAME];
    descriptor_name(name, fd);
    ssize_t length = aiofs_sys.readlinkat(AT_FDCWD, name, out, size - 1);
    if (length >= 0)
        out[length] = 0;
    return length;
}
