/*
 * volume.h - volumes, their entries, and the locks on them.
 *
 * A volume is a directory, known by device and inode: opened twice in one process it is one object, and two processes
 * meet in the lock files under its `.aiofs`. (A volume with no directory, `ops`, has its lock table in this process
 * only.) An entry is a path in it, relative, canonical, with no symbolic link in it; the entry object lives while a
 * lock reference or a lock needs it. A lock reference is what an open file has of an entry: a share of its lock.
 *
 * Locking. One mutex, the namespace lock, guards volumes, entries and locks. It may be taken by a
 * thread that holds nothing else; no other lock but those of this floor is taken under it.
 * The lock never waits for another holder: a refused lock is -EBUSY at once. Only a lock that is releasing is waited
 * for, some milliseconds, without the mutex.
 *
 * Return values are the kernel's: >= 0, or a negated errno.
 */
#ifndef AIOFS_VOLUME_H
#define AIOFS_VOLUME_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#include "clock.h"
#include "list.h"

typedef struct aiofs_volume aiofs_volume;
typedef struct aiofs_lock_ref aiofs_lock_ref;

enum aiofs_lock {
    AIOFS_LOCK_NONE,             /* a read-only open, get_file: sees live bytes */
    AIOFS_LOCK_EXCLUSIVE,        /* X: in-place, exclusive */
    AIOFS_LOCK_SHARED,           /* with other shared ones */
    AIOFS_LOCK_READ_ONLY,        /* with other read-only ones */
    AIOFS_LOCK_READWRITE_UNSAFE, /* with other readwrite-unsafe ones */
};

enum {
    AIOFS_VOLUME_CREATE = 1,    /* make the last component, mode 0700, if it is missing */
    AIOFS_VOLUME_HOST = 2,      /* somebody's directory: symbolic links inside it are followed */
    AIOFS_VOLUME_READ_ONLY = 4, /* every change is -EROFS; nothing is written, not even .aiofs */
};

/* ---- volumes ------------------------------------------------------------------------------------ */

/* Opens a directory as a volume. -ENOENT parent missing, -ENOTDIR, -EACCES not writable, -EBUSY inside
 * or around another open volume, ... quota -1: none. Retained; the last release closes it. */
AIOFS_API int aiofs_volume_open(const char *directory, unsigned flags, int64_t quota, aiofs_volume **volume);
/* A volume with no directory: names and locks only, in this process. */
AIOFS_API int aiofs_volume_virtual(aiofs_volume **volume);
AIOFS_API void aiofs_volume_retain(aiofs_volume *volume);
AIOFS_API void aiofs_volume_release(aiofs_volume *volume);
/* Whether any process has a directory open as a volume: 1, 0, or a negated errno. */
AIOFS_API int aiofs_volume_in_use(const char *directory);
AIOFS_API bool aiofs_volume_same(const aiofs_volume *a, const aiofs_volume *b);
AIOFS_API int aiofs_volume_estimate(aiofs_volume *volume, int64_t *usage, int64_t *quota);
/* Holds (open files and locks) that this process has in the volume, below `path` ("" is the root). */
AIOFS_API long aiofs_volume_lock_count(aiofs_volume *volume, const char *path);

/* ---- the tree ------------------------------------------------------------------------------------ */

/* Paths are relative to the volume's root, '/' between components, "" the root. They cannot leave it:
 * -EXDEV for one that tries (".." at the root, a symbolic link that leads out), -ENOENT for .aiofs.
 * `owner` names who asks (a FileSystem): an entry locked by another owner is -EBUSY, by the same is not. */

/* Opens a file as open(2) does with `flags` and `mode`, takes `lock` before it truncates or creates
 * anything, and gives the lock reference, which has the lock: the descriptor, or a negated errno. With owner not
 * NULL, an EXCLUSIVE lock is
 * shared by all holds of that owner. -EISDIR for a directory. O_CLOEXEC is always added. */
int aiofs_entry_open(aiofs_volume *volume, const char *path, int flags, mode_t mode, enum aiofs_lock lock,
                     const void *owner, aiofs_lock_ref **lock_ref);
AIOFS_API int aiofs_volume_stat(aiofs_volume *volume, const char *path, struct stat *out);
/* The same for a File: waits, at most a clock tick, until any later change must give the entry other times. */
AIOFS_API int aiofs_volume_snapshot(aiofs_volume *volume, const char *path, struct stat *out);
/* A number that moves on with the changes at `path`, where no stat tells them: virtual volumes only. */
AIOFS_API uint64_t aiofs_volume_generation(aiofs_volume *volume, const char *path);
AIOFS_API int aiofs_volume_mkdir(aiofs_volume *volume, const char *path, mode_t mode);
AIOFS_API int aiofs_volume_rmdir(aiofs_volume *volume, const char *path);
AIOFS_API int aiofs_volume_unlink(aiofs_volume *volume, const char *path, const void *owner);
AIOFS_API int aiofs_volume_rename(aiofs_volume *volume, const char *from, const char *to, const void *owner);
AIOFS_API int aiofs_volume_truncate(aiofs_volume *volume, const char *path, int64_t size, const void *owner);
/* Removes a directory and all below it, all or nothing as far as locks go: -EBUSY if anything in it is locked. */
AIOFS_API int aiofs_volume_remove_tree(aiofs_volume *volume, const char *path);
/* A descriptor of the directory, O_RDONLY, for getdents; the caller closes it. */
AIOFS_API int aiofs_volume_open_directory(aiofs_volume *volume, const char *path);

