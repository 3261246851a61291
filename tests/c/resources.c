/*
 * resources.c - a long run of the engine leaks no descriptor, no thread and no memory.
 */
#include "check.h"

#include "sys.h"

#include <malloc.h>

static void mixed_round(int count)
{
    enum { DEPTH = 64 };
    static char bytes[DEPTH][512];
    struct op *ops[DEPTH] = {NULL};
    int fds[4], pair[2];
    fds[0] = scratch(O_RDWR);
    fds[1] = scratch(O_RDWR | O_APPEND);
    fds[2] = scratch_in("/dev/shm", O_RDWR);
    MUST(pipe2(pair, O_CLOEXEC));
    for (int i = 0; i < count; i++) {
        int slot = i % DEPTH;
        if (ops[slot])
            op_finish(ops[slot]);
        if (i % 50 == 7)
            ops[slot] = start(AIOFS_READ, -1, bytes[slot], 1, 0);
        else if (i % 10 == 8) /* cancelled, or completed by the next write */
            ops[slot] = start(AIOFS_READ, pair[0], bytes[slot], 1, 0);
        else if (i % 10 == 9)
            ops[slot] = start(AIOFS_WRITE, pair[1], bytes[slot], 1, 0);
        else
            ops[slot] = start(i % 2 ? AIOFS_WRITE : AIOFS_READ, fds[i % 3], bytes[slot], sizeof bytes[slot], (i % 100) * 512);
        if (i % 100 == 88)
            aiofs_cancel(&ops[slot]->request);
    }
    aiofs_cancel_all(pair[0]);
    for (int i = 0; i < DEPTH; i++)
        if (ops[i])
            op_finish(ops[i]);
    for (int i = 0; i < 3; i++)
        close(fds[i]);
    close(pair[0]);
    close(pair[1]);
}

static long resident_kb(void)
{
    long total, resident;
    FILE *file = fopen("/proc/self/statm", "r");
    if (fscanf(file, "%ld %ld", &total, &resident) != 2)
        exit(1);
    fclose(file);
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

static void flat(void)
{
    int most = SANITIZED ? 10000 : 100000;
    mixed_round(most / 4);
    EVENTUALLY(2, ops_alive == 0);
    int descriptors = open_descriptors(), engine = engine_descriptors();
    size_t heap = mallinfo2().uordblks;
    long resident = resident_kb();
    mixed_round(most);
    CHECK(EVENTUALLY(PATIENCE, ops_alive == 0) && outstanding() == 0, "%d requests were given back", most);
    CHECK(open_descriptors() == descriptors,
          "no descriptor of the program's is left (%d, %d)", open_descriptors(), descriptors);
    CHECK(EVENTUALLY(PATIENCE, engine_descriptors() <= engine), "no descriptor of the engine is left");
    if (!SANITIZED) {
        CHECK(mallinfo2().uordblks <= heap + 64 * KB,
              "no memory is kept (%ld bytes)", (long)(mallinfo2().uordblks - heap));
        CHECK(resident_kb() <= resident + 1024, "the process has not grown (%ld KB)", resident_kb() - resident);
    }
}

static uint64_t files_known(void)
{
    struct aiofs_counters counters;
    aiofs_engine_counters(&counters);
    return counters.files;
}

static void files_come_and_go(void)
{
    int descriptors = open_descriptors(), engine = engine_descriptors(), good = 0;
    struct op *ops[100];
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 100; i++) {
            int fd = scratch(O_RDWR);
            ops[i] = start(AIOFS_WRITE, fd, "x", 1, 0);
            close(fd);
        }
        for (int i = 0; i < 100; i++)
            good += op_finish(ops[i]) == 1;
    }
    CHECK(good == 2000, "2,000 files written and closed at once");
    CHECK(open_descriptors() == descriptors && EVENTUALLY(PATIENCE, engine_descriptors() <= engine),
          "no descriptor of the files stays open");
    CHECK(EVENTUALLY(PATIENCE, files_known() == 0), "the engine keeps no record of the files");
}

static int64_t nap(aiofs_request *request)
{
    (void)request;
    pause_ms(20);
    return 0;
}

/* Requests on many files start many threads. Idle threads exit. */
static void threads_end(void)
{
    enum { COUNT = 40 };
    struct op *ops[2 * COUNT];
    int fds[COUNT], before = threads_now(), most = 0;
    for (int i = 0; i < COUNT; i++) {
        fds[i] = scratch(O_RDWR);
        ops[i] = start(AIOFS_WRITE, fds[i], "x", 1, 0);
        ops[COUNT + i] = op_new(AIOFS_CALL, -1, NULL, 0, 0);
        ops[COUNT + i]->request.call = nap;
        aiofs_submit(&ops[COUNT + i]->request, NULL);
    }
    for (int i = 0; i < 2 * COUNT; i++) {
        most = threads_now() > most ? threads_now() : most;
        op_finish(ops[i]);
    }
    for (int i = 0; i < COUNT; i++)
        close(fds[i]);
    CHECK(most > before && most < 120, "threads started for the work (%d before, %d at most)", before, most);
    CHECK(EVENTUALLY(PATIENCE, threads_now() <= 6),
          "the idle threads ended"); /* sanitizers and io_uring may have one thread each */
    struct aiofs_counters counters;
    CHECK(EVENTUALLY(PATIENCE, (aiofs_engine_counters(&counters), counters.workers <= 3)),
          "threads that exited are not counted");
    CHECK(op_finish(start(AIOFS_READ, -1, NULL, 1, 0)) == -EBADF, "the engine still answers");
    int fd = scratch(O_RDWR);
    CHECK(perform(AIOFS_WRITE, fd, "y", 1, 0) == 1, "the engine completes requests");
    close(fd);
}

/* ---- /proc: only where the main thread has left, which it has not here ---- */

static _Atomic int looks_at_threads;
static int (*real_openat)(int dirfd, const char *path, int flags, mode_t mode);

static int watched_openat(int dirfd, const char *path, int flags, mode_t mode)
{
    looks_at_threads += strstr(path, "/task") != NULL;
    return real_openat(dirfd, path, flags, mode);
}

static void watch_looks(void)
{
    real_openat = aiofs_sys.openat;
    aiofs_sys.openat = watched_openat;
}

int main(void)
{
    check_begin(60);
    watch_looks();
    check_engine();
    files_come_and_go();
    flat();
    threads_end();
    CHECK(looks_at_threads == 0, "with a live main thread the engine does not scan /proc for threads");
    return check_end();
}
