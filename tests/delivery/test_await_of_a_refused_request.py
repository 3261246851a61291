"""A request that the engine refuses while another thread awaits it: the await ends, too."""

from support import python

PROGRAM = """
import asyncio, errno, os, sys, threading
from aiofs.aio import *

sys.setswitchinterval(1e-6)

async def main():
    closed = 999_999  # a number that no descriptor of the loop gets meanwhile
    seen = 0
    for _ in range(3000):
        cb = aiocb(closed)
        thread = threading.Thread(target=submit, args=(cb,))
        thread.start()
        while (state := state_of(cb)) is None:
            pass
        if state == errno.EINPROGRESS:
            seen += 1
            try:
                await cb
            except OSError as error:
                assert error.errno == errno.EBADF, error
            assert state_of(cb) == errno.EBADF
        thread.join()
        if seen == 50:
            break

def state_of(cb):
    try:
        return aio_error(cb)
    except OSError:
        return None

def submit(cb):
    try:
        aio_fsync(os.O_SYNC, cb)
    except OSError as error:
        assert error.errno == errno.EBADF, error

asyncio.run(main())
"""


def test_await_ends_when_the_engine_refuses_the_request():
    python(PROGRAM)
