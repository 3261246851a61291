/*
 * sys.c - the system calls behind the table aiofs_sys: one function per call, no state, no locks. In a cached section
 * (cached.h) those that may wait for a disk are not made.
 *
 * They are raw system calls. libc's wrappers are cancellation points and set errno, and some libcs lack wrappers
 * (cachestat, io_uring, openat2).
 */
#define _GNU_SOURCE
#include "cached.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

_Static_assert(sizeof(long) == 8, "aiofs needs a 64-bit Linux");

#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif
#ifndef SYS_openat2
#define SYS_openat2 437
#endif
#ifndef SYS_faccessat2
#define SYS_faccessat2 439
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif

/* Returns the kernel's result, a negated errno on failure; leaves errno alone. */
static inline long kernel(long number, long a, long b, long c, long d, long e, long f)
{
#if defined(__x86_64__)
    long answer;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(answer)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return answer;
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory");
    return x0;
#else
    int saved = errno;
    long answer = syscall(number, a, b, c, d, e, f);
    if (answer == -1) {
        answer = -errno;
        errno = saved;
    }
    return answer;
#endif
}

/* KERNEL(number, up to six arguments) makes the system call; missing arguments are 0. */
#define KERNEL(...) KERNEL_(__VA_ARGS__, 0, 0, 0, 0, 0, 0, 0)
#define KERNEL_(number, a, b, c, d, e, f, ...)                                                                         \
    kernel(number, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

static ssize_t sys_read(int fd, void *buffer, size_t size)
{
    return KERNEL(SYS_read, fd, buffer, size);
}

static ssize_t sys_write(int fd, const void *buffer, size_t size)
{
    return KERNEL(SYS_write, fd, buffer, size);
}

static ssize_t sys_preadv2(int fd, const struct iovec *iov, int iovcnt, int64_t offset, int flags)
{
    return KERNEL(SYS_preadv2, fd, iov, iovcnt, offset, 0L, flags);
}

static ssize_t sys_pwritev2(int fd, const struct iovec *iov, int iovcnt, int64_t offset, int flags)
{
    return KERNEL(SYS_pwritev2, fd, iov, iovcnt, offset, 0L, flags);
}

static ssize_t sys_pread64(int fd, void *buffer, size_t size, int64_t offset)
{
    return KERNEL(SYS_pread64, fd, buffer, size, offset);
}

static ssize_t sys_pwrite64(int fd, const void *buffer, size_t size, int64_t offset)
{
    return KERNEL(SYS_pwrite64, fd, buffer, size, offset);
}

static ssize_t sys_recvmsg(int fd, struct msghdr *message, int flags)
{
    return KERNEL(SYS_recvmsg, fd, message, flags);
}

static ssize_t sys_sendmsg(int fd, const struct msghdr *message, int flags)
{
    return KERNEL(SYS_sendmsg, fd, message, flags);
}

static int sys_fsync(int fd)
{
    if (cached_refuse())
        return -EAGAIN;
    return (int)KERNEL(SYS_fsync, fd);
}

static int sys_fdatasync(int fd)
{
    if (cached_refuse())
        return -EAGAIN;
    return (int)KERNEL(SYS_fdatasync, fd);
}

static int sys_ftruncate(int fd, int64_t size)
{
    if (cached_refuse())
        return -EAGAIN;
    return (int)KERNEL(SYS_ftruncate, fd, size);
}

static int sys_cachestat(int fd, int64_t offset, uint64_t length, struct aiofs_cachestat *out)
{
    struct {
        uint64_t offset, length;
    } range = {(uint64_t)offset, length};
    return (int)KERNEL(SYS_cachestat, fd, &range, out, 0);
}

static ssize_t sys_copy_file_range(int from, int64_t *from_offset, int to, int64_t *to_offset, size_t size)
{
    if (cached_refuse())
        return -EAGAIN;
    return KERNEL(SYS_copy_file_range, from, from_offset, to, to_offset, size, 0);
}

static int sys_close(int fd)
{
    return (int)KERNEL(SYS_close, fd);
}

static int sys_close_range(unsigned first, unsigned last, unsigned flags)
{
    return (int)KERNEL(SYS_close_range, first, last, flags);
}

static int sys_unshare(int flags)
{
    return (int)KERNEL(SYS_unshare, flags);
}

static int sys_dup3(int from, int to, int flags)
{
    return (int)KERNEL(SYS_dup3, from, to, flags);
}

static int sys_fcntl(int fd, int command, long argument)
{
    return (int)KERNEL(SYS_fcntl, fd, command, argument);
}

static int sys_ioctl(int fd, unsigned long request, void *argument)
{
    if (cached_refuse())
        return -EAGAIN;
    return (int)KERNEL(SYS_ioctl, fd, request, argument);
}

static int sys_fstat(int fd, struct stat *out)
{
    return (int)KERNEL(SYS_fstat, fd, out);
}

static int sys_fstatfs(int fd, struct statfs *out)
{
    return (int)KERNEL(SYS_fstatfs, fd, out);
}

static int64_t sys_lseek(int fd, int64_t offset, int whence)
{
    return KERNEL(SYS_lseek, fd, offset, whence);
}

static int sys_fchmod(int fd, mode_t mode)
{
    if (cached_refuse())
        return -EAGAIN;
    return (int)KERNEL(SYS_fchmod, fd, mode);
}

static int sys_fchown(int fd, uid_t owner, gid_t group)
{
    if (cached_refuse())
        return -EAGAIN;
    return (int)KERNEL(SYS_fchown, fd, owner, group);
}

static ssize_t sys_flistxattr(int fd, char *names, size_t size)
{
    if (cached_refuse())
        return -EAGAIN;
    return KERNEL(SYS_flistxattr, fd, names, size);
}

static ssize_t sys_fgetxattr(int fd, const char *name, void *value, size_t size)
{
    if (cached_refuse())
        return -EAGAIN;
    return KERNEL(SYS_fgetxattr, fd, name, value, size);
}

static int sys_fsetxattr(int fd, const char *name, const void *value, size_t size, int flags)
{
    if (cached_refuse())
        return -EAGAIN;
    return (int)KERNEL(SYS_fsetxattr, fd, name, value, size, flags);
}

static int sys_fremovexattr(int fd, const char *name)
{
    if (cached_refuse())
        return -EAGAIN;
    return (int)KERNEL(SYS_fremovexattr, fd, name);
}

static int sys_eventfd(unsigned count, int flags)
{
    return (int)KERNEL(SYS_eventfd2, count, flags);
}

static int sys_pipe2(int pair[2], int flags)
{
    return (int)KERNEL(SYS_pipe2, pair, flags);
}

static int sys_pidfd_open(pid_t thread, unsigned flags)
{
    return (int)KERNEL(SYS_pidfd_open, thread, flags);
}

static int sys_pidfd_getfd(int pidfd, int fd, unsigned flags)
{
    return (int)KERNEL(SYS_pidfd_getfd, pidfd, fd, flags);
}

static int sys_kcmp(pid_t one, pid_t other, int type, int first, int second)
{
    return (int)KERNEL(SYS_kcmp, one, other, type, first, second);
}

static int sys_socketpair(int domain, int type, int protocol, int pair[2])
{
    return (int)KERNEL(SYS_socketpair, domain, type, protocol, pair);
}

static int sys_getrlimit(int resource, struct rlimit *out)
{
    return (int)KERNEL(SYS_prlimit64, 0, resource, NULL, out);
}

static int sys_getrusage(int who, struct rusage *out)
{
    return (int)KERNEL(SYS_getrusage, who, out);
}

static int sys_uname(struct utsname *out)
{
    return (int)KERNEL(SYS_uname, out);
}

static int sys_io_uring_setup(unsigned entries, struct io_uring_params *params)
{
    return (int)KERNEL(SYS_io_uring_setup, entries, params);
}

static int sys_io_uring_enter(int fd, unsigned submit, unsigned complete, unsigned flags, const void *argument,
                              size_t size)
{
    return (int)KERNEL(SYS_io_uring_enter, fd, submit, complete, flags, argument, size);
}

static int sys_io_uring_register(int fd, unsigned opcode, void *argument, unsigned count)
{
    return (int)KERNEL(SYS_io_uring_register, fd, opcode, argument, count);
}

static int sys_epoll_create1(int flags)
{
    return (int)KERNEL(SYS_epoll_create1, flags);
}

static int sys_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event)
{
    return (int)KERNEL(SYS_epoll_ctl, epoll, operation, fd, event);
}

