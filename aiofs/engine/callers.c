/*
 * callers.c - threads of ours on the program's descriptor table: what the engine's other threads cannot
 * do, because their numbers are not the program's.
 *
 * Three kinds of job: an AIOFS_CALL; the second half of a flush, which makes the entry's name durable;
 * the second half of a file's end, which releases its hold before the end of its last request is seen.
 * Such a thread can only be started by one on the same table, and the last two kinds come from threads
 * that are not; so one caller is there from the engine's start and never ends, and whoever takes a job
 * and leaves nobody idle starts a spare. The engine lock guards everything here.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <time.h>

#include "internal.h"

enum { CALLERS_MAX = 64, IDLE_SECONDS = 5 };

static struct {
    unsigned threads, idle, starting;
    pthread_cond_t work;
    struct aiofs_link jobs;
} callers = {.work = PTHREAD_COND_INITIALIZER, .jobs = {&callers.jobs, &callers.jobs}};

/* Waits for a job; false: none came, and there are others to wait for the next. Lock held. */
static bool wait_for_job(void)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += IDLE_SECONDS;
    int error = 0;
    callers.idle++;
    while (list_empty(&callers.jobs) && !(error == ETIMEDOUT && callers.idle > 1))
        error = callers.idle > 1 ? pthread_cond_timedwait(&callers.work, &engine.lock, &until)
                                 : pthread_cond_wait(&callers.work, &engine.lock);
    callers.idle--;
    return !list_empty(&callers.jobs);
}

static void *caller_main(void *argument);

/* Lock held; starts one more if nobody is free. Only on the program's table. */
static int spare(void)
{
    if (callers.idle + callers.starting > 0 || callers.threads >= CALLERS_MAX)
        return 0;
    callers.starting++;
    callers.threads++;
    engine.counters.workers++;
    pthread_mutex_unlock(&engine.lock);
    int error = engine_thread("aiofs-caller", caller_main, NULL);
    pthread_mutex_lock(&engine.lock);
    if (error < 0) {
        callers.starting--;
        callers.threads--;
        engine.counters.workers--;
    }
    return error;
}

static void *caller_main(void *argument)
{
    (void)argument;
    pthread_mutex_lock(&engine.lock);
    callers.starting--;
    while (!list_empty(&callers.jobs) || wait_for_job()) {
        struct aiofs_job *job = CONTAINER(list_pop(&callers.jobs), struct aiofs_job, link);
        spare();
        pthread_mutex_unlock(&engine.lock);
        job->run(job);
        pthread_mutex_lock(&engine.lock);
    }
    callers.threads--;
    engine.counters.workers--;
    pthread_mutex_unlock(&engine.lock);
    return NULL;
}

int callers_start(void)
{
    pthread_mutex_lock(&engine.lock);
    int error = spare();
    pthread_mutex_unlock(&engine.lock);
    return error;
}

void callers_add(struct aiofs_job *job)
{
    list_append(&callers.jobs, &job->link);
    if (callers.idle)
        pthread_cond_signal(&callers.work);
}

void callers_after_fork(void)
{
    callers.threads = callers.idle = callers.starting = 0;
    list_init(&callers.jobs);
    pthread_cond_init(&callers.work, NULL);
}

/* ---- the jobs of requests ------------------------------------------------------------------------------- */

static aiofs_request *request_of(struct aiofs_job *job)
{
    return CONTAINER(job, aiofs_request, job);
}

static void hand_over(aiofs_request *request, void (*run)(struct aiofs_job *))
{
    request->job.run = run;
    pthread_mutex_lock(&engine.lock);
    callers_add(&request->job);
    pthread_mutex_unlock(&engine.lock);
}

static void run_call(struct aiofs_job *job)
{
    aiofs_request *request = request_of(job);
    pthread_mutex_lock(&engine.lock);
    bool taken = request->phase != PHASE_WAITING; /* cancelled: whoever did it ends it */
    request->phase = PHASE_RUNNING;
    pthread_mutex_unlock(&engine.lock);
    if (!taken)
        request_finish(request, request->call(request));
    aiofs_request_release(request);
}

int callers_call(aiofs_request *request)
{
    request->job.run = run_call;
    aiofs_request_retain(request); /* the job's */
    pthread_mutex_lock(&engine.lock);
    engine.outstanding++;
    request->phase = PHASE_WAITING;
    callers_add(&request->job);
    spare();
    pthread_mutex_unlock(&engine.lock);
    return 0;
}

static void run_sync_name(struct aiofs_job *job)
{
    aiofs_request *request = request_of(job);
    int error = aiofs_hold_sync_name(request->file->hold);
    if (error < 0)
        atomic_store(&request->file->dirty, true);
    request_finish(request, error);
}

void callers_sync_name(aiofs_request *request)
{
    hand_over(request, run_sync_name);
}

static void run_retire(struct aiofs_job *job)
{
    aiofs_request *request = request_of(job);
    file_release_hold(request->file);
    request_end(request, request->result);
}

void callers_retire(aiofs_request *request, int64_t result)
{
    request->result = result;
    hand_over(request, run_retire);
}
