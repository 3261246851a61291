/*
 * swap_beside.c - commits where the entry lies on another filesystem than .aiofs: below a mount point in the volume, or in
 * a btrfs subvolume. A rename cannot bring the swap file there.
 *
 * The commit copies the swap file to a file beside the entry's, AIOFS_BESIDE_PREFIX and a number, syncs that one and
 * renames it. Volumes do not list such a file. Before it is made, a note in .aiofs/swap says where it is: a file that is
 * locked as swap files are, with the path as its content. Who finds a stale note removes both.
 *
 * Ownership and locking are those of swap.c.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "swap.h"
#include "sys.h"

/* The path of the new file, in the directory of the entry's. */
static int path_beside(const struct aiofs_canonical *canonical, const char *number, char path[PATH_MAX])
{
    const char *slash = strrchr(canonical->path, '/');
    size_t length = slash ? (size_t)(slash - canonical->path) + 1 : 0;
    if (length + strlen(AIOFS_BESIDE_PREFIX) + strlen(number) >= PATH_MAX)
        return -ENAMETOOLONG;
    memcpy(path, canonical->path, length);
    strcpy(path + length, AIOFS_BESIDE_PREFIX);
    strcat(path, number);
    return 0;
}

static int write_note(int fd, const char *path)
{
    size_t length = strlen(path);
    ssize_t wrote = aiofs_sys.pwrite64(fd, path, length, 0);
    return wrote < 0 ? (int)wrote : (size_t)wrote == length ? 0 : -ENOSPC;
}

static bool always(void *context, int64_t copied)
{
    (void)context;
    (void)copied;
    return true;
}

/* Copies the swap file, with the attributes of the entry's file. */
static int copy(const struct aiofs_parent *parent, int from, const struct stat *now, int to, struct stat *old)
{
    _Atomic bool cannot_clone = false;
    struct stat made;
    int status = aiofs_copy_bytes(from, to, now, &cannot_clone, always, NULL);
    if (status == 0)
        status = aiofs_sys.fstat(to, &made);
    return status < 0 ? status : aiofs_swap_take_attributes(parent, to, &made, old);
}

int aiofs_swap_replace_beside(struct aiofs_lock_ref *lock_ref, const struct aiofs_canonical *canonical,
                              const struct aiofs_parent *parent, int fd, const struct stat *now, struct stat *old)
{
    struct aiofs_tree *tree = lock_ref->volume->tree;
    struct aiofs_swap note = {.name = ""};
    char path[PATH_MAX];
    int locked = aiofs_swap_open(tree, &note, true);
    if (locked < 0)
        return locked;
    int status = path_beside(canonical, strrchr(note.name, '/') + 1, path);
    const char *name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    if (status == 0)
        status = write_note(locked, path);
    int to = status < 0 ? status
                        : aiofs_sys.openat(parent->fd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    status = to < 0 ? to : copy(parent, fd, now, to, old);
    if (status == 0 && aiofs_lock_ref_is_durable(lock_ref))
        status = aiofs_fsync(to);
    if (status == 0)
        status = aiofs_swap_rename(tree, parent->fd, name, parent, old);
    if (status < 0 && to >= 0)
        aiofs_sys.unlinkat(parent->fd, name, 0);
    if (to >= 0)
        aiofs_sys.close(to);
    aiofs_swap_remove(tree, &note);
    aiofs_sys.close(locked);
    return status;
}
