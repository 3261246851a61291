/*
 * cancel.c - aio_cancel, and the cancellation of streams when the program exits.
 *
 * What happens depends on where the request is:
 *
 *   waiting     in a queue, no carrier has started it. The cancelling thread unlinks it and completes it.
 *   running     with a carrier. Only a read of a stream can be cancelled (when the program exits, also a write), and
 *               only the reactor can do that. The cancelling thread appends the request to engine.cancelling and wakes
 *               the reactor. The request stays on that list until the reactor takes it or until it completes.
 *   otherwise   the operation continues. A write to a stream may already have sent a part, a worker may be inside a
 *               system call, and disk I/O ends without help.
 *
 * Locking. The engine lock guards the queues and the phase of a request. No lock is held while a request is completed
 * or while a thread waits.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <time.h>

#include "internal.h"

enum { PATIENCE_NS = 1000000000 };

enum verdict { TAKEN, ASKED, REFUSED, ENDING };

/* Lock held. TAKEN: the caller must complete it with request_finish. ASKED: the reactor completes it. ENDING: it is
 * complete, or is about to be. `force`: also cancel writes to streams, of which a part may already be sent. */
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

/* Waits at most a second. The kernel mostly answers at once, but a device can have a read that it cannot interrupt. */
static bool ends_soon(aiofs_request *request)
{
    aiofs_request *const list[] = {request};
    return aiofs_wait_uninterrupted(aiofs_word_of_request, list, 1, aiofs_now() + PATIENCE_NS);
}

/* Waits while `still` is true, at most a second. Another thread is about to make it false. */
static void wait_while(bool (*still)(const void *), const void *what)
{
    enum { YIELDS = 100 };
    const struct timespec moment = {.tv_nsec = 50000};
    int64_t until = aiofs_now() + PATIENCE_NS;
    for (int tries = 0; still(what) && aiofs_now() < until; tries++) {
        if (tries < YIELDS)
            sched_yield();
        else
            nanosleep(&moment, NULL);
    }
}

static bool is_not_notified(const void *request)
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
    wait_while(is_not_notified, request);
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

/* Takes back all requests of one file that can be cancelled. Returns a reference to the one that the reactor completes,
 * or NULL. No lock held. */
static aiofs_request *take_back_all(aiofs_file *file, struct tally *tally)
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
        if (verdict == ASKED) { /* at most one: a stream has at most one running read */
            aiofs_request_retain(request);
            asked = request;
        }
    }
    pthread_mutex_unlock(&engine.lock);

    while ((link = list_pop(&taken))) {
        request_finish(CONTAINER(link, aiofs_request, queued), -ECANCELED);
        tally->canceled++;
    }
    if (asked)
        engine_wake();
    return asked;
}

/* Cancels all requests of one file that can be cancelled. The caller has a reference to the file; no lock held. */
static void cancel_file(aiofs_file *file, struct tally *tally)
{
    aiofs_request *asked = take_back_all(file, tally);
    if (asked) {
        if (!ends_soon(asked))
            tally->refused++;
        else if (aiofs_request_state(asked) == AIOFS_CANCELED)
            tally->canceled++;
        aiofs_request_release(asked);
    }
    wait_while(is_not_zero, &file->ending);
}

void aiofs_file_cancel_soon(aiofs_file *file)
{
    struct tally tally = {0, 0};
    aiofs_request *asked = take_back_all(file, &tally);
    if (asked)
        aiofs_request_release(asked);
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
        wait_while(is_not_zero, ending);
    return tally.refused ? AIOFS_CANCEL_NOTCANCELED : tally.canceled ? AIOFS_CANCEL_CANCELED : AIOFS_CANCEL_ALLDONE;
}

/* ---- the exit of the program ----------------------------------------------------------------------------- */

/* Cancels all requests on streams, writes too. */
static void cancel_streams(void)
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

/* Repeats the cancellation, because a completion may submit new requests. Cancelled requests get at least LEAST_NS to
 * complete. */
void aiofs_engine_drain(double seconds)
{
    enum { MOMENT_NS = 1000000, LEAST_NS = 100000000, MOST_SECONDS = 1000000000 };
    const struct timespec moment = {.tv_nsec = MOMENT_NS};
    double patience = seconds > 0 ? seconds < MOST_SECONDS ? seconds * 1e9 : MOST_SECONDS * 1e9 : 0;
    int64_t end = aiofs_now() + (patience > LEAST_NS ? (int64_t)patience : LEAST_NS);
    while (atomic_load(&engine.alive) && aiofs_now() < end) {
        cancel_streams();
        nanosleep(&moment, NULL);
    }
}
