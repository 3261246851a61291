"""A FUSE server that answers late: no open, look, read or close holds up the loop.

The loop itself tells the server to answer. If it were blocked, the test would hang.
"""

import asyncio
import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fuse_server import DATA, SECOND

import aiofs
from aiofs import HostVolume, aio, files

SERVER = Path(__file__).parents[1] / "fuse_server.py"


@contextlib.asynccontextmanager
async def slow_filesystem(mountpoint, *how):
    """The loop lets the server answer every few milliseconds."""
    pipe = subprocess.PIPE
    server = subprocess.Popen(
        [sys.executable, str(SERVER), str(mountpoint), "slow", *how],
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
    )
    if server.stdout.readline() != b"mounted\n":
        pytest.skip(server.communicate()[1].decode())

    async def answer():
        while True:
            server.stdin.write(b"\n")
            server.stdin.flush()
            await asyncio.sleep(0.002)

    answering = asyncio.create_task(answer())
    try:
        yield
    finally:
        answering.cancel()
        server.communicate()


@pytest.fixture
def places(tmp_path):
    """A directory with a local file, a mount point, and links to the file that is served there."""
    (tmp_path / "mnt").mkdir()
    (tmp_path / "local").write_bytes(b"local")
    (tmp_path / "link").symlink_to("mnt/file")
    (tmp_path / "folder").symlink_to("mnt")
    return tmp_path


@pytest.mark.parametrize("path", ["mnt/file", "link", "folder/file"])
async def test_files_of_a_slow_server_are_opened_read_and_closed_without_the_loop(places, path):
    async with slow_filesystem(places / "mnt"):
        for _ in range(3):  # so that the kernel and aiofs know the path
            assert await files.read_bytes(places / "local") == b"local"
            assert await files.read_bytes(places / path) == DATA[:SECOND]
            async with aiofs.open(places / path, "rb") as file:
                assert await file.read(10) == DATA[:10]
                assert await file.readline() == DATA[10:].partition(b"\n")[0] + b"\n"
            async with aiofs.open(places / path) as text:
                assert await text.readline() == DATA[:8].decode()
            assert (await files.Path(places / path).stat()).st_size == len(DATA)
            buffer = bytearray(10)
            descriptor = await asyncio.to_thread(os.open, places / path, os.O_RDONLY)
            assert await files.pread(descriptor, buffer, 0) == 10
            await asyncio.to_thread(os.close, descriptor)
            assert buffer == DATA[:10]


async def test_files_of_a_slow_server_that_is_mounted_in_a_volume_are_opened_without_the_loop(
    places,
):
    with HostVolume(places) as volume:
        async with slow_filesystem(places / "mnt"):
            for _ in range(3):
                for path, content in (("local", b"local"), ("mnt/file", DATA), ("link", DATA)):
                    file = aiofs.FileHandle._of(volume, path)
                    handle = await file.create_access_handle(mode="read-only")
                    await handle.close()  # nothing was read: the engine has no descriptor of it
                    async with file.create_access_handle(mode="read-only") as handle:
                        buffer = bytearray(5)
                        assert await handle.read(buffer, at=0) == 5
                        assert buffer == content[:5]


@pytest.mark.parametrize("prio", [0, 1])
async def test_requests_on_a_file_whose_attributes_the_kernel_must_ask_for_do_not_hold_the_loop(
    places, prio
):
    async with slow_filesystem(places / "mnt", "forgetful"):
        descriptor = await asyncio.to_thread(os.open, places / "mnt/file", os.O_RDONLY)
        for offset in (0, 100):
            cb = aio.aiocb(descriptor, bytearray(10), aio_offset=offset, aio_reqprio=prio)
            aio.aio_read(cb)
            assert await cb == 10
            assert cb.aio_buf == DATA[offset : offset + 10]
        syncing = aio.aiocb(descriptor)
        with contextlib.suppress(OSError):  # the server has no fsync
            aio.aio_fsync(os.O_SYNC, syncing)
            await syncing
        await asyncio.to_thread(os.close, descriptor)
