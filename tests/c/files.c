/*
 * files.c - owned files: adopting them, closing them with requests in flight, the lock on their entry, and files with
 * their own operations.
 */
#include "check.h"
#include "fault.h"

#include "volume.h"

static aiofs_volume *volume;

static aiofs_file *open_locked(const char *path, int *owner)
{
    aiofs_file *file;
    int error = aiofs_volume_open_file(volume, path, O_RDWR | O_CREAT, 0600, AIOFS_LOCK_EXCLUSIVE, owner, &file);
    if (error < 0) {
        printf("FAIL  opening %s: %s\n", path, strerror(-error));
        exit(1);
    }
    return file;
}

/* Can another owner take the lock now? */
static bool lock_is_free(const char *path)
{
    int stranger = 0;
    aiofs_lock_ref *lock_ref;
    if (aiofs_lock_ref_take(volume, path, AIOFS_LOCK_EXCLUSIVE, &stranger, &lock_ref) != 0)
        return false;
    aiofs_lock_ref_release(lock_ref);
    return true;
}

static void lock_is_released_at_close(void)
{
    int owner, before = open_descriptors(), engine_before = engine_descriptors();
    aiofs_file *file = open_locked("idle", &owner);
    CHECK(!lock_is_free("idle"), "an open file locks its entry");
    CHECK(op_finish(start_on(file, AIOFS_WRITE, -1, "x", 1, 0)) == 1, "a write");
    int fd = aiofs_file_fd(file);
    aiofs_file *found = aiofs_file_find(fd);
    CHECK(found == file, "the descriptor finds its file");
    aiofs_file_release(found);
    CHECK(aiofs_file_close(file) == 0 && lock_is_free("idle"),
          "with nothing in flight the lock is free when close returns");
    CHECK(fcntl(fd, F_GETFD) == -1 && aiofs_file_find(fd) == NULL,
          "the descriptor number is free when close returns");
    CHECK(aiofs_file_close(file) == -EBADF, "a second close is EBADF");
    CHECK(op_finish(start_on(file, AIOFS_READ, -1, NULL, 1, 0)) == -EBADF, "a request afterwards ends with EBADF");
    aiofs_file_release(file);
    CHECK(EVENTUALLY(PATIENCE, engine_descriptors() == engine_before), "the engine has released the file");
    CHECK(open_descriptors() <= before + 2, "no descriptor is left but those of a lock file and of .aiofs/waits");
}

static void lock_is_released_after_the_last_request(void)
{
    enum { COUNT = 5 };
    struct op *ops[COUNT];
    int owner;
    aiofs_file *file = open_locked("busy", &owner);
    fault_inject("pwritev2", 0, FAULT_DELAY, 30000);
    for (int i = 0; i < COUNT; i++)
        ops[i] = start_on(file, AIOFS_WRITE, -1, "busy", 4, i * 4);
    CHECK(aiofs_file_close(file) == 0, "closed with writes in flight");
    for (;;) { /* the lock must stay until each write has moved its bytes */
        bool free = lock_is_free("busy");
        if (free)
            break;
        pause_ms(1);
    }
    struct stat stat;
    CHECK(aiofs_volume_stat(volume, "busy", &stat) == 0 && stat.st_size == COUNT * 4,
          "the lock is not free before the last write is made");
    for (int i = 0; i < COUNT; i++)
        CHECK(op_finish(ops[i]) == 4, "write %d of the closed file", i);
    aiofs_file_release(file);
    fault_clear();

    int unfinished = 0;
    for (int i = 0; i < 100; i++) {
        file = open_locked("busy", &owner);
        struct op *op = start_on(file, AIOFS_WRITE, -1, "x", 1, 0);
        aiofs_file_close(file);
        op_finish(op);
        unfinished += !lock_is_free("busy");
        aiofs_file_release(file);
    }
    CHECK(unfinished == 0, "the lock is free when the last write's status is final (%d unfinished)", unfinished);
    for (int i = unfinished = 0; i < 100; i++) {
        file = open_locked("busy", &owner);
        op_finish(start_on(file, AIOFS_WRITE, -1, "x", 1, 0));
        aiofs_file_close(file);
        unfinished += !lock_is_free("busy");
        aiofs_file_release(file);
    }
    CHECK(unfinished == 0, "the lock is free when close returns after the last write");
}

