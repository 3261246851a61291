# The 0 that aio_read, aio_suspend and lio_listio return. If it is awaited by mistake, its TypeError says what to await.
#
# There is one such object for each kind of call. It owns nothing but its text.


class _Zero(int):
    """An int 0 whose __await__ raises a TypeError with advice."""

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
