/*
 * file.c - open files: making them, finding them, and when a file ends.
 *
 * A file is owned or plain. aiofs opened an owned file: the table (fd_table.c) has it from aiofs_file_adopt to
 * aiofs_file_close. A plain file stands for a descriptor that the program opened: the table has it while requests are
 * in flight on it.
 *
 * A request on a plain descriptor belongs to an existing file if device, inode and flags are the same. This comparison
 * is not enough if the program changed the flags, or if many open files share one inode, as all eventfds do. Then
 * kcmp(2) compares the two descriptors. If they differ, the program has reused the number: the older file loses the
 * number and exists until its requests are complete.
 *
 * The end of a file. When the opener has closed an owned file and its last request leaves, a thread on the program's
 * table releases the lock of its lock reference (file_end_use). A thread on the engine's table closes the engine's
 * descriptor: the reactor if that close cannot block, else a worker. The lock reference itself, and what the file's own
 * operations allocated, live as long as the file, because a submission that found the file before the close still has a
 * reference. The last reference frees them (destroy). See request.c.
 *
 * Locking. The engine lock guards the files, the plain slots of the table and the list of retired files.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>

#include "cached.h"
#include "fd_table.h"

static struct aiofs_link retired = {&retired, &retired}; /* memory of files, free for use; engine lock */
static _Atomic unsigned spare;                           /* length of `retired`; changed under the engine lock */

/* ---- memory --------------------------------------------------------------------------------------- */

/* Lock held. */
static void retire(struct aiofs_link *file)
{
    list_append(&retired, file);
    atomic_fetch_add(&spare, 1);
}

/* Lock held. Nothing is allocated under the engine lock: a program's allocator may close an owned file under a lock of
 * its own, and the two threads would deadlock. */
static aiofs_file *take_spare(void)
{
    struct aiofs_link *link = list_pop(&retired);
    if (link)
        atomic_fetch_sub(&spare, 1);
    return link ? CONTAINER(link, aiofs_file, all) : NULL;
}

int file_reserve(int fd, unsigned count)
{
    if (!fd_slot_make(fd))
        return -ENOMEM;
    while (atomic_load(&spare) < count) {
        aiofs_file *file = calloc(1, sizeof *file);
        if (!file)
            return -ENOMEM;
        pthread_mutex_lock(&engine.lock);
        retire(&file->all);
        pthread_mutex_unlock(&engine.lock);
    }
    return 0;
}

/* ---- finding a file in flight ----------------------------------------------------------------------- */

/* Does the number of a plain file with requests in flight still lead to the same open file? 1, 0, -EAGAIN as
 * channel_compare, or -ENOSYS: unknown. Lock held, so the last request of the file cannot leave meanwhile. */
static int compare(aiofs_file *file, const struct file_facts *facts)
{
    const int fixed = O_ACCMODE | O_SYNC, changeable = file->kind == KIND_STREAM ? 0 : O_APPEND | O_DIRECT;
    int changed = file->flags ^ facts->flags;
    if (file->dev != facts->stat.st_dev || file->ino != facts->stat.st_ino || changed & fixed)
        return 0;
    if (file_is_cloned(&facts->stat))
        return channel_compare(&file->engine_fd, atomic_load(&file->fd));
    if (!(changed & changeable))
        return 1;
    int same = channel_compare(&file->engine_fd, atomic_load(&file->fd));
    return same == -ENOSYS ? 0 : same;
}

/* ---- making and finding --------------------------------------------------------------------------- */

static void lane_init(aiofs_file *file, enum lane_name name, unsigned limit, enum carrier carrier)
{
    struct lane *lane = &file->lanes[name];
    lane->file = file;
    lane->running = 0;
    lane->limit = limit;
    lane->carrier = carrier;
    lane->current = NULL;
    lane->call_order = false;
    list_init(&lane->waiting);
    list_init(&lane->runnable);
}

enum { MANY_ON_RING = 256, MANY_WORKERS = 32, COPIES = 4 };

/* Sets limit, carrier and order of the write lane, from the flags. */
static void set_write_lane(aiofs_file *file)
{
    struct lane *lane = &file->lanes[LANE_WRITE];
    bool ring = engine.reactor == &reactor_ring && !file->refuses;
    bool stream = file->kind == KIND_STREAM;
    bool direct = file->flags & O_DIRECT;
    bool appends = file->flags & O_APPEND;
    lane->limit = stream || appends || !direct ? 1 : ring ? MANY_ON_RING : MANY_WORKERS;
    lane->carrier = stream ? CARRIER_STREAMS : ring && direct ? CARRIER_RING : CARRIER_WORKERS;
    lane->call_order = appends || !file->seekable;
}

