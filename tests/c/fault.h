/*
 * fault.h - fault injection: chosen system calls of the engine fail, are short, are interrupted, or are slow.
 *
 * The engine calls the kernel through one table (aiofs/sys/sys.h). fault_attach replaces each entry by a function that
 * counts the calls and injects the fault that is set. A C test includes this file. A Python test loads fault.c as a
 * shared library, built with -DFAULT_LIBRARY, and passes the address of the table of its libaiofs.so to fault_attach.
 *
 * Each function has at most one fault. `nth` selects the calls after fault_inject: 1 the first, 2 the second, ...; 0
 * every call; -1 every other call, from the first on. The threads of the engine read the faults, so these are atomic.
 * Call fault_attach before the engine starts.
 *
 * fault_kill_at kills the process before the nth system call of any kind from then on.
 */
#ifndef FAULT_H
#define FAULT_H

#include <errno.h>
#include <linux/io_uring.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

#include "sys.h"

enum fault_kind {
    FAULT_NONE,
    FAULT_ERROR, /* the call is not made and fails with errno `value` */
    FAULT_SHORT, /* moves at most `value` bytes; io_uring_setup: `value` entries; other calls: no fault */
    FAULT_DELAY, /* the call is made `value` microseconds later */
    FAULT_NOWAIT, /* preadv2 and pwritev2 with RWF_NOWAIT fail with errno `value` */
    FAULT_LOCK, /* the call is made when the fault is cleared or replaced */
    FAULT_SPIN, /* as FAULT_DELAY, but the thread does not sleep */
};

int fault_attach(void *table);
int fault_inject(const char *name, long nth, int kind, long value);
long fault_calls(const char *name);
void fault_clear(void);
void fault_kill_at(long nth);
const char *fault_name(int index);

#define FAULT_CALLS(X)                                                                                                  \
    X(read) X(write) X(preadv2) X(pwritev2) X(pread64) X(pwrite64) X(recvmsg) X(sendmsg) X(fsync) X(fdatasync)          \
    X(ftruncate) X(cachestat) X(close) X(close_range) X(unshare) X(fcntl) X(ioctl) X(fstat) X(fstatfs) X(lseek)                  \
    X(eventfd) X(pipe2) X(pidfd_open) X(pidfd_getfd) X(kcmp) X(socketpair) X(getrlimit) X(getrusage) X(uname) X(io_uring_setup)              \
    X(io_uring_enter) X(io_uring_register) X(epoll_create1) X(epoll_ctl) X(epoll_wait) X(futex)                 \
    X(rt_sigqueueinfo) X(openat) X(openat2) X(fstatat) X(mkdirat) X(unlinkat) X(renameat2) X(readlinkat)                \
    X(faccessat) X(getdents64) X(copy_file_range) X(fchmod) X(fchown) X(flistxattr) X(fgetxattr) X(fsetxattr)           \
    X(utimensat) X(fremovexattr) X(statx)

enum fault_call {
#define X(name) FAULT_##name,
    FAULT_CALLS(X)
#undef X
        FAULT_CALL_COUNT
};

static const char *const fault_names[] = {
#define X(name) #name,
    FAULT_CALLS(X)
#undef X
};

static struct fault {
    _Atomic long calls, at, value; /* `at`: the number of the first call to fail */
    _Atomic long nth;
    _Atomic int kind;
} faults[FAULT_CALL_COUNT];

static struct aiofs_sys fault_real;
static _Atomic long fault_lives; /* calls until the process is killed; 0: it is not */

static void fault_spin(long us)
{
    struct timespec now, begun;
    clock_gettime(CLOCK_MONOTONIC, &begun);
    do
        clock_gettime(CLOCK_MONOTONIC, &now);
    while ((now.tv_sec - begun.tv_sec) * 1000000 + (now.tv_nsec - begun.tv_nsec) / 1000 < us);
}

/* Counts a call, and returns the fault for it. `binds`: the call passes a descriptor; it can fail, but is never delayed
 * or short. */
