/*
 * order.c - the order of the requests of one file. A fault makes the writes slow.
 */
#include "check.h"
#include "fault.h"

static void slow_writes(long milliseconds)
{
    fault_inject("pwritev2", 0, FAULT_DELAY, milliseconds * 1000);
}

static void appends(void)
{
    enum { COUNT = 30 };
    struct op *ops[COUNT];
    char expected[COUNT * 4 + 1], texts[COUNT][5];
    int fd = scratch(O_RDWR | O_APPEND);
    slow_writes(3);
    for (int i = 0; i < COUNT; i++) {
        snprintf(texts[i], 5, "%03d;", i);
        memcpy(expected + 4 * i, texts[i], 4);
        ops[i] = op_new(AIOFS_WRITE, fd, texts[i], 4, 0);
        ops[i]->request.reqprio = COUNT > i ? (COUNT - i) % 20 : 0; /* which must not change the order */
        aiofs_submit(&ops[i]->request, NULL);
    }
    for (int i = 0; i < COUNT; i++)
        op_finish(ops[i]);
    fault_clear();
    CHECK(holds(fd, expected, COUNT * 4, 0),
          "appends land in the order of the calls, however slow, whatever their priority");
    close(fd);
}

static void sync_comes_last(int kind, const char *name)
{
    enum { COUNT = 8 };
    struct op *ops[COUNT];
    int fd = scratch(O_RDWR), early = 0;
    slow_writes(10);
    for (int i = 0; i < COUNT; i++) {
        ops[i] = op_new(AIOFS_WRITE, fd, "12345678", 8, i * 5000);
        ops[i]->request.reqprio = AIOFS_PRIO_DELTA_MAX;
        aiofs_submit(&ops[i]->request, NULL);
    }
    struct op *sync = start(kind, fd, NULL, 0, 0), *later = start(AIOFS_WRITE, fd, "x", 1, 0);
    CHECK(op_result(sync) == 0, "%s behind slow writes", name);
    for (int i = 0; i < COUNT; i++)
        early += !op_ended(ops[i]);
    CHECK(early == 0, "%s ends after every request before it, whatever their priority", name);
    for (int i = 0; i < COUNT; i++)
        op_finish(ops[i]);
    op_finish(later);
    op_drop(sync);
    fault_clear();
    close(fd);
}

static void several_syncs(void)
{
    int fd = scratch(O_RDWR);
    slow_writes(10);
    fault_inject("fsync", 0, FAULT_DELAY, 10000);
    struct op *ops[6];
    for (int i = 0; i < 6; i++)
        ops[i] = i % 2 ? start(AIOFS_FSYNC, fd, NULL, 0, 0) : start(AIOFS_WRITE, fd, "abc", 3, 0);
    for (int i = 0; i < 6; i++)
        op_notified(ops[i]);
    CHECK(ops[1]->order < ops[3]->order && ops[3]->order < ops[5]->order && ops[0]->order < ops[1]->order &&
              ops[2]->order < ops[3]->order && ops[4]->order < ops[5]->order,
          "each fsync waits for what was before it");
    for (int i = 0; i < 6; i++)
        op_drop(ops[i]);
    fault_clear();
    close(fd);
}

static void priorities(void)
{
    enum { COUNT = 10 };
    struct op *ops[COUNT];
    int fd = scratch(O_RDWR);
    long calls = fault_calls("pwritev2");
    fault_inject("pwritev2", 0, FAULT_LOCK, 0);
    struct op *first = start(AIOFS_WRITE, fd, "x", 1, 0);
    CHECK(EVENTUALLY(PATIENCE, fault_calls("pwritev2") > calls), "a write has begun");
    for (int i = 0; i < COUNT; i++) {
        ops[i] = op_new(AIOFS_WRITE, fd, "y", 1, i);
        ops[i]->request.reqprio = COUNT - i;
        aiofs_submit(&ops[i]->request, NULL);
    }
    struct op *same = op_new(AIOFS_WRITE, fd, "z", 1, 50);
    same->request.reqprio = 1;
    aiofs_submit(&same->request, NULL);
    slow_writes(1);
    for (int i = 0; i < COUNT; i++)
        op_notified(ops[i]);
    op_notified(same);
    int wrong = 0;
    for (int i = 1; i < COUNT; i++)
        wrong += ops[i]->order > ops[i - 1]->order;
    CHECK(wrong == 0, "among waiting requests the lower effective priority runs later");
    CHECK(same->order > ops[COUNT - 1]->order && same->order < ops[COUNT - 2]->order,
          "requests of equal priority keep the order of the calls");
    op_finish(first);
    for (int i = 0; i < COUNT; i++)
        op_drop(ops[i]);
    op_drop(same);
    fault_clear();
    close(fd);

    int pair[2];
    char text[8] = "", bytes[65536] = "";
    MUST(pipe2(pair, O_CLOEXEC));
    struct op *block = start(AIOFS_WRITE, pair[1], bytes, sizeof bytes, 0), *fill_it = start(AIOFS_WRITE, pair[1], "-", 1, 0);
    struct op *second = op_new(AIOFS_WRITE, pair[1], "2", 1, 0), *third = op_new(AIOFS_WRITE, pair[1], "3", 1, 0);
    second->request.reqprio = 20;
    aiofs_submit(&second->request, NULL);
    aiofs_submit(&third->request, NULL);
    for (size_t have = 0; have < sizeof bytes;)
        have += (size_t)MUST(read(pair[0], bytes, sizeof bytes - have));
    op_finish(block);
    op_finish(fill_it);
    op_finish(second);
    op_finish(third);
    CHECK(read(pair[0], text, 8) == 3 && memcmp(text, "-23", 3) == 0,
          "writes to a pipe land in the order of the calls");
    close(pair[0]);
    close(pair[1]);
}

