/*
 * clock.h - the clock of all times and time-outs in aiofs, and the attribute of exported functions.
 */
#ifndef AIOFS_CLOCK_H
#define AIOFS_CLOCK_H

#include <stdint.h>

#define AIOFS_API __attribute__((visibility("default")))

AIOFS_API int64_t aiofs_now(void); /* CLOCK_MONOTONIC, ns */

#endif
