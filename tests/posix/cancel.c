/*
 * cancel.c - aio_cancel: its return values, and whether each is true when the call returns.
 */
#include "program.h"

enum { LARGE = 1024 * 1024 };

static unsigned char sent[LARGE], got[LARGE];

static bool cancelled(struct aiocb *cb)
{
    return aio_error(cb) == ECANCELED && aio_return(cb) == -1;
}

static void mistakes(void)
{
    struct conduit pipe = conduit(), other = conduit();
    struct aiocb cb = request(pipe.out, got, 1, 0);
    aio_read(&cb);
    CHECK(REFUSED(aio_cancel(-1, NULL), EBADF), "descriptor -1: EBADF");
    CHECK(REFUSED(aio_cancel(other.out, &cb), EINVAL) && in_progress(&cb), "fildes other than the aiocb's: EINVAL");
    conduit_close(other);
    CHECK(REFUSED(aio_cancel(other.out, NULL), EBADF) && REFUSED(aio_cancel(other.out, &cb), EBADF),
          "a closed descriptor: EBADF");
    MUST(write(pipe.in, "x", 1));
    CHECK(succeeds(&cb, 1), "no request was touched");
    conduit_close(pipe);
}

static void all_done(void)
{
    int fd = scratch(O_RDWR);
    struct conduit pipe = conduit();
    struct aiocb never = request(fd, got, 1, 0), cb = request(fd, "abc", 3, 0);
    CHECK(aio_cancel(fd, NULL) == AIO_ALLDONE && aio_cancel(pipe.out, NULL) == AIO_ALLDONE, "idle: AIO_ALLDONE");
    CHECK(aio_cancel(fd, &never) == AIO_ALLDONE, "never submitted: AIO_ALLDONE");
    aio_write(&cb);
    end_of(&cb);
    CHECK(aio_cancel(fd, &cb) == AIO_ALLDONE && aio_cancel(fd, NULL) == AIO_ALLDONE && aio_error(&cb) == 0,
          "finished: AIO_ALLDONE, and it keeps its status");
    CHECK(aio_return(&cb) == 3 && aio_cancel(fd, &cb) == AIO_ALLDONE, "returned: AIO_ALLDONE");
    struct aiocb failed = request(fd, got, 1, -1);
    aio_read(&failed);
    end_of(&failed);
    CHECK(aio_cancel(fd, &failed) == AIO_ALLDONE && fails(&failed, EINVAL), "failed: AIO_ALLDONE");
    conduit_close(pipe);
    close(fd);
}

static void waiting_reads(const char *kind, struct conduit pipe)
{
    enum { COUNT = 20 };
    struct aiocb cbs[COUNT];
    char byte[COUNT + 1] = "";
    int good = 0;
    for (int i = 0; i < COUNT; i++) {
        cbs[i] = request(pipe.out, &byte[i], 1, 0);
        aio_read(&cbs[i]);
    }
    pause_ms(20);
    CHECK(aio_cancel(pipe.out, &cbs[0]) == AIO_CANCELED && cancelled(&cbs[0]),
          "%s: the read that waits is cancelled before aio_cancel returns", kind);
    CHECK(aio_cancel(pipe.out, &cbs[COUNT / 2]) == AIO_CANCELED && cancelled(&cbs[COUNT / 2]),
          "%s: a read behind the cancelled read is cancelled",
          kind);
    for (int i = 1; i < COUNT; i++)
        good += in_progress(&cbs[i]);
    CHECK(good == COUNT - 2, "%s: other reads stay in progress", kind);
    CHECK(aio_cancel(pipe.out, &cbs[0]) == AIO_ALLDONE && aio_error(&cbs[0]) == ECANCELED,
          "%s: cancelled a second time: AIO_ALLDONE", kind);
    MUST(write(pipe.in, "x", 1));
    CHECK(succeeds(&cbs[1], 1) && byte[1] == 'x', "%s: the next read gets the data, no byte is lost", kind);
    CHECK(aio_cancel(pipe.out, NULL) == AIO_CANCELED, "%s: all of a descriptor's: AIO_CANCELED", kind);
    good = 0;
    for (int i = 2; i < COUNT; i++)
        good += i != COUNT / 2 && cancelled(&cbs[i]);
    CHECK(good == COUNT - 3, "%s: each request is cancelled before aio_cancel returns", kind);
    MUST(write(pipe.in, "later", 5));
    pause_ms(20);
    good = 0;
    for (int i = 2; i < COUNT; i++)
        good += byte[i] == 0;
    CHECK(good == COUNT - 2 && take_out(pipe.out, got, 5) && memcmp(got, "later", 5) == 0,
          "%s: a cancelled read takes no data and writes to no buffer", kind);
    conduit_close(pipe);
}

