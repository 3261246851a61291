/*
 * preload.h - libaiofs-run.so, the library that `aiofs run --volume` preloads into a program.
 *
 * It interposes libc's functions that open, duplicate and close files. Every file of a volume that the program opens
 * for writing holds the lock of its entry, as long as a descriptor of the file is open in some process.
 *
 * A lock is an open file description of a lock file, with a read lock on the session's byte; see entries/lock_file.c.
 * Each of the program's descriptors with a lock has a descriptor of that description beside it, at its own number plus
 * `base`:
 *
 *     0                base               2 * base
 *     | the program's  | their locks      | the session fds (run_session.c), one for each volume, and
 *       1 4 7            base+4 base+7      descriptors that exist during a call
 *
 * (Here the program's descriptor 1 has no lock.) So the kernel counts the references: dup copies a lock's descriptor,
 * close closes it, fork and exec inherit it, and the death of a process closes it. This library keeps no table in
 * memory, which a vfork child or a signal handler could corrupt, and has no mutex. The program cannot reach the
 * library's own descriptors: the interposed functions treat their numbers as closed (EBADF).
 *
 * The file offset of a lock's description is a tag: a hash of the device and inode of the file that it locks, in 31
 * bits, because some filesystems refuse larger offsets. After an exec, locks_reconcile matches inherited files and
 * locks by their tags.
 *
 *     run.c              start-up: the environment, libc's functions
 *     descriptor.c       numbers and paths of descriptors
 *     resolve.c          resolves a path to a volume and an entry
 *     lock.c             the descriptors of locks
 *     open.c             interposes open, fopen, mkstemp, ...
 *     open_fds.c         the set of open descriptors
 *     close.c            interposes close, dup, fcntl, ...
 *     deferred_close.c   keeps a lock until the requests in flight on its file are terminal
 *     run_session.c      begins a session; for the command `aiofs run`, so it is a part of _core instead
 *
 * The library makes its system calls through aiofs_sys, so they are no cancellation points and leave errno alone.
 */
#ifndef AIOFS_PRELOAD_H
#define AIOFS_PRELOAD_H

#include <limits.h>
#include <stdio.h>

#include "engine.h"
#include "sys.h"
#include "volume.h"

/* ---- descriptor.c ----------------------------------------------------------------------------------------------- */

enum { RUN_BASE_MAX = 4096, RUN_VOLUMES = 64, RUN_SPARE = 128 };

struct run {
    _Atomic int base; /* 0: no volume, and nothing to do. Written last, with release order. */
    int volumes;
    struct {
        int session_fd;
        const char *root; /* its path when the session began */
        size_t length;
    } volume[RUN_VOLUMES];
};
extern struct run run;

/* Sets errno to `error` and returns -1. */
int refuse(int error);

/* Duplicates a descriptor of ours to a number from 2 * base on and closes the original, because programs rely on open
 * returning the lowest free number. Returns the new descriptor; a negative argument is returned as it is. */
int move_up(int fd);

/* Writes "/proc/self/fd/NUMBER" to `out`; returns a pointer to its terminating NUL. */
enum { DESCRIPTOR_NAME = sizeof "/proc/self/fd/2147483647" };
char *descriptor_name(char *out, int fd);
/* Writes the canonical path of a descriptor's file to `out`; returns its length, or -errno. */
ssize_t path_of_descriptor(int fd, char *out, size_t size);

/* ---- run.c ------------------------------------------------------------------------------------------------------- */

/* The next definitions in symbol lookup order (RTLD_NEXT): libc's, or those of another preloaded library. */
struct libc {
    int (*openat)(int dirfd, const char *path, int flags, ...);
    int (*open_2)(const char *path, int flags);
    int (*openat_2)(int dirfd, const char *path, int flags);
    FILE *(*fopen)(const char *path, const char *mode);
    FILE *(*freopen)(const char *path, const char *mode, FILE *stream);
    int (*fclose)(FILE *stream);
    int (*close)(int fd);
    int (*close_range)(unsigned first, unsigned last, int flags); /* NULL: libc has none */
    int (*dup)(int fd);
    int (*dup2)(int from, int to);
    int (*dup3)(int from, int to, int flags);
    int (*fcntl)(int fd, int command, ...);
};
/* Usable before our constructor has run, too: then the functions are system calls. No allocation, no lock. */
const struct libc *libc_functions(void);