static void lock_is_released_after_cancelling(void)
{
    int owner;
    aiofs_file *file = open_locked("busy", &owner);
    long calls = fault_calls("pwritev2");
    fault_inject("pwritev2", 0, FAULT_LOCK, 0);
    struct op *first = start_on(file, AIOFS_WRITE, -1, "1", 1, 0);
    CHECK(EVENTUALLY(PATIENCE, fault_calls("pwritev2") > calls), "the first write has begun");
    struct op *second = start_on(file, AIOFS_WRITE, -1, "2", 1, 1), *flush = start_on(file, AIOFS_FLUSH, -1, NULL, 0, 0);
    aiofs_file_close(file);
    CHECK(aiofs_cancel(&flush->request) == AIOFS_CANCEL_CANCELED && aiofs_cancel(&second->request) == AIOFS_CANCEL_CANCELED,
          "those that wait on a closed file are cancelled");
    CHECK(!lock_is_free("busy"), "the running write keeps the lock");
    fault_clear();
    CHECK(op_finish(first) == 1 && lock_is_free("busy"), "the lock is free when the running write ends");
    op_drop(second);
    op_drop(flush);
    aiofs_file_release(file);
}

static void number_is_lost(void)
{
    int owner;
    aiofs_file *file = open_locked("lost", &owner);
    int fd = aiofs_file_fd(file);
    struct op *op = start_on(file, AIOFS_WRITE, -1, "mine", 4, 0);
    op_finish(op);
    int other = scratch(O_RDWR), thief = dup3(other, fd, O_CLOEXEC); /* the number is reused */
    close(other);
    op = start_on(file, AIOFS_WRITE, -1, "still", 5, 0);
    CHECK(op_finish(op) == 5 && lseek(thief, 0, SEEK_END) == 0, "requests still go to the right file");
    CHECK(aiofs_file_close(file) == -EBADF && fcntl(thief, F_GETFD) >= 0,
          "close says EBADF, and leaves the other file open");
    CHECK(lock_is_free("lost"), "the lock is free");
    aiofs_file_release(file);
    file = open_locked("lost", &owner);
    dup3(thief, aiofs_file_fd(file), O_CLOEXEC);
    CHECK(op_finish(start_on(file, AIOFS_WRITE, -1, "none", 4, 0)) == -EBADF && lseek(thief, 0, SEEK_END) == 0,
          "before the first request: EBADF, and the other file is left alone");
    close(aiofs_file_fd(file));
    aiofs_file_close(file);
    aiofs_file_release(file);
    close(thief);
}

static void drains(void)
{
    int owner;
    aiofs_file *file = open_locked("busy", &owner);
    fault_inject("pwritev2", 0, FAULT_DELAY, 20000);
    struct op *ops[4];
    for (int i = 0; i < 4; i++)
        ops[i] = start_on(file, AIOFS_WRITE, -1, "x", 1, i);
    CHECK(aiofs_file_busy(file), "with requests in flight a file is busy");
    aiofs_file_drain(file);
    CHECK(!aiofs_file_busy(file), "a drained file is not busy");
    for (int i = 0; i < 4; i++)
        CHECK(op_finish(ops[i]) == 1, "requests in flight have ended");
    fault_clear();
    CHECK(op_finish(start_on(file, AIOFS_WRITE, -1, "x", 1, 0)) == -EBADF, "a drained file takes no more requests");
    char byte = 'x';
    CHECK(aiofs_write_inline(file, -1, &(struct iovec){&byte, 1}, 1, 1, 0, true) == AIOFS_NOT_INLINE,
          "a drained file takes no request inside the call");
    aiofs_file_close(file);
    aiofs_file_release(file);
}

static void *write_inside_the_call(void *file)
{
    char bytes[] = "mine";
    aiofs_write_inline(file, -1, &(struct iovec){bytes, 4}, 1, 4, 0, true);
    return NULL;
}

