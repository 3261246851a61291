"""Handles after their finalizer, half-made handles, forked children, and closes inside methods.

Each program runs in its own interpreter, so that the test sees a crash or an endless wait.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PREAMBLE = """
import asyncio, errno, faulthandler, gc, os, signal, sys, tempfile, threading, warnings
faulthandler.enable()
faulthandler.dump_traceback_later(40, exit=True)
import uvloop
import aiofs
from aiofs import aio
from dict_volume import DictVolume
directory = tempfile.TemporaryDirectory()
volume = aiofs.PrivateVolume(directory.name + "/v")
run = {"uvloop": uvloop.run, "asyncio": asyncio.run}[sys.argv[1]]

def answer(call, *arguments, **named):
    try:
        return call(*arguments, **named)
    except OSError as error:
        return errno.errorcode[error.errno].replace("LOCK", "LK")

async def awaited(call, *arguments, **named):
    try:
        return await call(*arguments, **named)
    except OSError as error:
        return errno.errorcode[error.errno].replace("LOCK", "LK")

async def answers(handle):
    '''What every method of an AccessHandle gives.'''
    return [repr(handle).split()[-1], answer(handle.fileno),
        await awaited(handle.read, bytearray(4)), await awaited(handle.write, b"data", at=0),
        await awaited(handle.readv, [bytearray(4)]), await awaited(handle.writev, [b"data"]),
        await awaited(handle.truncate, 3), await awaited(handle.flush),
        await awaited(handle.get_size), await awaited(handle.__aenter__),
        await awaited(handle.close), await awaited(handle.abort), await awaited(handle.close)]

def sync_answers(handle):
    return [repr(handle).split()[-1], answer(handle.fileno),
        answer(handle.read, bytearray(4)), answer(handle.write, b"data", at=0),
        answer(handle.readv, [bytearray(4)]), answer(handle.writev, [b"data"]),
        answer(handle.truncate, 3), answer(handle.flush),
        answer(handle.get_size), answer(handle.__enter__),
        answer(handle.close), answer(handle.abort), answer(handle.close)]

def in_child(function):
    '''How a forked child ends that calls it: 0, or what is wrong.'''
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)
        try:
            function()
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1]
"""

CLOSED = str(["closed>", *["EBADF"] * 9, None, None, None])


@pytest.fixture(params=["uvloop", "asyncio"])
def program(request):
    def run(source):
        finished = subprocess.run(
            [
                *(sys.executable, "-W", "ignore::DeprecationWarning"),
                *("-c", PREAMBLE + source, request.param),
            ],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent / "volumes")},
            capture_output=True,
            text=True,
            timeout=50,
        )
        assert finished.returncode == 0, finished.stderr
        return finished.stdout.splitlines()

    return run


# ---- after the finalizer


def test_object_in_a_cycle_closes_its_handle_in_its_finalizer(program):
    printed = program("""
class Store:
    def __init__(self, handle):
        self.handle = handle
        self.me = self
    def __del__(self):
        closings.append(self.handle.close())
        kept.append(self.handle)
closings, kept = [], []
async def main():
    file = await volume.root.get_file_handle("file", create=True)
    Store(await file.create_access_handle())
    gc.collect()
    print(await closings[0])
    print(await answers(kept[0]))
    Store(file.create_sync_access_handle())
    gc.collect()
    print(closings[1])
    print(sync_answers(kept[1]))
    await (await file.create_access_handle()).close()  # neither has kept the lock
run(main())
""")
    assert printed == ["None", CLOSED, "None", CLOSED]


@pytest.mark.parametrize("kind", ["volume", "DictVolume()"])
def test_handle_taken_from_a_resource_warning_can_be_closed(program, kind):
    printed = program(f"""
volume = {kind}
kept = []
def show_message(message):
    handle = message.source
    if handle is None:
        return
    if isinstance(handle, aiofs.SyncAccessHandle):
        handle.close()
    elif asyncio._get_running_loop() is not None:  # it may be dropped on a thread of the engine
        started.extend([handle.close(), handle.abort()])
        failing.extend([handle.get_size(), handle.write(b"data")])
    kept.append(handle)
