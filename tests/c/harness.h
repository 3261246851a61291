/*
 * harness.h - what all C programs of the tests share: checks, time limits, scratch files. It does not use aiofs.
 *
 * A program prints a line for each check. It exits with 1 if a check failed, and with 77 if this machine does not have
 * what it tests. alarm() ends a program that hangs.
 */
#ifndef HARNESS_H
#define HARNESS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define UNUSED __attribute__((unused))
#define COUNT_OF(array) (sizeof(array) / sizeof *(array))
#define KB ((size_t)1024)
#define MB (1024 * KB)

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
enum { SANITIZED = 1 }; /* sanitizers need more memory and time */
#else
enum { SANITIZED = 0 };
#endif
#if defined(__SANITIZE_THREAD__)
enum { CAN_FORK_WITH_THREADS = 0, SIGNALS_COALESCE = 1 };
#else
enum { CAN_FORK_WITH_THREADS = 1, SIGNALS_COALESCE = 0 };
#endif

#if defined(__SANITIZE_THREAD__)
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return "atexit_sleep_ms=0"; /* by default ThreadSanitizer sleeps for a second at each exit */
}
#endif

static int check_failures;

#define CHECK(condition, ...) check_that((condition), #condition, __FILE__, __LINE__, __VA_ARGS__)

__attribute__((format(printf, 5, 6))) static UNUSED bool check_that(bool good, const char *condition, const char *file,
                                                                    int line, const char *format, ...)
{
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (good) {
        printf("ok    %s\n", text);
    } else {
        printf("FAIL  %s (%s:%d: %s)\n", text, file, line, condition);
        __atomic_fetch_add(&check_failures, 1, __ATOMIC_RELAXED);
    }
    return good;
}

/* Seconds: longer than anything takes, on the slowest machine. */
#define PATIENCE 30

/* Call it first in main. `seconds`: how long the program may take on an idle machine. */
static UNUSED void check_begin(unsigned seconds)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    alarm(10 * seconds);
}

/* The seed of a random test: $SEED, or `usual`. Prints it, so that a run can be repeated. */
static UNUSED unsigned chance(unsigned usual)
{
    const char *chosen = getenv("SEED");
    unsigned seed = chosen ? (unsigned)strtoul(chosen, NULL, 0) : usual;
    printf("SEED=%u\n", seed);
    return seed;
}

static UNUSED int check_end(void)
{
    printf("%s\n", check_failures ? "FAILED" : "passed");
    return check_failures != 0;
}

/* For calls that a test needs and does not test: exits if they fail. */
#define MUST(call)                                                                                                      \
    ({                                                                                                                  \
        long must_ = (long)(call);                                                                                      \
        if (must_ == -1) {                                                                                              \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, strerror(errno));                             \
            exit(1);                                                                                                    \
        }                                                                                                               \
        must_;                                                                                                          \
    })

/* ---- time ------------------------------------------------------------------------------------------------ */

static UNUSED double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static UNUSED void pause_ms(long ms)
{
    struct timespec left = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&left, &left) < 0 && errno == EINTR)
        ;
}

/* Waits until the condition holds, at most `seconds`. True: it holds. */
#define EVENTUALLY(seconds, condition)                                                                                  \
    ({                                                                                                                  \
        double end_ = now() + (seconds);                                                                                \
        bool holds_;                                                                                                    \
        while (!(holds_ = (condition)) && now() < end_)                                                                 \
            pause_ms(1);                                                                                                \
        holds_;                                                                                                         \
    })

/* ---- files ------------------------------------------------------------------------------------------------ */

/* Opens an unlinked file in `directory` (NULL: $TMPDIR or /tmp) with `flags`. -1: the filesystem refuses the flags. */
static UNUSED int scratch_in(const char *directory, int flags)
{
    char path[512], link[64];
    if (!directory && !(directory = getenv("TMPDIR")))
        directory = "/tmp";
    snprintf(path, sizeof path, "%s/aiofs-c-XXXXXX", directory);
    int made = (int)MUST(mkstemp(path));
    snprintf(link, sizeof link, "/proc/self/fd/%d", made);
    int fd = open(link, flags | O_CLOEXEC);
    unlink(path);
    close(made);
    return fd;
}

static UNUSED int scratch(int flags)
{
    return scratch_in(NULL, flags);
}

static UNUSED void fill(void *buffer, size_t size, unsigned seed)
{
    unsigned char *bytes = buffer;
    for (size_t i = 0; i < size; i++)
        bytes[i] = (unsigned char)((i * 31 + (i >> 8) * 7 + seed) & 0xff);
}

static UNUSED void *aligned(size_t size)
{
    void *memory;
    if (posix_memalign(&memory, 4096, size) != 0)
        abort();
    memset(memory, 0, size);
    return memory;
}

/* The number of descriptors in the program's table. */
static UNUSED int open_descriptors(void)
{
    int count = 0;
    DIR *directory = opendir("/proc/self/fd");
    while (readdir(directory))
        count++;
    closedir(directory);
    return count - 3;
}

static UNUSED int threads_now(void)
{
    int count = 0;
    DIR *directory = opendir("/proc/self/task");
    while (readdir(directory))
        count++;
    closedir(directory);
    return count - 2;
}

/* Does the file have these bytes at `offset`? Uses pread(2). */
static UNUSED bool holds(int fd, const void *bytes, size_t size, off_t offset)
{
    char *found = malloc(size + 1);
    ssize_t got = pread(fd, found, size, offset);
    bool same = got == (ssize_t)size && memcmp(found, bytes, size) == 0;
    free(found);
    return same;
}

/* A signal handler that counts. */
static volatile sig_atomic_t signals_seen;
static UNUSED void see_signal(int signo)
{
    (void)signo;
    signals_seen++;
}

static UNUSED void handle(int signo, int flags, void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    sigemptyset(&action.sa_mask);
    MUST(sigaction(signo, &action, NULL));
}

#endif
