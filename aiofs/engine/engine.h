/*
 * engine.h - what the engine offers to the faces above it (Python's _core, the C face in posix/).
 *
 * The engine knows nothing of Python and nothing of struct aiocb. It knows three things:
 *
 *   file      an open file: a descriptor of the program, and for entries of a volume the lock that
 *             stays held until the descriptor is closed and the last request on it is terminal.
 *   request   one operation in submission. The face allocates it, fills the first part and submits it;
 *             from then until the state is terminal it and the memory it points at belong to the
 *             engine. Each accepted request ends exactly once, and `done` is called exactly once,
 *             after the state is final, with no engine lock held, on any thread. That thread may have
 *             another descriptor table, and others wait for it: `done` does not block, uses no descriptor
 *             of the program's, and submits nothing but an AIOFS_CALL.
 *   carrier   what moves the bytes: the page-cache fast path inside the call (inline.c), io_uring
 *             (ring.c) or readiness (poll.c) on the engine's own thread, and worker threads (pool.c).
 *
 * Ownership. A request is counted: the face holds one reference from aiofs_request_init, the engine
 * one from submission until `done` has returned; `destroy` runs when both are gone. A file is
 * counted too: by its opener, and by each of its requests.
 *
 * Locking. One mutex, the engine lock (request.c), guards files, their lanes and every queue. It is
 * held for a few list operations, never across a call that can block, never while `done` or any other
 * hook runs. The state of a request is an atomic word that may be read by anybody, in signal handlers
 * too.
 *
 * Return values are the kernel's: >= 0, or a negated errno. errno itself is never touched.
 */
#ifndef AIOFS_ENGINE_H
#define AIOFS_ENGINE_H

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

#include "clock.h"
#include "list.h"
#include "volume.h"

#define AIOFS_PRIO_DELTA_MAX 20
static inline bool aiofs_reqprio_is_valid(int reqprio)
{
    return reqprio >= 0 && reqprio <= AIOFS_PRIO_DELTA_MAX;
}

typedef struct aiofs_file aiofs_file;
typedef struct aiofs_request aiofs_request;

/* ---- engine ------------------------------------------------------------------------------------ */

enum aiofs_engine_kind { AIOFS_ENGINE_AUTO, AIOFS_ENGINE_IO_URING, AIOFS_ENGINE_THREADS };

/* Starts the engine of this process if it does not run; every call that needs it does so itself.
 * -EINVAL: AIOFS_ENGINE holds an unknown word; -ENOSYS: it demands io_uring and the kernel refuses. */
AIOFS_API int aiofs_engine_start(void);

/* The kind that runs ("io_uring", "threads"), starting the engine if need be; NULL if it cannot. */
AIOFS_API const char *aiofs_engine_name(void);

/* Resolves what is outstanding: requests that wait for a peer are cancelled, disk requests get
 * `seconds` to finish. For exit; the engine starts again if it is used again. */
AIOFS_API void aiofs_engine_settle(double seconds);

struct aiofs_counters {
    uint64_t inline_reads, inline_writes; /* finished inside the call */
    uint64_t ring, polled, pooled;        /* finished by each carrier */
    uint64_t outstanding;                 /* requests not terminal now */
    uint64_t files;                       /* open files known now, wakeup fds too */
    uint64_t workers;                     /* threads of the pools now */
};
AIOFS_API void aiofs_engine_counters(struct aiofs_counters *out);

/* ---- requests ---------------------------------------------------------------------------------- */

enum aiofs_op {
    AIOFS_READ = 1,
    AIOFS_WRITE,
    AIOFS_FSYNC,
    AIOFS_FDATASYNC,
    AIOFS_TRUNCATE, /* offset is the new size; a file with an entry only */
    AIOFS_FLUSH,    /* as AIOFS_FDATASYNC, and the entry's name made durable if aiofs made it */
    AIOFS_CALL,     /* call(request) on a worker that shares the program's descriptors */
};

enum aiofs_state {
    AIOFS_NEW,       /* not yet submitted */
    AIOFS_SUBMITTED, /* accepted; still cancellable unless a carrier says otherwise */
    AIOFS_DONE,      /* terminal: result >= 0 */
    AIOFS_FAILED,    /* terminal: result is a negated errno */
    AIOFS_CANCELED,  /* terminal: result is -ECANCELED */
};

/* The bytes that a request touches, in a tree with those of others: see span.h. */
struct aiofs_span {
    struct aiofs_span *left, *right;
    int64_t start, end;
    int64_t reach;      /* where what it may change begins, at most `start` */
    uint64_t number;    /* order of arrival */
    int64_t min_start, min_reach, max_end; /* of itself and all below it; the same of `number` */
    uint64_t first, last;
};

