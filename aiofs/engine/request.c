/*
 * request.c - the life of a request: accepted, detached, ended; and waiting for the end.
 *
 *   aiofs_submit     examines the request on the caller's thread, binds its open file, and under the
 *                    engine lock gives it its place (lane.c). What cannot succeed ends at once.
 *   request_finish   whoever carried it out detaches it under the lock; if it was the last on a file
 *                    that has no opener, the file's two last acts come before the end is published:
 *                    its descriptor in the engine's table is closed, its hold released. So nobody who
 *                    sees the end of the last write finds the lock still taken, or the pipe still open.
 *   request_end      stores the result, makes the state terminal with one atomic exchange, wakes those
 *                    who sleep on it, calls `done`.
 *
 * Sleeping: one futex word for the process counts the ends that somebody waited for. A waiter marks
 * the word of each state it waits for (AIOFS_WAITED) and sleeps on the futex; the exchange that makes a word
 * terminal tells whether anybody did. No memory, no lock: aiofs_wait may run in a signal handler.
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

/* ---- submission ------------------------------------------------------------------------------------ */

/* What is wrong with a request on this kind of file: the error it ends with, or 0; 1: it has succeeded. */
static int64_t verdict(const aiofs_request *request, const struct file_facts *facts)
{
    if (request->op == AIOFS_FSYNC || request->op == AIOFS_FDATASYNC || request->op == AIOFS_FLUSH)
        return facts->kind == KIND_STREAM ? -EINVAL : 0;
    int wrong_way = request->op == AIOFS_READ ? O_WRONLY : O_RDONLY;
    if ((facts->flags & O_ACCMODE) == wrong_way)
        return -EBADF;
    if (facts->kind == KIND_DIRECTORY)
        return -EISDIR;
    bool placed = facts->seekable && !(request->op == AIOFS_WRITE && facts->flags & O_APPEND);
    if (placed && request->offset < 0)
        return -EINVAL;
    if (request->total > (uint64_t)INT64_MAX || (placed && (int64_t)request->total > INT64_MAX - request->offset))
        return -EINVAL;
    return request->total == 0 && request->op != AIOFS_TRUNCATE ? 1 : 0;
}

static void facts_of(const aiofs_file *file, struct file_facts *facts)
{
    facts->flags = file->flags;
    facts->kind = file->kind;
    facts->seekable = file->seekable;
}

/* Charges the growth that a write or truncate on an entry may bring; on the caller's thread, because
 * only here the descriptor is certain to be the program's. */
static int charge(const aiofs_request *request, const aiofs_file *file)
{
    if (!changes_bytes(request) || !file->hold || !aiofs_hold_has_quota(file->hold))
        return 0;
    int64_t size = aiofs_file_size((aiofs_file *)file);
    if (size < 0)
        return (int)size;
    int64_t end = request->op == AIOFS_TRUNCATE ? request->offset
                  : file->flags & O_APPEND      ? size + (int64_t)(file->appending + request->total)
                                                : request->offset + (int64_t)request->total;
    return aiofs_hold_charge(file->hold, size, end > size || request->op == AIOFS_TRUNCATE ? end : size);
}

/* Gives back what was charged for growth that did not come; on any table. */
static void settle(const aiofs_request *request, aiofs_file *file)
{
    struct stat stat;
    if (!changes_bytes(request) || !file->hold || file->ops || !aiofs_hold_has_quota(file->hold))
        return;
    int fd = on_engine_table ? engine_fd_of(file) : atomic_load(&file->fd);
    if (fd >= 0 && aiofs_sys.fstat(fd, &stat) == 0)
        aiofs_hold_settle(file->hold, stat.st_size);
}

/* An ordered write past the end also fills the gap before it. */
static void find_reach(aiofs_request *request, aiofs_file *file)
{
    request->reach = request->offset;
    if (!request->ordered || request->op != AIOFS_WRITE)
        return;
    int64_t size = aiofs_file_busy(file) ? 0 : aiofs_file_size(file);
    if (size >= 0 && size < request->reach)
        request->reach = size;
}

static void start_outside(struct aiofs_link *outside);

/* Wakes those who sleep on it. */
static void set_word(_Atomic uint32_t *word, enum aiofs_state state)
{
    uint32_t before = atomic_exchange_explicit(word, (uint32_t)state, memory_order_seq_cst);
    if (before & AIOFS_WAITED) {
        atomic_fetch_add_explicit(&ends, 1, memory_order_seq_cst);
        aiofs_sys.futex(&ends, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, 0);
    }
}