warnings.simplefilter("always")
warnings._showwarnmsg = show_message
started, failing = [], []
async def opened(file):
    while True:  # a volume that may block closes the file of a dropped handle on another thread
        try:
            return await file.create_access_handle()
        except aiofs.NoModificationAllowedError:
            await asyncio.sleep(0)
async def main():
    file = await volume.root.get_file_handle("file", create=True)
    for _ in range(20):
        await opened(file)
        while not kept:
            await asyncio.sleep(0)
        print([await each for each in started] in ([], [None, None]),
              [await awaited(lambda: each) for each in failing] in ([], ["EBADF", "EBADF"]))
        print(await answers(kept.pop()))
        started.clear(), failing.clear()
    await (await opened(file)).close()
    file.create_sync_access_handle()
    print(sync_answers(kept.pop()))
    await (await file.create_access_handle()).close()
run(main())
""")
    assert printed == ["True True", CLOSED] * 20 + [CLOSED]


def test_partly_constructed_handle_is_closed(program):
    printed = program("""
from aiofs import _core
async def main():
    print(await answers(aiofs.AccessHandle.__new__(aiofs.AccessHandle)))
    print(sync_answers(aiofs.SyncAccessHandle.__new__(aiofs.SyncAccessHandle)))
    opened = _core.OpenFile.__new__(_core.OpenFile)
    print(answer(opened.fileno), answer(opened.read, 4, 0), answer(opened.close))
    hold = _core.LockRef.__new__(_core.LockRef)
    names = _core.Names()
    print(hold.release(), answer(names.open, hold, DictVolume(), None, 0, "path"))
    print(answer(names.open, None, DictVolume(), None, 0, "path"))
    ops = _core.DirectoryOps.__new__(_core.DirectoryOps)
    print(answer(ops.stat, "path"), ops.close(), ops.closed, ops.same(names))
run(main())
""")

    assert printed[:2] == [CLOSED, CLOSED]
    assert printed[2:] == ["EBADF EBADF EBADF", "None EBADF", "EBADF", "EBADF None True False"]


# ---- in a forked child

WAITING = """
class Waiting(DictVolume):
    '''Its method `waits` is entered, and returns when `go_on` is set.'''
    waits = None
    def __init__(self):
        super().__init__()
        self.entered, self.go_on = threading.Event(), threading.Event()
    def wait(self, name):
        if name == self.waits:
            self.entered.set()
            self.go_on.wait()
    def write_at(self, file, data, offset):
        self.wait("write_at")
        return super().write_at(file, data, offset)
    def flush(self, file):
        self.wait("flush")
volume = Waiting()
"""


@pytest.mark.parametrize(
    ("method", "call"),
    [
        ("write_at", "handle.write(b'data')"),
        ("flush", "handle.flush()"),
        ("flush", "handle.close()"),
    ],
)
@pytest.mark.parametrize("end", ["close", "abort"])
def test_forked_child_closes_a_handle_that_a_parent_thread_was_using(program, method, call, end):
    printed = program(f"""{WAITING}
with aiofs.FileSystem() as fs:
    fs.mount("/", volume)
    handle = fs.create_sync_access_handle("/file", create=True)
    volume.waits = {method!r}
    thread = threading.Thread(target=lambda: {call})
    thread.start()
    volume.entered.wait()
    def child():
        handle.{end}()
        handle.{end}()
        assert answer(handle.get_size) == "EBADF"
    print(in_child(child))
    volume.go_on.set()
    thread.join()
    volume.waits = None
""")
    assert printed == ["0"]


@pytest.mark.parametrize("start", ["handle.write(b'data')", "handle.close()"])
def test_forked_child_closes_an_access_handle_with_operations_of_its_parent(program, start):
    printed = program(f"""{WAITING}
volume.waits = "write_at" if "write" in {start!r} else "flush"
async def main():
    file = await volume.root.get_file_handle("file", create=True)
    handle = await file.create_access_handle()
    operation = {start}
    if volume.waits == "write_at":
        handle.get_size().close()
    handles.append(handle)
    await asyncio.get_running_loop().run_in_executor(None, forked.wait)
    await operation
    await handle.close()
