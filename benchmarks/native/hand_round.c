/*
 * hand_round.c - many processes hand one locked file round.
 *
 * Usage: hand_round VOLUME PROCESSES ROUNDS
 *
 * Each process opens the file with aiofs_open_wait, notes how long ago the one before it began to close it, and closes
 * it, ROUNDS times. Prints the hand-overs, their median and worst time, the processor time of all processes, and how
 * many turns came after more than five rounds of all others: 0, because the queue is fair. (The rounds also count while a
 * process has no processor before it is in the queue.)
 */
#define _GNU_SOURCE
#include <aiofs.h>
#include <err.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct shared {
    _Atomic long turns, passed_over;
    int64_t closing;
    int64_t times[];
} *shared;

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

static void take_turns(const char *volume, long processes, long rounds)
{
    for (long round = 0; round < rounds; round++) {
        long before = shared->turns;
        int fd = aiofs_open_wait(volume, "turn", O_RDWR | O_CREAT, 0666, AIOFS_MODE_IN_PLACE, NULL);
        if (fd < 0)
            err(1, "cannot open");
        long turn = shared->turns++;
        shared->times[turn] = now() - shared->closing;
        shared->passed_over += turn - before > 5 * processes;
        shared->closing = now();
        if (aiofs_close(fd) < 0)
            err(1, "cannot close");
    }
}

static int by_size(const void *a, const void *b)
{
    int64_t first = *(const int64_t *)a, second = *(const int64_t *)b;
    return (first > second) - (first < second);
}

int main(int argc, char **argv)
{
    if (argc != 4)
        errx(2, "usage: hand_round VOLUME PROCESSES ROUNDS");
    long processes = atol(argv[2]), rounds = atol(argv[3]), turns = processes * rounds, failed = 0;
    size_t size = sizeof *shared + (size_t)turns * sizeof shared->times[0];
    shared = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        err(1, "no memory");
    int first = aiofs_open_wait(argv[1], "turn", O_RDWR | O_CREAT, 0666, AIOFS_MODE_IN_PLACE, NULL);
    if (first < 0)
        err(1, "cannot open");
    for (long i = 0; i < processes; i++) {
        if (fork() == 0) {
            take_turns(argv[1], processes, rounds);
            _exit(0);
        }
    }
    for (ssize_t waiting = -1; waiting < processes + 1;) { /* all of them, and this process's own lock */
        struct aiofs_lock_info *locks;
        usleep(10000);
        waiting = aiofs_locks(argv[1], &locks);
        if (waiting >= 0)
            aiofs_locks_free(locks, waiting);
    }
    shared->closing = now();
    int64_t began = now();
    aiofs_close(first);
    for (int status; wait(&status) > 0;)
        failed += status != 0;
    int64_t took = now() - began;
    struct rusage usage;
    getrusage(RUSAGE_CHILDREN, &usage);
    double cpu = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                 (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    qsort(shared->times, (size_t)turns, sizeof shared->times[0], by_size);
    printf("%ld hand-overs in %.2f s (processor time %.2f s): median %.0f us, worst %.1f ms; %ld passed over\n",
           shared->turns, (double)took / 1e9, cpu, (double)shared->times[turns / 2] / 1e3,
           (double)shared->times[turns - 1] / 1e6, shared->passed_over);
    return failed || shared->passed_over || shared->turns != turns;
}
