/*
 * own_dir.c - aiofs's own directory at the root of a volume, `.aiofs`: creating it, opening it, and the presence lock.
 *
 * Every process that has the volume open holds a read lock on the first byte of `.aiofs/volume`, the presence lock. A
 * process that can write-lock that byte is the only one, and initialises the shared page, which is the file's content.
 *
 * A private volume gets its `.aiofs` when it is opened, a host volume at its first lock: a directory in which nothing
 * was ever locked stays as it was. Until then the tree is `lazy`. Removing and renaming entries needs them unlocked, but
 * is no reason to create `.aiofs`: where it does not exist, no process has a lock. Hence such a call makes a claim that
 * `.aiofs` is missing, and a process that creates `.aiofs` waits until these claims are gone. A claim is a read lock
 * (F_OFD_SETLK) on a byte of the root directory itself. One byte is for calls that rely on the absence, the other for
 * processes that create; each sets its own byte before it looks at the other, so one of them sees the other. A call that
 * sees a creator withdraws its claim, and takes locks as usual.
 *
 * Locking. The opening lock makes one thread at a time create or open `.aiofs` and take the presence lock, and is held
 * while that thread waits for others. The result is published under the namespace lock.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include "cached.h"
#include "volume_internal.h"

#define SHARED_SIZE (4096 + AIOFS_GENERATIONS * 8) /* of .aiofs/volume: the shared page, then the generations */
#define PRESENCE_TRIES 1000 /* 1 ms apart, while another process initialises the shared page */
#define CLAIM_TRIES 10000   /* 1 ms apart, while calls rely on the absence of .aiofs, or it is being created */

enum { BYTE_CREATING, BYTE_ABSENT }; /* of the root directory */

static pthread_mutex_t opening_mutex = PTHREAD_MUTEX_INITIALIZER;

void aiofs_opening_lock(void)
{
    pthread_mutex_lock(&opening_mutex);
}

void aiofs_opening_unlock(void)
{
    pthread_mutex_unlock(&opening_mutex);
}

static void pause_briefly(void)
{
    const struct timespec pause = {0, 1000000};
    nanosleep(&pause, NULL);
}

/* ---- presence ------------------------------------------------------------------------------------------ */

static int byte_fcntl(int fd, int command, short type, int64_t start)
{
    struct flock byte = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = 1};
    int status = aiofs_sys.fcntl(fd, command, (long)&byte);
    return status < 0 ? status : command == F_OFD_GETLK && byte.l_type != F_UNLCK;
}

/* Initialises what the processes share, for the only process that has the volume open. Writes all of it: a store into a
 * hole of a mapped file raises SIGBUS when the disk is full. */
static int start_page(int fd)
{
    static const struct {
        struct aiofs_tally tally;
        char rest[SHARED_SIZE - sizeof(struct aiofs_tally)];
    } fresh = {.tally = {.usage = -1}};
    int status = aiofs_sys.ftruncate(fd, SHARED_SIZE);
    for (off_t done = 0; status == 0 && done < SHARED_SIZE;) {
        struct iovec rest = {(char *)(uintptr_t)&fresh + done, (size_t)(SHARED_SIZE - done)};
        ssize_t wrote = aiofs_sys.pwritev2(fd, &rest, 1, done, 0);
        status = wrote > 0 ? 0 : wrote < 0 ? (int)wrote : -EIO;
        done += wrote;
    }
    return status;
}

static bool is_refusal(int status)
{
    return status == -EAGAIN || status == -EACCES;
}

/* One attempt at the presence lock. It initialises the shared page, unless another process has the lock. */
static int presence_try(int fd)
{
    int status = byte_fcntl(fd, F_OFD_SETLK, F_WRLCK, 0);
    if (status >= 0)
        status = start_page(fd);
    else if (is_refusal(status))
        status = 0;
    return status < 0 ? status : byte_fcntl(fd, F_OFD_SETLK, F_RDLCK, 0);
}

