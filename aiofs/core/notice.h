/*
 * notice.h - the core's part of notices: a function of the program's, and the completion queue of a loop.
 *
 * The rules are the engine's (engine/aio_rules.h). A notice is prepared with the GIL, before its request is submitted.
 * What SIGEV_THREAD needs is allocated by then, or the call fails. The notice is given by the thread that completes
 * the request, without the GIL. The references of a callback are its own; SIGEV_THREAD's thread takes them over.
 */
#ifndef AIOFS_NOTICE_H
#define AIOFS_NOTICE_H

#include <Python.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "engine/aio_rules.h"

enum { SIGEV_LOOP = 16 }; /* beside <signal.h>'s: its callback is left in the submission for the LoopNotifier */

typedef struct aiofs_submission aiofs_submission;

/* Of SIGEV_THREAD and SIGEV_LOOP; on the heap. */
typedef struct aiofs_callback {
    PyObject *function, *value, *context;
} aiofs_callback;

/* 0, or -EINVAL: there is no such signal. */
int notice_check_signal(int signo);
/* Sets the notice of a submission that has its callback. 0 or -EAGAIN. */
int notice_prepare(aiofs_submission *submission, int kind, int signo, int64_t signal_value);
/* No notice, but the completion queue. */
void notice_clear(aiofs_submission *submission);

#endif
