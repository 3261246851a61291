/*
 * static_tls.c - a program with megabytes of thread-local variables, which must fit into each thread's stack.
 */
#include "program.h"

#include <sys/syscall.h>

enum { LARGE = 1 << 20 };

static _Thread_local volatile char ours[4 << 20];
static unsigned char sent[LARGE], got[LARGE];
static _Atomic int notified;

static void notify(union sigval value)
{
    (void)value;
    ours[sizeof ours / 2] = 1;
    notified++;
}

static void check_engine(void)
{
    const char *engine = getenv("AIOFS_ENGINE");
    if (engine && strcmp(engine, "io_uring") == 0 && syscall(SYS_io_uring_setup, 0, NULL) < 0 && errno != EINVAL &&
        errno != EFAULT) {
        printf("skip  this kernel refuses the engine\n");
        exit(77);
    }
}

int main(void)
{
    ours[0] = 1;
    check_begin(60);
    check_engine();
    int fd = scratch(O_RDWR);
    struct conduit pipe = conduit();
    memset(sent, 's', LARGE);
    CHECK(write_now(fd, sent, LARGE, 0) == LARGE && read_now(fd, got, LARGE, 0) == LARGE && memcmp(sent, got, LARGE) == 0,
          "files");
    struct aiocb sync = request(fd, NULL, 0, 0), cb = request(pipe.out, got, 1, 0);
    CHECK(aio_fsync(O_SYNC, &sync) == 0 && succeeds(&sync, 0), "syncs complete");
    notify_by_thread(&cb.aio_sigevent, notify, NULL);
    CHECK(aio_read(&cb) == 0, "a waiting read completes");
    MUST(write(pipe.in, "x", 1));
    CHECK(succeeds(&cb, 1) && EVENTUALLY(PATIENCE, notified == 1), "a notification runs in a thread");
    return check_end();
}
