/*
 * listio.c - lio_listio: the entries that it accepts, when it returns, and its notifications.
 */
#include "program.h"

enum { LARGE = 600000 };

static char sent[LARGE], got[LARGE];
static struct conduit pipes;

static struct aiocb entry(int opcode, int fd, void *buffer, size_t size, off_t offset)
{
    struct aiocb cb = request(fd, buffer, size, offset);
    cb.aio_lio_opcode = opcode;
    return cb;
}

static struct aiocb waiting_entry(void)
{
    return entry(LIO_READ, pipes.out, got, 1, 0);
}

static void end_waiting(struct aiocb *cb)
{
    MUST(write(pipes.in, "x", 1));
    CHECK(succeeds(cb, 1), "the entry's aiocb was not changed");
}

/* ---- counting notifications -------------------------------------------------------------------------------------- */

static _Atomic int list_notified, entries_notified, notified_early;
static struct aiocb *watched[8];

static void count_entry(union sigval value)
{
    notified_early += in_progress(value.sival_ptr);
    entries_notified++;
}

static void count_list(union sigval value)
{
    (void)value;
    for (size_t i = 0; i < COUNT_OF(watched); i++)
        notified_early += watched[i] && in_progress(watched[i]);
    list_notified++;
}

static struct sigevent list_event(void)
{
    struct sigevent event;
    memset(&event, 0, sizeof event);
    notify_by_thread(&event, count_list, NULL);
    list_notified = entries_notified = notified_early = 0;
    memset(watched, 0, sizeof watched);
    return event;
}

/* Waits until the count is `expected`. True: it is not more after a while. */
static bool notified(const _Atomic int *count, int expected)
{
    bool reached = EVENTUALLY(PATIENCE, *count >= expected);
    pause_ms(20);
    return reached && *count == expected;
}

/* ---- the entries ------------------------------------------------------------------------------------------------- */

static void refused_lists(void)
{
    int fd = scratch(O_RDWR);
    struct stat stat;
    struct aiocb cb = entry(LIO_WRITE, fd, sent, 10, 0), *const list[] = {&cb};
    struct sigevent event = list_event();
    const int modes[] = {-1, 2, 17, INT_MAX};
    for (size_t i = 0; i < COUNT_OF(modes); i++)
        CHECK(REFUSED(lio_listio(modes[i], list, 1, &event), EINVAL), "mode %d: EINVAL", modes[i]);
    CHECK(REFUSED(lio_listio(LIO_WAIT, list, -1, NULL), EINVAL) && REFUSED(lio_listio(LIO_NOWAIT, list, -1, &event), EINVAL),
          "nent < 0: EINVAL");
    CHECK(REFUSED(aio_error(&cb), EINVAL) && fstat(fd, &stat) == 0 && stat.st_size == 0,
          "the refused call started no request");
    CHECK(notified(&list_notified, 0), "the refused call sent no notification");
    close(fd);
}

static void reads_and_writes(int mode)
{
    enum { COUNT = 8 };
    int fd = scratch(O_RDWR), source = scratch(O_RDWR), good = 0;
    struct aiocb cbs[COUNT], *list[COUNT];
    MUST(pwrite(source, sent, LARGE, 0));
    memset(got, 0, LARGE);
    for (int i = 0; i < COUNT; i++) {
        cbs[i] = i % 2 ? entry(LIO_READ, source, got + i * 70000, 70000, i * 70000)
                       : entry(LIO_WRITE, fd, sent + i * 70000, 70000, i * 70000);
        list[i] = &cbs[i];
    }
    CHECK(lio_listio(mode, list, COUNT, NULL) == 0, "a list of reads and writes");
    for (int i = 0; i < COUNT; i++)
        good += mode == LIO_NOWAIT || !in_progress(&cbs[i]);
    CHECK(good == COUNT, "LIO_WAIT returns when all are terminal");
    good = 0;
    for (int i = 0; i < COUNT; i++)
        good += succeeds(&cbs[i], 70000) && (i % 2 ? memcmp(got + i * 70000, sent + i * 70000, 70000) == 0
                                                   : holds(fd, sent + i * 70000, 70000, i * 70000));
    CHECK(good == COUNT, "each entry carried out its opcode");
    close(fd);
    close(source);
}

