/*
 * volume.h - the interface of entries/: volumes, the entries in them, and the locks on those entries.
 *
 * A volume is a directory, identified by device and inode. A process that opens the same directory twice gets two
 * volumes over one tree of entries and locks; two processes meet in the lock files under the directory's `.aiofs`.
 * (A virtual volume has no directory, and its lock table exists in this process only.) An entry is a file or directory
 * of a volume, identified by its canonical path: relative to the root, without symbolic links. The entry object lives
 * while a lock reference points to it. An open file owns one lock reference: its share of the entry's lock.
 *
 * Locking. One mutex, the namespace lock, guards volumes, entries and locks. A thread takes it only while it holds no
 * other lock, and takes no other lock under it, except those of entries/, and that of the engine in the callback `ready`
 * of an acquisition. Taking an entry's lock does not wait for another holder, unless its acquisition says so: a refused
 * lock is -EBUSY at once. The one exception is a holder that is releasing its lock: the thread waits for it without the
 * mutex, usually for some milliseconds.
 *
 * Functions return what the kernel returns: >= 0, or a negated errno.
 */
#ifndef AIOFS_VOLUME_H
#define AIOFS_VOLUME_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "clock.h"
#include "list.h"

typedef struct aiofs_volume aiofs_volume;
typedef struct aiofs_lock_ref aiofs_lock_ref;

enum aiofs_lock {
    AIOFS_LOCK_NONE,             /* a read-only open, get_file: reads see concurrent writes */
    AIOFS_LOCK_EXCLUSIVE,        /* mode in-place: no other lock on the entry */
    AIOFS_LOCK_SHARED,           /* compatible with SHARED only */
    AIOFS_LOCK_READ_ONLY,        /* compatible with READ_ONLY only */
    AIOFS_LOCK_READWRITE_UNSAFE, /* compatible with READWRITE_UNSAFE only */
    AIOFS_LOCK_ATOMIC,           /* mode exclusive: no other lock on the entry, as EXCLUSIVE; aiofs_volume_locks tells them
                                    apart */
};

enum {
    AIOFS_VOLUME_CREATE = 1,    /* create the last component, mode 0700, if it is missing */
    AIOFS_VOLUME_HOST = 2,      /* a directory that aiofs does not own: symbolic links inside it are followed, .aiofs is
                                   created at the first lock */
    AIOFS_VOLUME_READ_ONLY = 4, /* every change is -EROFS; nothing is written, not even .aiofs */
    AIOFS_VOLUME_LAZY = 8,      /* closing a file and committing it do not sync */
};

/* ---- volumes ------------------------------------------------------------------------------------ */

/* Opens a directory as a volume, with one reference for the caller; the last release closes it. `quota` is in bytes,
 * -1 for none. -ENOENT: the parent is missing; -ENOTDIR; -EACCES: not writable; -EBUSY: the directory lies inside or
 * around another open volume; or any errno of openat(2) and mkdirat(2). */
AIOFS_API int aiofs_volume_open(const char *directory, unsigned flags, int64_t quota, aiofs_volume **volume);
/* Creates a virtual volume: entries and locks in this process, no directory. One reference for the caller. */
AIOFS_API int aiofs_volume_virtual(aiofs_volume **volume);
AIOFS_API void aiofs_volume_retain(aiofs_volume *volume);
AIOFS_API void aiofs_volume_release(aiofs_volume *volume);
/* Whether any process has a directory open as a volume: 1, 0, or a negated errno. */
AIOFS_API int aiofs_volume_in_use(const char *directory);
/* Whether opening and closing its files waits for nothing but this kernel; see sys/cached.h. */
AIOFS_API bool aiofs_volume_is_local(const aiofs_volume *volume);
/* The device of its directory. Files below it may be on others, which are mounted there. */
dev_t aiofs_volume_device(const aiofs_volume *volume);
/* Whether the bytes of its files are always in memory. It is known only if the volume is local. */
bool aiofs_volume_in_memory(const aiofs_volume *volume);
/* Whether both volumes are the same directory. */
AIOFS_API bool aiofs_volume_same(const aiofs_volume *a, const aiofs_volume *b);
/* As aiofs_volume_stat and aiofs_volume_snapshot, on a thread that must not block; the second one also gives the
 * generation. -EAGAIN: on a thread that may. */
AIOFS_API int aiofs_volume_stat_cached(aiofs_volume *volume, const char *path, struct stat *out);
AIOFS_API int aiofs_volume_snapshot_cached(aiofs_volume *volume, const char *path, struct stat *out,
                                           uint64_t *generation);
