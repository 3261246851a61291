# aio_read, aio_write, aio_fsync: what a control block asks for, prepared as a plan, and its submission.
#
# A plan is read from the fields first, and what Python can see is wrong raises there, with nothing done.
# Then the bytes are moved inside the call if that cannot block, or a submission goes to the engine. A plan owns the
# view of the buffer, which the submission takes over, and a reference to the open file. The GIL is released while
# the engine takes the request, and around a write inside the call; a cached read of a few pages keeps it.


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


cdef inline int view_memory(plan *what, aiocb cb) except -1:
    """What a read or write moves: the view of its buffer, and how many bytes of that."""
    cdef Py_ssize_t size = 0
    if cb.aio_buf is not None or cb.aio_nbytes != 0:
        take_buffer(cb.aio_buf, &what.view, PyBUF_WRITABLE if what.operation == AIOFS_READ else PyBUF_SIMPLE)
        what.has_view = True
        size = what.view.len
    if cb.aio_nbytes is None:
        what.nbytes = <size_t>size
        return 0
    nbytes = cb.aio_nbytes
    if not isinstance(nbytes, int):
        raise TypeError(f"aio_nbytes must be an int or None, not {type(nbytes).__name__}")
    if not 0 <= nbytes <= size:
        raise ValueError(f"aio_nbytes is {nbytes}, the buffer has {size} bytes")
    what.nbytes = nbytes
    return 0


cdef int check_in_flight(aiocb cb, int operation) except -1:
    if cb.refresh() == SUBMITTED:
        raise make_error(EINVAL, cb.aio_fildes, operation_name(operation), "this aiocb is in flight")
    return 0


cdef int prepare_plan(plan *what, aiocb cb, int operation) except -1:
    """Reads the fields; what Python can see is wrong raises here, and nothing has happened."""
    what.operation = operation
    what.file = NULL
    what.has_view = False
    what.nbytes = 0
    what.offset = 0
    what.reqprio = 0
    what.notify = C_SIGEV_NONE
    check_in_flight(cb, operation)
    if cb.event is not None:
        if not isinstance(cb.event, sigevent):
            raise TypeError(f"aio_sigevent must be a sigevent, not {type(cb.event).__name__}")
        what.notify = (<sigevent>cb.event).sigev_notify
        check_notify(<sigevent>cb.event, what.notify)
    try:
        if operation == AIOFS_READ or operation == AIOFS_WRITE:
            what.reqprio = small_int(cb.aio_reqprio, "aio_reqprio")
            what.offset = offset_of(cb.aio_offset)
            view_memory(what, cb)
        find_target(what, cb.aio_fildes)
        check_in_flight(cb, operation)  # a fileno() may do what it should not
    except BaseException:
        release_plan(what)
        raise
    return 0


cdef void drop_view(plan *what) noexcept:
    if what.has_view:
        what.has_view = False
        PyBuffer_Release(&what.view)


cdef void release_plan(plan *what) noexcept:
    drop_view(what)
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
    if notify == C_SIGEV_LOOP and current_notifier() is None:
        raise no_loop_error("SIGEV_LOOP")
    if notify == C_SIGEV_SIGNAL:
        if notice_check_signal(small_int(event.sigev_signo, "sigev_signo")) < 0:
            raise make_error(EINVAL, None, f"sigev_signo {event.sigev_signo} is no signal")
        if event.sigev_value is not None and not isinstance(event.sigev_value, int):
            raise TypeError(f"sigev_value must be an int for SIGEV_SIGNAL, not {type(event.sigev_value).__name__}")
        signal_value(event.sigev_value)
    return 0


cdef int64_t signal_value(object value) except? -1:
    return 0 if value is None else PyLong_AsLongLong(value)


cdef int write_notice(aiofs_submission *submission, sigevent event) except -1:
    """The sigevent as it stands now, for the engine's threads."""
    cdef int notify = event.sigev_notify, signo = 0
    cdef int64_t value = 0
    if notify == C_SIGEV_SIGNAL:
        signo = event.sigev_signo
        value = signal_value(event.sigev_value)
    elif notify == C_SIGEV_THREAD or notify == C_SIGEV_LOOP:
        set_callback(submission, event.sigev_notify_function, event.sigev_value, copy_context())
    if notice_prepare(submission, notify, signo, value) < 0:
        raise make_error(EAGAIN, None, "starting a thread for SIGEV_THREAD")
    return 0


