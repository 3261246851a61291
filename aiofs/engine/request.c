/*
 * request.c - the states of a request: it is accepted, detached and completed; and the functions that wait for that.
 *
 *   request_accept   makes the state AIOFS_SUBMITTED (called by submit.c).
 *   request_finish   called by the thread that performed the request: detaches it from its file under the engine lock.
 *                    For the last request on a file without an opener, two more steps come before the completion is
 *                    published: the engine's descriptor is closed, if this thread may close it, and the lock of the
 *                    lock reference is released. So a program that sees the last write completed finds the lock free
 *                    and the pipe closed.
 *   request_end      publishes the completion: stores the result, makes the state terminal with one atomic exchange,
 *                    calls `done`, and then wakes the threads that sleep on the state. So a thread that slept in
 *                    aiofs_wait finds that `done` has run.
 *
 * Waiting. One futex word for the whole process, `ends`, counts the completions for which a thread waited. A waiting
 * thread sets the flag AIOFS_WAITED in each state word that it waits for, and sleeps on the futex. The atomic exchange
 * that makes a state terminal returns that flag. This uses no memory and no lock, so aiofs_wait may run in a signal
 * handler.
 *
 * Ownership. The engine holds a reference to a request from request_accept until request_end has called `done`.
 *
 * Locking. The engine lock guards the lists and the phase of a request; its state is atomic. Hooks run with no lock.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <unistd.h>

#include "internal.h"

static _Atomic uint32_t ends; /* the futex word */
uint32_t aiofs_generation;

void aiofs_request_init(aiofs_request *request)
{
    *request = (aiofs_request){.fd = -1};
    atomic_store_explicit(&request->refs, 1, memory_order_relaxed);
    list_init(&request->in_flight);
    list_init(&request->queued);
}

void aiofs_request_retain(aiofs_request *request)
{
    atomic_fetch_add_explicit(&request->refs, 1, memory_order_relaxed);
}

void aiofs_request_release(aiofs_request *request)
{
    if (atomic_fetch_sub_explicit(&request->refs, 1, memory_order_acq_rel) == 1 && request->destroy)
        request->destroy(request);
}

int request_rest(const aiofs_request *request, struct iovec *out, int max, size_t limit, size_t *length)
{
    uint64_t skip = request->moved;
    size_t left = limit;
    int count = 0;
    for (int i = 0; i < request->iovcnt && count < max && left; i++) {
        struct iovec piece = request->iov[i];
        if (skip >= piece.iov_len) {
            skip -= piece.iov_len;
            continue;
        }
        piece.iov_base = (char *)piece.iov_base + skip;
        piece.iov_len -= skip;
        skip = 0;
        if (piece.iov_len > left)
            piece.iov_len = left;
        left -= piece.iov_len;
        out[count++] = piece;
    }
    *length = limit - left;
    return count;
}

/* Stores a state. True: a thread sleeps on the word. */
static bool set_word(_Atomic uint32_t *word, enum aiofs_state state)
{
    return atomic_exchange_explicit(word, (uint32_t)state, memory_order_seq_cst) & AIOFS_WAITED;
}

bool aiofs_word_end(_Atomic uint32_t *word, int64_t result)
{
    return set_word(word, result == -ECANCELED ? AIOFS_CANCELED : result < 0 ? AIOFS_FAILED : AIOFS_DONE);
}

void aiofs_wake_sleepers(void)
{
    atomic_fetch_add_explicit(&ends, 1, memory_order_seq_cst);
    aiofs_sys.futex(&ends, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, 0);
}

/* Makes the state AIOFS_SUBMITTED. The engine's reference and the generation are set before that. */
void request_accept(aiofs_request *request)
{
    aiofs_request_retain(request);
    atomic_fetch_add_explicit(&engine.alive, 1, memory_order_relaxed);
    atomic_store_explicit(&request->notified, false, memory_order_relaxed);
    request->generation = aiofs_generation;
    /* Release: another thread that sees this state may cancel the request, and reads its generation. */
    atomic_store_explicit(&request->state, AIOFS_SUBMITTED, memory_order_release);
}

int request_reject(aiofs_request *request)
{
    if (set_word(&request->state, AIOFS_NEW))
        aiofs_wake_sleepers();
    atomic_store_explicit(&request->notified, true, memory_order_release); /* a thread may be cancelling it */
    atomic_fetch_sub(&engine.alive, 1);
    aiofs_request_release(request);
    return -EAGAIN;
}

