/*
 * scale.c - very many requests, threads and descriptors. Fewer under a sanitizer, and if SHORT is set.
 */
#include "program.h"

static char bytes[4096];
static int divisor = 1;

static int scaled(int count)
{
    return count / divisor;
}

/* ---- outstanding ------------------------------------------------------------------------------------------------- */

/* The aiocbs are on the heap. If a request does not complete, they are not freed. */
static struct aiocb *many_reads(struct conduit pipe, char *into, int count)
{
    struct aiocb *cbs = calloc((size_t)count, sizeof *cbs);
    int accepted = 0;
    for (int i = 0; i < count; i++) {
        cbs[i] = request(pipe.out, into + i, 1, 0);
        accepted += aio_read(&cbs[i]) == 0;
    }
    CHECK(accepted == count, "%d requests outstanding", count);
    return cbs;
}

static void outstanding(void)
{
    int count = scaled(100000), half = count / 2, good = 0;
    struct conduit pipe = conduit();
    char *into = calloc((size_t)count, 1), *data = malloc((size_t)count);
    struct aiocb *cbs = many_reads(pipe, into, count);
    fill(data, (size_t)count, 5);
    for (int put = 0; put < half;)
        put += (int)MUST(write(pipe.in, data + put, (size_t)(half - put)));
    for (int i = 0; i < half; i++)
        good += succeeds(&cbs[i], 1);
    CHECK(good == half && memcmp(into, data, (size_t)half) == 0, "half of the requests get their bytes, in order");
    CHECK(aio_cancel(pipe.out, NULL) == AIO_CANCELED, "one aio_cancel call cancels the other requests");
    for (int i = half; i < count; i++)
        good += aio_error(&cbs[i]) == ECANCELED;
    CHECK(good == count, "all of the requests have ended when aio_cancel returns");
    free(cbs);
    free(into);
    free(data);
    conduit_close(pipe);
}

static void one_suspend(void)
{
    int count = scaled(10000), good = 0;
    struct conduit pipe = conduit(), last = conduit();
    char *into = calloc((size_t)count, 1);
    struct aiocb *cbs = many_reads(pipe, into, count);
    const struct aiocb **list = calloc((size_t)count + 1, sizeof *list);
    struct aiocb other = request(last.out, bytes, 1, 0);
    for (int i = 0; i < count; i++)
        list[i] = &cbs[i];
    list[count] = &other;
    MUST(aio_read(&other));
    CHECK(REFUSED(aio_suspend(list, count + 1, &(struct timespec){0, 1000000}), EAGAIN),
          "aio_suspend on %d requests waits until the time-out", count + 1);
    MUST(write(last.in, "x", 1));
    CHECK(aio_suspend(list, count + 1, NULL) == 0 && aio_error(&other) == 0,
          "aio_suspend returns for the last request of the list");
    MUST(write(pipe.in, "x", 1));
    CHECK(aio_suspend(list, count, NULL) == 0 && aio_error(&cbs[0]) == 0,
          "aio_suspend returns for the first request of the list");
    MUST(aio_cancel(pipe.out, NULL));
    for (int i = 1; i < count; i++)
        good += aio_error(&cbs[i]) == ECANCELED;
    CHECK(good == count - 1, "the others are cancelled");
    free(cbs);
    free(into);
    free(list);
    conduit_close(pipe);
    conduit_close(last);
}

/* ---- threads ----------------------------------------------------------------------------------------------------- */