# ---- submitting ----------------------------------------------------------------------------------------

cdef aiofs_ask ask_of(plan *what) noexcept:
    cdef aiofs_ask ask
    ask.op = what.operation
    ask.fd = what.fd
    ask.file = what.file
    ask.reqprio = what.reqprio
    ask.offset = what.offset
    ask.bytes.iov_base = what.view.buf if what.has_view else NULL
    ask.bytes.iov_len = what.nbytes
    return ask


cdef int64_t try_inline(aiofs_ask *ask, LoopNotifier notifier, aiofs_list_call *call) except? -1:
    """Moves the bytes inside the call if that cannot block and the turn affords it. `call`: the list's, or NULL."""
    cdef int64_t moved
    cdef int affords = 1
    if not aiofs_ask_is_quick(ask, call):
        return AIOFS_NOT_INLINE
    if notifier is not None:
        affords = notifier.affords(ask.bytes.iov_len)
        if affords == 0 or (affords == 2 and call != NULL):
            return AIOFS_NOT_INLINE
    if ask.op == AIOFS_READ:
        moved = aiofs_ask_inline(ask, call)
    else:
        with nogil:
            moved = aiofs_ask_inline(ask, call)
    if notifier is not None:
        notifier.tried(moved)
    return moved


cdef int end_inside(aiofs_submission *submission, aiocb cb, int64_t result, LoopNotifier notifier) except -1:
    """Ends a request with a notice inside the call. A function on the loop is called in a later turn."""
    cdef bint waits = submission.aio.ending.notice.kind == C_SIGEV_LOOP
    submission.unposted = not waits
    if waits:
        submission.no_wakeup = True
        before_submit(submission, cb, notifier)
    aiofs_aio_end(&submission.aio, result)
    cb.refresh()
    return notifier.schedule() if waits else 0


cdef aiofs_submission *make_ready(plan *what, aiocb cb) except NULL:
    """A submission for the engine, buffers pinned, not yet submitted."""
    cdef aiofs_submission *submission = new_submission()
    submission.request.op = what.operation
    submission.request.fd = what.fd
    submission.request.reqprio = what.reqprio
    submission.request.offset = what.offset
    try:
        if what.has_view:
            pin_view(submission, &what.view)
            what.has_view = False
            submission.request.single.iov_len = what.nbytes
        if cb.event is not None:
            write_notice(submission, <sigevent>cb.event)
    except BaseException:
        discard(submission)
        raise
    return submission


cdef void set_in_flight(aiocb cb, aiofs_submission *submission) noexcept:
    """It is in flight from here on."""
    cb.state = SUBMITTED
    cb.returned = False
    cb.submission = submission


cdef aiofs_submission *begin(plan *what, aiofs_ask *ask, int64_t error, aiocb cb, LoopNotifier notifier,
                             aiofs_list_call *call) except? NULL:
    """Carries the prepared plan out inside the call and gives NULL, or makes its submission.

    `error`: why it is not valid, or 0. `call`: the list's, or NULL.
    """
    cdef int64_t result = error
    cdef aiofs_submission *submission = NULL
    if what.notify != C_SIGEV_NONE:
        submission = make_ready(what, cb)
    try:
        if result == 0:
            result = try_inline(ask, notifier, call)
        if result == AIOFS_NOT_INLINE and submission == NULL:
            submission = make_ready(what, cb)
    except BaseException:
        if submission != NULL:
            discard(submission)
        raise
    if submission == NULL:
        cb.end(result)
    else:
        set_in_flight(cb, submission)
    if result == AIOFS_NOT_INLINE:
        return submission
    if call != NULL:
        aiofs_list_note(call, result)
    if submission != NULL:
        end_inside(submission, cb, result, notifier)
    return NULL


cdef void refused(aiofs_submission *submission, aiocb cb, int error) noexcept:
    """Ends a submission that the engine did not take, without a notice."""
    unpin(submission)
    drop_notice(submission)
    cb.end(error)


