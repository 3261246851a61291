/*
 * clock.c - reads the clock. No state, no locks; async-signal-safe.
 */
#define _GNU_SOURCE
#include "clock.h"

#include <time.h>

int64_t aiofs_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}
