"""A volume's method that raises an exception without an errno, or returns a wrong value, fails.

Each program runs in its own interpreter, with the interpreter's default hooks.
"""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from dict_volume import DictVolume
from support import failed

import aiofs
from aiofs import FileSystem

PREAMBLE = """
import asyncio, errno, faulthandler, os, sys, threading
faulthandler.enable()
import aiofs
from aiofs import aio
from dict_volume import DictVolume

def answer(call, *arguments, **named):
    try:
        return call(*arguments, **named)
    except OSError as error:
        return errno.errorcode[error.errno]

def raises(*arguments, **named):
    raise KeyError("lost")

def request(fd, start, *arguments, **named):
    cb = aio.aiocb(fd, *arguments, **named)
    start(cb)
    aio.aio_suspend([cb])
    return answer(aio.aio_return, cb)

def all_operations(volume):
    '''The outcome of each operation, by handles of both kinds and by POSIX AIO.'''
    async def awaited():
        file = await volume.root.get_file_handle("file", create=True)
        handle = await file.create_access_handle()
        outcomes = []
        for start in (lambda: handle.read(bytearray(4)), lambda: handle.write(b"data", at=0),
                      lambda: handle.truncate(3), handle.flush, handle.get_size, handle.close):
            try:
                outcomes.append(await start())
            except OSError as error:
                outcomes.append(errno.errorcode[error.errno])
        return outcomes
    with aiofs.FileSystem() as fs:
        fs.mount("/", volume)
        handle = fs.create_sync_access_handle("/file", create=True)
        outcomes = [answer(handle.read, bytearray(4)), answer(handle.write, b"data"),
                    answer(handle.truncate, 3), answer(handle.flush), answer(handle.get_size),
                    answer(handle.close)]
        fd = fs.open("/file", os.O_RDWR)
        requests = [request(fd, aio.aio_read, bytearray(4)), request(fd, aio.aio_write, b"data"),
                    request(fd, lambda cb: aio.aio_fsync(os.O_SYNC, cb))]
        fs.close(fd)
    return outcomes, asyncio.run(awaited()), requests
"""


