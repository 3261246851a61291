/*
 * streams.c - pipes, FIFOs, sockets, terminals and O_APPEND: the offset is ignored, writes keep the order of the calls,
 * and a read that waits does not delay other requests.
 */
#include "program.h"

#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/timerfd.h>

enum { LARGE = 1024 * 1024 };

static unsigned char sent[LARGE], got[LARGE];

/* ---- every kind ------------------------------------------------------------------------------------------------ */

static void a_read_waits(const char *kind, struct conduit pipe)
{
    const off_t offsets[] = {0, -5, LLONG_MAX, 4096};
    int good = 0;
    for (size_t i = 0; i < COUNT_OF(offsets); i++) {
        struct aiocb cb = request(pipe.out, got, 100, offsets[i]);
        memset(got, 0, 100);
        if (aio_read(&cb) != 0)
            continue;
        pause_ms(20);
        bool waits = in_progress(&cb);
        MUST(write(pipe.in, "hello", 5));
        good += waits && succeeds(&cb, 5) && memcmp(got, "hello", 5) == 0;
    }
    CHECK(good == COUNT_OF(offsets), "%s: a read waits for data, takes what there is, and ignores the offset", kind);
    struct aiocb out = request(pipe.in, "again", 5, -7);
    CHECK(aio_write(&out) == 0 && succeeds(&out, 5) && take_out(pipe.out, got, 5) && memcmp(got, "again", 5) == 0,
          "%s: a write goes out, and ignores the offset", kind);
    conduit_close(pipe);
}

static void a_read_ends_with_its_writer(void)
{
    struct conduit pipe = conduit();
    struct aiocb cb = request(pipe.out, got, 100, 0);
    aio_read(&cb);
    pause_ms(10);
    close(pipe.in);
    CHECK(succeeds(&cb, 0), "a read that waits ends with 0 when the last writer leaves");
    CHECK(read_now(pipe.out, got, 100, 0) == 0, "a later read gives 0 too");
    close(pipe.out);
}

/* ---- no delay of others ------------------------------------------------------------------------------------------ */

/* Can files be written, synced and read now? */
static bool files_work(void)
{
    enum { FILES = 8 };
    int good = 0;
    for (int i = 0; i < FILES; i++) {
        int fd = scratch(O_RDWR);
        struct aiocb sync = request(fd, NULL, 0, 0);
        good += write_now(fd, sent, LARGE, 0) == LARGE && aio_fsync(O_DSYNC, &sync) == 0 && succeeds(&sync, 0) &&
                read_now(fd, got, LARGE, 0) == LARGE && memcmp(got, sent, LARGE) == 0;
        close(fd);
        if (good != i + 1)
            break; /* each further file would wait as long */
    }
    return good == FILES;
}

static void blocked_reads(int wanted)
{
    int count = (int)(raise_descriptors(2 * wanted + 50) - 50) / 2, good = 0;
    struct conduit *pipes = calloc((size_t)count, sizeof *pipes);
    struct aiocb *cbs = calloc((size_t)count, sizeof *cbs);
    char *bytes = calloc((size_t)count, 1);
    for (int i = 0; i < count; i++) {
        pipes[i] = conduit();
        cbs[i] = request(pipes[i].out, &bytes[i], 1, 0);
        good += aio_read(&cbs[i]) == 0;
    }
    CHECK(good == count, "%d reads of as many empty pipes", count);
    CHECK(files_work(), "reads of empty pipes do not delay requests on files");
    good = 0;
    for (int i = count; i-- > 0;) {
        const char byte = (char)(i % 251);
        good += in_progress(&cbs[i]) && write(pipes[i].in, &byte, 1) == 1 && succeeds(&cbs[i], 1) && bytes[i] == byte;
        if (good != count - i)
            break;
    }
    CHECK(good == count, "each read still waits for its own pipe");
    if (good != count)
        exit(check_end()); /* requests in flight point into this memory */
    for (int i = 0; i < count; i++)
        conduit_close(pipes[i]);
    free(pipes);
    free(cbs);
    free(bytes);
}

static void blocked_writes(void)
{
    enum { COUNT = 40 };
    static struct aiocb cbs[COUNT];
    struct conduit pipes[COUNT];
    size_t rooms[COUNT];
    int waiting = 0, good = 0;
    for (int i = 0; i < COUNT; i++) {
        pipes[i] = conduit();
        rooms[i] = fill_up(pipes[i].in);
        cbs[i] = request(pipes[i].in, "w", 1, 0);
        waiting += aio_write(&cbs[i]) == 0 && in_progress(&cbs[i]);
    }
    CHECK(waiting == COUNT && files_work(), "forty writes to full pipes wait, and do not delay files");
    for (int i = 0; i < COUNT; i++)
        good += take_out(pipes[i].out, got, rooms[i]) && succeeds(&cbs[i], 1) && take_out(pipes[i].out, got, 1) &&
                got[0] == 'w';
    CHECK(good == COUNT, "waiting writes continue when the pipe has room");
    for (int i = 0; i < COUNT; i++)
        conduit_close(pipes[i]);
}

