/*
 * engine.c - the engine's start, its waiter thread, the channel to it, and what fork does to it all.
 *
 * One engine a process, started by the first call that needs it. Its threads:
 *
 *   the waiter    runs io_uring or epoll (waiter_ops). Started here; it leaves the program's
 *                 descriptor table for one of its own, which the workers it starts share. It never
 *                 blocks but in waiter_ops.turn.
 *   workers       pool.c, on the engine's table.   callers   callers.c, on the program's table.
 *
 * The channel is a socket pair: `here` in the program's table, `there` in the engine's. A message on it
 * hands over an open file. Sending is done under the engine lock, so whoever finds file->bound set knows
 * that the message is in the socket or already received; receiving is done under channel.lock by whichever
 * thread of the engine first needs a number. So a message says nothing to the waiter: what wakes it is an
 * eventfd that both tables have and that nobody else reads.
 *
 * Locks, in the order in which fork takes them: start lock, engine lock, channel lock. In the child
 * there is no engine: its conditions are made anew, the parent's requests are ended as cancelled, and the
 * next call starts an engine of the child's own.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "internal.h"

struct engine engine = {.lock = PTHREAD_MUTEX_INITIALIZER, .drained = PTHREAD_COND_INITIALIZER};
_Thread_local bool on_engine_table, on_waiter;

static struct {
    pthread_mutex_t lock; /* the engine_fd of every file */
    int here, there;
    int wake;              /* the eventfd */
    _Atomic bool asleep;   /* the waiter waits: somebody has to wake it */
    _Atomic bool crowded;  /* the socket was full: the waiter shall empty it */
    bool rung;             /* the waiter's: the eventfd has to be read */
} channel = {.lock = PTHREAD_MUTEX_INITIALIZER, .here = -1, .there = -1, .wake = -1};

static struct {
    pthread_mutex_t lock; /* held from the first to the last step of a start: no fork in the middle of it */
    bool own_table;       /* the engine's threads have a descriptor table of their own */
} start = {.lock = PTHREAD_MUTEX_INITIALIZER};

static struct { /* what the waiter reports to the start that made it */
    pthread_mutex_t lock;
    pthread_cond_t made;
    bool is_made;
    int outcome;
} report = {.lock = PTHREAD_MUTEX_INITIALIZER, .made = PTHREAD_COND_INITIALIZER};

static void lists_init(void)
{
    list_init(&engine.files);
    list_init(&engine.calls);
    for (enum carrier carrier = 0; carrier < CARRIERS; carrier++)
        list_init(&engine.run_queue[carrier]);
    list_init(&engine.adopted);
    list_init(&engine.cancelling);
    list_init(&engine.releasing);
}

int64_t aiofs_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* ---- threads ------------------------------------------------------------------------------------------ */

int engine_thread(const char *name, void *(*main)(void *), size_t stack)
{
    sigset_t all, before;
    pthread_attr_t attributes;
    pthread_t thread;
    sigfillset(&all);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, stack + PTHREAD_STACK_MIN);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&thread, &attributes, main, NULL);
    if (error == 0)
        pthread_setname_np(thread, name);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return error ? -EAGAIN : 0;
}

/* ---- the channel -------------------------------------------------------------------------------------- */

union rights {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int))];
};

/* An eventfd takes it, unless the program has closed it. */
static void ring(int eventfd)
{
    enum { TRIES = 3 };
    for (int tries = 0; tries < TRIES && aiofs_sys.eventfd_write(eventfd, 1) < 0; tries++)
        ;
}

void engine_wake(void)
{
    if (!atomic_exchange_explicit(&channel.asleep, false, memory_order_seq_cst))
        return;
    ring(channel.wake);
}

int engine_bind(aiofs_file *file, int fd)
{
    union rights rights;
    struct iovec bytes = {&file, sizeof(aiofs_file *)};
    struct msghdr message = {
        .msg_iov = &bytes, .msg_iovlen = 1, .msg_control = &rights, .msg_controllen = sizeof rights};
    /* The receiver knows the file by its address alone: this makes what stands there visible to it. */
    atomic_store_explicit(&file->engine_fd, -1, memory_order_release);
    memset(&rights, 0, sizeof rights);
    rights.header.cmsg_level = SOL_SOCKET;
    rights.header.cmsg_type = SCM_RIGHTS;
    rights.header.cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(&rights.header), &fd, sizeof fd);
    ssize_t sent;
    do
        sent = aiofs_sys.sendmsg(channel.here, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (sent == -EINTR);
    if (sent == -EAGAIN || sent == -ETOOMANYREFS) { /* until the messages before it are received */
        atomic_store(&channel.crowded, true);
        return -EAGAIN;
    }
    if (sent < 0)
        return sent == -EBADF ? -EBADF : -ENOMEM;
    file->bound = true;
    return 0;
}

