/*
 * volume_internal.h - what the files of entries/ share.
 *
 *   volume            one opening of a directory: its flags and its quota. Reference-counted: its opener and each lock
 *                     reference own one reference.
 *   tree              the directory itself, one per device and inode in the process: the root descriptor, the entries,
 *                     the lock files, the shared usage count. Reference-counted by its volumes.
 *   canonical path    a resolved path: relative, without ".", ".." and symbolic links. Entries are found by it.
 *   entry             a canonical path with at least one lock reference on it; the last release frees it.
 *   lock reference    an open file's share of its entry's lock. The open file owns it.
 *   charge            how much of one open file's size is in the usage count; see quota.c.
 *
 * Locking. The namespace lock guards the list of trees, the entries, the locks, the charges and the table of unsynced
 * directories; functions that end in _locked require it. It is held across fcntl(2) on lock files, which does not
 * block, and across no system call that can block. The opening lock, which is taken before it, makes one thread at a
 * time build a tree or open its `.aiofs`. The descriptors of a tree are constant while the tree lives, except in a forked
 * child, where only one thread is left; that of a `.aiofs` that is created later is set once.
 */
#ifndef AIOFS_VOLUME_INTERNAL_H
#define AIOFS_VOLUME_INTERNAL_H

#include <limits.h>
#include <pthread.h>

#include "volume.h"

#define AIOFS_OWN_DIR ".aiofs" /* aiofs's own directory at the root of a volume: the lock files and the shared page */
#define AIOFS_LOCK_FILES 256
#define AIOFS_NAME_BUCKETS 256
#define AIOFS_GENERATIONS 4096

struct aiofs_canonical {
    size_t length;
    uint64_t hash;
    bool slash;   /* the given path ended in '/': the entry must be a directory */
    bool special; /* in a host volume: it was neither file, directory nor symbolic link when the path was resolved */
    char path[PATH_MAX];
};

/* How much of an open file's size is in the usage count. The lock references of one file share it. orphan: the file
 * was unlinked, and the last release subtracts its bytes from the usage count. Until the last charged change of the
 * file is over, nothing is given back: `known` is the size that the changes so far left. A swap file's charge is its
 * lock reference's alone, an orphan's until the commit, and never less than the size of the file that it replaces
 * (base). */
struct aiofs_charge {
    unsigned refs;
    uint32_t recounts; /* of the shared page, when `size` was last compared with the file */
    unsigned changing; /* charged changes of the file that are under way in this process */
    bool orphan, swap;
    bool partial; /* `known` is less than what is charged */
    int64_t size, known, base;
};

struct aiofs_entry {
    struct aiofs_entry *next; /* in its hash bucket */
    struct aiofs_lock_ref *lock_refs;
    struct aiofs_charge *charge;
    enum aiofs_lock lock;
    unsigned locks;     /* lock references that share `lock` */
    unsigned releasing; /* those of them that are releasing */
    const void *owner;
    uint64_t hash;
    size_t length;
    char path[];
};

struct aiofs_lock_ref {
    struct aiofs_lock_ref *next, *prev; /* of its entry */
    struct aiofs_entry *entry;
    struct aiofs_volume *volume;
    struct aiofs_charge *charge;
    struct aiofs_swap *swap;               /* the open file is a swap file; see swap.c. Constant while it is open */
    struct aiofs_acquisition *acquisition; /* that took it and may still abandon it; or NULL */
    enum aiofs_lock lock;
    unsigned slot;             /* in the table of holders, + 1; 0: none */
    bool releasing;            /* its release is under way; see releasing.c */
    struct aiofs_lock_ref *left; /* on the path before the last rename of the open file; and so on; owned */
    bool temporary;            /* of no open file: it is for one call, or `left`. A rename does not move it */
    bool closed;               /* unlocked, and its file is closed */
    bool lost;                 /* inherited by a forked child: there is no lock */
    bool created;              /* its opening created the file */
    _Atomic uint64_t unsynced; /* sequence number: names created up to it may not be durable; 0: all names are */
};

/* A directory in which created names may not be durable yet: the sequence numbers of the first and the last. */
struct aiofs_unsynced {
    struct aiofs_unsynced *next;
    uint64_t first, last;
    unsigned making; /* names in it that are being created */
    size_t length;
    char path[];
};

