/*
 * volume.c - opening directories as volumes.
 *
 * A directory is one tree in a process, however often it is opened: the list of trees is searched by
 * device and inode. A tree is counted by its volumes and goes with the last of them. It keeps open the
 * root directory and, where it may write, `.aiofs` and `.aiofs/volume`, on whose first byte every process
 * that has the volume open holds a read lock; who finds itself alone there starts the shared page anew.
 *
 * A volume inside or around another open one is refused. In this process both are seen: each tree knows
 * the directories above it. Of other processes, an open volume *above* is seen by its presence lock; one
 * *below* is not, as that would take a search of the whole directory.
 *
 * Locking. The opening lock serialises building a tree, which waits for the disk; the list itself, and
 * every count of a tree, is guarded by the namespace lock. A volume's count is atomic.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "sys.h"
#include "volume_internal.h"

#define TALLY_SIZE 4096
#define ANNOUNCE_TRIES 1000 /* a millisecond apart: another process starts the page at this moment */

static pthread_mutex_t opening_mutex = PTHREAD_MUTEX_INITIALIZER;

void aiofs_opening_lock(void)
{
    pthread_mutex_lock(&opening_mutex);
}

void aiofs_opening_unlock(void)
{
    pthread_mutex_unlock(&opening_mutex);
}

static void close_if_open(int fd)
{
    if (fd >= 0)
        aiofs_sys.close(fd);
}

/* ---- presence ------------------------------------------------------------------------------------------ */

static int presence_lock(int fd, int command, short type)
{
    struct flock byte = {.l_type = type, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};
    int status = aiofs_sys.fcntl(fd, command, (long)&byte);
    return status < 0 ? status : command == F_OFD_GETLK && byte.l_type != F_UNLCK;
}

/* Whoever is alone starts the page: nothing counted, nobody with a quota. */
static int start_page(int fd)
{
    struct aiofs_tally fresh = {.usage = -1};
    struct iovec piece = {&fresh, sizeof fresh};
    int status = aiofs_sys.ftruncate(fd, TALLY_SIZE);
    if (status == 0) {
        ssize_t wrote = aiofs_sys.pwritev2(fd, &piece, 1, 0, 0);
        status = wrote == (ssize_t)sizeof fresh ? 0 : wrote < 0 ? (int)wrote : -EIO;
    }
    return status;
}