/* Walks the directory and sums the sizes of its files, in bytes; quota -1: none. */
AIOFS_API int aiofs_volume_estimate(aiofs_volume *volume, int64_t *usage, int64_t *quota);
/* Reserves bytes of the quota for the growth of files that are opened through this volume, which then uses them first;
 * gives them back. What shrinks again goes back to the reservation. It ends with the volume, and with the process. Both
 * return the bytes that are reserved and not used afterwards. -EDQUOT: the quota has less, and nothing is reserved;
 * -ERANGE: less is reserved, and nothing is given back. */
AIOFS_API int64_t aiofs_volume_request_capacity(aiofs_volume *volume, int64_t bytes);
AIOFS_API int64_t aiofs_volume_release_capacity(aiofs_volume *volume, int64_t bytes);
/* How many open lock references this process has on `path` ("" is the root) and on the entries below it. */
AIOFS_API long aiofs_volume_lock_count(aiofs_volume *volume, const char *path);

/* ---- operations on paths --------------------------------------------------------------------------- */

/* Paths are relative to the volume's root, '/' between components, "" the root. A path cannot leave the volume:
 * -EXDEV if it would (".." at the root, a symbolic link that leads out), -ENOENT for .aiofs. `owner` identifies the
 * holder on whose behalf the call is made (a FileSystem), NULL for none: an entry that another owner has locked is
 * -EBUSY, one that the same owner has locked is not. */

/* Opens a file as open(2) does with `flags` and `mode`, and takes `lock` before it truncates or creates anything.
 * Returns the descriptor or a negated errno, and in `lock_ref` the caller's reference to the lock. With an owner, all
 * lock references of that owner share one EXCLUSIVE or ATOMIC lock. -EISDIR for a directory. O_CLOEXEC is always added.
 * `found` becomes the status of the file before O_TRUNC. */
int aiofs_entry_open(aiofs_volume *volume, const char *path, int flags, mode_t mode, enum aiofs_lock lock,
                     const void *owner, aiofs_lock_ref **lock_ref, struct stat *found);
AIOFS_API int aiofs_volume_stat(aiofs_volume *volume, const char *path, struct stat *out);
AIOFS_API int aiofs_volume_lstat(aiofs_volume *volume, const char *path, struct stat *out);
/* The same for a File. Waits, at most a clock tick, until a later change of the file must also change its mtime. */
AIOFS_API int aiofs_volume_snapshot(aiofs_volume *volume, const char *path, struct stat *out);
/* A counter that increases with the changes that aiofs makes to the bytes of the entry at `path`, in any process; some
 * other paths share it. Constant in a volume that is open read-only. */
AIOFS_API uint64_t aiofs_volume_generation(aiofs_volume *volume, const char *path);
AIOFS_API int aiofs_volume_mkdir(aiofs_volume *volume, const char *path, mode_t mode);
AIOFS_API int aiofs_volume_rmdir(aiofs_volume *volume, const char *path);
AIOFS_API int aiofs_volume_unlink(aiofs_volume *volume, const char *path, const void *owner);
AIOFS_API int aiofs_volume_rename(aiofs_volume *volume, const char *from, const char *to, const void *owner);
/* As aiofs_volume_rename without an owner, for handles: the entry at `from` is locked for the call even if `to` is the
 * same path; -EEXIST where a directory would replace an entry or be replaced, -EOPNOTSUPP where the target is neither a
 * file nor a directory. */
AIOFS_API int aiofs_volume_move(aiofs_volume *volume, const char *from, const char *to);
AIOFS_API int aiofs_volume_truncate(aiofs_volume *volume, const char *path, int64_t size, const void *owner);
/* These take no lock, and change nothing that a link leads to out of the volume. chmod, and utime with `follow`, follow
 * a symbolic link; the others work on the link itself. Private volumes have no symbolic links: symlink is -EOPNOTSUPP
 * there. A hard link is a second entry for the same file, with a lock of its own. */
