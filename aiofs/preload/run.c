/*
 * run.c - start-up: what `aiofs run` said in the environment, and libc's functions.
 *
 * AIOFS_RUN is the base, and for each volume the number of its lease and its directory:
 *
 *     AIOFS_RUN=1024:2048=/srv/media:2049=/srv/cache
 *
 * All of this is written once, by whichever call comes first, before there are threads: a library's constructor
 * that opens a file may run before ours.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "preload.h"

struct run run;
static struct libc libc;
static _Atomic bool started;

int refuse(int error)
{
    errno = error;
    return -1;
}

static void read_environment(void)
{
    const char *given = getenv("AIOFS_RUN");
    if (!given)
        return;
    char *end = strdup(given); /* the environment's memory is the program's to change */
    if (!end)
        abort();
    int base = (int)strtol(end, &end, 10);
    while (*end == ':' && run.volumes < RUN_VOLUMES) {
        int lease = (int)strtol(end + 1, &end, 10);
        if (*end != '=')
            break;
        run.volume[run.volumes].lease = lease;
        run.volume[run.volumes].root = end + 1;
        run.volume[run.volumes].length = strcspn(end + 1, ":");
        end += 1 + run.volume[run.volumes++].length;
    }
    if (run.volumes > 0 && base > 0 && base <= RUN_BASE_MAX)
        run.base = base;
}

static void find_functions(void)
{
#define FIND(name, symbol) libc.name = (__typeof__(libc.name))dlsym(RTLD_NEXT, symbol)
    FIND(openat, "openat");
    FIND(open_2, "__open_2");
    FIND(openat_2, "__openat_2");
    FIND(fopen, "fopen");
    FIND(freopen, "freopen");
    FIND(fclose, "fclose");
    FIND(close, "close");
    FIND(close_range, "close_range");
    FIND(dup, "dup");
    FIND(dup2, "dup2");
    FIND(dup3, "dup3");
    FIND(fcntl, "fcntl");
#undef FIND
}

/* Another thread may be between the steps of a call when this one forks, and its lock on its way. */
extern char __libc_single_threaded __attribute__((weak));
static bool forks_alone;

static void fork_prepare(void)
{
    forks_alone = &__libc_single_threaded && __libc_single_threaded;
}

static void fork_child(void)
{
    if (!forks_alone)
        lock_settle();
}

__attribute__((constructor)) static void start(void)
{
    if (atomic_load_explicit(&started, memory_order_acquire))
        return;
    find_functions();
    read_environment();
    atomic_store_explicit(&started, true, memory_order_release);
    if (run.base) {
        lock_settle();
        pthread_atfork(fork_prepare, NULL, fork_child);
    }
}

const struct libc *libc_functions(void)
{
    if (!atomic_load_explicit(&started, memory_order_acquire))
        start();
    return &libc;
}

/* ---- /proc --------------------------------------------------------------------------------------------------- */

char *descriptor_name(char *out, int fd)
{
    char digits[12], *digit = digits + sizeof digits;
    *--digit = 0;
    do
        *--digit = (char)('0' + fd % 10);
    while ((fd /= 10) > 0);
    return stpcpy(stpcpy(out, "/proc/self/fd/"), digit);
}

ssize_t path_of_descriptor(int fd, char *out, size_t size)
{
    char name[DESCRIPTOR_NAME];
    descriptor_name(name, fd);
    ssize_t length = aiofs_sys.readlinkat(AT_FDCWD, name, out, size - 1);
    if (length >= 0)
        out[length] = 0;
    return length;
}
