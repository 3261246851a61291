/*
 * inline.c - which requests complete inside the call, and which go to the engine.
 */
#include "check.h"
#include "fault.h"

static struct aiofs_counters counters(void)
{
    struct aiofs_counters now_counted;
    aiofs_engine_counters(&now_counted);
    return now_counted;
}

static int64_t read_plain(int fd, void *buffer, size_t size, int64_t offset)
{
    const struct iovec piece = {buffer, size};
    return aiofs_read_inline(NULL, fd, &piece, 1, size, offset, true);
}

static int64_t write_plain(int fd, const void *buffer, size_t size, int64_t offset)
{
    const struct iovec piece = {(void *)buffer, size};
    return aiofs_write_inline(NULL, fd, &piece, 1, size, offset, true);
}

static void on_files(const char *name, const char *directory)
{
    char out[8192], in[8192] = "";
    static char much[AIOFS_INLINE_MAX + 1];
    int fd = scratch_in(directory, O_RDWR);
    fill(out, sizeof out, 3);
    MUST(pwrite(fd, out, sizeof out, 0));
    read_plain(fd, in, 1, 0); /* the engine examines the descriptor */
    uint64_t before = counters().inline_reads;
    CHECK(read_plain(fd, in, sizeof in, 0) == (int64_t)sizeof in && memcmp(in, out, sizeof in) == 0,
          "%s: a cached read", name);
    CHECK(read_plain(fd, in, 100, 8142) == 50 && memcmp(in, out + 8142, 50) == 0,
          "%s: a read at the end of file is short", name);
    CHECK(read_plain(fd, in, 100, 8192) == 0 && read_plain(fd, in, 100, 100000) == 0,
          "%s: a read past the end of file gives 0", name);
    CHECK(counters().inline_reads == before + 4, "%s: inline transfers are counted", name);
    CHECK(read_plain(fd, much, sizeof much, 0) == AIOFS_NOT_INLINE && read_plain(fd, in, 0, 0) == AIOFS_NOT_INLINE &&
              read_plain(fd, in, 10, -1) == AIOFS_NOT_INLINE,
          "%s: too long, empty, before the start: not inside the call", name);
    int64_t put = write_plain(fd, "inline", 6, 10);
    if (put == AIOFS_NOT_INLINE) /* after a slow write, the engine makes no inline writes for a while */
        put = perform(AIOFS_WRITE, fd, "inline", 6, 10);
    CHECK(put == 6 && holds(fd, "inline", 6, 10), "%s: a write over cached pages", name);
    close(fd);
    CHECK(read_plain(fd, in, 10, 0) == AIOFS_NOT_INLINE && write_plain(fd, in, 10, 0) == AIOFS_NOT_INLINE,
          "%s: not on a closed descriptor", name);
}

/* The number of a file is reused for another kind of descriptor. */
static void on_reused_numbers(void)
{
    char in[16];
    int fd = scratch(O_RDWR), pair[2], other;
    MUST(pwrite(fd, "0123456789", 10, 0));
    for (int i = 0; i < 256 && read_plain(fd, in, 10, 0) != 10; i++)
        ;
    MUST(pipe2(pair, O_CLOEXEC));
    MUST(dup3(pair[0], fd, O_CLOEXEC));
    CHECK(read_plain(fd, in, 10, 0) == AIOFS_NOT_INLINE, "a pipe under a file's number does not block");
    MUST(dup3(pair[1], fd, O_CLOEXEC));
    CHECK(write_plain(fd, in, 10, 0) == AIOFS_NOT_INLINE, "no byte is written to the pipe");
    other = scratch_in("/dev/shm", O_RDWR);
    MUST(write(other, "tmpfs", 5));
    MUST(dup3(other, fd, O_CLOEXEC));
    int64_t got = read_plain(fd, in, 5, 0);
    CHECK(got == AIOFS_NOT_INLINE || (got == 5 && memcmp(in, "tmpfs", 5) == 0),
          "another file under the number is read inside the call or left to the engine");
    close(other);
    close(pair[0]);
    close(pair[1]);
    close(fd);
}

static void others_are_left(void)
{
    char *buffer = aligned(4096);
    int pair[2], direct = scratch(O_RDWR | O_DIRECT), append = scratch(O_RDWR | O_APPEND);
    MUST(pipe2(pair, O_CLOEXEC));
    CHECK(read_plain(pair[0], buffer, 10, 0) == AIOFS_NOT_INLINE && write_plain(pair[1], buffer, 10, 0) == AIOFS_NOT_INLINE,
          "streams are never touched inside the call");
    if (direct >= 0) {
        CHECK(read_plain(direct, buffer, 4096, 0) == AIOFS_NOT_INLINE, "an O_DIRECT file is left to the engine");
        close(direct);
    }
    MUST(pwrite(append, buffer, 4096, 0));
    fault_inject("pwritev2", 0, FAULT_LOCK, 0);
    struct op *slow = start(AIOFS_WRITE, append, "first", 5, 0);
    CHECK(write_plain(append, "second", 6, 0) == AIOFS_NOT_INLINE, "an append does not overtake appends in flight");
    fault_clear();
    op_finish(slow);
    close(append);
    close(pair[0]);
    close(pair[1]);
    free(buffer);
}