/* Sets the carrier of each lane, and how many of its requests may run at once. */
static void lanes_init(aiofs_file *file)
{
    bool ring = engine.reactor == &reactor_ring && !file->refuses;
    bool stream = file->kind == KIND_STREAM;
    lane_init(file, LANE_READ, stream ? 1 : ring ? MANY_ON_RING : MANY_WORKERS,
              stream ? CARRIER_STREAMS : ring ? CARRIER_RING : CARRIER_WORKERS);
    lane_init(file, LANE_COPY, COPIES, CARRIER_WORKERS);
    lane_init(file, LANE_WRITE, 1, CARRIER_WORKERS);
    set_write_lane(file);
    lane_init(file, LANE_SYNC, 1, CARRIER_WORKERS);
}

/* The program changed the flags with F_SETFL: waiting writes follow the new flags. */
static void flags_change(aiofs_file *file, int flags)
{
    const int matter = O_APPEND | O_DIRECT;
    bool same = (file->flags & matter) == (flags & matter);
    file->flags = flags;
    if (same)
        return;
    list_remove(&file->lanes[LANE_WRITE].runnable);
    set_write_lane(file);
    lane_offer(&file->lanes[LANE_WRITE]);
}

static aiofs_file *file_new(int fd, const struct file_facts *facts)
{
    aiofs_file *file = take_spare();
    if (!file)
        return NULL;
    file->flags = facts->flags;
    file->kind = facts->kind;
    file->type = facts->stat.st_mode & S_IFMT;
    file->nameless = facts->stat.st_nlink == 0;
    file->watched = false;
    file->refuses = file_refuses_nowait(fd, facts);
    file->seekable = facts->seekable;
    file->dev = facts->stat.st_dev;
    file->ino = facts->stat.st_ino;
    file->owned = file->closing = file->closed = file->bound = false;
    file->sequence = 0;
    atomic_store(&file->appending, 0);
    list_init(&file->leaving);
    file->kept_until = 0;
    file->lock_ref = NULL;
    file->ops = NULL;
    file->self = NULL;
    file->outstanding = file->changing = 0;
    atomic_store(&file->barriers, 0);
    atomic_store(&file->ending, 0);
    atomic_store(&file->inside, 0);
    atomic_store(&file->engine_fd, -1);
    atomic_store(&file->hint, HINT_UNKNOWN);
    atomic_store(&file->dirty, false);
    atomic_store(&file->syncing, 0);
    list_init(&file->in_flight);
    list_init(&file->held);
    list_append(&engine.files, &file->all);
    lanes_init(file);
    engine.counters.files++;
    atomic_store(&file->fd, fd);
    atomic_store_explicit(&file->refs, 1, memory_order_release);
    return file;
}

/* The plain file that the table has for the number. 1: the number still leads to it; 0: it does not; or -EAGAIN. */
static int newest_in_flight(int fd, const struct file_facts *facts, aiofs_file **file)
{
    struct fd_slot *slot = fd_slot_find(fd);
    *file = slot ? atomic_load(&slot->plain) : NULL;
    int same = *file ? compare(*file, facts) : 0;
    return same == -ENOSYS ? 0 : same;
}

/* The next file after `after` that was submitted under this number and may be the one that it leads to now. 1, 0 or
 * -EAGAIN. */
static int next_in_flight(int fd, const struct file_facts *facts, const aiofs_file *after, aiofs_file **file)
{
    const struct aiofs_link *link = after ? &after->all : &engine.files;
    while ((link = link->next) != &engine.files) {
        *file = CONTAINER(link, aiofs_file, all);
        if ((*file)->owned || !(*file)->outstanding || atomic_load(&(*file)->fd) != fd)
            continue;
        int same = compare(*file, facts);
        if (same != 0)
            return same == -ENOSYS ? 1 : same;
    }
    return 0;
}

aiofs_file *file_next_in_flight(int fd, const struct file_facts *facts, aiofs_file *after)
{
    enum { TRIES = 1000 };
    const struct timespec moment = {.tv_nsec = 50000};
    bool cloned = file_is_cloned(&facts->stat);
    aiofs_file *file = NULL;
    if (after && !cloned)
        return NULL;
    for (int tries = 0; tries < TRIES; tries++) {
        pthread_mutex_lock(&engine.lock);
        int same = cloned ? next_in_flight(fd, facts, after, &file) : newest_in_flight(fd, facts, &file);
        if (same == -EAGAIN && tries == TRIES - 1)
            same = 1; /* unknown: treat it as the same */
        if (same > 0)
            aiofs_file_retain(file);
        pthread_mutex_unlock(&engine.lock);
        if (same != -EAGAIN)
            return same ? file : NULL;
        engine_wake();
        nanosleep(&moment, NULL);
    }
    return NULL;
}

