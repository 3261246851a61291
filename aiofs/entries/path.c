/*
 * path.c - canonical paths inside a volume, and opening them so that they cannot leave it.
 *
 * A call first resolves a path to its canonical form (aiofs_path_resolve), because the lock is on the canonical path.
 * Then it opens the canonical path with openat2(2) and flags that refuse every symbolic link and every "..", or with an
 * equivalent walk (aiofs_open_beneath). So a process that changes the directories between the two steps can make the
 * call fail, but cannot lead it out of the volume. A private volume does not follow symbolic links: there, resolving
 * needs no system call.
 *
 * This file has no state and takes no lock: a tree's root descriptor is constant while the tree lives.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>

#include "sys.h"
#include "volume_internal.h"

#define LINKS_MAX 40 /* links followed in one path, as the kernel's own limit */

/* ---- text ---------------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t load_little_endian(const char *bytes, size_t count)
{
    uint64_t value = 0;
    for (size_t i = 0; i < count; i++)
        value |= (uint64_t)(unsigned char)bytes[i] << (8 * i);
    return value;
}

/* The result is the same in every process and on every machine, because it decides where a path's lock is. */
uint64_t aiofs_path_hash(const char *path, size_t length)
{
    const uint64_t first = 0x9e3779b97f4a7c15u, second = 0xd6e8feb86659fd93u;
    uint64_t hash = mix(length ^ first, second);
    for (; length >= 8; path += 8, length -= 8)
        hash = mix(hash ^ load_little_endian(path, 8), first) + second;
    hash = mix(hash ^ load_little_endian(path, length), first) + second;
    return mix(hash ^ (hash >> 32), second);
}

/* Appends one component. */
static int append(struct aiofs_canonical *canonical, const char *name, size_t length)
{
    size_t separator = canonical->length > 0;
    if (length > NAME_MAX || canonical->length + separator + length >= sizeof canonical->path)
        return -ENAMETOOLONG;
    if (canonical->length == 0 && length == strlen(AIOFS_OWN_DIR) && memcmp(name, AIOFS_OWN_DIR, length) == 0)
        return -ENOENT;
    if (separator)
        canonical->path[canonical->length++] = '/';
    memcpy(canonical->path + canonical->length, name, length);
    canonical->length += length;
    canonical->path[canonical->length] = 0;
    return 0;
}

/* Removes the last component. */
static int ascend(struct aiofs_canonical *canonical)
{
    if (canonical->length == 0)
        return -EXDEV;
    while (canonical->length > 0 && canonical->path[canonical->length - 1] != '/')
        canonical->length--;
    if (canonical->length > 0)
        canonical->length--;
    canonical->path[canonical->length] = 0;
    return 0;
}

/* Moves `path` to the next component and returns the component's length; 0 at the end. */
static size_t next_component(const char **path)
{
    while (**path == '/')
        ++*path;
    return strcspn(*path, "/");
}

static bool is_dots(const char *name, size_t length, size_t dots)
{
    return length == dots && memcmp(name, "..", dots) == 0;
}

/* Makes a path canonical by its text alone, as if there were no symbolic links. */
int aiofs_path_normalize(const char *path, struct aiofs_canonical *out)
{
    size_t length;
    out->length = 0;
    out->path[0] = 0;
    out->slash = *path && path[strlen(path) - 1] == '/';
    out->special = false;
    for (; (length = next_component(&path)) > 0; path += length) {
        int status = 0;
        if (is_dots(path, length, 2))
            status = ascend(out);
        else if (!is_dots(path, length, 1))
            status = append(out, path, length);
        if (status < 0)
            return status;
    }
    out->hash = aiofs_path_hash(out->path, out->length);
    return 0;
}

/* Stores a path that is canonical already. */
int aiofs_canonical_set(struct aiofs_canonical *out, const char *path, size_t length)
{
    if (length >= sizeof out->path)
        return -ENAMETOOLONG;
    memcpy(out->path, path, length);
    out->path[length] = 0;
    out->length = length;
    out->slash = out->special = false;
    out->hash = aiofs_path_hash(path, length);
    return 0;
}

