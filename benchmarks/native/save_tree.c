/*
 * save_tree.c - measures the floor of saving a tree of files, each atomically and durably, by threads.
 *
 *     save_tree SOURCE TARGET COUNT PER_FOLDER BLOCK THREADS
 *
 * Reads SOURCE/DIRECTORY/NUMBER, a file of BLOCK bytes, and saves it as TARGET/DIRECTORY/NUMBER: a new file, write,
 * fsync, rename, fsync of the directory. There are COUNT files, PER_FOLDER in each directory. The directories of TARGET
 * are made by the program, which is measured too. Prints a line of JSON: seconds per file, elapsed and of CPU.
 *
 * The threads share only `next`, the number of the next file.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static struct {
    const char *source, *target;
    long count, per_folder;
    size_t block;
    atomic_long next;
} work;

static void die(const char *what)
{
    fprintf(stderr, "save_tree: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double seconds_of(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void load(const char *path, char *buffer)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || read(fd, buffer, work.block) != (ssize_t)work.block)
        die(path);
    close(fd);
}

static void save(const char *directory, const char *path, const char *buffer)
{
    char fresh[4096];

    snprintf(fresh, sizeof fresh, "%s.new", path);
    int fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0 || write(fd, buffer, work.block) != (ssize_t)work.block || fsync(fd) || close(fd) ||
        rename(fresh, path))
        die(fresh);
    fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd))
        die(directory);
    close(fd);
}

static void *save_files(void *buffer)
{
    char source[2048], directory[2048], target[2100];

    for (long number; (number = atomic_fetch_add(&work.next, 1)) < work.count;) {
        long folder = number / work.per_folder, name = number % work.per_folder;
        snprintf(source, sizeof source, "%s/%ld/%ld", work.source, folder, name);
        snprintf(directory, sizeof directory, "%s/%ld", work.target, folder);
        snprintf(target, sizeof target, "%s/%ld", directory, name);
        load(source, buffer);
        save(directory, target, buffer);
    }
    return NULL;
}

static void make_directories(void)
{
    char directory[2048];

    if (mkdir(work.target, 0777))
        die(work.target);
    for (long folder = 0; folder * work.per_folder < work.count; folder++) {
        snprintf(directory, sizeof directory, "%s/%ld", work.target, folder);
        if (mkdir(directory, 0777))
            die(directory);
    }
}

int main(int argc, char **argv)
{
    if (argc != 7) {
        fprintf(stderr, "usage: save_tree SOURCE TARGET COUNT PER_FOLDER BLOCK THREADS\n");
        return 2;
    }
    work.source = argv[1];
    work.target = argv[2];
    work.count = atol(argv[3]);
    work.per_folder = atol(argv[4]);
    work.block = strtoull(argv[5], NULL, 10);
    int threads = atoi(argv[6]);
    pthread_t *started = calloc((size_t)threads, sizeof *started);
    char *buffers = malloc((size_t)threads * work.block);
    if (!started || !buffers)
        die("malloc");

    double start = seconds_of(CLOCK_MONOTONIC);
    make_directories();
    for (int i = 0; i < threads; i++)
        if ((errno = pthread_create(&started[i], NULL, save_files, buffers + (size_t)i * work.block)))
            die("pthread_create");
    for (int i = 0; i < threads; i++)
        pthread_join(started[i], NULL);
    printf("{\"time\": %.6g, \"cpu\": %.6g}\n", (seconds_of(CLOCK_MONOTONIC) - start) / (double)work.count,
           seconds_of(CLOCK_PROCESS_CPUTIME_ID) / (double)work.count);
    return 0;
}
