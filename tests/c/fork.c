/*
 * fork.c - the child of a fork has no requests of its parent, and starts its own engine.
 */
#include "check.h"
#include "fault.h"

enum { ROUNDS = 20 };

static int report[2];

/* Runs the checks of `child` in a child process. Its exit status is 0 if they hold. */
static int in_child(void (*child)(void))
{
    int status;
    fflush(stdout);
    pid_t pid = (pid_t)MUST(fork());
    if (pid == 0) {
        alarm(3 * PATIENCE);
        check_failures = 0;
        child();
        fflush(stdout);
        _exit(check_failures != 0);
    }
    MUST(waitpid(pid, &status, 0));
    return status;
}

static struct op *parents[6];
static int pipe_pair[2], file;
static char parent_byte;

static void child_of_busy_parent(void)
{
    char in[4] = "";
    int descriptors = open_descriptors();
    for (size_t i = 0; i < COUNT_OF(parents); i++)
        CHECK(op_ended(parents[i]) && parents[i]->request.result == -ECANCELED,
              "child: the parent's request %zu is cancelled", i);
    struct aiofs_counters counters;
    aiofs_engine_counters(&counters);
    CHECK(counters.outstanding == 0 && counters.files == 0 && counters.workers == 0, "child: nothing is outstanding");
    aiofs_request *const list[] = {&parents[0]->request};
    CHECK(aiofs_wait(list, 1, NULL) == 0, "child: waiting for the parent's request does not hang");
    CHECK(aiofs_cancel(&parents[0]->request) == AIOFS_CANCEL_ALLDONE,
          "child: cancelling the parent's request does not hang");
    CHECK(aiofs_cancel_all(file) == AIOFS_CANCEL_ALLDONE, "child: there is nothing to cancel");
    CHECK(perform(AIOFS_WRITE, file, "kid", 3, 100) == 3 && perform(AIOFS_READ, file, in, 3, 100) == 3 &&
              memcmp(in, "kid", 3) == 0,
          "child: its own requests work");
    struct op *read = start(AIOFS_READ, report[0], in, 1, 0);
    CHECK(aiofs_cancel(&read->request) == AIOFS_CANCEL_CANCELED, "child: requests can be cancelled");
    op_drop(read);
    CHECK(open_descriptors() - descriptors <= 2, "child: the engine has few descriptors of its own (%d)",
          open_descriptors() - descriptors);
    pid_t grandchild = fork();
    if (grandchild == 0)
        _exit(perform(AIOFS_WRITE, file, "grandchild", 10, 200) != 10);
    int status;
    waitpid(grandchild, &status, 0);
    CHECK(status == 0, "child: a grandchild can make requests");
}

static int64_t nap(aiofs_request *request)
{
    (void)request;
    pause_ms(300);
    return 0;
}

static void busy_parent(void)
{
    file = scratch(O_RDWR);
    MUST(pipe2(pipe_pair, O_CLOEXEC));
    fault_inject("pwritev2", 0, FAULT_DELAY, 100000);
    parents[0] = start(AIOFS_WRITE, file, "1234", 4, 0);
    parents[1] = start(AIOFS_WRITE, file, "5678", 4, 4);
    parents[2] = start(AIOFS_FSYNC, file, NULL, 0, 0);
    parents[3] = start(AIOFS_READ, pipe_pair[0], &parent_byte, 1, 0);
    for (int i = 4; i < 6; i++) {
        parents[i] = op_new(AIOFS_CALL, -1, NULL, 0, 0);
        parents[i]->request.call = nap;
        aiofs_submit(&parents[i]->request, NULL);
    }
    pause_ms(10);
    CHECK(in_child(child_of_busy_parent) == 0, "the child of a process with requests outstanding");
    CHECK(op_finish(parents[0]) == 4 && op_finish(parents[1]) == 4 && op_finish(parents[2]) == 0,
          "the parent's file requests end as if there had been no fork");
    MUST(write(pipe_pair[1], "x", 1));
    CHECK(op_finish(parents[3]) == 1 && parent_byte == 'x', "the parent's pipe read completes");
    CHECK(op_finish(parents[4]) == 0 && op_finish(parents[5]) == 0, "the parent's calls complete");
    CHECK(holds(file, "12345678", 8, 0) && holds(file, "kid", 3, 100) && holds(file, "grandchild", 10, 200),
          "the file has what all three wrote");
    fault_clear();
    close(file);
    close(pipe_pair[0]);
    close(pipe_pair[1]);
}

