/*
 * ring.c - the reactor with io_uring, by the kernel's own interface (without liburing).
 *
 * Only the reactor thread enters the ring. So the ring is set up with IORING_SETUP_SINGLE_ISSUER and
 * IORING_SETUP_DEFER_TASKRUN where the kernel has them: the kernel then processes completions only on this thread,
 * while it waits for them. The ring's descriptor is in the engine's table.
 *
 * Limits. At most ROOM requests on seekable files are in the kernel; the others wait in their lanes. Requests on
 * streams have no limit. If more requests complete at once than the completion queue holds, the kernel keeps the rest
 * for the next io_uring_enter (IORING_FEAT_NODROP, required here). When the submission queue is full, it is submitted
 * and then reused.
 *
 * Memory that is shared with the kernel. This thread stores sq.tail and cq.head with release order, and loads sq.head
 * and cq.tail with acquire order. The iovecs of a submission entry stay in `vectors` until the io_uring_enter that
 * submits it; that call copies them (IORING_FEAT_SUBMIT_STABLE).
 *
 * Locking. Only the reactor thread uses `ring`, so no lock guards it. `asleep` points to the channel's atomic word.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

/* Not in the headers of older kernels. */
#ifndef IORING_SETUP_SUBMIT_ALL
#define IORING_SETUP_SUBMIT_ALL (1U << 7)
#endif
#ifndef IORING_SETUP_SINGLE_ISSUER
#define IORING_SETUP_SINGLE_ISSUER (1U << 12)
#endif
#ifndef IORING_SETUP_DEFER_TASKRUN
#define IORING_SETUP_DEFER_TASKRUN (1U << 13)
#endif

enum { OP_FUTEX_WAIT = 51, WORD_32 = 2 }; /* IORING_OP_FUTEX_WAIT, FUTEX2_SIZE_U32 */

enum { ENTRIES = 256, COMPLETIONS = 4096, ROOM = 256, PIECES = 8, LENGTH_MAX = 1 << 30 };

/* The low bits of user_data. They are free, because requests are aligned. */
enum tag { TAG_MOVE, TAG_POLL, TAG_CANCEL, TAG_WAKE, TAGS };

static struct {
    int fd;
    unsigned in_kernel; /* requests on seekable files */
    bool watching;      /* the ring has an entry that completes when another thread wakes the reactor */
    _Atomic uint32_t *asleep; /* the futex that the entry waits for; NULL: the entry polls the pipe instead */
    struct {
        _Atomic unsigned *head, *tail, *flags;
        unsigned mask, local_tail, submitted;
        struct io_uring_sqe *entries;
    } sq;
    struct {
        _Atomic unsigned *head, *tail;
        unsigned mask;
        struct io_uring_cqe *entries;
    } cq;
    struct iovec vectors[ENTRIES][PIECES];
    struct {
        void *memory;
        size_t size;
    } queues, submissions; /* what is mapped */
} ring;

/* ---- setting up --------------------------------------------------------------------------------------- */

static bool has_operation(const struct io_uring_probe *probe, uint8_t operation)
{
    return operation <= probe->last_op && probe->ops[operation].flags & IO_URING_OP_SUPPORTED;
}

/* Does the kernel have the operations that the ring needs? Also finds out whether it has IORING_OP_FUTEX_WAIT. */
static bool has_operations(void)
{
    static const uint8_t needed[] = {IORING_OP_READ,  IORING_OP_WRITE,    IORING_OP_READV,
                                     IORING_OP_WRITEV, IORING_OP_POLL_ADD, IORING_OP_ASYNC_CANCEL};
    enum { MOST = 256 };
    struct io_uring_probe *probe = calloc(1, sizeof *probe + MOST * sizeof probe->ops[0]);
    if (!probe)
        return false;
    bool all = aiofs_sys.io_uring_register(ring.fd, IORING_REGISTER_PROBE, probe, MOST) == 0;
    for (size_t i = 0; all && i < sizeof needed; i++)
        all = has_operation(probe, needed[i]);
    ring.asleep = all && has_operation(probe, OP_FUTEX_WAIT) ? channel_futex() : NULL;
    free(probe);
    return all;
}

