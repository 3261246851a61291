/*
 * wait_table.c - the table of the holders of locks and of the waiting openings of a volume, which processes share.
 *
 * The lock itself is in the lock files (lock_file.c), and the kernel frees it when its holder dies. The table adds what
 * the kernel does not tell: who holds a lock, who waits for it, and in which order. It is the file `.aiofs/waits`, mapped
 * by every process that took a lock in the volume. A virtual volume, and one that the process has open read-only only,
 * has it in the process's own memory. It is a help and no authority: without it, or with a wrong entry in it, a lock still excludes.
 *
 *     the head      the last ticket; per bucket of path hashes, how many wait; per process its futex word and its pid;
 *                   per block of slots its owner, and one bit per slot in `held` and in `waiting`
 *     the blocks    32 slots each, of 128 bytes: what is held or waited for
 *
 * Who writes what. A process has a number: the first one whose byte of the file it can write-lock (F_OFD_SETLK). It
 * claims blocks by a compare-and-swap of their owner, and only it changes the slots and the bits of its blocks, under its
 * namespace lock. Everybody may increment a futex word. A bit makes a slot valid: it is set after the slot is filled, and
 * cleared before the slot is used again. The blocks are written with zeros before they are used, so that a store to the
 * map does not need space on a full disk.
 *
 * Order. A waiting opening increments its bucket, sets its bit, takes a ticket, and then tries the lock; a releaser
 * unlocks, and then reads the bucket. All of these are sequentially consistent, so one of the two sees the other: no
 * wake-up is lost. A slot whose bit is set and whose ticket is 0 is taking its ticket; a reader waits for that, so that
 * nobody with a later ticket takes the lock first. A slot may be reused while another process reads it; the reader then
 * wakes somebody for nothing, and the one who left the queue has woken the next.
 *
 * Dead processes. A process is alive while its byte is locked. Whoever finds a slot of a dead process takes that lock,
 * clears the bits and the blocks, takes its waiters off their buckets, and unlocks the byte. If a process dies between
 * two stores, a bucket stays too high by one: that costs a search, no wake-up. Who is alone with the file starts it anew.
 *
 * A full table (1,024 processes, 32,768 slots), or a file that cannot be made: nothing fails. A holder without a slot is
 * not listed. A waiting opening without a slot is in no queue: it tries every 50 ms (waiting.c), and others may pass it.
 * The same interval bounds the wait after a holder or the first in the queue was killed, and after a release by somebody
 * who cannot wake others: `aiofs run`, or another machine on a shared filesystem, where each machine has its own queue.
 *
 * Ownership. The tree owns the map, the descriptor and the list of free slots. A lock reference owns its slot, and so
 * does a waiter.
 *
 * Locking. The namespace lock guards the free slots and serialises this process's changes. The connection is made under
 * the opening lock: so no fork copies a descriptor that the child does not know of.
 *
 * Fork. The child gives the map up and closes its descriptor, so that the parent's byte ends with the parent. It makes
 * its own connection when it takes its first lock. A waiter that it has inherited keeps the number of the parent's
 * connection, and so touches no slot of the parent's: its thread takes a new place.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "cached.h"
#include "thread.h"
#include "wait_layout.h"

#define FREE_MIN 16 /* slots in reserve, for threads that take locks at the same moment */

enum { BYTE_ALONE = WAIT_PROCESSES };

/* ---- processes ------------------------------------------------------------------------------------------- */

