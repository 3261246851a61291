/*
 * submit.c - aio_read, aio_write, aio_fsync, lio_listio: from struct aiocb to the rules of the engine (aio_rules.h).
 *
 * A request that cannot block completes inside the call, without an allocation: when aio_read returns, the aiocb is
 * terminal, and the program has been notified. Every other request becomes an aiofs_aio, which goes to the engine.
 *
 * Ownership. See posix.h.
 *
 * Locking. None. A program must not submit one aiocb on two threads at the same time.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>

#include "posix.h"

/* ---- the fields of an aiocb ------------------------------------------------------------------------------- */

/* Reads the fields of an aiocb. If aiofs opened the descriptor, `file` is a reference, which ask_end releases. */
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

/* ---- completion ----------------------------------------------------------------------------------- */

static bool publish(void *cb, int64_t result)
{
    return control_end(cb, result);
}

static aiofs_ending ending_of(struct aiocb *cb)
{
    return (aiofs_ending){.control = cb, .publish = publish};
}

/* Begins and completes a request inside the call. */
static void complete_inside(aiofs_ending *ending, int64_t result)
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

/* Allocates a request for the engine, and makes the aiocb's state AIOFS_SUBMITTED. NULL: no memory. */
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

static int submit_to_engine(const struct aiofs_ask *ask, aiofs_ending *ending)
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
        return submit_to_engine(ask, &ending);
    complete_inside(&ending, moved);
    return 0;
}

static int submit(struct aiocb *cb, int op)
{
    int before = posix_disable_cancel();
    struct aiofs_ask ask = ask_of(cb, op);
    int answer = posix_answer(start(cb, &ask));
    ask_end(&ask);
    posix_restore_cancel(before);
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
    complete_inside(&ending, result);
    aiofs_list_note(call, result);
}

static void start_entry(struct aiofs_list_call *call, struct aiocb *cb)
{
    int op = cb ? aiofs_list_op(cb->aio_lio_opcode) : 0;
    if (op == 0)
        return;
    if (control_state(cb) == AIOFS_SUBMITTED) { /* an earlier call submitted it; that request continues */
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
    int before = posix_disable_cancel();
    int answer = posix_answer(start_list(mode, cbs, nent, event));
    posix_restore_cancel(before);
    return answer;
}
