/*
 * fault.c - injects an error into each system call of the engine: into one call at a time, or into all.
 *
 * Each scenario runs in its own process: once without a fault, to count its calls, and then once for each of them. In
 * every run, each request must complete, with the right bytes or with an error; no resource may be left; and when the
 * fault is removed, the engine must work.
 *
 * Built with -DFAULT_LIBRARY it contains only the fault injection, for tests in other languages. See fault.h.
 */
#ifndef FAULT_LIBRARY
#include "check.h"
#endif
#include "fault.h"

#ifndef FAULT_LIBRARY

enum { SIZE = 9000, WRONG = 3, HANGS = 4, LEAKS = 5, DEAD = 6 };

static double patience = 5; /* longer than any request takes */

static struct shared {
    long calls[FAULT_CALL_COUNT];
    int descriptors, engine_descriptors;
} *shared;

static int64_t try(int kind, int fd, const void *buffer, size_t size, int64_t offset)
{
    struct op *op = op_new(kind, fd, buffer, size, offset);
    int error = aiofs_submit(&op->request, NULL);
    if (error < 0) {
        op_drop(op);
        return error;
    }
    int64_t result = op_wait_for(op, patience) ? op->request.result : NOT_ENDED;
    if (result == NOT_ENDED) {
        printf("      kind %d on %d hangs\n", kind, fd);
        _exit(HANGS);
    }
    op_drop(op);
    return result;
}

static int64_t nothing(aiofs_request *request)
{
    (void)request;
    return 5;
}

static void file_part(int flags)
{
    static char out[SIZE], in[SIZE];
    int fd = scratch_in("/dev/shm", O_RDWR | flags);
    fill(out, SIZE, 5);
    int64_t put = try(AIOFS_WRITE, fd, out, SIZE, 0);
    int64_t synced = try(AIOFS_FSYNC, fd, NULL, 0, 0);
    int64_t got = try(AIOFS_READ, fd, in, SIZE, 0);
    struct stat stat;
    fstat(fd, &stat);
    if (put >= 0 && got >= 0 && (got > put || memcmp(in, out, (size_t)got) != 0))
        _exit(WRONG);
    if (put > SIZE || synced > 0 || (put >= 0 && stat.st_size != put) || (put == SIZE && got >= 0 && got != SIZE))
        _exit(WRONG);
    close(fd);
}

static void stream_part(bool socket)
{
    char in[8] = "";
    int pair[2];
    if (socket)
        MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
    else
        MUST(pipe2(pair, O_CLOEXEC));
    struct op *read = op_new(AIOFS_READ, pair[0], in, 5, 0);
    int error = aiofs_submit(&read->request, NULL);
    int64_t put = try(AIOFS_WRITE, pair[1], "hello", 5, 0);
    if (error == 0) {
        if (put != 5)
            aiofs_cancel(&read->request);
        if (!op_wait_for(read, patience)) {
            printf("      a stream's read hangs\n");
            _exit(HANGS);
        }
        int64_t got = read->request.result;
        if (got > 0 && (got != put || memcmp(in, "hello", (size_t)got) != 0))
            _exit(WRONG);
    }
    op_drop(read);
    close(pair[0]);
    close(pair[1]);
}

static void cancel_part(void)
{
    char in[2] = "";
    int pair[2];
    MUST(pipe2(pair, O_CLOEXEC));
    struct op *first = op_new(AIOFS_READ, pair[0], in, 1, 0), *second = op_new(AIOFS_READ, pair[0], in + 1, 1, 0);
    bool begun = aiofs_submit(&first->request, NULL) == 0, waits = aiofs_submit(&second->request, NULL) == 0;
    aiofs_cancel(&first->request);
    aiofs_cancel_all(pair[0]);
    MUST(write(pair[1], "xy", 2)); /* for reads that are not cancelled because of the fault */
    if ((begun && !op_wait_for(first, patience)) || (waits && !op_wait_for(second, patience))) {
        printf("      a cancelled read hangs\n");
        _exit(HANGS);
    }
    op_drop(first);
    op_drop(second);
    close(pair[0]);
    close(pair[1]);
}

