/*
 * flush.c - syncing the changes of a file, for flushes on the program's threads and on workers.
 *
 * A file is dirty from its first change until a sync that began later has succeeded. Several threads may flush one file at
 * the same time. No lock is taken here.
 */
#define _GNU_SOURCE
#include <errno.h>

#include "internal.h"

int file_sync_changes(aiofs_file *file, int fd)
{
    int error = 0;
    atomic_fetch_add(&file->syncing, 1);
    /* Another thread may be inside the sync of changes that came before this flush, too. It may fail: then it sets
     * `dirty` before it leaves `syncing`. */
    bool dirty = atomic_exchange(&file->dirty, false);
    if (dirty || atomic_load(&file->syncing) > 1 || atomic_load(&file->dirty)) {
        do
            error = aiofs_sys.fdatasync(fd);
        while (error == -EINTR);
    }
    if (error < 0)
        atomic_store(&file->dirty, true);
    atomic_fetch_sub(&file->syncing, 1);
    return error;
}
