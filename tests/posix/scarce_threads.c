/*
 * scarce_threads.c - SIGEV_THREAD where RLIMIT_NPROC allows the program few threads: each accepted request is notified
 * once, when a thread can be started.
 *
 * The limit does not apply to root, and it counts all processes of a user. So each part runs in a child process, as a
 * different user.
 */
#include "program.h"

#include <dirent.h>
#include <sys/resource.h>

enum { ENGINE = 3, MANY = 60, SOME = 10, SIZE = 512, STACK = 1024 * 1024 };

static char bytes[SIZE];
static struct aiocb blocks[MANY];
static _Atomic int notified[MANY], all_notified, small_stacks;

static void notify(union sigval value)
{
    pthread_attr_t attributes;
    size_t size = 0;
    pthread_getattr_np(pthread_self(), &attributes);
    pthread_attr_getstacksize(&attributes, &size);
    pthread_attr_destroy(&attributes);
    small_stacks += size <= STACK;
    pause_ms(2);
    notified[value.sival_int]++;
    all_notified++;
}

static int append(int fd, int i, pthread_attr_t *attributes)
{
    blocks[i] = request(fd, bytes, SIZE, 0);
    notify_by_thread(&blocks[i].aio_sigevent, notify, NULL);
    blocks[i].aio_sigevent.sigev_notify_attributes = attributes;
    blocks[i].aio_sigevent.sigev_value.sival_int = i;
    return aio_write(&blocks[i]);
}

static bool each_is_notified_once(int count)
{
    bool once = EVENTUALLY(PATIENCE, all_notified >= count);
    pause_ms(20);
    for (int i = 0; i < count; i++)
        once = once && notified[i] == 1;
    return once;
}

static int open_for_appending(void)
{
    int fd = scratch(O_RDWR);
    MUST(fcntl(fd, F_SETFL, O_APPEND));
    return fd;
}

static int host_threads(void)
{
    char path[300], name[32] = "";
    int count = 0;
    DIR *tasks = opendir("/proc/self/task");
    for (struct dirent *task; (task = readdir(tasks));) {
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", task->d_name);
        int fd = open(path, O_RDONLY);
        if (fd >= 0 && read(fd, name, sizeof name - 1) > 0)
            count += strncmp(name, "aiofs-host", 10) == 0;
        if (fd >= 0)
            close(fd);
    }
    closedir(tasks);
    return count;
}

/* ---- the parts ------------------------------------------------------------------------------------------- */

static int many_at_once(void *argument)
{
    int fd = *(int *)argument, before = check_failures, accepted = 0;
    for (int i = 0; i < MANY; i++)
        accepted += append(fd, i, NULL) == 0;
    CHECK(accepted == MANY, "all requests are accepted and completed with few threads");
    CHECK(each_is_notified_once(accepted), "each request is notified once");
    return check_failures - before;
}

static int one_slot_and_no_engine(void *argument)
{
    int fd = *(int *)argument, before = check_failures;
    for (int i = 0; i < SOME; i++) {
        blocks[i] = request(fd, bytes, SIZE, 0);
        notify_by_thread(&blocks[i].aio_sigevent, notify, NULL);
        blocks[i].aio_sigevent.sigev_value.sival_int = i;
        double end = now() + PATIENCE;
        while (aio_read(&blocks[i]) == -1 && errno == EAGAIN && now() < end)
            pause_ms(1);
    }
    CHECK(each_is_notified_once(SOME), "one free thread and no engine: each accepted request is notified");
    return check_failures - before;
}

static int no_slot(void *argument)
{
    int fd = *(int *)argument, before = check_failures;
    blocks[0] = request(fd, bytes, SIZE, 0);
    notify_by_thread(&blocks[0].aio_sigevent, notify, NULL);
    CHECK(REFUSED(aio_read(&blocks[0]), EAGAIN) && aio_error(&blocks[0]) == EAGAIN,
          "no free thread: the request is refused");
    struct aiocb *list[] = {&blocks[0]};
    struct sigevent event;
    blocks[0].aio_sigevent.sigev_notify = SIGEV_NONE;
    blocks[0].aio_lio_opcode = LIO_READ;
    notify_by_thread(&event, notify, NULL);
    CHECK(REFUSED(lio_listio(LIO_NOWAIT, list, 1, &event), EAGAIN), "no free thread: a list is refused");
    CHECK(all_notified == 0, "a refused list is not notified");
    return check_failures - before;
}

static int mappings(void)
{
    int count = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    for (int letter; maps && (letter = fgetc(maps)) != EOF;)
        count += letter == '\n';
    if (maps)
        fclose(maps);
    return count;
}

