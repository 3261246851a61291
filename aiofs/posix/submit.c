/*
 * submit.c - aio_read, aio_write, aio_fsync, lio_listio: from struct aiocb to the rules of the engine.
 *
 * What cannot block is done inside the call: the aiocb is terminal when aio_read returns, the program has been
 * notified, and no memory was needed. All else becomes an aiofs_aio. Nothing here is locked; an aiocb that two threads
 * submit at once is the program's mistake.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>

#include "posix.h"

/* ---- what an aiocb asks for ------------------------------------------------------------------------------- */

/* With a reference to the file, if the descriptor is aiofs's. */
static struct aiofs_ask ask_of(const struct aiocb *cb, int op)
{
    return (struct aiofs_ask){
        .op = op,
        .fd = cb->aio_fildes,
        .file = aiofs_file_find(cb->aio_fildes),
        .reqprio = cb->aio_reqprio,
        .bytes = {(void *)cb->aio_buf, cb->aio_nbytes},
        .offset = cb->aio_offset,
    };
}

static void ask_end(struct aiofs_ask *ask)
{
    if (ask->file)
        aiofs_file_release(ask->file);
}

/* ---- its end ------------------------------------------------------------------------------------------------ */

static bool publish(void *cb, int64_t result)
{
    return control_end(cb, result);
}

static aiofs_ending ending_of(struct aiocb *cb)
{
    return (aiofs_ending){.control = cb, .publish = publish};
}

/* The whole life of a request that the engine never sees. */
static void end_here(aiofs_ending *ending, int64_t result)
{
    control_begin(ending->control, NULL);
    aiofs_end(ending, result);
}

static int refuse(aiofs_ending *ending, int error)
{
    control_begin(ending->control, NULL);
    aiofs_refuse(ending, error);
    return error;
}

static void done(aiofs_request *request)
{
    aiofs_aio_done(request);
    aiofs_request_release(request);
}

static void destroy(aiofs_request *request)
{
    free(request);
}

/* A request for the engine, and the aiocb is in flight from here on. NULL: no memory. */
static aiofs_aio *prepare(const struct aiofs_ask *ask, const aiofs_ending *ending)
{
    aiofs_aio *aio = malloc(sizeof *aio);
    if (!aio)
        return NULL;
    aiofs_request_init(&aio->request);
    aiofs_aio_fill(aio, ask);
    aio->request.done = done;
    aio->request.destroy = destroy;
    aio->ending = *ending;
    control_begin(ending->control, &aio->request);
    return aio;
}

/* ---- one request ---------------------------------------------------------------------------------------------- */

static int hand_over(const struct aiofs_ask *ask, aiofs_ending *ending)
{
    aiofs_aio *aio = prepare(ask, ending);
    if (!aio)
        return refuse(ending, -EAGAIN);
    int error = aiofs_submit(&aio->request, ask->file);
    if (error < 0) {
        aiofs_refuse(&aio->ending, error);
        aiofs_request_release(&aio->request);
    }
    return error;
}

static int start(struct aiocb *cb, const struct aiofs_ask *ask)
{
    if (control_state(cb) == AIOFS_SUBMITTED)
        return -EINVAL;
    aiofs_ending ending = ending_of(cb);
    int error = aiofs_ask_check(ask, &cb->aio_sigevent);
    if (error == 0)
        error = posix_notice_set(&ending.notice, &cb->aio_sigevent);
    if (error < 0)
        return refuse(&ending, error);
    int64_t moved = aiofs_ask_inline(ask, NULL);
    if (moved == AIOFS_NOT_INLINE)
        return hand_over(ask, &ending);
    end_here(&ending, moved);
    return 0;
}

static int submit(struct aiocb *cb, int op)
{
    int before = posix_hold_off();
    struct aiofs_ask ask = ask_of(cb, op);
    int answer = posix_answer(start(cb, &ask));
    ask_end(&ask);
    posix_let_in(before);
    return answer;
}

POSIX_FACE(int, aio_read, (struct aiocb *cb))
{
    return submit(cb, AIOFS_READ);
}

POSIX_FACE(int, aio_write, (struct aiocb *cb))
{
    return submit(cb, AIOFS_WRITE);
}

POSIX_FACE(int, aio_fsync, (int op, struct aiocb *cb))
{
    int kind = aiofs_sync_op(op);
    return kind < 0 ? posix_answer(kind) : submit(cb, kind);
}

/* ---- lists ------------------------------------------------------------------------------------------------------ */

static void start_asked(struct aiofs_list_call *call, struct aiocb *cb, const struct aiofs_ask *ask)
{
    aiofs_ending ending = ending_of(cb);
    int without_notice = posix_notice_set(&ending.notice, &cb->aio_sigevent);
    int error = aiofs_ask_check(ask, &cb->aio_sigevent);
    int64_t result = error ? error : without_notice ? without_notice : aiofs_ask_inline(ask, call);
    aiofs_aio *aio = result == AIOFS_NOT_INLINE ? prepare(ask, &ending) : NULL;
    if (aio) {
        if (aiofs_list_put(call, aio, NULL))
            aiofs_list_submit(call);
        return;
    }
    result = result == AIOFS_NOT_INLINE ? -EAGAIN : result;
    end_here(&ending, result);
    aiofs_list_note(call, result);
}

static void start_entry(struct aiofs_list_call *call, struct aiocb *cb)
{
    int op = cb ? aiofs_list_op(cb->aio_lio_opcode) : 0;
    if (op == 0)
        return;
    if (control_state(cb) == AIOFS_SUBMITTED) { /* by an earlier call: it goes on */
        aiofs_list_note(call, -EINVAL);
        return;
    }
    struct aiofs_ask ask = ask_of(cb, op);
    start_asked(call, cb, &ask);
    ask_end(&ask);
}

static int start_list(int mode, struct aiocb *const cbs[], int nent, const struct sigevent *event)
{
    struct aiofs_list_call call;
    aiofs_notice notice;
    int error = aiofs_list_check(mode, nent, event);
    if (error == 0)
        error = posix_notice_set(&notice, aiofs_list_notifies(mode) ? event : NULL);
    if (error < 0)
        return error;
    error = aiofs_list_begin(&call, mode, &notice);
    if (error < 0) {
        aiofs_notice_drop(&notice);
        return error;
    }
    for (int i = 0; i < nent; i++)
        start_entry(&call, cbs[i]);
    return aiofs_list_finish(&call);
}

POSIX_FACE(int, lio_listio, (int mode, struct aiocb *const cbs[], int nent, struct sigevent *event))
{
    int before = posix_hold_off();
    int answer = posix_answer(start_list(mode, cbs, nent, event));
    posix_let_in(before);
    return answer;
}
