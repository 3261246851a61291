/*
 * control.h - the private part of struct aiocb, where libaiofs keeps the state of the request.
 *
 * libc's struct aiocb has room between aio_sigevent and aio_offset, and after aio_offset, that programs do not use.
 * glibc and musl have the same amount of it at the same offsets. After its end, a request has no other memory than that
 * room. So nothing leaks if the program never calls aio_return; and aio_error, aio_return and aio_suspend read only
 * memory that the program passes to them, as a signal handler may.
 *
 *   magic        a fixed number: libaiofs set the other fields. Before the first submission they may hold anything
 *   self         the address of the aiocb: a program may copy an aiocb whose request is in flight, and the copy is not
 *                in flight
 *   generation   of the process: a request that is in flight in the parent is not in flight in a forked child
 *   state        enum aiofs_state, and whether a thread sleeps on it (see aiofs_wait_on)
 *   result       of a terminal request: the count, or a negated errno
 *   returned     aio_return has been called
 *   request      of a request in flight
 *
 * Ownership. From control_begin to control_end the request owns the aiocb; the engine does not touch it after
 * control_end. `request` is a borrowed pointer, which a thread may follow only under the control lock that
 * control_request and control_end take.
 */
#ifndef AIOFS_CONTROL_H
#define AIOFS_CONTROL_H

#include <aio.h>
#include <stddef.h>

#include "engine.h"

struct control {
    uint64_t magic;
    uint32_t generation;
    _Atomic uint32_t returned;
    _Atomic uint32_t state;
    int64_t result;
    int64_t aio_offset; /* the program's */
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

/* The state of an aiocb's request; AIOFS_NEW if the memory is not ours. Async-signal-safe. */
enum aiofs_state control_state(const struct aiocb *cb);

/* The request is submitted: sets the state AIOFS_SUBMITTED. */
void control_begin(struct aiocb *cb, aiofs_request *request);
/* The request is terminal, and the program may use the aiocb again. True: the caller must wake sleeping threads, see
 * aiofs_wake_sleepers. */
bool control_end(struct aiocb *cb, int64_t result);
/* The aiocb's request in flight, with a reference for the caller; NULL: none is in flight. */
aiofs_request *control_request(const struct aiocb *cb);

#endif
