"""Processes that fork or exit while requests are outstanding."""

import os
import time

import pytest
from pages import text_of
from support import python

PREAMBLE = """
import asyncio, errno, gc, multiprocessing, os, sys, threading, time
import uvloop
import aiofs
from aiofs import _core
from aiofs.aio import *

new_loop = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}[sys.argv[1]]

def run(coroutine):
    loop = new_loop()
    try:
        return loop.run_until_complete(asyncio.wait_for(coroutine, 20))
    finally:
        loop.close()

def reading(fd, size=10, **fields):
    cb = aiocb(fd, bytearray(size), **fields)
    aio_read(cb)
    return cb

def child(function):
    "Runs it in a forked child, which must end well."
    pid = os.fork()
    if pid == 0:
        try:
            function()
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0

read_end, write_end = os.pipe()
"""


@pytest.fixture(params=["uvloop", "asyncio"])
def kind(request):
    return request.param


@pytest.fixture
def run_program(kind):
    """Runs the preamble and a program, with the kind of loop as argument. Returns its output."""
    return lambda program, *arguments, **environment: python(
        PREAMBLE + program, kind, *arguments, **environment
    )


# ---- fork ---------------------------------------------------------------------------------------


def test_forked_child_submits_its_own_requests_and_the_parents_go_on(run_program, tmp_path):
    program = """
file = os.open(sys.argv[2], os.O_RDWR | os.O_CREAT)
waiting = reading(read_end)
before = aiocb(file, b"p" * 1_000_000)
aio_write(before)

def work():
    own = os.pipe()
    for size in (10, 1 << 20):
        cb = aiocb(file, b"c" * size, aio_offset=1_000_000)
        aio_write(cb)
        aio_suspend([cb], 20)
        assert aio_return(cb) == size
    cb = reading(own[0])
    os.write(own[1], b"child")
    aio_suspend([cb], 20)
    assert aio_return(cb) == 5
    cb = reading(own[0])
    assert aio_cancel(own[0], cb) == AIO_CANCELED
    assert _core.counters()["outstanding"] == 0

child(work)
child(work)
os.write(write_end, b"parent")
aio_suspend([waiting], 20)
print(aio_return(waiting), waiting.aio_buf[:6].decode())
aio_suspend([before], 20)
print(aio_return(before), os.fstat(file).st_size)
"""
    printed = run_program(program, tmp_path / "file")
    assert printed == f"6 parent\n1000000 {1_000_000 + (1 << 20)}\n"


def test_forked_child_does_not_inherit_requests(run_program):
    program = """
requests = [reading(read_end) for _ in range(5)]

def work():
    assert _core.counters()["outstanding"] == 0
    aio_suspend(requests, 20)
    for cb in requests:
        assert aio_error(cb) != errno.EINPROGRESS
        cb.aio_buf.append(1)
    assert aio_cancel(read_end) == AIO_ALLDONE

child(work)
assert [aio_error(cb) for cb in requests] == [errno.EINPROGRESS] * 5
os.write(write_end, b"x" * 50)
for cb in requests:
    aio_suspend([cb], 20)
    print(aio_return(cb))
"""
    assert run_program(program) == "10\n" * 5


def test_aio_error_in_a_forked_child_answers_as_documented(run_program):
    """The same test in C: tests/posix/fork.c."""
    page = " ".join(text_of("docs/aio/aio_error.md").split())
    assert "in Python they are cancelled (ECANCELED). A request that had ended" in page
    assert "In C they are unknown (EINVAL)" in page
    program = """
os.write(write_end, b"first")
ended, waiting = reading(read_end), None
aio_suspend([ended], 20)
waiting = reading(read_end)

def work():
    assert (aio_error(ended), aio_return(ended)) == (0, 5)
    assert aio_error(waiting) == errno.ECANCELED
    try:
        aio_return(waiting)
    except OSError as error:
        assert error.errno == errno.ECANCELED
    else:
        raise AssertionError("it has a result")

child(work)
os.write(write_end, b"other")
aio_suspend([waiting], 20)
print(aio_return(ended), aio_return(waiting))
"""
    assert run_program(program) == "5 5\n"


def test_forked_child_sends_no_notification_for_its_parents_requests(run_program):
    program = """
notified = []
event = sigevent(SIGEV_THREAD, 0, 1, lambda value: notified.append(os.getpid()))
cb = reading(read_end, aio_sigevent=event)
def work():
    time.sleep(0.05)
    assert notified == []
child(work)
os.write(write_end, b"x")
while not notified:
    time.sleep(0.001)
print(notified == [os.getpid()])
"""
    assert run_program(program) == "True\n"


