# Reads of a FileIO that cannot block.
#
# The objects of io that have a buffer (BufferedReader, BufferedRandom, TextIOWrapper above them) read by the methods
# `readinto` and `readall` of their FileIO. A RawReader takes the place of both, as attributes of the FileIO object.
# On a host thread it calls FileIO's own. On the thread of a loop it must not block, and it cannot fail with EAGAIN
# either: the object of io would lose the part of a line that it had already. So before each call there, the bytes from
# the descriptor's offset on are read into a window, without blocking. The call is made only if the window holds what it
# can need: a line end, a count of bytes, or the end of the file. Reads inside the call take the bytes of the window.
#
# The descriptor's offset moves as FileIO would move it. (If another process moves the offset of the same description
# during a call, the read is outside the window, and may block.)
#
# Ownership. The dictionary of the FileIO owns the bound methods, and so the RawReader, which has a weak reference to it.
#
# Locking. The GIL guards the fields. The calls of one file come one after the other (Turn).

import io as _io

cdef extern from "<string.h>" nogil:
    void *c_memchr "memchr"(const void *bytes, int byte, size_t size)
    void *c_memcpy "memcpy"(void *to, const void *source, size_t size)

cdef extern from "<stdlib.h>" nogil:
    void *c_realloc "realloc"(void *memory, size_t size)

cdef extern from "<unistd.h>" nogil:
    int64_t c_lseek "lseek"(int fd, int64_t offset, int whence)
    int C_SEEK_SET "SEEK_SET", C_SEEK_CUR "SEEK_CUR"

cdef size_t window_least = 8 * 1024  # bytes; a text file asks for as many
cdef size_t window_most = 128 * 1024  # of which a line is searched
cdef size_t window_asked = 128 * 1024  # the largest of which the buffer asks

cdef enum:
    PRECEDES_NOTHING = -1  # the read began at the start of the file
    PRECEDES_UNKNOWN = -2

cdef object FILEIO_READINTO = _io.FileIO.readinto
cdef object FILEIO_READALL = _io.FileIO.readall


cdef inline int count_copy(size_t size) except -1:
    """Counts a copy of `size` bytes in the budget of the loop's turn."""
    cdef LoopNotifier notifier = current_notifier()
    if notifier is not None:
        notifier.affords(size)
    return 0


def _set_windows(size_t least, size_t most, size_t asked):
    """For tests: the sizes of windows, so that they end anywhere in a line. Returns those before."""
    global window_least, window_most, window_asked
    before = window_least, window_most, window_asked
    window_least, window_most, window_asked = least, most, asked
    return before


cdef int64_t blocking_reads = 0


def _blocking_reads():
    """For tests: how many reads inside a call were outside its window, and might have blocked."""
    return blocking_reads