/* ---- lock references: what an open file has of its entry ---------------------------------------------------- */

/* Takes a lock on the entry at `path` with no file: for virtual volumes and for moves. */
AIOFS_API int aiofs_lock_ref_take(aiofs_volume *volume, const char *path, enum aiofs_lock lock, const void *owner,
                                  aiofs_lock_ref **lock_ref);
/* Gives up its lock; what may be asked of a lock reference may still be asked until aiofs_lock_ref_release. */
void aiofs_lock_ref_unlock(aiofs_lock_ref *lock_ref);
AIOFS_API void aiofs_lock_ref_release(aiofs_lock_ref *lock_ref);
/* The lock reference will be released soon, by itself: threads that ask for its lock wait for that instead of being refused. */
AIOFS_API void aiofs_lock_ref_releasing(aiofs_lock_ref *lock_ref);
aiofs_volume *aiofs_lock_ref_volume(const aiofs_lock_ref *lock_ref);

/* A lock that a thread takes for somebody who may give it up meanwhile, on another thread. Zeroed to begin with; it
 * must live until aiofs_acquisition_end. */
struct aiofs_acquisition {
    aiofs_lock_ref *lock_ref; /* what was taken; NULL: nothing yet, or it is released */
    bool abandoned;
};
/* The next lock of an open file that this thread takes belongs to it; NULL: to none. */
AIOFS_API void aiofs_acquisition_begin(struct aiofs_acquisition *acquisition);
/* Nobody wants the lock any more: taking it fails with -ECANCELED, or the lock reference is marked as releasing. */
AIOFS_API void aiofs_acquisition_abandon(struct aiofs_acquisition *acquisition);
AIOFS_API void aiofs_acquisition_end(struct aiofs_acquisition *acquisition);

/* For whatever changes a file's bytes: to be called around every change. */

/* Before a write or truncate that makes the file `size` bytes long: -EDQUOT if the quota forbids it. The
 * growth is charged; `current` is the file's size now. Returns at once where there is no quota. */
int aiofs_lock_ref_charge(aiofs_lock_ref *lock_ref, int64_t current, int64_t size);
/* The file is `size` bytes long after all (a failed or short write, a truncate): what was charged beyond
 * that is given back. */
void aiofs_lock_ref_settle(aiofs_lock_ref *lock_ref, int64_t size);
bool aiofs_lock_ref_has_quota(const aiofs_lock_ref *lock_ref);
/* After the bytes changed: the entry's generation moves on (a File taken earlier is stale). */
AIOFS_API void aiofs_lock_ref_changed(aiofs_lock_ref *lock_ref);
/* Makes the entry's name durable: fsync of its directory, once per entry that aiofs made. */
int aiofs_lock_ref_sync_dir(aiofs_lock_ref *lock_ref);
/* Until when (CLOCK_MONOTONIC, ns) writes inside the call are turned off for the lock reference's volume. */
_Atomic int64_t *aiofs_lock_ref_write_brake(aiofs_lock_ref *lock_ref);

/* How many threads of the engine are in a volume that is no directory, and the requests that wait to get one. The
 * engine's, under its lock; zeroed memory is a gate that nobody passed. */
struct aiofs_gate {
    unsigned threads, epoch;
    struct aiofs_link waiting;
};
struct aiofs_gate *aiofs_lock_ref_gate(aiofs_lock_ref *lock_ref);

/* ---- locks by descriptors: what preload/ needs ----------------------------------------------------- */

/* An entry's range of bytes in a lock file; see lock.c. */
#define AIOFS_RANGE_BITS 20
#define AIOFS_RANGE_SIZE ((int64_t)1 << AIOFS_RANGE_BITS)
#define AIOFS_RANGE_MARK (AIOFS_RANGE_SIZE - 1) /* the last byte: a lock reference of the entry is releasing */
#define AIOFS_FIRST_TREE 16 /* the first byte that is a process tree's */

/* Sets bytes of a lock file, or of .aiofs/volume: -EBUSY if another description holds them otherwise. */
AIOFS_API int aiofs_bytes_set(int fd, short type, int64_t start, int64_t length);

/* Where the lock of a canonical path is: which of the 256 files, and by aiofs_bytes_share its byte there. */
AIOFS_API uint64_t aiofs_path_hash(const char *path, size_t length);
AIOFS_API unsigned aiofs_lock_file_of(uint64_t hash);
/* Read-locks one byte of an entry's range; -EBUSY if somebody else holds another one. `fd`: the lock file. */
AIOFS_API int aiofs_bytes_share(int fd, uint64_t hash, int64_t byte);
/* After a refusal: whether to try again. Sleeps a moment if another process is about to give up what is in the way.
 * `byte`: the one that was to be shared; -1: all of the range was wanted. Zeroed before the first call. */
struct aiofs_patience {
    int64_t until; /* CLOCK_MONOTONIC, ns */
    bool unmarked; /* nobody was about to give it up at the last look */
};
AIOFS_API bool aiofs_bytes_retry(int fd, uint64_t hash, int64_t byte, struct aiofs_patience *patience);

/* ---- fork: to be called around it, with no other lock held but the start lock -------------------------- */

/* The child keeps no lock of its parent, and the parent's locks die with the parent. */
void aiofs_volume_fork_prepare(void);
void aiofs_volume_fork_parent(void);
void aiofs_volume_fork_child(void);

#endif
