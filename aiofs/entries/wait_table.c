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
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "sys.h"
#include "thread.h"
#include "wait_table.h"

#define WAIT_MAGIC 0x31746961u /* "ait1": the layout below */
#define PAGE 4096
#define FREE_MIN 16 /* slots in reserve, for threads that take locks at the same moment */

enum { BYTE_ALONE = WAIT_PROCESSES, TRIES = 1000, INTERVALS_MAX = 20, INTERVALS_BEHIND = 200 };

struct wait_process {
    _Atomic uint32_t word; /* futex: incremented when one of its threaded waiters or watchers may go on */
    _Atomic int32_t pid;
    _Atomic uint32_t watchers;
};

struct wait_head {
    _Atomic uint32_t magic;
    _Atomic uint32_t blocks;    /* the number of the last block ever owned, + 1 */
    _Atomic uint32_t processes; /* the same of processes */
    _Atomic uint64_t ticket;
    _Atomic uint32_t buckets[WAIT_BUCKETS];
    _Atomic uint32_t owner[WAIT_BLOCKS]; /* the process's number + 1; CLAIMING: its page is being written */
    _Atomic uint32_t held[WAIT_BLOCKS], waiting[WAIT_BLOCKS];
    struct wait_process process[WAIT_PROCESSES];
};

#define CLAIMING 0x80000000u
#define HEAD_SIZE ((sizeof(struct wait_head) + PAGE - 1) / PAGE * PAGE)
#define TABLE_SIZE (HEAD_SIZE + (size_t)WAIT_BLOCKS * PAGE)

struct wait_slot {
    _Atomic uint32_t word; /* futex of a waiter that sleeps in its own call */
    _Atomic uint32_t more; /* slot + 1 of the rest of the path; 0: none */
    _Atomic uint64_t hash;
    _Atomic uint64_t ticket;
    int64_t since; /* CLOCK_REALTIME, ns */
    uint32_t length;
    uint8_t lock; /* enum aiofs_lock */
    bool threaded; /* the thread of its process sleeps for it */
    char path[WAIT_SLOT_PATH];
};

/* The rest of a long path. */
struct wait_part {
    _Atomic uint32_t word, more;
    char path[WAIT_BLOCK_SLOTS * 4 - 8];
};

_Static_assert(sizeof(struct wait_slot) <= PAGE / WAIT_BLOCK_SLOTS, "a block is a page");
_Static_assert(sizeof(struct wait_part) == PAGE / WAIT_BLOCK_SLOTS, "a block is a page");

static struct wait_slot *slot_of(const struct aiofs_waits *waits, unsigned slot)
{
    return (struct wait_slot *)((char *)waits->head + HEAD_SIZE + (size_t)slot * (PAGE / WAIT_BLOCK_SLOTS));
}

static uint32_t bit_of(unsigned slot)
{
    return (uint32_t)1 << slot % WAIT_BLOCK_SLOTS;
}

static _Atomic uint32_t *bucket_of(const struct aiofs_waits *waits, uint64_t hash)
{
    return &waits->head->buckets[hash % WAIT_BUCKETS];
}

/* ---- processes ------------------------------------------------------------------------------------------- */

static int byte_lock(int fd, int command, short type, int64_t byte)
{
    struct flock range = {.l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    int status = aiofs_sys.fcntl(fd, command, (long)&range);
    return status < 0 ? status : command == F_OFD_GETLK && range.l_type != F_UNLCK;
}

static bool is_alive(const struct aiofs_waits *waits, unsigned process)
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
            atomic_fetch_sub(bucket_of(waits, atomic_load(&slot_of(waits, slot)->hash)), 1);
        }
        atomic_store(&head->held[block], 0);
        atomic_store(&head->owner[block], 0);
    }
    atomic_store(&head->process[process].watchers, 0);
    atomic_store(&head->process[process].pid, 0);
}

