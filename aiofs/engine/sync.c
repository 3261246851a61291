/*
 * sync.c - making the changes of an open file durable, once.
 *
 * A flush of a file that did not change since the last one syncs nothing. `dirty` says whether it changed, and `syncing`
 * how many threads are inside a sync: a flush does not return before changes that came before it are durable, also
 * those that another thread syncs at that moment.
 *
 * Locking. None: both are atomic.
 */
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

int64_t aiofs_file_flush(aiofs_file *file)
{
    int error;
    if (file->ops)
        return file->ops->flush(file->self);
    error = file_sync_changes(file, atomic_load(&file->fd));
    if (error == 0 && file->lock_ref)
        error = aiofs_lock_ref_sync_dir(file->lock_ref);
    return error;
}
