/*
 * notice.h - who is notified of a completion beside those that wait: sigevent, of a request and of a list.
 *
 * A notice is made with the GIL, before its request is submitted: what its SIGEV_THREAD needs is had by then, or the
 * call fails. It is given by the engine's thread that completes the request, without the GIL. The references in it
 * belong to the notice; SIGEV_THREAD's thread takes them over.
 */
#ifndef AIOFS_NOTICE_H
#define AIOFS_NOTICE_H

#include <Python.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "engine/engine.h"

/* <signal.h> makes it a macro; here it is the name of an attribute. */
#undef sigev_notify_function

enum { SIGEV_LOOP = 16 }; /* beside <signal.h>'s */

struct aiofs_submission;

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
    struct aiofs_submission *last_word; /* carries the list's notice; no request of its own */
} aiofs_group;

int notice_prepare(aiofs_notice *notice);
void notice_unprepare(aiofs_notice *notice);
void notice_give(aiofs_notice *notice);
void notice_set_signal(aiofs_notice *notice, int signo, int64_t value);

aiofs_group *group_new(int remaining, struct aiofs_submission *last_word);
void group_add(aiofs_group *group);
void group_count_down(aiofs_group *group);

#endif
