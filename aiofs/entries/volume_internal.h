/*
 * volume_internal.h - what volume.c, lock.c, releasing.c, path.c, quota.c, dir_sync.c, entry_ops.c and recursive_ops.c
 * share.
 *
 *   volume  one opening of a directory: its flags and its quota. Counted: by its opener and by each lock reference.
 *   tree    the directory itself, one per device and inode in the process: the root descriptor, the
 *           entries, the lock files, the tally. Counted by its volumes.
 *   entry   a path that somebody holds. It lives while a lock reference is on it.
 *   lock reference   what one open file has of its entry: a share of its lock. Owned by the open file.
 *   place   a path that was looked at and is canonical: relative, no "." or "..", no symbolic link.
 *
 * Locking. The namespace lock guards the list of trees, the entries, the locks, the charges and the
 * unsynced names; functions that end in _locked want it held. It is held across fcntl on lock files,
 * which does not wait, and across no other call that could. The opening lock, taken before it, makes
 * one thread at a time build a tree. Descriptors of a tree are constant while it lives, but in the child
 * of a fork, where only one thread is left.
 */
#ifndef AIOFS_VOLUME_INTERNAL_H
#define AIOFS_VOLUME_INTERNAL_H

#include <limits.h>
#include <pthread.h>

#include "volume.h"

#define AIOFS_KEEP ".aiofs" /* what aiofs keeps for itself, at the root of a volume */
#define AIOFS_LOCK_FILES 256
#define AIOFS_NAME_BUCKETS 256
#define AIOFS_GENERATIONS 4096

struct aiofs_place {
    size_t length;
    uint64_t hash;
    bool slash; /* it ended in '/': it must be a directory */
    char path[PATH_MAX];
};

/* How much of an open file's size is in the tally. Shared by the lock references of one file; orphan: the file lost
 * its name, its bytes are given back at the last release. */
struct aiofs_charge {
    unsigned refs;
    bool orphan;
    int64_t size;
};

struct aiofs_entry {
    struct aiofs_entry *next; /* in its bucket */
    struct aiofs_lock_ref *lock_refs;
    struct aiofs_charge *charge;
    enum aiofs_lock lock;
    unsigned locks; /* lock references that share it */
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
    struct aiofs_acquisition *acquisition; /* that took it and may still give it up */
    enum aiofs_lock lock;
    bool releasing;          /* nobody wants it any more; see releasing.c */
    bool stays;              /* for the time of one call: does not follow its file when it is renamed */
    bool closed;             /* its file is closed, its lock given up */
    bool lost;               /* it was the parent's, and this is the child of a fork */
    _Atomic uint64_t unsynced; /* names made up to here may not be durable; 0: all are */
};

/* Names made in one directory that may not be durable yet: numbers of the first and the last. */
struct aiofs_unsynced {
    struct aiofs_unsynced *next;
    uint64_t first, last;
    size_t length;
    char path[];
};

/* The first page of .aiofs/volume, mapped by every process that has the volume open. */
struct aiofs_tally {
    _Atomic int64_t usage;    /* sizes of all files; -1: to be counted */
    _Atomic uint32_t counted; /* somebody has a quota: every growth is counted */
};

struct aiofs_tree {
    struct aiofs_tree *next;
    unsigned refs;
    bool writable; /* .aiofs is there and may be written */
    bool fine_times;
    dev_t dev;
    ino_t ino;
    struct aiofs_identity *above; /* the directories above, for the nesting check */
    size_t above_count;

    int root;     /* -1: no directory (virtual) */
    int keep;     /* .aiofs; -1: none */
    _Atomic int presence; /* .aiofs/volume: a read lock on its first byte says that the volume is open */
    int lock_files[AIOFS_LOCK_FILES]; /* -1 until used */
    struct aiofs_tally *tally;

    struct aiofs_entry **buckets;
    size_t bucket_count, entry_count;

    struct aiofs_unsynced *names[AIOFS_NAME_BUCKETS];
    size_t name_count;
    uint64_t name_number;

    _Atomic uint64_t *generations; /* virtual trees only */
    _Atomic int64_t write_brake;
};

struct aiofs_identity {
    dev_t dev;
    ino_t ino;
};

struct aiofs_volume {
    _Atomic int refs;
    unsigned flags;
    int64_t quota;
    struct aiofs_tree *tree;
    struct aiofs_gate gate;
};

