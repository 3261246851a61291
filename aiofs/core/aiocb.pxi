# The control block of <aio.h>, its sigevent, and the await of one.
#
# A control block has one of three states:
#   NEVER       it was never submitted;
#   SUBMITTED   it has a submission, which is in flight, or is terminal and `refresh` has not seen that yet;
#   ENDED       `outcome` is the result, and it has no submission.
# A request that completes inside the call makes the state ENDED, without a submission.
#
# Ownership. A control block owns one reference to its submission. The submission holds the control block until it is
# delivered. An await holds its own reference to the submission.
#
# Locking. The GIL guards the fields.
#
# If the first line of a class's docstring is followed by "--", it is the signature: inspect.signature reads it, and
# __doc__ omits it.

from errno import errorcode as _errorcode
import fcntl as _fcntl

cdef extern from "<fcntl.h>" nogil:
    int O_SYNC, O_DSYNC

LIO_READ = _LIO_READ
LIO_WRITE = _LIO_WRITE
LIO_NOP = _LIO_NOP
LIO_WAIT = _LIO_WAIT
LIO_NOWAIT = _LIO_NOWAIT
SIGEV_NONE = C_SIGEV_NONE
SIGEV_SIGNAL = C_SIGEV_SIGNAL
SIGEV_THREAD = C_SIGEV_THREAD
SIGEV_LOOP = C_SIGEV_LOOP
AIO_CANCELED = AIOFS_CANCEL_CANCELED
AIO_NOTCANCELED = AIOFS_CANCEL_NOTCANCELED
AIO_ALLDONE = AIOFS_CANCEL_ALLDONE


cdef class sigevent:
    """sigevent(sigev_notify=SIGEV_NONE, sigev_signo=0, sigev_value=None, sigev_notify_function=None)
--

    How the completion of a request is notified: struct sigevent of <signal.h>. Every field can be set.

    sigev_notify            SIGEV_NONE (the default): no notification.
                            SIGEV_SIGNAL: a signal is queued to the process.
                            SIGEV_THREAD: the function runs in a new thread. Its exceptions go to
                            sys.unraisablehook.
                            SIGEV_LOOP: the function runs as a callback on the event loop that was
                            running at the submission, in a copy of the contextvars context of the
                            submission, never inside the call. Its exceptions go to the loop's exception
                            handler. If the loop is closed before, the function is not called.
                            Any other value is ignored.
    sigev_signo             the number of the signal, for SIGEV_SIGNAL; 0 sends nothing
    sigev_value             the argument of the function; for SIGEV_SIGNAL an int, None means 0
    sigev_notify_function   called as function(sigev_value), for SIGEV_THREAD and SIGEV_LOOP

    Each accepted request is notified once, after its status is final, also if it failed or was
    cancelled. A call that raises notifies nothing. The submission reads the fields. It raises TypeError,
    ValueError or OverflowError for an invalid field, OSError EINVAL for a sigev_signo that is no signal
    number, and RuntimeError for SIGEV_LOOP without a running loop.

    Source: POSIX.1-2017, Base Definitions, <signal.h>; System Interfaces, 2.4.1.
    """

    def __init__(self, sigev_notify=SIGEV_NONE, sigev_signo=0, sigev_value=None, sigev_notify_function=None):
        self.sigev_notify = sigev_notify
        self.sigev_signo = sigev_signo
        self.sigev_value = sigev_value
        self.sigev_notify_function = sigev_notify_function

    def __repr__(self):
        return (f"sigevent(sigev_notify={self.sigev_notify!r}, sigev_signo={self.sigev_signo!r}, "
                f"sigev_value={self.sigev_value!r}, sigev_notify_function={self.sigev_notify_function!r})")


