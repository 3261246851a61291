# The control block of <aio.h>, its sigevent, and the await of one.
#
# A control block is NEVER submitted, FLYING (its flight is with the engine, or has ended and nobody
# has looked yet), or ENDED (`outcome` is the result; the flight is gone). A request that ends inside the
# call goes from NEVER or ENDED to ENDED and makes no flight at all.

from errno import errorcode as _errorcode

cdef enum:
    NEVER, FLYING, ENDED

cdef enum:
    _LIO_READ = 0, _LIO_WRITE = 1, _LIO_NOP = 2
    _LIO_WAIT = 0, _LIO_NOWAIT = 1

cdef extern from "<fcntl.h>" nogil:
    int O_SYNC, O_DSYNC

cdef extern from "Python.h":
    bint PyLong_CheckExact(object)
    long long PyLong_AsLongLong(object) except? -1
    long PyLong_AsLongAndOverflow(object, int *overflow) except? -1


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
    """How a request's end is told: struct sigevent of <signal.h>. Every field can be set.

    sigev_notify            SIGEV_NONE (the default): not at all.
                            SIGEV_SIGNAL: a signal is queued to the process.
                            SIGEV_THREAD: the function runs on a thread of its own; what it raises goes
                            to sys.unraisablehook.
                            SIGEV_LOOP: the function runs as a callback on the event loop that was
                            running at the submission, in the submission's context, never inside the
                            call; what it raises goes to the loop's exception handler. It is not called
                            if the loop is closed before. Any other kind is ignored.
    sigev_signo             the signal's number (SIGEV_SIGNAL); 0 sends nothing
    sigev_value             handed to the function; for SIGEV_SIGNAL an int, None is 0
    sigev_notify_function   function(sigev_value), for SIGEV_THREAD and SIGEV_LOOP

    Each accepted request is told once, also one that failed or was cancelled, and after its status is
    final; nothing is told of a call that raised. The fields are looked at by the submission, which
    raises TypeError, ValueError or OverflowError for one that cannot be right, OSError EINVAL for a
    sigev_signo that is no signal, and RuntimeError for SIGEV_LOOP with no running loop.

    Source: POSIX.1-2017, Base Definitions, <signal.h>; System Interfaces, 2.4.1.
    """
    cdef public object sigev_notify, sigev_signo, sigev_value, sigev_notify_function

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
    """An asynchronous I/O control block: struct aiocb of <aio.h>. Every field can be set.

    aio_fildes      an int, or an object with fileno(): an access handle, a file
    aio_buf         any C-contiguous object with the buffer protocol, writable for a read; pinned until
                    the request is terminal and somebody has looked (aio_error, an await, its
                    notification, its list's), whatever becomes of a task that awaits it
    aio_nbytes      bytes to move, at most the size of the buffer; None: that size
    aio_offset      where in the file, in bytes from its start; ignored by streams and appends
    aio_reqprio     0 to AIO_PRIO_DELTA_MAX (20); a higher one runs later among the waiting requests of
                    its descriptor; ignored by writes to streams and by appends
    aio_sigevent    a sigevent, SIGEV_NONE by default
    aio_lio_opcode  LIO_READ, LIO_WRITE or LIO_NOP, for lio_listio

    Fields changed while the request is in flight count from the next submission; it may be submitted
    again as soon as the request is terminal, before that it is EINVAL.

    `await cb` gives what aio_return would, without using it up, and raises what it would raise; a
    finished request does not suspend. Cancelling the await cancels the request, as aio_cancel does, but
    does not wait for it to end. OSError EINVAL for one that was never submitted; RuntimeError for one in
    flight where no event loop runs.

    Source: POSIX.1-2017, Base Definitions, <aio.h>.
    """
    cdef public object aio_fildes, aio_buf, aio_nbytes, aio_offset, aio_reqprio, aio_lio_opcode
    cdef object event          # aio_sigevent; None: nobody has looked at it yet
    cdef aiofs_flight *flight  # FLYING: a reference
    cdef int64_t outcome       # ENDED: the count, or a negated errno
    cdef int state, operation
    cdef int64_t in_list       # the number of the last list that it stood in
    cdef bint returned
    cdef bint late             # its await lets the loop turn, see delivery.pxi
    cdef object __weakref__

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
        if self.flight != NULL:
            aiofs_request_release(&self.flight.request)

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
        if self.settle() == FLYING:
            return "in progress"
        if self.state == NEVER:
            return "not submitted"
        return f"result {self.outcome}" if self.outcome >= 0 else _errorcode.get(-self.outcome, str(-self.outcome))

    cdef inline int settle(self) noexcept:
        """The state now: a flight that has ended is let go, and its buffers with it."""
        cdef aiofs_flight *flight = self.flight
        self.late = False
        if self.state == FLYING and aiofs_request_terminal(&flight.request):
            aiofs_request_retain(&flight.request)
            self.end(flight.request.result)
            unpin(flight)  # which may run anything, this again, too
            aiofs_request_release(&flight.request)
        return self.state

    cdef inline void end(self, int64_t outcome) noexcept:
        if self.flight != NULL:
            aiofs_request_release(&self.flight.request)
            self.flight = NULL
        self.outcome = outcome
        self.returned = False
        self.state = ENDED

    cdef object error(self):
        """The exception of a failed request."""
        return make_error(-self.outcome, self.aio_fildes, operation_name(self.operation))

    def __await__(self):
        cdef Awaiting awaiting = Awaiting.__new__(Awaiting)
        awaiting.late = self.late
        if self.settle() == NEVER:
            raise make_error(EINVAL, self.aio_fildes, "awaiting an aiocb that was never submitted")
        awaiting.cb = self
        if self.state == FLYING:
            aiofs_request_retain(&self.flight.request)
            awaiting.flight = self.flight
        return awaiting


cdef str operation_name(int operation):
    return ("aio_read" if operation == AIOFS_READ else "aio_write" if operation == AIOFS_WRITE
            else "aio_fsync" if operation else "lio_listio")


@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class Awaiting:
    """One `await` of an aiocb."""
    cdef aiocb cb
    cdef aiofs_flight *flight  # of a request in flight; a reference
    cdef bint late

    def __dealloc__(self):
        if self.flight != NULL:
            aiofs_request_release(&self.flight.request)

    cdef inline bint may_return(self) noexcept:
        """The request is terminal, and the loop need not turn first."""
        if self.late:
            self.late = False
            return False
        return self.flight == NULL or aiofs_request_terminal(&self.flight.request)

    cdef object wait(self):
        """What to yield: the future to wait for, or None to let the loop turn."""
        cdef Delivery delivery
        if self.flight == NULL:
            return None
        delivery = current_delivery()
        if delivery is None:
            raise RuntimeError("an aiocb can be awaited only while an event loop runs")
        future = delivery.loop.create_future()
        delivery.await_on(self.flight, future)
        future._asyncio_future_blocking = True
        return future

    cdef object result(self):
        cdef int64_t outcome
        if self.flight == NULL:
            outcome = self.cb.outcome
        else:
            unpin(self.flight)
            outcome = self.flight.request.result
        if outcome < 0:
            raise make_error(-outcome, self.cb.aio_fildes, operation_name(self.cb.operation))
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
        if self.flight != NULL:
            aiofs_cancel_soon(&self.flight.request)
        if value is None:
            value = kind() if isinstance(kind, type) else kind
        if traceback is not None:
            value = value.with_traceback(traceback)
        raise value

    def close(self):
        pass


cdef int awaiting_send(object self, object value, PyObject **out) except -1:
    """am_send: the count of a finished request without an exception."""
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
