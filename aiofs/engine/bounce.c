/*
 * bounce.c - copies of cached bytes through a bounce buffer, where the caller's buffer lies badly.
 *
 * The kernel copies with `rep movsb`. On some processors (AMD's among them) that instruction is 2.3 to 4.3 times slower
 * if the destination begins 1 to 31 bytes after the source, modulo 4096. A page of a file begins at a page boundary. So
 * a read from such an offset is slow into a buffer that begins 1 to 31 bytes after one, and a large `bytearray`, like
 * every block that malloc maps, begins 16 bytes after one. A write is slow from a buffer that begins as many bytes
 * before one.
 *
 * On such a processor the kernel copies to a bounce buffer that lies well, and this thread copies on with vector
 * instructions. The bounce buffer stays in the second-level cache, so the second copy costs little. Whether the
 * processor is such a one is measured once per process, when a buffer lies badly for the first time: the bytes that
 * are wanted are read several times, to a place that lies badly, and to one that lies well with the second copy.
 *
 * A face vouches for the memory, because a fault in the second copy would end the process, where the kernel returns
 * EFAULT. Only cached bytes take this way: what waits for a device would keep a bounce buffer, and gain nothing.
 *
 * Ownership. A bounce buffer belongs to a thread from take to give_back. They are allocated at the first use and kept.
 * A thread that finds none free makes the call directly. In the child of a fork, those stay taken that other threads of
 * the parent used at that moment.
 *
 * Locking. None: what is taken is atomic, and so is the result of the measurement.
 */
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>

#include "internal.h"

enum { PAGE = 4096, SLOTS = 8, ROUNDS = 7, BAD = 16 };
enum { READ_APART = 64, WRITE_APART = PAGE - 128 }; /* from the file's position to the bounce buffer's, modulo a page */

_Atomic int aiofs_bounce = AIOFS_BOUNCE_UNKNOWN;

static struct slot {
    _Alignas(64) _Atomic bool taken;
    char *memory; /* BOUNCE_MAX bytes and a page; NULL: not allocated yet */
} slots[SLOTS];

/* ---- bounce buffers ------------------------------------------------------------------------------------------- */

/* The slot that a thread tries first, so that its bounce buffer is in the cache of its processor. */
static unsigned home(void)
{
    static _Atomic unsigned threads;
    static _Thread_local unsigned number;
    if (!number)
        number = atomic_fetch_add(&threads, 1) % SLOTS + 1;
    return number - 1;
}

static bool allocate(struct slot *slot)
{
    void *memory = mmap(NULL, BOUNCE_MAX + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory != MAP_FAILED)
        slot->memory = memory;
    return memory != MAP_FAILED;
}

static void give_back(struct slot *slot)
{
    atomic_store_explicit(&slot->taken, false, memory_order_release);
}

static struct slot *take(void)
{
    for (unsigned i = 0, first = home(); i < SLOTS; i++) {
        struct slot *slot = &slots[(first + i) % SLOTS];
        if (atomic_exchange_explicit(&slot->taken, true, memory_order_acquire))
            continue;
        if (slot->memory || allocate(slot))
            return slot;
        give_back(slot);
    }
    return NULL;
}

/* Where the bounce buffer begins for the bytes at `position` of a file. At this distance neither copy is slow. */
static char *place(const struct slot *slot, int64_t position, unsigned apart)
{
    return slot->memory + (((uint64_t)position + apart) & (PAGE - 1));
}

/* ---- the second copy ------------------------------------------------------------------------------------------ */

typedef uint64_t vector __attribute__((vector_size(16), aligned(1), may_alias));

/* As memcpy, which may be `rep movsb` itself. */
static void copy(char *to, const char *from, size_t size)
{
    enum { STEP = 4 * sizeof(vector) };
    size_t at = 0;
    for (; at + STEP <= size; at += STEP) {
        const vector *source = (const vector *)(from + at);
        vector first = source[0], second = source[1], third = source[2], fourth = source[3];
        vector *target = (vector *)(to + at);
        target[0] = first;
        target[1] = second;
        target[2] = third;
        target[3] = fourth;
    }
    for (; at < size; at++)
        to[at] = from[at];
}

