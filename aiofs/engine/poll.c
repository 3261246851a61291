/*
 * poll.c - the reactor of the threads engine: epoll for streams. Workers perform the requests on seekable files.
 *
 * The reactor first tries a request on a stream without blocking. If it would block, the reactor registers the file
 * with epoll (EPOLLONESHOT), for the directions in which a request is running, at most one per direction. If the kernel
 * cannot try without blocking (terminals), a worker performs the request once epoll reports the file ready. If epoll
 * cannot watch the file (some devices), or readiness means nothing for the request, a worker performs it at once.
 *
 * Ownership. epoll_fd is a number in the engine's table.
 *
 * Locking. Only the reactor thread runs this code. The fields lane->current of a stream's lanes change under the engine
 * lock, and only on the reactor thread: it sets one when it takes a request and clears it when it detaches the request.
 * So the reactor may read them without the lock.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <termios.h>

#include "internal.h"

enum { EVENTS = 64, PIECES = 16 };

static int epoll_fd = -1;

static int poll_open(void)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_fd = aiofs_sys.epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0)
        return -EAGAIN;
    if (aiofs_sys.epoll_ctl(epoll_fd, EPOLL_CTL_ADD, engine_wake_fd(), &event) == 0)
        return 0;
    aiofs_sys.close(epoll_fd);
    return -EAGAIN;
}

static void poll_close(void)
{
    aiofs_sys.close(epoll_fd);
}

static unsigned poll_room(void)
{
    return 0; /* workers perform all requests on seekable files */
}

static ssize_t attempt_with(const aiofs_request *request, int fd, int flags)
{
    const aiofs_file *file = request->file;
    int64_t offset = position_of(request, file);
    bool reads = request->op == AIOFS_READ;
    struct iovec rest[PIECES];
    size_t length;
    int count = request_rest(request, rest, PIECES, SSIZE_MAX, &length);
    struct msghdr message = {.msg_iov = rest, .msg_iovlen = (size_t)count};
    ssize_t moved;
    do {
        if (file->type == S_IFSOCK)
            moved = reads ? aiofs_sys.recvmsg(fd, &message, MSG_DONTWAIT)
                          : aiofs_sys.sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        else
            moved = reads ? aiofs_sys.preadv2(fd, rest, count, offset, flags)
                          : aiofs_sys.pwritev2(fd, rest, count, offset, flags);
    } while (moved == -EINTR);
    return moved;
}

/* Is O_NONBLOCK set now? The program may have changed it since the submission. */
static bool is_nonblocking(int fd)
{
    int flags = aiofs_sys.fcntl(fd, F_GETFL, 0);
    return flags >= 0 && flags & O_NONBLOCK;
}

/* Opens a FIFO a second time, with O_NONBLOCK for this open file only. Without that, a worker could block although the
 * FIFO was ready, because another process may read the bytes first. */
static void reopen(aiofs_file *file, int fd)
{
    char path[40];
    snprintf(path, sizeof path, "/proc/thread-self/fd/%d", fd);
    int ours = aiofs_sys.openat(AT_FDCWD, path, (file->flags & O_ACCMODE) | O_NONBLOCK | O_CLOEXEC, 0);
    if (ours < 0)
        return;
    atomic_store(&file->engine_fd, ours);
    aiofs_sys.close(fd);
}

ssize_t stream_attempt(aiofs_request *request, int fd)
{
    aiofs_file *file = request->file;
    ssize_t moved = file->refuses ? -EOPNOTSUPP : attempt_with(request, fd, RWF_NOWAIT);
    if (moved != -EOPNOTSUPP)
        return moved;
    if (!file->refuses && file->type == S_IFIFO && !is_nonblocking(fd))
        reopen(file, fd);
    file->refuses = true;
    fd = engine_fd_of(file);
    return is_nonblocking(fd) ? attempt_with(request, fd, 0) : -EOPNOTSUPP;
}

