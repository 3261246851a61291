# What a method of an asynchronous handle returns: an operation that has been started. Awaiting it only waits.
#
# An Operation is a collections.abc.Coroutine, so create_task, gather and wait_for take it. While it is pending it owns
# one reference to its submission, which holds the Operation from submission to delivery. The GIL guards its fields:
# the function of an offload runs with the GIL on a host thread of the engine and leaves its value there; the loop's
# thread looks at it when the completion is delivered.


@cython.final
cdef class Operation:
    """A started operation; `await` gives its result.

    Cancelling the await cancels the operation if it has not begun. Its buffers stay pinned until the
    engine is done with them, whatever becomes of the await. A failure that was never awaited goes to the
    loop's exception handler.
    """

    def __dealloc__(self):
        if self.handle != NULL:
            (<AccessHandle>self.handle).detach(self)
        if self.kind == AIOFS_CALL:
            with nogil:
                aiofs_acquisition_end(&self.acquisition)
        if self.submission != NULL:
            if aiofs_request_state(&self.submission.request) == AIOFS_NEW:
                unpin(self.submission)
                take(&self.submission.waiters)
            aiofs_request_release(&self.submission.request)

    # No freelist: what comes from one has been finalized once, and is not again.
    def __del__(self):
        """It will not be awaited any more: a failure that nothing has seen is reported."""
        if self.retrieved:
            return
        if self.state == SUCCEEDED:
            mark_unwanted(self.value)
        elif self.state == FAILED and self.reporter is not None and not is_cancelled_error(self.value):
            report_failure(self.reporter, self.value)

    # ---- the end ----

    cdef int ended(self, int64_t result) except -1:
        """The engine is done with it."""
        cdef AccessHandle handle = None if self.handle == NULL else <AccessHandle>self.handle
        if self.submission != NULL:
            aiofs_request_release(&self.submission.request)
            self.submission = NULL
        if handle is not None:
            return handle.operation_ended(self, result)
        self.function = self.arguments = None
        if self.state == PENDING:  # it was cancelled before it was called
            self.fail(cancelled_error())
        if self.dropped and self.state == SUCCEEDED:
            self.discard_result()
        return 0

    cdef void discard_result(self) noexcept:
        """Drops the result of the operation; no task gets it."""
        self.retrieved = True
        mark_unwanted(self.value)
        self.fail(cancelled_error())

    cdef void succeed(self, int64_t count) noexcept:
        self.count = count
        self.state = SUCCEEDED

    cdef void fail(self, object error) noexcept:
        self.value = error
        self.state = FAILED

    cdef object result(self):
        self.retrieved = True
        if self.state == FAILED:
            raise self.value
        return self.value if self.gives == GIVES_OBJECT else None if self.gives == GIVES_NONE else self.count

    # ---- the awaitable ----

    cdef inline bint may_return(self) except -1:
        """The operation is no longer pending, and the loop need not turn first."""
        if self.state == PENDING or not (self.waited or not turn_is_spent()):
            return False
        self.waited = False  # another await may come
        return True

    cdef object wait(self):
        """What to yield: what ends with the operation, or None to let the loop turn."""
        self.waited = True
        if self.state != PENDING or self.submission == NULL:  # NULL: it is ending
            return None
        return await_end(self.submission, "awaiting an operation")

    def __repr__(self):
        cdef str what = ("of " + getattr(self.function, "__name__", "a function") if self.kind == AIOFS_CALL
                         and self.function is not None else "" if self.kind == AIOFS_CALL
                         else operation_doing(self.kind))
        where = "" if self.handle == NULL else f" of {(<AccessHandle>self.handle).path!r}"
        state = ("in progress" if self.state == PENDING else f"failed: {self.value!r}" if self.state == FAILED
                 else f"gave {self.value if self.gives == GIVES_OBJECT else self.count!r}" if self.gives != GIVES_NONE
                 else "done")
        return f"<Operation {what}{where}{', ' if what else ''}{state}>"

    def __reduce__(self):
        raise TypeError("an Operation cannot be copied or pickled: await it, and take its result")

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return next_by_send(self)

    def send(self, value):
        """As a coroutine's send."""
        return next_by_send(self)

    def throw(self, kind, value=None, traceback=None):
        """As a coroutine's throw: the awaiting task was cancelled, or gets an error."""
        self.cancel()
        self.retrieved = True
        if value is None:
            value = kind() if isinstance(kind, type) else kind
        if traceback is not None:
            value = value.with_traceback(traceback)
        raise value

    def close(self):
        """As a coroutine's close: the operation continues without an await."""
        self.retrieved = True

    cdef int cancel(self) except -1:
        """Cancels the operation if it has not begun; otherwise it continues."""
        # A call that has succeeded, and whose value the task has not retrieved.
        if self.kind == AIOFS_CALL and self.state == SUCCEEDED and not self.retrieved:
            self.discard_result()
        if self.state != PENDING or self.kind == CLOSE:
            return 0
        self.dropped = True
        if self.kind == AIOFS_CALL:  # it has begun, perhaps: then others wait for the lock that it took, or takes none
            with nogil:
                aiofs_acquisition_abandon(&self.acquisition)
        if self.submission != NULL:
            aiofs_cancel_soon(&self.submission.request)
        return 0

    def drop(self):
        """It will not be awaited: it is not carried out if it has not begun, and what it made is given up at once.

        Of one that gave its result out: the result stays with those who have it, and is not kept here.
        """
        self.cancel()
        if self.state == SUCCEEDED:
            self.value = None


