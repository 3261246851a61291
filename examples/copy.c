/* Copies a file by POSIX AIO. copy.py is the same in Python. Usage: cc -o copy copy.c && ./copy SOURCE TARGET */
#include <aio.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

static char buffer[64 * 1024];

static ssize_t carry_out(int start(struct aiocb *), struct aiocb *cb)
{
    const struct aiocb *list[] = {cb};
    if (start(cb) < 0)
        err(1, "cannot start");
    while (aio_error(cb) == EINPROGRESS)
        aio_suspend(list, 1, NULL);
    if ((errno = aio_error(cb)) != 0)
        err(1, "cannot copy");
    return aio_return(cb);
}

int main(int argc, char **argv)
{
    if (argc != 3)
        errx(2, "usage: copy SOURCE TARGET");
    int source = open(argv[1], O_RDONLY);
    int target = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (source < 0 || target < 0)
        err(1, "cannot open");
    struct aiocb in = {.aio_fildes = source, .aio_buf = buffer, .aio_nbytes = sizeof buffer};
    struct aiocb out = {.aio_fildes = target, .aio_buf = buffer};
    while ((out.aio_nbytes = carry_out(aio_read, &in)) > 0)
        in.aio_offset = out.aio_offset += carry_out(aio_write, &out);
}
