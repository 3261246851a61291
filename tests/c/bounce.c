/*
 * bounce.c - reads and writes of buffers that lie badly: the bytes are right, whichever way they take.
 *
 * The test replaces the system calls that read and write by functions that look at where the kernel shall copy.
 */
#include "check.h"
#include "sys.h"

enum { PAGE = 4096, MOST = 700 * 1024, FILE_SIZE = 600 * 1024 + 77, MARGIN = 64 };

static struct aiofs_sys real;
static _Atomic unsigned bad_copies; /* buffers of system calls that lie badly */

static void look(const struct iovec *iov, int count, int64_t offset, bool writes)
{
    for (int i = 0; i < count; offset += (int64_t)iov[i++].iov_len) {
        uintptr_t here = (uintptr_t)iov[i].iov_base, there = (uintptr_t)offset;
        uintptr_t after = (writes ? there - here : here - there) % PAGE;
        if (iov[i].iov_len >= 512 && after >= 1 && after <= 31)
            bad_copies++;
    }
}

static ssize_t seen_preadv2(int fd, const struct iovec *iov, int count, int64_t offset, int flags)
{
    look(iov, count, offset, false);
    return real.preadv2(fd, iov, count, offset, flags);
}

static ssize_t seen_pread64(int fd, void *buffer, size_t size, int64_t offset)
{
    look(&(struct iovec){buffer, size}, 1, offset, false);
    return real.pread64(fd, buffer, size, offset);
}

static ssize_t seen_pwritev2(int fd, const struct iovec *iov, int count, int64_t offset, int flags)
{
    look(iov, count, offset, true);
    return real.pwritev2(fd, iov, count, offset, flags);
}

static ssize_t seen_pwrite64(int fd, const void *buffer, size_t size, int64_t offset)
{
    look(&(struct iovec){(void *)buffer, size}, 1, offset, true);
    return real.pwrite64(fd, buffer, size, offset);
}

static char *memory, *content;

static aiofs_file *filled(const char *directory)
{
    aiofs_file *file;
    int fd = scratch_in(directory, O_RDWR);
    for (size_t at = 0; at < FILE_SIZE;)
        at += (size_t)MUST(pwrite(fd, content + at, FILE_SIZE - at, (off_t)at));
    if (aiofs_file_adopt(fd, O_RDWR, NULL, NULL, NULL, &file) != 0)
        exit(1);
    return file;
}

static void drop(aiofs_file *file)
{
    aiofs_file_close(file);
    aiofs_file_release(file);
}

/* ---- three ways to move bytes ---------------------------------------------------------------------------------- */

enum way { INSIDE, BLOCKING, REQUEST, WAYS };
static const char *const way_names[] = {"inside the call", "blocking", "by the engine"};

static int64_t by_request(aiofs_file *file, int kind, const struct iovec *iov, int count, int64_t offset)
{
    struct op *op = op_new(kind, -1, NULL, 0, offset);
    op->request.iov = iov;
    op->request.iovcnt = count;
    op->request.mapped = true;
    return aiofs_submit(&op->request, file) == 0 ? op_finish(op) : NOT_ENDED;
}

static int64_t read_by(enum way way, aiofs_file *file, const struct iovec *iov, int count, size_t size, int64_t offset)
{
    int64_t got = AIOFS_NOT_INLINE;
    if (way == REQUEST)
        return by_request(file, AIOFS_READ, iov, count, offset);
    if (way == INSIDE)
        got = aiofs_read_inline(file, -1, iov, count, size, offset, true);
    return got != AIOFS_NOT_INLINE ? got : aiofs_file_read(file, iov, count, offset, true);
}

static int64_t write_by(enum way way, aiofs_file *file, const struct iovec *iov, int count, size_t size, int64_t offset)
{
    int64_t put = AIOFS_NOT_INLINE;
    if (way == REQUEST)
        return by_request(file, AIOFS_WRITE, iov, count, offset);
    if (way == INSIDE)
        put = aiofs_write_inline(file, -1, iov, count, size, offset, true);
    return put != AIOFS_NOT_INLINE ? put : aiofs_file_write(file, iov, count, offset, true);
}

/* ---- reads ----------------------------------------------------------------------------------------------------- */

