/*
 * channel.c - how threads of the program reach the engine's threads, which have another descriptor table.
 *
 *   here, there   a socket pair. A message in it carries an open file (SCM_RIGHTS) to the engine's table. A thread
 *                 sends it under the engine lock, so a thread that finds file->bound set knows that the message is in
 *                 the socket or already received. The first thread of the engine that needs the number receives it,
 *                 under channel.lock. So a message alone need not wake the reactor.
 *   asleep        an atomic word: 1 means that the reactor sleeps or is about to sleep. A thread that has work for the
 *                 reactor sets it to 0 and wakes the reactor. If the reactor can wait for a futex, it waits for this
 *                 word.
 *   wake, woken   a pipe, used if the reactor cannot wait for a futex. A byte in it wakes the reactor.
 *
 * `here` and `wake` are in the program's table, so the program can close them. A program that closes every descriptor
 * it did not open, and then opens files under the same numbers, must lose no request, and nothing may be written to its
 * files. So before each use, the thread compares device and inode of the number with those of the opened end; no other
 * pipe or socket has the same pair. The engine's table has a copy of both ends. If the program closed one, it is
 * fetched from there with pidfd_getfd. If the kernel does not allow that, submissions are refused.
 *
 * Locking. The engine lock orders the sends. channel.lock guards receiving and the engine_fd of every file. regain.lock
 * lets one thread at a time fetch a lost end; it may be taken while the engine lock is held. The other fields are
 * atomic, constant after the start, or used by the reactor only.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <linux/futex.h>
#include <linux/kcmp.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL
#endif

/* One end of the channel: number `fd` in the program's table, number `inside` in the engine's table. */
struct end {
    _Atomic int fd;
    int inside;
    dev_t dev;
    ino_t ino;
};

static struct {
    pthread_mutex_t lock;      /* guards receiving, and the engine_fd of every file */
    struct end here, wake;
    int there, woken;
    _Atomic pid_t table_tid;   /* the reactor's thread id, whose table has all four ends; 0: no table of its own */
    _Atomic uint32_t asleep;   /* 1: the reactor sleeps, and a thread with work must wake it */
    bool by_futex;             /* the reactor waits on `asleep` with a futex, and the pipe is not used */
    _Atomic bool must_receive; /* the reactor must receive all messages: the socket is full, or a thread waits */
    bool notified;             /* the pipe is readable; only the reactor uses this */
} channel = {.lock = PTHREAD_MUTEX_INITIALIZER};

static struct {
    pthread_mutex_t lock;
} regain = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- opening and closing ------------------------------------------------------------------------------ */

static int end_set(struct end *end, int fd)
{
    struct stat stat;
    int error = aiofs_sys.fstat(fd, &stat);
    end->inside = fd;
    end->dev = stat.st_dev;
    end->ino = stat.st_ino;
    atomic_store(&end->fd, fd);
    return error;
}

static void close_both(const int pair[2])
{
    aiofs_sys.close(pair[0]);
    aiofs_sys.close(pair[1]);
}

int channel_open(void)
{
    int sockets[2], pipe[2];
    if (aiofs_sys.socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0)
        return -EAGAIN;
    if (aiofs_sys.pipe2(pipe, O_CLOEXEC | O_NONBLOCK) < 0) {
        close_both(sockets);
        return -EAGAIN;
    }
    if (end_set(&channel.here, sockets[0]) < 0 || end_set(&channel.wake, pipe[1]) < 0) {
        close_both(sockets);
        close_both(pipe);
        return -EAGAIN;
    }
    channel.there = sockets[1];
    channel.woken = pipe[0];
    channel.notified = channel.by_futex = false;
    atomic_store(&channel.table_tid, 0);
    atomic_store(&channel.asleep, 0);
    return 0;
}

/* 0: `fd` leads to this end; 1: it leads to another file; negative: the error of fstat. */
static int leads_elsewhere(int fd, const struct end *end)
{
    struct stat stat;
    int error = fd < 0 ? -EBADF : aiofs_sys.fstat(fd, &stat);
    return error < 0 ? error : stat.st_dev != end->dev || stat.st_ino != end->ino;
}

static void end_close(struct end *end)
{
    int fd = atomic_exchange(&end->fd, -1);
    if (fd >= 0 && leads_elsewhere(fd, end) <= 0)
        aiofs_sys.close(fd);
}

void channel_close_inside(void)
{
    aiofs_sys.close(channel.there);
    aiofs_sys.close(channel.woken);
}

void channel_close(void)
{
    end_close(&channel.here);
    end_close(&channel.wake);
}

static bool is_ours(int fd)
{
    return fd == channel.here.inside || fd == channel.wake.inside || fd == channel.there || fd == channel.woken;
}

