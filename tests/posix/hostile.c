/*
 * hostile.c - programs that break the rules. A call is refused, or does what it was asked for; nothing may crash, and
 * no other file may change.
 *
 * The bystander is a file that no request names. After each part it must be unchanged. The tests free memory as soon as
 * POSIX allows, so that a sanitizer finds a later use.
 */
#include "program.h"

enum { LARGE = 300000, BYSTANDER = 64 * 1024 };

static unsigned char sent[LARGE], got[LARGE], content[BYSTANDER];
static int bystander;

static void after(const char *attack)
{
    struct stat stat;
    CHECK(fstat(bystander, &stat) == 0 && stat.st_size == BYSTANDER && holds(bystander, content, BYSTANDER, 0),
          "%s: no other file is touched", attack);
    struct conduit pipe = conduit();
    int fd = scratch(O_RDWR);
    char byte = 0;
    struct aiocb cb = request(pipe.out, &byte, 1, 0);
    MUST(aio_read(&cb));
    CHECK(write_now(fd, sent, LARGE, 0) == LARGE && read_now(fd, got, LARGE, 0) == LARGE && memcmp(sent, got, LARGE) == 0,
          "%s: files work afterwards", attack);
    MUST(write(pipe.in, "x", 1));
    CHECK(succeeds(&cb, 1) && byte == 'x', "%s: requests on pipes complete", attack);
    conduit_close(pipe);
    close(fd);
}

static unsigned random_state;

static unsigned any(void)
{
    random_state = random_state * 1103515245 + 12345;
    return random_state >> 8;
}

/* ---- garbage ----------------------------------------------------------------------------------------------------- */

static void randomize(struct aiocb *cb)
{
    unsigned char *bytes = (unsigned char *)cb;
    for (size_t i = 0; i < sizeof *cb; i++)
        bytes[i] = (unsigned char)any();
    cb->aio_fildes |= 1 << 30; /* no open descriptor */
    cb->aio_sigevent.sigev_notify |= 1 << 20;
}

static void garbage(void)
{
    enum { COUNT = 2000 };
    int wrong = 0;
    for (int i = 0; i < COUNT; i++) {
        struct aiocb cb, *const list[] = {&cb};
        randomize(&cb);
        wrong += aio_error(&cb) != -1 || aio_return(&cb) != -1;
        wrong += aio_suspend((const struct aiocb *const *)list, 1, NULL) != 0;
        wrong += aio_cancel(bystander, &cb) != -1 || aio_cancel(cb.aio_fildes, &cb) != -1;
        wrong += aio_fsync((int)any() | 1, &cb) != -1;
        if (aio_read(&cb) == 0)
            wrong += end_of(&cb) == 0;
        if (aio_write(&cb) == 0)
            wrong += end_of(&cb) == 0;
        wrong += lio_listio(LIO_WAIT, list, 1, NULL) == 0 && cb.aio_lio_opcode != LIO_NOP;
    }
    CHECK(wrong == 0, "an aiocb of random bytes never succeeds");
    after("garbage");
}

static void huge_sizes(void)
{
    const size_t sizes[] = {SIZE_MAX, SSIZE_MAX, (size_t)SSIZE_MAX + 1, SSIZE_MAX - 4096, INT_MAX, UINT_MAX, 1ull << 40};
    int fd = scratch(O_RDWR), target = scratch(O_RDWR);
    struct conduit pipe = conduit();
    char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int ended = 0;
    MUST(mprotect(page + 4096, 4096, PROT_NONE));
    MUST(pwrite(fd, sent, 2048, 0));
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        struct aiocb in = request(fd, page, sizes[i], 0), out = request(target, page, sizes[i], 0);
        ended += aio_read(&in) == 0 && end_of(&in) != EINPROGRESS && aio_return(&in) <= 2048;
        ended += aio_write(&out) == 0 && end_of(&out) != EINPROGRESS && aio_return(&out) <= 4096;
        struct aiocb stream = request(pipe.out, page, sizes[i], 0);
        MUST(write(pipe.in, "abc", 3));
        ended += aio_read(&stream) == 0 && end_of(&stream) != EINPROGRESS && aio_return(&stream) <= 3;
        MUST(fcntl(pipe.out, F_SETFL, O_NONBLOCK));
        while (read(pipe.out, got, 100) > 0)
            ;
        MUST(fcntl(pipe.out, F_SETFL, 0));
    }
    CHECK(ended == 3 * COUNT_OF(sizes), "a buffer shorter than aio_nbytes: no byte past the mapped memory is moved");
    munmap(page, 8192);
    conduit_close(pipe);
    close(fd);
    close(target);
    after("huge sizes");
}

