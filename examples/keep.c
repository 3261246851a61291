/*
 * Writes its standard input to a file, under a lock that refuses other writers. One loop around poll waits for the
 * input and for the ends of the writes. The program waits for the disk only before it exits.
 *
 * Usage: cc keep.c $(aiofs config --cflags --libs) -o keep && some-program | ./keep VOLUME FILE
 */
#include <aiofs.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

enum { DEPTH = 4 };

static struct piece {
    struct aiocb cb;
    int in_flight;
    char bytes[64 * 1024];
} pieces[DEPTH];

static int file, ended;
static off_t kept;

static struct piece *free_piece(void)
{
    for (struct piece *piece = pieces; piece < pieces + DEPTH; piece++)
        if (!piece->in_flight)
            return piece;
    return NULL;
}

static void start(struct piece *piece, size_t size)
{
    piece->cb = (struct aiocb){.aio_fildes = file, .aio_buf = piece->bytes, .aio_nbytes = size, .aio_offset = kept};
    piece->cb.aio_sigevent.sigev_notify = AIOFS_SIGEV_COMPLETION;
    piece->cb.aio_sigevent.sigev_value.sival_int = ended;
    if (aio_write(&piece->cb) < 0)
        err(1, "aio_write");
    piece->in_flight = 1;
    kept += size;
}

/* Returns how many writes have ended since the last call. Writes may end in any order. */
static int finish(void)
{
    uint64_t count = 0;
    if (read(ended, &count, sizeof count) < 0 && errno != EAGAIN)
        err(1, "cannot read the completion descriptor");
    for (struct piece *piece = pieces; count > 0 && piece < pieces + DEPTH; piece++) {
        if (!piece->in_flight || aio_error(&piece->cb) == EINPROGRESS)
            continue;
        if ((errno = aio_error(&piece->cb)) != 0)
            err(1, "cannot write");
        if ((size_t)aio_return(&piece->cb) < piece->cb.aio_nbytes)
            errx(1, "cannot write: the disk is full");
        piece->in_flight = 0;
    }
    return (int)count;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        errx(2, "usage: keep VOLUME FILE");
    file = aiofs_open(argv[1], argv[2], O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (file < 0)
        err(1, "%s in %s", argv[2], argv[1]);
    ended = aiofs_completion_open();
    if (ended < 0)
        err(1, "aiofs_completion_open");
    int outstanding = 0, more = 1;
    while (more || outstanding > 0) {
        struct piece *piece = free_piece();
        struct pollfd wait[] = {{.fd = ended, .events = POLLIN}, {.fd = more && piece ? 0 : -1, .events = POLLIN}};
        if (poll(wait, 2, -1) < 0 && errno != EINTR)
            err(1, "poll");
        if (wait[0].revents)
            outstanding -= finish();
        if (wait[1].revents) {
            ssize_t size = read(0, piece->bytes, sizeof piece->bytes);
            if (size < 0)
                err(1, "cannot read");
            if ((more = size > 0)) {
                start(piece, (size_t)size);
                outstanding++;
            }
        }
    }
    if (fsync(file) < 0 || aiofs_close(file) < 0)
        err(1, "cannot make %s durable", argv[2]);
    aiofs_completion_close(ended);
}
