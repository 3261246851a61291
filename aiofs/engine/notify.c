/*
 * notify.c - telling the program: a queued signal, or a function in a fresh thread.
 *
 * A signal that the kernel refuses because too many are queued is kept, and the waiter sends it again
 * until it is accepted. A thread for the program must have the program's descriptor table, so from one of
 * the engine's threads it is started through a caller. notify.lock guards the list of refused signals;
 * nothing else is taken under it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

struct refused {
    struct aiofs_link link;
    int signo;
    union sigval value;
};

static struct {
    pthread_mutex_t lock;
    struct aiofs_link refused;
    _Atomic bool any;
} notify = {.lock = PTHREAD_MUTEX_INITIALIZER, .refused = {&notify.refused, &notify.refused}};

/* ---- signals ---------------------------------------------------------------------------------------------- */

static int queue_signal(int signo, union sigval value)
{
    siginfo_t info;
    memset(&info, 0, sizeof info);
    info.si_signo = signo;
    info.si_code = SI_ASYNCIO;
    info.si_pid = getpid();
    info.si_uid = getuid();
    info.si_value = value;
    return aiofs_sys.rt_sigqueueinfo(info.si_pid, signo, &info);
}

void aiofs_notify_signal(int signo, union sigval value)
{
    if (signo == 0 || queue_signal(signo, value) != -EAGAIN)
        return;
    aiofs_engine_start(); /* all so far may have ended inside their calls; if it cannot be had now, then later */
    struct refused *refused = malloc(sizeof *refused);
    while (!refused) { /* no memory for it: stay until the queue has room */
        const struct timespec moment = {.tv_nsec = 1000000};
        nanosleep(&moment, NULL);
        if (queue_signal(signo, value) != -EAGAIN)
            return;
        refused = malloc(sizeof *refused);
    }
    refused->signo = signo;
    refused->value = value;
    pthread_mutex_lock(&notify.lock);
    list_append(&notify.refused, &refused->link);
    atomic_store(&notify.any, true);
    pthread_mutex_unlock(&notify.lock);
    engine_wake();
}

bool notify_retry(void)
{
    if (!atomic_load_explicit(&notify.any, memory_order_relaxed))
        return false;
    pthread_mutex_lock(&notify.lock);
    while (!list_empty(&notify.refused)) {
        struct refused *oldest = CONTAINER(notify.refused.next, struct refused, link);
        if (queue_signal(oldest->signo, oldest->value) == -EAGAIN)
            break;
        list_remove(&oldest->link);
        free(oldest);
    }
    bool left = !list_empty(&notify.refused);
    atomic_store(&notify.any, left);
    pthread_mutex_unlock(&notify.lock);
    return left;
}

void notify_fork_prepare(void)
{
    pthread_mutex_lock(&notify.lock);
}

void notify_fork_parent(void)
{
    pthread_mutex_unlock(&notify.lock);
}

/* The refused signals are the parent's. */
void notify_fork_child(void)
{
    struct aiofs_link *link;
    while ((link = list_pop(&notify.refused)))
        free(CONTAINER(link, struct refused, link));
    atomic_store(&notify.any, false);
    pthread_mutex_unlock(&notify.lock);
}

/* ---- threads ------------------------------------------------------------------------------------------------ */

struct notice {
    struct aiofs_job job;
    void (*function)(union sigval);
    union sigval value;
    const pthread_attr_t *attributes;
};

static void *notice_main(void *argument)
{
    struct notice notice = *(struct notice *)argument;
    sigset_t none;
    free(argument);
    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &none, NULL);
    notice.function(notice.value);
    return NULL;
}

/* With the program's attributes, but always detached: nobody knows the thread to join it. It opens itself to
 * signals when it runs, so that none is taken here. */
static int start_thread(struct notice *notice)
{
    pthread_attr_t plain;
    pthread_t thread;
    sigset_t all, before;
    const pthread_attr_t *attributes = notice->attributes;
    int detached = PTHREAD_CREATE_DETACHED;
    if (attributes) {
        pthread_attr_getdetachstate(attributes, &detached);
    } else {
        pthread_attr_init(&plain);
        pthread_attr_setdetachstate(&plain, detached);
    }
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&thread, attributes ? attributes : &plain, notice_main, notice);
    if (error == 0 && detached == PTHREAD_CREATE_JOINABLE)
        pthread_detach(thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!attributes)
        pthread_attr_destroy(&plain);
    if (error && attributes) { /* they may ask for what is not to be had: better without them */
        notice->attributes = NULL;
        return start_thread(notice);
    }
    return error ? -EAGAIN : 0;
}

/* On a caller: where threads are scarce it comes back for one, or the notification would be lost. */
static void run_notice(struct aiofs_job *job)
{
    struct notice *notice = CONTAINER(job, struct notice, job);
    const struct timespec moment = {.tv_nsec = 1000000};
    if (start_thread(notice) == 0)
        return;
    nanosleep(&moment, NULL);
    pthread_mutex_lock(&engine.lock);
    callers_add(job); /* behind the others, which do not need a thread */
    pthread_mutex_unlock(&engine.lock);
}

int aiofs_notify_thread(void (*function)(union sigval), union sigval value, const void *attributes)
{
    struct notice *notice = malloc(sizeof *notice);
    if (!notice)
        return -EAGAIN;
    *notice = (struct notice){.function = function, .value = value, .attributes = attributes};
    notice->job.run = run_notice;
    if (!on_engine_table && start_thread(notice) == 0)
        return 0;
    aiofs_engine_start(); /* all so far may have ended inside their calls; if it cannot be had now, then later */
    pthread_mutex_lock(&engine.lock);
    callers_add(&notice->job);
    pthread_mutex_unlock(&engine.lock);
    return 0;
}
