/*
 * volume.c - aiofs_open and aiofs_close: files of a volume, under their lock, for C programs.
 *
 * All that a process opens here has one owner, so it shares the lock of a file with itself. The open file owns the
 * lock and the volume; this keeps nothing.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>

#include "include/aiofs.h"
#include "posix.h"
#include "volume.h"

static const char the_process;

static int open_locked(const char *directory, const char *path, int flags, mode_t mode)
{
    aiofs_volume *volume;
    aiofs_file *file;
    int error = aiofs_volume_open(directory, flags & O_CREAT ? AIOFS_VOLUME_CREATE : 0, -1, &volume);
    if (error < 0)
        return error;
    bool reads = (flags & O_ACCMODE) == O_RDONLY;
    error = aiofs_volume_open_file(volume, path, flags, mode, reads ? AIOFS_LOCK_NONE : AIOFS_LOCK_EXCLUSIVE,
                                   &the_process, &file);
    aiofs_volume_release(volume);
    return error < 0 ? error : aiofs_file_fd(file);
}

AIOFS_API int aiofs_open(const char *volume, const char *path, int flags, ...)
{
    mode_t mode = 0;
    if (flags & O_CREAT) {
        va_list arguments;
        va_start(arguments, flags);
        mode = va_arg(arguments, mode_t);
        va_end(arguments);
    }
    return posix_answer(open_locked(volume, path, flags, mode));
}

AIOFS_API int aiofs_close(int fd)
{
    aiofs_file *file = aiofs_file_find(fd);
    if (!file)
        return posix_answer(-EBADF);
    int error = aiofs_file_close(file);
    aiofs_file_release(file); /* the one that was found */
    if (error == 0)
        aiofs_file_release(file); /* the opener's */
    return posix_answer(error);
}