@cython.final
cdef class RawReader:
    """RawReader()
--

    What the buffer of an open file reads by, instead of its FileIO.
    """

    def __cinit__(self):
        self.previous_end = self.origin = -1
        self.asked = window_least

    def __dealloc__(self):
        free(self.window)

    cdef int install(self, object raw) except -1:
        """Takes the place of the methods of a FileIO."""
        self.raw = weakref(raw)
        self.fd = raw.fileno()
        raw.readinto = self.readinto
        raw.readall = self.readall
        return 0

    cdef int remove(self) except -1:
        """Gives the FileIO its own methods again."""
        raw = self.raw()
        if raw is not None:
            raw.__dict__.pop("readinto", None)
            raw.__dict__.pop("readall", None)
        return 0

    # ---- the window

    cdef bint holds_line(self) except -1:
        """Reads the window. Is there a line end in it, or the end of the file?"""
        cdef size_t size = self.next_size()
        if self.line_end < 0:
            return self.holds_all()
        while self.load(size):
            if self.ended or c_memchr(self.window, self.line_end, <size_t>self.length) != NULL:
                return True
            if size >= window_most:
                return False
            size = min(8 * size, window_most)
        return False

    cdef bint holds_bytes(self, int64_t count) except -1:
        """Reads the window. Are `count` bytes in it, or the end of the file?"""
        if count > <int64_t>AIOFS_INLINE_MAX:
            return False
        return self.load(max(<size_t>count, self.next_size())) and (self.length >= count or self.ended)

    cdef bint holds_all(self) except -1:
        """Reads the window. Does it reach the end of the file?"""
        cdef int64_t offset = self.origin if self.origin >= 0 else c_lseek(self.fd, 0, C_SEEK_CUR)
        cdef int64_t left = os.fstat(self.fd).st_size - offset
        return left < <int64_t>AIOFS_INLINE_MAX and self.load(<size_t>max(0, left) + 1) and self.ended

    cdef size_t next_size(self) noexcept:
        """As many bytes as the buffer asks for if the file is read on, few after a jump."""
        if self.previous_end >= 0 and c_lseek(self.fd, 0, C_SEEK_CUR) == self.previous_end:
            return max(self.asked, window_least)
        return window_least

    cdef bint load(self, size_t size) except -1:
        """Reads the window at the offset. False: that could block."""
        cdef iovec bytes
        cdef void *grown
        cdef int64_t got, offset = self.origin if self.origin >= 0 else c_lseek(self.fd, 0, C_SEEK_CUR)
        self.length = self.first = self.last = 0
        self.ended = False
        size = min(size, AIOFS_INLINE_MAX)
        if offset < 0:
            return False
        if size > self.capacity:
            grown = c_realloc(self.window, size)
            if grown == NULL:
                raise MemoryError
            self.window = <char *>grown
            self.capacity = size
        bytes.iov_base = self.window
        bytes.iov_len = size
        got = aiofs_read_inline(NULL, self.fd, &bytes, 1, size, offset, True)
        if got < 0:
            return False
        count_copy(<size_t>got)
        self.start = offset
        self.length = got
        self.ended = got < <int64_t>size
        return True

    # ---- reads inside a call

    cdef int64_t read_now(self, char *into, size_t size) noexcept:
        """Reads at the offset from the window, and moves the offset. The count, or AIOFS_NOT_INLINE."""
        cdef int64_t offset = c_lseek(self.fd, 0, C_SEEK_CUR)
        cdef int64_t at = offset - self.start
        cdef int64_t count = min(<int64_t>size, self.length - at)
        if not 0 <= at <= self.length or (count == 0 and not self.ended):
            return AIOFS_NOT_INLINE
        if self.asked < size <= window_asked:
            self.asked = size
        self.first = self.last = at
        if count == 0:
            return 0
        self.before = (self.previous if self.previous_end == offset else PRECEDES_NOTHING if offset == 0
                       else PRECEDES_UNKNOWN)
        if c_lseek(self.fd, offset + count, C_SEEK_SET) < 0:
            return AIOFS_NOT_INLINE
        c_memcpy(into, self.window + at, <size_t>count)
        self.last = at + count
        self.previous = <unsigned char>into[count - 1]
        self.previous_end = offset + count
        return count

    # ---- what io calls

    def readinto(self, buffer, /):
        """As the method of io.FileIO."""
        cdef Py_buffer view
        cdef int64_t got = AIOFS_NOT_INLINE
        if self.inside:
            PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
            try:
                if view.len:
                    got = self.read_now(<char *>view.buf, <size_t>view.len)
            finally:
                PyBuffer_Release(&view)
            if got != AIOFS_NOT_INLINE:
                return got
        return self.read_on_host(buffer)

    cdef object read_on_host(self, buffer):
        global blocking_reads
        cdef object raw = self.raw()
        blocking_reads += self.inside
        if raw is None:
            raise ValueError("I/O operation on closed file")
        self.length = self.first = self.last = 0
        self.ended = False
        count = FILEIO_READINTO(raw, buffer)
        if count:
            self.previous = memoryview(buffer).cast("B")[count - 1]
            self.previous_end = c_lseek(self.fd, 0, C_SEEK_CUR)
        return count

    def readall(self):
        """As the method of io.FileIO."""
        global blocking_reads
        cdef int64_t size = self.start + self.length - c_lseek(self.fd, 0, C_SEEK_CUR)
        cdef bytes data
        if self.inside and self.ended and 0 <= size <= self.length:
            data = PyBytes_FromStringAndSize(NULL, size)
            if self.read_now(PyBytes_AS_STRING(data), <size_t>size) == size:
                return data
        raw = self.raw()
        if raw is None:
            raise ValueError("I/O operation on closed file")
        self.previous_end = -1
        blocking_reads += self.inside
        return FILEIO_READALL(raw)
