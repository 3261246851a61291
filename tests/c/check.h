/*
 * check.h - what the engine's C tests share: checks, bounded time, requests that clean up behind themselves.
 *
 * A test program prints a line for each check and exits with 1 if one failed, 77 if the engine that
 * AIOFS_ENGINE demands cannot be had here. It never hangs: alarm() ends it. A request lives in memory of its
 * own, given back by `destroy`, so that a sanitizer sees it used too late.
 */
#ifndef CHECK_H
#define CHECK_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
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
#include <unistd.h>

#include "engine.h"

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

__attribute__((format(printf, 5, 6))) static bool check_that(bool good, const char *condition, const char *file, int line,
                                                             const char *format, ...)
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

/* First in main. */
static void check_begin(unsigned seconds)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    alarm(SANITIZED ? 3 * seconds : seconds);
}

static UNUSED void check_engine(void)
{
    if (aiofs_engine_start() < 0) {
        printf("skip  this kernel refuses the engine\n");
        exit(77);
    }
}

static int check_end(void)
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

/* Descriptors of the engine's table: those of the thread that is called "aiofs". -1: it shares the program's. */
static UNUSED int engine_descriptors(void)
{
    int count = -1;
    DIR *tasks = opendir("/proc/self/task");
    struct dirent *task;
    while ((task = readdir(tasks))) {
        char path[300], name[32] = "";
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", task->d_name);
        FILE *comm = fopen(path, "r");
        if (!comm)
            continue;
        if (!fgets(name, sizeof name, comm))
            name[0] = 0;
        fclose(comm);
        if (strcmp(name, "aiofs\n") != 0)
            continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/fd", task->d_name);
        DIR *descriptors = opendir(path);
        for (count = -2; descriptors && readdir(descriptors);)
            count++;
        if (descriptors)
            closedir(descriptors);
    }
    closedir(tasks);
    return count;
}

/* ---- requests ---------------------------------------------------------------------------------------------- */

struct op {
    aiofs_request request;
    void (*at_end)(struct op *);
    void *note;
    int order; /* the how-manieth end it was */
    _Atomic int ends;
};

static _Atomic int ops_alive, ops_ended;

static UNUSED void op_done(aiofs_request *request)
{
    struct op *op = (struct op *)request;
    op->order = atomic_fetch_add(&ops_ended, 1);
    if (op->at_end)
        op->at_end(op);
    atomic_fetch_add(&op->ends, 1);
}

static UNUSED void op_destroy(aiofs_request *request)
{
    free(request);
    atomic_fetch_sub(&ops_alive, 1);
}

static UNUSED struct op *op_new(int kind, int fd, const void *buffer, size_t size, int64_t offset)
{
    struct op *op = calloc(1, sizeof *op);
    aiofs_request_init(&op->request);
    op->request.op = kind;
    op->request.fd = fd;
    op->request.single = (struct iovec){(void *)buffer, size};
    op->request.iov = &op->request.single;
    op->request.iovcnt = 1;
    op->request.offset = offset;
    op->request.done = op_done;
    op->request.destroy = op_destroy;
    atomic_fetch_add(&ops_alive, 1);
    return op;
}

static UNUSED void op_drop(struct op *op)
{
    aiofs_request_release(&op->request);
}

static UNUSED bool op_ended(const struct op *op)
{
    return aiofs_request_terminal(&op->request);
}

/* Waits until it is terminal, at most `seconds`; whether it is. */
static UNUSED bool op_wait_for(struct op *op, double seconds)
{
    aiofs_request *const list[] = {&op->request};
    double end = now() + seconds;
    for (double left = seconds; left > 0; left = end - now()) {
        const struct timespec timeout = {(time_t)left, (long)((left - (double)(time_t)left) * 1e9)};
        if (aiofs_wait(list, 1, &timeout) == 0)
            return true;
    }
    return op_ended(op);
}

#define NOT_ENDED (-100000)

/* Its result, once it is terminal; NOT_ENDED if it is not within ten seconds. */
static UNUSED int64_t op_result(struct op *op)
{
    return op_wait_for(op, 10) ? op->request.result : NOT_ENDED;
}

/* The same, once `done` has run, too. */
static UNUSED int64_t op_told(struct op *op)
{
    int64_t result = op_result(op);
    return EVENTUALLY(10, op->ends) ? result : NOT_ENDED;
}

/* The same as op_result, and gives it back. */
static UNUSED int64_t op_finish(struct op *op)
{
    int64_t result = op_result(op);
    if (result != NOT_ENDED)
        op_drop(op);
    return result;
}

static UNUSED struct op *start_on(aiofs_file *file, int kind, int fd, const void *buffer, size_t size, int64_t offset)
{
    struct op *op = op_new(kind, fd, buffer, size, offset);
    int error = aiofs_submit(&op->request, file);
    if (error < 0) {
        printf("FAIL  submit said %s\n", strerror(-error));
        exit(1);
    }
    return op;
}

static UNUSED struct op *start(int kind, int fd, const void *buffer, size_t size, int64_t offset)
{
    return start_on(NULL, kind, fd, buffer, size, offset);
}

/* One request from its start to its end. */
static UNUSED int64_t perform(int kind, int fd, const void *buffer, size_t size, int64_t offset)
{
    return op_finish(start(kind, fd, buffer, size, offset));
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

static UNUSED uint64_t outstanding(void)
{
    struct aiofs_counters counters;
    aiofs_engine_counters(&counters);
    return counters.outstanding;
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