def test_forked_child_runs_a_loop_of_its_own(run_program, tmp_path):
    program = """
file = os.open(sys.argv[2], os.O_RDWR | os.O_CREAT)

async def body(fds):
    notified = asyncio.Event()
    function = lambda _: notified.set()
    cb = reading(fds[0], aio_sigevent=sigevent(SIGEV_LOOP, 0, None, function))
    asyncio.get_running_loop().call_later(0.01, os.write, fds[1], b"abc")
    assert await cb == 3
    await notified.wait()
    for size in (10, 1 << 20):
        cb = aiocb(file, bytes(size))
        aio_write(cb)
        assert await cb == size

def work():
    run(body(os.pipe()))

run(body(os.pipe()))
child(work)
run(body(os.pipe()))
print("done")
"""
    assert run_program(program, tmp_path / "file") == "done\n"


def test_child_forked_while_a_loop_runs_can_run_its_own_loop(run_program):
    program = """
async def body(fds):
    cb = reading(fds[0])
    asyncio.get_running_loop().call_later(0.01, os.write, fds[1], b"abc")
    return await cb

async def parent():
    fds = os.pipe()
    waiting = asyncio.ensure_future(body(fds))
    await asyncio.sleep(0)
    child(lambda: run(body(os.pipe())))
    gone = reading(read_end, 1)
    os.write(write_end, b"x")
    return await waiting, await gone

print(run(parent()))
"""
    assert run_program(program) == "(3, 1)\n"


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing_children_make_requests(kind, tmp_path, method):
    program = """
def work(path, number, results):
    file = os.open(path, os.O_RDWR)
    async def body():
        cb = aiocb(file, b"%d" % number * 100_000, aio_offset=number * 100_000)
        aio_write(cb)
        return await cb
    results.put(run(body()))

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[3])
    path = sys.argv[2]
    file = os.open(path, os.O_RDWR | os.O_CREAT)
    waiting = reading(read_end)
    results = context.Queue()
    children = [
        context.Process(target=work, args=(path, number, results)) for number in range(3)
    ]
    for process in children:
        process.start()
    for process in children:
        process.join()
    print(sorted(results.get() for _ in children), os.fstat(file).st_size)
    os.write(write_end, b"x")
    aio_suspend([waiting])
    print(aio_return(waiting))
"""
    script = tmp_path / "script.py"  # the children of the start method spawn import it
    script.write_text(PREAMBLE + program)
    runner = "import os, sys; os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    printed = python(runner, script, kind, tmp_path / "file", method)
    assert printed == "[100000, 100000, 100000] 300000\n1\n"


def test_forked_child_reads_and_writes_what_its_parent_opened(run_program, tmp_path):
    program = """
volume = aiofs.PrivateVolume(sys.argv[2])
fs = aiofs.FileSystem()
fs.mount("/", volume)
fd = fs.open("/file", os.O_RDWR | os.O_CREAT)
cb = aiocb(fd, b"parent" * 100_000)
aio_write(cb)

def work():
    other = aiocb(fd, b"child!", aio_offset=600_000)
    aio_write(other)
    aio_suspend([other], 20)
    assert aio_return(other) == 6

child(work)
aio_suspend([cb], 20)
print(aio_return(cb), fs.stat("/file").st_size)
fs.close(fd)
volume.close()
"""
    assert run_program(program, tmp_path / "volume") == "600000 600006\n"


def test_access_handle_is_refused_in_a_forked_child_and_goes_on_in_its_parent(
    run_program, tmp_path
):
    program = """
volume = aiofs.PrivateVolume(sys.argv[2])
fs = aiofs.FileSystem()
fs.mount("/", volume)
handle = fs.create_sync_access_handle("/file", create=True)
handle.write(b"parent")

def work():
    for call in (lambda: handle.write(b"child"), handle.get_size, handle.fileno):
        try:
            call()
        except aiofs.InvalidStateError as error:
            assert error.errno == errno.EBADF and "parent" in str(error)
        else:
            raise AssertionError("it was not refused")
    handle.close()

child(work)
handle.write(b"!")
print(handle.get_size())
handle.close()
volume.close()
"""
    assert run_program(program, tmp_path / "volume") == "7\n"


# ---- exit ---------------------------------------------------------------------------------------

