/*
 * beside.c - the C functions that the Python measurements use, as a shared library:
 *
 *   ticker     a descriptor that becomes readable at exact times: the heartbeat's clock. (Timers of
 *              uvloop count whole milliseconds, too coarse to see a loop that is late by 0.1 ms.)
 *   resident   how much of a file is in the page cache: shows whether a cold file is cold.
 *   start and finish
 *              plain C threads that carry out a list of reads or saves, while a heartbeat runs on a
 *              loop beside them: the floor of loop stall.
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
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

int ticker(int64_t first_ns, int64_t period_ns)
{
    struct itimerspec when = {
        .it_value = {first_ns / 1000000000, first_ns % 1000000000},
        .it_interval = {period_ns / 1000000000, period_ns % 1000000000},
    };
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);

    if (fd >= 0 && timerfd_settime(fd, TFD_TIMER_ABSTIME, &when, NULL)) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Returns how many pages of the file are in the page cache, or -1 and errno. */
int64_t resident(int fd)
{
    struct stat st;
    int64_t count = -1;

    if (fstat(fd, &st))
        return -1;
    size_t pages = ((size_t)st.st_size + 4095) / 4096;
    unsigned char *in_core = malloc(pages);
    void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (in_core && map != MAP_FAILED && !mincore(map, (size_t)st.st_size, in_core)) {
        count = 0;
        for (size_t i = 0; i < pages; i++)
            count += in_core[i] & 1;
    }
    if (map != MAP_FAILED)
        munmap(map, (size_t)st.st_size);
    free(in_core);
    return count;
}

struct job {
    int fd;
    int save; /* write and fdatasync, instead of read */
    size_t block;
    const int64_t *offsets;
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
    if (!job->save)
        return pread(job->fd, buffer, job->block, offset);
    ssize_t moved = pwrite(job->fd, buffer, job->block, offset);
    return fdatasync(job->fd) ? -1 : moved;
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