/* Gives this thread a descriptor table of its own that has only the channel in it. If the kernel refuses that, the
 * engine shares the program's table and keeps its copies of descriptors there. */
void channel_leave_table(void)
{
    int last = 0;
    const int ours[] = {channel.here.inside, channel.wake.inside, channel.there, channel.woken};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        last = ours[i] > last ? ours[i] : last;
    if (aiofs_sys.close_range((unsigned)last + 1, UINT_MAX, CLOSE_RANGE_UNSHARE) < 0) {
        if (aiofs_sys.unshare(CLONE_FILES) < 0)
            return;
        long limit = sysconf(_SC_OPEN_MAX);
        for (int fd = last + 1; fd < (limit > 0 && limit < 65536 ? limit : 65536); fd++)
            aiofs_sys.close(fd);
    }
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    const int first = 3; /* a sanitizer writes its report to standard error on the thread that finds the fault */
#else
    const int first = 0;
#endif
    for (int fd = first; fd < last; fd++)
        if (!is_ours(fd))
            aiofs_sys.close(fd);
    for (int fd = first; fd < 3; fd++) /* a library's message to standard error must reach no other file */
        if (!is_ours(fd))
            aiofs_sys.openat(AT_FDCWD, "/dev/null", O_RDWR | O_CLOEXEC, 0);
    atomic_store(&channel.table_tid, gettid());
}

bool channel_has_own_table(void)
{
    return atomic_load(&channel.table_tid) != 0;
}

/* ---- the program's ends ----------------------------------------------------------------------------------- */

bool channel_owns(int fd)
{
    const struct end *const ends[] = {&channel.here, &channel.wake};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (fd >= 0 && fd == atomic_load(&ends[i]->fd) && atomic_load(&engine.running))
            return leads_elsewhere(fd, ends[i]) == 0;
    return false;
}

static int fetch(struct end *end)
{
    int pidfd = aiofs_sys.pidfd_open(atomic_load(&channel.table_tid), PIDFD_THREAD);
    if (pidfd < 0)
        return pidfd;
    int fd = aiofs_sys.pidfd_getfd(pidfd, end->inside, 0);
    aiofs_sys.close(pidfd);
    if (fd >= 0)
        atomic_store(&end->fd, fd);
    return fd;
}

/* The number of an end in this thread's table; negative: the program closed it, and it cannot be fetched again. */
static int end_fd(struct end *end)
{
    if (on_engine_table)
        return end->inside;
    int fd = atomic_load(&end->fd);
    if (leads_elsewhere(fd, end) == 0)
        return fd;
    pthread_mutex_lock(&regain.lock);
    fd = atomic_load(&end->fd);
    if (leads_elsewhere(fd, end) != 0)
        fd = atomic_load(&channel.table_tid) ? fetch(end) : -EBADF;
    pthread_mutex_unlock(&regain.lock);
    return fd;
}

void engine_wake(void)
{
    enum { TRIES = 3 };
    if (!atomic_exchange_explicit(&channel.asleep, 0, memory_order_seq_cst))
        return;
    int tries = 0;
    if (channel.by_futex) {
        while (aiofs_sys.futex(&channel.asleep, FUTEX_WAKE_PRIVATE, 1, NULL, 0) < 0 && ++tries < TRIES)
            ;
        return;
    }
    int fd = end_fd(&channel.wake);
    if (fd < 0) /* the reactor still sleeps: the next thread must try again to wake it */
        channel_sleep();
    for (; fd >= 0 && tries < TRIES && aiofs_sys.write(fd, "", 1) == -EINTR; tries++)
        ;
}

bool channel_reaches(void)
{
    return channel.by_futex || !atomic_load_explicit(&channel.asleep, memory_order_seq_cst) ||
           end_fd(&channel.wake) >= 0;
}

union rights {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int))];
};

int channel_send(_Atomic int *engine_fd, int fd)
{
    union rights rights;
    struct iovec bytes = {&engine_fd, sizeof engine_fd};
    struct msghdr message = {
        .msg_iov = &bytes, .msg_iovlen = 1, .msg_control = &rights, .msg_controllen = sizeof rights};
    int here = end_fd(&channel.here);
    if (here < 0)
        return -ENOMEM;
    /* The message carries only the address of engine_fd. This release pairs with the acquire in receive(), and makes
     * the memory at that address visible to the receiving thread. */
    atomic_store_explicit(engine_fd, -1, memory_order_release);
    memset(&rights, 0, sizeof rights);
    rights.header.cmsg_level = SOL_SOCKET;
    rights.header.cmsg_type = SCM_RIGHTS;
    rights.header.cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(&rights.header), &fd, sizeof fd);
    ssize_t sent;
    do
        sent = aiofs_sys.sendmsg(here, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (sent == -EINTR);
    if (sent == -EAGAIN || sent == -ETOOMANYREFS) { /* the socket is full until earlier messages are received */
        atomic_store(&channel.must_receive, true);
        return -EAGAIN;
    }
    if (sent < 0)
        return sent == -EBADF ? -EBADF : -ENOMEM;
    return 0;
}

