/*
 * engine.h - the engine's interface for the faces above it: Python's _core and the C face in posix/.
 *
 * The engine knows neither Python nor struct aiocb. It knows three things:
 *
 *   file      an open file: one descriptor of the program. A file that is an entry of a volume also holds the entry's
 *             lock, until the descriptor is closed and the last request on it is terminal.
 *   request   one operation. The face allocates it, fills in its first part and submits it. From submission until the
 *             state is terminal, the request and the memory that it points to belong to the engine. The engine makes
 *             the state of each accepted request terminal exactly once, and then calls `done` exactly once.
 *   carrier   what performs the operation: the page-cache fast path inside the call (inline.c), io_uring (ring.c) or
 *             readiness (poll.c) on the reactor thread, and worker threads (pool.c).
 *
 * The hook `done` runs on any thread, with no engine lock held. That thread may have another descriptor table than the
 * program, and other requests wait for it. So `done` must not block, must not use a descriptor of the program, and must
 * not submit any request except an AIOFS_CALL.
 *
 * Ownership. A request is reference-counted. The face gets one reference from aiofs_request_init; the engine holds one
 * from submission until `done` has returned. `destroy` runs when the last reference is released. A file is
 * reference-counted too: its opener holds one reference and each of its requests holds one.
 *
 * Locking. One mutex, the engine lock (engine.lock in engine.c), guards files, their lanes and every queue. Threads
 * hold it for a few list operations, never across a system call that can block, and never while `done` or another hook
 * runs. The state of a request is an atomic word. Every thread may read it, and signal handlers too.
 *
 * Return values follow the kernel: >= 0, or a negated errno. The engine never changes errno itself.
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

/* Starts the engine of this process if it does not run. Every function that needs the engine calls this itself.
 * -EINVAL: AIOFS_ENGINE has an unknown value; -ENOSYS: it demands io_uring and the kernel refuses io_uring. */
AIOFS_API int aiofs_engine_start(void);

/* The name of the engine ("io_uring", "threads"). Starts the engine if it does not run; NULL: it cannot start. */
AIOFS_API const char *aiofs_engine_name(void);

/* For the exit of the program: cancels the requests on streams, and gives all other requests `seconds` to complete.
 * The engine stays usable. */
AIOFS_API void aiofs_engine_drain(double seconds);

struct aiofs_counters {
    uint64_t inline_reads, inline_writes; /* completed inside the call */
    uint64_t ring, polled, pooled;        /* completed by each carrier */
    uint64_t outstanding;                 /* requests that are not terminal now */
    uint64_t files;                       /* open files that the engine knows now, with the wakeup fds */
    uint64_t workers;                     /* workers and host threads now */
};
AIOFS_API void aiofs_engine_counters(struct aiofs_counters *out);

/* ---- requests ---------------------------------------------------------------------------------- */

enum aiofs_op {
    AIOFS_READ = 1,
    AIOFS_WRITE,
    AIOFS_FSYNC, /* also syncs the directory if aiofs created the entry's name; so do the next two syncs */
    AIOFS_FDATASYNC,
    AIOFS_TRUNCATE, /* offset is the new size; only on a file with an entry */
    AIOFS_FLUSH,    /* as AIOFS_FDATASYNC, if the file changed since the last flush */
    AIOFS_CALL,     /* call(request) on a host thread, which shares the program's descriptors */
};

/* What the `call` of an AIOFS_CALL returns to be called again: after aiofs_call_again, on any host thread. Meanwhile the
 * request holds no thread, and can be cancelled. */
#define AIOFS_PARKED INT64_MIN

enum aiofs_state {
    AIOFS_NEW,       /* not yet submitted */
    AIOFS_SUBMITTED, /* accepted, not terminal; some requests in this state can be cancelled */
    AIOFS_DONE,      /* terminal: result >= 0 */
    AIOFS_FAILED,    /* terminal: result is a negated errno */
    AIOFS_CANCELED,  /* terminal: result is -ECANCELED */
};

/* The bytes that a request touches, a node in the tree of all spans of the file: see span.h. */
struct aiofs_span {
    struct aiofs_span *left, *right;
    int64_t start, end;
    int64_t reach;      /* first byte that the request may change, at most `start` */
    uint64_t number;    /* order of submission */
    int64_t min_start, min_reach, max_end; /* over this span and all spans below it */
    uint64_t first, last;                  /* smallest and largest `number` of the same spans */
};

