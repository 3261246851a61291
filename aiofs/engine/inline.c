/*
 * inline.c - operations on the calling thread: non-blocking ones inside the call, and blocking ones for synchronous
 * handles.
 *
 * Inside the call. A read of cached pages needs no submission: preadv2 with RWF_NOWAIT returns the bytes, or -EAGAIN.
 * tmpfs refuses RWF_NOWAIT and never blocks, so a plain pread is made there. ext4 has no RWF_NOWAIT for buffered
 * writes. So a write is made inside the call only if its pages are cached (cachestat(2)), no request in flight changes
 * the file, and no recent write was slow (slow_write.c).
 *
 * Hints. What the kernel said about a file is kept as a hint. The hint of a plain descriptor may be out of date,
 * because the program can reuse the number. An outdated hint must cost time only: the kernel refuses a positioned read
 * or write of a pipe, and the descriptor is examined again at every 256th use. On tmpfs, where a pread could block on
 * another file, it is examined at every use.
 *
 * Blocking. The functions aiofs_file_read to aiofs_file_flush move all bytes on the calling thread, with the program's
 * descriptor. The owner of the handle keeps it open during the call.
 *
 * Locking. None: the hints are atomic. An operation inside the call counts itself in file->inside, and aiofs_file_close
 * waits until that count is zero.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#include "internal.h"

enum { PAGE = 4096 };

static _Atomic bool no_cachestat;

bool aiofs_sigxfsz_ignored;

/* ---- hints ---------------------------------------------------------------------------------------- */

/* The hint of a plain descriptor, which is examined again now and then. */
static int hint_of_number(int fd)
{
    struct file_hint *hint = file_hint(fd);
    if (!hint)
        return HINT_ENGINE;
    uint8_t known = atomic_load_explicit(&hint->known, memory_order_relaxed);
    uint8_t uses = (uint8_t)(atomic_load_explicit(&hint->uses, memory_order_relaxed) + 1);
    atomic_store_explicit(&hint->uses, uses, memory_order_relaxed);
    /* HINT_MEMORY leads to a pread without RWF_NOWAIT, which must not block: so that hint is never reused. */
    if (known == HINT_UNKNOWN || (known & ~HINT_SYNC) == HINT_MEMORY || uses == 0) {
        known = (uint8_t)file_classify(fd);
        atomic_store_explicit(&hint->known, known, memory_order_relaxed);
    }
    return known;
}

/* The kernel refused RWF_NOWAIT. A plain number may also lead to a file of another kind by now. */
static void remember_refusal(aiofs_file *file, int fd)
{
    struct file_hint *hint = file ? NULL : file_hint(fd);
    int kind = hint ? file_classify(fd) : HINT_ENGINE;
    if ((kind & ~HINT_SYNC) == HINT_NOWAIT)
        kind = HINT_ENGINE;
    if (file)
        atomic_store_explicit(&file->hint, HINT_ENGINE, memory_order_relaxed);
    else if (hint)
        atomic_store_explicit(&hint->known, (uint8_t)kind, memory_order_relaxed);
}

/* ---- the number of an owned file ------------------------------------------------------------------------ */

/* From enter to leave the file's number stays open, because aiofs_file_close waits. This thread stores `inside` before
 * it loads `closing`; the closing thread stores `closing` before it loads `inside`. So one of them sees the other's
 * store. False: the file is being closed; submit a request, which fails with the right error. */
static inline bool enter(aiofs_file *file)
{
    if (!file)
        return true;
    atomic_fetch_add(&file->inside, 1);
    if (!atomic_load(&file->closing))
        return true;
    atomic_fetch_sub(&file->inside, 1);
    return false;
}

static inline void leave(aiofs_file *file)
{
    if (file)
        atomic_fetch_sub_explicit(&file->inside, 1, memory_order_release);
}

/* ---- one call ---------------------------------------------------------------------------------------- */

