/*
 * aiofs.h - what <aio.h> lacks. Link with -laiofs, see `aiofs config`.
 *
 * libaiofs.so defines aio_read, aio_write, aio_fsync, aio_error, aio_return, aio_suspend, aio_cancel and lio_listio,
 * and their names with 64, for the system's own struct aiocb: a program includes <aio.h> and needs nothing from
 * here for them. A shared object that is loaded into a running program finds libc's functions first: it defines
 * AIOFS_REPLACE_AIO before it includes this, or calls them by their names with aiofs_ in front.
 *
 * Rules of the road
 *
 *   fork      The child has none of its parent's requests, and no lock of the parent's aiofs_open: it opens its own
 *             files and completion descriptors. It may submit requests of its own.
 *   threads   Every function may be called by any thread; aio_error, aio_return and aio_suspend in signal handlers.
 *             The engine's threads block all signals.
 *   memory    An aiocb and its buffer stay where they are until the request is terminal, and untouched.
 *   close     A request belongs to the open file: it goes on after close, and never touches a file that has got the
 *             number. Give aiofs_close what aiofs_open gave, and aiofs_completion_close what
 *             aiofs_completion_open gave, never close.
 */
#ifndef AIOFS_H
#define AIOFS_H

#include <aio.h>
#include <signal.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* <aio.h>'s functions, by names that nobody else has. */
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
 * Opens `path` in the volume that is the directory `volume`, as open(2) does with `flags` and, for O_CREAT, `mode`;
 * the path begins at the volume's directory, with a slash or without, and O_CLOEXEC is always added.
 * Opened for writing, the file is locked: nobody else in the system opens it for writing through aiofs, until the
 * last descriptor of it that this process got here is closed and its last request is terminal, or the process dies.
 * This process may open it again. The descriptor is an ordinary one, but for aiofs_close.
 *
 * The volume's directory is made (mode 0700) by O_CREAT if only its last component is missing. Symbolic links in the
 * path are refused. -1 and errno: EBUSY somebody else has the file locked; EXDEV the path leaves the volume; ELOOP a
 * symbolic link; and those of open(2).
 */
int aiofs_open(const char *volume, const char *path, int flags, ...);

/* Closes what aiofs_open gave. -1 and errno: EBADF it is none, or closed already. */
int aiofs_close(int fd);

/*
 * A completion descriptor, for poll, select and epoll: it is readable when requests that name it have ended, and
 * read(2) of 8 bytes gives how many have since the last read (a uint64_t; see eventfd(2)). A request names it by
 *
 *     cb.aio_sigevent.sigev_notify = AIOFS_SIGEV_COMPLETION;
 *     cb.aio_sigevent.sigev_value.sival_int = descriptor;
 *
 * It is close-on-exec and does not block. -1 and errno: EMFILE, ENFILE, ENOMEM, EAGAIN.
 */
#define AIOFS_SIGEV_COMPLETION 17
int aiofs_completion_open(void);

/* Closes it; requests that name it and end later tell nobody. -1 and errno: EBADF. */
int aiofs_completion_close(int fd);

#ifdef __cplusplus
}
#endif

#endif
