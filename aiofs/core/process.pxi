# The process: which engine runs, what it counts, what a fork means, and the end of the interpreter.
#
# There is one engine in a process, whichever language started it. At exit, requests that wait for a peer are
# cancelled and other requests get some seconds; afterwards no thread of the engine calls into the interpreter. In the
# child of a fork, a new `generation` begins: the handles that were made in an older one are the parent's, and so are
# their locks.

import atexit

from libc.stdlib cimport getenv
from libc.string cimport strcmp

cdef enum:
    DRAIN_SECONDS = 5


def engine():
    """The engine that carries requests out: 'io_uring' or 'threads'; started if it does not run.

    OSError when it cannot be had: EINVAL for an unknown word in AIOFS_ENGINE, ENOSYS when it demands
    io_uring and the kernel refuses.
    """
    cdef int error = aiofs_engine_start()
    if error < 0:
        raise engine_error(error)
    return aiofs_engine_name().decode()


cdef object engine_error(long error):
    """The exception for an engine that does not start (a negated errno)."""
    return make_error(-error, None, "starting the engine", engine_reason(error))


cdef str engine_reason(long error):
    """Why AIOFS_ENGINE cannot be obeyed; None: that is not the reason."""
    cdef const char *value = getenv("AIOFS_ENGINE")
    if value == NULL or error >= 0:
        return None
    if error == -EINVAL:
        return f"AIOFS_ENGINE={os.fsdecode(value)} is none of auto, io_uring and threads"
    if strcmp(value, "io_uring") == 0 and error != -EAGAIN and error != -ENOMEM:
        return (f"AIOFS_ENGINE=io_uring, which the kernel refuses ({os.strerror(-error)}); "
                "auto and threads do without")
    return None


def counters():
    """What the engine has done since the process began, as a dict of counts (see engine.h)."""
    cdef aiofs_counters seen
    aiofs_engine_counters(&seen)
    return seen


def drain_engine(double seconds=DRAIN_SECONDS):
    """Cancels requests that wait for a peer and gives other requests `seconds` to finish."""
    with nogil:
        aiofs_engine_drain(seconds)
    drain_unclaimed()


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
    drain_engine()
    python_ends()


atexit.register(_at_exit)
