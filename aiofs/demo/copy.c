/*
 * Copies a file by POSIX AIO: while one piece is written, the next one is read.
 *
 * The program does not use aiofs and runs without it: cc -o copy copy.c && ./copy SOURCE TARGET
 */
#include <aio.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>

enum { PIECE = 64 * 1024 };

static char pieces[2][PIECE];

static ssize_t outcome(struct aiocb *cb)
{
    if ((errno = aio_error(cb)) != 0)
        err(1, "cannot copy");
    return aio_return(cb);
}

int main(int argc, char **argv)
{
    if (argc != 3)
        errx(2, "usage: copy SOURCE TARGET");
    int source = open(argv[1], O_RDONLY);
    if (source < 0)
        err(1, "%s", argv[1]);
    int target = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (target < 0)
        err(1, "%s", argv[2]);
    struct aiocb in = {.aio_fildes = source, .aio_nbytes = PIECE, .aio_lio_opcode = LIO_READ};
    struct aiocb out = {.aio_fildes = target, .aio_lio_opcode = LIO_NOP};
    struct aiocb *both[] = {&in, &out};
    for (int turn = 0;; turn = !turn) {
        in.aio_buf = pieces[turn];
        if (lio_listio(LIO_WAIT, both, 2, NULL) < 0 && errno != EIO)
            err(1, "cannot start");
        if (out.aio_lio_opcode == LIO_WRITE && (size_t)outcome(&out) < out.aio_nbytes)
            errx(1, "cannot copy: the disk is full");
        ssize_t size = outcome(&in);
        if (size == 0)
            return 0;
        out.aio_lio_opcode = LIO_WRITE;
        out.aio_offset = in.aio_offset;
        out.aio_buf = in.aio_buf;
        out.aio_nbytes = (size_t)size;
        in.aio_offset += size;
    }
}