static enum fault_kind fault_meet(enum fault_call call, long *value, bool binds)
{
    struct fault *fault = &faults[call];
    long count = atomic_fetch_add(&fault->calls, 1) + 1;
    if (atomic_load(&fault_lives) > 0 && atomic_fetch_sub(&fault_lives, 1) == 1)
        raise(SIGKILL);
    enum fault_kind kind = (enum fault_kind)atomic_load(&fault->kind);
    if (kind == FAULT_NONE || (binds && kind != FAULT_ERROR))
        return FAULT_NONE;
    long nth = atomic_load(&fault->nth), at = atomic_load(&fault->at);
    *value = atomic_load(&fault->value);
    bool met = nth == 0 || (nth < 0 ? (count - at) % 2 == 0 : count == at);
    if (met && kind == FAULT_DELAY) {
        struct timespec pause = {*value / 1000000, *value % 1000000 * 1000};
        nanosleep(&pause, NULL);
        return FAULT_NONE;
    }
    if (met && kind == FAULT_SPIN) {
        fault_spin(*value);
        return FAULT_NONE;
    }
    if (met && kind == FAULT_LOCK) {
        while (atomic_load(&fault->kind) == FAULT_LOCK)
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        return FAULT_NONE;
    }
    return met ? kind : FAULT_NONE;
}

