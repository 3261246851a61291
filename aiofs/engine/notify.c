/*
 * notify.c - notification of the program: a queued signal (SIGEV_SIGNAL), or a function in a new thread (SIGEV_THREAD).
 *
 * Signals. The kernel refuses a signal with EAGAIN if too many are queued. Such a signal is kept in a list, and the
 * reactor sends it again until the kernel accepts it.
 *
 * Threads. A notification is prepared before its request is accepted, so that every accepted request can be notified.
 * The new thread must have the program's descriptor table, so the engine's threads cannot start it. Notifications of
 * requests that complete there, and those whose thread could not be started, go into the list of pending notifications.
 * The first host thread (host_threads.c) starts their threads. If that fails, it tries again at growing intervals, and
 * idle threads of the engine exit meanwhile, because they may occupy the slots that the notifications need.
 *
 * So a notification may wait for a thread only if that host thread runs, and if one more thread could be started beside
 * it. If this is not yet known, as for the first notifications of a program, aiofs_notification_prepare starts the
 * thread at once. That thread is parked: it waits on a futex until its request completes.
 *
 * Ownership. A prepared notification belongs to the notice of its request. A parked or started thread frees it.
 *
 * Locking. notify.lock guards the refused signals and the pending notifications. No other lock is taken under it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

struct refused {
    struct aiofs_link link;
    int signo;
    union sigval value;
};

static struct {
    pthread_mutex_t lock;
    struct aiofs_link refused;
    _Atomic bool any;
} notify = {.lock = PTHREAD_MUTEX_INITIALIZER, .refused = {&notify.refused, &notify.refused}};

/* ---- signals ---------------------------------------------------------------------------------------------- */

static int queue_signal(int signo, union sigval value)
{
    siginfo_t info;
    memset(&info, 0, sizeof info);
    info.si_signo = signo;
    info.si_code = SI_ASYNCIO;
    info.si_pid = getpid();
    info.si_uid = getuid();
    info.si_value = value;
    return aiofs_sys.rt_sigqueueinfo(info.si_pid, signo, &info);
}

void aiofs_notify_signal(int signo, union sigval value)
{
    if (signo == 0 || queue_signal(signo, value) != -EAGAIN)
        return;
    aiofs_engine_start(); /* it may not run, if all requests completed inside their calls. A failure is no error here */
    struct refused *refused = malloc(sizeof *refused);
    while (!refused) { /* no memory: this thread itself sends the signal until the kernel accepts it */
        const struct timespec moment = {.tv_nsec = 1000000};
        nanosleep(&moment, NULL);
        if (queue_signal(signo, value) != -EAGAIN)
            return;
        refused = malloc(sizeof *refused);
    }
    refused->signo = signo;
    refused->value = value;
    pthread_mutex_lock(&notify.lock);
    list_append(&notify.refused, &refused->link);
    atomic_store(&notify.any, true);
    pthread_mutex_unlock(&notify.lock);
    engine_wake();
}

bool notify_retry(void)
{
    if (!atomic_load_explicit(&notify.any, memory_order_relaxed))
        return false;
    pthread_mutex_lock(&notify.lock);
    while (!list_empty(&notify.refused)) {
        struct refused *oldest = CONTAINER(notify.refused.next, struct refused, link);
        if (queue_signal(oldest->signo, oldest->value) == -EAGAIN)
            break;
        list_remove(&oldest->link);
        free(oldest);
    }
    bool left = !list_empty(&notify.refused);
    atomic_store(&notify.any, left);
    pthread_mutex_unlock(&notify.lock);
    return left;
}

/* ---- threads ------------------------------------------------------------------------------------------------ */

enum { PARKED, GO, LEAVE };

struct aiofs_notification {
    struct aiofs_link link; /* link in threads.pending */
    void (*function)(union sigval);
    union sigval value;
    const pthread_attr_t *attributes;
    bool has_thread;
    _Atomic uint32_t word; /* PARKED, GO or LEAVE: the futex of a parked thread */
};

