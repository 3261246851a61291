/*
 * copy.c - copies a file by lists of requests: an ordinary program for <aio.h>, which knows nothing of aiofs.
 *
 *     copy FROM TO
 *
 * Two batches of blocks take turns: while one is being written (LIO_NOWAIT, and a thread that posts when all of it is),
 * the other is read (LIO_WAIT). A batch belongs to the main thread, and from the submission of its writes until its
 * semaphore is posted to them. At the end the copy is synced, and its size is the original's.
 */
#define _GNU_SOURCE
#include <aio.h>
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCKS = 16, BLOCK = 64 * 1024 };

struct batch {
    sem_t written;
    struct aiocb cbs[BLOCKS], *list[BLOCKS];
    char bytes[BLOCKS][BLOCK];
};

static void die(const char *what)
{
    fprintf(stderr, "copy: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* The result of a request that has ended; never a failure. */
static size_t result(struct aiocb *cb)
{
    errno = aio_error(cb);
    if (errno)
        die("aio_error");
    ssize_t moved = aio_return(cb);
    if (moved < 0)
        die("aio_return");
    return (size_t)moved;
}

static void prepare(struct batch *batch)
{
    memset(batch, 0, sizeof *batch);
    for (int i = 0; i < BLOCKS; i++) {
        batch->list[i] = &batch->cbs[i];
        batch->cbs[i].aio_buf = batch->bytes[i];
        batch->cbs[i].aio_sigevent.sigev_notify = SIGEV_NONE;
    }
    if (sem_init(&batch->written, 0, 1))
        die("sem_init");
}

static void all_written(union sigval value)
{
    sem_post(&((struct batch *)value.sival_ptr)->written);
}

/* Until its writes have ended, whole. */
static void finish_writes(struct batch *batch)
{
    while (sem_wait(&batch->written))
        if (errno != EINTR)
            die("sem_wait");
    for (int i = 0; i < BLOCKS; i++) {
        struct aiocb *cb = &batch->cbs[i];
        if (cb->aio_lio_opcode == LIO_WRITE && result(cb) != cb->aio_nbytes) {
            errno = ENOSPC;
            die("a write was short");
        }
    }
}

/* Reads the blocks from `offset` on; what was there. */
static size_t read_batch(struct batch *batch, int fd, off_t offset)
{
    size_t total = 0;
    for (int i = 0; i < BLOCKS; i++) {
        struct aiocb *cb = &batch->cbs[i];
        cb->aio_fildes = fd;
        cb->aio_lio_opcode = LIO_READ;
        cb->aio_nbytes = BLOCK;
        cb->aio_offset = offset + (off_t)i * BLOCK;
    }
    if (lio_listio(LIO_WAIT, batch->list, BLOCKS, NULL))
        die("lio_listio of reads");
    for (int i = 0; i < BLOCKS; i++) {
        batch->cbs[i].aio_nbytes = result(&batch->cbs[i]);
        total += batch->cbs[i].aio_nbytes;
    }
    return total;
}

static void write_batch(struct batch *batch, int fd)
{
    struct sigevent event;
    memset(&event, 0, sizeof event);
    event.sigev_notify = SIGEV_THREAD;
    event.sigev_notify_function = all_written;
    event.sigev_value.sival_ptr = batch;
    for (int i = 0; i < BLOCKS; i++) {
        batch->cbs[i].aio_fildes = fd;
        batch->cbs[i].aio_lio_opcode = batch->cbs[i].aio_nbytes ? LIO_WRITE : LIO_NOP;
    }
    if (lio_listio(LIO_NOWAIT, batch->list, BLOCKS, &event))
        die("lio_listio of writes");
}

static void sync_whole(int fd)
{
    struct aiocb cb, *const list[] = {&cb};
    memset(&cb, 0, sizeof cb);
    cb.aio_fildes = fd;
    cb.aio_sigevent.sigev_notify = SIGEV_NONE;
    if (aio_fsync(O_SYNC, &cb))
        die("aio_fsync");
    while (aio_suspend((const struct aiocb *const *)list, 1, NULL))
        if (errno != EINTR)
            die("aio_suspend");
    result(&cb);
}

int main(int argc, char **argv)
{
    static struct batch batches[2];
    struct stat st;
    off_t offset = 0;

    if (argc != 3) {
        fprintf(stderr, "usage: copy FROM TO\n");
        return 2;
    }
    int from = open(argv[1], O_RDONLY | O_CLOEXEC);
    if (from < 0 || fstat(from, &st))
        die(argv[1]);
    int to = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (to < 0)
        die(argv[2]);
    prepare(&batches[0]);
    prepare(&batches[1]);
    for (int turn = 0; offset < st.st_size; turn = !turn) {
        struct batch *batch = &batches[turn];
        finish_writes(batch);
        size_t moved = read_batch(batch, from, offset);
        if (moved == 0)
            break; /* somebody cut the original */
        write_batch(batch, to);
        offset += (off_t)moved;
    }
    finish_writes(&batches[0]);
    finish_writes(&batches[1]);
    sync_whole(to);
    if (close(to))
        die(argv[2]);
    return 0;
}
