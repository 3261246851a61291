# What the open files of aiofs.files have in common: buffered_file.pxi.

cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(object)
    bint PyUnicode_IS_ASCII(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    object PyUnicode_New(Py_ssize_t size, int most)
    void *PyUnicode_DATA(object text)
    object PyUnicode_DecodeUTF8(const char *bytes, Py_ssize_t size, const char *errors)
    object PyUnicode_DecodeASCII(const char *bytes, Py_ssize_t size, const char *errors)
    object PyUnicode_DecodeLatin1(const char *bytes, Py_ssize_t size, const char *errors)

cdef enum:
    OTHER_CODEC, UTF8, ASCII, LATIN1

cdef class FileCall

cdef class Turn:
    cdef bint taken
    cdef object waiting        # of the calls that wait, oldest first

cdef class BufferedFile:
    cdef public Turn _turns
    cdef public object _kept   # what a cancelled read has read from a stream; None: nothing
    cdef object io             # the object of io, if its calls can be made here; None: all go to host threads
    cdef object readline, read, write  # its bound methods
    cdef object random         # the BufferedRandom, or None
    cdef RawReader reader
    cdef bint text, readable, unbuffered
    cdef bint plain            # each byte of an ASCII character stands for it, in every state of the decoder
    cdef bint universal, translates  # "\r" and "\r\n" end lines; they become "\n"
    cdef int codec
    cdef bytes errors          # how errors are handled; None: "strict"
    cdef FileCall next_call    # the last one of __anext__; one that has ended has no reference to this file
    # lines of the bytes that `io` has read last, which are given before it gives them itself
    cdef Py_ssize_t at, end    # what is left of them, in the reader's window
    cdef Py_ssize_t given      # bytes or characters that were given, and that `io` still has
    cdef bint has_returns      # they contain "\r", in a file where it ends lines
    cdef bint only_ascii       # they are ASCII, and without such a "\r"
    # writes
    cdef bint writes           # small ones stay in memory
    cdef bint appends          # then, once the cursor is not at the end, what `tell` gives depends on the flushes
    cdef int64_t room          # bytes that fit in the buffers
    cdef int64_t unflushed     # at most as many bytes are in them; -1: unknown
    cdef bint expands          # "\n" becomes two bytes

    cdef int settle(self) except -1
    cdef object now(self, FileCall call)
    cdef object line_now(self)
    cdef object cut_line(self)
    cdef inline int set_origin(self) except -1
    cdef object cut_some(self, object size)
    cdef int begin_bytes(self) except -1
    cdef void begin_lines(self) noexcept
    cdef object write_now(self, object data)
    cdef int64_t most_bytes(self, object data) noexcept
    cdef bint can_read(self, str name, tuple arguments) except -1
    cdef object unbuffered_now(self, str name, tuple arguments)

cdef enum:
    CALL_LINE, CALL_NEXT, CALL_READ, CALL_WRITE, CALL_MOVE, CALL_ASK, CALL_OTHER
