/*
 * early.c - a library of test_run_startup.py: its constructor runs before those of the preloaded libraries.
 *
 * It opens the file that EARLY_FILE names, has one request on it and one on a pipe, and leaves the file open.
 */
#include <aio.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int early_fd(void);

static int fd = -1;

int early_fd(void)
{
    return fd;
}

static ssize_t outcome(struct aiocb *cb)
{
    const struct aiocb *list[] = {cb};
    while (aio_error(cb) == EINPROGRESS)
        aio_suspend(list, 1, NULL);
    return aio_return(cb);
}

__attribute__((constructor)) static void start(void)
{
    static char byte;
    int pipe_of[2];
    fd = open(getenv("EARLY_FILE"), O_RDWR);
    FILE *stream = fopen("/proc/self/stat", "r");
    if (fd < 0 || !stream || fclose(stream) != 0 || pipe(pipe_of) < 0)
        abort();
    struct aiocb of_file = {.aio_fildes = fd, .aio_buf = &byte, .aio_nbytes = 1};
    struct aiocb of_pipe = {.aio_fildes = pipe_of[0], .aio_buf = &byte, .aio_nbytes = 1};
    if (aio_read(&of_pipe) < 0 || aio_write(&of_file) < 0 || write(pipe_of[1], "x", 1) != 1)
        abort();
    printf("file %zd, pipe %zd\n", outcome(&of_file), outcome(&of_pipe));
    close(pipe_of[0]);
    close(pipe_of[1]);
}
