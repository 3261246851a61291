# The control block of <aio.h>, its sigevent, and the await of one: aiocb.pxi.

cdef enum:
    NEVER, SUBMITTED, ENDED

cdef enum:
    _LIO_READ = 0, _LIO_WRITE = 1, _LIO_NOP = 2
    _LIO_WAIT = 0, _LIO_NOWAIT = 1

cdef extern from "Python.h":
    long long PyLong_AsLongLong(object) except? -1
    long PyLong_AsLongAndOverflow(object, int *overflow) except? -1

cdef class sigevent:
    cdef public object sigev_notify, sigev_signo, sigev_value, sigev_notify_function

@cython.final
cdef class aiocb:
    cdef public object aio_fildes, aio_buf, aio_nbytes, aio_offset, aio_reqprio, aio_lio_opcode
    cdef object event          # aio_sigevent; None until it is first set or read
    cdef aiofs_submission *submission  # a reference, in the state SUBMITTED
    cdef int64_t outcome       # in the state ENDED: the count, or a negated errno
    cdef int state, operation
    cdef int64_t in_list       # the number of the last lio_listio call that contained it
    cdef bint returned
    cdef object __weakref__
    cdef str describe(self)
    cdef inline int refresh(self) noexcept
    cdef inline void end(self, int64_t outcome) noexcept
    cdef object error(self)

cdef str operation_name(int operation)
cdef object request_error(aiocb cb, int64_t outcome)
cdef str descriptor_word(object fildes)
cdef str why_not_accepted(aiocb cb, int64_t error)

@cython.final
cdef class Awaiting:
    cdef aiocb cb
    cdef aiofs_submission *submission  # a reference; NULL: the request was terminal when the await began
    cdef bint waited  # the await has suspended once
    cdef inline bint may_return(self) except -1
    cdef inline bint has_ended(self) noexcept
    cdef object wait(self)
    cdef object result(self)
