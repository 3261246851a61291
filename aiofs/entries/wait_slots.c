/*
 * wait_slots.c - the slots of this process in the table of holders and waiting openings, and the words that processes
 * sleep on.
 *
 * wait_table.c says who writes what. A lock reference that holds owns its slot, and so does a waiter.
 *
 * Locking. The namespace lock is held by the caller of each function that ends in `_locked`.
 */
#define _GNU_SOURCE
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <string.h>
#include <time.h>

#include "sys.h"
#include "wait_layout.h"

/* ---- words to sleep on ------------------------------------------------------------------------------------- */

void wait_word_wake(_Atomic uint32_t *word)
{
    atomic_fetch_add(word, 1);
    aiofs_sys.futex(word, FUTEX_WAKE, INT_MAX, NULL, 0);
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

int wait_word_sleep(_Atomic uint32_t *word, uint32_t seen, int64_t nanoseconds)
{
    const struct timespec time = {.tv_sec = nanoseconds / 1000000000, .tv_nsec = nanoseconds % 1000000000};
    return aiofs_sys.futex(word, FUTEX_WAIT, seen, &time, 0);
}

int aiofs_waits_sleep_process(const struct aiofs_tree *tree, uint32_t seen, int64_t nanoseconds)
{
    return wait_word_sleep(word_of(tree->waits), seen, nanoseconds);
}

void aiofs_waits_wake_process(const struct aiofs_tree *tree)
{
    wait_word_wake(word_of(tree->waits));
}

/* ---- slots ------------------------------------------------------------------------------------------------ */

static void fill_parts_locked(struct aiofs_waits *waits, _Atomic uint32_t *more, const char *path, size_t length)
{
    while (length > 0 && waits->free_count > 0) {
        unsigned next = waits->free_slots[--waits->free_count];
        struct wait_part *part = (struct wait_part *)wait_slot_of(waits, next);
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
int wait_slot_make_locked(struct aiofs_waits *waits, const char *path, size_t length, uint64_t hash,
                            enum aiofs_lock lock)
{
    struct timespec now;
    if (!waits || waits->process < 0 || waits->free_count == 0)
        return -1;
    unsigned number = waits->free_slots[--waits->free_count];
    struct wait_slot *slot = wait_slot_of(waits, number);
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

void wait_slot_free_locked(struct aiofs_waits *waits, unsigned slot)
{
    uint32_t more = atomic_load_explicit(&wait_slot_of(waits, slot)->more, memory_order_relaxed);
    waits->free_slots[waits->free_count++] = (uint16_t)slot;
    while (more) {
        slot = more - 1;
        more = atomic_load_explicit(&wait_slot_of(waits, slot)->more, memory_order_relaxed);
        waits->free_slots[waits->free_count++] = (uint16_t)slot;
    }
}

/* The ticket of a slot in a queue. If its process is about to write it, waits for that. UINT64_MAX: it has left. */
uint64_t wait_slot_ticket(const struct aiofs_waits *waits, unsigned number)
{
    const struct wait_slot *slot = wait_slot_of(waits, number);
    uint64_t ticket;
    for (int i = 0; (ticket = atomic_load(&slot->ticket)) == 0; i++) {
        if (i == WAIT_TRIES || !(atomic_load(&waits->head->waiting[number / WAIT_BLOCK_SLOTS]) & wait_bit_of(number)))
            return UINT64_MAX;
        sched_yield();
    }
    return ticket;
}

/* ---- holders ------------------------------------------------------------------------------------------------ */

void aiofs_waits_hold_locked(struct aiofs_tree *tree, aiofs_lock_ref *lock_ref)
{
    const struct aiofs_entry *entry = lock_ref->entry;
    int slot = wait_slot_make_locked(tree->waits, entry->path, entry->length, entry->hash, lock_ref->lock);
    if (slot >= 0)
        wait_set_bit(tree->waits->head->held, (unsigned)slot);
    lock_ref->slot = (unsigned)(slot + 1);
}

void aiofs_waits_unhold_locked(struct aiofs_tree *tree, aiofs_lock_ref *lock_ref)
{
    if (lock_ref->slot == 0 || !tree->waits)
        return;
    wait_clear_bit(tree->waits->head->held, lock_ref->slot - 1);
    wait_slot_free_locked(tree->waits, lock_ref->slot - 1);
    lock_ref->slot = 0;
}
