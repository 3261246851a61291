/*
 * open.c - interposes the functions that open files: an open that can write takes the entry's lock first.
 *
 * All of them use one pair of functions. `begin` resolves the path and takes its lock; `end` attaches the lock to the
 * descriptor that was opened, or releases it. Between the two, the name is opened in the directory that `begin`
 * resolved, so the opened file is the locked one. A path outside the volumes, and an open for reading, go to libc with
 * the arguments unchanged.
 *
 * Between the two, thread cancellation is disabled: a cancelled thread would leak the lock.
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
    struct resolved resolved;
    int flags;
    int lock;
    int cancelling; /* the cancel state to restore */
};

/* ---- before and after ---------------------------------------------------------------------------------------- */

static bool is_locking(int flags)
{
    if (flags & (O_PATH | O_DIRECTORY)) /* O_TMPFILE includes O_DIRECTORY: its file has no name, and no entry */
        return false;
    return (flags & O_ACCMODE) != O_RDONLY || flags & O_TRUNC;
}

/* Takes the lock, and checks that the descriptor to be opened will have room for it. After the open it would be too
 * late to fail, because the open may have truncated the file. */
static int take(struct opening *opening)
{
    int next;
    opening->lock = lock_take(&opening->resolved, &next);
    if (opening->lock >= 0 && !lock_has_room(next)) {
        lock_close(opening->lock);
        return -EMFILE;
    }
    return opening->lock < 0 ? opening->lock : 0;
}

/* 1: the lock is taken; the caller opens opening->resolved and calls `end`. 0: needs no lock. Negative: refused. */
static int begin(struct opening *opening, int dirfd, const char *path, int flags)
{
    if (!run.base || !path || !is_locking(flags))
        return 0;
    bool exclusive = flags & O_CREAT && flags & O_EXCL;
    int found = resolve_path(&opening->resolved, dirfd, path, exclusive || flags & O_NOFOLLOW);
    if (found <= 0)
        return found;
    opening->flags = flags;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &opening->cancelling); /* nanosleep is a cancellation point */
    int status = exclusive && opening->resolved.exists ? -EEXIST : take(opening);
    if (status < 0) {
        pthread_setcancelstate(opening->cancelling, NULL);
        resolved_release(&opening->resolved);
        return status;
    }
    return 1;
}

/* `fd` is the opened descriptor, or -1. 0, or -EMFILE: the lock has no room, and the caller closes `fd`. */
static int end(struct opening *opening, int fd)
{
    int status = 0;
    resolved_release(&opening->resolved);
    if (fd < 0 || (opening->flags & O_ACCMODE) == O_RDONLY) /* O_RDONLY | O_TRUNC: the lock was for truncating only */
        lock_close(opening->lock);
    else
        status = lock_attach(opening->lock, fd);
    pthread_setcancelstate(opening->cancelling, NULL);
    return status;
}

/* ---- open ---------------------------------------------------------------------------------------------------- */

