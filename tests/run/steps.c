/*
 * steps.c - a program of the tests of `aiofs run`: each argument is a step, the name of a libc function that it calls.
 *
 *     steps open=FILE say dup2=9 close say          $ is the descriptor that the last step opened
 *
 * Steps that open a file print the descriptor, or the name of the errno. `say` prints a line and waits for one, so that
 * the test can check the locks meanwhile.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int dirfd, const char *path, int flags);
int __openat64_2(int dirfd, const char *path, int flags);
void closefrom(int first);
int close_range(unsigned first, unsigned last, int flags);
extern char **environ;

enum { UNTOUCHED = 77 }; /* errno before each step */

static int last = -1;
static FILE *stream;
static char *program;

static void report(const char *step, int answer)
{
    if (answer < 0)
        printf("%s %s\n", step, strerrorname_np(errno));
    else if (errno != UNTOUCHED)
        printf("%s touched errno\n", step);
    else
        printf("%s %d\n", step, answer);
}

static int descriptor_of(FILE *opened)
{
    stream = opened;
    return opened ? fileno(opened) : -1;
}

enum { MAKE = O_RDWR | O_CREAT | O_TRUNC };

static int open_as(const char *how, char *path)
{
#define AS(name) strcmp(how, #name) == 0
    if (AS(open))
        return open(path, MAKE, 0666);
    if (AS(open64))
        return open64(path, MAKE, 0666);
    if (AS(openat))
        return openat(AT_FDCWD, path, MAKE, 0666);
    if (AS(openat64))
        return openat64(AT_FDCWD, path, MAKE, 0666);
    if (AS(creat))
        return creat(path, 0666);
    if (AS(creat64))
        return creat64(path, 0666);
    if (AS(__open_2))
        return __open_2(path, O_RDWR);
    if (AS(__open64_2))
        return __open64_2(path, O_RDWR);
    if (AS(__openat_2))
        return __openat_2(AT_FDCWD, path, O_RDWR);
    if (AS(__openat64_2))
        return __openat64_2(AT_FDCWD, path, O_RDWR);
    if (AS(mkstemp))
        return mkstemp(path);
    if (AS(mkstemp64))
        return mkstemp64(path);
    if (AS(mkostemp))
        return mkostemp(path, O_APPEND);
    if (AS(mkostemp64))
        return mkostemp64(path, O_APPEND);
    if (AS(mkstemps))
        return mkstemps(path, 2);
    if (AS(mkstemps64))
        return mkstemps64(path, 2);
    if (AS(mkostemps))
        return mkostemps(path, 2, O_APPEND);
    if (AS(mkostemps64))
        return mkostemps64(path, 2, O_APPEND);
    if (AS(fopen))
        return descriptor_of(fopen(path, "w"));
    if (AS(fopen64))
        return descriptor_of(fopen64(path, "a+"));
    if (AS(freopen))
        return descriptor_of(freopen(path, "w", stream ? stream : fopen("/dev/null", "r")));
    if (AS(freopen64))
        return descriptor_of(freopen64(path, "r+", stream ? stream : fopen("/dev/null", "r")));
    if (AS(freopen_null))
        return descriptor_of(freopen(NULL, path, stream));
    if (AS(readonly))
        return open(path, O_RDONLY);
    if (AS(reader))
        return descriptor_of(fopen(path, "r"));
    if (AS(keep))
        return open(path, O_RDWR | O_CREAT, 0666);
    if (AS(cut))
        return open(path, O_RDONLY | O_TRUNC);
    if (AS(exclusive))
        return open(path, O_WRONLY | O_CREAT | O_EXCL, 0666);
    if (AS(nofollow))
        return open(path, O_WRONLY | O_NOFOLLOW);
    if (AS(cloexec))
        return open(path, MAKE | O_CLOEXEC, 0666);
    if (AS(unseen))
        return (int)syscall(SYS_openat, AT_FDCWD, path, MAKE, 0666);
    return -2;
}

static int copy_as(const char *how, int number)
{
    if (AS(dup))
        return dup(last);
    if (AS(dup2))
        return dup2(last, number);
    if (AS(dup3))
        return dup3(last, number, 0);
    if (AS(F_DUPFD))
        return fcntl(last, F_DUPFD, number);
    if (AS(F_DUPFD_CLOEXEC))
        return fcntl(last, F_DUPFD_CLOEXEC, number);
    if (AS(fcntl64))
        return fcntl64(last, F_DUPFD, number);
    return -2;
}

/* By a thread with a cancellation pending. */
static void *close_cancelled(void *number)
{
    pthread_cancel(pthread_self());
    if (stream)
        fclose(stream);
    else
        close(*(int *)number);
    pthread_testcancel();
    return NULL;
}

static void close_in_cancelled_thread(const char *how, int number)
{
    pthread_t thread;
    void *end = NULL;
    pthread_create(&thread, NULL, close_cancelled, &number);
    pthread_join(thread, &end);
    bool closed = fcntl(number, F_GETFD) < 0;
    errno = UNTOUCHED;
    report(how, end == PTHREAD_CANCELED && closed);
}

