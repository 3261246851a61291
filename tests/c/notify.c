/*
 * notify.c - notification of the program by signals, new threads and wakeup fds. And the engine's own threads must
 * not disturb the program.
 */
#include "check.h"
#include "fault.h"

#include <poll.h>

static struct {
    volatile sig_atomic_t count, code, value, pid, uid;
    volatile long sum;
} seen;

static void on_info(int signo, siginfo_t *info, void *context)
{
    (void)signo;
    (void)context;
    seen.count++;
    seen.code = info->si_code;
    seen.value = info->si_value.sival_int;
    seen.pid = info->si_pid;
    seen.uid = (int)info->si_uid;
    seen.sum += info->si_value.sival_int;
}

static void notify_by_signal(struct op *op)
{
    aiofs_notify_signal((int)(intptr_t)op->note, (union sigval){.sival_int = (int)op->request.single.iov_len});
}

static struct op *notified(int fd, const void *bytes, size_t size, int signo)
{
    struct op *op = op_new(AIOFS_WRITE, fd, bytes, size, 0);
    op->at_end = notify_by_signal;
    op->note = (void *)(intptr_t)signo;
    aiofs_submit(&op->request, NULL);
    return op;
}

static void signals(void)
{
    static char bytes[256];
    struct sigaction action = {.sa_sigaction = on_info, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigset_t set, before;
    int fd = scratch(O_RDWR);
    sigaction(SIGRTMIN, &action, NULL);
    op_finish(notified(fd, bytes, 7, SIGRTMIN));
    CHECK(EVENTUALLY(PATIENCE, seen.count == 1) && seen.code == SI_ASYNCIO && seen.value == 7 && seen.pid == getpid() &&
              seen.uid == (int)getuid(),
          "a signal with SI_ASYNCIO, the value, our process and user");
    op_finish(notified(fd, bytes, 7, 0));
    pause_ms(5);
    CHECK(seen.count == 1, "signal 0 sends no signal");

    enum { COUNT = 100 };
    struct op *ops[COUNT];
    long sum = 0;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    pthread_sigmask(SIG_BLOCK, &set, &before);
    struct rlimit limit, small;
    getrlimit(RLIMIT_SIGPENDING, &limit);
    small = (struct rlimit){10, limit.rlim_max};
    setrlimit(RLIMIT_SIGPENDING, &small);
    for (int i = 0; i < COUNT; i++) {
        ops[i] = notified(fd, bytes, (size_t)i + 1, SIGRTMIN);
        sum += i + 1;
    }
    for (int i = 0; i < COUNT; i++)
        op_finish(ops[i]);
    CHECK(true, "requests end though the queue of signals is full");
    seen.count = seen.sum = 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!SIGNALS_COALESCE) {
        CHECK(EVENTUALLY(PATIENCE, seen.count == COUNT) && seen.sum == sum, "every signal arrives once");
        pause_ms(10);
        CHECK(seen.count == COUNT, "no further signal arrives");
    }
    setrlimit(RLIMIT_SIGPENDING, &limit);
    pause_ms(10);

    seen.count = 0;
    fault_inject("rt_sigqueueinfo", 1, FAULT_ERROR, EAGAIN);
    op_finish(notified(fd, bytes, 3, SIGRTMIN));
    CHECK(EVENTUALLY(PATIENCE, seen.count == 1), "a refused signal is sent again");
    fault_clear();
    signal(SIGRTMIN, SIG_DFL);
    close(fd);
}

/* ---- threads --------------------------------------------------------------------------------------------------- */

static struct {
    _Atomic int count;
    _Atomic long value;
    _Atomic bool has_descriptors, blocks_signals, is_caller;
    pthread_t caller;
    int fd;
} thread_seen;

static void in_thread(union sigval value)
{
    char bytes[4];
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    thread_seen.value = value.sival_int;
    thread_seen.has_descriptors = pread(thread_seen.fd, bytes, 4, 0) == 4 && memcmp(bytes, "mine", 4) == 0;
    thread_seen.blocks_signals = sigismember(&mask, SIGUSR1) || sigismember(&mask, SIGINT);
    thread_seen.is_caller = pthread_equal(thread_seen.caller, pthread_self());
    thread_seen.count++;
}

static void notify_by_thread(struct op *op)
{
    aiofs_notification_send(op->note);
}

