/*
 * lock.c - entries, and the locks on them.
 *
 * An entry's lock has two halves. Inside the process it is a state of the entry: the mode, how many lock references
 * share it, and their owner. Between processes it is an open-file-description lock (F_OFD_SETLK) on the entry's range
 * of bytes in one of 256 lock files under .aiofs/locks. The hash of the entry's canonical path selects the file and the
 * range. This process has one open file description per lock file: the first lock reference of an entry locks the
 * bytes, the last one unlocks them. The kernel unlocks them when the process dies.
 *
 *     the range:  [ 0..15: one byte per mode of sharing | 16..: one per session of `aiofs run` | the releasing mark ]
 *
 * An exclusive lock write-locks all bytes before the mark, which belongs to releasing.c. A sharing lock read-locks the
 * byte of its mode, and then asks with F_OFD_GETLK whether another description holds another byte. If two modes try at
 * the same moment, each may see the other and both are refused; a lock that never waits may do that.
 *
 * Ownership. An open file owns its lock reference. A lock reference owns a share of its entry's lock and a reference to
 * its volume. The namespace lock guards all of it.
 *
 * Fork. The child closes its copies of the lock files, so that the parent's locks end with the parent. It marks every
 * inherited lock reference as lost, so that releasing one leaves the lock files alone.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sys.h"
#include "thread.h"
#include "volume_internal.h"

struct aiofs_tree *aiofs_trees;
static pthread_mutex_t namespace_mutex = PTHREAD_MUTEX_INITIALIZER;

void aiofs_namespace_lock(void)
{
    pthread_mutex_lock(&namespace_mutex);
}

void aiofs_namespace_unlock(void)
{
    pthread_mutex_unlock(&namespace_mutex);
}

int aiofs_namespace_wait(pthread_cond_t *condition, int64_t until)
{
    return condition_wait_until(condition, &namespace_mutex, until);
}

/* ---- between processes ------------------------------------------------------------------------------ */

unsigned aiofs_lock_file_of(uint64_t hash)
{
    return (unsigned)(hash >> 56);
}

int64_t aiofs_range_of(uint64_t hash)
{
    return (int64_t)(hash & (((uint64_t)1 << (63 - AIOFS_RANGE_BITS)) - 1)) << AIOFS_RANGE_BITS;
}

/* The descriptor of a lock file: opened at its first use, created if it is missing. -ENOENT: the volume is read-only
 * and the file does not exist, so no process has a lock in it. */
