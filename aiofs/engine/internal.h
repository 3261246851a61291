/*
 * internal.h - the declarations that the engine's files share: files, lanes, carriers, the engine's threads.
 *
 * Lanes. A request waits in a lane of its file until the lane may run it. A lane is a queue with a limit on its running
 * requests. The limit is 1 where requests must keep their order: one direction of a stream, appends, and buffered
 * writes (which the kernel serialises per inode anyway). It is larger elsewhere. A lane that may run a request is in
 * the run queue of its carrier. A carrier takes one request from each lane in turn. So a file with 10,000 requests, or
 * a slow file, does not delay the requests of other files.
 *
 *     submit -> [blocked: barrier, overlap] -> lane.waiting -> carrier -> request_finish -> request_end -> done
 *
 * Two descriptor tables. The reactor and the workers have a table of their own, the engine's table. Submission sends
 * the open file of a request to that table (SCM_RIGHTS over the channel's socket). So a request in flight is not
 * affected when the program closes or reuses the number, and closing the engine's copy does not drop the program's
 * fcntl locks. Host threads have the program's table. They do what needs the program's numbers: AIOFS_CALL, releasing a
 * lock reference, syncing a directory. A field named `engine_fd` is a number in the engine's table; every other
 * descriptor number is one in the program's table.
 *
 * Locking. The engine lock (engine.lock) guards everything below, unless a comment says otherwise. In comments, "lock
 * held" means the engine lock; "no lock" means that the caller must not hold it.
 */
#ifndef AIOFS_INTERNAL_H
#define AIOFS_INTERNAL_H

#include <assert.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

#include "engine.h"
#include "list.h"
#include "sys.h"
#include "thread.h"
#include "volume.h"

/* ---- files: file.c -------------------------------------------------------------------------------- */

enum file_kind {
    KIND_REGULAR, /* seekable: regular files and block devices */
    KIND_STREAM,  /* pipes, sockets, terminals and other devices: a request may wait for readiness */
    KIND_DIRECTORY,
};

enum lane_name {
    LANE_READ,  /* all reads that are not in LANE_COPY */
    LANE_COPY,  /* long buffered reads: mostly memory copies, for workers */
    LANE_WRITE,
    LANE_SYNC,  /* fsync, flush, truncate: one at a time, after all earlier requests of the file */
    LANES,
    LANE_HELD = LANES, /* in no lane: blocked by earlier requests of the file */
    LANE_CALL,         /* AIOFS_CALL, which has no file */
};

enum carrier {
    CARRIER_STREAMS, /* the reactor, without a limit */
    CARRIER_RING,    /* the reactor, at most reactor_ops.room requests */
    CARRIER_WORKERS,
    CARRIERS,
};

struct lane {
    aiofs_file *file;
    struct aiofs_link waiting;  /* waiting requests, by priority, then in order of submission */
    struct aiofs_link runnable; /* link in the carrier's run queue, while requests wait and running < limit */
    aiofs_request *current;     /* the running request of a lane with limit 1 */
    unsigned running, limit;
    enum carrier carrier;
    bool call_order;            /* ignore priorities: keep the order of submission */
};

/* Which operations the call itself may do; kept per owned file, and per number for plain descriptors. */
enum inline_hint {
    HINT_UNKNOWN,
    HINT_NOWAIT, /* a regular file: RWF_NOWAIT says whether it would block */
    HINT_MEMORY, /* tmpfs: never blocks, refuses RWF_NOWAIT */
    HINT_ENGINE, /* always submit: O_DIRECT, streams, and files that refuse RWF_NOWAIT */
    HINT_SYNC = 0x80, /* a flag beside one of these: a write waits for the device (O_DSYNC, O_SYNC) */
};

