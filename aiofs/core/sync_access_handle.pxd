# What both access handles use, and the synchronous one: sync_access_handle.pxi.

cdef extern from "pythread.h":
    unsigned long PyThread_get_thread_ident()

cdef str MODE_IN_PLACE
cdef str MODE_READ_ONLY
cdef int64_t position(object value, str name) except -1
cdef int generation
cdef object closed_error(str path, str doing, int made)
cdef object refused_error(str path, str doing)

@cython.final
cdef class SyncAccessHandle:
    cdef aiofs_file *file  # a reference; NULL when closed
    cdef int64_t cursor    # in bytes
    cdef int users         # threads inside a method
    cdef bint writable
    cdef unsigned long closing  # the thread inside close; 0: none
    cdef bint unwanted     # no caller got the handle: dropping it gives no warning
    cdef int made          # `generation` of the process that opened it
    cdef readonly str mode
    cdef str path
    cdef object __weakref__
    cdef void release_file(self) noexcept
    cdef inline int check(self, str doing) except -1
    cdef inline int check_change(self, str doing) except -1
    cdef object vectored(self, bint writes, object buffers, object at)
    cdef int64_t block(self, bint writes, const iovec *iov, int count, int64_t offset, bint mapped) noexcept
    cdef int finish(self, bint commit) except -1

cdef int warn_unclosed(object handle, str path, str what) except -1
cdef SyncAccessHandle sync_access_handle_of(aiofs_file *file, str mode, str path)
