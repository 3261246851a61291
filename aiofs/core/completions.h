/*
 * completions.h - completion queues: from the engine's threads to a thread that has the GIL.
 *
 * A completion queue is a stack of submissions. Any thread pushes, without a lock, by compare-and-exchange. The
 * thread that drains it takes the whole stack at once and reverses it: so the order is that of the completions. One
 * wake-up (a write to the queue's wakeup fd) covers all completions since the last drain. A submission of a list may
 * come without one (`no_wakeup`) if nothing waits for it alone: the list's own completion wakes for all.
 *
 * A queue is reference-counted: its LoopNotifier owns one reference, each submission addressed to it owns one. When
 * the LoopNotifier goes, it closes the queue. A completion that finds its queue closed, or has none, goes to the queue
 * of unclaimed completions. That is drained by the next call into the core that looks for a loop, by a pending call
 * of the interpreter, or by any loop: each loop watches its wakeup fd, because a sleeping loop makes no pending calls.
 */
#ifndef AIOFS_COMPLETIONS_H
#define AIOFS_COMPLETIONS_H

#include "core/submission.h"

struct aiofs_completion_queue {
    _Atomic(aiofs_submission *) top;
    _Atomic bool notified;       /* the wakeup fd was written since the last drain */
    _Atomic unsigned unnotified; /* submissions without a wake-up that came */
    _Atomic int refs;
    aiofs_wakeup *wakeup; /* NULL: the unclaimed completions */
};

extern aiofs_completion_queue aiofs_unclaimed;
extern int (*aiofs_drain_unclaimed)(void *); /* for Py_AddPendingCall */
extern _Atomic bool aiofs_python_ends;       /* no pending calls any more */

void python_ends(void);

aiofs_completion_queue *queue_new(int eventfd, int *error);
void queue_release(aiofs_completion_queue *queue);
/* Takes the queued submissions, oldest first; NULL if there are none. `last`: the queue accepts no more. */
aiofs_submission *queue_drain(aiofs_completion_queue *queue, bool last);

/* Addresses a submission that had no queue to this one. False: it has another, or has been posted. */
bool submission_address(aiofs_submission *submission, aiofs_completion_queue *queue);
/* Takes the address back, of a submission that the engine did not take. */
void submission_withdraw(aiofs_submission *submission);
/* To its queue, or to the unclaimed completions. */
void post_completion(aiofs_submission *submission);

int unclaimed_wakeup_open(int eventfd);
void unclaimed_wakeup_reset(void);

#endif
