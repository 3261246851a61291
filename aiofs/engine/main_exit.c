/*
 * main_exit.c - programs whose main thread calls pthread_exit.
 *
 * A process exits, as by exit(0), when its last thread exits. The engine's threads never exit, so such a process would
 * stay for ever. Therefore, after the main thread has exited, the reactor checks from time to time whether any thread
 * except the engine's is left, and if none is, a host thread calls exit(0). Requests in flight keep the process alive,
 * because their completions may start threads of the program (SIGEV_THREAD). During that time no thread accepts
 * signals, as the engine's threads block all of them. So at each check that finds only the engine's threads, the
 * reactor unblocks, for an instant, those signals that end a process and have their default action.
 *
 * The cost for a program whose main thread does not do this: one thread-specific key and one fork handler at load time,
 * and one relaxed load of `left` per turn of the reactor. The key's destructor sets `left` when the main thread exits.
 * Before that no thread is counted and no file is opened.
 *
 * The reactor counts the threads in /proc/self/task, with descriptors of the engine's table. The engine lock guards the
 * number of the engine's own threads. If one of them starts or exits during a check, the check has no result. So a
 * thread of the program is never overlooked.
 *
 * Locking. Only the reactor uses the fields here, except `left`, which is atomic.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

enum { SOON_MS = 10, ALONE_MS = 50, SELDOM_MS = 1000 };

static struct {
    pthread_key_t key; /* its destructor runs when the main thread calls pthread_exit, not when the process exits */
    _Atomic bool left; /* the main thread has exited */
    /* Only the reactor uses these. */
    int64_t next; /* time of the next check */
    int pause_ms;
    unsigned matches; /* checks in a row that found only threads of the engine, and no request */
} main_exit;

/* ---- threads --------------------------------------------------------------------------------------------- */

/* Is it a running thread of user space? A thread that has exited, as the main thread has, is a zombie; io_uring's
 * workers are kernel threads. */
static bool counts(int tasks, const char *name)
{
    enum { SIZE = 256, PF_IO_WORKER = 0x10 };
    char path[SIZE + sizeof "/stat"], text[SIZE] = "", state = 0;
    unsigned flags = 0;
    snprintf(path, sizeof path, "%s/stat", name);
    int fd = aiofs_sys.openat(tasks, path, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return true;
    aiofs_sys.read(fd, text, sizeof text - 1);
    aiofs_sys.close(fd);
    const char *behind_name = strrchr(text, ')');
    if (!behind_name || sscanf(behind_name + 1, " %c %*d %*d %*d %*d %*d %u", &state, &flags) != 2)
        return true;
    return state != 'Z' && state != 'X' && !(flags & PF_IO_WORKER);
}

/* Has the process more than `most` threads? True also if /proc cannot be read. */
static bool are_more_than(unsigned most)
{
    _Alignas(struct aiofs_dirent) char entries[4096];
    int tasks = aiofs_sys.openat(AT_FDCWD, "/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    unsigned count = 0;
    ssize_t size = tasks;
    while (tasks >= 0 && count <= most && (size = aiofs_sys.getdents64(tasks, entries, sizeof entries)) > 0) {
        const struct aiofs_dirent *entry;
        for (ssize_t at = 0; at < size && count <= most; at += entry->size) {
            entry = (const void *)(entries + at);
            count += entry->name[0] != '.' && counts(tasks, entry->name);
        }
    }
    if (tasks >= 0)
        aiofs_sys.close(tasks);
    return size < 0 || count > most;
}

/* ---- checking -------------------------------------------------------------------------------------------- */

/* Unblocks for an instant the signals whose default action ends the process: a pending one ends it here. Signals with a
 * handler stay blocked, because no handler of the program may run on a thread of the engine. */
static void deliver_fatal_signals(void)
{
    static const int fatal[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGALRM, SIGXCPU};
    struct sigaction action;
    sigset_t set, before;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++)
        if (sigaction(fatal[i], NULL, &action) == 0 && action.sa_handler == SIG_DFL)
            sigaddset(&set, fatal[i]);
    pthread_sigmask(SIG_UNBLOCK, &set, &before);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void end_program(struct aiofs_job *job)
{
    (void)job;
    exit(0);
}

/* True: only threads of the engine exist, and none started or exited during the check. */
static bool is_alone(void)
{
    pthread_mutex_lock(&engine.lock);
    unsigned long changes = engine.thread_changes;
    unsigned ours = (unsigned)engine.counters.workers + 1; /* the reactor, this one */
    bool idle = host_threads_are_idle() && !pool_is_starting();
    pthread_mutex_unlock(&engine.lock);
    if (!idle || are_more_than(ours))
        return false;
    pthread_mutex_lock(&engine.lock);
    idle = host_threads_are_idle() && changes == engine.thread_changes;
    pthread_mutex_unlock(&engine.lock);
    return idle;
}

static void check(void)
{
    enum { LOOKS = 2 };
    static struct aiofs_job end = {.run = end_program}; /* on a host thread, because exit handlers use descriptors */
    bool alone = is_alone();
    if (alone)
        deliver_fatal_signals();
    main_exit.matches = alone && atomic_load(&engine.alive) == 0 ? main_exit.matches + 1 : 0;
    main_exit.pause_ms = alone ? ALONE_MS : main_exit.pause_ms < SELDOM_MS / 2 ? main_exit.pause_ms * 2 : SELDOM_MS;
    if (main_exit.matches != LOOKS)
        return;
    pthread_mutex_lock(&engine.lock);
    host_threads_add(&end);
    pthread_mutex_unlock(&engine.lock);
}

int main_exit_watch(void)
{
    enum { MS = 1000000 };
    if (!atomic_load_explicit(&main_exit.left, memory_order_relaxed))
        return -1;
    int64_t now = aiofs_now();
    if (now >= main_exit.next) {
        check();
        now = aiofs_now();
        main_exit.next = now + main_exit.pause_ms * (int64_t)MS;
    }
    return (int)((main_exit.next - now) / MS) + 1;
}

/* ---- the main thread -------------------------------------------------------------------------------------- */

static void main_leaves(void *value)
{
    (void)value;
    atomic_store(&main_exit.left, true);
    engine_wake();
}

static void know_main(void)
{
    atomic_store(&main_exit.left, false);
    main_exit.next = 0;
    main_exit.matches = 0;
    main_exit.pause_ms = SOON_MS;
    if (getpid() == gettid())
        pthread_setspecific(main_exit.key, &main_exit);
}

__attribute__((constructor)) static void set_up(void)
{
    if (pthread_key_create(&main_exit.key, main_leaves) != 0)
        return;
    know_main();
    pthread_atfork(NULL, NULL, know_main);
}
