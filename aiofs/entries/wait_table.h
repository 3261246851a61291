/*
 * wait_table.h - the table of the holders of locks and of the waiting openings, which processes share; see wait_table.c.
 */
#ifndef AIOFS_WAIT_TABLE_H
#define AIOFS_WAIT_TABLE_H

#include "volume_internal.h"

enum {
    WAIT_PROCESSES = 1024,
    WAIT_BLOCKS = 1024,     /* of slots; a block belongs to one process */
    WAIT_BLOCK_SLOTS = 32,  /* one page, and one bit each in a word */
    WAIT_BUCKETS = 1024,    /* by the hash of the path */
    WAIT_SLOT_PATH = 80,    /* bytes of a path that are in its first slot; each further slot has 120 */
};

/* The ticket of a call that is in no queue: every waiting opening is before it. */
#define WAIT_NEWCOMER UINT64_MAX

/* An opening that waits for a lock, or a program that waits until somebody waits for its lock. This process's own; the
 * namespace lock guards it. */
struct aiofs_waiter {
    struct aiofs_link link; /* in tree->waits: waiters in the order of their tickets, or watchers */
    struct aiofs_acquisition *acquisition;
    aiofs_volume *volume; /* a reference */
    enum aiofs_lock lock;
    const void *owner;
    int slot;          /* -1: the table is full, and this waiter is in no queue */
    unsigned table;    /* aiofs_waits.number of the table with the slot */
    uint64_t ticket;
    uint32_t seen;     /* the slot's word before the last attempt */
    int64_t next_try;  /* CLOCK_MONOTONIC, ns: when to try without having been woken */
    bool ended;        /* it is in no queue any more; `status` says why */
    int status;        /* 0: the lock is `granted`; else a negated errno */
    aiofs_lock_ref *granted;
    bool watches;            /* a watcher */
    aiofs_lock_ref *watched; /* of a watcher; NULL: it was unlocked */
    struct aiofs_canonical canonical;
};

struct wait_head;

/* A tree's connection to its table. */
struct aiofs_waits {
    struct wait_head *head;
    unsigned number; /* of this connection in the process and its children */
    int fd;        /* .aiofs/waits; -1: the table is in this process's own memory */
    int process;   /* this process's number in it; -1: none, and so no slots */
    uint16_t *free_slots;
    _Atomic unsigned free_count; /* changed under the namespace lock */
    struct aiofs_link waiters, watchers;
    bool thread, stopping; /* of waiting.c: a thread serves `waiters` and `watchers`; it shall end */
    int64_t wakes_at;      /* when that thread looks at them again by itself */
    pthread_cond_t ended;
    bool shareable;              /* when it was made, the tree had a .aiofs that is writable */
    struct aiofs_waits *retired; /* the one before it, in this process's own memory; a thread may still look at it */
};

/* ---- the connection */

/* Connects the tree to its table. With `reserve`, also makes sure of free slots for a path of `length` bytes. It may
 * sleep: the caller does not hold the namespace lock. False: there are none, or none were asked for. A failure leaves the
 * tree without a table or without slots, which only costs fairness: see wait_table.c. */
bool aiofs_waits_prepare(struct aiofs_tree *tree, bool reserve, size_t length);
/* Are there free slots for an acquisition? Other threads may have filled those that were prepared. */
bool aiofs_waits_have_room_locked(const struct aiofs_tree *tree, size_t length);
void aiofs_waits_free(struct aiofs_tree *tree);
void aiofs_waits_fork_child(struct aiofs_tree *tree);

/* ---- holders */

/* Lists the lock reference as a holder, if there is a free slot. */
void aiofs_waits_hold_locked(struct aiofs_tree *tree, aiofs_lock_ref *lock_ref);
void aiofs_waits_unhold_locked(struct aiofs_tree *tree, aiofs_lock_ref *lock_ref);
/* After the lock on an entry was released: wakes who is first in its queue. */
void aiofs_waits_released_locked(struct aiofs_tree *tree, uint64_t hash);
/* Whether somebody waits for the entry. */
bool aiofs_waits_contended_locked(const struct aiofs_tree *tree, uint64_t hash);

/* ---- the queue */

void aiofs_waits_enqueue_locked(struct aiofs_tree *tree, struct aiofs_waiter *waiter, bool threaded);
/* Leaves the queue, and wakes who is first in it then, unless the waiter has got an exclusive lock. */
void aiofs_waits_leave_locked(struct aiofs_tree *tree, struct aiofs_waiter *waiter);
/* Whether its slot belongs to another table: this process is a forked child, and its parent has that slot. */
bool aiofs_waits_is_parents(const struct aiofs_tree *tree, const struct aiofs_waiter *waiter);
/* How many are before `ticket` in the queue of the entry. `most`: stop counting there. Forgets dead processes. */
unsigned aiofs_waits_before_locked(const struct aiofs_tree *tree, uint64_t hash, uint64_t ticket, unsigned most);
/* After how many of its intervals a waiter should try without having been woken: one for each process before it, so that
 * it notices when those are dead. One that the thread serves may rely on a place of this process that is before it. */
unsigned aiofs_waits_intervals_locked(struct aiofs_tree *tree, const struct aiofs_waiter *waiter);
uint32_t aiofs_waits_word(const struct aiofs_tree *tree, const struct aiofs_waiter *waiter);
uint32_t aiofs_waits_process_word(const struct aiofs_tree *tree);
/* Sleeps until the waiter's word is no longer `seen`, or for `nanoseconds`. No lock held. 0 or a negated errno. */
int aiofs_waits_sleep(const struct aiofs_tree *tree, const struct aiofs_waiter *waiter, uint32_t seen, int64_t nanoseconds);
int aiofs_waits_sleep_process(const struct aiofs_tree *tree, uint32_t seen, int64_t nanoseconds);
void aiofs_waits_wake_waiter_locked(struct aiofs_tree *tree, const struct aiofs_waiter *waiter);
void aiofs_waits_wake_process(const struct aiofs_tree *tree);
void aiofs_waits_watch_locked(struct aiofs_tree *tree, struct aiofs_waiter *watcher);
void aiofs_waits_unwatch_locked(struct aiofs_tree *tree, struct aiofs_waiter *watcher);
/* The lock reference is about to be unlocked: its watchers shall notice. */
void aiofs_waits_unlocking_locked(struct aiofs_tree *tree, const aiofs_lock_ref *lock_ref);

#endif
