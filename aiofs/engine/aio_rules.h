/*
 * aio_rules.h - the rules of POSIX AIO, for every face: posix/ (struct aiocb) and the core (Python's aiocb).
 *
 *     aio_rules.c    which arguments are valid, what completes inside the call, the order of an end
 *     aio_list.c     lio_listio: submission in batches, the count, the list's notice, LIO_WAIT
 *     aio_notice.c   notices: none, a signal, a thread, and a hook for what only a face knows
 *
 * A face reads a control block into an aiofs_ask, asks whether it is valid, tries it inside the call, and otherwise
 * allocates an aiofs_aio for the engine. It keeps the state of the control block itself, and says by hooks how: `publish`
 * makes that state terminal, `tell` is the face's part of a notice.
 *
 *     check ──> notice set ──> inside the call? ──> aiofs_end          (no aiofs_aio is needed)
 *                              else ──> aiofs_aio ──> the engine ──> aiofs_aio_done ──> aiofs_end
 *
 * The order of an end, for everybody: the state of the control block, its notice, its list, and at last those that sleep
 * on it. So whoever sees a notice finds the state final, and whoever slept finds that the notice was sent.
 *
 * Ownership. An aiofs_ending belongs to its request, or stands on the stack of the call. A notice owns what it needs
 * (a prepared thread, the face's reference) from aiofs_notice_set until it is given or dropped, once. A list has two
 * owners: the call that starts it, and what it counts.
 *
 * Locking. None: the counts are atomic, everything else is written before the request is submitted. Hooks run with no
 * lock held, on any thread, perhaps one of the engine's: they neither block nor use descriptors of the program's.
 */
#ifndef AIOFS_AIO_RULES_H
#define AIOFS_AIO_RULES_H

#include "engine.h"

/* ---- notices: aio_notice.c --------------------------------------------------------------------------------------- */

typedef struct aiofs_notice {
    int kind; /* SIGEV_NONE, SIGEV_SIGNAL, SIGEV_THREAD; any other is the face's own, or means nothing */
    int signo;
    union sigval value;
    aiofs_notification *thread; /* prepared; NULL: there is no function to call */
    void (*tell)(void *face);   /* the face's part, after the others and last to touch the notice; or NULL */
    void (*drop)(void *face);   /* instead of it; or NULL */
    void *face;
} aiofs_notice;

/* 0, or -EINVAL: it names a signal that does not exist. NULL: nobody is notified. */
AIOFS_API int aiofs_notice_check(const struct sigevent *event);
/* A copy of the sigevent as it stands now. 0, or -EAGAIN: no thread can be had for it; it is empty then. */
AIOFS_API int aiofs_notice_set(aiofs_notice *notice, const struct sigevent *event);
/* Once. */
AIOFS_API void aiofs_notice_give(aiofs_notice *notice);
/* Instead: nobody is notified. */
AIOFS_API void aiofs_notice_drop(aiofs_notice *notice);

/* ---- what a control block asks for: aio_rules.c ------------------------------------------------------------------- */

typedef struct aiofs_list aiofs_list;

struct aiofs_ask {
    int op;           /* enum aiofs_op; or a negated errno: aiofs_sync_op, aiofs_list_op */
    int fd;
    aiofs_file *file; /* borrowed; NULL: `fd` is a plain descriptor */
    int reqprio;      /* of a read or a write, as are the others */
    struct iovec bytes;
    int64_t offset;
};

/* The operation of aio_fsync's O_SYNC and O_DSYNC; -EINVAL. */
AIOFS_API int aiofs_sync_op(int op);
/* 0; -EINVAL: it asks for what there is not. */
AIOFS_API int aiofs_ask_check(const struct aiofs_ask *ask, const struct sigevent *event);

/* ---- one call of lio_listio, while it starts its entries: aio_list.c ---------------------------------------------- */

enum { AIOFS_LIST_BATCH = 64 };

struct aiofs_list_call {
    aiofs_list *list;
    bool waits;       /* LIO_WAIT; a face that gives up clears it */
    size_t bytes;     /* which it may still copy inside the call */
    size_t unclocked; /* copied since the last look at the clock */
    int64_t until;    /* aiofs_now(): no more copies after that */
    size_t count;     /* of the batch, which is not submitted yet */
    struct aiofs_batch_entry batch[AIOFS_LIST_BATCH];
};