static void skipped_entries(int mode)
{
    int fd = scratch(O_RDWR);
    struct aiocb nop = entry(LIO_NOP, -1, NULL, 5, -5), cb = entry(LIO_WRITE, fd, sent, 10, 0);
    struct aiocb *const list[] = {NULL, &nop, &cb, NULL};
    nop.aio_reqprio = -99;
    notify_by_thread(&nop.aio_sigevent, count_entry, &nop);
    struct sigevent event = list_event();
    CHECK(lio_listio(mode, list, 4, &event) == 0 && succeeds(&cb, 10), "NULL and LIO_NOP entries are skipped");
    CHECK(REFUSED(aio_error(&nop), EINVAL) && notified(&entries_notified, 0), "skipped entries send no notification");
    close(fd);
}

static void listed_again(void)
{
    int fd = scratch(O_RDWR);
    struct aiocb cb = entry(LIO_WRITE, fd, sent, 10, 0), *const list[] = {&cb};
    CHECK(lio_listio(LIO_WAIT, list, 1, NULL) == 0 && succeeds(&cb, 10) && lio_listio(LIO_WAIT, list, 1, NULL) == 0 &&
              succeeds(&cb, 10),
          "an aiocb is listed again once it is terminal");
    CHECK(lio_listio(LIO_WAIT, list, 0, NULL) == 0 && lio_listio(LIO_NOWAIT, list, 0, NULL) == 0,
          "an empty list is a success");
    close(fd);
}

/* ---- failures ---------------------------------------------------------------------------------------------------- */

/* One invalid entry among valid ones, in both modes. */
static void bad_entry(struct aiocb bad, int error, const char *what)
{
    const int modes[] = {LIO_WAIT, LIO_NOWAIT};
    int fd = scratch(O_RDWR);
    for (int i = 0; i < 2; i++) {
        struct aiocb first = entry(LIO_WRITE, fd, sent, 10, 0), last = entry(LIO_WRITE, fd, sent, LARGE, 10), broken = bad;
        struct aiocb *const list[] = {&first, &broken, &last};
        struct sigevent event = list_event();
        notify_by_thread(&broken.aio_sigevent, count_entry, &broken);
        bool as_said = modes[i] == LIO_WAIT ? REFUSED(lio_listio(LIO_WAIT, list, 3, NULL), EIO)
                                            : lio_listio(LIO_NOWAIT, list, 3, &event) == 0;
        CHECK(as_said, "%s: LIO_%s", what, i ? "NOWAIT returns 0" : "WAIT fails with EIO");
        CHECK(fails(&broken, error), "%s: the entry ends with its own error", what);
        CHECK(succeeds(&first, 10) && succeeds(&last, LARGE), "%s: the other entries complete", what);
        CHECK(notified(&entries_notified, 1) && notified_early == 0, "%s: the entry is notified, once", what);
        CHECK(notified(&list_notified, i), "%s: the list is notified%s", what, i ? ", too" : " only in LIO_NOWAIT");
    }
    close(fd);
}

static void failures(void)
{
    int fd = scratch(O_RDWR);
    bad_entry(entry(4711, fd, got, 10, 0), EINVAL, "a bad opcode");
    bad_entry(entry(-1, fd, got, 10, 0), EINVAL, "opcode -1");
    bad_entry(entry(LIO_READ, -1, got, 10, 0), EBADF, "a bad descriptor");
    bad_entry(entry(LIO_READ, fd, got, 10, -1), EINVAL, "a negative offset");
    struct aiocb priority = entry(LIO_WRITE, fd, got, 10, 0);
    priority.aio_reqprio = 21;
    bad_entry(priority, EINVAL, "a priority out of range");
    close(fd);
}

static void cancelled_entry(void)
{
    struct aiocb cb = waiting_entry(), *const list[] = {&cb};
    struct sigevent event = list_event();
    notify_by_thread(&cb.aio_sigevent, count_entry, &cb);
    CHECK(lio_listio(LIO_NOWAIT, list, 1, &event) == 0 && aio_cancel(pipes.out, &cb) == AIO_CANCELED && fails(&cb, ECANCELED),
          "an entry is cancelled");
    CHECK(notified(&entries_notified, 1) && notified(&list_notified, 1),
          "a cancelled entry and its list are notified");
}

