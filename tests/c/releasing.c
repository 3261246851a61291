/*
 * releasing.c - locks that are marked as releasing: a thread that asks for one waits for its release, in this process
 * and in another, at most until the marking process dies.
 */
#include "check.h"
#include "fault.h"

#include "volume_internal.h"

static aiofs_volume *volume;
static char directory[] = "/tmp/aiofs-releasing-XXXXXX";

static int ask(const char *path, aiofs_lock_ref **lock_ref)
{
    return aiofs_lock_ref_take(volume, path, AIOFS_LOCK_EXCLUSIVE, NULL, lock_ref);
}

static void *release_later(void *lock_ref)
{
    pause_ms(20);
    aiofs_lock_ref_release(lock_ref);
    return NULL;
}

static void in_one_process(void)
{
    aiofs_lock_ref *first, *second;
    pthread_t thread;
    CHECK(ask("inside", &first) == 0 && ask("inside", &second) == -EBUSY, "a lock that is held is refused");
    aiofs_lock_ref_releasing(first);
    MUST(-pthread_create(&thread, NULL, release_later, first));
    CHECK(ask("inside", &second) == 0, "a request for a releasing lock waits and gets the lock");
    pthread_join(thread, NULL);
    CHECK(ask("inside", &first) == -EBUSY, "the releasing mark ends with its lock");
    aiofs_lock_ref_release(second);

    CHECK(aiofs_lock_ref_take(volume, "inside", AIOFS_LOCK_SHARED, NULL, &first) == 0 &&
              aiofs_lock_ref_take(volume, "inside", AIOFS_LOCK_SHARED, NULL, &second) == 0,
          "two share a lock");
    aiofs_lock_ref_releasing(first);
    aiofs_lock_ref *third;
    CHECK(ask("inside", &third) == -EBUSY, "a releasing lock causes no wait for the other lock");
    aiofs_lock_ref_release(first);
    aiofs_lock_ref_release(second);
}

static void calls_of_the_tree(void)
{
    aiofs_lock_ref *lock_ref;
    pthread_t thread;
    MUST(aiofs_volume_mkdir(volume, "tree", 0700));
    MUST(aiofs_volume_mkdir(volume, "tree/leaf", 0700));
    MUST(ask("tree/leaf", &lock_ref));
    CHECK(aiofs_volume_remove_tree(volume, "tree") == -EBUSY, "a locked entry is not removed");
    aiofs_lock_ref_releasing(lock_ref);
    MUST(-pthread_create(&thread, NULL, release_later, lock_ref));
    CHECK(aiofs_volume_remove_tree(volume, "tree") == 0, "a lock that is releasing is waited for");
    pthread_join(thread, NULL);
}

static void acquisitions(void)
{
    struct aiofs_acquisition early = {0}, later = {0};
    aiofs_lock_ref *lock_ref, *other;
    aiofs_acquisition_abandon(&early);
    aiofs_acquisition_begin(&early);
    CHECK(ask("given up", &lock_ref) == -ECANCELED, "an acquisition that was abandoned before does not take the lock");
    aiofs_acquisition_begin(NULL);
    aiofs_acquisition_end(&early);

    pthread_t thread;
    aiofs_acquisition_begin(&later);
    CHECK(ask("given up", &lock_ref) == 0, "a lock");
    aiofs_acquisition_begin(NULL);
    CHECK(ask("given up", &other) == -EBUSY, "a held lock is refused to other processes");
    aiofs_acquisition_abandon(&later);
    MUST(-pthread_create(&thread, NULL, release_later, lock_ref));
    CHECK(ask("given up", &other) == 0, "other processes wait for a releasing lock");
    pthread_join(thread, NULL);
    aiofs_acquisition_end(&later);
    aiofs_lock_ref_release(other);
}

/* Starts a process that takes the lock of `path`, and marks it if `marks`. */
static pid_t holder(const char *path, bool marks, void (*then)(aiofs_lock_ref *))
{
    int ready[2];
    char byte;
    MUST(pipe2(ready, O_CLOEXEC));
    pid_t child = (pid_t)MUST(fork());
    if (child == 0) {
        aiofs_lock_ref *lock_ref;
        if (ask(path, &lock_ref) != 0)
            _exit(1);
        if (marks)
            aiofs_lock_ref_releasing(lock_ref);
        if (write(ready[1], "", 1) != 1)
            _exit(1);
        then(lock_ref);
        pause();
    }
    close(ready[1]);
    CHECK(read(ready[0], &byte, 1) == 1, "another process has the lock of %s", path);
    close(ready[0]);
    return child;
}