static inline ssize_t read_once(int fd, const struct iovec *iov, int iovcnt, int64_t offset)
{
    return iovcnt == 1 ? aiofs_sys.pread64(fd, iov->iov_base, iov->iov_len, offset)
                       : aiofs_sys.preadv2(fd, iov, iovcnt, offset, 0);
}

static inline ssize_t write_once(int fd, const struct iovec *iov, int iovcnt, int64_t offset)
{
    return iovcnt == 1 ? aiofs_sys.pwrite64(fd, iov->iov_base, iov->iov_len, offset)
                       : aiofs_sys.pwritev2(fd, iov, iovcnt, offset, 0);
}

/* ---- reads ------------------------------------------------------------------------------------------ */

/* A read of cached bytes. `hint`: HINT_NOWAIT or HINT_MEMORY. */
static inline ssize_t read_cached(int fd, int hint, const struct iovec *iov, int iovcnt, int64_t offset, bool mapped)
{
    ssize_t got;
    int flags = hint == HINT_NOWAIT ? RWF_NOWAIT : 0;
    if (mapped && bounce_suits(iov, iovcnt, offset, false) && bounce_read(fd, iov, iovcnt, offset, flags, &got))
        return got;
    return flags ? aiofs_sys.preadv2(fd, iov, iovcnt, offset, flags) : read_once(fd, iov, iovcnt, offset);
}

/* A short read with RWF_NOWAIT ended at the end of the file or before a page that is not cached. A read behind it shows
 * which: it returns 0 only at the end of the file. */
static bool ends_there(int fd, int64_t offset)
{
    char probe;
    const struct iovec one = {&probe, 1};
    return aiofs_sys.preadv2(fd, &one, 1, offset, RWF_NOWAIT) == 0;
}

static int64_t read_now(aiofs_file *file, int fd, const struct iovec *iov, int iovcnt, size_t total, int64_t offset,
                        bool mapped)
{
    if (total > AIOFS_INLINE_MAX || total == 0 || offset < 0)
        return AIOFS_NOT_INLINE;
    if (file)
        fd = atomic_load_explicit(&file->fd, memory_order_relaxed);
    int hint = file ? atomic_load_explicit(&file->hint, memory_order_relaxed) : hint_of_number(fd) & ~HINT_SYNC;
    if (hint == HINT_ENGINE || hint == HINT_UNKNOWN)
        return AIOFS_NOT_INLINE;

    ssize_t got = read_cached(fd, hint, iov, iovcnt, offset, mapped);
    if (got == (ssize_t)total || (got >= 0 && (hint == HINT_MEMORY || ends_there(fd, offset + got)))) {
        COUNT(inline_reads);
        return got;
    }
    if (got == -EOPNOTSUPP)
        remember_refusal(file, fd);
    return AIOFS_NOT_INLINE; /* also after an error: the submitted request will report it */
}

int64_t aiofs_read_inline(aiofs_file *file, int fd, const struct iovec *iov, int iovcnt, size_t total, int64_t offset,
                          bool mapped)
{
    if (!enter(file))
        return AIOFS_NOT_INLINE;
    int64_t got = read_now(file, fd, iov, iovcnt, total, offset, mapped);
    leave(file);
    return got;
}

/* ---- writes ------------------------------------------------------------------------------------------ */

static bool pages_cached(int fd, int64_t offset, size_t total)
{
    struct aiofs_cachestat stat;
    uint64_t pages = (uint64_t)(offset + (int64_t)total - 1) / PAGE - (uint64_t)offset / PAGE + 1;
    if (!atomic_load_explicit(&no_cachestat, memory_order_relaxed)) {
        int error = aiofs_sys.cachestat(fd, offset, total, &stat);
        if (error == 0)
            return stat.cached >= pages;
        if (error == -ENOSYS || error == -EPERM) /* other errors concern this descriptor only */
            atomic_store_explicit(&no_cachestat, true, memory_order_relaxed);
    }
    char probe;
    const struct iovec one = {&probe, 1};
    return pages <= 1 && aiofs_sys.preadv2(fd, &one, 1, offset, RWF_NOWAIT) == 1;
}