bool stream_times_out(const aiofs_request *request, int fd)
{
    struct termios settings;
    return request->op == AIOFS_READ && request->file->type == S_IFCHR &&
           aiofs_sys.ioctl(fd, TCGETS, &settings) == 0 && !(settings.c_lflag & ICANON) && settings.c_cc[VMIN] == 0;
}

/* Registers the file with epoll for the directions of its running requests; false: epoll cannot watch it. */
static bool watch(aiofs_file *file, int fd)
{
    struct epoll_event event = {.events = EPOLLONESHOT, .data.ptr = file};
    if (file->lanes[LANE_READ].current)
        event.events |= EPOLLIN | EPOLLRDHUP;
    if (file->lanes[LANE_WRITE].current)
        event.events |= EPOLLOUT;
    int error = aiofs_sys.epoll_ctl(epoll_fd, file->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event);
    if (error == 0)
        file->watched = true;
    return error == 0;
}

static void finish(aiofs_request *request, int64_t result)
{
    COUNT(polled);
    request_finish(request, result);
}

static void adopt(aiofs_request *request)
{
    if (!pool_adopt(request))
        finish(request, request_outcome(request, -ECANCELED));
}

/* Advances a request until it is complete, waits for readiness, or is passed to a worker. `ready`: epoll reported
 * it. */
static void advance(aiofs_request *request, bool ready)
{
    aiofs_file *file = request->file;
    int fd = engine_fd_of(file);
    if (fd < 0) {
        finish(request, -EAGAIN);
        return;
    }
    if (is_empty(request) && file->type != S_IFSOCK) {
        adopt(request);
        return;
    }
    bool nonblocking = file->flags & O_NONBLOCK;
    ssize_t moved;
    do {
        moved = stream_attempt(request, fd);
        fd = engine_fd_of(file);
        if (moved > 0)
            request->moved += (uint64_t)moved;
    } while (moved > 0 && request->op == AIOFS_WRITE && !nonblocking && request->moved < request->total);

    if (moved >= 0) {
        finish(request, (int64_t)request->moved);
    } else if (moved == -EOPNOTSUPP) {
        if (ready || stream_times_out(request, fd) || !watch(file, fd))
            adopt(request);
    } else if (moved == -EAGAIN && !nonblocking) {
        if (!watch(file, fd))
            adopt(request);
    } else {
        finish(request, request_outcome(request, moved));
    }
}

static void poll_begin(aiofs_request *request)
{
    advance(request, false);
}

static void poll_cancel(aiofs_request *request)
{
    finish(request, request_outcome(request, -ECANCELED));
}

static void poll_release(aiofs_file *file)
{
    aiofs_sys.epoll_ctl(epoll_fd, EPOLL_CTL_DEL, engine_fd_of(file), NULL);
    file->watched = false;
}

static void poll_turn(int timeout_ms)
{
    struct epoll_event events[EVENTS];
    int count = aiofs_sys.epoll_wait(epoll_fd, events, EVENTS, timeout_ms);
    if (count < 0 && count != -EINTR)
        engine_nap();
    for (int i = 0; i < count; i++) {
        aiofs_file *file = events[i].data.ptr;
        if (!file) {
            engine_notified();
            continue;
        }
        if (!file->watched) /* poll_release ran since the wait */
            continue;
        /* Read both before the first call: completing the reader may release the file. */
        aiofs_request *reader = file->lanes[LANE_READ].current, *writer = file->lanes[LANE_WRITE].current;
        bool wrong = events[i].events & (EPOLLERR | EPOLLHUP);
        aiofs_file_retain(file);
        if (reader)
            advance(reader, wrong || events[i].events & (EPOLLIN | EPOLLRDHUP));
        if (writer)
            advance(writer, wrong || events[i].events & EPOLLOUT);
        aiofs_file_release(file);
    }
}

const struct reactor_ops reactor_poll = {
    .name = "threads",
    .open = poll_open,
    .close = poll_close,
    .room = poll_room,
    .begin = poll_begin,
    .cancel = poll_cancel,
    .release = poll_release,
    .turn = poll_turn,
};