cdef int operation_send(object self, object value, PyObject **out) except -1:
    """am_send: the value of a finished operation without an exception."""
    cdef object result
    cdef int outcome = PYGEN_NEXT
    if (<Operation>self).may_return():
        result = (<Operation>self).result()
        outcome = PYGEN_RETURN
    else:
        result = (<Operation>self).wait()
    Py_INCREF(result)
    out[0] = <PyObject *>result
    return outcome


type_set_send(<PyTypeObject *>Operation, operation_send)


cdef Operation pending_operation(int kind, int gives):
    cdef Operation operation = Operation.__new__(Operation)
    operation.kind = kind
    operation.gives = gives
    operation.state = PENDING
    return operation


cdef void mark_unwanted(object made) noexcept:
    """Marks a handle that no caller got, so that dropping it gives no ResourceWarning."""
    if type(made) is AccessHandle:
        (<AccessHandle>made).unwanted = True
    elif type(made) is SyncAccessHandle:
        (<SyncAccessHandle>made).unwanted = True


# ---- work for a host thread ------------------------------------------------------------------------

cdef int64_t call_function(aiofs_request *request) noexcept nogil:
    """On a host thread: runs the function of an offload."""
    with gil:
        operation = <Operation>(<aiofs_submission *>request).owner
        aiofs_acquisition_begin(&(<Operation>operation).acquisition)
        try:
            operation.value = operation.function(*operation.arguments)
            operation.state = SUCCEEDED
        except BaseException as error:
            if operation.dropped and isinstance(error, OSError) and error.errno == ECANCELED:
                error = cancelled_error()  # it took no lock
            operation.value = error
            operation.state = FAILED
        aiofs_acquisition_begin(NULL)
        operation.function = operation.arguments = None
        if operation.dropped and operation.state == SUCCEEDED:
            operation.discard_result()
    return 0


def offload(function, *arguments):
    """Starts `function(*arguments)` on a thread of the engine; returns the Operation that gives its result.

    For calls that may block: the tree of a volume, opening, closing. RuntimeError with no loop running.
    """
    cdef Operation operation = pending_operation(AIOFS_CALL, GIVES_OBJECT)
    cdef LoopNotifier notifier = current_notifier()
    cdef aiofs_submission *submission
    cdef int error
    if notifier is None:
        raise no_loop_error("aiofs")
    operation.function = function
    operation.arguments = arguments
    operation.reporter = notifier.reporter()
    submission = new_submission()
    submission.request.op = AIOFS_CALL
    submission.request.call = call_function
    aiofs_request_retain(&submission.request)
    operation.submission = submission
    error = submit_request(submission, NULL, operation, notifier)
    aiofs_request_release(&submission.request)
    if error < 0:
        aiofs_request_release(&submission.request)
        operation.submission = NULL
        raise make_error(-error, None, "starting a call", engine_reason(aiofs_engine_start()))
    return operation
