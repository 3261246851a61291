/*
 * internal.h - what the engine's files share: files and their lanes, the carriers, the engine's threads.
 *
 * A request waits in a lane of its file until the lane may run it. A lane is a queue with a limit: one
 * for what must keep its order (a stream's direction, appends, buffered writes, which the kernel
 * serialises by inode anyway), many for what need not. A lane with something to run stands in the run
 * queue of its carrier; carriers take lanes in turn, one request each, so that a descriptor with 10,000
 * requests, or a slow one, holds up nobody else.
 *
 *     submit -> [held back: barrier, overlap] -> lane.waiting -> carrier -> finish -> done
 *
 * Two descriptor tables. The engine's threads (the reactor and the workers) have a table of their own:
 * the open file of a request is handed over to it at the call (SCM_RIGHTS over the channel), so a number
 * that the program closes and reuses means nothing to a request in submission, and closing our copy does
 * not drop the program's fcntl locks. What needs the program's own numbers (AIOFS_CALL, releasing a
 * lock reference, syncing a name) runs on the host threads, the second kind of worker. Whatever is called `engine_fd`
 * is a number of the engine's table; everything else is the program's.
 *
 * Everything below is guarded by engine.lock unless it says otherwise.
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
    KIND_STREAM,  /* pipes, sockets, terminals and other devices: readiness decides */
    KIND_DIRECTORY,
};

enum lane_name {
    LANE_READ,  /* reads that the reactor can have in flight, or any read with the threads engine */
    LANE_COPY,  /* long buffered reads: mostly memory copies, for workers */
    LANE_WRITE,
    LANE_SYNC,  /* fsync, flush, truncate: one at a time, after everything before them */
    LANES,
    LANE_HELD = LANES, /* in no lane yet: blocked by earlier requests of the file */
    LANE_CALL,         /* AIOFS_CALL, which has no file */
};

enum carrier {
    CARRIER_STREAMS, /* the reactor, as many as there are */
    CARRIER_RING,    /* the reactor, as many as it has room for */
    CARRIER_WORKERS,
    CARRIERS,
};

struct lane {
    aiofs_file *file;
    struct aiofs_link waiting;  /* requests by priority, then by order of the calls */
    struct aiofs_link runnable; /* in the carrier's run queue while waiting and running < limit */
    aiofs_request *current;     /* the running request, of lanes with limit 1 */
    unsigned running, limit;
    enum carrier carrier;
    bool call_order;            /* priorities are ignored */
};

/* What may be done inside the call; kept per file, and per number for plain descriptors. */
enum inline_hint {
    HINT_UNKNOWN,
    HINT_NOWAIT, /* a regular file: RWF_NOWAIT says whether it would block */
    HINT_MEMORY, /* tmpfs: never blocks, refuses RWF_NOWAIT */
    HINT_ENGINE, /* O_DIRECT, streams, and where the kernel refuses RWF_NOWAIT */
    HINT_SYNC = 0x80, /* beside one of these: a write waits for the device (O_DSYNC, O_SYNC) */
};

