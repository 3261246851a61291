/*
 * control.c - the state of a request in its aiocb. See control.h.
 *
 * One mutex, the control lock, guards control->request between a thread that follows the pointer (aio_cancel) and the
 * end of the request, which sets it to NULL. A thread holds the lock for a few instructions, and takes no other lock
 * under it. In a forked child no request is in flight: the child's fork handler increments the generation and
 * initialises the lock again.
 */
#define _GNU_SOURCE
#include "control.h"

#include <pthread.h>

#include "posix.h"

#define MAGIC UINT64_C(0x61696f66732f6362)

static pthread_mutex_t control_lock = PTHREAD_MUTEX_INITIALIZER;
static uint32_t generation = 1;

enum aiofs_state control_state(const struct aiocb *cb)
{
    const struct control *control = control_of(cb);
    if (control->magic != MAGIC)
        return AIOFS_NEW;
    enum aiofs_state state = aiofs_word_state(&control->state);
    if (state == AIOFS_SUBMITTED && (control->self != cb || control->generation != generation))
        return AIOFS_NEW;
    return state <= AIOFS_CANCELED ? state : AIOFS_NEW;
}

void control_begin(struct aiocb *cb, aiofs_request *request)
{
    struct control *control = control_of(cb);
    control->magic = MAGIC;
    control->self = cb;
    control->generation = generation;
    control->request = request;
    atomic_store_explicit(&control->returned, 0, memory_order_relaxed);
    atomic_store_explicit(&control->state, AIOFS_SUBMITTED, memory_order_release);
}

bool control_end(struct aiocb *cb, int64_t result)
{
    struct control *control = control_of(cb);
    pthread_mutex_lock(&control_lock);
    control->request = NULL;
    pthread_mutex_unlock(&control_lock);
    control->result = result;
    return aiofs_word_end(&control->state, result);
}

aiofs_request *control_request(const struct aiocb *cb)
{
    aiofs_request *request = NULL;
    pthread_mutex_lock(&control_lock);
    if (control_state(cb) == AIOFS_SUBMITTED)
        request = control_of(cb)->request;
    if (request)
        aiofs_request_retain(request);
    pthread_mutex_unlock(&control_lock);
    return request;
}

static void fork_child(void)
{
    generation++;
    pthread_mutex_init(&control_lock, NULL);
}

__attribute__((constructor)) static void set_up(void)
{
    pthread_atfork(NULL, NULL, fork_child);
}
