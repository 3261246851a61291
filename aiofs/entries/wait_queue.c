/*
 * wait_queue.c - the queue of an entry in the table of waiting openings: taking a place, leaving it, and waking who is
 * first; and who watches it.
 *
 * wait_table.c says how the processes share the table, and in which order they write it.
 *
 * Locking. The namespace lock is held by the caller of each function that ends in `_locked`.
 */
#define _GNU_SOURCE
#include <limits.h>
#include <string.h>

#include "sys.h"
#include "wait_layout.h"

enum { INTERVALS_MAX = 20, INTERVALS_BEHIND = 200 };

/* ---- waking ------------------------------------------------------------------------------------------------ */

static void wake_slot(const struct aiofs_waits *waits, unsigned number)
{
    struct wait_slot *slot = wait_slot_of(waits, number);
    uint32_t owner = atomic_load(&waits->head->owner[number / WAIT_BLOCK_SLOTS]) & ~CLAIMING;
    if (!slot->threaded) {
        wait_word_wake(&slot->word);
    } else if (owner > 0 && owner <= WAIT_PROCESSES) {
        atomic_fetch_add(&slot->word, 1);
        wait_word_wake(&waits->head->process[owner - 1].word);
    }
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
        if (atomic_load(&wait_slot_of(waits, number)->hash) != search->hash)
            continue;
        uint64_t ticket = wait_slot_ticket(waits, number);
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
    } while (owner > 0 && owner <= WAIT_PROCESSES && wait_process_reap_locked(waits, owner - 1));
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
    if (atomic_load(wait_bucket_of(waits, hash)))
        wake_first_locked(waits, hash);
}

bool aiofs_waits_contended_locked(const struct aiofs_tree *tree, uint64_t hash)
{
    struct queue_search search = {.hash = hash, .ticket = WAIT_NEWCOMER, .most = 1};
    if (!tree->waits || !atomic_load(wait_bucket_of(tree->waits, hash)))
        return false;
    search_queue_locked(tree->waits, &search);
    return search.found > 0;
}

/* ---- the queue ----------------------------------------------------------------------------------------------- */

unsigned aiofs_waits_before_locked(const struct aiofs_tree *tree, uint64_t hash, uint64_t ticket, unsigned most)
{
    struct queue_search search = {.hash = hash, .ticket = ticket, .most = most};
    if (!tree->waits || !atomic_load(wait_bucket_of(tree->waits, hash)))
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
    if (wait_slot_of(waits, (unsigned)waiter->slot)->threaded && has_process(&search, (unsigned)waits->process))
        return INTERVALS_BEHIND;
    return search.processes < INTERVALS_MAX ? search.processes + 1 : INTERVALS_MAX;
}

static void wake_watchers(const struct aiofs_waits *waits)
{
    struct wait_head *head = waits->head;
    unsigned processes = atomic_load(&head->processes);
    for (unsigned i = 0; i < processes && i < WAIT_PROCESSES; i++)
        if (atomic_load(&head->process[i].watchers))
            wait_word_wake(&head->process[i].word);
}

void aiofs_waits_enqueue_locked(struct aiofs_tree *tree, struct aiofs_waiter *waiter, bool threaded)
{
    struct aiofs_waits *waits = tree->waits;
    const struct aiofs_canonical *canonical = &waiter->canonical;
    waiter->slot = wait_slot_make_locked(waits, canonical->path, canonical->length, canonical->hash, waiter->lock);
    waiter->ticket = WAIT_NEWCOMER;
    if (waiter->slot < 0)
        return;
    waiter->table = waits->number;
    struct wait_slot *slot = wait_slot_of(waits, (unsigned)waiter->slot);
    slot->threaded = threaded;
    atomic_fetch_add(wait_bucket_of(waits, canonical->hash), 1);
    wait_set_bit(waits->head->waiting, (unsigned)waiter->slot);
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
    wait_clear_bit(waits->head->waiting, (unsigned)waiter->slot);
    atomic_fetch_sub(wait_bucket_of(waits, waiter->canonical.hash), 1);
    wait_slot_free_locked(waits, (unsigned)waiter->slot);
    waiter->slot = -1;
    bool alone = aiofs_excludes_all(waiter->lock) && !waiter->owner; /* then its own release wakes the next */
    if (waiter->status != 0 || !alone)
        aiofs_waits_released_locked(tree, waiter->canonical.hash);
}

uint32_t aiofs_waits_word(const struct aiofs_tree *tree, const struct aiofs_waiter *waiter)
{
    return waiter->slot < 0 ? 0 : atomic_load(&wait_slot_of(tree->waits, (unsigned)waiter->slot)->word);
}

int aiofs_waits_sleep(const struct aiofs_tree *tree, const struct aiofs_waiter *waiter, uint32_t seen,
                      int64_t nanoseconds)
{
    static _Atomic uint32_t nobody;
    if (waiter->slot < 0)
        return wait_word_sleep(&nobody, 0, nanoseconds);
    return wait_word_sleep(&wait_slot_of(tree->waits, (unsigned)waiter->slot)->word, seen, nanoseconds);
}

void aiofs_waits_wake_waiter_locked(struct aiofs_tree *tree, const struct aiofs_waiter *waiter)
{
    if (waiter->slot >= 0)
        wake_slot(tree->waits, (unsigned)waiter->slot);
    else if (tree->waits)
        aiofs_waits_wake_process(tree);
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
