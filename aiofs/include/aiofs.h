/*
 * aiofs.h - what libaiofs adds to <aio.h>: locked files and completion descriptors. Link with -laiofs; `aiofs config`
 * prints the flags.
 *
 * libaiofs.so defines aio_read, aio_write, aio_fsync, aio_error, aio_return, aio_suspend, aio_cancel and lio_listio,
 * and their 64-bit names (aio_read64, ...), for the system's own struct aiocb. A program includes <aio.h>, and needs
 * nothing of this header for these functions. The exception is a shared object that is loaded into a running program:
 * its calls reach libc's functions, which the program found first. It defines AIOFS_REPLACE_AIO before it includes this
 * header, or calls the functions by their names with the prefix aiofs_.
 *
 * Rules of the road
 *
 *   fork      The child inherits no request of its parent, and no lock of the parent's aiofs_open. It opens its own
 *             files and completion descriptors. It may submit requests of its own.
 *   threads   Any thread may call any function. A signal handler may call aio_error, aio_return and aio_suspend. The
 *             engine's threads block all signals.
 *   memory    An aiocb and its buffer must stay where they are, unchanged, until the request is terminal.
 *   close     A request belongs to the open file: it continues after close, and never touches another file that gets
 *             the same number. Close a descriptor of aiofs_open with aiofs_close, and one of aiofs_completion_open
 *             with aiofs_completion_close; never with close.
 */
#ifndef AIOFS_H
#define AIOFS_H

#include <aio.h>
#include <signal.h>
#include <sys/types.h>
#include <time.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The functions of <aio.h>, by names that libc does not define. */
int aiofs_aio_read(struct aiocb *aiocbp);
int aiofs_aio_write(struct aiocb *aiocbp);
int aiofs_aio_fsync(int op, struct aiocb *aiocbp);
int aiofs_aio_error(const struct aiocb *aiocbp);
ssize_t aiofs_aio_return(struct aiocb *aiocbp);
int aiofs_aio_suspend(const struct aiocb *const list[], int nent, const struct timespec *timeout);
int aiofs_aio_cancel(int fildes, struct aiocb *aiocbp);
int aiofs_lio_listio(int mode, struct aiocb *const list[], int nent, struct sigevent *sig);

#ifdef AIOFS_REPLACE_AIO
#define aio_read aiofs_aio_read
#define aio_write aiofs_aio_write
#define aio_fsync aiofs_aio_fsync
#define aio_error aiofs_aio_error
#define aio_return aiofs_aio_return
#define aio_suspend aiofs_aio_suspend
#define aio_cancel aiofs_aio_cancel
#define lio_listio aiofs_lio_listio
#endif

/*
 * Opens the file `path` of the volume in the directory `volume`, as open(2) does with `flags` and, for O_CREAT, `mode`.
 * The path is relative to the volume's directory, with a leading slash or without. O_CLOEXEC is always added. Returns a
 * descriptor, which every system call accepts; close it with aiofs_close.
 *
 * An open for writing locks the file: no other process, FileSystem or access handle can open it for writing through
 * aiofs, until this process has closed the last descriptor that aiofs_open returned for it and the last request on it
 * is terminal, or until the process dies. This process may open the file again.
 *
 * O_CREAT also creates the volume's directory (mode 0700) if only its last component is missing. Symbolic links in the
 * path are refused. On failure returns -1 and sets errno: EBUSY another holder has locked the file; EXDEV the path
 * leaves the volume; ELOOP a symbolic link; or any errno of open(2).
 */
int aiofs_open(const char *volume, const char *path, int flags, ...);

