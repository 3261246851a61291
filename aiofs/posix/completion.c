/*
 * completion.c - completion descriptors: the kind of notice that only the C face has.
 *
 * A completion descriptor is an eventfd that aiofs_completion_open made for the program. A list maps its number to the
 * engine's wakeup fd.
 *
 * Ownership. The list owns one reference to the wakeup fd, and so does each notice that names it, while its request is
 * in flight.
 *
 * Locking. completions_lock guards the list. A wakeup fd is notified under that lock, and only while it is in the list:
 * after aiofs_completion_close has returned, the program may use the number for another file. Under completions_lock
 * only locks of the engine are taken, for a few instructions.
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

/* Removes the entry of a number, if there is one. aiofs_completion_open finds one only if the program closed the
 * earlier descriptor with close(2). */
static void remove_locked(int fd)
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
    remove_locked(fd);
    fresh->next = completions;
    completions = fresh;
    pthread_mutex_unlock(&completions_lock);
    return fd;
}

AIOFS_API int aiofs_completion_open(void)
{
    int before = posix_disable_cancel();
    int answer = posix_answer(completion_open());
    posix_restore_cancel(before);
    return answer;
}

AIOFS_API int aiofs_completion_close(int fd)
{
    pthread_mutex_lock(&completions_lock);
    bool known = *find_locked(fd);
    remove_locked(fd);
    pthread_mutex_unlock(&completions_lock);
    return posix_answer(known ? aiofs_sys.close(fd) : -EBADF);
}

/* In the child of a fork: the descriptors and wakeup fds in the list are the parent's. */
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

/* Writes the wakeup fd if its descriptor is still open, and releases the reference. */
static void notify_if_open(void *wakeup)
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
    notice->notify = notify_if_open;
    notice->drop = release;
    return 0;
}
