/*
 * in_flight.c - a program of test_run_sessions.py: it closes a file on which a write is in flight.
 *
 *     in_flight FILE HOW
 *
 * The write waits in the engine's system call until the test has checked the locks.
 */
#define _GNU_SOURCE
#include <aio.h>
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sys.h"

int close_range(unsigned first, unsigned last, int flags);

static sem_t may_write;
static ssize_t (*real_pwritev2)(int fd, const struct iovec *iov, int iovcnt, int64_t offset, int flags);

static ssize_t slow_pwritev2(int fd, const struct iovec *iov, int iovcnt, int64_t offset, int flags)
{
    while (sem_wait(&may_write) < 0)
        ;
    sem_post(&may_write);
    return real_pwritev2(fd, iov, iovcnt, offset, flags);
}

static void say(const char *word)
{
    char line[16];
    puts(word);
    puts("here");
    if (!fgets(line, sizeof line, stdin))
        exit(3);
}

static int close_as(const char *how, int fd)
{
    if (strcmp(how, "close_range") == 0)
        return close_range((unsigned)fd, (unsigned)fd, 0);
    if (strcmp(how, "dup2") == 0)
        return dup2(0, fd);
    if (strcmp(how, "failed dup2") == 0) /* the descriptor stays open */
        return dup2(999, fd) < 0 ? 0 : -1;
    if (strcmp(how, "fclose") == 0)
        return fclose(fdopen(fd, "w"));
    if (strcmp(how, "vfork") == 0) { /* closes the child's descriptor; the parent's request continues */
        pid_t child = vfork();
        if (child == 0) {
            close(fd);
            _exit(0);
        }
        waitpid(child, NULL, 0);
    }
    return close(fd);
}

int main(int argc, char **argv)
{
    (void)argc;
    static char bytes[1 << 20];
    setvbuf(stdout, NULL, _IOLBF, 0);
    sem_init(&may_write, 0, 0);
    real_pwritev2 = aiofs_sys.pwritev2;
    aiofs_sys.pwritev2 = slow_pwritev2;
    struct aiocb cb = {.aio_fildes = open(argv[1], O_RDWR | O_CREAT, 0666), .aio_buf = bytes, .aio_nbytes = sizeof bytes};
    const struct aiocb *list[] = {&cb};
    if (cb.aio_fildes < 0 || aio_write(&cb) < 0 || close_as(argv[2], cb.aio_fildes) < 0)
        return 1;
    say(aio_error(&cb) == EINPROGRESS ? "in flight" : "ended");
    sem_post(&may_write);
    while (aio_suspend(list, 1, NULL) < 0)
        ;
    say(aio_return(&cb) == (ssize_t)sizeof bytes ? "written" : "failed");
    return 0;
}
