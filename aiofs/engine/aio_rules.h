/*
 * aio_rules.h - the rules of POSIX AIO, for both faces: posix/ (struct aiocb) and the core (Python's aiocb).
 *
 *     aio_rules.c    valid arguments, completion inside the call, the order of the steps of a completion
 *     aio_list.c     lio_listio: the count, the list's notice, LIO_WAIT, how much one call copies
 *     aio_batch.c    lio_listio: submission in batches
 *     aio_notice.c   notices: none, a signal, a thread, and a hook for what only one face has
 *
 * A face reads a control block into an aiofs_ask, checks it, and tries to complete it inside the call. If that is not
 * possible, the face allocates an aiofs_aio and submits it to the engine. The face keeps the state of the control block
 * itself and gives two hooks: `publish` makes that state terminal, `notify` is the face's part of a notice.
 *
 *     check ──> notice set ──> inside the call? ──> aiofs_end          (no aiofs_aio is needed)
 *                              else ──> aiofs_aio ──> the engine ──> aiofs_aio_done ──> aiofs_end
 *
 * A completion has four steps, always in this order: make the state of the control block terminal, give its notice,
 * count its list down, wake the threads that sleep on the control block. So a thread that receives a notice finds the
 * state terminal, and a thread that slept in aio_suspend finds that the notice was given.
 *
 * Ownership. An aiofs_ending is part of its aiofs_aio, or is on the stack of the call. A notice owns a prepared thread
 * and a reference of the face, from aiofs_notice_set until it is given or dropped. The call of lio_listio and the count
 * of its entries are the two owners of a list.
 *
 * Locking. None: the counts are atomic, and everything else is written before the request is submitted. Hooks run
 * without any lock, on any thread, also on threads of the engine: a hook neither blocks nor uses the program's
 * descriptors.
 */
#ifndef AIOFS_AIO_RULES_H
#define AIOFS_AIO_RULES_H

#include "engine.h"

/* ---- notices: aio_notice.c --------------------------------------------------------------------------------------- */

typedef struct aiofs_notice {
    int kind; /* SIGEV_NONE, SIGEV_SIGNAL, SIGEV_THREAD; any other value is the face's own, or has no meaning */
    int signo;
    union sigval value;
    aiofs_notification *thread; /* prepared; NULL: there is no function to call */
    void (*notify)(void *face);   /* the face's part; runs after the signal or thread, may free the notice; or NULL */
    void (*drop)(void *face);   /* runs instead of `notify` when the notice is dropped; or NULL */
    void *face;
} aiofs_notice;

/* 0; -EINVAL: the sigevent names a signal that does not exist. NULL is valid: no notification. */
AIOFS_API int aiofs_notice_check(const struct sigevent *event);
/* Copies the sigevent. 0; -EAGAIN: no thread can be started for it, and the notice is empty. */
AIOFS_API int aiofs_notice_set(aiofs_notice *notice, const struct sigevent *event);
/* Sends the notification. Call it once, or call aiofs_notice_drop once. */
AIOFS_API void aiofs_notice_give(aiofs_notice *notice);
/* Frees what the notice owns, without a notification. */
AIOFS_API void aiofs_notice_drop(aiofs_notice *notice);

/* ---- what a control block asks for: aio_rules.c ------------------------------------------------------------------ */

typedef struct aiofs_list aiofs_list;

struct aiofs_ask {
    int op;           /* enum aiofs_op; or a negated errno, from aiofs_sync_op or aiofs_list_op */
    int fd;
    aiofs_file *file; /* borrowed; NULL: `fd` is a plain descriptor */
    int reqprio;      /* this and the following fields: of reads and writes only */
    struct iovec bytes;
    int64_t offset;
    bool mapped;      /* as in aiofs_request */
};

/* The operation for aio_fsync's O_SYNC or O_DSYNC; -EINVAL: another value. */
AIOFS_API int aiofs_sync_op(int op);
/* 0; -EINVAL: the operation, the priority or the signal number is invalid. */
AIOFS_API int aiofs_ask_check(const struct aiofs_ask *ask, const struct sigevent *event);

/* ---- one call of lio_listio, while it starts its entries: aio_list.c --------------------------------------------- */

enum { AIOFS_LIST_BATCH = 64 };

struct aiofs_list_call {
    aiofs_list *list;
    bool waits;       /* LIO_WAIT; a face clears it to return without waiting */
    size_t bytes;     /* bytes that the call may still copy */
    size_t unclocked; /* bytes copied since the last read of the clock */
    int64_t until;    /* aiofs_now() after which the call makes no more copies */
    size_t count;     /* entries in `batch`, which is not submitted yet */
    struct aiofs_batch_entry batch[AIOFS_LIST_BATCH];
};