/* Defines the function for a call that moves no bytes. */
#define FAULT_WRAP(type, name, parameters, ...)                                                                         \
    static type fault_##name parameters                                                                                 \
    {                                                                                                                   \
        long value = 0;                                                                                                 \
        enum fault_kind kind = fault_meet(FAULT_##name, &value, false);                                                 \
        if (kind == FAULT_ERROR)                                                                                        \
            return (type)-value;                                                                                        \
        return fault_real.name(__VA_ARGS__);                                                                            \
    }

/* Defines the function for a call that moves bytes. `setup` shortens its arguments for FAULT_SHORT. */
#define FAULT_WRAP_DATA(name, parameters, binds, nowait, setup, ...)                                                                   \
    static ssize_t fault_##name parameters                                                                              \
    {                                                                                                                   \
        long value = 0;                                                                                                 \
        enum fault_kind kind = fault_meet(FAULT_##name, &value, binds);                                                  \
        if (kind == FAULT_ERROR || (kind == FAULT_NOWAIT && (nowait)))                                                  \
            return -value;                                                                                              \
        struct iovec cut;                                                                                               \
        setup;                                                                                                          \
        return fault_real.name(__VA_ARGS__);                                                                            \
    }

static int fault_cut(enum fault_kind kind, long limit, const struct iovec **pieces, int count, struct iovec *cut)
{
    if (kind != FAULT_SHORT || count == 0)
        return count;
    *cut = (*pieces)[0];
    if (cut->iov_len > (size_t)limit)
        cut->iov_len = (size_t)limit;
    *pieces = cut;
    return 1;
}

static struct msghdr fault_cut_message(enum fault_kind kind, long limit, const struct msghdr *message, struct iovec *cut)
{
    struct msghdr shorter = *message;
    const struct iovec *pieces = message->msg_iov;
    if (message->msg_control)
        return shorter;
    shorter.msg_iovlen = (size_t)fault_cut(kind, limit, &pieces, (int)message->msg_iovlen, cut);
    shorter.msg_iov = (struct iovec *)pieces;
    return shorter;
}

FAULT_WRAP_DATA(preadv2, (int fd, const struct iovec *iov, int iovcnt, int64_t offset, int flags),
                false, flags &RWF_NOWAIT,
                iovcnt = fault_cut(kind, value, &iov, iovcnt, &cut), fd, iov, iovcnt, offset, flags)
FAULT_WRAP_DATA(pwritev2, (int fd, const struct iovec *iov, int iovcnt, int64_t offset, int flags),
                false, flags &RWF_NOWAIT,
                iovcnt = fault_cut(kind, value, &iov, iovcnt, &cut), fd, iov, iovcnt, offset, flags)
FAULT_WRAP_DATA(sendmsg, (int fd, const struct msghdr *message, int flags), message->msg_control != NULL, false,
                struct msghdr shorter = fault_cut_message(kind, value, message, &cut), fd, &shorter, flags)

/* Copies the fields of the message header that the kernel sets. */
static ssize_t fault_recvmsg(int fd, struct msghdr *message, int flags)
{
    long value = 0;
    struct iovec cut;
    enum fault_kind kind = fault_meet(FAULT_recvmsg, &value, message->msg_control != NULL);
    if (kind == FAULT_ERROR)
        return -value;
    struct msghdr shorter = fault_cut_message(kind, value, message, &cut);
    ssize_t answer = fault_real.recvmsg(fd, &shorter, flags);
    message->msg_controllen = shorter.msg_controllen;
    message->msg_flags = shorter.msg_flags;
    return answer;
}

static ssize_t fault_pread64(int fd, void *buffer, size_t size, int64_t offset)
{
    long value = 0;
    enum fault_kind kind = fault_meet(FAULT_pread64, &value, false);
    size_t most = kind == FAULT_SHORT && size > (size_t)value ? (size_t)value : size;
    return kind == FAULT_ERROR ? -value : fault_real.pread64(fd, buffer, most, offset);
}

static ssize_t fault_pwrite64(int fd, const void *buffer, size_t size, int64_t offset)
{
    long value = 0;
    enum fault_kind kind = fault_meet(FAULT_pwrite64, &value, false);
    size_t most = kind == FAULT_SHORT && size > (size_t)value ? (size_t)value : size;
    return kind == FAULT_ERROR ? -value : fault_real.pwrite64(fd, buffer, most, offset);
}

static int fault_io_uring_setup(unsigned entries, struct io_uring_params *params)
{
    long value = 0;
    enum fault_kind kind = fault_meet(FAULT_io_uring_setup, &value, false);
    if (kind == FAULT_ERROR)
        return (int)-value;
    if (kind == FAULT_SHORT) {
        entries = (unsigned)value;
        params->cq_entries = (unsigned)value;
    }
    return fault_real.io_uring_setup(entries, params);
}

FAULT_WRAP(int, fsync, (int fd), fd)
FAULT_WRAP(int, fdatasync, (int fd), fd)
FAULT_WRAP(int, ftruncate, (int fd, int64_t size), fd, size)
FAULT_WRAP(int, cachestat, (int fd, int64_t offset, uint64_t length, struct aiofs_cachestat *out), fd, offset, length,
           out)
FAULT_WRAP(int, close_range, (unsigned first, unsigned last, unsigned flags), first, last, flags)
FAULT_WRAP(int, unshare, (int flags), flags)
FAULT_WRAP(int, fcntl, (int fd, int command, long argument), fd, command, argument)
FAULT_WRAP(int, ioctl, (int fd, unsigned long request, void *argument), fd, request, argument)
FAULT_WRAP(int, fstat, (int fd, struct stat *out), fd, out)
FAULT_WRAP(int, fstatfs, (int fd, struct statfs *out), fd, out)
FAULT_WRAP(int64_t, lseek, (int fd, int64_t offset, int whence), fd, offset, whence)
FAULT_WRAP(int, eventfd, (unsigned count, int flags), count, flags)
FAULT_WRAP(int, pipe2, (int pair[2], int flags), pair, flags)
FAULT_WRAP(int, pidfd_open, (pid_t thread, unsigned flags), thread, flags)
FAULT_WRAP(int, pidfd_getfd, (int pidfd, int fd, unsigned flags), pidfd, fd, flags)
FAULT_WRAP(int, kcmp, (pid_t one, pid_t other, int type, int first, int second), one, other, type, first, second)
FAULT_WRAP(ssize_t, read, (int fd, void *buffer, size_t size), fd, buffer, size)
FAULT_WRAP(ssize_t, write, (int fd, const void *buffer, size_t size), fd, buffer, size)
FAULT_WRAP(int, socketpair, (int domain, int type, int protocol, int pair[2]), domain, type, protocol, pair)
FAULT_WRAP(int, getrlimit, (int resource, struct rlimit *out), resource, out)
FAULT_WRAP(int, getrusage, (int who, struct rusage *out), who, out)
FAULT_WRAP(int, uname, (struct utsname * out), out)
FAULT_WRAP(int, io_uring_enter,
           (int fd, unsigned submit, unsigned complete, unsigned flags, const void *argument, size_t size), fd, submit,
           complete, flags, argument, size)
FAULT_WRAP(int, io_uring_register, (int fd, unsigned opcode, void *argument, unsigned count), fd, opcode, argument,
           count)
FAULT_WRAP(int, epoll_create1, (int flags), flags)
FAULT_WRAP(int, epoll_ctl, (int epoll, int operation, int fd, struct epoll_event *event), epoll, operation, fd, event)
FAULT_WRAP(int, epoll_wait, (int epoll, struct epoll_event *events, int count, int timeout_ms), epoll, events, count,
           timeout_ms)
FAULT_WRAP(int, futex,
           (_Atomic uint32_t * word, int operation, uint32_t expected, const struct timespec *timeout, uint32_t bits),
           word, operation, expected, timeout, bits)
FAULT_WRAP(int, rt_sigqueueinfo, (pid_t pid, int signo, siginfo_t *info), pid, signo, info)
FAULT_WRAP(int, openat, (int dirfd, const char *path, int flags, mode_t mode), dirfd, path, flags, mode)
FAULT_WRAP(int, openat2, (int dirfd, const char *path, int flags, mode_t mode, uint64_t resolve), dirfd, path, flags,
           mode, resolve)
FAULT_WRAP(int, fstatat, (int dirfd, const char *path, struct stat *out, int flags), dirfd, path, out, flags)
FAULT_WRAP(int, statx, (int dirfd, const char *path, int flags, unsigned mask, struct statx *out), dirfd, path, flags,
           mask, out)
FAULT_WRAP(int, mkdirat, (int dirfd, const char *path, mode_t mode), dirfd, path, mode)
FAULT_WRAP(int, unlinkat, (int dirfd, const char *path, int flags), dirfd, path, flags)
FAULT_WRAP(int, renameat2, (int fromfd, const char *from, int tofd, const char *to, unsigned flags), fromfd, from, tofd,
           to, flags)
FAULT_WRAP(ssize_t, readlinkat, (int dirfd, const char *path, char *out, size_t size), dirfd, path, out, size)
FAULT_WRAP(int, faccessat, (int dirfd, const char *path, int mode, int flags), dirfd, path, mode, flags)
FAULT_WRAP(ssize_t, getdents64, (int fd, void *buffer, size_t size), fd, buffer, size)
FAULT_WRAP(int, fchmod, (int fd, mode_t mode), fd, mode)
FAULT_WRAP(int, fchown, (int fd, uid_t owner, gid_t group), fd, owner, group)
FAULT_WRAP(ssize_t, flistxattr, (int fd, char *names, size_t size), fd, names, size)
FAULT_WRAP(ssize_t, fgetxattr, (int fd, const char *name, void *to, size_t size), fd, name, to, size)
FAULT_WRAP(int, fsetxattr, (int fd, const char *name, const void *from, size_t size, int flags), fd, name, from, size,
           flags)
FAULT_WRAP(int, fremovexattr, (int fd, const char *name), fd, name)
FAULT_WRAP(int, utimensat, (int dirfd, const char *path, const struct timespec times[2], int flags), dirfd, path, times,
           flags)

static ssize_t fault_copy_file_range(int from, int64_t *from_offset, int to, int64_t *to_offset, size_t size)
{
    long value = 0;
    enum fault_kind kind = fault_meet(FAULT_copy_file_range, &value, false);
    size_t most = kind == FAULT_SHORT && size > (size_t)value ? (size_t)value : size;
    return kind == FAULT_ERROR ? -value : fault_real.copy_file_range(from, from_offset, to, to_offset, most);
}

/* A close that fails has closed the descriptor, as in the kernel. */
static int fault_close(int fd)
{
    long value = 0;
    enum fault_kind kind = fault_meet(FAULT_close, &value, false);
    int answer = fault_real.close(fd);
    return kind == FAULT_ERROR ? (int)-value : answer;
}

static int fault_find(const char *name)
{
    for (int call = 0; call < FAULT_CALL_COUNT; call++)
        if (strcmp(name, fault_names[call]) == 0)
            return call;
    return -1;
}

/* -1: it was called before. */
int fault_attach(void *table)
{
    struct aiofs_sys *calls = table;
    if (fault_real.close)
        return -1;
    fault_real = *calls;
#define X(name) calls->name = fault_##name;
    FAULT_CALLS(X)
#undef X
    return 0;
}

/* -1: there is no such call. */
int fault_inject(const char *name, long nth, int kind, long value)
{
    int call = fault_find(name);
    if (call < 0)
        return -1;
    struct fault *fault = &faults[call];
    atomic_store(&fault->kind, FAULT_NONE);
    atomic_store(&fault->nth, nth);
    atomic_store(&fault->at, atomic_load(&fault->calls) + (nth < 0 ? 1 : nth));
    atomic_store(&fault->value, value);
    atomic_store(&fault->kind, kind);
    return 0;
}

/* The number of calls so far; -1: there is no such call. */
long fault_calls(const char *name)
{
    int call = fault_find(name);
    return call < 0 ? -1 : atomic_load(&faults[call].calls);
}

void fault_clear(void)
{
    for (int call = 0; call < FAULT_CALL_COUNT; call++)
        atomic_store(&faults[call].kind, FAULT_NONE);
}

void fault_kill_at(long nth)
{
    atomic_store(&fault_lives, nth);
}

/* The name of the call at `index`; NULL: there is none. */
const char *fault_name(int index)
{
    return index >= 0 && index < FAULT_CALL_COUNT ? fault_names[index] : NULL;
}

#endif
