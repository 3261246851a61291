/*
 * fsync_order.c - aio_fsync runs after all requests that were queued on its descriptor before it.
 */
#include "program.h"

enum { COUNT = 48, SIZE = 300 * 1024 };

static unsigned char bytes[SIZE];
static struct aiocb cbs[COUNT];

/* Submits a sync after slow writes, and polls its status. Before the sync the program changes the flags of the open
 * file, which stays the same open file. */
static void sync_behind_writes(int op, int flags, int changed, const char *what)
{
    int fd = scratch(O_RDWR | flags), early = 0, whole = 0;
    for (int i = 0; i < COUNT; i++) {
        cbs[i] = request(fd, bytes, i % 2 ? SIZE : 100, (off_t)i * SIZE);
        cbs[i].aio_reqprio = 20 - i % 3;
        MUST(aio_write(&cbs[i]));
    }
    MUST(fcntl(fd, F_SETFL, flags ^ changed));
    struct aiocb sync = request(fd, NULL, 0, 0);
    CHECK(aio_fsync(op, &sync) == 0, "%s: accepted behind %d writes", what, COUNT);
    double end = now() + PATIENCE;
    while (in_progress(&sync) && now() < end)
        ;
    for (int i = 0; i < COUNT; i++)
        early += in_progress(&cbs[i]);
    CHECK(succeeds(&sync, 0) && early == 0,
          "%s: ends after all of them, whatever their priority, and gives 0 (%d early)",
          what, early);
    for (int i = 0; i < COUNT; i++)
        whole += succeeds(&cbs[i], i % 2 ? SIZE : 100);
    CHECK(whole == COUNT, "%s: all earlier writes are whole", what);
    close(fd);
}

static void other_members_are_ignored(void)
{
    int fd = scratch(O_RDWR), good = 0;
    const int ops[] = {O_SYNC, O_DSYNC};
    MUST(pwrite(fd, "content", 7, 0));
    for (size_t i = 0; i < COUNT_OF(ops); i++) {
        struct aiocb cb;
        memset(&cb, 0xee, sizeof cb);
        cb.aio_fildes = fd;
        cb.aio_sigevent.sigev_notify = SIGEV_NONE;
        good += aio_fsync(ops[i], &cb) == 0 && succeeds(&cb, 0);
    }
    CHECK(good == 2, "members other than aio_fildes and aio_sigevent are ignored");
    CHECK(holds(fd, "content", 7, 0), "a sync changes nothing");
    close(fd);
}

static void many_syncs(void)
{
    int fd = scratch(O_RDWR), good = 0;
    for (int i = 0; i < COUNT; i++) {
        cbs[i] = request(fd, bytes, 1000, i * 1000);
        MUST(i % 3 == 2 ? aio_fsync(i % 2 ? O_SYNC : O_DSYNC, &cbs[i]) : aio_write(&cbs[i]));
    }
    for (int i = COUNT - 1; i >= 0; i--) {
        good += succeeds(&cbs[i], i % 3 == 2 ? 0 : 1000);
        for (int j = 0; i % 3 == 2 && j < i; j++)
            good -= in_progress(&cbs[j]);
    }
    CHECK(good == COUNT, "each sync among writes waits for all earlier writes");
    close(fd);
}

static void other_descriptors(void)
{
    struct conduit pipe = conduit();
    char byte;
    struct aiocb waiting = request(pipe.out, &byte, 1, 0);
    int fd = scratch(O_RDWR);
    aio_read(&waiting);
    struct aiocb sync = request(fd, NULL, 0, 0);
    CHECK(aio_fsync(O_SYNC, &sync) == 0 && succeeds(&sync, 0) && in_progress(&waiting),
          "a sync does not wait for other descriptors");
    MUST(write(pipe.in, "x", 1));
    result_of(&waiting);
    close(fd);
    conduit_close(pipe);
}

int main(void)
{
    begin(120);
    fill(bytes, SIZE, 3);
    sync_behind_writes(O_SYNC, 0, 0, "O_SYNC");
    sync_behind_writes(O_DSYNC, 0, 0, "O_DSYNC");
    sync_behind_writes(O_DSYNC, O_DSYNC, 0, "O_DSYNC, slow writes");
    sync_behind_writes(O_DSYNC, O_DSYNC, O_APPEND, "O_DSYNC, O_APPEND set meanwhile");
    sync_behind_writes(O_SYNC, O_APPEND, 0, "O_SYNC, appends");
    other_members_are_ignored();
    many_syncs();
    other_descriptors();
    return check_end();
}
