/*
 * notification.c - each request is notified once, after its status is final, as its sigevent says.
 */
#include "program.h"

enum { LARGE = 600000 };

static char bytes[LARGE];
static struct conduit pipes;
static int file;
static sigset_t fetched;
static int SIGNO, OTHER;

static bool comes(siginfo_t *info)
{
    const struct timespec patience = {.tv_sec = PATIENCE};
    memset(info, 0, sizeof *info);
    return sigtimedwait(&fetched, info, &patience) > 0;
}

static bool nothing_comes(void)
{
    const struct timespec while_ = {.tv_nsec = 30000000};
    siginfo_t info;
    return sigtimedwait(&fetched, &info, &while_) < 0;
}

/* ---- signals ----------------------------------------------------------------------------------------------------- */

static void as_it_should_be(const siginfo_t *info, int value, const char *what)
{
    CHECK(info->si_signo == SIGNO && info->si_code == SI_ASYNCIO && info->si_value.sival_int == value &&
              info->si_pid == getpid() && info->si_uid == getuid(),
          "%s: a signal with SI_ASYNCIO, the value, si_pid and si_uid (%d %d %d)", what, info->si_code,
          info->si_value.sival_int, (int)info->si_pid);
}

static void one_signal(const char *what, struct aiocb cb, int (*submit)(struct aiocb *), int error)
{
    static int values;
    siginfo_t info;
    notify_by_signal(&cb.aio_sigevent, SIGNO, ++values);
    CHECK(submit(&cb) == 0 && comes(&info), "%s is notified", what);
    CHECK(aio_error(&cb) == error, "%s: the status is final when the signal is seen", what);
    as_it_should_be(&info, values, what);
    CHECK(nothing_comes(), "%s: the notification comes once", what);
}

static int sync_it(struct aiocb *cb)
{
    return aio_fsync(O_SYNC, cb);
}

static int read_late(struct aiocb *cb)
{
    int answer = aio_read(cb);
    MUST(write(pipes.in, "x", 1));
    return answer;
}

static int read_and_cancel(struct aiocb *cb)
{
    int answer = aio_read(cb);
    return answer == 0 && aio_cancel(cb->aio_fildes, cb) == AIO_CANCELED ? 0 : -1;
}

static void signals(void)
{
    one_signal("a short write", request(file, bytes, 10, 0), aio_write, 0);
    one_signal("a long write", request(file, bytes, LARGE, 0), aio_write, 0);
    one_signal("a read that waits", request(pipes.out, bytes, 1, 0), read_late, 0);
    one_signal("a sync", request(file, NULL, 0, 0), sync_it, 0);
    one_signal("a failure", request(-1, bytes, 10, 0), aio_read, EBADF);
    one_signal("a sync of a pipe", request(pipes.in, NULL, 0, 0), sync_it, EINVAL);
    one_signal("a cancelled read", request(pipes.out, bytes, 10, 0), read_and_cancel, ECANCELED);
}

static void refused_calls_notify_nothing(void)
{
    struct aiocb cb = request(file, bytes, 10, 0);
    notify_by_signal(&cb.aio_sigevent, SIGNO, 1);
    cb.aio_reqprio = 21;
    CHECK(aio_read(&cb) == -1 && nothing_comes(), "a call that returned -1 sends no notification");
    cb.aio_reqprio = 0;
    CHECK(aio_fsync(12345, &cb) == -1 && nothing_comes(), "aio_fsync with an unknown op sends no notification");
    cb.aio_fildes = -1;
    CHECK(aio_fsync(O_SYNC, &cb) == -1 && nothing_comes(), "aio_fsync of a bad descriptor sends no notification");
}

static void pointer_value(void)
{
    siginfo_t info;
    struct aiocb cb = request(file, bytes, 10, 0);
    notify_by_signal(&cb.aio_sigevent, SIGNO, 0);
    cb.aio_sigevent.sigev_value.sival_ptr = &cb;
    aio_read(&cb);
    CHECK(comes(&info) && info.si_value.sival_ptr == &cb && succeeds(&cb, 10),
          "si_value is a pointer if the program's is");
}

