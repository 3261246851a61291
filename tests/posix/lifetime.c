/*
 * lifetime.c - a request belongs to the open file: close, unlink, exec, the exit of the process, and locks of other
 * processes.
 */
#include "program.h"

enum { LARGE = 600000 };

static unsigned char sent[LARGE], got[LARGE];

/* A file with a name. */
static int named(char *path, size_t size, int flags)
{
    const char *directory = getenv("TMPDIR");
    snprintf(path, size, "%s/aiofs-life-XXXXXX", directory ? directory : "/tmp");
    int made = (int)MUST(mkstemp(path));
    close(made);
    return (int)MUST(open(path, flags));
}

/* ---- close ------------------------------------------------------------------------------------------------------- */

/* Many requests, then close; another file reuses the number at once. */
static void number_reused(void)
{
    enum { COUNT = 24, ROUNDS = 10 };
    static struct aiocb cbs[COUNT];
    static char zeros[4096];
    int whole = 0, untouched = 0;
    for (int round = 0; round < ROUNDS; round++) {
        char path[512];
        int fd = named(path, sizeof path, O_RDWR | (round % 2 ? O_DSYNC : 0));
        for (int i = 0; i < COUNT; i++) {
            cbs[i] = request(fd, sent, i % 3 ? LARGE / 2 : 1000, (off_t)i * LARGE);
            MUST(aio_write(&cbs[i]));
        }
        close(fd);
        int other = scratch(O_RDWR);
        if (other != fd) {
            MUST(dup2(other, fd));
            close(other);
        }
        MUST(pwrite(fd, zeros, sizeof zeros, 0));
        for (int i = 0; i < COUNT; i++)
            whole += succeeds(&cbs[i], i % 3 ? LARGE / 2 : 1000);
        struct stat stat;
        untouched += fstat(fd, &stat) == 0 && stat.st_size == sizeof zeros && holds(fd, zeros, sizeof zeros, 0);
        int again = (int)MUST(open(path, O_RDONLY));
        for (int i = 0; i < COUNT; i++)
            whole += holds(again, sent, i % 3 ? LARGE / 2 : 1000, (off_t)i * LARGE);
        close(again);
        unlink(path);
        close(fd);
    }
    CHECK(whole == 2 * ROUNDS * COUNT, "writes complete as if close had waited");
    CHECK(untouched == ROUNDS, "a file that reuses the descriptor number is never changed");
}

static void close_while_a_read_waits(void)
{
    struct conduit pipe = conduit(), other;
    char byte[3] = "";
    struct aiocb cbs[2] = {request(pipe.out, &byte[0], 1, 0), request(pipe.out, &byte[1], 1, 0)};
    aio_read(&cbs[0]);
    aio_read(&cbs[1]);
    close(pipe.out);
    other = conduit();
    MUST(dup2(other.out, pipe.out));
    MUST(write(other.in, "wrong", 5));
    pause_ms(30);
    CHECK(in_progress(&cbs[0]) && in_progress(&cbs[1]),
          "reads that wait do not read from another pipe that has the number");
    MUST(write(pipe.in, "ab", 2));
    CHECK(succeeds(&cbs[0], 1) && succeeds(&cbs[1], 1) && byte[0] == 'a' && byte[1] == 'b',
          "waiting reads get the data of their own pipe");
    CHECK(take_out(pipe.out, got, 5) && memcmp(got, "wrong", 5) == 0, "the other pipe keeps its data");
    if (other.out != pipe.out)
        close(other.out);
    close(other.in);
    conduit_close(pipe);
}

static void closed_read_is_cancelled_by_its_aiocb(void)
{
    struct conduit pipe = conduit();
    char byte = 0;
    struct aiocb cb = request(pipe.out, &byte, 1, 0);
    aio_read(&cb);
    close(pipe.out);
    CHECK(REFUSED(aio_cancel(pipe.out, &cb), EBADF) && in_progress(&cb),
          "aio_cancel of a closed descriptor is EBADF");
    close(pipe.in);
    CHECK(succeeds(&cb, 0), "the read ends when its pipe ends");
}