@cython.final
cdef class aiocb:
    """aiocb(aio_fildes=-1, aio_buf=None, aio_nbytes=None, aio_offset=0, aio_reqprio=0, aio_sigevent=None, aio_lio_opcode=LIO_NOP)
--

    An asynchronous I/O control block: struct aiocb of <aio.h>. Every field can be set.

    aio_fildes      an int, or an object with fileno(): an access handle, a file
    aio_buf         any C-contiguous object with the buffer protocol, writable for a read. It is pinned
                    until the request is terminal and this was seen by aio_error, aio_return, an await,
                    or the delivery of its completion. A cancelled await does not unpin it.
    aio_nbytes      bytes to move, at most the size of the buffer; None: the size of the buffer
    aio_offset      position in the file, in bytes from its start; ignored for streams and appends
    aio_reqprio     0 to AIO_PRIO_DELTA_MAX (20). Among the waiting requests of a descriptor, one with a
                    higher value runs later. Ignored by writes to streams and by appends.
    aio_sigevent    a sigevent; by default SIGEV_NONE
    aio_lio_opcode  LIO_READ, LIO_WRITE or LIO_NOP, for lio_listio

    A field that is changed while the request is in flight takes effect at the next submission. The aiocb
    can be submitted again when its request is terminal; before that a submission raises OSError EINVAL.

    `await cb` returns or raises what aio_return would, and leaves the result for aio_return. If the
    request is terminal, the await does not suspend, unless this turn of the loop has spent its budget:
    then the loop turns once. Cancelling the await cancels the request, as aio_cancel does, but does not
    wait until it is terminal. OSError EINVAL if the aiocb was never submitted; RuntimeError if its
    request is in flight and no event loop runs.

    Source: POSIX.1-2017, Base Definitions, <aio.h>.
    """

    def __init__(self, aio_fildes=-1, aio_buf=None, aio_nbytes=None, aio_offset=0, aio_reqprio=0,
                 aio_sigevent=None, aio_lio_opcode=_LIO_NOP):
        self.aio_fildes = aio_fildes
        self.aio_buf = aio_buf
        self.aio_nbytes = aio_nbytes
        self.aio_offset = aio_offset
        self.aio_reqprio = aio_reqprio
        self.event = aio_sigevent
        self.aio_lio_opcode = aio_lio_opcode

    def __dealloc__(self):
        if self.submission != NULL:
            aiofs_request_release(&self.submission.request)

    @property
    def aio_sigevent(self):
        if self.event is None:
            self.event = sigevent()
        return self.event

    @aio_sigevent.setter
    def aio_sigevent(self, event):
        self.event = event

    def __repr__(self):
        return (f"aiocb(aio_fildes={self.aio_fildes!r}, aio_nbytes={self.aio_nbytes!r}, "
                f"aio_offset={self.aio_offset!r}, {self.describe()})")

    cdef str describe(self):
        if self.refresh() == SUBMITTED:
            return "in progress"
        if self.state == NEVER:
            return "not submitted"
        return f"result {self.outcome}" if self.outcome >= 0 else _errorcode.get(-self.outcome, str(-self.outcome))

    cdef inline int refresh(self) noexcept:
        """Returns the state. Takes the result of a terminal request, releases its submission and its buffers."""
        cdef aiofs_submission *submission = self.submission
        if self.state == SUBMITTED and aiofs_request_terminal(&submission.request):
            aiofs_request_retain(&submission.request)
            self.end(submission.request.result)
            unpin(submission)  # may run Python code, which may call this again
            aiofs_request_release(&submission.request)
        return self.state

    cdef inline void end(self, int64_t outcome) noexcept:
        if self.submission != NULL:
            aiofs_request_release(&self.submission.request)
            self.submission = NULL
        self.outcome = outcome
        self.returned = False
        self.state = ENDED

    cdef object error(self):
        """The exception of a failed request."""
        return request_error(self, self.outcome)

    def __reduce__(self):
        raise TypeError("an aiocb cannot be copied or pickled: a request has one; make another with aiocb(...)")

    def __await__(self):
        cdef Awaiting awaiting = Awaiting.__new__(Awaiting)
        if self.refresh() == NEVER:
            raise make_error(EINVAL, self.aio_fildes, "await", "this aiocb was never submitted")
        awaiting.cb = self
        if self.state == SUBMITTED:
            aiofs_request_retain(&self.submission.request)
            awaiting.submission = self.submission
        return awaiting


cdef str operation_name(int operation):
    return ("aio_read" if operation == AIOFS_READ else "aio_write" if operation == AIOFS_WRITE
            else "aio_fsync" if operation else "lio_listio")


cdef object request_error(aiocb cb, int64_t outcome):
    """The exception of a failed request (a negated errno). The fields of `cb` decide the reason in its text."""
    cdef str doing = operation_name(cb.operation)
    cdef str reason = None
    if outcome == -EBADF:
        if cb.operation == AIOFS_WRITE and is_read_only(cb.aio_fildes):
            return read_only_error(cb.aio_fildes, doing)
        reason = why_bad_descriptor(cb.aio_fildes, cb.operation)
    elif outcome == -EINVAL:
        reason = why_invalid(cb)
    elif outcome == -ECANCELED:
        reason = "cancelled"
    return make_error(-outcome, cb.aio_fildes, doing, reason)


cdef object read_only_error(object fildes, str doing):
    return errors.NoModificationAllowedError(EBADF, f"{doing}: {descriptor_word(fildes)} is open read-only", fildes)


cdef str descriptor_word(object fildes):
    return f"descriptor {fildes}" if isinstance(fildes, int) else f"the {type(fildes).__name__}"


cdef object flags_of(object fildes):
    """The flags of an open descriptor; None if it is closed."""
    try:
        number = fildes if isinstance(fildes, int) else fildes.fileno()
        return _fcntl.fcntl(number, _fcntl.F_GETFL)
    except Exception:
        return None