static void write_that_has_begun(const char *kind, struct conduit pipe)
{
    struct aiocb before = request(pipe.in, "first", 5, 0), begun = request(pipe.in, sent, LARGE, 0);
    struct aiocb behind[3];
    aio_write(&before);
    CHECK(succeeds(&before, 5), "%s: a write that ends before", kind);
    aio_write(&begun);
    for (int i = 0; i < 3; i++) {
        behind[i] = request(pipe.in, "behind", 6, 0);
        aio_write(&behind[i]);
    }
    pause_ms(50);
    CHECK(aio_cancel(pipe.in, &behind[1]) == AIO_CANCELED && cancelled(&behind[1]),
          "%s: a queued write is cancelled", kind);
    CHECK(aio_cancel(pipe.in, &begun) == AIO_NOTCANCELED && in_progress(&begun),
          "%s: a write that has begun is AIO_NOTCANCELED, and continues", kind);
    CHECK(aio_cancel(pipe.in, NULL) == AIO_NOTCANCELED && in_progress(&begun),
          "%s: and so for the descriptor: AIO_NOTCANCELED", kind);
    CHECK(cancelled(&behind[0]) && cancelled(&behind[2]),
          "%s: writes queued behind the begun write are cancelled", kind);
    CHECK(aio_error(&before) == 0 && aio_cancel(pipe.in, &before) == AIO_ALLDONE,
          "%s: earlier writes keep their results",
          kind);
    CHECK(take_out(pipe.out, got, 5) && take_out(pipe.out, got, LARGE) && memcmp(got, sent, LARGE) == 0 &&
              succeeds(&begun, LARGE),
          "%s: and it is whole", kind);
    CHECK(aio_cancel(pipe.in, NULL) == AIO_ALLDONE, "%s: afterwards aio_cancel says AIO_ALLDONE", kind);
    int left = (int)MUST(fcntl(pipe.out, F_GETFL));
    MUST(fcntl(pipe.out, F_SETFL, left | O_NONBLOCK));
    CHECK(read(pipe.out, got, 1) == -1 && errno == EAGAIN, "%s: cancelled writes wrote no byte", kind);
    conduit_close(pipe);
}

static void other_descriptors(void)
{
    struct conduit one = conduit(), two = conduit();
    char byte[2];
    struct aiocb first = request(one.out, &byte[0], 1, 0), second = request(two.out, &byte[1], 1, 0);
    aio_read(&first);
    aio_read(&second);
    CHECK(aio_cancel(one.out, NULL) == AIO_CANCELED && cancelled(&first) && in_progress(&second),
          "other descriptors' requests are not touched");
    MUST(write(two.in, "x", 1));
    CHECK(succeeds(&second, 1), "requests on the other descriptor complete");
    conduit_close(one);
    conduit_close(two);
}

/* ---- the disk ---------------------------------------------------------------------------------------------------- */

/* Does the return value of aio_cancel fit the status of the request? */
static bool verdict_holds(int verdict, struct aiocb *cb)
{
    int error = aio_error(cb);
    switch (verdict) {
    case AIO_CANCELED:
        return error == ECANCELED;
    case AIO_ALLDONE:
        return error == 0 || error == ECANCELED;
    case AIO_NOTCANCELED:
        return error == EINPROGRESS || error == 0;
    }
    return false;
}