int channel_look(const _Atomic int *engine_fd)
{
    int inside = atomic_load_explicit(engine_fd, memory_order_acquire);
    if (inside == -1)
        atomic_store(&channel.must_receive, true);
    return inside;
}

int channel_compare(const _Atomic int *engine_fd, int fd)
{
    int inside = channel_look(engine_fd);
    if (inside == -1)
        return -EAGAIN;
    pid_t self = gettid(), table_tid = atomic_load(&channel.table_tid);
    int order = inside < 0 ? inside : aiofs_sys.kcmp(self, table_tid ? table_tid : self, KCMP_FILE, fd, inside);
    return order < 0 ? -ENOSYS : order == 0;
}

/* ---- the engine's ends ------------------------------------------------------------------------------------- */

/* Receives one message; channel.lock held. False: there was no message. */
static bool receive(int flags)
{
    _Atomic int *engine_fd = NULL;
    union rights rights;
    struct iovec bytes = {&engine_fd, sizeof engine_fd};
    struct msghdr message = {
        .msg_iov = &bytes, .msg_iovlen = 1, .msg_control = &rights, .msg_controllen = sizeof rights};
    ssize_t got;
    do
        got = aiofs_sys.recvmsg(channel.there, &message, flags | MSG_CMSG_CLOEXEC);
    while (got == -EINTR);
    if (got != sizeof engine_fd)
        return false;
    (void)atomic_load_explicit(engine_fd, memory_order_acquire); /* see channel_send */
    int fd = -EMFILE; /* a truncated control message means that this table is full */
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_type == SCM_RIGHTS && header->cmsg_len == CMSG_LEN(sizeof fd))
        memcpy(&fd, CMSG_DATA(header), sizeof fd);
    atomic_store(engine_fd, fd);
    return true;
}

int channel_receive(_Atomic int *engine_fd)
{
    enum { TRIES = 3 }; /* the message must be received: a later owner of this address would get its descriptor */
    int fd = atomic_load_explicit(engine_fd, memory_order_acquire);
    if (fd != -1)
        return fd;
    pthread_mutex_lock(&channel.lock);
    for (int failures = 0; (fd = atomic_load(engine_fd)) == -1 && failures < TRIES;)
        failures += !receive(0);
    pthread_mutex_unlock(&channel.lock);
    return fd == -1 ? -EBADF : fd;
}

void engine_notified(void)
{
    channel.notified = true;
}

int engine_wake_fd(void)
{
    return channel.woken;
}

_Atomic uint32_t *channel_futex(void)
{
    channel.by_futex = true;
    return &channel.asleep;
}

void channel_sleep(void)
{
    atomic_store_explicit(&channel.asleep, 1, memory_order_seq_cst);
}

void channel_awake(void)
{
    char bytes[16];
    atomic_store_explicit(&channel.asleep, 0, memory_order_seq_cst);
    if (channel.notified)
        aiofs_sys.read(channel.woken, bytes, sizeof bytes);
    channel.notified = false;
}

void channel_drain(void)
{
    if (!atomic_exchange(&channel.must_receive, false))
        return;
    pthread_mutex_lock(&channel.lock);
    while (receive(MSG_DONTWAIT))
        ;
    pthread_mutex_unlock(&channel.lock);
}

/* ---- files ------------------------------------------------------------------------------------------------- */

int engine_bind(aiofs_file *file, int fd)
{
    int error = channel_send(&file->engine_fd, fd);
    if (error == 0)
        file->bound = true;
    return error;
}

int engine_fd_of(aiofs_file *file)
{
    return channel_receive(&file->engine_fd);
}

void engine_fd_close(aiofs_file *file)
{
    int fd = engine_fd_of(file);
    MUST_NOT_BLOCK_REACTOR(file_kind_can_block(file));
    if (fd < 0)
        return;
    if (file->watched)
        engine.reactor->release(file);
    aiofs_sys.close(fd);
}

/* ---- fork ------------------------------------------------------------------------------------------------------ */

void channel_fork_prepare(void)
{
    pthread_mutex_lock(&channel.lock);
    pthread_mutex_lock(&regain.lock);
}

void channel_fork_parent(void)
{
    pthread_mutex_unlock(&regain.lock);
    pthread_mutex_unlock(&channel.lock);
}

/* In the child, closes the descriptors of the parent's engine. */
void channel_fork_child(bool running)
{
    if (running) {
        channel_close();
        if (!channel_has_own_table())
            channel_close_inside();
    }
    channel_fork_parent();
}