static void call_part(void)
{
    struct op *call = op_new(AIOFS_CALL, -1, NULL, 0, 0);
    call->request.call = nothing;
    if (aiofs_submit(&call->request, NULL) == 0 && (!op_wait_for(call, patience) || call->request.result != 5))
        _exit(HANGS);
    op_drop(call);
}

static void adopted_part(void)
{
    static char in[8];
    aiofs_file *file;
    int fd = scratch_in("/dev/shm", O_RDWR);
    if (aiofs_file_adopt(fd, O_RDWR, NULL, NULL, NULL, &file) < 0) {
        close(fd);
        return;
    }
    static const int kinds[] = {AIOFS_WRITE, AIOFS_FLUSH, AIOFS_TRUNCATE, AIOFS_READ};
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        struct op *op = op_new(kinds[i], -1, i == 0 ? "abcdefgh" : in, i == 0 || i == 3 ? 8 : 0, i == 2 ? 5 : 0);
        if (aiofs_submit(&op->request, file) == 0 && !op_wait_for(op, patience))
            _exit(HANGS);
        op_drop(op);
    }
    if (aiofs_file_close(file) < 0) /* because of the fault, the engine took the number for closed */
        close(fd);
    aiofs_file_release(file);
}

static void list_part(void)
{
    enum { COUNT = 40, FILES = 3 };
    static char bytes[COUNT];
    struct aiofs_batch_entry list[COUNT];
    int fds[FILES];
    for (int i = 0; i < FILES; i++)
        fds[i] = scratch_in("/dev/shm", O_RDWR | (i == 2 ? O_APPEND : 0));
    for (int i = 0; i < COUNT; i++) {
        struct op *op = op_new(i == 20 ? AIOFS_FSYNC : AIOFS_WRITE, i == 7 ? -1 : fds[i / 5 % FILES], bytes + i, i == 20 ? 0 : 1, i);
        list[i] = (struct aiofs_batch_entry){&op->request, NULL, 0};
    }
    aiofs_submit_many(list, COUNT);
    for (int i = 0; i < COUNT; i++) {
        struct op *op = (struct op *)list[i].request;
        if (list[i].error == 0 && !op_wait_for(op, patience)) {
            printf("      entry %d of a list hangs\n", i);
            _exit(HANGS);
        }
        if (i == 7 && list[i].error == 0 && op->request.result >= 0)
            _exit(WRONG);
        op_drop(op);
    }
    for (int i = 0; i < FILES; i++)
        close(fds[i]);
}

static void wakeup_part(void)
{
    aiofs_wakeup *wakeup;
    uint64_t count;
    int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (aiofs_wakeup_open(event, &wakeup) == 0) {
        aiofs_wakeup_notify(wakeup);
        if (!EVENTUALLY(4, read(event, &count, 8) == 8))
            _exit(HANGS);
        aiofs_wakeup_release(wakeup);
    }
    close(event);
}

static void scenario(void)
{
    file_part(0);
    file_part(O_APPEND);
    stream_part(false);
    stream_part(true);
    cancel_part();
    call_part();
    adopted_part();
    list_part();
    wakeup_part();
}

/* Do the threads of the engine share the program's descriptor table? Then they have its new descriptors. */
static bool table_is_shared(void)
{
    int before = engine_descriptors(), extra[8];
    for (size_t i = 0; i < COUNT_OF(extra); i++)
        extra[i] = dup(0);
    bool shares = engine_descriptors() >= before + (int)COUNT_OF(extra) / 2;
    for (size_t i = 0; i < COUNT_OF(extra); i++)
        close(extra[i]);
    return shares;
}

static void check_works(void)
{
    char in[4] = "";
    int fd = scratch_in("/dev/shm", O_RDWR);
    if (try(AIOFS_WRITE, fd, "fine", 4, 0) != 4 || try(AIOFS_READ, fd, in, 4, 0) != 4 || memcmp(in, "fine", 4) != 0)
        _exit(DEAD);
    close(fd);
}

