/*
 * fd_table.c - the program closes descriptors that it did not open, and opens other files under their numbers. No
 * request may be lost, and the engine must not write to those files.
 */
#include "check.h"
#include "fault.h"

enum { FILES = 40 };

static int files[FILES];

/* Closes all descriptors from 3 on, and opens files under their numbers. */
static void take_every_number(void)
{
    MUST(close_range(3, ~0U, 0));
    for (int i = 0; i < FILES; i++) {
        files[i] = scratch(O_RDWR);
        MUST(write(files[i], "untouched", 9));
    }
}

static bool files_untouched(void)
{
    for (int i = 0; i < FILES; i++) {
        struct stat stat;
        if (fstat(files[i], &stat) != 0 || stat.st_size != 9 || !holds(files[i], "untouched", 9, 0))
            return false;
    }
    return true;
}

static void close_files(void)
{
    for (int i = 0; i < FILES; i++)
        close(files[i]);
}

static void closed_by_the_program(void)
{
    enum { ROUNDS = 20 };
    static char in[4096], out[4096];
    fill(out, sizeof out, 3);
    bool good = true;
    for (int round = 0; round < ROUNDS; round++) {
        int pair[2];
        char waited[2] = "";
        MUST(pipe2(pair, O_CLOEXEC));
        struct op *waiting = start(AIOFS_READ, pair[0], waited, 1, 0);
        int writer = dup2(pair[1], 1000); /* stays open: close_range below closes 3 to 999 */
        close(pair[1]);
        MUST(close_range(3, 999, 0));
        for (int i = 0; i < FILES; i++) {
            files[i] = scratch(O_RDWR);
            MUST(write(files[i], "untouched", 9));
        }
        int fd = scratch(O_RDWR);
        good &= perform(AIOFS_WRITE, fd, out, sizeof out, 0) == sizeof out;
        good &= perform(AIOFS_FSYNC, fd, NULL, 0, 0) == 0;
        good &= perform(AIOFS_READ, fd, in, sizeof in, 0) == sizeof in && memcmp(in, out, sizeof in) == 0;
        MUST(write(writer, "x", 1));
        good &= op_finish(waiting) == 1 && waited[0] == 'x';
        good &= files_untouched();
        close(writer);
        close(fd);
        close_files();
    }
    CHECK(good, "a program that closes every descriptor loses no request, and its new files stay as they are");
}

static void not_to_be_had_again(void)
{
    fault_inject("pidfd_open", 0, FAULT_ERROR, ENOSYS);
    take_every_number();
    int fd = scratch(O_RDWR);
    struct op *op = op_new(AIOFS_FSYNC, fd, NULL, 0, 0);
    CHECK(aiofs_submit(&op->request, NULL) == -EAGAIN,
          "where the kernel cannot give them back, a request is refused");
    CHECK(files_untouched(), "the program's files are unchanged");
    fault_clear();
    CHECK(aiofs_submit(&op->request, NULL) == 0 && op_finish(op) == 0,
          "where the kernel can give the descriptors back, requests complete");
    CHECK(files_untouched(), "the program's files are still unchanged");
    close(fd);
    close_files();
}

static void forked(void)
{
    int status;
    take_every_number();
    fflush(stdout);
    pid_t pid = (pid_t)MUST(fork());
    if (pid == 0) {
        int fd = scratch(O_RDWR);
        bool good = files_untouched() && perform(AIOFS_WRITE, fd, "child", 5, 0) == 5 && holds(fd, "child", 5, 0);
        for (int i = 0; i < FILES; i++)
            good &= fcntl(files[i], F_GETFD) >= 0;
        _exit(good ? 0 : 1);
    }
    MUST(waitpid(pid, &status, 0));
    CHECK(status == 0, "a child forked afterwards keeps its files and starts its own engine");
    close_files();
}

/* Requests on all free numbers: the engine may use such a number in its own table. */
static void requests_on_closed_numbers(void)
{
    static char bytes[64];
    bool good = true;
    for (int fd = 3; fd < 64; fd++) {
        if (fcntl(fd, F_GETFD) < 0)
            continue;
        good &= perform(AIOFS_READ, fd, bytes, sizeof bytes, 0) == -EBADF;
        good &= perform(AIOFS_WRITE, fd, bytes, sizeof bytes, 0) == -EBADF;
        struct op *op = op_new(AIOFS_FSYNC, fd, NULL, 0, 0);
        good &= aiofs_submit(&op->request, NULL) == -EBADF && aiofs_cancel_all(fd) == -EBADF && aiofs_descriptor(fd) == -EBADF;
        op_drop(op);
    }
    CHECK(good, "the engine's descriptors are not in the program's table");
    CHECK(perform(AIOFS_WRITE, (int)MUST(dup(1)), "", 0, 0) == 0, "the engine completes requests afterwards");
}

int main(void)
{
    check_begin(60);
    close_range(3, ~0U, 0); /* inherited descriptors */
    fault_attach(&aiofs_sys);
    check_engine();
    if (engine_descriptors() >= 0 || SANITIZED)
        requests_on_closed_numbers();
    if (engine_descriptors() >= 0 || SANITIZED) {
        closed_by_the_program();
        not_to_be_had_again();
        if (CAN_FORK_WITH_THREADS)
            forked();
    }
    return check_end();
}
