/*
 * completions.h - completion queues: they pass completed submissions from any thread to a thread with the GIL.
 *
 * A completion queue is a stack of submissions. Any thread pushes by compare-and-exchange, without a lock. The thread
 * that drains the queue takes the whole stack at once and reverses it, so the submissions come in the order of
 * completion. One wake-up (a write to the queue's wakeup fd) covers all completions since the last drain. A submission
 * of a list needs no wake-up (`no_wakeup`) if nothing waits for it alone: the completion of the list wakes the loop.
 *
 * Unclaimed completions. When a loop is closed, its LoopNotifier closes the queue. A submission without a queue, or
 * whose queue is closed, goes to the queue of unclaimed completions. Three places drain that queue: the next call into
 * the core that looks for a loop, a pending call of the interpreter, and every loop. Every loop watches the wakeup fd
 * of that queue, because a loop that sleeps in epoll runs no pending calls.
 *
 * Ownership. A queue is reference-counted. Its LoopNotifier owns one reference, and so does each submission that is
 * addressed to it.
 *
 * Locking. None: all fields that several threads use are atomic. Only threads with the GIL drain.
 */
#ifndef AIOFS_COMPLETIONS_H
#define AIOFS_COMPLETIONS_H

#include "core/submission.h"

struct aiofs_completion_queue {
    _Atomic(aiofs_submission *) top;
    _Atomic bool notified;       /* the wakeup fd was written since the last drain */
    _Atomic unsigned unnotified; /* submissions that were pushed with no_wakeup */
    _Atomic int refs;
    aiofs_wakeup *wakeup; /* NULL: this is the queue of unclaimed completions */
};

extern aiofs_completion_queue aiofs_unclaimed;
extern int (*aiofs_drain_unclaimed)(void *); /* the function for Py_AddPendingCall */
extern _Atomic bool aiofs_python_ends;       /* the interpreter exits: no more pending calls */
/* A submission is awaited on a loop that does not drain its queue: each completion also wakes the loops that watch the
 * wakeup fd of the unclaimed completions. */
extern _Atomic bool aiofs_awaited_elsewhere;

void python_ends(void);

aiofs_completion_queue *queue_new(int eventfd, int *error);
void queue_release(aiofs_completion_queue *queue);
/* Takes the queued submissions, oldest first; NULL if there are none. `last`: also closes the queue. */
aiofs_submission *queue_drain(aiofs_completion_queue *queue, bool last);

/* Addresses a submission without a queue to this queue. False: it has another queue, or was posted already. */
bool submission_address(aiofs_submission *submission, aiofs_completion_queue *queue);
/* Removes the address of a submission that the engine did not accept. */
void submission_withdraw(aiofs_submission *submission);
/* Pushes a completed submission to its queue, or to the unclaimed completions. On any thread, without the GIL. */
void post_completion(aiofs_submission *submission);

int unclaimed_wakeup_open(int eventfd);
void unclaimed_wakeup_reset(void);

#endif
