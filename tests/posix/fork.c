/*
 * fork.c - the child of a fork has no requests of its parent, and can use all functions.
 */
#include "program.h"

enum { LARGE = 600000 };

static unsigned char sent[LARGE], got[LARGE];

struct shared { /* opened before the fork */
    struct conduit pipe, signal;
    int file;
    struct aiocb ended, read, write;
};

/* Runs in a child. The exit status is 0 if its checks hold. */
static int child_has_none(void *argument)
{
    struct shared *shared = argument;
    const struct aiocb *const list[] = {&shared->read};
    int before = check_failures;
    CHECK(REFUSED(aio_error(&shared->read), EINVAL), "child: aio_error of the parent's request is EINVAL");
    CHECK(REFUSED(aio_return(&shared->read), EINVAL), "child: aio_return of the parent's request is EINVAL");
    CHECK(aio_suspend(list, 1, NULL) == 0, "child: aio_suspend does not wait for the parent's request");
    CHECK(aio_error(&shared->ended) == 0 && aio_return(&shared->ended) == 100,
          "child: a request that ended before the fork keeps its status");
    CHECK(aio_cancel(shared->pipe.out, &shared->read) == AIO_ALLDONE,
          "child: aio_cancel does not cancel the parent's request");
    CHECK(aio_cancel(shared->pipe.out, NULL) == AIO_ALLDONE,
          "child: aio_cancel of the descriptor does not cancel the parent's request");
    return check_failures - before;
}

static int child_has_its_own(void *argument)
{
    struct shared *shared = argument;
    int before = check_failures, fd = scratch(O_RDWR);
    struct conduit pipe = conduit();
    struct aiocb cb = request(pipe.out, got, 1, 0), sync = request(fd, NULL, 0, 0);
    CHECK(write_now(fd, sent, LARGE, 0) == LARGE && read_now(fd, got, LARGE, 0) == LARGE && memcmp(got, sent, LARGE) == 0,
          "child: files");
    CHECK(aio_fsync(O_SYNC, &sync) == 0 && succeeds(&sync, 0), "child: syncs");
    aio_read(&cb);
    CHECK(in_progress(&cb) && aio_cancel(pipe.out, NULL) == AIO_CANCELED,
          "child: reads that wait, and are cancelled");
    aio_read(&cb);
    MUST(write(pipe.in, "x", 1));
    CHECK(succeeds(&cb, 1), "child: waiting reads get data");
    CHECK(write_now(shared->file, sent, 1000, 5000) == 1000 && read_now(shared->file, got, 1000, 5000) == 1000,
          "child: a file that its parent opened");
    shared->read = request(pipe.out, got, 1, 0);
    CHECK(aio_read(&shared->read) == 0 && in_progress(&shared->read),
          "child: an aiocb that is in flight in its parent is free");
    MUST(write(pipe.in, "y", 1));
    CHECK(succeeds(&shared->read, 1), "child: the freed aiocb is reused");
    conduit_close(pipe);
    close(fd);
    return check_failures - before;
}

static _Atomic int notified;

static void notify(union sigval value)
{
    (void)value;
    notified++;
}

static int child_is_not_notified(void *argument)
{
    struct shared *shared = argument;
    MUST(write(shared->pipe.in, "x", 1)); /* for the parent's read */
    pause_ms(100);
    return notified != 0;
}

static int grandchild(void *argument)
{
    return child_has_its_own(argument) != 0 || in_child(child_has_its_own, argument) != 0;
}

static void with_requests_in_flight(int (*body)(void *), const char *what)
{
    struct shared shared = {.pipe = conduit(), .file = scratch(O_RDWR)};
    shared.ended = request(shared.file, sent, 100, 0);
    MUST(aio_write(&shared.ended));
    MUST(end_of(&shared.ended));
    shared.read = request(shared.pipe.out, got, 1, 0);
    notify_by_thread(&shared.read.aio_sigevent, notify, NULL);
    notified = 0;
    MUST(aio_read(&shared.read));
    shared.write = request(shared.file, sent, LARGE, 0);
    MUST(aio_write(&shared.write));
    CHECK(in_child(body, &shared) == 0, "%s", what);
    CHECK(succeeds(&shared.write, LARGE) && holds(shared.file, sent, 1000, 0), "the parent's write continues");
    if (body != child_is_not_notified) {
        CHECK(in_progress(&shared.read), "the parent's read continues");
        MUST(write(shared.pipe.in, "x", 1));
    }
    CHECK(succeeds(&shared.read, 1) && EVENTUALLY(PATIENCE, notified == 1),
          "the read ends and is notified in the parent only");
    CHECK(write_now(shared.file, sent, 100, 100000) == 100, "the parent makes requests on the shared file");
    CHECK(aio_return(&shared.ended) == 100, "aio_return gives the parent each result once");
    conduit_close(shared.pipe);
    close(shared.file);
}

/* Some threads submit requests while another thread forks repeatedly. */
static _Atomic bool over;

static void *submit_all_the_time(void *argument)
{
    static char block[2][300000];
    char *mine = block[(intptr_t)argument];
    int fd = scratch(O_RDWR);
    intptr_t wrong = 0;
    while (!over) {
        wrong += write_now(fd, mine, 300000, 0) != 300000;
        wrong += read_now(fd, mine, 100, 0) != 100;
    }
    close(fd);
    return (void *)wrong;
}

static int quick_child(void *argument)
{
    int fd = *(int *)argument;
    return write_now(fd, sent, LARGE, 0) == LARGE ? 0 : 1;
}

static void forks_in_a_storm(void)
{
    enum { ROUNDS = 30 };
    pthread_t threads[2];
    void *wrong;
    int good = 0, fd = scratch(O_RDWR);
    over = false;
    for (intptr_t i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, submit_all_the_time, (void *)i);
    for (int i = 0; i < ROUNDS; i++)
        good += in_child(quick_child, &fd) == 0;
    over = true;
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], &wrong);
        good -= wrong != NULL;
    }
    CHECK(good == ROUNDS, "after forks while threads submit, each child and the parent complete requests");
    close(fd);
}

int main(void)
{
    if (!CAN_FORK_WITH_THREADS) {
        printf("skip  ThreadSanitizer does not follow a fork\n");
        return 77;
    }
    begin(120);
    fill(sent, LARGE, 4);
    with_requests_in_flight(child_has_none, "the child has none of its parent's requests");
    with_requests_in_flight(child_has_its_own, "the child submits its own");
    with_requests_in_flight(child_is_not_notified, "the child is not notified of its parent's");
    with_requests_in_flight(grandchild, "and neither differs for a child's child");
    forks_in_a_storm();
    return check_end();
}