aiofs_file *aiofs_file_in_flight(int fd)
{
    struct file_facts facts;
    if (!file_number_busy(fd) || file_examine(fd, &facts) < 0)
        return NULL;
    return file_next_in_flight(fd, &facts, NULL);
}

int file_of_descriptor(int fd, const struct file_facts *facts, aiofs_file **file)
{
    int same = newest_in_flight(fd, facts, file);
    if (same < 0)
        return same;
    if (same) {
        flags_change(*file, facts->flags);
        (*file)->nameless = facts->stat.st_nlink == 0;
        aiofs_file_retain(*file);
        return 0;
    }
    *file = file_new(fd, facts);
    if (!*file)
        return -EAGAIN;
    atomic_store(&fd_slot_find(fd)->plain, *file);
    return 0;
}

/* ---- owned files ------------------------------------------------------------------------------------ */

/* Registers an owned file under its number. Lock held. */
static void register_owned(aiofs_file *file, enum inline_hint hint, aiofs_lock_ref *lock_ref,
                           const struct aiofs_ops *ops, void *self)
{
    struct fd_slot *slot = fd_slot_find(atomic_load(&file->fd));
    /* A file that is still registered here lost its number: the program closed it with close(2). */
    aiofs_file *stale = atomic_load(&slot->owned);
    if (stale)
        atomic_store(&stale->fd, -1);
    file->owned = true;
    file->lock_ref = lock_ref;
    file->ops = ops;
    file->self = self;
    if (hint == HINT_MEMORY) { /* tmpfs refuses RWF_NOWAIT, but never blocks */
        file->refuses = false;
        lanes_init(file);
    }
    atomic_store(&file->hint, hint);
    atomic_store_explicit(&slot->owned, file, memory_order_release);
}

int aiofs_file_adopt(int fd, int flags, aiofs_lock_ref *lock_ref, const struct aiofs_ops *ops, void *self,
                     aiofs_file **out)
{
    struct file_facts facts = {.flags = flags, .kind = KIND_REGULAR, .seekable = true};
    int error = ops ? 0 : file_examine(fd, &facts);
    return error < 0 ? error : file_adopt(fd, &facts, lock_ref, ops, self, out);
}

int file_adopt(int fd, const struct file_facts *facts, aiofs_lock_ref *lock_ref, const struct aiofs_ops *ops, void *self,
               aiofs_file **out)
{
    int error = aiofs_engine_start();
    if (error < 0)
        return error;
    enum inline_hint hint = ops ? HINT_ENGINE : file_hint_of(fd, facts);
    aiofs_file *file = NULL;
    while (error == 0 && !file) {
        error = file_reserve(fd, 1);
        pthread_mutex_lock(&engine.lock);
        file = error == 0 ? file_new(fd, facts) : NULL;
        if (file)
            register_owned(file, hint, lock_ref, ops, self);
        pthread_mutex_unlock(&engine.lock);
    }
    *out = file;
    return error;
}

bool file_number_lost(const aiofs_file *file)
{
    struct stat stat;
    int fd = atomic_load(&file->fd);
    int error = fd < 0 ? -EBADF : aiofs_fstat_cached(fd, &stat);
    if (error < 0)
        return error == -EBADF; /* another error does not mean that the number was closed */
    return !file->ops && (stat.st_dev != file->dev || stat.st_ino != file->ino);
}

/* Waits for the threads that have read the number and are about to make a system call with it. */
static void wait_for_those_inside(const aiofs_file *file)
{
    enum { YIELDS = 100 };
    const struct timespec moment = {.tv_nsec = 50000};
    for (int tries = 0; atomic_load(&file->inside); tries++) {
        if (tries < YIELDS)
            sched_yield();
        else
            nanosleep(&moment, NULL);
    }
}

int aiofs_file_close(aiofs_file *file)
{
    return file_close(file, file_number_lost(file));
}

int file_close(aiofs_file *file, bool lost)
{
    int fd = atomic_load(&file->fd);
    bool wake = false;

    pthread_mutex_lock(&engine.lock);
    if (file->closed) {
        pthread_mutex_unlock(&engine.lock);
        return -EBADF;
    }
    file->closing = file->closed = true;
    file_unregister(file);
    atomic_store(&file->fd, -1);
    bool last = file->outstanding == 0;
    if (last && file->bound) {
        aiofs_file_retain(file);
        list_append(&engine.releasing, &file->leaving);
        wake = true;
    }
    pthread_mutex_unlock(&engine.lock);

    wait_for_those_inside(file);
    if (!lost)
        aiofs_sys.close(fd);
    if (wake)
        engine_wake();
    if (last)
        file_end_use(file);
    return lost ? -EBADF : 0;
}

