/*
 * submission.h - what a request carries for Python while the engine has it, and how it comes home.
 *
 * A submission is one submission. It pins the buffers (Py_buffer views), holds the object that submitted it
 * (the owner: an aiocb or an Operation) and says who is to be notified. The engine ends it on a thread that
 * has no GIL and must not wait for one, so submission_done only puts it into a completion queue and rings; everything
 * that touches Python objects happens in submission.pxi, when somebody with the GIL opens the completion queue.
 *
 * A submission is counted by its request: one reference is the owner's (its `submission` field), one the completion
 * queue's (from submission until it has been opened), one the engine's. The memory goes with the last, which needs no
 * GIL.
 *
 * A completion queue is a stack of submissions, pushed by one atomic exchange loop and emptied whole; its opener
 * turns it round, so that the order is that of the ends. He is notified once for all that came since he looked last;
 * a submission of a list may leave that to the list's last word, if nobody waits for it alone. The completion queue
 * is counted by its loop's LoopNotifier and by the submissions addressed to it. When the LoopNotifier goes, the
 * completion queue is sealed, and what is still in the air comes down among the unclaimed completions, which are
 * opened by the next call into the core, by a pending call, or by a loop: each watches their eventfd, for a loop that
 * sleeps makes no pending calls.
 */
#ifndef AIOFS_SUBMISSION_H
#define AIOFS_SUBMISSION_H

#include <Python.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "engine/engine.h"

/* <signal.h> makes it a macro; here it is the name of an attribute. */
#undef sigev_notify_function

enum { SIGEV_LOOP = 16 }; /* beside <signal.h>'s */

typedef struct aiofs_submission aiofs_submission;

typedef struct aiofs_completion_queue {
    _Atomic(aiofs_submission *) top;
    _Atomic bool notified; /* its opener has been notified since it opened it last */
    _Atomic unsigned unnotified; /* submissions without a wake-up that came */
    _Atomic int refs;
    aiofs_wakeup *wakeup; /* NULL: the unclaimed completions */
} aiofs_completion_queue;

/* Who is notified of an end, beside those who wait. Made with the GIL; `function` and `value` are references. */
typedef struct aiofs_notice {
    int kind; /* SIGEV_*; SIGEV_LOOP: left in the submission for the LoopNotifier to call */
    int signo;
    union sigval signal_value;
    PyObject *function, *value, *context;
    aiofs_notification *thread; /* SIGEV_THREAD, which takes over the references in `own` */
    struct aiofs_notice *own;
} aiofs_notice;

/* A list of lio_listio: the last of its submissions tells. */
typedef struct aiofs_group {
    _Atomic int remaining;
    aiofs_submission *last_word; /* carries the list's notice; no request of its own */
} aiofs_group;

struct aiofs_submission {
    aiofs_request request; /* first: the engine's pointer is ours */
    aiofs_submission *next;
    _Atomic(aiofs_completion_queue *) queue; /* a reference, until submission_done takes it; NULL: the unclaimed completions */
    aiofs_group *group;
    aiofs_notice notice;
    PyObject *owner;    /* a reference, until the completion queue is opened */
    PyObject *futures;  /* a reference: list of those that wait, or NULL */
    Py_buffer view;     /* the one buffer, or the first */
    Py_buffer *views;   /* more than one */
    struct iovec *vector;
    int pinned;         /* views that are held */
    bool opened;
    _Atomic bool no_wakeup; /* nobody waits for its end: another one, that will come, rings for both */
};

#define SEALED ((aiofs_submission *)1)
#define TAKEN ((aiofs_completion_queue *)1)

static aiofs_completion_queue aiofs_unclaimed;
static _Atomic(aiofs_wakeup *) aiofs_unclaimed_wakeup; /* NULL until a loop wants it; never closed */
static int (*aiofs_drain_unclaimed)(void *); /* for Py_AddPendingCall */
static _Atomic bool aiofs_python_ends;    /* no pending calls any more */

static inline void python_ends(void)
{
    atomic_store(&aiofs_python_ends, true);
}