/* ---- memory that is freed at once -------------------------------------------------------------------------------- */

static void freed_at_once(void)
{
    int fd = scratch(O_RDWR);
    struct conduit pipe = conduit();
    for (int i = 0; i < 2000; i++) {
        struct aiocb *cb = malloc(sizeof *cb);
        char *buffer = malloc(300000);
        bool stream = i % 2;
        *cb = request(stream ? pipe.out : fd, buffer, stream ? 1 : 300000, 0);
        memset(buffer, i, 300000);
        stream ? aio_read(cb) : aio_write(cb);
        if (stream && i % 4 == 1)
            aio_cancel(pipe.out, cb);
        else if (stream)
            MUST(write(pipe.in, "x", 1));
        while (in_progress(cb))
            ;
        memset(cb, 0xdd, sizeof *cb);
        memset(buffer, 0xdd, 300000);
        free(cb);
        free(buffer);
    }
    conduit_close(pipe);
    close(fd);
    after("memory given back at the end");
}

/* ---- many threads ------------------------------------------------------------------------------------------------ */

enum { THREADS = 8, SHARED = 16 };

static struct aiocb shared[SHARED];
static pthread_mutex_t shared_lock[SHARED];
static int shared_files[4];
static _Atomic int wrong_verdicts, unlike_canceled, unlike_done, refused;

/* Takes random aiocbs and submits them, cancels them or asks for their status, whatever their state is. */
static void *juggle(void *argument)
{
    unsigned state = (unsigned)(uintptr_t)argument;
    for (int i = 0; i < 3000; i++) {
        state = state * 1103515245 + 12345;
        unsigned which = (state >> 8) % SHARED, what = (state >> 16) % 6;
        struct aiocb *cb = &shared[which];
        pthread_mutex_lock(&shared_lock[which]);
        switch (what) {
        case 0:
        case 1:
            if (!in_progress(cb)) {
                *cb = request(shared_files[state % 4], sent, (state >> 20) % 2 ? 100 : LARGE, which * LARGE);
                if (state % 3 == 0)
                    cb->aio_buf = got;
            }
            if (cb->aio_buf == got ? aio_read(cb) : aio_write(cb)) /* EINVAL if it is in flight */
                refused += errno != EINVAL;
            break;
        case 2:
            unlike_canceled += aio_cancel(cb->aio_fildes, cb) == AIO_CANCELED && aio_error(cb) != ECANCELED;
            break;
        case 3:
            aio_cancel(shared_files[state % 4], NULL);
            break;
        case 4:
            unlike_done += aio_cancel(cb->aio_fildes, cb) == AIO_ALLDONE && in_progress(cb);
            break;
        default:
            aio_error(cb);
            aio_return(cb);
            aio_suspend((const struct aiocb *const[]){cb}, 1, &(struct timespec){0, 1000});
        }
        pthread_mutex_unlock(&shared_lock[which]);
    }
    return NULL;
}

