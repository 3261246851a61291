/*
 * run_session.c - run sessions: what a process tree that `aiofs run` starts has of a volume.
 *
 * One descriptor of .aiofs/volume for each session and volume, inherited by all processes of the session: its session
 * fd. The open-file-description locks of the session fd say two things, until the last process of the session is
 * gone:
 *
 *   - the volume is open: a read lock on the first byte, as every process has it that opened the volume;
 *   - one byte of every entry's range is this session's: a write lock on the byte with that number in this file.
 *
 * The offset of the description is that number, so a process that inherits the session fd knows its byte.
 *
 * The command begins the session, before it becomes the program: so this file is a part of _core, and neither of
 * libaiofs.so nor of libaiofs-run.so.
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
    int status = aiofs_bytes_set(fd, F_RDLCK, 0, 1); /* the open volume has one too: nobody can be alone here */
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