static void check_leaks(bool measure)
{
    bool shares = table_is_shared();
    if (measure) {
        EVENTUALLY(1, ops_alive == 0);
        pause_ms(20);
        shared->descriptors = open_descriptors();
        shared->engine_descriptors = engine_descriptors();
        return;
    }
    /* A shared table also contains the engine's own descriptors: an end of the channel, and the ring or epoll. */
    int most = shared->descriptors + (shares ? 3 : 0), engine_most = shared->engine_descriptors + (shares ? 40 : 0);
    if (!EVENTUALLY(1, open_descriptors() <= most && engine_descriptors() <= engine_most)) {
        printf("      %d descriptors, not %d; engine %d, not %d\n", open_descriptors(), most, engine_descriptors(),
               engine_most);
        _exit(LEAKS);
    }
    if (!EVENTUALLY(1, ops_alive == 0 && outstanding() == 0)) {
        printf("      %d requests left\n", ops_alive);
        _exit(LEAKS);
    }
}

/* Runs the scenario in its own process, and returns the exit status. */
static int run(void (*set)(void *), void *argument)
{
    int status;
    fflush(stdout);
    pid_t pid = (pid_t)MUST(fork());
    if (pid == 0) {
        alarm(SANITIZED ? 30 : 10);
        open_descriptors();
        if (set)
            set(argument);
        scenario();
        if (!set)
            for (int call = 0; call < FAULT_CALL_COUNT; call++)
                shared->calls[call] = fault_calls(fault_name(call));
        fault_clear();
        check_works();
        check_leaks(!set);
        fflush(stdout);
        _exit(0);
    }
    MUST(waitpid(pid, &status, 0));
    return status;
}

struct spec {
    const char *name;
    long nth;
    int kind;
    long value;
};

static void set_one(void *argument)
{
    const struct spec *spec = argument;
    fault_inject(spec->name, spec->nth, spec->kind, spec->value);
}

static const char *verdict(int status)
{
    static char text[64];
    static const char *const words[] = {"ok", "fails", "?", "wrong bytes", "hangs", "leaks", "is dead afterwards"};
    if (WIFSIGNALED(status))
        snprintf(text, sizeof text, "%s", WTERMSIG(status) == SIGALRM ? "hangs" : strsignal(WTERMSIG(status)));
    else if ((size_t)WEXITSTATUS(status) < COUNT_OF(words))
        return words[WEXITSTATUS(status)];
    else
        snprintf(text, sizeof text, "exit %d", WEXITSTATUS(status));
    return text;
}

/* The errors of a call. A call that is not listed fails with EIO. */
static const struct {
    const char *name;
    int errors[4];
} errors_of[] = {
    {"sendmsg", {ENOBUFS, EAGAIN, EINTR, ETOOMANYREFS}}, {"recvmsg", {ENOMEM, EINTR}},
    {"fcntl", {EIO}},                                    {"fstat", {EIO, EBADF}},
    {"socketpair", {EMFILE, ENFILE}},                    {"eventfd", {EMFILE, ENOMEM}},
    {"io_uring_setup", {ENOMEM, EPERM, ENOSYS}},         {"io_uring_enter", {EAGAIN, EBUSY, EINTR}},
    {"io_uring_register", {EINVAL}},                     {"epoll_create1", {EMFILE}},
    {"epoll_ctl", {ENOMEM, EPERM}},                      {"epoll_wait", {EINTR}},
    {"futex", {EAGAIN}},                                 {"close", {EINTR, EIO}},
    {"close_range", {ENOSYS, ENOMEM}},                   {"unshare", {EPERM}},
    {"preadv2", {EIO, EINTR, ENOMEM}},                   {"pwritev2", {EIO, EINTR, ENOSPC}},
    {"pread64", {EIO, EINTR}},                           {"pwrite64", {EIO, ENOSPC}},
    {"statx", {EIO, ENOSYS, EPERM}},
    {"read", {EINTR}},                                   {"write", {EINTR}},
    {"pipe2", {EMFILE, ENFILE}},
};

static void sweep(const char *name, int error)
{
    int index = fault_find(name), bad = 0;
    patience = strcmp(name, "futex") == 0 ? 0.2 : 5; /* after a failed wake-up, the thread sleeps for all of it */
    long count = shared->calls[index], step = SANITIZED ? 1 + count / 6 : 1 + count / 60;
    for (long nth = 1; nth <= count; nth += step) {
        struct spec spec = {name, nth, FAULT_ERROR, error};
        int status = run(set_one, &spec);
        if (status != 0) {
            bad++;
            printf("      call %ld of %s, %s: %s\n", nth, name, strerrorname_np(error), verdict(status));
        }
    }
    if (count)
        CHECK(bad == 0,
              "each of %ld calls of %s fails with %s: no request hangs, no result is wrong, no resource is left",
              count, name, strerrorname_np(error));
}

