/*
 * aio_rules.c - the rules for one request of POSIX AIO: which arguments are valid, which requests complete inside the
 * call, and in which order the steps of a completion happen.
 *
 * Ownership. Nothing here is allocated. A face reads a control block into an aiofs_ask on the stack of the call. It
 * writes an aiofs_ending before it submits the request; after that, only the thread that completes the request uses it.
 *
 * Locking. None. A program must not submit one control block from two threads at the same time.
 */
#define _GNU_SOURCE
#include "aio_rules.h"

#include <errno.h>
#include <fcntl.h>

/* ---- is it valid? ------------------------------------------------------------------------------------------------ */

int aiofs_sync_op(int op)
{
    return op == O_SYNC ? AIOFS_FSYNC : op == O_DSYNC ? AIOFS_FDATASYNC : -EINVAL;
}

int aiofs_ask_check(const struct aiofs_ask *ask, const struct sigevent *event)
{
    if (ask->op <= 0 || (aiofs_ask_moves(ask) && !aiofs_reqprio_is_valid(ask->reqprio)))
        return -EINVAL;
    return aiofs_notice_check(event);
}

int aiofs_cancel_check(int fd, const int *of)
{
    int error = aiofs_descriptor(fd);
    return error < 0 ? error : of && *of != fd ? -EINVAL : 0;
}

/* ---- inside the call, or in the engine --------------------------------------------------------------------------- */

int64_t aiofs_ask_inline(const struct aiofs_ask *ask, struct aiofs_list_call *call)
{
    const struct iovec *bytes = &ask->bytes;
    if (!aiofs_ask_is_quick(ask, call) || (call && !aiofs_list_affords(call, bytes->iov_len)))
        return AIOFS_NOT_INLINE;
    if (ask->op == AIOFS_READ)
        return aiofs_read_inline(ask->file, ask->fd, bytes, 1, bytes->iov_len, ask->offset, ask->mapped);
    return aiofs_write_inline(ask->file, ask->fd, bytes, 1, bytes->iov_len, ask->offset, ask->mapped);
}

void aiofs_aio_fill(aiofs_aio *aio, const struct aiofs_ask *ask)
{
    aiofs_request *request = &aio->request;
    request->op = ask->op;
    request->fd = ask->fd;
    if (!aiofs_ask_moves(ask))
        return;
    request->single = ask->bytes;
    request->iov = &request->single;
    request->iovcnt = 1;
    request->mapped = ask->mapped;
    request->offset = ask->offset;
    request->reqprio = ask->reqprio;
}

/* ---- completion -------------------------------------------------------------------------------------------------- */

void aiofs_end(aiofs_ending *ending, int64_t result)
{
    aiofs_list *list = ending->list; /* the face's hook may free `ending` */
    bool awaited = ending->publish && ending->publish(ending->control, result);
    aiofs_notice_give(&ending->notice);
    if (list)
        aiofs_list_ended(list, result);
    if (awaited)
        aiofs_wake_sleepers();
}

void aiofs_aio_done(aiofs_request *request)
{
    aiofs_end(&((aiofs_aio *)request)->ending, request->result);
}

void aiofs_aio_end(aiofs_aio *aio, int64_t result)
{
    aiofs_request *request = &aio->request;
    aiofs_request_retain(request);
    request->result = result;
    bool awaited = aiofs_word_end(&request->state, result);
    request->done(request);
    if (awaited)
        aiofs_wake_sleepers();
    atomic_store_explicit(&request->notified, true, memory_order_release);
    aiofs_request_release(request);
}

void aiofs_refuse(aiofs_ending *ending, int error)
{
    bool awaited = ending->publish && ending->publish(ending->control, error);
    aiofs_notice_drop(&ending->notice);
    if (awaited)
        aiofs_wake_sleepers();
}

int64_t aiofs_outcome_return(enum aiofs_state state, int64_t result, bool before)
{
    if (state == AIOFS_SUBMITTED)
        return -EINPROGRESS;
    return state == AIOFS_NEW || before ? -EINVAL : result;
}