void aiofs_word_end(_Atomic uint32_t *word, int64_t result)
{
    set_word(word, result == -ECANCELED ? AIOFS_CANCELED : result < 0 ? AIOFS_FAILED : AIOFS_DONE);
}

/* 0; -EAGAIN: the channel is full. Lock held. */
static int bind_file(aiofs_file *file)
{
    if (file->closed)
        return -EBADF;
    if (file->bound || file->ops)
        return 0;
    if (file->owned && file_number_lost(file)) /* it leads to somebody else's file by now */
        return -EBADF;
    return engine_bind(file, atomic_load(&file->fd));
}

/* Gives the request its place; binds the open file first. 0, -EAGAIN or -EBADF with nothing started. */
static int enter(aiofs_request *request, aiofs_file *file, const struct file_facts *facts)
{
    enum { YIELDS = 1000, TRIES = 2000 };
    const struct timespec moment = {.tv_nsec = 1000000};
    struct aiofs_link outside;
    bool wake;
    int error;
    list_init(&outside);
    for (unsigned tries = 0;; tries++) {
        pthread_mutex_lock(&engine.lock);
        aiofs_file *target = file;
        if (target)
            aiofs_file_retain(target);
        else
            target = file_of_descriptor(request->fd, facts);
        if (!target) {
            pthread_mutex_unlock(&engine.lock);
            return -EAGAIN;
        }
        error = bind_file(target);
        if (error == 0) {
            request->file = target;
            if (request->op == AIOFS_WRITE && target->flags & O_APPEND)
                target->appending += request->total;
            lane_arrive(request, &outside);
            wake = engine_has_work();
            pthread_mutex_unlock(&engine.lock);
            break;
        }
        if (!target->outstanding && !target->owned)
            file_forget(target);
        pthread_mutex_unlock(&engine.lock);
        aiofs_file_release(target);
        if (error != -EAGAIN || tries == TRIES)
            return error == -EBADF ? error : -EAGAIN;
        engine_wake();
        if (tries < YIELDS)
            sched_yield();
        else
            nanosleep(&moment, NULL);
    }
    if (wake)
        engine_wake();
    start_outside(&outside);
    return 0;
}

/* The request is accepted, as far as its state can tell. */
static void accept_request(aiofs_request *request)
{
    aiofs_request_retain(request);
    atomic_fetch_add_explicit(&engine.alive, 1, memory_order_relaxed);
    atomic_store_explicit(&request->state, AIOFS_SUBMITTED, memory_order_relaxed);
}

static int reject(aiofs_request *request)
{
    set_word(&request->state, AIOFS_NEW);
    atomic_fetch_sub(&engine.alive, 1);
    aiofs_request_release(request);
    return -EAGAIN;
}

int aiofs_submit(aiofs_request *request, aiofs_file *file)
{
    if (request->reqprio < 0 || request->reqprio > AIOFS_PRIO_DELTA_MAX)
        return -EINVAL;
    int error = aiofs_engine_start();
    if (error < 0)
        return error == -EINVAL ? error : -EAGAIN;

    request->total = request->moved = 0;
    for (int i = 0; i < request->iovcnt; i++)
        request->total += request->iov[i].iov_len;
    request->result = 0;
    request->blockers = 0;
    request->file = NULL;
    request->phase = PHASE_ENDING; /* until it has its place, nobody can take it back */
    if (request->op == AIOFS_CALL) {
        request->lane = LANE_CALL;
        accept_request(request);
        return callers_call(request) < 0 ? reject(request) : 0;
    }

    struct file_facts facts;
    aiofs_file *found = file ? NULL : aiofs_file_find(request->fd);
    if (found)
        file = found;
    if (file)
        facts_of(file, &facts);
    else
        error = file_examine(request->fd, &facts);
    if (error == -EBADF && is_barrier(request))
        return error;
    int64_t outcome = error < 0 ? error : verdict(request, &facts);
    if (outcome == 0 && file && (error = charge(request, file)) < 0)
        outcome = error;
    if (outcome == 0 && file)
        find_reach(request, file);

    accept_request(request);
    bool ends_here = outcome != 0;
    if (!ends_here) {
        outcome = enter(request, file, &facts);
        if (outcome < 0 && file)
            settle(request, file);
    }
    if (found)
        aiofs_file_release(found);
    if (outcome == -EAGAIN && !ends_here)
        return reject(request);
    if (outcome != 0) {
        atomic_fetch_add(&engine.left, 1);
        request_end(request, outcome < 0 ? outcome : 0);
    }
    return 0;
}

/* ---- a file's own operations ------------------------------------------------------------------------- */

