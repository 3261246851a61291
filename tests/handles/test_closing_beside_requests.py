"""A handle is closed while requests on it are submitted: its lock and its memory."""

from support import python

LIST_CLOSES = """
import errno, os, sys, tempfile
import aiofs
from aiofs.aio import *

with tempfile.TemporaryDirectory() as d, aiofs.FileSystem() as fs:
    fs.mount("/", aiofs.PrivateVolume(d + "/v"))
    handle = fs.create_sync_access_handle("/a", create=True)
    handle.write(b"x" * 4096)
    with open(d + "/other", "w+b") as other:
        class Closes:
            def fileno(self):
                handle.close()
                fs.create_sync_access_handle("/a").close()  # the lock is free at once
                return other.fileno()

        first = aiocb(handle, b"y" * 100, aio_lio_opcode=LIO_WRITE)
        second = aiocb(Closes(), b"z", aio_lio_opcode=LIO_WRITE)
        try:
            lio_listio(LIO_WAIT, [first, second])
        except OSError as error:
            assert error.errno == errno.EIO, error
        assert (aio_error(first), aio_error(second)) == (errno.EBADF, 0)
    with fs.create_sync_access_handle("/a") as handle:
        data = bytearray(8192)
        assert handle.read(data) == 4096 and data[:4096] == b"x" * 4096
"""

THREAD_SUBMITS = """
import os, sys, tempfile, threading
import aiofs
from aiofs.aio import *

sys.setswitchinterval(1e-6)
with tempfile.TemporaryDirectory() as d, aiofs.FileSystem() as fs:
    fs.mount("/", aiofs.PrivateVolume(d + "/v"))
    current, ends, lost = [], threading.Event(), []

    def submit():
        while not ends.is_set():
            handle = current[-1] if current else None
            if handle is None:
                continue
            requests = [aiocb(handle, b"y" * 100, aio_offset=100 * i) for i in range(4)]
            for cb in requests:
                aio_write(cb)
            for cb in requests:
                aio_suspend([cb])
                if aio_error(cb) not in (0, 9):
                    lost.append(aio_error(cb))

    threads = [threading.Thread(target=submit) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(400):
            # EBUSY if the last one holds the lock still
            handle = fs.create_sync_access_handle("/a", create=True)
            current[:] = [handle]
            handle.write(b"x" * 1000, at=0)
            handle.close()
    finally:
        ends.set()
        for thread in threads:
            thread.join()
    assert not lost, lost
"""


def test_entry_of_a_list_outlives_the_handle_that_a_later_entry_closes():
    python(LIST_CLOSES, MALLOC_PERTURB_="165")


def test_closed_handle_holds_no_lock_while_another_thread_submits_on_it():
    python(THREAD_SUBMITS, MALLOC_PERTURB_="165")


CLOSING = """
import asyncio, errno, tempfile, time
import aiofs
from aiofs.aio import *

async def main(ends):
    with tempfile.TemporaryDirectory() as d, aiofs.FileSystem() as fs:
        fs.mount("/", aiofs.PrivateVolume(d + "/v"))
        handle = await fs.create_access_handle("/a", create=True)
        closing = getattr(handle, ends)()
        while True:  # a thread of the engine closes the file; the loop does not turn
            try:
                fs.create_sync_access_handle("/a").close()
                break
            except aiofs.NoModificationAllowedError:
                time.sleep(0.001)
        with fs.create_sync_access_handle("/b", create=True) as other:
            cb = aiocb(handle, b"y" * 10)
            aio_write(cb)
            assert aio_suspend([cb]) == 0 and aio_error(cb) == errno.EBADF, aio_error(cb)
            try:
                aio_cancel(handle)
            except OSError as error:
                assert error.errno == errno.EBADF, error
            assert handle.abort() is closing
            assert other.get_size() == 0
        await closing

asyncio.run(main("close"))
asyncio.run(main("abort"))
"""


def test_handle_whose_close_is_not_delivered_leads_to_no_other_file():
    python(CLOSING)
