/*
 * allocator.c - a program of test_run_startup.py, with an allocator of its own that uses files.
 *
 *     allocator FILE
 *
 * Like jemalloc up to 4.2, the allocator reads its settings from a file at the first allocation, under its lock. The
 * lock is not recursive: if `open` allocates, the program hangs. At each 1000th allocation the allocator writes a line
 * to FILE, under the same lock. Its memory is one mapping, made at the first allocation.
 */
#include <aio.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ALIGNMENT = 16, HEAP = 1 << 28, OFTEN = 1000 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *heap;
static size_t used;
static const char *journal; /* set by main: FILE */
static unsigned long calls, opened, refused;

static void read_settings(void)
{
    char byte;
    int fd = open("/proc/sys/vm/overcommit_memory", O_RDONLY);
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (copy < 0 || read(copy, &byte, 1) != 1 || dup2(copy, fd) != fd || close(fd) < 0 || close(copy) < 0)
        abort();
    heap = mmap(NULL, HEAP, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (heap == MAP_FAILED)
        abort();
}

static void write_journal(void)
{
    int fd = open(journal, O_WRONLY | O_CREAT | O_APPEND, 0666);
    if (fd < 0) {
        refused++; /* the lock is held, so no other thread writes a line */
        return;
    }
    opened += write(fd, "line\n", 5) == 5;
    close(fd);
}

static void *take(size_t size, size_t alignment)
{
    int saved = errno;
    pthread_mutex_lock(&lock);
    if (!heap)
        read_settings();
    if (++calls % OFTEN == 0 && journal)
        write_journal();
    used = (used + ALIGNMENT + alignment - 1) & ~(alignment - 1);
    void *taken = heap + used;
    memcpy(heap + used - ALIGNMENT, &size, sizeof size);
    used += size;
    if (used > HEAP)
        abort();
    pthread_mutex_unlock(&lock);
    errno = saved;
    return taken;
}

void *malloc(size_t size)
{
    return take(size, ALIGNMENT);
}

void *calloc(size_t count, size_t size)
{
    return take(count * size, ALIGNMENT);
}

void *realloc(void *old, size_t size)
{
    size_t before = 0;
    if (old)
        memcpy(&before, (char *)old - ALIGNMENT, sizeof before);
    void *taken = take(size, ALIGNMENT);
    return before ? memcpy(taken, old, before < size ? before : size) : taken;
}

void *memalign(size_t alignment, size_t size);
void *memalign(size_t alignment, size_t size)
{
    return take(size, alignment < ALIGNMENT ? ALIGNMENT : alignment);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return memalign(alignment, size);
}

int posix_memalign(void **out, size_t alignment, size_t size)
{
    *out = memalign(alignment, size);
    return 0;
}

void free(void *taken)
{
    (void)taken;
}

static void *allocate_much(void *argument)
{
    for (int i = 0; i < 20 * OFTEN; i++)
        if (!malloc(16))
            abort();
    return argument;
}

/* Reads the program's own file by requests, so that the engine allocates beside the other threads. */
static bool read_by_requests(const char *path)
{
    enum { REQUESTS = 64 };
    static struct aiocb cbs[REQUESTS];
    static char bytes[REQUESTS][4096];
    int fd = open(path, O_RDONLY);
    bool good = fd >= 0;
    for (int i = 0; i < REQUESTS && good; i++) {
        cbs[i].aio_fildes = fd;
        cbs[i].aio_buf = bytes[i];
        cbs[i].aio_nbytes = sizeof bytes[i];
        good = aio_read(&cbs[i]) == 0;
    }
    for (int i = 0; i < REQUESTS && good; i++) {
        const struct aiocb *list[] = {&cbs[i]};
        while (aio_error(&cbs[i]) == EINPROGRESS)
            aio_suspend(list, 1, NULL);
        good = aio_return(&cbs[i]) > 0;
    }
    return close(fd) == 0 && good;
}

int main(int argc, char **argv)
{
    enum { THREADS = 3 };
    pthread_t threads[THREADS];
    if (argc != 2)
        return 2;
    journal = argv[1];
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, allocate_much, NULL) != 0)
            return 1;
    bool good = read_by_requests(argv[0]);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    printf("%s, lines: %s, refused: %lu\n", good ? "read" : "not read", opened ? "some" : "none", refused);
    return 0;
}
