/*
 * crowd.c - measures requests when many are in flight, by the <aio.h> of libaiofs.so, to which it is linked:
 *
 *     crowd pipe|direct FILE OUTSTANDING BLOCK SECONDS
 *
 * The program submits OUTSTANDING reads of BLOCK bytes: of one empty pipe, or O_DIRECT reads of FILE at random offsets.
 * Then, for SECONDS, it waits for the oldest BATCH of reads and submits as many new ones, so the number in flight stays
 * the same. On the pipe, it first writes as many messages, so that the reads end. So the work for each request does not
 * depend on the number in flight. At the end the program cancels the remaining reads.
 *
 * The result is one line of JSON: seconds per request, and bytes of memory per request. The process's own memory
 * includes the aiocbs but not the buffers. The kernel's memory is the growth of unreclaimable memory in the whole
 * system; it means something only if the number of requests is large.
 *
 * One thread. Requests whose numbers differ by a multiple of SHARED have the same buffer. A pipe is read in order, so
 * the bytes of a read are still in the buffer when the read is checked, in the last pass. Of a file, a few reads are
 * checked.
 */
#define _GNU_SOURCE
#include <aio.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "engine.h"

enum { PAGE = 4096, BATCH = 50, SHARED = 1024, WARM_UP = 1000 };

struct crowd {
    int fd, feeder; /* feeder: the pipe's other end, or -1 */
    size_t count, block;
    off_t size;          /* of the file */
    struct aiocb *cbs;   /* the oldest is cbs[turn % count] */
    size_t turn;
    char *buffers;
    int64_t fed; /* messages written */
};

