# Operation: the awaitable that the methods of asynchronous handles return. It is started already; an await only waits.
#
# An Operation is a collections.abc.Coroutine, so create_task, gather and wait_for accept it.
#
# Ownership. A pending Operation owns one reference to its submission. The submission holds the Operation from the
# submission to the delivery.
#
# Locking. The GIL guards the fields. A host thread of the engine calls the function of an offload with the GIL and
# stores the value in the Operation. The loop's thread reads the value after the delivery.


@cython.final
cdef class Operation:
    """A started operation. `await` returns its result, or raises its exception.

    Cancelling the await cancels the operation, if the engine has not started it or can cancel it. The
    buffers stay pinned until the operation is complete, also after the await was cancelled. A failure
    that was never awaited goes to the loop's exception handler.
    """

    def __dealloc__(self):
        if self.handle != NULL:
            (<AccessHandle>self.handle).detach(self)
        if self.kind == AIOFS_CALL:
            with nogil:
                aiofs_acquisition_end(&self.waits.acquisition)
        if self.submission != NULL:
            if aiofs_request_state(&self.submission.request) == AIOFS_NEW:
                unpin(self.submission)
                take(&self.submission.waiters)
            aiofs_request_release(&self.submission.request)

    # No freelist: CPython would not call __del__ again for an object that comes from one.
    def __del__(self):
        """Reports a failure that nothing awaited."""
        if self.retrieved:
            return
        if self.state == SUCCEEDED:
            mark_unwanted(self.value)
        elif self.state == FAILED and self.reporter is not None and not is_cancelled_error(self.value):
            report_failure(self.reporter, self.value)

    # ---- completion ----

    cdef int ended(self, int64_t result) except -1:
        """Called at delivery: the request is complete."""
        cdef AccessHandle handle = None if self.handle == NULL else <AccessHandle>self.handle
        if self.kind == AIOFS_CALL:  # a call that was cancelled while it was parked is still in its queue
            with nogil:
                aiofs_acquisition_end(&self.waits.acquisition)
        if self.submission != NULL:
            aiofs_request_release(&self.submission.request)
            self.submission = NULL
        if handle is not None:
            try:
                return handle.operation_ended(self, result)
            except BaseException as error:  # as the KeyboardInterrupt of a signal handler
                if self.state == PENDING:
                    self.fail(error)
                raise
        self.function = self.arguments = None
        if self.state == PENDING:  # an offload that was cancelled before its function was called
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
        if self.gives >= GIVES_BYTES and count < len(<bytes>self.value):
            self.value = (<bytes>self.value)[:count]
        self.count = count
        self.state = SUCCEEDED

    cdef void fail(self, object error) noexcept:
        self.value = error
        self.state = FAILED

    cdef object result(self):
        self.retrieved = True
        if self.state == FAILED:
            raise self.value
        if self.gives == GIVES_PIECE and not self.value:
            raise StopAsyncIteration
        return self.value if self.gives >= GIVES_OBJECT else None if self.gives == GIVES_NONE else self.count

    # ---- the awaitable ----

    cdef inline bint may_return(self) except -1:
        """The operation is no longer pending, and the loop need not turn first."""
        if self.state == PENDING or not (self.waited or not turn_is_spent()):
            return False
        self.waited = False  # for the next await
        return True

    cdef object wait(self):
        """The object to yield: a future that is done when the operation is complete, or None to let the loop turn."""
        self.waited = True
        if self.queued:
            begin_if_elsewhere(self)
        if self.state != PENDING or self.submission == NULL:  # NULL: its completion is being delivered
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
        """As the send method of a coroutine."""
        return next_by_send(self)

    def throw(self, kind, value=None, traceback=None):
        """As the throw method of a coroutine: cancels the operation and raises the exception."""
        self.cancel()
        self.retrieved = True
        raise_thrown(kind, value, traceback)

    def close(self):
        """As the close method of a coroutine: the operation continues without an await."""
        self.retrieved = True

    cdef int cancel(self) except -1:
        """Cancels the operation, if the engine has not started it or can cancel it; otherwise it continues."""
        # An offload that has succeeded, and whose value no await has returned.
        if self.kind in (AIOFS_CALL, DONE) and self.state == SUCCEEDED and not self.retrieved:
            self.discard_result()
        if self.state != PENDING or self.kind == CLOSE:
            return 0
        self.dropped = True
        if self.kind == AIOFS_CALL:
            # The function may be running. If it has taken its lock, the lock is marked as releasing: threads that ask
            # for it wait instead of failing with EBUSY. If not, taking the lock fails with ECANCELED.
            with nogil:
                aiofs_acquisition_abandon(&self.waits.acquisition)
        if self.submission != NULL:
            aiofs_cancel_soon(&self.submission.request)
        return 0

    def drop(self):
        """Cancels the operation if possible, because it will not be awaited, and drops its result at once.

        A result that an await has returned stays valid; the Operation only drops its own reference to it.
        """
        self.cancel()
        if self.state == SUCCEEDED:
            self.value = None


