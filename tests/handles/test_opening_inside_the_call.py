"""What the kernel has in memory is opened inside the call: the await does not suspend."""

import asyncio
import gc
import os
import stat
import subprocess
import sys
import warnings

import pytest
from coroutines import at_once, turns, waits
from support import CONTENT, tmpfs

import aiofs
from aiofs import HostVolume, PrivateVolume, _core


@pytest.fixture(params=[PrivateVolume, HostVolume])
def volume(tmp_path, request):
    (tmp_path / "volume/sub").mkdir(parents=True)
    (tmp_path / "volume/file").write_bytes(CONTENT)
    (tmp_path / "volume/sub/file").write_bytes(CONTENT)
    with request.param(tmp_path / "volume") as volume:
        yield volume


async def warm(volume, path="file"):
    """Opens the file once: the first opening creates the lock file, and maps the waiters."""
    async with aiofs.FileHandle._of(volume, path).create_access_handle(mode="in-place"):
        pass
    await turns(2)  # a new budget


async def test_cached_file_is_found_opened_read_and_closed_without_suspending(volume):
    await warm(volume)
    file = await at_once(volume.root.get_file_handle, "file")
    assert (await at_once(file.get_file)).size == len(CONTENT)
    handle = await at_once(file.create_access_handle, mode="read-only")
    buffer = bytearray(10)
    assert await at_once(handle.read, buffer, at=0) == 10
    assert buffer == CONTENT[:10]
    await at_once(handle.close)
    assert (await volume.locks()) == []
    assert isinstance(await at_once(volume.root.get_directory_handle, "sub"), aiofs.DirectoryHandle)


async def test_handle_opened_inside_the_call_has_its_lock(volume):
    await warm(volume)
    file = await volume.root.get_file_handle("file")
    handle = await at_once(file.create_access_handle, mode="in-place")
    with pytest.raises(aiofs.NoModificationAllowedError):
        await file.create_access_handle(mode="in-place")
    assert [(lock.path, lock.mode) for lock in await volume.locks()] == [("file", "in-place")]
    await handle.close()
    async with file.create_access_handle(mode="in-place") as again:
        assert again.mode == "in-place"


async def test_errors_are_those_of_the_operation(volume):
    await warm(volume)
    with pytest.raises(aiofs.NotFoundError):
        await volume.root.get_file_handle("missing")
    with pytest.raises(aiofs.TypeMismatchError):
        await volume.root.get_file_handle("sub")
    file = await volume.root.get_file_handle("file")
    os.unlink(f"{volume._ops.directory}/file")
    with pytest.raises(aiofs.NotFoundError):
        await file.create_access_handle(mode="read-only")
    for wait in (-1, float("nan")):
        with pytest.raises(ValueError):
            file.create_access_handle(wait=wait)


async def test_file_on_a_filesystem_that_is_mounted_inside_is_opened_too(volume):
    await warm(volume)
    with tmpfs(f"{volume._ops.directory}/sub"):
        with open(f"{volume._ops.directory}/sub/file", "wb") as file:
            file.write(b"mounted")
        looking = aiofs.FileHandle, volume, "sub/file", stat.S_IFREG
        assert _core.cached_entry(*looking) is None  # it may be any filesystem
        file = aiofs.FileHandle._of(volume, "sub/file")
        async with file.create_access_handle(mode="read-only") as handle:
            assert await handle.get_size() == 7


async def test_dropped_opening_leaves_no_lock_and_gives_a_warning(volume):
    await warm(volume)
    file = await volume.root.get_file_handle("file")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        file.create_access_handle(mode="in-place")
        gc.collect()
        assert await volume.locks() == []
    assert ["never awaited" in str(warning.message) for warning in caught] == [True]


async def test_opening_is_a_coroutine_that_is_awaited_once(volume):
    await warm(volume)
    file = await volume.root.get_file_handle("file")
    handle = await asyncio.create_task(file.create_access_handle(mode="read-only"))
    await handle.close()
    opening = file.create_access_handle(mode="read-only")
    await (await opening).close()
    with pytest.raises(RuntimeError, match="awaited already"):
        await opening
    opening = file.create_access_handle(mode="in-place")
    with pytest.raises(KeyError):
        opening.throw(KeyError())
    assert await volume.locks() == []


async def test_many_openings_in_one_turn_let_the_loop_turn(volume):
    await warm(volume)
    file = await volume.root.get_file_handle("file")
    turned = []
    asyncio.get_running_loop().call_soon(turned.append, True)
    for _ in range(10_000):
        handle = await file.create_access_handle(mode="read-only")
        await handle.close()
        if turned:
            return
    raise AssertionError("10,000 files were opened in one turn")


async def test_changed_file_is_synced_at_its_close(volume, tmp_path):
    """The close inside the call is for handles that changed nothing."""
    await warm(volume)
    file = await volume.root.get_file_handle("file")
    handle = await file.create_access_handle(mode="in-place")
    await handle.write(b"new", at=0)
    await waits(handle.close)
    await handle.close()


