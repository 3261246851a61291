# Waiting for locks, in Python: entries/waiting.c does the work.
#
# An acquisition is bound to the thread while the function of an opening runs, so the function needs no parameter for it.
# A synchronous call waits inside that function, without the GIL. An asynchronous one is parked: its function raises
# EINPROGRESS, its host thread is free, and when it is its turn the function runs once more (operation.pxi).
#
# Ownership. The C stack of call_waiting, or an Operation, owns the acquisition.
#
# Locking. `call_again` runs without the GIL, with the namespace lock.

from libc.string cimport memset


def deadline_of(wait):
    """The time until which to wait, in ns of the monotonic clock, for a `wait` in seconds; 0: not at all.

    TypeError if `wait` is neither None nor a number, ValueError if it is negative or not a number.
    """
    cdef double seconds
    if wait is None:
        return 0
    if isinstance(wait, bool) or not isinstance(wait, (int, float)):
        raise TypeError(f"wait must be a number of seconds or None, not {type(wait).__name__}")
    if not wait >= 0:
        raise ValueError(f"wait must be 0 or more seconds, not {wait}")
    if wait > 1e9:
        return INT64_MAX
    seconds = wait
    return aiofs_now() + <int64_t>(seconds * 1e9) if seconds else 0


def call_waiting(wait, function, *arguments):
    """Returns function(*arguments). The first lock that it takes is waited for, up to `wait` seconds.

    Signal handlers run meanwhile; the wait goes on unless one raises.
    """
    cdef waiting_call call
    if not wait:
        deadline_of(wait)
        return function(*arguments)
    memset(&call, 0, sizeof(call))
    call.acquisition.until = deadline_of(wait)
    call.acquisition.looks = True
    try:
        while True:
            aiofs_acquisition_begin(&call.acquisition)
            try:
                return function(*arguments)
            except InterruptedError:
                if call.acquisition.waiter == NULL:
                    raise
            finally:
                aiofs_acquisition_begin(NULL)
            PyErr_CheckSignals()
    finally:
        with nogil:
            aiofs_acquisition_end(&call.acquisition)


cdef void call_again(aiofs_acquisition *acquisition) noexcept nogil:
    aiofs_call_again((<waiting_call *>acquisition).request)


def offload_waiting(int64_t until, key, function, *arguments):
    """As offload. The first lock that `function` takes is waited for until `until`, a time of deadline_of.

    Calls with an equal `key` take that lock in the order of the calls.
    """
    return start_offload(until, key_of_acquisition(key), function, arguments)


cdef uint64_t key_of_acquisition(key) except 0:
    return <uint64_t>hash(key) | 1


def _await_contention(AccessHandle handle):
    """The function of AccessHandle.contention."""
    cdef int status
    if handle.file == NULL or handle.closed or handle.made != generation:
        raise closed_error(handle.path, "contention", handle.made)
    status = aiofs_lock_ref_watch(aiofs_file_lock_ref(handle.file))
    if status == -EBADF:
        raise closed_error(handle.path, "contention", handle.made)
    if status < 0:
        raise make_error(-status, handle.path, "contention")


cdef list list_locks(aiofs_volume *volume, str doing, shown):
    """The locks of a volume, held and waited for: tuples (path, mode, pid, since, waiting, whether it is local)."""
    cdef aiofs_listed_lock *listed = NULL
    cdef long count, i
    cdef list found = []
    with nogil:
        count = aiofs_volume_locks(volume, &listed)
    if count < 0:
        raise make_error(-count, shown, doing)
    try:
        for i in range(count):
            found.append((os.fsdecode(listed[i].path), (<bytes>listed[i].mode).decode(), listed[i].pid,
                          listed[i].since / 1e9, bool(listed[i].waiting), bool(listed[i].local)))
        return found
    finally:
        aiofs_volume_locks_free(listed, count)
