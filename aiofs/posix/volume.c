/*
 * volume.c - aiofs_open and aiofs_close: files of a volume, under their lock, for C programs.
 *
 * All that a process opens here has one owner, so it shares the lock of a file with itself. The open file owns the
 * lock and the volume. What was opened here stands in a table by its number, with the opener's reference: only
 * the thread that removes the entry closes the file. So aiofs_close leaves alone a file that another face opened.
 *
 * The table's lock is held for a few instructions, and nothing is taken under it. The child of a fork keeps the
 * table: it may close what it inherited.
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

/* ---- what was opened ------------------------------------------------------------------------------------- */

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

static aiofs_file *take_out(int fd)
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

/* Its descriptor; on an error it is closed. */
static int put_in(aiofs_file *file)
{
    int fd = aiofs_file_fd(file);
    aiofs_file *lost = take_out(fd); /* the program has closed its number by close(2) */
    if (lost)
        close_opened(lost);
    pthread_mutex_lock(&opened.lock);
    bool there_is_room = make_room_locked((size_t)fd + 1);
    if (there_is_room)
        opened.files[fd] = file;
    pthread_mutex_unlock(&opened.lock);
    if (there_is_room)
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

/* A process without write permission in a directory may still read there. */
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
    return error < 0 ? error : put_in(file);
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
    int before = posix_hold_off();
    int answer = posix_answer(open_locked(volume, path, flags, mode));
    posix_let_in(before);
    return answer;
}

AIOFS_API int aiofs_close(int fd)
{
    int before = posix_hold_off();
    aiofs_file *file = take_out(fd);
    int answer = posix_answer(file ? close_opened(file) : -EBADF);
    posix_let_in(before);
    return answer;
}
