/*
 * completion.c - completion descriptors: the kind of notice that only the C face knows.
 *
 * They are eventfds of the program that aiofs_completion_open made; the table of them, under its lock, leads from the
 * number to the engine's wakeup fd, and a notice holds a reference to that while its request is in flight. A wakeup fd
 * is notified under that lock, and only while it stands in the table: once aiofs_completion_close has returned, the
 * number may lead to any file of the program's. Of other locks only the engine's own are taken under it, for a few
 * instructions.
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

static int completion_open(void)
{
    struct completion *fresh = calloc(1, sizeof *fresh);
    int fd = fresh ? aiofs_sys.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : -ENOMEM;
    int error = fd < 0 ? fd : aiofs_wakeup_open(fd, &fresh->wakeup);
    if (error < 0) {
        free(fresh);
        if (fd >= 0)
            aiofs_sys.close(fd);
        return error;
    }
    fresh->fd = fd;
    pthread_mutex_lock(&completions_lock);
    forget_locked(fd);
    fresh->next = completions;
    completions = fresh;
    pthread_mutex_unlock(&completions_lock);
    return fd;
}

AIOFS_API int aiofs_completion_open(void)
{
    int before = posix_hold_off();
    int answer = posix_answer(completion_open());
    posix_let_in(before);
    return answer;
}

AIOFS_API int aiofs_completion_close(int fd)
{
    pthread_mutex_lock(&completions_lock);
    bool known = *find_locked(fd);
    forget_locked(fd);
    pthread_mutex_unlock(&completions_lock);
    return posix_answer(known ? aiofs_sys.close(fd) : -EBADF);
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

static void release(void *wakeup)
{
    aiofs_wakeup_release(wakeup);
}

/* Notifies it, if it is open still, and gives up the reference. */
static void tell(void *wakeup)
{
    pthread_mutex_lock(&completions_lock);
    const struct completion *one = completions;
    while (one && one->wakeup != wakeup)
        one = one->next;
    if (one)
        aiofs_wakeup_notify(wakeup);
    pthread_mutex_unlock(&completions_lock);
    release(wakeup);
}

int posix_notice_set(aiofs_notice *notice, const struct sigevent *event)
{
    int error = aiofs_notice_set(notice, event);
    if (notice->kind != AIOFS_SIGEV_COMPLETION || !(notice->face = wakeup_of(notice->value.sival_int)))
        return error;
    notice->notify = tell;
    notice->drop = release;
    return 0;
}