static int sys_epoll_wait(int epoll, struct epoll_event *events, int count, int timeout_ms)
{
    return (int)KERNEL(SYS_epoll_pwait, epoll, events, count, timeout_ms, NULL, 8);
}

static int sys_futex(_Atomic uint32_t *word, int operation, uint32_t value, const struct timespec *timeout,
                     uint32_t bits)
{
    return (int)KERNEL(SYS_futex, word, operation, value, timeout, NULL, bits);
}

static int sys_rt_sigqueueinfo(pid_t pid, int signo, siginfo_t *info)
{
    return (int)KERNEL(SYS_rt_sigqueueinfo, pid, signo, info);
}

static int sys_openat(int dirfd, const char *path, int flags, mode_t mode)
{
    if (cached_only)
        return cached_openat(dirfd, path, flags, 0);
    return (int)KERNEL(SYS_openat, dirfd, path, flags, mode);
}

static int sys_openat2(int dirfd, const char *path, int flags, mode_t mode, uint64_t resolve)
{
    if (cached_only && !(resolve & RESOLVE_CACHED))
        return cached_openat(dirfd, path, flags, resolve);
    struct open_how how = {
        .flags = (uint64_t)(unsigned)flags,
        .mode = flags & (O_CREAT | __O_TMPFILE) ? mode & 07777 : 0,
        .resolve = resolve,
    };
    return (int)KERNEL(SYS_openat2, dirfd, path, &how, sizeof how);
}

