/*
 * open.c - what opens files: each call that could write takes the lock first.
 *
 * One pair of functions does it for all of them: `begin` finds the place and takes its lock, `end` gives the lock
 * to the descriptor that was opened, or lets it go. In between, the name is opened in the directory that was looked
 * at. What leads elsewhere, or only reads, is passed on as it came.
 *
 * In between a thread cannot be cancelled: it would keep the lock.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <string.h>
#include <sys/random.h>

#include "preload.h"

struct opening {
    struct place place;
    int flags;
    int lock;
    int cancelling; /* as it was */
};

/* ---- before and after ---------------------------------------------------------------------------------------- */

static bool is_locking(int flags)
{
    if (flags & (O_PATH | O_DIRECTORY)) /* O_TMPFILE is one of these: it makes a file that has no name */
        return false;
    return (flags & O_ACCMODE) != O_RDONLY || flags & O_TRUNC;
}

/* The lock of the place, if its descriptor will find room for it: after the open it would be too late. */
static int take(struct opening *opening)
{
    int next;
    opening->lock = lock_take(&opening->place, &next);
    if (opening->lock >= 0 && !lock_has_room(next)) {
        lock_end(opening->lock);
        return -EMFILE;
    }
    return opening->lock < 0 ? opening->lock : 0;
}

/* 1: the lock is taken, open opening->place and call `end`. 0: nothing of ours. Negative: refused. */
static int begin(struct opening *opening, int dirfd, const char *path, int flags)
{
    if (!run.base || !path || !is_locking(flags))
        return 0;
    bool exclusive = flags & O_CREAT && flags & O_EXCL;
    int found = place_find(&opening->place, dirfd, path, exclusive || flags & O_NOFOLLOW);
    if (found <= 0)
        return found;
    opening->flags = flags;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &opening->cancelling); /* taking it may sleep for a moment */
    int status = exclusive && opening->place.exists ? -EEXIST : take(opening);
    if (status < 0) {
        pthread_setcancelstate(opening->cancelling, NULL);
        place_done(&opening->place);
        return status;
    }
    return 1;
}

/* `fd` is what was opened, or -1. 0, or -EMFILE: it must not stay open. */
static int end(struct opening *opening, int fd)
{
    int status = 0;
    place_done(&opening->place);
    if (fd < 0 || (opening->flags & O_ACCMODE) == O_RDONLY) /* cut by O_TRUNC, that was all */
        lock_end(opening->lock);
    else
        status = lock_give(opening->lock, fd);
    pthread_setcancelstate(opening->cancelling, NULL);
    return status;
}

/* ---- open ---------------------------------------------------------------------------------------------------- */

static int open_locked(struct opening *opening, mode_t mode)
{
    const struct libc *libc = libc_functions();
    int fd = libc->openat(opening->place.parent, opening->place.name, opening->flags | O_NOFOLLOW, mode);
    int error = fd < 0 ? errno : 0;
    int status = end(opening, fd);
    if (status < 0) {
        libc->close(fd);
        error = -status;
    }
    return error ? refuse(error) : fd;
}

static int open_at(int dirfd, const char *path, int flags, mode_t mode)
{
    enum { RACES_MAX = 16 }; /* somebody puts a link where none was */
    const struct libc *libc = libc_functions();
    struct opening opening;
    int saved = errno, fd = -1;
    for (int i = 0; i < RACES_MAX; i++) {
        int begun = begin(&opening, dirfd, path, flags);
        if (begun < 0)
            return refuse(-begun);
        errno = saved;
        if (begun == 0)
            return libc->openat(dirfd, path, flags, mode);
        fd = open_locked(&opening, mode);
        if (fd >= 0 || errno != ELOOP || flags & O_NOFOLLOW)
            break;
    }
    return fd;
}

/* The mode comes with O_CREAT and O_TMPFILE only. */
static bool has_mode(int flags)
{
    return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE;
}

#define MODE_AFTER(last)                                                                                               \
    mode_t mode = 0;                                                                                                   \
    if (has_mode(flags)) {                                                                                             \
        va_list arguments;                                                                                             \
        va_start(arguments, last);                                                                                     \
        mode = va_arg(arguments, mode_t);                                                                              \
        va_end(arguments);                                                                                             \
    }

FACE(int, open, (const char *path, int flags, ...))
{
    MODE_AFTER(flags)
    return open_at(AT_FDCWD, path, flags, mode);
}

ALSO(open, open64);
ALSO(open, __open);
ALSO(open, __open64);

FACE(int, openat, (int dirfd, const char *path, int flags, ...))
{
    MODE_AFTER(flags)
    return open_at(dirfd, path, flags, mode);
}
ALSO(openat, openat64);

FACE(int, creat, (const char *path, mode_t mode))
{
    return open_at(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, mode);
}
ALSO(creat, creat64);

/* What fortified programs call where they give no mode: libc's ends a program that should have given one. */
FACE(int, __open_2, (const char *path, int flags))
{
    return has_mode(flags) ? libc_functions()->open_2(path, flags) : open_at(AT_FDCWD, path, flags, 0);
}
ALSO(__open_2, __open64_2);

FACE(int, __openat_2, (int dirfd, const char *path, int flags))
{
    return has_mode(flags) ? libc_functions()->openat_2(dirfd, path, flags) : open_at(dirfd, path, flags, 0);
}
ALSO(__openat_2, __openat64_2);