static void sweep_all(void)
{
    int status = run(NULL, NULL);
    if (!CHECK(status == 0, "the scenario with no fault: %s", verdict(status)))
        return;
    for (int call = 0; call < FAULT_CALL_COUNT; call++) {
        const char *name = fault_name(call);
        const int *errors = (const int[]){EIO, 0};
        for (size_t i = 0; i < COUNT_OF(errors_of); i++)
            if (strcmp(errors_of[i].name, name) == 0)
                errors = errors_of[i].errors;
        for (int i = 0; i < 4 && errors[i]; i++)
            sweep(name, errors[i]);
    }
}

/* ---- every call -------------------------------------------------------------------------------------------------- */

static void refuse_own_table(void *argument)
{
    (void)argument;
    fault_inject("close_range", 0, FAULT_ERROR, ENOSYS);
    fault_inject("unshare", 0, FAULT_ERROR, EPERM);
}

static void refused(void)
{
    static const struct spec specs[] = {
        {"close_range", 0, FAULT_ERROR, ENOSYS},   {"cachestat", 0, FAULT_ERROR, ENOSYS},
        {"cachestat", 0, FAULT_ERROR, EPERM},      {"preadv2", 0, FAULT_NOWAIT, EOPNOTSUPP},
        {"pwritev2", 0, FAULT_NOWAIT, EOPNOTSUPP}, {"epoll_ctl", 3, FAULT_ERROR, EPERM},
    };
    for (size_t i = 0; i < COUNT_OF(specs); i++) {
        int status = run(set_one, (void *)&specs[i]);
        CHECK(status == 0, "a kernel that refuses %s%s: %s", specs[i].name,
              specs[i].kind == FAULT_NOWAIT ? " with RWF_NOWAIT" : "", verdict(status));
    }
    int status = run(refuse_own_table, NULL);
    CHECK(status == 0, "the kernel refuses the engine its own descriptor table: %s", verdict(status));
}

/* As if the program forbade a call to all of its threads (seccomp), and then allowed it again. */
static int wait_in_vain(const char *name)
{
    enum { ROUNDS_A_MS = 5 };
    char byte = 0;
    int pair[2];
    MUST(pipe2(pair, O_CLOEXEC));
    aiofs_engine_start();
    fault_inject(name, 0, FAULT_ERROR, EPERM);
    struct op *op = start(AIOFS_READ, pair[0], &byte, 1, 0);
    long calls = fault_calls(name);
    double begun = now();
    pause_ms(200);
    bool busy = fault_calls(name) - calls > (long)((now() - begun) * 1000 * ROUNDS_A_MS);
    fault_clear();
    MUST(write(pair[1], "x", 1));
    return busy ? 1 : op_wait_for(op, PATIENCE) && op->request.result == 1 && byte == 'x' ? 0 : HANGS;
}

static void no_busy_loop(void)
{
    int status;
    fflush(stdout);
    pid_t pid = (pid_t)MUST(fork());
    if (pid == 0) {
        alarm(20);
        _exit(wait_in_vain(strcmp(aiofs_engine_name(), "threads") == 0 ? "epoll_wait" : "io_uring_enter"));
    }
    MUST(waitpid(pid, &status, 0));
    CHECK(status == 0,
          "a reactor that cannot wait does not spin, and continues when it can wait (%s)", verdict(status));
}

static int start_with(const char *engine, long error)
{
    int status;
    fflush(stdout);
    pid_t pid = (pid_t)MUST(fork());
    if (pid == 0) {
        alarm(10);
        setenv("AIOFS_ENGINE", engine, 1);
        int before = open_descriptors();
        fault_inject("io_uring_setup", 0, FAULT_ERROR, error);
        int started = aiofs_engine_start();
        if (started < 0 && open_descriptors() > before)
            _exit(100);
        const char *name = started == 0 ? aiofs_engine_name() : "";
        _exit(started < 0 ? -started : strcmp(name, "threads") == 0 ? 0 : 101);
    }
    MUST(waitpid(pid, &status, 0));
    return WIFEXITED(status) ? WEXITSTATUS(status) : 102;
}

