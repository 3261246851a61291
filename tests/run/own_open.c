/*
 * own_open.c - a program of test_run_startup.py that defines its own `open` and `close`, which call libc's.
 *
 *     own_open FILE
 *
 * They count the calls under a lock that is not recursive, as tracers do: if the next definition calls `open` again,
 * the program hangs. Prints `here` and waits for a line while FILE is open, and again when it is closed.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int opens, closes;

int open(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = va_arg(arguments, mode_t);
    va_end(arguments);
    pthread_mutex_lock(&lock);
    opens++;
    int (*next)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open");
    int fd = next(path, flags, mode);
    pthread_mutex_unlock(&lock);
    return fd;
}

int close(int fd)
{
    pthread_mutex_lock(&lock);
    closes++;
    int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, "close");
    int status = next(fd);
    pthread_mutex_unlock(&lock);
    return status;
}

static void say(const char *word, int count)
{
    printf("%s %d\nhere\n", word, count);
    fflush(stdout);
    while (getchar() != '\n')
        ;
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    int before = opens, closed = closes; /* libraries may have opened files before */
    int fd = open(argv[1], O_RDWR);
    if (fd < 0)
        return 1;
    say("opened", opens - before);
    close(fd);
    say("closed", closes - closed);
    return 0;
}