static void silent_kinds(void)
{
    struct aiocb none = request(file, bytes, 10, 0), zero = none, unknown = none, negative = none;
    memset(&zero.aio_sigevent, 0, sizeof zero.aio_sigevent);
    CHECK(aio_read(&zero) == 0 && succeeds(&zero, 10) && nothing_comes(),
          "a zeroed sigevent (signal 0) sends no notification");
    none.aio_sigevent.sigev_signo = SIGNO;
    none.aio_sigevent.sigev_notify = SIGEV_NONE;
    CHECK(aio_read(&none) == 0 && succeeds(&none, 10) && nothing_comes(), "SIGEV_NONE sends no notification");
    unknown.aio_sigevent.sigev_signo = negative.aio_sigevent.sigev_signo = SIGNO;
    unknown.aio_sigevent.sigev_notify = 4711;
    negative.aio_sigevent.sigev_notify = -1;
    CHECK(aio_read(&unknown) == 0 && succeeds(&unknown, 10) && aio_read(&negative) == 0 && succeeds(&negative, 10) &&
              nothing_comes(),
          "an unknown kind is ignored");
}

static void no_such_signal(void)
{
    struct sigevent event;
    struct aiocb good = request(file, bytes, 10, 0);
    struct aiocb *list[] = {&good};
    const int numbers[] = {-1, NSIG, 4711};
    good.aio_lio_opcode = LIO_READ;
    for (int i = 0; i < 3; i++) {
        struct aiocb cb = request(file, bytes, LARGE, 0);
        notify_by_signal(&cb.aio_sigevent, numbers[i], 1);
        CHECK(aio_write(&cb) == -1 && errno == EINVAL && aio_error(&cb) == EINVAL,
              "signal %d does not exist: EINVAL", numbers[i]);
        CHECK(aio_fsync(O_SYNC, &cb) == -1 && errno == EINVAL, "aio_fsync with an invalid signal number: EINVAL");
        notify_by_signal(&event, numbers[i], 1);
        CHECK(lio_listio(LIO_NOWAIT, list, 1, &event) == -1 && errno == EINVAL && nothing_comes() &&
                  aio_return(&good) == -1 && errno == EINVAL,
              "and for a list: nothing is started");
        CHECK(lio_listio(LIO_WAIT, list, 1, &event) == 0 && succeeds(&good, 10),
              "LIO_WAIT ignores an invalid signal number of the list");
        good = request(file, bytes, 10, 0);
        good.aio_lio_opcode = LIO_READ;
    }
}

static void every_request_once(void)
{
    enum { COUNT = 300 };
    static struct aiocb cbs[COUNT];
    static int seen[COUNT];
    int came = 0, wrong = 0;
    siginfo_t info;
    for (int i = 0; i < COUNT; i++) {
        cbs[i] = request(file, bytes, i % 3 ? 10 : 300000, i);
        notify_by_signal(&cbs[i].aio_sigevent, SIGNO, i);
        MUST(aio_write(&cbs[i]));
    }
    for (; came < COUNT && comes(&info); came++) {
        seen[info.si_value.sival_int]++;
        wrong += in_progress(&cbs[info.si_value.sival_int]);
    }
    for (int i = 0; i < COUNT; i++)
        wrong += seen[i] != 1;
    CHECK(came == COUNT && wrong == 0 && nothing_comes(), "real-time signals are queued: one for each request");
}

/* The program may change the sigevent when the call has returned. */
static void event_as_it_was(void)
{
    siginfo_t info;
    struct aiocb cb = request(pipes.out, bytes, 1, 0);
    notify_by_signal(&cb.aio_sigevent, SIGNO, 5);
    aio_read(&cb);
    const struct aiocb *const list[] = {&cb};
    CHECK(aio_suspend(list, 1, &(struct timespec){0, 0}) == -1 && nothing_comes(),
          "no notification comes before the request ends");
    MUST(write(pipes.in, "x", 1));
    CHECK(comes(&info) && info.si_value.sival_int == 5 && succeeds(&cb, 1),
          "the notification comes after the request ends");
}

static void full_queue(void)
{
    enum { COUNT = 60, ROOM = 10 };
    static struct aiocb cbs[COUNT];
    struct rlimit before, limit;
    siginfo_t info;
    bool seen[COUNT] = {false};
    int came = 0, distinct = 0;
    MUST(getrlimit(RLIMIT_SIGPENDING, &before));
    limit = before;
    limit.rlim_cur = ROOM;
    MUST(setrlimit(RLIMIT_SIGPENDING, &limit));
    for (int i = 0; i < COUNT; i++) {
        cbs[i] = request(file, bytes, 10, i);
        notify_by_signal(&cbs[i].aio_sigevent, SIGNO, i);
        MUST(aio_write(&cbs[i]));
    }
    for (int i = 0; i < COUNT; i++)
        end_of(&cbs[i]);
    for (; came < COUNT && comes(&info); came++) {
        distinct += info.si_code == SI_ASYNCIO && !seen[info.si_value.sival_int];
        seen[info.si_value.sival_int] = true;
    }
    MUST(setrlimit(RLIMIT_SIGPENDING, &before));
    CHECK(came == COUNT && distinct == COUNT && nothing_comes(),
          "signals that RLIMIT_SIGPENDING refuses are sent again until they are accepted (%d of %d)", distinct, COUNT);
}