static void *map(size_t size, uint64_t offset)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring.fd, (off_t)offset);
    if (memory == MAP_FAILED)
        return NULL;
    madvise(memory, size, MADV_DONTFORK);
    return memory;
}

static int map_queues(const struct io_uring_params *params)
{
    size_t size = params->sq_off.array + params->sq_entries * sizeof(unsigned);
    size_t completions = params->cq_off.cqes + params->cq_entries * sizeof(struct io_uring_cqe);
    if (size < completions)
        size = completions;
    char *queues = map(size, IORING_OFF_SQ_RING);
    if (!queues)
        return -EAGAIN;
    ring.sq.entries = map(params->sq_entries * sizeof *ring.sq.entries, IORING_OFF_SQES);
    if (!ring.sq.entries) {
        munmap(queues, size);
        return -EAGAIN;
    }
    ring.queues.memory = queues;
    ring.queues.size = size;
    ring.submissions.memory = ring.sq.entries;
    ring.submissions.size = params->sq_entries * sizeof *ring.sq.entries;
    ring.sq.head = (void *)(queues + params->sq_off.head);
    ring.sq.tail = (void *)(queues + params->sq_off.tail);
    ring.sq.flags = (void *)(queues + params->sq_off.flags);
    ring.sq.mask = params->sq_entries - 1;
    ring.sq.local_tail = ring.sq.submitted = 0;
    unsigned *array = (void *)(queues + params->sq_off.array);
    for (unsigned i = 0; i < params->sq_entries; i++)
        array[i] = i;
    ring.cq.head = (void *)(queues + params->cq_off.head);
    ring.cq.tail = (void *)(queues + params->cq_off.tail);
    ring.cq.mask = params->cq_entries - 1;
    ring.cq.entries = (void *)(queues + params->cq_off.cqes);
    return 0;
}

/* A sandbox (seccomp) may allow io_uring_setup and forbid io_uring_enter. */
static int try_to_enter(void)
{
    struct io_uring_getevents_arg nothing = {0};
    int entered = aiofs_sys.io_uring_enter(ring.fd, 0, 0, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &nothing,
                                           sizeof nothing);
    bool granted = entered >= 0 || entered == -EINTR || entered == -EBUSY || entered == -EAGAIN;
    return granted ? 0 : -ENOSYS;
}

static int ring_open(void)
{
    static const unsigned variants[] = {
        IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER |
            IORING_SETUP_DEFER_TASKRUN,
        IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE,
    };
    const unsigned features =
        IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE | IORING_FEAT_EXT_ARG;
    struct io_uring_params params;
    int fd = -ENOSYS;
    for (size_t i = 0; fd < 0 && i < sizeof variants / sizeof *variants; i++) {
        memset(&params, 0, sizeof params);
        params.flags = variants[i];
        params.cq_entries = COMPLETIONS;
        fd = aiofs_sys.io_uring_setup(ENTRIES, &params);
    }
    if (fd < 0)
        return fd == -ENOMEM || fd == -EMFILE || fd == -ENFILE ? -EAGAIN : -ENOSYS;
    ring.fd = fd;
    ring.in_kernel = 0;
    ring.watching = false;
    bool usable = (params.features & features) == features && has_operations() && try_to_enter() == 0;
    int error = usable ? map_queues(&params) : -ENOSYS;
    if (error < 0)
        aiofs_sys.close(fd);
    return error;
}

static void ring_close(void)
{
    munmap(ring.submissions.memory, ring.submissions.size);
    munmap(ring.queues.memory, ring.queues.size);
    aiofs_sys.close(ring.fd);
}

/* ---- the queues --------------------------------------------------------------------------------------- */

static unsigned unsubmitted(void)
{
    return ring.sq.local_tail - ring.sq.submitted;
}

