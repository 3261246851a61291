/*
 * floor.c - measures the floor: the cost of the system calls alone.
 *
 *     floor OPERATION FILE OFFSETS BLOCK BUFFERS SECONDS
 *
 * OPERATION is read (pread), write (pwrite), open (open, lock, close) or replace (write a new file, fsync, rename, fsync of
 * the directory). OFFSETS is a file of native
 * 64-bit integers, in the order that every contender of the case uses; the program repeats it. It
 * uses BUFFERS page-aligned buffers of BLOCK bytes in turn, as the same number of coroutines would.
 * There are three passes: the first is timed as a whole, the second times every operation, and the
 * third checks bytes. The result is one line of JSON: seconds per operation, under the same names as
 * in the Python measurements.
 *
 * One thread, no locks. Every 8 bytes of a page of the file contain the page's own offset.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    PAGE = 4096,
    CLOCK_EVERY = 256,   /* operations between two readings of the clock: under 1 ns for each */
    SLOW_EVERY = 4,      /* the same of operations that take milliseconds */
    LATENCIES = 1 << 16, /* the most operations that are timed one by one */
    CHECKED = 64,
};

struct work {
    const char *path;
    int fd, directory;
    const int64_t *offsets;
    size_t offset_count;
    char *buffers;
    size_t buffer_count;
    size_t block;
};

typedef void operation(const struct work *, size_t turn);

