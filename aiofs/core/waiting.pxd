# Waiting for locks: waiting.pxi.

# An acquisition, and the request that is parked while it waits. `acquisition` is first: a pointer to it is a pointer to
# the whole.
cdef struct waiting_call:
    aiofs_acquisition acquisition
    aiofs_request *request

cdef void call_again(aiofs_acquisition *acquisition) noexcept nogil
cdef uint64_t key_of_acquisition(key) except 0
cdef list list_locks(aiofs_volume *volume, str doing, shown)
