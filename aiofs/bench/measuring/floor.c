/*
 * floor.c - measures the floor: the cost of the system calls alone.
 *
 *     floor OPERATION FILE OFFSETS BLOCK BUFFERS SHIFT STATE SECONDS COUNT VERIFY
 *
 * OPERATION is read (pread), write (pwrite), mixed (either), open (open, lock, close), replace (write a new file,
 * fsync, rename, fsync of the directory), whole (open, read, close of FILE.OFFSET), locked (the same with a lock),
 * ranges_into (pread of some pages) or ranges (the same into new memory, all of which is freed when all offsets were
 * used). OFFSETS is a file of native 64-bit integers, in the order that every participant uses; the program repeats it;
 * ~offset is a write of mixed operations, and a range is an offset plus a count of pages. It uses BUFFERS buffers of
 * BLOCK bytes in turn, as the same number of coroutines would; each begins SHIFT bytes after the beginning of a page.
 * STATE is cached, cold (the file is dropped from the page cache before each pass, and when all offsets were used) or direct
 * (O_DIRECT). There are three passes: the first is timed as a whole, the second times every operation, and the third
 * checks bytes if VERIFY is 1. The first two take SECONDS each, or COUNT operations if COUNT is not 0. The result is
 * one line of JSON: seconds per operation, under the same names as in the Python measurements.
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
    BYTES_AT_ONCE = 16 << 20, /* moved between two readings of the clock, at most */
};

enum state { CACHED, COLD, DIRECT };

