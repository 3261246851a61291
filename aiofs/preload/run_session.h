/*
 * run_session.h - beginning a session of `aiofs run`.
 */
#ifndef AIOFS_RUN_SESSION_H
#define AIOFS_RUN_SESSION_H

/* Begins a session: the calling process, and all processes that inherit the returned descriptor, have the directory
 * open as a volume. The descriptor is the lowest free number from `number` on, and stays open across exec. Its file
 * offset is the session's byte in the range of every entry, which no other living session has. Returns the descriptor,
 * or -errno: as aiofs_volume_open, and -ENOLCK when every byte is taken. */
int run_session_begin(const char *directory, int number);

#endif