/* Says to other processes that this one has the volume open. */
static int announce(struct aiofs_tree *tree)
{
    const struct timespec pause = {0, 1000000};
    bool counted = aiofs_quota_counted(tree); /* the child of a fork has the page already */
    int status = -EBUSY;
    int fd = aiofs_sys.openat(tree->keep, "volume", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (fd < 0)
        return fd;
    for (int i = 0; i < ANNOUNCE_TRIES && status < 0; i++) {
        if (presence_lock(fd, F_OFD_SETLK, F_WRLCK) >= 0 && (status = start_page(fd)) < 0)
            break;
        status = presence_lock(fd, F_OFD_SETLK, F_RDLCK);
        if (status != -EAGAIN && status != -EACCES)
            break;
        nanosleep(&pause, NULL);
    }
    if (status < 0) {
        aiofs_sys.close(fd);
        return status == -EAGAIN || status == -EACCES ? -EBUSY : status;
    }
    int none = -1;
    if (!atomic_compare_exchange_strong(&tree->presence, &none, fd))
        aiofs_sys.close(fd); /* another thread was first */
    else if (counted)
        aiofs_quota_start(tree);
    return 0;
}

int aiofs_tree_attend(struct aiofs_tree *tree)
{
    return tree->writable && atomic_load(&tree->presence) < 0 ? announce(tree) : 0;
}

/* Whether a process has the directory open as a volume; `dirfd` is the directory. */
static int announced(int dirfd)
{
    int fd = aiofs_sys.openat(dirfd, AIOFS_KEEP "/volume", O_RDONLY | O_NOFOLLOW | O_CLOEXEC, 0);
    if (fd < 0)
        return 0;
    int status = presence_lock(fd, F_OFD_GETLK, F_WRLCK);
    aiofs_sys.close(fd);
    return status;
}

int aiofs_volume_in_use(const char *directory)
{
    int fd = aiofs_sys.openat(AT_FDCWD, directory, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    if (fd < 0)
        return fd;
    int status = announced(fd);
    aiofs_sys.close(fd);
    return status;
}

/* ---- nesting ------------------------------------------------------------------------------------------- */

static struct aiofs_tree *find_tree(dev_t dev, ino_t ino)
{
    struct aiofs_tree *tree = aiofs_trees;
    while (tree && (tree->root < 0 || tree->dev != dev || tree->ino != ino))
        tree = tree->next;
    return tree;
}

static bool is_above(const struct aiofs_tree *tree, dev_t dev, ino_t ino)
{
    for (size_t i = 0; i < tree->above_count; i++)
        if (tree->above[i].dev == dev && tree->above[i].ino == ino)
            return true;
    return false;
}

static int above_append(struct aiofs_tree *tree, const struct stat *status)
{
    struct aiofs_identity *grown = realloc(tree->above, (tree->above_count + 1) * sizeof *grown);
    if (!grown)
        return -ENOMEM;
    tree->above = grown;
    tree->above[tree->above_count++] = (struct aiofs_identity){status->st_dev, status->st_ino};
    return 0;
}

/* Goes up to "/", noting what is passed; -EBUSY at a directory that a process has open as a volume. */
static int climb(struct aiofs_tree *tree)
{
    struct stat below = {.st_dev = tree->dev, .st_ino = tree->ino}, here;
    int at = tree->root, status = 0;
    while (status == 0) {
        int up = aiofs_sys.openat(at, "..", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
        if (at != tree->root)
            aiofs_sys.close(at);
        if (up == -EACCES) /* not ours to see: nor could we have opened a volume there */
            return 0;
        if (up < 0)
            return up;
        at = up;
        status = aiofs_sys.fstat(at, &here);
        if (status < 0 || (here.st_dev == below.st_dev && here.st_ino == below.st_ino))
            break;
        below = here;
        status = above_append(tree, &here);
        if (status == 0 && announced(at) > 0)
            status = -EBUSY;
    }
    aiofs_sys.close(at);
    return status;
}

static int refuse_nesting(const struct aiofs_tree *tree)
{
    int status = 0;
    aiofs_namespace_lock();
    for (const struct aiofs_tree *other = aiofs_trees; other && status == 0; other = other->next)
        if (other->root >= 0 && (is_above(tree, other->dev, other->ino) || is_above(other, tree->dev, tree->ino)))
            status = -EBUSY;
    aiofs_namespace_unlock();
    return status;
}

/* ---- trees -------------------------------------------------------------------------------------------- */

/* Where the kernel gives a file that was looked at a fresh time at its next change (Linux 6.13). */
static bool has_fine_times(int root)
{
    struct utsname name;
    struct statfs filesystem;
    int major, minor;
    if (aiofs_sys.uname(&name) < 0 || aiofs_sys.fstatfs(root, &filesystem) < 0)
        return false;
    char *end;
    major = (int)strtol(name.release, &end, 10);
    minor = *end == '.' ? (int)strtol(end + 1, NULL, 10) : 0;
    if (major < 6 || (major == 6 && minor < 13))
        return false;
    switch ((unsigned long)filesystem.f_type) {
    case EXT4_SUPER_MAGIC:
    case BTRFS_SUPER_MAGIC:
    case TMPFS_MAGIC:
    case 0x58465342: /* xfs */
        return true;
    default:
        return false;
    }
}

/* Opens .aiofs, making what is missing, and maps the tally. */
static int keep_open(struct aiofs_tree *tree, mode_t mode)
{
    int status = aiofs_sys.mkdirat(tree->root, AIOFS_KEEP, mode);
    if (status == 0 || status == -EEXIST)
        status = aiofs_sys.mkdirat(tree->root, AIOFS_KEEP "/locks", mode);
    if (status < 0 && status != -EEXIST)
        return status;
    tree->keep = aiofs_sys.openat(tree->root, AIOFS_KEEP, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
    if (tree->keep < 0)
        return tree->keep;
    status = announce(tree);
    if (status < 0)
        return status;
    void *page = mmap(NULL, TALLY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, tree->presence, 0);
    if (page == MAP_FAILED)
        return -errno;
    tree->tally = page;
    tree->writable = true;
    return 0;
}

static int make_writable(struct aiofs_tree *tree, unsigned flags)
{
    if (flags & AIOFS_VOLUME_READ_ONLY || tree->writable)
        return 0;
    int status = aiofs_sys.faccessat(tree->root, ".", W_OK | X_OK, 0);
    if (status == 0) {
        close_if_open(tree->keep);
        tree->keep = -1;
        status = keep_open(tree, flags & AIOFS_VOLUME_HOST ? 0777 : 0700);
    }
    return status;
}

static struct aiofs_tree *tree_new(void)
{
    struct aiofs_tree *tree = calloc(1, sizeof *tree);
    if (!tree)
        return NULL;
    tree->root = tree->keep = tree->presence = -1;
    for (unsigned i = 0; i < AIOFS_LOCK_FILES; i++)
        tree->lock_files[i] = -1;
    return tree;
}

static void tree_free(struct aiofs_tree *tree)
{
    for (unsigned i = 0; i < AIOFS_LOCK_FILES; i++)
        close_if_open(tree->lock_files[i]);
    close_if_open(tree->presence);
    close_if_open(tree->keep);
    close_if_open(tree->root);
    if (tree->tally)
        munmap(tree->tally, TALLY_SIZE);
    aiofs_dir_sync_forget(tree);
    free(tree->generations);
    free(tree->buckets);
    free(tree->above);
    free(tree);
}

/* A tree of the directory `root`, which it takes over. */
static int tree_build(int root, const struct stat *status_of_root, unsigned flags, struct aiofs_tree **out)
{
    struct aiofs_tree *tree = tree_new();
    if (!tree) {
        aiofs_sys.close(root);
        return -ENOMEM;
    }
    tree->root = root;
    tree->dev = status_of_root->st_dev;
    tree->ino = status_of_root->st_ino;
    tree->fine_times = has_fine_times(root);
    int status = climb(tree);
    if (status == 0)
        status = refuse_nesting(tree);
    if (status == 0)
        status = make_writable(tree, flags);
    if (status == 0 && !tree->writable) { /* the locks of others, if there are any */
        tree->keep = aiofs_sys.openat(root, AIOFS_KEEP, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
        tree->keep = tree->keep < 0 ? -1 : tree->keep;
    }
    if (status < 0) {
        tree_free(tree);
        return status;
    }
    *out = tree;
    return 0;
}

/* Counts the directory's tree once more, or builds it. */
static int tree_of(int root, unsigned flags, struct aiofs_tree **out)
{
    struct stat status_of_root;
    struct aiofs_tree *tree = NULL;
    int status = aiofs_sys.fstat(root, &status_of_root);
    aiofs_namespace_lock();
    if (status == 0 && (tree = find_tree(status_of_root.st_dev, status_of_root.st_ino)))
        tree->refs++;
    aiofs_namespace_unlock();
    if (status < 0 || tree) {
        aiofs_sys.close(root);
        *out = tree;
        return status;
    }
    status = tree_build(root, &status_of_root, flags, &tree);
    if (status < 0)
        return status;
    aiofs_namespace_lock();
    tree->refs = 1;
    tree->next = aiofs_trees;
    aiofs_trees = tree;
    aiofs_namespace_unlock();
    *out = tree;
    return 0;
}

static void tree_release(struct aiofs_tree *tree)
{
    aiofs_namespace_lock();
    bool last = --tree->refs == 0;
    struct aiofs_tree **link = &aiofs_trees;
    while (last && *link && *link != tree)
        link = &(*link)->next;
    if (last && *link)
        *link = tree->next;
    aiofs_namespace_unlock();
    if (last)
        tree_free(tree);
}

/* ---- volumes ------------------------------------------------------------------------------------------- */

static int volume_of(struct aiofs_tree *tree, unsigned flags, int64_t quota, aiofs_volume **out)
{
    aiofs_volume *volume = calloc(1, sizeof *volume);
    if (!volume)
        return -ENOMEM;
    volume->refs = 1;
    volume->flags = flags;
    volume->quota = quota;
    volume->tree = tree;
    if (quota >= 0 && tree->tally)
        aiofs_quota_start(tree);
    *out = volume;
    return 0;
}

static int open_locked(const char *directory, unsigned flags, int64_t quota, aiofs_volume **out)
{
    struct aiofs_tree *tree;
    int status = flags & AIOFS_VOLUME_CREATE ? aiofs_sys.mkdirat(AT_FDCWD, directory, 0700) : 0;
    int root = aiofs_sys.openat(AT_FDCWD, directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (root < 0)
        return status < 0 && status != -EEXIST ? status : root;
    status = tree_of(root, flags, &tree);
    if (status < 0)
        return status;
    if (!tree->writable && !(flags & AIOFS_VOLUME_READ_ONLY)) {
        aiofs_namespace_lock(); /* somebody has it open read-only and may use what this sets */
        status = make_writable(tree, flags);
        aiofs_namespace_unlock();
    }
    if (status == 0)
        status = volume_of(tree, flags, quota, out);
    if (status < 0)
        tree_release(tree);
    return status;
}

int aiofs_volume_open(const char *directory, unsigned flags, int64_t quota, aiofs_volume **out)
{
    aiofs_opening_lock();
    int status = open_locked(directory, flags, quota, out);
    aiofs_opening_unlock();
    return status;
}

int aiofs_volume_virtual(aiofs_volume **out)
{
    struct aiofs_tree *tree = tree_new();
    if (!tree)
        return -ENOMEM;
    tree->generations = calloc(AIOFS_GENERATIONS, sizeof *tree->generations);
    int status = tree->generations ? volume_of(tree, 0, -1, out) : -ENOMEM;
    if (status < 0) {
        tree_free(tree);
        return status;
    }
    aiofs_namespace_lock();
    tree->refs = 1;
    tree->next = aiofs_trees;
    aiofs_trees = tree;
    aiofs_namespace_unlock();
    return 0;
}

void aiofs_volume_retain(aiofs_volume *volume)
{
    atomic_fetch_add(&volume->refs, 1);
}

void aiofs_volume_release(aiofs_volume *volume)
{
    if (volume && atomic_fetch_sub(&volume->refs, 1) == 1) {
        tree_release(volume->tree);
        free(volume);
    }
}

bool aiofs_volume_same(const aiofs_volume *a, const aiofs_volume *b)
{
    return a->tree == b->tree;
}

void aiofs_lock_ref_changed(aiofs_lock_ref *lock_ref)
{
    struct aiofs_tree *tree = lock_ref->volume->tree;
    if (tree->generations)
        atomic_fetch_add(&tree->generations[lock_ref->entry->hash % AIOFS_GENERATIONS], 1);
}

uint64_t aiofs_volume_generation(aiofs_volume *volume, const char *path)
{
    struct aiofs_place place;
    if (!volume->tree->generations || aiofs_path_clean(path, &place) < 0)
        return 0;
    return atomic_load(&volume->tree->generations[place.hash % AIOFS_GENERATIONS]);
}
