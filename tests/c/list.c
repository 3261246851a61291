/*
 * list.c - aiofs_submit_many: each request is accepted, refused or completed as aiofs_submit would do it.
 */
#include "check.h"
#include "fault.h"

static struct aiofs_batch_entry entry(int kind, int fd, const void *buffer, size_t size, int64_t offset)
{
    struct op *op = op_new(kind, fd, buffer, size, offset);
    return (struct aiofs_batch_entry){&op->request, NULL, 0};
}

static int64_t result_of(struct aiofs_batch_entry *one)
{
    return op_finish((struct op *)one->request);
}

static void each_as_if_alone(void)
{
    enum { GOOD, BAD, PIPE, HIGH, SYNC_OF_NONE, EMPTY, CALLED, LAST, COUNT };
    static char in[8];
    struct aiofs_batch_entry list[COUNT];
    int fd = scratch(O_RDWR), pair[2];
    MUST(pipe2(pair, O_CLOEXEC));
    list[GOOD] = entry(AIOFS_WRITE, fd, "good", 4, 0);
    list[BAD] = entry(AIOFS_WRITE, -1, "x", 1, 0);
    list[PIPE] = entry(AIOFS_READ, pair[0], in, 8, 0);
    list[HIGH] = entry(AIOFS_WRITE, fd, "x", 1, 0);
    list[HIGH].request->reqprio = 21;
    list[SYNC_OF_NONE] = entry(AIOFS_FSYNC, -1, NULL, 0, 0);
    list[EMPTY] = entry(AIOFS_WRITE, fd, "", 0, 0);
    list[CALLED] = entry(AIOFS_FSYNC, pair[1], NULL, 0, 0);
    list[LAST] = entry(AIOFS_WRITE, fd, "last", 4, 4);
    aiofs_submit_many(list, COUNT);
    CHECK(list[HIGH].error == -EINVAL && list[SYNC_OF_NONE].error == -EBADF, "an invalid entry gets its own error");
    CHECK(list[GOOD].error == 0 && list[BAD].error == 0 && list[LAST].error == 0, "the valid entries are accepted");
    CHECK(result_of(&list[BAD]) == -EBADF && result_of(&list[CALLED]) == -EINVAL && result_of(&list[EMPTY]) == 0,
          "and end as they would alone");
    CHECK(result_of(&list[GOOD]) == 4 && result_of(&list[LAST]) == 4 && holds(fd, "goodlast", 8, 0),
          "ordered entries complete");
    MUST(write(pair[1], "pipe", 4));
    CHECK(result_of(&list[PIPE]) == 4 && memcmp(in, "pipe", 4) == 0, "an entry on a stream waits for its data");
    op_drop((struct op *)list[HIGH].request);
    op_drop((struct op *)list[SYNC_OF_NONE].request);
    CHECK(EVENTUALLY(PATIENCE, ops_alive == 0), "no request of the lists is left");
    close(pair[0]);
    close(pair[1]);
    close(fd);
}

/* More requests than the engine accepts at one time under its lock; plain descriptors and owned files alternate. */
static void long_list(void)
{
    enum { COUNT = 1000, FILES = 5 };
    static unsigned numbers[COUNT];
    static struct aiofs_batch_entry list[COUNT];
    aiofs_file *owned;
    int fds[FILES];
    for (int i = 0; i < FILES; i++)
        fds[i] = scratch(O_RDWR);
    MUST(aiofs_file_adopt(fds[0], O_RDWR, NULL, NULL, NULL, &owned) < 0 ? -1 : 0);
    for (unsigned i = 0; i < COUNT; i++) {
        numbers[i] = i;
        list[i] = entry(AIOFS_WRITE, fds[i % FILES], &numbers[i], sizeof numbers[i], (int64_t)(i / FILES * sizeof numbers[i]));
    }
    aiofs_submit_many(list, COUNT);
    bool good = true;
    for (unsigned i = 0; i < COUNT; i++)
        good &= list[i].error == 0 && result_of(&list[i]) == sizeof numbers[i];
    for (unsigned i = 0; i < COUNT; i++)
        good &= holds(fds[i % FILES], &numbers[i], sizeof numbers[i], (off_t)(i / FILES * sizeof numbers[i]));
    CHECK(good, "a thousand entries for five files land where they should");
    MUST(aiofs_file_close(owned));
    aiofs_file_release(owned);
    for (int i = 1; i < FILES; i++)
        close(fds[i]);
}

static void appends(void)
{
    enum { COUNT = 300 };
    static char text[COUNT * 4 + 1];
    static struct aiofs_batch_entry list[COUNT];
    int fd = scratch(O_RDWR | O_APPEND);
    fault_inject("pwritev2", -1, FAULT_DELAY, 500);
    for (int i = 0; i < COUNT; i++) {
        snprintf(text + i * 4, 5, "%03d ", i);
        list[i] = entry(AIOFS_WRITE, fd, text + i * 4, 4, 0);
    }
    aiofs_submit_many(list, COUNT);
    for (int i = 0; i < COUNT; i++)
        result_of(&list[i]);
    CHECK(holds(fd, text, COUNT * 4, 0), "appends land in the order of the list");
    fault_clear();
    close(fd);
}

/* The channel has room for a few hundred descriptors. The rest of the list waits for room. */
static void many_descriptors(void)
{
    enum { COUNT = 700 };
    static struct aiofs_batch_entry list[COUNT];
    static int fds[COUNT];
    int good = 0;
    for (int i = 0; i < COUNT; i++) {
        fds[i] = scratch(O_RDWR);
        list[i] = entry(AIOFS_WRITE, fds[i], "x", 1, 0);
    }
    aiofs_submit_many(list, COUNT);
    for (int i = 0; i < COUNT; i++) {
        good += list[i].error == 0 && result_of(&list[i]) == 1;
        close(fds[i]);
    }
    CHECK(good == COUNT, "a list for %d descriptors: all are written (%d)", COUNT, good);
}

int main(void)
{
    check_begin(60);
    fault_attach(&aiofs_sys);
    check_engine();
    each_as_if_alone();
    long_list();
    appends();
    many_descriptors();
    return check_end();
}
