/*
 * control.h - the private part of struct aiocb, as libaiofs keeps it.
 *
 * libc's own aiocb has room between aio_sigevent and aio_offset, and behind aio_offset, that the program
 * does not use; glibc and musl have the same amount at the same places. That room is all the memory a request
 * leaves behind: so nothing depends on aio_return being called, and aio_error, aio_return and aio_suspend
 * read only what the program gave them, which a signal handler may do.
 *
 *   seal         says that the rest was written by us; before the first submission it may hold anything
 *   self         where it was written: a program may copy an aiocb whose request is in submission, and the copy
 *                is not in flight
 *   generation   of processes: what a parent has in flight is not its child's
 *   state        enum aiofs_state, and whether somebody sleeps on it (see aiofs_wait_on)
 *   result       of a terminal request: the count, or a negated errno
 *   returned     aio_return has been called
 *   request      of a request in flight
 *
 * Ownership. From control_begin to control_end the aiocb belongs to its request; control_end is the last
 * that touches it. `request` is borrowed, and may be followed only under the lock that control_request and
 * control_end take.
 */
#ifndef AIOFS_CONTROL_H
#define AIOFS_CONTROL_H

#include <aio.h>
#include <stddef.h>

#include "engine.h"

struct control {
    uint64_t seal;
    uint32_t generation;
    _Atomic uint32_t returned;
    _Atomic uint32_t state;
    int64_t result;
    int64_t aio_offset; /* not ours */
    aiofs_request *request;
    const struct aiocb *self;
};

enum { CONTROL_OFFSET = offsetof(struct aiocb, aio_sigevent) + sizeof(struct sigevent) };

_Static_assert(CONTROL_OFFSET % _Alignof(struct control) == 0, "the private part is aligned");
_Static_assert(offsetof(struct aiocb, aio_offset) == CONTROL_OFFSET + offsetof(struct control, aio_offset),
               "the private part leaves aio_offset alone");
_Static_assert(CONTROL_OFFSET + sizeof(struct control) <= sizeof(struct aiocb), "the private part fits");

static inline struct control *control_of(const struct aiocb *cb)
{
    return (struct control *)((char *)(uintptr_t)cb + CONTROL_OFFSET);
}

/* What has become of the request of an aiocb, whatever stands in it. Async-signal-safe. */
enum aiofs_state control_state(const struct aiocb *cb);

/* It is submitted from now on. */
void control_begin(struct aiocb *cb, aiofs_request *request);
/* It is terminal; and the aiocb is the program's again. True: somebody sleeps on it, see aiofs_wake_sleepers. */
bool control_end(struct aiocb *cb, int64_t result);
/* The request in submission, retained; NULL: there is none. */
aiofs_request *control_request(const struct aiocb *cb);

#endif
