# Delivery on an event loop: the only part of the core that knows loops and futures.
#
# Each loop has a LoopNotifier. It lives as long as the loop watches its eventfd. A submission that is made while the
# loop runs is addressed to the completion queue of the loop's notifier. One wake-up of the loop covers all completions
# since the last drain of that queue. They are delivered in the order of completion, at most SLICE of them and for at
# most SLICE_NS per turn of the loop, so ten thousand completions do not block the loop.
#
# An await yields a future of its loop. The submission holds a list of these futures, its waiters. When the submission
# is delivered, each future gets its result on its own loop. When a loop is closed, it drops its references to the
# LoopNotifier. The LoopNotifier then closes the completion queue and cancels the requests that were awaited there.
#
# Awaits on another loop. A submission may be awaited on a loop other than the one that it is addressed to, and that
# other one may have stopped. So while there is such an await, each completion also wakes the loops that run. They settle
# what is in the queues of all loops: the buffers are released, the owners are updated and the awaits wake up. The
# function of SIGEV_LOOP is left for its own loop.
#
# Ownership. `notifiers` has weak references only: the loop owns its LoopNotifier, through the callbacks of add_reader.
# A submission owns one reference to its list of waiters. `awaited` holds one reference to each submission in it.
#
# Locking. The GIL guards all of this. The engine's threads only push into the queue (completions.h).
#
# The budget. While bytes are copied inside a call, as for a cached read, the loop cannot turn. So each turn has a
# budget of TURN_BYTES bytes and TURN_NS nanoseconds; the program's own time counts too. Once it is spent:
#   - a request of more than YIELD_BYTES goes to the engine;
#   - a smaller request is still copied inside the call, because a submission would take longer than the copy; but a
#     request of a list, which may have no await, goes to the engine too;
#   - a call that finds, opens or closes a file waits for a turn of its own, first come, first served: CALLS_OF_A_TURN of
#     them are made in each turn. Those of a handle are made by the callback that ends a turn (see turn.pxi). One that
#     opens a file by its path is a coroutine, and is made by its task. So it is made in a turn that others may have
#     used up; once that has lasted CALLS_NS nanoseconds, it goes to a host thread;
#   - each await lets the loop turn once, even if its request is terminal.
# A turn is counted from its first copy inside a call, or from its first await that need not wait. A callback that is
# scheduled then ends it. If a copy was tried and the bytes were not cached, the next MISSES tries count no turn: their
# awaits wait anyway, and the callback would cost one more poll of the loop. The clock is read after each CLOCK_BYTES
# bytes, or when the coarse clock, which costs a quarter as much, has advanced.

import asyncio
from asyncio import _get_running_loop
from weakref import ref as weakref

cdef extern from "<unistd.h>" nogil:
    ssize_t c_read "read"(int fd, void *buffer, size_t size)

cdef extern from "<time.h>" nogil:
    int clock_gettime(int clock, timespec *out)
    int CLOCK_MONOTONIC, CLOCK_MONOTONIC_COARSE

cdef enum:
    TURN_BYTES = 4 * 1024 * 1024
    TURN_NS = 500_000
    CALLS_NS = 4 * TURN_NS
    CALLS_OF_A_TURN = 32
    YIELD_BYTES = 16 * 1024
    CLOCK_BYTES = 64 * 1024
    SLICE_NS = 500_000
    SLICE = 256
    MISSES = 16


cdef int64_t now_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec * 1_000_000_000 + now.tv_nsec


cdef inline int64_t tick_ns() noexcept nogil:
    """The time of the kernel's last clock tick, on the same clock."""
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now)
    return now.tv_sec * 1_000_000_000 + now.tv_nsec


cdef dict notifiers = {}  # from the id of a loop to a weak reference to its LoopNotifier
cdef object unclaimed_eventfd = None  # every loop watches it; made together with the first LoopNotifier
cdef dict elsewhere = {}  # the addresses of undelivered submissions that are awaited on a loop that is not theirs
cdef PyObject *last_notifier = NULL  # the LoopNotifier used last; borrowed, cleared by its end()


