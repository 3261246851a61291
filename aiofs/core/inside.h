/*
 * inside.h - which files' volumes this thread is working for, while it is inside a method of such a volume.
 *
 * A stack for each thread, of frames that lie on that thread's own stack: entered before the method of a volume
 * written in Python is called, left after it. A handle whose close would wait for itself is noticed by it.
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
bool inside_is(const void *file);

#endif
