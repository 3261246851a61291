/*
 * deferred_close.c - a lock's descriptor that is closed when the requests on the lock's file have ended.
 *
 * The program may close a file while requests of <aio.h> are in flight on it. The lock then has to stay until the
 * last of them is terminal. A host thread of the engine waits for that: the request that it runs (AIOFS_CALL) owns
 * the descriptor and a reference to the file. This allocates, but only where the program has requests in submission,
 * whose submission allocated too.
 *
 * A child of vfork shares this memory, but the requests that it sees here are its parent's, and so are the threads:
 * their descriptors are not the child's. So the process compares its ID with the one it had at its start.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <unistd.h>

#include "preload.h"

static pid_t self;

struct deferred {
    aiofs_request request; /* first: the engine's pointer is ours */
    aiofs_file *awaited;
    int descriptor;
};

static int64_t wait_and_close(aiofs_request *request)
{
    struct deferred *deferred = (struct deferred *)request;
    aiofs_file_drain(deferred->awaited);
    aiofs_file_release(deferred->awaited);
    aiofs_sys.close(deferred->descriptor);
    return 0;
}

static void done(aiofs_request *request)
{
    (void)request;
}

static void destroy(aiofs_request *request)
{
    free(request);
}

static bool start(aiofs_file *file, int descriptor)
{
    struct deferred *deferred = malloc(sizeof *deferred);
    if (!deferred)
        return false;
    aiofs_request_init(&deferred->request);
    deferred->request.op = AIOFS_CALL;
    deferred->request.call = wait_and_close;
    deferred->request.done = done;
    deferred->request.destroy = destroy;
    deferred->awaited = file;
    deferred->descriptor = descriptor;
    bool started = aiofs_submit(&deferred->request, NULL) == 0;
    aiofs_request_release(&deferred->request);
    return started;
}

bool deferred_close(int fd, int lock)
{
    aiofs_file *file = getpid() == self ? aiofs_file_in_flight(fd) : NULL;
    if (!file)
        return false;
    if (start(file, lock))
        return true;
    aiofs_file_drain(file); /* no thread or memory to be had: this thread waits, or the lock would go too early */
    aiofs_file_release(file);
    return false;
}

void deferred_close_set_up(void)
{
    self = getpid();
}
