/*
 * allocation.c - nothing is allocated or freed under the engine lock. The program's allocator may take a lock of its
 * own, and close a file of the engine while it holds that lock.
 */
#include "check.h"

#include "internal.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__GLIBC__)

int main(void)
{
    printf("skip  the allocator cannot be replaced here\n");
    return 77;
}

#else

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void __libc_free(void *memory);

static _Atomic int under_lock, calls;

static void note(void)
{
    calls++;
    under_lock += engine.lock.__data.__owner == gettid();
}

void *malloc(size_t size)
{
    note();
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    note();
    return __libc_calloc(count, size);
}

void free(void *memory)
{
    note();
    __libc_free(memory);
}

enum { PIPES = 300 };

/* Each pipe needs a new file of the engine, under a new number. */
static void many_files(void)
{
    static char bytes[PIPES];
    int ends[PIPES][2], good = 0;
    struct op *ops[PIPES];
    for (int i = 0; i < PIPES; i++) {
        MUST(pipe2(ends[i], O_CLOEXEC));
        ops[i] = start(AIOFS_READ, ends[i][0], &bytes[i], 1, 0);
    }
    for (int i = 0; i < PIPES; i++) {
        MUST(write(ends[i][1], "x", 1));
        good += op_finish(ops[i]) == 1;
        close(ends[i][0]);
        close(ends[i][1]);
    }
    CHECK(good == PIPES, "reads of %d pipes", PIPES);
}

static void owned_files(void)
{
    enum { FILES = 100 };
    aiofs_file *files[FILES];
    int good = 0;
    for (int i = 0; i < FILES; i++)
        good += aiofs_file_adopt(scratch(O_RDWR), O_RDWR, NULL, NULL, NULL, &files[i]) == 0;
    for (int i = 0; i < FILES; i++) {
        good += op_finish(start(AIOFS_WRITE, aiofs_file_fd(files[i]), "x", 1, 0)) == 1;
        good += aiofs_file_close(files[i]) == 0;
        aiofs_file_release(files[i]);
    }
    CHECK(good == 3 * FILES, "%d files of the engine's are opened, written and closed", FILES);
}

int main(void)
{
    check_begin(60);
    check_engine();
    many_files();
    owned_files();
    CHECK(EVENTUALLY(PATIENCE, ops_alive == 0), "every request was given back");
    CHECK(calls > 0 && under_lock == 0, "%d of %d calls of the allocator are made under the engine lock", under_lock, calls);
    return check_end();
}

#endif
