"""The number of system calls for one awaited read, over all threads, counted by strace."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from native import SANITIZE

from aiofs import _core

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace"),
    pytest.mark.skipif(bool(SANITIZE), reason="a sanitizer does not run under strace"),
]

READS = 200
STRIDE = 9 * 4096  # so readahead of one read does not cache the next one

# Awaits `count` reads, one after the other, of a file that is not in the page cache.
PROGRAM = """
import os, sys
import uvloop
import aiofs
from aiofs import aio

kind, folder, count, stride = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
buffer = aiofs.aligned_buffer(4096)

async def read_all(descriptor):
    cb = aio.aiocb(descriptor, buffer)
    for number in range(count):
        cb.aio_offset = number * stride
        aio.aio_read(cb)
        assert await cb == 4096

async def main():
    path = folder + "/file"
    if kind == "plain":
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
        await read_all(descriptor)
        os.close(descriptor)
        return
    async with aiofs.FileSystem() as fs:
        fs.mount("/", aiofs.PrivateVolume(folder))
        if kind == "descriptor":
            await read_all(fs.open("/file", os.O_RDONLY | os.O_DIRECT))
        else:
            handle = await fs.create_access_handle("/file", mode="read-only")
            os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
            os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            for number in range(count):
                assert await handle.read(buffer, at=number * stride) == 4096
            await handle.close()

uvloop.run(main())
"""


def calls_of(kind, folder, reads):
    """The number of system calls of a program that makes so many reads."""
    summary = folder / "summary"
    program = [sys.executable, "-c", PROGRAM, kind, folder / "files", str(reads), str(STRIDE)]
    strace = ["strace", "-f", "-c", "-o", summary, *program]
    done = subprocess.run(strace, capture_output=True, text=True, check=False)
    if done.returncode != 0 and "ptrace" in done.stderr:
        pytest.skip("strace is not allowed here")
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in summary.read_text().splitlines()]
    return sum(
        int(line[3])
        for line in lines
        if len(line) >= 5 and re.fullmatch(r"\d+", line[3]) and line[-1] != "total"
    )


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "files").mkdir()
    with open(tmp_path / "files" / "file", "wb") as file:
        file.write(os.urandom(2 * READS * STRIDE))
        os.fsync(file.fileno())
    try:
        os.close(os.open(tmp_path / "files" / "file", os.O_RDONLY | os.O_DIRECT))
    except OSError:
        pytest.skip("this filesystem has no O_DIRECT")
    return tmp_path


# The engine examines a plain descriptor at each request, by two calls. While reads follow each
# other closely, it keeps its binding. On a slow machine each read may need a new binding: six more.
# Threads that wait longer there make more calls, too. So the least of some counts is what it needs.
@pytest.mark.parametrize(("kind", "most"), [("handle", 8), ("descriptor", 8), ("plain", 14)])
def test_lone_read_makes_few_system_calls(folder, kind, most):
    if _core.engine() != "io_uring":
        pytest.skip("with threads each read also wakes a worker")
    counted = []
    while not counted or (min(counted) > most and len(counted) < 5):
        calls = calls_of(kind, folder, 2 * READS) - calls_of(kind, folder, READS)
        counted.append(calls / READS)
    assert min(counted) <= most, counted