static struct {
    struct aiofs_link pending; /* notifications whose thread is not started yet, oldest first; notify.lock */
    int64_t pause;             /* ns before the next attempt; notify.lock */
    _Atomic bool any;          /* `pending` may not be empty */
    _Atomic unsigned parked;   /* number of parked threads */
    _Atomic bool asked;        /* a thread has tried to start the engine */
    _Atomic bool can_wait;     /* a host thread runs, and one more thread could be started beside it */
} threads = {.pending = {&threads.pending, &threads.pending}};

static void *notice_main(void *argument)
{
    aiofs_notification notice = *(aiofs_notification *)argument;
    sigset_t none;
    free(argument);
    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &none, NULL);
    notice.function(notice.value);
    return NULL;
}

/* The main function of a parked thread. */
static void *parked_main(void *argument)
{
    aiofs_notification *notice = argument;
    while (atomic_load(&notice->word) == PARKED)
        aiofs_sys.futex(&notice->word, FUTEX_WAIT_PRIVATE, PARKED, NULL, 0);
    if (atomic_load(&notice->word) == GO)
        return notice_main(argument);
    free(argument);
    return NULL;
}

/* May a notification wait for a thread? */
static bool can_wait(void)
{
    if (!atomic_load(&engine.running))
        return false;
    if (atomic_load(&threads.parked))
        atomic_store(&threads.can_wait, true);
    return atomic_load(&threads.can_wait);
}

/* After the store to the word the parked thread may free the notification. From then on only the address is used; a
 * futex wake-up of a freed address is harmless. */
static void release_thread(aiofs_notification *notice, uint32_t word)
{
    _Atomic uint32_t *address = &notice->word;
    can_wait(); /* while this parked thread exists: it proves that a thread beside the host thread is possible */
    atomic_fetch_sub(&threads.parked, 1);
    atomic_store(address, word);
    aiofs_sys.futex(address, FUTEX_WAKE_PRIVATE, 1, NULL, 0);
}

static bool is_stack_to_be_had(const pthread_attr_t *attributes)
{
    size_t size;
    if (pthread_attr_getstacksize(attributes, &size) != 0)
        return false;
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (memory != MAP_FAILED)
        munmap(memory, size);
    return memory != MAP_FAILED;
}

/* If the program gave a stack of its own, copies its address and size; else the size only. */
static void copy_stack(const pthread_attr_t *from, pthread_attr_t *to)
{
    void *lowest;
    size_t size;
    if (pthread_attr_getstack(from, &lowest, &size) == 0 && (uintptr_t)lowest + size != 0)
        pthread_attr_setstack(to, lowest, size);
    else if (pthread_attr_getstacksize(from, &size) == 0)
        pthread_attr_setstacksize(to, size);
    if (pthread_attr_getguardsize(from, &size) == 0)
        pthread_attr_setguardsize(to, size);
}

static void copy_scheduling(const pthread_attr_t *from, pthread_attr_t *to)
{
    struct sched_param parameters;
    int number;
    if (pthread_attr_getscope(from, &number) == 0)
        pthread_attr_setscope(to, number);
    if (pthread_attr_getinheritsched(from, &number) == 0)
        pthread_attr_setinheritsched(to, number);
    if (pthread_attr_getschedpolicy(from, &number) == 0)
        pthread_attr_setschedpolicy(to, number);
    if (pthread_attr_getschedparam(from, &parameters) == 0)
        pthread_attr_setschedparam(to, &parameters);
#ifdef __GLIBC__
    cpu_set_t processors;
    if (pthread_attr_getaffinity_np(from, sizeof processors, &processors) == 0 && CPU_COUNT(&processors) < CPU_SETSIZE)
        pthread_attr_setaffinity_np(to, sizeof processors, &processors);
#endif
}

/* Copies the program's attributes, because pthread_create also reads them after the thread has started. By then the
 * program may change or free them. */
static int create_like(aiofs_notification *notice, void *(*main)(void *), const pthread_attr_t *program)
{
    pthread_attr_t own;
    pthread_t thread;
    pthread_attr_init(&own);
    pthread_attr_setdetachstate(&own, PTHREAD_CREATE_DETACHED); /* no thread has its id, so none can join it */
    if (program) {
        copy_stack(program, &own);
        copy_scheduling(program, &own);
    }
    int error = pthread_create(&thread, &own, main, notice);
    pthread_attr_destroy(&own);
    return error;
}

