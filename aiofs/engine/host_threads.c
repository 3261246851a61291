/*
 * host_threads.c - threads of ours on the program's descriptor table: what the engine's other threads cannot
 * do, because their numbers are not the program's.
 *
 * Calls (AIOFS_CALL) may take as long as they like, and wait for other requests. Jobs are short, and others
 * wait for them: the second half of a flush, which makes the entry's name durable; the second half of a
 * file's end, which releases its lock reference before the end of its last request is seen; starting a thread of the
 * program's. So one host thread takes no calls: it is there from the engine's start and never ends.
 *
 * Such a thread can only be started by one on the same table, and jobs come from threads that are not; so
 * host threads start host threads: whoever takes something and leaves nobody idle starts a spare. The engine lock
 * guards everything here.
 */
#define _GNU_SOURCE
#include <errno.h>

#include "internal.h"

enum { HOST_THREADS_MAX = 64, MS = 1000000, IDLE_MS = 5000 };

static struct {
    unsigned threads, idle, starting, calling;
    bool needed;       /* there is an engine, or will be: the last one stays */
    int64_t notify_at; /* when to start the threads of notifications; AIOFS_NEVER: none waits for one */
    bool starve;       /* there was none to be had */
    pthread_cond_t work;
    struct aiofs_link jobs, calls; /* calls: requests, by `queued`: AIOFS_CALL, and those of outside.c */
} host_threads = {.notify_at = AIOFS_NEVER, .jobs = {&host_threads.jobs, &host_threads.jobs}, .calls = {&host_threads.calls, &host_threads.calls}};

static bool must_notify(void)
{
    return host_threads.notify_at != AIOFS_NEVER && aiofs_now() >= host_threads.notify_at;
}

/* What a host thread may do now: a job, or a call if another host thread is left for the jobs. Lock held. */
static bool has_work(void)
{
    return must_notify() || !list_empty(&host_threads.jobs) || (!list_empty(&host_threads.calls) && host_threads.calling + 1 < host_threads.threads);
}

static int spare(void);
static void *host_thread_main(void *argument);

/* One that has no work, since `until` has passed or not. */
static bool may_end(int64_t until)
{
    if (host_threads.idle == 1)
        return !host_threads.needed;
    return host_threads.starve || aiofs_now() >= until;
}

/* Waits for work; false: none came, and there are others to wait for the next. Lock held. */
static bool wait_for_work(void)
{
    int64_t until = aiofs_now() + IDLE_MS * (int64_t)MS;
    host_threads.idle++;
    while (!has_work() && !may_end(until)) {
        bool poor = !list_empty(&host_threads.calls) && spare() < 0; /* from a thread that could not start one */
        if (has_work())
            break;
        int64_t wake = poor ? aiofs_now() + 10 * MS : host_threads.idle > 1 ? until : AIOFS_NEVER;
        if (host_threads.notify_at < wake)
            wake = host_threads.notify_at;
        if (wake == AIOFS_NEVER)
            pthread_cond_wait(&host_threads.work, &engine.lock);
        else
            condition_wait_until(&host_threads.work, &engine.lock, wake);
    }
    host_threads.idle--;
    return has_work();
}

/* Lock held; starts one more if nobody is free. 0, or why it could not. */
static int spare(void)
{
    unsigned needed = list_empty(&host_threads.calls) ? 1 : 2; /* one for the jobs, one for the calls */
    if (on_engine_table || host_threads.idle + host_threads.starting >= needed || host_threads.threads >= HOST_THREADS_MAX)
        return 0;
    host_threads.starting++;
    host_threads.threads++;
    count_threads_by(1);
    pthread_mutex_unlock(&engine.lock);
    int error = thread_start("aiofs-host", host_thread_main, DEEP_STACK);
    pthread_mutex_lock(&engine.lock);
    if (error < 0) {
        host_threads.starting--;
        host_threads.threads--;
        count_threads_by(-1);
    }
    return error;
}

static void run_job(struct aiofs_link *link)
{
    struct aiofs_job *job = CONTAINER(link, struct aiofs_job, link);
    spare();
    pthread_mutex_unlock(&engine.lock);
    job->run(job);
    pthread_mutex_lock(&engine.lock);
}

/* No spare is started for it: it would take the thread that a notification waits for. */
static void run_notifications(void)
{
    host_threads.notify_at = AIOFS_NEVER;
    pthread_mutex_unlock(&engine.lock);
    int64_t again = notify_start_threads();
    pthread_mutex_lock(&engine.lock);
    host_threads.starve = again != AIOFS_NEVER;
    if (again < host_threads.notify_at)
        host_threads.notify_at = again;
    if (host_threads.starve) {
        pthread_cond_broadcast(&host_threads.work);
        pool_shrink();
    }
}