static int enter(unsigned wait_for, int timeout_ms)
{
    struct __kernel_timespec timeout = {timeout_ms / 1000, (timeout_ms % 1000) * 1000000LL};
    struct io_uring_getevents_arg argument = {.ts = timeout_ms > 0 ? (uint64_t)(uintptr_t)&timeout : 0};
    atomic_store_explicit(ring.sq.tail, ring.sq.local_tail, memory_order_release);
    int submitted = aiofs_sys.io_uring_enter(ring.fd, unsubmitted(), wait_for,
                                             IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &argument, sizeof argument);
    if (submitted > 0)
        ring.sq.submitted += (unsigned)submitted;
    else if (submitted < 0 && submitted != -EINTR && submitted != -ETIME && submitted != -EAGAIN && submitted != -EBUSY)
        engine_nap();
    return submitted;
}

static void reap(void);

/* A free submission entry, cleared; a full queue is submitted first. */
static struct io_uring_sqe *entry(void)
{
    while (ring.sq.local_tail - atomic_load_explicit(ring.sq.head, memory_order_acquire) > ring.sq.mask)
        if (enter(0, 0) < 0)
            reap(); /* -EBUSY, -EAGAIN: the completion queue must be emptied first */
    struct io_uring_sqe *sqe = &ring.sq.entries[ring.sq.local_tail++ & ring.sq.mask];
    memset(sqe, 0, sizeof *sqe);
    return sqe;
}

static uint64_t tagged(const aiofs_request *request, enum tag tag)
{
    return (uint64_t)(uintptr_t)request | tag;
}

/* ---- requests ----------------------------------------------------------------------------------------- */

static void finish(aiofs_request *request, int64_t result)
{
    if (request->file->kind != KIND_STREAM)
        ring.in_kernel--;
    COUNT(ring);
    request_finish(request, result);
}

/* Passes a request on a stream to a worker. */
static void adopt(aiofs_request *request)
{
    if (!pool_adopt(request))
        finish(request, -ECANCELED);
}

/* Submits the prepared entries if there are at least half as many as requests in the kernel. A whole batch prepared
 * before one io_uring_enter would leave the device idle; one io_uring_enter per request would cost too much. */
static void submit_early(void)
{
    unsigned waiting = unsubmitted();
    if (waiting && 2 * waiting >= ring.in_kernel)
        enter(0, 0);
}

/* Polls the file before the request is submitted. For each read or write of a terminal or another such device io_uring
 * would block one kernel thread. */
static void await_ready(aiofs_request *request)
{
    struct io_uring_sqe *sqe = entry();
    sqe->opcode = IORING_OP_POLL_ADD;
    sqe->fd = engine_fd_of(request->file);
    sqe->poll32_events = request->op == AIOFS_READ ? POLLIN : POLLOUT;
    sqe->user_data = tagged(request, TAG_POLL);
}

/* A request of no bytes. io_uring does not pass it on to every kind of file; a system call does. On a socket the
 * reactor makes that call without blocking, otherwise a worker makes it. */
static void move_nothing(aiofs_request *request)
{
    const aiofs_file *file = request->file;
    ssize_t result = -EOPNOTSUPP;
    if (file->type == S_IFSOCK)
        result = stream_attempt(request, engine_fd_of(request->file));
    if (result == -EOPNOTSUPP)
        adopt(request);
    else if (result == -EAGAIN && !(file->flags & O_NONBLOCK))
        await_ready(request);
    else
        finish(request, result);
}

/* Submits the rest of a request. `punt`: it would block, so a thread of the kernel shall perform it (IOSQE_ASYNC). */
static void move(aiofs_request *request, bool punt)
{
    if (is_empty(request)) {
        move_nothing(request);
        return;
    }
    const aiofs_file *file = request->file;
    struct io_uring_sqe *sqe = entry();
    struct iovec *vector = ring.vectors[(sqe - ring.sq.entries) & (ENTRIES - 1)];
    size_t length;
    int count = request_rest(request, vector, PIECES, LENGTH_MAX, &length);
    bool reads = request->op == AIOFS_READ;
    if (count == 1) {
        sqe->opcode = reads ? IORING_OP_READ : IORING_OP_WRITE;
        sqe->addr = (uint64_t)(uintptr_t)vector[0].iov_base;
        sqe->len = (unsigned)length;
    } else {
        sqe->opcode = reads ? IORING_OP_READV : IORING_OP_WRITEV;
        sqe->addr = (uint64_t)(uintptr_t)vector;
        sqe->len = (unsigned)count;
    }
    sqe->fd = engine_fd_of((aiofs_file *)file);
    sqe->off = (uint64_t)position_of(request, file);
    sqe->flags = punt ? IOSQE_ASYNC : 0;
    sqe->user_data = tagged(request, TAG_MOVE);
}