@cython.final
@cython.no_gc_clear
cdef class LoopNotifier:
    def __cinit__(self, loop):
        cdef int error = 0
        self.loop = loop
        self.is_running = loop.is_running
        self.awaited = {}
        watched = unclaimed_eventfd_made()
        self.eventfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.queue = queue_new(self.eventfd, &error)
        if self.queue == NULL:
            os.close(self.eventfd)
            raise engine_error(error)
        loop.add_reader(self.eventfd, self.completions_ready)
        try:
            loop.add_reader(watched, self.unclaimed_ready)
        except BaseException:
            loop.remove_reader(self.eventfd)  # else the loop would hold this object
            raise

    def __dealloc__(self):
        self.end()

    cdef void end(self) noexcept:
        """The loop is closed. Closes the queue, cancels awaited requests, delivers completions without a loop."""
        global last_notifier
        cdef aiofs_submission *submission
        if last_notifier == <PyObject *>self:
            last_notifier = NULL
        if self.queue == NULL:
            return
        submission = queue_drain(self.queue, True)
        for address in list(self.awaited):
            aiofs_cancel_soon(&(<aiofs_submission *><uintptr_t>address).request)
            self.awaited_no_more(<aiofs_submission *><uintptr_t>address)
        self.collect(submission)
        while self.first != NULL:
            deliver_completion(self.next_ready(), None)
        while self.waiting:
            first = self.waiting.popleft()
            if type(first) is QueuedCall:
                (<QueuedCall>first).without_turn()
        queue_release(self.queue)
        self.queue = NULL
        os.close(self.eventfd)

    cdef void collect(self, aiofs_submission *submissions) noexcept:
        """Appends a list of submissions to those that are ready."""
        if submissions == NULL:
            return
        if self.first == NULL:
            self.first = submissions
        else:
            self.last.next = submissions
        while submissions.next != NULL:
            submissions = submissions.next
        self.last = submissions

    cdef aiofs_submission *next_ready(self) noexcept:
        """Removes and returns the oldest submission that is ready."""
        cdef aiofs_submission *submission = self.first
        self.first = submission.next
        return submission

    def completions_ready(self):
        """The eventfd is readable: there are completions."""
        cdef uint64_t count = 0
        c_read(self.eventfd, &count, sizeof(count))
        self.deliver()

    def unclaimed_ready(self):
        """The eventfd of the unclaimed completions is readable."""
        cdef uint64_t count = 0
        c_read(unclaimed_eventfd, &count, sizeof(count))
        drain_unclaimed()
        if elsewhere:
            settle_others(self, False)

    cdef int settle(self) except -1:
        """Settles the completed submissions of this loop, which another loop awaits. This loop delivers them later."""
        cdef aiofs_submission *submission
        self.collect(queue_drain(self.queue, False))
        completed = []  # first, because this loop may run in another thread, and deliver them meanwhile
        submission = self.first
        while submission != NULL:
            aiofs_request_retain(&submission.request)
            completed.append(<uintptr_t>submission)
            submission = submission.next
        try:
            for address in completed:
                submission = <aiofs_submission *><uintptr_t>address
                self.awaited_no_more(submission)
                settle_completion(submission)
        finally:
            for address in completed:
                aiofs_request_release(&(<aiofs_submission *><uintptr_t>address).request)
        return 0

    def deliver(self):
        """Delivers at most one slice of the ready submissions, and schedules itself for the rest."""
        cdef aiofs_submission *submission
        cdef int64_t began = now_ns()
        cdef int delivered = 0
        self.scheduled = False
        self.counting = False
        self.missed = self.missed != 0
        self.collect(queue_drain(self.queue, False))
        try:
            while self.first != NULL:
                if delivered >= SLICE or now_ns() - began > SLICE_NS:
                    break
                submission = self.next_ready()
                if submission.waiters != NULL:
                    self.awaited_no_more(submission)
                delivered += 1
                deliver_completion(submission, self)
        finally:
            if self.first != NULL:
                self.schedule()

    cdef int schedule(self) except -1:
        if not self.scheduled:
            self.loop.call_soon(self.deliver)
            self.scheduled = True
        return 0

    cdef void address(self, aiofs_submission *submission) noexcept:
        """Addresses a submission to this loop, unless it is addressed to another."""
        submission_address(submission, self.queue)

    cdef int await_on(self, aiofs_submission *submission, object waiter) except -1:
        """Gives `waiter`, a future, its result at delivery. If this loop is closed before, cancels the request."""
        cdef bint follows = False
        if submission.delivered:
            end_waiter(waiter)
            return 0
        submission.no_wakeup = False  # first, because post_completion reads it after it has exchanged `queue`
        if submission_address(submission, self.queue):
            if <uintptr_t>submission not in self.awaited:
                self.awaited[<uintptr_t>submission] = True
                aiofs_request_retain(&submission.request)
            # An operation that is not submitted yet follows others, which may be in the queue of a loop that has stopped.
            if aiofs_request_state(&submission.request) == AIOFS_NEW and another_has_stopped(self):
                await_elsewhere(submission)
                follows = True
        elif not await_elsewhere(submission):
            settle_others(self, True)
            end_waiter(waiter)
            return 0
        if submission.waiters == NULL:
            waiters = []
            Py_INCREF(waiters)
            submission.waiters = <PyObject *>waiters
        (<list>submission.waiters).append(waiter)
        if follows:
            settle_others(self, True)
        return 0

    cdef void awaited_no_more(self, aiofs_submission *submission) noexcept:
        if self.awaited.pop(<uintptr_t>submission, False):
            aiofs_request_release(&submission.request)

    cdef int call(self, aiofs_callback *callback) except -1:
        """Runs a SIGEV_LOOP function in the context of its submission. Exceptions go to the loop's handler."""
        function = <object>callback.function
        value = <object>callback.value
        try:
            (<object>callback.context).run(function, value)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.loop.call_exception_handler({
                "message": f"Exception in sigev_notify_function {function!r}",
                "exception": error,
            })
        return 0

    cdef inline object reporter(self):
        """The argument for report_failure: the loop."""
        return self.loop

    # ---- the budget ----

    cdef inline int affords(self, size_t size) except -1:
        """May the call copy `size` bytes in this turn? 0: no; 1: yes; 2: yes, and the await lets the loop turn."""
        if not self.counting:
            if self.missed and self.missed < MISSES:
                return 1
            self.begin_turn(size)
            return 1
        self.spent += size
        if self.must_yield or self.spent - self.clocked >= CLOCK_BYTES:
            return self.look_at_clock(size)
        return 1

    cdef inline bint affords_call(self) except -1:
        """May a call that has waited for its turn make a few system calls, as an open does? They cost some microseconds,
        less than a trip to another thread; so they are made for a while after the budget is spent."""
        cdef int64_t elapsed
        if not self.counting:
            self.begin_turn(0)
            return True
        elapsed = now_ns() - self.turn_began
        self.must_yield = self.must_yield or elapsed > TURN_NS
        return elapsed < CALLS_NS

    cdef inline bint has_turn(self) except -1:
        """May a call that opens a file be made now? If not, it waits behind those that wait.

        So a thousand tasks that open files let the loop turn after some of them.
        """
        if self.making:
            return True
        if self.waiting:
            self.must_yield = True
            return False
        if not self.counting:
            self.begin_turn(0)
        elif not self.must_yield:
            self.must_yield = now_ns() - self.turn_began > TURN_NS
        return not self.must_yield

    cdef object turn_for_call(self):
        """None if a call may be made in this turn, else a future: it is done when it may."""
        if self.has_turn():
            return None
        future = self.loop.create_future()
        self.append(future)
        return future

    cdef int append(self, object waiting) except -1:
        """Adds a future, or a QueuedCall, to what waits for a turn. `has_turn` has said no: a turn is counted."""
        if self.waiting is None:
            self.waiting = deque()
        self.waiting.append(waiting)
        return 0

    cdef bint calls_wait(self) noexcept:
        return self.waiting is not None and len(self.waiting) > 0

    cdef inline void tried(self, int64_t moved) noexcept:
        """Records the result of a copy that `affords` allowed: the count, or AIOFS_NOT_INLINE."""
        self.missed = self.missed + 1 if moved == AIOFS_NOT_INLINE else 0

    cdef int begin_turn(self, size_t size) except -1:
        if not self.turning:
            self.loop.call_soon(self.turned)
            self.turning = True
        self.counting = True
        self.must_yield = False
        self.spent = self.clocked = size
        self.turn_began = now_ns()
        self.tick = tick_ns()
        return 0

    cdef inline bint is_spent(self) noexcept:
        """Is the budget of this turn spent, so that every await must let the loop turn?"""
        cdef int64_t tick
        if not self.must_yield:
            tick = tick_ns()
            if tick != self.tick:
                self.tick = tick
                self.must_yield = now_ns() - self.turn_began > TURN_NS
        return self.must_yield

    cdef int look_at_clock(self, size_t size) noexcept:
        self.clocked = self.spent
        if not self.must_yield:
            self.must_yield = self.spent > TURN_BYTES or now_ns() - self.turn_began > TURN_NS
        return 1 if not self.must_yield else 2 if size <= YIELD_BYTES else 0

    def turned(self):
        """The callback that ends a counted turn. In the next one some of the waiting calls are made."""
        self.counting = self.turning = False
        if not self.waiting:
            return
        self.begin_turn(0)  # first: whatever happens, the others have their turn
        self.making = True
        try:
            self.make_calls()
        finally:
            self.making = False

    cdef int make_calls(self) except -1:
        cdef int made = 0
        while self.waiting and made < CALLS_OF_A_TURN and (not made or now_ns() - self.turn_began < TURN_NS):
            first = self.waiting.popleft()
            if type(first) is QueuedCall:
                made += (<QueuedCall>first).make()
            elif not first.done():  # else its await was cancelled
                first.set_result(None)
                made += 1
        return 0


