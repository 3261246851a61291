/*
 * main_exit.c - a program whose main thread has left by pthread_exit.
 *
 * A process ends, as if by exit(0), when its last thread does: ours would never let it come to that. So where the
 * main thread has left, the reactor looks now and then whether any thread but ours is there. Requests in flight keep
 * the process, because their ends may start threads of the program's (SIGEV_THREAD); meanwhile nobody is there who
 * could take a signal, and those that are meant to end a process, and do, are let in for an instant at each look.
 *
 * A program whose main thread never does this pays for none of it: one key with a destructor and one fork handler
 * when the library is loaded, and at each turn of the reactor one relaxed load, which finds `left` unset. No thread is
 * counted and no file opened before the destructor has run.
 *
 * Threads are counted in /proc, by descriptors of the engine's table. Ours are known under the engine lock; if one
 * starts or ends during a look, the look says nothing. So a thread of the program's is never overlooked.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

enum { SOON_MS = 10, ALONE_MS = 50, SELDOM_MS = 1000 };

static struct {
    pthread_key_t key; /* its destructor runs when the main thread leaves, not when the process ends */
    _Atomic bool left;
    /* The reactor's. */
    int64_t next; /* when to look */
    int pause_ms;
    unsigned matches; /* looks in a row that found no thread but ours, and nothing to do */
} main_exit;

/* ---- threads --------------------------------------------------------------------------------------------- */

/* A thread of somebody's: not one that has ended, as the main thread has, nor one of io_uring's in the kernel. */
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

/* Are there more threads than so many? If it cannot be told, there are. */
static bool are_more_than(unsigned most)
{
    _Alignas(struct dirent64) char entries[4096];
    int tasks = aiofs_sys.openat(AT_FDCWD, "/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    unsigned count = 0;
    ssize_t size = tasks;
    while (tasks >= 0 && count <= most && (size = aiofs_sys.getdents64(tasks, entries, sizeof entries)) > 0) {
        const struct dirent64 *entry;
        for (ssize_t at = 0; at < size && count <= most; at += entry->d_reclen) {
            entry = (const void *)(entries + at);
            count += entry->d_name[0] != '.' && counts(tasks, entry->d_name);
        }
    }
    if (tasks >= 0)
        aiofs_sys.close(tasks);
    return size < 0 || count > most;
}

/* ---- looking --------------------------------------------------------------------------------------------- */

/* What has come and would end the process ends it here. No handler of the program's runs on a thread of ours. */
static void let_enders_in(void)
{
    static const int enders[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGALRM, SIGXCPU};
    struct sigaction action;
    sigset_t set, before;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof enders / sizeof *enders; i++)
        if (sigaction(enders[i], NULL, &action) == 0 && action.sa_handler == SIG_DFL)
            sigaddset(&set, enders[i]);
    pthread_sigmask(SIG_UNBLOCK, &set, &before);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void end_program(struct aiofs_job *job)
{
    (void)job;
    exit(0);
}

/* True: no thread but ours is there, nor was one during the look. */
static bool is_alone(void)
{
    pthread_mutex_lock(&engine.lock);
    unsigned long changes = engine.thread_changes;
    unsigned ours = (unsigned)engine.counters.workers + 1; /* the reactor, this one */
    bool settled = host_threads_are_idle() && !pool_is_starting();
    pthread_mutex_unlock(&engine.lock);
    if (!settled || are_more_than(ours))
        return false;
    pthread_mutex_lock(&engine.lock);
    settled = host_threads_are_idle() && changes == engine.thread_changes;
    pthread_mutex_unlock(&engine.lock);
    return settled;
}

static void look(void)
{
    enum { LOOKS = 2 };
    static struct aiofs_job end = {.run = end_program}; /* a host thread's: on the program's table, and not the reactor */
    bool alone = is_alone();
    if (alone)
        let_enders_in();
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
        look();
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
