/*
 * outside.c - requests on files with their own operations (aiofs_ops): files of volumes that are no directory.
 *
 * lane.c decides when such a request may run and puts it on a list. The thread that released the engine lock passes the
 * list to request_start_outside. Two cases:
 *
 *   ops->blocks    a host thread (host_threads.c) calls the operation, which may take as long as it likes. Each volume
 *                  has a limiter: at most THREADS_IN_A_VOLUME threads at a time perform operations of one volume. So a
 *                  slow volume leaves threads for the others. A request that waits for a thread or in a limiter's
 *                  list can be cancelled.
 *   otherwise      this thread calls the operation at once. When an operation completes, it may unblock another request
 *                  of the same file. That one runs after it, in a loop and not by recursion, because such a chain may
 *                  be long. A request that an operation submits itself is not part of the chain: it starts before
 *                  aiofs_submit returns, because the operation may wait for it.
 *
 * Fork. An operation may fork, and its child may return from it. There the request is abandoned: the child completes
 * nothing, and leaves the lists, which are the parent's.
 *
 * Locking. The engine lock guards the limiters. No lock is held while an operation runs.
 */
#define _GNU_SOURCE
#include <errno.h>

#include "internal.h"

enum { THREADS_IN_A_VOLUME = 16 };

/* A request whose `submit` runs on this thread. aiofs_complete only stores its result; the caller of `submit` completes
 * it. */
struct submitted {
    aiofs_request *request;
    struct submitted *outer;
    bool ended;
    int64_t result;
};
static _Thread_local struct submitted *innermost;

/* The list from which this thread starts requests one after the other. While a request of `file` is being completed,
 * the requests that it unblocks go to the end of that list. */
struct chain {
    struct aiofs_link *list;
    const aiofs_file *file;
};
static _Thread_local struct chain *chain;

static unsigned epoch; /* fork adds one in the child: a limiter of an older epoch is initialised again */

/* ---- one operation ------------------------------------------------------------------------------------ */

static int64_t perform(aiofs_request *request)
{
    const struct aiofs_ops *ops = request->file->ops;
    void *self = request->file->self;
    switch (request->op) {
    case AIOFS_READ:
        return ops->read(self, request->iov, request->iovcnt, request->offset);
    case AIOFS_WRITE:
        return ops->write(self, request->iov, request->iovcnt, request->offset);
    case AIOFS_TRUNCATE:
        return ops->truncate(self, request->offset);
    default:
        return ops->flush(self);
    }
}

/* A write with O_APPEND begins at the end of the file. Appends of an open file run one after the other, so it is the end
 * that the append before has left. 0, or a negated errno. */
static int64_t place(aiofs_request *request)
{
    if (request->op != AIOFS_WRITE || !request->appends)
        return 0;
    int64_t size = request->file->ops->size(request->file->self);
    if (size < 0)
        return size;
    request->offset = size;
    return (int64_t)request->total > INT64_MAX - size ? -EFBIG : 0;
}

/* Performs the operation. True: the caller must complete the request with `result`. False: another thread has completed
 * it or will; it may be freed. */
static bool carry_out(aiofs_request *request, int64_t *result)
{
    struct chain *before = chain;
    struct submitted here = {.request = request, .outer = innermost, .ended = true};
    chain = NULL;
    if ((here.result = place(request)) < 0) {
        /* nothing to perform */
    } else if (request->file->ops->submit) {
        here.ended = false;
        innermost = &here;
        request->file->ops->submit(request->file->self, request);
        innermost = here.outer;
    } else {
        here.result = perform(request);
    }
    chain = before;
    *result = here.result;
    return here.ended;
}

void aiofs_complete(aiofs_request *request, int64_t result)
{
    if (innermost && innermost->request == request && !innermost->ended) {
        innermost->ended = true;
        innermost->result = result;
        return;
    }
    request_finish(request, result);
}

/* ---- on host threads ---------------------------------------------------------------------------------- */

/* The limiter of the file's volume. NULL: the file has no entry, so there is no limit. Lock held. */
static struct aiofs_limiter *limiter_of(const aiofs_file *file)
{
    struct aiofs_limiter *limiter = file->lock_ref ? aiofs_lock_ref_limiter(file->lock_ref) : NULL;
    if (limiter && (!limiter->waiting.next || limiter->epoch != epoch)) {
        limiter->threads = 0;
        limiter->epoch = epoch;
        list_init(&limiter->waiting);
    }
    return limiter;
}

bool outside_begin(aiofs_request *request)
{
    struct aiofs_limiter *limiter = limiter_of(request->file);
    if (limiter && limiter->threads >= THREADS_IN_A_VOLUME) {
        request->phase = PHASE_WAITING;
        list_append(&limiter->waiting, &request->queued);
        return false;
    }
    request->phase = PHASE_RUNNING;
    if (limiter)
        limiter->threads++;
    return true;
}

/* The next request for a thread that the limiter counts; NULL: there is none, and the thread is no longer counted. */
static aiofs_request *next_waiting(struct aiofs_limiter *limiter)
{
    struct aiofs_link *link = NULL;
    if (!limiter)
        return NULL;
    pthread_mutex_lock(&engine.lock);
    if (limiter->epoch == epoch) { /* else the operation forked, and this is the child */
        link = list_pop(&limiter->waiting);
        if (link)
            CONTAINER(link, aiofs_request, queued)->phase = PHASE_RUNNING;
        else
            limiter->threads--;
    }
    pthread_mutex_unlock(&engine.lock);
    return link ? CONTAINER(link, aiofs_request, queued) : NULL;
}

void outside_carry(aiofs_request *request)
{
    aiofs_lock_ref *lock_ref = request->file->lock_ref;
    aiofs_volume *volume = lock_ref ? aiofs_lock_ref_volume(lock_ref) : NULL;
    struct aiofs_limiter *limiter = lock_ref ? aiofs_lock_ref_limiter(lock_ref) : NULL;
    int64_t result;
    if (volume)
        aiofs_volume_retain(volume); /* it owns the limiter; the file may be freed together with the request */
    unsigned mine = epoch;
    for (; request; request = epoch == mine ? next_waiting(limiter) : NULL)
        if (carry_out(request, &result))
            request_finish(request, result);
    if (volume)
        aiofs_volume_release(volume);
}

static void hand_to_host(aiofs_request *request)
{
    pthread_mutex_lock(&engine.lock);
    request->phase = PHASE_WAITING;
    host_threads_carry(request);
    pthread_mutex_unlock(&engine.lock);
}

/* ---- start --------------------------------------------------------------------------------------------- */

void request_start_outside(struct aiofs_link *outside)
{
    if (list_empty(outside))
        return;
    if (chain && chain->file == CONTAINER(outside->next, aiofs_request, queued)->file) {
        list_splice(chain->list, outside);
        return;
    }
    struct chain *outer = chain, here = {.list = outside};
    struct aiofs_link *link;
    unsigned mine = epoch;
    while (epoch == mine && (link = list_pop(outside))) {
        aiofs_request *request = CONTAINER(link, aiofs_request, queued);
        int64_t result;
        if (request->file->ops->blocks) {
            hand_to_host(request);
            continue;
        }
        here.file = request->file;
        if (!carry_out(request, &result) || epoch != mine)
            continue;
        chain = &here;
        request_finish(request, result);
        chain = outer;
    }
}

bool aiofs_file_blocks(const aiofs_file *file)
{
    return file->ops && file->ops->blocks;
}

void outside_after_fork(void)
{
    epoch++;
    innermost = NULL;
    chain = NULL;
}
