# <aio.h>: the control block and the eight functions, under their own names.
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
    int O_SYNC, O_DSYNC, F_GETFD
    int fcntl(int fd, int command, ...)

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

    sigev_notify            SIGEV_NONE, SIGEV_SIGNAL, SIGEV_THREAD, or SIGEV_LOOP: the function runs as
                            a callback on the event loop that was running at the submission
    sigev_signo             the signal's number (SIGEV_SIGNAL); 0 sends nothing
    sigev_value             handed to the function; an int for SIGEV_SIGNAL
    sigev_notify_function   function(sigev_value), for SIGEV_THREAD and SIGEV_LOOP

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
                    the request is terminal, whatever becomes of a task that awaits it
    aio_nbytes      bytes to move; None: the size of the buffer
    aio_offset      where in the file, in bytes from its start; ignored by streams and appends
    aio_reqprio     0 to AIO_PRIO_DELTA_MAX; a higher one runs later among waiting requests
    aio_sigevent    a sigevent, or None
    aio_lio_opcode  LIO_READ, LIO_WRITE or LIO_NOP, for lio_listio

    Fields changed while the request is in flight count from the next submission; it may be submitted
    again as soon as the request is terminal.

    `await cb` gives what aio_return would, without using it up, and raises what it would raise; a
    finished request does not suspend. Cancelling the await cancels the request.

    Source: POSIX.1-2017, Base Definitions, <aio.h>.
    """
    cdef public object aio_fildes, aio_buf, aio_nbytes, aio_offset, aio_reqprio, aio_sigevent, aio_lio_opcode
    cdef aiofs_flight *flight  # FLYING: a reference
    cdef int64_t outcome       # ENDED: the count, or a negated errno
    cdef int state, operation
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
        self.aio_sigevent = aio_sigevent
        self.aio_lio_opcode = aio_lio_opcode

    def __dealloc__(self):
        if self.flight != NULL:
            aiofs_request_release(&self.flight.request)

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
        self.late = False
        if self.state == FLYING and aiofs_request_terminal(&self.flight.request):
            unpin(self.flight)
            self.end(self.flight.request.result)
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
    return ("aio_read" if operation == AIOFS_READ else "aio_write" if operation == AIOFS_WRITE else "aio_fsync")


@cython.final
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
        if not self.may_return():
            return self.wait()
        PyErr_SetObject(StopIteration, self.result())

    def send(self, value):
        return self.__next__()

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


# ---- what a control block asks for ---------------------------------------------------------------------

cdef struct plan:
    int operation
    int fd
    aiofs_file *file  # a reference, or NULL
    int64_t offset
    size_t nbytes
    int reqprio
    int notify
    Py_buffer view
    bint has_view


cdef int find_target(plan *what, object fildes) except -1:
    """The descriptor, and the open file behind it if aiofs opened it."""
    cdef int overflow = 0
    cdef long number
    if type(fildes) is SyncAccessHandle or type(fildes) is AccessHandle:
        what.file = ((<SyncAccessHandle>fildes).file if type(fildes) is SyncAccessHandle
                     else (<AccessHandle>fildes).file)
        what.fd = -1  # closed: the request's error
        if what.file != NULL:
            what.fd = aiofs_file_fd(what.file)
            aiofs_file_retain(what.file)
        return 0
    if not isinstance(fildes, int):
        fileno = getattr(fildes, "fileno", None)
        if fileno is None:
            raise TypeError(f"aio_fildes must be an int or have fileno(), not {type(fildes).__name__}")
        fildes = fileno()
    number = PyLong_AsLongAndOverflow(fildes, &overflow)
    what.fd = <int>number if not overflow and number == <int>number else -1
    what.file = aiofs_file_find(what.fd)
    return 0


cdef int draw_up(plan *what, aiocb cb, int operation) except -1:
    """Reads the fields; what Python can see is wrong raises here, and nothing has happened."""
    cdef Py_ssize_t size
    what.operation = operation
    what.file = NULL
    what.has_view = False
    what.nbytes = 0
    what.offset = 0
    what.notify = C_SIGEV_NONE
    if cb.settle() == FLYING:
        raise make_error(EINVAL, cb.aio_fildes, operation_name(operation) + ": this aiocb is in flight")
    if cb.aio_sigevent is not None:
        if not isinstance(cb.aio_sigevent, sigevent):
            raise TypeError(f"aio_sigevent must be a sigevent, not {type(cb.aio_sigevent).__name__}")
        what.notify = (<sigevent>cb.aio_sigevent).sigev_notify
        check_notify(<sigevent>cb.aio_sigevent, what.notify)
    if operation == AIOFS_READ or operation == AIOFS_WRITE:
        what.reqprio = small_int(cb.aio_reqprio, "aio_reqprio")
        what.offset = offset_of(cb.aio_offset)
        if cb.aio_buf is None and cb.aio_nbytes == 0:
            size = 0
        else:
            PyObject_GetBuffer(cb.aio_buf, &what.view, PyBUF_WRITABLE if operation == AIOFS_READ else PyBUF_SIMPLE)
            what.has_view = True
            size = what.view.len
        if cb.aio_nbytes is None:
            what.nbytes = <size_t>size
        else:
            nbytes = cb.aio_nbytes
            if not isinstance(nbytes, int):
                rub_out(what)
                raise TypeError(f"aio_nbytes must be an int or None, not {type(nbytes).__name__}")
            if not 0 <= nbytes <= size:
                rub_out(what)
                raise ValueError(f"aio_nbytes is {nbytes}, the buffer has {size} bytes")
            what.nbytes = nbytes
    else:
        what.reqprio = 0
    try:
        find_target(what, cb.aio_fildes)
    except BaseException:
        rub_out(what)
        raise
    return 0


cdef void rub_out(plan *what) noexcept:
    if what.has_view:
        PyBuffer_Release(&what.view)
        what.has_view = False
    if what.file != NULL:
        aiofs_file_release(what.file)
        what.file = NULL


cdef int small_int(object value, str name) except? -1:
    cdef int overflow = 0
    cdef long number
    if not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    number = PyLong_AsLongAndOverflow(value, &overflow)
    return <int>number if not overflow and number == <int>number else -1


cdef int64_t offset_of(object value) except? -1:
    if not isinstance(value, int):
        raise TypeError(f"aio_offset must be an int, not {type(value).__name__}")
    try:
        return PyLong_AsLongLong(value)
    except OverflowError:
        raise ValueError(f"aio_offset {value} is beyond 2**63 - 1") from None


cdef int check_notify(sigevent event, int notify) except -1:
    """What has to be right before the request is accepted."""
    if notify == C_SIGEV_LOOP or notify == C_SIGEV_THREAD:
        if not callable(event.sigev_notify_function):
            raise TypeError("sigev_notify_function must be callable for SIGEV_THREAD and SIGEV_LOOP, not "
                            f"{type(event.sigev_notify_function).__name__}")
    if notify == C_SIGEV_LOOP and _get_running_loop() is None:
        raise RuntimeError("SIGEV_LOOP needs a running event loop")
    if notify == C_SIGEV_SIGNAL:
        if not isinstance(event.sigev_signo, int):
            raise TypeError(f"sigev_signo must be an int, not {type(event.sigev_signo).__name__}")
        if not 0 <= event.sigev_signo < signal.NSIG:
            raise ValueError(f"sigev_signo {event.sigev_signo} is not a signal")
        if event.sigev_value is not None and not isinstance(event.sigev_value, int):
            raise TypeError(f"sigev_value must be an int for SIGEV_SIGNAL, not {type(event.sigev_value).__name__}")
        signal_value(event.sigev_value)
    return 0


cdef int64_t signal_value(object value) except? -1:
    return 0 if value is None else PyLong_AsLongLong(value)


cdef int write_notice(aiofs_notice *notice, sigevent event) except -1:
    """The sigevent as it stands now, for the engine's threads."""
    cdef int notify = event.sigev_notify
    if notify == C_SIGEV_SIGNAL:
        notice_set_signal(notice, event.sigev_signo, signal_value(event.sigev_value))
    elif notify == C_SIGEV_THREAD or notify == C_SIGEV_LOOP:
        set_function(notice, notify, event.sigev_notify_function, event.sigev_value, copy_context())
    return 0


