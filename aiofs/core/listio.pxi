# lio_listio: many requests in one call. All entries are drawn up before the first is started.

cdef int opcode_of(aiocb cb) except -1:
    """The operation of a list's entry; 0 for one with a bad opcode."""
    cdef int opcode = small_int(cb.aio_lio_opcode, "aio_lio_opcode")
    return AIOFS_READ if opcode == _LIO_READ else AIOFS_WRITE if opcode == _LIO_WRITE else 0


cdef int64_t lists = 0  # lists so far: the number of the last


cdef list entries_of(object items):
    """The entries that ask for something. None of them may stand there twice."""
    global lists
    cdef list found = []
    cdef aiocb cb
    for item in items:
        if item is None:
            continue
        if type(item) is not aiocb:
            raise TypeError(f"lio_listio takes aiocb objects or None, not {type(item).__name__}")
        if small_int((<aiocb>item).aio_lio_opcode, "aio_lio_opcode") != _LIO_NOP:
            found.append(item)
    lists += 1
    for cb in found:
        if cb.in_list == lists:
            raise make_error(EINVAL, cb.aio_fildes, "lio_listio", "one aiocb stands in the list twice")
        cb.in_list = lists
    return found


cdef aiofs_group *start_group(object sig, LoopNotifier notifier) except NULL:
    """What tells the end of a whole list; counts one for its being started."""
    cdef aiofs_submission *last_word = NULL
    cdef aiofs_group *group
    if sig is not None and (<sigevent>sig).sigev_notify != C_SIGEV_NONE:
        last_word = new_submission()
        try:
            write_notice(&last_word.notice, <sigevent>sig)
        except BaseException:
            discard(last_word)
            raise
        if notifier is not None:
            submission_address(last_word, notifier.queue)
    group = group_new(1, last_word)
    if group == NULL:
        if last_word != NULL:
            submission_withdraw(last_word)
            discard(last_word)
        raise MemoryError
    return group


cdef int wait_for_all(object blocks) except -1:
    """Until every request of a list is terminal. EINTR leaves them running."""
    cdef aiofs_request *one
    cdef aiocb cb
    cdef int error
    for cb in blocks:
        while cb.settle() == SUBMITTED:
            one = &cb.submission.request
            aiofs_request_retain(one)
            with nogil:
                error = aiofs_wait(&one, 1, NULL)
                aiofs_request_release(one)
            if error == -EINTR:
                PyErr_CheckSignals()
                raise make_error(EINTR, None, "lio_listio")
    return 0


cdef int begin_entry(plan *what, aiocb cb, aiofs_group *group, LoopNotifier notifier, aiofs_batch_entry *entry,
                     bint behind) except -1:
    """Ends an entry inside the call, 0; or makes it ready to be submitted with the others, 1."""
    cdef aiofs_submission *submission
    if what.operation == 0:
        cb.operation = 0
        cb.end(-EINVAL)
        if what.notify != C_SIGEV_NONE:
            tell_inline(cb, notifier)
        return 0
    try:
        submission = begin(what, cb, notifier, True, behind)
    except BlockingIOError:  # no thread to be had for its notification
        cb.end(-EAGAIN)
        return 0
    if submission == NULL:
        return 0
    submission.group = group
    submission.no_wakeup = group.last_word != NULL and submission.notice.kind == C_SIGEV_NONE
    group_add(group)
    before_submit(submission, cb, notifier)
    entry.request = &submission.request
    entry.file = what.file
    return 1


cdef int end_refused(aiofs_submission *submission, int error, LoopNotifier notifier) except -1:
    """The engine did not take an entry: it has ended, and that is notified."""
    cdef aiocb cb = <aiocb>submission.owner
    cdef aiofs_group *group = submission.group
    cdef bint tells = submission.notice.kind != C_SIGEV_NONE
    submission.group = NULL
    aiofs_request_retain(&submission.request)
    after_refusal(submission)
    unpin(submission)
    cb.end(error)
    try:
        if submission.notice.kind == C_SIGEV_THREAD:
            notice_give(&submission.notice)
        elif tells:
            tell_inline(cb, notifier)
    finally:
        discard(submission)
        group_count_down(group)
    return 0


