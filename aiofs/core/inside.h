/*
 * inside.h - for each thread, the files for which it is inside a method of a volume written in Python.
 *
 * The core enters a frame before it calls such a method, and leaves it afterwards. So close can detect that it would
 * wait for its own thread. The frames are a linked list on the thread's own stack; only that thread uses them.
 */
#ifndef AIOFS_INSIDE_H
#define AIOFS_INSIDE_H

#include <stdbool.h>

struct aiofs_inside {
    const void *file;
    struct aiofs_inside *outer;
};

void inside_enter(struct aiofs_inside *here, const void *file);
void inside_leave(const struct aiofs_inside *here);
/* Is this thread inside a method that was called for `file`? */
bool inside_is(const void *file);

#endif
