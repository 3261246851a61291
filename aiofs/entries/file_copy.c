/*
 * file_copy.c - copying a file's bytes and attributes to another file.
 *
 * Bytes: by a clone, if the filesystem shares extents between files (FICLONE); else by copy_file_range(2), in pieces,
 * and only the data between the holes; else through a buffer. Attributes: owner, mode and extended attributes, as far
 * as this process may set them.
 *
 * The swap files of volumes use it, and programs that copy files of the machine.
 *
 * The caller owns the descriptors. No lock is taken here.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sys.h"
#include "volume_internal.h"

enum {
    PIECE = 16 << 20,  /* copied between two questions whether to go on */
    BUFFER = 64 << 10, /* also the largest value of an extended attribute */
};

/* ---- bytes ------------------------------------------------------------------------------------------ */

static int write_whole(int to, const char *bytes, size_t size, int64_t at)
{
    while (size > 0) {
        ssize_t put = aiofs_sys.pwrite64(to, bytes, size, at);
        if (put == -EINTR)
            continue;
        if (put <= 0)
            return put < 0 ? (int)put : -ENOSPC;
        bytes += put;
        size -= (size_t)put;
        at += put;
    }
    return 0;
}

/* Returns how many bytes were copied: fewer only at the end of the source. */
static int64_t copy_by_buffer(int from, int to, int64_t at, size_t size)
{
    char *buffer = malloc(BUFFER);
    int64_t done = 0;
    int status = buffer ? 0 : -ENOMEM;
    while (status == 0 && (size_t)done < size) {
        size_t most = size - (size_t)done < BUFFER ? size - (size_t)done : BUFFER;
        ssize_t got = aiofs_sys.pread64(from, buffer, most, at + done);
        if (got == -EINTR)
            continue;
        if (got <= 0) {
            status = (int)got;
            break;
        }
        status = write_whole(to, buffer, (size_t)got, at + done);
        done += got;
    }
    free(buffer);
    return status < 0 ? status : done;
}

static bool is_refusal(int64_t status)
{
    return status == -EXDEV || status == -EINVAL || status == -EOPNOTSUPP || status == -ENOSYS || status == -EBADF ||
           status == -EPERM || status == -ENOTTY;
}

static int64_t copy_piece(int from, int to, int64_t at, size_t size)
{
    int64_t source = at, target = at;
    ssize_t moved;
    do
        moved = aiofs_sys.copy_file_range(from, &source, to, &target, size);
    while (moved == -EINTR);
    /* 0 need not be the end of the file: some filesystems cannot copy and say so in this way */
    return moved == 0 || is_refusal(moved) ? copy_by_buffer(from, to, at, size) : moved;
}

static int copy_range(int from, int to, int64_t at, int64_t end, aiofs_go_on *go_on, void *context)
{
    while (at < end) {
        if (!go_on(context, at))
            return -ECANCELED;
        int64_t moved = copy_piece(from, to, at, end - at < PIECE ? (size_t)(end - at) : PIECE);
        if (moved <= 0)
            return (int)moved;
        at += moved;
    }
    return 0;
}

/* Finds the next data at or after `at`. False: there is none. A filesystem without holes has data everywhere. */
static bool next_data(int from, int64_t size, int64_t *at, int64_t *end)
{
    int64_t data = aiofs_sys.lseek(from, *at, SEEK_DATA);
    int64_t hole = data < 0 ? data : aiofs_sys.lseek(from, data, SEEK_HOLE);
    if (data == -ENXIO)
        return false;
    *at = data < 0 ? *at : data;
    *end = hole < 0 || hole > size ? size : hole;
    return *at < size;
}

static int copy_data(int from, int to, const struct stat *source, aiofs_go_on *go_on, void *context)
{
    bool sparse = source->st_blocks * 512 < source->st_size;
    int64_t at = 0, end = source->st_size;
    int status = 0;
    while (status == 0 && at < source->st_size && (!sparse || next_data(from, source->st_size, &at, &end))) {
        status = copy_range(from, to, at, end, go_on, context);
        at = end;
    }
    return status == 0 && sparse ? aiofs_sys.ftruncate(to, source->st_size) : status;
}