cdef int start_entries(plan *plans, list blocks, aiofs_batch_entry *entries, aiofs_group *group,
                       LoopNotifier notifier) except -1:
    """Begins what is drawn up, and submits together what has not ended at once."""
    cdef size_t begun = 0, i
    try:
        for i in range(<size_t>len(blocks)):
            begun += begin_entry(&plans[i], blocks[i], group, notifier, &entries[begun], begun > 0)
    finally:
        with nogil:
            aiofs_submit_many(entries, begun)
        try:
            for i in range(begun):
                if entries[i].error < 0:
                    end_refused(<aiofs_submission *>entries[i].request, entries[i].error, notifier)
        finally:
            group_count_down(group)
    return 0


cdef int check_list_call(object mode, object sig) except -1:
    if mode != _LIO_WAIT and mode != _LIO_NOWAIT:
        raise make_error(EINVAL, None, "lio_listio", f"mode {mode!r} is neither LIO_WAIT nor LIO_NOWAIT")
    if sig is not None and mode == _LIO_NOWAIT:
        if not isinstance(sig, sigevent):
            raise TypeError(f"sig must be a sigevent or None, not {type(sig).__name__}")
        check_notify(<sigevent>sig, (<sigevent>sig).sigev_notify)
    return 0


def lio_listio(mode, list, sig=None):
    """Starts a list of requests by their aio_lio_opcode; returns 0.

    LIO_WAIT waits until all are terminal; OSError EIO if any failed (the others complete all the same),
    EINTR leaves them running; `sig` is ignored. LIO_NOWAIT returns when all are started; `sig`, a sigevent,
    is notified once, when all are terminal, at once if there is nothing to do. Each entry's own sigevent is
    honoured in both. None and LIO_NOP are passed over; the entries have no order. LIO_NOP is what an aiocb
    has that names no aio_lio_opcode: such an entry starts nothing and is never submitted.

    An entry with a bad opcode or reqprio ends with EINVAL, and what else aio_read and aio_write would raise
    an OSError for is its error too (aio_error). With nothing started: OSError EINVAL for another mode, or
    an aiocb that is in flight or stands in the list twice; TypeError, ValueError, BufferError, RuntimeError
    as aio_read.

    Source: POSIX.1-2017, lio_listio.
    """
    cdef plan *plans
    cdef aiofs_batch_entry *entries
    cdef LoopNotifier notifier = current_notifier()
    cdef aiofs_group *group
    cdef aiocb cb
    cdef Py_ssize_t i, drawn = 0
    cdef int operation
    check_list_call(mode, sig)
    blocks = entries_of(list)
    plans = <plan *>calloc(<size_t>len(blocks) + 1, sizeof(plan))
    entries = <aiofs_batch_entry *>calloc(<size_t>len(blocks) + 1, sizeof(aiofs_batch_entry))
    try:
        if plans == NULL or entries == NULL:
            raise MemoryError
        for cb in blocks:
            operation = opcode_of(cb)
            draw_up(&plans[drawn], cb, operation if operation else AIOFS_FSYNC)
            plans[drawn].operation = operation
            drawn += 1
        group = start_group(sig if mode == _LIO_NOWAIT else None, notifier)
        start_entries(plans, blocks, entries, group, notifier)
    finally:
        for i in range(drawn):
            rub_out(&plans[i])
        free(plans)
        free(entries)
    if mode == _LIO_WAIT:
        wait_for_all(blocks)
        for cb in blocks:
            if cb.outcome < 0:
                raise make_error(EIO, None, "lio_listio", "a request of the list failed: aio_error of each says which")
    return LISTED