static void files(void)
{
    enum { COUNT = 64, SIZE = 300 * 1024 };
    static struct aiocb cbs[COUNT];
    int good = 0, taken = 0, whole = 0;
    int fd = scratch(O_RDWR | O_DSYNC);
    for (int i = 0; i < COUNT; i++) {
        cbs[i] = request(fd, sent, SIZE, (off_t)i * SIZE);
        MUST(aio_write(&cbs[i]));
    }
    struct aiocb sync = request(fd, NULL, 0, 0);
    MUST(aio_fsync(O_SYNC, &sync));
    CHECK(aio_cancel(fd, &sync) == AIO_CANCELED && cancelled(&sync), "a sync that has not begun is cancelled");
    for (int i = COUNT; i-- > COUNT / 2;) {
        int verdict = aio_cancel(fd, &cbs[i]);
        good += verdict_holds(verdict, &cbs[i]);
        taken += verdict == AIO_CANCELED;
    }
    CHECK(good == COUNT / 2, "each verdict on a file's write is true when aio_cancel returns");
    CHECK(taken > 0, "writes that have not begun are cancelled (%d of %d)", taken, COUNT / 2);
    MUST(fcntl(fd, F_SETFL, O_APPEND)); /* the flags change, the open file stays the same */
    int verdict = aio_cancel(fd, NULL), left = 0;
    for (int i = 0; i < COUNT; i++)
        left += in_progress(&cbs[i]);
    CHECK(left == 0 || verdict == AIO_NOTCANCELED,
          "requests left in progress (%d) were reported as AIO_NOTCANCELED", left);
    CHECK(left <= 1, "aio_cancel of the descriptor cancels all requests that have not begun");
    for (int i = 0; i < COUNT; i++) {
        int error = end_of(&cbs[i]);
        whole += (error == 0 && aio_return(&cbs[i]) == SIZE && holds(fd, sent, SIZE, (off_t)i * SIZE)) ||
                 (error == ECANCELED && aio_return(&cbs[i]) == -1);
    }
    CHECK(whole == COUNT, "each write is either whole or cancelled");
    close(fd);
}

/* A request is cancelled while it completes: the return value and the status agree, and no byte is lost. */
static void races(void)
{
    enum { ROUNDS = 2000 };
    struct conduit pipe = conduit();
    int good = 0, kept = 0, came = 0;
    for (int i = 0; i < ROUNDS; i++) {
        char byte = 0;
        struct aiocb cb = request(pipe.out, &byte, 1, 0);
        aio_read(&cb);
        if (i % 4)
            sched_yield();
        MUST(write(pipe.in, "x", 1));
        int verdict = aio_cancel(pipe.out, i % 2 ? &cb : NULL), error = aio_error(&cb);
        good += verdict == AIO_CANCELED ? error == ECANCELED : verdict == AIO_ALLDONE && error == 0;
        kept += error == ECANCELED;
        came += error == 0 && byte == 'x';
        if (error == ECANCELED)
            take_out(pipe.out, &byte, 1);
        end_of(&cb);
    }
    CHECK(good == ROUNDS, "data and cancellation at once: the verdict is the status");
    CHECK(kept + came == ROUNDS, "the byte is read, or still in the pipe (%d, %d)", came, kept);
    conduit_close(pipe);
}

/* ---- notification ------------------------------------------------------------------------------------------------ */

static struct aiocb notified;
static _Atomic int notifications, notified_status;

static void notify(union sigval value)
{
    notified_status = aio_error(&notified);
    notifications += value.sival_ptr == &notified;
}

static void is_notified(void)
{
    struct conduit pipe = conduit();
    notified = request(pipe.out, got, 1, 0);
    notify_by_thread(&notified.aio_sigevent, notify, &notified);
    aio_read(&notified);
    CHECK(aio_cancel(pipe.out, &notified) == AIO_CANCELED && EVENTUALLY(PATIENCE, notifications) && notified_status == ECANCELED,
          "a cancelled request is notified as usual, its status is final then");
    pause_ms(20);
    CHECK(notifications == 1, "a cancelled request is notified once");
    conduit_close(pipe);
}

int main(void)
{
    begin(120);
    fill(sent, LARGE, 5);
    mistakes();
    all_done();
    waiting_reads("pipe", conduit());
    waiting_reads("FIFO", fifo());
    waiting_reads("socket", socket_pair(SOCK_STREAM));
    waiting_reads("terminal", terminal());
    write_that_has_begun("pipe", conduit());
    write_that_has_begun("socket", socket_pair(SOCK_STREAM));
    other_descriptors();
    files();
    races();
    is_notified();
    return check_end();
}