/* Threads and signal handlers may run this at the same time, because all of them store the same values. */
void aiofs_request_abandon(const aiofs_request *request)
{
    aiofs_request *own = (aiofs_request *)(uintptr_t)request;
    own->result = -ECANCELED;
    atomic_store(&own->notified, true);
    atomic_store(&own->state, AIOFS_CANCELED);
}

/* Finds the size of the file on disk; on any table. The program may have closed the descriptor while requests were in
 * flight; then the size comes from the entry's path, if that still leads to the file. False: unknown. */
static bool find_size(aiofs_file *file, int64_t *size)
{
    struct stat stat;
    int fd = on_engine_table ? engine_fd_of(file) : atomic_load(&file->fd);
    int error = fd >= 0 ? aiofs_sys.fstat(fd, &stat) : -EBADF;
    if (error < 0 && !on_engine_table && aiofs_lock_ref_stat(file->lock_ref, &stat) == 0)
        error = stat.st_dev == file->dev && stat.st_ino == file->ino ? 0 : -EBADF;
    *size = error == 0 ? stat.st_size : -1;
    return error == 0;
}

/* Returns to the quota what was charged for growth that did not happen; on any table. */
void request_uncharge(const aiofs_request *request, aiofs_file *file)
{
    int64_t size;
    if (!changes_bytes(request) || !file->lock_ref || file->ops || !aiofs_lock_ref_has_quota(file->lock_ref))
        return;
    if (find_size(file, &size))
        aiofs_lock_ref_uncharge(file->lock_ref, size);
}

/* The change of the file's size that the request was charged for is over. */
void request_end_charge(aiofs_request *request, aiofs_file *file)
{
    if (request->charged)
        aiofs_lock_ref_charge_end(file->lock_ref);
    request->charged = false;
}

/* ---- completion --------------------------------------------------------------------------------------- */

/* Marks the file as changed, and returns the quota that the request did not use. No lock held, on any table. */
static void account(aiofs_request *request, int64_t result)
{
    aiofs_file *file = request->file;
    if (!changes_bytes(request) || file->ops)
        return;
    if (result > 0 || (result == 0 && request->op == AIOFS_TRUNCATE)) {
        atomic_store_explicit(&file->dirty, true, memory_order_relaxed);
        if (file->lock_ref)
            aiofs_lock_ref_changed(file->lock_ref);
        if (file->lock_ref && request->op == AIOFS_WRITE && !request->appends)
            aiofs_lock_ref_wrote(file->lock_ref, request->offset + result);
    }
    if (result < 0 || (uint64_t)result < request->total || request->op == AIOFS_TRUNCATE)
        request_uncharge(request, file);
    request_end_charge(request, file);
}

void request_finish(aiofs_request *request, int64_t result)
{
    if (request->generation != aiofs_generation) /* its operation has forked, and this is the child: see outside.c */
        return;
    aiofs_file *file = request->file;
    struct aiofs_link outside;
    list_init(&outside);
    if (!file) { /* a call */
        pthread_mutex_lock(&engine.lock);
        list_remove(&request->in_flight);
        request->phase = PHASE_ENDING;
        engine.outstanding--;
        pthread_mutex_unlock(&engine.lock);
        request_end(request, result);
        return;
    }
    account(request, result);

    pthread_mutex_lock(&engine.lock);
    if (request->appends)
        file->appending -= request->total;
    lane_leave(request, &outside);
    bool wake = engine_has_work();
    bool last = file->outstanding == 0 && (!file->owned || file->closed) && !file_keep(file);
    if (file->outstanding == 0)
        pthread_cond_broadcast(&engine.drained);
    if (last)
        file_unregister(file);
    else if (file->outstanding == 0 && atomic_load(&file->engine_fd) < -1)
        file->bound = false; /* the engine's table was full: the next request sends the descriptor again */
    bool close_here = last && file->bound && on_engine_table &&
                      (on_reactor ? !file_close_can_block(file) : !file->watched);
    if (last && file->bound && !close_here) {
        aiofs_file_retain(file);
        list_append(&engine.releasing, &file->leaving);
        wake = true;
    }
    pthread_mutex_unlock(&engine.lock);

    if (close_here)
        engine_fd_close(file);
    if (wake)
        engine_wake();
    request_start_outside(&outside);
    if (last && (file->lock_ref || file->ops)) {
        if (on_engine_table) {
            host_threads_retire(request, result);
            return;
        }
        file_end_use(file);
    }
    request_end(request, result);
}