/* ---- LIO_WAIT ---------------------------------------------------------------------------------------------------- */

static _Atomic bool answered;

static void *answer_later(void *argument)
{
    pause_ms(50);
    answered = true;
    MUST(write(pipes.in, "x", 1));
    return argument;
}

static void wait_waits(void)
{
    int fd = scratch(O_RDWR);
    struct aiocb quick = entry(LIO_WRITE, fd, sent, 10, 0), slow = waiting_entry(), *const list[] = {&quick, &slow};
    struct sigevent event = list_event();
    pthread_t thread;
    notify_by_thread(&quick.aio_sigevent, count_entry, &quick);
    notify_by_thread(&slow.aio_sigevent, count_entry, &slow);
    answered = false;
    pthread_create(&thread, NULL, answer_later, NULL);
    CHECK(lio_listio(LIO_WAIT, list, 2, &event) == 0 && answered && !in_progress(&slow) && !in_progress(&quick),
          "LIO_WAIT waits for the slowest");
    pthread_join(thread, NULL);
    CHECK(succeeds(&quick, 10) && succeeds(&slow, 1), "all entries have ended when LIO_WAIT returns");
    CHECK(notified(&list_notified, 0), "LIO_WAIT ignores sig");
    CHECK(notified(&entries_notified, 2), "LIO_WAIT honours the sigevents of the entries");
    event.sigev_notify = 4711;
    CHECK(lio_listio(LIO_WAIT, list, 0, &event) == 0, "LIO_WAIT ignores an invalid sig");
    close(fd);
}

static _Atomic bool pester_over;

static void *pester(void *argument)
{
    while (!pester_over) {
        pthread_kill(*(pthread_t *)argument, SIGUSR1);
        pause_ms(5);
    }
    return NULL;
}

static void interrupted(int flags, const char *what)
{
    struct aiocb cb = waiting_entry(), *const list[] = {&cb};
    pthread_t self = pthread_self(), thread;
    handle(SIGUSR1, flags, see_signal);
    pester_over = false;
    pthread_create(&thread, NULL, pester, &self);
    CHECK(REFUSED(lio_listio(LIO_WAIT, list, 1, NULL), EINTR), "a handled signal: EINTR, %s", what);
    pester_over = true;
    pthread_join(thread, NULL);
    CHECK(in_progress(&cb), "the interrupted LIO_WAIT leaves its request in flight");
    end_waiting(&cb);
}

/* ---- LIO_NOWAIT -------------------------------------------------------------------------------------------------- */

static void notified_after_the_last(void)
{
    int fd = scratch(O_RDWR);
    struct aiocb quick = entry(LIO_WRITE, fd, sent, LARGE, 0), slow = waiting_entry(), *const list[] = {&quick, NULL, &slow};
    struct sigevent event = list_event();
    watched[0] = &quick;
    watched[1] = &slow;
    CHECK(lio_listio(LIO_NOWAIT, list, 3, &event) == 0 && in_progress(&slow), "LIO_NOWAIT does not wait");
    memset(&event, 0xee, sizeof event); /* the program owns the array again */
    CHECK(succeeds(&quick, LARGE) && notified(&list_notified, 0),
          "the list is not notified while an entry is in progress");
    MUST(write(pipes.in, "x", 1));
    CHECK(notified(&list_notified, 1) && notified_early == 0 && succeeds(&slow, 1),
          "the list is notified once after every entry is terminal");
    close(fd);
}

static void notified_at_once(void)
{
    struct aiocb nop = entry(LIO_NOP, -1, NULL, 0, 0), *const list[] = {NULL, &nop};
    struct sigevent event = list_event();
    CHECK(lio_listio(LIO_NOWAIT, list, 2, &event) == 0 && notified(&list_notified, 1),
          "a list with nothing to do is notified at once");
    event = list_event();
    CHECK(lio_listio(LIO_NOWAIT, list, 0, &event) == 0 && notified(&list_notified, 1),
          "an empty list is notified at once");
}