/* Submits all kinds of requests, on its own file and its own pipe. */
static void *worker(void *argument)
{
    unsigned char mine[2000], back[2000];
    struct conduit pipe = conduit();
    int fd = scratch(O_RDWR), rounds = scaled(200) + 5;
    intptr_t wrong = 0;
    fill(mine, sizeof mine, (unsigned)(intptr_t)argument);
    for (int i = 0; i < rounds; i++) {
        struct aiocb cbs[4] = {request(fd, mine, sizeof mine, i * 100), request(fd, mine, 100, 1000000),
                               request(pipe.out, back, 1, 0), request(pipe.out, back + 1, 1, 0)};
        struct aiocb *const list[] = {&cbs[0], &cbs[1]}, sync = request(fd, NULL, 0, 0);
        cbs[0].aio_lio_opcode = cbs[1].aio_lio_opcode = LIO_WRITE;
        cbs[0].aio_reqprio = i % 3;
        wrong += aio_read(&cbs[2]) + aio_read(&cbs[3]) != 0;
        wrong += lio_listio(LIO_WAIT, list, 2, NULL) != 0;
        wrong += aio_cancel(pipe.out, &cbs[3]) != AIO_CANCELED;
        MUST(write(pipe.in, "x", 1));
        wrong += !succeeds(&cbs[2], 1) || !succeeds(&cbs[0], sizeof mine) || !fails(&cbs[3], ECANCELED);
        wrong += i % 50 == 0 && (aio_fsync(O_DSYNC, (struct aiocb *)(uintptr_t)&sync) != 0 || end_of(&sync) != 0);
        wrong += read_now(fd, back, sizeof back, i * 100) != sizeof back || memcmp(back, mine, sizeof back) != 0;
    }
    close(fd);
    conduit_close(pipe);
    return (void *)wrong;
}

static void sixty_four_threads(void)
{
    enum { THREADS = 64 };
    pthread_t threads[THREADS];
    int good = 0;
    raise_descriptors(THREADS * 4 + 50);
    for (intptr_t i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, worker, (void *)i);
    for (int i = 0; i < THREADS; i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        good += wrong == NULL;
    }
    CHECK(good == THREADS, "sixty-four threads submit, wait, sync and cancel");
}

/* ---- in a row ---------------------------------------------------------------------------------------------------- */

static long resident_kb(void)
{
    char line[100];
    long pages = 0, total = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    if (statm && fgets(line, sizeof line, statm) && sscanf(line, "%ld %ld", &total, &pages) != 2)
        pages = 0;
    if (statm)
        fclose(statm);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

/* One in ten goes to the engine; one in a thousand is cancelled, fails or syncs. aio_return is not called. */
static bool one(int fd, struct conduit pipe, int i)
{
    struct aiocb cb = request(i % 1000 == 1 ? pipe.out : i % 1000 == 2 ? -1 : fd, bytes, sizeof bytes, i % 64 * 4096);
    cb.aio_reqprio = i % 10 == 0;
    if (i % 1000 == 3)
        return aio_fsync(O_DSYNC, &cb) == 0 && end_of(&cb) == 0;
    if (i % 1000 == 4)
        return aio_write(&cb) == 0 && end_of(&cb) == 0;
    if (aio_read(&cb) != 0)
        return false;
    if (i % 1000 == 1)
        return aio_cancel(pipe.out, &cb) == AIO_CANCELED;
    return end_of(&cb) == (i % 1000 == 2 ? EBADF : 0);
}

static void a_million_in_a_row(void)
{
    enum { GROWTH_KB = 8 * 1024 };
    int count = scaled(1000000), good = 0;
    int fd = scratch(O_RDWR);
    struct conduit pipe = conduit();
    long before = 0;
    for (int i = 0; i < 64; i++)
        MUST(pwrite(fd, bytes, sizeof bytes, i * 4096));
    for (int i = 0; i < count; i++) {
        good += one(fd, pipe, i);
        if (i == count / 10)
            before = resident_kb();
    }
    long grown = resident_kb() - before;
    CHECK(good == count, "%d requests in a row without aio_return", count);
    CHECK(SANITIZED || grown < GROWTH_KB, "memory does not grow (%ld KB more)", grown);
    close(fd);
    conduit_close(pipe);
}

int main(void)
{
    if (SANITIZED || getenv("SHORT"))
        divisor = 20;
    begin(600);
    outstanding();
    one_suspend();
    sixty_four_threads();
    a_million_in_a_row();
    return check_end();
}