static void keep(aiofs_lock_ref *lock_ref)
{
    (void)lock_ref;
}

static void release(aiofs_lock_ref *lock_ref)
{
    release_later(lock_ref);
}

static void *kill_later(void *child)
{
    pause_ms(20);
    kill(*(pid_t *)child, SIGKILL);
    return NULL;
}

static void end(pid_t child)
{
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

static void between_processes(void)
{
    aiofs_lock_ref *lock_ref;
    pthread_t thread;
    pid_t child = holder("plain", false, keep);
    CHECK(ask("plain", &lock_ref) == -EBUSY, "a lock held by another process is refused");
    end(child);

    child = holder("marked", true, release);
    CHECK(ask("marked", &lock_ref) == 0, "a lock that another process is releasing is waited for");
    aiofs_lock_ref_release(lock_ref);
    end(child);

    child = holder("killed", true, keep);
    MUST(-pthread_create(&thread, NULL, kill_later, &child));
    CHECK(ask("killed", &lock_ref) == 0, "the releasing mark of a process ends with the process");
    pthread_join(thread, NULL);
    waitpid(child, NULL, 0);
    aiofs_lock_ref_release(lock_ref);

    child = holder("stuck", true, keep);
    CHECK(ask("stuck", &lock_ref) == -EBUSY, "the wait for a releasing lock is bounded");
    end(child);
    CHECK(ask("stuck", &lock_ref) == 0, "the lock is free after its release");
    aiofs_lock_ref_releasing(lock_ref);
    child = holder("other", true, keep); /* its fork saw our mark */
    end(child);
    aiofs_lock_ref_release(lock_ref);
    CHECK(ask("stuck", &lock_ref) == 0, "the end of a child does not remove the parent's mark");
    aiofs_lock_ref_release(lock_ref);
}

/* ---- a shared lock --------------------------------------------------------------------------------------- */

static int lock_file_of(uint64_t hash)
{
    char path[64];
    snprintf(path, sizeof path, "%s/.aiofs/locks/%02x", directory, aiofs_lock_file_of(hash));
    return (int)MUST(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666));
}

static void lock_byte(int fd, uint64_t hash, int64_t byte)
{
    MUST(aiofs_bytes_set(fd, F_RDLCK, aiofs_range_of(hash) + byte, 1));
}

static struct sharing {
    aiofs_lock_ref *lock_ref;
    int status;
} sharing;

static void *share(void *nothing)
{
    (void)nothing;
    sharing.status = aiofs_lock_ref_take(volume, "shared", AIOFS_LOCK_SHARED, NULL, &sharing.lock_ref);
    return NULL;
}

/* One open file description has a shared lock. Another one, which asks for a lock of another kind, has set its byte and
 * not yet removed it. */
static void contended_sharing(void)
{
    aiofs_lock_ref *other;
    pthread_t thread;
    uint64_t hash = aiofs_path_hash("shared", strlen("shared"));
    int sharer = lock_file_of(hash), refused = lock_file_of(hash);
    lock_byte(sharer, hash, AIOFS_LOCK_SHARED);
    lock_byte(refused, hash, AIOFS_LOCK_READ_ONLY);
    long before = fault_calls("fcntl");
    MUST(-pthread_create(&thread, NULL, share, NULL));
    CHECK(EVENTUALLY(20, fault_calls("fcntl") > before + 10),
          "a thread asks again and again for a lock that it may share");
    for (int i = 0; i < 20; i++) {
        MUST(ask("another", &other));
        aiofs_lock_ref_release(other);
    }
    close(refused);
    pthread_join(thread, NULL);
    CHECK(sharing.status == 0, "other threads take locks meanwhile, and then it has its own");
    if (sharing.status == 0)
        aiofs_lock_ref_release(sharing.lock_ref);
    close(sharer);
}

int main(void)
{
    char command[64];
    check_begin(60);
    MUST(mkdtemp(directory) ? 0 : -1);
    fault_attach(&aiofs_sys);
    if (aiofs_volume_open(directory, 0, -1, &volume) != 0)
        exit(1);
    in_one_process();
    calls_of_the_tree();
    acquisitions();
    contended_sharing();
    if (CAN_FORK_WITH_THREADS)
        between_processes();
    aiofs_volume_release(volume);
    snprintf(command, sizeof command, "rm -rf %s", directory);
    return system(command) != 0 || check_end();
}