/* Is RLIMIT_FSIZE set? A write past it would raise SIGXFSZ on this thread; the engine's threads block that signal. The
 * end of an append is not known here, so any limit disables inline writes. */
static bool is_limited(void)
{
    struct rlimit limit;
    return !aiofs_sigxfsz_ignored &&
           (aiofs_sys.getrlimit(RLIMIT_FSIZE, &limit) < 0 || limit.rlim_cur != RLIM_INFINITY);
}

/* A write of cached pages. It is one system call, because the descriptor may append. */
static inline ssize_t write_cached(int fd, const struct iovec *iov, int iovcnt, int64_t offset, bool mapped)
{
    ssize_t put;
    if (mapped && bounce_suits(iov, iovcnt, offset, true) && bounce_write(fd, iov, iovcnt, offset, true, &put))
        return put;
    return write_once(fd, iov, iovcnt, offset);
}

static int64_t write_now(aiofs_file *file, int fd, const struct iovec *iov, int iovcnt, size_t total, int64_t offset,
                         bool mapped)
{
    if (total > AIOFS_INLINE_MAX || total == 0 || offset < 0 || offset > INT64_MAX - (int64_t)total)
        return AIOFS_NOT_INLINE;
    aiofs_lock_ref *lock_ref = file ? file->lock_ref : NULL;
    if (file) {
        fd = atomic_load_explicit(&file->fd, memory_order_relaxed);
        bool others = atomic_load_explicit(&file->changing, memory_order_relaxed) != 0;
        if (file->flags & (O_APPEND | O_DSYNC) || others || (lock_ref && aiofs_lock_ref_has_quota(lock_ref)))
            return AIOFS_NOT_INLINE;
    } else if (file_number_busy(fd)) { /* an append would overtake the requests in flight */
        return AIOFS_NOT_INLINE;
    }
    int hint = file ? atomic_load_explicit(&file->hint, memory_order_relaxed) : hint_of_number(fd);
    if (hint == HINT_ENGINE || hint == HINT_UNKNOWN || hint & HINT_SYNC || is_limited())
        return AIOFS_NOT_INLINE;
    struct aiofs_write_backoff *backoff = write_backoff_of(lock_ref);
    int64_t before = aiofs_now();
    if (write_backoff_holds(backoff, before))
        return AIOFS_NOT_INLINE;
    write_begins(before);
    if (hint == HINT_NOWAIT && !pages_cached(fd, offset, total))
        return AIOFS_NOT_INLINE;

    ssize_t put = write_cached(fd, iov, iovcnt, offset, mapped);
    int64_t after = aiofs_now();
    if (write_waited(before, after))
        write_backoff_begin(backoff, after);
    if (put < 0)
        return AIOFS_NOT_INLINE;
    COUNT(inline_writes);
    if (file) {
        atomic_store_explicit(&file->dirty, true, memory_order_relaxed);
        if (lock_ref)
            aiofs_lock_ref_changed(lock_ref);
    }
    return put;
}

int64_t aiofs_write_inline(aiofs_file *file, int fd, const struct iovec *iov, int iovcnt, size_t total, int64_t offset,
                           bool mapped)
{
    if (!enter(file))
        return AIOFS_NOT_INLINE;
    int64_t put = write_now(file, fd, iov, iovcnt, total, offset, mapped);
    leave(file);
    return put;
}

/* ---- blocking ----------------------------------------------------------------------------------------- */

/* A transfer on the calling thread. */
struct transfer {
    int fd;
    bool writes;
    bool once;    /* return after a short read, because a further read may block */
    bool bounces; /* its buffers and its file allow the way through a bounce buffer */
    int flags;    /* for reads through it */
};

