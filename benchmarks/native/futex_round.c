/*
 * futex_round.c - many processes hand a turn round by futexes: the floor of hand_round.c.
 *
 * Usage: futex_round PROCESSES ROUNDS
 *
 * Each process sleeps on a futex word of its own in shared memory. When it is woken, it notes how long ago the one before
 * it began to hand over, and wakes the next one, ROUNDS times. Prints the same as hand_round.c.
 */
#define _GNU_SOURCE
#include <err.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* A word alone in its cache line. */
struct word {
    _Alignas(64) _Atomic uint32_t turns; /* how many its process was given */
};

static struct shared {
    long count;
    int64_t handing;
    int64_t *times;
    _Atomic long ready;
    struct word words[];
} *shared;

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

static void *map_shared(size_t size)
{
    void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED)
        err(1, "no memory");
    return map;
}

static void hand_to(struct word *word)
{
    shared->handing = now();
    atomic_fetch_add(&word->turns, 1);
    syscall(SYS_futex, &word->turns, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static void take_turns(long number, long processes, long rounds)
{
    struct word *own = &shared->words[number], *next = &shared->words[(number + 1) % processes];
    atomic_fetch_add(&shared->ready, 1);
    for (long round = 0; round < rounds; round++) {
        while (atomic_load(&own->turns) == (uint32_t)round)
            syscall(SYS_futex, &own->turns, FUTEX_WAIT, (uint32_t)round, NULL, NULL, 0);
        shared->times[shared->count++] = now() - shared->handing;
        hand_to(next);
    }
}

static int by_size(const void *a, const void *b)
{
    int64_t first = *(const int64_t *)a, second = *(const int64_t *)b;
    return (first > second) - (first < second);
}

int main(int argc, char **argv)
{
    if (argc != 3)
        errx(2, "usage: futex_round PROCESSES ROUNDS");
    long processes = atol(argv[1]), rounds = atol(argv[2]), turns = processes * rounds, failed = 0;
    shared = map_shared(sizeof *shared + (size_t)processes * sizeof shared->words[0]);
    shared->times = map_shared((size_t)turns * sizeof shared->times[0]);
    for (long i = 0; i < processes; i++) {
        if (fork() == 0) {
            take_turns(i, processes, rounds);
            _exit(0);
        }
    }
    while (atomic_load(&shared->ready) < processes)
        usleep(10000);
    usleep(50000); /* and they sleep */
    int64_t began = now();
    hand_to(&shared->words[0]);
    for (int status; wait(&status) > 0;)
        failed += status != 0;
    int64_t took = now() - began;
    struct rusage usage;
    getrusage(RUSAGE_CHILDREN, &usage);
    double cpu = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                 (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    qsort(shared->times, (size_t)turns, sizeof shared->times[0], by_size);
    printf("%ld hand-overs in %.2f s (processor time %.2f s): median %.0f us, worst %.1f ms; 0 passed over\n", turns,
           (double)took / 1e9, cpu, (double)shared->times[turns / 2] / 1e3, (double)shared->times[turns - 1] / 1e6);
    return failed || shared->count != turns;
}
