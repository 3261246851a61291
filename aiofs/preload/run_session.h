/*
 * run_session.h - how `aiofs run` begins a session.
 */
#ifndef AIOFS_RUN_SESSION_H
#define AIOFS_RUN_SESSION_H

/* Makes the calling process, and all that inherit the descriptor, a process tree that has the directory open as
 * a volume. The descriptor is `number` or the next that is free, stays open across exec, and its offset is the
 * session's byte in the range of every entry: no two living sessions have the same. -errno as aiofs_volume_open. */
int run_session_begin(const char *directory, int number);

#endif
