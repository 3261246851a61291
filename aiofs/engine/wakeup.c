/*
 * wakeup.c - wakeup fds: how `done` wakes a thread that waits in poll or epoll.
 *
 * A wakeup fd is opened for an eventfd of the program. Its open file is sent to the engine's descriptor table
 * (channel.c). Three kinds of threads notify it:
 *
 *   a thread on the engine's table    writes to the engine's number. No thread of the program can close that number.
 *   a thread on the program's table   asks the kernel (kcmp) whether the program's number still leads to the same open
 *                                     file. If so, it writes to that number.
 *   the reactor                       writes to the engine's number, if the program's number leads to another file or
 *                                     the kernel cannot compare. The notifying thread puts the wakeup fd into
 *                                     engine.wakeups.
 *
 * So the eventfd is notified also after the program has closed the number, and no other file is ever written to.
 *
 * Between kcmp and the write another thread could close the number. So the owner calls aiofs_wakeup_close before it
 * closes the number. That function waits for the threads that are between the two calls (`inside`).
 *
 * Ownership. A wakeup fd is reference-counted: its opener, each notifier, and engine.wakeups hold references. After the
 * last release a thread on the engine's table closes the engine's number. It frees the memory only if the message with
 * the descriptor was received, because that message contains the address.
 *
 * Fork. In a child, a wakeup fd of the parent is never written to; its last release frees only the memory.
 *
 * Locking. The engine lock guards engine.wakeups and `owed`. The other fields are atomic or constant.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>

#include "internal.h"

struct aiofs_wakeup {
    _Atomic int32_t refs;
    _Atomic int fd;          /* the program's number; -1: after aiofs_wakeup_close */
    _Atomic unsigned inside; /* threads that use that number now */
    _Atomic int engine_fd;   /* see channel_send */
    uint32_t generation;     /* aiofs_generation of the process that opened it */
    uint64_t owed;           /* notifications that the reactor must write; not 0: engine.wakeups has a reference */
    struct aiofs_link link;  /* link in engine.wakeups: `owed` is not 0, or the last reference was released */
};

/* ---- opening ------------------------------------------------------------------------------------------- */

static int hand_over(aiofs_wakeup *wakeup, int eventfd)
{
    int error;
    pthread_mutex_lock(&engine.lock);
    while ((error = channel_reaches() ? channel_send(&wakeup->engine_fd, eventfd) : -ENOMEM) == -EAGAIN) {
        pthread_mutex_unlock(&engine.lock);
        engine_wake();
        sched_yield();
        pthread_mutex_lock(&engine.lock);
    }
    if (error == 0)
        engine.counters.files++;
    pthread_mutex_unlock(&engine.lock);
    return error;
}

/* Waits a while until the engine's table has the descriptor, so that the opener gets the error if that table is
 * full. */
static int await_receipt(aiofs_wakeup *wakeup)
{
    enum { YIELDS = 100, TRIES = 1000 };
    const struct timespec moment = {.tv_nsec = 50000};
    for (int tries = 0; tries < TRIES; tries++) {
        int fd = channel_look(&wakeup->engine_fd);
        if (fd != -1)
            return fd < 0 ? -EAGAIN : 0;
        engine_wake();
        if (tries < YIELDS)
            sched_yield();
        else
            nanosleep(&moment, NULL);
    }
    return 0; /* channel_receive will receive it when it is first needed */
}

int aiofs_wakeup_open(int eventfd, aiofs_wakeup **out)
{
    struct file_facts facts;
    int error = aiofs_engine_start();
    if (error == 0)
        error = file_examine(eventfd, &facts);
    if (error < 0)
        return error;
    aiofs_wakeup *wakeup = calloc(1, sizeof *wakeup);
    if (!wakeup)
        return -ENOMEM;
    atomic_store(&wakeup->refs, 1);
    atomic_store(&wakeup->fd, eventfd);
    wakeup->generation = aiofs_generation;
    list_init(&wakeup->link);
    error = hand_over(wakeup, eventfd);
    if (error < 0) {
        free(wakeup);
        return error;
    }
    error = await_receipt(wakeup);
    if (error < 0)
        aiofs_wakeup_release(wakeup);
    else
        *out = wakeup;
    return error;
}