static void no_io_uring(void)
{
    CHECK(start_with("auto", ENOSYS) == 0 && start_with("auto", EPERM) == 0, "without io_uring, auto is threads");
    CHECK(start_with("auto", ENOMEM) == 0, "without memory for io_uring, auto is threads");
    CHECK(start_with("io_uring", ENOSYS) == ENOSYS && start_with("io_uring", EPERM) == ENOSYS,
          "a demand for io_uring is refused with its error");
    CHECK(start_with("nonsense", ENOSYS) == EINVAL, "an unknown word is EINVAL");
}

/* ---- the same bytes ---------------------------------------------------------------------------------------------- */

static int move_all_kinds(void)
{
    enum { LONG = 700 * 1000 };
    char *out = malloc(LONG), *in = malloc(LONG);
    int pair[2], fd = scratch(O_RDWR), appended = scratch(O_RDWR | O_APPEND);
    fill(out, LONG, 7);
    for (int i = 0; i < 5; i++)
        if (perform(AIOFS_WRITE, appended, out + i * 1000, 1000, 0) != 1000)
            return 10;
    if (!holds(appended, out, 5000, 0))
        return 11;
    if (perform(AIOFS_WRITE, fd, out, LONG, 333) != LONG || perform(AIOFS_READ, fd, in, LONG, 333) != LONG ||
        memcmp(in, out, LONG) != 0)
        return 12;
    if (perform(AIOFS_FSYNC, fd, NULL, 0, 0) != 0 || perform(AIOFS_READ, fd, in, 100, 333 + LONG - 50) != 50)
        return 13;
    for (int socket = 0; socket < 2; socket++) {
        if (socket)
            MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
        else
            MUST(pipe2(pair, O_CLOEXEC));
        memset(in, 0, LONG);
        struct op *write = start(AIOFS_WRITE, pair[1], out, LONG, 0);
        for (int64_t have = 0, got; have < LONG; have += got)
            if ((got = perform(AIOFS_READ, pair[0], in + have, (size_t)(LONG - have), 0)) <= 0)
                return 14;
        if (op_finish(write) != LONG || memcmp(in, out, LONG) != 0)
            return 15;
        close(pair[0]);
        close(pair[1]);
    }
    aiofs_file *file;
    struct iovec piece = {out, 20000}, back = {in, 20000};
    if (aiofs_file_adopt(fd, O_RDWR, NULL, NULL, NULL, &file) != 0 || aiofs_file_write(file, &piece, 1, 5, true) != 20000 ||
        aiofs_file_read(file, &back, 1, 5, true) != 20000 || memcmp(in, out, 20000) != 0 || aiofs_file_flush(file) != 0 ||
        aiofs_file_truncate(file, 77) != 0 || aiofs_file_size(file) != 77)
        return 16;
    aiofs_file_close(file);
    aiofs_file_release(file);
    close(appended);
    free(out);
    free(in);
    return 0;
}

static int run_same_bytes(const struct spec *specs, int count)
{
    int status;
    fflush(stdout);
    pid_t pid = (pid_t)MUST(fork());
    if (pid == 0) {
        alarm(SANITIZED ? 60 : 20);
        for (int i = 0; i < count; i++)
            fault_inject(specs[i].name, specs[i].nth, specs[i].kind, specs[i].value);
        _exit(move_all_kinds());
    }
    MUST(waitpid(pid, &status, 0));
    return status;
}