static bool close_as(const char *how, int number)
{
    if (AS(close))
        report(how, close(number));
    else if (AS(fclose))
        report(how, fclose(stream));
    else if (AS(cancelled_close))
        close_in_cancelled_thread(how, number);
    else if (AS(close_range))
        report(how, close_range((unsigned)number, ~0u, 0));
    else if (AS(close_one))
        report(how, close_range((unsigned)number, (unsigned)number, 0));
    else if (AS(cloexec_range))
        report(how, close_range((unsigned)number, ~0u, 4 /* CLOSE_RANGE_CLOEXEC */));
    else if (AS(closefrom))
        closefrom(number);
    else if (AS(close_each))
        for (long fd = number, end = sysconf(_SC_OPEN_MAX); fd < end; fd++)
            close((int)fd);
    else if (AS(over)) /* another file in its place */
        report(how, dup2(open("/dev/null", O_RDONLY), number));
    else if (AS(unseen_close))
        report(how, (int)syscall(SYS_close, number));
    else
        return false;
    return true;
}

static void say(void)
{
    char line[16];
    printf("here\n");
    if (!fgets(line, sizeof line, stdin))
        exit(3);
}

/* Runs the following steps in a new process image (exec). */
static void spawn(char **steps, const posix_spawn_file_actions_t *actions)
{
    pid_t child;
    int status;
    *--steps = program;
    if (posix_spawn(&child, program, actions, NULL, steps, environ) != 0)
        exit(4);
    waitpid(child, &status, 0);
}

static void spawn_moved(char **steps)
{
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, last, 40);
    posix_spawn_file_actions_addclose(&actions, last);
    spawn(steps, &actions);
}

static void vfork_closing(void)
{
    pid_t child = vfork();
    if (child == 0) {
        close(last);
        dup2(0, 50);
        _exit(0);
    }
    waitpid(child, NULL, 0);
}

static void *open_and_close(void *path)
{
    for (int i = 0; i < 500; i++) {
        int fd = open(path, MAKE, 0666);
        if (fd < 0 || close(fd) < 0)
            return (void *)(intptr_t)errno;
    }
    return NULL;
}

static void race(char *path)
{
    pthread_t threads[8];
    char paths[8][256];
    void *error;
    int last_error = 0;
    for (int i = 0; i < 8; i++) {
        snprintf(paths[i], sizeof paths[i], "%s%d", path, i / 2);
        pthread_create(&threads[i], NULL, open_and_close, paths[i]);
    }
    for (int i = 0; i < 50; i++) {
        pid_t child = fork();
        if (child == 0)
            _exit(0);
        waitpid(child, NULL, 0);
    }
    for (int i = 0; i < 8; i++) {
        pthread_join(threads[i], &error);
        if (error)
            last_error = (int)(intptr_t)error;
    }
    errno = last_error ? last_error : UNTOUCHED;
    report("race", last_error ? -1 : 0);
}

static void die_with_child(void)
{
    pid_t child = fork();
    if (child == 0)
        return;
    int status;
    waitpid(child, &status, 0);
    exit(WIFEXITED(status) ? WEXITSTATUS(status) : 9);
}

static const char *handler_path;

static void open_in_handler(int number)
{
    (void)number;
    last = open(handler_path, MAKE, 0666);
}

/* Opens a file in a signal handler whose stack is little larger than the kernel's signal frame. */
static void handle_on_small_stack(const char *path)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t size = ((size_t)sysconf(_SC_MINSIGSTKSZ) + 2048 + page - 1) / page * page;
    char *memory = mmap(NULL, page + size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    stack_t small = {.ss_sp = memory + page, .ss_size = size};
    struct sigaction action = {.sa_handler = open_in_handler, .sa_flags = SA_ONSTACK};
    mprotect(memory, page, PROT_NONE);
    handler_path = path;
    if (memory == MAP_FAILED || sigaltstack(&small, NULL) < 0 || sigaction(SIGUSR1, &action, NULL) < 0)
        exit(6);
    raise(SIGUSR1);
}

static void step(char **steps)
{
    char *how = *steps, *value = strchr(how, '=');
    errno = UNTOUCHED;
    if (value)
        *value++ = 0;
    int number = !value || *value == '$' ? last : atoi(value);
    int opened = value ? open_as(how, value) : -2;
    if (opened == -2)
        opened = copy_as(how, number);
    if (opened != -2) {
        last = opened;
        report(how, opened);
    } else if (AS(say)) {
        say();
    } else if (AS(use)) {
        last = number;
    } else if (AS(exec)) {
        *steps = program;
        execv(program, steps);
    } else if (AS(spawn_moved)) {
        spawn_moved(steps + 1);
        exit(0);
    } else if (AS(fork)) { /* the parent continues at once */
        if (fork() != 0)
            exit(0);
    } else if (AS(fork_and_wait)) {
        die_with_child();
    } else if (AS(fork_and_close)) { /* the child continues after the parent has closed it */
        if (fork() != 0) {
            close(last);
            wait(NULL);
            exit(0);
        }
    } else if (AS(vfork)) {
        vfork_closing();
    } else if (AS(write)) {
        report(how, (int)write(last, value, strlen(value)));
    } else if (AS(rename)) {
        char *to = strchr(value, ',');
        *to++ = 0;
        report(how, rename(value, to));
    } else if (AS(unlink)) {
        report(how, unlink(value));
    } else if (AS(handler)) {
        handle_on_small_stack(value);
        report(how, last);
    } else if (AS(chdir)) {
        report(how, chdir(value));
    } else if (AS(race)) {
        race(value);
    } else if (AS(kill)) {
        raise(SIGKILL);
    } else if (!close_as(how, number)) {
        printf("no such step: %s\n", how);
        exit(5);
    }
}

int main(int argc, char **argv)
{
    (void)argc;
    setvbuf(stdout, NULL, _IOLBF, 0);
    program = argv[0];
    for (char **steps = argv + 1; *steps; steps++)
        step(steps);
    return 0;
}
