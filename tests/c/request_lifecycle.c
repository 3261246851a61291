/*
 * request_lifecycle.c - requests from submission to completion, on every kind of descriptor.
 */
#include "check.h"

#include <pty.h>
#include <termios.h>

static void regular_file(const char *name, const char *directory, int extra, size_t align)
{
    static const size_t sizes[] = {1, 4096, 128 * KB, 128 * KB + 4096, 3 * MB};
    int fd = scratch_in(directory, O_RDWR | extra);
    if (fd < 0) {
        printf("skip  %s is not available here\n", name);
        return;
    }
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        size_t size = sizes[i] < align ? align : sizes[i];
        int64_t at = align ? (int64_t)(8192 * i) : (int64_t)(777 * i);
        char *out = aligned(size), *in = aligned(size);
        fill(out, size, (unsigned)i + 1);
        CHECK(perform(AIOFS_WRITE, fd, out, size, at) == (int64_t)size, "%s: %zu bytes written", name, size);
        CHECK(perform(AIOFS_READ, fd, in, size, at) == (int64_t)size && memcmp(in, out, size) == 0,
              "%s: %zu bytes read back", name, size);
        free(out);
        free(in);
    }
    CHECK(perform(AIOFS_FSYNC, fd, NULL, 0, 0) == 0, "%s: fsync", name);
    CHECK(perform(AIOFS_FDATASYNC, fd, NULL, 0, 0) == 0, "%s: fdatasync", name);
    CHECK(lseek(fd, 0, SEEK_CUR) == 0, "%s: the file offset has not moved", name);
    close(fd);
}

static void ends_and_holes(void)
{
    char buffer[64] = "", zeros[64] = "";
    int fd = scratch(O_RDWR);
    CHECK(perform(AIOFS_READ, fd, buffer, 10, 0) == 0, "reading an empty file gives 0");
    CHECK(perform(AIOFS_WRITE, fd, "tail", 4, 100000) == 4, "a write past the end");
    memset(buffer, 1, sizeof buffer);
    CHECK(perform(AIOFS_READ, fd, buffer, 64, 5000) == 64 && memcmp(buffer, zeros, 64) == 0,
          "a write past the end leaves a hole of zeros");
    CHECK(perform(AIOFS_READ, fd, buffer, 64, 100002) == 2 && memcmp(buffer, "il", 2) == 0,
          "a read is short at the end");
    CHECK(perform(AIOFS_READ, fd, buffer, 64, 100004) == 0, "a read at the end gives 0");
    CHECK(perform(AIOFS_READ, fd, buffer, 64, INT64_MAX - 64) == 0, "a read far past the end gives 0");
    CHECK(perform(AIOFS_READ, fd, NULL, 0, 3) == 0 && perform(AIOFS_WRITE, fd, NULL, 0, 200000) == 0,
          "nothing to move: success");
    struct stat stat;
    fstat(fd, &stat);
    CHECK(stat.st_size == 100004, "a write of 0 bytes does not extend the file");
    close(fd);
}

static void many_pieces(int extra, const char *name)
{
    enum { PIECES = 40, SIZE = 5000 };
    static char out[PIECES][SIZE], in[PIECES][SIZE];
    struct iovec write_vector[PIECES], read_vector[PIECES];
    for (int i = 0; i < PIECES; i++) {
        size_t length = (size_t)(i % 7 == 3 ? 0 : SIZE - i * 100);
        fill(out[i], SIZE, (unsigned)i);
        write_vector[i] = (struct iovec){out[i], length};
        read_vector[i] = (struct iovec){in[i], length};
    }
    int64_t total = 0;
    for (int i = 0; i < PIECES; i++)
        total += (int64_t)write_vector[i].iov_len;
    int fd = scratch(O_RDWR | extra);
    struct op *write = op_new(AIOFS_WRITE, fd, NULL, 0, 10), *read = op_new(AIOFS_READ, fd, NULL, 0, 10);
    write->request.iov = write_vector;
    read->request.iov = read_vector;
    write->request.iovcnt = read->request.iovcnt = PIECES;
    aiofs_submit(&write->request, NULL);
    CHECK(op_finish(write) == total, "%s: %d pieces written", name, PIECES);
    aiofs_submit(&read->request, NULL);
    CHECK(op_finish(read) == total, "%s: %d pieces read", name, PIECES);
    bool same = true;
    for (int i = 0; i < PIECES; i++)
        same &= memcmp(out[i], in[i], write_vector[i].iov_len) == 0;
    CHECK(same, "%s: the pieces hold the same bytes", name);
    close(fd);
}