static inline void queue_release(aiofs_completion_queue *queue)
{
    if (queue && atomic_fetch_sub(&queue->refs, 1) == 1) {
        aiofs_wakeup_release(queue->wakeup);
        free(queue);
    }
}

static inline aiofs_completion_queue *queue_new(int eventfd, int *error)
{
    aiofs_completion_queue *queue = calloc(1, sizeof *queue);
    *error = queue ? aiofs_wakeup_open(eventfd, &queue->wakeup) : -ENOMEM;
    if (*error < 0) {
        free(queue);
        return NULL;
    }
    atomic_store(&queue->refs, 1);
    return queue;
}

/* Addresses a submission that had no loop to one. False: it has another address, or has ended. */
static inline bool submission_address(aiofs_submission *submission, aiofs_completion_queue *queue)
{
    aiofs_completion_queue *none = NULL;
    atomic_fetch_add(&queue->refs, 1);
    if (atomic_compare_exchange_strong(&submission->queue, &none, queue))
        return true;
    atomic_fetch_sub(&queue->refs, 1); /* not the last: the caller has one */
    return none == queue;
}

/* For a submission that the engine did not take. */
static inline void submission_withdraw(aiofs_submission *submission)
{
    queue_release(atomic_exchange(&submission->queue, NULL));
}

/* False: the completion queue is sealed. `notify`: its opener has to be notified; of ones without a wake-up now and then, too, for they hold
 * their buffers until he opens them. */
static inline bool queue_push(aiofs_completion_queue *queue, aiofs_submission *submission, bool no_wakeup, bool *notify)
{
    enum { SO_MANY_UNNOTIFIED = 64 };
    aiofs_submission *top = atomic_load(&queue->top);
    do {
        if (top == SEALED)
            return false;
        submission->next = top;
    } while (!atomic_compare_exchange_weak(&queue->top, &top, submission));
    bool tell = !no_wakeup || atomic_fetch_add(&queue->unnotified, 1) % SO_MANY_UNNOTIFIED == SO_MANY_UNNOTIFIED - 1;
    *notify = tell && !atomic_load(&queue->notified) && !atomic_exchange(&queue->notified, true);
    return true;
}

/* What came, oldest first; NULL: nothing. With `seal` nothing will come any more. */
static inline aiofs_submission *queue_drain(aiofs_completion_queue *queue, bool seal)
{
    if (!seal && atomic_load_explicit(&queue->top, memory_order_relaxed) == NULL &&
        !atomic_load_explicit(&queue->notified, memory_order_relaxed))
        return NULL;
    atomic_store(&queue->notified, false); /* before: what is pushed behind it rings again */
    aiofs_submission *submission = atomic_exchange(&queue->top, seal ? SEALED : NULL), *oldest = NULL;
    if (seal)
        aiofs_wakeup_close(queue->wakeup); /* its LoopNotifier is about to close the number */
    if (submission == SEALED)
        return NULL;
    while (submission) {
        aiofs_submission *next = submission->next;
        submission->next = oldest;
        oldest = submission;
        submission = next;
    }
    return oldest;
}

static inline int unclaimed_wakeup_open(int eventfd)
{
    aiofs_wakeup *wakeup;
    int error = aiofs_wakeup_open(eventfd, &wakeup);
    if (error == 0)
        atomic_store(&aiofs_unclaimed_wakeup, wakeup);
    return error;
}

/* The child of a fork: the wakeup fd was its parent's. */
static inline void unclaimed_wakeup_forget(void)
{
    atomic_store(&aiofs_unclaimed_wakeup, NULL);
    atomic_store(&aiofs_unclaimed.notified, false);
}

static inline void notify_unclaimed(void)
{
    aiofs_wakeup *wakeup = atomic_load(&aiofs_unclaimed_wakeup);
    if (wakeup)
        aiofs_wakeup_notify(wakeup);
    if (!atomic_load(&aiofs_python_ends))
        Py_AddPendingCall(aiofs_drain_unclaimed, NULL);
}