/* ---- forks while other threads submit ---------------------------------------------------------------------------- */

static _Atomic bool over;

static void *keep_submitting(void *argument)
{
    int fd = scratch(O_RDWR);
    intptr_t bad = 0;
    (void)argument;
    for (int i = 0; !over; i++)
        bad += perform(i % 2 ? AIOFS_READ : AIOFS_WRITE, fd, &(char){'x'}, 1, 0) != 1;
    close(fd);
    return (void *)bad;
}

static void child_in_a_storm(void)
{
    int fd = scratch(O_RDWR);
    if (perform(AIOFS_WRITE, fd, "x", 1, 0) != 1 || perform(AIOFS_FSYNC, fd, NULL, 0, 0) != 0 || outstanding() != 0)
        check_failures++;
}

static void while_submitting(void)
{
    pthread_t threads[3];
    intptr_t bad = 0;
    int good = 0;
    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, keep_submitting, NULL);
    for (int i = 0; i < ROUNDS; i++) {
        pause_ms(3);
        good += in_child(child_in_a_storm) == 0;
    }
    over = true;
    for (int i = 0; i < 3; i++) {
        void *result;
        pthread_join(threads[i], &result);
        bad += (intptr_t)result;
    }
    CHECK(good == ROUNDS, "%d forks while three threads submit: each child has a working engine (%d)", ROUNDS, good);
    CHECK(bad == 0, "the parent's requests complete during the forks");
}

/* ---- state of the parent ----------------------------------------------------------------------------------------- */

static void count_signals(void)
{
    signals_seen = 0;
    struct rlimit limit;
    getrlimit(RLIMIT_SIGPENDING, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_SIGPENDING, &limit);
    int fd = scratch(O_RDWR);
    perform(AIOFS_WRITE, fd, "x", 1, 0);
    sigset_t none;
    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &none, NULL);
    pause_ms(30);
    CHECK(signals_seen == 0, "child: signals refused to the parent are not sent to the child");
}

static void refused_signals(void)
{
    sigset_t all, before;
    struct rlimit limit, small;
    handle(SIGRTMIN + 1, 0, see_signal);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    getrlimit(RLIMIT_SIGPENDING, &limit);
    small = (struct rlimit){2, limit.rlim_max};
    setrlimit(RLIMIT_SIGPENDING, &small);
    for (int i = 0; i < 20; i++)
        aiofs_notify_signal(SIGRTMIN + 1, (union sigval){.sival_int = i});
    CHECK(in_child(count_signals) == 0, "a fork with signals yet to be sent");
    setrlimit(RLIMIT_SIGPENDING, &limit);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    CHECK(EVENTUALLY(PATIENCE, signals_seen == 20), "all delayed signals come to the parent");
}

static aiofs_file *owned;

static void use_owned(void)
{
    fault_clear(); /* in the child's memory; the parent keeps its fault */
    struct op *op = start_on(owned, AIOFS_WRITE, -1, "child", 5, 10);
    CHECK(op_finish(op) == 5, "child: an open file of aiofs works");
    CHECK(aiofs_file_close(owned) == 0, "child: an open file of aiofs can be closed");
}