struct aiofs_file {
    _Atomic int32_t refs;
    _Atomic int fd;          /* the program's number; -1 after the close */
    _Atomic int engine_fd;   /* the engine's number; -1 until received. Guarded by channel.lock */
    _Atomic int flags;       /* of open(2), as F_GETFL returns them */
    enum file_kind kind;
    bool owned;              /* aiofs opens and closes it; else plain: it exists while requests are in flight on it */
    _Atomic bool closing;    /* owned: it refuses new requests */
    bool closed;             /* owned: its opener has closed it */
    _Atomic unsigned inside; /* calls that use the program's number now; aiofs_file_close waits for them */
    bool bound;              /* its descriptor was sent to the engine's table */
    bool seekable;
    bool watched;            /* registered with epoll. Only the reactor uses this */
    bool refuses;            /* the kernel refuses RWF_NOWAIT, so each call may block. Constant for regular files; only
                                the reactor changes a stream's */
    mode_t type;             /* S_IFMT of its mode */
    bool nameless;           /* unlinked: the last close may have to free many blocks */
    _Atomic uint8_t hint;    /* enum inline_hint */
    _Atomic bool dirty;      /* changed since the last flush */
    _Atomic unsigned syncing; /* threads inside file_sync_changes */
    dev_t dev;
    ino_t ino;
    aiofs_lock_ref *lock_ref;
    const struct aiofs_ops *ops;
    void *self;
    struct aiofs_link in_flight; /* requests in order of submission */
    _Atomic unsigned long outstanding, changing; /* all requests; those that change bytes or the size. Read unlocked */
    _Atomic unsigned barriers;   /* requests in flight that wait for all earlier ones */
    _Atomic unsigned ending;     /* requests that have left, and whose completion is not yet published */
    struct lane lanes[LANES];
    struct aiofs_link held;      /* barriers that wait until they are the oldest */
    struct aiofs_span *writes, *reads; /* trees of the ordered requests in flight; truncates are writes */
    uint64_t sequence;           /* of the last request */
    _Atomic uint64_t appending;  /* bytes of appends in flight */
    struct aiofs_link all;       /* link in engine.files */
    struct aiofs_link leaving;   /* link in engine.kept; or in engine.releasing, then in engine.closing */
    int64_t kept_until;          /* not 0: in engine.kept, with a reference, at least until this time */
    struct aiofs_job job;        /* frees the file on a host thread, if this thread may not */
};

/* Allocates the table slot of `fd` and memory for `count` files, because nothing is allocated under the lock. 0 or
 * -ENOMEM. */
int file_reserve(int fd, unsigned count);
struct file_facts;
/* The file of a plain descriptor, retained: the file with requests in flight on the same open file, or a new one. 0;
 * -EAGAIN: the engine cannot decide yet, or no memory is reserved; try again without the lock. Lock held. */
int file_of_descriptor(int fd, const struct file_facts *facts, aiofs_file **file);
/* The next file with requests in flight on a plain descriptor, retained; NULL: there is none. There is more than one
 * only if the open files cannot be distinguished. No lock. */
aiofs_file *file_next_in_flight(int fd, const struct file_facts *facts, aiofs_file *after);
/* The last request of a plain file leaves: does the binding stay for the next request? Lock held. */
bool file_keep(aiofs_file *file);
/* Ends the kept bindings whose time is over. Returns the ms after which to call it again; -1: no binding is kept. On
 * the reactor, lock held. */
int files_expire_kept(void);
/* fdatasync, if the file changed since the last flush; `fd` is its number in this thread's table. No lock. */
int file_sync_changes(aiofs_file *file, int fd);
/* aiofs_file_close, if it is known whether the number is lost. */
int file_close(aiofs_file *file, bool lost);
bool file_number_lost(const aiofs_file *file); /* owned: the program closed the number with close(2). No lock. */
/* Releases the entry's lock, after the opener's close and the last request. On the program's table, no lock held. */
void file_end_use(aiofs_file *file);
/* Can closing the file's descriptor wait for a peer, a server, a device, or the freeing of many blocks? */
bool file_close_can_block(const aiofs_file *file);
bool file_kind_can_block(const aiofs_file *file); /* the same, without asking whether the file was unlinked meanwhile */
void files_after_fork(void);
void files_meet_reactor(void);

/* ---- what a descriptor is: descriptor.c ------------------------------------------------------------- */

struct file_facts { /* what statx and F_GETFL return for a descriptor */
    struct stat stat; /* of aiofs_fstat_cached, which blocks on no server */
    int flags;
    enum file_kind kind;
    bool seekable;
    bool on_disk; /* it is known not to be on tmpfs */
};
/* 0; -EBADF: it is closed, O_PATH, or the engine's own; another error of fcntl(2) or statx(2). */
int file_examine(int fd, struct file_facts *facts);
/* aiofs_file_adopt of a descriptor that was examined. */
int file_adopt(int fd, const struct file_facts *facts, aiofs_lock_ref *lock_ref, const struct aiofs_ops *ops, void *self,
               aiofs_file **out);