static void two_directions(void)
{
    struct conduit pair = socket_pair(SOCK_STREAM);
    struct aiocb in = request(pair.out, got, 5, 0), out = request(pair.out, "hello", 5, 0);
    aio_read(&in);
    CHECK(aio_write(&out) == 0 && succeeds(&out, 5) && in_progress(&in),
          "a read that waits does not delay its own socket's writes");
    MUST(write(pair.in, "12345", 5));
    CHECK(succeeds(&in, 5), "the waiting read gets its data");
    conduit_close(pair);
}

/* ---- the order of the calls -------------------------------------------------------------------------------------- */

struct drain {
    int fd;
    size_t size;
    unsigned char *bytes;
    bool whole;
};

static void *drain(void *argument)
{
    struct drain *drain = argument;
    pause_ms(20); /* the pipe is full */
    drain->whole = take_out(drain->fd, drain->bytes, drain->size);
    return NULL;
}

/* Sizes from one byte to several times the capacity of a pipe, unsorted. */
static size_t size_of(int i)
{
    const size_t sizes[] = {1, 70000, 300, 4096, 260000, 17, 65536, 5};
    return sizes[(size_t)i % COUNT_OF(sizes)];
}

enum { WRITES = 48, TOTAL = WRITES / 8 * (1 + 70000 + 300 + 4096 + 260000 + 17 + 65536 + 5) };

static unsigned char many[TOTAL], found[TOTAL];

static int write_all(int fd, struct aiocb *cbs, bool priorities)
{
    int good = 0;
    size_t at = 0;
    fill(many, TOTAL, 9);
    for (int i = 0; i < WRITES; i++) {
        cbs[i] = request(fd, many + at, size_of(i), (WRITES - i) * 1000);
        cbs[i].aio_reqprio = priorities ? (WRITES - i) % (20 + 1) : 0;
        good += aio_write(&cbs[i]) == 0;
        at += size_of(i);
    }
    return good;
}

static bool all_whole(struct aiocb *cbs)
{
    int good = 0;
    for (int i = 0; i < WRITES; i++)
        good += succeeds(&cbs[i], (ssize_t)size_of(i));
    return good == WRITES;
}

static void stream_order(const char *kind, struct conduit pipe)
{
    static struct aiocb cbs[WRITES];
    struct drain reader = {.fd = pipe.out, .size = TOTAL, .bytes = found};
    pthread_t thread;
    memset(found, 0, TOTAL);
    pthread_create(&thread, NULL, drain, &reader);
    CHECK(write_all(pipe.in, cbs, true) == WRITES && all_whole(cbs),
          "%s: writes of all sizes, long and short, are whole", kind);
    pthread_join(thread, NULL);
    CHECK(reader.whole && memcmp(found, many, TOTAL) == 0, "%s: writes land in the order of the calls", kind);
    conduit_close(pipe);
}

/* The offsets are inside the file. A write inside the call must not overtake earlier writes. */
static void append_order(const char *kind, int flags, bool priorities)
{
    static struct aiocb cbs[WRITES];
    int fd = scratch(O_RDWR | O_APPEND | flags);
    MUST(write(fd, sent, LARGE));
    CHECK(write_all(fd, cbs, priorities) == WRITES && all_whole(cbs), "%s: appends of all sizes are whole", kind);
    CHECK(holds(fd, sent, LARGE, 0) && holds(fd, many, TOTAL, LARGE),
          "%s: the appends are at the end, in the order of the calls",
          kind);
    close(fd);
}

/* O_APPEND that is set while a write is in flight applies to later writes. */
static void append_order_set_later(void)
{
    static struct aiocb cbs[WRITES];
    int fd = scratch(O_RDWR | O_DSYNC);
    struct aiocb first = request(fd, sent, LARGE, 0);
    MUST(aio_write(&first));
    MUST(fcntl(fd, F_SETFL, O_APPEND));
    CHECK(write_all(fd, cbs, true) == WRITES && all_whole(cbs) && succeeds(&first, LARGE),
          "O_APPEND set after a write: all writes are whole");
    CHECK(holds(fd, sent, LARGE, 0) && holds(fd, many, TOTAL, LARGE),
          "O_APPEND set after a write: later writes are at the end, in the order of the calls");
    close(fd);
}