/* Receives one message; channel.lock held. False: there was none. */
static bool receive(int flags)
{
    aiofs_file *file = NULL;
    union rights rights;
    struct iovec bytes = {&file, sizeof file};
    struct msghdr message = {
        .msg_iov = &bytes, .msg_iovlen = 1, .msg_control = &rights, .msg_controllen = sizeof rights};
    ssize_t got;
    do
        got = aiofs_sys.recvmsg(channel.there, &message, flags | MSG_CMSG_CLOEXEC);
    while (got == -EINTR);
    if (got != sizeof file)
        return false;
    (void)atomic_load_explicit(&file->engine_fd, memory_order_acquire); /* see engine_bind */
    int fd = -EMFILE; /* what a truncated control message means */
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_type == SCM_RIGHTS && header->cmsg_len == CMSG_LEN(sizeof fd))
        memcpy(&fd, CMSG_DATA(header), sizeof fd);
    atomic_store(&file->engine_fd, fd);
    return true;
}

int engine_fd_of(aiofs_file *file)
{
    enum { TRIES = 3 }; /* its message must not stay behind: the next file at this address would get it */
    int fd = atomic_load_explicit(&file->engine_fd, memory_order_acquire);
    if (fd != -1)
        return fd;
    pthread_mutex_lock(&channel.lock);
    for (int failures = 0; (fd = atomic_load(&file->engine_fd)) == -1 && failures < TRIES;)
        failures += !receive(0);
    pthread_mutex_unlock(&channel.lock);
    return fd == -1 ? -EBADF : fd;
}

void engine_fd_close(aiofs_file *file)
{
    int fd = engine_fd_of(file);
    if (fd < 0)
        return;
    if (file->watched)
        engine.waiter->release(file);
    aiofs_sys.close(fd);
}

void engine_rung(void)
{
    channel.rung = true;
}

int engine_wake_fd(void)
{
    return channel.wake;
}

static void answer(void)
{
    uint64_t count;
    if (channel.rung)
        aiofs_sys.eventfd_read(channel.wake, &count);
    channel.rung = false;
}

static void channel_drain(void)
{
    if (!atomic_exchange(&channel.crowded, false))
        return;
    pthread_mutex_lock(&channel.lock);
    while (receive(MSG_DONTWAIT))
        ;
    pthread_mutex_unlock(&channel.lock);
}

/* ---- the waiter ------------------------------------------------------------------------------------------ */

bool engine_has_work(void)
{
    return !list_empty(&engine.run_queue[CARRIER_STREAMS]) || !list_empty(&engine.run_queue[CARRIER_RING]) ||
           !list_empty(&engine.cancelling) || !list_empty(&engine.releasing) || pool_wants_worker();
}

/* Cancels what it has been asked to. One at a time: until then each may end and be gone. */
static void cancel_asked(void)
{
    for (;;) {
        pthread_mutex_lock(&engine.lock);
        struct aiofs_link *link = list_pop(&engine.cancelling);
        pthread_mutex_unlock(&engine.lock);
        if (!link)
            return;
        engine.waiter->cancel(CONTAINER(link, aiofs_request, queued));
    }
}

/* One round over the queues. True: there may be more. */
static bool serve(void)
{
    enum { BATCH = 64 };
    aiofs_request *begun[BATCH];
    unsigned count = 0, room = engine.waiter->room();
    struct aiofs_link releasing, *link;
    list_init(&releasing);

    pthread_mutex_lock(&engine.lock);
    while (count < BATCH / 2 && (begun[count] = lane_take(&engine.run_queue[CARRIER_STREAMS])))
        count++;
    while (count < BATCH && room && (begun[count] = lane_take(&engine.run_queue[CARRIER_RING]))) {
        count++;
        room--;
    }
    list_splice(&releasing, &engine.releasing);
    bool asked = !list_empty(&engine.cancelling);
    bool more = count >= BATCH / 2;
    pthread_mutex_unlock(&engine.lock);

    for (unsigned i = 0; i < count; i++)
        engine.waiter->begin(begun[i]);
    if (asked)
        cancel_asked();
    while ((link = list_pop(&releasing))) {
        aiofs_file *file = CONTAINER(link, aiofs_file, leaving);
        engine_fd_close(file);
        aiofs_file_release(file);
    }
    return more;
}

/* Gives this thread a descriptor table of its own with nothing in it but its end of the channel. Where the
 * kernel does not let us, the program's table is shared, and our copies of its descriptors are in it. */