static void standard_signals(void)
{
    struct aiocb cbs[20];
    sigset_t set;
    siginfo_t info;
    int came = 0;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    for (int i = 0; i < 20; i++) {
        cbs[i] = request(file, bytes, 10, i);
        notify_by_signal(&cbs[i].aio_sigevent, SIGUSR2, i);
        MUST(aio_write(&cbs[i]));
    }
    for (int i = 0; i < 20; i++)
        end_of(&cbs[i]);
    while (sigtimedwait(&set, &info, &(struct timespec){0, 30000000}) == SIGUSR2)
        came += info.si_code == SI_ASYNCIO;
    CHECK(came >= 1 && came <= 20, "standard signals coalesce (%d of 20)", came);
}

static volatile sig_atomic_t handled, handled_code, handled_elsewhere, handled_early;
static pthread_t main_thread;

static void handler(int signo, siginfo_t *info, void *context)
{
    (void)signo;
    (void)context;
    handled_code = info->si_code;
    if (info->si_code == SI_ASYNCIO)
        handled_early += in_progress(info->si_value.sival_ptr);
    handled_elsewhere = !pthread_equal(pthread_self(), main_thread);
    handled++;
}

/* The engine's threads must not run the program's signal handlers. Here only this thread does not block the signal. */
static void handlers(void)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESTART};
    struct aiocb cb = request(pipes.out, bytes, 1, 0);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, OTHER);
    main_thread = pthread_self();
    MUST(sigaction(OTHER, &action, NULL));
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    notify_by_signal(&cb.aio_sigevent, OTHER, 0);
    cb.aio_sigevent.sigev_value.sival_ptr = &cb;
    aio_read(&cb);
    MUST(write(pipes.in, "x", 1));
    CHECK(EVENTUALLY(PATIENCE, handled) && handled_code == SI_ASYNCIO && !handled_elsewhere && succeeds(&cb, 1),
          "the program's handler runs, in the program's thread");
    struct aiocb quick = request(file, bytes, 10, 0);
    quick.aio_sigevent = cb.aio_sigevent;
    quick.aio_sigevent.sigev_value.sival_ptr = &quick;
    CHECK(aio_read(&quick) == 0 && EVENTUALLY(PATIENCE, handled == 2) && succeeds(&quick, 10) && handled_early == 0,
          "which finds the status final, also where the request ended inside the call");
    kill(getpid(), OTHER);
    CHECK(EVENTUALLY(PATIENCE, handled == 3) && !handled_elsewhere,
          "the handler also runs for signals from other processes");
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

/* ---- threads ----------------------------------------------------------------------------------------------------- */

static struct {
    _Atomic int calls, wrong;
    _Atomic size_t stack;
    _Atomic int blocked, alive;
    pthread_t caller;
    pthread_key_t key;
} notified;

/* sigev_value is the aiocb. */
static void notify(union sigval value)
{
    pthread_attr_t attributes;
    sigset_t mask;
    size_t stack = 0;
    notified.wrong += in_progress(value.sival_ptr);
    notified.wrong += pthread_equal(pthread_self(), notified.caller) != 0;
    notified.wrong += pthread_getspecific(notified.key) != NULL; /* not a new thread */
    pthread_setspecific(notified.key, value.sival_ptr);
    pthread_getattr_np(pthread_self(), &attributes);
    pthread_attr_getstacksize(&attributes, &stack);
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    notified.blocked = sigismember(&mask, SIGTERM);
    notified.stack = stack;
    notified.calls++;
}

static bool notified_in_thread(struct aiocb *cb, int (*submit)(struct aiocb *), const pthread_attr_t *attributes)
{
    notified.calls = notified.wrong = 0;
    notified.caller = pthread_self();
    notify_by_thread(&cb->aio_sigevent, notify, cb);
    cb->aio_sigevent.sigev_notify_attributes = (pthread_attr_t *)(uintptr_t)attributes;
    if (submit(cb) != 0)
        return false;
    bool came = EVENTUALLY(PATIENCE, notified.calls);
    pause_ms(20);
    return came && notified.calls == 1 && notified.wrong == 0;
}

