/*
 * outcome.c - aio_error, aio_return, aio_suspend, aio_cancel: the status and the result of requests.
 *
 * Locking. The first three functions read only the aiocb (control.h), take no lock and allocate nothing, so a signal
 * handler may call them. aio_suspend is a cancellation point, as POSIX requires; while it sleeps, it owns nothing.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>

#include "posix.h"

POSIX_FACE(int, aio_error, (const struct aiocb *cb))
{
    switch (cb ? control_state(cb) : AIOFS_NEW) {
    case AIOFS_NEW:
        return posix_answer(-EINVAL);
    case AIOFS_SUBMITTED:
        return EINPROGRESS;
    case AIOFS_DONE:
        return 0;
    default:
        return (int)-control_of(cb)->result;
    }
}

POSIX_FACE(ssize_t, aio_return, (struct aiocb *cb))
{
    enum aiofs_state state = cb ? control_state(cb) : AIOFS_NEW;
    bool ended = state >= AIOFS_DONE, before = ended && atomic_exchange(&control_of(cb)->returned, 1);
    int64_t result = aiofs_outcome_return(state, ended ? control_of(cb)->result : 0, before);
    if (result < 0)
        errno = (int)-result;
    return result < 0 ? -1 : result;
}

/* ---- waiting ------------------------------------------------------------------------------------------------ */

static _Atomic uint32_t *word_of(const void *list, size_t index)
{
    const struct aiocb *cb = ((const struct aiocb *const *)list)[index];
    return cb && control_state(cb) != AIOFS_NEW ? &control_of(cb)->state : NULL;
}

POSIX_FACE(int, aio_suspend, (const struct aiocb *const list[], int nent, const struct timespec *timeout))
{
    const struct timespec none = {0, 0};
    int before, saved = errno;
    if (nent < 0 || (timeout && (timeout->tv_nsec < 0 || timeout->tv_nsec >= 1000000000L)))
        return posix_answer(-EINVAL);
    if (timeout && timeout->tv_sec < 0)
        timeout = &none;
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &before);
    int error = aiofs_wait_on(word_of, list, (size_t)nent, timeout);
    pthread_setcanceltype(before, NULL);
    errno = saved;
    return posix_answer(error);
}

/* ---- cancellation ----------------------------------------------------------------------------------------------- */

/* Another thread has removed the request from the aiocb. Waits until that thread publishes the result, at most 1 s. */
static void wait_until_terminal(const struct aiocb *cb)
{
    enum { PATIENCE_NS = 1000000000 };
    const struct aiocb *const one[] = {cb};
    aiofs_wait_uninterrupted(word_of, one, 1, aiofs_now() + PATIENCE_NS);
}

static int cancel_one(struct aiocb *cb)
{
    aiofs_request *request = control_request(cb);
    if (!request) {
        wait_until_terminal(cb);
        return AIO_ALLDONE;
    }
    int answer = aiofs_cancel(request);
    aiofs_request_release(request);
    return answer;
}

POSIX_FACE(int, aio_cancel, (int fildes, struct aiocb *cb))
{
    int error = aiofs_cancel_check(fildes, cb ? &cb->aio_fildes : NULL);
    if (error < 0)
        return posix_answer(error);
    int before = posix_disable_cancel();
    int answer = posix_answer(cb ? cancel_one(cb) : aiofs_cancel_all(fildes));
    posix_restore_cancel(before);
    return answer;
}