static void resubmitted(void)
{
    pthread_t threads[THREADS];
    struct conduit pipe = conduit();
    MUST(fcntl(pipe.out, F_SETFL, O_NONBLOCK));
    shared_files[0] = scratch(O_RDWR);
    shared_files[1] = scratch(O_RDWR | O_APPEND);
    shared_files[2] = pipe.in;
    shared_files[3] = -1;
    for (int i = 0; i < SHARED; i++) {
        shared[i] = request(shared_files[0], sent, 1, 0);
        pthread_mutex_init(&shared_lock[i], NULL);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, juggle, (void *)(uintptr_t)any());
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    close(pipe.out); /* the remaining writes fail with EPIPE */
    for (int i = 0; i < SHARED; i++)
        end_of(&shared[i]);
    CHECK(unlike_canceled == 0 && unlike_done == 0,
          "aiocbs submitted and cancelled by many threads: each verdict is true (%d, %d)", unlike_canceled, unlike_done);
    CHECK(refused == 0, "only an aiocb in flight is refused (%d)", refused);
    close(pipe.in);
    close(shared_files[0]);
    close(shared_files[1]);
    after("aiocbs resubmitted by many threads");
}

static void *cancel_everything(void *argument)
{
    struct aiocb *cbs = argument;
    intptr_t taken = 0;
    for (int i = 0; i < SHARED; i++)
        taken += aio_cancel(cbs[i].aio_fildes, &cbs[i]) == AIO_CANCELED;
    return (void *)taken;
}

static void cancelled_by_many(void)
{
    pthread_t threads[THREADS];
    struct conduit pipe = conduit();
    int wrong = 0;
    for (int round = 0; round < 50; round++) {
        char bytes[SHARED];
        for (int i = 0; i < SHARED; i++) {
            shared[i] = request(pipe.out, &bytes[i], 1, 0);
            MUST(aio_read(&shared[i]));
        }
        for (int i = 0; i < THREADS; i++)
            pthread_create(&threads[i], NULL, cancel_everything, shared);
        for (int i = 0; i < THREADS; i++)
            pthread_join(threads[i], NULL);
        for (int i = 0; i < SHARED; i++)
            wrong += aio_error(&shared[i]) != ECANCELED;
        wrong += aio_cancel(pipe.out, NULL) != AIO_ALLDONE;
    }
    CHECK(wrong == 0, "cancelled by eight threads at once, all are cancelled");
    conduit_close(pipe);
    after("cancelled many times");
}

/* Several threads submit one aiocb at the same time, without a lock. */
static void *submit_the_same(void *argument)
{
    for (int i = 0; i < 5000; i++)
        if (i % 2)
            aio_write(argument);
        else
            aio_error(argument);
    return NULL;
}

static void submitted_at_once(void)
{
    static struct aiocb cb;
    pthread_t threads[4];
    int fd = scratch(O_RDWR);
    cb = request(fd, sent, 1000, 0);
    cb.aio_reqprio = 1;
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, submit_the_same, &cb);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    struct aiocb sync = request(fd, NULL, 0, 0);
    CHECK(aio_fsync(O_SYNC, &sync) == 0 && succeeds(&sync, 0), "one aiocb submitted by four threads at once");
    CHECK(holds(fd, sent, 1000, 0), "the accepted write stored its bytes");
    close(fd);
    after("submitted at once");
}

/* ---- descriptor numbers in reuse --------------------------------------------------------------------------------- */

static _Atomic bool closing_over;

/* Opens and closes files, so other threads soon reuse the numbers. */
static void *open_and_close(void *argument)
{
    struct aiocb *cbs = argument;
    while (!closing_over) {
        int fd = scratch(O_RDWR);
        for (int i = 0; i < 4; i++) {
            cbs[i] = request(fd, sent, i % 2 ? LARGE : 10, i * 1000);
            aio_write(&cbs[i]);
        }
        close(fd);
        for (int i = 0; i < 4; i++)
            if (end_of(&cbs[i]) != 0)
                wrong_verdicts++;
    }
    return NULL;
}

/* Files that are open meanwhile must not change. */
static void numbers_in_a_storm(void)
{
    static struct aiocb cbs[THREADS][4];
    pthread_t threads[THREADS];
    int good = 0;
    wrong_verdicts = 0;
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, open_and_close, cbs[i]);
    for (int i = 0; i < 200; i++) {
        struct stat stat;
        int fd = scratch(O_RDWR);
        MUST(pwrite(fd, content, 4096, 0));
        sched_yield();
        good += fstat(fd, &stat) == 0 && stat.st_size == 4096 && holds(fd, content, 4096, 0);
        close(fd);
    }
    closing_over = true;
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK(good == 200, "files that reuse descriptor numbers are unchanged");
    CHECK(wrong_verdicts == 0, "requests on the closed files complete");
    after("closed in flight");
}

