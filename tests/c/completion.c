/*
 * completion.c - completion descriptors: how many completions they report, to whom, and when they report none.
 */
#include "check.h"
#include "fault.h"

#include <aio.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>

#include "include/aiofs.h"

static bool fails(int result, int error)
{
    return result == -1 && errno == error;
}

/* The count that read(2) returns; 0: no completion. */
static uint64_t notified(int completion)
{
    uint64_t count;
    return read(completion, &count, sizeof count) == sizeof count ? count : 0;
}

/* Waits until the counts add up to `count`. Returns their sum. */
static uint64_t notified_in_all(int completion, uint64_t count)
{
    uint64_t sum = 0;
    EVENTUALLY(10, (sum += notified(completion)) >= count);
    return sum;
}

static bool readable(int fd, int ms)
{
    struct pollfd one = {.fd = fd, .events = POLLIN};
    return poll(&one, 1, ms) == 1 && one.revents == POLLIN;
}

static struct sigevent naming(int completion)
{
    struct sigevent event = {.sigev_notify = AIOFS_SIGEV_COMPLETION};
    event.sigev_value.sival_int = completion;
    return event;
}

static struct aiocb request(int fd, void *buffer, size_t size, int completion)
{
    return (struct aiocb){.aio_fildes = fd, .aio_buf = buffer, .aio_nbytes = size, .aio_sigevent = naming(completion)};
}

static ssize_t outcome(struct aiocb *cb)
{
    const struct aiocb *const list[] = {cb};
    while (aio_error(cb) == EINPROGRESS)
        aio_suspend(list, 1, NULL);
    return aio_return(cb);
}

static int pair[2]; /* a pipe for reads that wait */

/* ---- notification ---------------------------------------------------------------------------------------- */

static void counts_each_end(void)
{
    char byte = 0, bytes[3] = "abc";
    int file = scratch(O_RDWR), completion = aiofs_completion_open();
    CHECK(fcntl(completion, F_GETFD) == FD_CLOEXEC && fcntl(completion, F_GETFL) & O_NONBLOCK,
          "it is close-on-exec and does not block");
    uint64_t count;
    CHECK(!readable(completion, 0) && fails((int)read(completion, &count, sizeof count), EAGAIN),
          "nothing has ended: it is not readable, and read says EAGAIN");
    struct aiocb waits = request(pair[0], &byte, 1, completion);
    MUST(aio_read(&waits));
    CHECK(!readable(completion, 50), "the descriptor is not readable while a request is in flight");
    MUST(write(pair[1], "x", 1));
    CHECK(readable(completion, 10000) && aio_error(&waits) == 0,
          "a completion makes the descriptor readable after the status is final");
    CHECK(notified(completion) == 1 && !readable(completion, 0), "read gives 1 and makes the descriptor unreadable");

    struct aiocb three[3];
    for (int i = 0; i < 3; i++) {
        three[i] = request(file, bytes + i, 1, completion);
        three[i].aio_offset = i;
        three[i].aio_reqprio = i; /* 0 completes inside the call, the others in the engine */
        MUST(aio_write(&three[i]));
    }
    struct aiocb sync = request(file, NULL, 0, completion);
    MUST(aio_fsync(O_DSYNC, &sync));
    CHECK(notified_in_all(completion, 4) == 4 && holds(file, "abc", 3, 0),
          "three writes and a sync are 4 completions");
    CHECK(aiofs_completion_close(completion) == 0 && fcntl(completion, F_GETFD) < 0,
          "the completion descriptor is closed");
    close(file);
}

static void tells_failures_too(void)
{
    char byte;
    int completion = aiofs_completion_open();
    struct aiocb bad = request(-1, &byte, 1, completion);
    CHECK(aio_read(&bad) == 0 && notified_in_all(completion, 1) == 1 && aio_error(&bad) == EBADF,
          "a failed request is notified");
    struct aiocb waits = request(pair[0], &byte, 1, completion);
    MUST(aio_read(&waits));
    CHECK(aio_cancel(pair[0], &waits) == AIO_CANCELED && notified_in_all(completion, 1) == 1,
          "a cancelled request is notified");
    struct aiocb refused = request(pair[0], &byte, 1, completion);
    refused.aio_reqprio = 1000;
    CHECK(fails(aio_read(&refused), EINVAL) && !readable(completion, 20),
          "a request refused at the call is not notified");
    aiofs_completion_close(completion);
}