/* What one process has in the usage count beside the sizes of files; see account.c. In bytes. */
struct aiofs_account {
    _Atomic int64_t reserved; /* capacity that is reserved and not used */
    _Atomic int64_t unnamed;  /* of files that were unlinked while this process has them open */
    _Atomic int32_t changing; /* changes of sizes that are under way */
};

/* The first page of .aiofs/volume: every process that has the volume open maps it MAP_SHARED. */
#define AIOFS_ACCOUNTS 160
struct aiofs_tally {
    _Atomic int64_t usage;     /* sum of the sizes of all files and of the accounts, in bytes; -1: not counted yet */
    _Atomic uint32_t counted;  /* a process opened the volume with a quota: every growth is charged */
    _Atomic uint32_t changes;  /* changes of sizes that have begun */
    _Atomic uint32_t recounts; /* walks whose sum became the usage count */
    _Atomic uint32_t inexact;  /* a process died during a change: the usage count may be too high */
    _Atomic uint32_t crowded;  /* a process without an account changes sizes */
    _Atomic int32_t swaps;     /* swap files; see swap.c */
    struct aiofs_account accounts[AIOFS_ACCOUNTS];
};

struct aiofs_tree {
    struct aiofs_tree *next;
    unsigned refs;
    _Atomic bool writable; /* .aiofs is open for writing */
    _Atomic bool lazy;     /* a host volume in which no lock was taken yet: there is no .aiofs; see own_dir.c */
    _Atomic bool wants_quota;
    bool local;      /* opening and closing its files waits for nothing but this kernel; see cached.h */
    bool fine_times; /* the filesystem's timestamps distinguish any two changes; see has_fine_times */
    dev_t dev;
    ino_t ino;
    struct aiofs_identity *ancestors; /* the directories above the root, for the nesting check */
    size_t ancestor_count;

    int root;                         /* -1: virtual */
    _Atomic int own_dir;              /* .aiofs; -1: none */
    _Atomic int presence;             /* .aiofs/volume: the read lock on its first byte says that the volume is open */
    _Atomic int lock_files[AIOFS_LOCK_FILES]; /* -1 until used */
    struct aiofs_tally *_Atomic tally;
    int account; /* the index of this process's account; -1: it has none yet; see account.c */

    struct aiofs_entry **buckets;
    size_t bucket_count, entry_count;

    struct aiofs_unsynced *names[AIOFS_NAME_BUCKETS]; /* by the hash of the directory's path; see dir_sync.c */
    size_t name_count;
    uint64_t name_number; /* the sequence number of the last name that aiofs created */

    _Atomic int32_t swaps;                    /* swap files of this process */
    _Atomic int32_t exchanging;               /* exchanges of a swap file with an entry's that are under way in it */
    _Atomic uint32_t swaps_found, swaps_made; /* living ones at the last search for stale ones, new ones since then */
    _Atomic bool swaps_searched;              /* there was a search for stale ones */
    _Atomic bool cannot_clone;                /* the filesystem refused FICLONE */

    _Atomic uint64_t *generations; /* counters of changes, by the hash of the path; see aiofs_volume_generation */
    struct aiofs_write_backoff write_backoff; /* the engine's; see aiofs_lock_ref_write_backoff */

    struct aiofs_waits *_Atomic waits; /* NULL until the first lock; see wait_table.c */
};

struct aiofs_identity {
    dev_t dev;
    ino_t ino;
};

struct aiofs_volume {
    _Atomic int refs;
    unsigned flags;
    int64_t quota;
    int64_t capacity; /* bytes that are reserved and not used; the namespace lock guards this and the next two */
    int64_t drawn;    /* bytes of growth that came from the reservation, and have not gone back to it */
    unsigned forks;   /* number of forks before `capacity` was reserved: a child has none */
    struct aiofs_tree *tree;
    struct aiofs_limiter limiter;
};

/* entry.c */
extern struct aiofs_tree *aiofs_trees; /* every open tree of the process */
void aiofs_namespace_lock(void);
void aiofs_namespace_unlock(void);
/* pthread_cond_timedwait with the namespace lock as the mutex; `until` is a time of aiofs_now(). 0 or ETIMEDOUT. */
int aiofs_namespace_wait(pthread_cond_t *condition, int64_t until);
struct aiofs_entry *aiofs_entry_find_locked(const struct aiofs_tree *tree, const struct aiofs_canonical *canonical);
/* Finds the entry or makes it. NULL: no memory. */
struct aiofs_entry *aiofs_entry_make_locked(struct aiofs_tree *tree, const struct aiofs_canonical *canonical);
void aiofs_entry_free_if_unused_locked(struct aiofs_tree *tree, struct aiofs_entry *entry);

