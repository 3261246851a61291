# The process: its engine, the engine's counters, fork, and the exit of the interpreter.
#
# A process has one engine, for its C code and its Python code. At exit, _at_exit cancels the requests on streams and
# gives all other requests DRAIN_SECONDS to complete. After that no thread of the engine calls into the interpreter.
#
# Fork. `generation` counts the forks between the first process and this one. A handle of another generation, and its
# lock, belong to a parent process.

import atexit

from libc.stdlib cimport getenv
from libc.string cimport strcmp

cdef enum:
    DRAIN_SECONDS = 5


def engine():
    """Returns the name of the engine, 'io_uring' or 'threads'. Starts the engine if it does not run.

    OSError EINVAL if AIOFS_ENGINE has an unknown value, ENOSYS if it demands io_uring and the kernel
    refuses io_uring, EAGAIN if a resource is exhausted.
    """
    cdef int error = aiofs_engine_start()
    if error < 0:
        raise engine_error(error)
    return aiofs_engine_name().decode()


cdef object engine_error(long error):
    """The exception for an engine that does not start (a negated errno)."""
    return make_error(-error, None, "starting the engine", engine_reason(error))


cdef str engine_reason(long error):
    """The reason, if the value of AIOFS_ENGINE is the cause of the error; else None."""
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
    """Returns the engine's counters since the process began, as a dict (see struct aiofs_counters in engine.h)."""
    cdef aiofs_counters seen
    aiofs_engine_counters(&seen)
    return seen


def drain_engine(double seconds=DRAIN_SECONDS):
    """Cancels the requests on streams, and gives all other requests `seconds` to complete."""
    with nogil:
        aiofs_engine_drain(seconds)
    drain_unclaimed()


cdef void look_at_signals():
    """Informs the engine whether SIGXFSZ is ignored, as CPython does. Then a write needs no check of RLIMIT_FSIZE."""
    global aiofs_sigxfsz_ignored
    aiofs_sigxfsz_ignored = signal.getsignal(signal.SIGXFSZ) == signal.SIG_IGN


look_at_signals()


def _after_fork_in_child():
    """Marks all handles that exist now as the parent's."""
    global generation
    generation += 1


os.register_at_fork(after_in_child=_after_fork_in_child)


def _at_exit():
    drain_engine()
    python_ends()


atexit.register(_at_exit)