OUTSTANDING = {
    "a read that waits": "cb = reading(read_end)",
    "many reads": "requests = [reading(read_end) for _ in range(1000)]",
    "a notification in a thread": (
        "cb = reading(read_end, aio_sigevent=sigevent(SIGEV_THREAD, 0, 1, lambda value: None))"
    ),
    "a write to a full pipe": "cb = aiocb(write_end, bytes(1 << 20)); aio_write(cb)",
    "an awaited read": """
async def body():
    cb = reading(read_end)
    asyncio.ensure_future(asyncio.wait_for(cb_wait(cb), 100))
    await asyncio.sleep(0.01)
async def cb_wait(cb):
    return await cb
loop = new_loop()
loop.run_until_complete(body())
for task in asyncio.all_tasks(loop):
    task._log_destroy_pending = False
del task
""",
    "a loop that closed": """
async def body():
    for _ in range(10):
        reading(read_end, aio_sigevent=sigevent(SIGEV_LOOP, 0, 1, print))
run(body())
""",
    "a suspended thread": """
cb = reading(read_end)
threading.Thread(target=aio_suspend, args=([cb],), daemon=True).start()
time.sleep(0.02)
""",
    "a daemon thread with a loop": """
async def body():
    try:
        await reading(read_end)
    except OSError:
        pass  # cancelled at the end, if this thread still comes to see it
threading.Thread(target=run, args=(body(),), daemon=True).start()
time.sleep(0.05)
""",
    "an open access handle": """
volume = aiofs.MemoryVolume()
fs = aiofs.FileSystem()
fs.mount("/", volume)
handle = fs.create_sync_access_handle("/file", create=True)
fd = fs.open("/other", os.O_RDWR | os.O_CREAT)
cb = aiocb(fd, bytes(10_000_000)); aio_write(cb)
""",
}


@pytest.mark.parametrize("left", OUTSTANDING)
def test_interpreter_ends_with_requests_outstanding(run_program, left):
    environment = {"PYTHONWARNINGS": "ignore::ResourceWarning,ignore::RuntimeWarning"}
    assert run_program(OUTSTANDING[left] + "\nprint('end')\n", **environment) == "end\n"


@pytest.mark.parametrize("how", ["sys.exit(0)", "os._exit(0)", "raise SystemExit"])
def test_interpreter_ends_with_requests_outstanding_however_it_exits(run_program, how):
    assert run_program(f"cb = reading(read_end)\nprint('end', flush=True)\n{how}") == "end\n"


def test_writes_that_were_accepted_are_finished_before_the_end(run_program, tmp_path):
    program = """
file = os.open(sys.argv[2], os.O_RDWR | os.O_CREAT)
requests = [aiocb(file, b"x" * 1_000_000, aio_offset=n * 1_000_000) for n in range(30)]
for cb in requests:
    aio_write(cb)
"""
    run_program(program, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"x" * 30_000_000


def test_notification_functions_run_before_the_interpreter_is_finalized_or_never(run_program):
    program = """
event = sigevent(SIGEV_THREAD, 0, 1, lambda value: None)
for _ in range(100):
    reading(read_end, 1, aio_sigevent=event)
os.write(write_end, b"x" * 50)
print("end")
"""
    assert run_program(program) == "end\n"


def test_exit_cancels_requests_that_wait_for_a_silent_peer(run_program):
    """At exit the engine cancels such requests, and does not wait for them."""
    before = time.monotonic()
    run_program("requests = [reading(read_end) for _ in range(100)]")
    assert time.monotonic() - before < 20


def test_requests_in_atexit_functions_work(run_program):
    program = """
import atexit
def last():
    cb = reading(read_end, 1)
    os.write(write_end, b"x")
    aio_suspend([cb], 20)
    print(aio_return(cb))
atexit.register(last)
"""
    assert run_program(program) == "1\n"


def test_killed_process_leaves_no_lock(tmp_path):
    from lock_holder_process import holding

    import aiofs

    with aiofs.PrivateVolume(tmp_path / "volume") as volume:
        with holding(tmp_path / "volume", "file") as process:
            assert process.answer == "held"
            with pytest.raises(aiofs.NoModificationAllowedError):
                volume._ops.sync_access_handle("file", "in-place", False)
            os.kill(process.pid, 9)
            process.wait()
            volume._ops.sync_access_handle("file", "in-place", False).close()


READS_DIRECTLY = """
fd = os.open(sys.argv[2], os.O_RDONLY | os.O_DIRECT)

def read_block():
    aio_read(cb := aiocb(fd, aiofs.aligned_buffer(4096)))
    aio_suspend([cb], 20)
    assert aio_return(cb) == 4096

for _ in range(20):
    read_block()
    child(lambda: [read_block() for _ in range(2)])
os.close(fd)
print("read")
"""


def test_child_reads_what_its_parent_has_just_read(run_program, tmp_path):
    """The parent's engine keeps a binding of the file. The child's engine must make its own."""
    (tmp_path / "file").write_bytes(bytes(8192))
    try:
        os.close(os.open(tmp_path / "file", os.O_RDONLY | os.O_DIRECT))
    except OSError:
        pytest.skip("this filesystem has no O_DIRECT")
    assert run_program(READS_DIRECTLY, tmp_path / "file") == "read\n"
