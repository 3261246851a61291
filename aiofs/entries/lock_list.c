/*
 * lock_list.c - the list of all locks of a volume that are held and waited for, in every process.
 *
 * It is read from the table (wait_table.c) while others write it: a slot counts if its bit is still set after it was
 * copied.
 *
 * Ownership. The caller owns the list. No lock is taken here.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "wait_layout.h"

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
        const struct wait_part *part = (const struct wait_part *)wait_slot_of(waits, more - 1);
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
    const struct wait_slot *slot = wait_slot_of(waits, number);
    unsigned block = number / WAIT_BLOCK_SLOTS;
    const _Atomic uint32_t *bits = waiting ? &head->waiting[block] : &head->held[block];
    uint32_t owner = atomic_load(&head->owner[block]) & ~CLAIMING;
    if (owner == 0 || owner > WAIT_PROCESSES || !wait_process_is_alive(waits, owner - 1))
        return 0;
    if (!make_room(listing))
        return -ENOMEM;
    struct aiofs_listed_lock *found = &listing->list[listing->count];
    *found = (struct aiofs_listed_lock){.path = copy_path(waits, slot), .lock = slot->lock, .waiting = waiting};
    found->local = waits->fd < 0;
    found->mode = mode_of(slot);
    found->pid = atomic_load(&head->process[owner - 1].pid);
    found->since = slot->since;
    listing->tickets[listing->count] = waiting ? wait_slot_ticket(waits, number) : 0;
    if (!found->path)
        return -ENOMEM;
    atomic_thread_fence(memory_order_acquire);
    if (atomic_load(bits) & wait_bit_of(number))
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