/* INTERPOSE defines a function that replaces libc's, ALIAS another symbol for it. The C name is run_NAME, so that the
 * attributes in the system's headers (nonnull, for instance) do not apply to our definition. */
#define INTERPOSE(type, name, parameters)                                                                              \
    AIOFS_API type run_##name parameters __asm__(#name);                                                               \
    type run_##name parameters
#define ALIAS(name, other)                                                                                             \
    AIOFS_API extern __typeof__(run_##name) run_##other __asm__(#other) __attribute__((alias(#name)))

/* ---- resolve.c -------------------------------------------------------------------------------------------------- */

struct resolved {
    int parent;       /* an O_PATH descriptor of the directory */
    const char *name; /* the last component: what to open in that directory */
    uint64_t hash;    /* of the canonical path in the volume */
    int64_t session;  /* the session's byte in every entry's range; 0: the session fd was closed */
    bool exists;
    struct paths *paths;
};

/* Resolves a path, and follows a symbolic link in the last component unless `nofollow`. 1: it is a regular file of a
 * volume, or does not exist there; the caller calls resolved_release. 0: it is anything else. Negative: -ENOENT for a
 * path in .aiofs, -ENAMETOOLONG, -EMFILE, -ENFILE, -ENOMEM. */
int resolve_path(struct resolved *resolved, int dirfd, const char *path, bool nofollow);
void resolved_release(struct resolved *resolved);
/* Opens the lock file of the entry: a descriptor or -errno. */
int resolved_open_lock_file(const struct resolved *resolved);

/* ---- open_fds.c ----------------------------------------------------------------------------------------------- */

struct open_fds {
    uint64_t bits[(2 * RUN_BASE_MAX + RUN_SPARE + RUN_VOLUMES) / 64];
};

/* Reads the set of the descriptors that are open now, up to the highest number that can be the library's own. */
void open_fds_read(struct open_fds *set);
/* The lowest number in the set from `from` to `last`; -1: none. */
int open_fds_next(const struct open_fds *set, unsigned from, unsigned last);

/* ---- deferred_close.c ---------------------------------------------------------------------------------------- */

/* True: requests are in flight on the file of `fd`; the engine closes `lock` when the last of them is terminal. False:
 * no request is in flight, and `lock` is still the caller's. */
bool deferred_close(int fd, int lock);
/* Called at the start, and in a forked child. */
void deferred_close_set_up(void);

/* ---- lock.c -------------------------------------------------------------------------------------------------- */

/* Whether a descriptor is the library's own: the interposed functions treat it as closed. */
bool is_own(int fd);

/* Takes the lock of a resolved path. Returns its descriptor, or -EBUSY: another holder has it; -ENOLCK: the program has
 * closed our session fd; -EMFILE, ... *next is the number that the next open will probably get. */
int lock_take(const struct resolved *resolved, int *next);
/* Whether the number for the lock of `fd` is usable: below RLIMIT_NOFILE, and not in use by the program. */
bool lock_has_room(int fd);
/* Moves a lock to the number beside `fd`. On failure the lock is released. 0 or -EMFILE. */
int lock_attach(int lock, int fd);
/* Copies the lock of `from`, if it has one, to `to`. 0 or -EMFILE. lock_fits: whether the copy would have room. */
bool lock_fits(int from, int to);
int lock_copy(int from, int to);
/* Before a descriptor is closed: moves its lock to a temporary number and returns that. The caller closes the lock with
 * lock_close after the descriptor, or attaches it again. -1: there is no lock, or requests are in flight on the file
 * and deferred_close took the lock over. */
int lock_detach(int fd);
void lock_close(int lock);
/* The same around a function of libc that is a cancellation point. Where there is a lock, the thread cannot be cancelled
 * between the two calls: the lock would stay at its temporary number for good. */
int lock_detach_uncancelled(int fd, int *cancelling);
void lock_close_uncancelled(int lock, int cancelling);

/* The lowest of the library's own descriptors in the set, from `from` to `last`; -1: none. */
int next_own(const struct open_fds *open, unsigned from, unsigned last);
/* For close_range: locks_defer before it closes the program's descriptors, locks_close_unused after it. `open` is the
 * set of descriptors before the call. */
void locks_defer(const struct open_fds *open, unsigned first, unsigned last);
void locks_close_unused(const struct open_fds *open, unsigned first, unsigned last);

/* After exec, and in the forked child of a process with threads: attaches each inherited lock to its file, and closes
 * the locks that are left over. */
void locks_reconcile(void);

#endif