/* ---- ordered requests, as those of an access handle ------------------------------------------------------------ */

enum { SIZE = 40000 };

struct model {
    unsigned char bytes[SIZE * 2];
    int64_t size;
};

static void model_write(struct model *model, const void *bytes, int64_t size, int64_t at)
{
    if (at > model->size)
        memset(model->bytes + model->size, 0, (size_t)(at - model->size));
    memcpy(model->bytes + at, bytes, (size_t)size);
    if (at + size > model->size)
        model->size = at + size;
}

static void model_truncate(struct model *model, int64_t size)
{
    if (size > model->size)
        memset(model->bytes + model->size, 0, (size_t)(size - model->size));
    model->size = size;
}

static int64_t model_read(const struct model *model, void *bytes, int64_t size, int64_t at)
{
    int64_t left = at < model->size ? model->size - at : 0;
    int64_t count = size < left ? size : left;
    memcpy(bytes, model->bytes + at, (size_t)count);
    return count;
}

static struct op *ordered(aiofs_file *file, int kind, const void *buffer, size_t size, int64_t offset)
{
    struct op *op = op_new(kind, -1, buffer, size, offset);
    op->request.ordered = true;
    if (kind == AIOFS_TRUNCATE || kind == AIOFS_FLUSH)
        op->request.iovcnt = 0;
    if (aiofs_submit(&op->request, file) != 0)
        exit(1);
    return op;
}

static void as_if_serialised(const char *name, const char *directory, int extra, long delay_us, unsigned seed)
{
    enum { COUNT = 300, MOST = 3000 };
    static struct model model;
    static unsigned char expected[COUNT][MOST];
    static int64_t counts[COUNT];
    struct op *ops[COUNT];
    unsigned char *buffers = aligned((size_t)COUNT * MOST);
    aiofs_file *file;
    int wrong = 0, fd = scratch_in(directory, O_RDWR | extra);
    int twin = dup(fd);
    if (aiofs_file_adopt(fd, O_RDWR | extra, NULL, NULL, NULL, &file) != 0)
        exit(1);
    fault_inject("pwritev2", -1, FAULT_DELAY, delay_us);
    fault_inject("preadv2", -1, FAULT_DELAY, delay_us / 2);
    srand(seed);
    memset(&model, 0, sizeof model);
    for (int i = 0; i < COUNT; i++) {
        unsigned char *buffer = buffers + (size_t)i * MOST;
        int64_t at = rand() % SIZE, size = 1 + rand() % (MOST - 1);
        int dice = rand() % 20;
        counts[i] = size;
        if (dice == 0) {
            counts[i] = 0;
            model_truncate(&model, at);
            ops[i] = ordered(file, AIOFS_TRUNCATE, NULL, 0, at);
        } else if (dice == 1) {
            counts[i] = 0;
            ops[i] = ordered(file, AIOFS_FLUSH, NULL, 0, 0);
        } else if (dice < 10) {
            fill(buffer, (size_t)size, (unsigned)i);
            model_write(&model, buffer, size, at);
            ops[i] = ordered(file, AIOFS_WRITE, buffer, (size_t)size, at);
        } else {
            counts[i] = model_read(&model, expected[i], size, at);
            ops[i] = ordered(file, AIOFS_READ, buffer, (size_t)size, at);
        }
    }
    for (int i = 0; i < COUNT; i++) {
        int64_t result = op_result(ops[i]);
        bool read = ops[i]->request.op == AIOFS_READ;
        if (result != counts[i] || (read && memcmp(expected[i], buffers + (size_t)i * MOST, (size_t)result) != 0))
            wrong++;
        op_drop(ops[i]);
    }
    fault_clear();
    CHECK(wrong == 0, "%s: %d ordered requests, each as if alone", name, COUNT);
    CHECK(holds(twin, model.bytes, (size_t)model.size, 0) && lseek(twin, 0, SEEK_END) == model.size,
          "%s: and the file as if they came one by one", name);
    aiofs_file_close(file);
    aiofs_file_release(file);
    close(twin);
    free(buffers);
}

static void disjoint_run_at_once(void)
{
    char in[8] = "";
    aiofs_file *file;
    int fd = scratch(O_RDWR);
    MUST(pwrite(fd, "0123456789", 10, 0));
    aiofs_file_adopt(fd, O_RDWR, NULL, NULL, NULL, &file);
    fault_inject("pwritev2", 0, FAULT_LOCK, 0);
    struct op *write = ordered(file, AIOFS_WRITE, "abc", 3, 0);
    struct op *overlapping = ordered(file, AIOFS_READ, in, 4, 2);
    pause_ms(50);
    CHECK(!op_ended(overlapping), "a read that overlaps an earlier write waits for it");
    fault_clear();
    CHECK(op_result(overlapping) == 4 && memcmp(in, "c345", 4) == 0, "the read sees the bytes of the earlier write");
    op_finish(overlapping);
    op_finish(write);
    aiofs_file_close(file);
    aiofs_file_release(file);
}

int main(void)
{
    check_begin(40);
    unsigned seed = chance(1);
    fault_attach(&aiofs_sys);
    check_engine();
    appends();
    sync_comes_last(AIOFS_FSYNC, "fsync");
    sync_comes_last(AIOFS_FDATASYNC, "fdatasync");
    several_syncs();
    priorities();
    as_if_serialised("disk", NULL, 0, 1000, seed);
    as_if_serialised("disk", NULL, 0, 0, seed + 1);
    as_if_serialised("tmpfs", "/dev/shm", 0, 500, seed + 2);
    disjoint_run_at_once();
    CHECK(EVENTUALLY(PATIENCE, ops_alive == 0), "every request was given back");
    return check_end();
}
