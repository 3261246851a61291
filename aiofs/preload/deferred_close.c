/*
 * deferred_close.c - closes a lock's descriptor when the requests in flight on the locked file are terminal.
 *
 * A program may close a file while <aio.h> requests on it are in flight. The lock then has to stay until the last
 * request is terminal. A host thread of the engine waits for that: an AIOFS_CALL request owns the lock's descriptor and
 * a reference to the engine's file, drains the file, and closes the descriptor. This allocates memory inside close, but
 * only in programs that have requests in flight, whose submission allocated memory too.
 *
 * A vfork child shares this memory, but the requests that it sees here, the threads and their descriptors are its
 * parent's. So deferred_close compares getpid() with the process ID at the start, and does nothing in such a child.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <unistd.h>

#include "preload.h"

static pid_t self;

struct deferred {
    aiofs_request request; /* must be first: pointers to it are cast to struct deferred */
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
    aiofs_file_drain(file); /* no thread or no memory: this thread waits, so that the lock is not released too early */
    aiofs_file_release(file);
    return false;
}

void deferred_close_set_up(void)
{
    self = getpid();
}