cdef object no_loop_error(str doing):
    """The RuntimeError for `doing`, which needs a loop, where no asyncio loop runs; trio's loop is none."""
    return RuntimeError(f"{doing} needs a running asyncio or uvloop event loop, and none runs in this thread "
                        "(trio's loop is another kind)")


cdef object unclaimed_eventfd_made():
    global unclaimed_eventfd
    if unclaimed_eventfd is None:
        fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        error = unclaimed_wakeup_open(fd)
        if error < 0:
            os.close(fd)
            raise engine_error(error)
        unclaimed_eventfd = fd
    return unclaimed_eventfd


def _reset_loops():
    """In the child of a fork: a loop of the parent does not run here, even if its is_running() returns True."""
    global last_notifier, unclaimed_eventfd, aiofs_awaited_elsewhere
    last_notifier = NULL
    notifiers.clear()
    elsewhere.clear()
    aiofs_awaited_elsewhere = False
    unclaimed_eventfd = None
    unclaimed_wakeup_reset()


os.register_at_fork(after_in_child=_reset_loops)


cdef LoopNotifier notifier_of(object loop):
    """The LoopNotifier of a running loop. The first call makes it."""
    cdef LoopNotifier notifier
    drain_unclaimed()
    for key, reference in list(notifiers.items()):
        notifier = reference()
        if notifier is None:
            notifiers.pop(key, None)  # another thread may have removed it
        elif notifier.loop.is_closed():
            notifiers.pop(key, None)
            notifier.end()
        elif notifier.loop is loop:
            break
    else:
        notifier = LoopNotifier(loop)
        notifiers[id(loop)] = weakref(notifier)
    return notifier