/* Work for a host thread: a thread of the engine that shares the program's descriptors. */
struct aiofs_job {
    struct aiofs_link link;
    void (*run)(struct aiofs_job *);
};

struct aiofs_request {
    /* The face's, constant from submission to the terminal state. */
    int op;                         /* enum aiofs_op */
    int fd;                         /* the descriptor as the program named it */
    int reqprio;                    /* 0..AIOFS_PRIO_DELTA_MAX; higher runs later */
    int iovcnt;
    const struct iovec *iov;        /* &single for one buffer */
    struct iovec single;
    int64_t offset;
    bool ordered;                   /* as if serialised with the file's other ordered requests */
    int64_t (*call)(aiofs_request *);
    void (*done)(aiofs_request *);
    void (*destroy)(aiofs_request *);

    /* The engine's. `state` and `result` may be read through the functions below. */
    _Atomic uint32_t state;
    _Atomic int32_t refs;
    int64_t result;
    uint64_t moved;                 /* bytes moved so far */
    uint64_t total;                 /* bytes asked for */
    uint64_t sequence;              /* order of submission on the file */
    int64_t reach;                  /* where what it may change begins: a write past the end fills a gap */
    struct aiofs_span span;         /* of an ordered one, while it is in flight */
    struct aiofs_link blocked;      /* later requests that wait for it, by `queued` */
    bool appends;                   /* a write, and O_APPEND was set when it came */
    uint8_t lane;
    _Atomic uint8_t phase;
    _Atomic bool notified;              /* it is terminal, and `done` has returned */
    uint32_t generation;            /* of processes: which one submitted it */
    aiofs_file *file;
    struct aiofs_link in_flight;    /* the file's requests in order of submission */
    struct aiofs_link queued;       /* the lane's waiting requests, or a carrier's list */
    struct aiofs_job job;           /* what is left for a host thread to do */
};

AIOFS_API void aiofs_request_init(aiofs_request *request);
AIOFS_API void aiofs_request_retain(aiofs_request *request);
AIOFS_API void aiofs_request_release(aiofs_request *request);

/* Accepts a request on `file`, or with file NULL on descriptor request->fd, which is bound to its open
 * file before this returns. 0: accepted, it will end and `done` will run (perhaps already has, on this
 * thread). Errors, with nothing started: -EINVAL reqprio out of range; -EBADF fsync of a bad
 * descriptor; -EAGAIN a resource is exhausted. */
AIOFS_API int aiofs_submit(aiofs_request *request, aiofs_file *file);

/* The same for each of a list, with less work for each: a descriptor is looked at once, and the engine woken once
 * for many. `error` is what aiofs_submit would have returned. */
struct aiofs_batch_entry {
    aiofs_request *request;
    aiofs_file *file;
    int error;
};
AIOFS_API void aiofs_submit_many(struct aiofs_batch_entry *list, size_t count);

/* For those who carry a request out from outside (aiofs_ops.submit): ends it with `result`. Called by `submit`
 * itself, it leaves the end to be published when `submit` has returned. */
AIOFS_API void aiofs_complete(aiofs_request *request, int64_t result);

/* A state is a word with room for a mark, that somebody sleeps on it. Faces may keep such words themselves. */
enum { AIOFS_STATE = 0xff, AIOFS_WAITED = 0x100 };

/* Async-signal-safe, as all that looks at states. */
static inline enum aiofs_state aiofs_word_state(const _Atomic uint32_t *word)
{
    return (enum aiofs_state)(atomic_load_explicit(word, memory_order_acquire) & AIOFS_STATE);
}
/* Makes it terminal, as `result` says. True: somebody sleeps on it, and is to be woken when the others are notified. */
AIOFS_API bool aiofs_word_end(_Atomic uint32_t *word, int64_t result);
AIOFS_API void aiofs_wake_sleepers(void);

/* Moves on in the child of a fork, where each request of the parent that had not ended is cancelled. */
extern AIOFS_API uint32_t aiofs_generation;
/* The parent's, met in the child: it is terminal from now on. */
AIOFS_API void aiofs_request_forsake(const aiofs_request *request);