AIOFS_API int aiofs_volume_chmod(aiofs_volume *volume, const char *path, mode_t mode);
AIOFS_API int aiofs_volume_utime(aiofs_volume *volume, const char *path, const struct timespec times[2], bool follow);
AIOFS_API int aiofs_volume_symlink(aiofs_volume *volume, const char *text, const char *path);
AIOFS_API ssize_t aiofs_volume_readlink(aiofs_volume *volume, const char *path, char *out, size_t size);
AIOFS_API int aiofs_volume_link(aiofs_volume *volume, const char *from, const char *to);
/* Opens an entry O_PATH, for fstatvfs(3). The caller closes the descriptor. */
AIOFS_API int aiofs_volume_open_path(aiofs_volume *volume, const char *path);
/* Whether an entry below the directory is locked: 1, 0, or a negated errno. */
AIOFS_API int aiofs_volume_locked_below(aiofs_volume *volume, const char *path);
/* Removes a directory and everything below it. Locks are all or nothing: if an entry in it is locked, nothing is
 * removed, -EBUSY. */
AIOFS_API int aiofs_volume_remove_tree(aiofs_volume *volume, const char *path);
/* Opens the directory O_RDONLY, for getdents(2). The caller closes the descriptor. */
AIOFS_API int aiofs_volume_open_directory(aiofs_volume *volume, const char *path);

/* ---- lock references: an open file's share of its entry's lock ----------------------------------------------- */

/* Takes a lock on the entry at `path` without opening a file: for virtual volumes. */
AIOFS_API int aiofs_lock_ref_take(aiofs_volume *volume, const char *path, enum aiofs_lock lock, const void *owner,
                                  aiofs_lock_ref **lock_ref);
/* Unlocks; the lock reference itself stays valid until aiofs_lock_ref_release. */
void aiofs_lock_ref_unlock(aiofs_lock_ref *lock_ref);
AIOFS_API void aiofs_lock_ref_release(aiofs_lock_ref *lock_ref);
/* Marks the lock reference as releasing: its holder will release it soon, without waiting for the program. Threads
 * that ask for its lock wait for the release instead of failing with -EBUSY. */
AIOFS_API void aiofs_lock_ref_releasing(aiofs_lock_ref *lock_ref);
aiofs_volume *aiofs_lock_ref_volume(const aiofs_lock_ref *lock_ref);

/* The acquisition of one lock: how long it may wait, and its abandoning by another thread. The caller zeroes it and keeps
 * it alive until aiofs_acquisition_end. The namespace lock guards it, once it is begun. */
struct aiofs_acquisition {
    aiofs_lock_ref *lock_ref; /* the lock that was taken; NULL: not taken yet, or released again */
    bool abandoned;
    int64_t until; /* CLOCK_MONOTONIC, ns: how long a lock that is held is waited for; 0: not at all */
    /* NULL: the thread that asks for the lock waits; a signal handler ends that wait with -EINTR. Else asking for it is
     * -EINPROGRESS, and `ready` is called when the wait is over: with the namespace lock held, on any thread. In both
     * cases the place in the queue is kept: the caller asks again, and gets the lock, -EBUSY or another errno. */
    void (*ready)(struct aiofs_acquisition *acquisition);
    struct aiofs_waiter *waiter; /* of waiting.c */
    struct aiofs_link arrival;   /* until it has the lock or a place in its queue; next NULL: it never arrived */
    uint64_t key;
    bool parked; /* the last answer was -EINPROGRESS; only the asking thread uses it */
    bool behind; /* it asked, and an earlier arrival has not: -EINPROGRESS, and `ready` follows */
    bool looks;  /* without `ready`: the wait is -EINTR at each attempt, too, because a signal may precede its sleep */
};
/* Fixes its place among the acquisitions of this process with the same key, which are for the same path: it gets the
 * lock, or a place in the queue, after those that arrived before. For calls that run on threads in any order. */
/* Whether an acquisition with this key has arrived, and has not asked for its lock. */
AIOFS_API bool aiofs_acquisition_expected(uint64_t key);
AIOFS_API void aiofs_acquisition_arrive(struct aiofs_acquisition *acquisition, uint64_t key);
/* Binds the next lock that this thread takes for an open file to `acquisition`; NULL unbinds. */
AIOFS_API void aiofs_acquisition_begin(struct aiofs_acquisition *acquisition);
/* Abandons it: it leaves the queue, taking the lock fails with -ECANCELED; a lock that is taken already is marked as
 * releasing. */
AIOFS_API void aiofs_acquisition_abandon(struct aiofs_acquisition *acquisition);
/* Leaves the queue, too. */
AIOFS_API void aiofs_acquisition_end(struct aiofs_acquisition *acquisition);

/* After how many nanoseconds the first of a queue tries without having been woken: 50 ms. A test raises it, to see that
 * only killed processes make others wait for it. */
