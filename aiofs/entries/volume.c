/*
 * volume.c - opening directories as volumes.
 *
 * A process has one tree per directory, however often it opens the directory: the list of trees is searched by device
 * and inode. The volumes of a tree share its reference count, and the last release frees it. The tree keeps open the
 * root directory and, if the volume is writable, `.aiofs` and `.aiofs/volume`. Every process that has the volume open
 * holds a read lock on the first byte of `.aiofs/volume`, the presence lock. A process that can write-lock that byte is
 * the only one, and initialises the shared page.
 *
 * A volume inside or around another open volume is refused. Between volumes of this process the check is complete,
 * because each tree knows the directories above it. Of other processes, an open volume *above* is found by its presence
 * lock; an open volume *below* is not, because that would take a search of the whole directory.
 *
 * Locking. The opening lock serialises building a tree, which waits for the disk. The namespace lock guards the list
 * and the reference count of each tree. A volume's reference count is atomic.
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

#define SHARED_SIZE (4096 + AIOFS_GENERATIONS * 8) /* of .aiofs/volume: the shared page, then the generations */
#define PRESENCE_TRIES 1000 /* 1 ms apart, while another process initialises the shared page */

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

static int presence_fcntl(int fd, int command, short type)
{
    struct flock byte = {.l_type = type, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};
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

/* Takes the presence lock, by which other processes see that this one has the volume open. */
static int presence_acquire(struct aiofs_tree *tree)
{
    const struct timespec pause = {0, 1000000};
    bool counted = aiofs_quota_counted(tree); /* a forked child has the page mapped already */
    int status = -EBUSY;
    int fd = aiofs_sys.openat(tree->own_dir, "volume", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (fd < 0)
        return fd;
    for (int i = 0; i < PRESENCE_TRIES && status < 0; i++) {
        if (presence_fcntl(fd, F_OFD_SETLK, F_WRLCK) >= 0 && (status = start_page(fd)) < 0)
            break;
        status = presence_fcntl(fd, F_OFD_SETLK, F_RDLCK);
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

int aiofs_tree_ensure_presence(struct aiofs_tree *tree)
{
    return tree->writable && atomic_load(&tree->presence) < 0 ? presence_acquire(tree) : 0;
}

/* Whether a process has the directory `dirfd` open as a volume. */
static int has_presence_lock(int dirfd)
{
    int fd = aiofs_sys.openat(dirfd, AIOFS_OWN_DIR "/volume", O_RDONLY | O_NOFOLLOW | O_CLOEXEC, 0);
    if (fd < 0)
        return 0;
    int status = presence_fcntl(fd, F_OFD_GETLK, F_WRLCK);
    aiofs_sys.close(fd);
    return status;
}

int aiofs_volume_in_use(const char *directory)
{
    int fd = aiofs_sys.openat(AT_FDCWD, directory, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    if (fd < 0)
        return fd;
    int status = has_presence_lock(fd);
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

static bool has_ancestor(const struct aiofs_tree *tree, dev_t dev, ino_t ino)
{
    for (size_t i = 0; i < tree->ancestor_count; i++)
        if (tree->ancestors[i].dev == dev && tree->ancestors[i].ino == ino)
            return true;
    return false;
}

static int ancestors_append(struct aiofs_tree *tree, const struct stat *status)
{
    struct aiofs_identity *grown = realloc(tree->ancestors, (tree->ancestor_count + 1) * sizeof *grown);
    if (!grown)
        return -ENOMEM;
    tree->ancestors = grown;
    tree->ancestors[tree->ancestor_count++] = (struct aiofs_identity){status->st_dev, status->st_ino};
    return 0;
}

/* Records the directories above the root, up to "/". -EBUSY if a process has one of them open as a volume. */
static int collect_ancestors(struct aiofs_tree *tree)
{
    struct stat below = {.st_dev = tree->dev, .st_ino = tree->ino}, here;
    int at = tree->root, status = 0;
    while (status == 0) {
        int up = aiofs_sys.openat(at, "..", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
        if (at != tree->root)
            aiofs_sys.close(at);
        if (up == -EACCES) /* no permission to search it, so this user cannot open a volume there either */
            return 0;
        if (up < 0)
            return up;
        at = up;
        status = aiofs_sys.fstat(at, &here);
        if (status < 0 || (here.st_dev == below.st_dev && here.st_ino == below.st_ino))
            break;
        below = here;
        status = ancestors_append(tree, &here);
        if (status == 0 && has_presence_lock(at) > 0)
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
        if (other->root >= 0 &&
            (has_ancestor(tree, other->dev, other->ino) || has_ancestor(other, tree->dev, tree->ino)))
            status = -EBUSY;
    aiofs_namespace_unlock();
    return status;
}

/* ---- trees -------------------------------------------------------------------------------------------- */

/* Whether the kernel gives a file a new timestamp at the first change after a stat ("multigrain timestamps", Linux 6.13
 * and the filesystems below). */
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

/* Opens .aiofs, creates what is missing in it, and maps the shared page. */
static int own_dir_open(struct aiofs_tree *tree, mode_t mode)
{
    int status = aiofs_sys.mkdirat(tree->root, AIOFS_OWN_DIR, mode);
    if (status == 0 || status == -EEXIST)
        status = aiofs_sys.mkdirat(tree->root, AIOFS_OWN_DIR "/locks", mode);
    if (status < 0 && status != -EEXIST)
        return status;
    tree->own_dir = aiofs_sys.openat(tree->root, AIOFS_OWN_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
    if (tree->own_dir < 0)
        return tree->own_dir;
    status = presence_acquire(tree);
    if (status < 0)
        return status;
    void *page = mmap(NULL, SHARED_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, tree->presence, 0);
    if (page == MAP_FAILED)
        return -errno;
    tree->tally = page;
    tree->generations = (_Atomic uint64_t *)((char *)page + 4096);
    tree->writable = true;
    return 0;
}

/* Read-only volumes of this process may use the tree meanwhile. So everything is opened in `made`, without a lock,
 * because that waits for the disk; if it fails, the tree is as it was. The opening lock is held. */
static int make_writable(struct aiofs_tree *tree, unsigned flags)
{
    struct aiofs_tree made = {.root = tree->root, .own_dir = -1, .presence = -1};
    if (flags & AIOFS_VOLUME_READ_ONLY || tree->writable)
        return 0;
    int status = aiofs_sys.faccessat(tree->root, ".", W_OK | X_OK, 0);
    if (status == 0)
        status = own_dir_open(&made, flags & AIOFS_VOLUME_HOST ? 0777 : 0700);
    if (status < 0) {
        close_if_open(made.own_dir);
        close_if_open(made.presence);
        return status;
    }
    aiofs_namespace_lock();
    int former = tree->own_dir;
    tree->own_dir = made.own_dir;
    atomic_store(&tree->presence, made.presence);
    tree->tally = made.tally;
    tree->generations = made.generations;
    tree->writable = true;
    aiofs_namespace_unlock();
    close_if_open(former);
    return 0;
}

static struct aiofs_tree *tree_new(void)
{
    struct aiofs_tree *tree = calloc(1, sizeof *tree);
    if (!tree)
        return NULL;
    tree->root = tree->own_dir = tree->presence = tree->account = -1;
    for (unsigned i = 0; i < AIOFS_LOCK_FILES; i++)
        tree->lock_files[i] = -1;
    return tree;
}

static void tree_free(struct aiofs_tree *tree)
{
    for (unsigned i = 0; i < AIOFS_LOCK_FILES; i++)
        close_if_open(tree->lock_files[i]);
    close_if_open(tree->presence);
    close_if_open(tree->own_dir);
    close_if_open(tree->root);
    if (tree->tally)
        munmap(tree->tally, SHARED_SIZE);
    else
        free(tree->generations);
    aiofs_dir_sync_free(tree);
    free(tree->buckets);
    free(tree->ancestors);
    free(tree);
}

/* Builds the tree of the directory `root`. The descriptor belongs to this function, also when it fails. */
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
    int status = collect_ancestors(tree);
    if (status == 0)
        status = refuse_nesting(tree);
    if (status == 0)
        status = make_writable(tree, flags);
    if (status == 0 && !tree->writable) { /* read-only: other processes may have locks there */
        tree->own_dir = aiofs_sys.openat(root, AIOFS_OWN_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
        tree->own_dir = tree->own_dir < 0 ? -1 : tree->own_dir;
    }
    if (status < 0) {
        tree_free(tree);
        return status;
    }
    *out = tree;
    return 0;
}

/* The directory's tree, with one more reference; builds it if it does not exist. Takes over `root`. */
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
    status = make_writable(tree, flags);
    if (status == 0)
        status = volume_of(tree, flags, quota, out);
    if (status < 0)
        tree_release(tree);
    else if (tree->writable)
        aiofs_swap_clean(tree);
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
        aiofs_quota_close(volume);
        tree_release(volume->tree);
        free(volume);
    }
}

int aiofs_check_writable(const aiofs_volume *volume)
{
    return volume->flags & AIOFS_VOLUME_READ_ONLY ? -EROFS : volume->tree->root < 0 ? -ENOSYS : 0;
}

static int check_reserves(const aiofs_volume *volume)
{
    int status = aiofs_check_writable(volume);
    return status < 0 ? status : aiofs_tree_ensure_presence(volume->tree);
}

int64_t aiofs_volume_request_capacity(aiofs_volume *volume, int64_t bytes)
{
    int status = check_reserves(volume);
    return status < 0 ? status : aiofs_quota_request(volume, bytes);
}

int64_t aiofs_volume_release_capacity(aiofs_volume *volume, int64_t bytes)
{
    int status = check_reserves(volume);
    return status < 0 ? status : aiofs_quota_release(volume, bytes);
}

bool aiofs_volume_same(const aiofs_volume *a, const aiofs_volume *b)
{
    return a->tree == b->tree;
}

uint64_t aiofs_volume_generation(aiofs_volume *volume, const char *path)
{
    struct aiofs_canonical canonical;
    if (!volume->tree->generations || aiofs_path_resolve(volume, path, true, &canonical) < 0)
        return 0;
    return atomic_load(&volume->tree->generations[canonical.hash % AIOFS_GENERATIONS]);
}
