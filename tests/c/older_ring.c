/*
 * older_ring.c - io_uring without IORING_OP_FUTEX_WAIT, as on older kernels: a pipe wakes the reactor.
 */
#include "check.h"

#include <linux/io_uring.h>

#include "sys.h"

enum { OP_FUTEX_WAIT = 51, ROUNDS = 200 };

static int (*kernel_register)(int fd, unsigned opcode, void *argument, unsigned count);
static _Atomic int hidden;

static int hide_futex(int fd, unsigned opcode, void *argument, unsigned count)
{
    int error = kernel_register(fd, opcode, argument, count);
    struct io_uring_probe *probe = argument;
    if (error == 0 && opcode == IORING_REGISTER_PROBE && probe->last_op >= OP_FUTEX_WAIT) {
        probe->last_op = OP_FUTEX_WAIT - 1;
        hidden++;
    }
    return error;
}

static void requests_end(void)
{
    int fd = scratch(O_RDWR), ends[2], good = 0;
    char byte;
    MUST(pipe2(ends, O_CLOEXEC));
    for (int i = 0; i < ROUNDS; i++) {
        struct op *reading = start(AIOFS_READ, ends[0], &byte, 1, 0);
        good += op_finish(start(AIOFS_WRITE, fd, "x", 1, i)) == 1;
        good += op_finish(start(AIOFS_FSYNC, fd, NULL, 0, 0)) == 0;
        MUST(write(ends[1], "y", 1));
        good += op_finish(reading) == 1 && byte == 'y';
        if (i % 10 == 0)
            pause_ms(1); /* the reactor sleeps */
    }
    CHECK(good == 3 * ROUNDS, "requests of files and pipes end");
    close(fd);
    close(ends[0]);
    close(ends[1]);
}

static void cancelled(void)
{
    int ends[2], good = 0;
    char byte;
    MUST(pipe2(ends, O_CLOEXEC));
    for (int i = 0; i < ROUNDS; i++) {
        struct op *op = start(AIOFS_READ, ends[0], &byte, 1, 0);
        good += aiofs_cancel(&op->request) == AIOFS_CANCEL_CANCELED;
        good += op_finish(op) == -ECANCELED;
    }
    CHECK(good == 2 * ROUNDS, "waiting reads are cancelled");
    close(ends[0]);
    close(ends[1]);
}

int main(void)
{
    check_begin(60);
    kernel_register = aiofs_sys.io_uring_register; /* before the first thread of the engine starts */
    aiofs_sys.io_uring_register = hide_futex;
    check_engine();
    if (strcmp(aiofs_engine_name(), "io_uring") != 0 || !hidden) {
        printf("skip  no io_uring, or it is older itself\n");
        return 77;
    }
    requests_end();
    cancelled();
    CHECK(EVENTUALLY(PATIENCE, ops_alive == 0), "every request was given back");
    return check_end();
}