static int sys_fstatat(int dirfd, const char *path, struct stat *out, int flags)
{
    if (cached_only)
        return cached_fstatat(dirfd, path, out, flags);
    return (int)KERNEL(SYS_newfstatat, dirfd, path, out, flags);
}

static int sys_statx(int dirfd, const char *path, int flags, unsigned mask, struct statx *out)
{
    return (int)KERNEL(SYS_statx, dirfd, path, flags, mask, out);
}

static int sys_mkdirat(int dirfd, const char *path, mode_t mode)
{
    if (cached_refuse())
        return -EAGAIN;
    return (int)KERNEL(SYS_mkdirat, dirfd, path, mode);
}

static int sys_unlinkat(int dirfd, const char *path, int flags)
{
    if (cached_refuse())
        return -EAGAIN;
    return (int)KERNEL(SYS_unlinkat, dirfd, path, flags);
}

static int sys_renameat2(int fromfd, const char *from, int tofd, const char *to, unsigned flags)
{
    if (cached_refuse())
        return -EAGAIN;
    return (int)KERNEL(SYS_renameat2, fromfd, from, tofd, to, flags);
}

static ssize_t sys_readlinkat(int dirfd, const char *path, char *out, size_t size)
{
    if (cached_refuse())
        return -EAGAIN;
    return KERNEL(SYS_readlinkat, dirfd, path, out, size);
}

static int sys_fchmodat2(int dirfd, const char *path, mode_t mode, int flags)
{
    if (cached_refuse())
        return -EAGAIN;
    if (flags == 0)
        return (int)KERNEL(SYS_fchmodat, dirfd, path, mode);
#ifdef SYS_fchmodat2
    return (int)KERNEL(SYS_fchmodat2, dirfd, path, mode, flags);
#else
    return -ENOSYS;
#endif
}

