/*
 * volume.c - aiofs_open and aiofs_close: locked files of a volume, for C programs.
 *
 * All files that a process opens here have the same lock owner, so the process may open one file several times.
 *
 * Ownership. The open file owns its lock and its volume. The table `opened` maps descriptors to open files, and owns
 * the opener's reference to each. The thread that removes a file from the table closes it. So aiofs_close does not
 * close a file that another face opened.
 *
 * Locking. opened.lock guards the table. It is held for a few instructions, and no other lock is taken under it. The
 * child of a fork keeps the table, because it may close files that it inherited.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "include/aiofs.h"
#include "posix.h"
#include "volume.h"

static const char the_process;

static struct {
    pthread_mutex_t lock;
    aiofs_file **files; /* by descriptor */
    size_t room;
} opened = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- the table of open files ------------------------------------------------------------------------------ */

static bool make_room_locked(size_t room)
{
    if (room <= opened.room)
        return true;
    room = room < 2 * opened.room ? 2 * opened.room : room;
    aiofs_file **grown = realloc(opened.files, room * sizeof *grown);
    if (!grown)
        return false;
    memset(grown + opened.room, 0, (room - opened.room) * sizeof *grown);
    opened.files = grown;
    opened.room = room;
    return true;
}

static aiofs_file *remove_opened(int fd)
{
    aiofs_file *file = NULL;
    pthread_mutex_lock(&opened.lock);
    if (fd >= 0 && (size_t)fd < opened.room) {
        file = opened.files[fd];
        opened.files[fd] = NULL;
    }
    pthread_mutex_unlock(&opened.lock);
    return file;
}

static int close_opened(aiofs_file *file)
{
    int error = aiofs_file_close(file);
    aiofs_file_release(file);
    return error;
}

/* Registers the file, and returns its descriptor. On an error it closes the file. */
static int add_opened(aiofs_file *file)
{
    int fd = aiofs_file_fd(file);
    aiofs_file *lost = remove_opened(fd); /* the program closed the number with close(2) */
    if (lost)
        close_opened(lost);
    pthread_mutex_lock(&opened.lock);
    bool has_room = make_room_locked((size_t)fd + 1);
    if (has_room)
        opened.files[fd] = file;
    pthread_mutex_unlock(&opened.lock);
    if (has_room)
        return fd;
    close_opened(file);
    return -ENOMEM;
}

static void fork_prepare(void)
{
    pthread_mutex_lock(&opened.lock);
}

static void fork_parent(void)
{
    pthread_mutex_unlock(&opened.lock);
}

static void fork_child(void)
{
    pthread_mutex_init(&opened.lock, NULL);
}

__attribute__((constructor)) static void set_up(void)
{
    pthread_atfork(fork_prepare, fork_parent, fork_child);
}

/* ---- opening --------------------------------------------------------------------------------------------- */

/* Opens the volume read-only if the process has no write permission there and only reads. */
static int open_volume(const char *directory, int flags, aiofs_volume **volume)
{
    bool only_reads = (flags & (O_ACCMODE | O_CREAT | O_TRUNC)) == O_RDONLY;
    int error = aiofs_volume_open(directory, flags & O_CREAT ? AIOFS_VOLUME_CREATE : 0, -1, volume);
    if ((error == -EACCES || error == -EROFS) && only_reads)
        error = aiofs_volume_open(directory, AIOFS_VOLUME_READ_ONLY, -1, volume);
    return error;
}

static int open_locked(const char *directory, const char *path, int flags, mode_t mode)
{
    aiofs_volume *volume;
    aiofs_file *file;
    if (!*path)
        return -ENOENT;
    int error = open_volume(directory, flags, &volume);
    if (error < 0)
        return error;
    bool reads = (flags & O_ACCMODE) == O_RDONLY;
    error = aiofs_volume_open_file(volume, path, flags, mode, reads ? AIOFS_LOCK_NONE : AIOFS_LOCK_EXCLUSIVE,
                                   &the_process, &file);
    aiofs_volume_release(volume);
    return error < 0 ? error : add_opened(file);
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
    int before = posix_disable_cancel();
    int answer = posix_answer(open_locked(volume, path, flags, mode));
    posix_restore_cancel(before);
    return answer;
}

AIOFS_API int aiofs_close(int fd)
{
    int before = posix_disable_cancel();
    aiofs_file *file = remove_opened(fd);
    int answer = posix_answer(file ? close_opened(file) : -EBADF);
    posix_restore_cancel(before);
    return answer;
}
