/*
 * pool.c - workers: threads on the engine's descriptor table that may block in the kernel. They perform buffered
 * writes, long reads and syncs, and in the threads engine all requests on seekable files. They also close descriptors
 * whose close can block.
 *
 * Only the reactor can start a worker, because the worker must share its table. Other threads wake the reactor to ask
 * for one. The pool grows while there is work and no worker is idle, up to WORKERS_MAX. A worker that is idle for
 * IDLE_NS exits. The engine starts with one worker, and the last worker never exits, so there is always one.
 *
 * copy_begin limits the number of workers that copy from or to the page cache at the same time. Copying uses the
 * processor. If as many workers copied as there are processors, the program's event loop would have to wait. So the
 * limit is one less (at least one), for one piece (PIECE) at a time. It is no lock: a worker that has waited for two
 * milliseconds passes anyway, so that a writer that the kernel throttles in the middle of a piece does not stop all
 * others.
 *
 * Locking. The engine lock guards the pool; copiers.lock guards the number of copying workers. No lock is held while a
 * worker performs a request.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <unistd.h>

#include "internal.h"

enum { WORKERS_MAX = 256, BLOCKING_MAX = 128, PIECE = 512 * 1024, SMALL = 64 * 1024, PAGE = 4096 };
static const int64_t IDLE_NS = 5000000000;

static struct {
    unsigned threads, idle, starting;
    unsigned blocking; /* workers with a request on a stream, which may block for ever; at most BLOCKING_MAX */
    pthread_cond_t work;
} pool;

static struct {
    pthread_mutex_t lock;
    pthread_cond_t freed;
    unsigned copying;
} copiers;

/* ---- the limit on copies------------------------------------------------------------------------------ */

static unsigned copiers_allowed(void)
{
    static _Atomic unsigned allowed;
    unsigned known = atomic_load_explicit(&allowed, memory_order_relaxed);
    if (!known) {
        cpu_set_t set;
        int processors = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 2;
        known = processors > 2 ? (unsigned)processors - 1 : 1;
        atomic_store_explicit(&allowed, known, memory_order_relaxed);
    }
    return known;
}

static void copy_begin(void)
{
    enum { PATIENCE_NS = 2000000 };
    int64_t until = aiofs_now() + PATIENCE_NS;
    pthread_mutex_lock(&copiers.lock);
    while (copiers.copying >= copiers_allowed())
        if (condition_wait_until(&copiers.freed, &copiers.lock, until) != 0)
            break;
    copiers.copying++;
    pthread_mutex_unlock(&copiers.lock);
}

static void copy_end(void)
{
    pthread_mutex_lock(&copiers.lock);
    copiers.copying--;
    pthread_cond_signal(&copiers.freed);
    pthread_mutex_unlock(&copiers.lock);
}

/* ---- moving bytes --------------------------------------------------------------------------------------- */

/* May the request take the way through a bounce buffer? */
static bool may_bounce(const aiofs_request *request)
{
    const aiofs_file *file = request->file;
    return request->mapped && file->kind == KIND_REGULAR && !file->refuses && !(file->flags & O_DIRECT);
}

/* The flags of a read that does not block: tmpfs refuses RWF_NOWAIT. */
static int nowait_of(const aiofs_file *file)
{
    return atomic_load_explicit(&file->hint, memory_order_relaxed) == HINT_MEMORY ? 0 : RWF_NOWAIT;
}

static bool read_bounced(const aiofs_request *request, int fd, const struct iovec *iov, int count, int64_t offset,
                         ssize_t *got)
{
    return may_bounce(request) && bounce_suits(iov, count, offset, false) &&
           bounce_read(fd, iov, count, offset, nowait_of(request->file), got);
}

/* One piece of a long buffered read. Between copy_begin and copy_end it copies cached bytes only. If none are cached,
 * it then reads one page and waits for the disk; the kernel reads ahead meanwhile. */
static ssize_t read_piece(const aiofs_request *request, int fd, const struct iovec *iov, int count, int64_t offset)
{
    ssize_t got;
    copy_begin();
    if (!read_bounced(request, fd, iov, count, offset, &got))
        got = aiofs_sys.preadv2(fd, iov, count, offset, RWF_NOWAIT);
    copy_end();
    if (got > 0 || (got < 0 && got != -EAGAIN && got != -EOPNOTSUPP))
        return got;
    if (got == -EOPNOTSUPP) /* tmpfs */
        return aiofs_sys.preadv2(fd, iov, count, offset, 0);
    const struct iovec page = {iov[0].iov_base, iov[0].iov_len < PAGE ? iov[0].iov_len : PAGE};
    return aiofs_sys.preadv2(fd, &page, 1, offset, 0);
}

