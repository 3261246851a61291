# What a writable stream is made of: writable.pxi.

cdef int64_t call_fill(aiofs_request *request) noexcept nogil
cdef object ended_error(AccessHandle handle, str doing)
cdef void end_stream(AccessHandle handle, object error) noexcept

@cython.final
cdef class Writable:
    cdef AccessHandle handle

cdef Writable writable_of(aiofs_file *file, str path)
