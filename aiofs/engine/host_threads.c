/*
 * host_threads.c - threads of ours on the program's descriptor table: what the engine's other threads cannot
 * do, because their numbers are not the program's.
 *
 * Calls (AIOFS_CALL) may take as long as they like, and wait for other requests. Jobs are short, and others
 * wait for them: the second half of a flush, which makes the entry's name durable; the second half of a
 * file's end, which releases its hold before the end of its last request is seen; starting a thread of the
 * program's. So one caller takes no calls: it is there from the engine's start and never ends.
 *
 * Such a thread can only be started by one on the same table, and jobs come from threads that are not; so
 * callers start callers: whoever takes something and leaves nobody idle starts a spare. The engine lock
 * guards everything here.
 */
#define _GNU_SOURCE
#include <errno.h>

#include "internal.h"

enum { CALLERS_MAX = 64, MS = 1000000, IDLE_MS = 5000 };

static struct {
    unsigned threads, idle, starting, calling;
    bool needed;       /* there is an engine, or will be: the last one stays */
    int64_t notify_at; /* when to start the threads of notifications; AIOFS_NEVER: none waits for one */
    bool starve;       /* there was none to be had */
    pthread_cond_t work;
    struct aiofs_link jobs, calls; /* calls: requests, by `queued`: AIOFS_CALL, and those of outside.c */
} callers = {.notify_at = AIOFS_NEVER, .jobs = {&callers.jobs, &callers.jobs}, .calls = {&callers.calls, &callers.calls}};

static bool must_notify(void)
{
    return callers.notify_at != AIOFS_NEVER && aiofs_now() >= callers.notify_at;
}

/* What a caller may do now: a job, or a call if another caller is left for the jobs. Lock held. */
static bool has_work(void)
{
    return must_notify() || !list_empty(&callers.jobs) || (!list_empty(&callers.calls) && callers.calling + 1 < callers.threads);
}

static int spare(void);
static void *caller_main(void *argument);

/* One that has no work, since `until` has passed or not. */
static bool may_end(int64_t until)
{
    if (callers.idle == 1)
        return !callers.needed;
    return callers.starve || aiofs_now() >= until;
}

/* Waits for work; false: none came, and there are others to wait for the next. Lock held. */
static bool wait_for_work(void)
{
    int64_t until = aiofs_now() + IDLE_MS * (int64_t)MS;
    callers.idle++;
    while (!has_work() && !may_end(until)) {
        bool poor = !list_empty(&callers.calls) && spare() < 0; /* from a thread that could not start one */
        if (has_work())
            break;
        int64_t wake = poor ? aiofs_now() + 10 * MS : callers.idle > 1 ? until : AIOFS_NEVER;
        if (callers.notify_at < wake)
            wake = callers.notify_at;
        if (wake == AIOFS_NEVER)
            pthread_cond_wait(&callers.work, &engine.lock);
        else
            condition_wait_until(&callers.work, &engine.lock, wake);
    }
    callers.idle--;
    return has_work();
}

