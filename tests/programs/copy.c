/*
 * copy.c - copies a file by lists of requests: an ordinary program for <aio.h>, which does not use aiofs.
 *
 *     copy FROM TO
 *
 * Two batches of blocks alternate: while one is written (LIO_NOWAIT, with SIGEV_THREAD, which posts a semaphore), the
 * other is read (LIO_WAIT). The main thread owns a batch, except from the submission of its writes until the semaphore
 * is posted. At the end the program syncs the copy and compares its size with the original.
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

/* The result of a terminal request. Exits if it failed. */
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

/* Waits until the writes of a batch are complete, and checks that they are whole. */
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

/* Reads the blocks from `offset` on. Returns the count of bytes. */
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
            break; /* the original was truncated */
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
