# Calls that wait for their turn, because those of the present turn are made ("The budget" in delivery.pxi).
#
# What finds, opens or closes a file inside the call is an Operation that the method returns. If there is no turn for it,
# the Operation is queued: it has a submission, which can be awaited, but the engine does not know it. When its turn
# comes, LoopNotifier.turned makes the call: inside the call (`attempt`), or on a host thread if that gives None.
#
# A queued Operation that was cancelled is dropped when its turn comes. One that is awaited elsewhere, or whose
# LoopNotifier ends, needs no turn: it goes to a host thread.
#
# Ownership. The queue owns a QueuedCall, and that its Operation. So an Operation that nobody awaits is made, too.
#
# Locking. The GIL.


@cython.final
cdef class QueuedCall:
    cdef int make(self) except -1:
        """The call has its turn. 1 if it was made, 0 if there was nothing to do."""
        cdef Operation operation = self.operation
        cdef AccessHandle handle
        if not operation.queued:
            return 0
        operation.queued = False
        if operation.kind != AIOFS_CALL:
            if operation.handle != NULL:
                handle = <AccessHandle>operation.handle
                handle.close_in_turn(operation)
            return 1
        if operation.dropped:
            return end_queued(operation, cancelled_error())
        try:
            operation.value = None if self.attempt is None else self.attempt()
        except Exception:
            pass  # the host thread gives the error
        except BaseException as error:
            end_queued(operation, error)
            raise
        if operation.value is None:
            submit_queued(operation, current_notifier())
        else:
            end_queued(operation, None)
        return 1

    cdef int without_turn(self) noexcept:
        """There are no more turns."""
        cdef Operation operation = self.operation
        if operation.queued and not aiofs_python_ends:
            # What was awaited here ends as cancelled; a close cannot be cancelled.
            if operation.kind == AIOFS_CALL and operation.submission.waiters != NULL:
                operation.dropped = True
            begin_queued(operation, None)
        return 0


cdef int queue_call(Operation operation, object attempt, LoopNotifier notifier) except -1:
    """Lets a prepared operation wait for its turn. notifier.has_turn has returned False."""
    cdef QueuedCall call = QueuedCall.__new__(QueuedCall)
    call.operation = operation
    call.attempt = attempt
    notifier.append(call)
    operation.queued = True
    return 0


cdef int begin_if_elsewhere(Operation operation) except -1:
    """Before an await: the turns of another thread, or of one that has stopped, may never come."""
    cdef LoopNotifier notifier = current_notifier()
    if notifier is not None and notifier.reporter() is not operation.reporter:
        begin_queued(operation, notifier)
    return 0


cdef int begin_queued(Operation operation, LoopNotifier notifier) except -1:
    """Begins a queued operation on a host thread; ends it if it was cancelled."""
    cdef AccessHandle handle
    operation.queued = False
    if operation.kind != AIOFS_CALL:
        if operation.handle != NULL:
            handle = <AccessHandle>operation.handle
            handle.start_deferred()
        return 0
    if operation.dropped:
        return end_queued(operation, cancelled_error())
    return submit_queued(operation, notifier)


cdef int submit_queued(Operation operation, LoopNotifier notifier) except -1:
    cdef int error = submit_offload(operation, notifier)
    if error < 0:
        end_queued(operation, offload_error(error))
    return 0


cdef int end_queued(Operation operation, object error) except -1:
    """Completes an operation that was never submitted: with its value, or with an exception."""
    cdef aiofs_submission *submission = operation.submission
    operation.submission = NULL
    operation.function = operation.arguments = None
    if error is not None:
        operation.fail(error)
    else:
        operation.succeed(0)
        if operation.dropped:
            operation.discard_result()
    withdraw(submission)
    return 0


def offload_in_turn(attempt, int64_t until, key, function, *arguments):
    """As offload_waiting, for what `attempt()` does inside the call if it can; else it returns None.

    The caller has tried that. If it was not made because of the turn, it is tried again when its turn
    comes. attempt None: the call cannot be made inside the call, but waits behind those with a place
    in the order of acquisitions.
    """
    cdef LoopNotifier notifier = current_notifier()
    cdef uint64_t place = key_of_acquisition(key)
    cdef Operation operation
    cdef bint waits
    if notifier is None:
        raise no_loop_error("aiofs")
    waits = until != 0 and notifier.calls_wait() if attempt is None else not notifier.has_turn()
    if not waits:
        return start_offload(until, place, function, arguments)
    operation = prepared_offload(until, place, function, arguments, notifier)
    queue_call(operation, attempt, notifier)
    return operation