static struct transfer transfer_of(const aiofs_file *file, bool writes, bool mapped)
{
    int hint = atomic_load_explicit(&file->hint, memory_order_relaxed);
    bool cached = hint == HINT_MEMORY || (hint == HINT_NOWAIT && !file->refuses);
    return (struct transfer){
        .fd = atomic_load(&file->fd),
        .writes = writes,
        .once = !writes && file->refuses,
        .bounces = mapped && cached && !(writes && file->flags & (O_APPEND | O_DSYNC)),
        .flags = hint == HINT_MEMORY ? 0 : RWF_NOWAIT,
    };
}

/* One system call, or several with a bounce buffer. What is not cached is read directly. */
static ssize_t move_some(const struct transfer *how, const struct iovec *iov, int iovcnt, int64_t offset)
{
    ssize_t moved;
    if (how->bounces && bounce_suits(iov, iovcnt, offset, how->writes)) {
        if (how->writes && bounce_write(how->fd, iov, iovcnt, offset, false, &moved))
            return moved;
        if (!how->writes && bounce_read(how->fd, iov, iovcnt, offset, how->flags, &moved) && moved > 0)
            return moved;
    }
    return how->writes ? write_once(how->fd, iov, iovcnt, offset) : read_once(how->fd, iov, iovcnt, offset);
}

/* Did the kernel move less than was asked for, and less than its own limit for one call? */
static bool is_short(ssize_t moved, size_t asked)
{
    enum { MOST = 0x7ffff000 };
    return (size_t)moved < asked && moved < MOST;
}

/* Moves the bytes behind the first `before` ones, with as many system calls as the kernel needs. The request on the
 * stack only keeps the position. */
static int64_t move_rest(const struct transfer *how, const struct iovec *iov, int iovcnt, int64_t offset,
                         uint64_t before)
{
    enum { PIECES = 16 };
    aiofs_request position = {.iov = iov, .iovcnt = iovcnt, .moved = before};
    struct iovec rest[PIECES];
    size_t length;
    for (;;) {
        int count = request_rest(&position, rest, PIECES, SSIZE_MAX, &length);
        if (count == 0)
            return (int64_t)position.moved;
        int64_t at = offset + (int64_t)position.moved;
        ssize_t moved = move_some(how, rest, count, at);
        if (moved == -EINTR)
            continue;
        if (moved <= 0)
            return request_outcome(&position, moved);
        position.moved += (uint64_t)moved;
        if (how->once && is_short(moved, length))
            return (int64_t)position.moved;
    }
}

static int64_t move_all(const struct transfer *how, const struct iovec *iov, int iovcnt, int64_t offset)
{
    if (iovcnt != 1)
        return move_rest(how, iov, iovcnt, offset, 0);
    ssize_t moved = move_some(how, iov, 1, offset);
    if (moved == (ssize_t)iov->iov_len || (moved <= 0 && moved != -EINTR) ||
        (how->once && moved > 0 && is_short(moved, iov->iov_len)))
        return moved;
    return move_rest(how, iov, 1, offset, moved > 0 ? (uint64_t)moved : 0);
}

static size_t total_of(const struct iovec *iov, int iovcnt)
{
    size_t total = 0;
    for (int i = 0; i < iovcnt; i++)
        total += iov[i].iov_len;
    return total;
}

/* Reads up to the last byte that a file can have: the kernel refuses a read that reaches beyond it. */
static int64_t read_to_the_last_byte(aiofs_file *file, const struct iovec *iov, int iovcnt, int64_t offset, bool mapped)
{
    int64_t moved = 0;
    for (int i = 0; i < iovcnt; i++) {
        size_t room = (size_t)(INT64_MAX - offset - moved);
        struct iovec piece = {iov[i].iov_base, iov[i].iov_len < room ? iov[i].iov_len : room};
        int64_t got = piece.iov_len ? aiofs_file_read(file, &piece, 1, offset + moved, mapped) : 0;
        if (got < 0)
            return moved ? moved : got;
        moved += got;
        if (got < (int64_t)iov[i].iov_len)
            break;
    }
    return moved;
}