cdef extern from "Python.h":
    int PY_VERSION_HEX
    PyObject *PyThreadState_GetDict()
    PyObject *PyDict_GetItemWithError(PyObject *mapping, object key) except? NULL

# Before Python 3.13 asyncio's C code keeps the running loop in the thread's dictionary. If the key is missing there, no
# loop runs in this thread, and _get_running_loop need not be called.
cdef bint loops_leave_a_trace = PY_VERSION_HEX < 0x030D0000 and type(_get_running_loop) is type(len)


cdef inline LoopNotifier current_notifier():
    """The LoopNotifier of the loop that runs in this thread, or None. (_get_running_loop would cost a getpid.)"""
    cdef LoopNotifier notifier
    if last_notifier != NULL:
        notifier = <LoopNotifier>last_notifier
        if notifier.thread == PyThread_get_thread_ident() and notifier.is_running():
            return notifier
    return look_for_notifier()


cdef inline object running_loop():
    """The loop that runs in this thread, or None."""
    cdef LoopNotifier notifier
    if last_notifier != NULL:
        notifier = <LoopNotifier>last_notifier
        if notifier.thread == PyThread_get_thread_ident() and notifier.is_running():
            return notifier.loop
    return _get_running_loop()


cdef inline bint turn_is_spent() except -1:
    """Must an await of a terminal request let the loop turn, because the budget of this turn is spent?"""
    cdef LoopNotifier notifier
    if last_notifier != NULL and (<LoopNotifier>last_notifier).thread == PyThread_get_thread_ident():
        notifier = <LoopNotifier>last_notifier
    else:
        notifier = look_for_notifier()
    if notifier is None:
        return False
    if notifier.counting:
        return notifier.is_spent() and notifier.is_running()
    if notifier.is_running():
        notifier.begin_turn(0)
    return False


