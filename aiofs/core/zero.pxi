# The 0 that aio_read and its like return: an int that is awaited by mistake says what to await instead.
#
# One object for each kind of call, made once: they hold nothing but their advice.


class _Zero(int):
    """The 0 of a call that returns at once: an int that says what to await, if it is awaited itself."""

    def __new__(cls, advice):
        zero = int.__new__(cls)
        zero.advice = advice
        return zero

    def __await__(self):
        raise TypeError(self.advice)

    def __reduce__(self):
        return int, (0,)


cdef object ZERO = _Zero("the call returns 0 at once, and cannot be awaited: await the aiocb after it, `await cb`")
cdef object SUSPENDED = _Zero("aio_suspend blocks the thread and returns 0: to await, take aio.suspend(list, timeout)")
cdef object LISTED = _Zero("lio_listio returns 0 and cannot be awaited: with LIO_NOWAIT, await its aiocbs after it")
