# One submission: pinning its buffers, submitting it, opening it when it has come home. See flight.h.

cdef extern from "flight.h" nogil:
    ctypedef struct aiofs_flight

    ctypedef struct aiofs_mailbox:
        pass

    ctypedef struct aiofs_notice:
        int kind
        PyObject *function
        PyObject *value
        PyObject *context

    ctypedef struct aiofs_group:
        aiofs_flight *last_word

    ctypedef struct aiofs_flight:
        aiofs_request request
        aiofs_flight *next
        aiofs_group *group
        aiofs_notice notice
        PyObject *owner
        PyObject *futures
        Py_buffer view
        Py_buffer *views
        iovec *vector
        int pinned
        bint opened
        bint quiet

    int C_SIGEV_LOOP "SIGEV_LOOP"
    aiofs_mailbox aiofs_orphans
    bint aiofs_python_ends

    void python_ends()
    aiofs_flight *flight_new()
    bint flight_address(aiofs_flight *flight, aiofs_mailbox *box)
    void flight_recall(aiofs_flight *flight)
    void flight_post(aiofs_flight *flight)
    int orphans_bell_open(int eventfd)
    void orphans_bell_forget()
    aiofs_mailbox *mailbox_new(int eventfd, int *error)
    aiofs_flight *mailbox_open(aiofs_mailbox *box, bint seal)
    void mailbox_release(aiofs_mailbox *box)
    int notice_prepare(aiofs_notice *notice)
    void notice_unprepare(aiofs_notice *notice)
    void notice_give(aiofs_notice *notice)
    void notice_set_signal(aiofs_notice *notice, int signo, int64_t value)
    aiofs_group *group_new(int remaining, aiofs_flight *last_word)
    void group_add(aiofs_group *group)
    void group_count_down(aiofs_group *group)

cdef extern from "flight.h":
    int (*aiofs_open_orphans)(void *) noexcept
    void type_set_send(PyTypeObject *type, int (*send)(object, object, PyObject **) except -1)
    object next_by_send(object awaitable)

cdef extern from "<signal.h>" nogil:
    int C_SIGEV_SIGNAL "SIGEV_SIGNAL"
    int C_SIGEV_NONE "SIGEV_NONE"
    int C_SIGEV_THREAD "SIGEV_THREAD"


cdef aiofs_flight *make_flight() except NULL:
    cdef aiofs_flight *flight = flight_new()
    if flight == NULL:
        raise MemoryError
    return flight


cdef void pin_view(aiofs_flight *flight, Py_buffer *view) noexcept:
    """Takes over a view, the whole of a request."""
    flight.view = view[0]
    flight.pinned = 1
    flight.request.single.iov_base = flight.view.buf
    flight.request.single.iov_len = <size_t>flight.view.len
    flight.request.iov = &flight.request.single
    flight.request.iovcnt = 1


cdef int pin_all(aiofs_flight *flight, object buffers, bint writable) except -1:
    """Pins several buffers, to be filled or sent one after the other."""
    cdef list items = list(buffers)
    cdef Py_ssize_t i, count = len(items)
    if count == 0:
        return 0
    flight.views = <Py_buffer *>calloc(<size_t>count, sizeof(Py_buffer))
    flight.vector = <iovec *>calloc(<size_t>count, sizeof(iovec))
    if flight.views == NULL or flight.vector == NULL:
        raise MemoryError
    for i in range(count):
        take_buffer(items[i], &flight.views[i], PyBUF_WRITABLE if writable else PyBUF_SIMPLE)
        flight.pinned = <int>i + 1
        flight.vector[i].iov_base = flight.views[i].buf
        flight.vector[i].iov_len = <size_t>flight.views[i].len
    flight.request.iov = flight.vector
    flight.request.iovcnt = <int>count
    return 0


cdef void unpin(aiofs_flight *flight) noexcept:
    """Lets the buffers go: the engine has no more use for them, or never had."""
    cdef int i, pinned = flight.pinned
    flight.pinned = 0
    if flight.views != NULL:
        for i in range(pinned):
            PyBuffer_Release(&flight.views[i])
    elif pinned:
        PyBuffer_Release(&flight.view)


cdef void set_function(aiofs_notice *notice, int kind, object function, object value, object context) noexcept:
    """A function to be called, with references of the notice's own."""
    notice.kind = kind
    Py_INCREF(function)
    Py_INCREF(value)
    Py_INCREF(context)
    notice.function = <PyObject *>function
    notice.value = <PyObject *>value
    notice.context = <PyObject *>context


