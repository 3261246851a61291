/*
 * outside.c - requests on files that bring their own operations (aiofs_ops): volumes that are no directory.
 *
 * lane.c says when such a request may run and puts it on a list; the thread that has let go of the engine lock
 * calls request_start_outside with that list. What happens next depends on the file's operations:
 *
 *   blocks       the request goes to a host thread (host_threads.c), where its operation may take as long as it likes.
 *                A gate for each volume lets a limited number of threads into it, so that a slow volume leaves
 *                threads for the others. A request that waits for a thread or at the gate can be cancelled.
 *   otherwise    the operation runs at once, on this thread. Operations that a finished one lets go run after it,
 *                not inside it: a chain of them may be long. What an operation submits itself, on whatever file,
 *                is no part of that chain: it runs before aiofs_submit returns, for the operation may wait for it.
 *
 * The engine lock guards the gates. No lock is held while an operation runs.
 */
#define _GNU_SOURCE
#include "internal.h"

enum { THREADS_IN_A_VOLUME = 16 };

/* A request whose `submit` runs on this thread: aiofs_complete leaves its end to the caller of `submit`. */
struct submitted {
    aiofs_request *request;
    struct submitted *outer;
    bool ended;
    int64_t result;
};
static _Thread_local struct submitted *innermost;

/* The requests that this thread starts, one after the other, while one of `file` ends. */
struct chain {
    struct aiofs_link *list;
    const aiofs_file *file;
};
static _Thread_local struct chain *chain;

static unsigned epoch; /* of processes: the gates of another one are as good as new */

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

/* True: it is to be ended with `result`. False: `submit` has ended it elsewhere, or will; it may be gone. */
static bool carry_out(aiofs_request *request, int64_t *result)
{
    struct chain *before = chain;
    struct submitted here = {.request = request, .outer = innermost, .ended = true};
    chain = NULL;
    if (request->file->ops->submit) {
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

/* NULL: a file with no entry, and so no limit. Lock held. */
static struct aiofs_gate *gate_of(const aiofs_file *file)
{
    struct aiofs_gate *gate = file->lock_ref ? aiofs_lock_ref_gate(file->lock_ref) : NULL;
    if (gate && (!gate->waiting.next || gate->epoch != epoch)) {
        gate->threads = 0;
        gate->epoch = epoch;
        list_init(&gate->waiting);
    }
    return gate;
}

bool outside_begin(aiofs_request *request)
{
    struct aiofs_gate *gate = gate_of(request->file);
    if (gate && gate->threads >= THREADS_IN_A_VOLUME) {
        request->phase = PHASE_WAITING;
        list_append(&gate->waiting, &request->queued);
        return false;
    }
    request->phase = PHASE_RUNNING;
    if (gate)
        gate->threads++;
    return true;
}

/* The next request for a thread in a volume; NULL: it leaves. */
static aiofs_request *next_at(struct aiofs_gate *gate)
{
    struct aiofs_link *link = NULL;
    if (!gate)
        return NULL;
    pthread_mutex_lock(&engine.lock);
    if (gate->epoch == epoch) { /* this process has not been forked off meanwhile */
        link = list_pop(&gate->waiting);
        if (link)
            CONTAINER(link, aiofs_request, queued)->phase = PHASE_RUNNING;
        else
            gate->threads--;
    }
    pthread_mutex_unlock(&engine.lock);
    return link ? CONTAINER(link, aiofs_request, queued) : NULL;
}

void outside_carry(aiofs_request *request)
{
    aiofs_lock_ref *lock_ref = request->file->lock_ref;
    aiofs_volume *volume = lock_ref ? aiofs_lock_ref_volume(lock_ref) : NULL;
    struct aiofs_gate *gate = lock_ref ? aiofs_lock_ref_gate(lock_ref) : NULL;
    int64_t result;
    if (volume)
        aiofs_volume_retain(volume); /* the gate's; the file may go with the request */
    for (; request; request = next_at(gate))
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
    while ((link = list_pop(outside))) {
        aiofs_request *request = CONTAINER(link, aiofs_request, queued);
        int64_t result;
        if (request->file->ops->blocks) {
            hand_to_host(request);
            continue;
        }
        here.file = request->file;
        if (!carry_out(request, &result))
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
