/*
 * flight.h - what a request carries for Python while the engine has it, and how it comes home.
 *
 * A flight is one submission. It pins the buffers (Py_buffer views), holds the object that submitted it
 * (the owner: an aiocb or an Operation) and says who is to be told. The engine ends it on a thread that
 * has no GIL and must not wait for one, so flight_done only puts it into a mailbox and rings; everything
 * that touches Python objects happens in flight.pxi, when somebody with the GIL opens the mailbox.
 *
 * A flight is counted by its request: one reference is the owner's (its `flight` field), one the mailbox's
 * (from submission until it has been opened), one the engine's. The memory goes with the last, which needs
 * no GIL.
 *
 * A mailbox is a stack of flights, pushed by one atomic exchange loop and emptied whole; its opener turns
 * it round, so that the order is that of the ends. He is told once for all that came since he looked last; a
 * flight of a list may leave that to the list's last word, if nobody waits for it alone. The mailbox is counted by
 * its loop's Delivery and by the flights addressed to it. When the Delivery goes, the mailbox is sealed, and what is
 * still in the air comes down among the orphans, which are opened by the next call into the core, by a pending
 * call, or by a loop: each watches their eventfd, for a loop that sleeps makes no pending calls.
 */
#ifndef AIOFS_FLIGHT_H
#define AIOFS_FLIGHT_H

#include <Python.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "engine/engine.h"

/* <signal.h> makes it a macro; here it is the name of an attribute. */
#undef sigev_notify_function

enum { SIGEV_LOOP = 16 }; /* beside <signal.h>'s */

typedef struct aiofs_flight aiofs_flight;

typedef struct aiofs_mailbox {
    _Atomic(aiofs_flight *) top;
    _Atomic bool rung; /* its opener has been told since it opened it last */
    _Atomic unsigned quiet; /* quiet flights that came */
    _Atomic int refs;
    aiofs_bell *bell; /* NULL: the orphans */
} aiofs_mailbox;

/* Who is told of an end, beside those who wait. Made with the GIL; `function` and `value` are references. */
typedef struct aiofs_notice {
    int kind; /* SIGEV_*; SIGEV_LOOP: left in the flight for the Delivery to call */
    int signo;
    union sigval signal_value;
    PyObject *function, *value, *context;
    aiofs_notification *thread; /* SIGEV_THREAD, which takes over the references in `own` */
    struct aiofs_notice *own;
} aiofs_notice;

/* A list of lio_listio: the last of its flights tells. */
typedef struct aiofs_group {
    _Atomic int remaining;
    aiofs_flight *last_word; /* carries the list's notice; no request of its own */
} aiofs_group;

struct aiofs_flight {
    aiofs_request request; /* first: the engine's pointer is ours */
    aiofs_flight *next;
    _Atomic(aiofs_mailbox *) mailbox; /* a reference, until flight_done takes it; NULL: the orphans */
    aiofs_group *group;
    aiofs_notice notice;
    PyObject *owner;    /* a reference, until the mailbox is opened */
    PyObject *futures;  /* a reference: list of those that wait, or NULL */
    Py_buffer view;     /* the one buffer, or the first */
    Py_buffer *views;   /* more than one */
    struct iovec *vector;
    int pinned;         /* views that are held */
    bool opened;
    _Atomic bool quiet; /* nobody waits for its end: another one, that will come, rings for both */
};

#define SEALED ((aiofs_flight *)1)
#define TAKEN ((aiofs_mailbox *)1)

static aiofs_mailbox aiofs_orphans;
static _Atomic(aiofs_bell *) aiofs_orphans_bell; /* NULL until a loop wants it; never closed */
static int (*aiofs_open_orphans)(void *); /* for Py_AddPendingCall */
static _Atomic bool aiofs_python_ends;    /* no pending calls any more */

static inline void python_ends(void)
{
    atomic_store(&aiofs_python_ends, true);
}

static inline void mailbox_release(aiofs_mailbox *box)
{
    if (box && atomic_fetch_sub(&box->refs, 1) == 1) {
        aiofs_bell_release(box->bell);
        free(box);
    }
}

static inline aiofs_mailbox *mailbox_new(int eventfd, int *error)
{
    aiofs_mailbox *box = calloc(1, sizeof *box);
    *error = box ? aiofs_bell_open(eventfd, &box->bell) : -ENOMEM;
    if (*error < 0) {
        free(box);
        return NULL;
    }
    atomic_store(&box->refs, 1);
    return box;
}

