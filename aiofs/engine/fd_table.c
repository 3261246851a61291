/*
 * fd_table.c - the table of descriptor numbers: which file a number leads to.
 *
 * The table has one slot for each descriptor number, in chunks. It grows and is never freed. aiofs_file_find reads it
 * without the engine lock. That is safe because the memory of a file is never returned to the allocator. The reader
 * retains the file only if its reference count is not zero, and then checks that the number still leads to it.
 *
 * Locking. The owned slots are atomic. The engine lock guards changes of the plain slots.
 */
#define _GNU_SOURCE
#include "fd_table.h"

#include <stdlib.h>

enum { CHUNK = 1024, CHUNKS = 1024 };

static _Atomic(struct fd_slot *) table[CHUNKS];

struct fd_slot *fd_slot_find(int fd)
{
    if (fd < 0 || fd >= CHUNK * CHUNKS)
        return NULL;
    struct fd_slot *chunk = atomic_load_explicit(&table[fd / CHUNK], memory_order_acquire);
    return chunk ? &chunk[fd % CHUNK] : NULL;
}

struct fd_slot *fd_slot_make(int fd)
{
    if (fd < 0 || fd >= CHUNK * CHUNKS)
        return NULL;
    struct fd_slot *chunk = atomic_load_explicit(&table[fd / CHUNK], memory_order_acquire);
    if (!chunk) {
        struct fd_slot *fresh = calloc(CHUNK, sizeof *fresh);
        if (!fresh)
            return NULL;
        if (atomic_compare_exchange_strong(&table[fd / CHUNK], &chunk, fresh))
            chunk = fresh;
        else
            free(fresh);
    }
    return &chunk[fd % CHUNK];
}

bool file_number_busy(int fd)
{
    struct fd_slot *slot = fd_slot_find(fd);
    return slot && atomic_load_explicit(&slot->plain, memory_order_relaxed);
}

_Atomic unsigned *file_number_ending(int fd)
{
    struct fd_slot *slot = fd_slot_find(fd);
    return slot ? &slot->ending : NULL;
}

struct file_hint *file_hint(int fd)
{
    struct fd_slot *slot = fd_slot_make(fd);
    return slot ? &slot->hint : NULL;
}

aiofs_file *aiofs_file_find(int fd)
{
    struct fd_slot *slot = fd_slot_find(fd);
    aiofs_file *file = slot ? atomic_load_explicit(&slot->owned, memory_order_acquire) : NULL;
    if (!file)
        return NULL;
    int32_t refs = atomic_load_explicit(&file->refs, memory_order_relaxed);
    do {
        if (refs == 0)
            return NULL;
    } while (!atomic_compare_exchange_weak_explicit(&file->refs, &refs, refs + 1, memory_order_acquire,
                                                    memory_order_relaxed));
    if (atomic_load_explicit(&slot->owned, memory_order_acquire) == file)
        return file;
    aiofs_file_release(file);
    return NULL;
}

bool file_is_found(const aiofs_file *file)
{
    const struct fd_slot *slot = fd_slot_find(atomic_load(&file->fd));
    return slot && atomic_load(&slot->plain) == file;
}

void file_unregister(aiofs_file *file)
{
    struct fd_slot *slot = fd_slot_find(atomic_load(&file->fd));
    if (!slot)
        return;
    if (atomic_load(&slot->plain) == file)
        atomic_store(&slot->plain, NULL);
    if (atomic_load(&slot->owned) == file)
        atomic_store(&slot->owned, NULL);
}

void fd_table_fork_child(void)
{
    for (int chunk = 0; chunk < CHUNKS; chunk++)
        for (int i = 0; table[chunk] && i < CHUNK; i++)
            atomic_store(&table[chunk][i].ending, 0);
}