struct aiofs_file {
    _Atomic int32_t refs;
    _Atomic int fd;          /* the program's number; -1 once closed */
    _Atomic int engine_fd;   /* -1 until received; guarded by channel.lock */
    _Atomic int flags;       /* of open(2), as F_GETFL gives them */
    enum file_kind kind;
    bool owned;              /* aiofs opened it and closes it; else it is here while requests are */
    _Atomic bool closing;    /* owned: it refuses requests */
    bool closed;             /* owned: its opener has closed it */
    _Atomic unsigned inside; /* calls that use the program's number now; aiofs_file_close waits for them */
    bool bound;              /* its descriptor has been sent to the engine's table */
    bool seekable;
    bool watched;            /* known to epoll; the reactor's */
    bool refuses;            /* the kernel refuses RWF_NOWAIT on it, and a call may block at any length; constant for
                                regular files, a stream's is the reactor's */
    mode_t type;             /* S_IFMT of its mode */
    bool nameless;           /* unlinked: its last close may have much to free */
    _Atomic uint8_t hint;    /* enum inline_hint */
    _Atomic bool dirty;      /* changed since the last flush */
    dev_t dev;
    ino_t ino;
    aiofs_lock_ref *lock_ref;
    const struct aiofs_ops *ops;
    void *self;
    struct aiofs_link in_flight; /* requests in order of submission */
    _Atomic unsigned long outstanding, changing; /* all; and those that change bytes or the size. Read anywhere */
    _Atomic unsigned barriers;   /* those that wait for all earlier ones */
    _Atomic unsigned ending;     /* requests that have left, and whose end is not yet published */
    struct lane lanes[LANES];
    struct aiofs_link held;      /* barriers that wait until they are the oldest */
    struct aiofs_span *writes, *reads; /* trees of the ordered ones in flight; truncates are writes */
    uint64_t sequence;           /* of the last request */
    _Atomic uint64_t appending;  /* bytes of appends in flight */
    struct aiofs_link all;       /* engine.files */
    struct aiofs_link leaving;   /* engine.kept; or engine.releasing, then engine.closing */
    int64_t kept_until;          /* in engine.kept, with a reference, until then at least; 0: not there */
    struct aiofs_job job;        /* its end, where a host thread has to do it */
};

struct file_facts { /* what one fstat and one F_GETFL say of a descriptor */
    struct stat stat;
    int flags;
    enum file_kind kind;
    bool seekable;
};

int file_examine(int fd, struct file_facts *facts);
/* The file that requests on a plain descriptor share, retained; found among those with requests in
 * flight, or new. 0; -ENOMEM; -EAGAIN: it cannot be told yet, try again without the lock. Lock held. */
int file_of_descriptor(int fd, const struct file_facts *facts, aiofs_file **file);
/* Those with requests in flight on a plain descriptor, one after the other, retained; NULL: no more. There
 * are several only where open files cannot be told apart. No lock. */
aiofs_file *file_next_in_flight(int fd, const struct file_facts *facts, aiofs_file *after);
void file_forget(aiofs_file *file);  /* no longer findable by its number */
/* Its last request leaves, on the reactor: does its binding stay for the next one? Lock held. */
bool file_keep(aiofs_file *file);
/* Lets go of the bindings that nobody used for a while; the ms after which it has to be called again, -1: never. On the
 * reactor, lock held. */
int files_let_go(void);
bool file_number_lost(const aiofs_file *file); /* an owned one's: somebody else closed it. No lock. */
/* The opener has closed it and nothing is in flight: gives up its lock. On the program's table, no lock held. */
void file_end_use(aiofs_file *file);
/* Can closing its descriptor wait: for a peer, a server, a device, or the freeing of many blocks? */
bool file_close_can_block(const aiofs_file *file);
int file_classify(int fd);           /* the hint for a plain descriptor */
bool file_number_busy(int fd);       /* requests are in flight on a plain descriptor. No lock. */
/* How many requests on a plain number have left their file, and are not yet notified. NULL: none ever. No lock. */
_Atomic unsigned *file_number_ending(int fd);
struct file_hint {                    /* of a plain descriptor */
    _Atomic uint8_t known;            /* enum inline_hint */
    _Atomic uint8_t uses;             /* it is examined anew when this comes round */
};
struct file_hint *file_hint(int fd); /* NULL: number out of range. No lock. */
void files_after_fork(void);
void files_meet_reactor(void);

/* ---- requests: request.c, and in what order they run: lane.c -------------------------------------- */

enum request_phase {
    PHASE_WAITING,    /* in a lane, held back, or a call not yet begun: cancelling it is taking it out */
    PHASE_RUNNING,    /* with a carrier; a stream's: with the reactor */
    PHASE_CANCELLING, /* with the reactor, which has been asked to cancel it: in engine.cancelling */
    PHASE_ADOPTED,    /* a stream's, in engine.adopted: waits for a worker */
    PHASE_BLOCKING,   /* a stream's, with a worker */
    PHASE_ENDING,     /* detached; its state is about to be terminal */
};

static inline bool is_barrier(const aiofs_request *request)
{
    return request->op >= AIOFS_FSYNC && request->op <= AIOFS_FLUSH;
}

