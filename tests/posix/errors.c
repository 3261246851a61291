/*
 * errors.c - the errors of requests, and the errors of calls.
 */
#include "program.h"

#include <sys/un.h>

enum { SMALL = 100, LARGE = 2 * 1024 * 1024 };

static unsigned char bytes[LARGE];
static const size_t sizes[] = {SMALL, LARGE};

/* The call succeeds, and the request fails. */
static void ends_with(int error, int (*submit)(struct aiocb *), struct aiocb cb, const char *what)
{
    bool accepted = submit(&cb) == 0;
    int end = accepted ? end_of(&cb) : -1;
    ssize_t returned = accepted ? aio_return(&cb) : 0;
    CHECK(accepted && end == error && returned == -1,
          "%s: the request ends with %s (%s)", what, strerrorname_np(error),
          !accepted ? "the call failed" : strerror(end));
}

static void descriptors(void)
{
    int reads = scratch(O_RDONLY), writes = scratch(O_WRONLY), closed = scratch(O_RDWR);
    struct conduit pipe = conduit();
    close(closed);
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        ends_with(EBADF, aio_read, request(-1, bytes, sizes[i], 0), "read of descriptor -1");
        ends_with(EBADF, aio_write, request(-1, bytes, sizes[i], 0), "write of descriptor -1");
        ends_with(EBADF, aio_read, request(closed, bytes, sizes[i], 0), "read of a closed descriptor");
        ends_with(EBADF, aio_write, request(closed, bytes, sizes[i], 0), "write of a closed descriptor");
        ends_with(EBADF, aio_read, request(writes, bytes, sizes[i], 0), "read of what is open for writing");
        ends_with(EBADF, aio_write, request(reads, bytes, sizes[i], 0), "write of what is open for reading");
        ends_with(EBADF, aio_read, request(pipe.in, bytes, sizes[i], 0), "read of a pipe's other end");
        ends_with(EBADF, aio_write, request(pipe.out, bytes, sizes[i], 0), "write of a pipe's other end");
    }
    ends_with(EBADF, aio_read, request(INT_MAX, bytes, SMALL, 0), "read of descriptor INT_MAX");
    conduit_close(pipe);
    close(reads);
    close(writes);
}

static void offsets(void)
{
    int fd = scratch(O_RDWR);
    const off_t negative[] = {-1, LLONG_MIN};
    for (size_t i = 0; i < COUNT_OF(negative); i++) {
        ends_with(EINVAL, aio_read, request(fd, bytes, SMALL, negative[i]), "read at a negative offset");
        ends_with(EINVAL, aio_write, request(fd, bytes, LARGE, negative[i]), "write at a negative offset");
    }
    ends_with(EINVAL, aio_read, request(fd, bytes, SMALL, LLONG_MAX - SMALL + 1), "read beyond INT64_MAX");
    ends_with(EINVAL, aio_write, request(fd, bytes, SMALL, LLONG_MAX - SMALL + 1), "write beyond INT64_MAX");
    ends_with(EINVAL, aio_read, request(fd, bytes, SIZE_MAX, 0), "read of SIZE_MAX bytes");
    ends_with(EINVAL, aio_write, request(fd, bytes, SIZE_MAX, 10), "write of SIZE_MAX bytes");
    close(fd);
}

static void priorities(void)
{
    const int wrong[] = {-1, 21, INT_MAX, INT_MIN}, right[] = {0, 1, 20};
    int fd = scratch(O_RDWR), good = 0;
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        struct aiocb in = request(fd, bytes, SMALL, 0), out = request(fd, bytes, SMALL, 0);
        in.aio_reqprio = out.aio_reqprio = wrong[i];
        CHECK(REFUSED(aio_read(&in), EINVAL) && REFUSED(aio_write(&out), EINVAL),
              "aio_reqprio %d fails the call", wrong[i]);
        CHECK(aio_error(&in) == EINVAL && aio_error(&out) == EINVAL, "aio_error says EINVAL after the failed call");
    }
    struct stat stat;
    CHECK(fstat(fd, &stat) == 0 && stat.st_size == 0, "nothing was written by a call that failed");
    for (size_t i = 0; i < COUNT_OF(right); i++) {
        struct aiocb out = request(fd, bytes, SMALL, 0);
        out.aio_reqprio = right[i];
        good += aio_write(&out) == 0 && succeeds(&out, SMALL);
    }
    CHECK(good == COUNT_OF(right), "0..20 are accepted");
    close(fd);
}

