# The process: which engine runs, what it counts, what a fork means, and the end of the interpreter.

import atexit

cdef enum:
    SETTLE_SECONDS = 5


def engine():
    """The engine that carries requests out: 'io_uring' or 'threads'; started if it does not run.

    OSError when it cannot be had: EINVAL for an unknown word in AIOFS_ENGINE, ENOSYS when it demands
    io_uring and the kernel refuses.
    """
    cdef int error = aiofs_engine_start()
    if error < 0:
        raise make_error(-error, "AIOFS_ENGINE=" + os.environ.get("AIOFS_ENGINE", ""), "starting the engine")
    return aiofs_engine_name().decode()


def counters():
    """What the engine has done since the process began, as a dict of counts (see engine.h)."""
    cdef aiofs_counters seen
    aiofs_engine_counters(&seen)
    return seen


def settle(double seconds=SETTLE_SECONDS):
    """Cancels requests that wait for a peer and gives the others `seconds` to finish."""
    with nogil:
        aiofs_engine_settle(seconds)
    open_orphans()


cdef void look_at_signals():
    """CPython ignores SIGXFSZ: a write inside the call may meet RLIMIT_FSIZE without harm."""
    global aiofs_sigxfsz_ignored
    aiofs_sigxfsz_ignored = signal.getsignal(signal.SIGXFSZ) == signal.SIG_IGN


look_at_signals()


def _after_fork_in_child():
    """The parent's access handles are the parent's."""
    global generation
    generation += 1


os.register_at_fork(after_in_child=_after_fork_in_child)


def _at_exit():
    settle()
    python_ends()


atexit.register(_at_exit)
