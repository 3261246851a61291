# The awaitable that the methods of open files return: file_call.pxi.

cdef extern from "Python.h":
    int PyIter_Send(object iterator, object argument, PyObject **result) except -1

@cython.final
cdef class FileCall:
    cdef BufferedFile file     # None: the call has ended
    cdef str name
    cdef tuple arguments
    cdef int kind
    cdef bint has_turn         # it has yielded to let the loop turn, and has the turn of its file
    cdef object slow           # the coroutine that makes the call on a host thread
    cdef int start_slow(self) except -1
    cdef int drop_turn(self) except -1