static int sys_utimensat(int dirfd, const char *path, const struct timespec times[2], int flags)
{
    if (cached_refuse())
        return -EAGAIN;
    return (int)KERNEL(SYS_utimensat, dirfd, path, times, flags);
}

static int sys_symlinkat(const char *target, int dirfd, const char *path)
{
    if (cached_refuse())
        return -EAGAIN;
    return (int)KERNEL(SYS_symlinkat, target, dirfd, path);
}

static int sys_linkat(int fromfd, const char *from, int tofd, const char *to, int flags)
{
    if (cached_refuse())
        return -EAGAIN;
    return (int)KERNEL(SYS_linkat, fromfd, from, tofd, to, flags);
}

static int sys_faccessat(int dirfd, const char *path, int mode, int flags)
{
    if (cached_refuse())
        return -EAGAIN;
    long status = flags ? KERNEL(SYS_faccessat2, dirfd, path, mode, flags) : -ENOSYS;
    return (int)(status == -ENOSYS || status == -EPERM ? KERNEL(SYS_faccessat, dirfd, path, mode) : status);
}

static ssize_t sys_getdents64(int fd, void *buffer, size_t size)
{
    if (cached_refuse())
        return -EAGAIN;
    return KERNEL(SYS_getdents64, fd, buffer, size);
}

struct aiofs_sys aiofs_sys = {
    .read = sys_read,
    .write = sys_write,
    .preadv2 = sys_preadv2,
    .pwritev2 = sys_pwritev2,
    .pread64 = sys_pread64,
    .pwrite64 = sys_pwrite64,
    .recvmsg = sys_recvmsg,
    .sendmsg = sys_sendmsg,
    .fsync = sys_fsync,
    .fdatasync = sys_fdatasync,
    .ftruncate = sys_ftruncate,
    .cachestat = sys_cachestat,
    .copy_file_range = sys_copy_file_range,
    .close = sys_close,
    .close_range = sys_close_range,
    .unshare = sys_unshare,
    .dup3 = sys_dup3,
    .fcntl = sys_fcntl,
    .ioctl = sys_ioctl,
    .fstat = sys_fstat,
    .fstatfs = sys_fstatfs,
    .lseek = sys_lseek,
    .fchmod = sys_fchmod,
    .fchown = sys_fchown,
    .flistxattr = sys_flistxattr,
    .fgetxattr = sys_fgetxattr,
    .fsetxattr = sys_fsetxattr,
    .fremovexattr = sys_fremovexattr,
    .eventfd = sys_eventfd,
    .pipe2 = sys_pipe2,
    .pidfd_open = sys_pidfd_open,
    .pidfd_getfd = sys_pidfd_getfd,
    .kcmp = sys_kcmp,
    .socketpair = sys_socketpair,
    .getrlimit = sys_getrlimit,
    .getrusage = sys_getrusage,
    .uname = sys_uname,
    .io_uring_setup = sys_io_uring_setup,
    .io_uring_enter = sys_io_uring_enter,
    .io_uring_register = sys_io_uring_register,
    .epoll_create1 = sys_epoll_create1,
    .epoll_ctl = sys_epoll_ctl,
    .epoll_wait = sys_epoll_wait,
    .futex = sys_futex,
    .rt_sigqueueinfo = sys_rt_sigqueueinfo,
    .openat = sys_openat,
    .openat2 = sys_openat2,
    .fstatat = sys_fstatat,
    .statx = sys_statx,
    .mkdirat = sys_mkdirat,
    .unlinkat = sys_unlinkat,
    .renameat2 = sys_renameat2,
    .readlinkat = sys_readlinkat,
    .fchmodat2 = sys_fchmodat2,
    .utimensat = sys_utimensat,
    .symlinkat = sys_symlinkat,
    .linkat = sys_linkat,
    .faccessat = sys_faccessat,
    .getdents64 = sys_getdents64,
};