/* For a stream with O_NONBLOCK the reactor makes one attempt itself, because io_uring would wait. False: the ring must
 * perform the request. */
static bool attempted(aiofs_request *request)
{
    if (request->file->kind != KIND_STREAM || !(request->file->flags & O_NONBLOCK))
        return false;
    ssize_t result = stream_attempt(request, engine_fd_of(request->file));
    if (result == -EOPNOTSUPP)
        return false;
    finish(request, result);
    return true;
}

/* Can the descriptor be read or written at all? An epoll descriptor cannot, and io_uring would wait until it is ready.
 * False: the request is complete, with the error. */
static bool is_possible(aiofs_request *request)
{
    const struct iovec nothing = {NULL, 0};
    int fd = engine_fd_of(request->file);
    ssize_t error = request->op == AIOFS_READ ? aiofs_sys.preadv2(fd, &nothing, 1, -1, 0)
                                              : aiofs_sys.pwritev2(fd, &nothing, 1, -1, 0);
    if (error < 0)
        finish(request, error);
    return error >= 0;
}

static void begin_on_device(aiofs_request *request)
{
    if (!stream_times_out(request, engine_fd_of(request->file)))
        await_ready(request);
    else
        adopt(request);
}

/* Copies cached bytes through a bounce buffer, on this thread, as io_uring would. False: the ring must perform the rest
 * of the request. */
static bool bounced(aiofs_request *request)
{
    const aiofs_file *file = request->file;
    struct iovec pieces[PIECES];
    size_t length;
    ssize_t got;
    if (!request->mapped || request->op != AIOFS_READ || file->kind != KIND_REGULAR || file->flags & O_DIRECT)
        return false;
    int count = request_rest(request, pieces, PIECES, LENGTH_MAX, &length);
    int64_t offset = position_of(request, file);
    int flags = atomic_load_explicit(&file->hint, memory_order_relaxed) == HINT_MEMORY ? 0 : RWF_NOWAIT;
    if (!bounce_suits(pieces, count, offset, false) ||
        !bounce_read(engine_fd_of(request->file), pieces, count, offset, flags, &got) || got <= 0)
        return false;
    request->moved += (uint64_t)got;
    if (request->moved < request->total)
        return false;
    finish(request, (int64_t)request->moved);
    return true;
}

static void ring_begin(aiofs_request *request)
{
    aiofs_file *file = request->file;
    if (file->kind != KIND_STREAM) {
        submit_early();
        ring.in_kernel++;
    }
    if (engine_fd_of(file) < 0)
        finish(request, -EAGAIN);
    else if (is_empty(request))
        move_nothing(request);
    else if (attempted(request) || bounced(request))
        return;
    else if (file->type == S_IFCHR)
        begin_on_device(request);
    else if (file->type != 0 || is_possible(request))
        move(request, false);
}

static void ring_cancel(aiofs_request *request)
{
    for (enum tag tag = TAG_MOVE; tag <= TAG_POLL; tag++) {
        struct io_uring_sqe *sqe = entry();
        sqe->opcode = IORING_OP_ASYNC_CANCEL;
        sqe->fd = -1;
        sqe->addr = tagged(request, tag);
        sqe->user_data = TAG_CANCEL;
    }
}

/* The number of bytes of the last submission entry of a request. */
static size_t submitted_length(const aiofs_request *request)
{
    struct iovec pieces[PIECES];
    size_t length;
    request_rest(request, pieces, PIECES, LENGTH_MAX, &length);
    return length;
}