static ssize_t read_waiting(const aiofs_request *request, int fd, const struct iovec *iov, int count, int64_t offset)
{
    ssize_t got;
    if (read_bounced(request, fd, iov, count, offset, &got) && got > 0)
        return got;
    got = aiofs_sys.preadv2(fd, iov, count, offset, 0);
    if (got == -ESPIPE && request->moved == 0) /* some regular files of /proc accept no offset */
        got = aiofs_sys.preadv2(fd, iov, count, -1, 0);
    return got;
}

/* A buffered write inside the call may wait because this one does. */
static ssize_t write_piece(const aiofs_request *request, int fd, const struct iovec *iov, int count, int64_t offset)
{
    const aiofs_file *file = request->file;
    bool bounces = may_bounce(request) && !(file->flags & (O_APPEND | O_DSYNC)) && bounce_suits(iov, count, offset, true);
    ssize_t put;
    struct aiofs_write_backoff *backoff = write_backoff_of(file->lock_ref);
    int64_t before = aiofs_now();
    bool holds = write_backoff_holds(backoff, before) && !(file->flags & (O_DIRECT | O_DSYNC));
    if (holds)
        write_begins(before);
    if (!bounces || !bounce_write(fd, iov, count, offset, false, &put))
        put = aiofs_sys.pwritev2(fd, iov, count, offset, 0);
    if (holds) {
        int64_t after = aiofs_now();
        if (write_waited(before, after))
            write_backoff_prolong(backoff, after);
    }
    return put;
}

static ssize_t move_piece(const aiofs_request *request, int fd, const struct iovec *iov, int count, size_t length)
{
    const aiofs_file *file = request->file;
    int64_t offset = position_of(request, file);
    bool copies = length > SMALL && file->kind == KIND_REGULAR && !(file->flags & O_DIRECT) && !file->refuses;
    if (request->op == AIOFS_READ)
        return copies ? read_piece(request, fd, iov, count, offset) : read_waiting(request, fd, iov, count, offset);
    if (copies)
        copy_begin();
    ssize_t put = write_piece(request, fd, iov, count, offset);
    if (put == -ESPIPE && request->moved == 0) /* some seekable files of /proc accept no offset */
        put = aiofs_sys.pwritev2(fd, iov, count, -1, 0);
    if (copies)
        copy_end();
    return put;
}

static int64_t move(aiofs_request *request, int fd)
{
    enum { PIECES = 16 };
    const aiofs_file *file = request->file;
    size_t limit = file->kind == KIND_REGULAR && !(file->flags & O_DIRECT) ? PIECE : SSIZE_MAX & ~(PAGE - 1);
    struct iovec rest[PIECES];
    size_t length;
    for (;;) {
        int count = request_rest(request, rest, PIECES, limit, &length);
        if (count == 0)
            return (int64_t)request->moved;
        ssize_t moved = move_piece(request, fd, rest, count, length);
        if (moved == -EINTR)
            continue;
        if (moved <= 0)
            return request_outcome(request, moved);
        request->moved += (uint64_t)moved;
        /* A short read is a success, and a further read may block. */
        bool enough =
            request->op == AIOFS_READ && (file->kind == KIND_STREAM || (file->refuses && (size_t)moved < length));
        if (enough || (file->flags & O_DIRECT && (size_t)moved < length))
            return (int64_t)request->moved;
    }
}

/* For no bytes preadv2 and pwritev2 return 0 without a call of the file's driver; read(2) and write(2) do call it. */
static int64_t move_nothing(const aiofs_request *request, int fd)
{
    void *buffer = request->iovcnt ? request->iov[0].iov_base : NULL;
    ssize_t result;
    do
        result = request->op == AIOFS_READ ? aiofs_sys.read(fd, buffer, 0) : aiofs_sys.write(fd, buffer, 0);
    while (result == -EINTR);
    return result;
}

static int64_t perform(aiofs_request *request)
{
    aiofs_file *file = request->file;
    int fd = engine_fd_of(file);
    MUST_NOT_BLOCK_REACTOR(true);
    if (fd < 0)
        return -EAGAIN;
    int64_t result;
    switch (request->op) {
    case AIOFS_READ:
    case AIOFS_WRITE:
        return is_empty(request) ? move_nothing(request, fd) : move(request, fd);
    case AIOFS_TRUNCATE:
        do
            result = aiofs_sys.ftruncate(fd, request->offset);
        while (result == -EINTR);
        return result;
    case AIOFS_FSYNC:
        do
            result = aiofs_sys.fsync(fd);
        while (result == -EINTR);
        return result;
    case AIOFS_FLUSH:
        return file_sync_changes(file, fd);
    default:
        do
            result = aiofs_sys.fdatasync(fd);
        while (result == -EINTR);
        return result;
    }
}

/* ---- the threads ------------------------------------------------------------------------------------------ */

static bool may_block(void)
{
    return !list_empty(&engine.adopted) && pool.blocking < BLOCKING_MAX;
}

static bool has_work(void)
{
    return !list_empty(&engine.run_queue[CARRIER_WORKERS]) || !list_empty(&engine.closing) || may_block();
}