static inline void post_completion(aiofs_submission *submission)
{
    aiofs_completion_queue *queue = atomic_exchange(&submission->queue, TAKEN);
    bool no_wakeup = atomic_load(&submission->no_wakeup), notify = false;
    if (queue && queue_push(queue, submission, no_wakeup, &notify)) {
        if (notify)
            aiofs_wakeup_notify(queue->wakeup);
    } else {
        queue_push(&aiofs_unclaimed, submission, false, &notify);
        if (notify)
            notify_unclaimed();
    }
    queue_release(queue);
}

/* ---- notices --------------------------------------------------------------------------------------- */

/* A thread of its own: takes over the references. */
static inline void notice_in_thread(union sigval value)
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
static inline int notice_prepare(aiofs_notice *notice)
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
static inline void notice_unprepare(aiofs_notice *notice)
{
    if (notice->thread)
        aiofs_notification_drop(notice->thread);
    free(notice->own);
    notice->thread = NULL;
    notice->own = NULL;
}

static inline void notice_give(aiofs_notice *notice)
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

static inline void notice_set_signal(aiofs_notice *notice, int signo, int64_t value)
{
    notice->kind = SIGEV_SIGNAL;
    notice->signo = signo;
    notice->signal_value.sival_ptr = (void *)(intptr_t)value;
}

/* ---- the engine's hooks ------------------------------------------------------------------------------ */

static inline void group_count_down(aiofs_group *group)
{
    if (!group || atomic_fetch_sub(&group->remaining, 1) != 1)
        return;
    if (group->last_word) {
        notice_give(&group->last_word->notice);
        post_completion(group->last_word);
    }
    free(group);
}

static inline aiofs_group *group_new(int remaining, aiofs_submission *last_word)
{
    aiofs_group *group = calloc(1, sizeof *group);
    if (group) {
        atomic_store(&group->remaining, remaining);
        group->last_word = last_word;
    }
    return group;
}

static inline void group_add(aiofs_group *group)
{
    atomic_fetch_add(&group->remaining, 1);
}

static void submission_done(aiofs_request *request)
{
    aiofs_submission *submission = (aiofs_submission *)request;
    aiofs_group *group = submission->group;
    notice_give(&submission->notice);
    post_completion(submission);
    group_count_down(group);
}

static void submission_destroy(aiofs_request *request)
{
    aiofs_submission *submission = (aiofs_submission *)request;
    free(submission->views);
    free(submission->vector);
    free(submission);
}

static inline aiofs_submission *submission_new(void)
{
    aiofs_submission *submission = calloc(1, sizeof *submission);
    if (submission) {
        aiofs_request_init(&submission->request);
        submission->request.done = submission_done;
        submission->request.destroy = submission_destroy;
        submission->notice.kind = SIGEV_NONE;
    }
    return submission;
}

/* ---- types --------------------------------------------------------------------------------------------- */

/* tp_iternext by am_send. The value goes out in a StopIteration, which would take a tuple for its arguments
 * and an exception for itself. */
static inline PyObject *next_by_send(PyObject *awaitable)
{
    PyObject *value = NULL;
    PySendResult sent = Py_TYPE(awaitable)->tp_as_async->am_send(awaitable, Py_None, &value);
    if (sent == PYGEN_NEXT)
        return value;
    if (sent == PYGEN_RETURN) {
        if (PyTuple_Check(value) || PyExceptionInstance_Check(value))
            Py_SETREF(value, PyObject_CallOneArg(PyExc_StopIteration, value));
        if (value != NULL)
            PyErr_SetObject(PyExc_StopIteration, value);
        Py_XDECREF(value);
    }
    return NULL;
}

/* The await of a finished operation: without an exception for its value where the interpreter asks for it,
 * and where it asks for the next item, as from Python 3.12 on, without a traceback. */
static inline void type_set_send(PyTypeObject *type, int (*send)(PyObject *, PyObject *, PyObject **))
{
    type->tp_as_async->am_send = (sendfunc)(void (*)(void))send;
    type->tp_iternext = next_by_send;
#ifdef Py_TPFLAGS_HAVE_AM_SEND
    type->tp_flags |= Py_TPFLAGS_HAVE_AM_SEND;
#endif
    PyType_Modified(type);
}

#endif