/* Copies `size` bytes between `bounce` and the buffers behind their first `skip` bytes. */
static void spread(const struct iovec *iov, size_t skip, char *bounce, size_t size, bool to_bounce)
{
    for (; size; iov++) {
        if (skip >= iov->iov_len) {
            skip -= iov->iov_len;
            continue;
        }
        char *piece = (char *)iov->iov_base + skip;
        size_t length = iov->iov_len - skip < size ? iov->iov_len - skip : size;
        copy(to_bounce ? bounce : piece, to_bounce ? piece : bounce, length);
        bounce += length;
        size -= length;
        skip = 0;
    }
}

/* ---- the measurement ------------------------------------------------------------------------------------------ */

static ssize_t read_to(int fd, char *to, size_t size, int64_t offset, int flags)
{
    const struct iovec one = {to, size};
    return flags ? aiofs_sys.preadv2(fd, &one, 1, offset, flags) : aiofs_sys.pread64(fd, to, size, offset);
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Finds out whether the way through a bounce buffer is faster. If the bytes are not cached, that stays unknown. */
static void measure(struct slot *slot, int fd, int64_t offset, int flags)
{
    enum { FEWEST = PAGE / 2 };
    char *badly = place(slot, offset, BAD), *well = place(slot, offset, READ_APART);
    char *target = badly + 4 * PAGE;
    int64_t direct = INT64_MAX, bounced = INT64_MAX;
    for (int i = 0; i < ROUNDS; i++) {
        int64_t begun = aiofs_now();
        ssize_t got = read_to(fd, badly, PAGE, offset, flags);
        int64_t between = aiofs_now();
        if (got < FEWEST || read_to(fd, well, PAGE, offset, flags) != got)
            return;
        copy(target, well, (size_t)got);
        direct = smaller(direct, between - begun);
        bounced = smaller(bounced, aiofs_now() - between);
    }
    int found = bounced + bounced / 4 < direct ? AIOFS_BOUNCE_ALWAYS : AIOFS_BOUNCE_NEVER;
    atomic_store_explicit(&aiofs_bounce, found, memory_order_relaxed);
}

/* A bounce buffer; NULL: make the call directly. */
static struct slot *begin(int fd, int64_t offset, int flags)
{
    struct slot *slot = take();
    if (slot && atomic_load_explicit(&aiofs_bounce, memory_order_relaxed) == AIOFS_BOUNCE_UNKNOWN)
        measure(slot, fd, offset, flags);
    if (!slot || atomic_load_explicit(&aiofs_bounce, memory_order_relaxed) == AIOFS_BOUNCE_ALWAYS)
        return slot;
    give_back(slot);
    return NULL;
}

/* ---- reads and writes ----------------------------------------------------------------------------------------- */

static size_t total_of(const struct iovec *iov, int iovcnt)
{
    size_t total = 0;
    for (int i = 0; i < iovcnt; i++)
        total += iov[i].iov_len;
    return total;
}

bool bounce_read(int fd, const struct iovec *iov, int iovcnt, int64_t offset, int flags, ssize_t *got)
{
    size_t total = total_of(iov, iovcnt), moved = 0;
    struct slot *slot = begin(fd, offset, flags);
    if (!slot)
        return false;
    while (moved < total) {
        int64_t at = offset + (int64_t)moved;
        char *from = place(slot, at, READ_APART);
        size_t size = total - moved < BOUNCE_MAX ? total - moved : BOUNCE_MAX;
        *got = read_to(fd, from, size, at, flags);
        if (*got > 0)
            spread(iov, moved, from, (size_t)*got, false);
        moved += *got > 0 ? (size_t)*got : 0;
        if (*got < (ssize_t)size)
            break;
    }
    give_back(slot);
    if (moved)
        *got = (ssize_t)moved;
    return true;
}

bool bounce_write(int fd, const struct iovec *iov, int iovcnt, int64_t offset, bool whole, ssize_t *put)
{
    size_t total = total_of(iov, iovcnt);
    struct slot *slot = total <= BOUNCE_MAX || !whole ? begin(fd, offset, RWF_NOWAIT) : NULL;
    if (!slot)
        return false;
    if (total > BOUNCE_MAX)
        total = BOUNCE_MAX;
    char *from = place(slot, offset, WRITE_APART);
    spread(iov, 0, from, total, true);
    *put = aiofs_sys.pwrite64(fd, from, total, offset);
    give_back(slot);
    return true;
}
