/* notice.c - notices and lists: see notice.h. */
#include <stdlib.h>

#include "core/completions.h"

/* A thread of its own: takes over the references. */
static void notice_in_thread(union sigval value)
{
    aiofs_notice *notice = value.sival_ptr;
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *result = PyObject_CallOneArg(notice->function, notice->value);
    if (!result)
        PyErr_WriteUnraisable(notice->function);
    Py_XDECREF(result);
    Py_DECREF(notice->function);
    Py_DECREF(notice->value);
    Py_XDECREF(notice->context);
    PyGILState_Release(state);
    free(notice);
}

/* What a notice by a thread needs, before its request is accepted; with the GIL, on a thread of the program's. 0 or
 * -EAGAIN. */
int notice_prepare(aiofs_notice *notice)
{
    aiofs_notice *own = malloc(sizeof *own);
    union sigval value = {.sival_ptr = own};
    int error = own ? aiofs_notification_prepare(notice_in_thread, value, NULL, &notice->thread) : -EAGAIN;
    notice->own = error < 0 ? NULL : own;
    if (error < 0)
        free(own);
    return error;
}

/* It will not be given, or has been. */
void notice_unprepare(aiofs_notice *notice)
{
    if (notice->thread)
        aiofs_notification_drop(notice->thread);
    free(notice->own);
    notice->thread = NULL;
    notice->own = NULL;
}

void notice_give(aiofs_notice *notice)
{
    aiofs_notification *thread = notice->thread;
    if (notice->kind == SIGEV_SIGNAL) {
        aiofs_notify_signal(notice->signo, notice->signal_value);
    } else if (thread) {
        *notice->own = *notice;
        notice->function = notice->value = notice->context = NULL;
        notice->own = NULL;
        notice->thread = NULL;
        aiofs_notification_send(thread);
    }
}

void notice_set_signal(aiofs_notice *notice, int signo, int64_t value)
{
    notice->kind = SIGEV_SIGNAL;
    notice->signo = signo;
    notice->signal_value.sival_ptr = (void *)(intptr_t)value;
}

/* ---- lists ------------------------------------------------------------------------------------------- */

void group_count_down(aiofs_group *group)
{
    if (!group || atomic_fetch_sub(&group->remaining, 1) != 1)
        return;
    if (group->last_word) {
        notice_give(&group->last_word->notice);
        post_completion(group->last_word);
    }
    free(group);
}

aiofs_group *group_new(int remaining, aiofs_submission *last_word)
{
    aiofs_group *group = calloc(1, sizeof *group);
    if (group) {
        atomic_store(&group->remaining, remaining);
        group->last_word = last_word;
    }
    return group;
}

void group_add(aiofs_group *group)
{
    atomic_fetch_add(&group->remaining, 1);
}