# ---- submitting ----------------------------------------------------------------------------------------

cdef int64_t try_inline(plan *what, aiocb cb, Delivery delivery) except? -1:
    """Moves the bytes inside the call if that cannot block and the turn affords it."""
    cdef iovec bytes
    cdef int64_t moved
    cdef int affords = 1
    if what.reqprio != 0 or what.nbytes == 0 or what.nbytes > AIOFS_INLINE_MAX:
        return AIOFS_NOT_INLINE
    if delivery is not None:
        affords = delivery.affords(what.nbytes)
        if not affords:
            return AIOFS_NOT_INLINE
    bytes.iov_base = what.view.buf
    bytes.iov_len = what.nbytes
    if what.operation == AIOFS_READ:
        moved = aiofs_read_inline(what.file, what.fd, &bytes, 1, what.nbytes, what.offset)
    else:
        with nogil:
            moved = aiofs_write_inline(what.file, what.fd, &bytes, 1, what.nbytes, what.offset)
    cb.late = affords == 2
    return moved


cdef int tell_inline(aiocb cb, Delivery delivery) except -1:
    """The notification of a request that ended inside the call."""
    cdef aiofs_flight *flight = make_flight()
    try:
        write_notice(&flight.notice, <sigevent>cb.aio_sigevent)
        if flight.notice.kind == C_SIGEV_LOOP:
            return delivery.soon(flight)
        notice_give(&flight.notice)
    except BaseException:
        discard(flight)
        raise
    discard(flight)
    return 0


