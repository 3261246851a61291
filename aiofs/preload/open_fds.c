/*
 * open_fds.c - the set of open descriptors, up to the highest number that can be the library's own.
 *
 * The set is read from /proc/self/fd and lives on the caller's stack. It is the state at one moment: a descriptor that
 * another thread closes later is still in it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>

#include "preload.h"

static void add(struct open_fds *set, unsigned number)
{
    if (number < sizeof set->bits * 8)
        set->bits[number / 64] |= (uint64_t)1 << number % 64;
}

static bool read_names(struct open_fds *set, int directory)
{
    _Alignas(struct aiofs_dirent) char buffer[1024];
    ssize_t got;
    while ((got = aiofs_sys.getdents64(directory, buffer, sizeof buffer)) > 0) {
        for (ssize_t at = 0; at < got;) {
            const struct aiofs_dirent *record = (const struct aiofs_dirent *)(buffer + at);
            int number = atoi(record->name); /* 0 for "." and "..": harmless */
            if (number != directory)
                add(set, (unsigned)number);
            at += record->size;
        }
    }
    return got == 0;
}

void open_fds_read(struct open_fds *set)
{
    *set = (struct open_fds){{0}};
    int directory = aiofs_sys.openat(AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    bool known = directory >= 0 && read_names(set, directory);
    if (directory >= 0)
        aiofs_sys.close(directory);
    if (!known) /* no free descriptor for the directory, or no /proc: take every number as open */
        for (unsigned number = 0; number < sizeof set->bits * 8; number++)
            add(set, number);
}

int open_fds_next(const struct open_fds *set, unsigned from, unsigned last)
{
    if (last >= sizeof set->bits * 8)
        last = sizeof set->bits * 8 - 1;
    while (from <= last) {
        uint64_t rest = set->bits[from / 64] >> from % 64;
        if (rest) {
            from += (unsigned)__builtin_ctzll(rest);
            return from <= last ? (int)from : -1;
        }
        from = (from / 64 + 1) * 64;
    }
    return -1;
}