cdef int submit(plan *what, aiocb cb, LoopNotifier notifier) except -1:
    """Carries out or submits the prepared plan. Gives 0, or the positive errno that the call fails with."""
    cdef aiofs_ask ask = ask_of(what)
    cdef aiofs_submission *submission
    cdef int error = aiofs_ask_check(&ask, NULL)
    cb.operation = what.operation
    if error < 0:
        cb.end(error)
        return -error
    try:
        submission = begin(what, &ask, 0, cb, notifier, NULL)
    except BlockingIOError:  # no thread to be had for its notification
        cb.end(-EAGAIN)
        return EAGAIN
    if submission == NULL:
        return 0
    error = submit_request(submission, what.file, cb, notifier)
    if error < 0:
        refused(submission, cb, error)
    return -error


cdef int transfer(aiocb cb, int operation) except -1:
    cdef plan what
    cdef int error
    if cb is None:
        raise TypeError(f"{operation_name(operation)} takes an aiocb, not None")
    prepare_plan(&what, cb, operation)
    try:
        error = submit(&what, cb, current_notifier())
    finally:
        release_plan(&what)
    if error:
        raise call_error(cb, error)
    return 0


cdef object call_error(aiocb cb, int error):
    """The exception of a call that was refused."""
    if error == EBADF:
        return request_error(cb, -EBADF)
    return make_error(error, cb.aio_fildes, operation_name(cb.operation), why_not_accepted(cb, -error))


def aio_read(aiocb cb):
    """Queues a read of cb.aio_nbytes bytes at cb.aio_offset into cb.aio_buf; returns 0.

    The request ends with the count of bytes read: less than asked at the end of the file, 0 at or past
    it; of a stream what is there, as soon as there is something. Cached bytes may be read before the call
    returns. There is no order between it and other requests.

    What is wrong with the descriptor, the offset or the memory is the request's error (aio_error), not
    the call's: EBADF closed or not open for reading, EINVAL a negative offset or an end beyond 2**63 - 1,
    EISDIR, EFAULT, EAGAIN nothing to read with O_NONBLOCK, ECANCELED, EIO. At the call: OSError EINVAL
    for a reqprio out of range or an aiocb in flight, EAGAIN when a resource is exhausted; TypeError,
    ValueError, BufferError for fields that cannot be right; RuntimeError for SIGEV_LOOP with no running
    loop. Nothing was started then.

    Source: POSIX.1-2017, aio_read.
    """
    transfer(cb, AIOFS_READ)
    return ZERO


def aio_write(aiocb cb):
    """Queues a write of cb.aio_nbytes bytes from cb.aio_buf at cb.aio_offset; returns 0.

    The request ends with the count of bytes written, less than asked if the disk fills up on the way.
    Writing past the end leaves a hole of zeros. With O_APPEND, and on streams, the offset is ignored and
    writes land in the order of the calls; other writes have no order. What is written is durable after
    aio_fsync, not before.

    Errors as for aio_read, but EISDIR; of the request also EPIPE (no SIGPIPE), EFBIG beyond RLIMIT_FSIZE
    or what the filesystem can hold (no SIGXFSZ), ENOSPC, EDQUOT (the volume's quota: nothing was
    written).

    Source: POSIX.1-2017, aio_write.
    """
    transfer(cb, AIOFS_WRITE)
    return ZERO


def aio_fsync(op, cb):
    """Queues a sync of cb.aio_fildes, as fsync (op os.O_SYNC) or fdatasync (os.O_DSYNC); returns 0.

    It begins when every request queued on the descriptor before it has ended, and ends with 0. Fields
    other than aio_fildes and aio_sigevent are ignored. The name of a new file is not made durable: flush
    of an access handle does that, or a sync of the directory.

    At the call: OSError EINVAL for another op or an aiocb in flight, EBADF for a bad descriptor, EAGAIN
    when a resource is exhausted. Of the request (aio_error): EINVAL for what cannot be synced, as a pipe,
    EIO, ENOSPC, EDQUOT when earlier writes do not reach the disk, ECANCELED.

    Source: POSIX.1-2017, aio_fsync.
    """
    if not isinstance(op, int) or type(cb) is not aiocb:
        raise TypeError("aio_fsync takes (op, cb), op os.O_SYNC or os.O_DSYNC and cb an aiocb, not "
                        f"({type(op).__name__}, {type(cb).__name__})")
    kind = aiofs_sync_op(small_int(op, "op"))
    if kind < 0:
        raise make_error(EINVAL, (<aiocb>cb).aio_fildes, "aio_fsync", f"op {op} is neither os.O_SYNC nor os.O_DSYNC")
    transfer(cb, kind)
    return ZERO