/* ---- notifying ----------------------------------------------------------------------------------------- */

/* Adds `count` to the eventfd: its owner may want to know the number of notifications. */
static void write_count(int fd, uint64_t count)
{
    enum { TRIES = 3 };
    for (int tries = 0; tries < TRIES && aiofs_sys.write(fd, &count, sizeof count) == -EINTR; tries++)
        ;
}

static bool is_open(const aiofs_wakeup *wakeup)
{
    return atomic_load(&wakeup->fd) >= 0 && wakeup->generation == aiofs_generation;
}

static void write_inside(aiofs_wakeup *wakeup, uint64_t count)
{
    int fd = is_open(wakeup) ? channel_receive(&wakeup->engine_fd) : -1;
    if (fd >= 0)
        write_count(fd, count);
}

/* Notifies by the program's number. False: the number leads to another file, or the kernel cannot compare. */
static bool write_by_number(aiofs_wakeup *wakeup)
{
    atomic_fetch_add(&wakeup->inside, 1);
    int fd = atomic_load(&wakeup->fd);
    bool closed = fd < 0, same = !closed && channel_compare(&wakeup->engine_fd, fd) == 1;
    if (same)
        write_count(fd, 1);
    atomic_fetch_sub(&wakeup->inside, 1);
    return closed || same;
}

static void ask_reactor(aiofs_wakeup *wakeup)
{
    pthread_mutex_lock(&engine.lock);
    if (wakeup->owed++ == 0) {
        aiofs_wakeup_retain(wakeup);
        list_append(&engine.wakeups, &wakeup->link);
    }
    pthread_mutex_unlock(&engine.lock);
    engine_wake();
}

void aiofs_wakeup_notify(aiofs_wakeup *wakeup)
{
    if (on_engine_table)
        write_inside(wakeup, 1);
    else if (is_open(wakeup) && !write_by_number(wakeup))
        ask_reactor(wakeup);
}

/* ---- the end ------------------------------------------------------------------------------------------- */

void aiofs_wakeup_close(aiofs_wakeup *wakeup)
{
    atomic_store(&wakeup->fd, -1);
    while (atomic_load(&wakeup->inside) && wakeup->generation == aiofs_generation) /* not for a parent's threads */
        sched_yield();
}

void aiofs_wakeup_retain(aiofs_wakeup *wakeup)
{
    atomic_fetch_add_explicit(&wakeup->refs, 1, memory_order_relaxed);
}

/* After the last release; on the engine's table. */
static void destroy(aiofs_wakeup *wakeup)
{
    int fd = channel_receive(&wakeup->engine_fd);
    if (fd >= 0)
        aiofs_sys.close(fd);
    pthread_mutex_lock(&engine.lock);
    engine.counters.files--;
    pthread_mutex_unlock(&engine.lock);
    if (atomic_load(&wakeup->engine_fd) != -1)
        free(wakeup);
}

void aiofs_wakeup_release(aiofs_wakeup *wakeup)
{
    if (atomic_fetch_sub_explicit(&wakeup->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (wakeup->generation != aiofs_generation) {
        free(wakeup);
    } else if (on_engine_table) {
        destroy(wakeup);
    } else {
        pthread_mutex_lock(&engine.lock);
        list_append(&engine.wakeups, &wakeup->link);
        pthread_mutex_unlock(&engine.lock);
        engine_wake();
    }
}

void wakeups_serve(void)
{
    for (;;) {
        pthread_mutex_lock(&engine.lock);
        struct aiofs_link *link = list_pop(&engine.wakeups);
        aiofs_wakeup *wakeup = link ? CONTAINER(link, aiofs_wakeup, link) : NULL;
        uint64_t owed = wakeup ? wakeup->owed : 0;
        if (wakeup)
            wakeup->owed = 0;
        pthread_mutex_unlock(&engine.lock);
        if (!wakeup)
            return;
        if (owed) {
            write_inside(wakeup, owed);
            aiofs_wakeup_release(wakeup);
        } else {
            destroy(wakeup);
        }
    }
}