static void the_pipe_closes_with_the_last_request(void)
{
    struct conduit pipe = conduit();
    struct aiocb cb = request(pipe.in, "last", 4, 0);
    aio_write(&cb);
    close(pipe.in);
    CHECK(succeeds(&cb, 4) && take_out(pipe.out, got, 4), "a write to a pipe that was closed is whole");
    CHECK(read(pipe.out, got, 1) == 0, "the pipe is closed once the write has ended");
    close(pipe.out);
}

static void other_open_files(void)
{
    char path[512];
    int reads = named(path, sizeof path, O_RDONLY), writes = (int)MUST(open(path, O_WRONLY));
    struct aiocb out = request(writes, sent, LARGE, 0);
    aio_write(&out);
    close(writes);
    CHECK(succeeds(&out, LARGE) && read_now(reads, got, LARGE, 0) == LARGE && memcmp(got, sent, LARGE) == 0,
          "one open file is closed, another one of the same file continues");
    unlink(path);
    close(reads);
}

static void unlinked(void)
{
    char path[512];
    int fd = named(path, sizeof path, O_RDWR);
    struct aiocb out = request(fd, sent, LARGE, 0);
    aio_write(&out);
    MUST(unlink(path));
    CHECK(succeeds(&out, LARGE) && read_now(fd, got, LARGE, 0) == LARGE && memcmp(got, sent, LARGE) == 0,
          "a file that is unlinked while open is read and written");
    close(fd);
}

/* ---- locks of others --------------------------------------------------------------------------------------------- */

static int try_lock(void *argument)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 10};
    return fcntl(*(int *)argument, F_SETLK, &lock) < 0 && (errno == EAGAIN || errno == EACCES) ? 0 : 1;
}

static void record_locks(void)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 10};
    int fd = scratch(O_RDWR), good = 0;
    struct aiocb sync = request(fd, NULL, 0, 0);
    MUST(fcntl(fd, F_SETLK, &lock));
    for (int i = 0; i < 20; i++) {
        good += write_now(fd, sent, i % 2 ? LARGE : 100, 0) > 0;
        good += read_now(fd, got, LARGE, 0) > 0;
    }
    good += aio_fsync(O_SYNC, &sync) == 0 && succeeds(&sync, 0);
    CHECK(good == 41, "requests on a file on which the program holds an fcntl lock");
    pause_ms(50);
    if (CAN_FORK_WITH_THREADS)
        CHECK(in_child(try_lock, &fd) == 0, "requests never release the program's fcntl lock");
    close(fd);
}

/* ---- the exit of the process ------------------------------------------------------------------------------------- */

static int leave_by_exit_now(void *argument)
{
    static struct aiocb cb;
    struct conduit *pipe = argument;
    cb = request(pipe->out, got, 1, 0);
    aio_read(&cb);
    _exit(in_progress(&cb) ? 17 : 18);
}

static int leave_by_exit(void *argument)
{
    static struct aiocb cb;
    struct conduit *pipe = argument;
    cb = request(pipe->out, got, 1, 0);
    aio_read(&cb);
    exit(in_progress(&cb) ? 17 : 18);
}

static int leave_by_exec(void *argument)
{
    static struct aiocb cb;
    struct conduit *pipe = argument;
    cb = request(pipe->out, got, 4, 0);
    notify_by_signal(&cb.aio_sigevent, SIGTERM, 0);
    aio_read(&cb);
    execl("/bin/sh", "sh", "-c", "sleep 0.2; exit 19", (char *)NULL);
    return 1;
}