static inline enum aiofs_state aiofs_request_state(const aiofs_request *request)
{
    enum aiofs_state state = aiofs_word_state(&request->state);
    if (state != AIOFS_SUBMITTED || request->generation == aiofs_generation)
        return state;
    aiofs_request_forsake(request);
    return AIOFS_CANCELED;
}
static inline bool aiofs_request_terminal(const aiofs_request *request)
{
    return aiofs_request_state(request) >= AIOFS_DONE;
}

/* Waits until one of the requests is terminal; NULL and never submitted ones are passed over, and with
 * no request outstanding it returns 0 at once. `timeout` is relative, NULL waits. 0, -EAGAIN when the time is up,
 * -EINTR when a signal handler ran. Async-signal-safe. */
AIOFS_API int aiofs_wait(aiofs_request *const *requests, size_t count, const struct timespec *timeout);
/* The same on words: `of` gives the index-th of the list, NULL for one to be passed over. */
typedef _Atomic uint32_t *aiofs_word_of(const void *list, size_t index);
AIOFS_API int aiofs_wait_on(aiofs_word_of *of, const void *list, size_t count, const struct timespec *timeout);

enum { AIOFS_CANCEL_CANCELED, AIOFS_CANCEL_NOTCANCELED, AIOFS_CANCEL_ALLDONE }; /* <aio.h>'s values */

/* 0, or -EBADF: the program has no such descriptor. */
AIOFS_API int aiofs_descriptor(int fd);

/* Cancels one request; when it returns AIOFS_CANCEL_CANCELED or AIOFS_CANCEL_ALLDONE, it is terminal, and `done`
 * has run. */
AIOFS_API int aiofs_cancel(aiofs_request *request);
/* The same without waiting for the answer of the kernel: for threads that must not block. */
AIOFS_API void aiofs_cancel_soon(aiofs_request *request);
/* Cancels all that is outstanding on a descriptor, in the same sense; -EBADF if it is closed. */
AIOFS_API int aiofs_cancel_all(int fd);

/* ---- inside the call --------------------------------------------------------------------------- */

#define AIOFS_NOT_INLINE INT64_MIN
#define AIOFS_INLINE_MAX ((size_t)256 * 1024) /* the largest copy made on the caller's thread */

/* Moves bytes at once when that cannot block: a cached read, or a write whose pages are cached. Returns
 * the count, a negated errno, or AIOFS_NOT_INLINE: nothing was done, submit a request. `file` NULL: a
 * plain descriptor. Does no more than the two system calls it is named for. */
AIOFS_API int64_t aiofs_read_inline(aiofs_file *file, int fd, const struct iovec *iov, int iovcnt, size_t total,
                                    int64_t offset);
AIOFS_API int64_t aiofs_write_inline(aiofs_file *file, int fd, const struct iovec *iov, int iovcnt, size_t total,
                                     int64_t offset);

/* Set by a face whose process ignores SIGXFSZ (Python does): spares a getrlimit for each inline write. */
extern AIOFS_API bool aiofs_sigxfsz_ignored;

/* ---- files ------------------------------------------------------------------------------------- */

/* How a file that is no kernel file works; the entry of such a volume carries this table. Each function
 * is called with no engine lock held and returns as the kernel does. */
struct aiofs_ops {
    int64_t (*read)(void *self, const struct iovec *iov, int iovcnt, int64_t offset);
    int64_t (*write)(void *self, const struct iovec *iov, int iovcnt, int64_t offset);
    int64_t (*size)(void *self);
    int64_t (*truncate)(void *self, int64_t size);
    int64_t (*flush)(void *self);
    void (*submit)(void *self, aiofs_request *request); /* NULL: the synchronous one, completed at once */
    void (*close)(void *self);   /* the opener has closed it, and its last request has ended */
    void (*release)(void *self); /* after that: the last reference to the file is gone */
    bool blocks; /* requests are carried out on threads of the engine, else on the thread that submits them */
};

/* Takes over `fd`, which was opened with `flags`, as an open file of aiofs: registered under its number,
 * closed by aiofs. `lock_ref` may be NULL (no entry); it is released when the file is closed and its last
 * request terminal. `ops` NULL: a kernel file. On an error (-ENOMEM, -EBADF) nothing was taken. */
AIOFS_API int aiofs_file_adopt(int fd, int flags, aiofs_lock_ref *lock_ref, const struct aiofs_ops *ops, void *self,
                               aiofs_file **file);
/* Opens a file of a volume as aiofs_entry_open does, and gives the open file, which holds the lock. */
AIOFS_API int aiofs_volume_open_file(aiofs_volume *volume, const char *path, int flags, mode_t mode,
                                     enum aiofs_lock lock, const void *owner, aiofs_file **file);