static void tells_of_lists(void)
{
    enum { MANY = 20 };
    char bytes[MANY] = "";
    struct aiocb cbs[MANY], *list[MANY];
    int file = scratch(O_RDWR), each = aiofs_completion_open(), all = aiofs_completion_open();
    for (int i = 0; i < MANY; i++) {
        cbs[i] = request(file, bytes + i, 1, each);
        cbs[i].aio_offset = i;
        cbs[i].aio_lio_opcode = i % 2 ? LIO_READ : LIO_WRITE;
        list[i] = &cbs[i];
    }
    struct sigevent event = naming(all);
    MUST(lio_listio(LIO_NOWAIT, list, MANY, &event));
    CHECK(readable(all, 10000) && notified(all) == 1, "a list is notified once");
    int ended = 0;
    for (int i = 0; i < MANY; i++)
        ended += aio_error(&cbs[i]) == 0;
    CHECK(ended == MANY, "the list is notified after all of its %d requests (%d)", MANY, ended);
    CHECK(notified_in_all(each, MANY) == MANY, "each request of the list is notified by itself");
    lio_listio(LIO_WAIT, list, MANY, &event);
    CHECK(!readable(all, 20) && notified_in_all(each, MANY) == MANY, "LIO_WAIT notifies the entries only");
    aiofs_completion_close(each);
    aiofs_completion_close(all);
    close(file);
}

static void wakes_select_and_epoll(void)
{
    char byte;
    int completion = aiofs_completion_open(), epoll = (int)MUST(epoll_create1(EPOLL_CLOEXEC));
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    MUST(epoll_ctl(epoll, EPOLL_CTL_ADD, completion, &event));
    for (int i = 0; i < 3; i++) {
        struct aiocb waits = request(pair[0], &byte, 1, completion);
        MUST(aio_read(&waits));
        MUST(write(pair[1], "x", 1));
        CHECK(epoll_wait(epoll, &event, 1, 10000) == 1 && event.events == EPOLLIN,
              "epoll reports completion %d, edge-triggered", i);
        CHECK(outcome(&waits) == 1, "the status is final after the edge");
    }
    CHECK(notified(completion) == 3, "one read returns three completions");
    struct aiocb waits = request(pair[0], &byte, 1, completion);
    MUST(aio_read(&waits));
    MUST(write(pair[1], "x", 1));
    struct timeval ten = {.tv_sec = 10};
    fd_set set;
    FD_ZERO(&set);
    FD_SET(completion, &set);
    CHECK(select(completion + 1, &set, NULL, NULL, &ten) == 1 && outcome(&waits) == 1,
          "select sees a readable descriptor");
    close(epoll);
    aiofs_completion_close(completion);
}

/* ---- no notification --------------------------------------------------------------------------------------- */

static off_t size_of(int fd)
{
    struct stat found;
    MUST(fstat(fd, &found));
    return found.st_size;
}

/* A request that completes after the close must not write to the file that reuses the number. */
static void closed_one_touches_no_file(void)
{
    char byte;
    for (int way = 0; way < 2; way++) {
        int completion = aiofs_completion_open(), spare = scratch(O_RDWR);
        struct aiocb first = request(pair[0], &byte, 1, completion), second = request(pair[0], &byte, 1, completion);
        MUST(aio_read(&first));
        MUST(aio_read(&second)); /* waits for the first read */
        aiofs_completion_close(completion);
        int file = (int)MUST(fcntl(spare, F_DUPFD_CLOEXEC, completion));
        CHECK(file == completion, "a file reuses the descriptor number");
        if (way == 0) {
            MUST(write(pair[1], "xy", 2));
            CHECK(outcome(&first) == 1 && outcome(&second) == 1, "the requests complete");
        } else {
            CHECK(aio_cancel(pair[0], NULL) == AIO_CANCELED, "requests are cancelled");
            CHECK(outcome(&first) == -1 && outcome(&second) == -1, "the cancelled requests have ended");
        }
        struct aiocb late = request(spare, &byte, 1, completion);
        CHECK(aio_read(&late) == 0 && outcome(&late) == 0,
              "a later request that names the closed descriptor is not notified");
        pause_ms(20);
        CHECK(size_of(file) == 0, "the file is untouched");
        close(file);
        close(spare);
    }
}

static void next_one_is_notified_of_its_own(void)
{
    char byte, other;
    for (int way = 0; way < 2; way++) {
        int completion = aiofs_completion_open();
        struct aiocb old = request(pair[0], &byte, 1, completion);
        MUST(aio_read(&old));
        if (way == 0)
            aiofs_completion_close(completion);
        else
            close(completion); /* a mistake of the program; found when the number is reused */
        int next = aiofs_completion_open();
        CHECK(next == completion, "another completion descriptor reuses the number");
        MUST(write(pair[1], "x", 1));
        CHECK(outcome(&old) == 1 && !readable(next, 50),
              "requests of the old descriptor do not notify the new descriptor");
        struct aiocb fresh = request(pair[0], &other, 1, next);
        MUST(aio_read(&fresh));
        MUST(write(pair[1], "x", 1));
        CHECK(readable(next, 10000) && notified(next) == 1, "requests of the descriptor itself notify it");
        CHECK(aiofs_completion_close(next) == 0, "the new descriptor can be closed");
    }
}

