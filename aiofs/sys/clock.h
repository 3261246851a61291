/*
 * clock.h - the clock that all times of aiofs are measured by, and the mark of what the libraries export.
 */
#ifndef AIOFS_CLOCK_H
#define AIOFS_CLOCK_H

#include <stdint.h>

#define AIOFS_API __attribute__((visibility("default")))

AIOFS_API int64_t aiofs_now(void); /* CLOCK_MONOTONIC, ns */

#endif
