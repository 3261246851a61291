/*
 * lane.c - which request may run next: the order of the requests of one file.
 *
 * Three rules decide. They are applied when a request arrives, and again whenever a request leaves:
 *
 *   barrier    fsync, flush and truncate wait until they are the oldest request of their file, and until the
 *              completions of all earlier requests are published. So no thread sees a completed fsync and, before it, a
 *              write in progress.
 *   ordered    a request of an access handle waits for each earlier one that touches the same bytes, and for an earlier
 *              truncate. For a write past the end, these bytes include the gap that it fills. An append to a file with
 *              its own operations (outside.c) waits for each earlier append.
 *   lane       every other request waits in a lane until the lane has room. Among the waiting requests reqprio decides,
 *              except where writes must keep the order of the calls.
 *
 * A request that waits by the first rule is in file->held; by the third rule, in lane->waiting. A request that waits by
 * the second rule is in the `blocked` list of only one earlier request, the latest that it must wait for. When that
 * request leaves, the others have mostly left too, and the tree of spans (span.h) is searched once more for another
 * one. So the cost of a request does not grow with the number of requests in flight.
 *
 * Locking. The engine lock guards everything here. Nothing here sleeps or makes a system call.
 */
#define _GNU_SOURCE
#include <fcntl.h>

#include "internal.h"
#include "span.h"
#include "waiting.h"

enum { RING_COPY_MAX = 128 * 1024 }; /* a longer cached read would keep the reactor busy with copying */

static enum lane_name lane_for(const aiofs_request *request)
{
    const aiofs_file *file = request->file;
    if (is_barrier(request))
        return LANE_SYNC;
    if (request->op == AIOFS_WRITE)
        return LANE_WRITE;
    bool copies = file->kind == KIND_REGULAR && !(file->flags & O_DIRECT);
    return copies && request->total > RING_COPY_MAX ? LANE_COPY : LANE_READ;
}

void lane_offer(struct lane *lane)
{
    bool has_work = !list_empty(&lane->waiting) && lane->running < lane->limit;
    if (!has_work || !list_empty(&lane->runnable))
        return;
    list_append(&engine.run_queue[lane->carrier], &lane->runnable);
    if (lane->carrier == CARRIER_WORKERS)
        pool_signal();
}

static void lane_enqueue(aiofs_request *request, struct aiofs_link *outside)
{
    if (request->file->ops) {
        request->lane = LANE_HELD;
        request->phase = PHASE_RUNNING;
        list_append(outside, &request->queued);
        return;
    }
    request->lane = (uint8_t)lane_for(request);
    struct lane *lane = &request->file->lanes[request->lane];
    waiting_insert(&lane->waiting, request, lane->call_order);
    lane_offer(lane);
}

/* ---- ordered requests ------------------------------------------------------------------------------- */

/* An append to a file with its own operations: it gets its offset when it runs, so those before it must have run. */
static bool appends_outside(const aiofs_request *request)
{
    return request->appends && request->file->ops;
}

static bool is_ordered(const aiofs_request *request)
{
    return request->ordered || appends_outside(request);
}

static bool has_span(const aiofs_request *request)
{
    return is_ordered(request) && (!is_barrier(request) || request->op == AIOFS_TRUNCATE);
}

/* A truncate counts as a write of all bytes, and so does such an append. */
static bool spans_all(const aiofs_request *request)
{
    return request->op == AIOFS_TRUNCATE || appends_outside(request);
}

static struct aiofs_span **spans_of(const aiofs_request *request)
{
    return request->op == AIOFS_READ ? &request->file->reads : &request->file->writes;
}

/* Adds the span of a request to its file's tree. */
static void span_enter(aiofs_request *request)
{
    bool all = spans_all(request);
    request->span.start = all ? 0 : request->offset;
    request->span.reach = all ? 0 : request->reach;
    request->span.end = all ? INT64_MAX : request->offset + (int64_t)request->total;
    request->span.number = request->sequence;
    request->span.left = request->span.right = NULL;
    span_insert(spans_of(request), &request->span);
}

/* The latest earlier request that an ordered request must wait for; NULL: it need not wait. */
static aiofs_request *blocker_of(const aiofs_request *request)
{
    const aiofs_file *file = request->file;
    bool writes = request->op == AIOFS_WRITE, all = spans_all(request);
    struct span_query query = {.number = request->sequence};
    struct aiofs_span *latest = NULL;
    query.to = all ? INT64_MAX : request->offset + (int64_t)request->total;
    query.from = all ? 0 : request->offset;
    query.by_reach = !writes; /* a read waits until an earlier write has filled its gap, a write does not */
    latest = span_latest(file->writes, &query, latest);
    if (writes) {
        query.from = all ? 0 : request->reach;
        latest = span_latest(file->reads, &query, latest);
    }
    return latest ? CONTAINER(latest, aiofs_request, span) : NULL;
}