/* ---- mkstemp ------------------------------------------------------------------------------------------------- */

static uint64_t random_bits(void)
{
    uint64_t bits;
    if (getrandom(&bits, sizeof bits, GRND_NONBLOCK) != (ssize_t)sizeof bits)
        bits = (uint64_t)aiofs_now() * 0x9e3779b97f4a7c15u ^ (uintptr_t)&bits;
    return bits;
}

static int make_temporary(char *template, int suffix, int flags)
{
    enum { PLACES = 6, TRIES = 62 * 62 * 62 };
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    size_t length = strlen(template);
    char *place = template + length - (size_t)suffix - PLACES;
    int saved = errno;
    if (suffix < 0 || length < (size_t)suffix + PLACES || memcmp(place, "XXXXXX", PLACES) != 0)
        return refuse(EINVAL);
    for (int i = 0; i < TRIES; i++) {
        uint64_t bits = random_bits();
        for (int j = 0; j < PLACES; j++, bits /= 62)
            place[j] = letters[bits % 62];
        int fd = open_at(AT_FDCWD, template, (flags & ~O_ACCMODE) | O_RDWR | O_CREAT | O_EXCL, 0600);
        if (fd >= 0)
            errno = saved;
        if (fd >= 0 || (errno != EEXIST && errno != EBUSY))
            return fd;
    }
    return refuse(EEXIST);
}

FACE(int, mkstemp, (char *template))
{
    return make_temporary(template, 0, 0);
}
ALSO(mkstemp, mkstemp64);

FACE(int, mkostemp, (char *template, int flags))
{
    return make_temporary(template, 0, flags);
}
ALSO(mkostemp, mkostemp64);

FACE(int, mkstemps, (char *template, int suffix))
{
    return make_temporary(template, suffix, 0);
}
ALSO(mkstemps, mkstemps64);

FACE(int, mkostemps, (char *template, int suffix, int flags))
{
    return make_temporary(template, suffix, flags);
}
ALSO(mkostemps, mkostemps64);

/* ---- streams ------------------------------------------------------------------------------------------------- */

/* The flags of open that a mode of fopen stands for; 0 also for those that libc will refuse. */
static int flags_of_mode(const char *mode)
{
    int flags = *mode == 'w' ? O_WRONLY | O_CREAT | O_TRUNC : *mode == 'a' ? O_WRONLY | O_CREAT | O_APPEND : O_RDONLY;
    for (const char *letter = mode; *letter && *letter != ','; letter++) {
        if (*letter == '+')
            flags = (flags & ~O_ACCMODE) | O_RDWR;
        else if (*letter == 'x')
            flags |= O_EXCL;
    }
    return flags;
}

/* A path for libc of what is to be opened: the name in the directory that was looked at. */
struct path_for_libc {
    char text[DESCRIPTOR_NAME + 1 + NAME_MAX + 1];
};

static const char *path_in_place(const struct opening *opening, struct path_for_libc *path)
{
    char *end = descriptor_name(path->text, opening->place.parent);
    if (strlen(opening->place.name) > NAME_MAX)
        return opening->place.name; /* too long for any directory */
    *end++ = '/';
    strcpy(end, opening->place.name);
    return path->text;
}

static FILE *end_stream(struct opening *opening, FILE *stream)
{
    int error = errno;
    int status = end(opening, stream ? fileno(stream) : -1);
    if (status < 0) {
        libc_functions()->fclose(stream);
        stream = NULL;
        error = -status;
    }
    errno = error;
    return stream;
}

FACE(FILE *, fopen, (const char *path, const char *mode))
{
    const struct libc *libc = libc_functions();
    struct opening opening;
    struct path_for_libc own;
    int begun = begin(&opening, AT_FDCWD, path, flags_of_mode(mode));
    if (begun < 0) {
        errno = -begun;
        return NULL;
    }
    if (begun == 0)
        return libc->fopen(path, mode);
    return end_stream(&opening, libc->fopen(path_in_place(&opening, &own), mode));
}
ALSO(fopen, fopen64);

/* Refused or not, the stream's file is closed. */
static FILE *freopen_refused(FILE *stream, int error)
{
    int lock = lock_leave(fileno(stream));
    libc_functions()->freopen("", "r", stream);
    lock_end(lock);
    errno = error;
    return NULL;
}

FACE(FILE *, freopen, (const char *path, const char *mode, FILE *stream))
{
    const struct libc *libc = libc_functions();
    struct opening opening;
    struct path_for_libc own;
    char same[DESCRIPTOR_NAME];
    int saved = errno, old = fileno(stream);
    descriptor_name(same, old < 0 ? 0 : old);
    int begun = begin(&opening, AT_FDCWD, path ? path : old < 0 ? NULL : same, flags_of_mode(mode));
    if (begun < 0)
        return freopen_refused(stream, -begun);
    int lock = lock_leave(old);
    errno = saved;
    stream = libc->freopen(path && begun ? path_in_place(&opening, &own) : path, mode, stream);
    lock_end(lock);
    return begun ? end_stream(&opening, stream) : stream;
}
ALSO(freopen, freopen64);

FACE(int, fclose, (FILE *stream))
{
    const struct libc *libc = libc_functions();
    int saved = errno;
    int lock = run.base ? lock_leave(fileno(stream)) : -1;
    errno = saved;
    int status = libc->fclose(stream);
    lock_end(lock);
    return status;
}
