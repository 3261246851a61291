/*
 * thread.h - how aiofs starts threads, and conditions whose timed waits go by the clock of aiofs_now().
 */
#ifndef AIOFS_THREAD_H
#define AIOFS_THREAD_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes. A deep stack is for threads that run code that is not ours. */
enum { SMALL_STACK = 256 * 1024, DEEP_STACK = 8 * 1024 * 1024 };

/* Starts a thread: detached, all signals blocked, `stack` bytes beside what libc needs. 0 or -EAGAIN. */
int thread_start(const char *name, void *(*main)(void *), size_t stack);

/* Timed waits go by CLOCK_MONOTONIC, which nobody sets. `until` is a time of aiofs_now(). 0 or ETIMEDOUT. */
void condition_init(pthread_cond_t *condition);
int condition_wait_until(pthread_cond_t *condition, pthread_mutex_t *mutex, int64_t until);

#endif
