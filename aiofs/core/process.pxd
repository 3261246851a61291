# The process and its engine: process.pxi.

cdef object engine_error(long error)
cdef str engine_reason(long error)