static bool leave_table(void)
{
    int last = channel.there > channel.wake ? channel.there : channel.wake;
    if (aiofs_sys.close_range((unsigned)last + 1, UINT_MAX, CLOSE_RANGE_UNSHARE) < 0) {
        if (aiofs_sys.unshare(CLONE_FILES) < 0)
            return false;
        long limit = sysconf(_SC_OPEN_MAX);
        for (int fd = last + 1; fd < (limit > 0 && limit < 65536 ? limit : 65536); fd++)
            aiofs_sys.close(fd);
    }
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    const int first = 3; /* their reports are written to standard error by whichever thread finds something */
#else
    const int first = 0;
#endif
    for (int fd = first; fd < last; fd++)
        if (fd != channel.there && fd != channel.wake)
            aiofs_sys.close(fd);
    for (int fd = first; fd < 3; fd++) /* a stray message must not reach a file of the program's */
        if (fd != channel.there && fd != channel.wake)
            aiofs_sys.openat(AT_FDCWD, "/dev/null", O_RDWR | O_CLOEXEC, 0);
    return true;
}

static void make_report(int outcome)
{
    pthread_mutex_lock(&report.lock);
    report.outcome = outcome;
    report.is_made = true;
    pthread_cond_signal(&report.made);
    pthread_mutex_unlock(&report.lock);
}

static void *waiter_main(void *argument)
{
    enum { RETRY_MS = 1 };
    (void)argument;
    on_engine_table = on_waiter = true;
    start.own_table = leave_table();
    int outcome = engine.waiter->open();
    make_report(outcome);
    if (outcome < 0)
        return NULL; /* a table of its own goes with it */
    for (;;) {
        answer();
        channel_drain();
        bool more = serve();
        bool poor = !pool_spawn();
        bool unsent = notify_retry();
        if (more) {
            engine.waiter->turn(0);
            continue;
        }
        atomic_store_explicit(&channel.asleep, true, memory_order_seq_cst);
        pthread_mutex_lock(&engine.lock);
        bool work = !list_empty(&engine.run_queue[CARRIER_STREAMS]) || !list_empty(&engine.cancelling) ||
                    !list_empty(&engine.releasing) || (!poor && pool_wants_worker()) ||
                    (!list_empty(&engine.run_queue[CARRIER_RING]) && engine.waiter->room());
        pthread_mutex_unlock(&engine.lock);
        engine.waiter->turn(work ? 0 : poor || unsent ? RETRY_MS : -1);
        atomic_store_explicit(&channel.asleep, false, memory_order_seq_cst);
    }
}

/* ---- start --------------------------------------------------------------------------------------------- */

static int wanted_kind(void)
{
    const char *word = getenv("AIOFS_ENGINE");
    if (!word || !*word || strcmp(word, "auto") == 0)
        return AIOFS_ENGINE_AUTO;
    if (strcmp(word, "io_uring") == 0)
        return AIOFS_ENGINE_IO_URING;
    if (strcmp(word, "threads") == 0)
        return AIOFS_ENGINE_THREADS;
    return -EINVAL;
}

/* Starts the waiter with one way of waiting; start.lock held. */
static int start_waiter(const struct waiter_ops *waiter)
{
    int pair[2];
    int error = aiofs_sys.socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);
    if (error < 0)
        return -EAGAIN;
    channel.here = pair[0];
    channel.there = pair[1];
    channel.wake = aiofs_sys.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (channel.wake < 0) {
        aiofs_sys.close(pair[0]);
        aiofs_sys.close(pair[1]);
        return -EAGAIN;
    }
    channel.rung = false;
    engine.waiter = waiter;
    pthread_mutex_lock(&report.lock);
    report.is_made = false;
    error = engine_thread("aiofs", waiter_main, SMALL_STACK);
    while (error == 0 && !report.is_made)
        pthread_cond_wait(&report.made, &report.lock);
    if (error == 0)
        error = report.outcome;
    pthread_mutex_unlock(&report.lock);
    if (error < 0 || start.own_table)
        aiofs_sys.close(pair[1]);
    if (error < 0) {
        aiofs_sys.close(channel.wake);
        aiofs_sys.close(pair[0]);
    }
    return error;
}

int aiofs_engine_start(void)
{
    if (atomic_load_explicit(&engine.running, memory_order_acquire))
        return 0;
    int kind = wanted_kind();
    if (kind < 0)
        return kind;
    pthread_mutex_lock(&start.lock);
    int error = 0;
    if (!atomic_load(&engine.running)) {
        error = callers_start();
        if (error == 0)
            error = start_waiter(kind == AIOFS_ENGINE_THREADS ? &waiter_poll : &waiter_ring);
        if (error < 0 && kind == AIOFS_ENGINE_AUTO)
            error = start_waiter(&waiter_poll);
        if (error == 0)
            atomic_store_explicit(&engine.running, true, memory_order_release);
    }
    pthread_mutex_unlock(&start.lock);
    return error;
}

