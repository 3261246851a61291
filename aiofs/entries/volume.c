/*
 * volume.c - opening directories as volumes.
 *
 * A process has one tree per directory, however often it opens the directory: the list of trees is searched by device
 * and inode. The volumes of a tree share its reference count, and the last release frees it. The tree keeps open the
 * root directory and, if the volume is writable, `.aiofs` and `.aiofs/volume`; see own_dir.c.
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
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "cached.h"
#include "volume_internal.h"
#include "wait_table.h"

static void close_if_open(int fd)
{
    if (fd >= 0)
        aiofs_sys.close(fd);
}

int aiofs_volume_in_use(const char *directory)
{
    int fd = aiofs_sys.openat(AT_FDCWD, directory, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    if (fd < 0)
        return fd;
    int status = aiofs_presence_exists(fd);
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
        if (status == 0 && aiofs_presence_exists(at) > 0)
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
    aiofs_own_dir_close(tree);
    close_if_open(tree->root);
    aiofs_waits_free(tree);
    aiofs_dir_sync_free(tree);
    free(tree->buckets);
    free(tree->ancestors);
    free(tree);
}

/* Gives a new tree its first reference. */
static void tree_register(struct aiofs_tree *tree)
{
    aiofs_namespace_lock();
    tree->refs = 1;
    tree->next = aiofs_trees;
    aiofs_trees = tree;
    aiofs_namespace_unlock();
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
    tree->local = aiofs_filesystem_is_local(root);
    tree->in_memory = aiofs_filesystem_in_memory(tree->dev);
    tree->fine_times = has_fine_times(root);
    int status = collect_ancestors(tree);
    if (status == 0)
        status = refuse_nesting(tree);
    if (status == 0)
        status = aiofs_own_dir_prepare(tree, flags);
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
    tree_register(tree);
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
    tree->wants_quota |= quota >= 0;
    if (quota >= 0 && tree->tally)
        aiofs_quota_start(tree);
    *out = volume;
    return 0;
}

/* Makes the name of a root that was just created durable. A user without permission to read the directory above cannot
 * sync it. */
static int sync_name_of_root(int root)
{
    int above = aiofs_sys.openat(root, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (above < 0)
        return above == -EACCES ? 0 : above;
    int status = aiofs_fsync(above);
    aiofs_sys.close(above);
    return status;
}

/* Opens the directory of a volume, and creates it if the flags say so. A directory whose name cannot be synced is
 * removed again, so that the next attempt syncs the name, too. */
static int open_root(const char *directory, unsigned flags)
{
    int made = flags & AIOFS_VOLUME_CREATE ? aiofs_sys.mkdirat(AT_FDCWD, directory, 0700) : -EEXIST;
    int root = aiofs_sys.openat(AT_FDCWD, directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (root < 0)
        return made < 0 && made != -EEXIST ? made : root;
    int status = made == 0 ? sync_name_of_root(root) : 0;
    if (status == 0)
        return root;
    aiofs_sys.close(root);
    aiofs_sys.unlinkat(AT_FDCWD, directory, AT_REMOVEDIR);
    return status;
}

static int open_locked(const char *directory, unsigned flags, int64_t quota, aiofs_volume **out)
{
    struct aiofs_tree *tree;
    int root = open_root(directory, flags);
    if (root < 0)
        return root;
    int status = tree_of(root, flags, &tree);
    if (status < 0)
        return status;
    status = aiofs_own_dir_prepare(tree, flags); /* read-only volumes of this process may have made the tree */
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
    tree_register(tree);
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
    return status < 0 ? status : aiofs_tree_prepare(volume->tree, true);
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

bool aiofs_volume_is_local(const aiofs_volume *volume)
{
    return volume->tree->local;
}

bool aiofs_volume_in_memory(const aiofs_volume *volume)
{
    return volume->tree->in_memory;
}

dev_t aiofs_volume_device(const aiofs_volume *volume)
{
    return volume->tree->dev;
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
