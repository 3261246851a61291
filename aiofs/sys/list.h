/*
 * list.h - circular doubly linked lists with a head. A link that is in no list points at itself.
 *
 * A list allocates nothing and has no lock: the owner of the head guards the list.
 */
#ifndef AIOFS_LIST_H
#define AIOFS_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct aiofs_link {
    struct aiofs_link *next, *prev;
};

/* The structure of which `link` is the given member. */
#define CONTAINER(link, type, member) ((type *)((char *)(link) - offsetof(type, member)))

static inline void list_init(struct aiofs_link *link)
{
    link->next = link->prev = link;
}

static inline bool list_empty(const struct aiofs_link *head)
{
    return head->next == head;
}

static inline void list_insert_before(struct aiofs_link *position, struct aiofs_link *link)
{
    link->next = position;
    link->prev = position->prev;
    position->prev->next = link;
    position->prev = link;
}

static inline void list_append(struct aiofs_link *head, struct aiofs_link *link)
{
    list_insert_before(head, link);
}

static inline void list_remove(struct aiofs_link *link)
{
    link->prev->next = link->next;
    link->next->prev = link->prev;
    list_init(link);
}

static inline struct aiofs_link *list_pop(struct aiofs_link *head)
{
    struct aiofs_link *first = head->next;
    if (first == head)
        return NULL;
    list_remove(first);
    return first;
}

/* Moves all links of `from` to the end of `to`. */
static inline void list_splice(struct aiofs_link *to, struct aiofs_link *from)
{
    if (list_empty(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    list_init(from);
}

#endif