cdef int operation_send(object self, object value, PyObject **out) except -1:
    """am_send: returns the value of a completed operation without a StopIteration."""
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


cdef int raise_thrown(kind, value, traceback) except -1:
    """Raises what the throw method of a coroutine was called with."""
    if value is None:
        value = kind() if isinstance(kind, type) else kind
    if traceback is not None:
        value = value.with_traceback(traceback)
    raise value


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
    elif type(made) is Writable:
        (<Writable>made).handle.unwanted = True
    elif type(getattr(made, "_writable", None)) is Writable:
        mark_unwanted(made._writable)


# ---- work for a host thread ------------------------------------------------------------------------

cdef int64_t call_function(aiofs_request *request) noexcept nogil:
    """Runs on a host thread: calls the function of an offload."""
    cdef aiofs_acquisition *acquisition
    with gil:
        operation = <Operation>(<aiofs_submission *>request).owner
        acquisition = &(<Operation>operation).waits.acquisition
        acquisition.parked = False
        aiofs_acquisition_begin(acquisition)
        try:
            operation.value = operation.function(*operation.arguments)
            operation.state = SUCCEEDED
        except BaseException as error:
            if acquisition.parked:
                aiofs_acquisition_begin(NULL)
                return AIOFS_PARKED  # until call_again
            if operation.dropped and isinstance(error, OSError) and error.errno == ECANCELED:
                error = cancelled_error()  # the acquisition was abandoned: no lock was taken
            operation.value = error
            operation.state = FAILED
        aiofs_acquisition_begin(NULL)
        operation.function = operation.arguments = None
        if operation.dropped and operation.state == SUCCEEDED:
            operation.discard_result()
    return 0


def offload(function, *arguments):
    """Calls `function(*arguments)` on a host thread of the engine. Returns an Operation with its result.

    For calls that may block, as opening a file or changing a directory. RuntimeError if no loop runs;
    OSError (EAGAIN) if no thread can be started.
    """
    return start_offload(0, 0, function, arguments)


cdef Operation start_offload(int64_t until, uint64_t key, function, tuple arguments):
    cdef LoopNotifier notifier = current_notifier()
    cdef Operation operation = prepared_offload(until, key, function, arguments, notifier)
    cdef int error = submit_offload(operation, notifier)
    if error < 0:
        aiofs_request_release(&operation.submission.request)
        operation.submission = NULL
        raise offload_error(error)
    return operation


cdef Operation prepared_offload(int64_t until, uint64_t key, function, tuple arguments, LoopNotifier notifier):
    """An offload that is not submitted yet. `until`, `key`: see offload_waiting."""
    cdef Operation operation = pending_operation(AIOFS_CALL, GIVES_OBJECT)
    if notifier is None:
        raise no_loop_error("aiofs")
    operation.function = function
    operation.arguments = arguments
    operation.reporter = notifier.reporter()
    operation.submission = new_submission()
    operation.submission.request.op = AIOFS_CALL
    operation.submission.request.call = call_function
    operation.waits.acquisition.until = until
    operation.waits.acquisition.key = key
    operation.waits.acquisition.ready = call_again
    operation.waits.request = &operation.submission.request
    return operation


cdef int submit_offload(Operation operation, LoopNotifier notifier) noexcept:
    """0, or a negated errno: nothing was started."""
    cdef aiofs_submission *submission = operation.submission
    cdef int error
    if operation.waits.acquisition.until:
        aiofs_acquisition_arrive(&operation.waits.acquisition, operation.waits.acquisition.key)
    aiofs_request_retain(&submission.request)  # it may be delivered before submit_request returns
    error = submit_request(submission, NULL, operation, notifier)
    aiofs_request_release(&submission.request)
    return error


cdef object offload_error(int error):
    return make_error(-error, None, "starting a call", engine_reason(aiofs_engine_start()))
