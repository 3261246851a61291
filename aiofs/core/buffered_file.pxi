# The open files of aiofs.files: calls that are answered on the thread of the loop, because they cannot block.
#
# A BufferedFile calls an object of io, which keeps all state. Where it can be shown that a call cannot block, it is made
# at the await; all others go to a host thread. It can be shown
#   - of reads, if what they can need is in the window of the RawReader, and nothing has to be flushed before;
#   - of writes, if the bytes that were written since the last flush fit in the buffers together;
#   - of tell, seek and flush of a regular file that has nothing to flush; a binary file tells in any case.
# Once the program asks for the object of io, all calls go to host threads: the state is then not known any more.
#
# Lines. A call of readline costs more than the line. So after one that has read from the file, the lines that end in the
# bytes that it has read are cut from the window (cut_line), as the object of io would give them: bytes; text of an
# encoding in which each line is decoded alone. `given` counts what io has not given itself. Before the next call of
# another kind, `settle` lets io read as much. It has these bytes in its buffer, or decoded.
#
# Turns. One call at a time uses the object of io. A call has the turn until it has returned, and others wait in the order
# in which they asked. One that lets the loop turn first keeps the turn meanwhile.
#
# Ownership. A file has the last FileCall of __anext__, which has a reference to the file only until it has ended.
#
# Locking. The GIL guards all of this. `settle` and the marks of writes are also used on host threads, by the call that
# has the turn.

cdef object NOT_NOW = object()  # the call must go to a host thread

cdef dict CALLS = {
    "readline": CALL_LINE, "__anext__": CALL_NEXT, "write": CALL_WRITE,
    "read": CALL_READ, "read1": CALL_READ, "readinto": CALL_READ, "readinto1": CALL_READ, "peek": CALL_READ,
    "readlines": CALL_READ, "readall": CALL_READ,
    "tell": CALL_MOVE, "seek": CALL_MOVE, "flush": CALL_MOVE,
    "seekable": CALL_ASK, "writable": CALL_ASK, "isatty": CALL_ASK,
}
cdef dict CODECS = {"utf-8": UTF8, "utf8": UTF8, "utf-8-sig": UTF8, "ascii": ASCII, "us-ascii": ASCII,
                    "latin-1": LATIN1, "iso-8859-1": LATIN1, "latin1": LATIN1, "iso8859-1": LATIN1}
cdef frozenset PLAIN_ERRORS = frozenset(("strict", "replace", "surrogateescape", "backslashreplace"))
cdef frozenset SHORT_ERRORS = frozenset(("strict", "replace", "ignore", "surrogateescape"))
cdef enum:
    MOST_OF_A_CHARACTER = 4   # bytes, in each encoding of CODECS
    MOST_BEFORE = 16          # bytes that give no character: a byte order mark, a "\r" that waits for its "\n"
    ENCODED = 8               # bytes of a character in any encoding


cdef class Turn:
    """Who may call the object of io. See aiofs.files.turns, which waits."""

    def __cinit__(self):
        self.waiting = deque()

    def _take(self):
        """Takes the turn if it is free."""
        if self.taken:
            return False
        self.taken = True
        return True

    def _wait(self, waiter):
        """Takes the turn if it is free, else queues `waiter`."""
        if self._take():
            return True
        self.waiting.append(waiter)
        return False

    def _withdraw(self, waiter):
        """Takes `waiter` out of the queue. False: it has been given the turn."""
        if waiter not in self.waiting:
            return False
        self.waiting.remove(waiter)
        return True

    def _next(self):
        """The waiter that gets the turn; None: nobody waits, and the turn is free."""
        if self.waiting:
            return self.waiting.popleft()
        self.taken = False
        return None


