# The process: process.pxi.

cdef object engine_error(long error)
cdef str engine_reason(long error)
