/*
 * errors.c - the errors of requests that cannot succeed.
 */
#include "check.h"

static char bytes[64 * KB];

static void bad_descriptors(void)
{
    int closed = dup(0);
    close(closed);
    CHECK(perform(AIOFS_READ, closed, bytes, 10, 0) == -EBADF, "a read of a closed descriptor ends with EBADF");
    CHECK(perform(AIOFS_WRITE, -1, bytes, 10, 0) == -EBADF, "a write to descriptor -1 ends with EBADF");
    CHECK(perform(AIOFS_READ, 1 << 30, bytes, 10, 0) == -EBADF, "a read of descriptor 2^30 ends with EBADF");

    int fd = scratch(O_RDONLY);
    CHECK(perform(AIOFS_WRITE, fd, bytes, 10, 0) == -EBADF, "a write to one open for reading ends with EBADF");
    CHECK(perform(AIOFS_WRITE, fd, bytes, 0, 0) == -EBADF,
          "an empty write to a read-only descriptor ends with EBADF");
    CHECK(perform(AIOFS_FSYNC, fd, NULL, 0, 0) == 0, "a read-only descriptor can be synced");
    close(fd);
    fd = scratch(O_WRONLY);
    CHECK(perform(AIOFS_READ, fd, bytes, 10, 0) == -EBADF, "a read of one open for writing ends with EBADF");
    close(fd);
    fd = open("/tmp", O_PATH | O_CLOEXEC);
    CHECK(perform(AIOFS_READ, fd, bytes, 10, 0) == -EBADF, "a read of an O_PATH descriptor ends with EBADF");
    close(fd);

    struct op *sync = op_new(AIOFS_FSYNC, closed, NULL, 0, 0);
    CHECK(aiofs_submit(&sync->request, NULL) == -EBADF, "fsync of a closed descriptor is refused at the call");
    CHECK(aiofs_request_state(&sync->request) == AIOFS_NEW && sync->ends == 0, "the refused call started no request");
    op_drop(sync);
}

static void bad_places(void)
{
    int fd = scratch(O_RDWR), pair[2];
    MUST(pipe2(pair, O_CLOEXEC));
    CHECK(perform(AIOFS_READ, fd, bytes, 10, -1) == -EINVAL, "a negative offset is EINVAL");
    CHECK(perform(AIOFS_WRITE, fd, bytes, 10, INT64_MIN) == -EINVAL, "the most negative offset is EINVAL");
    CHECK(perform(AIOFS_WRITE, fd, bytes, 10, INT64_MAX - 5) == -EINVAL, "an end beyond INT64_MAX is EINVAL");
    CHECK(perform(AIOFS_READ, fd, bytes, (size_t)INT64_MAX + 2, 0) == -EINVAL, "a length beyond INT64_MAX is EINVAL");
    CHECK(perform(AIOFS_WRITE, fd, bytes, 10, INT64_MAX - 10) == -EFBIG,
          "a write past the largest file size is EFBIG");
    CHECK(perform(AIOFS_FSYNC, pair[0], NULL, 0, 0) == -EINVAL, "fsync of a pipe ends with EINVAL");
    close(fd);
    close(pair[0]);
    close(pair[1]);

    fd = scratch(O_RDWR | O_APPEND);
    CHECK(perform(AIOFS_WRITE, fd, "abc", 3, -1) == 3 && holds(fd, "abc", 3, 0),
          "O_APPEND ignores the offset of a write");
    CHECK(perform(AIOFS_READ, fd, bytes, 10, -1) == -EINVAL, "O_APPEND does not ignore the offset of a read");
    close(fd);
    fd = scratch(O_RDWR | O_DIRECT);
    if (fd >= 0) {
        char *buffer = aligned(8192);
        int64_t result = perform(AIOFS_WRITE, fd, buffer + 1, 4096, 0);
        CHECK(result == -EINVAL || result == 4096, "a misaligned O_DIRECT write ends with the kernel's errno");
        free(buffer);
        close(fd);
    }
}

