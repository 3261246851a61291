/*
 * attribute_ops.c - modes, times and links of a volume's entries.
 *
 * These calls take no lock: they change no bytes of a file, and a name that they create did not exist before. A call
 * opens the entry O_PATH, through no symbolic link, and changes what this descriptor leads to; so nothing that another
 * process does to the path meanwhile leads it out of the volume. A call owns its descriptors, and closes them before it
 * returns.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "sys.h"
#include "volume_internal.h"

int aiofs_volume_open_path(aiofs_volume *volume, const char *path)
{
    struct aiofs_canonical canonical;
    if (volume->tree->root < 0)
        return -ENOSYS;
    int status = aiofs_path_resolve(volume, path, true, &canonical);
    int flags = O_PATH | (status == 0 && canonical.slash ? O_DIRECTORY : 0);
    return status < 0 ? status : aiofs_open_beneath(volume->tree, canonical.path, flags, 0);
}

/* The path of a descriptor under /proc, for kernels that change no attributes of an O_PATH descriptor. */
struct proc_path {
    char text[sizeof "/proc/self/fd/" + 3 * sizeof(int)];
};

static struct proc_path proc_path_of(int fd)
{
    struct proc_path path;
    snprintf(path.text, sizeof path.text, "/proc/self/fd/%d", fd);
    return path;
}

static int change_mode(int fd, mode_t mode)
{
    int status = aiofs_sys.fchmodat2(fd, "", mode, AT_EMPTY_PATH);
    if (status == -ENOSYS || status == -EINVAL || status == -EPERM)
        status = aiofs_sys.fchmodat2(AT_FDCWD, proc_path_of(fd).text, mode, 0);
    return status;
}

int aiofs_volume_chmod(aiofs_volume *volume, const char *path, mode_t mode)
{
    int status = aiofs_check_writable(volume);
    int fd = status < 0 ? status : aiofs_volume_open_path(volume, path);
    if (fd < 0)
        return fd;
    status = change_mode(fd, mode);
    aiofs_sys.close(fd);
    return status;
}

/* Sets the times of a path without following a link in its last component. */
static int change_times(aiofs_volume *volume, const char *path, const struct timespec times[2])
{
    struct aiofs_canonical canonical;
    struct aiofs_parent parent;
    int status = aiofs_path_resolve(volume, path, false, &canonical);
    if (status == 0)
        status = aiofs_parent_open(volume->tree, &canonical, &parent);
    if (status < 0)
        return status;
    status = aiofs_sys.utimensat(parent.fd, canonical.length ? parent.name : ".", times, AT_SYMLINK_NOFOLLOW);
    aiofs_parent_close(&parent);
    return status;
}

int aiofs_volume_utime(aiofs_volume *volume, const char *path, const struct timespec times[2], bool follow)
{
    int status = aiofs_check_writable(volume);
    if (status < 0 || !follow)
        return status < 0 ? status : change_times(volume, path, times);
    int fd = aiofs_volume_open_path(volume, path);
    if (fd < 0)
        return fd;
    status = aiofs_sys.utimensat(fd, "", times, AT_EMPTY_PATH);
    if (status == -EINVAL)
        status = aiofs_sys.utimensat(AT_FDCWD, proc_path_of(fd).text, times, 0);
    aiofs_sys.close(fd);
    return status;
}

/* Resolves a path and opens its parent directory, for a call on its last component itself. */
static int open_parent(aiofs_volume *volume, const char *path, int status_of_root, struct aiofs_canonical *canonical,
                       struct aiofs_parent *parent)
{
    int status = aiofs_path_resolve(volume, path, false, canonical);
    if (status == 0 && canonical->length == 0)
        status = status_of_root;
    return status < 0 ? status : aiofs_parent_open(volume->tree, canonical, parent);
}

int aiofs_volume_symlink(aiofs_volume *volume, const char *text, const char *path)
{
    struct aiofs_canonical canonical;
    struct aiofs_parent parent;
    int status = aiofs_check_writable(volume);
    if (status == 0 && !(volume->flags & AIOFS_VOLUME_HOST))
        status = -EOPNOTSUPP;
    if (status == 0)
        status = open_parent(volume, path, -EEXIST, &canonical, &parent);
    if (status < 0)
        return status;
    aiofs_dir_sync_begin(volume->tree, &canonical);
    status = aiofs_sys.symlinkat(text, parent.fd, parent.name);
    aiofs_dir_sync_end(volume->tree, &canonical, status == 0);
    aiofs_parent_close(&parent);
    return status;
}

ssize_t aiofs_volume_readlink(aiofs_volume *volume, const char *path, char *out, size_t size)
{
    struct aiofs_canonical canonical;
    struct aiofs_parent parent;
    if (volume->tree->root < 0)
        return -ENOSYS;
    int status = open_parent(volume, path, -EINVAL, &canonical, &parent);
    if (status < 0)
        return status;
    ssize_t length = aiofs_sys.readlinkat(parent.fd, parent.name, out, size);
    aiofs_parent_close(&parent);
    return length;
}

/* Creates the second name; its bytes count as a second file's. */
static int link_names(aiofs_volume *volume, const struct aiofs_parent *from, const struct stat *found,
                      const struct aiofs_parent *to)
{
    int64_t size = S_ISREG(found->st_mode) ? found->st_size : 0;
    int status = aiofs_quota_named(volume, size);
    bool begun = status > 0;
    if (status >= 0) {
        status = aiofs_sys.linkat(from->fd, from->name, to->fd, to->name, 0);
        if (status < 0 && begun) {
            aiofs_namespace_lock();
            aiofs_quota_unnamed_locked(volume, NULL, size);
            aiofs_namespace_unlock();
        }
    }
    if (begun)
        atomic_store(&volume->tree->tally->inexact, 1); /* see quota.c */
    aiofs_change_end(volume->tree, begun);
    return status;
}

int aiofs_volume_link(aiofs_volume *volume, const char *from, const char *to)
{
    struct aiofs_canonical source, target;
    struct aiofs_parent source_parent, target_parent;
    struct stat found;
    int status = aiofs_check_writable(volume);
    if (status == 0)
        status = open_parent(volume, from, -EPERM, &source, &source_parent);
    if (status < 0)
        return status;
    status = aiofs_sys.fstatat(source_parent.fd, source_parent.name, &found, AT_SYMLINK_NOFOLLOW);
    if (status == 0)
        status = open_parent(volume, to, -EEXIST, &target, &target_parent);
    if (status == 0) {
        aiofs_dir_sync_begin(volume->tree, &target);
        status = link_names(volume, &source_parent, &found, &target_parent);
        aiofs_dir_sync_end(volume->tree, &target, status == 0);
        aiofs_parent_close(&target_parent);
    }
    aiofs_parent_close(&source_parent);
    return status;
}