/* Do all open files of this kind share one inode (eventfd, epoll, ...; /dev/ptmx)? */
bool file_is_cloned(const struct stat *stat);
bool file_refuses_nowait(int fd, const struct file_facts *facts);
enum inline_hint file_hint_of(int fd, const struct file_facts *facts);
int file_classify(int fd);           /* the hint for a plain descriptor */

/* ---- which file a number leads to: fd_table.c -------------------------------------------------------- */

bool file_number_busy(int fd);       /* requests are in flight on a plain descriptor. No lock. */
/* How many requests on a plain number have left their file and are not yet notified. NULL: the number was never used.
 * No lock. */
_Atomic unsigned *file_number_ending(int fd);
struct file_hint {                    /* of a plain descriptor */
    _Atomic uint8_t known;            /* enum inline_hint */
    _Atomic uint8_t uses;             /* a counter; the descriptor is examined again when it wraps to 0 */
};
struct file_hint *file_hint(int fd); /* NULL: number out of range, or no memory. No lock. */
bool file_is_found(const aiofs_file *file); /* does the table lead from its number to this plain file? Lock held */
void file_unregister(aiofs_file *file);  /* removes the file from the table */

/* ---- requests: request.c; the order in which they run: lane.c ------------------------------------- */

enum request_phase {
    PHASE_WAITING,    /* in a lane, blocked, or an AIOFS_CALL that has not started: cancelling only unlinks it */
    PHASE_RUNNING,    /* a carrier performs it; for a stream the reactor does */
    PHASE_CANCELLING, /* the reactor performs it and was asked to cancel it: in engine.cancelling */
    PHASE_ADOPTED,    /* on a stream, in engine.adopted: waits for a worker */
    PHASE_BLOCKING,   /* on a stream: a worker performs it */
    PHASE_PARKED,     /* an AIOFS_CALL that is called again later: in no queue */
    PHASE_ENDING,     /* detached from its file; its state is about to become terminal */
};

static inline bool is_barrier(const aiofs_request *request)
{
    return request->op >= AIOFS_FSYNC && request->op <= AIOFS_FLUSH;
}

static inline bool changes_bytes(const aiofs_request *request)
{
    return request->op == AIOFS_WRITE || request->op == AIOFS_TRUNCATE;
}

/* A request of no bytes. Only read(2) and write(2) pass such a call on to the file; preadv2 and pwritev2 return 0. */
static inline bool is_empty(const aiofs_request *request)
{
    return request->total == 0 && (request->op == AIOFS_READ || request->op == AIOFS_WRITE);
}

/* The offset of the bytes that are left, for the kernel. For an append the kernel ignores the offset, but refuses an
 * invalid one. So an invalid offset is replaced by one that the kernel accepts, and at which a write must fail if the
 * program cleared O_APPEND meanwhile. */
static inline int64_t position_of(const aiofs_request *request, const aiofs_file *file)
{
    bool is_bad = request->offset < 0 || (int64_t)request->total > INT64_MAX - request->offset;
    if (!file->seekable)
        return -1;
    return is_bad ? INT64_MAX - (int64_t)request->total : request->offset + (int64_t)request->moved;
}

/* The next buffers of a request, behind its first `moved` bytes: at most `limit` bytes in at most `max` pieces. */
int request_rest(const aiofs_request *request, struct iovec *out, int max, size_t limit, size_t *length);

/* Changes a number that threads change only under the lock, and read without it. */
static inline void count_by(_Atomic unsigned long *number, long by)
{
    unsigned long now = atomic_load_explicit(number, memory_order_relaxed);
    atomic_store_explicit(number, now + (unsigned long)by, memory_order_relaxed);
}

/* Lanes; lane.c. Lock held, except in lane_ended. */
/* Adds a request to its file: blocked, in a lane, or on the list `outside`. The caller passes that list to
 * request_start_outside after it has released the lock. */
void lane_arrive(aiofs_request *request, struct aiofs_link *outside);
/* Removes a request from its file, and unblocks the requests that waited for it. */
void lane_leave(aiofs_request *request, struct aiofs_link *outside);
/* Call this when the completion of a request that left is published. True: a barrier may now run; call lane_pass. No
 * lock. */
bool lane_ended(aiofs_file *file);
void lane_pass(aiofs_file *file, struct aiofs_link *outside);
/* Removes a waiting request from every queue. The caller must then finish it. */
void lane_withdraw(aiofs_request *request);
/* Puts a lane into its carrier's run queue, if the lane may run a request. */
void lane_offer(struct lane *lane);
/* Takes the next request of the first lane in a run queue. The lane goes to the end of the queue if it may run more. */
aiofs_request *lane_take(struct aiofs_link *run_queue);

