/*
 * volume.c - aiofs_open, aiofs_open_wait, aiofs_close, aiofs_abort and aiofs_locks: locked files of a volume, for C
 * programs.
 *
 * All files that a process opens by aiofs_open have the same lock owner, so the process may open one file several times.
 * In the modes of aiofs_open_wait that name a lock, each open file is a holder of its own.
 *
 * Ownership. The open file owns its lock and its volume. The table `opened` maps descriptors to open files, and owns
 * the opener's reference to each. The thread that removes a file from the table closes it. So aiofs_close does not
 * close a file that another face opened. Only aiofs_close commits a swap file.
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

static enum aiofs_lock default_lock(int flags)
{
    return (flags & O_ACCMODE) == O_RDONLY ? AIOFS_LOCK_NONE : AIOFS_LOCK_EXCLUSIVE;
}

struct opening {
    const char *path;
    int flags;
    mode_t permissions;
    enum aiofs_lock lock;
    const void *owner;
    bool swap; /* the changes are committed by aiofs_close */
};

static int open_in(aiofs_volume *volume, const struct opening *opening, aiofs_file **file)
{
    const char *path = opening->path;
    int flags = opening->flags;
    if (opening->swap)
        return aiofs_volume_open_swap(volume, path, flags, opening->permissions, opening->lock, NULL, file);
    return aiofs_volume_open_file(volume, path, flags, opening->permissions, opening->lock, opening->owner, file);
}

static int open_locked(const char *directory, const struct opening *opening)
{
    aiofs_volume *volume;
    aiofs_file *file;
    if (!*opening->path)
        return -ENOENT;
    int error = open_volume(directory, opening->flags, &volume);
    if (error < 0)
        return error;
    error = open_in(volume, opening, &file);
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
    const struct opening opening = {path, flags, mode, default_lock(flags), &the_process, false};
    int before = posix_disable_cancel();
    int answer = posix_answer(open_locked(volume, &opening));
    posix_restore_cancel(before);
    return answer;
}

/* The lock of a mode, or -EINVAL. */
static int lock_of(enum aiofs_mode mode, int flags)
{
    bool reads = (flags & O_ACCMODE) == O_RDONLY;
    switch (mode) {
    case AIOFS_MODE_DEFAULT:
        return default_lock(flags);
    case AIOFS_MODE_IN_PLACE:
        return AIOFS_LOCK_EXCLUSIVE;
    case AIOFS_MODE_READ_ONLY:
        return reads && !(flags & O_TRUNC) ? AIOFS_LOCK_READ_ONLY : -EINVAL;
    case AIOFS_MODE_READWRITE_UNSAFE:
        return AIOFS_LOCK_READWRITE_UNSAFE;
    case AIOFS_MODE_EXCLUSIVE:
        return reads ? -EINVAL : AIOFS_LOCK_ATOMIC;
    case AIOFS_MODE_SHARED:
        return reads ? -EINVAL : AIOFS_LOCK_SHARED;
    }
    return -EINVAL;
}

/* The time of aiofs_now() at which to give up; 0: do not wait. -EINVAL. */
static int64_t deadline_of(const struct timespec *timeout)
{
    enum { SECOND = 1000000000, LONG_SECONDS = 1000000000 };
    if (!timeout || (timeout->tv_sec > LONG_SECONDS && timeout->tv_nsec >= 0 && timeout->tv_nsec < SECOND))
        return INT64_MAX;
    if (timeout->tv_sec < 0 || timeout->tv_nsec < 0 || timeout->tv_nsec >= SECOND)
        return -EINVAL;
    int64_t nanoseconds = timeout->tv_sec * (int64_t)SECOND + timeout->tv_nsec;
    return nanoseconds ? aiofs_now() + nanoseconds : 0;
}

AIOFS_API int aiofs_open_wait(const char *volume, const char *path, int flags, mode_t permissions, enum aiofs_mode mode,
                              const struct timespec *timeout)
{
    struct aiofs_acquisition acquisition = {.until = deadline_of(timeout)};
    int lock = lock_of(mode, flags);
    if (lock < 0 || acquisition.until < 0)
        return posix_answer(-EINVAL);
    const struct opening opening = {.path = path,
                                    .flags = flags,
                                    .permissions = permissions,
                                    .lock = (enum aiofs_lock)lock,
                                    .owner = mode == AIOFS_MODE_DEFAULT ? &the_process : NULL,
                                    .swap = mode == AIOFS_MODE_EXCLUSIVE || mode == AIOFS_MODE_SHARED};
    int before = posix_disable_cancel();
    aiofs_acquisition_begin(&acquisition);
    int fd = open_locked(volume, &opening);
    aiofs_acquisition_begin(NULL);
    aiofs_acquisition_end(&acquisition);
    int answer = posix_answer(fd);
    posix_restore_cancel(before);
    return answer;
}

static int64_t commit_opened(aiofs_file *file)
{
    if (!aiofs_file_swapped(file))
        return close_opened(file);
    int64_t error = aiofs_file_finish(file, true);
    aiofs_file_release(file);
    return error;
}

AIOFS_API int aiofs_close(int fd)
{
    int before = posix_disable_cancel();
    aiofs_file *file = remove_opened(fd);
    int answer = posix_answer(file ? (int)commit_opened(file) : -EBADF);
    posix_restore_cancel(before);
    return answer;
}

AIOFS_API int aiofs_abort(int fd)
{
    int before = posix_disable_cancel();
    aiofs_file *file = remove_opened(fd);
    int answer = posix_answer(file ? close_opened(file) : -EBADF);
    posix_restore_cancel(before);
    return answer;
}

/* ---- who holds and who waits ------------------------------------------------------------------------------- */

/* Moves the paths to a new list. */
static struct aiofs_lock_info *infos_of(struct aiofs_listed_lock *listed, long count)
{
    enum { SECOND = 1000000000 };
    struct aiofs_lock_info *list = calloc((size_t)count + 1, sizeof *list);
    for (long i = 0; list && i < count; i++) {
        list[i] = (struct aiofs_lock_info){.path = listed[i].path, .mode = listed[i].mode, .pid = listed[i].pid};
        list[i].waiting = listed[i].waiting;
        list[i].since.tv_sec = listed[i].since / SECOND;
        list[i].since.tv_nsec = listed[i].since % SECOND;
        listed[i].path = NULL;
    }
    return list;
}

static ssize_t list_locks(const char *volume, struct aiofs_lock_info **list)
{
    struct aiofs_listed_lock *listed;
    aiofs_volume *used;
    int error = open_volume(volume, O_RDONLY, &used);
    if (error < 0)
        return posix_answer(error);
    long count = aiofs_volume_locks(used, &listed);
    aiofs_volume_release(used);
    if (count < 0)
        return posix_answer((int)count);
    *list = infos_of(listed, count);
    aiofs_volume_locks_free(listed, count);
    return *list ? count : posix_answer(-ENOMEM);
}

AIOFS_API ssize_t aiofs_locks(const char *volume, struct aiofs_lock_info **list)
{
    int before = posix_disable_cancel();
    ssize_t answer = list_locks(volume, list);
    posix_restore_cancel(before);
    return answer;
}

AIOFS_API void aiofs_locks_free(struct aiofs_lock_info *list, ssize_t count)
{
    for (ssize_t i = 0; i < count; i++)
        free(list[i].path);
    free(list);
}
