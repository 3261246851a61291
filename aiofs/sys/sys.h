/*
 * sys.h - the table of system calls. entries/, engine/, posix/ and preload/ make every system call through it, except
 * those for memory, threads and clocks.
 *
 * Each function returns the kernel's result: >= 0, or a negated errno; it leaves errno alone. A test replaces an entry
 * of the table (see tests/c/fault.c) to make the n-th call fail, return short, or be interrupted.
 *
 * The table is a global variable without a lock: a test changes it while no other thread makes system calls.
 */
#ifndef AIOFS_SYS_H
#define AIOFS_SYS_H

#include <signal.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <time.h>

#include "clock.h"

struct io_uring_params;
struct statx;
struct utsname;
struct aiofs_cachestat {
    uint64_t cached, dirty, writeback, evicted, recently_evicted;
};

/* What getdents64 returns: struct linux_dirent64, see getdents64(2). */
struct aiofs_dirent {
    uint64_t ino;
    int64_t offset;
    unsigned short size; /* of this record: the distance to the next one */
    unsigned char type;
    char name[];
};

struct aiofs_sys {
    /* bytes */
    ssize_t (*read)(int fd, void *buffer, size_t size); /* of eventfds and pipes of the engine, and of no bytes at all */
    ssize_t (*write)(int fd, const void *buffer, size_t size);
    ssize_t (*preadv2)(int fd, const struct iovec *iov, int iovcnt, int64_t offset, int flags);
    ssize_t (*pwritev2)(int fd, const struct iovec *iov, int iovcnt, int64_t offset, int flags);
    ssize_t (*pread64)(int fd, void *buffer, size_t size, int64_t offset); /* cheaper than preadv2 for one buffer */
    ssize_t (*pwrite64)(int fd, const void *buffer, size_t size, int64_t offset);
    ssize_t (*recvmsg)(int fd, struct msghdr *message, int flags);
    ssize_t (*sendmsg)(int fd, const struct msghdr *message, int flags);
    int (*fsync)(int fd);
    int (*fdatasync)(int fd);
    int (*ftruncate)(int fd, int64_t size);
    int (*cachestat)(int fd, int64_t offset, uint64_t length, struct aiofs_cachestat *out);
    ssize_t (*copy_file_range)(int from, int64_t *from_offset, int to, int64_t *to_offset, size_t size);

    /* descriptors */
    int (*close)(int fd);
    int (*close_range)(unsigned first, unsigned last, unsigned flags);
    int (*unshare)(int flags);
    int (*dup3)(int from, int to, int flags);
    int (*fcntl)(int fd, int command, long argument);
    int (*ioctl)(int fd, unsigned long request, void *argument);
    int (*fstat)(int fd, struct stat *out);
    int (*fstatfs)(int fd, struct statfs *out);
    int64_t (*lseek)(int fd, int64_t offset, int whence);
    int (*fchmod)(int fd, mode_t mode);
    int (*fchown)(int fd, uid_t owner, gid_t group);
    ssize_t (*flistxattr)(int fd, char *names, size_t size);
    ssize_t (*fgetxattr)(int fd, const char *name, void *value, size_t size);
    int (*fsetxattr)(int fd, const char *name, const void *value, size_t size, int flags);
    int (*fremovexattr)(int fd, const char *name);
    int (*eventfd)(unsigned count, int flags);
    int (*pipe2)(int pair[2], int flags);
    int (*pidfd_open)(pid_t thread, unsigned flags);
    int (*pidfd_getfd)(int pidfd, int fd, unsigned flags);
    int (*kcmp)(pid_t one, pid_t other, int type, int first, int second);
    int (*socketpair)(int domain, int type, int protocol, int pair[2]);
    int (*getrlimit)(int resource, struct rlimit *out);
    int (*getrusage)(int who, struct rusage *out);
    int (*uname)(struct utsname *out);

    /* waiting */
    int (*io_uring_setup)(unsigned entries, struct io_uring_params *params);
    int (*io_uring_enter)(int fd, unsigned submit, unsigned complete, unsigned flags, const void *argument,
                          size_t size);
    int (*io_uring_register)(int fd, unsigned opcode, void *argument, unsigned count);
    int (*epoll_create1)(int flags);
    int (*epoll_ctl)(int epoll, int operation, int fd, struct epoll_event *event);
    int (*epoll_wait)(int epoll, struct epoll_event *events, int count, int timeout_ms);
    int (*futex)(_Atomic uint32_t *word, int operation, uint32_t value, const struct timespec *timeout, uint32_t bits);
    int (*rt_sigqueueinfo)(pid_t pid, int signo, siginfo_t *info);

    /* files and directories by path */
    int (*openat)(int dirfd, const char *path, int flags, mode_t mode);
    int (*openat2)(int dirfd, const char *path, int flags, mode_t mode, uint64_t resolve);
    int (*fstatat)(int dirfd, const char *path, struct stat *out, int flags);
    int (*statx)(int dirfd, const char *path, int flags, unsigned mask, struct statx *out);
    int (*mkdirat)(int dirfd, const char *path, mode_t mode);
    int (*unlinkat)(int dirfd, const char *path, int flags);
    int (*renameat2)(int fromfd, const char *from, int tofd, const char *to, unsigned flags);
    ssize_t (*readlinkat)(int dirfd, const char *path, char *out, size_t size);
    int (*fchmodat2)(int dirfd, const char *path, mode_t mode, int flags); /* flags 0: as fchmodat */
    int (*utimensat)(int dirfd, const char *path, const struct timespec times[2], int flags); /* path NULL: of dirfd */
    int (*symlinkat)(const char *target, int dirfd, const char *path);
    int (*linkat)(int fromfd, const char *from, int tofd, const char *to, int flags);
    int (*faccessat)(int dirfd, const char *path, int mode, int flags);
    ssize_t (*getdents64)(int fd, void *buffer, size_t size);
};

extern AIOFS_API struct aiofs_sys aiofs_sys;

#endif
