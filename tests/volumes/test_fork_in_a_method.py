"""A method of a volume forks, and its child returns from the method too."""

from pathlib import Path

import pytest
from support import python

PREAMBLE = f"""
import errno, os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from dict_volume import DictVolume
from aiofs import FileSystem
from aiofs.aio import *

class Forks(DictVolume):
    blocking = sys.argv[1] == "blocks"
    children = []

    def write_at(self, file, data, offset):
        if bytes(data) == b"fork":
            self.children.append(os.fork())
        return super().write_at(file, data, offset)

def completed(cb):
    aio_suspend([cb], 20)
    return aio_error(cb)

def write(fd, data, at):
    cb = aiocb(fd, data, aio_offset=at)
    aio_write(cb)
    return cb

fs, volume = FileSystem(), Forks()
fs.mount("/", volume)
fd = fs.open("/file", os.O_RDWR | os.O_CREAT)
"""

ENDS_WELL = """
(child,) = volume.children
assert os.waitpid(child, 0)[1] == 0, "the child did not end well"
"""


def test_child_that_returns_on_a_thread_of_the_engine_ends_with_it():
    program = """
first, second = write(fd, b"fork", 0), write(fd, b"data", 2)  # the second waits for the first
assert completed(first) == completed(second) == 0
fs.close(fd)
assert volume.open_files == 0
"""
    python(PREAMBLE + program + ENDS_WELL, "blocks")


@pytest.mark.parametrize("before", ["", "write(fd, b'more', 0); "])
def test_child_that_returns_to_the_program_goes_on_with_requests_of_its_own(before):
    program = f"""
{before}cb = write(fd, b"fork", 0)
if volume.children == [0]:
    status = 1
    try:
        assert completed(cb) == errno.ECANCELED
        assert completed(write(fd, b"again", 0)) == 0
        sync = aiocb(fd)
        aio_fsync(os.O_SYNC, sync)
        assert completed(sync) == 0
        fs.close(fd)
        assert volume.open_files == 0
        status = 0
    finally:
        os._exit(status)
assert completed(cb) == 0
fs.close(fd)
"""
    python(PREAMBLE + program + ENDS_WELL, "never blocks")