/* Puts a request into its lane, or into the `blocked` list of an earlier request that it must wait for. */
static void enqueue_or_block(aiofs_request *request, struct aiofs_link *outside)
{
    aiofs_request *blocker = is_ordered(request) ? blocker_of(request) : NULL;
    if (blocker) {
        request->lane = LANE_HELD;
        list_append(&blocker->blocked, &request->queued);
    } else {
        lane_enqueue(request, outside);
    }
}

/* ---- the way of a request --------------------------------------------------------------------------- */

void lane_arrive(aiofs_request *request, struct aiofs_link *outside)
{
    aiofs_file *file = request->file;
    request->phase = PHASE_WAITING;
    request->sequence = ++file->sequence;
    if (list_empty(&file->in_flight))
        file->writes = file->reads = NULL; /* not initialised in a new file; stale in a forked child */
    list_append(&file->in_flight, &request->in_flight);
    count_by(&file->outstanding, 1);
    count_by(&file->changing, changes_bytes(request));
    engine.outstanding++;

    list_init(&request->blocked);
    if (has_span(request))
        span_enter(request);
    if (!is_barrier(request)) {
        enqueue_or_block(request, outside);
        return;
    }
    atomic_fetch_add(&file->barriers, 1); /* before the load of `ending`: see lane_ended */
    if (file->in_flight.next != &request->in_flight || atomic_load(&file->ending)) {
        request->lane = LANE_HELD;
        list_append(&file->held, &request->queued);
    } else {
        lane_enqueue(request, outside);
    }
}

void lane_leave(aiofs_request *request, struct aiofs_link *outside)
{
    aiofs_file *file = request->file;
    list_remove(&request->in_flight);
    count_by(&file->outstanding, -1);
    count_by(&file->changing, -(long)changes_bytes(request));
    engine.outstanding--;
    if (request->lane < LANES) {
        struct lane *lane = &file->lanes[request->lane];
        if (request->phase != PHASE_WAITING)
            lane->running--;
        if (lane->current == request)
            lane->current = NULL;
        lane_offer(lane);
    }
    list_remove(&request->queued); /* it may still be in engine.cancelling */
    request->phase = PHASE_ENDING;

    if (has_span(request))
        span_remove(spans_of(request), &request->span);
    for (struct aiofs_link *link; (link = list_pop(&request->blocked));)
        enqueue_or_block(CONTAINER(link, aiofs_request, queued), outside);
    if (is_barrier(request))
        atomic_fetch_sub(&file->barriers, 1);
    atomic_fetch_add(&file->ending, 1);
    if (!file->owned)
        atomic_fetch_add(file_number_ending(request->fd), 1);
}

/* Takes no lock. A barrier adds to `barriers` before it loads `ending`; the thread that publishes a completion
 * subtracts from `ending` before it loads `barriers`. So one of them sees the other's store, and a barrier never waits
 * for ever. */
bool lane_ended(aiofs_file *file)
{
    return atomic_fetch_sub(&file->ending, 1) == 1 && atomic_load(&file->barriers);
}

void lane_pass(aiofs_file *file, struct aiofs_link *outside)
{
    if (list_empty(&file->in_flight) || atomic_load(&file->ending))
        return;
    aiofs_request *oldest = CONTAINER(file->in_flight.next, aiofs_request, in_flight);
    if (is_barrier(oldest) && oldest->lane == LANE_HELD && oldest->phase == PHASE_WAITING) {
        list_remove(&oldest->queued);
        lane_enqueue(oldest, outside);
    }
}

void lane_withdraw(aiofs_request *request)
{
    if (request->lane < LANES) {
        struct lane *lane = &request->file->lanes[request->lane];
        waiting_remove(&lane->waiting, request);
        if (list_empty(&lane->waiting))
            list_remove(&lane->runnable);
        request->lane = LANE_HELD;
    } else {
        list_remove(&request->queued);
    }
    request->phase = PHASE_ENDING;
}

aiofs_request *lane_take(struct aiofs_link *run_queue)
{
    struct aiofs_link *first = list_pop(run_queue);
    if (!first)
        return NULL;
    struct lane *lane = CONTAINER(first, struct lane, runnable);
    aiofs_request *request = waiting_request(lane->waiting.next);
    waiting_remove(&lane->waiting, request);
    request->phase = PHASE_RUNNING;
    lane->running++;
    lane->current = request;
    if (!list_empty(&lane->waiting) && lane->running < lane->limit)
        list_append(run_queue, &lane->runnable);
    return request;
}