extern AIOFS_API _Atomic int64_t aiofs_wait_interval;

/* Whether somebody waits for the lock. */
AIOFS_API bool aiofs_lock_ref_contended(const aiofs_lock_ref *lock_ref);
/* Waits for that, by this thread's acquisition, which has a `ready`: 0: somebody waits. -EINPROGRESS: ask again after
 * `ready`. -EBADF: there is no lock, or no longer. */
AIOFS_API int aiofs_lock_ref_watch(aiofs_lock_ref *lock_ref);

/* ---- who holds and who waits ------------------------------------------------------------------------- */

struct aiofs_listed_lock {
    char *path;
    enum aiofs_lock lock;
    const char *mode; /* the mode of an access handle that has such a lock */
    bool waiting;   /* it is waited for, not held */
    bool local;     /* it binds this process only */
    int pid;
    int64_t since;  /* CLOCK_REALTIME, ns: when it was taken, or the wait began */
};
/* Lists the locks of a volume that are held and waited for, by all processes, the waiting ones in their order. Returns
 * their count or a negated errno; aiofs_locks_free frees the list. */
AIOFS_API long aiofs_volume_locks(aiofs_volume *volume, struct aiofs_listed_lock **list);
AIOFS_API void aiofs_volume_locks_free(struct aiofs_listed_lock *list, long count);

/* The engine calls these around every change of a file's bytes. */

/* Before a write or truncate that makes the file `size` bytes long: charges the growth to the quota. `current` is the
 * file's size now. 0: there is no quota. 1: charged; aiofs_lock_ref_charge_end must follow the change. -EDQUOT: the
 * quota forbids the growth. */
int aiofs_lock_ref_charge(aiofs_lock_ref *lock_ref, int64_t current, int64_t size);
void aiofs_lock_ref_charge_end(aiofs_lock_ref *lock_ref);
/* After a failed or short write, or a truncate: the file is `size` bytes long. Returns what was charged beyond. */
void aiofs_lock_ref_uncharge(aiofs_lock_ref *lock_ref, int64_t size);
/* After a write: the file is at least `size` bytes long. Charges again what a truncate or a failed write, which ran after
 * this write was charged, has returned. */
void aiofs_lock_ref_wrote(aiofs_lock_ref *lock_ref, int64_t size);
bool aiofs_lock_ref_has_quota(const aiofs_lock_ref *lock_ref);
/* As stat(2), of the entry's path: for an open file without a descriptor. */
int aiofs_lock_ref_stat(aiofs_lock_ref *lock_ref, struct stat *out);
/* After the bytes changed: increments the entry's generation, so that an earlier File of it is stale. */
AIOFS_API void aiofs_lock_ref_changed(aiofs_lock_ref *lock_ref);
/* Makes the entry's name durable: fsync(2) of its directory, once per entry that aiofs created. */
int aiofs_lock_ref_sync_dir(aiofs_lock_ref *lock_ref);
/* Whether that has nothing to do. */
bool aiofs_lock_ref_dir_is_synced(const aiofs_lock_ref *lock_ref);
/* When the engine does not write inside the submitting call, because a write of the volume was slow: until a time
 * (CLOCK_MONOTONIC, ns); `span` is how long that lasts. The engine reads and writes it; entries/ only stores it. Zeroed
 * memory is the initial state. */
struct aiofs_write_backoff {
    _Atomic int64_t until, span;
};
struct aiofs_write_backoff *aiofs_lock_ref_write_backoff(aiofs_lock_ref *lock_ref);

/* Limits how many of the engine's threads are inside the methods of one virtual volume. The other requests wait in a
 * list. The engine owns it and guards it with its own lock; entries/ only stores it. Zeroed memory is the initial
 * state. */
struct aiofs_limiter {
    unsigned threads, epoch;
    struct aiofs_link waiting;
};
struct aiofs_limiter *aiofs_lock_ref_limiter(aiofs_lock_ref *lock_ref);

/* Whether the opening that took the lock created the file. */
AIOFS_API bool aiofs_lock_ref_created(const aiofs_lock_ref *lock_ref);
/* Whether closing a file of the volume syncs it. */
AIOFS_API bool aiofs_lock_ref_is_durable(const aiofs_lock_ref *lock_ref);

/* ---- swap files: the bytes of an open file whose changes appear all or nothing; see swap.c ------------------ */

