/*
 * entry.c - the namespace lock, and the entries of each tree.
 *
 * The entries of a tree are in a hash table, found by their canonical path. An entry exists while a lock reference
 * points to it: the first one makes it, the release of the last one frees it.
 *
 * Locking. The namespace lock is one mutex for all trees of the process. It guards the list of trees and everything
 * that functions ending in _locked read or change.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "thread.h"
#include "volume_internal.h"

struct aiofs_tree *aiofs_trees;
static pthread_mutex_t namespace_mutex = PTHREAD_MUTEX_INITIALIZER;

void aiofs_namespace_lock(void)
{
    pthread_mutex_lock(&namespace_mutex);
}

void aiofs_namespace_unlock(void)
{
    pthread_mutex_unlock(&namespace_mutex);
}

int aiofs_namespace_wait(pthread_cond_t *condition, int64_t until)
{
    return condition_wait_until(condition, &namespace_mutex, until);
}

/* ---- the table ------------------------------------------------------------------------------------------- */

static struct aiofs_entry **bucket_of(const struct aiofs_tree *tree, uint64_t hash)
{
    return &tree->buckets[hash & (tree->bucket_count - 1)];
}

struct aiofs_entry *aiofs_entry_find_locked(const struct aiofs_tree *tree, const struct aiofs_canonical *canonical)
{
    struct aiofs_entry *entry = tree->bucket_count ? *bucket_of(tree, canonical->hash) : NULL;
    while (entry && (entry->hash != canonical->hash || entry->length != canonical->length ||
                     memcmp(entry->path, canonical->path, canonical->length) != 0))
        entry = entry->next;
    return entry;
}

/* Makes the number of hash buckets exceed the number of entries. */
static int buckets_grow(struct aiofs_tree *tree)
{
    struct aiofs_tree grown = {.bucket_count = tree->bucket_count ? tree->bucket_count * 2 : 64};
    if (tree->entry_count < tree->bucket_count)
        return 0;
    grown.buckets = calloc(grown.bucket_count, sizeof *grown.buckets);
    if (!grown.buckets)
        return -ENOMEM;
    for (size_t i = 0; i < tree->bucket_count; i++) {
        for (struct aiofs_entry *entry = tree->buckets[i], *next; entry; entry = next) {
            struct aiofs_entry **bucket = bucket_of(&grown, entry->hash);
            next = entry->next;
            entry->next = *bucket;
            *bucket = entry;
        }
    }
    free(tree->buckets);
    tree->buckets = grown.buckets;
    tree->bucket_count = grown.bucket_count;
    return 0;
}

struct aiofs_entry *aiofs_entry_make_locked(struct aiofs_tree *tree, const struct aiofs_canonical *canonical)
{
    struct aiofs_entry *entry = aiofs_entry_find_locked(tree, canonical);
    if (entry)
        return entry;
    if (buckets_grow(tree) < 0 || !(entry = calloc(1, sizeof *entry + canonical->length + 1)))
        return NULL;
    entry->hash = canonical->hash;
    entry->length = canonical->length;
    memcpy(entry->path, canonical->path, canonical->length + 1);
    struct aiofs_entry **bucket = bucket_of(tree, entry->hash);
    entry->next = *bucket;
    *bucket = entry;
    tree->entry_count++;
    return entry;
}

void aiofs_entry_free_if_unused_locked(struct aiofs_tree *tree, struct aiofs_entry *entry)
{
    if (entry->lock_refs)
        return;
    struct aiofs_entry **link = bucket_of(tree, entry->hash);
    while (*link != entry)
        link = &(*link)->next;
    *link = entry->next;
    tree->entry_count--;
    free(entry);
}
