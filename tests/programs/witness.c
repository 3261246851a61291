/*
 * witness.c - preloaded beside libaiofs.so, it tells what the engine has done for a program.
 *
 * When a process ends, by exit or _exit, one line is appended to the file that WITNESS names: the process, and how
 * many requests the engine of that process has finished in each way. A process without libaiofs.so, or one that is
 * killed, tells nothing. It owns nothing and runs once, when the process has no other thread that matters.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine.h"

static void tell(void)
{
    void (*counters)(struct aiofs_counters *) =
        (void (*)(struct aiofs_counters *))(uintptr_t)dlsym(RTLD_DEFAULT, "aiofs_engine_counters");
    const char *path = getenv("WITNESS");
    struct aiofs_counters c;
    char line[256];

    if (!counters || !path)
        return;
    counters(&c);
    int length = snprintf(line, sizeof line, "%d %lu %lu %lu %lu %lu\n", (int)getpid(), (unsigned long)c.inline_reads,
                          (unsigned long)c.inline_writes, (unsigned long)c.ring, (unsigned long)c.polled,
                          (unsigned long)c.pooled);
    /* Straight to the kernel: what libaiofs.so does with the program's open and close is not its business. */
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || syscall(SYS_write, fd, line, (size_t)length) != length)
        perror(path);
    syscall(SYS_close, fd);
}

__attribute__((destructor)) static void at_exit(void)
{
    tell();
}

/* How the processes that a program forked end: no destructor runs. */
__attribute__((visibility("default"), noreturn)) void _exit(int status)
{
    tell();
    for (;;)
        syscall(SYS_exit_group, status);
}