/* lock.c */
extern struct aiofs_tree *aiofs_trees; /* all that are open */
void aiofs_namespace_lock(void);
void aiofs_namespace_unlock(void);
/* Sleeps on a condition without the namespace lock, until a time of aiofs_now(). 0 or ETIMEDOUT. */
int aiofs_namespace_wait(pthread_cond_t *condition, int64_t until);
int64_t aiofs_range_of(uint64_t hash); /* where an entry's range begins in its lock file */
/* The byte of the range that those who share such a lock have; -1: the lock is all of the range. */
static inline int64_t aiofs_byte_of(enum aiofs_lock lock)
{
    return lock == AIOFS_LOCK_EXCLUSIVE ? -1 : (int64_t)lock;
}
int aiofs_lock_ref_take_locked(aiofs_volume *volume, const struct aiofs_place *place, enum aiofs_lock lock,
                               const void *owner, aiofs_lock_ref **out);
int aiofs_lock_ref_take_at(aiofs_volume *volume, const struct aiofs_place *place, enum aiofs_lock lock, const void *owner,
                           aiofs_lock_ref **lock_ref);
int aiofs_lock_ref_take_briefly(aiofs_volume *volume, const struct aiofs_place *place, const void *owner,
                                aiofs_lock_ref **lock_ref);
void aiofs_lock_ref_move_locked(aiofs_lock_ref *lock_ref, struct aiofs_entry *to);
struct aiofs_entry *aiofs_entry_find_locked(const struct aiofs_tree *tree, const struct aiofs_place *place);
bool aiofs_path_below(const char *path, size_t length, const char *top, size_t top_length);

/* releasing.c */
void aiofs_releasing_add_locked(const struct aiofs_tree *tree, struct aiofs_entry *entry);
void aiofs_releasing_remove_locked(const struct aiofs_tree *tree, struct aiofs_entry *entry);
bool aiofs_releasing_wait_locked(const struct aiofs_tree *tree, const struct aiofs_place *place, enum aiofs_lock lock,
                                 struct aiofs_patience *patience);
bool aiofs_acquisition_abandoned_locked(void); /* the one of this thread, which has no lock yet */
void aiofs_acquisition_done_locked(aiofs_lock_ref *lock_ref);
void aiofs_releasing_fork_child(void);

/* path.c */
int aiofs_path_clean(const char *path, struct aiofs_place *out);
int aiofs_place_set(struct aiofs_place *out, const char *path, size_t length);
int aiofs_locate(const aiofs_volume *volume, const char *path, bool follow, struct aiofs_place *out);
int aiofs_open_beneath(const struct aiofs_tree *tree, const char *path, int flags, mode_t mode);

/* The directory that a place lies in, and its name there: close with aiofs_parent_close. */
struct aiofs_parent {
    int fd;
    bool owned;
    const char *name;
};
int aiofs_parent_open(const struct aiofs_tree *tree, const struct aiofs_place *place, struct aiofs_parent *out);
void aiofs_parent_close(const struct aiofs_parent *parent);
int aiofs_place_stat(const struct aiofs_tree *tree, const struct aiofs_place *place, struct stat *out);

/* volume.c */
/* The child of a fork says so too, before it takes a lock. It may wait: the namespace lock is not held. */
int aiofs_tree_attend(struct aiofs_tree *tree);
void aiofs_opening_lock(void);
void aiofs_opening_unlock(void);

/* quota.c */
void aiofs_quota_start(struct aiofs_tree *tree);
void aiofs_quota_cut_locked(struct aiofs_tree *tree, struct aiofs_entry *entry, int64_t before);
void aiofs_quota_unnamed_locked(struct aiofs_tree *tree, struct aiofs_entry *entry, int64_t size);
void aiofs_charge_release_locked(struct aiofs_tree *tree, struct aiofs_charge *charge);
static inline bool aiofs_quota_counted(const struct aiofs_tree *tree)
{
    return tree->tally && atomic_load_explicit(&tree->tally->counted, memory_order_relaxed);
}

/* dir_sync.c */
uint64_t aiofs_name_made(struct aiofs_tree *tree, const struct aiofs_place *place);
uint64_t aiofs_dir_sync_outstanding_locked(const struct aiofs_tree *tree);
void aiofs_dir_sync_move_locked(struct aiofs_tree *tree, const struct aiofs_place *from, const struct aiofs_place *to);
void aiofs_dir_sync_removed_locked(struct aiofs_tree *tree, const struct aiofs_place *place);
void aiofs_dir_sync_forget(struct aiofs_tree *tree);

/* entry_ops.c */
int aiofs_may_change(const aiofs_volume *volume);

/* recursive_ops.c: visits everything below a directory, each directory before what is in it. */
struct aiofs_found {
    int directory; /* a descriptor of it */
    const char *name;
    const char *path;
    size_t length;
    bool is_directory;
};
typedef int (*aiofs_visit)(const struct aiofs_found *found, void *context);
bool aiofs_subtree_locked(aiofs_volume *volume, const struct aiofs_place *top);
int aiofs_tree_walk(const struct aiofs_tree *tree, const char *path, aiofs_visit visit, void *context);

#endif
