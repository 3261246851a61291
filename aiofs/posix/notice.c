/*
 * notice.c - telling the program of an end: signal, thread, or a completion descriptor.
 *
 * A notice is a copy of the sigevent, taken at the submission. Completion descriptors are eventfds of the program
 * that aiofs_completion_open made; the table of them, under its lock, leads from the number to the engine's wakeup,
 * and a notice holds a reference to that while its request is in submission. A wakeup fd is notified under that lock,
 * and only while it stands in the table: once aiofs_completion_close has returned, the number may lead to any file of
 * the program's. Of other locks only the engine's own are taken under it, for a few instructions.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include "include/aiofs.h"
#include "posix.h"
#include "sys.h"

struct completion {
    struct completion *next;
    int fd;
    aiofs_wakeup *wakeup;
};

static pthread_mutex_t completions_lock = PTHREAD_MUTEX_INITIALIZER;
static struct completion *completions;

/* ---- completion descriptors ---------------------------------------------------------------------------- */

static struct completion **find_locked(int fd)
{
    struct completion **link = &completions;
    while (*link && (*link)->fd != fd)
        link = &(*link)->next;
    return link;
}

static aiofs_wakeup *wakeup_of(int fd)
{
    pthread_mutex_lock(&completions_lock);
    struct completion *found = *find_locked(fd);
    aiofs_wakeup *wakeup = found ? found->wakeup : NULL;
    if (wakeup)
        aiofs_wakeup_retain(wakeup);
    pthread_mutex_unlock(&completions_lock);
    return wakeup;
}

/* A number can come back here only if the program closed the one before by close(2). */
static void forget_locked(int fd)
{
    struct completion **link = find_locked(fd), *found = *link;
    if (!found)
        return;
    *link = found->next;
    aiofs_wakeup_release(found->wakeup);
    free(found);
}

AIOFS_API int aiofs_completion_open(void)
{
    struct completion *fresh = calloc(1, sizeof *fresh);
    int fd = fresh ? aiofs_sys.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : -ENOMEM;
    int error = fd < 0 ? fd : aiofs_wakeup_open(fd, &fresh->wakeup);
    if (error < 0) {
        free(fresh);
        if (fd >= 0)
            aiofs_sys.close(fd);
        return posix_answer(error);
    }
    fresh->fd = fd;
    pthread_mutex_lock(&completions_lock);
    forget_locked(fd);
    fresh->next = completions;
    completions = fresh;
    pthread_mutex_unlock(&completions_lock);
    return fd;
}

AIOFS_API int aiofs_completion_close(int fd)
{
    pthread_mutex_lock(&completions_lock);
    bool known = *find_locked(fd);
    forget_locked(fd);
    pthread_mutex_unlock(&completions_lock);
    return posix_answer(known ? aiofs_sys.close(fd) : -EBADF);
}

static void notify_if_open(aiofs_wakeup *wakeup)
{
    pthread_mutex_lock(&completions_lock);
    const struct completion *one = completions;
    while (one && one->wakeup != wakeup)
        one = one->next;
    if (one)
        aiofs_wakeup_notify(wakeup);
    pthread_mutex_unlock(&completions_lock);
}

/* Their numbers lead to the parent's descriptors, whose wakeup fds hang in the parent's engine. */
static void fork_child(void)
{
    pthread_mutex_init(&completions_lock, NULL);
    completions = NULL;
}

__attribute__((constructor)) static void set_up(void)
{
    pthread_atfork(NULL, NULL, fork_child);
}

/* ---- notices --------------------------------------------------------------------------------------------- */

bool notice_is_possible(const struct sigevent *event)
{
    return event->sigev_notify != SIGEV_SIGNAL || (event->sigev_signo >= 0 && event->sigev_signo < NSIG);
}

static int set_thread(struct notice *notice, const struct sigevent *event)
{
    if (!event->sigev_notify_function)
        return 0;
    int error = aiofs_notification_prepare(event->sigev_notify_function, event->sigev_value,
                                           event->sigev_notify_attributes, &notice->thread);
    if (error < 0)
        notice->kind = SIGEV_NONE;
    return error;
}

int notice_set(struct notice *notice, const struct sigevent *event)
{
    *notice = (struct notice){.kind = SIGEV_NONE};
    if (!event)
        return 0;
    notice->kind = event->sigev_notify;
    notice->value = event->sigev_value;
    if (notice->kind == SIGEV_SIGNAL) {
        notice->signo = event->sigev_signo;
    } else if (notice->kind == SIGEV_THREAD) {
        return set_thread(notice, event);
    } else if (notice->kind == AIOFS_SIGEV_COMPLETION) {
        notice->wakeup = wakeup_of(event->sigev_value.sival_int);
    }
    return 0;
}

void notice_drop(struct notice *notice)
{
    if (notice->wakeup)
        aiofs_wakeup_release(notice->wakeup);
    if (notice->thread)
        aiofs_notification_drop(notice->thread);
    notice->wakeup = NULL;
    notice->thread = NULL;
}

void notice_give(struct notice *notice)
{
    aiofs_notification *thread = notice->thread;
    notice->thread = NULL;
    if (notice->kind == SIGEV_SIGNAL)
        aiofs_notify_signal(notice->signo, notice->value);
    else if (thread)
        aiofs_notification_send(thread);
    else if (notice->wakeup)
        notify_if_open(notice->wakeup);
    notice_drop(notice);
}
