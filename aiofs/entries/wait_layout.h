/*
 * wait_layout.h - the layout of the table of holders and waiting openings, and what its files use of each other:
 * wait_table.c, which says who may write what, wait_slots.c, wait_queue.c and lock_list.c.
 */
#ifndef AIOFS_WAIT_LAYOUT_H
#define AIOFS_WAIT_LAYOUT_H

#include "wait_table.h"

#define WAIT_MAGIC 0x31746961u /* "ait1": this layout */
#define PAGE 4096
enum { WAIT_TRIES = 1000 };

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

static inline struct wait_slot *wait_slot_of(const struct aiofs_waits *waits, unsigned slot)
{
    return (struct wait_slot *)((char *)waits->head + HEAD_SIZE + (size_t)slot * (PAGE / WAIT_BLOCK_SLOTS));
}

static inline uint32_t wait_bit_of(unsigned slot)
{
    return (uint32_t)1 << slot % WAIT_BLOCK_SLOTS;
}

static inline _Atomic uint32_t *wait_bucket_of(const struct aiofs_waits *waits, uint64_t hash)
{
    return &waits->head->buckets[hash % WAIT_BUCKETS];
}

/* Only this process changes the bits of its blocks, so a load and a store are enough where nobody waits for them. */
static inline void wait_set_bit(_Atomic uint32_t *words, unsigned slot)
{
    _Atomic uint32_t *word = &words[slot / WAIT_BLOCK_SLOTS];
    uint32_t bits = atomic_load_explicit(word, memory_order_relaxed);
    atomic_store_explicit(word, bits | wait_bit_of(slot), memory_order_release);
}

static inline void wait_clear_bit(_Atomic uint32_t *words, unsigned slot)
{
    _Atomic uint32_t *word = &words[slot / WAIT_BLOCK_SLOTS];
    uint32_t bits = atomic_load_explicit(word, memory_order_relaxed);
    atomic_store_explicit(word, bits & ~wait_bit_of(slot), memory_order_release);
}

/* wait_table.c */
bool wait_process_is_alive(const struct aiofs_waits *waits, unsigned process);
/* Takes a process out of the table if it is dead. True: it was. */
bool wait_process_reap_locked(const struct aiofs_waits *waits, unsigned process);

/* wait_slots.c */
/* A filled slot, whose bit is not set yet; -1: there is none. */
int wait_slot_make_locked(struct aiofs_waits *waits, const char *path, size_t length, uint64_t hash,
                          enum aiofs_lock lock);
void wait_slot_free_locked(struct aiofs_waits *waits, unsigned slot);
/* The ticket of a slot in a queue. If its process is about to write it, waits for that. UINT64_MAX: it has left. */
uint64_t wait_slot_ticket(const struct aiofs_waits *waits, unsigned number);
void wait_word_wake(_Atomic uint32_t *word);
int wait_word_sleep(_Atomic uint32_t *word, uint32_t seen, int64_t nanoseconds);

#endif
