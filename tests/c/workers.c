/*
 * workers.c - requests of one file that may run at the same time do run at the same time, with new workers and with
 * idle ones.
 */
#include "check.h"

#include <pthread.h>

#include "sys.h"

enum { TOGETHER = 8, WITHIN = 3 }; /* requests; seconds within which all must be inside preadv2 */

/* Each read of the engine waits in read_together until TOGETHER reads are there. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t all;
    int inside, most;
    ssize_t (*real)(int fd, const struct iovec *iov, int iovcnt, int64_t offset, int flags);
} meeting = {.lock = PTHREAD_MUTEX_INITIALIZER, .all = PTHREAD_COND_INITIALIZER};

static ssize_t read_together(int fd, const struct iovec *iov, int iovcnt, int64_t offset, int flags)
{
    struct timespec until;
    int error = 0;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WITHIN;
    pthread_mutex_lock(&meeting.lock);
    if (++meeting.inside > meeting.most)
        meeting.most = meeting.inside;
    if (meeting.most == TOGETHER)
        pthread_cond_broadcast(&meeting.all);
    while (meeting.most < TOGETHER && error == 0)
        error = pthread_cond_timedwait(&meeting.all, &meeting.lock, &until);
    meeting.inside--;
    pthread_mutex_unlock(&meeting.lock);
    return meeting.real(fd, iov, iovcnt, offset, flags);
}

static void reads_meet(int fd, const char *what)
{
    static char bytes[TOGETHER][64];
    struct op *ops[TOGETHER];
    int good = 0;
    pthread_mutex_lock(&meeting.lock);
    meeting.inside = meeting.most = 0;
    pthread_mutex_unlock(&meeting.lock);
    struct aiofs_batch_entry list[TOGETHER];
    for (int i = 0; i < TOGETHER; i++) {
        ops[i] = op_new(AIOFS_READ, fd, bytes[i], sizeof bytes[i], i * 64);
        list[i] = (struct aiofs_batch_entry){&ops[i]->request, NULL, 0};
    }
    aiofs_submit_many(list, TOGETHER);
    for (int i = 0; i < TOGETHER; i++)
        good += op_finish(ops[i]) == sizeof bytes[i];
    CHECK(good == TOGETHER && meeting.most == TOGETHER, "%s: all %d run together (%d)", what, TOGETHER, meeting.most);
}

int main(void)
{
    check_begin(120);
    meeting.real = aiofs_sys.preadv2;
    aiofs_sys.preadv2 = read_together;
    check_engine();
    if (strcmp(aiofs_engine_name(), "threads") != 0) {
        printf("ok    io_uring reads without workers\n");
        return check_end();
    }
    char bytes[TOGETHER * 64];
    int fd = scratch(O_RDWR), threads = threads_now();
    fill(bytes, sizeof bytes, 7);
    MUST(pwrite(fd, bytes, sizeof bytes, 0));
    reads_meet(fd, "new workers");
    CHECK(threads_now() == threads + TOGETHER - 1, "each request had a worker: the engine starts with the first");
    for (int i = 0; i < 3; i++) {
        pause_ms(50); /* the workers become idle */
        reads_meet(fd, "idle workers");
    }
    CHECK(threads_now() == threads + TOGETHER - 1, "the same workers run the later requests");
    close(fd);
    return check_end();
}
