/*
 * submit.c - the way of requests into the engine: one, or several in one call.
 *
 *   examine   on the caller's thread, where the descriptor is certain to be the program's: what it is for, and
 *             whether it can succeed at all. What cannot, ends at once.
 *   enter     under the engine lock: binds the open file, if that is not bound, and gives the request its place
 *             (lane.c). When the channel is full, the lock is let go and taken again.
 *   settle    tells the caller.
 *
 * A few requests go through these steps together, so that a list looks at each descriptor once, takes the lock for
 * sixteen at a time, and wakes the reactor once. All of it is on the caller's stack, which may be small.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <time.h>

#include "internal.h"

/* ---- what a request asks for --------------------------------------------------------------------------- */

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
    if (!changes_bytes(request) || !file->lock_ref || !aiofs_lock_ref_has_quota(file->lock_ref))
        return 0;
    int64_t size = aiofs_file_size((aiofs_file *)file);
    if (size < 0)
        return (int)size;
    int64_t end = request->op == AIOFS_TRUNCATE ? request->offset
                  : request->appends            ? size + (int64_t)(file->appending + request->total)
                                                : request->offset + (int64_t)request->total;
    return aiofs_lock_ref_charge(file->lock_ref, size, end > size || request->op == AIOFS_TRUNCATE ? end : size);
}

/* An ordered write past the end also fills the gap before it. */
static void find_reach(aiofs_request *request, aiofs_file *file)
{
    request->reach = request->offset;
    if (!request->ordered || request->op != AIOFS_WRITE)
        return;
    int64_t size = aiofs_file_busy(file) || aiofs_file_blocks(file) ? 0 : aiofs_file_size(file);
    if (size >= 0 && size < request->reach)
        request->reach = size;
}

/* ---- submission: several at once, a few at a time ---------------------------------------------------- */

enum { AT_ONCE = 16 }; /* under one hold of the lock; what they need is on the caller's stack, which may be small */

/* A request on its way in. */
struct arrival {
    aiofs_request *request;
    aiofs_file *file;              /* given or found; NULL: a plain descriptor */
    aiofs_file *found, *unwanted;  /* references to be let go, for that takes the lock */
    const struct file_facts *facts; /* of the file, or of the descriptor */
    int64_t outcome;               /* what it ends with here: an error, or 1 for nothing to do; 0: it goes on */
    int error;                     /* why the engine did not take it */
    bool waits;                    /* has no place yet */
};

/* 0, -EAGAIN or -EBADF with nothing started. */
static int bind_file(aiofs_file *file)
{
    if (file->closing)
        return -EBADF;
    if (file->bound || file->ops)
        return 0;
    if (file->owned && file_number_lost(file)) /* it leads to somebody else's file by now */
        return -EBADF;
    return engine_bind(file, atomic_load(&file->fd));
}

/* Gives it its place; binds the open file first. -EAGAIN: the engine has to receive some first, try again. Lock held. */
static int enter(struct arrival *arrival, struct aiofs_link *outside)
{
    aiofs_request *request = arrival->request;
    aiofs_file *target = arrival->file;
    if (!channel_reaches())
        return -ENOMEM;
    int error = 0;
    if (target)
        aiofs_file_retain(target);
    else
        error = file_of_descriptor(request->fd, arrival->facts, &target);
    if (error < 0)
        return error;
    error = bind_file(target);
    if (error < 0) {
        if (!target->outstanding && !target->owned)
            file_forget(target);
        arrival->unwanted = target;
        return error;
    }
    request->file = target;
    if (!arrival->file && request->appends)
        target->appending += request->total;
    lane_arrive(request, outside);
    return 0;
}

/* Those that wait, in order, until one has to try again: true. */
static bool enter_waiting(struct arrival *arrivals, size_t count)
{
    struct aiofs_link outside;
    bool again = false;
    list_init(&outside);
    pthread_mutex_lock(&engine.lock);
    for (size_t i = 0; i < count && !again; i++) {
        if (!arrivals[i].waits)
            continue;
        arrivals[i].error = enter(&arrivals[i], &outside);
        again = arrivals[i].error == -EAGAIN;
        arrivals[i].waits = again;
    }
    bool wake = engine_has_work();
    pthread_mutex_unlock(&engine.lock);
    if (wake || again)
        engine_wake();
    request_start_outside(&outside);
    for (size_t i = 0; i < count; i++) {
        if (arrivals[i].unwanted)
            aiofs_file_release(arrivals[i].unwanted);
        arrivals[i].unwanted = NULL;
    }
    return again;
}

static void enter_all(struct arrival *arrivals, size_t count)
{
    enum { YIELDS = 1000, TRIES = 2000 };
    const struct timespec moment = {.tv_nsec = 1000000};
    for (unsigned tries = 0; tries < TRIES && enter_waiting(arrivals, count); tries++) {
        if (tries < YIELDS)
            sched_yield();
        else
            nanosleep(&moment, NULL);
    }
    for (size_t i = 0; i < count; i++)
        if (arrivals[i].waits)
            arrivals[i].error = -EAGAIN;
}

