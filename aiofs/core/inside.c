/* inside.c - the frames of a thread inside methods of volumes. See inside.h. */
#include <stddef.h>

#include "core/inside.h"

static _Thread_local struct aiofs_inside *innermost;

void inside_enter(struct aiofs_inside *here, const void *file)
{
    here->file = file;
    here->outer = innermost;
    innermost = here;
}

void inside_leave(const struct aiofs_inside *here)
{
    innermost = here->outer;
}

bool inside_is(const void *file)
{
    for (const struct aiofs_inside *at = innermost; at; at = at->outer)
        if (file && at->file == file)
            return true;
    return false;
}
