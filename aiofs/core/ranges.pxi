# Many ranges of a file, read in one await.
#
# What the kernel has in memory is read inside the call, into new bytes that nobody zeroed or into the program's buffer.
# The rest is submitted in batches, as lists of aiocbs; at most MOST requests are in flight. When the turn's budget is
# spent, the loop turns.
#
# Ownership. A request pins its buffer, also the new bytes (_FreshBytes), until it is terminal.
#
# Locking. The GIL guards the fields.

cdef enum:
    MOST = 64  # requests in flight


@cython.final
cdef class _FreshBytes:
    """Gives a request the memory of new bytes, which no program has seen yet."""
    cdef bytes data

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, PyBytes_AS_STRING(self.data), len(self.data), 0, flags)


@cython.final
cdef class RangeReads:
    """RangeReads(file, ranges, buffers)
--

    The reads of one call of read_ranges.

    ranges: a list of pairs (offset, size), ints that are not negative. buffers: a sequence, or None for new bytes.
    """
    cdef object file, buffers
    cdef list ranges
    cdef list waiting  # (index, aiocb, bytes or None) of the requests in flight
    cdef readonly list results
    cdef Py_ssize_t next  # the first range that is neither read nor submitted

    def __init__(self, file, list ranges, buffers):
        self.file = file
        self.ranges = ranges
        self.buffers = buffers
        self.waiting = []
        self.results = [None] * len(ranges)

    def proceed(self):
        """Reads and submits. Returns what to await before the next call: an aiocb, or True: let the loop turn.

        None: `results` has the bytes, or counts, of all ranges. OSError of the first read that is found to have failed.
        """
        cdef LoopNotifier notifier = current_notifier()
        cdef plan what
        cdef bint spent = False
        self.collect()
        what.operation = AIOFS_READ
        what.reqprio = 0
        what.has_view = False
        what.file = NULL
        if self.next < len(self.ranges):
            find_target(&what, self.file)
        try:
            spent = self.start(&what, notifier)
        finally:
            release_plan(&what)
        if self.waiting:
            return (<tuple>self.waiting[0])[1]
        return True if spent else None

    def cancel(self):
        """Cancels what is in flight."""
        cdef aiocb cb
        for _, cb, _ in self.waiting:
            if cb.refresh() == SUBMITTED:
                aiofs_cancel_soon(&cb.submission.request)

    cdef int collect(self) except -1:
        """Takes the results of the requests that are terminal."""
        cdef list waiting = self.waiting
        cdef aiocb cb
        cdef bytes data
        self.waiting = []
        for entry in waiting:
            index, cb, data = <tuple>entry
            if cb.refresh() == SUBMITTED:
                self.waiting.append(entry)
        for entry in waiting:
            index, cb, data = <tuple>entry
            if cb.state == ENDED and cb.outcome < 0:
                raise request_error(cb, cb.outcome)
            if cb.state == ENDED:
                self.put(index, data, cb.outcome)
        return 0

    cdef int put(self, Py_ssize_t index, bytes data, int64_t count) except -1:
        if data is None:
            self.results[index] = count
        else:
            self.results[index] = data if count == len(data) else data[:count]
        return 0

    cdef bint start(self, plan *what, LoopNotifier notifier) except -1:
        """Reads and submits ranges. True: the turn's budget is spent."""
        cdef list blocks = []
        cdef Py_ssize_t first = self.next, count = len(self.ranges)
        cdef bint spent = False
        while self.next < count and len(self.waiting) < MOST:
            if notifier is not None and notifier.counting and notifier.is_spent():
                spent = True
                if self.waiting or self.next > first:
                    break
            self.read(what, notifier, spent, blocks)
            self.next += 1
        if blocks:
            lio_listio(_LIO_NOWAIT, blocks)
        return spent

    cdef int read(self, plan *what, LoopNotifier notifier, bint spent, list blocks) except -1:
        """Reads a range inside the call, or adds its aiocb to `blocks`."""
        cdef Py_ssize_t index = self.next
        cdef int64_t offset, moved = AIOFS_NOT_INLINE
        cdef Py_ssize_t size
        cdef bytes data = None
        cdef object target = None
        cdef aiocb cb
        cdef aiofs_ask ask
        pair = <tuple>self.ranges[index]
        offset = offset_of(pair[0])
        size = pair[1]
        if self.buffers is None:
            data = PyBytes_FromStringAndSize(NULL, size)
        else:
            target = self.buffers[index]
            take_buffer(target, &what.view, PyBUF_WRITABLE)
            what.has_view = True
            if what.view.len < size:
                raise ValueError(f"the range ({offset}, {size}) does not fit in its buffer of {what.view.len} bytes")
        if not spent and size > 0:
            what.offset = offset
            what.nbytes = <size_t>size
            ask = ask_of(what)
            if data is not None:
                ask.bytes.iov_base = PyBytes_AS_STRING(data)
                ask.mapped = True
            moved = try_inline(&ask, notifier, NULL)
        drop_view(what)
        if moved >= 0:
            return self.put(index, data, moved)
        if data is not None:
            target = _FreshBytes.__new__(_FreshBytes)
            (<_FreshBytes>target).data = data
        cb = aiocb(self.file, target, size, offset)
        cb.aio_lio_opcode = _LIO_READ
        blocks.append(cb)
        self.waiting.append((index, cb, data))
        return 0