/*
 * As aiofs_open, in a mode, and waits for the lock: first come, first served, among all threads and processes that wait
 * for it. `permissions` is for O_CREAT. `timeout` NULL waits without a limit; a timeout of zero does not wait.
 *
 * The modes, and who may have the file open at the same time through aiofs:
 *
 *     AIOFS_MODE_DEFAULT            as aiofs_open: in-place for writing, no lock for reading
 *     AIOFS_MODE_IN_PLACE           nobody, not this process either; also if it is opened for reading
 *     AIOFS_MODE_READ_ONLY          others in this mode; only with O_RDONLY
 *     AIOFS_MODE_READWRITE_UNSAFE   others in this mode
 *     AIOFS_MODE_EXCLUSIVE          nobody, not this process either
 *     AIOFS_MODE_SHARED             others in this mode
 *
 * In the last two modes the descriptor is one of a copy of the file (an empty one with O_TRUNC), open for reading and
 * writing. aiofs_close replaces the file by the copy, all or nothing, and aiofs_abort discards the copy; so does the end of
 * the process. O_RDONLY does not fit them. Of several copies in AIOFS_MODE_SHARED, the last one that is closed stays.
 *
 * It is no cancellation point. EBUSY: the time is up, or (without waiting) another holder has the lock or others wait for it. EINTR: a signal handler
 * ran while it waited. EINVAL: the mode is unknown, does not fit `flags`, or the time is invalid. Else as aiofs_open.
 */
enum aiofs_mode {
    AIOFS_MODE_DEFAULT,
    AIOFS_MODE_IN_PLACE,
    AIOFS_MODE_READ_ONLY,
    AIOFS_MODE_READWRITE_UNSAFE,
    AIOFS_MODE_EXCLUSIVE,
    AIOFS_MODE_SHARED
};
int aiofs_open_wait(const char *volume, const char *path, int flags, mode_t permissions, enum aiofs_mode mode,
                    const struct timespec *timeout);

/* A lock that is held or waited for. */
struct aiofs_lock_info {
    char *path;            /* relative to the volume */
    const char *mode;      /* "in-place", "exclusive", "shared", "read-only" or "readwrite-unsafe" */
    pid_t pid;             /* of its process, as that process knows itself */
    int waiting;           /* it is waited for, not held */
    struct timespec since; /* CLOCK_REALTIME: when it was taken, or the wait began */
};

/*
 * Lists the locks of a volume that processes of this machine hold, and those that they wait for, in the order of the
 * queue. Returns their number and the list, which the caller frees with aiofs_locks_free; or -1 with errno: ENOMEM, or any
 * errno of opening the volume. What `aiofs run` has locked is not listed.
 */
ssize_t aiofs_locks(const char *volume, struct aiofs_lock_info **list);
void aiofs_locks_free(struct aiofs_lock_info *list, ssize_t count);

/*
 * Closes a descriptor of aiofs_open or aiofs_open_wait, and releases its lock. In AIOFS_MODE_EXCLUSIVE and
 * AIOFS_MODE_SHARED it first waits for the requests in flight, and replaces the file by the copy, durably. Returns 0; or
 * -1 with errno EBADF: it is no such descriptor, or closed, or the parent process's; ENOENT: the file was removed
 * meanwhile; or any errno of fsync(2) and rename(2): then the file is the old one.
 */
int aiofs_close(int fd);

/* As aiofs_close, and discards the copy. */
int aiofs_abort(int fd);

/*
 * Opens a completion descriptor, for poll, select and epoll. It is readable when requests that name it are terminal.
 * read(2) of 8 bytes gives the number of requests that became terminal since the last read (a uint64_t, see
 * eventfd(2)). A request names it by
 *
 *     cb.aio_sigevent.sigev_notify = AIOFS_SIGEV_COMPLETION;
 *     cb.aio_sigevent.sigev_value.sival_int = descriptor;
 *
 * It has FD_CLOEXEC and O_NONBLOCK. On failure returns -1 and sets errno: EMFILE, ENFILE, ENOMEM or EAGAIN.
 */
#define AIOFS_SIGEV_COMPLETION 17
int aiofs_completion_open(void);

/* Closes a completion descriptor. Requests that name it and end later give no notice. Returns 0; or -1 with errno
 * EBADF. */
int aiofs_completion_close(int fd);

#ifdef __cplusplus
}
#endif

#endif
