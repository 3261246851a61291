# FileCall: the awaitable that the methods of the open files in aiofs.files return.
#
# It begins at the await. A call that cannot block ends there (BufferedFile.now), once the loop need not turn first; it
# has the turn of its file while it lets the loop turn. Any other is a coroutine of aiofs.files, which waits for its turn
# and for a host thread.
#
# Ownership. A FileCall has a reference to its file until it has ended.
#
# Locking. The GIL guards the fields.


@cython.final
@cython.no_gc_clear
@cython.freelist(16)
cdef class FileCall:
    """A call of a method of an open file. It begins at the await.

    It is a collections.abc.Coroutine, so create_task, gather and wait_for accept it.
    """

    def __dealloc__(self):
        if self.has_turn:
            self.drop_turn()

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return next_by_send(self)

    def send(self, value):
        """As the send method of a coroutine."""
        if value is None or self.slow is None:
            return next_by_send(self)
        return self.slow.send(value)

    def throw(self, kind, value=None, traceback=None):
        """As the throw method of a coroutine."""
        if self.slow is not None:
            try:
                return self.slow.throw(kind) if value is None else self.slow.throw(kind, value, traceback)
            except BaseException:
                self.file = None
                raise
        self.drop_turn()
        self.file = None
        if value is None:
            value = kind() if isinstance(kind, type) else kind
        if traceback is not None:
            value = value.with_traceback(traceback)
        raise value

    def close(self):
        """As the close method of a coroutine."""
        self.drop_turn()
        self.file = None
        if self.slow is not None:
            self.slow.close()

    def __reduce__(self):
        raise TypeError("a call cannot be copied or pickled: await it")

    def __repr__(self):
        return f"<{type(self).__name__} of {self.name or '__anext__'}>"

    cdef int start_slow(self) except -1:
        self.slow = self.file._call_slowly("readline" if self.kind == CALL_NEXT else self.name, self.arguments or ())
        return 0

    cdef int drop_turn(self) except -1:
        if self.has_turn:
            self.has_turn = False
            end_turn(self.file)
        return 0


cdef inline int end_turn(BufferedFile file) except -1:
    if file._turns.waiting:
        file._turns._end()  # of aiofs.files.turns: the next call may be of another loop
    else:
        file._turns.taken = False
    return 0


cdef object result_now(FileCall call):
    """The result, NOT_NOW, or None with `has_turn` set to let the loop turn."""
    cdef BufferedFile file = call.file
    cdef object result = NOT_NOW
    if call.has_turn:
        call.has_turn = False
    elif file._turns.taken or file.io is None:
        return NOT_NOW
    elif turn_is_spent():
        call.has_turn = file._turns.taken = True
        return None
    file._turns.taken = True
    try:
        result = file.now(call)
    finally:
        end_turn(file)
    return result


cdef int file_call_send(object self, object value, PyObject **out) except -1:
    cdef FileCall call = <FileCall>self
    cdef object result = None
    cdef int outcome = PYGEN_RETURN
    if call.slow is None:
        if call.file is None:
            raise RuntimeError("the call was awaited already")
        if (call.kind == CALL_NEXT and call.file.at < call.file.end and not call.file._turns.taken
                and not turn_is_spent()):
            result = call.file.cut_line()
            if result is not None:
                call.file = None
                Py_INCREF(result)
                out[0] = <PyObject *>result
                return PYGEN_RETURN
        try:
            result = result_now(call)
            if result is NOT_NOW:
                call.start_slow()
        except BaseException:
            call.file = None
            raise
        if call.has_turn:
            outcome = PYGEN_NEXT
    if call.slow is not None:
        try:
            outcome = PyIter_Send(call.slow, value, out)
        except BaseException:
            call.file = None
            raise
        if outcome != PYGEN_RETURN:
            return outcome
        result = <object>out[0]
        Py_DECREF(result)
        out[0] = NULL
    if outcome == PYGEN_RETURN:
        call.file = None
        if call.kind == CALL_NEXT and not result:
            raise StopAsyncIteration
    Py_INCREF(result)
    out[0] = <PyObject *>result
    return outcome


type_set_send(<PyTypeObject *>FileCall, file_call_send)
