# Reads of a FileIO that cannot block.
#
# The objects of io that have a buffer (BufferedReader, BufferedRandom, TextIOWrapper above them) read by the methods
# `readinto` and `readall` of their FileIO. A RawReader takes the place of both, as attributes of the FileIO object.
# On a host thread it calls FileIO's own. On the thread of a loop it must not block, and it cannot fail with EAGAIN
# either: the object of io would lose the part of a line that it had already. So a call is made there only if what it
# can need is in the window, a copy of the bytes from the descriptor's offset on, which was read without blocking.
#
# A read inside the call reads the file again, so that changes by others appear as early as they do in the built-in
# `open`. It takes the window's bytes instead if the kernel's are no longer cached, or if the window has a line end there
# and the file has none any more. So each call ends inside the window. (If another process also moves the offset of the
# same description meanwhile, the read may be outside the window, and may block.)
#
# The descriptor's offset moves as FileIO would move it.
#
# Ownership. The dictionary of the FileIO owns the bound methods, and so the RawReader, which has a weak reference to it.
#
# Locking. The GIL guards the fields. The calls of one file come one after the other (Turn).

import io as _io

cdef extern from "<string.h>" nogil:
    void *c_memchr "memchr"(const void *bytes, int byte, size_t size)
    void *c_memrchr "memrchr"(const void *bytes, int byte, size_t size)
    int c_memcmp "memcmp"(const void *one, const void *other, size_t size)
    void *c_memcpy "memcpy"(void *to, const void *source, size_t size)

cdef extern from "<stdlib.h>" nogil:
    void *c_realloc "realloc"(void *memory, size_t size)

cdef extern from "<unistd.h>" nogil:
    int64_t c_lseek "lseek"(int fd, int64_t offset, int whence)
    int C_SEEK_SET "SEEK_SET", C_SEEK_CUR "SEEK_CUR"

cdef size_t window_least = 16 * 1024  # bytes of the window after a jump, and when the file is read on
cdef size_t window_most = 64 * 1024

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


def _set_windows(size_t least, size_t most):
    """For tests: the sizes of windows, so that they end anywhere in a line. Returns the sizes before."""
    global window_least, window_most
    before = window_least, window_most
    window_least, window_most = least, most
    return before


