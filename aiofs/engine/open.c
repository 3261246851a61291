/*
 * open.c - joins the two floors entries/ and engine/: opens an entry of a volume under its lock, as an owned file of
 * the engine; and announces to entries/ that such a file is about to be closed.
 *
 * Ownership. The owned file takes over the descriptor and the lock reference. On an error they are closed here.
 *
 * Locking. No lock is taken here.
 */
#define _GNU_SOURCE
#include <fcntl.h>

#include "internal.h"

int aiofs_volume_open_file(aiofs_volume *volume, const char *path, int flags, mode_t mode, enum aiofs_lock lock,
                           const void *owner, aiofs_file **file)
{
    aiofs_lock_ref *lock_ref;
    int fd = aiofs_entry_open(volume, path, flags, mode, lock, owner, &lock_ref);
    if (fd < 0)
        return fd;
    int status = aiofs_file_adopt(fd, flags | O_CLOEXEC, lock_ref, NULL, NULL, file);
    if (status < 0) {
        aiofs_sys.close(fd);
        aiofs_lock_ref_release(lock_ref);
    }
    return status;
}

/* Requests of the kernel, and operations on host threads, complete without help of the program. A volume that completes
 * requests in its own time may need the very thread that would wait for the lock, so no thread waits for such
 * requests. */
void aiofs_file_unwanted(aiofs_file *file)
{
    if (file->lock_ref && (!file->ops || file->ops->blocks || !aiofs_file_busy(file)))
        aiofs_lock_ref_releasing(file->lock_ref);
}
