/*
 * waiting.h - the waiting list of a lane: requests sorted by priority, and those of one priority in order of submission.
 *
 * A run is the longest sequence of neighbours with the same priority. The first and the last request of a run point at
 * each other (`run_end`); a request that is alone points at itself. So a request is inserted after one step for each
 * priority that stands behind it, and removed in constant time. If the order of the calls counts, requests are
 * appended, and the list is not sorted; it still consists of runs.
 *
 * The lane owns the list, and the engine lock guards it.
 */
#ifndef AIOFS_WAITING_H
#define AIOFS_WAITING_H

#include "internal.h"

#ifndef WAITING_VISITED
#define WAITING_VISITED() ((void)0) /* for a test that counts steps */
#endif

static inline aiofs_request *waiting_request(struct aiofs_link *link)
{
    return CONTAINER(link, aiofs_request, queued);
}

/* Is `link` a request of the list, with this priority? */
static inline bool waiting_has_priority(const struct aiofs_link *list, struct aiofs_link *link, int priority)
{
    return link != list && waiting_request(link)->reqprio == priority;
}

static inline void waiting_tie(aiofs_request *first, aiofs_request *last)
{
    first->run_end = last;
    last->run_end = first;
}

static inline void waiting_insert(struct aiofs_link *list, aiofs_request *request, bool call_order)
{
    struct aiofs_link *position = list;
    while (!call_order && position->prev != list && waiting_request(position->prev)->reqprio > request->reqprio) {
        WAITING_VISITED();
        position = &waiting_request(position->prev)->run_end->queued;
    }
    bool joins = waiting_has_priority(list, position->prev, request->reqprio);
    waiting_tie(joins ? waiting_request(position->prev)->run_end : request, request);
    list_insert_before(position, &request->queued);
}

static inline void waiting_remove(struct aiofs_link *list, aiofs_request *request)
{
    struct aiofs_link *prev = request->queued.prev, *next = request->queued.next;
    bool first = !waiting_has_priority(list, prev, request->reqprio);
    bool last = !waiting_has_priority(list, next, request->reqprio);
    if (first && !last)
        waiting_tie(waiting_request(next), request->run_end);
    else if (last && !first)
        waiting_tie(request->run_end, waiting_request(prev));
    else if (first && prev != list && waiting_has_priority(list, next, waiting_request(prev)->reqprio))
        waiting_tie(waiting_request(prev)->run_end, waiting_request(next)->run_end); /* its neighbours become one run */
    list_remove(&request->queued);
}

#endif