static void same_bytes(void)
{
    static const char *const interrupted[] = {"preadv2", "pwritev2", "pread64",   "pwrite64",   "recvmsg",       "sendmsg",
                                              "fsync",   "fdatasync", "ftruncate", "epoll_wait", "io_uring_enter"};
    struct spec all[COUNT_OF(interrupted)];
    for (size_t i = 0; i < COUNT_OF(interrupted); i++) {
        all[i] = (struct spec){interrupted[i], -1, FAULT_ERROR, EINTR};
        int status = run_same_bytes(&all[i], 1);
        CHECK(status == 0, "every other %s interrupted: the same bytes (%s)", interrupted[i], verdict(status));
    }
    int status = run_same_bytes(all, COUNT_OF(interrupted));
    CHECK(status == 0, "all calls interrupted: the same bytes (%s)", verdict(status));
    const struct spec shorts[] = {{"preadv2", 0, FAULT_SHORT, 1001},
                                  {"pwritev2", 0, FAULT_SHORT, 1003},
                                  {"pread64", 0, FAULT_SHORT, 1005},
                                  {"pwrite64", 0, FAULT_SHORT, 1007},
                                  {"recvmsg", 0, FAULT_SHORT, 907},
                                  {"sendmsg", 0, FAULT_SHORT, 911}};
    for (size_t i = 0; i < COUNT_OF(shorts); i++) {
        status = run_same_bytes(&shorts[i], 1);
        CHECK(status == 0, "every %s short: the same bytes (%s)", shorts[i].name, verdict(status));
    }
    status = run_same_bytes(shorts, COUNT_OF(shorts));
    CHECK(status == 0, "all calls short: the same bytes (%s)", verdict(status));
    const struct spec busy[] = {{"io_uring_enter", -1, FAULT_ERROR, EBUSY}, {"io_uring_enter", -1, FAULT_ERROR, EAGAIN}};
    for (size_t i = 0; i < COUNT_OF(busy); i++) {
        status = run_same_bytes(&busy[i], 1);
        CHECK(status == 0, "every other io_uring_enter busy: the same bytes (%s)", verdict(status));
    }
}

/* ---- a ring that is too small ------------------------------------------------------------------------------------ */

static int flood(void)
{
    enum { COUNT = 600, PIPES = 150 };
    static char bytes[COUNT], in[PIPES];
    static struct op *ops[COUNT], *reads[PIPES];
    static int pairs[PIPES][2];
    int fd = scratch(O_RDWR);
    fill(bytes, COUNT, 1);
    if (write(fd, bytes, COUNT) != COUNT)
        return 20;
    memset(bytes, 0, COUNT);
    for (int i = 0; i < PIPES; i++) {
        MUST(pipe2(pairs[i], O_CLOEXEC));
        reads[i] = start(AIOFS_READ, pairs[i][0], &in[i], 1, 0);
    }
    for (int i = 0; i < COUNT; i++)
        ops[i] = start(AIOFS_READ, fd, &bytes[i], 1, i);
    for (int i = 0; i < PIPES; i++)
        MUST(write(pairs[i][1], "p", 1));
    for (int i = 0; i < COUNT; i++)
        if (op_finish(ops[i]) != 1)
            return 21;
    for (int i = 0; i < PIPES; i++)
        if (op_finish(reads[i]) != 1 || in[i] != 'p')
            return 22;
    if (!holds(fd, bytes, COUNT, 0))
        return 23;
    for (int i = 0; i < PIPES; i++)
        reads[i] = start(AIOFS_READ, pairs[i][0], &in[i], 1, 0);
    for (int i = 0; i < PIPES; i++)
        if (aiofs_cancel(&reads[i]->request) != AIOFS_CANCEL_CANCELED || op_finish(reads[i]) != -ECANCELED)
            return 24;
    return 0;
}

static void small_rings(void)
{
    static const long sizes[] = {1, 2, 4, 16};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        int status;
        fflush(stdout);
        pid_t pid = (pid_t)MUST(fork());
        if (pid == 0) {
            alarm(SANITIZED ? 60 : 20);
            fault_inject("io_uring_setup", 0, FAULT_SHORT, sizes[i]);
            _exit(flood());
        }
        MUST(waitpid(pid, &status, 0));
        CHECK(status == 0,
              "a ring of %ld entries, with as many completions: 750 requests, 150 cancelled (%s)", sizes[i],
              verdict(status));
    }
}

int main(void)
{
    check_begin(100);
    int status = 0;
    pid_t pid = (pid_t)MUST(fork());
    if (pid == 0)
        _exit(aiofs_engine_start() < 0 ? 77 : 0);
    MUST(waitpid(pid, &status, 0));
    if (status != 0)
        return 77;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    fault_attach(&aiofs_sys);
    no_io_uring();
    sweep_all();
    refused();
    no_busy_loop();
    same_bytes();
    const char *engine = getenv("AIOFS_ENGINE");
    if (!engine || strcmp(engine, "threads") != 0)
        small_rings();
    return check_end();
}
#endif