handles, forked = [], threading.Event()
thread = threading.Thread(target=run, args=[main()])
thread.start()
volume.entered.wait()
async def child():
    handle = handles[0]
    print(await handle.close(), await handle.abort(), await awaited(handle.get_size), flush=True)
while not handles:
    pass
print(in_child(lambda: run(child())), flush=True)
volume.go_on.set()
forked.set()
thread.join()
""")
    assert printed == ["None None EBADF", "0"]


# ---- closed by what it waits for


@pytest.mark.parametrize("method", ["read_at", "write_at", "truncate", "flush", "size"])
@pytest.mark.parametrize("end", ["close", "abort"])
def test_method_of_a_volume_cannot_close_the_handle_that_called_it(program, method, end):
    printed = program(f"""
class Closing(DictVolume):
    def {method}(self, *arguments):
        print(answer(handle.{end}))
        return super().{method}(*arguments)
with aiofs.FileSystem() as fs:
    fs.mount("/", Closing())
    handle = fs.create_sync_access_handle("/file", create=True)
    calls = dict(read_at=lambda: handle.read(bytearray(4)), write_at=lambda: handle.write(b"data"),
                 truncate=lambda: handle.truncate(3), flush=handle.flush, size=handle.get_size)
    calls[{method!r}]()
    print("usable", answer(handle.write, b"more", at=0) in (4, "EDEADLK"))
    handle.close()
    print(answer(handle.get_size))
""")
    assert printed[0] == "EDEADLK" and printed[-1] == "EBADF"
    assert "usable True" in printed and set(printed) == {"EDEADLK", "usable True", "EBADF"}


def test_method_that_closes_the_handle_while_it_is_closed_is_refused(program):
    printed = program("""
class Closing(DictVolume):
    def close_file(self, file):
        print("close_file", answer(handle.close))
with aiofs.FileSystem() as fs:
    fs.mount("/", Closing())
    handle = fs.create_sync_access_handle("/file", create=True)
    handle.close()
""")
    assert printed == ["close_file EDEADLK"]


def test_method_that_carries_a_request_out_cannot_close_its_handle(program):
    printed = program("""
class Closing(DictVolume):
    def read_at(self, file, buffer, offset):
        print(answer(handle.close), answer(handle.abort))
        fs.close(fd)
        return super().read_at(file, buffer, offset)
with aiofs.FileSystem() as fs:
    fs.mount("/", Closing())
    handle = fs.create_sync_access_handle("/file", create=True, mode="readwrite-unsafe")
    fd = fs.open("/file", os.O_RDONLY)
    read = aio.aiocb(handle, bytearray(4))
    aio.aio_read(read)
    aio.aio_suspend([read])
    print(aio.aio_return(read), answer(fs.close, fd))
    handle.close()
""")
    assert printed == ["EDEADLK EDEADLK", "0 EBADF"]


def test_filesystem_that_a_method_leaves_closes_the_handle_the_next_time(program):
    printed = program("""
class Leaving(DictVolume):
    def write_at(self, file, data, offset):
        print("inside", answer(fs.__exit__, None, None, None))
        return super().write_at(file, data, offset)
with aiofs.FileSystem() as fs:
    fs.mount("/", Leaving())
    handle = fs.create_sync_access_handle("/file", create=True)
    print("written", handle.write(b"data"))
print("left", answer(handle.get_size))
""")
    assert printed == ["inside EDEADLK", "written 4", "left EBADF"]


def test_other_handles_are_closed_by_a_method(program):
    printed = program("""
class Closing(DictVolume):
    def read_at(self, file, buffer, offset):
        other.close()
        return super().read_at(file, buffer, offset)
with aiofs.FileSystem() as fs:
    fs.mount("/", Closing())
    other = fs.create_sync_access_handle("/other", create=True)
    with fs.create_sync_access_handle("/file", create=True) as handle:
        print(handle.read(bytearray(4)), answer(other.get_size))
""")
    assert printed == ["0 EBADF"]