/* The masters of all pseudo-terminals have the same inode. */
static void order_of_a_master(void)
{
    enum { COUNT = 200 };
    static struct aiocb cbs[COUNT];
    unsigned char out[COUNT], in[COUNT];
    int good = 0;
    for (int round = 0; round < 5; round++) {
        struct conduit pty = terminal(), other = terminal();
        fill(out, COUNT, (unsigned)round);
        for (int i = 0; i < COUNT; i++) {
            cbs[i] = request(pty.in, &out[i], 1, 0);
            MUST(aio_write(&cbs[i]));
        }
        good += take_out(pty.out, in, COUNT) && memcmp(in, out, COUNT) == 0;
        for (int i = 0; i < COUNT; i++)
            result_of(&cbs[i]);
        conduit_close(pty);
        conduit_close(other);
    }
    CHECK(good == 5, "terminal: writes to its master keep the order of the calls");
}

/* VMIN 0: a read waits at most VTIME tenths of a second. */
static void terminal_without_waiting(void)
{
    struct conduit pty = terminal();
    struct termios settings;
    char bytes[10] = "";
    MUST(tcgetattr(pty.out, &settings));
    settings.c_cc[VMIN] = 0;
    settings.c_cc[VTIME] = 0;
    MUST(tcsetattr(pty.out, TCSANOW, &settings));
    CHECK(read_now(pty.out, bytes, 10, 0) == 0, "terminal, VMIN 0: a read without data gives 0");
    MUST(write(pty.in, "abc", 3));
    CHECK(read_now(pty.out, bytes, 10, 0) == 3 && memcmp(bytes, "abc", 3) == 0,
          "terminal, VMIN 0: a read gives the available data");
    settings.c_cc[VTIME] = 2;
    MUST(tcsetattr(pty.out, TCSANOW, &settings));
    double start = now();
    CHECK(read_now(pty.out, bytes, 10, 0) == 0 && now() - start > 0.15,
          "terminal, VTIME: a read gives 0 after the time");
    conduit_close(pty);
}

static void terminal_settings_change(void)
{
    struct conduit pty = terminal();
    struct termios settings;
    char byte = 0;
    struct aiocb cb = request(pty.out, &byte, 1, 0);
    MUST(aio_read(&cb));
    MUST(tcgetattr(pty.out, &settings));
    for (int i = 0; i < 10; i++) {
        settings.c_lflag ^= ECHO;
        MUST(tcsetattr(pty.out, TCSANOW, &settings));
        pause_ms(2);
    }
    CHECK(in_progress(&cb), "terminal: a read keeps waiting while the settings change");
    MUST(write(pty.in, "x", 1));
    CHECK(succeeds(&cb, 1) && byte == 'x', "terminal: the waiting read gets the data");
    conduit_close(pty);
}

static void unreadable(void)
{
    char bytes[8];
    int epoll = (int)MUST(epoll_create1(EPOLL_CLOEXEC));
    struct aiocb in = request(epoll, bytes, 8, 0), out = request(epoll, bytes, 8, 0);
    CHECK(aio_read(&in) == 0 && fails(&in, EINVAL) && aio_write(&out) == 0 && fails(&out, EINVAL),
          "a descriptor that cannot be read or written: EINVAL, as of read(2)");
    close(epoll);
}

/* ---- 0 bytes ----------------------------------------------------------------------------------------------------- */

static int epoll_of_its_own(void)
{
    return (int)MUST(epoll_create1(EPOLL_CLOEXEC));
}

static int counter(void)
{
    return (int)MUST(eventfd(1, EFD_CLOEXEC));
}

