/*
 * submission.h - what a request carries for Python while the engine has it.
 *
 * A submission is one request to the engine. It pins the buffers (Py_buffer views), holds a reference to the object
 * that submitted it (the owner: an aiocb or an Operation), and has the notice of its end. The engine completes it on
 * a thread that has no GIL and must not wait for it. The notice posts the submission to a completion queue (notice.c,
 * completions.h). Everything that touches Python objects is done in delivery.pxi, by the thread
 * that drains the queue with the GIL.
 *
 * A submission is counted by its request. One reference is the owner's (its field `submission`), one the completion
 * queue's (from the call that submits until the submission is delivered), one the engine's. The last reference frees
 * the memory; that needs no GIL.
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
    union { /* first: the engine's pointer is ours */
        aiofs_aio aio;
        aiofs_request request;
    };
    aiofs_submission *next;
    _Atomic(aiofs_completion_queue *) queue; /* a reference, until it is posted there; NULL: to the unclaimed ones */
    aiofs_callback *callback; /* of its notice; NULL: none, or the thread of SIGEV_THREAD has it */
    PyObject *owner;    /* a reference, until the submission is delivered */
    PyObject *waiters;  /* a reference, or NULL: what delivery.pxi ends with the submission */
    Py_buffer view;     /* the one buffer, or the first */
    Py_buffer *views;   /* more than one */
    struct iovec *vector;
    int pinned;         /* views that are held */
    bool delivered;
    bool unposted; /* it ended inside the call, and no loop is to be told */
    _Atomic bool no_wakeup; /* no await waits for it alone: a later completion wakes the loop for both */
};

aiofs_submission *submission_new(void);

#endif
