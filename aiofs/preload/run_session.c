/*
 * run_session.c - begins a session of `aiofs run`: a process tree that has a volume open.
 *
 * A session has one descriptor of .aiofs/volume for each volume, its session fd, which all processes of the session
 * inherit. The open file description of the session fd holds two locks until the last process of the session ends:
 *
 *   - a read lock on the first byte, the presence lock, which every process has that opened the volume;
 *   - a write lock on byte N, which reserves byte N of every entry's range for this session.
 *
 * The file offset of the description is N, so a process that inherits the session fd knows the session's byte.
 *
 * The command begins the session before it executes the program. So this file is a part of _core, and of neither
 * libaiofs.so nor libaiofs-run.so.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>

#include "run_session.h"
#include "sys.h"
#include "volume.h"

static int take_byte(int fd)
{
    int status = -EBUSY;
    int64_t byte = AIOFS_FIRST_SESSION;
    for (; status == -EBUSY && byte < AIOFS_RANGE_MARK; byte++)
        status = aiofs_bytes_set(fd, F_WRLCK, byte, 1);
    if (status < 0)
        return status == -EBUSY ? -ENOLCK : status;
    return aiofs_sys.lseek(fd, byte - 1, SEEK_SET) < 0 ? -EIO : 0;
}

static int begin_in(int directory, int number)
{
    int fd = aiofs_sys.openat(directory, ".aiofs/volume", O_RDWR | O_NOFOLLOW | O_CLOEXEC, 0);
    if (fd < 0)
        return fd;
    int status = aiofs_bytes_set(fd, F_RDLCK, 0, 1); /* succeeds: this process has the volume open, with a read lock */
    if (status == 0)
        status = take_byte(fd);
    if (status == 0)
        status = aiofs_sys.fcntl(fd, F_DUPFD, number);
    aiofs_sys.close(fd);
    return status;
}

int run_session_begin(const char *directory, int number)
{
    aiofs_volume *volume;
    int status = aiofs_volume_open(directory, AIOFS_VOLUME_CREATE, -1, &volume);
    if (status < 0)
        return status;
    int root = status = aiofs_volume_open_directory(volume, "");
    if (root >= 0) {
        status = begin_in(root, number);
        aiofs_sys.close(root);
    }
    aiofs_volume_release(volume);
    return status;
}
