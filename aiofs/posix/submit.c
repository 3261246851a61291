/*
 * submit.c - aio_read, aio_write, aio_fsync: from what an aiocb asks for to its request.
 *
 * What cannot block is done inside the call: the aiocb is terminal when aio_read returns, the program has been
 * notified, and no memory was needed. All else becomes a posix_request of the engine's. Nothing here is locked; an
 * aiocb that two threads submit at once is the program's mistake.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "posix.h"

int posix_answer(int64_t result)
{
    if (result >= 0)
        return (int)result;
    errno = (int)-result;
    return -1;
}

/* ---- the engine's hooks -------------------------------------------------------------------------------- */

/* It is terminal: the aiocb first, which is the program's from then on; those who sleep on it last, so that what
 * they find is all there is. */
static void end(struct aiocb *cb, int64_t result, struct notice *notice, struct posix_list *list)
{
    bool awaited = control_end(cb, result);
    notice_give(notice);
    if (list)
        list_ended(list, result);
    if (awaited)
        aiofs_wake_sleepers();
}

static void tell(struct posix_request *own, int64_t result)
{
    end(own->cb, result, &own->notice, own->list);
}

static void done(aiofs_request *request)
{
    tell((struct posix_request *)request, request->result);
}

static void destroy(aiofs_request *request)
{
    free(request);
}

/* ---- inside the call -------------------------------------------------------------------------------------- */

static bool affords(struct allowance *allowance, size_t bytes)
{
    if (!allowance)
        return true;
    if (allowance->bytes < bytes || aiofs_now() > allowance->until)
        allowance->bytes = 0;
    else
        allowance->bytes -= bytes;
    return allowance->bytes > 0;
}

static int64_t move_inline(const struct aiocb *cb, int op, struct allowance *allowance)
{
    const struct iovec bytes = {(void *)cb->aio_buf, cb->aio_nbytes};
    if (op > AIOFS_WRITE || cb->aio_reqprio != 0 || cb->aio_nbytes == 0 || cb->aio_nbytes > AIOFS_INLINE_MAX ||
        !affords(allowance, cb->aio_nbytes))
        return AIOFS_NOT_INLINE;
    aiofs_file *file = aiofs_file_find(cb->aio_fildes);
    int64_t moved = op == AIOFS_READ
                        ? aiofs_read_inline(file, cb->aio_fildes, &bytes, 1, bytes.iov_len, cb->aio_offset)
                        : aiofs_write_inline(file, cb->aio_fildes, &bytes, 1, bytes.iov_len, cb->aio_offset);
    if (file)
        aiofs_file_release(file);
    return moved;
}

/* The whole life of a request that the engine never sees. */
static void end_here(struct aiocb *cb, int64_t result, struct notice *notice, struct posix_list *list)
{
    control_begin(cb, NULL);
    end(cb, result, notice, list);
}

/* ---- submission --------------------------------------------------------------------------------------------- */

/* What the engine needs for it, with the notice; the aiocb is in flight from here on. NULL: no memory. */
static struct posix_request *draw_up(struct aiocb *cb, int op, const struct notice *notice, struct posix_list *list)
{
    struct posix_request *own = malloc(sizeof *own);
    if (!own)
        return NULL;
    aiofs_request_init(&own->request);
    own->request.op = op;
    own->request.fd = cb->aio_fildes;
    own->request.done = done;
    own->request.destroy = destroy;
    if (op == AIOFS_READ || op == AIOFS_WRITE) {
        own->request.single = (struct iovec){(void *)cb->aio_buf, cb->aio_nbytes};
        own->request.iov = &own->request.single;
        own->request.iovcnt = 1;
        own->request.offset = cb->aio_offset;
        own->request.reqprio = cb->aio_reqprio;
    }
    own->cb = cb;
    own->list = list;
    own->notice = *notice;
    control_begin(cb, own);
    return own;
}

/* The call fails, and the aiocb says so too. */
static int refuse(struct aiocb *cb, int error)
{
    if (control_end(cb, error))
        aiofs_wake_sleepers();
    return error;
}

/* Whether what is not in flight asks for something that there is. */
static bool is_sound(const struct aiocb *cb, int op)
{
    bool moves = op == AIOFS_READ || op == AIOFS_WRITE;
    bool is_in_range = !moves || (cb->aio_reqprio >= 0 && cb->aio_reqprio <= AIOFS_PRIO_DELTA_MAX);
    return op != 0 && is_in_range && notice_is_possible(&cb->aio_sigevent);
}

static int start(struct aiocb *cb, int op)
{
    if (control_state(cb) == AIOFS_SUBMITTED)
        return -EINVAL;
    if (!is_sound(cb, op)) {
        control_begin(cb, NULL);
        return refuse(cb, -EINVAL);
    }
    struct notice notice;
    struct posix_request *own = NULL;
    if (notice_set(&notice, &cb->aio_sigevent) == 0) {
        int64_t moved = move_inline(cb, op, NULL);
        if (moved >= 0) {
            end_here(cb, moved, &notice, NULL);
            return 0;
        }
        own = draw_up(cb, op, &notice, NULL);
    }
    if (!own) {
        notice_drop(&notice);
        control_begin(cb, NULL);
        return refuse(cb, -EAGAIN);
    }
    int error = aiofs_submit(&own->request, NULL);
    if (error < 0) {
        notice_drop(&own->notice);
        refuse(cb, error);
    }
    aiofs_request_release(&own->request);
    return error;
}

static int submit(struct aiocb *cb, int op)
{
    int before = posix_hold_off();
    int answer = posix_answer(start(cb, op));
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
    if (op != O_SYNC && op != O_DSYNC)
        return posix_answer(-EINVAL);
    return submit(cb, op == O_SYNC ? AIOFS_FSYNC : AIOFS_FDATASYNC);
}

/* ---- for lists --------------------------------------------------------------------------------------------------- */

void posix_begin(struct aiocb *cb, int op, struct posix_list *list, struct allowance *allowance, struct posix_batch *batch)
{
    struct posix_request *own;
    struct notice notice;
    if (control_state(cb) == AIOFS_SUBMITTED) {
        list_ended(list, -EINVAL);
        return;
    }
    int error = notice_set(&notice, &cb->aio_sigevent);
    bool overtakes = op == AIOFS_WRITE && batch->count > 0; /* appends keep their order */
    int64_t moved = !is_sound(cb, op) ? -EINVAL : error < 0 ? error : overtakes ? AIOFS_NOT_INLINE : move_inline(cb, op, allowance);
    if (moved != AIOFS_NOT_INLINE) {
        end_here(cb, moved, &notice, list);
    } else if ((own = draw_up(cb, op, &notice, list))) {
        batch->list[batch->count++] = (struct aiofs_batch_entry){&own->request, NULL, 0};
        if (batch->count == POSIX_BATCH)
            posix_submit(batch);
    } else {
        end_here(cb, -EAGAIN, &notice, list);
    }
}

void posix_submit(struct posix_batch *batch)
{
    aiofs_submit_many(batch->list, batch->count);
    for (size_t i = 0; i < batch->count; i++) {
        aiofs_request *request = batch->list[i].request;
        if (batch->list[i].error < 0)
            tell((struct posix_request *)request, batch->list[i].error);
        aiofs_request_release(request);
    }
    batch->count = 0;
}