static void many_at_once(void)
{
    enum { COUNT = 2000, SIZE = 512 };
    static char bytes[COUNT][SIZE], found[COUNT][SIZE];
    static struct op *ops[COUNT];
    int fd = scratch(O_RDWR);
    for (int i = 0; i < COUNT; i++) {
        fill(bytes[i], SIZE, (unsigned)i);
        ops[i] = start(AIOFS_WRITE, fd, bytes[i], SIZE, (int64_t)i * SIZE);
    }
    int good = 0;
    for (int i = 0; i < COUNT; i++)
        good += op_finish(ops[i]) == SIZE;
    CHECK(good == COUNT, "%d writes at once", COUNT);
    for (int i = 0; i < COUNT; i++)
        ops[i] = start(AIOFS_READ, fd, found[i], SIZE, (int64_t)i * SIZE);
    for (int i = good = 0; i < COUNT; i++)
        good += op_finish(ops[i]) == SIZE;
    CHECK(good == COUNT && memcmp(bytes, found, sizeof bytes) == 0, "%d reads at once", COUNT);
    close(fd);
}

/* Tests a pair of connected descriptors: bytes written to `writer` are read from `reader`. */
static void stream(const char *name, int reader, int writer, size_t size)
{
    char small[16] = "", *out = malloc(size), *in = malloc(size);
    struct op *read = start(AIOFS_READ, reader, small, sizeof small, -5);
    pause_ms(20);
    CHECK(!op_ended(read), "%s: a read waits for data", name);
    CHECK(perform(AIOFS_WRITE, writer, "hello\n", 6, -7) == 6, "%s: a write", name);
    CHECK(op_finish(read) == 6 && memcmp(small, "hello\n", 6) == 0, "%s: the read ignores its offset", name);
    fill(out, size, 3);
    for (size_t i = 0; i < size; i++) /* a terminal changes control characters, and a read gets whole lines */
        out[i] = i % 64 == 63 ? '\n' : (char)('a' + (unsigned char)out[i] % 26);
    struct op *write = start(AIOFS_WRITE, writer, out, size, 0);
    pause_ms(20);
    size_t have = 0;
    while (have < size) {
        int64_t got = perform(AIOFS_READ, reader, in + have, size - have, 0);
        if (got <= 0)
            break;
        have += (size_t)got;
    }
    CHECK(have == size && memcmp(in, out, size) == 0, "%s: %zu bytes through it", name, size);
    CHECK(op_finish(write) == (int64_t)size, "%s: a long write is whole", name);
    free(out);
    free(in);
    close(reader);
    close(writer);
}

static void streams(void)
{
    int pair[2];
    char path[64];
    MUST(pipe2(pair, O_CLOEXEC));
    stream("pipe", pair[0], pair[1], 300 * KB);

    snprintf(path, sizeof path, "/tmp/aiofs-fifo-%d", (int)getpid());
    MUST(mkfifo(path, 0600));
    int reader = (int)MUST(open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    int writer = (int)MUST(open(path, O_WRONLY | O_CLOEXEC));
    fcntl(reader, F_SETFL, 0);
    unlink(path);
    stream("FIFO", reader, writer, 300 * KB);

    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
    stream("socket", pair[0], pair[1], 600 * KB);

    struct termios raw;
    MUST(openpty(&pair[0], &pair[1], NULL, NULL, NULL));
    tcgetattr(pair[1], &raw);
    cfmakeraw(&raw);
    tcsetattr(pair[1], TCSANOW, &raw);
    stream("terminal, from the program", pair[0], dup(pair[1]), 20 * KB);
    close(pair[1]);
    MUST(openpty(&pair[0], &pair[1], NULL, NULL, NULL));
    tcsetattr(pair[1], TCSANOW, &raw);
    stream("terminal, to the program", pair[1], pair[0], 3 * KB);
}

static void datagrams(void)
{
    int pair[2];
    char in[32] = "";
    MUST(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair));
    perform(AIOFS_WRITE, pair[0], "one", 3, 0);
    perform(AIOFS_WRITE, pair[0], "three", 5, 0);
    CHECK(perform(AIOFS_READ, pair[1], in, sizeof in, 0) == 3 && perform(AIOFS_READ, pair[1], in, 2, 0) == 2,
          "datagrams keep their borders");
    close(pair[0]);
    close(pair[1]);
}

static void end_of_stream(void)
{
    int pair[2];
    char in[8] = "";
    MUST(pipe2(pair, O_CLOEXEC));
    struct op *read = start(AIOFS_READ, pair[0], in, sizeof in, 0);
    pause_ms(10);
    close(pair[1]);
    CHECK(op_finish(read) == 0, "a waiting read sees the end of a pipe as 0");
    close(pair[0]);
}