static void memory(void)
{
    int fd = scratch(O_RDWR);
    struct conduit pipe = conduit();
    void *nowhere = mmap(NULL, LARGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *constant = mmap(NULL, LARGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(pwrite(fd, bytes, LARGE, 0));
    MUST(write(pipe.in, "x", 1));
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        ends_with(EFAULT, aio_read, request(fd, nowhere, sizes[i], 0), "read into no memory");
        ends_with(EFAULT, aio_read, request(fd, NULL, sizes[i], 0), "read into NULL");
        ends_with(EFAULT, aio_read, request(fd, constant, sizes[i], 0), "read into memory that cannot be written");
        ends_with(EFAULT, aio_write, request(fd, nowhere, sizes[i], 0), "write from no memory");
    }
    ends_with(EFAULT, aio_read, request(pipe.out, nowhere, SMALL, 0), "read of a pipe into no memory");
    ends_with(EFAULT, aio_write, request(pipe.in, nowhere, SMALL, 0), "write to a pipe from no memory");
    CHECK(holds(fd, bytes, LARGE, 0), "the file is unchanged");
    munmap(nowhere, LARGE);
    munmap(constant, LARGE);
    conduit_close(pipe);
    close(fd);
}

static void kinds_of_files(void)
{
    int directory = (int)MUST(open(".", O_RDONLY | O_DIRECTORY)), full = (int)MUST(open("/dev/full", O_WRONLY));
    int sockets[2];
    struct conduit pipe = conduit();
    signals_seen = 0;
    handle(SIGPIPE, 0, see_signal);
    ends_with(EISDIR, aio_read, request(directory, bytes, SMALL, 0), "read of a directory");
    ends_with(EISDIR, aio_read, request(directory, bytes, LARGE, 0), "long read of a directory");
    ends_with(ENOSPC, aio_write, request(full, bytes, SMALL, 0), "write to /dev/full");
    ends_with(ENOSPC, aio_write, request(full, bytes, LARGE, 0), "long write to /dev/full");
    close(pipe.out);
    ends_with(EPIPE, aio_write, request(pipe.in, bytes, SMALL, 0), "write to a pipe without a reader");
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets));
    close(sockets[1]);
    ends_with(EPIPE, aio_write, request(sockets[0], bytes, SMALL, 0), "write to a socket without a peer");
    CHECK(signals_seen == 0, "a write to a closed peer raises no SIGPIPE");
    close(sockets[0]);
    close(pipe.in);
    close(full);
    close(directory);
}

/* The reader of a pipe closes it while a write waits. */
static void peer_that_leaves(void)
{
    struct conduit pipe = conduit();
    size_t room = fill_up(pipe.in);
    struct aiocb cb = request(pipe.in, bytes, LARGE, 0);
    signals_seen = 0;
    CHECK(aio_write(&cb) == 0 && in_progress(&cb), "a write to a full pipe of %zu bytes waits", room);
    close(pipe.out);
    CHECK(fails(&cb, EPIPE) && signals_seen == 0,
          "the waiting write ends with EPIPE without SIGPIPE when the reader closes");
    close(pipe.in);
}

static void file_size_limit(void)
{
    enum { LIMIT = 1 << 20 };
    struct rlimit before, limit;
    int fd = scratch(O_RDWR), appends = scratch(O_WRONLY | O_APPEND);
    signals_seen = 0;
    handle(SIGXFSZ, 0, see_signal);
    MUST(getrlimit(RLIMIT_FSIZE, &before));
    limit = before;
    limit.rlim_cur = LIMIT;
    MUST(setrlimit(RLIMIT_FSIZE, &limit));
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        ends_with(EFBIG, aio_write, request(fd, bytes, sizes[i], LIMIT), "write at RLIMIT_FSIZE");
        ends_with(EFBIG, aio_write, request(fd, bytes, sizes[i], LIMIT + 5000), "write past RLIMIT_FSIZE");
    }
    CHECK(write_now(fd, bytes, SMALL, LIMIT - 40) == 40, "a write across the file size limit is short");
    CHECK(write_now(fd, bytes, LARGE, LIMIT - 300000) == 300000, "a long write across the file size limit is short");
    CHECK(write_now(fd, bytes, SMALL, LIMIT - SMALL) == SMALL, "a write up to the file size limit is whole");
    CHECK(write_now(appends, bytes, LARGE, 0) == LIMIT, "an append across the file size limit is short");
    ends_with(EFBIG, aio_write, request(appends, bytes, SMALL, 0), "the next append");
    struct aiocb cb = request(fd, bytes, SMALL, LIMIT), *const list[] = {&cb};
    cb.aio_lio_opcode = LIO_WRITE;
    CHECK(REFUSED(lio_listio(LIO_WAIT, list, 1, NULL), EIO) && fails(&cb, EFBIG),
          "an entry of a list at the file size limit is EFBIG");
    MUST(setrlimit(RLIMIT_FSIZE, &before));
    CHECK(signals_seen == 0, "no write raises SIGXFSZ");
    close(appends);
    close(fd);
}

static void syncs(void)
{
    const int wrong[] = {0, -1, 1, O_APPEND, O_SYNC | O_APPEND};
    int fd = scratch(O_RDWR), closed = scratch(O_RDWR), sockets[2], refused = 0;
    struct conduit pipe = conduit();
    struct aiocb cb = request(fd, NULL, 0, 0);
    close(closed);
    for (size_t i = 0; i < COUNT_OF(wrong); i++)
        refused += REFUSED(aio_fsync(wrong[i], &cb), EINVAL);
    CHECK(refused == COUNT_OF(wrong), "an op other than O_SYNC and O_DSYNC fails the call with EINVAL");
    cb.aio_fildes = closed;
    CHECK(REFUSED(aio_fsync(O_SYNC, &cb), EBADF) && REFUSED(aio_fsync(O_DSYNC, &cb), EBADF),
          "a closed descriptor fails the call with EBADF");
    cb.aio_fildes = -1;
    CHECK(REFUSED(aio_fsync(O_SYNC, &cb), EBADF), "aio_fsync of descriptor -1 fails with EBADF");
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets));
    const int streams[] = {pipe.in, pipe.out, sockets[0]};
    for (size_t i = 0; i < COUNT_OF(streams); i++) {
        cb = request(streams[i], NULL, 0, 0);
        CHECK(aio_fsync(i % 2 ? O_DSYNC : O_SYNC, &cb) == 0 && fails(&cb, EINVAL),
              "a pipe or socket: EINVAL through aio_error");
    }
    close(sockets[0]);
    close(sockets[1]);
    conduit_close(pipe);
    close(fd);
}

int main(void)
{
    begin(60);
    descriptors();
    offsets();
    priorities();
    memory();
    kinds_of_files();
    peer_that_leaves();
    file_size_limit();
    syncs();
    return check_end();
}
