/*
 * host_threads.c - host threads: threads of the engine that share the program's descriptor table.
 *
 * They do what the engine's other threads cannot do, because those have another table. There are two kinds of work:
 *
 *   calls   AIOFS_CALL, and requests on files with their own operations (outside.c). A call may take as long as it
 *           likes and may wait for other requests.
 *   jobs    short, and other threads wait for them: syncing the directory (the second half of a sync), releasing a
 *           lock reference before the completion of the file's last request is published, starting the thread of a
 *           SIGEV_THREAD notification.
 *
 * So at least one host thread is always free for jobs and takes no call. The engine starts with one host
 * thread, and the last idle one never exits.
 *
 * Only a thread that shares the program's table can start a host thread, but most jobs come from the engine's threads.
 * So host threads start host threads: a host thread that takes work, and leaves no host thread idle, first starts a
 * spare one.
 *
 * Fork. A call or a job may fork, and its child may return from it. There the host thread counts nothing and ends.
 *
 * Locking. The engine lock guards everything here. It is released while a job or a call runs and while a thread starts.
 */
#define _GNU_SOURCE
#include <errno.h>

#include "internal.h"

enum { HOST_THREADS_MAX = 64, MS = 1000000, IDLE_MS = 5000 };

static struct {
    unsigned threads, idle, starting, calling;
    bool needed;       /* the engine runs or starts: the last host thread stays */
    int64_t notify_at; /* when to start the threads of notifications; AIOFS_NEVER: no notification waits for one */
    bool scarce;       /* the last attempt to start the thread of a notification failed */
    pthread_cond_t work;
    struct aiofs_link jobs, calls; /* calls: requests, linked by `queued`: AIOFS_CALL, and those of outside.c */
} host_threads = {
    .notify_at = AIOFS_NEVER,
    .jobs = {&host_threads.jobs, &host_threads.jobs},
    .calls = {&host_threads.calls, &host_threads.calls},
};

static bool must_notify(void)
{
    return host_threads.notify_at != AIOFS_NEVER && aiofs_now() >= host_threads.notify_at;
}

/* May an idle host thread take something now: a job, or a call if another host thread is left for jobs? Lock held. */
static bool has_work(void)
{
    return must_notify() || !list_empty(&host_threads.jobs) ||
           (!list_empty(&host_threads.calls) && host_threads.calling + 1 < host_threads.threads);
}

static int spare(void);
static void *host_thread_main(void *argument);

/* May an idle host thread exit? The last idle one may only if there is no engine; another one may at the time `until`,
 * or earlier if threads are scarce. Lock held. */
static bool may_end(int64_t until)
{
    if (host_threads.idle == 1)
        return !host_threads.needed;
    return host_threads.scarce || aiofs_now() >= until;
}

/* Waits for work. False: there was no work, and this thread may exit. Lock held. */
static bool wait_for_work(void)
{
    int64_t until = aiofs_now() + IDLE_MS * (int64_t)MS;
    host_threads.idle++;
    while (!has_work() && !may_end(until)) {
        bool spare_failed = !list_empty(&host_threads.calls) && spare() < 0; /* then try again soon */
        if (has_work())
            break;
        int64_t wake = spare_failed ? aiofs_now() + 10 * MS : host_threads.idle > 1 ? until : AIOFS_NEVER;
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

/* Starts one more host thread if too few are idle. 0, or why it could not. Lock held, released meanwhile. */
static int spare(void)
{
    unsigned needed = list_empty(&host_threads.calls) ? 1 : 2; /* one for the jobs, one for the calls */
    if (on_engine_table || host_threads.idle + host_threads.starting >= needed ||
        host_threads.threads >= HOST_THREADS_MAX)
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

/* A parked call becomes a call that waits for a host thread. Lock held. */
static void queue_again(aiofs_request *request)
{
    request->again = false;
    request->phase = PHASE_WAITING;
    list_append(&host_threads.calls, &request->queued);
    spare();
    pthread_cond_signal(&host_threads.work);
}

static void run_job(struct aiofs_link *link)
{
    struct aiofs_job *job = CONTAINER(link, struct aiofs_job, link);
    spare();
    pthread_mutex_unlock(&engine.lock);
    job->run(job);
    pthread_mutex_lock(&engine.lock);
}

/* Does not start a spare host thread first: the spare would take the thread that a notification waits for. */
static void run_notifications(void)
{
    host_threads.notify_at = AIOFS_NEVER;
    pthread_mutex_unlock(&engine.lock);
    int64_t again = notify_start_threads();
    pthread_mutex_lock(&engine.lock);
    host_threads.scarce = again != AIOFS_NEVER;
    if (again < host_threads.notify_at)
        host_threads.notify_at = again;
    if (host_threads.scarce) {
        pthread_cond_broadcast(&host_threads.work);
        pool_shrink();
    }
}

/* Lock held. A request that is parked may be cancelled and freed as soon as the lock is released. */
static void park(aiofs_request *request)
{
    request->phase = PHASE_PARKED;
    if (request->again)
        queue_again(request);
}

static void run_call(struct aiofs_link *link)
{
    aiofs_request *request = CONTAINER(link, aiofs_request, queued);
    uint32_t generation = aiofs_generation;
    request->phase = PHASE_RUNNING;
    if (request->file && !outside_begin(request))
        return;
    host_threads.calling++;
    spare();
    pthread_mutex_unlock(&engine.lock);
    int64_t result = 0;
    if (request->file)
        outside_carry(request);
    else if ((result = request->call(request)) != AIOFS_PARKED)
        request_finish(request, result);
    pthread_mutex_lock(&engine.lock);
    if (generation != aiofs_generation)
        return; /* the call has forked, and this is the child */
    host_threads.calling--;
    if (result == AIOFS_PARKED)
        park(request);
}

static void *host_thread_main(void *argument)
{
    (void)argument;
    uint32_t generation = aiofs_generation;
    pthread_mutex_lock(&engine.lock);
    host_threads.starting--;
    while (generation == aiofs_generation && (has_work() || wait_for_work())) {
        if (must_notify())
            run_notifications();
        else if (!list_empty(&host_threads.jobs))
            run_job(list_pop(&host_threads.jobs));
        else
            run_call(list_pop(&host_threads.calls));
    }
    if (generation == aiofs_generation) { /* else the work has forked, and this is the child */
        host_threads.threads--;
        count_threads_by(-1);
    }
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

bool host_threads_scarce(void)
{
    return host_threads.scarce;
}

/* If a later attempt is already planned, it is not moved. */
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
    bool refused = error < 0 && host_threads.threads < 2 && request->phase == PHASE_WAITING; /* no thread for calls */
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

void aiofs_call_again(aiofs_request *request)
{
    pthread_mutex_lock(&engine.lock);
    if (request->phase == PHASE_PARKED)
        queue_again(request);
    else if (request->phase == PHASE_RUNNING)
        request->again = true;
    pthread_mutex_unlock(&engine.lock);
}

/* If no thread can be started, the host thread that waits for jobs tries again until one can. */
void host_threads_carry(aiofs_request *request)
{
    list_append(&host_threads.calls, &request->queued);
    spare();
    pthread_cond_signal(&host_threads.work);
}

bool host_threads_are_idle(void)
{
    bool work =
        host_threads.notify_at != AIOFS_NEVER || !list_empty(&host_threads.jobs) || !list_empty(&host_threads.calls);
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
    host_threads.needed = host_threads.scarce = false;
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