/* ---- signals ----------------------------------------------------------------------------------------------------- */

static struct aiocb stormed;
static _Atomic int storms; /* async-signal-safe functions */

static void in_storm(int signo)
{
    int saved = errno;
    (void)signo;
    aio_error(&stormed);
    aio_suspend((const struct aiocb *const[]){&stormed}, 1, &(struct timespec){0, 0});
    storms++;
    errno = saved;
}

static void *storm(void *argument)
{
    while (!closing_over) {
        kill(getpid(), SIGUSR1);
        pthread_kill(*(pthread_t *)argument, SIGUSR2);
        pause_ms(1);
    }
    return NULL;
}

static void signal_storm(void)
{
    pthread_t self = pthread_self(), threads[2];
    struct conduit pipe = conduit();
    int fd = scratch(O_RDWR), good = 0;
    char byte;
    handle(SIGUSR1, SA_RESTART, in_storm);
    handle(SIGUSR2, 0, in_storm);
    stormed = request(pipe.out, &byte, 1, 0);
    MUST(aio_read(&stormed));
    closing_over = false;
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, storm, &self);
    int rounds = 0;
    for (double end = now() + PATIENCE; (rounds < 500 || storms < 100) && now() < end; rounds++) {
        struct aiocb cb = request(fd, sent, rounds % 2 ? LARGE : 1000, rounds % 500 * 100);
        good += aio_write(&cb) == 0 && succeeds(&cb, rounds % 2 ? LARGE : 1000);
    }
    closing_over = true;
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    CHECK(good == rounds && storms >= 100, "requests complete in a storm of signals (%d, %d)", rounds, (int)storms);
    MUST(write(pipe.in, "x", 1));
    CHECK(succeeds(&stormed, 1), "the read that waited during the storm completes");
    conduit_close(pipe);
    close(fd);
    after("a storm of signals");
}

/* ---- no descriptors ---------------------------------------------------------------------------------------------- */

static void no_descriptors_left(void)
{
    enum { LIMIT = 128 };
    struct rlimit before, limit;
    int fd = scratch(O_RDWR), taken[LIMIT], count = 0, good = 0;
    struct conduit pipe = conduit();
    char byte;
    MUST(getrlimit(RLIMIT_NOFILE, &before));
    limit = before;
    limit.rlim_cur = LIMIT;
    MUST(setrlimit(RLIMIT_NOFILE, &limit));
    while (count < LIMIT && (taken[count] = dup(fd)) >= 0)
        count++;
    for (int i = 0; i < 50; i++) {
        struct aiocb cb = request(pipe.out, &byte, 1, 0);
        MUST(aio_read(&cb));
        MUST(write(pipe.in, "x", 1));
        good += succeeds(&cb, 1) && write_now(fd, sent, LARGE, 0) == LARGE;
    }
    MUST(setrlimit(RLIMIT_NOFILE, &before));
    while (count-- > 0)
        close(taken[count]);
    CHECK(good == 50, "requests need no descriptor of the program's");
    conduit_close(pipe);
    close(fd);
    after("no descriptors");
}

int main(void)
{
    begin(300);
    random_state = chance(12345);
    fill(sent, LARGE, 1);
    fill(content, BYSTANDER, 77);
    bystander = scratch(O_RDWR);
    MUST(pwrite(bystander, content, BYSTANDER, 0));
    garbage();
    huge_sizes();
    freed_at_once();
    resubmitted();
    cancelled_by_many();
    if (CAN_FORK_WITH_THREADS) /* ThreadSanitizer reports the program's own data races */
        submitted_at_once();
    numbers_in_a_storm();
    signal_storm();
    no_descriptors_left();
    return check_end();
}