/* Starts the thread with the program's attributes. If the system cannot grant the attributes, starts it without them.
 * If only the number of threads is exhausted, fails, and a later attempt uses the attributes. All signals are blocked
 * during pthread_create; the new thread unblocks them itself. 0 or -EAGAIN. */
static int start_thread(aiofs_notification *notice, void *(*main)(void *))
{
    const pthread_attr_t *program = notice->attributes;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = create_like(notice, main, program);
    if (program && error && (error != EAGAIN || !is_stack_to_be_had(program)))
        error = create_like(notice, main, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error ? -EAGAIN : 0;
}

int aiofs_notification_prepare(void (*function)(union sigval), union sigval value, const void *attributes,
                               aiofs_notification **out)
{
    aiofs_notification *notice = malloc(sizeof *notice);
    if (!notice)
        return -EAGAIN;
    *notice = (aiofs_notification){.function = function, .value = value, .attributes = attributes};
    atomic_init(&notice->word, PARKED);
    if (!can_wait()) {
        if (start_thread(notice, parked_main) < 0) {
            free(notice);
            return -EAGAIN;
        }
        notice->has_thread = true;
        atomic_fetch_add(&threads.parked, 1);
        if (!atomic_exchange(&threads.asked, true))
            aiofs_engine_start(); /* if it starts, later notifications may wait for a thread */
    }
    *out = notice;
    return 0;
}

static void put_off(aiofs_notification *notice)
{
    pthread_mutex_lock(&notify.lock);
    list_append(&threads.pending, &notice->link);
    atomic_store(&threads.any, true);
    pthread_mutex_unlock(&notify.lock);
    host_threads_notify();
}

void aiofs_notification_send(aiofs_notification *notice)
{
    if (notice->has_thread)
        release_thread(notice, GO);
    else if (on_engine_table || atomic_load(&threads.any) || start_thread(notice, notice_main) < 0)
        put_off(notice);
}

void aiofs_notification_drop(aiofs_notification *notice)
{
    if (notice->has_thread)
        release_thread(notice, LEAVE);
    else
        free(notice);
}

static aiofs_notification *take_oldest(void)
{
    pthread_mutex_lock(&notify.lock);
    struct aiofs_link *link = list_pop(&threads.pending);
    if (!link)
        atomic_store(&threads.any, false);
    pthread_mutex_unlock(&notify.lock);
    return link ? CONTAINER(link, aiofs_notification, link) : NULL;
}

/* Puts the oldest notification back, and doubles the interval. Returns the time of the next attempt. */
static int64_t try_later(aiofs_notification *notice)
{
    enum { SHORTEST = 1000000, LONGEST = 50000000 };
    pthread_mutex_lock(&notify.lock);
    list_insert_before(threads.pending.next, &notice->link);
    threads.pause = threads.pause ? 2 * threads.pause : SHORTEST;
    threads.pause = threads.pause < LONGEST ? threads.pause : LONGEST;
    int64_t when = aiofs_now() + threads.pause;
    pthread_mutex_unlock(&notify.lock);
    return when;
}

int64_t notify_start_threads(void)
{
    aiofs_notification *notice;
    while ((notice = take_oldest())) {
        if (start_thread(notice, notice_main) < 0)
            return try_later(notice);
        pthread_mutex_lock(&notify.lock);
        threads.pause = 0;
        pthread_mutex_unlock(&notify.lock);
    }
    return AIOFS_NEVER;
}

/* ---- fork ---------------------------------------------------------------------------------------------------- */

void notify_fork_prepare(void)
{
    pthread_mutex_lock(&notify.lock);
}

void notify_fork_parent(void)
{
    pthread_mutex_unlock(&notify.lock);
}

/* In the child, frees the parent's notifications. */
void notify_fork_child(void)
{
    struct aiofs_link *link;
    while ((link = list_pop(&notify.refused)))
        free(CONTAINER(link, struct refused, link));
    atomic_store(&notify.any, false);
    while ((link = list_pop(&threads.pending)))
        free(CONTAINER(link, aiofs_notification, link));
    atomic_store(&threads.any, false);
    atomic_store(&threads.parked, 0);
    atomic_store(&threads.asked, false);
    atomic_store(&threads.can_wait, false);
    pthread_mutex_unlock(&notify.lock);
}
