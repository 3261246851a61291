/*
 * cached.h - opening files on a thread that must not block, because an event loop runs on it.
 *
 * The kernel opens a path without waiting if the path is in its cache (openat2 with RESOLVE_CACHED) and the filesystem
 * needs no answer from another machine or process. Where one of them is not so, -EAGAIN says: make the whole operation on
 * a thread that may block.
 *
 * A cached section is for operations of many system calls, as opening an entry of a volume. From cached_begin to
 * cached_end, each call of the thread through the table either is answered from memory or fails with -EAGAIN. If
 * cached_end says that one was refused, the caller drops what the operation gave, and makes it again.
 */
#ifndef AIOFS_CACHED_H
#define AIOFS_CACHED_H

#include <stdbool.h>
#include <sys/stat.h>

#include "sys.h"

extern _Thread_local bool cached_only;

void cached_begin(void);
bool cached_end(void); /* whether a call was refused */
/* For an operation that would wait for something else than a system call. False: the thread may block. */
bool cached_refuse(void);
/* openat2(2) and fstatat(2) in a cached section. */
int cached_openat(int dirfd, const char *path, int flags, uint64_t resolve);
int cached_fstatat(int dirfd, const char *path, struct stat *out, int flags);

/* Opens a regular file or a directory; `found` is its status. O_NONBLOCK stays set. -EAGAIN: on a thread that may. */
AIOFS_API int aiofs_cached_open(const char *path, int flags, struct stat *found);
/* The status of what a path leads to, without opening it. `flags`: 0 or O_NOFOLLOW. */
AIOFS_API int aiofs_cached_stat(const char *path, int flags, struct stat *found);
/* fstat(2) without a question to a server: what the file is, and which; its size and times may be out of date. */
AIOFS_API int aiofs_fstat_cached(int fd, struct stat *found);
/* All bytes of an open file of `size` bytes: the count, or -EAGAIN if not all are in memory or the size has changed. */
AIOFS_API int64_t aiofs_cached_read(int fd, dev_t filesystem, void *buffer, size_t size);

/* Whether opens and closes on the filesystem wait for nothing but this kernel. Blocks; remembers the answer, for the
 * functions above. */
AIOFS_API bool aiofs_filesystem_is_local(int fd);
/* Whether the bytes of its files are always in memory, as on tmpfs. After the function above, of the same descriptor. */
bool aiofs_filesystem_in_memory(dev_t filesystem);
/* Whether close(2) of the descriptor cannot block: nothing was written by it, and the file has a name. */
AIOFS_API bool aiofs_closes_at_once(int fd);

#endif