int aiofs_copy_bytes(int from, int to, const struct stat *source, _Atomic bool *cannot_clone, aiofs_go_on *go_on,
                     void *context)
{
    if (source->st_size == 0)
        return 0;
    if (!atomic_load_explicit(cannot_clone, memory_order_relaxed)) {
        int status = aiofs_sys.ioctl(to, FICLONE, (void *)(intptr_t)from);
        if (status == 0 || !is_refusal(status))
            return status;
        if (status == -EOPNOTSUPP || status == -ENOTTY)
            atomic_store_explicit(cannot_clone, true, memory_order_relaxed);
    }
    return copy_data(from, to, source, go_on, context);
}

int aiofs_copy_file_bytes(int from, int to, aiofs_go_on *go_on, void *context)
{
    _Atomic bool cannot_clone = false;
    struct stat source;
    int status = aiofs_sys.fstat(from, &source);
    return status < 0 ? status : aiofs_copy_bytes(from, to, &source, &cannot_clone, go_on, context);
}

/* ---- attributes ---------------------------------------------------------------------------------------- */

/* Whether an extended attribute describes the bytes, which change, and not the file. */
static bool is_of_the_bytes(const char *name)
{
    return strcmp(name, "security.capability") == 0 || strcmp(name, "security.ima") == 0 ||
           strcmp(name, "security.evm") == 0;
}

static int copy_xattr(int from, int to, const char *name, char *value)
{
    ssize_t size = aiofs_sys.fgetxattr(from, name, value, BUFFER);
    int status = size < 0 ? (int)size : aiofs_sys.fsetxattr(to, name, value, (size_t)size, 0);
    return status == -EPERM || status == -EACCES || status == -EOPNOTSUPP || status == -ENODATA ? 0 : status;
}

static int copy_xattrs(int from, int to)
{
    char few[1], *names, *value;
    ssize_t size = aiofs_sys.flistxattr(from, few, 0);
    if (size <= 0)
        return size == -EOPNOTSUPP || size == -EPERM ? 0 : (int)size;
    size += BUFFER; /* the list may have grown since */
    names = malloc((size_t)size + BUFFER);
    if (!names)
        return -ENOMEM;
    value = names + size;
    ssize_t length = aiofs_sys.flistxattr(from, names, (size_t)size);
    int status = length < 0 ? (int)length : 0;
    for (const char *name = names; status == 0 && name < names + length; name += strlen(name) + 1)
        if (!is_of_the_bytes(name))
            status = copy_xattr(from, to, name, value);
    free(names);
    return status;
}

/* Copies owner and group, or only the group, which a member of it may. Returns the mode of the source without the set-id
 * bits that would be those of another user or group. */
static mode_t copy_owner(const struct stat *source, int to, const struct stat *target)
{
    bool user = source->st_uid == target->st_uid, group = source->st_gid == target->st_gid;
    mode_t mode = source->st_mode & 07777;
    if (!(user && group) && aiofs_sys.fchown(to, source->st_uid, source->st_gid) == 0)
        user = group = true;
    else if (!group)
        group = aiofs_sys.fchown(to, (uid_t)-1, source->st_gid) == 0;
    return mode & ~(mode_t)((user ? 0 : S_ISUID) | (group ? 0 : S_ISGID));
}

/* Removes the access control list that the target may have inherited from its directory. */
static int remove_acl(int to)
{
    int status = aiofs_sys.fremovexattr(to, "system.posix_acl_access");
    return status == -EPERM || status == -EACCES || status == -EOPNOTSUPP || status == -ENODATA ? 0 : status;
}

int aiofs_copy_attributes(int from, const struct stat *source, int to, const struct stat *target)
{
    mode_t mode = copy_owner(source, to, target); /* fchown(2) clears set-id bits */
    int status = remove_acl(to);
    if (status == 0 && (mode != (target->st_mode & 07777) || mode & (S_ISUID | S_ISGID)))
        status = aiofs_sys.fchmod(to, mode);
    return status < 0 || from < 0 ? status : copy_xattrs(from, to);
}

int aiofs_copy_file_attributes(int from, int to)
{
    struct stat source, target;
    int status = aiofs_sys.fstat(from, &source);
    if (status == 0)
        status = aiofs_sys.fstat(to, &target);
    return status < 0 ? status : aiofs_copy_attributes(from, &source, to, &target);
}
