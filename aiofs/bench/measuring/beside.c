/*
 * beside.c - C threads that carry out a list of reads, writes or saves while a heartbeat runs on a loop beside
 * them: the floor of loop stall. A shared library for the Python measurements.
 *
 * The caller of start owns the job, and keeps it until finish returns. The threads share only `next`,
 * the index of the next operation, and `busy`, the number of running threads. The last thread to end
 * makes `done` readable. Each thread has a buffer, whose pages the owner has touched before.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct job;
struct job *start(int fd, int save, size_t block, const int64_t *offsets, int64_t count, int done,
                  char **buffers, int thread_count);
int finish(struct job *job);

struct job {
    int fd;
    int save; /* fdatasync after each write */
    size_t block;
    const int64_t *offsets; /* ~offset: a write there */
    int64_t count;
    int done; /* an eventfd */
    atomic_llong next;
    atomic_int busy;
    atomic_int error; /* the last errno, or 0 */
    int thread_count;
    struct worker {
        struct job *job;
        char *buffer;
        pthread_t thread;
    } workers[];
};

static ssize_t carry_out(const struct job *job, char *buffer, int64_t offset)
{
    if (offset >= 0)
        return pread(job->fd, buffer, job->block, offset);
    ssize_t moved = pwrite(job->fd, buffer, job->block, ~offset);
    return job->save && fdatasync(job->fd) ? -1 : moved;
}

static void *work(void *argument)
{
    struct worker *self = argument;
    struct job *job = self->job;
    int64_t turn;

    while ((turn = atomic_fetch_add(&job->next, 1)) < job->count)
        if (carry_out(job, self->buffer, job->offsets[turn]) != (ssize_t)job->block)
            job->error = errno ? errno : EIO;
    if (atomic_fetch_sub(&job->busy, 1) == 1)
        eventfd_write(job->done, 1);
    return NULL;
}

/* Returns at once. NULL: no memory. If a thread cannot start, finish returns the error. */
struct job *start(int fd, int save, size_t block, const int64_t *offsets, int64_t count, int done,
                  char **buffers, int thread_count)
{
    struct job *job = calloc(1, sizeof *job + (size_t)thread_count * sizeof *job->workers);

    if (!job)
        return NULL;
    job->fd = fd;
    job->save = save;
    job->block = block;
    job->offsets = offsets;
    job->count = count;
    job->done = done;
    job->busy = thread_count;
    for (int i = 0; i < thread_count; i++) {
        struct worker *worker = &job->workers[i];
        *worker = (struct worker){.job = job, .buffer = buffers[i]};
        errno = pthread_create(&worker->thread, NULL, work, worker);
        if (errno) {
            job->error = errno;
            if (atomic_fetch_sub(&job->busy, thread_count - i) == thread_count - i)
                eventfd_write(done, 1);
            break;
        }
        job->thread_count++;
    }
    return job;
}

/* Waits for the job's threads and frees the job. Returns 0 or the errno of the last failure. */
int finish(struct job *job)
{
    for (int i = 0; i < job->thread_count; i++)
        pthread_join(job->workers[i].thread, NULL);
    int error = job->error;
    free(job);
    return error;
}