static int open_locked(struct opening *opening, mode_t mode)
{
    const struct libc *libc = libc_functions();
    int fd = libc->openat(opening->resolved.parent, opening->resolved.name, opening->flags | O_NOFOLLOW, mode);
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
    enum { RACES_MAX = 16 }; /* retries after ELOOP: another process made the name a symbolic link after `begin` */
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

/* The mode argument exists only with O_CREAT and O_TMPFILE, see open(2). */
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

INTERPOSE(int, open, (const char *path, int flags, ...))
{
    MODE_AFTER(flags)
    return open_at(AT_FDCWD, path, flags, mode);
}

ALIAS(open, open64);
ALIAS(open, __open);
ALIAS(open, __open64);

INTERPOSE(int, openat, (int dirfd, const char *path, int flags, ...))
{
    MODE_AFTER(flags)
    return open_at(dirfd, path, flags, mode);
}
ALIAS(openat, openat64);

INTERPOSE(int, creat, (const char *path, mode_t mode))
{
    return open_at(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, mode);
}
ALIAS(creat, creat64);

/* Programs compiled with _FORTIFY_SOURCE call these where they give no mode. libc's aborts if the flags need one. */
INTERPOSE(int, __open_2, (const char *path, int flags))
{
    return has_mode(flags) ? libc_functions()->open_2(path, flags) : open_at(AT_FDCWD, path, flags, 0);
}
ALIAS(__open_2, __open64_2);

INTERPOSE(int, __openat_2, (int dirfd, const char *path, int flags))
{
    return has_mode(flags) ? libc_functions()->openat_2(dirfd, path, flags) : open_at(dirfd, path, flags, 0);
}
ALIAS(__openat_2, __openat64_2);

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
    enum { RANDOM_LETTERS = 6, TRIES = 62 * 62 * 62 };
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    size_t length = strlen(template);
    char *random_part = template + length - (size_t)suffix - RANDOM_LETTERS;
    int saved = errno;
    if (suffix < 0 || length < (size_t)suffix + RANDOM_LETTERS || memcmp(random_part, "XXXXXX", RANDOM_LETTERS) != 0)
        return refuse(EINVAL);
    for (int i = 0; i < TRIES; i++) {
        uint64_t bits = random_bits();
        for (int j = 0; j < RANDOM_LETTERS; j++, bits /= 62)
            random_part[j] = letters[bits % 62];
        int fd = open_at(AT_FDCWD, template, (flags & ~O_ACCMODE) | O_RDWR | O_CREAT | O_EXCL, 0600);
        if (fd >= 0)
            errno = saved;
        if (fd >= 0 || (errno != EEXIST && errno != EBUSY))
            return fd;
    }
    return refuse(EEXIST);
}

INTERPOSE(int, mkstemp, (char *template))
{
    return make_temporary(template, 0, 0);
}
ALIAS(mkstemp, mkstemp64);

INTERPOSE(int, mkostemp, (char *template, int flags))
{
    return make_temporary(template, 0, flags);
}
ALIAS(mkostemp, mkostemp64);

INTERPOSE(int, mkstemps, (char *template, int suffix))
{
    return make_temporary(template, suffix, 0);
}
ALIAS(mkstemps, mkstemps64);

INTERPOSE(int, mkostemps, (char *template, int suffix, int flags))
{
    return make_temporary(template, suffix, flags);
}
ALIAS(mkostemps, mkostemps64);

/* ---- streams ------------------------------------------------------------------------------------------------- */

/* The open(2) flags of an fopen mode. For a mode that fopen refuses with EINVAL the result does not matter. */
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

/* A path for libc's fopen that names the last component in the resolved directory: /proc/self/fd/PARENT/NAME. */
struct path_for_libc {
    char text[DESCRIPTOR_NAME + 1 + NAME_MAX + 1];
};

static const char *path_for_libc_of(const struct opening *opening, struct path_for_libc *path)
{
    char *end = descriptor_name(path->text, opening->resolved.parent);
    if (strlen(opening->resolved.name) > NAME_MAX)
        return opening->resolved.name; /* libc fails with ENAMETOOLONG */
    *end++ = '/';
    strcpy(end, opening->resolved.name);
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

INTERPOSE(FILE *, fopen, (const char *path, const char *mode))
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
    return end_stream(&opening, libc->fopen(path_for_libc_of(&opening, &own), mode));
}
ALIAS(fopen, fopen64);

/* freopen closes the stream's file even when it fails. */
static FILE *freopen_refused(FILE *stream, int error)
{
    int cancelling, lock = lock_detach_uncancelled(fileno(stream), &cancelling);
    libc_functions()->freopen("", "r", stream);
    lock_close_uncancelled(lock, cancelling);
    errno = error;
    return NULL;
}

INTERPOSE(FILE *, freopen, (const char *path, const char *mode, FILE *stream))
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
    int cancelling, lock = lock_detach_uncancelled(old, &cancelling);
    errno = saved;
    stream = libc->freopen(path && begun ? path_for_libc_of(&opening, &own) : path, mode, stream);
    lock_close_uncancelled(lock, cancelling);
    return begun ? end_stream(&opening, stream) : stream;
}
ALIAS(freopen, freopen64);

INTERPOSE(int, fclose, (FILE *stream))
{
    const struct libc *libc = libc_functions();
    int saved = errno, cancelling;
    int lock = run.base ? lock_detach_uncancelled(fileno(stream), &cancelling) : -1;
    errno = saved;
    int status = libc->fclose(stream);
    lock_close_uncancelled(lock, cancelling);
    return status;
}
