/*
 * submit.c - submission: of one request, or of several in one call.
 *
 *   arrive    examines the descriptor and validates the request. This runs on the calling thread, because only there
 *             the number certainly is the program's. An invalid request completes at once with an error.
 *   enter     under the engine lock: binds the open file, if it is not bound yet, and adds the request to its file
 *             (lane.c). If the channel's socket is full, the lock is released and taken again.
 *   report    reports the outcome to the caller.
 *
 * Up to AT_ONCE requests pass each step together. So a list examines the same descriptor once, takes the lock once for
 * AT_ONCE requests, and wakes the reactor once for them.
 *
 * Ownership. The arrivals are on the caller's stack, which may be small. An arrival holds the references that it found,
 * until report or enter_waiting releases them.
 *
 * Locking. Only enter runs under the engine lock. Releasing a reference may take that lock, so it is done without it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <time.h>

#include "internal.h"

/* ---- what a request asks for --------------------------------------------------------------------------- */

/* Does read(2) or write(2) of no bytes certainly return 0 on this kind of file? A write to a socket may send an empty
 * datagram; devices and anonymous files have results of their own. */
static bool needs_no_question(const aiofs_request *request, const struct file_facts *facts)
{
    mode_t type = facts->stat.st_mode & S_IFMT;
    return facts->kind == KIND_REGULAR || type == S_IFIFO || (type == S_IFSOCK && request->op == AIOFS_READ);
}

/* Validates a request for this kind of file: the error it completes with; 0: it is valid; 1: it has nothing to do and
 * succeeds. */
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
    return is_empty(request) && needs_no_question(request, facts) ? 1 : 0;
}

/* At most INT64_MAX: no file is larger, and the quota or the kernel refuses the write. */
static int64_t sum(uint64_t a, uint64_t b)
{
    return a > INT64_MAX || b > INT64_MAX - a ? INT64_MAX : (int64_t)(a + b);
}

/* Charges the quota for the growth that a write or truncate of an entry may cause; on the calling thread, because only
 * there the number certainly is the program's. */
static int charge(aiofs_request *request, const aiofs_file *file)
{
    if (!changes_bytes(request) || !file->lock_ref || !aiofs_lock_ref_has_quota(file->lock_ref))
        return 0;
    int64_t size = aiofs_file_size((aiofs_file *)file);
    if (size < 0)
        return (int)size;
    int64_t end = request->op == AIOFS_TRUNCATE ? request->offset
                  : request->appends            ? sum((uint64_t)size + file->appending, request->total)
                                                : request->offset + (int64_t)request->total;
    int status = aiofs_lock_ref_charge(file->lock_ref, size, end > size || request->op == AIOFS_TRUNCATE ? end : size);
    request->charged = status > 0;
    return status < 0 ? status : 0;
}

/* Sets `reach`: an ordered write past the end of the file also changes the gap before it. */
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

enum { AT_ONCE = 16 }; /* requests per lock; their arrivals are on the caller's stack, which may be small */

/* A request that is being submitted. */
struct arrival {
    struct aiofs_batch_entry *entry;
    aiofs_request *request;
    aiofs_file *file;             /* given or found; NULL: a plain descriptor */
    aiofs_file *found, *unwanted; /* references to release later, because a release may take the lock */
    struct file_facts facts;      /* of the file, or of the descriptor */
    int looked;                   /* the error of file_examine, or 0 */
    int64_t outcome;              /* the request completes here: an error, or 1: success; 0: it must enter the engine */
    int error;                    /* why the request could not enter the engine */
    bool waits;                   /* it has not entered yet */
};

/* Binds the file if necessary. 0; on an error nothing was started. Lock held. */
static int bind_file(aiofs_file *file)
{
    if (file->closing)
        return -EBADF;
    if (file->bound || file->ops)
        return 0;
    if (file->owned && file_number_lost(file)) /* the number leads to another file by now */
        return -EBADF;
    return engine_bind(file, atomic_load(&file->fd));
}

/* Gives it its place; binds the open file first. -EAGAIN: the engine has to receive some first, try again. Lock
 * held. */
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
        error = file_of_descriptor(request->fd, &arrival->facts, &target);
    if (error < 0)
        return error;
    error = bind_file(target);
    if (error < 0) {
        if (!target->outstanding && !target->owned)
            file_unregister(target);
        arrival->unwanted = target;
        return error;
    }
    request->file = target;
    if (!arrival->file && request->appends)
        target->appending += request->total;
    lane_arrive(request, outside);
    return 0;
}

