# Buffers: buffer.pxi.

cdef int take_buffer(object exporter, Py_buffer *view, int flags) except -1
cdef bint is_mapped(Py_buffer *view) noexcept