static void refuses_what_is_none(void)
{
    int file = scratch(O_RDWR), completion = aiofs_completion_open();
    CHECK(fails(aiofs_completion_close(file), EBADF) && fcntl(file, F_GETFD) >= 0,
          "closing refuses any other descriptor");
    CHECK(fails(aiofs_completion_close(-1), EBADF), "closing refuses -1");
    CHECK(aiofs_completion_close(completion) == 0 && fails(aiofs_completion_close(completion), EBADF),
          "closing twice is refused");
    char byte;
    struct aiocb cb = request(file, &byte, 1, file);
    CHECK(aio_read(&cb) == 0 && outcome(&cb) == 0 && size_of(file) == 0,
          "a request that names a file sends no notification");
    close(file);
}

static void fails_as_eventfd_does(void)
{
    int before = open_descriptors();
    fault_inject("eventfd", 1, FAULT_ERROR, EMFILE);
    CHECK(fails(aiofs_completion_open(), EMFILE), "no descriptor is left: EMFILE");
    fault_clear();
    CHECK(open_descriptors() == before, "a refused open leaves no descriptor");
}

/* ---- fork and threads --------------------------------------------------------------------------------------- */

static void child(int inherited, int file)
{
    char byte = 'c';
    struct aiocb cb = request(file, &byte, 1, inherited);
    CHECK(aio_write(&cb) == 0 && outcome(&cb) == 1,
          "child: a request that names the parent's descriptor sends no notification");
    int own = aiofs_completion_open();
    cb = request(file, &byte, 1, own);
    cb.aio_reqprio = 1;
    CHECK(own >= 0 && aio_write(&cb) == 0 && notified_in_all(own, 1) == 1, "child: its own descriptor is notified");
    CHECK(fails(aiofs_completion_close(inherited), EBADF), "child: closing the parent's descriptor is refused");
    CHECK(aiofs_completion_close(own) == 0, "child: closing its own descriptor succeeds");
}

static void parents_are_not_the_childs(void)
{
    char byte;
    int status, completion = aiofs_completion_open(), file = scratch(O_RDWR);
    struct aiocb waits = request(pair[0], &byte, 1, completion);
    MUST(aio_read(&waits));
    fflush(stdout);
    pid_t pid = (pid_t)MUST(fork());
    if (pid == 0) {
        alarm(20);
        check_failures = 0;
        child(completion, file);
        fflush(stdout);
        _exit(check_failures != 0);
    }
    MUST(waitpid(pid, &status, 0));
    CHECK(status == 0, "the child's checks held");
    CHECK(!readable(completion, 20), "the child's requests do not notify the parent");
    MUST(write(pair[1], "x", 1));
    CHECK(readable(completion, 10000) && notified(completion) == 1, "requests of the descriptor itself notify it");
    aiofs_completion_close(completion);
    close(file);
}

enum { THREADS = 4, ROUNDS = 50, AT_ONCE = 8 };

struct worker {
    pthread_t thread;
    int file, wrong;
};

static void *open_use_close(void *argument)
{
    struct worker *own = argument;
    for (int round = 0; round < ROUNDS; round++) {
        char bytes[AT_ONCE] = "";
        struct aiocb cbs[AT_ONCE];
        int completion = aiofs_completion_open();
        for (int i = 0; i < AT_ONCE; i++) {
            cbs[i] = request(own->file, bytes + i, 1, completion);
            cbs[i].aio_reqprio = i % 2;
            aio_write(&cbs[i]);
        }
        if (round % 2 == 0)
            own->wrong += notified_in_all(completion, AT_ONCE) != AT_ONCE;
        own->wrong += aiofs_completion_close(completion) != 0;
        for (int i = 0; i < AT_ONCE; i++)
            own->wrong += outcome(&cbs[i]) != 1;
    }
    own->wrong += size_of(own->file) != 1;
    return NULL;
}

static void threads_do_not_meet(void)
{
    struct worker workers[THREADS];
    int before = open_descriptors(), wrong = 0;
    for (int i = 0; i < THREADS; i++)
        workers[i] = (struct worker){.file = scratch(O_RDWR)};
    for (int i = 0; i < THREADS; i++)
        MUST(-pthread_create(&workers[i].thread, NULL, open_use_close, &workers[i]));
    for (int i = 0; i < THREADS; i++) {
        pthread_join(workers[i].thread, NULL);
        wrong += workers[i].wrong;
        close(workers[i].file);
    }
    CHECK(wrong == 0, "%d threads open, use and close %d each: %d mistakes", THREADS, ROUNDS, wrong);
    CHECK(open_descriptors() == before, "no descriptor is left");
    struct aiofs_counters counters;
    CHECK(EVENTUALLY(PATIENCE, (aiofs_engine_counters(&counters), counters.files == 0)),
          "the engine keeps no entry of a closed completion descriptor");
}

int main(void)
{
    check_begin(60);
    fault_attach(&aiofs_sys);
    check_engine();
    MUST(pipe2(pair, O_CLOEXEC));
    counts_each_end();
    tells_failures_too();
    tells_of_lists();
    wakes_select_and_epoll();
    closed_one_touches_no_file();
    next_one_is_notified_of_its_own();
    refuses_what_is_none();
    fails_as_eventfd_does();
    threads_do_not_meet();
    if (CAN_FORK_WITH_THREADS)
        parents_are_not_the_childs();
    return check_end();
}
