/*
 * listio.c - lio_listio: many requests in one call.
 *
 * A posix_list counts what is not terminal of one call: an entry each that the engine has, and one for the call
 * itself until all have been started, so that the list is not over before. Whoever counts it down to zero tells
 * the program, and ends the list's word, on which LIO_WAIT sleeps. It is freed by the last of its two owners:
 * what is left to count, and a call that waits (which a signal may make leave first). No locks.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>

#include "posix.h"

enum { CALL_BYTES = 4 * 1024 * 1024, CALL_NS = 500000 }; /* copied on the caller's thread, in one call */

struct posix_list {
    _Atomic unsigned left;
    _Atomic int owners;
    _Atomic bool failed;
    _Atomic uint32_t word;
    struct notice notice;
};

static void let_go(struct posix_list *list)
{
    if (atomic_fetch_sub(&list->owners, 1) == 1)
        free(list);
}

static void count_down(struct posix_list *list)
{
    if (atomic_fetch_sub(&list->left, 1) != 1)
        return;
    notice_give(&list->notice);
    if (aiofs_word_end(&list->word, 0))
        aiofs_wake_sleepers();
    let_go(list);
}

void list_ended(struct posix_list *list, int64_t result)
{
    if (result < 0)
        atomic_store(&list->failed, true);
    count_down(list);
}

static struct posix_list *list_new(bool waits, const struct sigevent *event)
{
    struct posix_list *list = calloc(1, sizeof *list);
    if (!list)
        return NULL;
    atomic_store(&list->left, 1);
    atomic_store(&list->owners, waits ? 2 : 1);
    atomic_store(&list->word, AIOFS_SUBMITTED);
    if (notice_set(&list->notice, waits ? NULL : event) == 0)
        return list;
    free(list);
    return NULL;
}

static void start(struct posix_list *list, struct aiocb *cb, struct allowance *allowance, struct posix_batch *batch)
{
    int op = cb->aio_lio_opcode == LIO_READ ? AIOFS_READ : cb->aio_lio_opcode == LIO_WRITE ? AIOFS_WRITE : 0;
    atomic_fetch_add(&list->left, 1);
    posix_begin(cb, op, list, allowance, batch);
}

static _Atomic uint32_t *word_of(const void *list, size_t index)
{
    (void)index;
    return &((struct posix_list *)(uintptr_t)list)->word;
}

static void start_all(struct posix_list *list, struct aiocb *const cbs[], int nent)
{
    struct posix_batch batch;
    batch.count = 0;
    struct allowance allowance = {.bytes = CALL_BYTES, .until = aiofs_now() + CALL_NS};
    for (int i = 0; i < nent; i++)
        if (cbs[i] && cbs[i]->aio_lio_opcode != LIO_NOP)
            start(list, cbs[i], &allowance, &batch);
    posix_submit(&batch);
    count_down(list);
}

static int wait_for(struct posix_list *list)
{
    int error = aiofs_wait_on(word_of, list, 1, NULL);
    if (error == 0 && atomic_load(&list->failed))
        error = -EIO;
    let_go(list);
    return error;
}

POSIX_FACE(int, lio_listio, (int mode, struct aiocb *const cbs[], int nent, struct sigevent *event))
{
    bool tells = mode == LIO_NOWAIT && event;
    if ((mode != LIO_WAIT && mode != LIO_NOWAIT) || nent < 0 || (tells && !notice_is_possible(event)))
        return posix_answer(-EINVAL);
    struct posix_list *list = list_new(mode == LIO_WAIT, event);
    if (!list)
        return posix_answer(-EAGAIN);
    int before = posix_hold_off();
    start_all(list, cbs, nent);
    int answer = posix_answer(mode == LIO_WAIT ? wait_for(list) : 0);
    posix_let_in(before);
    return answer;
}
