# Buffers: views of the program's objects, and memory for O_DIRECT.
#
# Until a view (Py_buffer) is released, its object cannot free or resize the memory. Memory that contains references to
# Python objects is refused.
#
# Ownership. The caller of take_buffer owns the view, and may pass it to a submission. The submission releases it when
# its request is terminal. The memory of an aligned_buffer belongs to an object that its memoryviews hold.
#
# Locking. All functions need the GIL.

cdef extern from "Python.h":
    int get_buffer "PyObject_GetBuffer" (object exporter, Py_buffer *view, int flags) noexcept
    void PyErr_Clear()
    enum: PyBUF_FULL_RO


cdef inline int take_buffer(object exporter, Py_buffer *view, int flags) except -1:
    """As PyObject_GetBuffer, but refuses memory that contains objects; fails with TypeError or BufferError."""
    if get_buffer(exporter, view, flags) < 0:
        PyErr_Clear()
        retry_buffer(exporter, view, flags)
    if view.itemsize >= <Py_ssize_t>sizeof(void *):  # wide enough for a pointer
        check_items(exporter, view)
    return 0


cdef int retry_buffer(object exporter, Py_buffer *view, int flags) except -1:
    """Repeats the call for its exception. BufferError instead of another kind: numpy raises ValueError."""
    try:
        return PyObject_GetBuffer(exporter, view, flags)
    except (TypeError, BufferError, MemoryError):
        raise
    except Exception as error:
        raise BufferError(f"the buffer of {type(exporter).__name__} cannot be used: {error}") from error


cdef int check_items(object exporter, Py_buffer *view) except -1:
    """Refuses memory with references to objects: a read into it would crash the interpreter later."""
    cdef Py_buffer described
    cdef bint objects = False
    try:
        PyObject_GetBuffer(exporter, &described, PyBUF_FULL_RO)
        try:
            # In a format string, colons enclose the names of a structure's fields.
            objects = described.format != NULL and b"O" in b"".join((<bytes>described.format).split(b":")[::2])
        finally:
            PyBuffer_Release(&described)
    except (TypeError, ValueError, BufferError):
        return 0  # the object does not describe its items
    except BaseException:
        PyBuffer_Release(view)
        raise
    if objects:
        PyBuffer_Release(view)
        raise TypeError(f"a buffer of bytes is needed; this {type(exporter).__name__} holds Python objects")
    return 0


cdef extern from "Python.h":
    bint PyByteArray_Check(object)
    bint PyMemoryView_Check(object)
    PyObject *PyMemoryView_GET_BASE(object)  # borrowed; NULL: the memory belongs to no object


cdef inline bint is_mapped(Py_buffer *view) noexcept:
    """Is the memory of a view certainly mapped? That of a mapped file is not, once the file was cut."""
    if <PyObject *>view.obj == NULL:
        return False
    return PyByteArray_Check(view.obj) or isinstance(view.obj, bytes) or owns_memory(view.obj)


cdef bint owns_memory(object exporter) noexcept:
    """For an exporter that is, or shows, the memory of an object that allocated it."""
    cdef PyObject *base
    cdef int left = 4  # a view of a view, or of an array
    while left:
        left -= 1
        if PyByteArray_Check(exporter) or isinstance(exporter, bytes):
            return True
        kind = type(exporter)
        if PyMemoryView_Check(exporter):
            base = PyMemoryView_GET_BASE(exporter)
            if base == NULL:
                return False
            exporter = <object>base
        elif kind is _Aligned or kind is array:
            return True
        elif kind.__name__ == "ndarray" and kind.__module__ == "numpy":
            owner = exporter.base
            if owner is None:
                return exporter.flags.owndata
            exporter = owner
        else:
            return False
    return False


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
    """Returns a writable memoryview of `nbytes` zero bytes. Its address is a multiple of `alignment` bytes.

    For O_DIRECT, which needs addresses, offsets and lengths in multiples of the device's block size.
    ValueError if `nbytes` is negative, or if `alignment` is not a power of two of at least 8; MemoryError
    if there is not enough memory.

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