/* lock_file.c */
int64_t aiofs_range_of(uint64_t hash); /* where an entry's range begins in its lock file */
static inline bool aiofs_excludes_all(enum aiofs_lock lock)
{
    return lock == AIOFS_LOCK_EXCLUSIVE || lock == AIOFS_LOCK_ATOMIC;
}
/* The byte of the range that a sharing lock read-locks; -1: the lock excludes all others, on the whole range. */
static inline int64_t aiofs_byte_of(enum aiofs_lock lock)
{
    return aiofs_excludes_all(lock) ? -1 : (int64_t)lock;
}
/* Before the namespace lock is taken for an entry's lock: opens the entry's lock file. 0, also where no other process can
 * have a lock, or a negated errno. */
int aiofs_lock_file_prepare(struct aiofs_tree *tree, uint64_t hash);
/* The process forks now; under the namespace lock. */
void aiofs_lock_files_fork_prepare(void);
/* Locks the entry's bytes for `lock`. -EBUSY: another process has a conflicting lock. */
int aiofs_bytes_take(struct aiofs_tree *tree, uint64_t hash, enum aiofs_lock lock);
void aiofs_bytes_release(struct aiofs_tree *tree, uint64_t hash);

/* lock.c */
int aiofs_lock_ref_take_locked(aiofs_volume *volume, const struct aiofs_canonical *canonical, enum aiofs_lock lock,
                               const void *owner, aiofs_lock_ref **out);
/* The same for a waiting opening whose turn is after those with a lower ticket; see wait_table.h. */
int aiofs_lock_ref_take_turn_locked(aiofs_volume *volume, const struct aiofs_canonical *canonical, enum aiofs_lock lock,
                                    const void *owner, uint64_t ticket, aiofs_lock_ref **out);
void aiofs_lock_ref_move_locked(aiofs_lock_ref *lock_ref, struct aiofs_entry *to);

/* releasing.c */
void aiofs_releasing_add_locked(const struct aiofs_tree *tree, struct aiofs_entry *entry);
void aiofs_releasing_remove_locked(const struct aiofs_tree *tree, struct aiofs_entry *entry);
bool aiofs_releasing_wait_locked(const struct aiofs_tree *tree, const struct aiofs_canonical *canonical,
                                 enum aiofs_lock lock, struct aiofs_patience *patience);
void aiofs_releasing_mark_locked(aiofs_lock_ref *lock_ref);
void aiofs_releasing_wake_all(void);
extern _Thread_local struct aiofs_acquisition *aiofs_acquiring; /* this thread's acquisition, or NULL */
extern struct aiofs_link aiofs_arrivals; /* acquisitions that have arrived, in their order */
void aiofs_releasing_fork_child(void);

/* waiting.c */
int aiofs_lock_ref_take_at(aiofs_volume *volume, const struct aiofs_canonical *canonical, enum aiofs_lock lock,
                           const void *owner, aiofs_lock_ref **lock_ref);
int aiofs_lock_ref_take_temporary(aiofs_volume *volume, const struct aiofs_canonical *canonical, const void *owner,
                                  aiofs_lock_ref **lock_ref);
/* Before `path` is removed or renamed: -EBUSY if it is a symbolic link to an entry that another owner has locked. Who
 * opened the link holds the lock of that entry. */
int aiofs_refuse_locked_target(aiofs_volume *volume, const char *path, const struct aiofs_canonical *canonical,
                               const void *owner);

/* The bytes of the entry's file changed. */
static inline void aiofs_generation_increment(const aiofs_lock_ref *lock_ref)
{
    const struct aiofs_tree *tree = lock_ref->volume->tree;
    if (tree->generations)
        atomic_fetch_add(&tree->generations[lock_ref->entry->hash % AIOFS_GENERATIONS], 1);
}

/* path.c */
int aiofs_path_normalize(const char *path, struct aiofs_canonical *out);
int aiofs_canonical_set(struct aiofs_canonical *out, const char *path, size_t length);
int aiofs_path_resolve(const aiofs_volume *volume, const char *path, bool follow, struct aiofs_canonical *out);
int aiofs_open_beneath(const struct aiofs_tree *tree, const char *path, int flags, mode_t mode);

