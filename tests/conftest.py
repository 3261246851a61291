"""How the tests run: coroutines on both loops, a check for leaks, faults in the engine's calls.

An `async def` test runs twice, on uvloop and on asyncio's own loop (in debug mode if
PYTHONASYNCIODEBUG is set), each time on a new loop that is closed afterwards. A call of the loop's
exception handler fails the test, unless the test uses the fixture `loop_errors`.

AIOFS_ENGINE chooses the engine of the process. The engine's table of system calls is replaced
before the engine starts, so any test can use the fixture `faults`.
"""

import asyncio
import ctypes
import gc
import inspect
import math
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import pytest
import uvloop
from native import COMPILER, INCLUDES, compile_c
from support import CONTENT, mounted

import aiofs
from aiofs import PrivateVolume, _core

TESTS = Path(__file__).parent
LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
TEST_SECONDS = 60

# Signals that tests fetch by sigtimedwait. They are sent to the process. A thread that does not
# block them would receive one, which would end the process. So this blocks them before a second
# thread starts.
FETCHED_SIGNALS = {signal.SIGRTMIN + 2, signal.SIGRTMIN + 3}
signal.pthread_sigmask(signal.SIG_BLOCK, FETCHED_SIGNALS)
if len(os.listdir("/proc/self/task")) > 1:
    pytest.exit(
        "a thread was started before these tests, and would receive their signals: "
        "OPENBLAS_NUM_THREADS=1, which `make test` sets, keeps numpy from starting threads",
        2,
    )


# ---- coroutines ---------------------------------------------------------------------------------


@pytest.fixture(params=LOOPS)
def new_loop(request):
    """A function that makes a loop; the test runs with uvloop's and with asyncio's."""
    return LOOPS[request.param]


@pytest.fixture
def loop_errors():
    """The contexts that the exception handler of the test's loop was called with, as a list."""
    return []


@pytest.fixture
def run(new_loop):
    """run(coroutine) runs it on a new loop, closes the loop and returns the result."""
    return lambda coroutine: run_on(new_loop(), coroutine)


def run_on(loop, coroutine, errors=None):
    unexpected = [] if errors is None else errors
    loop.set_exception_handler(lambda _, context: unexpected.append(context))
    # In debug mode a loop logs each slow callback, and pytest keeps the log records. On a slow
    # machine these would change the number of objects that a test counts.
    loop.slow_callback_duration = math.inf
    try:
        return loop.run_until_complete(asyncio.wait_for(coroutine, TEST_SECONDS))
    finally:
        try:
            loop.run_until_complete(finish())
        finally:
            loop.close()
    if errors is None:
        assert unexpected == []


async def finish():
    loop = asyncio.get_running_loop()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()


def pytest_pycollect_makeitem(collector, name, obj):
    if collector.istestfunction(obj, name) and inspect.iscoroutinefunction(obj):
        pytest.mark.usefixtures("new_loop")(obj)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    available = pyfuncitem.funcargs
    arguments = {name: available[name] for name in pyfuncitem._fixtureinfo.argnames}
    run_on(available["new_loop"](), pyfuncitem.obj(**arguments), arguments.get("loop_errors"))
    return True


# ---- which rounds of `make test` a test is in ----------------------------------------------------

# `make test` runs four rounds: tests that run once, the others on each engine, and those of
# coroutines in asyncio's debug mode.
#
# These tests run once. They submit only calls to host threads, which are the same on both engines,
# or they start programs for which one engine is enough.
ONCE = (
    "bench/",
    "crash/test_power_cut.py",
    "engine/",
    "files/",
    "fuzz/test_bad_arguments.py",
    "fuzz/test_beside_os.py",
    "fuzz/test_files_beside_open.py",
    "fuzz/test_lock_model.py",
    "fuzz/test_namespace.py",
    "handles/test_access_handle_opening.py",
    "handles/test_directory_and_file_handles.py",
    "handles/test_file_objects",
    "handles/test_handle_lifetimes.py",
    "handles/test_killed_commit.py",
    "handles/test_move.py",
    "handles/test_reflink.py",
    "handles/test_waiting_for_locks.py",
    "run/test_run.py",
    "run/test_run_locks.py",
    "test_cli.py",
    "test_demo.py",
    "test_docs.py",
    "test_doctor.py",
    "test_rounds.py",
    "test_error_classes.py",
    "test_errors.py",
    "test_examples.py",
    "test_filesystem.py",
    "test_filesystem_links.py",
    "test_filesystem_modes.py",
    "test_floors.py",
    "test_linking.py",
    "test_makefile.py",
    "test_modes_in_c.py",
    "test_mutants.py",
    "test_packaging.py",
    "test_readme.py",
    "test_sandbox.py",
    "test_scarce_threads.py",
    "test_waiting_in_c.py",
    "volumes/",
)
ONCE_PRELOADED = "test_posix.py::test_program["  # the way of loading, not the engine
# The debug round runs the tests on asyncio's own loop, and the tests of delivery on both loops.
OWN_LOOPS = ("delivery/",)


def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TEST_SECONDS + 10))
        name = f"{item.path.relative_to(TESTS).as_posix()}::{item.name}"
        preloaded = name.startswith(ONCE_PRELOADED) and "-preloaded-" in name
        if name.startswith(ONCE) or preloaded:
            item.add_marker("once")
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        if parameters.get("new_loop") == "asyncio" or name.startswith(OWN_LOOPS):
            item.add_marker("loop")


