/*
 * swap_file.c - the files in .aiofs/swap: making them, removing those of dead processes, and renaming them.
 *
 * The maker has a write lock (F_OFD_SETLK) on the byte SWAP_BYTE of its file, and the kernel frees it when the maker dies.
 * Who can take that lock removes the file: at the opening of a volume, and before a swap file is made if the shared page
 * counts more swap files than this process has. The maker may lose the race for its own new file; then it makes another.
 * Where sizes are counted, a commit exchanges the swap file and the entry's file, and looks at the latter before it
 * removes it. Hence the name ends in the number of the maker's account, which also tells whether the maker is alive.
 * The notes of swap_beside.c lie in the same directory. Who removes a stale note removes the file that it tells of.
 *
 * Ownership. The caller owns the struct and the descriptor. Locking. No lock is held.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "swap.h"
#include "sys.h"

#define SWAP_BYTE ((int64_t)1 << 62)
#define TRIES_MAX 1000 /* names, and races with who removes stale files */
#define MADE_MAX 64    /* swap files between two searches, if nothing tells of a stale one */

/* ---- stale swap files ---------------------------------------------------------------------------------- */

static void count_by(const struct aiofs_tree *tree, int by)
{
    if (tree->tally)
        atomic_fetch_add(&tree->tally->swaps, by);
}

static bool is_note(const char *name)
{
    const char *dot = strchr(name, '.');
    return dot && strcmp(dot, AIOFS_NOTE_SUFFIX) == 0;
}

/* Whether the maker of a file without a lock is alive: it has just exchanged the file with that of an entry. The number
 * of the maker's account may be this process's by now. */
static bool is_being_exchanged(const struct aiofs_tree *tree, const char *name)
{
    const char *dot = strchr(name, '.');
    char *end = NULL;
    long account = dot && !is_note(name) ? strtol(dot + 1, &end, 10) : -1;
    if (!end || *end != 0 || account < 0 || account >= AIOFS_ACCOUNTS)
        return false;
    return account == tree->account ? atomic_load(&tree->exchanging) > 0 : aiofs_account_is_owned(tree, (int)account);
}

/* Removes the file that a stale note tells of. */
static void remove_noted(const struct aiofs_tree *tree, int note)
{
    char path[PATH_MAX];
    struct aiofs_canonical canonical;
    struct aiofs_parent parent;
    ssize_t length = aiofs_sys.pread64(note, path, sizeof path - 1, 0);
    if (length <= 0 || memchr(path, 0, (size_t)length) || aiofs_canonical_set(&canonical, path, (size_t)length) < 0 ||
        aiofs_parent_open(tree, &canonical, &parent) < 0)
        return;
    if (strncmp(parent.name, AIOFS_BESIDE_PREFIX, strlen(AIOFS_BESIDE_PREFIX)) == 0)
        aiofs_sys.unlinkat(parent.fd, parent.name, 0);
    aiofs_parent_close(&parent);
}

/* Removes a swap file if its maker is dead. True: it is alive, and the file stays. */
static bool is_alive_or_removed(const struct aiofs_tree *tree, int directory, const char *name)
{
    int fd = aiofs_sys.openat(directory, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0);
    if (fd < 0)
        return fd != -ENOENT;
    bool alive = aiofs_bytes_set(fd, F_WRLCK, SWAP_BYTE, 1) < 0 || is_being_exchanged(tree, name);
    if (!alive && is_note(name))
        remove_noted(tree, fd);
    if (!alive && aiofs_sys.unlinkat(directory, name, 0) == 0 && !is_note(name))
        count_by(tree, -1);
    aiofs_sys.close(fd);
    return alive;
}

static int visit(const char *name, int directory, void *context)
{
    struct aiofs_tree *tree = context;
    unsigned alive = is_alive_or_removed(tree, directory, name);
    atomic_fetch_add(&tree->swaps_found, alive);
    return 0;
}