/* Work for a host thread: a thread of the engine that shares the program's descriptor table. */
struct aiofs_job {
    struct aiofs_link link;
    void (*run)(struct aiofs_job *);
};

struct aiofs_request {
    /* The face's fields, constant from submission to the terminal state. */
    int op;                         /* enum aiofs_op */
    int fd;                         /* the program's descriptor number */
    int reqprio;                    /* 0..AIOFS_PRIO_DELTA_MAX; higher runs later */
    int iovcnt;
    const struct iovec *iov;        /* &single for one buffer */
    struct iovec single;
    int64_t offset;
    bool ordered;                   /* the file's ordered requests act as if they ran one after the other */
    bool mapped;                    /* the buffers are certainly mapped: a thread of the engine may copy to them itself */
    int64_t (*call)(aiofs_request *);
    void (*done)(aiofs_request *);
    void (*destroy)(aiofs_request *);

    /* The engine's fields. Faces read `state` and `result` through the functions below. */
    _Atomic uint32_t state;
    _Atomic int32_t refs;
    int64_t result;
    uint64_t moved;                 /* bytes moved so far */
    uint64_t total;                 /* bytes asked for */
    uint64_t sequence;              /* order of submission on the file */
    int64_t reach;                  /* first byte that it may change: a write past the end also fills the gap */
    struct aiofs_span span;         /* of an ordered request, while it is in flight */
    struct aiofs_link blocked;      /* later requests that wait for this one; linked by `queued` */
    bool appends;                   /* a write, and O_APPEND was set at submission */
    bool charged;                   /* its growth is charged to the quota, and the charge has not ended */
    uint8_t lane;                   /* enum lane_name */
    _Atomic uint8_t phase;          /* enum request_phase */
    bool again;                     /* an AIOFS_CALL: aiofs_call_again came before it had parked */
    _Atomic bool notified;          /* the state is terminal, and `done` has returned */
    uint32_t generation;            /* aiofs_generation of the process that submitted it */
    aiofs_file *file;
    struct aiofs_link in_flight;    /* link in the file's list of requests, in order of submission */
    struct aiofs_link queued;       /* link in the lane's waiting list, or in a carrier's list */
    aiofs_request *run_end;         /* in a waiting list; see waiting.h */
    struct aiofs_job job;           /* the part of the operation that only a host thread can do */
};

AIOFS_API void aiofs_request_init(aiofs_request *request);
AIOFS_API void aiofs_request_retain(aiofs_request *request);
AIOFS_API void aiofs_request_release(aiofs_request *request);

/* Submits a request on `file`. With `file` NULL it submits it on the descriptor request->fd, and binds the request to
 * that descriptor's open file before it returns. 0: accepted; `done` will run, or has already run on this thread. On an
 * error nothing was started: -EINVAL: reqprio is out of range; -EBADF: fsync of a bad descriptor; -EAGAIN: a resource
 * is exhausted. */
AIOFS_API int aiofs_submit(aiofs_request *request, aiofs_file *file);

/* Submits each request of a list, at a lower cost per request: it examines the same descriptor once, and wakes the
 * reactor once for many requests. `error` is what aiofs_submit would have returned. */
struct aiofs_batch_entry {
    aiofs_request *request;
    aiofs_file *file;
    int error;
};
AIOFS_API void aiofs_submit_many(struct aiofs_batch_entry *list, size_t count);

/* Completes with `result` a request that a file's own operation (aiofs_ops.submit) received. If `submit` itself calls
 * this, the completion is published after `submit` has returned. */
AIOFS_API void aiofs_complete(aiofs_request *request, int64_t result);
/* Calls a parked AIOFS_CALL again; if its `call` still runs, as soon as it has returned AIOFS_PARKED. The caller makes
 * sure that the request lives. */
AIOFS_API void aiofs_call_again(aiofs_request *request);

/* A state word holds an aiofs_state and the flag AIOFS_WAITED: a thread sleeps on it. Faces may have such words of
 * their own. */
enum { AIOFS_STATE = 0xff, AIOFS_WAITED = 0x100 };