static int timer(void)
{
    return (int)MUST(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
}

static int full(void)
{
    return (int)MUST(open("/dev/full", O_RDWR));
}

static int null(void)
{
    return (int)MUST(open("/dev/null", O_RDWR));
}

static int without_address(void)
{
    return (int)MUST(socket(AF_INET, SOCK_DGRAM, 0));
}

static int left_alone(int type)
{
    struct conduit pair = socket_pair(type);
    close(pair.out);
    return pair.in;
}

static int left_stream(void)
{
    return left_alone(SOCK_STREAM);
}

static int left_datagrams(void)
{
    return left_alone(SOCK_DGRAM);
}

static int left_packets(void)
{
    return left_alone(SOCK_SEQPACKET);
}

static int left_pipe(void)
{
    struct conduit pipe = conduit();
    close(pipe.out);
    return pipe.in;
}

static int empty_pipe(void)
{
    struct conduit pipe = conduit();
    close(pipe.in);
    return pipe.out;
}

static int pty(void)
{
    struct conduit pty = terminal();
    close(pty.in);
    return pty.out;
}

static bool ends_as(struct aiocb *cb, ssize_t answer, int error)
{
    return answer < 0 ? fails(cb, error) : succeeds(cb, answer);
}

/* Makes two descriptors of a kind. read(2) and write(2) on the first give the expected results for the second. */
static void as_the_kernel_says(const char *kind, int (*make)(void))
{
    char byte;
    int theirs = make(), ours = make();
    struct aiocb in = request(ours, &byte, 0, 0), out = request(ours, &byte, 0, 0);
    ssize_t moved = read(theirs, &byte, 0);
    int read_error = errno;
    CHECK(aio_read(&in) == 0 && ends_as(&in, moved, read_error), "%s: a read of 0 bytes is as read(2): %s", kind,
          moved < 0 ? strerror(read_error) : "0");
    signal(SIGPIPE, SIG_IGN);
    ssize_t put = write(theirs, &byte, 0);
    int write_error = errno;
    signal(SIGPIPE, SIG_DFL); /* a later SIGPIPE would end the program */
    CHECK(aio_write(&out) == 0 && ends_as(&out, put, write_error), "%s: a write of 0 bytes is as write(2): %s", kind,
          put < 0 ? strerror(write_error) : "0");
    close(theirs);
    close(ours);
}

/* Is the next datagram exactly these bytes? */
static bool comes(int fd, const char *text)
{
    char bytes[16];
    ssize_t size = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
    return size == (ssize_t)strlen(text) && memcmp(bytes, text, (size_t)size) == 0;
}

static void empty_datagrams(const char *kind, int type, int flags)
{
    struct conduit pair = socket_pair(type);
    MUST(fcntl(pair.in, F_SETFL, flags));
    struct aiocb cbs[] = {request(pair.in, "a", 1, 0), request(pair.in, "", 0, 0), request(pair.in, "b", 1, 0),
                          request(pair.in, NULL, 0, 0)};
    struct aiocb *list[COUNT_OF(cbs)];
    for (size_t i = 0; i < COUNT_OF(cbs); i++) {
        list[i] = &cbs[i];
        cbs[i].aio_lio_opcode = LIO_WRITE;
    }
    int good = lio_listio(LIO_WAIT, list, COUNT_OF(cbs), NULL) == 0;
    for (size_t i = 0; i < COUNT_OF(cbs); i++)
        good += succeeds(&cbs[i], (ssize_t)cbs[i].aio_nbytes);
    CHECK(good == 1 + COUNT_OF(cbs), "%s: writes of 0 bytes and of 1 end", kind);
    struct aiocb in = request(pair.out, list, 0, 0);
    CHECK(aio_read(&in) == 0 && succeeds(&in, 0), "%s: a read of 0 bytes is 0, as read(2)", kind);
    CHECK(comes(pair.out, "a") && comes(pair.out, "") && comes(pair.out, "b") && comes(pair.out, ""),
          "%s: it took none, and an empty one comes in its place", kind);
    conduit_close(pair);
}

/* An empty datagram needs a place in the receiver's queue, too. */
static void empty_datagram_waits(void)
{
    struct conduit pair = socket_pair(SOCK_DGRAM);
    int queued = 0, received = 0;
    while (send(pair.in, "x", 1, MSG_DONTWAIT) == 1)
        queued++;
    struct aiocb cb = request(pair.in, "", 0, 0);
    CHECK(aio_write(&cb) == 0 && files_work() && in_progress(&cb), "a full socket: a write of 0 bytes waits");
    while (received < queued && comes(pair.out, "x"))
        received++;
    CHECK(received == queued && succeeds(&cb, 0) && comes(pair.out, ""), "the empty datagram is sent later");
    conduit_close(pair);
}

/* read(2) of an inotify descriptor first waits for an event, and then fails because the buffer is too small. */
static void read_of_nothing_waits(void)
{
    char path[] = "/tmp/aiofs-watched-XXXXXX";
    int events = (int)MUST(inotify_init1(IN_CLOEXEC)), watched = (int)MUST(mkstemp(path));
    MUST(inotify_add_watch(events, path, IN_MODIFY));
    struct aiocb cb = request(events, path, 0, 0);
    CHECK(aio_read(&cb) == 0 && files_work() && in_progress(&cb),
          "inotify: a read of 0 bytes waits, and delays nothing");
    MUST(write(watched, "x", 1));
    CHECK(fails(&cb, EINVAL), "and ends as read(2): Invalid argument");
    unlink(path);
    close(watched);
    close(events);
}

static void no_bytes(void)
{
    as_the_kernel_says("/dev/full", full);
    as_the_kernel_says("/dev/null", null);
    as_the_kernel_says("epoll", epoll_of_its_own);
    as_the_kernel_says("eventfd", counter);
    as_the_kernel_says("timerfd", timer);
    as_the_kernel_says("UDP, not connected", without_address);
    as_the_kernel_says("stream socket, its peer closed", left_stream);
    as_the_kernel_says("datagram socket, its peer closed", left_datagrams);
    as_the_kernel_says("seqpacket socket, its peer closed", left_packets);
    as_the_kernel_says("pipe, its reader closed", left_pipe);
    as_the_kernel_says("pipe, its writer closed", empty_pipe);
    as_the_kernel_says("terminal, hung up", pty);
    empty_datagrams("datagrams", SOCK_DGRAM, O_RDWR);
    empty_datagrams("datagrams, O_NONBLOCK", SOCK_DGRAM, O_RDWR | O_NONBLOCK);
    empty_datagrams("seqpacket", SOCK_SEQPACKET, O_RDWR);
    empty_datagram_waits();
    read_of_nothing_waits();
}

/* A short append could be made inside the call before an earlier long append starts. */
static void short_after_long(void)
{
    enum { ROUNDS = 60, LONG = 400000, SHORT = 10 };
    int fd = scratch(O_RDWR | O_APPEND), good = 0;
    MUST(write(fd, sent, LARGE));
    for (int i = 0; i < ROUNDS; i++) {
        struct aiocb before = request(fd, sent, LONG, 0), after = request(fd, sent + LONG, SHORT, 0);
        off_t end = lseek(fd, 0, SEEK_END);
        good += aio_write(&before) == 0 && aio_write(&after) == 0 && succeeds(&before, LONG) && succeeds(&after, SHORT) &&
                holds(fd, sent, LONG + SHORT, end);
    }
    CHECK(good == ROUNDS, "O_APPEND: a short append does not overtake an earlier long append");
    close(fd);
}

static void append_offsets(void)
{
    const off_t offsets[] = {-1, LLONG_MIN, LLONG_MAX, 1000000};
    int fd = scratch(O_RDWR | O_APPEND), good = 0;
    for (size_t i = 0; i < COUNT_OF(offsets); i++)
        good += write_now(fd, i % 2 ? "odd!" : "even", 4, offsets[i]) == 4;
    CHECK(good == COUNT_OF(offsets) && holds(fd, "evenodd!evenodd!", 16, 0), "O_APPEND: any offset is ignored");
    close(fd);
}

static void read_priorities(void)
{
    enum { COUNT = 6 };
    struct conduit pipe = conduit();
    const int priorities[COUNT] = {0, 20, 5, 0, 20, 5};
    const int rank[COUNT] = {0, 4, 2, 1, 5, 3}; /* the first read is running, so its priority has no effect */
    struct aiocb cbs[COUNT];
    char bytes[COUNT];
    int good = 0;
    for (int i = 0; i < COUNT; i++) {
        cbs[i] = request(pipe.out, &bytes[i], 1, 0);
        cbs[i].aio_reqprio = priorities[i];
        aio_read(&cbs[i]);
        if (i == 0)
            pause_ms(50);
    }
    MUST(write(pipe.in, "012345", COUNT));
    for (int i = 0; i < COUNT; i++)
        good += succeeds(&cbs[i], 1) && bytes[i] == '0' + rank[i];
    CHECK(good == COUNT, "among the waiting requests of one descriptor, lower effective priority runs later");
    conduit_close(pipe);
}

int main(void)
{
    begin(120);
    fill(sent, LARGE, 1);
    short_after_long(); /* first, because after a slow write there is no write inside the call for a second */
    a_read_waits("pipe", conduit());
    a_read_waits("FIFO", fifo());
    a_read_waits("stream socket", socket_pair(SOCK_STREAM));
    a_read_waits("datagram socket", socket_pair(SOCK_DGRAM));
    a_read_waits("terminal", terminal());
    a_read_ends_with_its_writer();
    two_directions();
    stream_order("pipe", conduit());
    stream_order("socket", socket_pair(SOCK_STREAM));
    append_order("O_APPEND", 0, false);
    append_order("O_APPEND with priorities", 0, true);
    append_order("O_APPEND and O_SYNC", O_SYNC, false);
    append_order_set_later();
    append_offsets();
    order_of_a_master();
    terminal_without_waiting();
    terminal_settings_change();
    unreadable();
    no_bytes();
    read_priorities();
    blocked_writes();
    blocked_reads(40);
    blocked_reads(1000);
    return check_end();
}