static void in_a_thread(const char *when, pthread_attr_t *attributes, int kind, int fd)
{
    struct op *op = op_new(kind, fd, "data", 4, 0);
    op->at_end = notify_by_thread;
    aiofs_notification *notification = NULL;
    CHECK(aiofs_notification_prepare(in_thread, (union sigval){.sival_int = 11}, attributes, &notification) == 0,
          "a notification, %s", when);
    op->note = notification;
    thread_seen.count = 0;
    aiofs_submit(&op->request, NULL);
    op_finish(op);
    CHECK(EVENTUALLY(PATIENCE, thread_seen.count == 1) && thread_seen.value == 11, "a thread is notified, %s", when);
    CHECK(thread_seen.has_descriptors && !thread_seen.blocks_signals && !thread_seen.is_caller,
          "which is fresh, has the program's descriptors, and takes signals");
}

static void threads(void)
{
    pthread_attr_t attributes;
    int fd = scratch(O_RDWR);
    thread_seen.fd = scratch(O_RDWR);
    thread_seen.caller = pthread_self();
    MUST(pwrite(thread_seen.fd, "mine", 4, 0));
    in_a_thread("by the engine", NULL, AIOFS_WRITE, fd);
    in_a_thread("by the call itself, which failed", NULL, AIOFS_WRITE, -1);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 1024 * 1024);
    in_a_thread("with attributes", &attributes, AIOFS_WRITE, fd);
    struct sched_param priority = {.sched_priority = 5000};
    pthread_attr_setinheritsched(&attributes, PTHREAD_EXPLICIT_SCHED);
    pthread_attr_setschedpolicy(&attributes, SCHED_FIFO);
    if (pthread_attr_setschedparam(&attributes, &priority) != 0) { /* glibc refuses a priority that is out of range */
        priority.sched_priority = sched_get_priority_max(SCHED_FIFO);
        pthread_attr_setschedparam(&attributes, &priority);
    }
    size_t stack = (size_t)1 << 46; /* more than the address space */
    pthread_attr_setstacksize(&attributes, stack);
    if (!SANITIZED)
        in_a_thread("with attributes that cannot be met", &attributes, AIOFS_WRITE, fd);
    pthread_attr_destroy(&attributes);
    CHECK(EVENTUALLY(PATIENCE, threads_now() < 12), "the notification threads have ended");
    close(fd);
    close(thread_seen.fd);
}

/* ---- wakeup fds -------------------------------------------------------------------------------------------------- */

static void notify_wakeup(struct op *op)
{
    aiofs_wakeup_notify(op->note);
}

static void wakeup_fds(void)
{
    int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), fd = scratch(O_RDWR), good = 0, before = engine_descriptors();
    uint64_t count, notified = 0;
    aiofs_wakeup *wakeup;
    CHECK(aiofs_wakeup_open(event, &wakeup) == 0, "a wakeup fd is opened");
    struct op *ops[50];
    for (int i = 0; i < 50; i++) {
        ops[i] = op_new(AIOFS_WRITE, i % 5 ? fd : -1, "x", 1, i);
        ops[i]->at_end = notify_wakeup;
        ops[i]->note = wakeup;
        aiofs_submit(&ops[i]->request, NULL);
    }
    struct pollfd poll_one = {event, POLLIN, 0};
    while (notified < 50 && poll(&poll_one, 1, 5000) == 1)
        notified += read(event, &count, 8) == 8 ? count : 0;
    CHECK(notified == 50, "each completion notified the wakeup fd, on any thread");
    for (int i = 0; i < 50; i++)
        good += op_finish(ops[i]) == (i % 5 ? 1 : -EBADF);
    CHECK(good == 50, "each request ended with the expected result");
    int copy = dup(event);
    aiofs_wakeup_notify(wakeup);
    aiofs_wakeup_release(wakeup);
    CHECK(poll(&poll_one, 1, 0) == 1, "the descriptor number still belongs to the program");
    close(event);
    close(copy);
    CHECK(EVENTUALLY(PATIENCE, engine_descriptors() <= before), "the engine has released the wakeup fd");
    CHECK(aiofs_wakeup_open(-1, &wakeup) == -EBADF, "a bad number is EBADF");
    close(fd);
}

static bool is_readable(int fd)
{
    return poll(&(struct pollfd){fd, POLLIN, 0}, 1, 0) == 1;
}

static int64_t nothing(aiofs_request *request)
{
    (void)request;
    return 0;
}

/* Notifies from this thread and from a host thread. True: `fd` receives both. */
static bool notified_from_everywhere(aiofs_wakeup *wakeup, int fd)
{
    uint64_t count, total = 0;
    struct op *call = op_new(AIOFS_CALL, -1, NULL, 0, 0);
    call->request.call = nothing;
    call->at_end = notify_wakeup;
    call->note = wakeup;
    aiofs_wakeup_notify(wakeup);
    aiofs_submit(&call->request, NULL);
    op_finish(call);
    for (int i = 0; i < 1000 && total < 2; i++)
        total += poll(&(struct pollfd){fd, POLLIN, 0}, 1, 10) == 1 && read(fd, &count, 8) == 8 ? count : 0;
    return total == 2;
}

