/*
 * span.h - the ranges of bytes that requests in flight touch, and the search for the latest earlier range that
 * overlaps.
 *
 * The spans of a file are in a tree, sorted by their start. Each span has the bounds of all spans below it (positions
 * and numbers). With these bounds a search skips subtrees that cannot overlap, that came later than the query, and that
 * came earlier than the best span found so far. Spans that do not overlap cost a search one path down the tree, and so
 * do spans that are all at the same place. The tree is a treap: its shape comes from pseudo-random ranks, computed from
 * the order of submission. So it stays shallow whatever the offsets are.
 *
 * Ownership. A span is part of its request. Nothing is allocated, so nothing can fail.
 *
 * Locking. The engine lock guards all of it.
 */
#ifndef AIOFS_SPAN_H
#define AIOFS_SPAN_H

#include "engine.h"

#ifndef SPAN_VISITED
#define SPAN_VISITED() ((void)0) /* for a test that counts steps */
#endif

static inline uint64_t span_rank(const struct aiofs_span *span)
{
    uint64_t bits = span->number * 0x9e3779b97f4a7c15u;
    bits ^= bits >> 32;
    return bits * 0xd6e8feb86659fd93u;
}

static inline bool span_is_before(const struct aiofs_span *a, const struct aiofs_span *b)
{
    return a->start != b->start ? a->start < b->start : a->number < b->number;
}

static inline void span_include(struct aiofs_span *span, const struct aiofs_span *below)
{
    if (!below)
        return;
    span->min_start = below->min_start < span->min_start ? below->min_start : span->min_start;
    span->min_reach = below->min_reach < span->min_reach ? below->min_reach : span->min_reach;
    span->max_end = below->max_end > span->max_end ? below->max_end : span->max_end;
    span->first = below->first < span->first ? below->first : span->first;
    span->last = below->last > span->last ? below->last : span->last;
}

/* Computes the bounds of a span from its own range and its children's bounds. */
static inline void span_update(struct aiofs_span *span)
{
    SPAN_VISITED();
    span->min_start = span->start;
    span->min_reach = span->reach;
    span->max_end = span->end;
    span->first = span->last = span->number;
    span_include(span, span->left);
    span_include(span, span->right);
}

/* Splits a tree into the spans before `at` and the others. */
static inline void span_split(struct aiofs_span *tree, const struct aiofs_span *at, struct aiofs_span **before,
                              struct aiofs_span **after)
{
    if (!tree) {
        *before = *after = NULL;
    } else if (span_is_before(tree, at)) {
        span_split(tree->right, at, &tree->right, after);
        *before = tree;
        span_update(tree);
    } else {
        span_split(tree->left, at, before, &tree->left);
        *after = tree;
        span_update(tree);
    }
}

static inline struct aiofs_span *span_join(struct aiofs_span *before, struct aiofs_span *after)
{
    if (!before || !after)
        return before ? before : after;
    if (span_rank(before) > span_rank(after)) {
        before->right = span_join(before->right, after);
        span_update(before);
        return before;
    }
    after->left = span_join(before, after->left);
    span_update(after);
    return after;
}

static inline struct aiofs_span *span_inserted(struct aiofs_span *tree, struct aiofs_span *span)
{
    if (!tree || span_rank(span) > span_rank(tree)) {
        span_split(tree, span, &span->left, &span->right);
        span_update(span);
        return span;
    }
    struct aiofs_span **side = span_is_before(span, tree) ? &tree->left : &tree->right;
    *side = span_inserted(*side, span);
    span_update(tree);
    return tree;
}

static inline struct aiofs_span *span_removed(struct aiofs_span *tree, const struct aiofs_span *span)
{
    if (tree == span)
        return span_join(span->left, span->right);
    struct aiofs_span **side = span_is_before(span, tree) ? &tree->left : &tree->right;
    *side = span_removed(*side, span);
    span_update(tree);
    return tree;
}

static inline void span_insert(struct aiofs_span **tree, struct aiofs_span *span)
{
    *tree = span_inserted(*tree, span);
}

static inline void span_remove(struct aiofs_span **tree, const struct aiofs_span *span)
{
    *tree = span_removed(*tree, span);
}

/* A query matches spans with a smaller number that overlap [from, to). A span begins at its `reach` or at its
 * `start`. */
struct span_query {
    int64_t from, to;
    uint64_t number;
    bool by_reach;
};

static inline bool span_overlaps(const struct span_query *query, int64_t begin, int64_t end)
{
    return begin < query->to && query->from < end;
}

/* The matching span with the largest number, if that is larger than the number of `best`; else `best`, which may be
 * NULL. */
static inline struct aiofs_span *span_latest(struct aiofs_span *tree, const struct span_query *query,
                                             struct aiofs_span *best)
{
    if (!tree || tree->first >= query->number || (best && tree->last <= best->number) ||
        !span_overlaps(query, query->by_reach ? tree->min_reach : tree->min_start, tree->max_end))
        return best;
    SPAN_VISITED();
    if (tree->number < query->number && (!best || tree->number > best->number) &&
        span_overlaps(query, query->by_reach ? tree->reach : tree->start, tree->end))
        best = tree;
    bool left_first = tree->left && (!tree->right || tree->left->last > tree->right->last);
    best = span_latest(left_first ? tree->left : tree->right, query, best);
    return span_latest(left_first ? tree->right : tree->left, query, best);
}

#endif
