/* completions.c - completion queues, and the queue of unclaimed completions. See completions.h. */
#include <stdlib.h>

#include "core/completions.h"

#define CLOSED ((aiofs_submission *)1)
#define POSTED ((aiofs_completion_queue *)1)

aiofs_completion_queue aiofs_unclaimed;
int (*aiofs_drain_unclaimed)(void *);
_Atomic bool aiofs_python_ends;
_Atomic bool aiofs_awaited_elsewhere;
static _Atomic(aiofs_wakeup *) unclaimed_wakeup; /* NULL until the first loop is used; never closed */

void python_ends(void)
{
    atomic_store(&aiofs_python_ends, true);
}

void queue_release(aiofs_completion_queue *queue)
{
    if (queue && atomic_fetch_sub(&queue->refs, 1) == 1) {
        aiofs_wakeup_release(queue->wakeup);
        free(queue);
    }
}

aiofs_completion_queue *queue_new(int eventfd, int *error)
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

/* False: the queue is closed. Sets `notify` if the caller must write the queue's wakeup fd. Every 64th submission that
 * needs no wake-up gets one too, because submissions pin their buffers until the queue is drained. */
static bool queue_push(aiofs_completion_queue *queue, aiofs_submission *submission, bool no_wakeup, bool *notify)
{
    enum { WAKEUP_EVERY = 64 };
    aiofs_submission *top = atomic_load(&queue->top);
    do {
        if (top == CLOSED)
            return false;
        submission->next = top;
    } while (!atomic_compare_exchange_weak(&queue->top, &top, submission));
    bool wakes = !no_wakeup || atomic_fetch_add(&queue->unnotified, 1) % WAKEUP_EVERY == WAKEUP_EVERY - 1;
    *notify = wakes && !atomic_load(&queue->notified) && !atomic_exchange(&queue->notified, true);
    return true;
}

aiofs_submission *queue_drain(aiofs_completion_queue *queue, bool last)
{
    if (!last && atomic_load_explicit(&queue->top, memory_order_relaxed) == NULL &&
        !atomic_load_explicit(&queue->notified, memory_order_relaxed))
        return NULL;
    atomic_store(&queue->notified, false); /* before the exchange: a later push writes the wakeup fd again */
    aiofs_submission *submission = atomic_exchange(&queue->top, last ? CLOSED : NULL), *oldest = NULL;
    if (last)
        aiofs_wakeup_close(queue->wakeup); /* the LoopNotifier then closes the eventfd's number */
    if (submission == CLOSED)
        return NULL;
    while (submission) {
        aiofs_submission *next = submission->next;
        submission->next = oldest;
        oldest = submission;
        submission = next;
    }
    return oldest;
}

int unclaimed_wakeup_open(int eventfd)
{
    aiofs_wakeup *wakeup;
    int error = aiofs_wakeup_open(eventfd, &wakeup);
    if (error == 0)
        atomic_store(&unclaimed_wakeup, wakeup);
    return error;
}

/* In the child of a fork: the wakeup fd belongs to the parent. */
void unclaimed_wakeup_reset(void)
{
    atomic_store(&unclaimed_wakeup, NULL);
    atomic_store(&aiofs_unclaimed.notified, false);
}

static void notify_unclaimed(void)
{
    aiofs_wakeup *wakeup = atomic_load(&unclaimed_wakeup);
    if (wakeup)
        aiofs_wakeup_notify(wakeup);
    if (!atomic_load(&aiofs_python_ends))
        Py_AddPendingCall(aiofs_drain_unclaimed, NULL);
}

void post_completion(aiofs_submission *submission)
{
    aiofs_completion_queue *queue = atomic_exchange(&submission->queue, POSTED);
    bool no_wakeup = atomic_load(&submission->no_wakeup), notify = false;
    if (queue && queue_push(queue, submission, no_wakeup, &notify)) {
        if (notify)
            aiofs_wakeup_notify(queue->wakeup);
        if (atomic_load(&aiofs_awaited_elsewhere)) /* after the push: the loop that wakes up drains the queue */
            notify_unclaimed();
    } else {
        queue_push(&aiofs_unclaimed, submission, false, &notify);
        if (notify)
            notify_unclaimed();
    }
    queue_release(queue);
}

bool submission_address(aiofs_submission *submission, aiofs_completion_queue *queue)
{
    aiofs_completion_queue *none = NULL;
    atomic_fetch_add(&queue->refs, 1);
    if (atomic_compare_exchange_strong(&submission->queue, &none, queue))
        return true;
    atomic_fetch_sub(&queue->refs, 1); /* not the last reference: the caller has one */
    return none == queue;
}

void submission_withdraw(aiofs_submission *submission)
{
    queue_release(atomic_exchange(&submission->queue, NULL));
}
