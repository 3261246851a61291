/*
 * cancel.c - taking requests back.
 *
 * A request that waits is taken out of its queue and ended by the caller itself. One that runs is with
 * a carrier: only a stream's read can be called back, and only the reactor can do it; it is asked
 * through engine.cancelling, where the request stands until the reactor takes it from there or it ends.
 * Everything else that runs is left to finish: part of a stream's write may be gone already, a worker may
 * be in the middle of a call, and disk I/O ends by itself.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <time.h>

#include "internal.h"

enum verdict { TAKEN, ASKED, REFUSED, ENDING };

/* Lock held. TAKEN: the caller ends it with request_finish. ASKED: the reactor ends it. `force`: a stream's
 * write, too, whose part that is gone stays gone. */
static enum verdict take_back(aiofs_request *request, bool force)
{
    if (aiofs_request_terminal(request) || request->phase == PHASE_ENDING)
        return ENDING;
    switch ((enum request_phase)request->phase) {
    case PHASE_WAITING:
        lane_withdraw(request);
        return TAKEN;
    case PHASE_ADOPTED:
        if (request->moved && !force)
            return REFUSED;
        list_remove(&request->queued);
        request->phase = PHASE_ENDING;
        return TAKEN;
    case PHASE_CANCELLING:
        return ASKED;
    case PHASE_RUNNING:
        if (!request->file || request->file->kind != KIND_STREAM || (request->op != AIOFS_READ && !force))
            return REFUSED;
        request->phase = PHASE_CANCELLING;
        list_append(&engine.cancelling, &request->queued);
        return ASKED;
    default:
        return REFUSED;
    }
}

/* The kernel's answer is near, but a device may keep a read that cannot be interrupted. */
static bool ends_soon(aiofs_request *request)
{
    const struct timespec patience = {.tv_sec = 1};
    aiofs_request *const list[] = {request};
    int error;
    do
        error = aiofs_wait(list, 1, &patience);
    while (error == -EINTR);
    return error == 0;
}

/* Waits for what another thread is about to do: `still` says that it has not. */
static void await(bool (*still)(const void *), const void *what)
{
    enum { YIELDS = 100, PATIENCE_NS = 1000000000 };
    const struct timespec moment = {.tv_nsec = 50000};
    int64_t until = aiofs_now() + PATIENCE_NS;
    for (int tries = 0; still(what) && aiofs_now() < until; tries++) {
        if (tries < YIELDS)
            sched_yield();
        else
            nanosleep(&moment, NULL);
    }
}

static bool is_untold(const void *request)
{
    return !atomic_load_explicit(&((const aiofs_request *)request)->notified, memory_order_acquire);
}

static bool is_not_zero(const void *count)
{
    return atomic_load((const _Atomic unsigned *)count) != 0;
}

int aiofs_cancel(aiofs_request *request)
{
    if (aiofs_request_state(request) == AIOFS_NEW)
        return AIOFS_CANCEL_ALLDONE;
    pthread_mutex_lock(&engine.lock);
    enum verdict verdict = take_back(request, false);
    pthread_mutex_unlock(&engine.lock);

    if (verdict == TAKEN) {
        request_finish(request, -ECANCELED);
        return AIOFS_CANCEL_CANCELED;
    }
    if (verdict == REFUSED)
        return AIOFS_CANCEL_NOTCANCELED;
    if (verdict == ASKED)
        engine_wake();
    if (!ends_soon(request))
        return AIOFS_CANCEL_NOTCANCELED;
    await(is_untold, request);
    return verdict == ASKED && aiofs_request_state(request) == AIOFS_CANCELED ? AIOFS_CANCEL_CANCELED
                                                                              : AIOFS_CANCEL_ALLDONE;
}

void aiofs_cancel_soon(aiofs_request *request)
{
    if (aiofs_request_state(request) == AIOFS_NEW)
        return;
    pthread_mutex_lock(&engine.lock);
    enum verdict verdict = take_back(request, false);
    pthread_mutex_unlock(&engine.lock);
    if (verdict == TAKEN)
        request_finish(request, -ECANCELED);
    else if (verdict == ASKED)
        engine_wake();
}

struct tally {
    unsigned canceled, refused;
};