static int lock_file_open(struct aiofs_tree *tree, unsigned number)
{
    char name[sizeof "locks/ff"];
    if (tree->lock_files[number] >= 0)
        return tree->lock_files[number];
    if (tree->own_dir < 0)
        return -ENOENT;
    snprintf(name, sizeof name, "locks/%02x", number & 0xff);
    int flags = tree->writable ? O_RDWR | O_CREAT : O_RDONLY;
    int fd = aiofs_sys.openat(tree->own_dir, name, flags | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (fd >= 0)
        tree->lock_files[number] = fd;
    return fd;
}

int aiofs_bytes_set(int fd, short type, int64_t start, int64_t length)
{
    struct flock bytes = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
    int status = aiofs_sys.fcntl(fd, F_OFD_SETLK, (long)&bytes);
    return status == -EAGAIN || status == -EACCES ? -EBUSY : status;
}

/* -EBUSY if another open file description holds a lock on one of the bytes. */
static int bytes_check(int fd, int64_t start, int64_t length)
{
    struct flock bytes = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
    int status = aiofs_sys.fcntl(fd, F_OFD_GETLK, (long)&bytes);
    return status < 0 ? status : bytes.l_type == F_UNLCK ? 0 : -EBUSY;
}

int aiofs_bytes_share(int fd, uint64_t hash, int64_t byte)
{
    int64_t range = aiofs_range_of(hash);
    int status = aiofs_bytes_set(fd, F_RDLCK, range + byte, 1);
    if (status == 0) {
        status = bytes_check(fd, range, byte);
        if (status == 0)
            status = bytes_check(fd, range + byte + 1, AIOFS_RANGE_MARK - byte - 1);
        if (status < 0)
            aiofs_bytes_set(fd, F_UNLCK, range, AIOFS_RANGE_MARK);
    }
    return status;
}

/* Locks the entry's bytes for `lock`. 0 without a lock where no other process can have one: in a virtual tree, or in a
 * read-only one without lock files. */
static int bytes_take(struct aiofs_tree *tree, uint64_t hash, enum aiofs_lock lock)
{
    if (tree->root < 0)
        return 0;
    int fd = lock_file_open(tree, aiofs_lock_file_of(hash));
    if (fd < 0)
        return fd == -ENOENT && !tree->writable ? 0 : fd;
    if (aiofs_byte_of(lock) < 0)
        return aiofs_bytes_set(fd, F_WRLCK, aiofs_range_of(hash), AIOFS_RANGE_MARK);
    return aiofs_bytes_share(fd, hash, aiofs_byte_of(lock));
}

static void bytes_release(struct aiofs_tree *tree, uint64_t hash)
{
    int fd = tree->lock_files[aiofs_lock_file_of(hash)];
    if (fd >= 0)
        aiofs_bytes_set(fd, F_UNLCK, aiofs_range_of(hash), AIOFS_RANGE_MARK);
}

/* ---- entries ----------------------------------------------------------------------------------------- */

static struct aiofs_entry **bucket_of(const struct aiofs_tree *tree, uint64_t hash)
{
    return &tree->buckets[hash & (tree->bucket_count - 1)];
}

struct aiofs_entry *aiofs_entry_find_locked(const struct aiofs_tree *tree, const struct aiofs_canonical *canonical)
{
    struct aiofs_entry *entry = tree->bucket_count ? *bucket_of(tree, canonical->hash) : NULL;
    while (entry && (entry->hash != canonical->hash || entry->length != canonical->length ||
                     memcmp(entry->path, canonical->path, canonical->length) != 0))
        entry = entry->next;
    return entry;
}

/* Makes the number of hash buckets exceed the number of entries. */
static int buckets_grow(struct aiofs_tree *tree)
{
    struct aiofs_tree grown = {.bucket_count = tree->bucket_count ? tree->bucket_count * 2 : 64};
    if (tree->entry_count < tree->bucket_count)
        return 0;
    grown.buckets = calloc(grown.bucket_count, sizeof *grown.buckets);
    if (!grown.buckets)
        return -ENOMEM;
    for (size_t i = 0; i < tree->bucket_count; i++) {
        for (struct aiofs_entry *entry = tree->buckets[i], *next; entry; entry = next) {
            struct aiofs_entry **bucket = bucket_of(&grown, entry->hash);
            next = entry->next;
            entry->next = *bucket;
            *bucket = entry;
        }
    }
    free(tree->buckets);
    tree->buckets = grown.buckets;
    tree->bucket_count = grown.bucket_count;
    return 0;
}

static struct aiofs_entry *entry_make(struct aiofs_tree *tree, const struct aiofs_canonical *canonical)
{
    struct aiofs_entry *entry = aiofs_entry_find_locked(tree, canonical);
    if (entry)
        return entry;
    if (buckets_grow(tree) < 0 || !(entry = calloc(1, sizeof *entry + canonical->length + 1)))
        return NULL;
    entry->hash = canonical->hash;
    entry->length = canonical->length;
    memcpy(entry->path, canonical->path, canonical->length + 1);
    struct aiofs_entry **bucket = bucket_of(tree, entry->hash);
    entry->next = *bucket;
    *bucket = entry;
    tree->entry_count++;
    return entry;
}

static void entry_free_if_unused(struct aiofs_tree *tree, struct aiofs_entry *entry)
{
    if (entry->lock_refs)
        return;
    struct aiofs_entry **link = bucket_of(tree, entry->hash);
    while (*link != entry)
        link = &(*link)->next;
    *link = entry->next;
    tree->entry_count--;
    free(entry);
}

/* ---- locks in the process ------------------------------------------------------------------------------ */

static bool may_share(const struct aiofs_entry *entry, enum aiofs_lock lock, const void *owner)
{
    if (entry->lock == AIOFS_LOCK_NONE)
        return true;
    if (entry->lock != lock)
        return false;
    return lock != AIOFS_LOCK_EXCLUSIVE || (owner && entry->owner == owner);
}

static int lock_entry(struct aiofs_tree *tree, struct aiofs_entry *entry, enum aiofs_lock lock, const void *owner)
{
    if (lock == AIOFS_LOCK_NONE)
        return 0;
    if (!may_share(entry, lock, owner))
        return -EBUSY;
    if (entry->locks == 0) {
        int status = bytes_take(tree, entry->hash, lock);
        if (status < 0)
            return status;
        entry->lock = lock;
        entry->owner = owner;
    }
    entry->locks++;
    return 0;
}

static void unlock_entry(struct aiofs_tree *tree, struct aiofs_entry *entry, enum aiofs_lock lock)
{
    if (lock == AIOFS_LOCK_NONE || --entry->locks > 0)
        return;
    entry->lock = AIOFS_LOCK_NONE;
    entry->owner = NULL;
    bytes_release(tree, entry->hash);
}

/* ---- lock references ------------------------------------------------------------------------------------------- */

static void lock_ref_link(struct aiofs_entry *entry, struct aiofs_lock_ref *lock_ref)
{
    lock_ref->entry = entry;
    lock_ref->prev = NULL;
    lock_ref->next = entry->lock_refs;
    if (entry->lock_refs)
        entry->lock_refs->prev = lock_ref;
    entry->lock_refs = lock_ref;
}

static void lock_ref_unlink(struct aiofs_lock_ref *lock_ref)
{
    if (lock_ref->prev)
        lock_ref->prev->next = lock_ref->next;
    else
        lock_ref->entry->lock_refs = lock_ref->next;
    if (lock_ref->next)
        lock_ref->next->prev = lock_ref->prev;
}

int aiofs_lock_ref_take_locked(aiofs_volume *volume, const struct aiofs_canonical *canonical, enum aiofs_lock lock,
                               const void *owner, aiofs_lock_ref **out)
{
    struct aiofs_tree *tree = volume->tree;
    struct aiofs_lock_ref *lock_ref = calloc(1, sizeof *lock_ref);
    struct aiofs_entry *entry = lock_ref ? entry_make(tree, canonical) : NULL;
    int status = entry ? lock_entry(tree, entry, lock, owner) : -ENOMEM;
    if (status < 0) {
        if (entry)
            entry_free_if_unused(tree, entry);
        free(lock_ref);
        return status;
    }
    aiofs_volume_retain(volume);
    lock_ref->volume = volume;
    lock_ref->lock = lock;
    lock_ref->unsynced = aiofs_dir_sync_outstanding_locked(tree);
    lock_ref_link(entry, lock_ref);
    *out = lock_ref;
    return 0;
}

int aiofs_lock_ref_take_at(aiofs_volume *volume, const struct aiofs_canonical *canonical, enum aiofs_lock lock,
                           const void *owner, aiofs_lock_ref **lock_ref)
{
    struct aiofs_patience patience = {0};
    int status = aiofs_tree_ensure_presence(volume->tree);
    if (status < 0)
        return status;
    aiofs_namespace_lock();
    do
        status = aiofs_acquisition_abandoned_locked()
                     ? -ECANCELED
                     : aiofs_lock_ref_take_locked(volume, canonical, lock, owner, lock_ref);
    while (status == -EBUSY && aiofs_releasing_wait_locked(volume->tree, canonical, lock, &patience));
    if (status == 0)
        aiofs_acquisition_done_locked(*lock_ref);
    aiofs_namespace_unlock();
    return status;
}

/* Takes an exclusive lock for one call: a temporary lock reference. */
int aiofs_lock_ref_take_temporary(aiofs_volume *volume, const struct aiofs_canonical *canonical, const void *owner,
                                  aiofs_lock_ref **lock_ref)
{
    struct aiofs_patience patience = {0};
    int status = aiofs_tree_ensure_presence(volume->tree);
    if (status < 0)
        return status;
    aiofs_namespace_lock();
    do
        status = aiofs_lock_ref_take_locked(volume, canonical, AIOFS_LOCK_EXCLUSIVE, owner, lock_ref);
    while (status == -EBUSY && aiofs_releasing_wait_locked(volume->tree, canonical, AIOFS_LOCK_EXCLUSIVE, &patience));
    if (status == 0)
        (*lock_ref)->temporary = true;
    aiofs_namespace_unlock();
    return status;
}

int aiofs_lock_ref_take(aiofs_volume *volume, const char *path, enum aiofs_lock lock, const void *owner,
                        aiofs_lock_ref **lock_ref)
{
    struct aiofs_canonical canonical;
    int status = aiofs_path_resolve(volume, path, true, &canonical);
    return status < 0 ? status : aiofs_lock_ref_take_at(volume, &canonical, lock, owner, lock_ref);
}

void aiofs_lock_ref_unlock(aiofs_lock_ref *lock_ref)
{
    aiofs_namespace_lock();
    if (!lock_ref->lost)
        unlock_entry(lock_ref->volume->tree, lock_ref->entry, lock_ref->lock);
    if (lock_ref->releasing)
        aiofs_releasing_remove_locked(lock_ref->volume->tree, lock_ref->entry);
    lock_ref->releasing = false;
    lock_ref->lock = AIOFS_LOCK_NONE;
    lock_ref->closed = true;
    aiofs_namespace_unlock();
}

void aiofs_lock_ref_release(aiofs_lock_ref *lock_ref)
{
    aiofs_volume *volume;
    if (!lock_ref)
        return;
    aiofs_namespace_lock();
    volume = lock_ref->volume;
    lock_ref_unlink(lock_ref);
    if (!lock_ref->lost)
        unlock_entry(volume->tree, lock_ref->entry, lock_ref->lock);
    if (lock_ref->releasing)
        aiofs_releasing_remove_locked(volume->tree, lock_ref->entry);
    if (lock_ref->acquisition)
        lock_ref->acquisition->lock_ref = NULL;
    if (lock_ref->charge) {
        if (lock_ref->entry->charge == lock_ref->charge && lock_ref->charge->refs == 1)
            lock_ref->entry->charge = NULL;
        aiofs_charge_release_locked(volume->tree, lock_ref->charge);
    }
    entry_free_if_unused(volume->tree, lock_ref->entry);
    aiofs_namespace_unlock();
    free(lock_ref);
    aiofs_volume_release(volume);
}

/* Moves a lock reference to another entry, because its file was renamed. The entry `to` is locked in a mode, and by an
 * owner, with which the lock reference can share. */
void aiofs_lock_ref_move_locked(aiofs_lock_ref *lock_ref, struct aiofs_entry *to)
{
    struct aiofs_tree *tree = lock_ref->volume->tree;
    struct aiofs_entry *from = lock_ref->entry;
    lock_ref_unlink(lock_ref);
    lock_ref_link(to, lock_ref);
    if (!lock_ref->lost && lock_ref->lock != AIOFS_LOCK_NONE) {
        to->locks++;
        unlock_entry(tree, from, lock_ref->lock);
    }
    if (lock_ref->releasing) {
        aiofs_releasing_add_locked(tree, to);
        aiofs_releasing_remove_locked(tree, from);
    }
    entry_free_if_unused(tree, from);
}

aiofs_volume *aiofs_lock_ref_volume(const aiofs_lock_ref *lock_ref)
{
    return lock_ref->volume;
}

_Atomic int64_t *aiofs_lock_ref_write_backoff(aiofs_lock_ref *lock_ref)
{
    return &lock_ref->volume->tree->write_backoff;
}

struct aiofs_limiter *aiofs_lock_ref_limiter(aiofs_lock_ref *lock_ref)
{
    return &lock_ref->volume->limiter;
}

/* ---- counting open lock references -------------------------------------------------------------------- */

/* Whether a path lies strictly below `top`; every path but "" lies below the root. */
bool aiofs_path_below(const char *path, size_t length, const char *top, size_t top_length)
{
    if (top_length == 0)
        return length > 0;
    return length > top_length && path[top_length] == '/' && memcmp(path, top, top_length) == 0;
}

static long count_open(const struct aiofs_entry *entry)
{
    long count = 0;
    for (const struct aiofs_lock_ref *lock_ref = entry->lock_refs; lock_ref; lock_ref = lock_ref->next)
        count += !lock_ref->lost && !lock_ref->closed;
    return count;
}

long aiofs_volume_lock_count(aiofs_volume *volume, const char *path)
{
    struct aiofs_canonical top;
    struct aiofs_tree *tree = volume->tree;
    long count = 0;
    int status = aiofs_path_normalize(path, &top);
    if (status < 0)
        return status;
    aiofs_namespace_lock();
    for (size_t i = 0; i < tree->bucket_count; i++) {
        for (const struct aiofs_entry *entry = tree->buckets[i]; entry; entry = entry->next) {
            bool itself = entry->length == top.length && memcmp(entry->path, top.path, top.length) == 0;
            if (itself || aiofs_path_below(entry->path, entry->length, top.path, top.length))
                count += count_open(entry);
        }
    }
    aiofs_namespace_unlock();
    return count;
}

/* ---- fork ----------------------------------------------------------------------------------------------- */

void aiofs_volume_fork_prepare(void)
{
    aiofs_opening_lock();
    aiofs_namespace_lock();
}

void aiofs_volume_fork_parent(void)
{
    aiofs_namespace_unlock();
    aiofs_opening_unlock();
}

static void entry_mark_lost(struct aiofs_entry *entry)
{
    entry->lock = AIOFS_LOCK_NONE;
    entry->locks = entry->releasing = 0;
    entry->owner = NULL;
    entry->charge = NULL;
    for (struct aiofs_lock_ref *lock_ref = entry->lock_refs; lock_ref; lock_ref = lock_ref->next) {
        lock_ref->lost = true;
        lock_ref->releasing = false;
        if (lock_ref->charge)
            lock_ref->charge->orphan = false; /* the parent subtracts the bytes from the usage count */
    }
}

void aiofs_volume_fork_child(void)
{
    for (struct aiofs_tree *tree = aiofs_trees; tree; tree = tree->next) {
        for (unsigned i = 0; i < AIOFS_LOCK_FILES; i++) {
            if (tree->lock_files[i] >= 0)
                aiofs_sys.close(tree->lock_files[i]);
            tree->lock_files[i] = -1;
        }
        if (tree->presence >= 0)
            aiofs_sys.close(tree->presence);
        tree->presence = -1;
        for (size_t i = 0; i < tree->bucket_count; i++)
            for (struct aiofs_entry *entry = tree->buckets[i]; entry; entry = entry->next)
                entry_mark_lost(entry);
    }
    aiofs_releasing_fork_child();
    aiofs_volume_fork_parent();
}