bool pool_wants_worker(void)
{
    return has_work() && pool.idle + pool.starting == 0 && pool.threads < WORKERS_MAX;
}

bool pool_is_starting(void)
{
    return pool.starting > 0;
}

void pool_signal(void)
{
    if (pool.idle)
        pthread_cond_signal(&pool.work);
}

void pool_shrink(void)
{
    pthread_cond_broadcast(&pool.work);
}

static aiofs_request *take(void)
{
    if (!may_block())
        return lane_take(&engine.run_queue[CARRIER_WORKERS]);
    aiofs_request *request = CONTAINER(list_pop(&engine.adopted), aiofs_request, queued);
    request->phase = PHASE_BLOCKING;
    pool.blocking++;
    return request;
}

/* Waits for work. False: there was none for IDLE_NS, or threads are scarce: this worker exits. Lock held. */
static bool wait_for_work(void)
{
    int64_t until = aiofs_now() + IDLE_NS;
    int error = 0;
    pool.idle++;
    while (!has_work() && ((error != ETIMEDOUT && !host_threads_scarce()) || pool.threads == 1))
        error = pool.threads == 1 ? pthread_cond_wait(&pool.work, &engine.lock)
                                  : condition_wait_until(&pool.work, &engine.lock, until);
    pool.idle--;
    return has_work();
}

/* Whether the name of the file is still to be synced: a part of each sync of a file that aiofs opened. */
static bool has_unsynced_name(const aiofs_request *request)
{
    bool syncs = request->op == AIOFS_FSYNC || request->op == AIOFS_FDATASYNC || request->op == AIOFS_FLUSH;
    return syncs && request->file->lock_ref && !aiofs_lock_ref_dir_is_synced(request->file->lock_ref);
}

static void carry_out(aiofs_request *request)
{
    int64_t result = perform(request);
    COUNT(pooled);
    if (result == 0 && has_unsynced_name(request))
        host_threads_sync_dir(request);
    else
        request_finish(request, result);
}

/* Closes one descriptor of engine.closing. False: that list is empty. Lock held, released meanwhile. */
static bool close_one(void)
{
    struct aiofs_link *link = list_pop(&engine.closing);
    if (!link)
        return false;
    aiofs_file *file = CONTAINER(link, aiofs_file, leaving);
    bool wants_help = pool_wants_worker();
    pthread_mutex_unlock(&engine.lock);
    if (wants_help)
        engine_wake();
    engine_fd_close(file);
    aiofs_file_release(file);
    pthread_mutex_lock(&engine.lock);
    return true;
}

static void *worker_main(void *argument)
{
    (void)argument;
    on_engine_table = true;
    pthread_mutex_lock(&engine.lock);
    pool.starting--;
    while (has_work() || wait_for_work()) {
        if (close_one())
            continue;
        aiofs_request *request = take();
        bool blocking = request->phase == PHASE_BLOCKING;
        bool wants_help = pool_wants_worker();
        if (has_work())
            pool_signal(); /* lane_offer wakes one worker, and each worker wakes the next */
        pthread_mutex_unlock(&engine.lock);
        if (wants_help)
            engine_wake();
        carry_out(request);
        pthread_mutex_lock(&engine.lock);
        pool.blocking -= blocking;
    }
    pool.threads--;
    count_threads_by(-1);
    pthread_mutex_unlock(&engine.lock);
    return NULL;
}

static bool spawn(bool anyway)
{
    pthread_mutex_lock(&engine.lock);
    bool wanted = anyway || pool_wants_worker();
    if (wanted) {
        pool.starting++;
        pool.threads++;
        count_threads_by(1);
    }
    pthread_mutex_unlock(&engine.lock);
    if (!wanted || thread_start("aiofs-worker", worker_main, SMALL_STACK) == 0)
        return true;
    pthread_mutex_lock(&engine.lock);
    pool.starting--;
    pool.threads--;
    count_threads_by(-1);
    pthread_mutex_unlock(&engine.lock);
    return false;
}

bool pool_start(void)
{
    return spawn(true);
}

bool pool_spawn(void)
{
    return spawn(false);
}

bool pool_adopt(aiofs_request *request)
{
    pthread_mutex_lock(&engine.lock);
    bool wanted = request->phase == PHASE_RUNNING;
    if (wanted) {
        request->file->lanes[request->lane].current = NULL;
        request->phase = PHASE_ADOPTED;
        list_append(&engine.adopted, &request->queued);
        pool_signal();
    }
    pthread_mutex_unlock(&engine.lock);
    return wanted;
}

void pool_reset(void)
{
    pool.threads = pool.idle = pool.starting = pool.blocking = 0;
    engine.counters.workers = 0;
    condition_init(&pool.work);
    pthread_mutex_init(&copiers.lock, NULL);
    condition_init(&copiers.freed);
    copiers.copying = 0;
}