/* request_accept makes the state AIOFS_SUBMITTED. request_reject takes that back and returns -EAGAIN. */
void request_accept(aiofs_request *request);
int request_reject(aiofs_request *request);
/* Returns to the quota what was charged for growth that did not happen; on any table. */
void request_uncharge(const aiofs_request *request, aiofs_file *file);
void request_end_charge(aiofs_request *request, aiofs_file *file);
/* Detaches a request from its file and completes it; no lock held. */
void request_finish(aiofs_request *request, int64_t result);
/* Publishes the completion of a detached request and calls its hook; no lock held. */
void request_end(aiofs_request *request, int64_t result);
/* The result after a failed attempt: the count if earlier attempts moved bytes, else the error. */
static inline int64_t request_outcome(const aiofs_request *request, int64_t error)
{
    return request->moved ? (int64_t)request->moved : error;
}

/* Slow writes; slow_write.c. No lock. */
struct aiofs_write_backoff *write_backoff_of(aiofs_lock_ref *lock_ref); /* NULL: of all files outside volumes */
/* Do writes inside the call wait until later? */
bool write_backoff_holds(const struct aiofs_write_backoff *backoff, int64_t now);
void write_begins(int64_t now); /* this thread is about to write */
bool write_waited(int64_t begun, int64_t ended); /* the write was slow, and this thread waited in it */
/* A write inside the call waited; a worker's write waited while the back-off held. */
void write_backoff_begin(struct aiofs_write_backoff *backoff, int64_t now);
void write_backoff_prolong(struct aiofs_write_backoff *backoff, int64_t now);

/* ---- buffers that lie badly: bounce.c. No lock. --------------------------------------------------------- */

enum { BOUNCE_LEAST = 512, BOUNCE_MAX = 128 * 1024 }; /* bytes of a piece that is worth it; bytes of one system call */

/* Does the kernel copy slowly between these buffers and the cached bytes at `offset`? False also where it is known that
 * no copy is slow on this processor. */
static inline bool bounce_suits(const struct iovec *iov, int iovcnt, int64_t offset, bool writes)
{
    enum { NEAR = 31, PAGE_MASK = 4095 };
    if (atomic_load_explicit(&aiofs_bounce, memory_order_relaxed) == AIOFS_BOUNCE_NEVER)
        return false;
    uintptr_t position = (uintptr_t)offset;
    for (int i = 0; i < iovcnt; position += iov[i++].iov_len) {
        uintptr_t buffer = (uintptr_t)iov[i].iov_base;
        uintptr_t after = (writes ? position - buffer : buffer - position) & PAGE_MASK; /* the destination's distance */
        if (after - 1 < NEAR && iov[i].iov_len >= BOUNCE_LEAST)
            return true;
    }
    return false;
}
/* Reads through a bounce buffer, in pieces. `flags`: RWF_NOWAIT; 0 for a file that never blocks. False: make the call
 * directly. `got` is as preadv2 returns it. The buffers must be mapped. */
bool bounce_read(int fd, const struct iovec *iov, int iovcnt, int64_t offset, int flags, ssize_t *got);
/* Writes by one system call, at most BOUNCE_MAX bytes. False: make the call directly; also if the bytes are more and
 * `whole` forbids a short count. */
bool bounce_write(int fd, const struct iovec *iov, int iovcnt, int64_t offset, bool whole, ssize_t *put);

/* ---- carriers: reactor.c with ring.c or poll.c, pool.c, host_threads.c, outside.c ----------------- */

/* The two implementations of the reactor: io_uring (ring.c) and epoll (poll.c). Only the reactor thread calls these. */
struct reactor_ops {
    const char *name;
    int (*open)(void);                   /* 0, or why it cannot be used */
    void (*close)(void);                 /* the engine could not start: frees what `open` allocated */
    unsigned (*room)(void);              /* how many more requests on seekable files; streams have no limit */
    void (*begin)(aiofs_request *request);
    void (*cancel)(aiofs_request *request);
    void (*release)(aiofs_file *file);   /* call before the engine_fd of a watched file is closed */
    void (*turn)(int timeout_ms);        /* submits, waits, finishes what is complete; -1: no time limit */
};
extern const struct reactor_ops reactor_ring, reactor_poll;