static inline bool changes_bytes(const aiofs_request *request)
{
    return request->op == AIOFS_WRITE || request->op == AIOFS_TRUNCATE;
}

/* It moves no bytes: only read(2) and write(2) themselves ask the file then. */
static inline bool is_empty(const aiofs_request *request)
{
    return request->total == 0 && (request->op == AIOFS_READ || request->op == AIOFS_WRITE);
}

/* Where the kernel shall move what is left. It ignores this for an append, but refuses a bad offset all the same; if
 * O_APPEND was cleared meanwhile, a bad one must not become a good one. */
static inline int64_t position_of(const aiofs_request *request, const aiofs_file *file)
{
    bool is_bad = request->offset < 0 || (int64_t)request->total > INT64_MAX - request->offset;
    if (!file->seekable)
        return -1;
    return is_bad ? INT64_MAX - (int64_t)request->total : request->offset + (int64_t)request->moved;
}

/* The next buffers of a request, `moved` bytes in, at most `limit` bytes and `max` pieces. */
int request_rest(const aiofs_request *request, struct iovec *out, int max, size_t limit, size_t *length);

/* For a number that is changed under the lock only, and read without it. */
static inline void count_by(_Atomic unsigned long *number, long by)
{
    unsigned long now = atomic_load_explicit(number, memory_order_relaxed);
    atomic_store_explicit(number, now + (unsigned long)by, memory_order_relaxed);
}

/* Lanes; lane.c. The lock is held. */
/* Puts a request in its place among those of its file: held back, in a lane, or on `outside`, for the
 * caller to hand to the file's own operations once the lock is free. */
void lane_arrive(aiofs_request *request, struct aiofs_link *outside);
/* Takes a request out for good and lets those that waited for it go on. */
void lane_leave(aiofs_request *request, struct aiofs_link *outside);
/* The end of one that left is published: a barrier may go on. True: the caller lets it, by lane_pass. */
bool lane_ended(aiofs_file *file);
void lane_pass(aiofs_file *file, struct aiofs_link *outside);
/* Takes a waiting request out of every queue: it is the caller's now, to be ended. */
void lane_withdraw(aiofs_request *request);
/* Puts a lane into its carrier's run queue, if it has something to run. */
void lane_offer(struct lane *lane);
/* The next request of the first lane in a run queue; the lane goes to the end if it has more. */
aiofs_request *lane_take(struct aiofs_link *run_queue);

/* It is submitted, as far as its state can tell; or is not, after all: -EAGAIN. */
void request_accept(aiofs_request *request);
int request_reject(aiofs_request *request);
/* Gives back what was charged for growth that did not come; on any table. */
void request_settle(const aiofs_request *request, aiofs_file *file);
/* Detaches a request from its file and ends it; no lock held. */
void request_finish(aiofs_request *request, int64_t result);
/* Publishes the end of a detached request and calls its hook; no lock held. */
void request_end(aiofs_request *request, int64_t result);
/* A partial result: the count if bytes were moved, else the error. */
static inline int64_t request_outcome(const aiofs_request *request, int64_t error)
{
    return request->moved ? (int64_t)request->moved : error;
}

/* ---- what carries them out: reactor.c with ring.c or poll.c, pool.c, host_threads.c, outside.c ---- */

/* What the reactor thread runs: io_uring (ring.c) or epoll (poll.c). Only that thread calls these. */
struct reactor_ops {
    const char *name;
    int (*open)(void);                   /* 0, or why it cannot be had */
    unsigned (*room)(void);              /* requests on seekable files it takes now; streams always */
    void (*begin)(aiofs_request *request);
    void (*cancel)(aiofs_request *request);
    void (*release)(aiofs_file *file);   /* before the engine_fd of a watched file is closed */
    void (*turn)(int timeout_ms);        /* submit, wait, finish what is complete; -1 waits */
};
extern const struct reactor_ops reactor_ring, reactor_poll;

