/*
 * resolve.c - resolves a path to its directory, the name in it, and the entry of a volume.
 *
 * The directory is opened O_PATH. Symbolic links in the last component are followed one by one. The directory's
 * canonical path, which the kernel gives in /proc/self/fd, decides whether it lies in a volume. The caller then opens
 * the name in that same directory, so the resolved file and the opened file cannot differ by a renamed directory.
 *
 * The buffers for long paths are mapped memory, because the caller may be a signal handler with a small stack, or an
 * allocator. A call owns its mapping; at its end it leaves the mapping in `spare` for the next call.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mman.h>

#include "preload.h"

enum { LINKS_MAX = 40 }; /* the kernel's own limit */

struct paths {
    char at[PATH_MAX];    /* the path, or the target of the last symbolic link */
    char text[PATH_MAX];  /* the path of the directory */
    char root[PATH_MAX];  /* the path of the volume */
    char entry[PATH_MAX]; /* the path of the entry in the volume; before that, a link's target */
};

static _Atomic(struct paths *) spare; /* from the last call: a mmap costs more than everything else here */

static struct paths *paths_new(void)
{
    struct paths *paths = atomic_exchange(&spare, NULL);
    if (paths)
        return paths;
    void *memory = mmap(NULL, sizeof(struct paths), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

void resolved_release(struct resolved *resolved)
{
    if (resolved->parent >= 0)
        aiofs_sys.close(resolved->parent);
    struct paths *former = atomic_exchange(&spare, resolved->paths);
    if (former)
        munmap(former, sizeof *former);
}

static bool is_exhausted(int error)
{
    return error == -EMFILE || error == -ENFILE || error == -ENOMEM;
}

/* ---- links --------------------------------------------------------------------------------------------------- */

/* Splits the path in paths->at into the directory, which it opens, and the name. 1: done. 0: the last component cannot
 * name a file, or the directory does not exist. Negative: a resource is exhausted. */
static int split(struct resolved *resolved, int dirfd)
{
    char *at = resolved->paths->at, *directory = resolved->paths->text;
    char *slash = strrchr(at, '/');
    resolved->name = slash ? slash + 1 : at;
    if (!*resolved->name || strcmp(resolved->name, ".") == 0 || strcmp(resolved->name, "..") == 0)
        return 0;
    size_t length = (size_t)(resolved->name - at);
    memcpy(directory, at, length);
    strcpy(directory + length, length ? "" : ".");
    int parent = move_up(aiofs_sys.openat(dirfd, directory, O_PATH | O_DIRECTORY | O_CLOEXEC, 0));
    if (resolved->parent >= 0)
        aiofs_sys.close(resolved->parent);
    resolved->parent = parent < 0 ? -1 : parent;
    return parent >= 0 ? 1 : is_exhausted(parent) ? parent : 0;
}

/* Whether the link is one of procfs's magic links whose text does not lead to its target (a deleted file, a pipe). */
static bool is_magic_link(const struct resolved *resolved, const char *link)
{
    struct statfs filesystem;
    struct stat target, named;
    if (aiofs_sys.fstatfs(resolved->parent, &filesystem) < 0 || filesystem.f_type != PROC_SUPER_MAGIC)
        return false;
    return aiofs_sys.fstatat(resolved->parent, resolved->name, &target, 0) < 0 ||
           aiofs_sys.fstatat(resolved->parent, link, &named, 0) < 0 || target.st_dev != named.st_dev ||
           target.st_ino != named.st_ino;
}

static int follow(struct resolved *resolved, int dirfd, bool nofollow)
{
    char *link = resolved->paths->entry;
    for (int links = 0; links <= LINKS_MAX; links++) {
        int found = split(resolved, links ? resolved->parent : dirfd);
        if (found <= 0 || nofollow)
            return found;
        ssize_t length = aiofs_sys.readlinkat(resolved->parent, resolved->name, link, PATH_MAX - 1);
        if (length < 0)
            return 1;
        link[length] = 0;
        if (is_magic_link(resolved, link))
            return 0;
        memcpy(resolved->paths->at, link, (size_t)length + 1);
    }
    return 0;
}

/* ---- volumes ------------------------------------------------------------------------------------------------- */

/* The path that the volume's directory has now, and the session's byte. If the program has closed the session fd: the
 * path at the start of the session, and 0. */
static size_t root_of(int volume, char out[PATH_MAX], int64_t *session)
{
    static const char own[] = "/.aiofs/volume";
    int session_fd = run.volume[volume].session_fd;
    ssize_t length = path_of_descriptor(session_fd, out, PATH_MAX) - (ssize_t)strlen(own);
    if (length >= 0 && strcmp(out + length, own) == 0) {
        *session = aiofs_sys.lseek(session_fd, 0, SEEK_CUR);
    } else {
        length = (ssize_t)run.volume[volume].length;
        memcpy(out, run.volume[volume].root, (size_t)length);
        *session = 0;
    }
    out[length] = 0;
    return (size_t)length;
}

/* The path of a directory within a volume, or NULL. */
static const char *within(const char *directory, const char *root, size_t length)
{
    if (length == 1) /* "/" */
        length = 0;
    if (strncmp(directory, root, length) != 0 || (directory[length] != 0 && directory[length] != '/'))
        return NULL;
    directory += length;
    return directory + (*directory == '/');
}

/* Finds the volume that the directory lies in, and the hash of the entry's path. */
static int find_entry(struct resolved *resolved)
{
    struct paths *paths = resolved->paths;
    const char *directory = NULL;
    if (path_of_descriptor(resolved->parent, paths->text, sizeof paths->text) < 0)
        return 0;
    for (int i = 0; i < run.volumes && !directory; i++)
        directory = within(paths->text, paths->root, root_of(i, paths->root, &resolved->session));
    if (!directory)
        return 0;
    if (strlen(directory) + 1 + strlen(resolved->name) >= sizeof paths->entry)
        return -ENAMETOOLONG;
    char *end = stpcpy(stpcpy(stpcpy(paths->entry, directory), *directory ? "/" : ""), resolved->name);
    if (strncmp(paths->entry, ".aiofs", 6) == 0 && (paths->entry[6] == 0 || paths->entry[6] == '/'))
        return -ENOENT;
    resolved->hash = aiofs_path_hash(paths->entry, (size_t)(end - paths->entry));
    return 1;
}

static int find(struct resolved *resolved, int dirfd, bool nofollow)
{
    struct stat status;
    int found = follow(resolved, dirfd, nofollow);
    if (found > 0)
        found = find_entry(resolved);
    if (found > 0) {
        resolved->exists = aiofs_sys.fstatat(resolved->parent, resolved->name, &status, AT_SYMLINK_NOFOLLOW) == 0;
        if (resolved->exists && !S_ISREG(status.st_mode))
            return 0;
    }
    return found;
}

int resolve_path(struct resolved *resolved, int dirfd, const char *path, bool nofollow)
{
    size_t length = strnlen(path, PATH_MAX);
    if (length == PATH_MAX)
        return 0;
    *resolved = (struct resolved){.parent = -1, .paths = paths_new()};
    if (!resolved->paths)
        return -ENOMEM;
    memcpy(resolved->paths->at, path, length + 1);
    int found = find(resolved, dirfd, nofollow);
    if (found <= 0)
        resolved_release(resolved);
    return found;
}

int resolved_open_lock_file(const struct resolved *resolved)
{
    static const char digits[] = "0123456789abcdef";
    struct paths *paths = resolved->paths;
    unsigned file = aiofs_lock_file_of(resolved->hash);
    const char name[] = {digits[file >> 4 & 0xf], digits[file & 0xf], 0};
    if (strlen(paths->root) + sizeof "/.aiofs/locks/ff" > sizeof paths->text)
        return -ENAMETOOLONG;
    stpcpy(stpcpy(stpcpy(paths->text, paths->root), "/.aiofs/locks/"), name);
    return aiofs_sys.openat(AT_FDCWD, paths->text, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666);
}
