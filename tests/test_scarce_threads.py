"""No thread can be started: handles are closed all the same, and calls with SIGEV_THREAD fail.

RLIMIT_NPROC does not apply to root, so the programs run as another user.
"""

import os

import pytest
from support import python

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or "AIOFS_SANITIZE" in os.environ,
    reason="needs root, to become another user, and no sanitizer, which has threads",
)

PREAMBLE = """
import asyncio, os, resource, sys, time
import uvloop
import aiofs
from aiofs import aio

new_loop = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}[sys.argv[1]]
folder = sys.argv[2]
user = 2000000 + os.getpid()
os.chown(folder, user, user)
os.setresgid(user, user, user)
os.setresuid(user, user, user)

def host_threads():
    names = []
    for task in os.listdir("/proc/self/task"):
        try:
            names.append(open(f"/proc/self/task/{task}/comm").read().strip())
        except OSError:
            pass
    return names.count("aiofs-host")

hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]

def limit_threads(most):
    resource.setrlimit(resource.RLIMIT_NPROC, (most, hard))

async def main(close):
    with aiofs.PrivateVolume(folder + "/volume") as volume:
        file = await volume.root.get_file_handle("file", create=True)
        handle = await file.create_access_handle()
        number = handle.fileno()
        await handle.write(b"data", at=0)
        while host_threads() > 1:
            await asyncio.sleep(0.05)
        limit_threads(1)
        await close(handle)
        limit_threads(hard)
        with file.create_sync_access_handle() as other:
            print(other.get_size())
        try:
            os.fstat(number)
            print("open")
        except OSError:
            print("closed")

def run(close):
    loop = new_loop()
    loop.run_until_complete(asyncio.wait_for(main(close), 40))
    loop.close()
"""


@pytest.fixture(params=["uvloop", "asyncio"])
def run_program(request, tmp_path):
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    folder = tmp_path / "folder"
    folder.mkdir()
    return lambda program: python(PREAMBLE + program, request.param, folder)


@pytest.mark.parametrize("method", ["close", "abort"])
def test_close_without_free_threads_releases_the_lock(run_program, method):
    printed = run_program(f"""
async def close(handle):
    assert await handle.{method}() is None
    assert await handle.close() is None
run(close)
""")
    assert printed == "4\nclosed\n"


def test_close_that_is_awaited_before_its_turn_ends(run_program):
    """The close waits for the write. When it can start, no thread can be started for it."""
    printed = run_program("""
async def close(handle):
    write = handle.write(b"x" * 20_000_000, at=0)
    closing = asyncio.gather(handle.close())
    await asyncio.sleep(0)  # gather awaits it now
    assert await write == 20_000_000
    assert await closing == [None]
run(close)
""")
    assert printed == "20000000\nclosed\n"


def test_busy_handle_is_closed_when_its_requests_have_ended(run_program):
    printed = run_program("""
async def close(handle):
    writes = [aio.aiocb(handle, b"x" * 1_000_000, aio_offset=n * 1_000_000) for n in range(20)]
    for cb in writes:
        aio.aio_write(cb)
    try:
        await handle.close()
    except BlockingIOError:
        pass  # requests were in flight, so it was closed without a flush
    for cb in writes:
        aio.aio_suspend([cb])
        assert aio.aio_return(cb) == 1_000_000
run(close)
""")
    assert printed == "20000000\nclosed\n"


def test_refused_notification_releases_the_buffer(run_program):
    """A call with SIGEV_THREAD is refused before the first thread of the engine starts."""
    printed = run_program("""
notified = []
event = aio.sigevent(aio.SIGEV_THREAD, 0, 1, notified.append)
number = os.open(folder + "/file", os.O_RDWR | os.O_CREAT, 0o600)
cb = aio.aiocb(number, bytearray(b"data"), aio_sigevent=event)
limit_threads(1)
try:
    aio.aio_write(cb)
except BlockingIOError:
    print("refused", os.strerror(aio.aio_error(cb)))
cb.aio_buf.append(1)
cb.aio_lio_opcode = aio.LIO_WRITE
try:
    aio.lio_listio(aio.LIO_WAIT, [cb])
except OSError as error:
    print(error.errno, os.strerror(aio.aio_error(cb)))
limit_threads(hard)
cb = aio.aiocb(number, b"data", aio_sigevent=event)
aio.aio_write(cb)
while not notified:
    time.sleep(0.01)
print(notified)
""")
    assert printed.splitlines() == [
        "refused Resource temporarily unavailable",
        "5 Resource temporarily unavailable",
        "[1]",
    ]