/* The parent directory of a canonical path, opened O_PATH, and the last component: close it with aiofs_parent_close. */
struct aiofs_parent {
    int fd;
    bool owned;
    const char *name;
};
int aiofs_parent_open(const struct aiofs_tree *tree, const struct aiofs_canonical *canonical, struct aiofs_parent *out);
void aiofs_parent_close(const struct aiofs_parent *parent);
bool aiofs_path_below(const char *path, size_t length, const char *top, size_t top_length);
int aiofs_canonical_stat(const struct aiofs_tree *tree, const struct aiofs_canonical *canonical, struct stat *out);

/* own_dir.c */
void aiofs_opening_lock(void);
void aiofs_opening_unlock(void);
/* For opening a volume, under the opening lock: opens .aiofs, and creates it; in a host volume it leaves that to the
 * first lock. */
int aiofs_own_dir_prepare(struct aiofs_tree *tree, unsigned flags);
/* Creates a directory in .aiofs. -ENOTDIR: something else has that name, perhaps a link that leads out. */
int aiofs_own_subdir_make(int own_dir, const char *name, mode_t mode);
/* Before an entry's lock is taken. Takes the presence lock if this process has none, as a forked child; with `create`,
 * creates .aiofs where it is missing. It may sleep: the caller does not hold the namespace lock. */
int aiofs_tree_prepare(struct aiofs_tree *tree, bool create);
/* The same, but creates nothing: opens .aiofs if another process has created it meanwhile. */
int aiofs_tree_look(struct aiofs_tree *tree);
/* Before a call that removes or renames entries. Where there is no .aiofs, the claim `fd` keeps other processes from
 * creating it until aiofs_absence_unclaim, so that locks inside the process are enough; else `fd` is -1. */
int aiofs_absence_claim(struct aiofs_tree *tree, int *fd);
void aiofs_absence_unclaim(int fd);
void aiofs_own_dir_close(struct aiofs_tree *tree);
int aiofs_presence_exists(int dirfd); /* whether a process has the directory open as a volume; or a negated errno */

/* volume.c */
int aiofs_check_writable(const aiofs_volume *volume); /* 0, -EROFS, or -ENOSYS for a virtual volume */

/* account.c */
void aiofs_usage_subtract(struct aiofs_tally *tally, int64_t bytes);
struct aiofs_account *aiofs_account_locked(struct aiofs_tree *tree); /* this process's; NULL: all are taken */
int aiofs_account_number(struct aiofs_tree *tree); /* this process's, if the volume is counted; or -1 */
bool aiofs_account_is_owned(const struct aiofs_tree *tree, int number); /* by a living process */
/* Subtracts from the usage count what dead processes had in their accounts. Whether there was anything. */
bool aiofs_accounts_settle_locked(struct aiofs_tree *tree);
/* Announces a change of sizes, if the volume is counted; and its end. */
bool aiofs_change_begin(struct aiofs_tree *tree);
void aiofs_change_end(struct aiofs_tree *tree, bool begun);
void aiofs_change_begin_locked(struct aiofs_tree *tree);
void aiofs_change_end_locked(struct aiofs_tree *tree);
bool aiofs_sizes_settled(const struct aiofs_tree *tree); /* no change of a size is under way, in any process */
int64_t aiofs_accounts_sum(const struct aiofs_tree *tree);

/* quota.c */
void aiofs_quota_start(struct aiofs_tree *tree);
/* Before a file gets one more name. 0: there is no quota. 1: charged; aiofs_change_end must follow. Or -EDQUOT. */
int aiofs_quota_named(aiofs_volume *volume, int64_t size);
/* Initialises the usage count of a volume with a quota, if it is not: so that the walk runs where a file is opened, and
 * not where the first write is submitted, on a thread that must not block. If it fails, the first charge tries again. */
