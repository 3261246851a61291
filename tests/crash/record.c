/*
 * record.c - records what a process does to its files: writes, truncates, syncs, and changes of names.
 *
 * record_attach replaces the calls of aiofs_sys that change files or sync them. Each successful call adds one entry to
 * a log in memory, in the order in which the kernel carried the calls out: the mutex is held across a call and its
 * entry. Files and directories are identified by their inode number. A test adds marks of its own.
 *
 * Stores to mapped memory, and requests that io_uring carries out, make no calls and are not recorded. aiofs maps only
 * files in .aiofs, and gives io_uring no writes and syncs but those of O_DIRECT files.
 *
 * power_cut.py reads the log, and rebuilds the disk from it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sys.h"

enum record_kind {
    RECORD_MARK,
    RECORD_CREATE,   /* object: the file; parent, name */
    RECORD_MKDIR,    /* object: the directory; parent, name */
    RECORD_SYMLINK,  /* object; parent, name; data: the text */
    RECORD_LINK,     /* object; parent, name */
    RECORD_UNLINK,   /* parent, name */
    RECORD_RENAME,   /* object: what moves; parent, name; other, data: the new parent and name */
    RECORD_EXCHANGE, /* the same; both names have an object */
    RECORD_WRITE,    /* object, offset, data */
    RECORD_TRUNCATE, /* object, offset: the size */
    RECORD_MODE,     /* object, offset: the mode */
    RECORD_FSYNC,    /* object */
    RECORD_FDATASYNC,
};

struct record {
    uint32_t kind, name_length;
    uint64_t data_length, object, parent, other;
    int64_t offset;
};

static struct aiofs_sys real;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char *record_log;
static size_t used, room;
static bool apart;

static void append(const void *bytes, size_t size)
{
    if (used + size > room) {
        room = 2 * (used + size);
        record_log = realloc(record_log, room);
        if (!record_log)
            abort();
    }
    if (size)
        memcpy(record_log + used, bytes, size);
    used += size;
}

static void add(struct record record, const char *name, const void *data)
{
    record.name_length = name ? (uint32_t)strlen(name) : 0;
    append(&record, sizeof record);
    append(name, record.name_length);
    append(data, record.data_length);
}

/* ---- identities --------------------------------------------------------------------------------------------- */

static uint64_t object_at(int dirfd, const char *path)
{
    struct stat found;
    return real.fstatat(dirfd, path, &found, AT_SYMLINK_NOFOLLOW) < 0 ? 0 : found.st_ino;
}

static const char *last_component(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static uint64_t parent_of(int dirfd, const char *path)
{
    char above[4096];
    size_t length = (size_t)(last_component(path) - path);
    if (length == 0)
        return object_at(dirfd, ".");
    memcpy(above, path, length);
    above[length] = 0;
    return object_at(dirfd, above);
}

/* The inode number of a regular file or a directory; 0: it is something else. */
static uint64_t object_of(int fd, struct stat *found)
{
    if (real.fstat(fd, found) < 0 || !(S_ISREG(found->st_mode) || S_ISDIR(found->st_mode)))
        return 0;
    return found->st_ino;
}

/* ---- bytes -------------------------------------------------------------------------------------------------- */

/* Adds bytes of the file as they are now. */
static void add_read_back(int fd, int64_t offset, int64_t size)
{
    struct stat found;
    char path[64], *bytes = malloc((size_t)size + 1);
    struct record record = {.kind = RECORD_WRITE, .object = object_of(fd, &found), .offset = offset};
    snprintf(path, sizeof path, "/proc/thread-self/fd/%d", fd);
    int again = real.openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0); /* fd may be write-only */
    ssize_t got = again < 0 || !bytes ? -1 : real.pread64(again, bytes, (size_t)size, offset);
    if (got < 0)
        abort();
    record.data_length = (uint64_t)got;
    add(record, NULL, bytes);
    real.close(again);
    free(bytes);
}

static void note_write(int fd, int64_t offset, ssize_t put)
{
    struct stat found;
    if (put <= 0 || !object_of(fd, &found) || !S_ISREG(found.st_mode))
        return;
    if (offset < 0 || real.fcntl(fd, F_GETFL, 0) & O_APPEND)
        offset = found.st_size - put;
    add_read_back(fd, offset, put);
}