/* The reactor; reactor.c. */
int reactor_start(const struct reactor_ops *reactor); /* with its channel and the first worker; 0, or why not */
bool engine_has_work(void); /* lock held: for the reactor */
/* On the reactor: its way of waiting fails (the program may forbid a system call to all its threads): no busy loop. */
void engine_nap(void);

/* One attempt at a stream that does not block, on the reactor: what was moved, -EAGAIN, another error, or
 * -EOPNOTSUPP: only a call that may block can do it. poll.c */
ssize_t stream_attempt(aiofs_request *request, int fd);
/* Readiness says nothing of a read: a terminal set to VMIN 0 gives what there is, or nothing. */
bool stream_times_out(const aiofs_request *request, int fd);

/* Workers: threads on the engine's table that may block; pool.c. */
bool pool_wants_worker(void);    /* lock held: there is work and nobody to do it */
bool pool_is_starting(void);     /* lock held: some worker is not running yet */
void pool_signal(void);          /* lock held: there is work */
void pool_shrink(void);          /* lock held: those that are idle end, if host_threads_starve */
bool pool_spawn(void);           /* on the reactor: starts what is wanted; false: it could not */
bool pool_start(void);           /* on the reactor, once: the first worker, which stays; false: it could not */
bool pool_adopt(aiofs_request *request); /* by the reactor: a stream's request that needs a worker; false: it
                                            has been asked to cancel it */
void pool_reset(void);           /* no worker is there: at the start, and in the child of a fork */

/* Host threads: threads on the program's table that may block; host_threads.c. */
int host_threads_start(void);               /* the first one; on a thread of the program's */
void host_threads_stop(void);               /* there is no engine, after all */
void host_threads_notify(void);             /* no lock: there are notifications whose thread is to be started */
bool host_threads_starve(void);             /* lock held: some wait for a thread that is not to be had: idle ones end */
bool host_threads_are_idle(void);           /* lock held: all of them, and all that were started */
void host_threads_add(struct aiofs_job *job); /* lock held */
void host_threads_reset(void);              /* no host thread is there: at the start, and in the child of a fork */
int host_threads_call(aiofs_request *request);                     /* AIOFS_CALL: 0 or -EAGAIN */
void host_threads_carry(aiofs_request *request);                   /* one for outside_carry; lock held, let go meanwhile */
void host_threads_sync_dir(aiofs_request *request);               /* the second half of AIOFS_FLUSH */
void host_threads_retire(aiofs_request *request, int64_t result);  /* ends the use of its file, then the request */

/* Requests on files whose operations are not the kernel's; outside.c. */
/* Hands requests on to their files' own operations; no lock held. */
void request_start_outside(struct aiofs_link *outside);
/* For a host thread: may it carry the request out? False: the request waits at its volume's gate. Lock held. */
bool outside_begin(aiofs_request *request);
/* Carries it out, and those that wait behind it; no lock held. */
void outside_carry(aiofs_request *request);
void outside_after_fork(void);

/* The end of a program whose main thread has left; main_exit.c. On the reactor, no lock: has the process ended if no
 * thread but ours is left; the ms after which it wants to look again, -1: never. */
int main_exit_watch(void);

/* ---- the engine: engine.c ------------------------------------------------------------------------- */

struct engine {
    pthread_mutex_t lock;
    pthread_cond_t drained;           /* some file has nothing in flight any more */
    _Atomic bool running;
    const struct reactor_ops *reactor;
    struct aiofs_link files;          /* every aiofs_file */
    struct aiofs_link calls;          /* AIOFS_CALL requests, waiting and running, by `in_flight` */
    struct aiofs_link run_queue[CARRIERS]; /* lanes */
    struct aiofs_link adopted;        /* stream requests that only a worker can carry out */
    struct aiofs_link cancelling;     /* requests the reactor shall cancel */
    struct aiofs_link kept;           /* plain files with nothing in flight, the one used last at the end */
    struct aiofs_link releasing;      /* files whose engine_fd the reactor shall close, or hand on to be closed */
    struct aiofs_link closing;        /* files whose engine_fd a worker shall close */
    struct aiofs_link wakeups;        /* wakeup fds that the reactor shall write to, or close */
    unsigned long outstanding;
    _Atomic unsigned long alive;      /* requests whose `done` has not returned; no lock */
    unsigned long thread_changes;     /* how often a thread of ours started or ended */
    struct aiofs_counters counters;
};
extern struct engine engine;