/* The operation of an entry; 0: LIO_NOP, which the caller skips; -EINVAL: an invalid opcode. */
AIOFS_API int aiofs_list_op(int opcode);
/* Is the sigevent of the list itself used in this mode? */
AIOFS_API bool aiofs_list_notifies(int mode);
/* 0; -EINVAL: the call fails and starts no entry. */
AIOFS_API int aiofs_list_check(int mode, int nent, const struct sigevent *event);
/* 0: the list has taken over `notice` (NULL: no notification). -EAGAIN: no memory. */
AIOFS_API int aiofs_list_begin(struct aiofs_list_call *call, int mode, aiofs_notice *notice);
/* May the call copy `bytes` more bytes? If so, counts them. */
AIOFS_API bool aiofs_list_affords(struct aiofs_list_call *call, size_t bytes);
/* The count: one more request of the list goes to the engine; it is terminal; the result is an error or not. */
AIOFS_API void aiofs_list_join(aiofs_list *list);
AIOFS_API void aiofs_list_ended(aiofs_list *list, int64_t result);
/* Waits until the count is zero. 0; -EIO: an entry failed; -EINTR: a signal handler ran. */
AIOFS_API int aiofs_list_wait(aiofs_list *list);
/* The call leaves the list. */
AIOFS_API void aiofs_list_release(aiofs_list *list);
/* Records the result of an entry that was never submitted to the engine. */
AIOFS_API void aiofs_list_note(struct aiofs_list_call *call, int64_t result);

/* ---- a request for the engine: aio_rules.c ----------------------------------------------------------------------- */

/* What the completion of one request has to change and to notify. */
typedef struct aiofs_ending {
    void *control; /* the face's control block */
    /* Makes the state of `control` terminal. True: threads sleep on it. NULL: the request's state is its state. */
    bool (*publish)(void *control, int64_t result);
    aiofs_notice notice;
    aiofs_list *list; /* or NULL */
} aiofs_ending;

typedef struct aiofs_aio {
    aiofs_request request; /* first: a pointer to the request is a pointer to the aiofs_aio */
    aiofs_ending ending;
} aiofs_aio;

static inline bool aiofs_ask_moves(const struct aiofs_ask *ask)
{
    return ask->op == AIOFS_READ || ask->op == AIOFS_WRITE;
}
/* May the call itself move the bytes, if they are cached? `call` is the call of lio_listio; NULL: another function. */
static inline bool aiofs_ask_is_quick(const struct aiofs_ask *ask, const struct aiofs_list_call *call)
{
    bool overtakes = call && call->count > 0 && ask->op == AIOFS_WRITE; /* an append must not overtake the batch */
    return aiofs_ask_moves(ask) && ask->reqprio == 0 && ask->bytes.iov_len > 0 &&
           ask->bytes.iov_len <= AIOFS_INLINE_MAX && !overtakes;
}
/* Moves the bytes inside the call. The count, or AIOFS_NOT_INLINE. */
AIOFS_API int64_t aiofs_ask_inline(const struct aiofs_ask *ask, struct aiofs_list_call *call);
/* Fills in the request from `ask`. aio_fsync uses nothing but the descriptor. */
AIOFS_API void aiofs_aio_fill(aiofs_aio *aio, const struct aiofs_ask *ask);

/* Runs the steps of a completion in their order. `ending` may be freed when it returns. */
AIOFS_API void aiofs_end(aiofs_ending *ending, int64_t result);
/* The `done` hook of an aiofs_aio's request. */
AIOFS_API void aiofs_aio_done(aiofs_request *request);
/* Completes a request that the engine did not accept, with the same steps. */
AIOFS_API void aiofs_aio_end(aiofs_aio *aio, int64_t result);
/* The call fails with this error: publishes it in the control block and drops the notice. */
AIOFS_API void aiofs_refuse(aiofs_ending *ending, int error);

/* ---- the batch: aio_batch.c -------------------------------------------------------------------------------------- */

/* Adds a request to the batch and to the list's count. True: the batch is full, submit it. */
AIOFS_API bool aiofs_list_put(struct aiofs_list_call *call, aiofs_aio *aio, aiofs_file *file);
/* Submits the batch. A request that the engine does not accept completes with the error. */
AIOFS_API void aiofs_list_submit(struct aiofs_list_call *call);
/* After the last entry: submits the rest of the batch. With LIO_WAIT, waits for all entries. 0; -EIO: an entry failed;
 * -EINTR: a signal handler ran, the requests continue. */
AIOFS_API int aiofs_list_finish(struct aiofs_list_call *call);

/* ---- aio_return, aio_cancel -------------------------------------------------------------------------------------- */

/* The result of aio_return: the count or a negated errno. `before`: the result was already fetched once.
 * Async-signal-safe. */
AIOFS_API int64_t aiofs_outcome_return(enum aiofs_state state, int64_t result, bool before);
/* Are the arguments of aio_cancel valid? `of` is the control block's descriptor; NULL: no control block was given.
 * 0, -EBADF, -EINVAL. */
AIOFS_API int aiofs_cancel_check(int fd, const int *of);

#endif