@cython.final
cdef class RawReader:
    """RawReader()
--

    What the buffer of an open file reads by, instead of its FileIO.
    """

    def __cinit__(self):
        self.position = self.limit = self.previous_end = -1

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

    cdef inline bint in_window(self) noexcept:
        return self.start <= self.position <= self.start + self.length

    cdef bint holds_line(self) except -1:
        """Is there a line end, or the end of the file, in the window behind the offset? Loads the window if needed."""
        if self.line_end < 0:
            return self.holds_all()
        if self.in_window() and (self.limit >= self.position or self.ended):
            return True
        if not self.load(self.next_size()):
            return False
        if self.limit < 0 and not self.ended and self.size < window_most and not self.load(window_most):
            return False
        return self.limit >= 0 or self.ended

    cdef bint holds_bytes(self, int64_t count) except -1:
        """Are `count` bytes, or the end of the file, in the window behind the offset?"""
        if self.in_window() and (self.start + self.length - self.position >= count or self.ended):
            return True
        if count > <int64_t>AIOFS_INLINE_MAX:
            return False
        return self.load(max(<size_t>count, self.next_size())) and (self.length >= count or self.ended)

    cdef bint holds_all(self) except -1:
        """Does the window reach from the offset to the end of the file?"""
        if self.in_window() and self.ended:
            return True
        if os.fstat(self.fd).st_size - c_lseek(self.fd, 0, C_SEEK_CUR) >= <int64_t>AIOFS_INLINE_MAX:
            return False
        return self.load(AIOFS_INLINE_MAX) and self.ended

    cdef size_t next_size(self) noexcept:
        """The size of the next window: small after a jump, larger if the file is read on."""
        return window_most if self.in_window() and self.length > 0 else window_least

    cdef bint load(self, size_t size) except -1:
        """Reads the window at the offset. False: that could block."""
        cdef iovec bytes
        cdef void *grown
        cdef int64_t got, offset = c_lseek(self.fd, 0, C_SEEK_CUR)
        self.position = -1
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
        got = aiofs_read_inline(NULL, self.fd, &bytes, 1, size, offset)
        if got == AIOFS_NOT_INLINE and size > window_least:
            bytes.iov_len = size = window_least
            got = aiofs_read_inline(NULL, self.fd, &bytes, 1, size, offset)
        if got < 0:
            return False
        count_copy(<size_t>got)
        self.size = size
        self.start = self.position = offset
        self.length = got
        self.ended = got < <int64_t>size
        self.find_limit()
        return True

    cdef void find_limit(self) noexcept:
        cdef char *found = NULL
        if self.line_end >= 0:
            found = <char *>c_memrchr(self.window, self.line_end, <size_t>self.length)
        self.limit = -1 if found == NULL else self.start + (found - self.window)

    # ---- reads inside a call

    cdef int64_t take(self, char *into, size_t size, int64_t offset) noexcept:
        """Reads from the file at `offset`, or from the window. AIOFS_NOT_INLINE: that could block."""
        cdef iovec bytes
        cdef int64_t covered = self.start + self.length - offset if self.start <= offset else -1
        cdef int64_t got
        cdef size_t common
        cdef char *here = self.window + (offset - self.start)
        bytes.iov_base = into
        bytes.iov_len = size
        self.first = self.last = 0
        got = aiofs_read_inline(NULL, self.fd, &bytes, 1, size, offset)
        if got == 0 or (got < 0 and covered == 0 and self.ended):
            return 0
        if got < 0 and covered <= 0:
            return AIOFS_NOT_INLINE
        if covered <= 0:
            return got
        if got < 0 or (self.mode == WANTS_LINE and offset <= self.limit < offset + got
                       and c_memchr(into, self.line_end, <size_t>got) == NULL):
            got = min(<int64_t>size, covered)
            c_memcpy(into, here, <size_t>got)
        common = <size_t>min(got, covered)
        if c_memcmp(here, into, common) != 0:
            c_memcpy(here, into, common)
            self.find_limit()
        self.first = here - self.window
        self.last = self.first + <Py_ssize_t>common
        return got

    cdef int64_t read_now(self, char *into, size_t size) except -1:
        """Reads at the offset, and moves it. The count, or AIOFS_NOT_INLINE."""
        cdef int64_t got, offset = c_lseek(self.fd, 0, C_SEEK_CUR)
        if offset < 0:
            return AIOFS_NOT_INLINE
        got = self.take(into, size, offset)
        if got == AIOFS_NOT_INLINE:
            return got
        self.before = (self.previous if self.previous_end == offset else PRECEDES_NOTHING if offset == 0
                       else PRECEDES_UNKNOWN)
        if got > 0:
            self.position = c_lseek(self.fd, offset + got, C_SEEK_SET)
            self.previous = <unsigned char>into[got - 1]
            self.previous_end = self.position
            count_copy(<size_t>got)
        return got

    # ---- what io calls

    def readinto(self, buffer, /):
        """As the method of io.FileIO."""
        cdef Py_buffer view
        cdef int64_t got = AIOFS_NOT_INLINE
        if self.mode != OUTSIDE:
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
        cdef object raw = self.raw()
        if raw is None:
            raise ValueError("I/O operation on closed file")
        self.first = self.last = 0
        self.position = -1
        count = FILEIO_READINTO(raw, buffer)
        if count:
            self.previous = memoryview(buffer).cast("B")[count - 1]
            self.previous_end = c_lseek(self.fd, 0, C_SEEK_CUR)
        return count

    def readall(self):
        """As the method of io.FileIO."""
        cdef int64_t got = 0
        cdef int64_t size
        pieces = []
        while self.mode != OUTSIDE:
            size = max(4096, self.start + self.length - self.position)
            piece = PyBytes_FromStringAndSize(NULL, size)
            got = self.read_now(PyBytes_AS_STRING(piece), <size_t>size)
            if got == 0:
                return b"".join(pieces)
            if got == AIOFS_NOT_INLINE:
                break
            pieces.append(piece[:got] if got < size else piece)
        raw = self.raw()
        if raw is None:
            raise ValueError("I/O operation on closed file")
        self.position = self.previous_end = -1
        rest = FILEIO_READALL(raw)
        if not pieces or rest is None:
            return rest
        return b"".join([*pieces, rest])