static int byte_lock(int fd, int command, short type, int64_t byte)
{
    struct flock range = {.l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    int status = aiofs_sys.fcntl(fd, command, (long)&range);
    return status < 0 ? status : command == F_OFD_GETLK && range.l_type != F_UNLCK;
}

bool wait_process_is_alive(const struct aiofs_waits *waits, unsigned process)
{
    return waits->fd < 0 || (int)process == waits->process || byte_lock(waits->fd, F_OFD_GETLK, F_WRLCK, process) > 0;
}

/* Takes what a dead process left out of the table. The caller has locked its byte. */
static void clear_process(const struct aiofs_waits *waits, unsigned process)
{
    struct wait_head *head = waits->head;
    for (unsigned block = 0; block < WAIT_BLOCKS; block++) {
        if ((atomic_load(&head->owner[block]) & ~CLAIMING) != process + 1)
            continue;
        uint32_t bits = atomic_exchange(&head->waiting[block], 0);
        for (; bits; bits &= bits - 1) {
            unsigned slot = block * WAIT_BLOCK_SLOTS + (unsigned)__builtin_ctz(bits);
            atomic_fetch_sub(wait_bucket_of(waits, atomic_load(&wait_slot_of(waits, slot)->hash)), 1);
        }
        atomic_store(&head->held[block], 0);
        atomic_store(&head->owner[block], 0);
    }
    atomic_store(&head->process[process].watchers, 0);
    atomic_store(&head->process[process].pid, 0);
}

/* Forgets a process if it is dead. True: it is. */
bool wait_process_reap_locked(const struct aiofs_waits *waits, unsigned process)
{
    if (wait_process_is_alive(waits, process) || byte_lock(waits->fd, F_OFD_SETLK, F_WRLCK, process) < 0)
        return false;
    clear_process(waits, process);
    byte_lock(waits->fd, F_OFD_SETLK, F_UNLCK, process);
    return true;
}

static void raise_to(_Atomic uint32_t *most, uint32_t value)
{
    uint32_t old = atomic_load(most);
    while (old < value && !atomic_compare_exchange_weak(most, &old, value))
        ;
}

static void become_process(struct aiofs_waits *waits)
{
    unsigned process = 0;
    if (waits->fd >= 0) {
        while (process < WAIT_PROCESSES && byte_lock(waits->fd, F_OFD_SETLK, F_WRLCK, process) < 0)
            process++;
        if (process == WAIT_PROCESSES)
            return;
        clear_process(waits, process);
    }
    atomic_store(&waits->head->process[process].pid, (int32_t)getpid());
    raise_to(&waits->head->processes, process + 1);
    waits->process = (int)process;
}

/* ---- the connection --------------------------------------------------------------------------------------- */

static int write_zeros(int fd, int64_t offset, size_t size)
{
    static const char zeros[PAGE];
    for (size_t done = 0; done < size; done += PAGE) {
        ssize_t wrote = aiofs_sys.pwrite64(fd, zeros, PAGE, offset + (int64_t)done);
        if (wrote != PAGE)
            return wrote < 0 ? (int)wrote : -ENOSPC;
    }
    return 0;
}

static bool is_refusal(int status)
{
    return status == -EAGAIN || status == -EACCES;
}

/* Whether the head is there. A process that failed or was killed while it started the file anew leaves a shorter one. */
static bool is_whole(int fd)
{
    struct stat status;
    return aiofs_sys.fstat(fd, &status) == 0 && status.st_size >= (off_t)HEAD_SIZE;
}

/* One attempt to show that this process uses the file. Who is alone with it starts it anew. -EAGAIN: another process
 * does that. */
static int try_to_join(int fd)
{
    int status = byte_lock(fd, F_OFD_SETLK, F_WRLCK, BYTE_ALONE);
    bool alone = status >= 0;
    if (alone)
        status = aiofs_sys.ftruncate(fd, 0);
    if (alone && status == 0)
        status = write_zeros(fd, 0, HEAD_SIZE);
    if (status < 0 && (alone || !is_refusal(status)))
        return status;
    status = byte_lock(fd, F_OFD_SETLK, F_RDLCK, BYTE_ALONE);
    if (status < 0 || is_whole(fd))
        return status;
    byte_lock(fd, F_OFD_SETLK, F_UNLCK, BYTE_ALONE);
    return -EAGAIN;
}

static int join_file(int fd)
{
    const struct timespec moment = {.tv_nsec = 1000000};
    int status = try_to_join(fd);
    for (int i = 1; is_refusal(status) && i < WAIT_TRIES; i++) {
        nanosleep(&moment, NULL);
        status = try_to_join(fd);
    }
    return is_refusal(status) ? -EBUSY : status;
}

static int map_table(const struct aiofs_tree *tree, struct aiofs_waits *waits, bool shared)
{
    int flags = shared ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    uint32_t none = 0;
    if (shared) {
        waits->fd = aiofs_sys.openat(tree->own_dir, "waits", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666);
        int status = waits->fd < 0 ? waits->fd : join_file(waits->fd);
        if (status < 0)
            return status;
    }
    void *map = mmap(NULL, TABLE_SIZE, PROT_READ | PROT_WRITE, flags, waits->fd, 0);
    if (map == MAP_FAILED)
        return -errno;
    waits->head = map;
    if (!atomic_compare_exchange_strong(&waits->head->magic, &none, WAIT_MAGIC) && none != WAIT_MAGIC)
        return -EPROTO;
    return 0;
}

static void unmap_table(struct aiofs_waits *waits)
{
    if (waits->head)
        munmap(waits->head, TABLE_SIZE);
    if (waits->fd >= 0)
        aiofs_sys.close(waits->fd);
    waits->head = NULL;
    waits->fd = -1;
}

static void disconnect(struct aiofs_waits *waits)
{
    while (waits) {
        struct aiofs_waits *retired = waits->retired;
        unmap_table(waits);
        pthread_cond_destroy(&waits->ended);
        free(waits->free_slots);
        free(waits);
        waits = retired;
    }
}

static bool can_share(const struct aiofs_tree *tree)
{
    return tree->root >= 0 && tree->writable && tree->own_dir >= 0;
}

/* Without a table that processes share, one of this process's own: then there is a queue in it at least. */
static struct aiofs_waits *waits_new(const struct aiofs_tree *tree)
{
    static unsigned last;
    struct aiofs_waits *waits = calloc(1, sizeof *waits);
    if (!waits)
        return NULL;
    waits->number = ++last;
    waits->fd = waits->process = -1;
    list_init(&waits->waiters);
    list_init(&waits->watchers);
    condition_init(&waits->ended);
    waits->free_slots = malloc((size_t)WAIT_BLOCKS * WAIT_BLOCK_SLOTS * sizeof *waits->free_slots);
    waits->shareable = can_share(tree);
    int status = waits->shareable ? map_table(tree, waits, true) : -ENOENT;
    if (status < 0) {
        unmap_table(waits);
        status = map_table(tree, waits, false);
    }
    if (status < 0 || !waits->free_slots) {
        disconnect(waits);
        return NULL;
    }
    become_process(waits);
    return waits;
}

/* Claims a block, and adds its slots to the free ones. False: the table is full. */
static bool claim_block(struct aiofs_waits *waits)
{
    for (unsigned block = 0; block < WAIT_BLOCKS; block++) {
        uint32_t none = 0, number = (uint32_t)waits->process + 1;
        if (!atomic_compare_exchange_strong(&waits->head->owner[block], &none, number | CLAIMING))
            continue;
        if (waits->fd >= 0 && write_zeros(waits->fd, (int64_t)(HEAD_SIZE + (size_t)block * PAGE), PAGE) < 0) {
            atomic_store(&waits->head->owner[block], 0);
            return false;
        }
        aiofs_namespace_lock();
        atomic_store(&waits->head->owner[block], number);
        raise_to(&waits->head->blocks, block + 1);
        for (unsigned i = WAIT_BLOCK_SLOTS; i-- > 0;)
            waits->free_slots[waits->free_count++] = (uint16_t)(block * WAIT_BLOCK_SLOTS + i);
        aiofs_namespace_unlock();
        return true;
    }
    return false;
}

/* Nobody waits in it, and no thread serves it. */
static bool is_idle_locked(const struct aiofs_waits *waits)
{
    bool idle = !waits->thread && list_empty(&waits->waiters) && list_empty(&waits->watchers);
    for (unsigned block = 0; idle && block < atomic_load(&waits->head->blocks); block++)
        idle = atomic_load(&waits->head->waiting[block]) == 0;
    return idle;
}

/* Lists the holders in the new table, with the times since when they hold. */
static void move_holders_locked(struct aiofs_tree *tree, struct aiofs_waits *from, struct aiofs_waits *to)
{
    tree->waits = to;
    for (size_t i = 0; i < tree->bucket_count; i++) {
        for (const struct aiofs_entry *entry = tree->buckets[i]; entry; entry = entry->next) {
            for (struct aiofs_lock_ref *lock_ref = entry->lock_refs; lock_ref; lock_ref = lock_ref->next) {
                unsigned slot = lock_ref->slot;
                if (slot)
                    aiofs_waits_hold_locked(tree, lock_ref);
                if (slot && lock_ref->slot)
                    wait_slot_of(to, lock_ref->slot - 1)->since = wait_slot_of(from, slot - 1)->since;
            }
        }
    }
}

/* A volume that was open read-only, or had no .aiofs, got a table of this process's own. When the volume is open for
 * writing too, the shared table replaces that one, as soon as nobody waits in it. */
static void replace_own_table(struct aiofs_tree *tree, struct aiofs_waits *own)
{
    aiofs_namespace_lock();
    unsigned held = atomic_load(&own->head->blocks) * WAIT_BLOCK_SLOTS - own->free_count;
    bool idle = is_idle_locked(own);
    aiofs_namespace_unlock();
    struct aiofs_waits *shared = idle ? waits_new(tree) : NULL;
    if (!shared)
        return;
    while (shared->process >= 0 && shared->free_count < held && claim_block(shared))
        ;
    aiofs_namespace_lock();
    idle = is_idle_locked(own);
    if (idle) {
        shared->retired = own;
        move_holders_locked(tree, own, shared);
    }
    aiofs_namespace_unlock();
    if (!idle)
        disconnect(shared);
}

static bool is_connected(const struct aiofs_tree *tree, const struct aiofs_waits *waits)
{
    return waits && (waits->shareable || !can_share(tree));
}

static struct aiofs_waits *connect_tree(struct aiofs_tree *tree)
{
    struct aiofs_waits *waits = atomic_load_explicit(&tree->waits, memory_order_acquire);
    if (is_connected(tree, waits))
        return waits;
    if (cached_refuse())
        return NULL;
    aiofs_opening_lock();
    waits = tree->waits;
    if (!waits)
        tree->waits = waits_new(tree);
    else if (!is_connected(tree, waits))
        replace_own_table(tree, waits);
    aiofs_opening_unlock();
    return tree->waits;
}

bool aiofs_waits_prepare(struct aiofs_tree *tree, bool reserve, size_t length)
{
    struct aiofs_waits *waits = connect_tree(tree);
    if (!waits || waits->process < 0 || !reserve)
        return false;
    unsigned wanted = FREE_MIN + (unsigned)(length / WAIT_SLOT_PATH);
    while (atomic_load_explicit(&waits->free_count, memory_order_relaxed) < wanted)
        if (cached_refuse() || !claim_block(waits))
            return false;
    return true;
}

/* One slot more than an acquisition fills: a waiter that is granted the lock is listed as the holder before it leaves. */
bool aiofs_waits_have_room_locked(const struct aiofs_tree *tree, size_t length)
{
    return !tree->waits || tree->waits->free_count >= 2 + length / WAIT_SLOT_PATH;
}

void aiofs_waits_free(struct aiofs_tree *tree)
{
    struct aiofs_waits *waits = tree->waits;
    if (!waits)
        return;
    aiofs_namespace_lock();
    waits->stopping = true;
    while (waits->thread) {
        aiofs_waits_wake_process(tree);
        aiofs_namespace_wait(&waits->ended, aiofs_now() + 1000000000);
    }
    aiofs_namespace_unlock();
    if (waits->fd >= 0) /* a child that was forked just now has a copy of the descriptor */
        aiofs_bytes_set(waits->fd, F_UNLCK, 0, 0);
    disconnect(waits);
    tree->waits = NULL;
}

void aiofs_waits_fork_child(struct aiofs_tree *tree)
{
    if (!tree->waits)
        return;
    struct aiofs_link *const lists[] = {&tree->waits->waiters, &tree->waits->watchers};
    for (int i = 0; i < 2; i++) {
        for (struct aiofs_link *link; (link = list_pop(lists[i]));) {
            struct aiofs_waiter *waiter = CONTAINER(link, struct aiofs_waiter, link);
            waiter->slot = -1;
            waiter->ended = true;
            waiter->status = -ECANCELED;
            waiter->watched = NULL;
        }
    }
    disconnect(tree->waits);
    tree->waits = NULL;
}
