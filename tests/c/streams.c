/*
 * streams.c - requests on streams that wait must not delay other requests; numbers that are closed in flight.
 */
#include "check.h"
#include "fault.h"

#include <pty.h>
#include <sys/file.h>
#include <termios.h>

static void file_works(const char *beside)
{
    char out[100], in[100];
    int fd = scratch(O_RDWR);
    fill(out, sizeof out, 9);
    bool good = perform(AIOFS_WRITE, fd, out, sizeof out, 0) == 100 && perform(AIOFS_READ, fd, in, sizeof in, 0) == 100 &&
                memcmp(in, out, sizeof in) == 0 && perform(AIOFS_FSYNC, fd, NULL, 0, 0) == 0;
    CHECK(good, "a file is written, read and synced beside %s", beside);
    close(fd);
}

static void blocked_pipes(void)
{
    enum { COUNT = 300 };
    static int pairs[COUNT][2];
    static struct op *reads[COUNT];
    static char bytes[COUNT];
    int good = 0;
    for (int i = 0; i < COUNT; i++) {
        MUST(pipe2(pairs[i], O_CLOEXEC));
        reads[i] = start(AIOFS_READ, pairs[i][0], &bytes[i], 1, 0);
    }
    file_works("300 blocked pipe reads");
    CHECK(threads_now() < 20, "waiting reads use no thread each (%d threads)", threads_now());
    for (int i = COUNT - 1; i >= 0; i--)
        MUST(write(pairs[i][1], "p", 1));
    for (int i = 0; i < COUNT; i++) {
        good += op_finish(reads[i]) == 1 && bytes[i] == 'p';
        close(pairs[i][0]);
        close(pairs[i][1]);
    }
    CHECK(good == COUNT, "waiting reads end when their data arrive");
}

static void blocked_fifos(void)
{
    enum { COUNT = 300 };
    static int ends[COUNT][2];
    static struct op *reads[COUNT];
    static char bytes[COUNT];
    char path[64];
    int good = 0;
    for (int i = 0; i < COUNT; i++) {
        snprintf(path, sizeof path, "/tmp/aiofs-fifo-%d", (int)getpid());
        MUST(mkfifo(path, 0600));
        ends[i][0] = (int)MUST(open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC));
        ends[i][1] = (int)MUST(open(path, O_WRONLY | O_CLOEXEC));
        fcntl(ends[i][0], F_SETFL, 0);
        unlink(path);
        reads[i] = start(AIOFS_READ, ends[i][0], &bytes[i], 1, 0);
    }
    file_works("300 blocked FIFO reads");
    for (int i = 0; i < COUNT; i++)
        MUST(write(ends[i][1], "f", 1));
    for (int i = 0; i < COUNT; i++) {
        good += op_finish(reads[i]) == 1 && bytes[i] == 'f';
        close(ends[i][0]);
        close(ends[i][1]);
    }
    CHECK(good == COUNT, "and the FIFO reads end when their data come");
}

static void blocked_writes(void)
{
    enum { COUNT = 60 };
    static char much[300 * 1024], sink[65536];
    int pairs[COUNT][2];
    struct op *writes[COUNT];
    for (int i = 0; i < COUNT; i++) {
        if (i % 2)
            MUST(pipe2(pairs[i], O_CLOEXEC));
        else
            MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pairs[i]));
        writes[i] = start(AIOFS_WRITE, pairs[i][1], much, sizeof much, 0);
    }
    file_works("60 blocked writes to pipes and sockets");
    int good = 0;
    for (int i = 0; i < COUNT; i++) {
        for (size_t have = 0; have < sizeof much;)
            have += (size_t)MUST(read(pairs[i][0], sink, sizeof sink));
        good += op_finish(writes[i]) == sizeof much;
        close(pairs[i][0]);
        close(pairs[i][1]);
    }
    CHECK(good == COUNT, "and the writes are whole when they were read");
}

static void blocked_terminals(void)
{
    enum { COUNT = 12 };
    static char much[64 * 1024];
    int masters[COUNT], slaves[COUNT];
    struct op *reads[COUNT], *writes[COUNT];
    char bytes[COUNT];
    struct termios raw;
    for (int i = 0; i < COUNT; i++) {
        MUST(openpty(&masters[i], &slaves[i], NULL, NULL, NULL));
        tcgetattr(slaves[i], &raw);
        cfmakeraw(&raw);
        tcsetattr(slaves[i], TCSANOW, &raw);
        reads[i] = start(AIOFS_READ, slaves[i], &bytes[i], 1, 0);
        writes[i] = start(AIOFS_WRITE, slaves[i], much, sizeof much, 0);
    }
    file_works("unread terminals");
    int good = 0;
    for (int i = 0; i < COUNT; i++) {
        close(masters[i]);
        int64_t got = op_finish(reads[i]), put = op_finish(writes[i]);
        good += (got == 0 || got == -EIO) && (put == -EIO || (put > 0 && put < (int64_t)sizeof much));
        close(slaves[i]);
    }
    CHECK(good == COUNT, "waiting requests end when the peer closes");
}

static void many_requests_on_one_pipe(void)
{
    enum { COUNT = 10000 };
    static struct op *reads[COUNT];
    static char bytes[COUNT], out[COUNT];
    int pair[2];
    MUST(pipe2(pair, O_CLOEXEC));
    for (int i = 0; i < COUNT; i++)
        reads[i] = start(AIOFS_READ, pair[0], &bytes[i], 1, 0);
    file_works("10,000 reads that wait on one pipe");
    fill(out, COUNT, 1);
    for (size_t put = 0; put < COUNT;)
        put += (size_t)MUST(write(pair[1], out + put, COUNT - put));
    int good = 0;
    for (int i = 0; i < COUNT; i++)
        good += op_finish(reads[i]) == 1;
    CHECK(good == COUNT && memcmp(bytes, out, COUNT) == 0, "waiting reads get a byte each, in their order");
    close(pair[0]);
    close(pair[1]);
}

