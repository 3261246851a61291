/*
 * fd_table.h - the slots of the descriptor numbers, for file.c; other files use the functions of internal.h.
 */
#ifndef AIOFS_FD_TABLE_H
#define AIOFS_FD_TABLE_H

#include "internal.h"

struct fd_slot {
    _Atomic(aiofs_file *) owned;
    _Atomic(aiofs_file *) plain; /* changed under the engine lock */
    _Atomic unsigned ending;     /* plain requests on this number that have left, and are not yet notified */
    struct file_hint hint;
};

/* The slot of a number. NULL: no such number, or it has no slot yet; no memory. */
struct fd_slot *fd_slot_find(int fd);
struct fd_slot *fd_slot_make(int fd);
/* In a forked child: no request of the parent ends here. */
void fd_table_fork_child(void);

#endif