/* Every function that reads states is async-signal-safe. */
static inline enum aiofs_state aiofs_word_state(const _Atomic uint32_t *word)
{
    return (enum aiofs_state)(atomic_load_explicit(word, memory_order_acquire) & AIOFS_STATE);
}
/* Makes the word terminal, with the state that fits `result`. True: a thread sleeps on it. The caller then gives the
 * notice and calls aiofs_wake_sleepers afterwards. */
AIOFS_API bool aiofs_word_end(_Atomic uint32_t *word, int64_t result);
AIOFS_API void aiofs_wake_sleepers(void);

/* The number of this process in its line of forks: fork adds one in the child. A request of another generation belongs
 * to a parent process. In the child such a request is cancelled, if it was not terminal. */
extern AIOFS_API uint32_t aiofs_generation;
/* In the child of a fork: makes a request of the parent terminal (cancelled). */
AIOFS_API void aiofs_request_abandon(const aiofs_request *request);

static inline enum aiofs_state aiofs_request_state(const aiofs_request *request)
{
    enum aiofs_state state = aiofs_word_state(&request->state);
    if (state != AIOFS_SUBMITTED || request->generation == aiofs_generation)
        return state;
    aiofs_request_abandon(request);
    return AIOFS_CANCELED;
}
static inline bool aiofs_request_terminal(const aiofs_request *request)
{
    return aiofs_request_state(request) >= AIOFS_DONE;
}

/* Waits until one of the requests is terminal. It skips NULL and requests that were never submitted; if no request is
 * left, it returns 0 at once. `timeout` is relative; NULL waits without a limit. 0; -EAGAIN: the time is up; -EINTR: a
 * signal handler ran. Async-signal-safe. */
AIOFS_API int aiofs_wait(aiofs_request *const *requests, size_t count, const struct timespec *timeout);
/* The same for state words: `of` returns the word at `index` of the list, or NULL to skip it. */
typedef _Atomic uint32_t *aiofs_word_of(const void *list, size_t index);
AIOFS_API int aiofs_wait_on(aiofs_word_of *of, const void *list, size_t count, const struct timespec *timeout);
/* The same until a time of aiofs_now(), whatever signals arrive. False: the time is up. */
bool aiofs_wait_uninterrupted(aiofs_word_of *of, const void *list, size_t count, int64_t until);
aiofs_word_of aiofs_word_of_request; /* for a list of aiofs_request pointers */

enum { AIOFS_CANCEL_CANCELED, AIOFS_CANCEL_NOTCANCELED, AIOFS_CANCEL_ALLDONE }; /* <aio.h>'s values */

/* 0, or -EBADF: the program has no such descriptor. */
AIOFS_API int aiofs_descriptor(int fd);

/* Cancels one request. When it returns AIOFS_CANCEL_CANCELED or AIOFS_CANCEL_ALLDONE, the request is terminal and
 * `done` has run. */
AIOFS_API int aiofs_cancel(aiofs_request *request);
/* The same, but does not wait for the kernel's answer: for threads that must not block. */
AIOFS_API void aiofs_cancel_soon(aiofs_request *request);
/* Cancels every outstanding request on a descriptor, with the same return values; -EBADF: the descriptor is closed. */
AIOFS_API int aiofs_cancel_all(int fd);
/* Cancels every outstanding request on a file, but waits for nothing: for threads that must not block. */
AIOFS_API void aiofs_file_cancel_soon(aiofs_file *file);

/* ---- inside the call --------------------------------------------------------------------------- */

#define AIOFS_NOT_INLINE INT64_MIN
#define AIOFS_INLINE_MAX ((size_t)256 * 1024) /* the largest copy made on the caller's thread */

/* Moves bytes inside the call if that cannot block: a cached read, or a write whose pages are cached. Returns the
 * count, a negated errno, or AIOFS_NOT_INLINE: submit a request instead. `file` NULL: `fd` is a
 * plain descriptor. `mapped`: see aiofs_request. */
AIOFS_API int64_t aiofs_read_inline(aiofs_file *file, int fd, const struct iovec *iov, int iovcnt, size_t total,
                                    int64_t offset, bool mapped);
AIOFS_API int64_t aiofs_write_inline(aiofs_file *file, int fd, const struct iovec *iov, int iovcnt, size_t total,
                                     int64_t offset, bool mapped);