/* A write inside the call uses the number. So the close of the file waits for it, and the number is not reused. */
static void closes_behind_a_write_inside_the_call(void)
{
    int owner;
    aiofs_file *file = open_locked("late", &owner);
    int fd = aiofs_file_fd(file);
    pthread_t thread;
    op_finish(start_on(file, AIOFS_WRITE, -1, "cached", 6, 0));
    fault_inject("pwrite64", 0, FAULT_DELAY, 100000);
    pthread_create(&thread, NULL, write_inside_the_call, file);
    usleep(30000);
    aiofs_file_close(file);
    int other = open("other", O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(other == fd, "another file reuses the descriptor number");
    pthread_join(thread, NULL);
    fault_clear();
    CHECK(lseek(other, 0, SEEK_END) == 0, "the other file is left alone");
    close(other);
    unlink("other");
    aiofs_file_release(file);
}

static void truncates(void)
{
    int owner;
    char in[8] = "";
    aiofs_file *file = open_locked("cut", &owner);
    op_finish(start_on(file, AIOFS_WRITE, -1, "0123456789", 10, 0));
    struct op *cut = start_on(file, AIOFS_TRUNCATE, -1, NULL, 0, 4);
    CHECK(op_finish(cut) == 0 && aiofs_file_size(file) == 4, "truncated");
    CHECK(op_finish(start_on(file, AIOFS_TRUNCATE, -1, NULL, 0, 8)) == 0 &&
              op_finish(start_on(file, AIOFS_READ, -1, in, 8, 0)) == 8 && memcmp(in, "0123\0\0\0\0", 8) == 0,
          "made longer, by zeros");
    CHECK(op_finish(start_on(file, AIOFS_TRUNCATE, -1, NULL, 0, -1)) == -EINVAL,
          "truncate to a negative size is refused");
    aiofs_file_close(file);
    aiofs_file_release(file);
}

/* Several threads open, write and close: no lock and no descriptor is left. */
static void *open_and_close(void *argument)
{
    char path[16];
    int owner, refused = 0;
    snprintf(path, sizeof path, "own%d", (int)(intptr_t)argument);
    for (int i = 0; i < 150; i++) {
        aiofs_file *file;
        if (aiofs_volume_open_file(volume, path, O_RDWR | O_CREAT, 0600, AIOFS_LOCK_EXCLUSIVE, &owner, &file) != 0) {
            refused++;
            continue;
        }
        struct op *op = start_on(file, AIOFS_WRITE, -1, "x", 1, i);
        aiofs_file_close(file);
        op_finish(op);
        aiofs_file_release(file);
    }
    return (void *)(intptr_t)refused;
}

static void by_many_threads(void)
{
    pthread_t threads[4];
    intptr_t refused = 0;
    for (intptr_t i = 0; i < 4; i++) /* opens the lock files, which the volume keeps open */
        open_and_close((void *)i);
    int before = open_descriptors(), engine_before = engine_descriptors();
    for (intptr_t i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, open_and_close, (void *)i);
    for (int i = 0; i < 4; i++) {
        void *count;
        pthread_join(threads[i], &count);
        refused += (intptr_t)count;
    }
    CHECK(refused == 0,
          "600 files opened, written and closed by four threads: none finds its own lock taken (%d)", (int)refused);
    CHECK(EVENTUALLY(PATIENCE, engine_descriptors() <= engine_before) && open_descriptors() <= before,
          "no descriptor is left");
    CHECK(aiofs_volume_lock_count(volume, "") == 0, "no lock reference is left");
}

/* ---- files with their own operations ----------------------------------------------------------------------------- */

static struct {
    char bytes[256];
    int64_t size;
    int closed, released, calls;
    aiofs_request *kept[2];
    int kept_count;
    bool keeps;
} memory;

static int64_t memory_read(void *self, const struct iovec *iov, int iovcnt, int64_t offset)
{
    (void)self;
    (void)iovcnt;
    memory.calls++;
    int64_t left = offset < memory.size ? memory.size - offset : 0;
    size_t count = iov[0].iov_len < (size_t)left ? iov[0].iov_len : (size_t)left;
    memcpy(iov[0].iov_base, memory.bytes + (offset < memory.size ? offset : 0), count);
    return (int64_t)count;
}

static int64_t memory_write(void *self, const struct iovec *iov, int iovcnt, int64_t offset)
{
    (void)self;
    (void)iovcnt;
    memory.calls++;
    memcpy(memory.bytes + offset, iov[0].iov_base, iov[0].iov_len);
    if (offset + (int64_t)iov[0].iov_len > memory.size)
        memory.size = offset + (int64_t)iov[0].iov_len;
    return (int64_t)iov[0].iov_len;
}

static int64_t memory_size(void *self)
{
    (void)self;
    return memory.size;
}

static int64_t memory_truncate(void *self, int64_t size)
{
    (void)self;
    return memory.size = size, 0;
}

static int64_t memory_flush(void *self)
{
    (void)self;
    return 0;
}

static void memory_submit(void *self, aiofs_request *request)
{
    if (memory.keeps)
        memory.kept[memory.kept_count++] = request;
    else
        aiofs_complete(request, request->op == AIOFS_WRITE ? memory_write(self, request->iov, 1, request->offset)
                                                           : memory_read(self, request->iov, 1, request->offset));
}

static void memory_close(void *self)
{
    (void)self;
    memory.closed++;
}

static void memory_release(void *self)
{
    (void)self;
    memory.released++;
}

static const struct aiofs_ops synchronous = {memory_read,  memory_write, memory_size,  memory_truncate,
                                             memory_flush, NULL,         memory_close, memory_release,
                                             false};
static const struct aiofs_ops submitting = {memory_read,  memory_write,  memory_size,  memory_truncate,
                                            memory_flush, memory_submit, memory_close, memory_release,
                                             false};

static aiofs_file *adopt_memory(const struct aiofs_ops *ops)
{
    aiofs_file *file;
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    memset(&memory, 0, sizeof memory);
    if (aiofs_file_adopt(fd, O_RDWR, NULL, ops, &memory, &file) != 0)
        exit(1);
    return file;
}

static void own_operations(void)
{
    char in[8] = "";
    aiofs_file *file = adopt_memory(&synchronous);
    struct op *write = start_on(file, AIOFS_WRITE, -1, "memory", 6, 3);
    CHECK(op_ended(write), "a synchronous operation ends inside the call");
    CHECK(op_finish(write) == 6, "a synchronous operation gives its count");
    CHECK(op_finish(start(AIOFS_READ, aiofs_file_fd(file), in, 3, 4)) == 3 && memcmp(in, "emo", 3) == 0,
          "its descriptor leads to it");
    CHECK(op_finish(start_on(file, AIOFS_FSYNC, -1, NULL, 0, 0)) == 0, "a sync");
    aiofs_file *submission = aiofs_file_find(aiofs_file_fd(file));
    aiofs_file_close(file);
    aiofs_file_release(file);
    CHECK(memory.closed == 1 && memory.released == 0,
          "the file is closed once and outlives a submission that holds a reference");
    CHECK(op_finish(start_on(submission, AIOFS_WRITE, -1, "late", 4, 0)) == -EBADF,
          "a submission on the closed file is refused");
    aiofs_file_release(submission);
    CHECK(memory.closed == 1 && memory.released == 1, "the last reference releases the file once");
}

static void *complete_first(void *argument)
{
    aiofs_complete(memory.kept[0], 1);
    return argument;
}

static void kept_requests(void)
{
    enum { COUNT = SANITIZED ? 1000 : 5000 };
    static struct op *ops[COUNT];
    aiofs_file *file = adopt_memory(&submitting);
    memory.keeps = true;
    for (int i = 0; i < COUNT; i++) {
        ops[i] = op_new(AIOFS_WRITE, -1, "x", 1, 0);
        ops[i]->request.ordered = true; /* each waits for the previous one */
        aiofs_submit(&ops[i]->request, file);
    }
    CHECK(memory.kept_count == 1, "ordered requests reach the file one by one");
    aiofs_file_close(file);
    CHECK(memory.closed == 0, "the file is not closed while requests are outstanding");
    memory.keeps = false;
    pthread_t thread; /* its stack is too small for COUNT nested calls */
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, SANITIZED ? 1 * MB : 128 * KB);
    pthread_create(&thread, &attributes, complete_first, NULL);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attributes);
    int good = 0;
    for (int i = 0; i < COUNT; i++)
        good += op_finish(ops[i]) == 1;
    CHECK(good == COUNT, "a chain of %d requests, each unblocked by the previous one, on one stack", COUNT);
    CHECK(memory.closed == 1, "the file is closed after its last request");
    aiofs_file_release(file);
}

int main(void)
{
    char directory[] = "/tmp/aiofs-volume-XXXXXX", command[64];
    check_begin(40);
    fault_attach(&aiofs_sys);
    check_engine();
    MUST(mkdtemp(directory) ? 0 : -1);
    if (aiofs_volume_open(directory, 0, -1, &volume) != 0)
        exit(1);
    op_finish(start(AIOFS_READ, -1, NULL, 1, 0));
    lock_is_released_at_close();
    lock_is_released_after_the_last_request();
    lock_is_released_after_cancelling();
    number_is_lost();
    drains();
    closes_behind_a_write_inside_the_call();
    truncates();
    by_many_threads();
    own_operations();
    kept_requests();
    CHECK(EVENTUALLY(PATIENCE, ops_alive == 0), "every request was given back");
    struct aiofs_counters counters;
    aiofs_engine_counters(&counters);
    CHECK(counters.files == 0 && counters.outstanding == 0, "the engine holds no file (%d)", (int)counters.files);
    aiofs_volume_release(volume);
    snprintf(command, sizeof command, "rm -rf %s", directory);
    return system(command) != 0 || check_end();
}
