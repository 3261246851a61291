/*
 * posix.h - the C face: <aio.h> over the engine, for programs that were compiled against libc's own.
 *
 *     control.c   the state of an aiocb                  submit.c      aio_read, aio_write, aio_fsync, lio_listio
 *     outcome.c   aio_error, aio_return, aio_suspend, aio_cancel
 *     completion.c   completion descriptors              volume.c      aiofs_open, aiofs_close
 *
 * The engine has the rules of POSIX AIO (aio_rules.h). The C face connects struct aiocb to them.
 *
 * Each function has three names. Its own name replaces libc's function where libaiofs.so comes first in the symbol
 * search order: in a program that is linked to it, or with LD_PRELOAD. The name with the suffix `64` does the same. The
 * name with the prefix `aiofs_` is for shared objects that are loaded later, such as a Python extension module: there
 * libc comes first.
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

/* Defines a function under its three names. Its C name is posix_NAME, so that the attributes of <aio.h> do not apply to
 * it: with `nonnull`, the compiler would remove the checks for NULL. */
#define POSIX_FACE(type, name, parameters)                                                                             \
    AIOFS_API type posix_##name parameters __asm__(#name);                                                             \
    AIOFS_API type posix64_##name parameters __asm__(#name "64");                                                      \
    AIOFS_API type prefixed_##name parameters __asm__("aiofs_" #name);                                                 \
    extern __typeof__(posix_##name) posix64_##name __attribute__((alias(#name)));                                      \
    extern __typeof__(posix_##name) prefixed_##name __attribute__((alias(#name)));                                     \
    type posix_##name parameters

/* Sets the notice for a sigevent, also for completion descriptors (completion.c). 0; -EAGAIN: no thread for it. */
int posix_notice_set(aiofs_notice *notice, const struct sigevent *event);

/* Returns a result that is not negative; for a negated errno sets errno and returns -1. */
static inline int posix_answer(int64_t result)
{
    if (result >= 0)
        return (int)result;
    errno = (int)-result;
    return -1;
}

/* A function that is no cancellation point disables cancellation, because it may hold locks and allocate memory. */
static inline int posix_disable_cancel(void)
{
    int before;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
    return before;
}
static inline void posix_restore_cancel(int before)
{
    pthread_setcancelstate(before, NULL);
}

#endif