static int64_t perform_outside(aiofs_request *request)
{
    const struct aiofs_ops *ops = request->file->ops;
    void *self = request->file->self;
    switch (request->op) {
    case AIOFS_READ:
        return ops->read(self, request->iov, request->iovcnt, request->offset);
    case AIOFS_WRITE:
        return ops->write(self, request->iov, request->iovcnt, request->offset);
    case AIOFS_TRUNCATE:
        return ops->truncate(self, request->offset);
    default:
        return ops->flush(self);
    }
}

/* One that ends here lets others go: they are started by the outermost of these calls, not one inside the
 * other, because a chain of them may be long. */
static void start_outside(struct aiofs_link *outside)
{
    static _Thread_local struct aiofs_link *outermost;
    struct aiofs_link *link;
    if (outermost) {
        list_splice(outermost, outside);
        return;
    }
    outermost = outside;
    while ((link = list_pop(outside))) {
        aiofs_request *request = CONTAINER(link, aiofs_request, queued);
        if (request->file->ops->submit)
            request->file->ops->submit(request->file->self, request);
        else
            request_finish(request, perform_outside(request));
    }
    outermost = NULL;
}

void aiofs_complete(aiofs_request *request, int64_t result)
{
    request_finish(request, result);
}

/* ---- the end ------------------------------------------------------------------------------------------ */

/* The entry has changed, or less than was charged: no lock held, on any table. */
static void account(aiofs_request *request, int64_t result)
{
    aiofs_file *file = request->file;
    if (!changes_bytes(request) || file->ops)
        return;
    if (result > 0 || (result == 0 && request->op == AIOFS_TRUNCATE)) {
        atomic_store_explicit(&file->dirty, true, memory_order_relaxed);
        if (file->hold)
            aiofs_hold_changed(file->hold);
    }
    if (result < 0 || (uint64_t)result < request->total || request->op == AIOFS_TRUNCATE)
        settle(request, file);
}

void request_finish(aiofs_request *request, int64_t result)
{
    aiofs_file *file = request->file;
    struct aiofs_link outside;
    list_init(&outside);
    if (!file) { /* a call */
        pthread_mutex_lock(&engine.lock);
        list_remove(&request->in_flight);
        request->phase = PHASE_ENDING;
        engine.outstanding--;
        atomic_fetch_add(&engine.left, 1);
        pthread_mutex_unlock(&engine.lock);
        request_end(request, result);
        return;
    }
    account(request, result);

    pthread_mutex_lock(&engine.lock);
    if (request->op == AIOFS_WRITE && file->flags & O_APPEND)
        file->appending -= request->total;
    lane_leave(request, &outside);
    bool wake = engine_has_work();
    bool last = file->outstanding == 0 && (!file->owned || file->closed);
    if (file->outstanding == 0)
        pthread_cond_broadcast(&engine.drained);
    if (last)
        file_forget(file);
    else if (file->outstanding == 0 && atomic_load(&file->engine_fd) < -1)
        file->bound = false; /* its descriptor found no room in the engine's table: try again with the next request */
    bool close_here = last && file->bound && on_engine_table && (on_waiter || !file->watched);
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
    start_outside(&outside);
    if (last && (file->hold || file->ops)) {
        if (on_engine_table) {
            callers_retire(request, result);
            return;
        }
        file_release_hold(file);
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
    start_outside(&outside);
}

void request_end(aiofs_request *request, int64_t result)
{
    aiofs_file *file = request->file;
    request->result = result;
    aiofs_word_end(&request->state, result);
    if (request->done)
        request->done(request);
    if (file) {
        if (lane_ended(file))
            pass_barrier(file);
        aiofs_file_release(file);
    }
    aiofs_request_release(request);
    atomic_fetch_sub(&engine.alive, 1);
    atomic_fetch_add(&engine.ended, 1);
}

/* ---- waiting ------------------------------------------------------------------------------------------- */

/* True if one is terminal, or none is outstanding; marks the others. */
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

int aiofs_wait_on(aiofs_word_of *of, const void *list, size_t count, const struct timespec *timeout)
{
    enum { FOR_EVER = 365 * 24 * 3600 }; /* a wait with no time-out would restart after a signal */
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

static _Atomic uint32_t *word_of_request(const void *list, size_t index)
{
    aiofs_request *request = ((aiofs_request *const *)list)[index];
    return request ? &request->state : NULL;
}

int aiofs_wait(aiofs_request *const *requests, size_t count, const struct timespec *timeout)
{
    return aiofs_wait_on(word_of_request, requests, count, timeout);
}