static void run_call(struct aiofs_link *link)
{
    aiofs_request *request = CONTAINER(link, aiofs_request, queued);
    request->phase = PHASE_RUNNING;
    if (request->file && !outside_begin(request))
        return;
    host_threads.calling++;
    spare();
    pthread_mutex_unlock(&engine.lock);
    if (request->file)
        outside_carry(request);
    else
        request_finish(request, request->call(request));
    pthread_mutex_lock(&engine.lock);
    host_threads.calling--;
}

static void *host_thread_main(void *argument)
{
    (void)argument;
    pthread_mutex_lock(&engine.lock);
    host_threads.starting--;
    while (has_work() || wait_for_work()) {
        if (must_notify())
            run_notifications();
        else if (!list_empty(&host_threads.jobs))
            run_job(list_pop(&host_threads.jobs));
        else
            run_call(list_pop(&host_threads.calls));
    }
    host_threads.threads--;
    count_threads_by(-1);
    pthread_mutex_unlock(&engine.lock);
    return NULL;
}

int host_threads_start(void)
{
    pthread_mutex_lock(&engine.lock);
    host_threads.needed = true;
    int error = spare();
    pthread_mutex_unlock(&engine.lock);
    return error;
}

void host_threads_stop(void)
{
    pthread_mutex_lock(&engine.lock);
    host_threads.needed = false;
    pthread_cond_broadcast(&host_threads.work);
    pthread_mutex_unlock(&engine.lock);
}

bool host_threads_starve(void)
{
    return host_threads.starve;
}

/* Somebody who waits for a later attempt need not hear of it. */
void host_threads_notify(void)
{
    pthread_mutex_lock(&engine.lock);
    if (host_threads.notify_at == AIOFS_NEVER) {
        host_threads.notify_at = aiofs_now();
        pthread_cond_signal(&host_threads.work);
    }
    pthread_mutex_unlock(&engine.lock);
}

int host_threads_call(aiofs_request *request)
{
    pthread_mutex_lock(&engine.lock);
    list_append(&host_threads.calls, &request->queued);
    list_append(&engine.calls, &request->in_flight);
    engine.outstanding++;
    request->phase = PHASE_WAITING;
    int error = spare();
    bool refused = error < 0 && host_threads.threads < 2 && request->phase == PHASE_WAITING; /* nobody will take it */
    if (refused) {
        list_remove(&request->queued);
        list_remove(&request->in_flight);
        engine.outstanding--;
        request->phase = PHASE_ENDING;
    } else {
        pthread_cond_signal(&host_threads.work);
    }
    pthread_mutex_unlock(&engine.lock);
    return refused ? error : 0;
}

/* If no thread can be had, the one that waits for jobs tries again until there is one. */
void host_threads_carry(aiofs_request *request)
{
    list_append(&host_threads.calls, &request->queued);
    spare();
    pthread_cond_signal(&host_threads.work);
}

bool host_threads_are_idle(void)
{
    bool work = host_threads.notify_at != AIOFS_NEVER || !list_empty(&host_threads.jobs) || !list_empty(&host_threads.calls);
    return !work && host_threads.idle == host_threads.threads && host_threads.starting == 0;
}

void host_threads_add(struct aiofs_job *job)
{
    list_append(&host_threads.jobs, &job->link);
    if (host_threads.idle)
        pthread_cond_signal(&host_threads.work);
}

void host_threads_reset(void)
{
    host_threads.threads = host_threads.idle = host_threads.starting = host_threads.calling = 0;
    host_threads.needed = host_threads.starve = false;
    host_threads.notify_at = AIOFS_NEVER;
    list_init(&host_threads.jobs);
    list_init(&host_threads.calls);
    condition_init(&host_threads.work);
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
    host_threads_add(&request->job);
    pthread_mutex_unlock(&engine.lock);
}

static void run_sync_name(struct aiofs_job *job)
{
    aiofs_request *request = request_of(job);
    int error = aiofs_lock_ref_sync_dir(request->file->lock_ref);
    if (error < 0)
        atomic_store(&request->file->dirty, true);
    request_finish(request, error);
}

void host_threads_sync_dir(aiofs_request *request)
{
    hand_over(request, run_sync_name);
}

static void run_retire(struct aiofs_job *job)
{
    aiofs_request *request = request_of(job);
    file_end_use(request->file);
    request_end(request, request->result);
}

void host_threads_retire(aiofs_request *request, int64_t result)
{
    request->result = result;
    hand_over(request, run_retire);
}
