/*
 * open.c - aiofs_open and aiofs_close: descriptors whose files are locked.
 *
 * Child processes try to take the locks: a child has no lock of its parent, and its own engine. ThreadSanitizer does
 * not support such children, so the checks that need one are skipped there.
 */
#include "check.h"
#include "fault.h"

#include <aio.h>

#include "include/aiofs.h"
#include "volume.h"

static char volume[4096];

static int ask(const char *path, int flags)
{
    int status;
    fflush(stdout);
    pid_t pid = (pid_t)MUST(fork());
    if (pid == 0) {
        alarm(SANITIZED ? 5 : 20);
        _exit(aiofs_open(volume, path, flags, 0600) < 0 ? errno : 0);
    }
    MUST(waitpid(pid, &status, 0));
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Calls aiofs_open in a child process. 0, or its errno. (In the child of a multi-threaded process a sanitizer's
 * allocator may be locked. Such a child is killed, and another one started.) */
static int open_in_child(const char *path, int flags)
{
    int answer = ask(path, flags);
    for (int tries = 0; SANITIZED && answer < 0 && tries < 5; tries++)
        answer = ask(path, flags);
    return answer;
}

static const char *inside(const char *name)
{
    static char path[2][8192];
    static int turn;
    turn = !turn;
    snprintf(path[turn], sizeof path[turn], "%s/%s", volume, name);
    return path[turn];
}

static void make(const char *name, const char *contents)
{
    int fd = (int)MUST(open(inside(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    MUST(write(fd, contents, strlen(contents)));
    close(fd);
}

static bool fails(int result, int error)
{
    return result == -1 && errno == error;
}

static uint64_t files(void)
{
    struct aiofs_counters counters;
    aiofs_engine_counters(&counters);
    return counters.files;
}

static struct aiocb *write_of(int fd, const char *text)
{
    struct aiocb *cb = calloc(1, sizeof *cb);
    cb->aio_fildes = fd;
    cb->aio_buf = (void *)(uintptr_t)text;
    cb->aio_nbytes = strlen(text);
    cb->aio_reqprio = 1; /* such a write is not made inside the call */
    MUST(aio_write(cb));
    return cb;
}

static ssize_t outcome(struct aiocb *cb)
{
    const struct aiocb *const list[] = {cb};
    while (aio_error(cb) == EINPROGRESS)
        aio_suspend(list, 1, NULL);
    ssize_t result = aio_return(cb);
    free(cb);
    return result;
}

/* ---- opening ------------------------------------------------------------------------------------------- */

static void opens_like_open(void)
{
    umask(027);
    CHECK(fails(aiofs_open(volume, "file", O_RDWR), ENOENT), "no volume, no O_CREAT: ENOENT");
    int fd = aiofs_open(volume, "file", O_RDWR | O_CREAT, 0666);
    struct stat found;
    CHECK(fd >= 0 && fstat(fd, &found) == 0 && S_ISREG(found.st_mode), "O_CREAT makes the volume and the file");
    CHECK((found.st_mode & 07777) == 0640, "the file's mode obeys mode and umask: %o", found.st_mode & 07777);
    MUST(stat(volume, &found));
    CHECK((found.st_mode & 07777) == 0700, "the volume's directory is its owner's alone: %o", found.st_mode & 07777);
    CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC, "the descriptor is close-on-exec");
    CHECK(write(fd, "plain", 5) == 5 && holds(fd, "plain", 5, 0), "the descriptor is an ordinary one");
    CHECK(outcome(write_of(fd, "aio")) == 3 && holds(fd, "aioin", 5, 0), "aio_write works on it");
    CHECK(aiofs_close(fd) == 0 && fails(fcntl(fd, F_GETFD), EBADF), "aiofs_close closes the number");
    CHECK(fails(aiofs_close(fd), EBADF), "a second aiofs_close is EBADF");

    fd = aiofs_open(volume, "/file", O_WRONLY | O_TRUNC | O_APPEND);
    CHECK(fd >= 0 && fstat(fd, &found) == 0 && found.st_size == 0, "O_TRUNC cuts; a path may begin with a slash");
    CHECK((fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND)) == (O_WRONLY | O_APPEND), "the flags are the caller's");
    aiofs_close(fd);
    umask(022);
}

static void refuses_with_errno(void)
{
    make("there", "");
    MUST(mkdir(inside("folder"), 0700));
    MUST(symlink("there", inside("link")));
    MUST(symlink("folder", inside("way")));
    CHECK(fails(aiofs_open(volume, "there", O_RDWR | O_CREAT | O_EXCL, 0600), EEXIST), "O_EXCL: EEXIST");
    CHECK(fails(aiofs_open(volume, "missing", O_RDWR), ENOENT), "what is missing: ENOENT");
    CHECK(fails(aiofs_open(volume, "", O_RDONLY), ENOENT), "the empty path: ENOENT");
    CHECK(fails(aiofs_open(volume, "none/file", O_RDWR | O_CREAT, 0600), ENOENT), "a parent is missing: ENOENT");
    CHECK(fails(aiofs_open(volume, "there/file", O_RDWR), ENOTDIR), "a file for a parent: ENOTDIR");
    CHECK(fails(aiofs_open(volume, "folder", O_RDONLY), EISDIR), "a directory: EISDIR");
    CHECK(fails(aiofs_open(volume, "../there", O_RDWR), EXDEV), "out of the volume: EXDEV");
    CHECK(fails(aiofs_open(volume, "folder/../../x", O_RDWR | O_CREAT, 0600), EXDEV),
          "a long path out of the volume: EXDEV");
    CHECK(fails(aiofs_open(volume, "link", O_RDWR), ELOOP), "a symbolic link: ELOOP");
    CHECK(fails(aiofs_open(volume, "way/file", O_RDWR | O_CREAT, 0600), ELOOP), "a symbolic link as a parent: ELOOP");
    CHECK(fails(aiofs_open(volume, ".aiofs/volume", O_RDWR), ENOENT), "a reserved name of aiofs: ENOENT");
    CHECK(fails(aiofs_open(inside("there"), "file", O_RDWR), ENOTDIR), "a file for a volume: ENOTDIR");
    CHECK(fails(aiofs_open(inside("none/none"), "file", O_RDWR | O_CREAT, 0600), ENOENT),
          "a missing parent of the volume: ENOENT");
    CHECK(access(inside("none"), F_OK) < 0, "refused opens create no file");
}

/* ---- the lock -------------------------------------------------------------------------------------------- */

static void writer_is_alone(void)
{
    int first = aiofs_open(volume, "locked", O_RDWR | O_CREAT, 0600);
    int second = aiofs_open(volume, "locked", O_WRONLY);
    int reader = aiofs_open(volume, "locked", O_RDONLY);
    CHECK(first >= 0 && second >= 0 && reader >= 0, "one process opens a file any number of times");
    if (CAN_FORK_WITH_THREADS) {
        CHECK(open_in_child("locked", O_RDWR) == EBUSY, "another process is refused: EBUSY");
        CHECK(open_in_child("locked", O_RDONLY | O_TRUNC) == EBUSY, "another process may not truncate the file");
        CHECK(open_in_child("locked", O_RDWR | O_CREAT | O_EXCL) == EEXIST, "O_EXCL of a locked file is EEXIST");
        CHECK(open_in_child("locked", O_RDONLY) == 0, "another process may open the file for reading");
        CHECK(open_in_child("there", O_RDWR) == 0, "another process may open another file");
        aiofs_close(first);
        CHECK(open_in_child("locked", O_RDWR) == EBUSY, "one of two writers closed: still EBUSY");
        aiofs_close(second);
        CHECK(open_in_child("locked", O_RDWR) == 0, "both closed: free");
    }
    aiofs_close(reader);
}

/* On a slow machine the child may ask after the write is complete. Then the test repeats with a slower write. */
static void lock_outlives_close(void)
{
    struct aiocb *cb = NULL;
    bool in_flight = false;
    int refused = 0;
    for (long us = 200000; us <= 5000000 && !in_flight; us *= 5) {
        if (cb)
            outcome(cb);
        int fd = aiofs_open(volume, "slow", O_RDWR | O_CREAT, 0600);
        fault_inject("pwritev2", 0, FAULT_DELAY, us);
        cb = write_of(fd, "late");
        CHECK(aiofs_close(fd) == 0, "close with a write in flight returns");
        refused = open_in_child("slow", O_RDWR);
        in_flight = aio_error(cb) == EINPROGRESS;
        fault_clear();
    }
    CHECK(in_flight && refused == EBUSY, "the write holds the lock");
    CHECK(outcome(cb) == 4, "the write ends as if close had waited");
    int after = open_in_child("slow", O_RDWR);
    CHECK(after == 0, "the write's end releases the lock (%d)", after);
}

static void lock_dies_with_its_process(void)
{
    int ready[2], status;
    char byte;
    MUST(pipe2(ready, O_CLOEXEC));
    fflush(stdout);
    pid_t holder = (pid_t)MUST(fork());
    if (holder == 0) {
        alarm(20);
        if (aiofs_open(volume, "held", O_RDWR | O_CREAT, 0600) < 0)
            _exit(1);
        if (MUST(fork()) == 0) { /* a child of the lock's holder; it outlives the holder */
            close(ready[0]);
            pause_ms(20000);
            _exit(0);
        }
        MUST(write(ready[1], "!", 1));
        pause_ms(20000);
        _exit(0);
    }
    MUST(read(ready[0], &byte, 1));
    CHECK(fails(aiofs_open(volume, "held", O_RDWR), EBUSY), "a child has the file");
    kill(holder, SIGKILL);
    MUST(waitpid(holder, &status, 0));
    int fd = -1;
    CHECK(EVENTUALLY(PATIENCE, (fd = aiofs_open(volume, "held", O_RDWR)) >= 0),
          "killed: the lock is gone, though its child lives");
    aiofs_close(fd);
    close(ready[0]);
    close(ready[1]);
}

static int inherited;

static void child_of_the_holder(void)
{
    CHECK(fails(aiofs_open(volume, "family", O_RDWR), EBUSY), "a child of the holder is refused, too");
    CHECK(aiofs_close(inherited) == 0, "a child may close an inherited descriptor");
    CHECK(fails(aiofs_close(inherited), EBADF), "a child may close an inherited descriptor once only");
    int own = aiofs_open(volume, "own", O_RDWR | O_CREAT, 0600);
    CHECK(own >= 0 && outcome(write_of(own, "child")) == 5, "a child opens files of its own");
}

static void child_has_no_lock(void)
{
    int status;
    inherited = aiofs_open(volume, "family", O_RDWR | O_CREAT, 0600);
    fflush(stdout);
    pid_t pid = (pid_t)MUST(fork());
    if (pid == 0) {
        alarm(20);
        check_failures = 0;
        child_of_the_holder();
        fflush(stdout);
        _exit(check_failures != 0);
    }
    MUST(waitpid(pid, &status, 0));
    CHECK(status == 0, "the child's checks held");
    CHECK(open_in_child("family", O_RDWR) == EBUSY, "the parent keeps the descriptor that the child closed");
    aiofs_close(inherited);
}

/* ---- other descriptors ------------------------------------------------------------------------------------ */

/* aiofs_close must not close a file that another face of this process opened. */
static void other_faces_keep_theirs(void)
{
    aiofs_volume *opened;
    aiofs_file *theirs = NULL;
    static const char owner;
    MUST(aiofs_volume_open(volume, 0, -1, &opened) < 0 ? -1 : 0);
    aiofs_volume_open_file(opened, "theirs", O_RDWR | O_CREAT, 0600, AIOFS_LOCK_EXCLUSIVE, &owner, &theirs);
    int fd = aiofs_file_fd(theirs);
    CHECK(fails(aiofs_open(volume, "theirs", O_RDWR), EBUSY), "a lock of another face of the process is a lock");
    CHECK(fails(aiofs_close(fd), EBADF) && fcntl(fd, F_GETFD) >= 0, "aiofs_close leaves its descriptor alone");
    CHECK(aiofs_file_close(theirs) == 0, "the other face can close its descriptor");
    aiofs_file_release(theirs);
    aiofs_volume_release(opened);
    int plain = (int)MUST(open("/dev/null", O_RDONLY | O_CLOEXEC));
    CHECK(fails(aiofs_close(plain), EBADF) && fcntl(plain, F_GETFD) >= 0, "aiofs_close refuses a descriptor of open");
    close(plain);
    CHECK(fails(aiofs_close(-1), EBADF) && fails(aiofs_close(1 << 30), EBADF),
          "aiofs_close refuses a number that is not open");
}

/* The program uses close instead of aiofs_close. The next call that finds the number releases the file. */
static void number_closed_by_close(void)
{
    CHECK(EVENTUALLY(PATIENCE, files() == 0), "the engine keeps no file of an earlier test");
    int fd = aiofs_open(volume, "lost", O_RDWR | O_CREAT, 0600);
    close(fd);
    CHECK(fails(aiofs_close(fd), EBADF), "closed by close: aiofs_close says EBADF");
    CHECK(EVENTUALLY(PATIENCE, files() == 0),
          "the engine keeps no file of the closed descriptor (%d files)", (int)files());

    fd = aiofs_open(volume, "lost", O_RDWR);
    close(fd);
    int plain = (int)MUST(open("/dev/null", O_RDONLY | O_CLOEXEC));
    CHECK(plain == fd && fails(aiofs_close(fd), EBADF) && fcntl(plain, F_GETFD) >= 0, "a number that has gone to "
          "another file is left alone");
    close(plain);

    int found = aiofs_open(volume, "found", O_RDWR | O_CREAT, 0600);
    fd = aiofs_open(volume, "lost", O_RDWR);
    close(fd);
    int next = aiofs_open(volume, "found", O_RDWR);
    CHECK(next == fd, "the number goes to another file of the volume");
    if (CAN_FORK_WITH_THREADS)
        CHECK(open_in_child("lost", O_RDWR) == 0, "the file that lost the number is unlocked");
    CHECK(aiofs_close(next) == 0 && aiofs_close(found) == 0 && EVENTUALLY(PATIENCE, files() == 0),
          "the engine keeps no file of the closed descriptor (%d files)", (int)files());
}

/* A process without write permission opens a file for reading. */
static void reads_where_it_may_not_write(void)
{
    int status;
    make("public", "text");
    if (geteuid() != 0) {
        printf("ok    not root: reading as another user is skipped\n");
        return;
    }
    MUST(chmod(volume, 0755));
    MUST(chmod(inside("public"), 0644));
    fflush(stdout);
    pid_t pid = (pid_t)MUST(fork());
    if (pid == 0) {
        alarm(20);
        check_failures = 0;
        MUST(setresuid(65534, 65534, 65534));
        int fd = aiofs_open(volume, "public", O_RDONLY);
        CHECK(fd >= 0 && holds(fd, "text", 4, 0), "a user with read permission opens for reading");
        CHECK(fails(aiofs_open(volume, "public", O_RDWR), EACCES),
              "a user with read permission is refused an open for writing");
        CHECK(aiofs_close(fd) == 0, "a user with read permission closes the descriptor");
        fflush(stdout);
        _exit(check_failures != 0);
    }
    MUST(waitpid(pid, &status, 0));
    CHECK(status == 0, "the other user's checks held");
    MUST(chmod(volume, 0700));
}

static void many(void)
{
    enum { MANY = 300 };
    static int fds[MANY];
    uint64_t before = files();
    char name[16];
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "many%d", i);
        fds[i] = (int)MUST(aiofs_open(volume, name, O_RDWR | O_CREAT, 0600));
    }
    if (CAN_FORK_WITH_THREADS)
        CHECK(open_in_child("many0", O_RDWR) == EBUSY && open_in_child("many299", O_RDWR) == EBUSY, "each of many is locked");
    int closed = 0;
    for (int i = 0; i < MANY; i++)
        closed += aiofs_close(fds[i]) == 0;
    CHECK(closed == MANY && EVENTUALLY(PATIENCE, files() <= before), "%d of %d are closed", closed, MANY);
    if (CAN_FORK_WITH_THREADS)
        CHECK(open_in_child("many0", O_RDWR) == 0 && open_in_child("many299", O_RDWR) == 0, "all of the files are unlocked");
}