static void process_ends(void)
{
    struct conduit pipe = conduit();
    CHECK(in_child(leave_by_exit_now, &pipe) == 17, "_exit with a read outstanding ends the process");
    CHECK(in_child(leave_by_exit, &pipe) == 17, "exit with a read outstanding ends the process");
    CHECK(in_child(leave_by_exec, &pipe) == 19, "exec ends outstanding requests without a notification");
    MUST(write(pipe.in, "kept", 4));
    CHECK(take_out(pipe.out, got, 4) && memcmp(got, "kept", 4) == 0, "no ended request takes data afterwards");
    conduit_close(pipe);
}

/* ---- without its main thread ------------------------------------------------------------------------------------- */

static int leave_main(void *argument)
{
    struct conduit *pipe = argument;
    MUST(write(pipe->in, "x", 1));
    read_now(pipe->out, got, 1, 0);
    pthread_exit(NULL);
}

static void *goes_on(void *argument)
{
    struct conduit *pipe = argument;
    pause_ms(300);
    MUST(write(pipe->in, "y", 1));
    exit(read_now(pipe->out, got, 1, 0) == 1 && got[0] == 'y' ? 20 : 21);
}

static int leave_main_to_a_thread(void *argument)
{
    pthread_t thread;
    pthread_create(&thread, NULL, goes_on, argument);
    return leave_main(argument);
}

static void last_words(union sigval value)
{
    exit(value.sival_int);
}

static void *writes_later(void *argument)
{
    pause_ms(300);
    MUST(write(((struct conduit *)argument)->in, "z", 1));
    return NULL;
}

static int leave_main_to_a_notification(void *argument)
{
    static struct aiocb cb;
    struct conduit *pipe = argument;
    pthread_t thread;
    cb = request(pipe->out, got, 1, 0);
    notify_by_thread(&cb.aio_sigevent, last_words, NULL);
    cb.aio_sigevent.sigev_value.sival_int = 22;
    aio_read(&cb);
    pthread_create(&thread, NULL, writes_later, argument);
    pthread_exit(NULL);
}

static void *goes_on_as_the_kernels_would_be_called(void *argument)
{
    (void)argument;
    pthread_setname_np(pthread_self(), "iou-wrk-1");
    pause_ms(500);
    exit(23);
}

static int leave_main_to_a_named_thread(void *argument)
{
    pthread_t thread;
    pthread_create(&thread, NULL, goes_on_as_the_kernels_would_be_called, NULL);
    return leave_main(argument);
}

/* Runs in the first thread that the program gets after main has exited, and takes a signal. */
static void waits_for_a_signal(union sigval value)
{
    sigset_t term;
    int taken = 0;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &term, NULL);
    kill(getpid(), SIGTERM);
    sigwait(&term, &taken);
    exit(taken == SIGTERM ? value.sival_int : 25);
}

static int leave_main_to_a_thread_for_signals(void *argument)
{
    static struct aiocb cb;
    struct conduit *pipe = argument;
    cb = request(pipe->out, got, 1, 0);
    notify_by_thread(&cb.aio_sigevent, waits_for_a_signal, NULL);
    cb.aio_sigevent.sigev_value.sival_int = 24;
    aio_read(&cb);
    pthread_exit(NULL);
}

static int signal_taken_by_a_notification(void)
{
    static struct conduit pipe;
    pipe = conduit();
    pid_t child = start_child(leave_main_to_a_thread_for_signals, &pipe);
    pause_ms(300);
    MUST(write(pipe.in, "x", 1));
    int end = end_of_child(child);
    conduit_close(pipe);
    return end;
}

static int no_engine_and_no_main(void *argument)
{
    struct rlimit limit, few = {.rlim_cur = 5};
    pthread_t thread;
    char byte;
    struct aiocb cb = request(*(int *)argument, &byte, 1, 0);
    MUST(getrlimit(RLIMIT_NOFILE, &limit));
    few.rlim_max = limit.rlim_max;
    MUST(setrlimit(RLIMIT_NOFILE, &few));
    int refused = REFUSED(aio_read(&cb), EAGAIN);
    MUST(setrlimit(RLIMIT_NOFILE, &limit));
    if (!refused)
        return 26;
    pthread_create(&thread, NULL, goes_on_as_the_kernels_would_be_called, NULL);
    pthread_exit(NULL);
}