cdef aiofs_flight *make_ready(plan *what, aiocb cb) except NULL:
    """A flight for the engine, buffers pinned, not yet submitted."""
    cdef aiofs_flight *flight = make_flight()
    flight.request.op = what.operation
    flight.request.fd = what.fd
    flight.request.reqprio = what.reqprio
    flight.request.offset = what.offset
    try:
        if what.has_view:
            pin_view(flight, &what.view)
            what.has_view = False
            flight.request.single.iov_len = what.nbytes
        if cb.aio_sigevent is not None:
            write_notice(&flight.notice, <sigevent>cb.aio_sigevent)
    except BaseException:
        discard(flight)
        raise
    return flight


cdef int submit(plan *what, aiocb cb, Delivery delivery, aiofs_group *group) except -1:
    """Carries out or submits what was drawn up. 0, or a positive errno that the call has to fail with."""
    cdef int64_t moved = AIOFS_NOT_INLINE
    cdef aiofs_flight *flight
    cdef int error
    cb.operation = what.operation
    if what.has_view and what.notify != C_SIGEV_THREAD:
        moved = try_inline(what, cb, delivery)
    if moved != AIOFS_NOT_INLINE:
        cb.end(moved)
        if what.notify != C_SIGEV_NONE:
            tell_inline(cb, delivery)
        return 0
    flight = make_ready(what, cb)
    if group != NULL:
        flight.group = group
        group_add(group)
    cb.state = FLYING
    cb.returned = False
    cb.flight = flight
    error = launch(flight, what.file, cb, delivery)
    if error < 0:
        if group != NULL:
            flight.group = NULL
            group_count_down(group)
        unpin(flight)
        drop_notice(&flight.notice)
        cb.end(error)
        return -error
    return 0


cdef int transfer(aiocb cb, int operation) except -1:
    cdef plan what
    cdef int error
    if cb is None:
        raise TypeError(f"{operation_name(operation)} takes an aiocb, not None")
    draw_up(&what, cb, operation)
    try:
        error = submit(&what, cb, current_delivery(), NULL)
    finally:
        rub_out(&what)
    if error:
        raise make_error(error, cb.aio_fildes, operation_name(operation))
    return 0


