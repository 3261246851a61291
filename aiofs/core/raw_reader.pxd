# Reads of a FileIO that cannot block: raw_reader.pxi.

@cython.final
cdef class RawReader:
    cdef object raw            # weak reference to the FileIO
    cdef int fd
    cdef bint inside           # a call is made on the thread of a loop: reads take bytes of the window
    cdef int line_end          # the byte that ends a line; -1: none does in every state of the decoder
    cdef char *window
    cdef size_t capacity       # bytes that are allocated for the window
    cdef size_t asked          # bytes that the buffer of io asks for at once
    cdef int64_t origin        # where the next window begins; -1: at the descriptor's offset
    cdef int64_t start, length # the window's first byte in the file, and its count of bytes
    cdef bint ended            # the window reaches the end of the file
    cdef Py_ssize_t first, last  # what the last read inside a call gave, as a range of the window; empty: none
    cdef int before            # the byte before that read: see PRECEDES_*
    cdef int previous          # the last byte that was read, and the offset behind it
    cdef int64_t previous_end
    cdef bint holds_line(self) except -1
    cdef bint holds_bytes(self, int64_t count) except -1
    cdef bint holds_all(self) except -1
    cdef size_t next_size(self) noexcept
    cdef bint load(self, size_t size) except -1
    cdef int64_t read_now(self, char *into, size_t size) noexcept
    cdef object read_on_host(self, buffer)
    cdef int install(self, object raw) except -1
    cdef int remove(self) except -1