static const size_t sizes[] = {511, 512, 4095, 4096, 4097, 65536, 131072, 131073, 262144, MOST - 3 * PAGE};

static bool untouched(const char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != '#')
            return false;
    return true;
}

static bool reads_right(enum way way, aiofs_file *file, size_t place, size_t size, int64_t offset)
{
    char *buffer = memory + PAGE + place;
    int64_t rest = offset < FILE_SIZE ? FILE_SIZE - offset : 0;
    size_t wanted = rest < (int64_t)size ? (size_t)rest : size;
    const struct iovec piece = {buffer, size};
    memset(buffer - MARGIN, '#', size + 2 * (size_t)MARGIN);
    int64_t got = read_by(way, file, &piece, 1, size, offset);
    bool right = got == (int64_t)wanted && memcmp(buffer, content + (wanted ? offset : 0), wanted) == 0 &&
                 untouched(buffer + wanted, size - wanted + MARGIN) && untouched(buffer - MARGIN, MARGIN);
    if (!right)
        printf("      %s: place %zu, %zu bytes at %lld: %lld\n", way_names[way], place, size, (long long)offset,
               (long long)got);
    return right;
}

static void reads(const char *name, const char *directory)
{
    static const size_t places[] = {0, 1, 8, 16, 31, 32, 4080};
    static const int64_t offsets[] = {0, 1, 4090, 8192, FILE_SIZE - 5000, FILE_SIZE - 1, FILE_SIZE, FILE_SIZE + 9};
    aiofs_file *file = filled(directory);
    for (enum way way = 0; way < WAYS; way++) {
        int wrong = 0;
        for (size_t p = 0; p < COUNT_OF(places); p++)
            for (size_t s = 0; s < COUNT_OF(sizes); s++)
                for (size_t o = 0; o < COUNT_OF(offsets); o++)
                    wrong += !reads_right(way, file, places[p], sizes[s], offsets[o]);
        CHECK(wrong == 0, "%s, %s: every read gives the right bytes, and touches no others", name, way_names[way]);
        bad_copies = 0;
        CHECK(reads_right(way, file, 16, 65536, 4096) && bad_copies == 0,
              "%s, %s: the kernel copies to a place that lies well", name, way_names[way]);
    }
    drop(file);
}

static void vectored_reads(void)
{
    static const size_t lengths[] = {10, 5000, 1, 140000, 600, 3};
    static const size_t places[] = {0, 8192, 20480, 24576, 204800, 208896};
    struct iovec pieces[COUNT_OF(lengths)];
    aiofs_file *file = filled(NULL);
    size_t size = 0;
    for (size_t i = 0; i < COUNT_OF(lengths); size += lengths[i++])
        pieces[i] = (struct iovec){memory + PAGE + 16 + places[i], lengths[i]};
    for (enum way way = BLOCKING; way < WAYS; way++) {
        memset(memory, '#', MOST);
        bool right = read_by(way, file, pieces, COUNT_OF(lengths), size, 4096) == (int64_t)size;
        const char *wanted = content + 4096;
        for (size_t i = 0; i < COUNT_OF(lengths); wanted += lengths[i++])
            right = right && memcmp(pieces[i].iov_base, wanted, lengths[i]) == 0;
        CHECK(right, "%s: several buffers are filled in their order", way_names[way]);
    }
    drop(file);
}

/* ---- writes ---------------------------------------------------------------------------------------------------- */

static void writes(const char *name, const char *directory)
{
    static const size_t places[] = {0, 16, 4065, 4080, 4095};
    char *back = malloc(MOST);
    aiofs_file *file = filled(directory);
    for (enum way way = 0; way < WAYS; way++) {
        int wrong = 0;
        bad_copies = 0;
        for (size_t p = 0; p < COUNT_OF(places); p++)
            for (size_t s = 0; s < COUNT_OF(sizes); s++) {
                const struct iovec piece = {memory + PAGE + places[p], sizes[s]};
                fill(piece.iov_base, sizes[s], (unsigned)(p * 31 + s));
                wrong += write_by(way, file, &piece, 1, sizes[s], 8192) != (int64_t)sizes[s] ||
                         MUST(pread(aiofs_file_fd(file), back, sizes[s], 8192)) != (ssize_t)sizes[s] ||
                         memcmp(back, piece.iov_base, sizes[s]) != 0;
            }
        CHECK(wrong == 0, "%s, %s: every write puts the right bytes", name, way_names[way]);
        const struct iovec piece = {memory + PAGE + 4080, 65536};
        bad_copies = 0;
        CHECK(write_by(way, file, &piece, 1, 65536, 8192) == 65536 && bad_copies == 0,
              "%s, %s: the kernel copies from a place that lies well", name, way_names[way]);
    }
    drop(file);
    free(back);
}

