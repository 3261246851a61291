/*
 * span.c - the search for earlier requests that overlap a later one: its results are compared with those of a linear
 * search, and its steps are counted.
 */
#include "harness.h"

static unsigned long steps;
#define SPAN_VISITED() (steps++)
#include "span.h"

enum { MANY = 16000, FEW = 1000 };

static struct aiofs_span spans[MANY];
static bool present[MANY];

static uint64_t random_bits(void)
{
    static uint64_t state = 88172645463325252u;
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

static void set(struct aiofs_span *span, uint64_t number, int64_t start, int64_t length, int64_t gap)
{
    *span = (struct aiofs_span){.start = start, .reach = start - gap, .end = start + length, .number = number};
}

static struct aiofs_span *model_latest(const struct span_query *query, int count)
{
    struct aiofs_span *best = NULL;
    for (int i = 0; i < count; i++) {
        struct aiofs_span *span = &spans[i];
        int64_t begin = query->by_reach ? span->reach : span->start;
        if (present[i] && span->number < query->number && begin < query->to && query->from < span->end &&
            (!best || span->number > best->number))
            best = span;
    }
    return best;
}

static bool bounds_are_right(const struct aiofs_span *tree)
{
    if (!tree)
        return true;
    struct aiofs_span fresh = *tree;
    span_update(&fresh);
    return fresh.min_start == tree->min_start && fresh.min_reach == tree->min_reach &&
           fresh.max_end == tree->max_end && fresh.first == tree->first && fresh.last == tree->last &&
           bounds_are_right(tree->left) && bounds_are_right(tree->right);
}

static void agrees_with_the_model(void)
{
    enum { SLOTS = 60, ROUNDS = 40000 };
    struct aiofs_span *tree = NULL;
    int wrong = 0;
    uint64_t number = 0;
    memset(present, 0, sizeof present);
    for (int round = 0; round < ROUNDS; round++) {
        int slot = (int)(random_bits() % SLOTS);
        if (present[slot]) {
            span_remove(&tree, &spans[slot]);
        } else {
            int64_t start = (int64_t)(random_bits() % 100), gap = random_bits() % 3 ? 0 : (int64_t)(random_bits() % 20);
            set(&spans[slot], ++number, start, 1 + (int64_t)(random_bits() % 12), gap < start ? gap : start);
            span_insert(&tree, &spans[slot]);
        }
        present[slot] = !present[slot];
        struct span_query query = {.from = (int64_t)(random_bits() % 110), .by_reach = random_bits() % 2};
        query.to = query.from + 1 + (int64_t)(random_bits() % 10);
        query.number = number + 1 - random_bits() % 50;
        query.number = query.number > number + 1 ? 0 : query.number;
        wrong += span_latest(tree, &query, NULL) != model_latest(&query, SLOTS);
        wrong += round % 100 == 0 && !bounds_are_right(tree);
    }
    CHECK(wrong == 0, "of %d searches among spans that come and go, %d find another than the model", ROUNDS, wrong);
}

/* As lane.c does: searches and inserts each span; then removes each, oldest first, and searches again for the next. */
static unsigned long steps_of_each(int64_t (*place)(int), int count)
{
    struct aiofs_span *tree = NULL;
    steps = 0;
    for (int i = 0; i < count; i++) {
        set(&spans[i], (uint64_t)i + 1, place(i), 4096, 0);
        span_insert(&tree, &spans[i]);
        struct span_query query = {.from = spans[i].start, .to = spans[i].end, .number = spans[i].number};
        span_latest(tree, &query, NULL);
    }
    for (int i = 0; i < count; i++) {
        span_remove(&tree, &spans[i]);
        const struct aiofs_span *next = &spans[i + 1 < count ? i + 1 : i];
        struct span_query query = {.from = next->start, .to = next->end, .number = next->number};
        span_latest(tree, &query, NULL);
    }
    CHECK(tree == NULL, "the tree is empty again");
    return steps / (unsigned long)count;
}

static int64_t in_a_row(int i)
{
    return (int64_t)i * 4096;
}

static int64_t at_one_place(int i)
{
    (void)i;
    return 1000;
}

static int64_t scattered(int i)
{
    return (int64_t)(((unsigned)i * 40503u) & 0xffff) * 4096;
}

static int64_t backwards(int i)
{
    return (int64_t)(MANY - i) * 4096;
}

static int64_t overlapping_neighbours(int i)
{
    return (int64_t)i * 3000;
}

static int64_t at_a_few_places(int i)
{
    return (int64_t)(i % 7) * 2000;
}

static void steps_grow_slowly(void)
{
    static const struct {
        const char *name;
        int64_t (*place)(int);
    } patterns[] = {{"one behind the other", in_a_row},      {"all at one place", at_one_place},
                    {"scattered", scattered},                {"from the end to the start", backwards},
                    {"overlapping", overlapping_neighbours}, {"at a few places", at_a_few_places}};
    for (size_t i = 0; i < COUNT_OF(patterns); i++) {
        unsigned long few = steps_of_each(patterns[i].place, FEW), many = steps_of_each(patterns[i].place, MANY);
        CHECK(many < 2 * few && many < 200, "%s: %lu steps for each of %d, %lu for each of %d", patterns[i].name, few,
              FEW, many, MANY);
    }
}

int main(void)
{
    check_begin(60);
    agrees_with_the_model();
    steps_grow_slowly();
    return check_end();
}