/* The reactor; reactor.c. */
int reactor_start(const struct reactor_ops *reactor); /* opens the channel, starts the first worker; 0 or an error */
bool engine_has_work(void); /* lock held: does the reactor have something to do? */
/* On the reactor: sleeps a moment when its waiting system call fails, so that the reactor does not spin. (A program can
 * forbid a system call to all its threads.) */
void engine_nap(void);

/* On the reactor: one non-blocking attempt at a request on a stream. The count, -EAGAIN, another error, or -EOPNOTSUPP:
 * only a system call that may block can perform it. poll.c */
ssize_t stream_attempt(aiofs_request *request, int fd);
/* Is it a read of a terminal with VMIN 0? Such a read may return 0 bytes, so it must not wait for readiness. */
bool stream_times_out(const aiofs_request *request, int fd);

/* Workers: threads on the engine's table that may block; pool.c. */
bool pool_wants_worker(void);    /* lock held: there is work and no idle worker */
bool pool_is_starting(void);     /* lock held: a started worker does not run yet */
void pool_signal(void);          /* lock held: wakes one idle worker for new work */
void pool_shrink(void);          /* lock held: idle workers exit, if host_threads_scarce is true */
bool pool_spawn(void);           /* on the reactor: starts a worker if one is wanted; false: it could not */
bool pool_start(void);           /* on the reactor, once: starts the first worker, which stays; false: it could not */
bool pool_adopt(aiofs_request *request); /* on the reactor: passes a request on a stream to a worker; false: the
                                            reactor was asked to cancel the request */
void pool_reset(void);           /* forgets all workers: at the start, and in the child of a fork */

/* Host threads: threads on the program's table that may block; host_threads.c. */
int host_threads_start(void);               /* starts the first one; on a thread of the program */
void host_threads_stop(void);               /* the engine could not start: the first one exits */
void host_threads_notify(void);             /* no lock: a host thread shall start the threads of notifications */
bool host_threads_scarce(void);             /* lock held: a notification waits for a thread, so idle threads exit */
bool host_threads_are_idle(void);           /* lock held: every host thread runs and is idle, and no work is queued */
void host_threads_add(struct aiofs_job *job); /* lock held */
void host_threads_reset(void);              /* forgets all host threads: at the start, and in the child of a fork */
int host_threads_call(aiofs_request *request);                     /* AIOFS_CALL: 0 or -EAGAIN */
void host_threads_carry(aiofs_request *request);    /* for outside_carry; lock held, and released for a while */
void host_threads_sync_dir(aiofs_request *request);               /* the second half of a sync */
void host_threads_retire(aiofs_request *request, int64_t result);  /* ends the use of its file, then the request */

/* Requests on files with their own operations (aiofs_ops); outside.c. */
/* Passes requests to their files' own operations; no lock held. */
void request_start_outside(struct aiofs_link *outside);
/* On a host thread: may this thread perform the request? False: the request waits for a place in its volume, whose
 * limit of threads is reached. Lock held. */
bool outside_begin(aiofs_request *request);
/* Performs the request, and then the requests that wait for a place in the same volume; no lock held. */
void outside_carry(aiofs_request *request);
void outside_after_fork(void);

/* A program whose main thread has called pthread_exit; main_exit.c. On the reactor, no lock: ends the process if only
 * threads of the engine are left. Returns the ms after which to call it again; -1: never. */
int main_exit_watch(void);

/* ---- the engine: engine.c ------------------------------------------------------------------------- */

struct engine {
    pthread_mutex_t lock;
    pthread_cond_t drained;           /* signalled when a file has no request in flight any more */
    _Atomic bool running;
    const struct reactor_ops *reactor;
    struct aiofs_link files;          /* every aiofs_file */
    struct aiofs_link calls;          /* AIOFS_CALL requests, waiting and running, by `in_flight` */
    struct aiofs_link run_queue[CARRIERS]; /* lanes */
    struct aiofs_link adopted;        /* requests on streams that only a worker can perform */
    struct aiofs_link cancelling;     /* requests that the reactor shall cancel */
    struct aiofs_link kept;           /* plain files whose binding is kept, the most recently used last */
    struct aiofs_link releasing;      /* files whose engine_fd the reactor shall close, or pass on to a worker */
    struct aiofs_link closing;        /* files whose engine_fd a worker shall close */
    struct aiofs_link wakeups;        /* wakeup fds that the reactor shall write to, or close */
    unsigned long outstanding;
    _Atomic unsigned long alive;      /* requests whose `done` has not returned; no lock */
    unsigned long thread_changes;     /* how often a worker or host thread started or exited */
    struct aiofs_counters counters;
};
extern struct engine engine;

