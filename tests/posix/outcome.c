/*
 * outcome.c - aio_error and aio_return before, at and after the completion of a request.
 */
#include "program.h"

static char bytes[600000];

static void in_flight(void)
{
    struct conduit pipe = conduit();
    struct aiocb cb = request(pipe.out, bytes, 10, 0);
    aio_read(&cb);
    CHECK(aio_error(&cb) == EINPROGRESS, "a request in flight: aio_error says EINPROGRESS");
    CHECK(REFUSED(aio_return(&cb), EINPROGRESS), "aio_return gives -1 with EINPROGRESS");
    CHECK(aio_error(&cb) == EINPROGRESS, "aio_return of a request in progress changes no status");
    MUST(write(pipe.in, "hello", 5));
    CHECK(end_of(&cb) == 0 && aio_return(&cb) == 5, "after the end aio_error gives 0 and aio_return the count");
    conduit_close(pipe);
}

static void once(const char *what, struct aiocb *cb, int error, ssize_t value)
{
    CHECK(end_of(cb) == error && aio_return(cb) == value, "%s: the status and the result", what);
    CHECK(aio_error(cb) == error, "%s: aio_error keeps its answer after aio_return", what);
    CHECK(REFUSED(aio_return(cb), EINVAL) && REFUSED(aio_return(cb), EINVAL),
          "%s: a second aio_return gives -1 with EINVAL", what);
    CHECK(aio_error(cb) == error, "%s: aio_error keeps its answer after repeated aio_return", what);
}

static void ended(void)
{
    int fd = scratch(O_RDWR);
    struct conduit pipe = conduit();
    struct aiocb in_call = request(fd, bytes, 100, 0), engine = request(fd, bytes, sizeof bytes, 0);
    aio_write(&in_call);
    once("a short write", &in_call, 0, 100);
    aio_write(&engine);
    once("a long write", &engine, 0, sizeof bytes);
    struct aiocb failed = request(-1, bytes, 100, 0);
    aio_read(&failed);
    once("a failure", &failed, EBADF, -1);
    struct aiocb sync = request(fd, NULL, 0, 0);
    aio_fsync(O_SYNC, &sync);
    once("a sync", &sync, 0, 0);
    struct aiocb cancelled = request(pipe.out, bytes, 1, 0);
    aio_read(&cancelled);
    CHECK(aio_cancel(pipe.out, &cancelled) == AIO_CANCELED, "a read is cancelled");
    once("a cancelled read", &cancelled, ECANCELED, -1);
    conduit_close(pipe);
    close(fd);
}

static void never_submitted(void)
{
    int invalid = 0;
    for (int garbage = 0; garbage < 256; garbage++) {
        struct aiocb cb;
        memset(&cb, garbage, sizeof cb);
        invalid += REFUSED(aio_return(&cb), EINVAL) && REFUSED(aio_error(&cb), EINVAL);
    }
    CHECK(invalid == 256, "aio_error and aio_return of an aiocb that was never submitted: -1 with EINVAL");
}

/* An aiocb is identified by its address, so a copy has no request. */
static void a_copy_is_no_request(void)
{
    struct conduit pipe = conduit();
    struct aiocb cb = request(pipe.out, bytes, 1, 0);
    aio_read(&cb);
    struct aiocb copy = cb;
    CHECK(REFUSED(aio_error(&copy), EINVAL), "the copy of an aiocb in flight was never submitted");
    CHECK(aio_cancel(pipe.out, &copy) == AIO_ALLDONE && in_progress(&cb), "the copy does not refer to the request");
    MUST(write(pipe.in, "x", 1));
    CHECK(succeeds(&cb, 1), "the request of the original continues");
    conduit_close(pipe);
}

/* A second thread that polls the status. */
static void *watch(void *argument)
{
    struct aiocb *cb = argument;
    while (in_progress(cb))
        ;
    return (void *)(intptr_t)(aio_error(cb) == 0 && bytes[0] == 'y' && aio_return(cb) == 1);
}

static void another_thread(void)
{
    struct conduit pipe = conduit();
    intptr_t good = 0;
    for (int i = 0; i < 200; i++) {
        pthread_t thread;
        void *saw;
        struct aiocb cb = request(pipe.out, bytes, 1, 0);
        bytes[0] = 'n';
        aio_read(&cb);
        pthread_create(&thread, NULL, watch, &cb);
        MUST(write(pipe.in, "y", 1));
        pthread_join(thread, &saw);
        good += (intptr_t)saw;
    }
    CHECK(good == 200, "a final status makes the bytes and the count visible");
    conduit_close(pipe);
}

int main(void)
{
    begin(60);
    in_flight();
    ended();
    never_submitted();
    a_copy_is_no_request();
    another_thread();
    return check_end();
}