static void threads(void)
{
    struct aiocb cb = request(file, bytes, 10, 0);
    pthread_key_create(&notified.key, NULL);
    CHECK(notified_in_thread(&cb, aio_write, NULL),
          "SIGEV_THREAD: in a fresh thread, never the caller's, once, after the end");
    CHECK(notified.blocked == 0, "the notification thread does not block signals");
    cb = request(file, bytes, LARGE, 0);
    CHECK(notified_in_thread(&cb, aio_write, NULL), "a long write is notified in a fresh thread");
    cb = request(pipes.out, bytes, 1, 0);
    CHECK(notified_in_thread(&cb, read_late, NULL), "a waiting read is notified in a fresh thread");
    cb = request(-1, bytes, 1, 0);
    CHECK(notified_in_thread(&cb, aio_read, NULL) && fails(&cb, EBADF),
          "a failed request is notified in a fresh thread");
    cb = request(pipes.out, bytes, 1, 0);
    CHECK(notified_in_thread(&cb, read_and_cancel, NULL) && fails(&cb, ECANCELED),
          "a cancelled read is notified in a fresh thread");
    cb = request(file, NULL, 0, 0);
    CHECK(notified_in_thread(&cb, sync_it, NULL), "a sync is notified in a fresh thread");
}

static void attributes(void)
{
    enum { STACK = 24 * 1024 * 1024 }; /* more than usual, because libc may reuse a larger stack */
    pthread_attr_t plan;
    struct aiocb cb = request(pipes.out, bytes, 1, 0);
    pthread_attr_init(&plan);
    pthread_attr_setstacksize(&plan, STACK);
    pthread_attr_setdetachstate(&plan, PTHREAD_CREATE_DETACHED);
    CHECK(notified_in_thread(&cb, read_late, &plan), "a notification runs in a detached thread");
    CHECK(notified.stack >= STACK, "its attributes are honoured: a stack of %zu bytes", (size_t)notified.stack);
    pthread_attr_setdetachstate(&plan, PTHREAD_CREATE_JOINABLE);
    cb = request(file, bytes, 10, 0);
    CHECK(notified_in_thread(&cb, aio_read, &plan) && notified.stack >= STACK,
          "attributes also apply to a request that ends inside the call");
    pthread_attr_destroy(&plan);
}

static int fd_from_thread = -1;

static void open_one(union sigval value)
{
    fd_from_thread = open("/dev/null", O_RDONLY);
    *(_Atomic int *)value.sival_ptr = 1;
}

static void it_is_a_thread_of_the_program(void)
{
    _Atomic int over = 0;
    struct aiocb cb = request(pipes.out, bytes, 1, 0);
    notify_by_thread(&cb.aio_sigevent, open_one, NULL);
    cb.aio_sigevent.sigev_value.sival_ptr = &over;
    read_late(&cb);
    CHECK(EVENTUALLY(PATIENCE, over) && fcntl(fd_from_thread, F_GETFD) >= 0,
          "a descriptor opened by the notification function belongs to the program");
    close(fd_from_thread);
}

static _Atomic int chain_left;

static void go_on(union sigval value)
{
    struct aiocb *cb = value.sival_ptr;
    if (aio_error(cb) == 0 && aio_return(cb) == 10 && --chain_left > 0)
        aio_write(cb);
}

static void chains(void)
{
    static struct aiocb cb;
    cb = request(file, bytes, 10, 0);
    notify_by_thread(&cb.aio_sigevent, go_on, &cb);
    chain_left = 100;
    aio_write(&cb);
    CHECK(EVENTUALLY(PATIENCE, chain_left == 0), "the notification function may submit its aiocb again");
    pause_ms(50); /* for sanitizers: the thread that started the last one must have returned */
}

int main(void)
{
    SIGNO = SIGRTMIN + 2;
    OTHER = SIGRTMIN + 3;
    sigemptyset(&fetched);
    sigaddset(&fetched, SIGNO);
    pthread_sigmask(SIG_BLOCK, &fetched, NULL);
    sigset_t other;
    sigemptyset(&other);
    sigaddset(&other, OTHER);
    pthread_sigmask(SIG_BLOCK, &other, NULL);
    begin(120);
    pipes = conduit();
    file = scratch(O_RDWR);
    MUST(pwrite(file, bytes, LARGE, 0));
    signals();
    refused_calls_notify_nothing();
    pointer_value();
    silent_kinds();
    no_such_signal();
    every_request_once();
    event_as_it_was();
    full_queue();
    standard_signals();
    handlers();
    threads();
    attributes();
    it_is_a_thread_of_the_program();
    chains();
    return check_end();
}