/* Lock held; starts one more if nobody is free. 0, or why it could not. */
static int spare(void)
{
    unsigned needed = list_empty(&callers.calls) ? 1 : 2; /* one for the jobs, one for the calls */
    if (on_engine_table || callers.idle + callers.starting >= needed || callers.threads >= CALLERS_MAX)
        return 0;
    callers.starting++;
    callers.threads++;
    count_threads_by(1);
    pthread_mutex_unlock(&engine.lock);
    int error = engine_thread("aiofs-caller", caller_main, DEEP_STACK);
    pthread_mutex_lock(&engine.lock);
    if (error < 0) {
        callers.starting--;
        callers.threads--;
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
    callers.notify_at = AIOFS_NEVER;
    pthread_mutex_unlock(&engine.lock);
    int64_t again = notify_start_threads();
    pthread_mutex_lock(&engine.lock);
    callers.starve = again != AIOFS_NEVER;
    if (again < callers.notify_at)
        callers.notify_at = again;
    if (callers.starve) {
        pthread_cond_broadcast(&callers.work);
        pool_shrink();
    }
}

static void run_call(struct aiofs_link *link)
{
    aiofs_request *request = CONTAINER(link, aiofs_request, queued);
    request->phase = PHASE_RUNNING;
    if (request->file && !outside_begin(request))
        return;
    callers.calling++;
    spare();
    pthread_mutex_unlock(&engine.lock);
    if (request->file)
        outside_carry(request);
    else
        request_finish(request, request->call(request));
    pthread_mutex_lock(&engine.lock);
    callers.calling--;
}

static void *caller_main(void *argument)
{
    (void)argument;
    pthread_mutex_lock(&engine.lock);
    callers.starting--;
    while (has_work() || wait_for_work()) {
        if (must_notify())
            run_notifications();
        else if (!list_empty(&callers.jobs))
            run_job(list_pop(&callers.jobs));
        else
            run_call(list_pop(&callers.calls));
    }
    callers.threads--;
    count_threads_by(-1);
    pthread_mutex_unlock(&engine.lock);
    return NULL;
}

int callers_start(void)
{
    pthread_mutex_lock(&engine.lock);
    callers.needed = true;
    int error = spare();
    pthread_mutex_unlock(&engine.lock);
    return error;
}

void callers_stop(void)
{
    pthread_mutex_lock(&engine.lock);
    callers.needed = false;
    pthread_cond_broadcast(&callers.work);
    pthread_mutex_unlock(&engine.lock);
}

bool callers_starve(void)
{
    return callers.starve;
}

/* Somebody who waits for a later attempt need not hear of it. */
void callers_notify(void)
{
    pthread_mutex_lock(&engine.lock);
    if (callers.notify_at == AIOFS_NEVER) {
        callers.notify_at = aiofs_now();
        pthread_cond_signal(&callers.work);
    }
    pthread_mutex_unlock(&engine.lock);
}

int callers_call(aiofs_request *request)
{
    pthread_mutex_lock(&engine.lock);
    list_append(&callers.calls, &request->queued);
    list_append(&engine.calls, &request->in_flight);
    engine.outstanding++;
    request->phase = PHASE_WAITING;
    int error = spare();
    bool refused = error < 0 && callers.threads < 2 && request->phase == PHASE_WAITING; /* nobody will take it */
    if (refused) {
        list_remove(&request->queued);
        list_remove(&request->in_flight);
        engine.outstanding--;
        request->phase = PHASE_ENDING;
    } else {
        pthread_cond_signal(&callers.work);
    }
    pthread_mutex_unlock(&engine.lock);
    return refused ? error : 0;
}

/* If no thread can be had, the one that waits for jobs tries again until there is one. */
void callers_carry(aiofs_request *request)
{
    list_append(&callers.calls, &request->queued);
    spare();
    pthread_cond_signal(&callers.work);
}

bool callers_are_idle(void)
{
    bool work = callers.notify_at != AIOFS_NEVER || !list_empty(&callers.jobs) || !list_empty(&callers.calls);
    return !work && callers.idle == callers.threads && callers.starting == 0;
}

void callers_add(struct aiofs_job *job)
{
    list_append(&callers.jobs, &job->link);
    if (callers.idle)
        pthread_cond_signal(&callers.work);
}

void callers_reset(void)
{
    callers.threads = callers.idle = callers.starting = callers.calling = 0;
    callers.needed = callers.starve = false;
    callers.notify_at = AIOFS_NEVER;
    list_init(&callers.jobs);
    list_init(&callers.calls);
    condition_init(&callers.work);
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
    file_end_use(request->file);
    request_end(request, request->result);
}

void callers_retire(aiofs_request *request, int64_t result)
{
    request->result = result;
    hand_over(request, run_retire);
}
