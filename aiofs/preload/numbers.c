/*
 * numbers.c - which descriptors are open, as a set of numbers up to the last that can be ours.
 *
 * A set is taken at one moment and lives on the caller's stack; what is closed afterwards is still in it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>

#include "preload.h"

/* linux_dirent64, as getdents64 fills it in. */
struct record {
    uint64_t ino;
    int64_t offset;
    unsigned short size;
    unsigned char type;
    char name[];
};

static void add(struct numbers *set, unsigned number)
{
    if (number < sizeof set->bits * 8)
        set->bits[number / 64] |= (uint64_t)1 << number % 64;
}

static bool read_names(struct numbers *set, int directory)
{
    _Alignas(struct record) char buffer[1024];
    ssize_t got;
    while ((got = aiofs_sys.getdents64(directory, buffer, sizeof buffer)) > 0) {
        for (ssize_t at = 0; at < got;) {
            const struct record *record = (const struct record *)(buffer + at);
            int number = atoi(record->name); /* 0 for "." too, which costs nothing */
            if (number != directory)
                add(set, (unsigned)number);
            at += record->size;
        }
    }
    return got == 0;
}

void numbers_open(struct numbers *set)
{
    *set = (struct numbers){{0}};
    int directory = aiofs_sys.openat(AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    bool known = directory >= 0 && read_names(set, directory);
    if (directory >= 0)
        aiofs_sys.close(directory);
    if (!known) /* there is no number left for the directory: then most are open anyway */
        for (unsigned number = 0; number < sizeof set->bits * 8; number++)
            add(set, number);
}

int numbers_next(const struct numbers *set, unsigned from, unsigned last)
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