/* Takes back what can be taken back of one file; retained by the caller, no lock held. */
static void cancel_file(aiofs_file *file, struct tally *tally)
{
    struct aiofs_link taken, *link;
    aiofs_request *asked = NULL;
    list_init(&taken);

    pthread_mutex_lock(&engine.lock);
    for (link = file->in_flight.next; link != &file->in_flight; link = link->next) {
        aiofs_request *request = CONTAINER(link, aiofs_request, in_flight);
        enum verdict verdict = take_back(request, false);
        tally->refused += verdict == REFUSED;
        if (verdict == TAKEN)
            list_append(&taken, &request->queued);
        if (verdict == ASKED) { /* at most one: the lane of a stream's reads has one running */
            aiofs_request_retain(request);
            asked = request;
        }
    }
    pthread_mutex_unlock(&engine.lock);

    while ((link = list_pop(&taken))) {
        request_finish(CONTAINER(link, aiofs_request, queued), -ECANCELED);
        tally->canceled++;
    }
    if (asked) {
        engine_wake();
        if (!ends_soon(asked))
            tally->refused++;
        else if (aiofs_request_state(asked) == AIOFS_CANCELED)
            tally->canceled++;
        aiofs_request_release(asked);
    }
    await(is_not_zero, &file->ending);
}

int aiofs_descriptor(int fd)
{
    return aiofs_sys.fcntl(fd, F_GETFD, 0) < 0 || channel_owns(fd) ? -EBADF : 0;
}

int aiofs_cancel_all(int fd)
{
    struct tally tally = {0, 0};
    struct file_facts facts;
    aiofs_file *file = aiofs_file_find(fd), *next;
    if (file) {
        cancel_file(file, &tally);
    } else {
        int error = file_examine(fd, &facts);
        if (error < 0)
            return error;
        for (; (next = file_next_in_flight(fd, &facts, file)); file = next) {
            if (file)
                aiofs_file_release(file);
            cancel_file(next, &tally);
        }
    }
    if (file)
        aiofs_file_release(file);
    _Atomic unsigned *ending = file_number_ending(fd);
    if (ending)
        await(is_not_zero, ending);
    return tally.refused ? AIOFS_CANCEL_NOTCANCELED : tally.canceled ? AIOFS_CANCEL_CANCELED : AIOFS_CANCEL_ALLDONE;
}

/* ---- the end of the program ------------------------------------------------------------------------------ */

/* Everything on streams, whatever waits behind it. */
static void call_off_streams(void)
{
    struct aiofs_link taken, *link, *file_link;
    bool asked = false;
    list_init(&taken);
    pthread_mutex_lock(&engine.lock);
    for (file_link = engine.files.next; file_link != &engine.files; file_link = file_link->next) {
        aiofs_file *file = CONTAINER(file_link, aiofs_file, all);
        if (file->kind != KIND_STREAM)
            continue;
        for (link = file->in_flight.next; link != &file->in_flight; link = link->next) {
            aiofs_request *request = CONTAINER(link, aiofs_request, in_flight);
            enum verdict verdict = take_back(request, true);
            if (verdict == TAKEN)
                list_append(&taken, &request->queued);
            asked |= verdict == ASKED;
        }
    }
    pthread_mutex_unlock(&engine.lock);
    while ((link = list_pop(&taken))) {
        aiofs_request *request = CONTAINER(link, aiofs_request, queued);
        request_finish(request, request_outcome(request, -ECANCELED));
    }
    if (asked)
        engine_wake();
}

/* Again and again, because ends may bring new beginnings; what has been called off gets a moment to end. */
void aiofs_engine_settle(double seconds)
{
    enum { MOMENT_NS = 1000000, LEAST_NS = 100000000, MOST_SECONDS = 1000000000 };
    const struct timespec moment = {.tv_nsec = MOMENT_NS};
    double patience = seconds > 0 ? seconds < MOST_SECONDS ? seconds * 1e9 : MOST_SECONDS * 1e9 : 0;
    int64_t end = aiofs_now() + (patience > LEAST_NS ? (int64_t)patience : LEAST_NS);
    while (atomic_load(&engine.alive) && aiofs_now() < end) {
        call_off_streams();
        nanosleep(&moment, NULL);
    }
}