def aio_read(aiocb cb):
    """Queues a read of cb.aio_nbytes bytes at cb.aio_offset into cb.aio_buf; returns 0.

    The request ends with the count of bytes read: less than asked at the end of the file, 0 at or past
    it. What is wrong with the descriptor, the offset or the memory is the request's error, not the
    call's: EBADF, EINVAL, EISDIR, EFAULT (aio_error). At the call: OSError EINVAL for a reqprio out of
    range or an aiocb in flight, EAGAIN when a resource is exhausted; TypeError, ValueError, BufferError
    for fields that cannot be right.

    Source: POSIX.1-2017, aio_read.
    """
    transfer(cb, AIOFS_READ)
    return 0


def aio_write(aiocb cb):
    """Queues a write of cb.aio_nbytes bytes from cb.aio_buf at cb.aio_offset; returns 0.

    The request ends with the count of bytes written. With O_APPEND, and on streams, the offset is
    ignored and writes land in the order of the calls. Errors as for aio_read; of the request also EPIPE
    (no SIGPIPE), EFBIG (no SIGXFSZ), ENOSPC, EDQUOT (the volume's quota).

    Source: POSIX.1-2017, aio_write.
    """
    transfer(cb, AIOFS_WRITE)
    return 0


def aio_fsync(int op, aiocb cb):
    """Queues a sync of cb.aio_fildes, as fsync (op os.O_SYNC) or fdatasync (os.O_DSYNC); returns 0.

    It completes after every request queued on the descriptor before it. At the call: OSError EINVAL for
    another op, EBADF for a bad descriptor. Fields other than aio_fildes and aio_sigevent are ignored.

    Source: POSIX.1-2017, aio_fsync.
    """
    if op != O_SYNC and op != O_DSYNC:
        raise make_error(EINVAL, None if cb is None else cb.aio_fildes, f"aio_fsync: op {op}")
    transfer(cb, AIOFS_FSYNC if op == O_SYNC else AIOFS_FDATASYNC)
    return 0


# ---- the result -----------------------------------------------------------------------------------------

def aio_error(aiocb cb not None):
    """The state of a request: EINPROGRESS, 0, ECANCELED, or the errno of the failed operation.

    OSError EINVAL if it was never submitted. The answer stays after aio_return.

    Source: POSIX.1-2017, aio_error.
    """
    cdef int state = cb.settle()
    if state == ENDED:
        return 0 if cb.outcome >= 0 else -cb.outcome
    if state == FLYING:
        return EINPROGRESS
    raise make_error(EINVAL, cb.aio_fildes, "aio_error of an aiocb that was never submitted")


def aio_return(aiocb cb not None):
    """The result of a terminal request, once: bytes moved, 0 for a sync; or its OSError raised.

    OSError EINVAL when it was never submitted or its result has been returned before, EINPROGRESS
    before it is terminal.

    Source: POSIX.1-2017, aio_return.
    """
    cdef int state = cb.settle()
    if state == FLYING:
        raise make_error(EINPROGRESS, cb.aio_fildes, "aio_return of a request in progress")
    if state == NEVER or cb.returned:
        raise make_error(EINVAL, cb.aio_fildes, "aio_return: nothing to return")
    cb.returned = True
    if cb.outcome < 0:
        raise cb.error()
    return cb.outcome


cdef int read_timeout(object timeout, timespec *out) except -1:
    """Seconds to a timespec; negative ones are over already."""
    cdef double seconds = timeout
    if seconds != seconds:
        raise ValueError("the time-out is not a number")
    if seconds < 0:
        seconds = 0
    if seconds > 1e9:
        seconds = 1e9
    out.tv_sec = <time_t>seconds
    out.tv_nsec = <long>((seconds - <double>out.tv_sec) * 1e9)
    return 0


cdef list control_blocks(object items, str function):
    """The entries of a list of aiocbs; None among them is passed over."""
    cdef list found = []
    for item in items:
        if item is None:
            continue
        if type(item) is not aiocb:
            raise TypeError(f"{function} takes aiocb objects or None, not {type(item).__name__}")
        found.append(item)
    return found