/* ---- opening ------------------------------------------------------------------------------------- */

/* Opens one component of the walk. A symbolic link is always -ELOOP; with O_DIRECTORY the kernel says ENOTDIR. */
static int open_step(int dirfd, const char *name, int flags, mode_t mode)
{
    struct stat status;
    int fd = aiofs_sys.openat(dirfd, name, flags | O_NOFOLLOW, mode);
    if (fd == -ENOTDIR && aiofs_sys.fstatat(dirfd, name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(status.st_mode))
        return -ELOOP;
    return fd;
}

/* For kernels and sandboxes without openat2: the same, component by component. */
static int open_by_walk(int root, const char *path, int flags, mode_t mode)
{
    char name[NAME_MAX + 1];
    const char *slash;
    int dirfd = root, fd;

    while ((slash = strchr(path, '/'))) {
        memcpy(name, path, (size_t)(slash - path));
        name[slash - path] = 0;
        fd = open_step(dirfd, name, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
        if (dirfd != root)
            aiofs_sys.close(dirfd);
        if (fd < 0)
            return fd;
        dirfd = fd;
        path = slash + 1;
    }
    fd = open_step(dirfd, path, flags, mode);
    if (dirfd != root)
        aiofs_sys.close(dirfd);
    return fd;
}

/* Opens a canonical path, "" the root; a symbolic link anywhere in it is -ELOOP. */
int aiofs_open_beneath(const struct aiofs_tree *tree, const char *path, int flags, mode_t mode)
{
    flags |= O_CLOEXEC;
    if (*path == 0)
        return aiofs_sys.openat(tree->root, ".", flags, mode);
    int fd = aiofs_sys.openat2(tree->root, path, flags, mode, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
    if (fd == -ENOSYS || fd == -EPERM)
        fd = open_by_walk(tree->root, path, flags, mode);
    return fd;
}

int aiofs_parent_open(const struct aiofs_tree *tree, const struct aiofs_canonical *canonical, struct aiofs_parent *out)
{
    char directory[PATH_MAX];
    const char *slash = strrchr(canonical->path, '/');
    *out = (struct aiofs_parent){tree->root, false, canonical->path};
    if (!slash)
        return 0;
    memcpy(directory, canonical->path, (size_t)(slash - canonical->path));
    directory[slash - canonical->path] = 0;
    out->name = slash + 1;
    out->fd = aiofs_open_beneath(tree, directory, O_PATH | O_DIRECTORY, 0);
    out->owned = true;
    return out->fd < 0 ? out->fd : 0;
}

void aiofs_parent_close(const struct aiofs_parent *parent)
{
    if (parent->owned)
        aiofs_sys.close(parent->fd);
}

/* As lstat(2). */
int aiofs_canonical_stat(const struct aiofs_tree *tree, const struct aiofs_canonical *canonical, struct stat *out)
{
    struct aiofs_parent parent;
    if (canonical->length == 0)
        return aiofs_sys.fstat(tree->root, out);
    int status = aiofs_parent_open(tree, canonical, &parent);
    if (status < 0)
        return status;
    status = aiofs_sys.fstatat(parent.fd, parent.name, out, AT_SYMLINK_NOFOLLOW);
    aiofs_parent_close(&parent);
    return status;
}

/* ---- following links ------------------------------------------------------------------------------ */

/* The length of the prefix of an absolute link that is the root of the volume; 0: the link leads out. */
static size_t root_prefix(const struct aiofs_tree *tree, const char *link, size_t length)
{
    char prefix[PATH_MAX];
    struct stat status;
    for (size_t end = 1; end <= length && end < sizeof prefix; end++) {
        if (end > 1 && end < length && link[end] != '/')
            continue;
        memcpy(prefix, link, end);
        prefix[end] = 0;
        if (aiofs_sys.fstatat(AT_FDCWD, prefix, &status, 0) < 0)
            return 0;
        if (status.st_dev == tree->dev && status.st_ino == tree->ino)
            return end;
    }
    return 0;
}

/* Puts a link's target in front of the rest of the path. An absolute link is relative to the root from now on. */
static int expand(char *left, const char *rest, const char *link, size_t length)
{
    char text[PATH_MAX];
    size_t rest_length = strlen(rest);
    if (length + 1 + rest_length >= sizeof text)
        return -ENAMETOOLONG;
    memcpy(text, link, length);
    text[length] = '/';
    memcpy(text + length + 1, rest, rest_length + 1);
    memcpy(left, text, length + 1 + rest_length + 1);
    return 0;
}

/* Goes to the directory that a link is relative to, and reduces an absolute link to its part below the root. */
static int follow_link(const struct aiofs_tree *tree, struct aiofs_canonical *out, char *link, ssize_t *length)
{
    if (*length == 0)
        return -ENOENT;
    if (link[0] != '/')
        return ascend(out);
    size_t prefix = root_prefix(tree, link, (size_t)*length);
    if (prefix == 0)
        return -EXDEV;
    *length -= (ssize_t)prefix;
    memmove(link, link + prefix, (size_t)*length);
    out->length = 0;
    out->path[0] = 0;
    return 0;
}

/* Follows the symbolic links in a path; a link that leads out of the volume is -EXDEV. Components that do not exist are
 * no error here: opening the result fails with -ENOENT. */
static int resolve(const struct aiofs_tree *tree, const char *path, bool follow, struct aiofs_canonical *out)
{
    char left[PATH_MAX], link[PATH_MAX];
    const char *at = left;
    size_t length;
    int links = 0, status = 0;

    if (strlen(path) >= sizeof left)
        return -ENAMETOOLONG;
    strcpy(left, path);
    out->length = 0;
    out->path[0] = 0;
    out->slash = *path && path[strlen(path) - 1] == '/';
    out->special = false;
    for (; status == 0 && (length = next_component(&at)) > 0;) {
        const char *name = at;
        at += length;
        if (is_dots(name, length, 1))
            continue;
        if (is_dots(name, length, 2)) {
            status = ascend(out);
            continue;
        }
        status = append(out, name, length);
        if (status < 0 || (!follow && at[strspn(at, "/")] == 0))
            continue;
        ssize_t got = aiofs_sys.readlinkat(tree->root, out->path, link, sizeof link);
        if (got == -EAGAIN)
            return -EAGAIN; /* see cached.h */
        if (got < 0)
            continue;
        if (++links > LINKS_MAX)
            return -ELOOP;
        status = follow_link(tree, out, link, &got);
        if (status == 0)
            status = expand(left, at, link, (size_t)got);
        at = left;
    }
    out->hash = aiofs_path_hash(out->path, out->length);
    return status;
}

/* Whether a path without links exists and, with `follow`, is none itself; notes whether it is special. */
static bool is_canonical(const struct aiofs_tree *tree, struct aiofs_canonical *canonical, bool follow)
{
    struct stat status;
    if (aiofs_canonical_stat(tree, canonical, &status) < 0)
        return false;
    canonical->special = !S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode) && !S_ISLNK(status.st_mode);
    return !follow || !S_ISLNK(status.st_mode);
}

/* Resolves a path to its canonical form. `follow`: follow a symbolic link in the last component, too. */
int aiofs_path_resolve(const aiofs_volume *volume, const char *path, bool follow, struct aiofs_canonical *out)
{
    int status = aiofs_path_normalize(path, out);
    if (volume->tree->root < 0 || !(volume->flags & AIOFS_VOLUME_HOST))
        return status;
    if (status == 0 && !strstr(path, "..") && is_canonical(volume->tree, out, follow))
        return 0;
    status = resolve(volume->tree, path, follow, out);
    if (status == 0)
        is_canonical(volume->tree, out, follow);
    return status;
}

/* Whether a path lies strictly below `top`; every path but "" lies below the root. */
bool aiofs_path_below(const char *path, size_t length, const char *top, size_t top_length)
{
    if (top_length == 0)
        return length > 0;
    return length > top_length && path[top_length] == '/' && memcmp(path, top, top_length) == 0;
}