const char *aiofs_engine_name(void)
{
    return aiofs_engine_start() < 0 ? NULL : engine.waiter->name;
}

void aiofs_engine_counters(struct aiofs_counters *out)
{
    pthread_mutex_lock(&engine.lock);
    *out = (struct aiofs_counters){.outstanding = engine.outstanding,
                                   .files = engine.counters.files,
                                   .workers = engine.counters.workers,
                                   .inline_reads = READ_COUNT(inline_reads),
                                   .inline_writes = READ_COUNT(inline_writes),
                                   .ring = READ_COUNT(ring),
                                   .polled = READ_COUNT(polled),
                                   .pooled = READ_COUNT(pooled)};
    pthread_mutex_unlock(&engine.lock);
}

/* ---- bells --------------------------------------------------------------------------------------------- */

int aiofs_bell_open(int eventfd, aiofs_bell **bell)
{
    struct file_facts facts;
    int error = aiofs_engine_start();
    if (error == 0)
        error = file_examine(eventfd, &facts);
    if (error < 0)
        return error;
    pthread_mutex_lock(&engine.lock);
    aiofs_file *file = file_new(eventfd, &facts);
    error = file ? 0 : -ENOMEM;
    while (error == 0 && (error = engine_bind(file, eventfd)) == -EAGAIN) {
        pthread_mutex_unlock(&engine.lock);
        engine_wake();
        sched_yield();
        pthread_mutex_lock(&engine.lock);
        error = 0;
    }
    pthread_mutex_unlock(&engine.lock);
    if (error < 0 && file)
        aiofs_file_release(file);
    else
        *bell = file;
    return error;
}

void aiofs_bell_ring(aiofs_bell *bell)
{
    int fd = on_engine_table ? engine_fd_of(bell) : atomic_load(&bell->fd);
    if (fd >= 0)
        ring(fd);
}

void aiofs_bell_retain(aiofs_bell *bell)
{
    aiofs_file_retain(bell);
}

/* The last reference goes to the waiter, which closes what the engine's table has of it. */
void aiofs_bell_release(aiofs_bell *bell)
{
    int32_t refs = atomic_load(&bell->refs);
    while (refs > 1)
        if (atomic_compare_exchange_weak(&bell->refs, &refs, refs - 1))
            return;
    pthread_mutex_lock(&engine.lock);
    bool leaves = bell->bound;
    if (leaves)
        list_append(&engine.releasing, &bell->leaving);
    pthread_mutex_unlock(&engine.lock);
    if (leaves)
        engine_wake();
    else
        aiofs_file_release(bell);
}

/* ---- fork ---------------------------------------------------------------------------------------------- */

static void fork_prepare(void)
{
    pthread_mutex_lock(&start.lock);
    aiofs_volume_fork_prepare();
    pthread_mutex_lock(&engine.lock);
    pthread_mutex_lock(&channel.lock);
    notify_fork_prepare();
}

static void fork_parent(void)
{
    notify_fork_parent();
    pthread_mutex_unlock(&channel.lock);
    pthread_mutex_unlock(&engine.lock);
    aiofs_volume_fork_parent();
    pthread_mutex_unlock(&start.lock);
}

static void fork_child(void)
{
    notify_fork_child();
    pthread_cond_init(&engine.drained, NULL);
    if (atomic_load(&engine.running)) {
        aiofs_sys.close(channel.here);
        aiofs_sys.close(channel.wake);
        if (!start.own_table)
            aiofs_sys.close(channel.there);
    }
    files_after_fork();
    list_init(&engine.cancelling);
    list_init(&engine.releasing);
    list_init(&engine.adopted);
    for (enum carrier carrier = 0; carrier < CARRIERS; carrier++)
        list_init(&engine.run_queue[carrier]);
    engine.outstanding = 0;
    atomic_store(&engine.alive, 0);
    atomic_store(&engine.left, 0);
    atomic_store(&engine.ended, 0);
    pool_after_fork();
    callers_after_fork();
    on_engine_table = on_waiter = false;
    atomic_store(&engine.running, false);
    pthread_mutex_unlock(&channel.lock);
    pthread_mutex_unlock(&engine.lock);
    aiofs_volume_fork_child();
    pthread_mutex_unlock(&start.lock);
}

__attribute__((constructor)) static void set_up(void)
{
    lists_init();
    pthread_atfork(fork_prepare, fork_parent, fork_child);
}