/* Addresses a flight that had no loop to one. False: it has another address, or has ended. */
static inline bool flight_address(aiofs_flight *flight, aiofs_mailbox *box)
{
    aiofs_mailbox *none = NULL;
    atomic_fetch_add(&box->refs, 1);
    if (atomic_compare_exchange_strong(&flight->mailbox, &none, box))
        return true;
    atomic_fetch_sub(&box->refs, 1); /* not the last: the caller has one */
    return none == box;
}

/* For a flight that the engine did not take. */
static inline void flight_recall(aiofs_flight *flight)
{
    mailbox_release(atomic_exchange(&flight->mailbox, NULL));
}

/* False: the mailbox is sealed. `ring`: its opener has to be told; of quiet ones now and then, too, for they hold
 * their buffers until he opens them. */
static inline bool mailbox_push(aiofs_mailbox *box, aiofs_flight *flight, bool quiet, bool *ring)
{
    enum { SO_MANY_QUIET = 64 };
    aiofs_flight *top = atomic_load(&box->top);
    do {
        if (top == SEALED)
            return false;
        flight->next = top;
    } while (!atomic_compare_exchange_weak(&box->top, &top, flight));
    bool tell = !quiet || atomic_fetch_add(&box->quiet, 1) % SO_MANY_QUIET == SO_MANY_QUIET - 1;
    *ring = tell && !atomic_load(&box->rung) && !atomic_exchange(&box->rung, true);
    return true;
}

/* What came, oldest first; NULL: nothing. With `seal` nothing will come any more. */
static inline aiofs_flight *mailbox_open(aiofs_mailbox *box, bool seal)
{
    if (!seal && atomic_load_explicit(&box->top, memory_order_relaxed) == NULL &&
        !atomic_load_explicit(&box->rung, memory_order_relaxed))
        return NULL;
    atomic_store(&box->rung, false); /* before: what is pushed behind it rings again */
    aiofs_flight *flight = atomic_exchange(&box->top, seal ? SEALED : NULL), *oldest = NULL;
    if (flight == SEALED)
        return NULL;
    while (flight) {
        aiofs_flight *next = flight->next;
        flight->next = oldest;
        oldest = flight;
        flight = next;
    }
    return oldest;
}

static inline int orphans_bell_open(int eventfd)
{
    aiofs_bell *bell;
    int error = aiofs_bell_open(eventfd, &bell);
    if (error == 0)
        atomic_store(&aiofs_orphans_bell, bell);
    return error;
}

/* The child of a fork: the bell was its parent's. */
static inline void orphans_bell_forget(void)
{
    atomic_store(&aiofs_orphans_bell, NULL);
    atomic_store(&aiofs_orphans.rung, false);
}

static inline void orphans_call(void)
{
    aiofs_bell *bell = atomic_load(&aiofs_orphans_bell);
    if (bell)
        aiofs_bell_ring(bell);
    if (!atomic_load(&aiofs_python_ends))
        Py_AddPendingCall(aiofs_open_orphans, NULL);
}

static inline void flight_post(aiofs_flight *flight)
{
    aiofs_mailbox *box = atomic_exchange(&flight->mailbox, TAKEN);
    bool quiet = atomic_load(&flight->quiet), ring = false;
    if (box && mailbox_push(box, flight, quiet, &ring)) {
        if (ring)
            aiofs_bell_ring(box->bell);
    } else {
        mailbox_push(&aiofs_orphans, flight, false, &ring);
        if (ring)
            orphans_call();
    }
    mailbox_release(box);
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
        flight_post(group->last_word);
    }
    free(group);
}

static inline aiofs_group *group_new(int remaining, aiofs_flight *last_word)
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

static void flight_done(aiofs_request *request)
{
    aiofs_flight *flight = (aiofs_flight *)request;
    aiofs_group *group = flight->group;
    notice_give(&flight->notice);
    flight_post(flight);
    group_count_down(group);
}

static void flight_destroy(aiofs_request *request)
{
    aiofs_flight *flight = (aiofs_flight *)request;
    free(flight->views);
    free(flight->vector);
    free(flight);
}

static inline aiofs_flight *flight_new(void)
{
    aiofs_flight *flight = calloc(1, sizeof *flight);
    if (flight) {
        aiofs_request_init(&flight->request);
        flight->request.done = flight_done;
        flight->request.destroy = flight_destroy;
        flight->notice.kind = SIGEV_NONE;
    }
    return flight;
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
