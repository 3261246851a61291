/*
 * submission.h - a request to the engine, together with its Python objects.
 *
 * A submission pins the buffers (Py_buffer views), holds a reference to the object that submitted it (the owner: an
 * aiocb or an Operation), and contains the notice of its completion. The engine completes it on a thread that does not
 * have the GIL and must not wait for it. The notice then posts the submission to a completion queue (notice.c,
 * completions.h). A thread with the GIL drains that queue and delivers the submission (delivery.pxi); only then are
 * Python objects used.
 *
 * Ownership. The reference count is that of the request. The owner has one reference (its field `submission`), the
 * completion queue has one from the submission to the delivery, and the engine has one while the request is in flight.
 * The last reference frees the memory, without the GIL.
 *
 * Locking. The GIL guards the fields, except `queue` and `no_wakeup`, which are atomic, and `next`, which belongs to
 * the thread that pushes or drains.
 */
#ifndef AIOFS_SUBMISSION_H
#define AIOFS_SUBMISSION_H

#include <Python.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "core/notice.h"
#include "engine/engine.h"

typedef struct aiofs_completion_queue aiofs_completion_queue;

struct aiofs_submission {
    union { /* first: a pointer to the request is a pointer to the submission */
        aiofs_aio aio;
        aiofs_request request;
    };
    aiofs_submission *next;
    _Atomic(aiofs_completion_queue *) queue; /* a reference until it is posted; NULL: the unclaimed completions */
    aiofs_callback *callback; /* of the notice; NULL: none, or the thread of SIGEV_THREAD owns it */
    PyObject *owner;    /* a reference, until the submission is delivered */
    PyObject *waiters;  /* a reference to a list of futures, or NULL; see delivery.pxi */
    Py_buffer view;     /* of one buffer */
    Py_buffer *views;   /* of several buffers; else NULL */
    struct iovec *vector;
    int pinned;         /* the number of views that are not released yet */
    bool delivered;
    bool unposted; /* it completed inside the call: it is not posted */
    _Atomic bool no_wakeup; /* no await waits for it alone: the completion of its list wakes the loop */
};

aiofs_submission *submission_new(void);

#endif
