/*
 * run.c - start-up: reads the session from the environment, and finds libc's functions.
 *
 * The variable AIOFS_RUN holds the base, and for each volume the session fd and the directory:
 *
 *     AIOFS_RUN=1024:2048=/srv/media:2049=/srv/cache
 *
 * The caller of an interposed function may be an allocator that holds its own lock, or code that runs before our
 * constructor. So an interposed function never allocates, never calls the dynamic linker (dlsym allocates and takes
 * locks), and relies on no constructor:
 *
 *   the environment    is read by the first call, into static memory. The first call comes before there are threads.
 *   libc's functions   are found by the constructor, which runs outside any allocator's lock. Until then, system calls
 *                      replace them (`plain`), also for calls that dlsym itself makes. Functions on streams have no
 *                      such replacement and call dlsym at once; they allocate in any case.
 *   fork handlers      are registered by the constructor.
 *
 * One path allocates: a close while <aio.h> requests are in flight on the file (deferred_close.c).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "preload.h"

/* ---- the environment ----------------------------------------------------------------------------------------- */

/* Replaces getenv, which the program may define itself. */
static const char *variable(const char *name)
{
    size_t length = strlen(name);
    for (char **each = environ; *each; each++)
        if (strncmp(*each, name, length) == 0 && (*each)[length] == '=')
            return *each + length + 1;
    return NULL;
}

/* Copies the variable, because the program may change its environment. False: `environ` is not set yet, because libc is
 * still starting. */
static bool read_environment(void)
{
    static char copy[RUN_VOLUMES * (PATH_MAX + sizeof ":2147483647=")];
    const char *given = environ ? variable("AIOFS_RUN") : NULL;
    if (!given)
        return environ;
    if (strlen(given) >= sizeof copy)
        abort();
    char *end = strcpy(copy, given);
    int base = (int)strtol(end, &end, 10);
    while (*end == ':' && run.volumes < RUN_VOLUMES) {
        int session_fd = (int)strtol(end + 1, &end, 10);
        if (*end != '=')
            break;
        run.volume[run.volumes].session_fd = session_fd;
        run.volume[run.volumes].root = end + 1;
        run.volume[run.volumes].length = strcspn(end + 1, ":");
        end += 1 + run.volume[run.volumes++].length;
    }
    if (run.volumes > 0 && base > 0 && base <= RUN_BASE_MAX)
        atomic_store_explicit(&run.base, base, memory_order_release);
    return true;
}

/* Takes no lock: a signal handler that interrupts it sees run.base 0, and its opens take no locks. */
static void run_init(void)
{
    static _Atomic bool known;
    if (atomic_load_explicit(&known, memory_order_relaxed) || atomic_exchange(&known, true))
        return;
    if (!read_environment()) {
        atomic_store(&known, false);
    } else if (run.base) {
        deferred_close_set_up();
        locks_reconcile();
    }
}

/* ---- libc's functions ---------------------------------------------------------------------------------------- */

#define NEXT(name, symbol) ((__typeof__(((struct libc *)NULL)->name))dlsym(RTLD_NEXT, symbol))

static int answer(int64_t status)
{
    return status < 0 ? refuse((int)-status) : (int)status;
}

static int plain_openat(int dirfd, const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = va_arg(arguments, mode_t);
    va_end(arguments);
    return answer(aiofs_sys.openat(dirfd, path, flags, mode));
}

/* Called only if the flags need a mode: libc's functions abort the program, too. */
static int plain_open_2(const char *path, int flags)
{
    (void)path, (void)flags;
    abort();
}

static int plain_openat_2(int dirfd, const char *path, int flags)
{
    (void)dirfd;
    return plain_open_2(path, flags);
}

static FILE *plain_fopen(const char *path, const char *mode)
{
    return NEXT(fopen, "fopen")(path, mode);
}

static FILE *plain_freopen(const char *path, const char *mode, FILE *stream)
{
    return NEXT(freopen, "freopen")(path, mode, stream);
}

static int plain_fclose(FILE *stream)
{
    return NEXT(fclose, "fclose")(stream);
}

static int plain_close(int fd)
{
    return answer(aiofs_sys.close(fd));
}

static int plain_dup(int fd)
{
    return answer(aiofs_sys.fcntl(fd, F_DUPFD, 0));
}

static int plain_dup3(int from, int to, int flags)
{
    return answer(aiofs_sys.dup3(from, to, flags));
}

static int plain_dup2(int from, int to)
{
    if (from == to) /* dup3 refuses this */
        return aiofs_sys.fcntl(from, F_GETFD, 0) < 0 ? refuse(EBADF) : to;
    return plain_dup3(from, to, 0);
}

static int plain_fcntl(int fd, int command, ...)
{
    va_list arguments;
    va_start(arguments, command);
    long argument = va_arg(arguments, long);
    va_end(arguments);
    return answer(aiofs_sys.fcntl(fd, command, argument));
}

static const struct libc plain = {
    .openat = plain_openat,
    .open_2 = plain_open_2,
    .openat_2 = plain_openat_2,
    .fopen = plain_fopen,
    .freopen = plain_freopen,
    .fclose = plain_fclose,
    .close = plain_close,
    .dup = plain_dup,
    .dup2 = plain_dup2,
    .dup3 = plain_dup3,
    .fcntl = plain_fcntl,
};

static struct libc libc; /* written by the constructor, before it stores a pointer to it in `functions` */
static _Atomic(const struct libc *) functions = &plain;

static void find_functions(void)
{
#define FIND(name, symbol) libc.name = NEXT(name, symbol)
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
    atomic_store_explicit(&functions, &libc, memory_order_release);
}

const struct libc *libc_functions(void)
{
    run_init();
    return atomic_load_explicit(&functions, memory_order_acquire);
}

/* ---- start and fork ------------------------------------------------------------------------------------------ */

/* In a process with threads, a fork can come between the steps of a call in another thread, while a lock is at a
 * temporary number. Then the child reconciles locks and files. */
extern char __libc_single_threaded __attribute__((weak));
static bool single_threaded_fork;

static void fork_prepare(void)
{
    single_threaded_fork = &__libc_single_threaded && __libc_single_threaded;
}

static void fork_child(void)
{
    deferred_close_set_up();
    if (!single_threaded_fork)
        locks_reconcile();
}

__attribute__((constructor)) static void start(void)
{
    run_init();
    find_functions();
    if (run.base)
        pthread_atfork(fork_prepare, NULL, fork_child);
}
