/*
 * lease.c - process trees: what a tree that `aiofs run` starts has of a volume.
 *
 * One descriptor of .aiofs/volume for each tree and volume, inherited by all processes of the tree. Its
 * open-file-description locks say two things, until the last of them is gone: that the volume is open (a read
 * lock on the first byte, as every process has it that opened the volume), and which byte of every entry's range
 * is this tree's (a write lock on that byte of this file). The offset of the description is that byte, so whoever
 * inherits the descriptor knows it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>

#include "sys.h"
#include "volume_internal.h"

static int lease_byte(int fd)
{
    int status = -EBUSY;
    int64_t byte = AIOFS_FIRST_TREE;
    for (; status == -EBUSY && byte < AIOFS_RANGE_MARK; byte++)
        status = aiofs_bytes_set(fd, F_WRLCK, byte, 1);
    if (status < 0)
        return status == -EBUSY ? -ENOLCK : status;
    return aiofs_sys.lseek(fd, byte - 1, SEEK_SET) < 0 ? -EIO : 0;
}

static int lease(const struct aiofs_tree *tree, int number)
{
    int fd = aiofs_sys.openat(tree->keep, "volume", O_RDWR | O_NOFOLLOW | O_CLOEXEC, 0);
    if (fd < 0)
        return fd;
    int status = aiofs_bytes_set(fd, F_RDLCK, 0, 1); /* the caller has one too: nobody can be alone here */
    if (status == 0)
        status = lease_byte(fd);
    if (status == 0)
        status = aiofs_sys.fcntl(fd, F_DUPFD, number);
    aiofs_sys.close(fd);
    return status;
}

int aiofs_volume_lease(const char *directory, int number)
{
    aiofs_volume *volume;
    int status = aiofs_volume_open(directory, AIOFS_VOLUME_CREATE, -1, &volume);
    if (status < 0)
        return status;
    status = lease(volume->tree, number);
    aiofs_volume_release(volume);
    return status;
}
