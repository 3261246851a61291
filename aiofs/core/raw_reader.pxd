# Reads of a FileIO that cannot block: raw_reader.pxi.

cdef enum:
    OUTSIDE      # on a host thread: reads may block
    WANTS_LINE   # inside a call: the window holds a line end, or the end of the file
    WANTS_BYTES  # inside a call: the window holds as many bytes as the call can need, or the end of the file

@cython.final
cdef class RawReader:
    cdef object raw            # weak reference to the FileIO
    cdef int fd, mode
    cdef int line_end          # the byte that ends a line; -1: none does in every state of the decoder
    cdef char *window
    cdef size_t capacity       # bytes that are allocated for the window
    cdef size_t size           # bytes that were last asked for
    cdef int64_t start, length # the window's first byte in the file, and its count of bytes
    cdef int64_t limit         # offset in the file of the window's last line end, or -1
    cdef bint ended            # the window reaches the end of the file
    cdef int64_t position      # the descriptor's offset; -1: unknown
    cdef Py_ssize_t first, last  # what the last read inside a call gave, as a range of the window; empty: none
    cdef int before            # the byte before that read: see PRECEDES_*
    cdef int previous          # the last byte that was read, and the offset behind it
    cdef int64_t previous_end
    cdef bint holds_line(self) except -1
    cdef bint holds_bytes(self, int64_t count) except -1
    cdef bint holds_all(self) except -1
    cdef bint load(self, size_t size) except -1
    cdef inline bint in_window(self) noexcept
    cdef size_t next_size(self) noexcept
    cdef void find_limit(self) noexcept
    cdef int64_t read_now(self, char *into, size_t size) except -1
    cdef object read_on_host(self, buffer)
    cdef int64_t take(self, char *into, size_t size, int64_t offset) noexcept
    cdef int install(self, object raw) except -1
    cdef int remove(self) except -1