extern _Thread_local bool on_engine_table; /* this thread has the engine's descriptor table */
extern _Thread_local bool on_reactor;       /* this thread is the reactor */

/* The reactor must not make a system call that can block. Debug builds check it. */
#ifdef AIOFS_DEBUG
#define MUST_NOT_BLOCK_REACTOR(can_block) assert(!(on_reactor && (can_block)))
#else
#define MUST_NOT_BLOCK_REACTOR(can_block) ((void)0)
#endif

/* Counts each worker and host thread when it starts and when it exits; lock held. */
static inline void count_threads_by(int by)
{
    engine.counters.workers += (uint64_t)by;
    engine.thread_changes++;
}

#define COUNT(counter) __atomic_fetch_add(&engine.counters.counter, 1, __ATOMIC_RELAXED)
#define READ_COUNT(counter) __atomic_load_n(&engine.counters.counter, __ATOMIC_RELAXED)

/* ---- the channel between the two descriptor tables: channel.c ---------------------------------------- */

int channel_open(void); /* 0 or -EAGAIN */
void channel_close(void); /* closes the program's ends */
void channel_close_inside(void); /* closes the engine's ends in the table of this thread */
void channel_leave_table(void); /* the reactor calls it first: gives its thread a table of its own */
bool channel_has_own_table(void); /* false: the kernel refused that, and the engine shares the program's table */
bool channel_owns(int fd); /* is `fd` an end of the channel in the program's table, not opened by the program? */
bool channel_reaches(void); /* the reactor is awake, or can be woken; lock held */
void channel_sleep(void); /* on the reactor: from now on other threads must wake it */
void channel_awake(void); /* on the reactor: it is awake */
void channel_drain(void); /* on the reactor: receives all messages, if a thread asked for that */
void channel_fork_prepare(void);
void channel_fork_parent(void);
void channel_fork_child(bool running);

/* Wakes the reactor if it sleeps. Needs no lock. Cheap if the reactor is awake: one atomic exchange. */
void engine_wake(void);

/* A descriptor number of the engine's table is kept in the field engine_fd of its owner, a file or a wakeup fd. It is
 * -1 until the message with the descriptor is received, and another negative number if the receipt failed. */
/* Sends a descriptor to the engine's table. Lock held. 0, -EBADF, -ENOMEM; -EAGAIN: the channel's socket is full, try
 * again without the lock. */
int channel_send(_Atomic int *engine_fd, int fd);
/* The number; receives messages until it is known. Only on the engine's table; no lock. */
int channel_receive(_Atomic int *engine_fd);
/* The number, or -1: not received yet. In that case the reactor receives it in its next turn. */
int channel_look(const _Atomic int *engine_fd);
/* Does `fd`, in this thread's table, lead to the same open file? 1, 0; -EAGAIN: not received yet; -ENOSYS: this kernel
 * cannot compare. No thread may close the engine's number during the call. */
int channel_compare(const _Atomic int *engine_fd, int fd);

/* channel_send and channel_receive for a file. */
int engine_bind(aiofs_file *file, int fd);
int engine_fd_of(aiofs_file *file);
/* Closes the engine's descriptor of a file; only on the engine's table, no lock. */
void engine_fd_close(aiofs_file *file);
/* For a reactor that can wait for a futex: the word that is 1 while the reactor sleeps. The reactor calls this before
 * it first waits; from then on engine_wake wakes the futex and does not write to the pipe. */
_Atomic uint32_t *channel_futex(void);

int engine_wake_fd(void); /* the pipe's read end: readable when the reactor was woken */
void engine_notified(void);   /* on the reactor: the pipe is readable, channel_awake must read it */

/* ---- how the program is notified: wakeup.c, notify.c ---------------------------------------------- */

/* Writes to the wakeup fds in engine.wakeups, and closes those without a reference; on the reactor. wakeup.c */
void wakeups_serve(void);

/* Sends the signals again that the kernel refused; true: some are still refused. */
bool notify_retry(void);
#define AIOFS_NEVER INT64_MAX
/* On a host thread: starts the threads of the notifications that wait for one. Returns AIOFS_NEVER, or the time at
 * which to try again. */
int64_t notify_start_threads(void);
void notify_fork_prepare(void);
void notify_fork_parent(void);
void notify_fork_child(void);

#endif
