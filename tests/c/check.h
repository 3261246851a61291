/*
 * check.h - what the engine's C tests share beyond harness.h: requests that free themselves.
 *
 * Each request has its own memory, which `destroy` frees. So a sanitizer finds a use after the last reference.
 */
#ifndef CHECK_H
#define CHECK_H

#include "harness.h"

#include "engine.h"

static UNUSED void check_engine(void)
{
    if (aiofs_engine_start() < 0) {
        printf("skip  this kernel refuses the engine\n");
        exit(77);
    }
}

/* The number of descriptors in the engine's table, that of the thread "aiofs". -1: there is no such thread. */
static UNUSED int engine_descriptors(void)
{
    int count = -1;
    DIR *tasks = opendir("/proc/self/task");
    struct dirent *task;
    while ((task = readdir(tasks))) {
        char path[300], name[32] = "";
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", task->d_name);
        FILE *comm = fopen(path, "r");
        if (!comm)
            continue;
        if (!fgets(name, sizeof name, comm))
            name[0] = 0;
        fclose(comm);
        if (strcmp(name, "aiofs\n") != 0)
            continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/fd", task->d_name);
        DIR *descriptors = opendir(path);
        for (count = -2; descriptors && readdir(descriptors);)
            count++;
        if (descriptors)
            closedir(descriptors);
    }
    closedir(tasks);
    return count;
}

/* ---- requests ---------------------------------------------------------------------------------------------- */

struct op {
    aiofs_request request;
    void (*at_end)(struct op *);
    void *note;
    int order; /* how many requests completed before it */
    _Atomic int ends;
};

static _Atomic int ops_alive, ops_ended;

static UNUSED void op_done(aiofs_request *request)
{
    struct op *op = (struct op *)request;
    op->order = atomic_fetch_add(&ops_ended, 1);
    if (op->at_end)
        op->at_end(op);
    atomic_fetch_add(&op->ends, 1);
}

static UNUSED void op_destroy(aiofs_request *request)
{
    free(request);
    atomic_fetch_sub(&ops_alive, 1);
}

static UNUSED struct op *op_new(int kind, int fd, const void *buffer, size_t size, int64_t offset)
{
    struct op *op = calloc(1, sizeof *op);
    aiofs_request_init(&op->request);
    op->request.op = kind;
    op->request.fd = fd;
    op->request.single = (struct iovec){(void *)buffer, size};
    op->request.iov = &op->request.single;
    op->request.iovcnt = 1;
    op->request.offset = offset;
    op->request.done = op_done;
    op->request.destroy = op_destroy;
    atomic_fetch_add(&ops_alive, 1);
    return op;
}

static UNUSED void op_drop(struct op *op)
{
    aiofs_request_release(&op->request);
}

static UNUSED bool op_ended(const struct op *op)
{
    return aiofs_request_terminal(&op->request);
}

/* Waits until the request is terminal, at most `seconds`. True: it is. */
static UNUSED bool op_wait_for(struct op *op, double seconds)
{
    aiofs_request *const list[] = {&op->request};
    double end = now() + seconds;
    for (double left = seconds; left > 0; left = end - now()) {
        const struct timespec timeout = {(time_t)left, (long)((left - (double)(time_t)left) * 1e9)};
        if (aiofs_wait(list, 1, &timeout) == 0)
            return true;
    }
    return op_ended(op);
}

#define NOT_ENDED (-100000)

/* Waits for the result. NOT_ENDED: the request does not become terminal. */
static UNUSED int64_t op_result(struct op *op)
{
    return op_wait_for(op, PATIENCE) ? op->request.result : NOT_ENDED;
}

/* The same; also waits until `done` has run. */
static UNUSED int64_t op_notified(struct op *op)
{
    int64_t result = op_result(op);
    return EVENTUALLY(10, op->ends) ? result : NOT_ENDED;
}

/* The same as op_result; also releases the request. */
static UNUSED int64_t op_finish(struct op *op)
{
    int64_t result = op_result(op);
    if (result != NOT_ENDED)
        op_drop(op);
    return result;
}

static UNUSED struct op *start_on(aiofs_file *file, int kind, int fd, const void *buffer, size_t size, int64_t offset)
{
    struct op *op = op_new(kind, fd, buffer, size, offset);
    int error = aiofs_submit(&op->request, file);
    if (error < 0) {
        printf("FAIL  submit said %s\n", strerror(-error));
        exit(1);
    }
    return op;
}

static UNUSED struct op *start(int kind, int fd, const void *buffer, size_t size, int64_t offset)
{
    return start_on(NULL, kind, fd, buffer, size, offset);
}

/* Submits a request and returns its result. */
static UNUSED int64_t perform(int kind, int fd, const void *buffer, size_t size, int64_t offset)
{
    return op_finish(start(kind, fd, buffer, size, offset));
}

static UNUSED uint64_t outstanding(void)
{
    struct aiofs_counters counters;
    aiofs_engine_counters(&counters);
    return counters.outstanding;
}

#endif
