# lio_listio: many requests in one call.
#
# All entries are prepared before the first one is started, so an invalid entry raises and nothing is started. The
# engine submits, counts and notifies the entries (engine/aio_list.c).
#
# Ownership. The notice of the whole list belongs to `list_submission`, a submission whose request is never submitted.
# The last completion of the list posts it.
#
# Locking. The GIL is released while the engine accepts a batch, and while LIO_WAIT waits.


cdef inline int operation_of(aiocb cb) except? -1:
    """The operation of an entry; 0: LIO_NOP; -EINVAL: an invalid opcode."""
    return aiofs_list_op(small_int(cb.aio_lio_opcode, "aio_lio_opcode"))


cdef int64_t lists = 0  # calls of lio_listio so far: the number of the last one


cdef list entries_of(object items):
    """The entries except None and LIO_NOP. EINVAL if one aiocb is in the list twice."""
    global lists
    cdef list found = []
    cdef aiocb cb
    for item in items:
        if item is None:
            continue
        if type(item) is not aiocb:
            raise TypeError(f"lio_listio takes aiocb objects or None, not {type(item).__name__}")
        if operation_of(<aiocb>item) != 0:
            found.append(item)
    lists += 1
    for cb in found:
        if cb.in_list == lists:
            raise make_error(EINVAL, cb.aio_fildes, "lio_listio", "one aiocb stands in the list twice")
        cb.in_list = lists
    return found


cdef aiofs_submission *make_list_submission(object sig, LoopNotifier notifier) except? NULL:
    """The submission whose notice notifies the completion of the whole list; NULL: no notification."""
    cdef aiofs_submission *list_submission
    if sig is None or (<sigevent>sig).sigev_notify == C_SIGEV_NONE:
        return NULL
    list_submission = new_submission()
    try:
        write_notice(list_submission, <sigevent>sig)
    except BaseException:
        discard(list_submission)
        raise
    if notifier is not None:
        notifier.address(list_submission)
    return list_submission


cdef int begin_list(aiofs_list_call *call, int mode, aiofs_submission *list_submission) except -1:
    if aiofs_list_begin(call, mode, NULL if list_submission == NULL else &list_submission.aio.ending.notice) == 0:
        return 0
    if list_submission != NULL:
        submission_withdraw(list_submission)
        discard(list_submission)
    raise MemoryError


cdef int begin_entry(plan *what, aiocb cb, LoopNotifier notifier, aiofs_list_call *call, bint notifies) except -1:
    """Completes an entry inside the call, or adds it to the batch. `notifies`: the list itself has a notice."""
    cdef aiofs_ask ask = ask_of(what)
    cdef aiofs_submission *submission
    cb.operation = what.operation if what.operation > 0 else 0
    try:
        submission = begin(what, &ask, aiofs_ask_check(&ask, NULL), cb, notifier, call)
    except BlockingIOError:  # no thread can be started for its SIGEV_THREAD
        cb.end(-EAGAIN)
        aiofs_list_note(call, -EAGAIN)
        return 0
    if submission == NULL:
        return 0
    submission.no_wakeup = notifies and submission.aio.ending.notice.kind == C_SIGEV_NONE
    before_submit(submission, cb, notifier)
    if aiofs_list_put(call, &submission.aio, what.file):
        with nogil:
            aiofs_list_submit(call)
    return 0


cdef int start_entries(plan *plans, list blocks, LoopNotifier notifier, aiofs_list_call *call,
                       bint notifies) except? -1:
    """Starts the prepared entries. With LIO_WAIT also waits for them. Returns 0 or a negated errno."""
    cdef Py_ssize_t i
    cdef int error = 0
    try:
        for i in range(len(blocks)):
            begin_entry(&plans[i], <aiocb>blocks[i], notifier, call, notifies)
            drop_view(&plans[i])  # if the entry is complete, and no submission took the view
    except BaseException:
        call.waits = False
        raise
    finally:
        with nogil:
            error = aiofs_list_finish(call)
    return error


cdef int check_list_call(object mode, object sig) except -1:
    """Checks `mode` and `sig`. Returns the mode as an int."""
    cdef int number = _LIO_WAIT if mode == _LIO_WAIT else _LIO_NOWAIT if mode == _LIO_NOWAIT else -1
    if aiofs_list_check(number, 0, NULL) < 0:
        raise make_error(EINVAL, None, "lio_listio", f"mode {mode!r} is neither LIO_WAIT nor LIO_NOWAIT")
    if sig is not None and aiofs_list_notifies(number):
        if not isinstance(sig, sigevent):
            raise TypeError(f"sig must be a sigevent or None, not {type(sig).__name__}")
        check_notify(<sigevent>sig, (<sigevent>sig).sigev_notify)
    return number


def lio_listio(mode, list, sig=None):
    """Starts a list of requests; the aio_lio_opcode of each aiocb is its operation. Returns 0.

    LIO_WAIT waits until all requests are terminal, and ignores `sig`. OSError EIO if a request failed; the
    others complete all the same. OSError EINTR if a signal handler ran; the requests continue. LIO_NOWAIT
    returns when all requests are started. Then `sig`, a sigevent, is notified once, when all are terminal;
    at once if the list starts nothing. Both modes notify the sigevent of each entry. Entries that are None
    or have LIO_NOP, the default opcode, are skipped: they start nothing. The entries have no order.

    An entry with an invalid opcode or reqprio ends with EINVAL. Every OSError that aio_read or aio_write
    would raise is the error of its entry too (see aio_error). The call itself raises, with nothing started:
    OSError EINVAL for another mode, or for an aiocb that is in flight or is in the list twice; TypeError,
    ValueError, BufferError and RuntimeError as aio_read does.

    Source: POSIX.1-2017, lio_listio.
    """
    cdef plan *plans
    cdef aiofs_list_call call
    cdef aiofs_submission *list_submission
    cdef LoopNotifier notifier = current_notifier()
    cdef aiocb cb
    cdef Py_ssize_t i, drawn = 0
    cdef int operation, error, number = check_list_call(mode, sig)
    blocks = entries_of(list)
    plans = <plan *>calloc(<size_t>len(blocks) + 1, sizeof(plan))
    try:
        if plans == NULL:
            raise MemoryError
        for cb in blocks:
            operation = operation_of(cb)
            prepare_plan(&plans[drawn], cb, operation if operation > 0 else AIOFS_FSYNC)
            plans[drawn].operation = operation
            drawn += 1
        for cb in blocks:
            check_in_flight(cb, 0)  # again, because the fileno() of a later entry may have submitted it
        list_submission = make_list_submission(sig if aiofs_list_notifies(number) else None, notifier)
        begin_list(&call, number, list_submission)
        error = start_entries(plans, blocks, notifier, &call, list_submission != NULL)
    finally:
        for i in range(drawn):
            release_plan(&plans[i])
        free(plans)
    if number == _LIO_WAIT:
        for cb in blocks:
            cb.refresh()
    if error == -EINTR:
        PyErr_CheckSignals()
        raise make_error(EINTR, None, "lio_listio")
    if error < 0:
        raise make_error(-error, None, "lio_listio", "a request of the list failed: aio_error of each says which")
    return LISTED