/* The operation of an entry; 0: LIO_NOP, to be passed over; -EINVAL: a bad opcode. */
AIOFS_API int aiofs_list_op(int opcode);
/* Does the list's own sigevent count? */
AIOFS_API bool aiofs_list_notifies(int mode);
/* 0 or -EINVAL: nothing may be started. */
AIOFS_API int aiofs_list_check(int mode, int nent, const struct sigevent *event);
/* 0: the list has taken over `notice` (NULL: nobody is notified). -EAGAIN: no memory. */
AIOFS_API int aiofs_list_begin(struct aiofs_list_call *call, int mode, aiofs_notice *notice);
/* May the call copy so many bytes more? Counts them. */
AIOFS_API bool aiofs_list_affords(struct aiofs_list_call *call, size_t bytes);
/* An entry has ended without a request of the engine's. */
AIOFS_API void aiofs_list_note(struct aiofs_list_call *call, int64_t result);

/* ---- a request for the engine: aio_rules.c ------------------------------------------------------------------------ */

/* Who is concerned by an end. */
typedef struct aiofs_ending {
    void *control; /* the face's control block */
    /* Makes its state terminal. True: somebody sleeps on it. NULL: its state is that of the request. */
    bool (*publish)(void *control, int64_t result);
    aiofs_notice notice;
    aiofs_list *list; /* or NULL */
} aiofs_ending;

typedef struct aiofs_aio {
    aiofs_request request; /* first: the engine's pointer is the face's */
    aiofs_ending ending;
} aiofs_aio;

static inline bool aiofs_ask_moves(const struct aiofs_ask *ask)
{
    return ask->op == AIOFS_READ || ask->op == AIOFS_WRITE;
}
/* The bytes can be moved inside the call, if they are cached. `call`: of the list's; NULL: none. */
static inline bool aiofs_ask_is_quick(const struct aiofs_ask *ask, const struct aiofs_list_call *call)
{
    bool overtakes = call && call->count > 0 && ask->op == AIOFS_WRITE; /* appends keep their order */
    return aiofs_ask_moves(ask) && ask->reqprio == 0 && ask->bytes.iov_len > 0 &&
           ask->bytes.iov_len <= AIOFS_INLINE_MAX && !overtakes;
}
/* Moves them; the count, or AIOFS_NOT_INLINE. */
AIOFS_API int64_t aiofs_ask_inline(const struct aiofs_ask *ask, struct aiofs_list_call *call);
/* What the engine needs for it. aio_fsync takes nothing but the descriptor. */
AIOFS_API void aiofs_aio_fill(aiofs_aio *aio, const struct aiofs_ask *ask);

/* The end, in its order; `ending` may be gone when it returns. */
AIOFS_API void aiofs_end(aiofs_ending *ending, int64_t result);
/* For request.done of an aiofs_aio. */
AIOFS_API void aiofs_aio_done(aiofs_request *request);
/* Ends one that the engine does not have, as if it had. */
AIOFS_API void aiofs_aio_end(aiofs_aio *aio, int64_t result);
/* The call fails with this error: the control block says so too, and nobody is notified. */
AIOFS_API void aiofs_refuse(aiofs_ending *ending, int error);

/* The batch gets one more, which counts from now on. True: it is full, and to be submitted. */
AIOFS_API bool aiofs_list_put(struct aiofs_list_call *call, aiofs_aio *aio, aiofs_file *file);
/* Submits the batch; what the engine does not accept ends with its error. */
AIOFS_API void aiofs_list_submit(struct aiofs_list_call *call);
/* All entries are started: submits the rest. LIO_WAIT waits: 0, -EIO: an entry failed, -EINTR: they go on. */
AIOFS_API int aiofs_list_finish(struct aiofs_list_call *call);
/* An entry that was put has ended. */
AIOFS_API void aiofs_list_ended(aiofs_list *list, int64_t result);

/* ---- what has become of it ---------------------------------------------------------------------------------------- */

/* What aio_return says: the count or a negated errno. `before`: it has said so before. Async-signal-safe. */
AIOFS_API int64_t aiofs_outcome_return(enum aiofs_state state, int64_t result, bool before);
/* May aio_cancel be called so? `of`: the descriptor of the control block; NULL: there is none. 0, -EBADF, -EINVAL. */
AIOFS_API int aiofs_cancel_check(int fd, const int *of);

#endif
