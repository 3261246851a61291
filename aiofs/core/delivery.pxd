# Delivery on an event loop: delivery.pxi, and core/completions.h. The only part that knows loops and futures.
#
# The other parts get the LoopNotifier of the running loop from current_notifier, and pass it to submit_request. The
# await of a submission yields the object that await_end returns.

cdef extern from "core/completions.h" nogil:
    ctypedef struct aiofs_completion_queue:
        pass

    aiofs_completion_queue aiofs_unclaimed
    bint aiofs_python_ends
    bint aiofs_awaited_elsewhere

    void python_ends()
    aiofs_completion_queue *queue_new(int eventfd, int *error)
    void queue_release(aiofs_completion_queue *queue)
    aiofs_submission *queue_drain(aiofs_completion_queue *queue, bint last)
    bint submission_address(aiofs_submission *submission, aiofs_completion_queue *queue)
    void submission_withdraw(aiofs_submission *submission)
    void post_completion(aiofs_submission *submission)
    int unclaimed_wakeup_open(int eventfd)
    void unclaimed_wakeup_reset()

cdef extern from "core/completions.h":
    int (*aiofs_drain_unclaimed)(void *) noexcept

@cython.final
cdef class LoopNotifier:
    cdef object loop
    cdef object is_running         # the loop's bound method
    cdef unsigned long thread      # the thread in which the loop was last found running
    cdef object eventfd
    cdef aiofs_completion_queue *queue
    cdef aiofs_submission *first   # submissions to deliver, oldest first, linked by `next`; or NULL
    cdef aiofs_submission *last
    cdef dict awaited              # addresses of submissions that are awaited on this loop; each holds a reference
    cdef bint scheduled            # the loop will call deliver()
    cdef bint counting             # this turn's budget is being counted
    cdef int missed                # consecutive copies that were tried and not made; a delivery reduces it to 1
    cdef bint must_yield           # the budget of this turn is spent
    cdef size_t spent              # bytes copied inside calls in this turn
    cdef size_t clocked            # `spent` when the clock was last read
    cdef int64_t turn_began        # CLOCK_MONOTONIC, ns
    cdef bint turning              # the loop will call turned()
    cdef bint making               # turned() makes some of the calls that wait
    cdef object waiting            # a deque of what waits for a turn: futures and QueuedCalls; or None
    cdef int64_t tick              # CLOCK_MONOTONIC_COARSE when it was last read, ns
    cdef object __weakref__

    # for the other parts
    cdef void address(self, aiofs_submission *submission) noexcept
    cdef inline int affords(self, size_t size) except -1
    cdef inline bint affords_call(self) except -1
    cdef inline bint has_turn(self) except -1
    cdef object turn_for_call(self)
    cdef int append(self, object waiting) except -1
    cdef bint calls_wait(self) noexcept
    cdef inline void tried(self, int64_t moved) noexcept
    cdef inline object reporter(self)

    # for delivery.pxi
    cdef void end(self) noexcept
    cdef void collect(self, aiofs_submission *submissions) noexcept
    cdef aiofs_submission *next_ready(self) noexcept
    cdef int schedule(self) except -1
    cdef int await_on(self, aiofs_submission *submission, object waiter) except -1
    cdef void awaited_no_more(self, aiofs_submission *submission) noexcept
    cdef int settle(self) except -1
    cdef int call(self, aiofs_callback *callback) except -1
    cdef int begin_turn(self, size_t size) except -1
    cdef inline bint is_spent(self) noexcept
    cdef int look_at_clock(self, size_t size) noexcept
    cdef int make_calls(self) except -1

# The loop that runs in this thread
cdef LoopNotifier current_notifier()
cdef bint turn_is_spent() except -1
cdef object no_loop_error(str doing)

# Awaiting a submission
cdef object await_end(aiofs_submission *submission, str doing)
cdef int add_waiter(aiofs_submission *submission, object waiter) except -1
cdef int remove_waiter(aiofs_submission *submission, object waiter) except -1
cdef void end_waiters(aiofs_submission *submission) noexcept

# Failures
cdef object cancelled_error()
cdef bint is_cancelled_error(object error)
cdef int report_failure(object reporter, object error) except -1

cdef void drain_unclaimed() noexcept
