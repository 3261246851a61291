/*
 * aio_list.c - lio_listio: the count of a list, its notice, and how much one call copies itself.
 *
 * A list has a count. It counts each entry whose request the engine has, and one more for the call itself. So the count
 * cannot reach zero before the call has started every entry. The thread that brings the count to zero gives the list's
 * notice and makes the list's word terminal. LIO_WAIT sleeps on that word.
 *
 * Ownership. A list has two owners: the count, and the call. The later of the two frees it, because a signal can make a
 * waiting call return while requests are still in flight.
 *
 * Locking. None: the counts are atomic.
 *
 * Copies inside the call. One call copies at most CALL_BYTES and for at most CALL_NS. It reads the clock once for every
 * CLOCK_BYTES. The remaining entries go to the engine in batches: aio_batch.c.
 */
#define _GNU_SOURCE
#include <aio.h>
#include <errno.h>
#include <stdlib.h>

#include "aio_rules.h"

enum {
    CALL_BYTES = 4 * 1024 * 1024,
    CALL_NS = 500000,
    CLOCK_BYTES = 64 * 1024, /* copied between two reads of the clock */
    LEAST_BYTES = 4096,      /* a shorter copy counts as this many: it costs a system call, too */
};

struct aiofs_list {
    _Atomic unsigned left;
    _Atomic int owners;
    _Atomic bool failed;
    _Atomic uint32_t word;
    aiofs_notice notice;
};

void aiofs_list_release(aiofs_list *list)
{
    if (atomic_fetch_sub(&list->owners, 1) == 1)
        free(list);
}

static void count_down(aiofs_list *list)
{
    if (atomic_fetch_sub(&list->left, 1) != 1)
        return;
    aiofs_notice_give(&list->notice);
    if (aiofs_word_end(&list->word, 0))
        aiofs_wake_sleepers();
    aiofs_list_release(list);
}

void aiofs_list_join(aiofs_list *list)
{
    atomic_fetch_add(&list->left, 1);
}

void aiofs_list_ended(aiofs_list *list, int64_t result)
{
    if (result < 0)
        atomic_store(&list->failed, true);
    count_down(list);
}

/* ---- is it valid? ------------------------------------------------------------------------------------------------ */

int aiofs_list_op(int opcode)
{
    return opcode == LIO_NOP ? 0 : opcode == LIO_READ ? AIOFS_READ : opcode == LIO_WRITE ? AIOFS_WRITE : -EINVAL;
}

bool aiofs_list_notifies(int mode)
{
    return mode == LIO_NOWAIT;
}

int aiofs_list_check(int mode, int nent, const struct sigevent *event)
{
    if ((mode != LIO_WAIT && mode != LIO_NOWAIT) || nent < 0)
        return -EINVAL;
    return aiofs_list_notifies(mode) ? aiofs_notice_check(event) : 0;
}

/* ---- the call ---------------------------------------------------------------------------------------------------- */

int aiofs_list_begin(struct aiofs_list_call *call, int mode, aiofs_notice *notice)
{
    aiofs_list *list = malloc(sizeof *list);
    if (!list)
        return -EAGAIN;
    atomic_init(&list->left, 1);
    atomic_init(&list->owners, 2);
    atomic_init(&list->failed, false);
    atomic_init(&list->word, AIOFS_SUBMITTED);
    list->notice = notice ? *notice : (aiofs_notice){.kind = SIGEV_NONE};
    if (notice)
        notice->thread = NULL;
    call->list = list;
    call->waits = mode == LIO_WAIT;
    call->bytes = CALL_BYTES;
    call->unclocked = 0;
    call->until = aiofs_now() + CALL_NS;
    call->count = 0;
    return 0;
}

bool aiofs_list_affords(struct aiofs_list_call *call, size_t bytes)
{
    call->unclocked += bytes < LEAST_BYTES ? LEAST_BYTES : bytes;
    if (call->unclocked >= CLOCK_BYTES) {
        call->unclocked = 0;
        if (aiofs_now() > call->until)
            call->bytes = 0;
    }
    bool affords = bytes <= call->bytes;
    call->bytes = affords ? call->bytes - bytes : 0;
    return affords;
}

void aiofs_list_note(struct aiofs_list_call *call, int64_t result)
{
    if (result < 0)
        atomic_store_explicit(&call->list->failed, true, memory_order_relaxed);
}

/* ---- waiting ----------------------------------------------------------------------------------------------------- */

static _Atomic uint32_t *word_of(const void *list, size_t index)
{
    (void)index;
    return &((aiofs_list *)(uintptr_t)list)->word;
}

int aiofs_list_wait(aiofs_list *list)
{
    int error = aiofs_wait_on(word_of, list, 1, NULL);
    return error == 0 && atomic_load(&list->failed) ? -EIO : error;
}