static void nonblocking(const char *name, int reader, int writer)
{
    static char much[MB];
    CHECK(perform(AIOFS_READ, reader, much, 8, 0) == -EAGAIN, "%s, O_NONBLOCK: a read with no data is EAGAIN", name);
    int64_t put = perform(AIOFS_WRITE, writer, much, sizeof much, 0);
    CHECK(put > 0 && put < (int64_t)sizeof much, "%s, O_NONBLOCK: a write is short when it is full", name);
    CHECK(perform(AIOFS_WRITE, writer, much, 8192, 0) == -EAGAIN, "%s, O_NONBLOCK: and then EAGAIN", name);
    CHECK(perform(AIOFS_READ, reader, much, 8, 0) == 8, "%s, O_NONBLOCK: a read with data", name);
    close(reader);
    close(writer);
}

static void nonblocking_streams(void)
{
    int pair[2];
    char path[64];
    MUST(pipe2(pair, O_CLOEXEC | O_NONBLOCK));
    nonblocking("pipe", pair[0], pair[1]);
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair));
    nonblocking("socket", pair[0], pair[1]);
    snprintf(path, sizeof path, "/tmp/aiofs-fifo-%d", (int)getpid());
    MUST(mkfifo(path, 0600));
    int reader = (int)MUST(open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    int writer = (int)MUST(open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC));
    unlink(path);
    nonblocking("FIFO", reader, writer);

    char byte = 'x';
    int fd = scratch(O_RDWR | O_NONBLOCK);
    CHECK(perform(AIOFS_WRITE, fd, &byte, 1, 9000) == 1 && perform(AIOFS_READ, fd, &byte, 1, 9000) == 1,
          "O_NONBLOCK changes nothing for a regular file");
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    fsync(fd);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    CHECK(perform(AIOFS_READ, fd, &byte, 1, 9000) == 1, "uncached bytes are read");
    close(fd);
}

static void devices(void)
{
    char *bytes = aligned(MB);
    int zero = (int)MUST(open("/dev/zero", O_RDWR | O_CLOEXEC)), full = (int)MUST(open("/dev/full", O_RDWR | O_CLOEXEC));
    int null = (int)MUST(open("/dev/null", O_RDWR | O_CLOEXEC));
    memset(bytes, 1, MB);
    int64_t got = perform(AIOFS_READ, zero, bytes, MB, 0);
    CHECK(got > 0 && bytes[0] == 0 && bytes[got - 1] == 0, "/dev/zero gives zeros");
    CHECK(perform(AIOFS_WRITE, zero, bytes, MB, 0) == MB, "/dev/zero takes everything");
    CHECK(perform(AIOFS_WRITE, full, bytes, 100, 0) == -ENOSPC, "/dev/full is ENOSPC");
    CHECK(perform(AIOFS_READ, null, bytes, 100, 0) == 0, "/dev/null is at its end");
    CHECK(perform(AIOFS_WRITE, null, bytes, 100, 0) == 100, "/dev/null takes everything");
    close(zero);
    close(full);
    close(null);

    uint64_t count = 0, five = 5;
    int event = eventfd(0, EFD_CLOEXEC);
    struct op *read = start(AIOFS_READ, event, &count, sizeof count, 0);
    pause_ms(10);
    CHECK(!op_ended(read), "a read of an eventfd waits");
    CHECK(perform(AIOFS_WRITE, event, &five, sizeof five, 0) == 8 && op_finish(read) == 8 && count == 5,
          "until something is written to it");
    close(event);
    free(bytes);
}

static void proc_and_directory(void)
{
    char text[256] = "";
    int fd = (int)MUST(open("/proc/self/status", O_RDONLY | O_CLOEXEC));
    CHECK(perform(AIOFS_READ, fd, text, sizeof text, 0) > 5 && memcmp(text, "Name:", 5) == 0, "a file of /proc");
    close(fd);
    fd = (int)MUST(open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    CHECK(perform(AIOFS_READ, fd, text, sizeof text, 0) == -EISDIR, "a directory is EISDIR");
    CHECK(perform(AIOFS_FSYNC, fd, NULL, 0, 0) == 0, "a directory can be synced");
    close(fd);
}

int main(void)
{
    check_begin(60);
    check_engine();
    regular_file("disk file", NULL, 0, 0);
    regular_file("O_DIRECT", NULL, O_DIRECT, 4096);
    regular_file("O_DSYNC", NULL, O_DSYNC, 0);
    regular_file("tmpfs", "/dev/shm", 0, 0);
    ends_and_holes();
    many_pieces(0, "disk file");
    many_pieces(O_DSYNC, "O_DSYNC");
    many_at_once();
    streams();
    datagrams();
    end_of_stream();
    nonblocking_streams();
    devices();
    proc_and_directory();
    CHECK(EVENTUALLY(PATIENCE, ops_alive == 0), "every request was given back");
    CHECK(outstanding() == 0, "none is outstanding");
    return check_end();
}