/* Makes a swap file for the open file of `lock_ref`. `copy`: with the bytes of its file, which `source` is a descriptor
 * of; else empty. Returns its descriptor, which is the caller's, or a negated errno; -ECANCELED: the opening was
 * abandoned during the copy. */
int aiofs_swap_make(aiofs_lock_ref *lock_ref, int source, bool copy);
/* The same for a virtual volume, whose swap file is an anonymous one of the caller's. `commit` replaces the entry's file
 * by the file `fd`. `changed`: commit also if no request changes it. `release` is called at the end. 0 or -ENOMEM. */
typedef int64_t aiofs_swap_commit_function(void *self, int fd);
AIOFS_API int aiofs_swap_adopt(aiofs_lock_ref *lock_ref, bool changed, aiofs_swap_commit_function *commit,
                               void (*release)(void *self), void *self);
AIOFS_API bool aiofs_lock_ref_swapped(const aiofs_lock_ref *lock_ref);
/* Replaces the entry's file by the swap file, whose descriptor is `fd`, if it changed. -ENOENT: the entry's file was
 * removed. After an error the entry's file is the old one, unless only the sync of its directory failed. The release of
 * the lock reference removes a swap file that was not committed. */
int64_t aiofs_swap_commit(aiofs_lock_ref *lock_ref, int fd);

/* ---- copying and reading files that are in no volume; see file_copy.c and file_read.c ------------------------ */

/* Called now and then during a copy: `copied` bytes of the source are done. False ends it with -ECANCELED. */
typedef bool aiofs_go_on(void *context, int64_t copied);
/* Copies the bytes of the file `from` to the empty file `to`. Holes stay holes, and extents are shared where the
 * filesystem can. 0 or a negated errno. */
AIOFS_API int aiofs_copy_file_bytes(int from, int to, aiofs_go_on *go_on, void *context);
/* Reads a file's bytes from `offset`. Returns their count, less than `size` at the end of the file, or a negated errno;
 * -ECANCELED: another thread has made `*stop` true. */
AIOFS_API int64_t aiofs_read_stoppable(int fd, char *memory, size_t size, int64_t offset, const int *stop);
/* Copies owner, mode and extended attributes, as far as this process may set them. */
AIOFS_API int aiofs_copy_file_attributes(int from, int to);

/* ---- byte-range locks: for preload/, which takes them on descriptors of its own --------------------- */

/* An entry's range of bytes in a lock file; see lock_file.c. */
#define AIOFS_RANGE_BITS 20
#define AIOFS_RANGE_SIZE ((int64_t)1 << AIOFS_RANGE_BITS)
#define AIOFS_RANGE_MARK (AIOFS_RANGE_SIZE - 1) /* the last byte: a lock reference of the entry is releasing */
#define AIOFS_FIRST_SESSION 16                  /* the first byte that belongs to a session of `aiofs run` */

/* F_OFD_SETLK on bytes of a lock file or of .aiofs/volume. -EBUSY if another open file description holds a conflicting
 * lock. */
AIOFS_API int aiofs_bytes_set(int fd, short type, int64_t start, int64_t length);

/* The hash of a canonical path decides where its lock is: in which of the 256 lock files, and at which range. */
AIOFS_API uint64_t aiofs_path_hash(const char *path, size_t length);
AIOFS_API unsigned aiofs_lock_file_of(uint64_t hash);
/* Read-locks one byte of an entry's range in the lock file `fd`. -EBUSY if another open file description holds another
 * byte of the range. */
AIOFS_API int aiofs_bytes_share(int fd, uint64_t hash, int64_t byte);
/* After a refusal: returns whether to try again. Sleeps some microseconds if the conflicting lock is about to be
 * released. `byte`: the byte that the caller wants to share; -1: the whole range. The caller zeroes `patience` before
 * the first attempt. */
struct aiofs_patience {
    int64_t until; /* CLOCK_MONOTONIC, ns: when to give up */
    bool unmarked; /* at the last check, no lock was about to be released */
};
AIOFS_API bool aiofs_bytes_retry(int fd, uint64_t hash, int64_t byte, struct aiofs_patience *patience);

/* ---- fork: the engine calls these around it, and holds no other lock but its start lock ------------------ */

/* The child closes its copies of the lock files: it has no lock of its parent, and the parent's locks end with the
 * parent. */
void aiofs_volume_fork_prepare(void);
void aiofs_volume_fork_parent(void);
void aiofs_volume_fork_child(void);

#endif