static void die(const char *what)
{
    fprintf(stderr, "crowd: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double seconds_of(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

/* Reads a number, in KiB, from a file of /proc: the one behind `name`. */
static double kibibytes(const char *path, const char *name)
{
    char line[256];
    double value = -1;
    FILE *file = fopen(path, "r");
    if (!file)
        die(path);
    while (value < 0 && fgets(line, sizeof line, file))
        if (strncmp(line, name, strlen(name)) == 0)
            value = strtod(line + strlen(name), NULL);
    fclose(file);
    return value;
}

static double own_memory(void)
{
    return kibibytes("/proc/self/status", "VmRSS:") * 1024;
}

static double kernel_memory(void)
{
    return (kibibytes("/proc/meminfo", "SUnreclaim:") + kibibytes("/proc/meminfo", "KernelStack:")) * 1024;
}

static uint64_t outstanding(void)
{
    struct aiofs_counters counters;
    aiofs_engine_counters(&counters);
    return counters.outstanding;
}

/* ---- requests ------------------------------------------------------------------------------------------- */

static char *buffer_of(const struct crowd *c, size_t turn)
{
    return c->buffers + turn % SHARED * c->block;
}

static struct aiocb *submit(const struct crowd *c, size_t turn)
{
    struct aiocb *cb = &c->cbs[turn % c->count];
    uint64_t blocks = (uint64_t)c->size / c->block;
    cb->aio_fildes = c->fd;
    cb->aio_buf = buffer_of(c, turn);
    cb->aio_nbytes = c->block;
    /* Fibonacci hashing: offsets all over the file, in an order that neither device nor kernel can predict. */
    cb->aio_offset = blocks ? (off_t)((turn * UINT64_C(0x9e3779b97f4a7c15) >> 20) % blocks * c->block) : 0;
    cb->aio_sigevent.sigev_notify = SIGEV_NONE;
    if (aio_read(cb))
        die("aio_read");
    return cb;
}

/* Writes messages for `count` reads. Each message contains its own number. */
static void feed(struct crowd *c, size_t count)
{
    char messages[PAGE] = {0};
    for (size_t i = 0; i < count; i++, c->fed++)
        memcpy(messages + i * c->block, &c->fed, sizeof c->fed);
    if (write(c->feeder, messages, count * c->block) != (ssize_t)(count * c->block))
        die("write");
}

static void take(struct aiocb *cb)
{
    const struct aiocb *const list[] = {cb};
    while (aio_error(cb) == EINPROGRESS)
        if (aio_suspend(list, 1, NULL) && errno != EINTR)
            die("aio_suspend");
    ssize_t moved = aio_return(cb);
    if (moved != (ssize_t)cb->aio_nbytes)
        die("a read that was short or failed");
}

static void check(const struct crowd *c, size_t turn)
{
    const struct aiocb *cb = &c->cbs[turn % c->count];
    int64_t there, wanted = c->feeder < 0 ? cb->aio_offset / PAGE * PAGE : (int64_t)turn;
    memcpy(&there, buffer_of(c, turn), sizeof there);
    if (there != wanted) {
        errno = EIO;
        die("read other bytes than belong there");
    }
}

/* Waits for the oldest reads, and submits as many new ones. */
static void roll(struct crowd *c, bool checked)
{
    if (c->feeder >= 0)
        feed(c, BATCH);
    if (c->feeder >= 0) /* the reads end in their order: one sleep for all */
        take(&c->cbs[(c->turn + BATCH - 1) % c->count]);
    for (size_t i = 0; i < BATCH; i++, c->turn++) {
        bool last = c->feeder >= 0 && i == BATCH - 1;
        if (!last)
            take(&c->cbs[c->turn % c->count]);
        if (checked)
            check(c, c->turn);
        submit(c, c->turn + c->count);
    }
}

static void fill(struct crowd *c)
{
    for (size_t i = 0; i < c->count; i++)
        submit(c, c->turn + i);
}

/* Uses each request once more, so that the first touch of memory is not timed. It also replaces the requests that
 * ended before the last one was submitted. */
static void warm_up(struct crowd *c)
{
    while (c->turn < WARM_UP || c->turn < c->count)
        roll(c, false);
}

static void cancel(struct crowd *c)
{
    if (aio_cancel(c->fd, NULL) < 0)
        die("aio_cancel");
    for (size_t i = 0; i < c->count; i++) {
        const struct aiocb *const list[] = {&c->cbs[i]};
        while (aio_error(list[0]) == EINPROGRESS)
            aio_suspend(list, 1, NULL);
    }
}

/* Checks reads one at a time, so that no other read writes into the buffer. */
static void check_file(struct crowd *c)
{
    for (size_t i = 0; i < BATCH; i++, c->turn++) {
        take(submit(c, c->turn));
        check(c, c->turn);
    }
}

/* ---- the measurement -------------------------------------------------------------------------------------- */

static void measure(struct crowd *c, double limit)
{
    double own = own_memory(), kernel = kernel_memory();
    fill(c);
    own = own_memory() - own;
    kernel = kernel_memory() - kernel;

    warm_up(c);
    size_t first = c->turn;
    double cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID), start = seconds_of(CLOCK_MONOTONIC), now;
    double present = 0;
    do {
        roll(c, false);
        present += (double)outstanding() * BATCH;
        now = seconds_of(CLOCK_MONOTONIC);
    } while (now - start < limit);
    cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    double count = (double)(c->turn - first);
    if (c->feeder >= 0)
        roll(c, true);
    cancel(c);
    if (c->feeder < 0)
        check_file(c);
    printf("{\"time\": %.4g, \"cpu\": %.4g, \"memory each\": %.4g, \"kernel memory each\": %.4g, "
           "\"outstanding\": %.0f}\n",
           (now - start) / count, cpu / count, own / (double)c->count, kernel / (double)c->count,
           present / count);
}

static void open_pipe(struct crowd *c)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC))
        die("pipe2");
    c->fd = ends[0];
    c->feeder = ends[1];
    if (c->block < sizeof c->fed || BATCH * c->block > PAGE) {
        errno = EINVAL;
        die("the block");
    }
}

static void open_file(struct crowd *c, const char *path)
{
    struct stat st;
    c->fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    if (c->fd < 0 || fstat(c->fd, &st))
        die(path);
    c->size = st.st_size;
}

int main(int argc, char **argv)
{
    bool pipes = argc == 6 && strcmp(argv[1], "pipe") == 0;
    if (argc != 6 || (!pipes && strcmp(argv[1], "direct"))) {
        fprintf(stderr, "usage: crowd pipe|direct FILE OUTSTANDING BLOCK SECONDS\n");
        return 2;
    }
    struct crowd c = {
        .feeder = -1,
        .count = strtoull(argv[3], NULL, 10),
        .block = strtoull(argv[4], NULL, 10),
    };
    if (pipes)
        open_pipe(&c);
    else
        open_file(&c, argv[2]);
    if (posix_memalign((void **)&c.buffers, PAGE, SHARED * c.block))
        die("posix_memalign");
    memset(c.buffers, 'c', SHARED * c.block);
    c.cbs = calloc(c.count, sizeof *c.cbs);
    if (!c.cbs || aiofs_engine_start() < 0)
        die("libaiofs");
    measure(&c, strtod(argv[5], NULL));
    return 0;
}