def pytest_collection_finish():
    """Thousands of collected tests are objects that each later gc.collect() would visit."""
    gc.collect()
    gc.freeze()


# ---- files and pipes ----------------------------------------------------------------------------


@pytest.fixture
def content():
    """The bytes of `file`. A test module may override this fixture."""
    return CONTENT


@pytest.fixture
def file(tmp_path, content):
    """A descriptor of a regular file."""
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    os.write(fd, content)
    yield fd
    os.close(fd)


@pytest.fixture
def empty(tmp_path):
    """A descriptor of an empty regular file."""
    fd = os.open(tmp_path / "empty", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


@pytest.fixture
def pipe():
    """The two ends of a pipe: first the read end, then the write end."""
    ends = os.pipe()
    yield ends
    for fd in ends:
        os.close(fd)


# ---- volumes ------------------------------------------------------------------------------------


@pytest.fixture
def volume(tmp_path):
    """A private volume. Test modules and folders override this fixture."""
    with PrivateVolume(tmp_path / "volume") as volume:
        yield volume


@pytest.fixture
def fs(volume):
    """A FileSystem on the volume."""
    with mounted(volume) as fs:
        yield fs


@pytest.fixture
def other(volume):
    """A second FileSystem on the same volume."""
    with mounted(volume) as other:
        yield other


# ---- nothing left behind ------------------------------------------------------------------------


def descriptors():
    """The open descriptors of this process, with their targets."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            pass  # the descriptor of listdir
    return found


@pytest.fixture(autouse=True)
def nothing_left_behind():
    """Checks after each test: no new descriptor is open, and no request is in flight."""
    descriptors_before, before = descriptors(), _core.counters()
    yield
    deadline = time.monotonic() + 30
    while left := left_behind(descriptors_before, before):
        assert time.monotonic() < deadline, left
        gc.collect()
        _core.drain_engine(0)
        time.sleep(0.01)


def left_behind(descriptors_before, before):
    now = _core.counters()
    left = {
        fd: target for fd, target in descriptors().items() if descriptors_before.get(fd) != target
    }
    return left | {name: now[name] for name in ("outstanding", "files") if now[name] > before[name]}


# ---- faults -------------------------------------------------------------------------------------

_faults = None


class Faults:
    """Faults in the engine's system calls, until the end of the test. See c/fault.h."""

    ERROR, SHORT, DELAY, AFTER = 1, 2, 3, 4

    def __init__(self, library):
        self._library = library
        library.fault_calls.restype = ctypes.c_long

    def _inject(self, name, nth, kind, value):
        found = self._library.fault_inject(
            name.encode(), ctypes.c_long(nth), kind, ctypes.c_long(value)
        )
        assert found == 0, f"the engine makes no call {name}"

    def fail(self, name, number, nth=0):
        """The nth call from now on (0: every call) is not made and fails with an errno."""
        self._inject(name, nth, self.ERROR, number)

    def cut(self, name, most, nth=0):
        """Each call moves at most so many bytes."""
        self._inject(name, nth, self.SHORT, most)

    def delay(self, name, seconds, nth=0):
        """Each call is delayed."""
        self._inject(name, nth, self.DELAY, int(seconds * 1_000_000))

    def calls(self, name):
        """The number of calls so far."""
        return self._library.fault_calls(name.encode())

    def kill_at(self, nth):
        """The nth system call from now on, of any kind, is not made: this process is killed."""
        self._library.fault_kill_at(ctypes.c_long(nth))

    def clear(self):
        self._library.fault_clear()


@pytest.fixture
def faults():
    if _faults is None:
        pytest.skip("needs a C compiler")
    yield _faults
    _faults.clear()


@pytest.fixture
def calls_only():
    """For faults in calls that only the engine `threads` makes."""
    if _core.engine() != "threads":
        pytest.skip("io_uring carries it out without a call")


def build_faults(folder):
    """Compiles fault.h to a shared library. None: there is no compiler."""
    if shutil.which(COMPILER[0]) is None:
        return None
    library = Path(folder, "fault.so")
    flags = ["-shared", "-fPIC", "-O1", "-pthread", "-DFAULT_LIBRARY", *INCLUDES]
    compile_c(*flags, "-x", "c", TESTS / "c" / "fault.h", "-o", library)
    return library


def pytest_configure(config):
    global _faults
    with tempfile.TemporaryDirectory() as folder:
        library = build_faults(folder)
        if library is not None:
            _faults = Faults(ctypes.CDLL(str(library)))
    if _faults is not None:
        engine = ctypes.CDLL(str(Path(aiofs.__file__).parent / "libaiofs.so"))
        table = ctypes.c_void_p.in_dll(engine, "aiofs_sys")
        assert _faults._library.fault_attach(ctypes.byref(table)) == 0
    _core.engine()
    for new_loop in LOOPS.values():  # creates what uvloop and the core keep for all loops
        run_on(new_loop(), wake_up())


async def wake_up():
    return await _core.offload(int)


def pytest_report_header():
    return (
        f"aiofs: engine {_core.engine()}, {Path(aiofs.__file__).parent}, {sys.version.split()[0]}"
    )