static ssize_t record_write(int fd, const void *buffer, size_t size)
{
    struct stat found;
    if (object_of(fd, &found) == 0)
        return real.write(fd, buffer, size); /* an eventfd or a pipe: it may block */
    pthread_mutex_lock(&mutex);
    ssize_t put = real.write(fd, buffer, size);
    note_write(fd, put > 0 ? real.lseek(fd, 0, SEEK_CUR) - put : 0, put);
    pthread_mutex_unlock(&mutex);
    return put;
}

static ssize_t record_pwritev2(int fd, const struct iovec *iov, int iovcnt, int64_t offset, int flags)
{
    struct stat found;
    if (object_of(fd, &found) == 0)
        return real.pwritev2(fd, iov, iovcnt, offset, flags);
    pthread_mutex_lock(&mutex);
    ssize_t put = real.pwritev2(fd, iov, iovcnt, offset, flags);
    note_write(fd, offset, put);
    pthread_mutex_unlock(&mutex);
    return put;
}

static ssize_t record_pwrite64(int fd, const void *buffer, size_t size, int64_t offset)
{
    pthread_mutex_lock(&mutex);
    ssize_t put = real.pwrite64(fd, buffer, size, offset);
    note_write(fd, offset, put);
    pthread_mutex_unlock(&mutex);
    return put;
}

static ssize_t record_copy_file_range(int from, int64_t *from_offset, int to, int64_t *to_offset, size_t size)
{
    pthread_mutex_lock(&mutex);
    int64_t offset = *to_offset;
    ssize_t moved = real.copy_file_range(from, from_offset, to, to_offset, size);
    note_write(to, offset, moved);
    pthread_mutex_unlock(&mutex);
    return moved;
}

static int record_ioctl(int fd, unsigned long request, void *argument)
{
    struct stat found;
    if (request != FICLONE)
        return real.ioctl(fd, request, argument);
    pthread_mutex_lock(&mutex);
    int status = real.ioctl(fd, request, argument);
    if (status == 0 && object_of(fd, &found))
        add_read_back(fd, 0, found.st_size);
    pthread_mutex_unlock(&mutex);
    return status;
}

static int record_ftruncate(int fd, int64_t size)
{
    struct stat found;
    pthread_mutex_lock(&mutex);
    int status = real.ftruncate(fd, size);
    if (status == 0)
        add((struct record){.kind = RECORD_TRUNCATE, .object = object_of(fd, &found), .offset = size}, NULL, NULL);
    pthread_mutex_unlock(&mutex);
    return status;
}

static int record_fchmod(int fd, mode_t mode)
{
    struct stat found;
    pthread_mutex_lock(&mutex);
    int status = real.fchmod(fd, mode);
    if (status == 0)
        add((struct record){.kind = RECORD_MODE, .object = object_of(fd, &found), .offset = mode}, NULL, NULL);
    pthread_mutex_unlock(&mutex);
    return status;
}

static int sync_by(int (*call)(int fd), enum record_kind kind, int fd)
{
    struct stat found;
    pthread_mutex_lock(&mutex);
    int status = call(fd);
    if (status == 0)
        add((struct record){.kind = kind, .object = object_of(fd, &found)}, NULL, NULL);
    pthread_mutex_unlock(&mutex);
    return status;
}

static int record_fsync(int fd)
{
    return sync_by(real.fsync, RECORD_FSYNC, fd);
}

static int record_fdatasync(int fd)
{
    return sync_by(real.fdatasync, RECORD_FDATASYNC, fd);
}

/* ---- names --------------------------------------------------------------------------------------------------- */

/* Adds what an open did to the file: created it, or truncated it. */
static void note_open(int dirfd, const char *path, int flags, int fd, uint64_t before)
{
    struct stat found;
    uint64_t object = fd < 0 ? 0 : object_of(fd, &found);
    if (object && flags & O_CREAT && before != object) {
        struct record record = {.kind = RECORD_CREATE, .object = object, .parent = parent_of(dirfd, path)};
        record.offset = found.st_mode & 07777;
        add(record, last_component(path), NULL);
    } else if (object && flags & O_TRUNC) {
        add((struct record){.kind = RECORD_TRUNCATE, .object = object}, NULL, NULL);
    }
}

