/*
 * linger.c - a descriptor that is closed when the requests on another one have ended.
 *
 * For those who hold something for an open file that the engine knows nothing of, by a descriptor: `aiofs run`,
 * a lock. A caller waits until the file has nothing in flight; the request that it runs owns the descriptor and
 * a reference to the file.
 *
 * A child of vfork shares this memory, but the requests it sees here are its parent's, and so are the threads:
 * their descriptors are not the child's. So the process is asked for its name.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <unistd.h>

#include "internal.h"

static pid_t self;

struct lingering {
    aiofs_request request; /* first: the engine's pointer is ours */
    aiofs_file *awaited;
    int descriptor;
};

static int64_t wait_and_close(aiofs_request *request)
{
    struct lingering *lingering = (struct lingering *)request;
    aiofs_file_drain(lingering->awaited);
    aiofs_file_release(lingering->awaited);
    aiofs_sys.close(lingering->descriptor);
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
    struct lingering *lingering = malloc(sizeof *lingering);
    if (!lingering)
        return false;
    aiofs_request_init(&lingering->request);
    lingering->request.op = AIOFS_CALL;
    lingering->request.call = wait_and_close;
    lingering->request.done = done;
    lingering->request.destroy = destroy;
    lingering->awaited = file;
    lingering->descriptor = descriptor;
    bool started = aiofs_submit(&lingering->request, NULL) == 0;
    aiofs_request_release(&lingering->request);
    return started;
}

bool aiofs_linger(int fd, int other)
{
    struct file_facts facts;
    if (!file_number_busy(fd) || getpid() != self || file_examine(fd, &facts) < 0)
        return false;
    aiofs_file *file = file_next_in_flight(fd, &facts, NULL);
    if (!file)
        return false;
    bool started = start(file, other);
    if (!started) { /* no thread is to be had: this one waits */
        aiofs_file_drain(file);
        aiofs_file_release(file);
    }
    return started;
}

static void know_self(void)
{
    self = getpid();
}

__attribute__((constructor)) static void set_up(void)
{
    know_self();
    pthread_atfork(NULL, NULL, know_self);
}
