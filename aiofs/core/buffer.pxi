# Buffers: taking those of the program's objects, and memory for O_DIRECT.
#
# A view (Py_buffer) keeps its object from freeing or resizing the memory until it is released. The caller that takes a
# view owns it. A submission takes the view over and releases it with the GIL, when its request is terminal. Memory
# with references to Python objects in it is refused. The memory of an aligned_buffer belongs to an object that its
# memoryviews hold.

cdef extern from "Python.h":
    int get_buffer "PyObject_GetBuffer" (object exporter, Py_buffer *view, int flags) noexcept
    void PyErr_Clear()
    enum: PyBUF_FULL_RO


cdef inline int take_buffer(object exporter, Py_buffer *view, int flags) except -1:
    """PyObject_GetBuffer, but for memory that holds objects; and a refusal is a TypeError or a BufferError."""
    if get_buffer(exporter, view, flags) < 0:
        PyErr_Clear()
        retry_buffer(exporter, view, flags)
    if view.itemsize >= <Py_ssize_t>sizeof(void *):  # wide enough for a pointer
        check_items(exporter, view)
    return 0


cdef int retry_buffer(object exporter, Py_buffer *view, int flags) except -1:
    """Once more, for the exception. numpy's is a ValueError."""
    try:
        return PyObject_GetBuffer(exporter, view, flags)
    except (TypeError, BufferError, MemoryError):
        raise
    except Exception as error:
        raise BufferError(f"the buffer of {type(exporter).__name__} cannot be used: {error}") from error


cdef int check_items(object exporter, Py_buffer *view) except -1:
    """Bytes that are read over references to objects would crash the interpreter later."""
    cdef Py_buffer described
    cdef bint objects = False
    try:
        PyObject_GetBuffer(exporter, &described, PyBUF_FULL_RO)
        try:
            # The names of a structure's fields stand between colons.
            objects = described.format != NULL and b"O" in b"".join((<bytes>described.format).split(b":")[::2])
        finally:
            PyBuffer_Release(&described)
    except (TypeError, ValueError, BufferError):
        return 0  # it does not say what it holds
    if objects:
        PyBuffer_Release(view)
        raise TypeError(f"a buffer of bytes is needed; this {type(exporter).__name__} holds Python objects")
    return 0


# ---- memory for O_DIRECT --------------------------------------------------------------------------------

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