cdef class BufferedFile:
    """BufferedFile()
--

    The base class of the open files in aiofs.files. Its methods are for them.
    """

    def _begin(self, file, raw, buffer, newline, int64_t room):
        """Lets calls be made on the thread of the loop. For files that were opened just now.

        file: the object of io; its FileIO; the Buffered object, or None. newline: of a text file. room: the bytes that
        the buffers hold; 0: writes go to host threads.
        """
        cdef RawReader reader = RawReader.__new__(RawReader)
        self.text = file is not buffer and buffer is not None
        self.unbuffered = buffer is None
        self.readable = file.readable()
        self.plain = True
        reader.line_end = 10
        if self.text:
            self.codec = CODECS.get(file.encoding.lower(), OTHER_CODEC)
            self.plain = self.codec != OTHER_CODEC and file.errors in PLAIN_ERRORS
            self.universal = newline is None or newline == ""
            self.translates = newline is None
            self.expands = newline == "\r\n"
            self.errors = None if file.errors == "strict" else file.errors.encode()
            if not self.plain or newline == "\r\n":
                reader.line_end = -1
            elif newline == "\r":
                reader.line_end = 13
        self.room = room
        self.writes = room > 0
        self.appends = "a" in file.mode
        reader.install(raw)
        self.reader = reader
        self.random = buffer if type(buffer) is _io.BufferedRandom else None
        self.readline, self.read = file.readline, file.read
        self.write = file.write
        self.io = file

    def _leave(self):
        """From now on all calls go to host threads."""
        if self.io is not None:
            try:
                self.settle()
            finally:
                self.reader.remove()
                self.io = self.readline = self.read = self.write = self.random = None
                self.writes = False

    def _call_on_host(self, file, str name, tuple arguments):
        """Calls a method of the object of io. Runs on a host thread, which has the turn."""
        cdef bint writing = name == "write" or name == "writelines"
        if self.io is None:
            return getattr(file, name)(*arguments)
        self.settle()
        if writing:
            if self.writes and not file.closed:
                self.unflushed = -1
                file.flush()
            self.unflushed = -1
        elif (self.appends and (name == "seek" or name == "truncate")) or name == "readlines":
            self.writes = False
        result = getattr(file, name)(*arguments)
        if name == "write" and self.writes:
            self.unflushed = self.most_bytes(arguments[0])
            if self.unflushed > self.room:
                self.unflushed = -1
        elif name == "flush" or name == "truncate" or (self.text and (name == "tell" or name == "seek")):
            self.unflushed = 0
        return result

    def _is_here(self):
        """Can calls be made on the thread of the loop?"""
        return self.io is not None

    def _is_clean(self):
        """Is it known that nothing is to be flushed?"""
        return self.io is not None and self.unflushed == 0

    def _call(self, str name, *arguments):
        """The awaitable of a method of the object of io."""
        cdef FileCall call = FileCall.__new__(FileCall)
        call.file = self
        call.name = name
        call.arguments = arguments
        call.kind = CALLS.get(name, CALL_OTHER)
        if call.kind == CALL_LINE and arguments and arguments != (-1,):
            call.kind = CALL_READ
        return call

    def __aiter__(self):
        return self

    def __anext__(self):
        return next_line(self)

    # ---- calls that cannot block

    cdef int settle(self) except -1:
        """Lets the object of io read what was given before it."""
        cdef Py_ssize_t given = self.given
        self.at = self.end = self.given = 0
        if given:
            self.read(given)
        return 0

    cdef object now(self, FileCall call):
        """The result of a call that cannot block, or NOT_NOW. The call has the turn."""
        cdef bint clean = self.unflushed == 0
        cdef object result
        if self.io is None or self._kept is not None:
            return NOT_NOW
        if call.kind == CALL_LINE or call.kind == CALL_NEXT:
            return self.line_now()
        if call.kind == CALL_OTHER:
            return NOT_NOW
        if call.kind == CALL_READ and self.at < self.end and call.name == "read":
            result = self.cut_some(call.arguments[0])
            if result is not None:
                return result
        self.settle()
        if call.kind == CALL_WRITE:
            return self.write_now(call.arguments[0])
        if call.kind == CALL_READ:
            if not self.readable or not clean:
                return NOT_NOW
            if self.unbuffered:
                return self.unbuffered_now(call.name, call.arguments)
            self.set_origin()
            if not self.can_read(call.name, call.arguments):
                return NOT_NOW
            self.reader.inside = True
            try:
                result = getattr(self.io, call.name)(*call.arguments)
            finally:
                self.reader.inside = False
            if not self.text and self.reader.last > self.reader.first:
                self.begin_bytes()
            return result
        if call.kind == CALL_MOVE:
            if not clean and (self.text or call.name != "tell"):
                return NOT_NOW
            if call.name == "seek":
                # A cookie of a text file may stand for bytes to read.
                if self.text and not (type(call.arguments[0]) is int and -1 <= call.arguments[0] <= INT64_MAX):
                    return NOT_NOW
                if self.appends:
                    self.writes = False
        return getattr(self.io, call.name)(*call.arguments)

    cdef inline int set_origin(self) except -1:
        """A BufferedRandom moves the descriptor's offset back to the cursor before it reads."""
        if self.random is not None:
            self.reader.origin = self.random.tell()
        return 0

    cdef object line_now(self):
        cdef object line
        if self.at < self.end:
            line = self.cut_line()
            if line is not None:
                return line
        self.settle()
        if self.unflushed != 0 or not self.readable or self.unbuffered:
            return NOT_NOW
        self.set_origin()
        if not self.reader.holds_line():
            return NOT_NOW
        self.reader.inside = True
        try:
            line = self.readline()
        finally:
            self.reader.inside = False
        if self.reader.last > self.reader.first:
            self.begin_lines()
        return line

    cdef void begin_lines(self) noexcept:
        """The object of io has just given a line that ends in bytes that it has read from the file now."""
        cdef RawReader reader = self.reader
        cdef char *first = reader.window + reader.first
        cdef size_t size = <size_t>(reader.last - reader.first)
        cdef char *end = <char *>c_memchr(first, 10, size)
        cdef char *other
        if reader.line_end != 10 or end == NULL or (self.text and self.codec == OTHER_CODEC):
            return
        self.has_returns = False
        if self.universal:
            # A "\r" is the end of a line, also one that the decoder has kept from the bytes before.
            if reader.before == 13 or reader.before == PRECEDES_UNKNOWN:
                return
            other = <char *>c_memchr(first, 13, size)
            self.has_returns = other != NULL
            if other != NULL and other < end - 1:
                return
        self.at = end + 1 - reader.window
        self.end = reader.last
        self.only_ascii = self.text and not self.has_returns and is_ascii(reader.window + self.at, self.end - self.at)

    cdef int begin_bytes(self) except -1:
        """The object of io has just read bytes from the file, and has some of them in its buffer."""
        cdef RawReader reader = self.reader
        cdef int64_t left = reader.start + reader.last - <int64_t>self.io.tell()
        if 0 < left <= reader.last - reader.first:
            self.at = reader.last - left
            self.end = reader.last
        return 0

    cdef object cut_some(self, object size):
        """The next bytes or characters; None: not as many are in the window, or only io can cut them."""
        cdef char *first = self.reader.window + self.at
        cdef Py_ssize_t count
        if type(size) is not int or not 0 < size <= self.end - self.at or (self.text and not self.only_ascii):
            return None
        count = size
        self.at += count
        self.given += count
        return ascii_line(first, count) if self.text else PyBytes_FromStringAndSize(first, count)

    cdef object cut_line(self):
        """The next line of those that end in the window; None: there is none, or one that only io can cut."""
        cdef char *first = self.reader.window + self.at
        cdef char *end = <char *>c_memchr(first, 10, <size_t>(self.end - self.at))
        cdef char *other = NULL
        cdef const char *errors = NULL
        cdef Py_ssize_t size
        cdef object line
        if end == NULL:
            return None
        size = end + 1 - first
        if not self.text:
            line = PyBytes_FromStringAndSize(first, size)
            self.at += size
            self.given += size
            return line
        if self.only_ascii:
            line = ascii_line(first, size)
            self.at += size
            self.given += size
            return line
        if self.has_returns:
            other = <char *>c_memchr(first, 13, <size_t>size)
            if other != NULL and other != end - 1:
                return None
            if not self.translates:
                other = NULL
        if self.errors is not None:
            errors = PyBytes_AS_STRING(self.errors)
        if other != NULL:
            other[0] = 10
        try:
            line = decode_line(self.codec, first, size if other == NULL else size - 1, errors)
        finally:
            if other != NULL:
                other[0] = 13
        self.at += size
        self.given += PyUnicode_GET_LENGTH(line)
        return line

    cdef bint can_read(self, str name, tuple arguments) except -1:
        """Is what a read can need in the window?"""
        cdef object size = arguments[0] if arguments else -1
        cdef int64_t count
        if name == "readlines" or name == "readall":
            return self.reader.holds_all()
        if name == "readinto" or name == "readinto1":
            if type(size) is not bytearray and type(size) is not memoryview:
                return False
            size = memoryview(size).nbytes
        elif name == "peek":
            size = 1
        if name != "read1" and (size is None or (type(size) is int and size < 0)):
            return self.reader.holds_all()
        if type(size) is not int or not 0 <= size <= <int64_t>AIOFS_INLINE_MAX:
            return False
        count = size
        if not self.plain:
            return self.reader.holds_all()
        if self.text:
            count = count * MOST_OF_A_CHARACTER + MOST_BEFORE
        return self.reader.holds_bytes(count)

    cdef object unbuffered_now(self, str name, tuple arguments):
        """A read of a FileIO."""
        cdef int64_t got
        cdef object data
        if name != "read" or type(arguments[0]) is not int or not 0 < arguments[0] <= <int64_t>AIOFS_INLINE_MAX:
            return NOT_NOW
        if not self.reader.holds_bytes(arguments[0]):
            return NOT_NOW
        data = PyBytes_FromStringAndSize(NULL, min(<int64_t>arguments[0], self.reader.length))
        got = self.reader.read_now(PyBytes_AS_STRING(data), <size_t>len(data))
        return NOT_NOW if got == AIOFS_NOT_INLINE else data

    # ---- writes

    cdef object write_now(self, object data):
        cdef int64_t most
        if not self.writes or self.unflushed < 0:
            return NOT_NOW
        most = self.most_bytes(data)
        if most < 0 or self.unflushed + most > self.room:
            return NOT_NOW
        self.unflushed += most
        return self.write(data)

    cdef int64_t most_bytes(self, object data) noexcept:
        """The most bytes that the data can be in the buffers; -1: unknown."""
        if not self.text:
            if type(data) is bytes:
                return len(<bytes>data)
            return len(<bytearray>data) if type(data) is bytearray else -1
        if type(data) is not str:
            return -1
        if PyUnicode_IS_ASCII(data) and self.codec != OTHER_CODEC:
            return PyUnicode_GET_LENGTH(data) * (2 if self.expands else 1) + 4
        if self.errors is None or self.errors.decode() in SHORT_ERRORS:
            return PyUnicode_GET_LENGTH(data) * ENCODED * (2 if self.expands else 1) + MOST_BEFORE
        return -1


