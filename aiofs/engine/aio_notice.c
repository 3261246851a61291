/*
 * aio_notice.c - notices: how the program learns of an end.
 *
 * A notice is a copy of a sigevent, made before its request is accepted. What it needs is there from then on (a thread
 * is prepared, the face has its reference), so that whatever was accepted will be notified. It is given once, or dropped.
 *
 * The signal or the thread comes first, then the face's part: completion descriptors in posix/, the completion queue of
 * an event loop in the core. That part may free the notice. No locks; see notify.c for signals and threads that the
 * kernel refuses.
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
    if (notice->tell)
        notice->tell(notice->face);
}

void aiofs_notice_drop(aiofs_notice *notice)
{
    if (notice->thread)
        aiofs_notification_drop(notice->thread);
    if (notice->drop)
        notice->drop(notice->face);
    *notice = (aiofs_notice){.kind = SIGEV_NONE};
}
