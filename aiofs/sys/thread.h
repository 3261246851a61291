/*
 * thread.h - starting threads, and condition variables whose timed waits use the clock of aiofs_now().
 */
#ifndef AIOFS_THREAD_H
#define AIOFS_THREAD_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

/* Sizes in bytes. Threads that run the program's code get the deep stack. */
enum { SMALL_STACK = 256 * 1024, DEEP_STACK = 8 * 1024 * 1024 };

/* Starts a detached thread with all signals blocked. Its stack has `stack` bytes more than libc needs. 0 or -EAGAIN. */
int thread_start(const char *name, void *(*main)(void *), size_t stack);
/* The same, with the argument of `main`. */
int thread_start_with(const char *name, void *(*main)(void *), void *argument, size_t stack);

/* Timed waits use CLOCK_MONOTONIC, so that setting the clock does not affect them. `until` is a time of aiofs_now().
 * 0 or ETIMEDOUT. */
void condition_init(pthread_cond_t *condition);
int condition_wait_until(pthread_cond_t *condition, pthread_mutex_t *mutex, int64_t until);

#endif
