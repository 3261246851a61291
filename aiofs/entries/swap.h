/* swap.h - swap files: swap_file.c makes, finds and renames them; swap_beside.c and swap.c commit them. */
#ifndef AIOFS_SWAP_H
#define AIOFS_SWAP_H

#include <time.h>

#include "volume_internal.h"

#define AIOFS_SWAP_DIR "swap"
#define AIOFS_NOTE_SUFFIX ".at"
#define AIOFS_BESIDE_PREFIX ".aiofs-swap-"

struct aiofs_swap {
    char name[sizeof AIOFS_SWAP_DIR "/0123456789abcdef.159"]; /* relative to .aiofs; "": there is none */
    ino_t ino;
    _Atomic bool changed;
    struct timespec mtime; /* of the swap file as it was made: another one shows changes that bypassed the engine */
    aiofs_swap_commit_function *commit; /* not NULL: the swap of a virtual volume */
    void (*release)(void *self);
    void *self;
};

/* Before a swap file is made: removes stale ones, if it is time, and counts the new one. */
void aiofs_swap_begin(struct aiofs_tree *tree);
void aiofs_swap_ended(struct aiofs_tree *tree);
/* Makes a new file of a new name, and locks it; the name of a note has a suffix. Returns its descriptor, or a negated
 * errno. */
int aiofs_swap_open(struct aiofs_tree *tree, struct aiofs_swap *swap, bool note);
void aiofs_swap_remove(const struct aiofs_tree *tree, struct aiofs_swap *swap);
/* Gives the new file the attributes of the file at the entry's path, and `old` what that is. -ENOENT: the file was
 * removed, or its directory. */
int aiofs_swap_take_attributes(const struct aiofs_parent *parent, int fd, const struct stat *now, struct stat *old);
/* Renames a new file to the entry's path. `old`: what it replaced. */
int aiofs_swap_rename(struct aiofs_tree *tree, int directory, const char *name, const struct aiofs_parent *parent,
                      struct stat *old);

/* swap_beside.c: replaces the entry's file by a copy of the swap file `fd`. */
int aiofs_swap_replace_beside(struct aiofs_lock_ref *lock_ref, const struct aiofs_canonical *canonical,
                              const struct aiofs_parent *parent, int fd, const struct stat *now, struct stat *old);

#endif