/* Forgets a process if it is dead. True: it is. */
static bool reap_locked(const struct aiofs_waits *waits, unsigned process)
{
    if (is_alive(waits, process) || byte_lock(waits->fd, F_OFD_SETLK, F_WRLCK, process) < 0)
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
    for (int i = 1; is_refusal(status) && i < TRIES; i++) {
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

/* Nothing is held or waited for, and no thread serves it. */
static bool is_unused_locked(const struct aiofs_waits *waits)
{
    return !waits->thread && list_empty(&waits->waiters) && list_empty(&waits->watchers) &&
           waits->free_count == atomic_load(&waits->head->blocks) * WAIT_BLOCK_SLOTS;
}

/* A volume that was open read-only, or had no .aiofs, got a table of this process's own. When the volume is open for
 * writing too, the shared table replaces that one, as soon as it is unused. */
static void replace_own_table(struct aiofs_tree *tree, struct aiofs_waits *own)
{
    aiofs_namespace_lock();
    bool unused = is_unused_locked(own);
    aiofs_namespace_unlock();
    struct aiofs_waits *shared = unused ? waits_new(tree) : NULL;
    if (!shared)
        return;
    aiofs_namespace_lock();
    unused = is_unused_locked(own);
    if (unused) {
        shared->retired = own;
        tree->waits = shared;
    }
    aiofs_namespace_unlock();
    if (!unused)
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
    aiofs_opening_lock();
    waits = tree->waits;
    if (!waits)
        tree->waits = waits_new(tree);
    else if (!is_connected(tree, waits))
        replace_own_table(tree, waits);
    aiofs_opening_unlock();
    return tree->waits;
}

void aiofs_waits_prepare(struct aiofs_tree *tree, bool reserve, size_t length)
{
    struct aiofs_waits *waits = connect_tree(tree);
    if (!waits || waits->process < 0 || !reserve)
        return;
    unsigned wanted = FREE_MIN + (unsigned)(length / WAIT_SLOT_PATH);
    while (atomic_load_explicit(&waits->free_count, memory_order_relaxed) < wanted && claim_block(waits))
        ;
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

/* ---- slots ------------------------------------------------------------------------------------------------ */

static void fill_parts_locked(struct aiofs_waits *waits, _Atomic uint32_t *more, const char *path, size_t length)
{
    while (length > 0 && waits->free_count > 0) {
        unsigned next = waits->free_slots[--waits->free_count];
        struct wait_part *part = (struct wait_part *)slot_of(waits, next);
        size_t size = length < sizeof part->path ? length : sizeof part->path;
        memcpy(part->path, path, size);
        atomic_store_explicit(&part->more, 0, memory_order_relaxed);
        atomic_store_explicit(more, next + 1, memory_order_relaxed);
        more = &part->more;
        path += size;
        length -= size;
    }
}

/* A filled slot, whose bit is not set yet; -1: there is none. */
static int make_slot_locked(struct aiofs_waits *waits, const char *path, size_t length, uint64_t hash,
                            enum aiofs_lock lock)
{
    struct timespec now;
    if (!waits || waits->process < 0 || waits->free_count == 0)
        return -1;
    unsigned number = waits->free_slots[--waits->free_count];
    struct wait_slot *slot = slot_of(waits, number);
    size_t size = length < WAIT_SLOT_PATH ? length : WAIT_SLOT_PATH;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    slot->since = now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
    slot->lock = (uint8_t)lock;
    slot->length = (uint32_t)length;
    memcpy(slot->path, path, size);
    atomic_store_explicit(&slot->hash, hash, memory_order_relaxed);
    atomic_store_explicit(&slot->ticket, 0, memory_order_relaxed);
    atomic_store_explicit(&slot->more, 0, memory_order_relaxed);
    if (length > size)
        fill_parts_locked(waits, &slot->more, path + size, length - size);
    return (int)number;
}

static void free_slot_locked(struct aiofs_waits *waits, unsigned slot)
{
    uint32_t more = atomic_load_explicit(&slot_of(waits, slot)->more, memory_order_relaxed);
    waits->free_slots[waits->free_count++] = (uint16_t)slot;
    while (more) {
        slot = more - 1;
        more = atomic_load_explicit(&slot_of(waits, slot)->more, memory_order_relaxed);
        waits->free_slots[waits->free_count++] = (uint16_t)slot;
    }
}

/* Only this process changes the bits of its blocks, so a load and a store are enough where nobody waits for them. */
static void set_bit(_Atomic uint32_t *words, unsigned slot)
{
    _Atomic uint32_t *word = &words[slot / WAIT_BLOCK_SLOTS];
    uint32_t bits = atomic_load_explicit(word, memory_order_relaxed);
    atomic_store_explicit(word, bits | bit_of(slot), memory_order_release);
}

static void clear_bit(_Atomic uint32_t *words, unsigned slot)
{
    _Atomic uint32_t *word = &words[slot / WAIT_BLOCK_SLOTS];
    uint32_t bits = atomic_load_explicit(word, memory_order_relaxed);
    atomic_store_explicit(word, bits & ~bit_of(slot), memory_order_release);
}

/* ---- waking ------------------------------------------------------------------------------------------------ */

static void wake_word(_Atomic uint32_t *word)
{
    atomic_fetch_add(word, 1);
    aiofs_sys.futex(word, FUTEX_WAKE, INT_MAX, NULL, 0);
}

static void wake_slot(const struct aiofs_waits *waits, unsigned number)
{
    struct wait_slot *slot = slot_of(waits, number);
    uint32_t owner = atomic_load(&waits->head->owner[number / WAIT_BLOCK_SLOTS]) & ~CLAIMING;
    if (!slot->threaded) {
        wake_word(&slot->word);
    } else if (owner > 0 && owner <= WAIT_PROCESSES) {
        atomic_fetch_add(&slot->word, 1);
        wake_word(&waits->head->process[owner - 1].word);
    }
}

/* The ticket of a slot in a queue. If its process is about to write it, waits for that. UINT64_MAX: it has left. */
static uint64_t ticket_of(const struct aiofs_waits *waits, unsigned number)
{
    const struct wait_slot *slot = slot_of(waits, number);
    uint64_t ticket;
    for (int i = 0; (ticket = atomic_load(&slot->ticket)) == 0; i++) {
        if (i == TRIES || !(atomic_load(&waits->head->waiting[number / WAIT_BLOCK_SLOTS]) & bit_of(number)))
            return UINT64_MAX;
        sched_yield();
    }
    return ticket;
}

struct queue_search {
    uint64_t hash, ticket; /* those before this ticket count */
    unsigned most, found;
    uint64_t first; /* ticket of the first of them */
    unsigned slot;  /* the first of them */
    unsigned processes;                     /* how many processes they belong to */
    uint64_t numbers[WAIT_PROCESSES / 64]; /* one bit for each of these */
};

static void add_process(struct queue_search *search, unsigned process)
{
    uint64_t *bits = &search->numbers[process / 64 % (WAIT_PROCESSES / 64)], bit = (uint64_t)1 << process % 64;
    search->processes += !(*bits & bit);
    *bits |= bit;
}

static bool has_process(const struct queue_search *search, unsigned process)
{
    return search->numbers[process / 64] & (uint64_t)1 << process % 64;
}

static void search_block(const struct aiofs_waits *waits, unsigned block, struct queue_search *search)
{
    uint32_t bits = atomic_load(&waits->head->waiting[block]);
    for (; bits && search->found < search->most; bits &= bits - 1) {
        unsigned number = block * WAIT_BLOCK_SLOTS + (unsigned)__builtin_ctz(bits);
        if (atomic_load(&slot_of(waits, number)->hash) != search->hash)
            continue;
        uint64_t ticket = ticket_of(waits, number);
        if (ticket >= search->ticket)
            continue;
        search->found++;
        add_process(search, (atomic_load(&waits->head->owner[block]) & ~CLAIMING) - 1);
        if (ticket < search->first) {
            search->first = ticket;
            search->slot = number;
        }
    }
}

static void search_blocks(const struct aiofs_waits *waits, struct queue_search *search)
{
    unsigned blocks = atomic_load(&waits->head->blocks);
    search->first = UINT64_MAX;
    search->found = search->processes = 0;
    memset(search->numbers, 0, sizeof search->numbers);
    for (unsigned block = 0; block < blocks && block < WAIT_BLOCKS && search->found < search->most; block++)
        search_block(waits, block, search);
}

/* Finds a living first one. Others may be dead: that is noticed when they are the first. */
static void search_queue_locked(const struct aiofs_waits *waits, struct queue_search *search)
{
    uint32_t owner;
    do {
        search_blocks(waits, search);
        if (search->found == 0)
            return;
        owner = atomic_load(&waits->head->owner[search->slot / WAIT_BLOCK_SLOTS]) & ~CLAIMING;
    } while (owner > 0 && owner <= WAIT_PROCESSES && reap_locked(waits, owner - 1));
}

static void wake_first_locked(const struct aiofs_waits *waits, uint64_t hash)
{
    struct queue_search search = {.hash = hash, .ticket = WAIT_NEWCOMER, .most = UINT_MAX};
    search_queue_locked(waits, &search);
    if (search.found)
        wake_slot(waits, search.slot);
}

void aiofs_waits_released_locked(struct aiofs_tree *tree, uint64_t hash)
{
    struct aiofs_waits *waits = tree->waits;
    if (!waits)
        return;
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load(bucket_of(waits, hash)))
        wake_first_locked(waits, hash);
}

/* ---- holders ------------------------------------------------------------------------------------------------ */

void aiofs_waits_hold_locked(struct aiofs_tree *tree, aiofs_lock_ref *lock_ref)
{
    const struct aiofs_entry *entry = lock_ref->entry;
    int slot = make_slot_locked(tree->waits, entry->path, entry->length, entry->hash, lock_ref->lock);
    if (slot >= 0)
        set_bit(tree->waits->head->held, (unsigned)slot);
    lock_ref->slot = (unsigned)(slot + 1);
}

void aiofs_waits_unhold_locked(struct aiofs_tree *tree, aiofs_lock_ref *lock_ref)
{
    if (lock_ref->slot == 0 || !tree->waits)
        return;
    clear_bit(tree->waits->head->held, lock_ref->slot - 1);
    free_slot_locked(tree->waits, lock_ref->slot - 1);
    lock_ref->slot = 0;
}

bool aiofs_waits_contended_locked(const struct aiofs_tree *tree, uint64_t hash)
{
    struct queue_search search = {.hash = hash, .ticket = WAIT_NEWCOMER, .most = 1};
    if (!tree->waits || !atomic_load(bucket_of(tree->waits, hash)))
        return false;
    search_queue_locked(tree->waits, &search);
    return search.found > 0;
}

/* ---- the queue ----------------------------------------------------------------------------------------------- */

unsigned aiofs_waits_before_locked(const struct aiofs_tree *tree, uint64_t hash, uint64_t ticket, unsigned most)
{
    struct queue_search search = {.hash = hash, .ticket = ticket, .most = most};
    if (!tree->waits || !atomic_load(bucket_of(tree->waits, hash)))
        return 0;
    search_queue_locked(tree->waits, &search);
    return search.found;
}

unsigned aiofs_waits_intervals_locked(struct aiofs_tree *tree, const struct aiofs_waiter *waiter)
{
    struct queue_search search = {.hash = waiter->canonical.hash, .ticket = waiter->ticket, .most = UINT_MAX};
    const struct aiofs_waits *waits = tree->waits;
    if (waiter->slot < 0)
        return 1;
    search_queue_locked(waits, &search);
    if (slot_of(waits, (unsigned)waiter->slot)->threaded && has_process(&search, (unsigned)waits->process))
        return INTERVALS_BEHIND;
    return search.processes < INTERVALS_MAX ? search.processes + 1 : INTERVALS_MAX;
}

static void wake_watchers(const struct aiofs_waits *waits)
{
    struct wait_head *head = waits->head;
    unsigned processes = atomic_load(&head->processes);
    for (unsigned i = 0; i < processes && i < WAIT_PROCESSES; i++)
        if (atomic_load(&head->process[i].watchers))
            wake_word(&head->process[i].word);
}

void aiofs_waits_enqueue_locked(struct aiofs_tree *tree, struct aiofs_waiter *waiter, bool threaded)
{
    struct aiofs_waits *waits = tree->waits;
    const struct aiofs_canonical *canonical = &waiter->canonical;
    waiter->slot = make_slot_locked(waits, canonical->path, canonical->length, canonical->hash, waiter->lock);
    waiter->ticket = WAIT_NEWCOMER;
    if (waiter->slot < 0)
        return;
    waiter->table = waits->number;
    struct wait_slot *slot = slot_of(waits, (unsigned)waiter->slot);
    slot->threaded = threaded;
    atomic_fetch_add(bucket_of(waits, canonical->hash), 1);
    set_bit(waits->head->waiting, (unsigned)waiter->slot);
    waiter->ticket = atomic_fetch_add(&waits->head->ticket, 1) + 1;
    atomic_store(&slot->ticket, waiter->ticket);
    atomic_thread_fence(memory_order_seq_cst);
    wake_watchers(waits);
}

bool aiofs_waits_is_parents(const struct aiofs_tree *tree, const struct aiofs_waiter *waiter)
{
    return waiter->slot >= 0 && !(tree->waits && tree->waits->number == waiter->table);
}

void aiofs_waits_leave_locked(struct aiofs_tree *tree, struct aiofs_waiter *waiter)
{
    struct aiofs_waits *waits = tree->waits;
    if (aiofs_waits_is_parents(tree, waiter))
        waiter->slot = -1;
    if (waiter->slot < 0)
        return;
    clear_bit(waits->head->waiting, (unsigned)waiter->slot);
    atomic_fetch_sub(bucket_of(waits, waiter->canonical.hash), 1);
    free_slot_locked(waits, (unsigned)waiter->slot);
    waiter->slot = -1;
    bool alone = aiofs_excludes_all(waiter->lock) && !waiter->owner; /* then its own release wakes the next */
    if (waiter->status != 0 || !alone)
        aiofs_waits_released_locked(tree, waiter->canonical.hash);
}

uint32_t aiofs_waits_word(const struct aiofs_tree *tree, const struct aiofs_waiter *waiter)
{
    return waiter->slot < 0 ? 0 : atomic_load(&slot_of(tree->waits, (unsigned)waiter->slot)->word);
}

/* A process without a number cannot be woken by others: it has a word of its own. */
static _Atomic uint32_t *word_of(const struct aiofs_waits *waits)
{
    static _Atomic uint32_t own;
    return waits->process < 0 ? &own : &waits->head->process[waits->process].word;
}

uint32_t aiofs_waits_process_word(const struct aiofs_tree *tree)
{
    return atomic_load(word_of(tree->waits));
}

static int sleep_on(_Atomic uint32_t *word, uint32_t seen, int64_t nanoseconds)
{
    const struct timespec time = {.tv_sec = nanoseconds / 1000000000, .tv_nsec = nanoseconds % 1000000000};
    return aiofs_sys.futex(word, FUTEX_WAIT, seen, &time, 0);
}

int aiofs_waits_sleep(const struct aiofs_tree *tree, const struct aiofs_waiter *waiter, uint32_t seen,
                      int64_t nanoseconds)
{
    static _Atomic uint32_t nobody;
    if (waiter->slot < 0)
        return sleep_on(&nobody, 0, nanoseconds);
    return sleep_on(&slot_of(tree->waits, (unsigned)waiter->slot)->word, seen, nanoseconds);
}

int aiofs_waits_sleep_process(const struct aiofs_tree *tree, uint32_t seen, int64_t nanoseconds)
{
    return sleep_on(word_of(tree->waits), seen, nanoseconds);
}

void aiofs_waits_wake_waiter_locked(struct aiofs_tree *tree, const struct aiofs_waiter *waiter)
{
    if (waiter->slot >= 0)
        wake_slot(tree->waits, (unsigned)waiter->slot);
    else if (tree->waits)
        aiofs_waits_wake_process(tree);
}

void aiofs_waits_wake_process(const struct aiofs_tree *tree)
{
    wake_word(word_of(tree->waits));
}

/* ---- watchers -------------------------------------------------------------------------------------------------- */

static void count_watchers(const struct aiofs_waits *waits, uint32_t by)
{
    if (waits->process >= 0)
        atomic_fetch_add(&waits->head->process[waits->process].watchers, by);
}

void aiofs_waits_watch_locked(struct aiofs_tree *tree, struct aiofs_waiter *watcher)
{
    list_append(&tree->waits->watchers, &watcher->link);
    count_watchers(tree->waits, 1);
}

void aiofs_waits_unwatch_locked(struct aiofs_tree *tree, struct aiofs_waiter *watcher)
{
    list_remove(&watcher->link);
    count_watchers(tree->waits, UINT32_MAX);
}

void aiofs_waits_unlocking_locked(struct aiofs_tree *tree, const aiofs_lock_ref *lock_ref)
{
    bool any = false;
    if (!tree->waits)
        return;
    for (struct aiofs_link *link = tree->waits->watchers.next; link != &tree->waits->watchers; link = link->next) {
        struct aiofs_waiter *watcher = CONTAINER(link, struct aiofs_waiter, link);
        if (watcher->watched == lock_ref) {
            watcher->watched = NULL;
            any = true;
        }
    }
    if (any)
        aiofs_waits_wake_process(tree);
}

/* ---- the list of all locks --------------------------------------------------------------------------------------- */

struct listing {
    struct aiofs_listed_lock *list;
    uint64_t *tickets; /* of each; 0: it is held */
    size_t count, room;
};

static bool make_room(struct listing *listing)
{
    if (listing->count < listing->room)
        return true;
    size_t room = listing->room ? 2 * listing->room : 64;
    void *list = realloc(listing->list, room * sizeof *listing->list);
    listing->list = list ? list : listing->list;
    void *tickets = realloc(listing->tickets, room * sizeof *listing->tickets);
    listing->tickets = tickets ? tickets : listing->tickets;
    if (list && tickets)
        listing->room = room;
    return list && tickets;
}

/* The path of a slot, which another process may change meanwhile. */
static char *copy_path(const struct aiofs_waits *waits, const struct wait_slot *slot)
{
    size_t length = slot->length < PATH_MAX ? slot->length : PATH_MAX - 1;
    size_t done = length < WAIT_SLOT_PATH ? length : WAIT_SLOT_PATH;
    uint32_t more = atomic_load(&slot->more);
    char *path = calloc(1, length + 1);
    if (!path)
        return NULL;
    memcpy(path, slot->path, done);
    while (done < length && more && more <= WAIT_BLOCKS * WAIT_BLOCK_SLOTS) {
        const struct wait_part *part = (const struct wait_part *)slot_of(waits, more - 1);
        size_t size = length - done < sizeof part->path ? length - done : sizeof part->path;
        memcpy(path + done, part->path, size);
        done += size;
        more = atomic_load(&part->more);
    }
    return path;
}

static const char *mode_of(const struct wait_slot *slot)
{
    switch ((enum aiofs_lock)slot->lock) {
    case AIOFS_LOCK_ATOMIC:
        return "exclusive";
    case AIOFS_LOCK_SHARED:
        return "shared";
    case AIOFS_LOCK_READ_ONLY:
        return "read-only";
    case AIOFS_LOCK_READWRITE_UNSAFE:
        return "readwrite-unsafe";
    default:
        return "in-place";
    }
}

static int list_slot(const struct aiofs_waits *waits, unsigned number, bool waiting, struct listing *listing)
{
    const struct wait_head *head = waits->head;
    const struct wait_slot *slot = slot_of(waits, number);
    unsigned block = number / WAIT_BLOCK_SLOTS;
    const _Atomic uint32_t *bits = waiting ? &head->waiting[block] : &head->held[block];
    uint32_t owner = atomic_load(&head->owner[block]) & ~CLAIMING;
    if (owner == 0 || owner > WAIT_PROCESSES || !is_alive(waits, owner - 1))
        return 0;
    if (!make_room(listing))
        return -ENOMEM;
    struct aiofs_listed_lock *found = &listing->list[listing->count];
    *found = (struct aiofs_listed_lock){.path = copy_path(waits, slot), .lock = slot->lock, .waiting = waiting};
    found->local = waits->fd < 0;
    found->mode = mode_of(slot);
    found->pid = atomic_load(&head->process[owner - 1].pid);
    found->since = slot->since;
    listing->tickets[listing->count] = waiting ? ticket_of(waits, number) : 0;
    if (!found->path)
        return -ENOMEM;
    atomic_thread_fence(memory_order_acquire);
    if (atomic_load(bits) & bit_of(number))
        listing->count++;
    else
        free(found->path);
    return 0;
}

/* Sorts the waiting ones, which are few, by their tickets; the held ones stay before them. */
static void sort_by_ticket(struct listing *listing)
{
    for (size_t i = 1; i < listing->count; i++) {
        struct aiofs_listed_lock lock = listing->list[i];
        uint64_t ticket = listing->tickets[i];
        size_t at = i;
        for (; at > 0 && listing->tickets[at - 1] > ticket; at--) {
            listing->list[at] = listing->list[at - 1];
            listing->tickets[at] = listing->tickets[at - 1];
        }
        listing->list[at] = lock;
        listing->tickets[at] = ticket;
    }
}

static int list_slots(const struct aiofs_waits *waits, bool waiting, struct listing *listing)
{
    unsigned blocks = atomic_load(&waits->head->blocks);
    int status = 0;
    for (unsigned block = 0; block < blocks && block < WAIT_BLOCKS; block++) {
        uint32_t bits = atomic_load(waiting ? &waits->head->waiting[block] : &waits->head->held[block]);
        for (; bits && status == 0; bits &= bits - 1)
            status = list_slot(waits, block * WAIT_BLOCK_SLOTS + (unsigned)__builtin_ctz(bits), waiting, listing);
    }
    return status;
}

long aiofs_volume_locks(aiofs_volume *volume, struct aiofs_listed_lock **list)
{
    struct listing listing = {0};
    struct aiofs_tree *tree = volume->tree;
    int status = aiofs_tree_look(tree);
    if (tree->root < 0 || tree->own_dir >= 0)
        aiofs_waits_prepare(tree, false, 0);
    struct aiofs_waits *waits = tree->waits;
    if (waits && status == 0)
        status = list_slots(waits, false, &listing);
    if (waits && status == 0)
        status = list_slots(waits, true, &listing);
    sort_by_ticket(&listing);
    free(listing.tickets);
    *list = listing.list;
    if (status < 0)
        aiofs_volume_locks_free(listing.list, (long)listing.count);
    return status < 0 ? status : (long)listing.count;
}

void aiofs_volume_locks_free(struct aiofs_listed_lock *list, long count)
{
    for (long i = 0; i < count; i++)
        free(list[i].path);
    free(list);
}
