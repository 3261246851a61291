# Declarations of engine/engine.h that the core uses.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.time cimport time_t


cdef extern from "<time.h>" nogil:
    struct timespec:
        time_t tv_sec
        long tv_nsec


cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len


cdef extern from "engine/engine.h" nogil:
    ctypedef struct aiofs_file
    ctypedef struct aiofs_lock_ref

    ctypedef struct aiofs_request:
        int op
        int fd
        int reqprio
        int iovcnt
        const iovec *iov
        iovec single
        int64_t offset
        bint ordered
        bint mapped
        int64_t (*call)(aiofs_request *) noexcept nogil
        void (*done)(aiofs_request *) noexcept nogil
        void (*destroy)(aiofs_request *) noexcept nogil
        int64_t result
        uint64_t total

    struct aiofs_ops:
        int64_t (*read)(void *self, const iovec *iov, int iovcnt, int64_t offset) noexcept nogil
        int64_t (*write)(void *self, const iovec *iov, int iovcnt, int64_t offset) noexcept nogil
        int64_t (*size)(void *self) noexcept nogil
        int64_t (*truncate)(void *self, int64_t size) noexcept nogil
        int64_t (*flush)(void *self) noexcept nogil
        void (*submit)(void *self, aiofs_request *request) noexcept nogil
        void (*close)(void *self) noexcept nogil
        void (*release)(void *self) noexcept nogil
        bint blocks

    struct aiofs_counters:
        uint64_t inline_reads, inline_writes, ring, polled, pooled, outstanding, files, workers

    enum:
        AIOFS_READ, AIOFS_WRITE, AIOFS_FSYNC, AIOFS_FDATASYNC, AIOFS_TRUNCATE, AIOFS_FLUSH, AIOFS_CALL
    enum:
        AIOFS_NEW, AIOFS_SUBMITTED, AIOFS_DONE, AIOFS_FAILED, AIOFS_CANCELED
    enum:
        AIOFS_CANCEL_CANCELED, AIOFS_CANCEL_NOTCANCELED, AIOFS_CANCEL_ALLDONE
    int64_t AIOFS_NOT_INLINE
    size_t AIOFS_INLINE_MAX
    int AIOFS_PRIO_DELTA_MAX
    int64_t AIOFS_PARKED

    int aiofs_engine_start()
    const char *aiofs_engine_name()
    void aiofs_engine_drain(double seconds)
    void aiofs_engine_counters(aiofs_counters *out)

    void aiofs_request_init(aiofs_request *request)
    void aiofs_request_retain(aiofs_request *request)
    void aiofs_request_release(aiofs_request *request)
    int aiofs_submit(aiofs_request *request, aiofs_file *file)
    struct aiofs_batch_entry:
        aiofs_request *request
        aiofs_file *file
        int error
    void aiofs_submit_many(aiofs_batch_entry *list, size_t count)
    void aiofs_complete(aiofs_request *request, int64_t result)
    void aiofs_call_again(aiofs_request *request)
    int aiofs_request_state(const aiofs_request *request)
    bint aiofs_request_terminal(const aiofs_request *request)
    int aiofs_wait(aiofs_request **requests, size_t count, const timespec *timeout)
    int aiofs_descriptor(int fd)
    int aiofs_cancel(aiofs_request *request)
    void aiofs_cancel_soon(aiofs_request *request)
    int aiofs_cancel_all(int fd)
    void aiofs_file_cancel_soon(aiofs_file *file)

    int64_t aiofs_read_inline(aiofs_file *file, int fd, const iovec *iov, int iovcnt, size_t total,
                              int64_t offset, bint mapped)
    int64_t aiofs_write_inline(aiofs_file *file, int fd, const iovec *iov, int iovcnt, size_t total,
                               int64_t offset, bint mapped)
    bint aiofs_sigxfsz_ignored

    int aiofs_file_adopt(int fd, int flags, aiofs_lock_ref *lock_ref, const aiofs_ops *ops, void *self,
                         aiofs_file **file)
    void aiofs_file_unwanted(aiofs_file *file)
    aiofs_file *aiofs_file_find(int fd)
    void aiofs_file_retain(aiofs_file *file)
    void aiofs_file_release(aiofs_file *file)
    int aiofs_file_close(aiofs_file *file)
    void aiofs_file_drain(aiofs_file *file)
    int aiofs_file_fd(const aiofs_file *file)
    aiofs_lock_ref *aiofs_file_lock_ref(const aiofs_file *file)
    bint aiofs_file_blocks(const aiofs_file *file)
    bint aiofs_file_busy(const aiofs_file *file)
    int64_t aiofs_file_read(aiofs_file *file, const iovec *iov, int iovcnt, int64_t offset, bint mapped)
    int64_t aiofs_file_write(aiofs_file *file, const iovec *iov, int iovcnt, int64_t offset, bint mapped)
    int64_t aiofs_file_size(aiofs_file *file)
    int64_t aiofs_file_truncate(aiofs_file *file, int64_t size)
    int64_t aiofs_file_flush(aiofs_file *file)
    int64_t aiofs_file_finish(aiofs_file *file, bint commit)
    bint aiofs_file_finishes_at_once(aiofs_file *file)
    bint aiofs_file_close_at_once(aiofs_file *file)
    bint aiofs_file_finish_at_once(aiofs_file *file, int64_t *status)
    bint aiofs_file_swapped(const aiofs_file *file)
