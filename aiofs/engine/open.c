/*
 * open.c - joins the two floors entries/ and engine/: opens an entry of a volume under its lock, as an owned file of
 * the engine; commits it; and announces to entries/ that such a file is about to be closed.
 *
 * Ownership. The owned file takes over the descriptor and the lock reference. On an error they are closed here.
 *
 * Locking. No lock is taken here.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>

#include "cached.h"
#include "internal.h"

/* Flags of open(2) that fcntl(2) with F_GETFL does not give. */
#define OPENING_FLAGS (O_CREAT | O_EXCL | O_TRUNC | O_NOCTTY | O_CLOEXEC)

int aiofs_volume_open_file(aiofs_volume *volume, const char *path, int flags, mode_t mode, enum aiofs_lock lock,
                           const void *owner, aiofs_file **file)
{
    aiofs_lock_ref *lock_ref;
    struct file_facts facts = {.flags = flags & ~OPENING_FLAGS, .kind = KIND_REGULAR, .seekable = true};
    int fd = aiofs_entry_open(volume, path, flags, mode, lock, owner, &lock_ref, &facts.stat);
    if (fd < 0)
        return fd;
    int status = file_adopt(fd, &facts, lock_ref, NULL, NULL, file);
    if (status < 0) {
        aiofs_sys.close(fd);
        aiofs_lock_ref_release(lock_ref);
    }
    return status;
}

int aiofs_volume_open_cached(aiofs_volume *volume, const char *path, int flags, enum aiofs_lock lock, aiofs_file **file)
{
    if (!aiofs_volume_is_local(volume))
        return -EAGAIN;
    cached_begin();
    int status = aiofs_volume_open_file(volume, path, flags, 0666, lock, NULL, file);
    if (!cached_end())
        return status;
    if (status == 0) {
        aiofs_file_close(*file);
        aiofs_file_release(*file);
    }
    return -EAGAIN;
}

/* The status flags of open(2) that count for a swap file. It is synced at the commit whatever the others say. */
#define SWAP_FLAGS (O_APPEND | O_DIRECT)

static int open_swap(aiofs_lock_ref *lock_ref, int source, int flags, aiofs_file **file)
{
    int kept = flags & SWAP_FLAGS;
    int fd = aiofs_swap_make(lock_ref, source, !(flags & O_TRUNC));
    int status = fd < 0 ? fd : kept ? aiofs_sys.fcntl(fd, F_SETFL, kept) : 0;
    if (status >= 0)
        status = aiofs_file_adopt(fd, O_RDWR | O_CLOEXEC | kept, lock_ref, NULL, NULL, file);
    if (status < 0 && fd >= 0)
        aiofs_sys.close(fd);
    return status;
}

int aiofs_volume_open_swap(aiofs_volume *volume, const char *path, int flags, mode_t mode, enum aiofs_lock lock,
                           const void *owner, aiofs_file **file)
{
    aiofs_lock_ref *lock_ref;
    struct stat found;
    if (cached_refuse()) /* a copy of the file */
        return -EAGAIN;
    int source_flags = (flags & ~(O_ACCMODE | O_TRUNC | SWAP_FLAGS)) | O_RDWR;
    int source = aiofs_entry_open(volume, path, source_flags, mode, lock, owner, &lock_ref, &found);
    if (source < 0)
        return source;
    int status = open_swap(lock_ref, source, flags, file);
    aiofs_sys.close(source);
    if (status < 0)
        aiofs_lock_ref_release(lock_ref);
    return status;
}

bool aiofs_file_swapped(const aiofs_file *file)
{
    return file->lock_ref && aiofs_lock_ref_swapped(file->lock_ref);
}

static int64_t commit_file(aiofs_file *file)
{
    if (aiofs_file_swapped(file))
        return aiofs_swap_commit(file->lock_ref, aiofs_file_fd(file));
    bool durable = !file->lock_ref || aiofs_lock_ref_is_durable(file->lock_ref);
    return durable ? aiofs_file_flush(file) : 0;
}

int64_t aiofs_file_finish(aiofs_file *file, bool commit)
{
    aiofs_file_drain(file);
    int64_t outcome = commit ? commit_file(file) : 0;
    int64_t closed = aiofs_file_close(file);
    return outcome < 0 ? outcome : closed;
}

bool aiofs_file_finishes_at_once(aiofs_file *file)
{
    struct stat found;
    aiofs_lock_ref *lock_ref = file->lock_ref;
    if (file->ops || !lock_ref || aiofs_file_busy(file) || file->bound)
        return false;
    const aiofs_volume *volume = aiofs_lock_ref_volume(lock_ref);
    if (!aiofs_volume_is_local(volume) || file->dev != aiofs_volume_device(volume))
        return false;
    if (atomic_load(&file->dirty) || atomic_load(&file->syncing) || aiofs_lock_ref_swapped(lock_ref) ||
        !aiofs_lock_ref_dir_is_synced(lock_ref))
        return false;
    /* Closing the last descriptor of a file without a name frees its blocks. */
    return aiofs_sys.fstat(aiofs_file_fd(file), &found) == 0 && found.st_nlink > 0;
}

/* Requests of the kernel, and operations on host threads, complete without help of the program. A volume that completes
 * requests in its own time may need the very thread that would wait for the lock, so no thread waits for such
 * requests. */
void aiofs_file_unwanted(aiofs_file *file)
{
    if (file->lock_ref && (!file->ops || file->ops->blocks || !aiofs_file_busy(file)))
        aiofs_lock_ref_releasing(file->lock_ref);
}