/* The program closes the number of a wakeup fd and opens another file under it, without aiofs_wakeup_close. */
static void wakeup_fd_whose_number_is_reused(void)
{
    int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), kept = dup(event), before = engine_descriptors();
    aiofs_wakeup *wakeup;
    CHECK(aiofs_wakeup_open(event, &wakeup) == 0, "a wakeup fd is opened");
    CHECK(notified_from_everywhere(wakeup, kept), "threads of the program's table notify it");
    close(event);
    CHECK(notified_from_everywhere(wakeup, kept), "threads notify it although its number is closed");
    int foreign = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    CHECK(foreign == event, "its number leads to another eventfd");
    CHECK(notified_from_everywhere(wakeup, kept) && !is_readable(foreign), "the other eventfd is not notified");
    fault_inject("kcmp", 0, FAULT_ERROR, EPERM);
    CHECK(notified_from_everywhere(wakeup, kept) && !is_readable(foreign),
          "the other eventfd is not notified where kcmp(2) is forbidden");
    fault_clear();
    aiofs_wakeup_close(wakeup);
    aiofs_wakeup_notify(wakeup);
    CHECK(!is_readable(kept) && !is_readable(foreign), "a wakeup fd is not notified after aiofs_wakeup_close");
    aiofs_wakeup_release(wakeup);
    close(foreign);
    close(kept);
    CHECK(EVENTUALLY(PATIENCE, engine_descriptors() <= before), "the engine has released the wakeup fd");
}

/* ---- the engine's threads --------------------------------------------------------------------------------------- */

static void signals_are_blocked(void)
{
    int fd = scratch(O_RDWR), engine_threads = 0, open_to_signals = 0;
    op_finish(start(AIOFS_WRITE, fd, "x", 1, 0));
    DIR *tasks = opendir("/proc/self/task");
    struct dirent *task;
    while ((task = readdir(tasks))) {
        char path[300], line[256];
        bool ours = false;
        snprintf(path, sizeof path, "/proc/self/task/%s/status", task->d_name);
        FILE *status = task->d_name[0] == '.' ? NULL : fopen(path, "r");
        while (status && fgets(line, sizeof line, status)) {
            if (strncmp(line, "Name:\taiofs", 11) == 0)
                ours = true;
            unsigned long long mask;
            if (ours && sscanf(line, "SigBlk: %llx", &mask) == 1) {
                engine_threads++;
                /* all but SIGKILL, SIGSTOP and the two that glibc reserves */
                unsigned long long must = ~(1ULL << (SIGKILL - 1) | 1ULL << (SIGSTOP - 1) | 3ULL << 31);
                open_to_signals += (mask & must) != must;
            }
        }
        if (status)
            fclose(status);
    }
    closedir(tasks);
    CHECK(engine_threads >= 3 && open_to_signals == 0,
          "all of the %d engine threads block all signals", engine_threads);
    close(fd);
}

/* Completions must not interrupt the program's own system calls. */
static void program_is_left_alone(void)
{
    enum { COUNT = 20 };
    struct op *ops[COUNT];
    int fd = scratch(O_RDWR);
    fault_inject("pwritev2", 0, FAULT_DELAY, 2000);
    for (int i = 0; i < COUNT; i++)
        ops[i] = start(AIOFS_WRITE, fd, "data", 4, i);
    const struct timespec moment = {0, 5000000};
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    int polls = 0, sleeps = 0, waits = 0;
    for (int pending = COUNT, rounds = 0; pending && rounds < PATIENCE * 100; rounds++) {
        polls += poll(NULL, 0, 5) != 0;
        sleeps += nanosleep(&moment, NULL) != 0;
        waits += sigtimedwait(&set, NULL, &moment) != -1 || errno != EAGAIN;
        pending = 0;
        for (int i = 0; i < COUNT; i++)
            pending += !op_ended(ops[i]);
    }
    CHECK(polls == 0 && sleeps == 0,
          "poll and nanosleep are not interrupted while requests end (%d, %d)", polls, sleeps);
    CHECK(waits == 0, "nor is sigtimedwait (%d)", waits);
    for (int i = 0; i < COUNT; i++)
        op_finish(ops[i]);
    fault_clear();
    close(fd);
}

int main(void)
{
    check_begin(30);
    fault_attach(&aiofs_sys);
    check_engine();
    signals();
    threads();
    wakeup_fds();
    wakeup_fd_whose_number_is_reused();
    signals_are_blocked();
    program_is_left_alone();
    CHECK(EVENTUALLY(PATIENCE, ops_alive == 0), "every request was given back");
    return check_end();
}