int64_t aiofs_file_read(aiofs_file *file, const struct iovec *iov, int iovcnt, int64_t offset, bool mapped)
{
    if (offset > INT64_MAX - (int64_t)total_of(iov, iovcnt))
        return read_to_the_last_byte(file, iov, iovcnt, offset, mapped);
    if (file->ops)
        return file->ops->read(file->self, iov, iovcnt, offset);
    struct transfer how = transfer_of(file, false, mapped);
    return move_all(&how, iov, iovcnt, offset);
}

static void changed(aiofs_file *file)
{
    atomic_store_explicit(&file->dirty, true, memory_order_relaxed);
    if (file->lock_ref)
        aiofs_lock_ref_changed(file->lock_ref);
}

/* Charges the volume's quota for a change of the file's size to `end`, before the change; see aiofs_lock_ref_charge. */
static int charge(aiofs_file *file, int64_t end, bool may_shrink)
{
    if (!file->lock_ref || !aiofs_lock_ref_has_quota(file->lock_ref))
        return 0;
    int64_t size = aiofs_file_size(file);
    if (size < 0)
        return (int)size;
    return aiofs_lock_ref_charge(file->lock_ref, size, may_shrink || end > size ? end : size);
}

static void return_unused_quota(aiofs_file *file)
{
    if (file->lock_ref && aiofs_lock_ref_has_quota(file->lock_ref)) {
        int64_t size = aiofs_file_size(file);
        if (size >= 0)
            aiofs_lock_ref_uncharge(file->lock_ref, size);
    }
}

int64_t aiofs_file_write(aiofs_file *file, const struct iovec *iov, int iovcnt, int64_t offset, bool mapped)
{
    size_t total = total_of(iov, iovcnt);
    if (offset > INT64_MAX - (int64_t)total)
        return -EFBIG;
    if (total == 0)
        return 0;
    if (file->ops)
        return file->ops->write(file->self, iov, iovcnt, offset);
    int charged = charge(file, offset + (int64_t)total, false);
    if (charged < 0)
        return charged;
    struct transfer how = transfer_of(file, true, mapped);
    int64_t put = move_all(&how, iov, iovcnt, offset);
    if (put > 0)
        changed(file);
    if (charged && put > 0)
        aiofs_lock_ref_wrote(file->lock_ref, offset + put);
    if (put < (int64_t)total)
        return_unused_quota(file);
    if (charged)
        aiofs_lock_ref_charge_end(file->lock_ref);
    return put;
}

int64_t aiofs_file_size(aiofs_file *file)
{
    struct stat stat;
    if (file->ops)
        return file->ops->size(file->self);
    int error = aiofs_sys.fstat(atomic_load(&file->fd), &stat);
    return error < 0 ? error : stat.st_size;
}

int64_t aiofs_file_truncate(aiofs_file *file, int64_t size)
{
    if (file->ops)
        return file->ops->truncate(file->self, size);
    int error, charged = charge(file, size, true);
    if (charged < 0)
        return charged;
    do
        error = aiofs_sys.ftruncate(atomic_load(&file->fd), size);
    while (error == -EINTR);
    if (error == 0)
        changed(file);
    return_unused_quota(file);
    if (charged)
        aiofs_lock_ref_charge_end(file->lock_ref);
    return error;
}

int64_t aiofs_file_flush(aiofs_file *file)
{
    int error;
    if (file->ops)
        return file->ops->flush(file->self);
    error = file_sync_changes(file, atomic_load(&file->fd));
    if (error == 0 && file->lock_ref)
        error = aiofs_lock_ref_sync_dir(file->lock_ref);
    return error;
}