/* Takes the presence lock, by which other processes see that this one has the volume open. */
static int presence_acquire(struct aiofs_tree *tree, int own_dir)
{
    bool counted = aiofs_quota_counted(tree); /* a forked child has the page mapped already */
    if (tree->presence >= 0)
        return 0;
    int fd = aiofs_sys.openat(own_dir, "volume", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (fd < 0)
        return fd;
    int status = presence_try(fd);
    for (int i = 1; is_refusal(status) && i < PRESENCE_TRIES; i++) {
        pause_briefly();
        status = presence_try(fd);
    }
    if (status < 0) {
        aiofs_sys.close(fd);
        return is_refusal(status) ? -EBUSY : status;
    }
    tree->presence = fd;
    if (counted)
        aiofs_quota_start(tree);
    return 0;
}

int aiofs_presence_exists(int dirfd)
{
    int fd = aiofs_sys.openat(dirfd, AIOFS_OWN_DIR "/volume", O_RDONLY | O_NOFOLLOW | O_CLOEXEC, 0);
    if (fd < 0)
        return 0;
    int status = byte_fcntl(fd, F_OFD_GETLK, F_WRLCK, 0);
    aiofs_sys.close(fd);
    return status;
}

/* ---- claims that .aiofs is missing -------------------------------------------------------------------------- */

static bool own_dir_exists(const struct aiofs_tree *tree)
{
    struct stat status;
    return aiofs_sys.fstatat(tree->root, AIOFS_OWN_DIR, &status, AT_SYMLINK_NOFOLLOW) != -ENOENT;
}

/* Opens the root directory once more, and read-locks a byte of it. */
static int claim(const struct aiofs_tree *tree, int64_t byte)
{
    int fd = aiofs_sys.openat(tree->root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (fd < 0)
        return fd;
    int status = byte_fcntl(fd, F_OFD_SETLK, F_RDLCK, byte);
    if (status < 0)
        aiofs_sys.close(fd);
    return status < 0 ? status : fd;
}

/* The explicit unlock also ends a claim whose descriptor a forked child has inherited. */
static void unclaim(int fd, int64_t byte)
{
    if (fd < 0)
        return;
    byte_fcntl(fd, F_OFD_SETLK, F_UNLCK, byte);
    aiofs_sys.close(fd);
}

/* Whether the claim `fd` stands alone: 1, or 0 if another description has locked `byte`, or a negated errno. */
static int is_alone(int fd, int64_t byte)
{
    int status = byte_fcntl(fd, F_OFD_GETLK, F_WRLCK, byte);
    return status < 0 ? status : status == 0;
}

/* Returns the claim to create .aiofs, when no call relies on its absence any longer. */
static int claim_creation(const struct aiofs_tree *tree)
{
    int fd = claim(tree, BYTE_CREATING), status = 0;
    for (int i = 0; fd >= 0 && (status = is_alone(fd, BYTE_ABSENT)) == 0 && i < CLAIM_TRIES; i++)
        pause_briefly();
    if (fd >= 0 && status <= 0)
        unclaim(fd, BYTE_CREATING);
    return fd < 0 ? fd : status > 0 ? fd : status < 0 ? status : -EBUSY;
}

int aiofs_absence_claim(struct aiofs_tree *tree, int *fd)
{
    *fd = -1;
    for (int i = 0; tree->lazy && !own_dir_exists(tree) && i < CLAIM_TRIES; i++) {
        int claimed = claim(tree, BYTE_ABSENT);
        if (claimed < 0)
            break; /* a filesystem without such locks: take the entry's lock */
        if (is_alone(claimed, BYTE_CREATING) > 0 && !own_dir_exists(tree)) {
            *fd = claimed;
            return 0;
        }
        unclaim(claimed, BYTE_ABSENT);
        pause_briefly();
    }
    return aiofs_tree_prepare(tree, true);
}

void aiofs_absence_unclaim(int fd)
{
    unclaim(fd, BYTE_ABSENT);
}

/* ---- creating and opening -------------------------------------------------------------------------------- */

int aiofs_own_subdir_make(int own_dir, const char *name, mode_t mode)
{
    struct stat found;
    int status = aiofs_sys.mkdirat(own_dir, name, mode);
    if (status != -EEXIST)
        return status;
    status = aiofs_sys.fstatat(own_dir, name, &found, AT_SYMLINK_NOFOLLOW);
    return status < 0 ? status : S_ISDIR(found.st_mode) ? 0 : -ENOTDIR;
}

/* Opens .aiofs, which it creates if it is missing, with the directory of the lock files in it. */
static int open_own_dir(const struct aiofs_tree *tree, mode_t mode)
{
    int claimed = own_dir_exists(tree) ? -1 : claim_creation(tree);
    int status = claimed == -EBUSY ? claimed : aiofs_sys.mkdirat(tree->root, AIOFS_OWN_DIR, mode), fd = status;
    if (status == 0 || status == -EEXIST)
        fd = aiofs_sys.openat(tree->root, AIOFS_OWN_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
    status = fd < 0 ? fd : aiofs_own_subdir_make(fd, "locks", mode);
    unclaim(claimed, BYTE_CREATING);
    if (status < 0 && fd >= 0)
        aiofs_sys.close(fd);
    return status < 0 ? status : fd;
}

static void publish(struct aiofs_tree *tree, int own_dir, struct aiofs_tally *page)
{
    aiofs_namespace_lock();
    tree->own_dir = own_dir;
    tree->generations = (_Atomic uint64_t *)((char *)page + 4096);
    tree->tally = page;
    tree->writable = true;
    if (tree->wants_quota)
        aiofs_quota_start(tree);
    tree->lazy = false;
    aiofs_namespace_unlock();
}

/* Opens .aiofs, creates what is missing in it, and maps the shared page. */
static int own_dir_open(struct aiofs_tree *tree, mode_t mode)
{
    void *page = MAP_FAILED;
    int opened = open_own_dir(tree, mode);
    if (opened < 0)
        return opened;
    int own_dir = tree->own_dir < 0 ? opened : tree->own_dir; /* that of a read-only volume stays */
    int status = presence_acquire(tree, own_dir);
    if (status == 0) {
        page = mmap(NULL, SHARED_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, tree->presence, 0);
        status = page == MAP_FAILED ? -errno : 0;
    }
    if (status == 0)
        publish(tree, own_dir, page);
    if (opened != tree->own_dir)
        aiofs_sys.close(opened);
    return status;
}

int aiofs_own_dir_prepare(struct aiofs_tree *tree, unsigned flags)
{
    bool host = flags & AIOFS_VOLUME_HOST;
    if (flags & AIOFS_VOLUME_READ_ONLY || tree->writable)
        return 0;
    int status = aiofs_sys.faccessat(tree->root, ".", W_OK | X_OK, AT_EACCESS);
    if (status < 0)
        return status;
    if (!host || own_dir_exists(tree))
        return own_dir_open(tree, host ? 0777 : 0700);
    tree->lazy = true;
    return 0;
}

static int create_now(struct aiofs_tree *tree)
{
    if (cached_refuse())
        return -EAGAIN;
    aiofs_opening_lock();
    int status = tree->lazy ? own_dir_open(tree, 0777) : 0;
    aiofs_opening_unlock();
    return status;
}

/* For a read-only volume: another process may have created .aiofs since the last look. */
static void look_for_own_dir(struct aiofs_tree *tree)
{
    int fd = aiofs_sys.openat(tree->root, AIOFS_OWN_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
    if (fd < 0)
        return;
    aiofs_namespace_lock();
    bool first = tree->own_dir < 0;
    if (first)
        tree->own_dir = fd;
    aiofs_namespace_unlock();
    if (!first)
        aiofs_sys.close(fd);
}

/* In a forked child. */
static int acquire_again(struct aiofs_tree *tree)
{
    if (cached_refuse())
        return -EAGAIN;
    aiofs_opening_lock();
    int status = presence_acquire(tree, tree->own_dir);
    aiofs_opening_unlock();
    return status;
}

int aiofs_tree_prepare(struct aiofs_tree *tree, bool create)
{
    int status = create && tree->lazy ? create_now(tree) : 0;
    if (!tree->writable && !tree->lazy && tree->own_dir < 0 && tree->root >= 0)
        look_for_own_dir(tree);
    if (status == 0 && tree->writable && atomic_load(&tree->presence) < 0)
        status = acquire_again(tree);
    return status;
}

int aiofs_tree_look(struct aiofs_tree *tree)
{
    return aiofs_tree_prepare(tree, tree->lazy && own_dir_exists(tree));
}

void aiofs_own_dir_close(struct aiofs_tree *tree)
{
    if (tree->presence >= 0) {
        aiofs_bytes_set(tree->presence, F_UNLCK, 0, 0); /* a child that was forked just now has a copy */
        aiofs_sys.close(tree->presence);
    }
    if (tree->own_dir >= 0)
        aiofs_sys.close(tree->own_dir);
    if (tree->tally)
        munmap(tree->tally, SHARED_SIZE);
    else
        free(tree->generations);
}