/* ---- thread cancellation ---- */

static void *open_with_a_cancellation_pending(void *argument)
{
    pthread_cancel(pthread_self());
    aiofs_close(aiofs_open(volume, "cancelled", O_RDWR | O_CREAT, 0600));
    pthread_testcancel();
    return argument;
}

static void *open_completions_with_a_cancellation_pending(void *argument)
{
    pthread_cancel(pthread_self());
    aiofs_completion_close(aiofs_completion_open());
    pthread_testcancel();
    return argument;
}

/* In a child, whose first call has to start the engine. */
static void cancelled_caller(void *(*body)(void *), const char *name)
{
    int status;
    fflush(stdout);
    pid_t pid = (pid_t)MUST(fork());
    if (pid == 0) {
        pthread_t thread;
        alarm(PATIENCE);
        pthread_create(&thread, NULL, body, NULL);
        pthread_join(thread, NULL);
        int fd = aiofs_open(volume, "cancelled", O_RDWR | O_CREAT, 0600);
        _exit(fd < 0 || aiofs_close(fd) < 0);
    }
    MUST(waitpid(pid, &status, 0));
    CHECK(status == 0, "a thread is cancelled around %s: the engine works for the others", name);
}

int main(void)
{
    char scratch_directory[] = "/tmp/aiofs-open-XXXXXX";
    check_begin(60);
    fault_attach(&aiofs_sys);
    check_engine();
    MUST(mkdtemp(scratch_directory) ? 0 : -1);
    MUST(chmod(scratch_directory, 0755));
    snprintf(volume, sizeof volume, "%s/volume", scratch_directory);
    opens_like_open();
    refuses_with_errno();
    writer_is_alone();
    other_faces_keep_theirs();
    number_closed_by_close();
    many();
    if (CAN_FORK_WITH_THREADS) {
        lock_outlives_close();
        lock_dies_with_its_process();
        child_has_no_lock();
        reads_where_it_may_not_write();
        cancelled_caller(open_with_a_cancellation_pending, "aiofs_open");
        cancelled_caller(open_completions_with_a_cancellation_pending, "aiofs_completion_open");
    }
    char command[8192];
    snprintf(command, sizeof command, "rm -r '%s'", scratch_directory);
    MUST(system(command));
    return check_end();
}