/* Are cached bytes copied through a bounce buffer where the caller's buffer lies badly? Measured at the first such
 * buffer; see bounce.c. A test sets it. */
enum { AIOFS_BOUNCE_UNKNOWN, AIOFS_BOUNCE_NEVER, AIOFS_BOUNCE_ALWAYS };
extern AIOFS_API _Atomic int aiofs_bounce;

/* A face sets this if the process ignores SIGXFSZ, as Python does. It saves one getrlimit per inline write. */
extern AIOFS_API bool aiofs_sigxfsz_ignored;

/* ---- files ------------------------------------------------------------------------------------- */

/* The operations of a file that is no kernel file: a file of a volume that is no directory. The engine calls each
 * function with no engine lock held. Return values follow the kernel. */
struct aiofs_ops {
    int64_t (*read)(void *self, const struct iovec *iov, int iovcnt, int64_t offset);
    int64_t (*write)(void *self, const struct iovec *iov, int iovcnt, int64_t offset);
    int64_t (*size)(void *self);
    int64_t (*truncate)(void *self, int64_t size);
    int64_t (*flush)(void *self);
    void (*submit)(void *self, aiofs_request *request); /* NULL: the engine calls the synchronous function instead */
    void (*close)(void *self);   /* the opener has closed the file, and its last request is complete */
    void (*release)(void *self); /* later: the last reference to the file is released */
    bool blocks; /* host threads call the operations; else the thread that submits the request does */
};

/* Takes over `fd`, which was opened with `flags`, as an owned file: the engine registers it under its number and closes
 * it. `lock_ref` may be NULL (no entry); its lock is released when the file is closed and its last request is terminal.
 * `ops` NULL: a kernel file. On an error (-ENOMEM, -EBADF) the caller still owns `fd` and `lock_ref`. */
AIOFS_API int aiofs_file_adopt(int fd, int flags, aiofs_lock_ref *lock_ref, const struct aiofs_ops *ops, void *self,
                               aiofs_file **file);
/* Opens a file of a volume as aiofs_entry_open does, and returns it as an owned file that holds the lock. */
AIOFS_API int aiofs_volume_open_file(aiofs_volume *volume, const char *path, int flags, mode_t mode,
                                     enum aiofs_lock lock, const void *owner, aiofs_file **file);
/* As aiofs_volume_open_file, on a thread that must not block. -EAGAIN: on a thread that may. */
AIOFS_API int aiofs_volume_open_cached(aiofs_volume *volume, const char *path, int flags, enum aiofs_lock lock,
                                       aiofs_file **file);
/* The same for a file whose changes appear all or nothing: a swap file, which is open for reading and writing whatever
 * `flags` say. It begins with the bytes of the entry's file; with O_TRUNC it begins empty, and is committed even if
 * nothing is written. Under this lock its `owner` may open the entry and unlink it. */
AIOFS_API int aiofs_volume_open_swap(aiofs_volume *volume, const char *path, int flags, mode_t mode,
                                     enum aiofs_lock lock, const void *owner, aiofs_file **file);
AIOFS_API bool aiofs_file_swapped(const aiofs_file *file);
/* Announces that the opener is about to close an abandoned file. From now on, an open that finds the entry locked waits
 * for the requests in flight instead of failing, if those requests complete soon and without help. */
AIOFS_API void aiofs_file_unwanted(aiofs_file *file);
/* The owned file that is registered under a descriptor, retained; NULL: the descriptor belongs to no owned file. */
AIOFS_API aiofs_file *aiofs_file_find(int fd);
AIOFS_API void aiofs_file_retain(aiofs_file *file);
AIOFS_API void aiofs_file_release(aiofs_file *file);

/* Makes the file refuse new requests (-EBADF), and waits until the requests in flight are terminal. */
AIOFS_API void aiofs_file_drain(aiofs_file *file);
/* Closes the file for its opener, and keeps the opener's reference. When this returns, the descriptor is closed. The
 * entry's lock is released too, or later, when the last request in flight is terminal; after aiofs_file_drain it is
 * released at once. The memory of the lock reference lives as long as the file. 0; -EBADF: the file was closed before,
 * or the program closed the descriptor with close(2). */