def run(program, *arguments):
    finished = subprocess.run(
        [sys.executable, "-c", PREAMBLE + program, *arguments],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout, finished.stderr


ALL_FAIL = (
    "(['EIO', 'EIO', 'EIO', 'EIO', 'EIO', 'EIO'], "
    "['EIO', 'EIO', 'EIO', 'EIO', 'EIO', 'EIO'], ['EIO', 'EIO', 'EIO'])\n"
)


FAILING = """
class Failing(DictVolume):
    read_at = write_at = truncate = flush = size = raises
print(all_operations(Failing()))
"""


def test_exception_with_no_errno_is_eio_and_reported():
    printed, reported = run(FAILING)
    assert printed == ALL_FAIL
    assert reported.count("KeyError: 'lost'") == 15
    assert "Failing object" in reported


@pytest.mark.parametrize(
    "hook",
    [
        "sys.unraisablehook = raises",
        "sys.unraisablehook = None",
        "del sys.unraisablehook",
        "sys.stderr = None",
        "sys.stderr.close()",
        "os.close(2)",
        "sys.excepthook = sys.unraisablehook = raises; sys.stderr = None",
    ],
)
def test_failure_is_eio_even_if_the_report_fails(hook):
    printed, _ = run(hook + FAILING)
    assert printed == ALL_FAIL


def test_failing_hook_does_not_hide_the_exception():
    _, reported = run("sys.unraisablehook = raises" + FAILING)
    assert "lost" in reported


@pytest.mark.parametrize(
    "raised",
    [
        "OSError('no number')",
        "OSError(0, 'zero')",
        "OSError('two', 'words')",
        "OSError(-5, 'negative')",
        "OSError(2**40, 'huge')",
        "OSError(2**80, 'larger than any integer of C')",
        "OSError(errno.EINPROGRESS, 'no outcome')",
        "SystemExit(0)",
        "KeyboardInterrupt()",
        "asyncio.CancelledError()",
        "StopIteration(4)",
    ],
)
def test_errno_that_is_none_is_eio(raised):
    printed, reported = run(
        f"""
def raises(*arguments, **named):
    raise {raised}
{FAILING}"""
    )
    assert printed == ALL_FAIL
    assert reported.count("Exception ignored in") == 15


def test_errno_that_cannot_be_read_is_eio():
    printed, _ = run(
        f"""
class Unreadable(OSError):
    errno = property(raises)
def raises(*arguments, **named):
    raise Unreadable()
{FAILING}"""
    )
    assert printed == ALL_FAIL


@pytest.mark.parametrize("result", ["None", "'4'", "2**80", "-5", "-1", "5", "True", "4.0", "b''"])
def test_count_that_is_none_is_eio(result):
    printed, reported = run(
        f"""
class Wrong(DictVolume):
    def read_at(self, file, buffer, offset):
        return {result}
    def write_at(self, file, data, offset):
        return {result}
outcomes, awaited, requests = all_operations(Wrong())
print(outcomes[:2], awaited[:2], requests[:2])
"""
    )
    assert printed == "['EIO', 'EIO'] ['EIO', 'EIO'] ['EIO', 'EIO']\n"
    assert reported.count("Exception ignored in") == 6


@pytest.mark.parametrize("result", ["None", "'4'", "2**80", "2**63", "-5", "True", "4.0"])
def test_size_that_is_none_is_eio(result):
    printed, _ = run(
        f"""
class Wrong(DictVolume):
    def size(self, file):
        return {result}
outcomes, awaited, _ = all_operations(Wrong())
print(outcomes[4], awaited[4])
"""
    )
    assert printed == "EIO EIO\n"


def test_async_def_method_is_eio():
    printed, reported = run(
        """
class Asynchronous(DictVolume):
    async def read_at(self, file, buffer, offset): return 4
    async def write_at(self, file, data, offset): return 4
    async def truncate(self, file, size): pass
    async def flush(self, file): pass
    async def size(self, file): return 4
print(all_operations(Asynchronous()))
class AsynchronousTree(DictVolume):
    async def mkdir(self, path, mode=0o777): pass
    async def unlink(self, path): pass
    async def rename(self, source, target): pass
    async def rmdir(self, path): pass
with aiofs.FileSystem() as fs:
    volume = AsynchronousTree()
    fs.mount("/", volume)
    fs.create_sync_access_handle("/file", create=True).close()
    DictVolume.mkdir(volume, "directory")
    print(answer(fs.mkdir, "/sub"), answer(fs.unlink, "/file"), answer(fs.rename, "/file", "/f"),
          answer(fs.rmdir, "/directory"))
"""
    )
    assert printed == ALL_FAIL + "EIO EIO EIO EIO\n"
    assert "must not be asynchronous" in reported


def test_second_buffer_that_fails_is_reported_and_the_first_counts():
    printed, reported = run(
        """
class Second(DictVolume):
    def write_at(self, file, data, offset):
        return super().write_at(file, data, offset) if offset == 0 else raises()
with aiofs.FileSystem() as fs:
    fs.mount("/", Second())
    with fs.create_sync_access_handle("/file", create=True) as handle:
        print(handle.writev([b"data", b"more"]))
"""
    )
    assert printed == "4\n" and "KeyError: 'lost'" in reported


def test_failing_close_file_is_reported():
    printed, reported = run(
        """
class Failing(DictVolume):
    def close_file(self, file):
        raise OSError(errno.EIO, "the last block")
with aiofs.FileSystem() as fs:
    fs.mount("/", Failing())
    handle = fs.create_sync_access_handle("/file", create=True)
    print(handle.close(), answer(handle.get_size))
    fs.create_sync_access_handle("/file").close()
"""
    )
    assert printed == "None EBADF\n"
    assert reported.count("[Errno 5] the last block") == 2


@pytest.mark.parametrize(
    "body", ["raises()", "request.complete(KeyError('lost'))", "request.complete(None)", "pass"]
)
def test_exception_of_submit_is_eio(body):
    printed, reported = run(
        f"""
class Failing(DictVolume):
    def submit(self, request):
        {body}
_, awaited, requests = all_operations(Failing())
print(awaited[:4], requests)
"""
    )
    assert printed == "['EIO', 'EIO', 'EIO', 'EIO'] ['EIO', 'EIO', 'EIO']\n"
    assert ("Exception ignored in" in reported) == (body != "pass")


# ---- what a request is completed with


@pytest.mark.parametrize(
    ("op", "result", "refusal"),
    [
        ("read", 10**9, "ValueError"),
        ("read", 5, "ValueError"),
        ("read", -1, "ValueError"),
        ("read", -4095, "ValueError"),
        ("read", 2**80, "ValueError"),
        ("read", -(2**63), "ValueError"),
        ("read", None, "TypeError"),
        ("read", "4", "TypeError"),
        ("read", 4.0, "TypeError"),
        ("read", True, "TypeError"),
        ("write", 5, "ValueError"),
        ("write", -1, "ValueError"),
        ("write", True, "TypeError"),
        ("truncate", 3, "ValueError"),
        ("truncate", -1, "ValueError"),
        ("truncate", None, "TypeError"),
        ("flush", 1, "ValueError"),
        ("flush", False, "TypeError"),
    ],
)
def test_request_completed_with_an_invalid_result_ends_with_eio(op, result, refusal):
    printed, _ = run(
        f"""
class Lying(DictVolume):
    def submit(self, request):
        if request.op != {op!r}:
            return super().submit(request)
        try:
            request.complete({result!r})
        except Exception as error:
            print(type(error).__name__)
        try:
            request.complete(0)
        except OSError as error:
            print(errno.errorcode[error.errno])
_, awaited, _ = all_operations(Lying())
print(awaited[{["read", "write", "truncate", "flush"].index(op)}])
"""
    )
    *asked, outcome = printed.split()
    assert outcome == "EIO"
    assert asked and asked == [refusal, "EBADF"] * (len(asked) // 2)


def test_request_completed_by_many_threads_ends_once():
    printed, _ = run(
        """
class Crowded(DictVolume):
    def submit(self, request):
        refused = []
        def complete():
            try:
                request.complete(0)
            except OSError as error:
                refused.append(error.errno)
        threads = [threading.Thread(target=complete) for _ in range(8)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        assert refused == [errno.EBADF] * 7
_, awaited, requests = all_operations(Crowded())
print(awaited[:4], requests)
"""
    )
    assert printed == "[0, 0, None, None] [0, 0, 0]\n"


def test_request_that_was_never_submitted_is_refused():
    request = aiofs._core.VolumeRequest.__new__(aiofs._core.VolumeRequest)
    for use in (
        lambda: request.file,
        lambda: request.offset,
        lambda: request.complete(0),
    ):
        with pytest.raises(aiofs.InvalidStateError):
            use()
    with pytest.raises(TypeError):
        aiofs._core.VolumeRequest()


# ---- the tree


class FailingTree(DictVolume):
    def _fail(self, *arguments, **named):
        raise KeyError("lost")

    stat = listdir = entries = mkdir = rmdir = unlink = rename = open_file = _fail


def test_exception_of_a_namespace_method_is_the_cause_of_an_eio():
    with FileSystem() as fs:
        volume = DictVolume()
        fs.mount("/d", volume)
        fs.mkdir("/d/sub")
        fs.create_sync_access_handle("/d/file", create=True).close()
        volume.__class__ = FailingTree
        for call, *arguments in (
            (fs.stat, "/d/file"),
            (fs.listdir, "/d"),
            (fs.mkdir, "/d/new"),
            (fs.rmdir, "/d/sub"),
            (fs.unlink, "/d/file"),
            (fs.rename, "/d/file", "/d/other"),
            (fs.truncate, "/d/file", 0),
            (fs.open, "/d/file", os.O_RDWR),
            (fs.create_sync_access_handle, "/d/file"),
        ):
            error = failed(errno.EIO, call, *arguments)
            assert isinstance(error.__cause__, KeyError)
            assert error.filename.startswith("/d")
        assert volume._ops.lock_count("") == 0


@pytest.mark.parametrize("entry", [("a/b", "file"), ("", "file"), ("a", "socket"), (1, "file"), 5])
def test_invalid_directory_entry_is_eio(entry):
    class Wrong(DictVolume):
        def entries(self, path):
            return [entry]

    with FileSystem() as fs:
        fs.mount("/", Wrong())
        failed(errno.EIO, fs.listdir, "/")


def test_stat_of_a_wrong_type_is_eio():
    class Wrong(DictVolume):
        def stat(self, path):
            return super().stat(path) if not path else None

    with FileSystem() as fs:
        fs.mount("/", Wrong())
        failed(errno.EIO, fs.stat, "/file")


def test_ecanceled_of_a_volume_does_not_look_like_a_cancelled_await():
    _, reported = run("""
class Gives(DictVolume):
    def read_at(self, file, buffer, offset):
        raise OSError(errno.ECANCELED, "the other side gave up")

async def main():
    file = await Gives().root.get_file_handle("file", create=True)
    async with file.create_access_handle() as handle:
        try:
            await handle.read(bytearray(4))
        except OSError as error:
            assert error.errno == errno.EIO, error
        else:
            raise AssertionError

asyncio.run(main())
""")
    assert "the other side gave up" in reported


@pytest.mark.parametrize("submits", ["True", "False"])
def test_slice_that_a_volume_keeps_is_invalid_after_the_request(submits):
    run(
        """
class Keeps(DictVolume):
    def read_at(self, file, buffer, offset):
        self.kept = [buffer[:4], buffer.cast("I"), memoryview(buffer), buffer]
        return len(buffer)

class KeepsRequest(Keeps):
    def submit(self, request):
        request.complete(self.read_at(request.file, request.buffers[0], request.offset))

volume = (KeepsRequest if sys.argv[1] == "True" else Keeps)()
with aiofs.FileSystem() as fs:
    fs.mount("/", volume)
    fd = fs.open("/file", os.O_RDWR | os.O_CREAT)
    data = bytearray(16)
    assert request(fd, aio.aio_read, data) == 16
    for kept in volume.kept:
        try:
            kept[0] = 7
        except ValueError:
            continue
        raise AssertionError(kept)
    data.extend(bytes(1000))  # nothing holds it
    assert not any(data)
    fs.close(fd)
""",
        submits,
    )