void file_end_use(aiofs_file *file)
{
    MUST_NOT_BLOCK_REACTOR(true);
    if (file->ops && file->ops->close)
        file->ops->close(file->self);
    if (file->lock_ref)
        aiofs_lock_ref_unlock(file->lock_ref);
}

void aiofs_file_drain(aiofs_file *file)
{
    pthread_mutex_lock(&engine.lock);
    file->closing = file->owned;
    atomic_fetch_add(&file->barriers, 1); /* makes the last completion signal engine.drained: see lane_ended */
    while (file->outstanding || atomic_load(&file->ending))
        pthread_cond_wait(&engine.drained, &engine.lock);
    atomic_fetch_sub(&file->barriers, 1);
    pthread_mutex_unlock(&engine.lock);
}

/* The last reference was released. The next file uses the memory. */
static void destroy(aiofs_file *file)
{
    if (file->ops && file->ops->release)
        file->ops->release(file->self);
    aiofs_lock_ref_release(file->lock_ref);
    file->lock_ref = NULL;
    file->ops = NULL;
    pthread_mutex_lock(&engine.lock);
    list_remove(&file->all);
    retire(&file->all);
    engine.counters.files--;
    pthread_mutex_unlock(&engine.lock);
}

static void run_destroy(struct aiofs_job *job)
{
    destroy(CONTAINER(job, aiofs_file, job));
}

void aiofs_file_retain(aiofs_file *file)
{
    atomic_fetch_add_explicit(&file->refs, 1, memory_order_relaxed);
}

void aiofs_file_release(aiofs_file *file)
{
    if (atomic_fetch_sub_explicit(&file->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (on_engine_table && (file->lock_ref || file->ops)) {
        file->job.run = run_destroy;
        pthread_mutex_lock(&engine.lock);
        host_threads_add(&file->job);
        pthread_mutex_unlock(&engine.lock);
    } else {
        destroy(file);
    }
}

int aiofs_file_fd(const aiofs_file *file)
{
    return atomic_load_explicit(&file->fd, memory_order_relaxed);
}

aiofs_lock_ref *aiofs_file_lock_ref(const aiofs_file *file)
{
    return file->lock_ref;
}

bool aiofs_file_busy(const aiofs_file *file)
{
    return atomic_load_explicit(&file->outstanding, memory_order_relaxed) != 0;
}

/* Sets the lanes for the reactor that started: in a forked child it may be another kind than in the parent. Lock held,
 * nothing in flight. */
void files_meet_reactor(void)
{
    for (struct aiofs_link *link = engine.files.next; link != &engine.files; link = link->next)
        lanes_init(CONTAINER(link, aiofs_file, all));
}

/* In a forked child, cancels the parent's requests on a list. A request that had left its file but was not terminal is
 * on no list; it becomes terminal when a thread next reads its state (aiofs_generation). Owned files stay open. Their
 * locks belong to the parent: entries/ marks the child's lock references as lost. */
static int32_t cancel_all(struct aiofs_link *in_flight)
{
    struct aiofs_link *link;
    int32_t count = 0;
    for (; (link = list_pop(in_flight)); count++) {
        aiofs_request *request = CONTAINER(link, aiofs_request, in_flight);
        list_init(&request->queued);
        aiofs_request_abandon(request);
    }
    return count;
}

void files_after_fork(void)
{
    aiofs_generation++;
    cancel_all(&engine.calls);
    fd_table_fork_child();
    for (struct aiofs_link *link = engine.files.next, *next; link != &engine.files; link = next) {
        aiofs_file *file = CONTAINER(link, aiofs_file, all);
        next = link->next;
        int32_t users = cancel_all(&file->in_flight);
        file->outstanding = file->changing = 0;
        atomic_store(&file->barriers, 0);
        atomic_store(&file->ending, 0);
        atomic_store(&file->syncing, 0);
        atomic_store(&file->inside, 0);
        file->bound = false;
        atomic_store(&file->engine_fd, -1);
        atomic_store(&file->appending, 0);
        list_init(&file->held);
        list_init(&file->leaving);
        users += file->kept_until != 0;
        file->kept_until = 0;
        lanes_init(file);
        if (!file->owned)
            file_unregister(file);
        if (users && atomic_fetch_sub(&file->refs, users) == users) {
            list_remove(link);
            retire(link);
            engine.counters.files--;
        }
    }
}