AIOFS_API int aiofs_file_close(aiofs_file *file);
/* Waits for the requests in flight, makes the changes durable or commits the swap file if `commit`, and closes the file
 * as aiofs_file_close does, whatever fails. In a volume that is not durable it only commits. */
AIOFS_API int64_t aiofs_file_finish(aiofs_file *file, bool commit);
/* Whether aiofs_file_finish would not block: nothing is in flight, and there is nothing to sync or to commit. */
AIOFS_API bool aiofs_file_finishes_at_once(aiofs_file *file);

/* The file that a plain descriptor leads to, retained; NULL: no request is in flight on it. */
AIOFS_API aiofs_file *aiofs_file_in_flight(int fd);

AIOFS_API int aiofs_file_fd(const aiofs_file *file);
AIOFS_API aiofs_lock_ref *aiofs_file_lock_ref(const aiofs_file *file);
AIOFS_API bool aiofs_file_blocks(const aiofs_file *file); /* the file has its own operations, and they may block */
AIOFS_API bool aiofs_file_busy(const aiofs_file *file); /* requests are in flight */

/* For synchronous handles: these functions block the calling thread and move all bytes; a count is short only at the
 * end of the file, or when the disk is full. They obey the entry's quota and mark the entry changed. `mapped`: see
 * aiofs_request. */
AIOFS_API int64_t aiofs_file_read(aiofs_file *file, const struct iovec *iov, int iovcnt, int64_t offset, bool mapped);
AIOFS_API int64_t aiofs_file_write(aiofs_file *file, const struct iovec *iov, int iovcnt, int64_t offset, bool mapped);
AIOFS_API int64_t aiofs_file_size(aiofs_file *file);
AIOFS_API int64_t aiofs_file_truncate(aiofs_file *file, int64_t size);
AIOFS_API int64_t aiofs_file_flush(aiofs_file *file); /* syncs the file if it changed since the last flush */

/* ---- wakeup fds: how `done` reaches a thread that waits in poll or epoll ------------------------------- */

/* `done` may run on a thread with the engine's descriptor table, where the program's number of an eventfd has no
 * meaning. A wakeup fd is an eventfd that both tables have. Its owner polls, reads and closes the program's number. */
typedef struct aiofs_wakeup aiofs_wakeup;
/* 0; -EBADF; -ENOMEM; -EAGAIN: the engine's descriptor table is full. */
AIOFS_API int aiofs_wakeup_open(int eventfd, aiofs_wakeup **wakeup);
/* Adds one to the eventfd. It never writes to another file, even if the program closed the number or reused it. */
AIOFS_API void aiofs_wakeup_notify(aiofs_wakeup *wakeup);
/* The owner calls this before it closes the number. When this returns, no thread of the engine uses the number, and
 * later notifications do nothing. */
AIOFS_API void aiofs_wakeup_close(aiofs_wakeup *wakeup);
/* A wakeup fd is reference-counted; its opener holds the first reference. */
AIOFS_API void aiofs_wakeup_retain(aiofs_wakeup *wakeup);
AIOFS_API void aiofs_wakeup_release(aiofs_wakeup *wakeup);

/* ---- notification ------------------------------------------------------------------------------ */

/* Queues a signal to the process, with si_code SI_ASYNCIO. If the kernel's signal queue is full, the reactor sends the
 * signal again until the kernel accepts it. Signal 0 does nothing. */
AIOFS_API void aiofs_notify_signal(int signo, union sigval value);
/* A notification by SIGEV_THREAD: `function` runs in a new thread with the program's descriptor table and no signal
 * blocked. `attributes` is a pthread_attr_t or NULL; it must stay valid until the thread has started. A thread of the
 * program prepares the notification before its request is accepted. -EAGAIN: no thread may ever be available for it.
 * A prepared notification is either sent or dropped, exactly once. */
typedef struct aiofs_notification aiofs_notification;
AIOFS_API int aiofs_notification_prepare(void (*function)(union sigval), union sigval value, const void *attributes,
                                         aiofs_notification **notification);
/* On any thread. It cannot fail: if no thread can be started now, the notification waits until one can. */
AIOFS_API void aiofs_notification_send(aiofs_notification *notification);
AIOFS_API void aiofs_notification_drop(aiofs_notification *notification);

#endif
