/*
 * submission.c - aio_read and aio_write: their arguments, the bytes that they move, and the memory that they leave
 * unchanged.
 */
#include "program.h"

enum { SMALL = 100, LARGE = 3 * 1024 * 1024 + 17 }; /* sizes: moved inside the call; moved by the engine */

static unsigned char sent[LARGE], got[LARGE];

static void bytes_there_and_back(void)
{
    const size_t sizes[] = {1, SMALL, 4096, 65537, LARGE};
    int fd = scratch(O_RDWR);
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        fill(sent, sizes[i], (unsigned)i);
        struct aiocb out = request(fd, sent, sizes[i], 4097);
        CHECK(aio_write(&out) == 0 && succeeds(&out, (ssize_t)sizes[i]), "a write of %zu bytes", sizes[i]);
        CHECK(holds(fd, sent, sizes[i], 4097), "the bytes are at the offset");
        memset(got, 0, sizes[i]);
        struct aiocb in = request(fd, got, sizes[i], 4097);
        CHECK(aio_read(&in) == 0 && succeeds(&in, (ssize_t)sizes[i]) && memcmp(got, sent, sizes[i]) == 0,
              "a read of %zu bytes", sizes[i]);
    }
    close(fd);
}

static void private_fields(void)
{
    const int garbage[] = {0, 0xff, 0xa5, 1};
    int fd = scratch(O_RDWR);
    MUST(pwrite(fd, "content", 7, 0));
    for (size_t i = 0; i < COUNT_OF(garbage); i++) {
        struct aiocb cb = request(fd, got, 7, 0), public = cb;
        memset(&cb, garbage[i], sizeof cb);
        cb.aio_fildes = public.aio_fildes;
        cb.aio_buf = public.aio_buf;
        cb.aio_nbytes = public.aio_nbytes;
        cb.aio_offset = public.aio_offset;
        cb.aio_reqprio = 0;
        cb.aio_sigevent.sigev_notify = SIGEV_NONE;
        CHECK(aio_read(&cb) == 0 && succeeds(&cb, 7),
              "private fields full of %#x before the first submission", garbage[i]);
    }
    close(fd);
}

static void only_the_private_part_is_written(void)
{
    struct {
        unsigned char before[64];
        struct aiocb cb;
        unsigned char after[64];
    } memory;
    unsigned char guard[64];
    char byte;
    memset(&memory, 0x5a, sizeof memory);
    memset(guard, 0x5a, sizeof guard);
    struct conduit pipe = conduit();
    memory.cb = request(pipe.out, &byte, 1, 77);
    memory.cb.aio_lio_opcode = LIO_WRITE;
    struct aiocb before = memory.cb;
    aio_read(&memory.cb);
    MUST(write(pipe.in, "x", 1));
    result_of(&memory.cb);
    CHECK(memcmp(memory.before, guard, 64) == 0 && memcmp(memory.after, guard, 64) == 0,
          "nothing outside the system's struct aiocb is written");
    CHECK(memory.cb.aio_fildes == before.aio_fildes && memory.cb.aio_buf == before.aio_buf &&
              memory.cb.aio_nbytes == before.aio_nbytes && memory.cb.aio_offset == before.aio_offset &&
              memory.cb.aio_lio_opcode == before.aio_lio_opcode && memory.cb.aio_reqprio == before.aio_reqprio,
          "the program's own members keep their values");
    conduit_close(pipe);
}

static void the_end_of_the_file(void)
{
    int fd = scratch(O_RDWR);
    MUST(pwrite(fd, "0123456789", 10, 0));
    CHECK(read_now(fd, got, SMALL, 4) == 6 && memcmp(got, "456789", 6) == 0, "a short read is a success");
    CHECK(read_now(fd, got, SMALL, 10) == 0, "a read at the end gives 0");
    CHECK(read_now(fd, got, SMALL, 1 << 20) == 0, "a read past the end gives 0");
    CHECK(read_now(fd, got, LARGE, 4) == 6 && read_now(fd, got, LARGE, 10) == 0, "long reads past the end give 0");
    CHECK(read_now(fd, got, SMALL, LLONG_MAX - SMALL) == 0, "a read at the largest offset gives 0");
    close(fd);
}

