/*
 * thread.c - starting threads, and condition variables. No locks, and no state but one cached constant.
 *
 * Every thread that aiofs starts has all signals blocked, so that the program's signal handlers run on the program's
 * threads only.
 */
#define _GNU_SOURCE
#include "thread.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

/* The bytes that libc needs on each stack, which include the program's static thread-local storage and so have no upper
 * bound. glibc has an internal function that returns them; musl adds them to the stack size itself. */
static size_t least_stack(const pthread_attr_t *attributes)
{
    static _Atomic(size_t) known;
    size_t least = atomic_load_explicit(&known, memory_order_relaxed);
    if (least)
        return least;
    size_t (*get_minstack)(const pthread_attr_t *) =
        (size_t(*)(const pthread_attr_t *))dlsym(RTLD_DEFAULT, "__pthread_get_minstack");
    least = get_minstack ? get_minstack(attributes) : 0;
    if (least < (size_t)PTHREAD_STACK_MIN)
        least = (size_t)PTHREAD_STACK_MIN;
    atomic_store_explicit(&known, least, memory_order_relaxed);
    return least;
}

int thread_start(const char *name, void *(*main)(void *), size_t stack)
{
    enum { LARGEST_STACK = 64 * 1024 * 1024 };
    sigset_t all, before;
    pthread_attr_t attributes;
    pthread_t thread;
    sigfillset(&all);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    size_t size = stack + least_stack(&attributes);
    pthread_attr_setstacksize(&attributes, size);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&thread, &attributes, main, NULL);
    while (error == EINVAL && size < LARGEST_STACK) { /* this libc does not report how much it needs */
        size *= 2;
        pthread_attr_setstacksize(&attributes, size);
        error = pthread_create(&thread, &attributes, main, NULL);
    }
    if (error == 0)
        pthread_setname_np(thread, name);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return error ? -EAGAIN : 0;
}

void condition_init(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

int condition_wait_until(pthread_cond_t *condition, pthread_mutex_t *mutex, int64_t until)
{
    enum { SECOND = 1000000000 };
    const struct timespec time = {.tv_sec = until / SECOND, .tv_nsec = until % SECOND};
    return pthread_cond_timedwait(condition, mutex, &time);
}