static void die(const char *what)
{
    fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double seconds_of(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static int64_t offset_at(const struct work *w, size_t turn)
{
    return w->offsets[turn % w->offset_count];
}

static char *buffer_at(const struct work *w, size_t turn)
{
    return w->buffers + turn % w->buffer_count * w->block;
}

static void read_block(const struct work *w, size_t turn)
{
    if (pread(w->fd, buffer_at(w, turn), w->block, offset_at(w, turn)) != (ssize_t)w->block)
        die("pread");
}

static void write_block(const struct work *w, size_t turn)
{
    if (pwrite(w->fd, buffer_at(w, turn), w->block, offset_at(w, turn)) != (ssize_t)w->block)
        die("pwrite");
}

static void open_lock_close(const struct work *w, size_t turn)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int fd = open(w->path, O_RDWR | O_CLOEXEC);

    (void)turn;
    if (fd < 0)
        die("open");
    if (fcntl(fd, F_OFD_SETLK, &lock))
        die("fcntl");
    close(fd);
}

static void replace_file(const struct work *w, size_t turn)
{
    static char fresh[4096];
    int fd;

    if (!*fresh)
        snprintf(fresh, sizeof fresh, "%s.new", w->path);
    fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        die("open");
    if (write(fd, buffer_at(w, turn), w->block) != (ssize_t)w->block)
        die("write");
    if (fsync(fd) || close(fd))
        die("fsync");
    if (rename(fresh, w->path))
        die("rename");
    if (fsync(w->directory))
        die("fsync of the directory");
}

static const char *time_whole(const struct work *w, operation *operate, size_t every, double limit)
{
    static char line[128];
    size_t turn = 0;

    while (turn < every)
        operate(w, turn++);

    double cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
    double start = seconds_of(CLOCK_MONOTONIC), now;
    size_t first = turn;
    do {
        for (size_t i = 0; i < every; i++)
            operate(w, turn++);
        now = seconds_of(CLOCK_MONOTONIC);
    } while (now - start < limit);
    cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID) - cpu;

    double count = (double)(turn - first);
    snprintf(line, sizeof line, "\"time\": %.4g, \"cpu\": %.4g", (now - start) / count, cpu / count);
    return line;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static const char *time_each(const struct work *w, operation *operate, double limit)
{
    static char line[128];
    double *took = malloc(LATENCIES * sizeof *took);
    double start = seconds_of(CLOCK_MONOTONIC), before = start, now;
    size_t count = 0;

    if (!took)
        die("malloc");
    do {
        operate(w, count);
        now = seconds_of(CLOCK_MONOTONIC);
        took[count++] = now - before;
        before = now;
    } while (count < LATENCIES && now - start < limit);

    qsort(took, count, sizeof *took, ascending);
    snprintf(line, sizeof line, "\"p50\": %.4g, \"p99\": %.4g, \"p99.9\": %.4g",
             took[(size_t)(count * 0.5)], took[(size_t)(count * 0.99)],
             took[(size_t)(count * 0.999)]);
    free(took);
    return line;
}

static void check_read(const struct work *w, size_t turn)
{
    const char *buffer = buffer_at(w, turn);

    read_block(w, turn);
    for (size_t at = 0; at < w->block; at += sizeof(int64_t)) {
        int64_t page = offset_at(w, turn) + (int64_t)(at / PAGE * PAGE);
        if (memcmp(buffer + at, &page, sizeof page))
            die("read other bytes than the file was filled with");
    }
}

static void check_write(const struct work *w, size_t turn)
{
    char *back = malloc(w->block);

    write_block(w, turn);
    if (!back || pread(w->fd, back, w->block, offset_at(w, turn)) != (ssize_t)w->block)
        die("pread");
    if (memcmp(back, buffer_at(w, turn), w->block))
        die("read back other bytes than were written");
    free(back);
}

static void check_replaced(const struct work *w, size_t turn)
{
    char *back = malloc(w->block);

    replace_file(w, turn);
    int fd = open(w->path, O_RDONLY | O_CLOEXEC);
    if (!back || fd < 0 || pread(fd, back, w->block, 0) != (ssize_t)w->block)
        die("pread");
    if (memcmp(back, buffer_at(w, turn), w->block))
        die("read back other bytes than were written");
    close(fd);
    free(back);
}

static int open_directory(const char *path)
{
    char *copy = strdup(path);
    int fd = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

    if (fd < 0)
        die(path);
    free(copy);
    return fd;
}

static const int64_t *load_offsets(const char *path, size_t *count)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || fstat(fd, &st))
        die(path);
    int64_t *offsets = malloc((size_t)st.st_size);
    if (!offsets || read(fd, offsets, (size_t)st.st_size) != st.st_size)
        die(path);
    close(fd);
    *count = (size_t)st.st_size / sizeof *offsets;
    return offsets;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        operation *operate, *check;
        size_t every;
    } operations[] = {
        {"read", read_block, check_read, CLOCK_EVERY},
        {"write", write_block, check_write, CLOCK_EVERY},
        {"open", open_lock_close, open_lock_close, CLOCK_EVERY},
        {"replace", replace_file, check_replaced, SLOW_EVERY},
    };
    size_t chosen = 0, known = sizeof operations / sizeof *operations;

    while (argc == 7 && chosen < known && strcmp(operations[chosen].name, argv[1]))
        chosen++;
    if (argc != 7 || chosen == known) {
        fprintf(stderr, "usage: floor read|write|open|replace FILE OFFSETS BLOCK BUFFERS SECONDS\n");
        return 2;
    }

    struct work w = {
        .path = argv[2],
        .fd = open(argv[2], O_RDWR | O_CLOEXEC),
        .directory = open_directory(argv[2]),
        .block = strtoull(argv[4], NULL, 10),
        .buffer_count = strtoull(argv[5], NULL, 10),
    };
    double limit = strtod(argv[6], NULL);
    w.offsets = load_offsets(argv[3], &w.offset_count);
    if (w.fd < 0)
        die(w.path);
    if (posix_memalign((void **)&w.buffers, PAGE, w.block * w.buffer_count))
        die("posix_memalign");
    memset(w.buffers, 'c', w.block * w.buffer_count);

    operation *operate = operations[chosen].operate;
    const char *whole = time_whole(&w, operate, operations[chosen].every, limit);
    const char *each = time_each(&w, operate, limit);
    for (size_t turn = 0; turn < CHECKED; turn++)
        operations[chosen].check(&w, turn);
    printf("{%s, %s}\n", whole, each);
    return 0;
}