async def test_file_without_a_name_is_closed_on_a_host_thread(volume):
    await warm(volume)
    file = await volume.root.get_file_handle("file")
    handle = await file.create_access_handle(mode="in-place")
    os.unlink(f"{volume._ops.directory}/file")
    await turns(2)
    await waits(handle.close)
    await handle.close()


@pytest.fixture
def on_threads(monkeypatch):
    """The names of the functions of File that host threads were given, in order."""
    names = []

    def spy(name):
        function = getattr(aiofs.File, name)

        def call(self, *arguments):
            names.append(name)
            return function(self, *arguments)

        monkeypatch.setattr(aiofs.File, name, call)

    for name in ("_open", "_read", "_read_from", "_text"):
        spy(name)
    return names


async def test_snapshot_of_a_cached_file_is_read_inside_the_call(volume, on_threads):
    await warm(volume)
    file = await (await volume.root.get_file_handle("file")).get_file()
    assert await at_once(file.read) == CONTENT
    assert await at_once(file.slice(10, 20).read) == CONTENT[10:20]
    assert await at_once(file.slice(5, 5).read) == b""
    assert await at_once(file.text) == CONTENT.decode("utf-8", "replace")
    pieces = [piece async for piece in file.stream(5000)]
    assert b"".join(pieces) == CONTENT
    assert [len(piece) for piece in pieces[:-1]] == [5000] * (len(CONTENT) // 5000)
    assert on_threads == []
    assert await volume.locks() == []


async def test_snapshot_that_is_not_cached_or_long_is_read_on_a_host_thread(
    volume, on_threads, faults
):
    await warm(volume)
    path = f"{volume._ops.directory}/file"
    file = await volume.root.get_file_handle("file")
    with open(path, "r+b") as opened:
        opened.write(b"\xff" * 200_000)
    snapshot = await file.get_file()
    faults.forget_pages()
    assert await snapshot.read() == b"\xff" * 200_000
    assert on_threads[:1] == ["_read"]
    faults.clear()
    on_threads.clear()
    assert await snapshot.read() == b"\xff" * 200_000
    assert on_threads == []
    assert await snapshot.text() == "\ufffd" * 200_000
    assert on_threads[:1] == ["_text"]  # to decode it takes long
    on_threads.clear()
    with open(path, "ab") as opened:
        opened.truncate(2 << 20)
    assert len(await (await file.get_file()).read()) == 2 << 20
    assert on_threads[:1] == ["_read"]


async def test_snapshot_of_a_changed_file_is_refused_as_on_a_host_thread(volume):
    await warm(volume)
    snapshot = await (await volume.root.get_file_handle("file")).get_file()
    with open(f"{volume._ops.directory}/file", "ab") as file:
        file.write(b"more")

    async def stream():
        return [piece async for piece in snapshot.stream()]

    for read in (snapshot.read, snapshot.text, stream):
        with pytest.raises(aiofs.NotReadableError):
            await read()
    os.unlink(f"{volume._ops.directory}/file")
    for read in (snapshot.read, snapshot.text, stream):
        with pytest.raises(aiofs.NotFoundError):
            await read()


async def test_snapshot_on_another_filesystem_is_read_on_a_host_thread(volume, on_threads):
    await warm(volume)
    with tmpfs(f"{volume._ops.directory}/sub"):
        with open(f"{volume._ops.directory}/sub/file", "wb") as file:
            file.write(b"mounted")
        snapshot = await aiofs.FileHandle._of(volume, "sub/file").get_file()
        assert await snapshot.read() == b"mounted"
        assert on_threads[:1] == ["_read"]
        on_threads.clear()
        assert [piece async for piece in snapshot.stream(3)] == [b"mou", b"nte", b"d"]
        assert on_threads.count("_read_from") == 4


async def test_stream_goes_on_when_its_file_leaves_the_memory(volume, on_threads, monkeypatch):
    await warm(volume)
    snapshot = await (await volume.root.get_file_handle("file")).get_file()
    pieces = []
    async for piece in snapshot.stream(1000):
        pieces.append(piece)
        if len(pieces) == 3:
            monkeypatch.setattr(_core, "cached_part", lambda *arguments: None)
    assert b"".join(pieces) == CONTENT
    assert on_threads == ["_open"] + ["_read_from"] * (len(pieces) - 3 + 1)


PROGRAM = """
import asyncio, os, sys
from aiofs import files

async def main(directory):
    for _ in range(3):  # the first read learns what filesystem it is
        for name in sorted(os.listdir(directory)):
            if name != "fifo":
                await files.read_bytes(f"{directory}/{name}")
                await asyncio.sleep(0)
    reading = asyncio.create_task(files.read_bytes(f"{directory}/fifo"))
    await asyncio.sleep(0.05)  # the loop turns while nobody writes
    with open(f"{directory}/fifo", "wb") as fifo:
        fifo.write(b"from the fifo")
    assert await reading == b"from the fifo"

asyncio.run(main(sys.argv[1]))
"""


def test_fifo_never_blocks_the_loop(tmp_path):
    for number in range(3):
        (tmp_path / f"file{number}").write_bytes(CONTENT)
    os.mkfifo(tmp_path / "fifo")
    assert stat.S_ISFIFO(os.stat(tmp_path / "fifo").st_mode)
    subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], check=True, timeout=50)
