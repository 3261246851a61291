/*
 * posix.h - the C face: <aio.h> over the engine, for programs that were compiled against libc's own.
 *
 *     control.c   what an aiocb says of its request          submit.c   aio_read, aio_write, aio_fsync
 *     listio.c    lio_listio                                 outcome.c  aio_error, aio_return, aio_suspend, aio_cancel
 *     notice.c    telling the program; completion descriptors           volume.c  aiofs_open, aiofs_close
 *
 * Each function has three names: its own, which takes the place of libc's where libaiofs.so comes first in the
 * search for symbols (a program that is linked to it, LD_PRELOAD); the same with `64`; and one with `aiofs_`,
 * for shared objects that are loaded later, an extension module of Python's for one, where libc comes first.
 *
 * Ownership. A posix_request is one submission that the engine has. It is allocated by submit.c and freed by the
 * engine's last reference; it holds copies of all that its end needs, for the aiocb is the program's again as
 * soon as its state is terminal. What ended inside the call has no posix_request at all.
 */
#ifndef AIOFS_POSIX_H
#define AIOFS_POSIX_H

#include <aio.h>
#include <pthread.h>
#include <signal.h>

#include "control.h"
#include "engine.h"

/* A function under its three names; its C name is posix_NAME, so that <aio.h>'s attributes, which let the compiler
 * believe whatever a careless caller breaks, are not upon it. */
#define POSIX_FACE(type, name, parameters)                                                                              \
    AIOFS_API type posix_##name parameters __asm__(#name);                                                              \
    AIOFS_API type posix64_##name parameters __asm__(#name "64");                                                       \
    AIOFS_API type prefixed_##name parameters __asm__("aiofs_" #name);                                                  \
    extern __typeof__(posix_##name) posix64_##name __attribute__((alias(#name)));                                       \
    extern __typeof__(posix_##name) prefixed_##name __attribute__((alias(#name)));                                      \
    type posix_##name parameters

/* ---- notice.c: who is notified of an end --------------------------------------------------------------------- */

struct notice {
    int kind; /* SIGEV_* */
    int signo;
    union sigval value;
    aiofs_notification *thread; /* NULL: no function to call */
    aiofs_wakeup *wakeup; /* of a completion descriptor; a reference */
};

/* False: it names a signal that does not exist. */
bool notice_is_possible(const struct sigevent *event);
/* The sigevent as it stands now; NULL: nobody is notified. 0, or -EAGAIN: it could never be told (it is empty then). */
int notice_set(struct notice *notice, const struct sigevent *event);
/* Once; never in vain. It is empty then. */
void notice_give(struct notice *notice);
/* Instead: nobody is notified. */
void notice_drop(struct notice *notice);

/* ---- listio.c ------------------------------------------------------------------------------------------------ */

struct posix_list; /* one call of lio_listio */

/* An entry of it has ended. */
void list_ended(struct posix_list *list, int64_t result);

/* ---- submit.c ------------------------------------------------------------------------------------------------ */

struct posix_request {
    aiofs_request request; /* first: the engine's pointer is ours */
    struct aiocb *cb;
    struct notice notice;
    struct posix_list *list; /* or NULL */
};

/* How much a call may still copy on its caller's thread. */
struct allowance {
    size_t bytes;
    int64_t until; /* aiofs_now() */
};

enum { POSIX_BATCH = 64 };

struct posix_batch {
    size_t count;
    struct aiofs_batch_entry list[POSIX_BATCH];
};

/* An entry of a list, to be carried out as `op`; 0: it asks for nothing that there is. It ends here, with its error if it
 * has one, or is put into the batch, which is submitted when it is full, and at last by posix_submit. One whose request
 * is in flight from an earlier call is left alone, and counts as failed. */
void posix_begin(struct aiocb *cb, int op, struct posix_list *list, struct allowance *allowance, struct posix_batch *batch);
/* Submits what is in the batch; what the engine does not accept ends with its error. */
void posix_submit(struct posix_batch *batch);

/* 0 or -1 and errno. */
int posix_answer(int64_t result);

/* What is no cancellation point keeps a cancellation off, whatever it calls: it may hold locks. */
static inline int posix_hold_off(void)
{
    int before;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
    return before;
}
static inline void posix_let_in(int before)
{
    pthread_setcancelstate(before, NULL);
}

#endif
