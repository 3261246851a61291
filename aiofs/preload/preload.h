/*
 * preload.h - libaiofs-run.so: what `aiofs run --volume` puts between a program and its libc.
 *
 * Every file of a volume that a program opens for writing holds the lock of its entry, for as long as a
 * descriptor of it is open in some process. The kernel does the counting: a lock is an open file description of a
 * lock file (engine/lock.c says how it locks), and each descriptor of the program's file has a descriptor of that
 * description beside it, `base` numbers further up:
 *
 *     0                base               2 * base
 *     | the program's  | their locks      | session fds (run_session.c), and numbers that are used for a moment
 *       1 4 7            base+4 base+7      one for each volume
 *
 * So dup copies it, close closes it, fork and exec hand it on, and a process that dies lets go of it: nothing is
 * kept in memory, where a child of vfork or a signal handler could spoil it, and nothing needs a lock. Here the
 * program's descriptor 1 is a file without one. What the program does to descriptors of its own never reaches
 * ours: to it their numbers are closed.
 *
 * The offset of a lock's description says which file it was taken for (its device and inode, in 31 bits; what is
 * larger the filesystem may refuse). By that a new image finds what it inherited: see lock_settle.
 *
 *     run.c     start-up: the environment, libc's functions      place.c   where a path leads
 *     lock.c    the descriptors of locks                         open.c    open, fopen, mkstemp, ...
 *     numbers.c which descriptors are open                       close.c   close, dup, fcntl, ...
 *     deferred_close.c   a lock that stays while requests are in flight
 *     run_session.c      for the command, not for the program: it begins a session, and is part of _core
 *
 * Our own system calls go through the engine's table, so they are no cancellation points and leave errno alone.
 */
#ifndef AIOFS_PRELOAD_H
#define AIOFS_PRELOAD_H

#include <limits.h>
#include <stdio.h>

#include "engine.h"
#include "sys.h"
#include "volume.h"

/* ---- run.c --------------------------------------------------------------------------------------------------- */

enum { RUN_BASE_MAX = 4096, RUN_VOLUMES = 64, RUN_SPARE = 128 };

struct run {
    _Atomic int base; /* 0: there is no volume, and nothing to do. Written last. */
    int volumes;
    struct {
        int session_fd;
        const char *root; /* where it was when the session began */
        size_t length;
    } volume[RUN_VOLUMES];
};
extern struct run run;

/* libc's functions, or those of whoever stands before it. */
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
/* Ready for use, also before our constructor has run: then these are system calls. No allocation, no lock. */
const struct libc *libc_functions(void);

/* -1 and errno. */
int refuse(int error);

/* A function that takes the place of libc's, and another name of it. Its C name is run_NAME, so that the attributes
 * that the system's headers give to libc's, for the callers' sake, are not upon it. */
#define FACE(type, name, parameters)                                                                                  \
    AIOFS_API type run_##name parameters __asm__(#name);                                                              \
    type run_##name parameters
#define ALSO(name, other)                                                                                             \
    AIOFS_API extern __typeof__(run_##name) run_##other __asm__(#other) __attribute__((alias(#name)))

/* ---- place.c ------------------------------------------------------------------------------------------------- */

/* "/proc/self/fd/NUMBER", and what follows it in `out`; returns its end. */
enum { DESCRIPTOR_NAME = sizeof "/proc/self/fd/2147483647" };
char *descriptor_name(char *out, int fd);
/* The canonical path of what a descriptor is open on; its length, or -errno. */
ssize_t path_of_descriptor(int fd, char *out, size_t size);

struct place {
    int parent;       /* an O_PATH descriptor of the directory */
    const char *name; /* what is to be opened in it */
    uint64_t hash;    /* of the canonical path */
    int64_t session;     /* the byte of every entry's range that is this session's; 0: it has none any more */
    bool exists;
    struct paths *paths;
};

/* Where a path leads, links followed unless `nofollow`. 1: to a regular file of a volume, or to where one could be
 * made; 0: elsewhere; negative: -ENOENT for what is aiofs's own, or a resource is exhausted. After 1: place_done. */
int place_find(struct place *place, int dirfd, const char *path, bool nofollow);
void place_done(struct place *place);
/* The file that its lock is in: a descriptor or -errno. */
int place_open_lock_file(const struct place *place);

/* ---- numbers.c ----------------------------------------------------------------------------------------------- */

struct numbers {
    uint64_t bits[(2 * RUN_BASE_MAX + RUN_SPARE + RUN_VOLUMES) / 64];
};

/* The descriptors that are open now, as far as they matter here. */
void numbers_open(struct numbers *set);
/* The next in a set from `from` on, at most `last`; -1: none. */
int numbers_next(const struct numbers *set, unsigned from, unsigned last);

/* ---- deferred_close.c ---------------------------------------------------------------------------------------- */

/* True: requests are in flight on what `fd` is open on, and `lock` is closed when all of them have ended. False:
 * nothing was done. */
bool deferred_close(int fd, int lock);
/* At the start, and in the child of a fork. */
void deferred_close_set_up(void);

/* ---- lock.c -------------------------------------------------------------------------------------------------- */

/* Whether a number is one of ours: closed, as far as the program can tell. */
bool is_ours(int fd);

/* Moves a descriptor of ours away from the low numbers, which a program counts on. -errno, as what it is given. */
int move_up(int fd);

/* Takes the lock of a place. A descriptor of it, or -EBUSY: somebody else has it, -ENOLCK: the program has closed
 * our descriptors behind our back, -EMFILE, ...; *next is the number that the next open will probably get. */
int lock_take(const struct place *place, int *next);
/* Whether a descriptor's lock would find room. */
bool lock_has_room(int fd);
/* Makes a lock that was taken the descriptor's; if that fails it is gone. 0 or -EMFILE. */
int lock_give(int lock, int fd);
/* Gives `to` the lock that `from` has, if it has one. 0 or -EMFILE. lock_fits: whether it would find room. */
bool lock_fits(int from, int to);
int lock_copy(int from, int to);
/* Before a descriptor is closed: takes its lock away from it, for lock_end when it is (or lock_give). -1: it has
 * none, or requests are in flight on it and the lock goes with them. */
int lock_leave(int fd);
void lock_end(int lock);

/* Of those that are open: the next that is ours from `from` on, at most `last`; -1: none. */
int next_ours(const struct numbers *open, unsigned from, unsigned last);
/* Before the descriptors of a range are closed, and after it; `open`: those that were open before. */
void locks_linger(const struct numbers *open, unsigned first, unsigned last);
void locks_drop(const struct numbers *open, unsigned first, unsigned last);

/* After exec, and in the child of a process with threads: every file that was inherited gets its lock, and what is left is closed. */
void lock_settle(void);

#endif
