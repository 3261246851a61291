/*
 * headless.c - a program whose main thread has left by pthread_exit.
 *
 * A process ends, as if by exit(0), when its last thread does: ours would never let it come to that. So where the
 * main thread has left, an idle caller looks now and then whether any thread but ours is there. Requests in flight
 * keep the process, because their ends may start threads of the program's (SIGEV_THREAD); meanwhile nobody is there
 * who could take a signal, and the caller lets in those that are meant to end a process and do.
 *
 * Threads are counted in /proc. Ours are known under the engine lock: one that starts is no match until it runs, one
 * that ends is not counted by us before the kernel has done with it, so a thread of the program's is never overlooked.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

static struct {
    pthread_key_t key; /* its destructor runs when the main thread leaves, not when the process ends */
    _Atomic bool left;
    unsigned matches; /* looks in a row that found no thread but ours; engine lock */
} headless;

bool headless_now(void)
{
    return atomic_load_explicit(&headless.left, memory_order_relaxed);
}

/* ---- threads --------------------------------------------------------------------------------------------- */

/* A thread of somebody's: not one that has ended, as the main thread has, nor one of io_uring's in the kernel. */
static bool counts(int tasks, const char *name)
{
    enum { SIZE = 256 };
    char path[SIZE + sizeof "/stat"], text[SIZE] = "";
    snprintf(path, sizeof path, "%s/stat", name);
    int fd = aiofs_sys.openat(tasks, path, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return true;
    aiofs_sys.read(fd, text, sizeof text - 1);
    aiofs_sys.close(fd);
    const char *command = strchr(text, '('), *state = strrchr(text, ')');
    return !command || !state || (state[1] == ' ' && !strchr("ZX", state[2]) && strncmp(command, "(iou-", 5) != 0);
}

/* How many threads there are; negative: it cannot be told. */
static int count_threads(void)
{
    _Alignas(struct dirent64) char entries[4096];
    int tasks = aiofs_sys.openat(AT_FDCWD, "/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0), count = 0;
    ssize_t size;
    if (tasks < 0)
        return tasks;
    while ((size = aiofs_sys.getdents64(tasks, entries, sizeof entries)) > 0) {
        const struct dirent64 *entry;
        for (ssize_t at = 0; at < size; at += entry->d_reclen) {
            entry = (const void *)(entries + at);
            count += entry->d_name[0] != '.' && counts(tasks, entry->d_name);
        }
    }
    aiofs_sys.close(tasks);
    return size < 0 ? (int)size : count;
}

/* No handler of the program's runs on a thread of ours. */
static void let_in(bool in)
{
    static const int enders[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT};
    struct sigaction action;
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof enders / sizeof *enders; i++)
        if (!in || (sigaction(enders[i], NULL, &action) == 0 && action.sa_handler == SIG_DFL))
            sigaddset(&set, enders[i]);
    pthread_sigmask(in ? SIG_UNBLOCK : SIG_BLOCK, &set, NULL);
}

static void end_program(struct aiofs_job *job)
{
    (void)job;
    exit(0);
}

/* More than one look: a thread that is just being started is in no listing. */
void headless_look(unsigned ours)
{
    enum { LOOKS = 2 };
    static struct aiofs_job end = {.run = end_program}; /* as a job: what exit runs may need a caller */
    pthread_mutex_unlock(&engine.lock);
    int threads = count_threads();
    bool alone = threads >= 0 && (unsigned)threads <= ours;
    let_in(alone);
    bool over = alone && atomic_load(&engine.alive) == 0;
    pthread_mutex_lock(&engine.lock);
    headless.matches = over ? headless.matches + 1 : 0;
    if (headless.matches == LOOKS)
        callers_add(&end);
}

/* ---- the main thread -------------------------------------------------------------------------------------- */

static void main_leaves(void *value)
{
    (void)value;
    atomic_store(&headless.left, true);
    callers_wake();
}

static void know_main(void)
{
    atomic_store(&headless.left, false);
    headless.matches = 0;
    if (getpid() == gettid())
        pthread_setspecific(headless.key, &headless);
}

__attribute__((constructor)) static void set_up(void)
{
    if (pthread_key_create(&headless.key, main_leaves) != 0)
        return;
    know_main();
    pthread_atfork(NULL, NULL, know_main);
}