static void more_pipes_than_descriptors(void)
{
    enum { COUNT = 200 };
    struct rlimit before, small;
    static struct op *reads[COUNT];
    static char bytes[COUNT];
    int count = 0, pair[2], writers[COUNT];
    getrlimit(RLIMIT_NOFILE, &before);
    small = (struct rlimit){(rlim_t)open_descriptors() + 60, before.rlim_max};
    setrlimit(RLIMIT_NOFILE, &small);
    /* The program closes each at once, so only the engine's table has them, until it is full. */
    int refused = 0;
    while (count < COUNT && pipe2(pair, O_CLOEXEC) == 0) {
        reads[count] = start(AIOFS_READ, pair[0], &bytes[count], 1, 0);
        close(pair[0]);
        writers[count++] = pair[1];
    }
    setrlimit(RLIMIT_NOFILE, &before);
    file_works("a full descriptor table");
    for (int i = 0; i < count; i++) {
        if (write(writers[i], "x", 1) < 0 && errno != EPIPE)
            exit(1);
        int64_t got = op_finish(reads[i]);
        refused += got == -EAGAIN;
        CHECK(got == 1 || got == -EAGAIN, "read %d of closed pipes ends with a byte or EAGAIN (%d)", i, (int)got);
        close(writers[i]);
    }
    printf("      (%d of %d refused)\n", refused, count);
}

/* ---- the number is reused -------------------------------------------------------------------------------------- */

static void number_reused(void)
{
    char in[8] = "", text[8] = "";
    int pair[2], other[2];
    MUST(pipe2(pair, O_CLOEXEC));
    MUST(pipe2(other, O_CLOEXEC));
    struct op *read = start(AIOFS_READ, pair[0], in, sizeof in, 0);
    MUST(write(other[1], "other", 5));
    MUST(dup3(other[0], pair[0], O_CLOEXEC)); /* the read's number is another pipe now */
    pause_ms(20);
    CHECK(!op_ended(read), "a read does not follow its number to another pipe");
    char second[8] = "";
    CHECK(perform(AIOFS_READ, pair[0], second, 5, 0) == 5 && memcmp(second, "other", 5) == 0,
          "a new read of the number goes there");
    MUST(write(pair[1], "mine", 4));
    CHECK(op_finish(read) == 4 && memcmp(in, "mine", 4) == 0, "the older read gets the data of its own pipe");
    close(pair[0]);
    close(pair[1]);
    close(other[0]);
    close(other[1]);

    int file = scratch(O_RDWR), victim = scratch(O_RDWR), twin = dup(file);
    fault_inject("pwritev2", 0, FAULT_LOCK, 0);
    struct op *writes[3];
    for (int i = 0; i < 3; i++)
        writes[i] = start(AIOFS_WRITE, file, "data", 4, i * 4);
    MUST(dup3(victim, file, O_CLOEXEC));
    fault_clear();
    for (int i = 0; i < 3; i++)
        CHECK(op_finish(writes[i]) == 4, "write %d of a closed file succeeds", i);
    CHECK(holds(twin, "datadatadata", 12, 0) && pread(victim, text, 8, 0) == 0,
          "into its own file, and not into the one that has its number");
    close(file);
    close(victim);
    close(twin);
}

static void end_is_seen(void)
{
    int pair[2], unfinished = 0;
    char byte = 0;
    for (int i = 0; i < 200; i++) {
        MUST(pipe2(pair, O_CLOEXEC));
        struct op *write = start(AIOFS_WRITE, pair[1], "x", 1, 0);
        close(pair[1]);
        op_finish(write);
        fcntl(pair[0], F_SETFL, O_NONBLOCK);
        bool data = read(pair[0], &byte, 1) == 1, end = read(pair[0], &byte, 1) == 0;
        unfinished += !data || !end;
        close(pair[0]);
    }
    CHECK(unfinished == 0, "the closed pipe is at its end when the last write's status is final");
}

static void locks_survive(void)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET}, probe = lock;
    int fd = scratch(O_RDWR), status;
    MUST(fcntl(fd, F_SETLK, &lock));
    for (int i = 0; i < 5; i++) {
        perform(AIOFS_WRITE, fd, "x", 1, i);
        perform(AIOFS_READ, fd, &(char){0}, 1, i);
    }
    pause_ms(20);
    pid_t child = fork();
    if (child == 0) {
        fcntl(fd, F_GETLK, &probe);
        _exit(probe.l_type == F_WRLCK ? 0 : 1);
    }
    waitpid(child, &status, 0);
    CHECK(status == 0, "the program's fcntl locks survive requests on their file");
    close(fd);
}

int main(void)
{
    check_begin(60);
    signal(SIGPIPE, SIG_IGN);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max < 4096 ? limit.rlim_max : 4096;
    setrlimit(RLIMIT_NOFILE, &limit);
    fault_attach(&aiofs_sys);
    check_engine();
    blocked_pipes();
    blocked_fifos();
    blocked_writes();
    blocked_terminals();
    many_requests_on_one_pipe();
    number_reused();
    end_is_seen();
    locks_survive();
    more_pipes_than_descriptors();
    CHECK(EVENTUALLY(PATIENCE, ops_alive == 0), "every request was given back");
    return check_end();
}