def aio_suspend(list, timeout=None):
    """Waits until one of the requests is terminal; returns 0. Blocks the thread, not the interpreter.

    `list` holds aiocbs, or None to be passed over; with no request in it that was ever submitted it
    returns at once. `timeout` is in seconds, None waits. OSError EAGAIN when the time is up, EINTR when
    a signal handler ran.

    Source: POSIX.1-2017, aio_suspend.
    """
    cdef timespec limit
    cdef timespec *patience = NULL
    cdef aiofs_request **requests
    cdef aiocb cb
    cdef size_t count = 0, i
    cdef int error
    blocks = control_blocks(list, "aio_suspend")
    if timeout is not None:
        read_timeout(timeout, &limit)
        patience = &limit
    for cb in blocks:
        if cb.settle() == ENDED:
            return 0
    requests = <aiofs_request **>calloc(<size_t>len(blocks) + 1, sizeof(aiofs_request *))
    if requests == NULL:
        raise MemoryError
    for cb in blocks:
        if cb.state == FLYING:
            requests[count] = &cb.flight.request
            aiofs_request_retain(requests[count])
            count += 1
    with nogil:
        error = aiofs_wait(requests, count, patience)
        for i in range(count):
            aiofs_request_release(requests[i])
        free(requests)
    for cb in blocks:
        cb.settle()
    if error == -EINTR:
        PyErr_CheckSignals()
    if error < 0:
        raise make_error(-error, None, "aio_suspend")
    return 0


def _watch(items, future):
    """For aio.suspend: ends `future` when a request in the list does. True: there is nothing to wait for."""
    cdef Delivery delivery = current_delivery()
    cdef aiocb cb
    cdef bint live = False
    blocks = control_blocks(items, "suspend")
    for cb in blocks:
        if cb.settle() == ENDED:
            return True
        live = live or cb.state == FLYING
    for cb in blocks:
        if cb.state == FLYING:
            delivery.await_on(cb.flight, future)
    return not live


def _unwatch(items, future):
    """Undoes _watch for requests that are still in flight."""
    cdef aiocb cb
    for cb in control_blocks(items, "suspend"):
        if cb.state == FLYING and cb.flight.futures != NULL and future in <object>cb.flight.futures:
            (<object>cb.flight.futures).remove(future)


def aio_cancel(fildes, aiocb cb=None):
    """Cancels cb, or with None all requests outstanding on the descriptor.

    AIO_CANCELED: every one was, and is terminal with ECANCELED. AIO_NOTCANCELED: some were not, see
    aio_error. AIO_ALLDONE: none was outstanding. OSError EBADF for a closed descriptor, EINVAL when
    fildes is not cb's.

    Source: POSIX.1-2017, aio_cancel.
    """
    cdef plan what, whose
    cdef aiofs_flight *flight
    cdef int answer
    what.file = whose.file = NULL
    what.has_view = whose.has_view = False
    find_target(&what, fildes)
    rub_out(&what)
    if fcntl(what.fd, F_GETFD) < 0:
        raise make_error(EBADF, fildes, "aio_cancel")
    if cb is None:
        with nogil:
            answer = aiofs_cancel_all(what.fd)
        if answer < 0:
            raise make_error(-answer, fildes, "aio_cancel")
        return answer
    find_target(&whose, cb.aio_fildes)
    rub_out(&whose)
    if whose.fd != what.fd:
        raise make_error(EINVAL, fildes, f"aio_cancel: the aiocb is for descriptor {whose.fd}")
    if cb.settle() != FLYING:
        return AIO_ALLDONE
    flight = cb.flight
    aiofs_request_retain(&flight.request)
    with nogil:
        answer = aiofs_cancel(&flight.request)
        aiofs_request_release(&flight.request)
    cb.settle()
    return answer


# ---- lists ------------------------------------------------------------------------------------------------

cdef int opcode_of(aiocb cb) except -1:
    """The operation of a list's entry; 0 for one with a bad opcode."""
    cdef int opcode = small_int(cb.aio_lio_opcode, "aio_lio_opcode")
    return AIOFS_READ if opcode == _LIO_READ else AIOFS_WRITE if opcode == _LIO_WRITE else 0