static int record_openat(int dirfd, const char *path, int flags, mode_t mode)
{
    if (!(flags & (O_CREAT | O_TRUNC)))
        return real.openat(dirfd, path, flags, mode);
    pthread_mutex_lock(&mutex);
    uint64_t before = object_at(dirfd, path);
    int fd = real.openat(dirfd, path, flags, mode);
    note_open(dirfd, path, flags, fd, before);
    pthread_mutex_unlock(&mutex);
    return fd;
}

static int record_openat2(int dirfd, const char *path, int flags, mode_t mode, uint64_t resolve)
{
    if (!(flags & (O_CREAT | O_TRUNC)))
        return real.openat2(dirfd, path, flags, mode, resolve);
    pthread_mutex_lock(&mutex);
    uint64_t before = object_at(dirfd, path);
    int fd = real.openat2(dirfd, path, flags, mode, resolve);
    note_open(dirfd, path, flags, fd, before);
    pthread_mutex_unlock(&mutex);
    return fd;
}

static void note_name(enum record_kind kind, int dirfd, const char *path, const char *text)
{
    struct record record = {.kind = kind, .object = object_at(dirfd, path), .parent = parent_of(dirfd, path)};
    record.data_length = text ? strlen(text) : 0;
    add(record, last_component(path), text);
}

static int record_mkdirat(int dirfd, const char *path, mode_t mode)
{
    pthread_mutex_lock(&mutex);
    int status = real.mkdirat(dirfd, path, mode);
    if (status == 0)
        note_name(RECORD_MKDIR, dirfd, path, NULL);
    pthread_mutex_unlock(&mutex);
    return status;
}

static int record_symlinkat(const char *target, int dirfd, const char *path)
{
    pthread_mutex_lock(&mutex);
    int status = real.symlinkat(target, dirfd, path);
    if (status == 0)
        note_name(RECORD_SYMLINK, dirfd, path, target);
    pthread_mutex_unlock(&mutex);
    return status;
}

static int record_linkat(int fromfd, const char *from, int tofd, const char *to, int flags)
{
    pthread_mutex_lock(&mutex);
    int status = real.linkat(fromfd, from, tofd, to, flags);
    if (status == 0)
        note_name(RECORD_LINK, tofd, to, NULL);
    pthread_mutex_unlock(&mutex);
    return status;
}

static int record_unlinkat(int dirfd, const char *path, int flags)
{
    pthread_mutex_lock(&mutex);
    int status = real.unlinkat(dirfd, path, flags);
    if (status == 0)
        note_name(RECORD_UNLINK, dirfd, path, NULL);
    pthread_mutex_unlock(&mutex);
    return status;
}

static int record_renameat2(int fromfd, const char *from, int tofd, const char *to, unsigned flags)
{
    pthread_mutex_lock(&mutex);
    struct record record = {.object = object_at(fromfd, from), .parent = parent_of(fromfd, from)};
    bool crosses = apart && record.parent != parent_of(tofd, to);
    int status = crosses ? -EXDEV : real.renameat2(fromfd, from, tofd, to, flags);
    if (status == 0) {
        record.kind = flags & RENAME_EXCHANGE ? RECORD_EXCHANGE : RECORD_RENAME;
        record.other = parent_of(tofd, to);
        record.data_length = strlen(last_component(to));
        add(record, last_component(from), last_component(to));
    }
    pthread_mutex_unlock(&mutex);
    return status;
}

/* ---- for Python ------------------------------------------------------------------------------------------------ */

void record_attach(struct aiofs_sys *table);
void record_apart(void);
void record_mark(const char *text);
const char *record_take(size_t *size);

void record_attach(struct aiofs_sys *table)
{
    real = *table;
#define X(name) table->name = record_##name;
    X(write) X(pwritev2) X(pwrite64) X(copy_file_range) X(ioctl) X(ftruncate) X(fchmod) X(fsync) X(fdatasync)
    X(openat) X(openat2) X(mkdirat) X(symlinkat) X(linkat) X(unlinkat) X(renameat2)
#undef X
}

/* From now on each directory is a filesystem of its own: nothing is renamed to another one. */
void record_apart(void)
{
    apart = true;
}

void record_mark(const char *text)
{
    pthread_mutex_lock(&mutex);
    struct record record = {.kind = RECORD_MARK, .data_length = strlen(text)};
    add(record, NULL, text);
    pthread_mutex_unlock(&mutex);
}

/* The log so far; it stays valid until the next call that is recorded. */
const char *record_take(size_t *size)
{
    *size = used;
    return record_log;
}