static void owned_files(void)
{
    int fd = scratch(O_RDWR), twin = dup(fd);
    aiofs_file_adopt(fd, O_RDWR, NULL, NULL, NULL, &owned);
    fault_inject("pwritev2", 1, FAULT_LOCK, 0);
    struct op *op = start_on(owned, AIOFS_WRITE, -1, "parent", 6, 0);
    CHECK(in_child(use_owned) == 0, "an open file with a request in flight, in the child");
    fault_clear();
    CHECK(op_finish(op) == 6 && aiofs_file_close(owned) == 0, "the request continues in the parent");
    aiofs_file_release(owned);
    CHECK(holds(twin, "parent", 6, 0) && holds(twin, "child", 5, 10), "parent and child both wrote to the file");
    close(twin);
    fault_clear();
}

/* ---- a request that is being completed --------------------------------------------------------------------------- */

static struct op *ending;

static void meet_ending(void)
{
    aiofs_request *const list[] = {&ending->request};
    const struct timespec patience = {.tv_sec = 20};
    CHECK(aiofs_request_state(&ending->request) == AIOFS_CANCELED && ending->request.result == -ECANCELED,
          "child: a request of the parent's that was about to end is terminal");
    CHECK(aiofs_wait(list, 1, &patience) == 0, "child: waiting for the ending request returns at once");
    CHECK(aiofs_cancel(&ending->request) == AIOFS_CANCEL_ALLDONE, "child: the ending request is not cancelled");
}

static void ending_requests(void)
{
    int fd = scratch(O_RDWR);
    long before = fault_calls("close");
    fault_inject("close", 1, FAULT_DELAY, 300000); /* the request has left its file, and is not terminal */
    ending = op_new(AIOFS_WRITE, fd, "x", 1, 0);
    aiofs_submit(&ending->request, NULL);
    CHECK(EVENTUALLY(5, fault_calls("close") > before), "a write is being completed");
    CHECK(in_child(meet_ending) == 0, "the process forks while the write ends");
    CHECK(op_finish(ending) == 1, "the write ends in the parent");
    fault_clear();
    close(fd);
}

/* ---- a wakeup fd that is being notified -------------------------------------------------------------------------- */

static aiofs_wakeup *notified;

static void *notify_wakeup(void *argument)
{
    aiofs_wakeup_notify(notified);
    return argument;
}

static void close_wakeup(void)
{
    aiofs_wakeup_close(notified);
    aiofs_wakeup_release(notified);
    CHECK(true, "child: a wakeup fd of the parent's can be closed");
}

static void notified_wakeups(void)
{
    pthread_t thread;
    uint64_t count;
    int event = eventfd(0, EFD_CLOEXEC);
    CHECK(aiofs_wakeup_open(event, &notified) == 0, "a wakeup fd opens");
    long calls = fault_calls("kcmp");
    fault_inject("kcmp", 1, FAULT_LOCK, 0);
    pthread_create(&thread, NULL, notify_wakeup, NULL);
    CHECK(EVENTUALLY(PATIENCE, fault_calls("kcmp") > calls), "a thread is about to notify it");
    CHECK(in_child(close_wakeup) == 0, "the process forks while a wakeup fd is notified");
    fault_clear();
    pthread_join(thread, NULL);
    CHECK(read(event, &count, sizeof count) == sizeof count && count == 1, "the parent is notified");
    aiofs_wakeup_close(notified);
    aiofs_wakeup_release(notified);
    close(event);
}

int main(void)
{
    check_begin(50);
    if (!CAN_FORK_WITH_THREADS) {
        printf("left out: this sanitizer knows no threads after a fork\n");
        return 0;
    }
    fault_attach(&aiofs_sys);
    check_engine();
    MUST(pipe2(report, O_CLOEXEC));
    busy_parent();
    if (!SANITIZED) /* in the child of a multi-threaded process, AddressSanitizer's allocator may be locked */
        while_submitting();
    refused_signals();
    ending_requests();
    owned_files();
    notified_wakeups();
    CHECK(EVENTUALLY(PATIENCE, ops_alive == 0), "every request was given back");
    return check_end();
}