cdef object decode_line(int codec, const char *first, Py_ssize_t size, const char *errors):
    if codec == UTF8:
        return PyUnicode_DecodeUTF8(first, size, errors)
    if codec == ASCII:
        return PyUnicode_DecodeASCII(first, size, errors)
    return PyUnicode_DecodeLatin1(first, size, errors)


cdef object ascii_line(const char *first, Py_ssize_t size):
    cdef object line = PyUnicode_New(size, 127)
    c_memcpy(PyUnicode_DATA(line), first, <size_t>size)
    return line


cdef bint is_ascii(const char *first, Py_ssize_t size) noexcept nogil:
    cdef uint64_t word = 0, seen = 0
    cdef Py_ssize_t at = 0
    while at + 8 <= size:
        c_memcpy(&word, first + at, 8)
        seen |= word
        at += 8
    while at < size:
        seen |= <unsigned char>first[at]
        at += 1
    return seen & 0x8080808080808080ULL == 0


cdef object next_line(object self):
    """am_anext: the awaitable of the next line. One that has ended, and that nobody else has, is used again."""
    cdef BufferedFile file = <BufferedFile>self
    cdef FileCall call = file.next_call
    if call is None or call.file is not None or Py_REFCNT(call) != 2:
        file.next_call = call = FileCall.__new__(FileCall)
        call.kind = CALL_NEXT
    call.file = file
    call.slow = None
    return call


def _set_anext(kind):
    """Makes `async for` over files of a derived class call __anext__ without a lookup, unless the class has its own."""
    if kind.__anext__ is BufferedFile.__anext__:
        type_set_anext(<PyTypeObject *>kind, next_line)
    return kind
