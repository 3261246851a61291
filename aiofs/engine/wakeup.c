/*
 * wakeup.c - wakeup fds: how `done` reaches a thread that waits in poll or epoll.
 *
 * A wakeup fd is opened over an eventfd of the program's, whose open file is handed over to the engine's descriptor
 * table as those of requests are (channel.c). A thread on that table writes to it by the engine's number, which nobody
 * else can close. A thread on the program's table asks the kernel whether the program's number still leads to the same
 * open file, and then writes to it by that number. If it does not, or the kernel does not tell, the reactor writes. So
 * it is notified also after the program has closed the number, and no other file ever is.
 *
 * Between the question and the write another thread could close the number. So an owner that closes it says so before
 * (aiofs_wakeup_close), and waits there for the threads that are between the two.
 *
 * It is counted: by its opener, by those who may notify it, and by engine.wakeups while the reactor shall write to it.
 * The last reference closes the engine's number, on a thread of the engine's table. Its memory is given back only when
 * the message that handed it over has been received, for that names the address.
 *
 * In the child of a fork it is the parent's: nothing is written to it, and its memory is all that goes.
 *
 * The engine lock guards the list of the reactor, and `owed`.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>

#include "internal.h"

struct aiofs_wakeup {
    _Atomic int32_t refs;
    _Atomic int fd;          /* the program's number; -1: its owner closes it */
    _Atomic unsigned inside; /* threads that use that number now */
    _Atomic int engine_fd;   /* see channel_send */
    uint32_t generation;     /* of processes: which one opened it */
    uint64_t owed;           /* notifications that the reactor shall write; not 0: the list has a reference */
    struct aiofs_link link;  /* engine.wakeups: something is owed, or has no reference any more */
};

/* ---- opening ------------------------------------------------------------------------------------------- */

static int hand_over(aiofs_wakeup *wakeup, int eventfd)
{
    int error;
    pthread_mutex_lock(&engine.lock);
    while ((error = channel_send(&wakeup->engine_fd, eventfd)) == -EAGAIN) {
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

/* Waits a while until the engine's table has it: its opener hears if there is no room. */
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
    return 0; /* it is received at the latest when it is needed */
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

/* An eventfd counts: its owner may want to know how many notifications there were. */
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

/* False: the program's number leads elsewhere, or that cannot be told. */
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
    while (atomic_load(&wakeup->inside))
        sched_yield();
}

void aiofs_wakeup_retain(aiofs_wakeup *wakeup)
{
    atomic_fetch_add_explicit(&wakeup->refs, 1, memory_order_relaxed);
}

/* The last reference is gone. On the engine's table. */
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