def _turn_for_call():
    """What to await before a call that opens a file inside it; None: nothing. None, too, where no loop runs."""
    cdef LoopNotifier notifier = current_notifier()
    return None if notifier is None else notifier.turn_for_call()


def _turn_is_spent():
    """For aio.suspend."""
    return turn_is_spent()


cdef LoopNotifier look_for_notifier():
    global last_notifier
    cdef PyObject *thread
    cdef LoopNotifier notifier
    if loops_leave_a_trace:
        thread = PyThreadState_GetDict()
        if thread != NULL and PyDict_GetItemWithError(thread, "__asyncio_running_event_loop__") == NULL:
            return None
    loop = _get_running_loop()
    if loop is None:
        return None
    notifier = notifier_of(loop)
    notifier.thread = PyThread_get_thread_ident()
    last_notifier = <PyObject *>notifier
    return notifier


# ---- awaiting a submission -------------------------------------------------------------------------------

cdef object await_end(aiofs_submission *submission, str doing):
    """Returns a future that is done when the submission is delivered. RuntimeError if no loop runs for `doing`."""
    cdef LoopNotifier notifier = current_notifier()
    if notifier is None:
        raise no_loop_error(doing)
    aiofs_request_retain(&submission.request)  # another thread may end it while the future is made
    try:
        future = notifier.loop.create_future()
        notifier.await_on(submission, future)
    finally:
        aiofs_request_release(&submission.request)
    future._asyncio_future_blocking = True
    return future


cdef int add_waiter(aiofs_submission *submission, object waiter) except -1:
    """Gives `waiter`, a future of the running loop, its result when the submission is delivered."""
    return current_notifier().await_on(submission, waiter)


cdef int remove_waiter(aiofs_submission *submission, object waiter) except -1:
    """Undoes add_waiter; does nothing if the submission was delivered."""
    cdef LoopNotifier notifier = current_notifier()
    cdef list waiters
    if submission.waiters == NULL:
        return 0
    waiters = <list>submission.waiters
    if waiter in waiters:
        waiters.remove(waiter)
        if not waiters and notifier is not None:
            notifier.awaited_no_more(submission)
    return 0


cdef bint await_elsewhere(aiofs_submission *submission) except -1:
    """Lets completions in the queues of other loops wake this loop, until the submission is delivered. False: its request
    is terminal."""
    global aiofs_awaited_elsewhere
    if aiofs_request_terminal(&submission.request):
        return False
    elsewhere[<uintptr_t>submission] = True
    aiofs_awaited_elsewhere = True  # before the load below: post_completion reads it after the state became terminal
    if aiofs_request_terminal(&submission.request):
        elsewhere_no_more(submission)
        return False
    return True


cdef inline void elsewhere_no_more(aiofs_submission *submission) noexcept:
    global aiofs_awaited_elsewhere
    if aiofs_awaited_elsewhere and elsewhere.pop(<uintptr_t>submission, False) and not elsewhere:
        aiofs_awaited_elsewhere = False