static void moved(aiofs_request *request, int result)
{
    const aiofs_file *file = request->file;
    bool stream = file->kind == KIND_STREAM;
    if (result < 0) {
        bool interrupted = result == -EINTR || result == -ECANCELED;
        bool cancelling = request->phase == PHASE_CANCELLING;
        if (cancelling && (interrupted || result == -EAGAIN))
            finish(request, request_outcome(request, -ECANCELED));
        else if (result == -EAGAIN && stream)
            await_ready(request);
        else if (result == -EINTR || (result == -EAGAIN && !stream))
            move(request, true);
        else
            finish(request, request_outcome(request, result));
        return;
    }
    bool is_short = (unsigned)result < submitted_length(request);
    request->moved += (unsigned)result;
    bool whole = result == 0 || request->moved == request->total || request->phase == PHASE_CANCELLING ||
                 (stream && request->op == AIOFS_READ) || (!stream && file->flags & O_DIRECT && is_short);
    if (whole)
        finish(request, (int64_t)request->moved);
    else
        move(request, false);
}

/* ---- completions ---------------------------------------------------------------------------------------- */

static void complete(uint64_t data, int result)
{
    aiofs_request *request = (aiofs_request *)(uintptr_t)(data & ~(uint64_t)(TAGS - 1));
    switch ((enum tag)(data & (TAGS - 1))) {
    case TAG_MOVE:
        moved(request, result);
        break;
    case TAG_POLL:
        if (request->phase == PHASE_CANCELLING) /* the poll may complete before the cancellation finds it */
            finish(request, request_outcome(request, -ECANCELED));
        else if (result == 0 || result == -EINVAL) /* a spurious wake-up: the terminal's settings were changed */
            begin_on_device(request);
        else if (result > 0)
            move(request, request->file->type == S_IFCHR); /* a ready device may still block, and block the reactor */
        else
            moved(request, result);
        break;
    case TAG_WAKE:
        ring.watching = false;
        if (!ring.asleep)
            engine_notified();
        break;
    default: /* TAG_CANCEL: the cancelled request has a completion of its own */
        break;
    }
}

static void reap(void)
{
    unsigned head = atomic_load_explicit(ring.cq.head, memory_order_relaxed);
    while (head != atomic_load_explicit(ring.cq.tail, memory_order_acquire)) {
        struct io_uring_cqe *cqe = &ring.cq.entries[head++ & ring.cq.mask];
        uint64_t data = cqe->user_data;
        int result = cqe->res;
        atomic_store_explicit(ring.cq.head, head, memory_order_release);
        complete(data, result);
        head = atomic_load_explicit(ring.cq.head, memory_order_relaxed); /* completing may reap */
    }
}

static unsigned ring_room(void)
{
    return ROOM - ring.in_kernel;
}

/* Adds the entry that completes when another thread wakes the reactor. A futex wait completes at once if the word is no
 * longer 1. */
static void watch(void)
{
    struct io_uring_sqe *sqe = entry();
    if (ring.asleep) {
        sqe->opcode = OP_FUTEX_WAIT;
        sqe->fd = WORD_32 | FUTEX_PRIVATE_FLAG;
        sqe->addr = (uint64_t)(uintptr_t)ring.asleep;
        sqe->off = 1;
        sqe->addr3 = FUTEX_BITSET_MATCH_ANY;
    } else {
        sqe->opcode = IORING_OP_POLL_ADD;
        sqe->fd = engine_wake_fd();
        sqe->poll32_events = POLLIN;
    }
    sqe->user_data = TAG_WAKE;
    ring.watching = true;
}

static void ring_turn(int timeout_ms)
{
    if (!ring.watching && timeout_ms != 0)
        watch();
    enter(timeout_ms == 0 ? 0 : 1, timeout_ms);
    reap();
}

static void ring_release(aiofs_file *file)
{
    (void)file; /* the ring refers to a descriptor only while a request is in the kernel */
}

const struct reactor_ops reactor_ring = {
    .name = "io_uring",
    .open = ring_open,
    .close = ring_close,
    .room = ring_room,
    .begin = ring_begin,
    .cancel = ring_cancel,
    .release = ring_release,
    .turn = ring_turn,
};