static void bad_memory(void)
{
    void *nowhere = mmap(NULL, 256 * KB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int fd = scratch(O_RDWR), pair[2];
    MUST(ftruncate(fd, 256 * (off_t)KB));
    MUST(pipe2(pair, O_CLOEXEC));
    CHECK(perform(AIOFS_READ, fd, nowhere, 4096, 0) == -EFAULT, "a read into bad memory is EFAULT");
    CHECK(perform(AIOFS_READ, fd, nowhere, 256 * KB, 0) == -EFAULT, "a long read into bad memory is EFAULT");
    CHECK(perform(AIOFS_WRITE, fd, nowhere, 4096, 0) == -EFAULT, "a write from bad memory is EFAULT");
    CHECK(perform(AIOFS_WRITE, pair[1], nowhere, 10, 0) == -EFAULT, "a write to a pipe from bad memory is EFAULT");
    MUST(write(pair[1], "data", 4));
    CHECK(perform(AIOFS_READ, pair[0], nowhere, 4, 0) == -EFAULT, "a read of a pipe into bad memory is EFAULT");
    munmap(nowhere, 256 * KB);
    close(fd);
    close(pair[0]);
    close(pair[1]);
}

static void no_signals(void)
{
    int pair[2];
    handle(SIGPIPE, 0, see_signal);
    handle(SIGXFSZ, 0, see_signal);
    MUST(pipe2(pair, O_CLOEXEC));
    close(pair[0]);
    CHECK(perform(AIOFS_WRITE, pair[1], bytes, 10, 0) == -EPIPE, "a pipe with no reader is EPIPE");
    close(pair[1]);
    MUST(pipe2(pair, O_CLOEXEC));
    static char much[1024 * 1024];
    struct op *write = start(AIOFS_WRITE, pair[1], much, sizeof much, 0);
    pause_ms(20);
    close(pair[0]);
    int64_t put = op_finish(write);
    CHECK(put == -EPIPE || put == 64 * (int64_t)KB, "a write whose reader closes the pipe completes");
    close(pair[1]);
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
    close(pair[0]);
    CHECK(perform(AIOFS_WRITE, pair[1], bytes, 10, 0) == -EPIPE, "a socket with no peer is EPIPE");
    close(pair[1]);

    struct rlimit before, small = {10000, RLIM_INFINITY};
    getrlimit(RLIMIT_FSIZE, &before);
    small.rlim_max = before.rlim_max;
    int fd = scratch(O_RDWR), direct = scratch(O_RDWR | O_DIRECT);
    struct iovec piece = {bytes, 2000};
    char *buffer = aligned(4096);
    setrlimit(RLIMIT_FSIZE, &small); /* which also holds for what a check prints into a log */
    int64_t across = perform(AIOFS_WRITE, fd, bytes, 2000, 9000), at = perform(AIOFS_WRITE, fd, bytes, 2000, 10000);
    int64_t past = perform(AIOFS_WRITE, fd, bytes, 2000, 1000000);
    int64_t inside = aiofs_write_inline(NULL, fd, &piece, 1, 2000, 10000, true);
    int64_t aligned_past = direct >= 0 ? perform(AIOFS_WRITE, direct, buffer, 4096, 40960) : -EFBIG;
    setrlimit(RLIMIT_FSIZE, &before);
    CHECK(across == 1000, "a write across RLIMIT_FSIZE is short");
    CHECK(at == -EFBIG && past == -EFBIG, "a write at or past RLIMIT_FSIZE is EFBIG");
    CHECK(inside == AIOFS_NOT_INLINE, "a write past RLIMIT_FSIZE is not made inside the call");
    CHECK(aligned_past == -EFBIG, "an O_DIRECT write past RLIMIT_FSIZE is EFBIG");
    free(buffer);
    close(direct);
    close(fd);
    CHECK(signals_seen == 0, "no write raises SIGPIPE or SIGXFSZ");
}

static void priorities(void)
{
    struct op *op = op_new(AIOFS_READ, 0, bytes, 1, 0);
    op->request.reqprio = AIOFS_PRIO_DELTA_MAX + 1;
    CHECK(aiofs_submit(&op->request, NULL) == -EINVAL, "a priority over the most is EINVAL at the call");
    op->request.reqprio = -1;
    CHECK(aiofs_submit(&op->request, NULL) == -EINVAL, "a negative priority is EINVAL at the call");
    CHECK(aiofs_request_state(&op->request) == AIOFS_NEW && op->ends == 0, "the refused call started no request");
    op_drop(op);
    int fd = scratch(O_RDWR);
    op = op_new(AIOFS_WRITE, fd, "x", 1, 0);
    op->request.reqprio = AIOFS_PRIO_DELTA_MAX;
    aiofs_submit(&op->request, NULL);
    CHECK(op_finish(op) == 1, "the highest priority is accepted");
    close(fd);
}

int main(void)
{
    check_begin(30);
    check_engine();
    bad_descriptors();
    bad_places();
    bad_memory();
    no_signals();
    priorities();
    CHECK(EVENTUALLY(PATIENCE, ops_alive == 0), "every request was given back");
    return check_end();
}
