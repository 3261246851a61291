# The 0 that calls return: zero.pxi.

cdef object ZERO
cdef object SUSPENDED
cdef object LISTED
