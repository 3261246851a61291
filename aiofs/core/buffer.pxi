# Memory for O_DIRECT, aligned as the device wants it.

cdef extern from "<stdlib.h>" nogil:
    int posix_memalign(void **memory, size_t alignment, size_t size)

cdef extern from "<string.h>" nogil:
    void *memset(void *memory, int byte, size_t size)


@cython.final
cdef class _Aligned:
    """Owns the memory of an aligned_buffer."""
    cdef void *memory
    cdef Py_ssize_t size

    def __dealloc__(self):
        free(self.memory)

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.memory, self.size, 0, flags)


def aligned_buffer(nbytes, alignment=4096):
    """A writable memoryview of `nbytes` zeroed bytes whose address is a multiple of `alignment` (bytes).

    For O_DIRECT, which wants addresses, offsets and lengths in multiples of the device's block size.
    ValueError for a negative size or an alignment that is no power of two of at least 8; MemoryError.

    Source: open(2), O_DIRECT; posix_memalign(3).
    """
    cdef _Aligned owner
    cdef Py_ssize_t size = nbytes
    cdef size_t boundary
    if size < 0:
        raise ValueError(f"nbytes {nbytes} is negative")
    if alignment < 8 or alignment & (alignment - 1):
        raise ValueError(f"alignment {alignment} is not a power of two of at least 8")
    boundary = alignment
    owner = _Aligned.__new__(_Aligned)
    if posix_memalign(&owner.memory, boundary, <size_t>max(size, 1)) != 0:
        owner.memory = NULL
        raise MemoryError
    memset(owner.memory, 0, <size_t>size)
    owner.size = size
    return memoryview(owner)