void aiofs_quota_prepare(struct aiofs_tree *tree);
int64_t aiofs_quota_request(aiofs_volume *volume, int64_t bytes);
int64_t aiofs_quota_release(aiofs_volume *volume, int64_t bytes);
void aiofs_quota_close(aiofs_volume *volume);
void aiofs_quota_fork_child(void);
void aiofs_quota_truncated_locked(aiofs_volume *volume, struct aiofs_entry *entry, int64_t before);
void aiofs_quota_unnamed_locked(aiofs_volume *volume, struct aiofs_entry *entry, int64_t size);
void aiofs_charge_release_locked(aiofs_volume *volume, struct aiofs_charge *charge);
/* The file is closed, and other references to it may last: gives back what a swap file was charged. */
void aiofs_charge_unlocked_locked(aiofs_volume *volume, struct aiofs_charge *charge);
/* For a swap file that will replace a file of `base` bytes. 0 or -ENOMEM. */
int aiofs_quota_swap_begin(aiofs_lock_ref *lock_ref, int64_t base);
/* Before a swap file of `size` bytes replaces a file of `old` bytes: charges what is not charged yet. 0: there is no
 * quota. 1: charged; aiofs_change_end must follow. Or -EDQUOT. */
int aiofs_quota_swap_charge(aiofs_lock_ref *lock_ref, int64_t old, int64_t size);
/* After a charged replacement: corrects the usage count. */
void aiofs_quota_swap_end(aiofs_lock_ref *lock_ref, int64_t old, int64_t size);
static inline bool aiofs_quota_counted(const struct aiofs_tree *tree)
{
    return tree->tally && atomic_load_explicit(&tree->tally->counted, memory_order_relaxed);
}

/* dir_sync.c */
int aiofs_fsync(int fd); /* fsync(2), repeated after -EINTR */
void aiofs_dir_sync_begin(struct aiofs_tree *tree, const struct aiofs_canonical *canonical);
uint64_t aiofs_dir_sync_end(struct aiofs_tree *tree, const struct aiofs_canonical *canonical, bool created);
uint64_t aiofs_dir_sync_outstanding_locked(const struct aiofs_tree *tree);
void aiofs_dir_sync_move_locked(struct aiofs_tree *tree, const struct aiofs_canonical *from,
                                const struct aiofs_canonical *to);
void aiofs_dir_sync_removed_locked(struct aiofs_tree *tree, const struct aiofs_canonical *canonical);
void aiofs_dir_sync_free(struct aiofs_tree *tree);

/* walk.c: a list of paths, and a visit of everything below a directory, each directory before its content. */
struct aiofs_listed {
    struct aiofs_listed *next;
    aiofs_lock_ref *lock_ref; /* in a lock set: the lock on this path */
    bool is_directory;
    size_t length;
    char path[];
};
int aiofs_listed_push(struct aiofs_listed **list, const char *path, size_t length, bool directory);
struct aiofs_listed *aiofs_listed_pop(struct aiofs_listed **list);
void aiofs_listed_free(struct aiofs_listed *list);
struct aiofs_found {
    int directory; /* a descriptor of the directory that holds it */
    const char *name;
    const char *path;
    size_t length;
    bool is_directory;
};
typedef int (*aiofs_visit)(const struct aiofs_found *found, void *context);
int aiofs_tree_walk(const struct aiofs_tree *tree, const char *path, aiofs_visit visit, void *context, bool skip_refused);

/* The names in one directory, without "." and "..". The visit returns 0, or a negated errno that ends it. */
typedef int aiofs_directory_visitor(const char *name, int directory, void *context);
int aiofs_directory_visit(int directory, aiofs_directory_visitor *visit, void *context);

/* file_copy.c */
/* Copies the bytes of `from` to the empty file `to`. `source`: the status of `from`. Holes stay holes. It asks `go_on`
 * now and then; -ECANCELED if that says no. */
int aiofs_copy_bytes(int from, int to, const struct stat *source, _Atomic bool *cannot_clone, aiofs_go_on *go_on,
                     void *context);
/* Copies owner, mode and extended attributes as far as this process may set them. `from` -1: no extended attributes. */
int aiofs_copy_attributes(int from, const struct stat *source, int to, const struct stat *target);


void aiofs_swap_changed(struct aiofs_swap *swap);
void aiofs_swap_end(struct aiofs_lock_ref *lock_ref); /* removes a swap file that was not committed; may block */
void aiofs_swap_clean(struct aiofs_tree *tree);       /* removes the swap files of dead processes; swap_file.c */

/* recursive_ops.c: whether an entry below a directory is locked. */
bool aiofs_subtree_locked(aiofs_volume *volume, const struct aiofs_canonical *top);

#endif
