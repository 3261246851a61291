/*
 * notice.h - the core's part of notices: it calls Python functions, and posts submissions to completion queues.
 *
 * The engine has the rules of notices (engine/aio_rules.h). A notice is prepared with the GIL, before its request is
 * submitted; if SIGEV_THREAD cannot get its resources then, the call fails. The thread that completes the request gives
 * the notice, without the GIL.
 *
 * Ownership. A callback owns its references. The new thread of SIGEV_THREAD takes them over.
 */
#ifndef AIOFS_NOTICE_H
#define AIOFS_NOTICE_H

#include <Python.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "engine/aio_rules.h"

enum { SIGEV_LOOP = 16 }; /* not in <signal.h>; the LoopNotifier calls the callback of the submission */

typedef struct aiofs_submission aiofs_submission;

/* The function of SIGEV_THREAD or SIGEV_LOOP; on the heap. */
typedef struct aiofs_callback {
    PyObject *function, *value, *context;
} aiofs_callback;

/* 0; -EINVAL: there is no such signal. */
int notice_check_signal(int signo);
/* Sets the notice of a submission, after its `callback`. 0; -EAGAIN: no thread can be started for SIGEV_THREAD. */
int notice_prepare(aiofs_submission *submission, int kind, int signo, int64_t signal_value);
/* Sets a notice that notifies nothing but the completion queue. */
void notice_clear(aiofs_submission *submission);

#endif
