/*
 * aio_notice.c - notices: how a program is notified that a request is terminal.
 *
 * A notice is a copy of a sigevent. It is made before the engine accepts the request, and it reserves everything that
 * the notification needs: the thread is prepared, and the face holds its reference. So each accepted request can be
 * notified. A notice is either given or dropped, exactly once.
 *
 * Giving a notice first sends the signal or starts the thread, then calls the face's hook `notify`: posix/ signals
 * completion descriptors there, the core appends to the completion queue of an event loop. The hook may free the
 * notice.
 *
 * Locking. None here. notify.c retries the signals and the threads that the kernel refuses.
 */
#define _GNU_SOURCE
#include <errno.h>

#include "aio_rules.h"

int aiofs_notice_check(const struct sigevent *event)
{
    bool sends = event && event->sigev_notify == SIGEV_SIGNAL;
    return sends && (event->sigev_signo < 0 || event->sigev_signo >= NSIG) ? -EINVAL : 0;
}

static int prepare_thread(aiofs_notice *notice, const struct sigevent *event)
{
    if (!event->sigev_notify_function)
        return 0;
    int error = aiofs_notification_prepare(event->sigev_notify_function, event->sigev_value,
                                           event->sigev_notify_attributes, &notice->thread);
    if (error < 0)
        notice->kind = SIGEV_NONE;
    return error;
}

int aiofs_notice_set(aiofs_notice *notice, const struct sigevent *event)
{
    *notice = (aiofs_notice){.kind = SIGEV_NONE};
    if (!event)
        return 0;
    notice->kind = event->sigev_notify;
    notice->value = event->sigev_value;
    if (notice->kind == SIGEV_SIGNAL)
        notice->signo = event->sigev_signo;
    else if (notice->kind == SIGEV_THREAD)
        return prepare_thread(notice, event);
    return 0;
}

void aiofs_notice_give(aiofs_notice *notice)
{
    aiofs_notification *thread = notice->thread;
    notice->thread = NULL;
    if (notice->kind == SIGEV_SIGNAL)
        aiofs_notify_signal(notice->signo, notice->value);
    else if (thread)
        aiofs_notification_send(thread);
    if (notice->notify)
        notice->notify(notice->face);
}

void aiofs_notice_drop(aiofs_notice *notice)
{
    if (notice->thread)
        aiofs_notification_drop(notice->thread);
    if (notice->drop)
        notice->drop(notice->face);
    *notice = (aiofs_notice){.kind = SIGEV_NONE};
}