/* Synchronous writes wait for the device, so they go to the engine. */
static void synchronous_writes_are_left(void)
{
    static const int flags[] = {O_SYNC, O_DSYNC};
    char page[4096] = "", in[4];
    for (size_t i = 0; i < COUNT_OF(flags); i++) {
        aiofs_file *file;
        /* 700: a number that the engine has not examined */
        int opened = scratch(O_RDWR | flags[i]), fd = (int)MUST(fcntl(opened, F_DUPFD_CLOEXEC, 700 + (int)i));
        close(opened);
        MUST(pwrite(fd, page, sizeof page, 0));
        CHECK(write_plain(fd, page, 10, 0) == AIOFS_NOT_INLINE && read_plain(fd, in, 4, 0) == 4,
              "a synchronous write is not made inside the call, a read is");
        if (aiofs_file_adopt(fd, O_RDWR | flags[i], NULL, NULL, NULL, &file) != 0)
            exit(1);
        const struct iovec bytes = {page, 10};
        CHECK(aiofs_write_inline(file, -1, &bytes, 1, 10, 0, true) == AIOFS_NOT_INLINE,
              "a write on a file of aiofs is left to the engine");
        aiofs_file_close(file);
        aiofs_file_release(file);
    }
}

static aiofs_file *page_file(void)
{
    char page[4096] = "";
    aiofs_file *file;
    int fd = scratch(O_RDWR);
    MUST(pwrite(fd, page, sizeof page, 0));
    if (aiofs_file_adopt(fd, O_RDWR, NULL, NULL, NULL, &file) != 0)
        exit(1);
    return file;
}

static int64_t write_byte(aiofs_file *file)
{
    const struct iovec piece = {(void *)"x", 1};
    return aiofs_write_inline(file, -1, &piece, 1, 1, 0, true);
}

static void drop_file(aiofs_file *file)
{
    aiofs_file_close(file);
    aiofs_file_release(file);
}

static void one_bad_descriptor(void)
{
    aiofs_file *file = page_file();
    EVENTUALLY(3, write_byte(file) == 1);
    fault_inject("cachestat", 1, FAULT_ERROR, EBADF);
    write_byte(file);
    fault_clear();
    long asked = fault_calls("cachestat");
    CHECK(asked == 0 || (EVENTUALLY(PATIENCE, write_byte(file) == 1) && fault_calls("cachestat") > asked),
          "a descriptor that cachestat refuses does not end its use");
    drop_file(file);
}

static void slow_writes_stop_it(void)
{
    aiofs_file *file = page_file();
    CHECK(EVENTUALLY(PATIENCE, write_byte(file) == 1), "a quick write is made inside the call");
    fault_inject("pwrite64", 1, FAULT_DELAY, 5000);
    write_byte(file);
    fault_clear();
    CHECK(write_byte(file) == AIOFS_NOT_INLINE, "a slow write turns inline writes off");
    CHECK(EVENTUALLY(PATIENCE, write_byte(file) == 1), "inline writes resume");
    drop_file(file);
}

/* The thread is busy instead of asleep, as if it had been preempted: the kernel counts no voluntary switch. */
static void preempted_writes_do_not(void)
{
    aiofs_file *file = page_file();
    int off = 0;
    CHECK(EVENTUALLY(PATIENCE, write_byte(file) == 1), "a quick write is made inside the call");
    for (int i = 0; i < 20; i++) {
        fault_inject("pwrite64", 1, FAULT_SPIN, 3000);
        write_byte(file);
        fault_clear();
        off += write_byte(file) == AIOFS_NOT_INLINE;
    }
    CHECK(off < 20, "a write that took long, but did not wait, does not turn inline writes off");
    fault_inject("getrusage", 0, FAULT_ERROR, EPERM);
    pause_ms(1); /* so that the next write asks the kernel again */
    fault_inject("pwrite64", 1, FAULT_SPIN, 3000);
    write_byte(file);
    fault_clear();
    CHECK(write_byte(file) == AIOFS_NOT_INLINE, "it does if the kernel does not tell");
    CHECK(EVENTUALLY(PATIENCE, write_byte(file) == 1), "and they resume");
    drop_file(file);
}

/* More rounds than the first back-off is long: only the writes of the worker can keep it up. */
static void slow_workers_prolong_it(void)
{
    enum { ROUNDS = 40, FIRST = 10 };
    aiofs_file *file = page_file();
    int off = 0;
    CHECK(EVENTUALLY(PATIENCE, write_byte(file) == 1), "a quick write is made inside the call");
    pause_ms(1100); /* longer than the longest back-off: the next one is the shortest */
    fault_inject("pwrite64", 1, FAULT_DELAY, 5000);
    write_byte(file);
    fault_inject("pwritev2", 0, FAULT_DELAY, 5000);
    for (int i = 0; i < ROUNDS; i++) {
        op_finish(start_on(file, AIOFS_WRITE, -1, "y", 1, 0));
        off += i >= FIRST && write_byte(file) == AIOFS_NOT_INLINE;
    }
    fault_clear();
    CHECK(off > 0, "while the writes of workers are slow, inline writes stay off");
    CHECK(EVENTUALLY(PATIENCE, write_byte(file) == 1), "when they are quick again, inline writes resume");
    drop_file(file);
}

int main(void)
{
    check_begin(30);
    fault_attach(&aiofs_sys);
    check_engine();
    on_files("disk", NULL);
    on_files("tmpfs", "/dev/shm");
    on_reused_numbers();
    others_are_left();
    synchronous_writes_are_left();
    one_bad_descriptor();
    slow_writes_stop_it();
    preempted_writes_do_not();
    slow_workers_prolong_it();
    return check_end();
}