static void reset(aiofs_request *request)
{
    request->total = request->moved = 0;
    for (int i = 0; i < request->iovcnt; i++)
        request->total += request->iov[i].iov_len;
    request->result = 0;
    request->file = NULL;
    request->phase = PHASE_ENDING; /* until it has its place, nobody can take it back */
}

/* What one look at a descriptor told. */
struct look {
    bool is_plain; /* else it was at a file of ours, and says nothing of another request's descriptor */
    int fd, error;
    struct file_facts facts;
};

/* Looks at what it is for. `look` is the last look of this call, if any, and `next` room for another one; the one
 * that was used. 0, or why it is not accepted. */
static int examine(struct arrival *arrival, struct look *look, struct look *next, struct look **used)
{
    aiofs_request *request = arrival->request;
    *used = look;
    if (!arrival->file)
        arrival->file = arrival->found = aiofs_file_find(request->fd);
    if (arrival->file) {
        *used = next;
        next->is_plain = false;
        next->error = 0;
        facts_of(arrival->file, &next->facts);
    } else if (!look || !look->is_plain || look->fd != request->fd) {
        *used = next;
        next->is_plain = true;
        next->fd = request->fd;
        next->error = file_examine(request->fd, &next->facts);
    }
    arrival->facts = &(*used)->facts;
    int error = (*used)->error;
    if (error == -EBADF && is_barrier(request))
        return error;
    arrival->outcome = error < 0 ? error : verdict(request, arrival->facts);
    request->appends = arrival->outcome == 0 && request->op == AIOFS_WRITE && arrival->facts->flags & O_APPEND;
    if (arrival->outcome == 0 && arrival->file)
        arrival->outcome = charge(request, arrival->file);
    if (arrival->outcome == 0 && arrival->file)
        find_reach(request, arrival->file);
    if (arrival->outcome == 0 && arrival->file && request->appends)
        arrival->file->appending += request->total; /* before the next of this call is charged */
    return 0;
}

/* Tells what became of it. 0, or why it was not accepted. */
static int settle_arrival(struct arrival *arrival)
{
    aiofs_request *request = arrival->request;
    int64_t outcome = arrival->outcome ? arrival->outcome : arrival->error;
    if (arrival->error < 0 && arrival->file) {
        if (request->appends)
            arrival->file->appending -= request->total;
        request_settle(request, arrival->file);
    }
    if (arrival->found)
        aiofs_file_release(arrival->found);
    if (arrival->error == -EAGAIN || arrival->error == -ENOMEM)
        return request_reject(request);
    if (outcome != 0)
        request_end(request, outcome < 0 ? outcome : 0);
    return 0;
}

static int submit_call(aiofs_request *request)
{
    request->lane = LANE_CALL;
    request_accept(request);
    return host_threads_call(request) < 0 ? request_reject(request) : 0;
}

static void submit_some(struct aiofs_batch_entry *list, size_t count)
{
    struct arrival arrivals[AT_ONCE];
    struct look looks[AT_ONCE], *look = NULL;
    size_t arrived = 0, entered = 0;
    struct aiofs_batch_entry *origins[AT_ONCE];
    for (size_t i = 0; i < count; i++) {
        aiofs_request *request = list[i].request;
        struct arrival *arrival = &arrivals[arrived];
        *arrival = (struct arrival){.request = request, .file = list[i].file};
        if (!aiofs_reqprio_is_valid(request->reqprio)) {
            list[i].error = -EINVAL;
            continue;
        }
        reset(request);
        if (request->op == AIOFS_CALL) {
            list[i].error = submit_call(request);
            continue;
        }
        list[i].error = examine(arrival, look, &looks[arrived], &look);
        if (list[i].error < 0) {
            if (arrival->found)
                aiofs_file_release(arrival->found);
            continue;
        }
        request_accept(request);
        arrival->waits = arrival->outcome == 0;
        entered += arrival->waits;
        origins[arrived++] = &list[i];
    }
    if (entered)
        enter_all(arrivals, arrived);
    for (size_t i = 0; i < arrived; i++)
        origins[i]->error = settle_arrival(&arrivals[i]);
}

void aiofs_submit_many(struct aiofs_batch_entry *list, size_t count)
{
    int error = aiofs_engine_start();
    for (size_t i = 0; error < 0 && i < count; i++)
        list[i].error = error == -EINVAL ? error : -EAGAIN;
    for (size_t i = 0; error == 0 && i < count; i += AT_ONCE)
        submit_some(list + i, count - i < AT_ONCE ? count - i : AT_ONCE);
}

int aiofs_submit(aiofs_request *request, aiofs_file *file)
{
    struct aiofs_batch_entry one = {request, file, 0};
    aiofs_submit_many(&one, 1);
    return one.error;
}