cdef bint is_read_only(object fildes):
    if type(fildes) is AccessHandle and not (<AccessHandle>fildes).closed:
        return not (<AccessHandle>fildes).writable
    if type(fildes) is SyncAccessHandle and (<SyncAccessHandle>fildes).file != NULL:
        return not (<SyncAccessHandle>fildes).writable
    flags = flags_of(fildes)
    return flags is not None and not flags & os.O_PATH and flags & os.O_ACCMODE == os.O_RDONLY


cdef str why_bad_descriptor(object fildes, int operation):
    """The reason for EBADF, from the state of the descriptor now."""
    cdef str word = descriptor_word(fildes)
    flags = flags_of(fildes)
    if flags is None:
        return f"{word} is not open"
    if flags & os.O_PATH:
        return f"{word} stands for a path only (O_PATH)"
    if operation == AIOFS_READ and flags & os.O_ACCMODE == os.O_WRONLY:
        return f"{word} is open write-only"
    return f"{word} was closed, or open another way, when the request came"


cdef str why_invalid(aiocb cb):
    """The reason for EINVAL, from the fields now; None: unknown."""
    cdef str reason
    if cb.operation == 0:
        return f"aio_lio_opcode {cb.aio_lio_opcode!r} is none of LIO_READ, LIO_WRITE and LIO_NOP"
    if cb.operation == AIOFS_FSYNC or cb.operation == AIOFS_FDATASYNC:
        return f"{descriptor_word(cb.aio_fildes)} cannot be synced"
    reason = why_not_accepted(cb, -EINVAL)
    if reason is not None:
        return reason
    if not isinstance(cb.aio_offset, int):
        return None
    if cb.aio_offset < 0:
        return f"aio_offset {cb.aio_offset} is negative"
    try:
        size = memoryview(cb.aio_buf).nbytes if cb.aio_nbytes is None else int(cb.aio_nbytes)
    except Exception:
        size = 0
    if cb.aio_offset + size > INT64_MAX:
        return f"aio_offset {cb.aio_offset} and {size} bytes reach beyond 2**63 - 1"
    if (flags_of(cb.aio_fildes) or 0) & os.O_DIRECT:
        return (f"O_DIRECT wants offset, size and address in multiples of the device's block: "
                f"aio_offset {cb.aio_offset}, {size} bytes (see aligned_buffer)")
    return None


cdef str why_not_accepted(aiocb cb, int64_t error):
    """The reason for -EINVAL or -EAGAIN of a request that the engine did not accept; None: unknown."""
    cdef int started
    cdef bint has_reqprio = cb.operation == AIOFS_READ or cb.operation == AIOFS_WRITE
    if (error == -EINVAL and has_reqprio and isinstance(cb.aio_reqprio, int)
            and not 0 <= cb.aio_reqprio <= AIOFS_PRIO_DELTA_MAX):
        return f"aio_reqprio {cb.aio_reqprio} is not from 0 to {AIOFS_PRIO_DELTA_MAX} (AIO_PRIO_DELTA_MAX)"
    if error == -EINVAL or error == -EAGAIN:
        started = aiofs_engine_start()
        if started < 0:
            return engine_reason(started)
    return None


@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class Awaiting:
    """One `await` of an aiocb."""

    def __dealloc__(self):
        if self.submission != NULL:
            aiofs_request_release(&self.submission.request)

    cdef inline bint may_return(self) except -1:
        """The request is terminal, and the loop need not turn first."""
        return self.has_ended() and (self.waited or not turn_is_spent())

    cdef inline bint has_ended(self) noexcept:
        return self.submission == NULL or aiofs_request_terminal(&self.submission.request)

    cdef object wait(self):
        """The object to yield: a future that is done when the request is terminal, or None to let the loop turn."""
        self.waited = True
        return None if self.has_ended() else await_end(self.submission, "awaiting an aiocb")

    cdef object result(self):
        cdef int64_t outcome
        if self.submission == NULL:
            outcome = self.cb.outcome
        else:
            unpin(self.submission)
            outcome = self.submission.request.result
        if outcome < 0:
            raise request_error(self.cb, outcome)
        return outcome

    def __iter__(self):
        return self

    def __await__(self):
        return self

    def __next__(self):
        return next_by_send(self)

    def send(self, value):
        return next_by_send(self)

    def throw(self, kind, value=None, traceback=None):
        if self.submission != NULL:
            aiofs_cancel_soon(&self.submission.request)
        if value is None:
            value = kind() if isinstance(kind, type) else kind
        if traceback is not None:
            value = value.with_traceback(traceback)
        raise value

    def close(self):
        pass


cdef int awaiting_send(object self, object value, PyObject **out) except -1:
    """am_send: returns the count of a terminal request without a StopIteration."""
    cdef object result
    cdef int outcome = PYGEN_NEXT
    if (<Awaiting>self).may_return():
        result = (<Awaiting>self).result()
        outcome = PYGEN_RETURN
    else:
        result = (<Awaiting>self).wait()
    Py_INCREF(result)
    out[0] = <PyObject *>result
    return outcome


type_set_send(<PyTypeObject *>Awaiting, awaiting_send)
