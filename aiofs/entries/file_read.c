/*
 * file_read.c - reading a large file of the machine so that another thread can stop it.
 *
 * The caller owns the descriptor and the memory. No lock is taken here.
 */
#include <errno.h>

#include "sys.h"
#include "volume_internal.h"

enum { PIECE = 2 << 20 }; /* read between two questions whether to go on */

int64_t aiofs_read_stoppable(int fd, char *memory, size_t size, int64_t offset, const int *stop)
{
    size_t done = 0;
    while (done < size) {
        if (__atomic_load_n(stop, __ATOMIC_RELAXED))
            return -ECANCELED;
        size_t piece = size - done < PIECE ? size - done : PIECE;
        ssize_t got = aiofs_sys.pread64(fd, memory + done, piece, offset + (int64_t)done);
        if (got == -EINTR)
            continue;
        if (got < 0)
            return got;
        if (got == 0)
            break;
        done += (size_t)got;
    }
    return (int64_t)done;
}
