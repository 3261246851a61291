/*
 * program.h - what the <aio.h> programs share. They are ordinary programs that use no header and no function of aiofs.
 *
 * So each of them also runs with libc's own functions. An aiocb on the stack must be terminal before its function
 * returns.
 */
#ifndef PROGRAM_H
#define PROGRAM_H

#include "../c/harness.h"

#include <aio.h>
#include <limits.h>
#include <sys/prctl.h>
#include <termios.h>

#ifndef PATIENCE
#define PATIENCE 30 /* seconds; longer than any request takes */
#endif

/* ---- requests --------------------------------------------------------------------------------------------- */

/* Sets the members that POSIX requires; the others are garbage. */
static UNUSED struct aiocb request(int fd, const void *buffer, size_t size, off_t offset)
{
    struct aiocb cb;
    memset(&cb, 0xa5, sizeof cb);
    cb.aio_fildes = fd;
    cb.aio_buf = (void *)(uintptr_t)buffer;
    cb.aio_nbytes = size;
    cb.aio_offset = offset;
    cb.aio_reqprio = 0;
    cb.aio_sigevent.sigev_notify = SIGEV_NONE;
    return cb;
}

static UNUSED void notify_by_signal(struct sigevent *event, int signo, int value)
{
    event->sigev_notify = SIGEV_SIGNAL;
    event->sigev_signo = signo;
    event->sigev_value.sival_int = value;
}

static UNUSED void notify_by_thread(struct sigevent *event, void (*function)(union sigval), void *value)
{
    event->sigev_notify = SIGEV_THREAD;
    event->sigev_notify_function = function;
    event->sigev_notify_attributes = NULL;
    event->sigev_value.sival_ptr = value;
}

/* ---- completion ---------------------------------------------------------------------------------------------- */

static UNUSED bool in_progress(const struct aiocb *cb)
{
    return aio_error(cb) == EINPROGRESS;
}

/* Waits for the request and gives aio_error. EINPROGRESS: the request does not end. */
static UNUSED int end_of(const struct aiocb *cb)
{
    const struct aiocb *const list[] = {cb};
    double end = now() + PATIENCE;
    while (in_progress(cb) && now() < end) {
        const struct timespec tick = {.tv_nsec = 100000000};
        aio_suspend(list, 1, &tick);
    }
    return aio_error(cb);
}

#define NO_END (-100000)

/* Waits for the request and gives aio_return. NO_END: the request does not end. */
static UNUSED ssize_t result_of(struct aiocb *cb)
{
    return end_of(cb) == EINPROGRESS ? NO_END : aio_return(cb);
}

static UNUSED bool succeeds(struct aiocb *cb, ssize_t count)
{
    return end_of(cb) == 0 && aio_return(cb) == count;
}

static UNUSED bool fails(struct aiocb *cb, int error)
{
    return end_of(cb) == error && aio_return(cb) == -1;
}

/* The call returned -1 with this errno; the call must come first, so it is a macro. */
#define REFUSED(call, error) ((errno = 0, (call) == -1) && errno == (error))

/* Read and write by a request, for what a program needs and does not test. */
static UNUSED ssize_t read_now(int fd, void *buffer, size_t size, off_t offset)
{
    struct aiocb cb = request(fd, buffer, size, offset);
    return aio_read(&cb) == 0 ? result_of(&cb) : -1;
}

static UNUSED ssize_t write_now(int fd, const void *buffer, size_t size, off_t offset)
{
    struct aiocb cb = request(fd, buffer, size, offset);
    return aio_write(&cb) == 0 ? result_of(&cb) : -1;
}

/* ---- pipes ------------------------------------------------------------------------------------------------------ */

struct conduit { /* bytes that are written to `in` are read from `out` */
    int out, in;
};

static UNUSED struct conduit conduit(void)
{
    int ends[2];
    MUST(pipe(ends));
    return (struct conduit){ends[0], ends[1]};
}

static UNUSED void conduit_close(struct conduit pipe)
{
    close(pipe.out);
    close(pipe.in);
}