/* Before its opener closes it because nobody wants it any more: threads that ask for its lock wait for the requests in
 * flight, if those end soon and by themselves, instead of being refused. */
AIOFS_API void aiofs_file_unwanted(aiofs_file *file);
/* The open file registered under a descriptor, retained; NULL: the descriptor is not aiofs's. */
AIOFS_API aiofs_file *aiofs_file_find(int fd);
AIOFS_API void aiofs_file_retain(aiofs_file *file);
AIOFS_API void aiofs_file_release(aiofs_file *file);

/* Refuses requests from now on (-EBADF), and waits until those in flight are terminal. */
AIOFS_API void aiofs_file_drain(aiofs_file *file);
/* Ends the opener's use (not its reference). The number is free when this returns; the lock of the lock reference is
 * given up then too, or when the last request in flight is terminal: after aiofs_file_drain it is free. The memory of
 * the lock reference lives as long as the file. 0; -EBADF: it was closed before, or somebody else closed the number. */
AIOFS_API int aiofs_file_close(aiofs_file *file);

/* The open file that a plain descriptor leads to, retained, if requests are in flight on it; else NULL. */
AIOFS_API aiofs_file *aiofs_file_in_flight(int fd);

AIOFS_API int aiofs_file_fd(const aiofs_file *file);
AIOFS_API aiofs_lock_ref *aiofs_file_lock_ref(const aiofs_file *file);
AIOFS_API bool aiofs_file_blocks(const aiofs_file *file); /* its operations, which are not the kernel's, may block */
AIOFS_API bool aiofs_file_busy(const aiofs_file *file); /* requests in flight */

/* Blocking, on the caller's thread, whole (short only at the end of the file, or when the disk is full):
 * for synchronous handles. They obey the entry's quota and mark it changed. */
AIOFS_API int64_t aiofs_file_read(aiofs_file *file, const struct iovec *iov, int iovcnt, int64_t offset);
AIOFS_API int64_t aiofs_file_write(aiofs_file *file, const struct iovec *iov, int iovcnt, int64_t offset);
AIOFS_API int64_t aiofs_file_size(aiofs_file *file);
AIOFS_API int64_t aiofs_file_truncate(aiofs_file *file, int64_t size);
AIOFS_API int64_t aiofs_file_flush(aiofs_file *file); /* syncs what changed since the last one, if anything */

/* ---- wakeup fds: how `done` reaches a thread that waits in poll or epoll ------------------------------- */

/* `done` may run on a thread with another descriptor table, where the number of an eventfd means nothing.
 * A wakeup fd is an eventfd known to both. The number stays its owner's to poll, read and close. */
typedef struct aiofs_wakeup aiofs_wakeup;
/* 0; -EBADF; -ENOMEM; -EAGAIN: there is no room for one more in the engine. */
AIOFS_API int aiofs_wakeup_open(int eventfd, aiofs_wakeup **wakeup);
/* Adds one to the eventfd, and to no other file: also where the program has closed the number, or uses it again. */
AIOFS_API void aiofs_wakeup_notify(aiofs_wakeup *wakeup);
/* Before the owner closes the number: when this returns nobody uses it any more, and nothing is notified. */
AIOFS_API void aiofs_wakeup_close(aiofs_wakeup *wakeup);
/* Wakeup fds are counted, by their opener first. */
AIOFS_API void aiofs_wakeup_retain(aiofs_wakeup *wakeup);
AIOFS_API void aiofs_wakeup_release(aiofs_wakeup *wakeup);

/* ---- notification ------------------------------------------------------------------------------ */

/* Queues a signal to the process with si_code SI_ASYNCIO; refused by a full queue, it is sent again until
 * it is accepted. Signal 0 does nothing. */
AIOFS_API void aiofs_notify_signal(int signo, union sigval value);
/* A function to be run in a fresh thread of the program's (its descriptors, no signal blocked); `attributes` is a
 * pthread_attr_t or NULL, and stays until the thread has begun. Prepared before the request is accepted, on a thread
 * of the program's: -EAGAIN if it may never be had. Then sent, once; or dropped. */
typedef struct aiofs_notification aiofs_notification;
AIOFS_API int aiofs_notification_prepare(void (*function)(union sigval), union sigval value, const void *attributes,
                                         aiofs_notification **notification);
/* On any thread, never in vain: where no thread is to be had, it comes when there is one. */
AIOFS_API void aiofs_notification_send(aiofs_notification *notification);
AIOFS_API void aiofs_notification_drop(aiofs_notification *notification);

#endif