static void pass_barrier(aiofs_file *file)
{
    struct aiofs_link outside;
    list_init(&outside);
    pthread_mutex_lock(&engine.lock);
    lane_pass(file, &outside);
    pthread_cond_broadcast(&engine.drained);
    bool wake = engine_has_work();
    pthread_mutex_unlock(&engine.lock);
    if (wake)
        engine_wake();
    request_start_outside(&outside);
}

void request_end(aiofs_request *request, int64_t result)
{
    if (request->generation != aiofs_generation)
        return;
    aiofs_file *file = request->file;
    request->result = result;
    bool awaited = aiofs_word_end(&request->state, result);
    if (request->done)
        request->done(request);
    if (awaited)
        aiofs_wake_sleepers();
    atomic_store_explicit(&request->notified, true, memory_order_release);
    if (file) {
        if (!file->owned)
            atomic_fetch_sub(file_number_ending(request->fd), 1);
        if (lane_ended(file))
            pass_barrier(file);
        aiofs_file_release(file);
    }
    aiofs_request_release(request);
    atomic_fetch_sub(&engine.alive, 1);
}

/* ---- waiting ------------------------------------------------------------------------------------------- */

/* True: a request is terminal, or none is outstanding. Sets AIOFS_WAITED in the words that it reads before. */
static bool any_ended(aiofs_word_of *of, const void *list, size_t count)
{
    bool outstanding = false;
    for (size_t i = 0; i < count; i++) {
        _Atomic uint32_t *word = of(list, i);
        if (!word)
            continue;
        uint32_t state = atomic_load_explicit(word, memory_order_acquire);
        if ((state & AIOFS_STATE) == AIOFS_NEW)
            continue;
        if ((state & AIOFS_STATE) == AIOFS_SUBMITTED && !(state & AIOFS_WAITED))
            state = atomic_fetch_or_explicit(word, AIOFS_WAITED, memory_order_seq_cst);
        if ((state & AIOFS_STATE) >= AIOFS_DONE)
            return true;
        outstanding = true;
    }
    return !outstanding;
}

bool aiofs_wait_uninterrupted(aiofs_word_of *of, const void *list, size_t count, int64_t until)
{
    enum { SECOND = 1000000000 };
    int error;
    do {
        int64_t left = until - aiofs_now();
        const struct timespec timeout = {.tv_sec = left > 0 ? left / SECOND : 0, .tv_nsec = left > 0 ? left % SECOND : 0};
        error = aiofs_wait_on(of, list, count, &timeout);
    } while (error == -EINTR);
    return error == 0;
}

int aiofs_wait_on(aiofs_word_of *of, const void *list, size_t count, const struct timespec *timeout)
{
    enum { FOR_EVER = 365 * 24 * 3600 }; /* the kernel restarts a futex wait without a time-out after a signal */
    struct timespec deadline, now;
    clock_gettime(CLOCK_MONOTONIC, &deadline);
    deadline.tv_sec += timeout && timeout->tv_sec < FOR_EVER ? timeout->tv_sec : FOR_EVER;
    deadline.tv_nsec += timeout ? timeout->tv_nsec : 0;
    if (deadline.tv_nsec >= 1000000000L) {
        deadline.tv_sec++;
        deadline.tv_nsec -= 1000000000L;
    }
    for (;;) {
        uint32_t seen = atomic_load_explicit(&ends, memory_order_seq_cst);
        if (any_ended(of, list, count))
            return 0;
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (now.tv_sec > deadline.tv_sec || (now.tv_sec == deadline.tv_sec && now.tv_nsec >= deadline.tv_nsec))
            return -EAGAIN;
        int error = aiofs_sys.futex(&ends, FUTEX_WAIT_BITSET_PRIVATE, seen, &deadline, FUTEX_BITSET_MATCH_ANY);
        if (error == -EINTR)
            return any_ended(of, list, count) ? 0 : -EINTR;
    }
}

_Atomic uint32_t *aiofs_word_of_request(const void *list, size_t index)
{
    aiofs_request *request = ((aiofs_request *const *)list)[index];
    if (!request)
        return NULL;
    aiofs_request_state(request); /* in a forked child this makes a request of the parent terminal */
    return &request->state;
}

int aiofs_wait(aiofs_request *const *requests, size_t count, const struct timespec *timeout)
{
    return aiofs_wait_on(aiofs_word_of_request, requests, count, timeout);
}