/* The same with other kinds of streams. */
static UNUSED struct conduit fifo(void)
{
    char path[] = "/tmp/aiofs-fifo-XXXXXX";
    MUST(mkdtemp(path));
    char name[64];
    snprintf(name, sizeof name, "%s/fifo", path);
    MUST(mkfifo(name, 0600));
    int out = (int)MUST(open(name, O_RDONLY | O_NONBLOCK)), in = (int)MUST(open(name, O_WRONLY));
    MUST(fcntl(out, F_SETFL, 0));
    unlink(name);
    rmdir(path);
    return (struct conduit){out, in};
}

static UNUSED struct conduit socket_pair(int type)
{
    int ends[2];
    MUST(socketpair(AF_UNIX, type, 0, ends));
    return (struct conduit){ends[0], ends[1]};
}

static UNUSED struct conduit terminal(void)
{
    struct termios raw;
    int master = (int)MUST(posix_openpt(O_RDWR | O_NOCTTY));
    MUST(grantpt(master));
    MUST(unlockpt(master));
    int slave = (int)MUST(open(ptsname(master), O_RDWR | O_NOCTTY));
    MUST(tcgetattr(slave, &raw));
    cfmakeraw(&raw);
    MUST(tcsetattr(slave, TCSANOW, &raw));
    return (struct conduit){slave, master};
}

/* Fills a pipe with zeros. Returns the number of bytes. */
static UNUSED size_t fill_up(int fd)
{
    static const char zeros[4096];
    int flags = (int)MUST(fcntl(fd, F_GETFL));
    size_t total = 0;
    MUST(fcntl(fd, F_SETFL, flags | O_NONBLOCK));
    for (ssize_t put; (put = write(fd, zeros, sizeof zeros)) > 0;)
        total += (size_t)put;
    MUST(fcntl(fd, F_SETFL, flags));
    return total;
}

/* Reads `size` bytes by read(2). True: it got all of them. */
static UNUSED bool take_out(int fd, void *buffer, size_t size)
{
    size_t have = 0;
    for (ssize_t got; have < size && (got = read(fd, (char *)buffer + have, size - have)) > 0;)
        have += (size_t)got;
    return have == size;
}

/* Raises RLIMIT_NOFILE to at most `wanted`. Returns the number of descriptors that are allowed. */
static UNUSED long raise_descriptors(long wanted)
{
    struct rlimit limit;
    MUST(getrlimit(RLIMIT_NOFILE, &limit));
    if (limit.rlim_cur < (rlim_t)wanted) {
        limit.rlim_cur = limit.rlim_max < (rlim_t)wanted ? limit.rlim_max : (rlim_t)wanted;
        MUST(setrlimit(RLIMIT_NOFILE, &limit));
    }
    return limit.rlim_cur < (rlim_t)wanted ? (long)limit.rlim_cur : wanted;
}

/* ---- the program ------------------------------------------------------------------------------------------------- */

/* Call it first in main. `seconds`: how long the program may take on an idle machine. */
static UNUSED void begin(unsigned seconds)
{
    struct conduit pipe;
    char byte = 0;
    check_begin(seconds);
    pipe = conduit();
    MUST(write(pipe.in, "x", 1));
    struct aiocb cb = request(pipe.out, &byte, 1, 0);
    if (aio_read(&cb) == -1 && errno == EAGAIN) {
        printf("skip  this kernel refuses the engine\n");
        exit(77);
    }
    if (result_of(&cb) != 1 || byte != 'x')
        printf("FAIL  the first read of all\n"), exit(1);
    conduit_close(pipe);
}

static UNUSED pid_t start_child(int (*body)(void *), void *argument)
{
    fflush(stdout);
    pid_t child = (pid_t)MUST(fork());
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        int code = body(argument);
        fflush(stdout);
        _exit(code);
    }
    return child;
}

/* The exit status, or 128 + the signal that killed the child. A child that hangs is killed by SIGKILL. */
static UNUSED int end_of_child(pid_t child)
{
    int status;
    pid_t ended;
    double end = now() + PATIENCE;
    while ((ended = waitpid(child, &status, WNOHANG)) != child && now() < end)
        pause_ms(1);
    if (ended != child) {
        kill(child, SIGKILL);
        while (waitpid(child, &status, 0) < 0 && errno == EINTR)
            ;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Runs `body` in a child, and returns as end_of_child. */
static UNUSED int in_child(int (*body)(void *), void *argument)
{
    return end_of_child(start_child(body, argument));
}

#endif