cdef void drop_notice(aiofs_notice *notice) noexcept:
    cdef PyObject *function = notice.function
    cdef PyObject *value = notice.value
    cdef PyObject *context = notice.context
    notice.function = notice.value = notice.context = NULL
    notice_unprepare(notice)
    Py_XDECREF(function)
    Py_XDECREF(value)
    Py_XDECREF(context)


cdef void discard(aiofs_flight *flight) noexcept:
    """Takes back a flight that was never submitted."""
    unpin(flight)
    drop_notice(&flight.notice)
    aiofs_request_release(&flight.request)


cdef void call_off(aiofs_flight *flight) noexcept:
    """Takes back a flight that somebody may await but that was never submitted."""
    cdef object futures = take(&flight.futures)
    for reference in deliveries.values():
        delivery = reference()
        if delivery is not None:
            (<Delivery>delivery).awaited.pop(<uintptr_t>flight, None)
    flight_recall(flight)
    if futures is not None:
        wake(<list>futures)
    discard(flight)


cdef void before_launch(aiofs_flight *flight, object owner, Delivery delivery) noexcept:
    """It can be submitted; `owner` is held until it is opened."""
    Py_INCREF(owner)
    flight.owner = <PyObject *>owner
    if delivery is not None:
        flight_address(flight, delivery.box)
    aiofs_request_retain(&flight.request)  # the mailbox's


cdef void after_refusal(aiofs_flight *flight) noexcept:
    """The engine did not take it."""
    flight_recall(flight)
    take(&flight.owner)
    aiofs_request_release(&flight.request)


cdef int launch(aiofs_flight *flight, aiofs_file *file, object owner, Delivery delivery) noexcept:
    """Submits; `owner` is held until the flight is opened. 0, or a negated errno: nothing was started."""
    cdef int error
    before_launch(flight, owner, delivery)
    with nogil:
        error = aiofs_submit(&flight.request, file)
    if error < 0:
        after_refusal(flight)
    return error


cdef object take(PyObject **reference):
    """The object of a reference, which is given up."""
    cdef object taken = None
    if reference[0] != NULL:
        taken = <object>reference[0]
        reference[0] = NULL
        Py_DECREF(taken)
    return taken


cdef int open_flight(aiofs_flight *flight, Delivery delivery) except -1:
    """The end as Python sees it: the buffers free, the owner told, those who wait woken, the function
    called. Raises only what the function raises to end the program (see Delivery.call)."""
    cdef object owner, futures
    if flight.opened:
        return 0
    flight.opened = True
    unpin(flight)
    owner = take(&flight.owner)
    futures = take(&flight.futures)
    try:
        if type(owner) is Operation:
            (<Operation>owner).ended(flight.request.result)
        if futures is not None:
            wake(<list>futures)
        if flight.notice.kind == C_SIGEV_LOOP and delivery is not None and flight.notice.function != NULL:
            delivery.call(&flight.notice)
    finally:
        drop_notice(&flight.notice)
        aiofs_request_release(&flight.request)
    return 0


cdef object end_future(object future):
    if not future.done():
        future.set_result(None)


cdef int wake(list futures) except -1:
    """Ends the futures of those who wait, each on its own loop; a closed one has nobody left."""
    cdef object running = _get_running_loop()
    for future in futures:
        loop = future.get_loop()
        if loop is running:
            end_future(future)
        elif not loop.is_closed():
            try:
                loop.call_soon_threadsafe(end_future, future)
            except RuntimeError:
                pass
    return 0


cdef int add_future(aiofs_flight *flight, object future) except -1:
    """`future` will be ended when the flight is opened."""
    if flight.futures == NULL:
        futures = []
        Py_INCREF(futures)
        flight.futures = <PyObject *>futures
    (<list>flight.futures).append(future)
    return 0


cdef void open_orphans() noexcept:
    """Opens what ended with no loop to tell."""
    cdef aiofs_flight *flight = mailbox_open(&aiofs_orphans, False)
    cdef aiofs_flight *next
    while flight != NULL:
        next = flight.next
        open_flight(flight, None)
        flight = next


cdef int open_orphans_pending(void *nothing) noexcept:
    open_orphans()
    return 0


aiofs_open_orphans = open_orphans_pending
