/* notice.c - the core's part of notices. See notice.h. */
#include <stdlib.h>
#include <string.h>

#include "core/completions.h"

/* Runs in the new thread of SIGEV_THREAD. Takes over the references of the callback. */
static void call_in_thread(union sigval value)
{
    aiofs_callback *callback = value.sival_ptr;
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *result = PyObject_CallOneArg(callback->function, callback->value);
    if (!result)
        PyErr_WriteUnraisable(callback->function);
    Py_XDECREF(result);
    Py_DECREF(callback->function);
    Py_DECREF(callback->value);
    Py_XDECREF(callback->context);
    PyGILState_Release(state);
    free(callback);
}

static void notify(void *face)
{
    aiofs_submission *submission = face;
    if (submission->aio.ending.notice.kind == SIGEV_THREAD)
        submission->callback = NULL; /* call_in_thread frees it */
    if (!submission->unposted)
        post_completion(submission);
}

static struct sigevent event_of(int kind, int signo, union sigval value)
{
    struct sigevent event;
    memset(&event, 0, sizeof event);
    event.sigev_notify = kind;
    event.sigev_signo = signo;
    event.sigev_value = value;
    if (kind == SIGEV_THREAD)
        event.sigev_notify_function = call_in_thread;
    return event;
}

int notice_check_signal(int signo)
{
    struct sigevent event = event_of(SIGEV_SIGNAL, signo, (union sigval){.sival_int = 0});
    return aiofs_notice_check(&event);
}

static int set_notice(aiofs_submission *submission, const struct sigevent *event)
{
    aiofs_notice *notice = &submission->aio.ending.notice;
    int error = aiofs_notice_set(notice, event);
    notice->notify = notify;
    notice->face = submission;
    return error;
}

int notice_prepare(aiofs_submission *submission, int kind, int signo, int64_t signal_value)
{
    void *pointer = kind == SIGEV_SIGNAL ? (void *)(intptr_t)signal_value : submission->callback;
    struct sigevent event = event_of(kind, signo, (union sigval){.sival_ptr = pointer});
    return set_notice(submission, &event);
}

void notice_clear(aiofs_submission *submission)
{
    set_notice(submission, NULL);
}
