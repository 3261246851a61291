/*
 * open.c - joins the two floors: opens an entry of a volume, under its lock, as an open file of the engine.
 *
 * The open file takes over the descriptor and the hold. No locks are taken here.
 */
#define _GNU_SOURCE
#include <fcntl.h>

#include "internal.h"

int aiofs_volume_open_file(aiofs_volume *volume, const char *path, int flags, mode_t mode, enum aiofs_lock lock,
                           const void *owner, aiofs_file **file)
{
    aiofs_hold *hold;
    int fd = aiofs_entry_open(volume, path, flags, mode, lock, owner, &hold);
    if (fd < 0)
        return fd;
    int status = aiofs_file_adopt(fd, flags | O_CLOEXEC, hold, NULL, NULL, file);
    if (status < 0) {
        aiofs_sys.close(fd);
        aiofs_hold_release(hold);
    }
    return status;
}