cdef aiofs_group *start_group(object sig, Delivery delivery) except NULL:
    """What tells the end of a whole list; counts one for its being started."""
    cdef aiofs_flight *last_word = NULL
    cdef aiofs_group *group
    if sig is not None and (<sigevent>sig).sigev_notify != C_SIGEV_NONE:
        last_word = make_flight()
        try:
            write_notice(&last_word.notice, <sigevent>sig)
        except BaseException:
            discard(last_word)
            raise
        if delivery is not None:
            flight_address(last_word, delivery.box)
    group = group_new(1, last_word)
    if group == NULL:
        if last_word != NULL:
            flight_recall(last_word)
            discard(last_word)
        raise MemoryError
    return group


cdef int wait_for_all(object blocks) except -1:
    """Until every request of a list is terminal. EINTR leaves them running."""
    cdef aiofs_request *one
    cdef aiocb cb
    cdef int error
    for cb in blocks:
        while cb.settle() == FLYING:
            one = &cb.flight.request
            aiofs_request_retain(one)
            with nogil:
                error = aiofs_wait(&one, 1, NULL)
                aiofs_request_release(one)
            if error == -EINTR:
                PyErr_CheckSignals()
                raise make_error(EINTR, None, "lio_listio")
    return 0


def lio_listio(mode, list, sig=None):
    """Starts a list of requests by their aio_lio_opcode; returns 0.

    LIO_WAIT waits until all are terminal; OSError EIO if any failed (the others complete all the same),
    EINTR leaves them running. LIO_NOWAIT returns at once; `sig`, a sigevent, is told once, when all are
    terminal. None and LIO_NOP are passed over; a bad opcode ends its entry with EINVAL. Each entry's own
    sigevent is honoured. OSError EINVAL for another mode, with nothing started.

    Source: POSIX.1-2017, lio_listio.
    """
    cdef plan *plans
    cdef plan *what
    cdef Delivery delivery = current_delivery()
    cdef aiofs_group *group
    cdef aiocb cb
    cdef Py_ssize_t i, drawn = 0
    cdef int error, operation
    cdef bint failed = False
    if mode != _LIO_WAIT and mode != _LIO_NOWAIT:
        raise make_error(EINVAL, None, f"lio_listio: mode {mode!r}")
    if sig is not None and mode == _LIO_NOWAIT:
        if not isinstance(sig, sigevent):
            raise TypeError(f"sig must be a sigevent or None, not {type(sig).__name__}")
        check_notify(<sigevent>sig, (<sigevent>sig).sigev_notify)
    blocks = [cb for cb in control_blocks(list, "lio_listio") if (<aiocb>cb).aio_lio_opcode != _LIO_NOP]
    if len(set(map(id, blocks))) != len(blocks):
        raise make_error(EINVAL, None, "lio_listio: one aiocb twice in a list")
    plans = <plan *>calloc(<size_t>len(blocks) + 1, sizeof(plan))
    if plans == NULL:
        raise MemoryError
    try:
        for cb in blocks:
            operation = opcode_of(cb)
            draw_up(&plans[drawn], cb, operation if operation else AIOFS_FSYNC)
            plans[drawn].operation = operation
            drawn += 1
        group = start_group(sig if mode == _LIO_NOWAIT else None, delivery)
        try:
            for i in range(drawn):
                cb = blocks[i]
                what = &plans[i]
                error = submit(what, cb, delivery, group) if what.operation else refuse(cb, what, delivery)
                if error:
                    failed = True
        finally:
            group_count_down(group)
    finally:
        for i in range(drawn):
            rub_out(&plans[i])
        free(plans)
    if mode == _LIO_WAIT:
        wait_for_all(blocks)
        for cb in blocks:
            failed = failed or cb.outcome < 0
        if failed:
            raise make_error(EIO, None, "lio_listio: a request of the list failed")
    return 0


cdef int refuse(aiocb cb, plan *what, Delivery delivery) except -1:
    """Ends an entry with a bad opcode."""
    cb.operation = 0
    cb.end(-EINVAL)
    if what.notify != C_SIGEV_NONE:
        tell_inline(cb, delivery)
    return EINVAL
