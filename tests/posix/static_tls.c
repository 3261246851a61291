/*
 * static_tls.c - a program with much static thread-local storage: each of its threads' stacks has to hold that, too.
 */
#include "program.h"

#include <semaphore.h>

enum { LARGE = 1 << 20 };

static __thread volatile char storage[4 << 20];
static char bytes[LARGE];
static sem_t posted;

static void post(union sigval value)
{
    storage[value.sival_int] = 1;
    sem_post(&posted);
}

int main(void)
{
    begin(60);
    int file = scratch(O_RDWR);
    struct conduit pipes = conduit();
    storage[1] = storage[sizeof storage - 1] = 1;
    sem_init(&posted, 0, 0);

    struct aiocb written = request(file, bytes, LARGE, 0);
    CHECK(aio_write(&written) == 0 && succeeds(&written, LARGE), "a write that a thread of its own carries out");
    struct aiocb waits = request(pipes.out, bytes, 1, 0);
    tell_by_thread(&waits.aio_sigevent, post, NULL);
    waits.aio_sigevent.sigev_value.sival_int = sizeof storage - 1;
    CHECK(aio_read(&waits) == 0, "a read that waits");
    MUST(write(pipes.in, "x", 1));
    sem_wait(&posted);
    CHECK(succeeds(&waits, 1), "is told in a thread that has such storage, too");
    struct aiocb synced = request(file, NULL, 0, 0);
    CHECK(aio_fsync(O_SYNC, &synced) == 0 && succeeds(&synced, 0), "a sync");
    return check_end();
}
