# cython: language_level=3
"""<aio.h> for Cython, and the additions of aiofs.h: `from aiofs.aio cimport aiocb, aio_read, ...`.

These are the C functions: on failure they return -1 and set errno. Call them without the GIL, and
read errno before the GIL is taken again. A function that waits (aio_suspend, lio_listio,
aio_cancel) must not hold the GIL, because requests of Python code need it to end. A
sigev_notify_function runs on a thread that does not hold the GIL.

The names refer to libaiofs's aiofs_aio_read and so on, because an extension module is loaded into a
program whose symbol aio_read is libc's. Compile with aiofs.get_include() in include_dirs. Link with
libraries=["aiofs"], and with aiofs.get_library_dir() in library_dirs and runtime_library_dirs.
"""

from posix.signal cimport sigval
from posix.time cimport timespec
from posix.types cimport mode_t, off_t, pid_t


cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_attr_t:
        pass


cdef extern from "aiofs.h" nogil:
    struct sigevent:
        int sigev_notify
        int sigev_signo
        sigval sigev_value
        void (*sigev_notify_function)(sigval) noexcept nogil
        pthread_attr_t *sigev_notify_attributes

    struct aiocb:
        int aio_fildes
        off_t aio_offset
        volatile void *aio_buf
        size_t aio_nbytes
        int aio_reqprio
        sigevent aio_sigevent
        int aio_lio_opcode

    enum:
        AIO_CANCELED, AIO_NOTCANCELED, AIO_ALLDONE
    enum:
        LIO_READ, LIO_WRITE, LIO_NOP, LIO_WAIT, LIO_NOWAIT
    enum:
        SIGEV_NONE, SIGEV_SIGNAL, SIGEV_THREAD, AIOFS_SIGEV_COMPLETION

    int aio_read "aiofs_aio_read"(aiocb *aiocbp)
    int aio_write "aiofs_aio_write"(aiocb *aiocbp)
    int aio_fsync "aiofs_aio_fsync"(int op, aiocb *aiocbp)
    int aio_error "aiofs_aio_error"(const aiocb *aiocbp)
    ssize_t aio_return "aiofs_aio_return"(aiocb *aiocbp)
    int aio_suspend "aiofs_aio_suspend"(const aiocb **list, int nent, const timespec *timeout)
    int aio_cancel "aiofs_aio_cancel"(int fildes, aiocb *aiocbp)
    int lio_listio "aiofs_lio_listio"(int mode, aiocb **list, int nent, sigevent *sig)

    int aiofs_open(const char *volume, const char *path, int flags, ...)
    enum aiofs_mode:
        AIOFS_MODE_DEFAULT, AIOFS_MODE_IN_PLACE, AIOFS_MODE_READ_ONLY, AIOFS_MODE_READWRITE_UNSAFE
        AIOFS_MODE_EXCLUSIVE, AIOFS_MODE_SHARED
    struct aiofs_lock_info:
        char *path
        const char *mode
        pid_t pid
        int waiting
        timespec since
    int aiofs_open_wait(const char *volume, const char *path, int flags, mode_t permissions, aiofs_mode mode,
                        const timespec *timeout) nogil
    ssize_t aiofs_locks(const char *volume, aiofs_lock_info **list)
    void aiofs_locks_free(aiofs_lock_info *list, ssize_t count)
    int aiofs_close(int fd) nogil
    int aiofs_abort(int fd) nogil
    int aiofs_completion_open()
    int aiofs_completion_close(int fd)