/* The engine starts two of its threads, and has no third. */
static int no_slot_for_the_last(void *argument)
{
    enum { FIRST = 5, ROUNDS = 50, SPARE = 10 };
    int pair[2], before = check_failures, refusals = 0, first = 0;
    (void)argument;
    MUST(pipe(pair));
    for (int i = 0; i < FIRST + ROUNDS; i++) {
        blocks[0] = request(pair[0], bytes, SIZE, 0);
        EVENTUALLY(PATIENCE, threads_now() == 1); /* those of the start before */
        refusals += REFUSED(aio_read(&blocks[0]), EAGAIN);
        if (i == FIRST)
            first = mappings();
    }
    CHECK(refusals == FIRST + ROUNDS, "two free threads: requests for the engine are refused");
    CHECK(mappings() <= first + SPARE, "starts that fail leave no memory mapped (%d, %d)", first, mappings());
    return check_failures - before;
}

static _Atomic bool leave;

static void *take_slot(void *argument)
{
    while (!leave)
        pause_ms(1);
    return argument;
}

static int program_uses_and_frees_all_threads(void *argument)
{
    int fd = *(int *)argument, before = check_failures, accepted = 0;
    pthread_attr_t attributes;
    pthread_t threads[3];
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK);
    CHECK(append(fd, 0, &attributes) == 0 && EVENTUALLY(PATIENCE, all_notified == 1),
          "a request is notified while threads are free");
    int taken = 0;
    EVENTUALLY(PATIENCE, (taken += pthread_create(&threads[taken], NULL, take_slot, NULL) == 0) == 2);
    for (int i = 1; i < SOME; i++)
        accepted += append(fd, i, &attributes) == 0;
    CHECK(accepted == SOME - 1, "requests are accepted while the program uses all threads");
    for (int i = 1; i < SOME; i++)
        CHECK(succeeds(&blocks[i], SIZE), "accepted requests are carried out");
    CHECK(EVENTUALLY(PATIENCE, host_threads() == 1), "at most one thread of aiofs waits for a free thread");
    leave = true;
    for (int i = 0; i < taken; i++)
        pthread_join(threads[i], NULL);
    CHECK(each_is_notified_once(SOME), "requests are notified when the program has freed its threads");
    CHECK(small_stacks == SOME, "notification threads get their attributes");
    pthread_attr_destroy(&attributes);
    return check_failures - before;
}

/* ---- another user ---------------------------------------------------------------------------------------- */

struct part {
    int (*body)(void *);
    int fd;
    unsigned user, threads; /* besides the main thread */
};

static int as_another(void *argument)
{
    struct part *part = argument;
    const struct rlimit few = {part->threads + 1, part->threads + 1};
    if (setrlimit(RLIMIT_NPROC, &few) < 0 || setresgid(part->user, part->user, part->user) < 0 ||
        setresuid(part->user, part->user, part->user) < 0)
        return 77;
    return part->body(&part->fd);
}

static bool has_engine(void *argument)
{
    struct part *part = argument;
    struct aiocb cb = request(part->fd, bytes, SIZE, 0);
    return aio_write(&cb) == 0 && result_of(&cb) == SIZE;
}

static int can_start(void *argument)
{
    return has_engine(argument) ? 0 : 77;
}

static int as_another_can_start(void *argument)
{
    struct part part = *(struct part *)argument;
    if (setresgid(part.user, part.user, part.user) < 0 || setresuid(part.user, part.user, part.user) < 0)
        return 77;
    return can_start(&part);
}

static void with_few_threads(int (*body)(void *), int fd, unsigned threads)
{
    static unsigned user = 0;
    user = user ? user + 1 : 1000000 + (unsigned)getpid() % 100000 * 10;
    struct part part = {body, fd, user, threads};
    CHECK(in_child(as_another, &part) == 0, "%u threads", threads);
}

int main(void)
{
    check_begin(120);
#ifdef __SANITIZE_THREAD__
    printf("skip  the limit also counts the threads of ThreadSanitizer\n");
    return 77;
#endif
    int appends = open_for_appending(), cached = scratch(O_RDWR);
    MUST(pwrite(cached, bytes, SIZE, 0));
    struct part any = {NULL, appends, 999999, 0};
    if (geteuid() != 0 || in_child(as_another_can_start, &any) == 77) {
        printf("skip  another user than root cannot be used here, or has no engine\n");
        return 77;
    }
    with_few_threads(many_at_once, appends, 31);
    with_few_threads(many_at_once, appends, ENGINE + 2);
    with_few_threads(many_at_once, appends, ENGINE + 1);
    with_few_threads(program_uses_and_frees_all_threads, appends, ENGINE + 2);
    with_few_threads(one_slot_and_no_engine, cached, 1);
    with_few_threads(one_slot_and_no_engine, cached, 2);
    with_few_threads(no_slot, cached, 0);
    with_few_threads(no_slot_for_the_last, appends, ENGINE - 1);
    return check_end();
}
