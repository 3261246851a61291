/*
 * posix.h - the C face: <aio.h> over the engine, for programs that were compiled against libc's own.
 *
 *     control.c   the state of an aiocb                  submit.c      aio_read, aio_write, aio_fsync, lio_listio
 *     outcome.c   aio_error, aio_return, aio_suspend, aio_cancel
 *     completion.c   completion descriptors              volume.c      aiofs_open, aiofs_close
 *
 * The rules are the engine's (aio_rules.h). What is here leads from struct aiocb to them.
 *
 * Each function has three names: its own, which takes the place of libc's where libaiofs.so comes first in the
 * search for symbols (a program that is linked to it, LD_PRELOAD); the same with `64`; and one with `aiofs_`,
 * for shared objects that are loaded later, an extension module of Python's for one, where libc comes first.
 *
 * Ownership. A request that goes to the engine is an aiofs_aio. submit.c allocates it, and its last reference frees it;
 * the end of the request drops the reference of the C face. The aiofs_aio holds copies of all that the end needs,
 * because the program owns the aiocb again as soon as its state is terminal. A request that ends inside the call
 * has no aiofs_aio.
 */
#ifndef AIOFS_POSIX_H
#define AIOFS_POSIX_H

#include <aio.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>

#include "aio_rules.h"
#include "control.h"

/* A function under its three names; its C name is posix_NAME, so that <aio.h>'s attributes, which let the compiler
 * believe whatever a careless caller breaks, are not upon it. */
#define POSIX_FACE(type, name, parameters)                                                                             \
    AIOFS_API type posix_##name parameters __asm__(#name);                                                             \
    AIOFS_API type posix64_##name parameters __asm__(#name "64");                                                      \
    AIOFS_API type prefixed_##name parameters __asm__("aiofs_" #name);                                                 \
    extern __typeof__(posix_##name) posix64_##name __attribute__((alias(#name)));                                      \
    extern __typeof__(posix_##name) prefixed_##name __attribute__((alias(#name)));                                     \
    type posix_##name parameters

/* A notice of the sigevent, also for completion descriptors; completion.c. 0 or -EAGAIN. */
int posix_notice_set(aiofs_notice *notice, const struct sigevent *event);

/* 0 or -1 and errno. */
static inline int posix_answer(int64_t result)
{
    if (result >= 0)
        return (int)result;
    errno = (int)-result;
    return -1;
}

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