void aiofs_swap_clean(struct aiofs_tree *tree)
{
    atomic_store(&tree->swaps_searched, tree->own_dir >= 0);
    int directory = tree->own_dir < 0
                        ? -ENOENT
                        : aiofs_sys.openat(tree->own_dir, AIOFS_SWAP_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
    if (directory < 0)
        return;
    int32_t counted = tree->tally ? atomic_load(&tree->tally->swaps) : 0;
    atomic_store(&tree->swaps_found, 0);
    atomic_store(&tree->swaps_made, 0);
    int status = aiofs_directory_visit(directory, visit, tree);
    aiofs_sys.close(directory);
    /* A maker that died before it made the file was counted. */
    if (status == 0 && atomic_load(&tree->swaps_found) == 0 && tree->tally)
        atomic_compare_exchange_strong(&tree->tally->swaps, &counted, 0);
}

/* A search costs time in proportion to the living swap files, so there is one for as many new ones. The counts are wrong
 * after some deaths, so now and then there is one although they agree. */
static void clean_if_due(struct aiofs_tree *tree)
{
    bool searched = atomic_load(&tree->swaps_searched); /* else the volume had no .aiofs open when it was opened */
    bool differ = !tree->tally || atomic_load(&tree->tally->swaps) != atomic_load(&tree->swaps);
    unsigned made = atomic_fetch_add(&tree->swaps_made, 1);
    if (!searched || (made >= atomic_load(&tree->swaps_found) && (differ || made >= MADE_MAX)))
        aiofs_swap_clean(tree);
}

void aiofs_swap_begin(struct aiofs_tree *tree)
{
    clean_if_due(tree);
    count_by(tree, 1);
    atomic_fetch_add(&tree->swaps, 1);
}

void aiofs_swap_ended(struct aiofs_tree *tree)
{
    count_by(tree, -1);
    atomic_fetch_sub(&tree->swaps, 1);
}

/* ---- making a file ---------------------------------------------------------------------------------------- */

static void name_swap(struct aiofs_swap *swap, const char *suffix)
{
    static _Atomic uint32_t number;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t unique = (uint64_t)now.tv_sec << 32 ^ (uint64_t)now.tv_nsec << 8 ^ atomic_fetch_add(&number, 1);
    snprintf(swap->name, sizeof swap->name, AIOFS_SWAP_DIR "/%016llx%s", (unsigned long long)unique, suffix);
}

static int make_directory(const struct aiofs_tree *tree)
{
    struct stat own;
    int status = aiofs_sys.fstat(tree->own_dir, &own);
    return status < 0 ? status : aiofs_own_subdir_make(tree->own_dir, AIOFS_SWAP_DIR, own.st_mode & 0777);
}

/* Through no symbolic link: the directory may be somebody's, who put one there. */
static int create_swap(const struct aiofs_tree *tree, const char *name)
{
    const int flags = O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    int fd = aiofs_sys.openat2(tree->own_dir, name, flags, 0600, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
    return fd == -ENOSYS || fd == -EPERM ? aiofs_sys.openat(tree->own_dir, name, flags, 0600) : fd;
}

/* Locks a new swap file. -EEXIST: another process removed it, or is about to. */
static int lock_swap(struct aiofs_swap *swap, int fd)
{
    struct stat made;
    int status = aiofs_bytes_set(fd, F_WRLCK, SWAP_BYTE, 1);
    if (status == -EBUSY)
        return -EEXIST;
    if (status == 0)
        status = aiofs_sys.fstat(fd, &made);
    if (status == 0 && made.st_nlink == 0)
        status = -EEXIST;
    swap->ino = made.st_ino;
    swap->mtime = made.st_mtim;
    return status;
}

void aiofs_swap_remove(const struct aiofs_tree *tree, struct aiofs_swap *swap)
{
    if (swap->name[0])
        aiofs_sys.unlinkat(tree->own_dir, swap->name, 0);
    swap->name[0] = 0;
}

int aiofs_swap_open(struct aiofs_tree *tree, struct aiofs_swap *swap, bool note)
{
    int account = note ? -1 : aiofs_account_number(tree), fd = -EEXIST, status;
    char suffix[sizeof ".159"] = AIOFS_NOTE_SUFFIX;
    if (!note)
        snprintf(suffix, sizeof suffix, account < 0 ? "" : ".%u", (unsigned)account % AIOFS_ACCOUNTS);
    for (int i = 0; i < TRIES_MAX && fd == -EEXIST; i++) {
        name_swap(swap, suffix);
        fd = create_swap(tree, swap->name);
        if (fd == -ENOENT)
            fd = (status = make_directory(tree)) == 0 ? -EEXIST : status;
        if (fd < 0 || (status = lock_swap(swap, fd)) == 0)
            continue;
        aiofs_swap_remove(tree, swap);
        aiofs_sys.close(fd);
        fd = status;
    }
    return fd;
}

/* ---- replacing the entry's file --------------------------------------------------------------------------- */

int aiofs_swap_take_attributes(const struct aiofs_parent *parent, int fd, const struct stat *now, struct stat *old)
{
    int source = aiofs_sys.openat(parent->fd, parent->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0);
    int status = source >= 0           ? aiofs_sys.fstat(source, old)
                 : source == -EACCES   ? aiofs_sys.fstatat(parent->fd, parent->name, old, AT_SYMLINK_NOFOLLOW)
                                       : source;
    if (status == 0 && !S_ISREG(old->st_mode))
        status = -EISDIR; /* or another kind that is no file */
    if (status == 0)
        status = aiofs_copy_attributes(source, old, fd, now);
    if (source >= 0)
        aiofs_sys.close(source);
    return status == -ENOTDIR ? -ENOENT : status;
}

/* If sizes are counted, it exchanges the two files, so that the size of the file that it replaced is certain: another
 * process may commit at the same moment. */
int aiofs_swap_rename(struct aiofs_tree *tree, int directory, const char *name, const struct aiofs_parent *parent,
                      struct stat *old)
{
    const unsigned exchange = 2; /* RENAME_EXCHANGE */
    int status = -EINVAL;
    if (aiofs_quota_counted(tree)) {
        atomic_fetch_add(&tree->exchanging, 1);
        status = aiofs_sys.renameat2(directory, name, parent->fd, parent->name, exchange);
        if (status == 0) {
            if (aiofs_sys.fstatat(directory, name, old, AT_SYMLINK_NOFOLLOW) < 0)
                atomic_store(&tree->tally->inexact, 1);
            aiofs_sys.unlinkat(directory, name, 0);
        }
        atomic_fetch_sub(&tree->exchanging, 1);
    }
    return status == -EINVAL ? aiofs_sys.renameat2(directory, name, parent->fd, parent->name, 0) : status;
}
