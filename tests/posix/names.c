/*
 * names.c - the names of the functions, and the library that each name is found in.
 */
#include "program.h"

#include <dlfcn.h>

static char bytes[100];
static int file;

static const char *const names[] = {
    "aio_read",    "aio_write",   "aio_fsync",   "aio_error",   "aio_return",   "aio_suspend",   "aio_cancel",   "lio_listio",
    "aio_read64",  "aio_write64", "aio_fsync64", "aio_error64", "aio_return64", "aio_suspend64", "aio_cancel64", "lio_listio64",
};

static void one_library(void)
{
    const char *library = NULL;
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        Dl_info info = {.dli_fname = NULL};
        void *function = dlsym(RTLD_DEFAULT, names[i]);
        CHECK(function && dladdr(function, &info) && info.dli_fname, "%s is defined", names[i]);
        if (!library) {
            library = info.dli_fname;
            printf("ok    they come from %s\n", library);
        }
        CHECK(info.dli_fname && strcmp(info.dli_fname, library) == 0,
              "%s comes from the same library as the other functions", names[i]);
    }
}

static struct aiocb64 request64(const void *buffer, size_t size, off64_t offset)
{
    struct aiocb64 cb;
    memset(&cb, 0xa5, sizeof cb);
    cb.aio_fildes = file;
    cb.aio_buf = (void *)(uintptr_t)buffer;
    cb.aio_nbytes = size;
    cb.aio_offset = offset;
    cb.aio_reqprio = 0;
    cb.aio_sigevent.sigev_notify = SIGEV_NONE;
    return cb;
}

static bool ends64(const struct aiocb64 *cb)
{
    const struct aiocb64 *const list[] = {cb};
    while (aio_error64(cb) == EINPROGRESS)
        aio_suspend64(list, 1, NULL);
    return aio_error64(cb) == 0;
}

static void names_with_64(void)
{
    CHECK(sizeof(struct aiocb64) == sizeof(struct aiocb), "struct aiocb64 is struct aiocb");
    struct aiocb64 out = request64("content", 7, 3), in = request64(bytes, 7, 3), sync = request64(NULL, 0, 0);
    CHECK(aio_write64(&out) == 0 && ends64(&out) && aio_return64(&out) == 7, "aio_write64");
    CHECK(aio_fsync64(O_SYNC, &sync) == 0 && ends64(&sync) && aio_return64(&sync) == 0, "aio_fsync64");
    CHECK(aio_read64(&in) == 0 && ends64(&in) && aio_return64(&in) == 7 && memcmp(bytes, "content", 7) == 0,
          "aio_read64");
    CHECK(aio_cancel64(file, &in) == AIO_ALLDONE, "aio_cancel64");
    struct aiocb64 *const list[] = {&in, &out};
    in.aio_lio_opcode = LIO_READ;
    out.aio_lio_opcode = LIO_WRITE;
    CHECK(lio_listio64(LIO_WAIT, list, 2, NULL) == 0 && aio_return64(&in) == 7 && aio_return64(&out) == 7,
          "lio_listio64");
    struct aiocb64 far = request64(bytes, 5, 5000000000);
    CHECK(aio_write64(&far) == 0 && ends64(&far) && aio_return64(&far) == 5, "offsets beyond 32 bits");
}

static void one_name_for_the_other(void)
{
    struct conduit pipe = conduit();
    struct aiocb cb = request(pipe.out, bytes, 1, 0);
    struct aiocb64 *same = (struct aiocb64 *)&cb;
    aio_read(&cb);
    CHECK(aio_error64(same) == EINPROGRESS && aio_cancel64(pipe.out, same) == AIO_CANCELED && aio_error(&cb) == ECANCELED,
          "a request of one name is known by the other");
    conduit_close(pipe);
}

int main(void)
{
    begin(30);
    file = scratch(O_RDWR);
    one_library();
    names_with_64();
    one_name_for_the_other();
    return check_end();
}
