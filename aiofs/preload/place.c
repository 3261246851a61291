/*
 * place.c - where a path leads: the directory, the name in it, and the entry that this is of a volume.
 *
 * The directory is opened, links in the last component are followed one by one, and the kernel says by its
 * canonical path (/proc/self/fd) whether it lies in a volume. What is opened afterwards is the name in that very
 * directory. Long paths are kept in mapped memory, because the caller may be a signal handler with a small stack; a
 * call owns what it maps, and leaves it to the next.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mman.h>

#include "preload.h"

enum { LINKS_MAX = 40 }; /* as the kernel has it */

struct paths {
    char at[PATH_MAX];   /* the path, or the link that it led to last */
    char text[PATH_MAX]; /* a directory's */
    char root[PATH_MAX]; /* a volume's */
    char entry[PATH_MAX];
};

static _Atomic(struct paths *) spare; /* from the last call: mapping costs more than all else here */

static struct paths *paths_new(void)
{
    struct paths *paths = atomic_exchange(&spare, NULL);
    if (paths)
        return paths;
    void *memory = mmap(NULL, sizeof(struct paths), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

void place_done(struct place *place)
{
    if (place->parent >= 0)
        aiofs_sys.close(place->parent);
    struct paths *former = atomic_exchange(&spare, place->paths);
    if (former)
        munmap(former, sizeof *former);
}

static bool is_exhausted(int error)
{
    return error == -EMFILE || error == -ENFILE || error == -ENOMEM;
}

/* ---- links --------------------------------------------------------------------------------------------------- */

/* Splits the path in paths->at into the directory, opened, and the name. 1, 0: there is no name that a file could
 * have, or no such directory. */
static int split(struct place *place, int dirfd)
{
    char *at = place->paths->at, *directory = place->paths->text;
    char *slash = strrchr(at, '/');
    place->name = slash ? slash + 1 : at;
    if (!*place->name || strcmp(place->name, ".") == 0 || strcmp(place->name, "..") == 0)
        return 0;
    size_t length = (size_t)(place->name - at);
    memcpy(directory, at, length);
    strcpy(directory + length, length ? "" : ".");
    int parent = move_up(aiofs_sys.openat(dirfd, directory, O_PATH | O_DIRECTORY | O_CLOEXEC, 0));
    if (place->parent >= 0)
        aiofs_sys.close(place->parent);
    place->parent = parent < 0 ? -1 : parent;
    return parent >= 0 ? 1 : is_exhausted(parent) ? parent : 0;
}

/* A link of procfs leads to an open file, whatever its text says. */
static bool text_misleads(const struct place *place, const char *link)
{
    struct statfs filesystem;
    struct stat target, named;
    if (aiofs_sys.fstatfs(place->parent, &filesystem) < 0 || filesystem.f_type != PROC_SUPER_MAGIC)
        return false;
    return aiofs_sys.fstatat(place->parent, place->name, &target, 0) < 0 ||
           aiofs_sys.fstatat(place->parent, link, &named, 0) < 0 || target.st_dev != named.st_dev ||
           target.st_ino != named.st_ino;
}

static int follow(struct place *place, int dirfd, bool nofollow)
{
    char *link = place->paths->entry;
    for (int links = 0; links <= LINKS_MAX; links++) {
        int found = split(place, links ? place->parent : dirfd);
        if (found <= 0 || nofollow)
            return found;
        ssize_t length = aiofs_sys.readlinkat(place->parent, place->name, link, PATH_MAX - 1);
        if (length < 0)
            return 1;
        link[length] = 0;
        if (text_misleads(place, link))
            return 0;
        memcpy(place->paths->at, link, (size_t)length + 1);
    }
    return 0;
}

/* ---- volumes ------------------------------------------------------------------------------------------------- */

/* Where a volume is now, and the session's byte in it. Where it was when the session began, and no byte, if the session fd has
 * been closed behind our back. */
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

/* Finds the volume and the entry in it. */
static int find_entry(struct place *place)
{
    struct paths *paths = place->paths;
    const char *directory = NULL;
    if (path_of_descriptor(place->parent, paths->text, sizeof paths->text) < 0)
        return 0;
    for (int i = 0; i < run.volumes && !directory; i++)
        directory = within(paths->text, paths->root, root_of(i, paths->root, &place->session));
    if (!directory)
        return 0;
    if (strlen(directory) + 1 + strlen(place->name) >= sizeof paths->entry)
        return -ENAMETOOLONG;
    char *end = stpcpy(stpcpy(stpcpy(paths->entry, directory), *directory ? "/" : ""), place->name);
    if (strncmp(paths->entry, ".aiofs", 6) == 0 && (paths->entry[6] == 0 || paths->entry[6] == '/'))
        return -ENOENT;
    place->hash = aiofs_path_hash(paths->entry, (size_t)(end - paths->entry));
    return 1;
}

static int find(struct place *place, int dirfd, bool nofollow)
{
    struct stat status;
    int found = follow(place, dirfd, nofollow);
    if (found > 0)
        found = find_entry(place);
    if (found > 0) {
        place->exists = aiofs_sys.fstatat(place->parent, place->name, &status, AT_SYMLINK_NOFOLLOW) == 0;
        if (place->exists && !S_ISREG(status.st_mode))
            return 0;
    }
    return found;
}

int place_find(struct place *place, int dirfd, const char *path, bool nofollow)
{
    size_t length = strnlen(path, PATH_MAX);
    if (length == PATH_MAX)
        return 0;
    *place = (struct place){.parent = -1, .paths = paths_new()};
    if (!place->paths)
        return -ENOMEM;
    memcpy(place->paths->at, path, length + 1);
    int found = find(place, dirfd, nofollow);
    if (found <= 0)
        place_done(place);
    return found;
}

int place_open_lock_file(const struct place *place)
{
    static const char digits[] = "0123456789abcdef";
    struct paths *paths = place->paths;
    unsigned file = aiofs_lock_file_of(place->hash);
    const char name[] = {digits[file >> 4 & 0xf], digits[file & 0xf], 0};
    if (strlen(paths->root) + sizeof "/.aiofs/locks/ff" > sizeof paths->text)
        return -ENAMETOOLONG;
    stpcpy(stpcpy(stpcpy(paths->text, paths->root), "/.aiofs/locks/"), name);
    return aiofs_sys.openat(AT_FDCWD, paths->text, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666);
}