static void notified_by_signal(void)
{
    int fd = scratch(O_RDWR);
    sigset_t set;
    siginfo_t info;
    struct aiocb cb = entry(LIO_WRITE, fd, sent, 10, 0), slow = waiting_entry(), *const list[] = {&cb, &slow};
    struct sigevent event;
    const struct timespec patience = {.tv_sec = PATIENCE}, none = {0, 0};
    memset(&event, 0, sizeof event);
    notify_by_signal(&event, SIGRTMIN + 2, 4711);
    notify_by_signal(&cb.aio_sigevent, SIGRTMIN + 3, 1);
    notify_by_signal(&slow.aio_sigevent, SIGRTMIN + 3, 2);
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 3);
    CHECK(lio_listio(LIO_NOWAIT, list, 2, &event) == 0 && sigtimedwait(&set, &info, &patience) == SIGRTMIN + 3 &&
              info.si_value.sival_int == 1,
          "an entry has its own signal");
    MUST(write(pipes.in, "x", 1));
    CHECK(sigtimedwait(&set, &info, &patience) == SIGRTMIN + 3 && info.si_value.sival_int == 2,
          "and so has the other");
    sigaddset(&set, SIGRTMIN + 2);
    CHECK(sigtimedwait(&set, &info, &patience) == SIGRTMIN + 2 && info.si_value.sival_int == 4711 &&
              info.si_code == SI_ASYNCIO,
          "the list has its own");
    CHECK(sigtimedwait(&set, &info, &none) == -1, "each signal arrives once");
    result_of(&slow);
    close(fd);
}

static void zeroed_event(void)
{
    int fd = scratch(O_RDWR);
    struct aiocb cb = entry(LIO_WRITE, fd, sent, 10, 0), *const list[] = {&cb};
    struct sigevent event;
    memset(&event, 0, sizeof event);
    CHECK(lio_listio(LIO_NOWAIT, list, 1, &event) == 0 && succeeds(&cb, 10), "a zeroed sig sends no notification");
    close(fd);
}

static void ten_thousand(void)
{
    enum { COUNT = 10000 };
    static struct aiocb cbs[COUNT], *list[COUNT];
    int fd = scratch(O_RDWR), good = 0;
    for (int i = 0; i < COUNT; i++) {
        cbs[i] = entry(LIO_WRITE, fd, sent + i % 1000, 10, i * 10);
        list[i] = &cbs[i];
    }
    CHECK(lio_listio(LIO_WAIT, list, COUNT, NULL) == 0, "a list of ten thousand entries is accepted");
    for (int i = 0; i < COUNT; i++)
        good += succeeds(&cbs[i], 10);
    CHECK(good == COUNT, "all ten thousand entries complete");
    close(fd);
}

/* A large append goes to the engine. A small append that follows could be made inside the call. */
static void appends_keep_their_order(void)
{
    int fd = scratch_in("/dev/shm", O_RDWR | O_APPEND);
    struct aiocb large = request(fd, sent, LARGE, 0), small = request(fd, "small", 5, 0);
    large.aio_lio_opcode = small.aio_lio_opcode = LIO_WRITE;
    struct aiocb *list[] = {&large, &small};
    CHECK(lio_listio(LIO_WAIT, list, 2, NULL) == 0 && holds(fd, sent, LARGE, 0) && holds(fd, "small", 5, LARGE),
          "appends of a list land in its order");
    close(fd);
}

int main(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 2);
    sigaddset(&set, SIGRTMIN + 3);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    begin(120);
    fill(sent, LARGE, 1);
    pipes = conduit();
    refused_lists();
    appends_keep_their_order();
    reads_and_writes(LIO_WAIT);
    reads_and_writes(LIO_NOWAIT);
    skipped_entries(LIO_WAIT);
    skipped_entries(LIO_NOWAIT);
    listed_again();
    failures();
    cancelled_entry();
    wait_waits();
    interrupted(0, "without SA_RESTART");
    interrupted(SA_RESTART, "with SA_RESTART");
    notified_after_the_last();
    notified_at_once();
    notified_by_signal();
    zeroed_event();
    ten_thousand();
    return check_end();
}
