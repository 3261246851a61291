# Volumes that are Python objects: bridge.pxi, and core/inside.h.

cdef extern from "core/view.h":
    int view_end(object view) except -1

cdef extern from "core/inside.h":
    struct aiofs_inside:
        pass
    void inside_enter(aiofs_inside *here, const void *file)
    void inside_leave(const aiofs_inside *here)
    bint inside_is(const void *file)

cdef class Bridge:
    cdef object volume
    cdef object file
    cdef aiofs_lock_ref *lock_ref  # borrowed from the open file, which outlives every call
    cdef aiofs_file *opened        # borrowed: it owns the Bridge
    cdef int64_t move(self, const iovec *iov, int iovcnt, int64_t offset, bint writes) noexcept

cdef class VolumeRequest:
    cdef aiofs_request *request  # a reference; NULL once it has an outcome
    cdef Bridge bridge
    cdef bint bound
    cdef readonly str op
    cdef readonly tuple buffers
    cdef int bind(self, Bridge bridge, aiofs_request *request) except -1
    cdef void end(self, int64_t result) noexcept
    cdef int release_buffers(self) except -1
    cdef void publish(self, aiofs_request *request, int64_t result) noexcept

cdef class LockRef:
    cdef aiofs_lock_ref *lock_ref
    cpdef release(self)

cdef class Names:
    cdef aiofs_volume *volume