/* ---- what takes no bounce buffer ------------------------------------------------------------------------------- */

static void on_plain_descriptors(void)
{
    int fd = scratch(O_RDWR | O_APPEND), pair[2];
    char *buffer = memory + PAGE + 16, *late = memory + PAGE + 4080;
    MUST(pwrite(fd, content, 65536, 0));
    memcpy(late, content + 65536, 8192);
    const struct iovec piece = {late, 8192};
    int64_t put = aiofs_write_inline(NULL, fd, &piece, 1, 8192, 0, true);
    if (put == AIOFS_NOT_INLINE)
        put = perform(AIOFS_WRITE, fd, late, 8192, 0);
    CHECK(put == 8192 && holds(fd, content, 65536 + 8192, 0), "an append goes to the end of the file");
    MUST(pipe2(pair, O_CLOEXEC));
    MUST(write(pair[1], content, 4096));
    struct op *op = op_new(AIOFS_READ, pair[0], buffer, 4096, 0);
    op->request.mapped = true;
    CHECK(aiofs_submit(&op->request, NULL) == 0 && op_finish(op) == 4096 && memcmp(buffer, content, 4096) == 0,
          "a stream is read directly");
    close(pair[0]);
    close(pair[1]);
    close(fd);
}

/* Without the face's word the kernel makes the copy, and says EFAULT. */
static void bad_memory(void)
{
    char *nowhere = mmap(NULL, 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    aiofs_file *file = filled(NULL);
    const struct iovec piece = {nowhere + 16, 4096};
    CHECK(aiofs_read_inline(file, -1, &piece, 1, 4096, 0, false) == AIOFS_NOT_INLINE &&
              aiofs_file_read(file, &piece, 1, 0, false) == -EFAULT &&
              perform(AIOFS_READ, aiofs_file_fd(file), nowhere + 16, 4096, 0) == -EFAULT,
          "memory that nobody vouches for is EFAULT");
    munmap(nowhere, 2 * PAGE);
    drop(file);
}

static void measurement(void)
{
    aiofs_file *file = filled(NULL);
    aiofs_bounce = AIOFS_BOUNCE_UNKNOWN;
    CHECK(reads_right(INSIDE, file, 0, 4096, 0) && aiofs_bounce == AIOFS_BOUNCE_UNKNOWN,
          "a buffer that lies well measures nothing");
    CHECK(reads_right(INSIDE, file, 16, 4096, 0) && aiofs_bounce != AIOFS_BOUNCE_UNKNOWN,
          "the first buffer that lies badly measures");
    aiofs_bounce = AIOFS_BOUNCE_NEVER;
    bad_copies = 0;
    CHECK(reads_right(BLOCKING, file, 16, 4096, 0) && bad_copies > 0,
          "where it does not help, reads go directly into the buffer");
    drop(file);
}

int main(void)
{
    check_begin(120);
    real = aiofs_sys;
    aiofs_sys.preadv2 = seen_preadv2;
    aiofs_sys.pread64 = seen_pread64;
    aiofs_sys.pwritev2 = seen_pwritev2;
    aiofs_sys.pwrite64 = seen_pwrite64;
    check_engine();
    memory = mmap(NULL, MOST + 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    content = malloc(FILE_SIZE);
    fill(content, FILE_SIZE, 11);
    aiofs_bounce = AIOFS_BOUNCE_ALWAYS;
    reads("disk", NULL);
    reads("tmpfs", "/dev/shm");
    vectored_reads();
    writes("disk", NULL);
    writes("tmpfs", "/dev/shm");
    on_plain_descriptors();
    bad_memory();
    measurement();
    free(content);
    return check_end();
}
