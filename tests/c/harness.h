/*
 * harness.h - what every C program of the tests shares: checks, bounded time, scratch files. It knows nothing of
 * aiofs.
 *
 * A program prints a line for each check and exits with 1 if one failed, 77 if what it tests cannot be had here.
 * It never hangs: alarm() ends it.
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
enum { SANITIZED = 1 }; /* memory and time are not what they are otherwise */
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
    return "atexit_sleep_ms=0"; /* a second for each of many children otherwise */
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

/* Seconds: what happens at all happens long before, on the slowest machine. */
#define PATIENCE 30

/* First in main. It may take `seconds` on a machine with nothing else to do. */
static UNUSED void check_begin(unsigned seconds)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    alarm(10 * seconds);
}

/* Where chance begins: at $SEED, or where it always does. Told, so that whatever came of it can be repeated. */
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

/* For what a test stands on and does not test. */
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

/* Until the condition holds, at most `seconds`; whether it did. */
#define EVENTUALLY(seconds, condition)                                                                                  \
    ({                                                                                                                  \
        double end_ = now() + (seconds);                                                                                \
        bool holds_;                                                                                                    \
        while (!(holds_ = (condition)) && now() < end_)                                                                 \
            pause_ms(1);                                                                                                \
        holds_;                                                                                                         \
    })

/* ---- files ------------------------------------------------------------------------------------------------ */

/* A nameless file in `directory` ($TMPDIR or /tmp if NULL), opened anew with `flags`; -1: these flags are refused. */
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

/* Descriptors of the program's table. */
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

/* Whether the file's bytes at `offset` are these, by the program's own read. */
static UNUSED bool holds(int fd, const void *bytes, size_t size, off_t offset)
{
    char *found = malloc(size + 1);
    ssize_t got = pread(fd, found, size, offset);
    bool same = got == (ssize_t)size && memcmp(found, bytes, size) == 0;
    free(found);
    return same;
}

/* A signal handler that does as little as can be. */
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