static void no_bytes(void)
{
    struct stat stat;
    int fd = scratch(O_RDWR);
    MUST(pwrite(fd, "0123456789", 10, 0));
    CHECK(read_now(fd, got, 0, 3) == 0 && write_now(fd, sent, 0, 3) == 0, "a transfer of 0 bytes succeeds with 0");
    CHECK(read_now(fd, NULL, 0, 3) == 0 && write_now(fd, NULL, 0, 3) == 0,
          "a transfer of 0 bytes without a buffer succeeds");
    CHECK(write_now(fd, sent, 0, 1000) == 0 && fstat(fd, &stat) == 0 && stat.st_size == 10,
          "no bytes past the end do not extend the file");
    struct conduit pipe = conduit();
    CHECK(read_now(pipe.out, got, 0, 0) == 0, "a read of 0 bytes from an empty pipe does not wait");
    conduit_close(pipe);
    close(fd);
}

static void holes(void)
{
    static const char zeros[10000];
    struct stat stat;
    int fd = scratch(O_RDWR);
    MUST(pwrite(fd, "begin", 5, 0));
    CHECK(write_now(fd, "end", 3, 9000) == 3 && fstat(fd, &stat) == 0 && stat.st_size == 9003,
          "a write past the end extends the file");
    CHECK(holds(fd, "begin", 5, 0) && holds(fd, zeros, 8995, 5) && holds(fd, "end", 3, 9000),
          "a write past the end leaves a hole of zeros");
    CHECK(write_now(fd, sent, LARGE, 20000) == LARGE && holds(fd, zeros, 10000, 9003),
          "a long write past the end leaves a hole of zeros");
    close(fd);
}

static void left_alone(void)
{
    const int opcodes[] = {LIO_READ, LIO_WRITE, LIO_NOP, 12345, -1};
    int fd = scratch(O_RDWR), good = 0;
    MUST(pwrite(fd, "0123456789", 10, 0));
    MUST(lseek(fd, 7, SEEK_SET));
    for (size_t i = 0; i < COUNT_OF(opcodes); i++) {
        struct aiocb in = request(fd, got, 4, 2), out = request(fd, "ab", 2, 0);
        in.aio_lio_opcode = out.aio_lio_opcode = opcodes[i];
        memset(got, 0, 4);
        good += aio_read(&in) == 0 && succeeds(&in, 4) && memcmp(got, "2345", 4) == 0;
        good += aio_write(&out) == 0 && succeeds(&out, 2) && holds(fd, "ab", 2, 0);
    }
    CHECK(good == 2 * COUNT_OF(opcodes), "aio_lio_opcode is ignored");
    CHECK(write_now(fd, sent, LARGE, 0) == LARGE && read_now(fd, got, LARGE, 0) == LARGE && lseek(fd, 0, SEEK_CUR) == 7,
          "the file offset is not moved");
    close(fd);
}

static void used_again(void)
{
    int fd = scratch(O_RDWR), good = 0;
    struct aiocb cb = request(fd, sent, SMALL, 0);
    for (int i = 0; i < 200; i++) {
        cb.aio_nbytes = i % 3 ? SMALL : 400 * KB;
        cb.aio_offset = i * 100;
        good += aio_write(&cb) == 0 && end_of(&cb) == 0;
    }
    CHECK(good == 200 && aio_return(&cb) == SMALL, "an aiocb is used again once it is terminal, with no aio_return");
    cb.aio_fildes = -1;
    CHECK(aio_read(&cb) == 0 && fails(&cb, EBADF), "the status of a reused aiocb is that of the new request");
    cb = request(fd, got, SMALL, 0);
    CHECK(aio_read(&cb) == 0 && succeeds(&cb, SMALL), "an aiocb is reusable after a failure");
    close(fd);
}

static void many_queued(void)
{
    enum { COUNT = 20000 };
    static struct aiocb cbs[COUNT];
    static char bytes[COUNT], expected[COUNT];
    struct conduit pipe = conduit();
    int accepted = 0, good = 0;
    for (int i = 0; i < COUNT; i++) {
        cbs[i] = request(pipe.out, &bytes[i], 1, 0);
        accepted += aio_read(&cbs[i]) == 0;
        expected[i] = (char)(i % 251);
    }
    CHECK(accepted == COUNT, "twenty thousand requests are accepted");
    for (int put = 0; put < COUNT;)
        put += (int)MUST(write(pipe.in, expected + put, (size_t)(COUNT - put)));
    for (int i = 0; i < COUNT; i++)
        good += succeeds(&cbs[i], 1);
    CHECK(good == COUNT, "each of the requests ends");
    CHECK(memcmp(bytes, expected, COUNT) == 0, "requests on one pipe end in the order of the calls");
    conduit_close(pipe);
}

int main(void)
{
    begin(120);
    bytes_there_and_back();
    private_fields();
    only_the_private_part_is_written();
    the_end_of_the_file();
    no_bytes();
    holes();
    left_alone();
    used_again();
    many_queued();
    return check_end();
}