struct work {
    const char *path;
    int fd, directory;
    const int64_t *offsets;
    char **paths; /* of whole files: one for each offset */
    char **kept;  /* of ranges: the memory of each offset, or NULL */
    size_t offset_count;
    char *buffers;
    size_t buffer_count, buffer_room, shift;
    size_t block;
    enum state state;
    double seconds;
    size_t count;
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
    return w->buffers + turn % w->buffer_count * w->buffer_room + w->shift;
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

static void read_or_write_block(const struct work *w, size_t turn)
{
    int64_t offset = offset_at(w, turn);

    if (offset >= 0)
        read_block(w, turn);
    else if (pwrite(w->fd, buffer_at(w, turn), w->block, ~offset) != (ssize_t)w->block)
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

static void read_file(const struct work *w, size_t turn, int is_locked)
{
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
    int fd = open(w->paths[turn % w->offset_count], O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        die("open");
    if (is_locked && fcntl(fd, F_OFD_SETLK, &lock))
        die("fcntl");
    if (pread(fd, buffer_at(w, turn), w->block, 0) != (ssize_t)w->block)
        die("pread");
    close(fd);
}

static void read_whole(const struct work *w, size_t turn)
{
    read_file(w, turn, 0);
}

static void read_locked(const struct work *w, size_t turn)
{
    read_file(w, turn, 1);
}

static size_t range_size(int64_t number)
{
    return (size_t)(number % PAGE) * PAGE;
}

static void read_range_to(const struct work *w, size_t turn, char *buffer)
{
    int64_t number = offset_at(w, turn);

    if (pread(w->fd, buffer, range_size(number), number - number % PAGE) != (ssize_t)range_size(number))
        die("pread");
}

static void read_range_into(const struct work *w, size_t turn)
{
    read_range_to(w, turn, buffer_at(w, turn));
}

static void read_range(const struct work *w, size_t turn)
{
    size_t at = turn % w->offset_count;

    for (size_t i = 0; at == 0 && i < w->offset_count; i++) {
        free(w->kept[i]);
        w->kept[i] = NULL;
    }
    free(w->kept[at]);
    w->kept[at] = malloc(range_size(offset_at(w, turn)));
    if (!w->kept[at])
        die("malloc");
    read_range_to(w, turn, w->kept[at]);
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

/* Drops the file from the page cache where a cold pass needs it, and adds the time that this took to both. */
static void make_cold(const struct work *w, size_t turn, double *wall, double *cpu)
{
    if (w->state != COLD || turn % w->offset_count)
        return;
    double start = seconds_of(CLOCK_MONOTONIC), cpu_start = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
    if (fdatasync(w->fd) || (errno = posix_fadvise(w->fd, 0, 0, POSIX_FADV_DONTNEED)))
        die("posix_fadvise");
    *wall += seconds_of(CLOCK_MONOTONIC) - start;
    *cpu += seconds_of(CLOCK_PROCESS_CPUTIME_ID) - cpu_start;
}

/* How many operations are made between two readings of the clock. */
static size_t at_once(const struct work *w, size_t most)
{
    size_t count = w->state == CACHED ? most : 1;

    while (count > 1 && count * w->block > BYTES_AT_ONCE)
        count /= 2;
    return count;
}

static int is_over(const struct work *w, size_t done, double elapsed)
{
    return w->count ? done >= w->count : elapsed >= w->seconds;
}

static void time_whole(const struct work *w, operation *operate, size_t every)
{
    size_t turn = 0, done = 0;

    while (w->state != COLD && turn < every)
        operate(w, turn++);

    double cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
    double start = seconds_of(CLOCK_MONOTONIC), now;
    do {
        for (size_t i = 0; i < every && !(w->count && done == w->count); i++, done++, turn++) {
            make_cold(w, turn, &start, &cpu);
            operate(w, turn);
        }
        now = seconds_of(CLOCK_MONOTONIC);
    } while (!is_over(w, done, now - start));
    cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID) - cpu;

    printf("{\"time\": %.6g, \"cpu\": %.6g", (now - start) / (double)done, cpu / (double)done);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void time_each(const struct work *w, operation *operate)
{
    static const struct {
        const char *name;
        double part;
    } quantiles[] = {
        {"p0", 0},      {"p10", 0.1},   {"p25", 0.25},    {"p50", 0.5},       {"p75", 0.75}, {"p90", 0.9},
        {"p95", 0.95},  {"p99", 0.99},  {"p99.9", 0.999}, {"p99.99", 0.9999}, {"p100", 1},
    };
    double *took = malloc(LATENCIES * sizeof *took);
    double start = seconds_of(CLOCK_MONOTONIC), before = start, now = start;
    size_t count = 0;

    if (!took)
        die("malloc");
    do {
        double dropping = 0, ignored = 0;
        make_cold(w, count, &dropping, &ignored);
        start += dropping;
        before += dropping;
        operate(w, count);
        now = seconds_of(CLOCK_MONOTONIC);
        took[count++] = now - before;
        before = now;
    } while (count < LATENCIES && !is_over(w, count, now - start));

    qsort(took, count, sizeof *took, ascending);
    for (size_t i = 0; i < sizeof quantiles / sizeof *quantiles; i++) {
        size_t at = (size_t)((double)count * quantiles[i].part);
        printf(", \"%s\": %.6g", quantiles[i].name, took[at < count ? at : count - 1]);
    }
    free(took);
}

static void check_those(const char *buffer, size_t size, int64_t offset)
{
    for (size_t at = 0; at < size; at += sizeof(int64_t)) {
        int64_t page = offset + (int64_t)(at / PAGE * PAGE);
        if (memcmp(buffer + at, &page, sizeof page))
            die("read other bytes than the file was filled with");
    }
}

static void check_bytes(const struct work *w, size_t turn)
{
    check_those(buffer_at(w, turn), w->block, offset_at(w, turn));
}

static void check_range_into(const struct work *w, size_t turn)
{
    int64_t number = offset_at(w, turn);

    memset(buffer_at(w, turn), 0, w->block);
    read_range_into(w, turn);
    check_those(buffer_at(w, turn), range_size(number), number - number % PAGE);
}

static void check_range(const struct work *w, size_t turn)
{
    int64_t number = offset_at(w, turn);

    read_range(w, turn);
    check_those(w->kept[turn % w->offset_count], range_size(number), number - number % PAGE);
}

static void check_read(const struct work *w, size_t turn)
{
    read_block(w, turn);
    check_bytes(w, turn);
}

static void check_whole(const struct work *w, size_t turn)
{
    memset(buffer_at(w, turn), 0, w->block);
    read_whole(w, turn);
    check_bytes(w, turn);
}

static void check_locked(const struct work *w, size_t turn)
{
    memset(buffer_at(w, turn), 0, w->block);
    read_locked(w, turn);
    check_bytes(w, turn);
}

static void check_write(const struct work *w, size_t turn)
{
    char *back = NULL;

    if (posix_memalign((void **)&back, PAGE, w->block))
        die("posix_memalign");
    write_block(w, turn);
    if (pread(w->fd, back, w->block, offset_at(w, turn)) != (ssize_t)w->block)
        die("pread");
    if (memcmp(back, buffer_at(w, turn), w->block))
        die("read back other bytes than were written");
    free(back);
}

/* Checks a read of what was written before, also at the offset of a read. */
static void check_mixed(const struct work *w, size_t turn)
{
    int64_t offset = offset_at(w, turn), at = offset < 0 ? ~offset : offset;
    char *buffer = buffer_at(w, turn), *expected = NULL;

    if (posix_memalign((void **)&expected, PAGE, w->block))
        die("posix_memalign");
    memset(expected, 'd', w->block);
    if (pwrite(w->fd, offset < 0 ? expected : buffer, w->block, at) != (ssize_t)w->block)
        die("pwrite");
    read_or_write_block(w, turn);
    if (pread(w->fd, expected, w->block, at) != (ssize_t)w->block)
        die("pread");
    if (memcmp(expected, buffer, w->block))
        die("moved other bytes than it should");
    free(expected);
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

static char **name_files(const struct work *w)
{
    char **paths = malloc(w->offset_count * sizeof *paths);

    for (size_t i = 0; paths && i < w->offset_count; i++)
        if (asprintf(&paths[i], "%s.%lld", w->path, (long long)w->offsets[i]) < 0)
            die("asprintf");
    if (!paths)
        die("malloc");
    return paths;
}

static enum state state_named(const char *name)
{
    return !strcmp(name, "cold") ? COLD : !strcmp(name, "direct") ? DIRECT : CACHED;
}

static void make_buffers(struct work *w)
{
    w->buffer_room = (w->shift + w->block + PAGE - 1) / PAGE * PAGE;
    if (posix_memalign((void **)&w->buffers, PAGE, w->buffer_room * w->buffer_count))
        die("posix_memalign");
    memset(w->buffers, 'c', w->buffer_room * w->buffer_count);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        operation *operate, *check;
        size_t every;
        int flags;
    } operations[] = {
        {"read", read_block, check_read, CLOCK_EVERY, O_RDONLY},
        {"write", write_block, check_write, CLOCK_EVERY, O_RDWR},
        {"mixed", read_or_write_block, check_mixed, CLOCK_EVERY, O_RDWR},
        {"open", open_lock_close, open_lock_close, CLOCK_EVERY, O_RDONLY},
        {"replace", replace_file, check_replaced, SLOW_EVERY, O_RDONLY},
        {"whole", read_whole, check_whole, CLOCK_EVERY, O_RDONLY},
        {"locked", read_locked, check_locked, CLOCK_EVERY, O_RDONLY},
        {"ranges", read_range, check_range, CLOCK_EVERY, O_RDONLY},
        {"ranges_into", read_range_into, check_range_into, CLOCK_EVERY, O_RDONLY},
    };
    size_t chosen = 0, known = sizeof operations / sizeof *operations;

    while (argc == 11 && chosen < known && strcmp(operations[chosen].name, argv[1]))
        chosen++;
    if (argc != 11 || chosen == known) {
        fprintf(stderr, "usage: floor read|write|mixed|open|replace|whole|locked|ranges|ranges_into FILE OFFSETS "
                        "BLOCK BUFFERS SHIFT cached|cold|direct SECONDS COUNT VERIFY\n");
        return 2;
    }

    enum state state = state_named(argv[7]);
    struct work w = {
        .path = argv[2],
        .fd = open(argv[2], operations[chosen].flags | O_CLOEXEC | (state == DIRECT ? O_DIRECT : 0)),
        .directory = open_directory(argv[2]),
        .block = strtoull(argv[4], NULL, 10),
        .buffer_count = strtoull(argv[5], NULL, 10),
        .shift = strtoull(argv[6], NULL, 10),
        .state = state,
        .seconds = strtod(argv[8], NULL),
        .count = strtoull(argv[9], NULL, 10),
    };
    w.offsets = load_offsets(argv[3], &w.offset_count);
    if (w.fd < 0)
        die(w.path);
    make_buffers(&w);
    w.paths = name_files(&w);
    w.kept = calloc(w.offset_count, sizeof *w.kept);
    if (!w.kept)
        die("calloc");

    time_whole(&w, operations[chosen].operate, at_once(&w, operations[chosen].every));
    time_each(&w, operations[chosen].operate);
    for (size_t turn = 0; *argv[10] == '1' && turn < CHECKED; turn++)
        operations[chosen].check(&w, turn);
    printf("}\n");
    return 0;
}
