/*
 * scarce_memory.c - where the address space holds small stacks but no large one: the engine starts whole or not at all,
 * so that every accepted request is notified.
 */
#include "program.h"

#include <sys/resource.h>

enum { COUNT = 2, LITTLE = 3 * 1024 * 1024, STACK = 64 * 1024 };

static char byte;
static struct aiocb blocks[COUNT + 1];
static _Atomic int notified[COUNT + 1];

static void tell(union sigval value)
{
    notified[value.sival_int]++;
}

static bool ask(int i, int fd, pthread_attr_t *attributes)
{
    blocks[i] = request(fd, &byte, 1, 0);
    notify_by_thread(&blocks[i].aio_sigevent, tell, NULL);
    blocks[i].aio_sigevent.sigev_notify_attributes = attributes;
    blocks[i].aio_sigevent.sigev_value.sival_int = i;
    return aio_read(&blocks[i]) == 0;
}

static size_t address_space(void)
{
    size_t pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%zu", &pages) != 1)
        exit(1);
    fclose(file);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static int small_stacks_only(void *argument)
{
    struct rlimit limit;
    pthread_attr_t attributes;
    bool accepted[COUNT + 1];
    int pair[2];
    (void)argument;
    setenv("AIOFS_ENGINE", "auto", 1);
    MUST(pipe(pair));
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK);
    MUST(getrlimit(RLIMIT_AS, &limit));
    const struct rlimit little = {address_space() + LITTLE, limit.rlim_max};
    MUST(setrlimit(RLIMIT_AS, &little));
    for (int i = 0; i < COUNT; i++)
        accepted[i] = ask(i, pair[0], &attributes);
    MUST(setrlimit(RLIMIT_AS, &limit));
    accepted[COUNT] = ask(COUNT, pair[0], &attributes);
    CHECK(accepted[COUNT], "a request is accepted when there is memory again");
    MUST(write(pair[1], "bytes", COUNT + 1));
    for (int i = 0; i <= COUNT; i++)
        CHECK(!accepted[i] || EVENTUALLY(PATIENCE, notified[i] == 1), "request %d: if accepted, it is notified", i);
    return check_failures;
}

int main(void)
{
    check_begin(10);
    if (SANITIZED) {
        printf("skip  a sanitizer needs more address space\n");
        return 77;
    }
    CHECK(in_child(small_stacks_only, NULL) == 0, "an address space without room for a large stack");
    return check_end();
}
