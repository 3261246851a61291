/*
 * waiting.c - the waiting list of a lane: its order is compared with that of a plain array, and its steps are counted.
 */
#include "harness.h"

static unsigned long steps;
#define WAITING_VISITED() (steps++)
#include "waiting.h"

enum { MANY = 20000, MODEL = 60, PRIORITIES = AIOFS_PRIO_DELTA_MAX + 1 };

static aiofs_request requests[MANY];

static unsigned random_below(unsigned limit)
{
    static uint64_t state = 88172645463325252u;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (unsigned)(state % limit);
}

struct model {
    aiofs_request *order[MODEL];
    int count;
};

static void model_insert(struct model *model, aiofs_request *request, bool call_order)
{
    int at = model->count++;
    for (; !call_order && at > 0 && model->order[at - 1]->reqprio > request->reqprio; at--)
        model->order[at] = model->order[at - 1];
    model->order[at] = request;
}

static aiofs_request *model_remove(struct model *model, int at)
{
    aiofs_request *request = model->order[at];
    model->count--;
    for (; at < model->count; at++)
        model->order[at] = model->order[at + 1];
    return request;
}

static bool agrees(const struct aiofs_link *list, const struct model *model)
{
    const struct aiofs_link *link = list->next;
    for (int i = 0; i < model->count; i++, link = link->next)
        if (link != &model->order[i]->queued)
            return false;
    return link == list;
}

/* Inserts and removes by chance. A list that was filled in the order of the calls is sorted from then on, as when a
 * program changes O_APPEND. */
static void agrees_with_the_model(void)
{
    struct model model = {.count = 0};
    struct aiofs_link list;
    unsigned long wrong = 0;
    list_init(&list);
    for (int round = 0; round < 200000; round++) {
        bool call_order = round / 1000 % 2, insert = random_below(2) ? model.count < MODEL : model.count == 0;
        if (insert) {
            aiofs_request *request = &requests[round % MANY];
            request->reqprio = (int)random_below(4);
            model_insert(&model, request, call_order);
            waiting_insert(&list, request, call_order);
        } else {
            aiofs_request *request = model_remove(&model, (int)random_below((unsigned)model.count));
            waiting_remove(&list, request);
        }
        wrong += !agrees(&list, &model);
    }
    CHECK(wrong == 0, "after %lu of 200000 steps the order was not the model's", wrong);
}

static void steps_do_not_grow(void)
{
    struct aiofs_link list;
    list_init(&list);
    for (int i = 0; i < MANY; i++) {
        requests[i].reqprio = i % PRIORITIES;
        waiting_insert(&list, &requests[i], false);
    }
    CHECK(steps < (unsigned long)MANY * PRIORITIES, "%lu steps to insert %d requests of all priorities", steps, MANY);
}

int main(void)
{
    check_begin(60);
    agrees_with_the_model();
    steps_do_not_grow();
    return check_end();
}