static int leave_main_in_flight(void *argument)
{
    static struct aiocb cb;
    struct conduit *pipe = argument;
    cb = request(pipe->out, got, 1, 0);
    aio_read(&cb);
    pthread_exit(NULL);
}

static int killed_in_flight(void)
{
    static struct conduit pipe;
    pipe = conduit();
    pid_t child = start_child(leave_main_in_flight, &pipe);
    pause_ms(300);
    kill(child, SIGTERM);
    int end = end_of_child(child);
    conduit_close(pipe);
    return end;
}

static void main_thread_leaves(void)
{
    static struct conduit pipe; /* static: the stack of the main thread is gone after pthread_exit */
    pipe = conduit();
    CHECK(in_child(leave_main, &pipe) == 0, "when the last thread leaves by pthread_exit the process ends, with 0");
    CHECK(in_child(leave_main_to_a_thread, &pipe) == 20,
          "the process and its requests continue while another thread exists");
    CHECK(in_child(leave_main_to_a_notification, &pipe) == 22,
          "a notification still gets its thread after pthread_exit");
    CHECK(in_child(leave_main_to_a_named_thread, &pipe) == 23, "the name of the other thread does not matter");
    CHECK(in_child(no_engine_and_no_main, &pipe.out) == 23, "the process ends although the engine could not start");
    CHECK(signal_taken_by_a_notification() == 24, "the remaining thread receives signals");
    CHECK(killed_in_flight() == 128 + SIGTERM, "SIGTERM ends a process whose only thread waits for a request");
    conduit_close(pipe);
}

static void limits(void)
{
    CHECK(sysconf(_SC_ASYNCHRONOUS_IO) > 0, "sysconf reports asynchronous I/O");
    CHECK(sysconf(_SC_AIO_MAX) == -1 && sysconf(_SC_AIO_LISTIO_MAX) == -1,
          "AIO_MAX and AIO_LISTIO_MAX are unlimited");
    CHECK(sysconf(_SC_AIO_PRIO_DELTA_MAX) == 20, "AIO_PRIO_DELTA_MAX is 20");
}

/* These functions are no cancellation points: the thread must complete the start of the engine before it exits. */
static void *cancelled_submitter(void *argument)
{
    struct aiocb *cb = argument;
    pthread_cancel(pthread_self());
    intptr_t answer = aio_read(cb);
    aio_cancel(cb->aio_fildes, NULL);
    if (answer == 0)
        pthread_testcancel();
    return NULL;
}

static void thread_that_is_cancelled(void)
{
    char bytes[2];
    void *end;
    pthread_t thread;
    struct conduit pipe = conduit();
    struct aiocb first = request(pipe.out, bytes, 1, 0), second = request(pipe.out, bytes + 1, 1, 0);
    MUST(pthread_create(&thread, NULL, cancelled_submitter, &first) == 0 ? 0 : -1);
    pthread_join(thread, &end);
    CHECK(end == PTHREAD_CANCELED && end_of(&first) == ECANCELED,
          "a thread with a cancellation pending submits the first request");
    MUST(write(pipe.in, "x", 1));
    CHECK(aio_read(&second) == 0 && succeeds(&second, 1), "other threads make requests afterwards");
    conduit_close(pipe);
}

int main(void)
{
    begin(120);
    thread_that_is_cancelled();
    fill(sent, LARGE, 2);
    number_reused();
    close_while_a_read_waits();
    closed_read_is_cancelled_by_its_aiocb();
    the_pipe_closes_with_the_last_request();
    other_open_files();
    unlinked();
    record_locks();
    if (CAN_FORK_WITH_THREADS)
        process_ends();
    if (CAN_FORK_WITH_THREADS)
        main_thread_leaves();
    limits();
    return check_end();
}