/* Allocates the memory of new files, because nothing is allocated under the lock. */
static void reserve(struct arrival *arrivals, size_t count)
{
    unsigned files = 0;
    for (struct arrival *arrival = arrivals; arrival < arrivals + count; arrival++)
        if (arrival->waits && !arrival->file && file_reserve(arrival->request->fd, ++files) < 0) {
            arrival->error = -ENOMEM;
            arrival->waits = false;
        }
}

/* Enters the waiting requests in order. True: one got -EAGAIN; it and those behind it must try again. */
static bool enter_waiting(struct arrival *arrivals, size_t count)
{
    struct aiofs_link outside;
    bool again = false;
    list_init(&outside);
    reserve(arrivals, count);
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
    request->charged = false;
    request->file = NULL;
    request->phase = PHASE_ENDING; /* no thread can cancel it before it has entered */
}

/* Looks at what it is for; the same plain descriptor as that of the one before it need not be looked at again. */
static void look(struct arrival *arrival, const struct arrival *before)
{
    int fd = arrival->request->fd;
    if (!arrival->file)
        arrival->file = arrival->found = aiofs_file_find(fd);
    const aiofs_file *file = arrival->file;
    if (file) {
        arrival->facts.stat.st_mode = file->type;
        arrival->facts.flags = file->flags;
        arrival->facts.kind = file->kind;
        arrival->facts.seekable = file->seekable;
    } else if (before && !before->file && before->request->fd == fd) {
        arrival->looked = before->looked;
        arrival->facts = before->facts;
    } else {
        arrival->looked = file_examine(fd, &arrival->facts);
    }
}

/* Validates and charges the request, and sets `outcome`. 0, or the error with which the call refuses it. */
static int examine(struct arrival *arrival)
{
    aiofs_request *request = arrival->request;
    aiofs_file *file = arrival->file;
    if (arrival->looked == -EBADF && is_barrier(request))
        return -EBADF;
    arrival->outcome = arrival->looked < 0 ? arrival->looked : verdict(request, &arrival->facts);
    request->appends = arrival->outcome == 0 && request->op == AIOFS_WRITE && arrival->facts.flags & O_APPEND;
    if (arrival->outcome == 0 && file)
        arrival->outcome = charge(request, file);
    if (arrival->outcome == 0 && file)
        find_reach(request, file);
    if (arrival->outcome == 0 && file && request->appends)
        file->appending += request->total; /* before the next request of this call is charged */
    return 0;
}

/* Reports the outcome: in the entry's `error` if the request is refused, by a completion if it ends here. */
static void report(struct arrival *arrival)
{
    aiofs_request *request = arrival->request;
    int64_t outcome = arrival->outcome ? arrival->outcome : arrival->error;
    if (arrival->error < 0 && arrival->file) {
        if (request->appends)
            arrival->file->appending -= request->total;
        request_uncharge(request, arrival->file);
        request_end_charge(request, arrival->file);
    }
    if (arrival->found)
        aiofs_file_release(arrival->found);
    if (arrival->error == -EAGAIN || arrival->error == -ENOMEM)
        arrival->entry->error = request_reject(request);
    else if (outcome != 0)
        request_end(request, outcome < 0 ? outcome : 0);
}

static int submit_call(aiofs_request *request)
{
    request->lane = LANE_CALL;
    request_accept(request);
    return host_threads_call(request) < 0 ? request_reject(request) : 0;
}

/* Accepts the request, or stores in its entry why not. False: the submission of this request is over. */
static bool arrive(struct arrival *arrival, struct aiofs_batch_entry *entry, const struct arrival *before)
{
    aiofs_request *request = entry->request;
    *arrival = (struct arrival){.entry = entry, .request = request, .file = entry->file};
    entry->error = aiofs_reqprio_is_valid(request->reqprio) ? 0 : -EINVAL;
    if (entry->error < 0)
        return false;
    reset(request);
    if (request->op == AIOFS_CALL) {
        entry->error = submit_call(request);
        return false;
    }
    look(arrival, before);
    entry->error = examine(arrival);
    if (entry->error == 0) {
        request_accept(request);
        arrival->waits = arrival->outcome == 0;
    } else if (arrival->found) {
        aiofs_file_release(arrival->found);
    }
    return entry->error == 0;
}

static void submit_some(struct aiofs_batch_entry *list, size_t count)
{
    struct arrival arrivals[AT_ONCE];
    size_t arrived = 0, waiting = 0;
    for (size_t i = 0; i < count; i++) {
        struct arrival *arrival = &arrivals[arrived];
        if (!arrive(arrival, &list[i], arrived ? arrival - 1 : NULL))
            continue;
        waiting += arrival->waits;
        arrived++;
    }
    if (waiting)
        enter_all(arrivals, arrived);
    for (size_t i = 0; i < arrived; i++)
        report(&arrivals[i]);
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
