/*
 * unlinked.c - a file is unlinked while the engine has a binding of it. The close of the binding then frees the blocks,
 * which can block, so a worker makes it and not the reactor.
 */
#include "check.h"

#include "sys.h"

enum { SIZE = 1 * 1024 * 1024, READS = 8 };

static int (*kernel_close)(int fd);
static _Atomic int by_reactor, by_workers;

static int note_close(int fd)
{
    struct stat stat;
    char thread[32] = "";
    if (fstat(fd, &stat) == 0 && S_ISREG(stat.st_mode) && stat.st_nlink == 0) {
        pthread_getname_np(pthread_self(), thread, sizeof thread);
        by_reactor += strcmp(thread, "aiofs") == 0;
        by_workers += strcmp(thread, "aiofs-worker") == 0;
    }
    return kernel_close(fd);
}

/* Reads a file and unlinks it, before or after the reads complete. False: the filesystem has no O_DIRECT. */
static bool read_and_unlink(char *bytes, bool at_once)
{
    char path[512];
    const char *directory = getenv("TMPDIR");
    struct op *ops[READS];
    snprintf(path, sizeof path, "%s/aiofs-named-XXXXXX", directory ? directory : "/tmp");
    int made = (int)MUST(mkstemp(path));
    MUST(pwrite(made, bytes, SIZE, 0));
    close(made);
    int fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    for (int i = 0; i < READS && fd >= 0; i++)
        ops[i] = start(AIOFS_READ, fd, bytes, SIZE, 0);
    if (at_once)
        unlink(path);
    for (int i = 0; i < READS && fd >= 0; i++)
        if (op_finish(ops[i]) != SIZE)
            exit(1);
    if (!at_once)
        unlink(path);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static bool is_closed_by_workers(bool at_once)
{
    char *bytes = aligned(SIZE);
    int before = by_workers;
    double end = now() + 20;
    while (by_workers < before + 5 && now() < end)
        if (!read_and_unlink(bytes, at_once)) {
            printf("skip  this filesystem has no O_DIRECT\n");
            exit(77);
        }
    free(bytes);
    return by_workers >= before + 5;
}

/* Between reads that follow each other at once, a worker performs a sync and the file is unlinked. A kept binding must
 * be closed exactly once. A second close would close the descriptor of another file. */
static void kept_binding_is_closed_once(void)
{
    enum { ROUNDS = 100 };
    char *bytes = aligned(4096), path[512];
    const char *directory = getenv("TMPDIR");
    int good = 0, other = scratch(O_RDWR), descriptors = engine_descriptors();
    MUST(pwrite(other, "other", 5, 0));
    for (int i = 0; i < ROUNDS; i++) {
        char text[8] = "";
        snprintf(path, sizeof path, "%s/aiofs-named-XXXXXX", directory ? directory : "/tmp");
        int made = (int)MUST(mkstemp(path));
        MUST(pwrite(made, bytes, 4096, 0));
        int fd = (int)MUST(open(path, O_RDONLY | O_DIRECT | O_CLOEXEC));
        close(made);
        good += op_finish(start(AIOFS_READ, fd, bytes, 4096, 0)) == 4096;
        good += op_finish(start(AIOFS_FSYNC, fd, NULL, 0, 0)) == 0;
        good += op_finish(start(AIOFS_READ, fd, bytes, 4096, 0)) == 4096;
        struct op *waiting = start(AIOFS_READ, other, text, 5, 0);
        unlink(path);
        good += op_finish(start(AIOFS_READ, fd, bytes, 4096, 0)) == 4096;
        good += op_finish(start(AIOFS_FSYNC, fd, NULL, 0, 0)) == 0;
        good += op_finish(waiting) == 5 && strcmp(text, "other") == 0;
        close(fd);
    }
    CHECK(good == 6 * ROUNDS, "reads, syncs and an unlink, one after the other");
    CHECK(EVENTUALLY(PATIENCE, engine_descriptors() <= descriptors), "nothing is left of them");
    close(other);
    free(bytes);
}

int main(void)
{
    check_begin(60);
    kernel_close = aiofs_sys.close; /* before the first thread of the engine starts */
    aiofs_sys.close = note_close;
    check_engine();
    CHECK(is_closed_by_workers(true), "unlinked while reads are in flight: workers close it");
    if (strcmp(aiofs_engine_name(), "io_uring") == 0)
        CHECK(is_closed_by_workers(false), "unlinked when they have ended: workers close it");
    kept_binding_is_closed_once();
    /* The program can unlink a file after the reactor has asked for its names and before it closes it. That is rare. */
    CHECK(by_reactor * 10 < by_workers, "the reactor closed %d of them, workers %d", by_reactor, by_workers);
    return check_end();
}