extern _Thread_local bool on_engine_table; /* this thread has the engine's descriptor table */
extern _Thread_local bool on_reactor;       /* this is the reactor */

/* Nothing that can block runs on the reactor. */
#ifdef AIOFS_DEBUG
#define MUST_NOT_BLOCK_REACTOR(can_block) assert(!(on_reactor && (can_block)))
#else
#define MUST_NOT_BLOCK_REACTOR(can_block) ((void)0)
#endif

/* For every thread of ours but the reactor, as it starts and as it ends; lock held. */
static inline void count_threads_by(int by)
{
    engine.counters.workers += (uint64_t)by;
    engine.thread_changes++;
}

#define COUNT(counter) __atomic_fetch_add(&engine.counters.counter, 1, __ATOMIC_RELAXED)
#define READ_COUNT(counter) __atomic_load_n(&engine.counters.counter, __ATOMIC_RELAXED)

/* ---- the channel between the two descriptor tables: channel.c ---------------------------------------- */

int channel_open(void); /* 0 or -EAGAIN */
void channel_close(void); /* the program's ends of it */
void channel_close_inside(void); /* what of the engine's ends is in this thread's table */
void channel_leave_table(void); /* the reactor's first act */
bool channel_has_own_table(void); /* false: the kernel did not let it, and the program's table is shared */
bool channel_owns(int fd); /* in the program's table it is an end of the channel: the program has not opened it */
bool channel_reaches(void); /* the reactor is awake, or can be woken; lock held */
void channel_sleep(void); /* the reactor's: from now on it has to be woken */
void channel_awake(void);
void channel_drain(void);
void channel_fork_prepare(void);
void channel_fork_parent(void);
void channel_fork_child(bool running);

/* Makes the reactor look at its queues; needs no lock, cheap if it is awake. */
void engine_wake(void);

/* An open file in the engine's table is a number that stands where its user keeps it (engine_fd): -1 until the message
 * with the descriptor is received, another negative number if that failed. */
/* Sends a descriptor to the engine's table. Lock held. 0, -EBADF, -ENOMEM; -EAGAIN: the channel is full, try again
 * without the lock. */
int channel_send(_Atomic int *engine_fd, int fd);
/* The number, received if need be; on the engine's table only, no lock. */
int channel_receive(_Atomic int *engine_fd);
/* The number, or -1: not yet; the reactor receives it in its next turn. */
int channel_look(const _Atomic int *engine_fd);
/* Is `fd`, of this thread's table, the same open file? 1, 0; -EAGAIN: not received yet; -ENOSYS: this kernel does not
 * tell. Nothing may close the engine's number meanwhile. */
int channel_compare(const _Atomic int *engine_fd, int fd);

/* The same of a file. */
int engine_bind(aiofs_file *file, int fd);
int engine_fd_of(aiofs_file *file);
/* Closes it, for good; on that table only, no lock. */
void engine_fd_close(aiofs_file *file);
/* The word on which the reactor sleeps while it is 1: on its thread, before it first waits, by a way of waiting that
 * needs no descriptor for this. */
_Atomic uint32_t *channel_futex(void);

int engine_wake_fd(void); /* readable when the reactor shall look at its queues */
void engine_notified(void);   /* the carrier tells that it is */

/* ---- how the program hears of an end: wakeup.c, notify.c ------------------------------------------ */

/* Writes to the wakeup fds in engine.wakeups, and closes those without a reference; on the reactor. wakeup.c */
void wakeups_serve(void);

/* Sends again the signals that the kernel refused; true: some are left. */
bool notify_retry(void);
#define AIOFS_NEVER INT64_MAX
/* On a host thread: starts the threads of the notifications that wait for one. AIOFS_NEVER, or when to try again. */
int64_t notify_start_threads(void);
void notify_fork_prepare(void);
void notify_fork_parent(void);
void notify_fork_child(void);

#endif