cdef bint another_has_stopped(LoopNotifier running) except -1:
    """Is there a loop that is neither closed nor running?"""
    for reference in list(notifiers.values()):
        notifier = reference()
        if notifier is not None and notifier is not running and not (<LoopNotifier>notifier).is_running():
            return True
    return False


cdef int settle_others(LoopNotifier running, bint stopped) except -1:
    """Settles the completed submissions of the other loops; `stopped`: only of those that do not run."""
    if len(notifiers) < 2:
        return 0
    for reference in list(notifiers.values()):
        notifier = reference()
        if notifier is None or notifier is running or (<LoopNotifier>notifier).queue == NULL:
            continue
        if not (stopped and (<LoopNotifier>notifier).is_running()):
            (<LoopNotifier>notifier).settle()
    return 0


cdef void end_waiters(aiofs_submission *submission) noexcept:
    """Wakes the awaits of a submission that will not be delivered, because the engine did not accept it."""
    cdef object waiters = take(&submission.waiters)
    submission.delivered = True  # for an await that begins later
    elsewhere_no_more(submission)
    if waiters is None:
        return
    for reference in notifiers.values():
        notifier = reference()
        if notifier is not None:
            (<LoopNotifier>notifier).awaited_no_more(submission)
    wake(<list>waiters)


cdef object end_waiter(object waiter):
    if not waiter.done():
        waiter.set_result(None)


cdef int wake(list waiters) except -1:
    """Gives futures their results, each on its own loop; skips those of closed loops."""
    cdef object running = running_loop()
    for waiter in waiters:
        loop = waiter.get_loop()
        if loop is running:
            end_waiter(waiter)
        elif not loop.is_closed():
            try:
                loop.call_soon_threadsafe(end_waiter, waiter)
            except RuntimeError:
                pass
    return 0


# ---- delivering ------------------------------------------------------------------------------------------

cdef int deliver_completion(aiofs_submission *submission, LoopNotifier notifier) except -1:
    """Delivers one completion: releases the buffers, updates the owner, wakes the awaits, calls the function of
    SIGEV_LOOP. Each step is done even if the one before raises: SystemExit or KeyboardInterrupt of that function (see
    LoopNotifier.call), of a signal handler, or MemoryError."""
    if submission.delivered:
        return 0
    submission.delivered = True
    try:
        settle_completion(submission)
    finally:
        try:
            if submission.callback != NULL and notifier is not None:
                notifier.call(submission.callback)
        finally:
            drop_notice(submission)
            aiofs_request_release(&submission.request)
    return 0


cdef int settle_completion(aiofs_submission *submission) except -1:
    """The part of a delivery that any loop may do, and that happens once: releases the buffers, updates the owner, wakes
    the awaits."""
    cdef object waiters = take(&submission.waiters)
    elsewhere_no_more(submission)
    try:
        end_submission(submission)
    finally:
        if waiters is not None:
            wake(<list>waiters)
    return 0


cdef void drain_unclaimed() noexcept:
    """Delivers the unclaimed completions, which have no loop."""
    cdef aiofs_submission *submission = queue_drain(&aiofs_unclaimed, False)
    cdef aiofs_submission *next
    while submission != NULL:
        next = submission.next
        deliver_completion(submission, None)
        submission = next


cdef int drain_unclaimed_pending(void *nothing) noexcept:
    drain_unclaimed()
    return 0


aiofs_drain_unclaimed = drain_unclaimed_pending


# ---- failures --------------------------------------------------------------------------------------------

cdef object cancelled_error():
    return asyncio.CancelledError()


cdef bint is_cancelled_error(object error):
    return isinstance(error, asyncio.CancelledError)


cdef int report_failure(object reporter, object error) except -1:
    """Passes a failure that nothing awaited to the exception handler of a loop. `reporter`: see LoopNotifier."""
    if not reporter.is_closed():
        reporter.call_exception_handler({
            "message": "An operation failed and was never awaited",
            "exception": error,
        })
    return 0
