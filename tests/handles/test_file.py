"""File: its slices, reading it whole and in pieces, and what makes it unreadable."""

import asyncio
import errno
import os
import subprocess
import sys

import pytest
from opened import CONTENT, SIZE
from support import write_file

import aiofs
from aiofs import NotFoundError, NotReadableError, PrivateVolume

# ---- slices

PARTS = [
    ((), CONTENT),
    ((0,), CONTENT),
    ((10,), CONTENT[10:]),
    ((10, 20), CONTENT[10:20]),
    ((0, 0), b""),
    ((20, 10), b""),
    ((-10,), CONTENT[-10:]),
    ((-10, -4), CONTENT[-10:-4]),
    ((5, -5), CONTENT[5:-5]),
    ((-5, 5), b""),
    ((0, SIZE + 1), CONTENT),
    ((SIZE,), b""),
    ((SIZE + 1,), b""),
    ((SIZE - 1, 2**64), CONTENT[-1:]),
    ((-SIZE - 1, 3), CONTENT[:3]),
    ((-(2**64), -(2**64)), b""),
    ((3, None), CONTENT[3:]),
]


@pytest.mark.parametrize("arguments,expected", PARTS)
async def test_slice_follows_the_rules_of_blob_slice(file, arguments, expected):
    whole = await file.get_file()
    part = whole.slice(*arguments)
    assert type(part) is aiofs.File
    assert (part.size, part.name) == (len(expected), "file")
    assert part.last_modified == whole.last_modified
    assert await part.read() == expected
    assert b"".join([piece async for piece in part.stream(7000)]) == expected
    assert (whole.size, await whole.read()) == (SIZE, CONTENT)


async def test_slice_of_a_slice_counts_from_the_slice(file):
    part = (await file.get_file()).slice(100, 200)
    assert await part.slice(10, 20).read() == CONTENT[110:120]
    assert await part.slice(-10).read() == CONTENT[190:200]
    assert await part.slice(start=50, end=5000).read() == CONTENT[150:200]
    assert await part.slice(-5000, 1).slice().read() == CONTENT[100:101]


async def test_slice_takes_integers_only(file):
    whole = await file.get_file()
    for arguments in [("1",), (1.0,), (None,), (0, "1"), (0, 1.5)]:
        with pytest.raises(TypeError):
            whole.slice(*arguments)


# ---- text and pieces


@pytest.mark.parametrize(
    "data,text",
    [
        (b"", ""),
        ("grün €".encode(), "grün €"),
        (b"\xef\xbb\xbfmarked", "marked"),
        (b"\xef\xbb\xbf\xef\xbb\xbf", "\ufeff"),
        (b"\xff\xfea\x80", "\ufffd\ufffda\ufffd"),
        (b"\xe2\x82x", "\ufffdx"),
    ],
)
async def test_text_is_utf_8_without_the_mark(volume, data, text):
    write_file(volume, "text", data)
    file = await volume.root.get_file_handle("text")
    assert await (await file.get_file()).text() == text


async def test_text_of_a_slice_is_of_its_bytes(volume):
    write_file(volume, "text", "a€b".encode())
    file = await (await volume.root.get_file_handle("text")).get_file()
    assert await file.slice(1, 4).text() == "€"
    assert await file.slice(2).text() == "\ufffd\ufffdb"


@pytest.mark.parametrize("size", [100, 999, 4096, SIZE - 1, SIZE, SIZE + 1, 2**62])
async def test_stream_gives_pieces_of_the_size_asked_for(file, size):
    pieces = [piece async for piece in (await file.get_file()).stream(size)]
    assert b"".join(pieces) == CONTENT
    assert {len(piece) for piece in pieces[:-1]} <= {size}
    assert 0 < len(pieces[-1]) <= size


async def test_stream_of_nothing_has_no_piece(volume):
    write_file(volume, "empty", b"")
    file = await (await volume.root.get_file_handle("empty")).get_file()
    assert [piece async for piece in file.stream()] == []
    assert await file.read() == b""


async def test_bad_size_of_pieces_raises_at_the_call(file):
    whole = await file.get_file()
    for size in (0, -1):
        with pytest.raises(ValueError, match="chunk_size"):
            whole.stream(size)
    for size in ("1", 1.5, None):
        with pytest.raises(TypeError):
            whole.stream(size)


async def test_streams_of_one_file_are_independent(file):
    whole = await file.get_file()
    first, second = whole.stream(100), whole.slice(50).stream(100)
    assert await anext(first) == CONTENT[:100]
    assert await anext(second) == CONTENT[50:150]
    assert await anext(first) == CONTENT[100:200]
    await first.aclose()
    assert await anext(second) == CONTENT[150:250]
    await second.aclose()


async def test_dropped_stream_keeps_no_descriptor_open(on_disk):
    """The fixture nothing_left_behind looks."""
    async for _ in (await on_disk.get_file()).stream(10):
        break


async def test_huge_file_is_read_a_piece_at_a_time(tmp_path):
    """A terabyte of hole, of which only the slices that are read cost anything."""
    with PrivateVolume(tmp_path / "volume") as volume:
        path = tmp_path / "volume" / "huge"
        path.touch()
        size = 2**40
        os.truncate(path, size)
        file = await (await volume.root.get_file_handle("huge")).get_file()
        assert file.size == size
        assert await file.slice(-3).read() == bytes(3)
        pieces = file.stream(1000)
        for _ in range(10):
            assert await anext(pieces) == bytes(1000)
        await pieces.aclose()


# ---- under any lock


@pytest.mark.parametrize("mode", ["in-place", "read-only", "readwrite-unsafe"])
async def test_file_is_read_under_any_lock(file, mode):
    async with file.create_access_handle(mode=mode):
        whole = await file.get_file()
        assert await whole.read() == CONTENT
        assert [piece async for piece in whole.stream()] == [CONTENT]
        assert await whole.slice(5, 9).text() == CONTENT[5:9].decode("utf-8", "replace")


async def test_open_stream_leaves_the_file_unlocked(file):
    pieces = (await file.get_file()).stream(10)
    await anext(pieces)
    async with file.create_access_handle() as handle:
        assert await handle.get_size() == SIZE
    assert await anext(pieces) == CONTENT[10:20]  # a handle that changed nothing
    await pieces.aclose()


# ---- stale


async def unreadable(file, error=NotReadableError, number=errno.ESTALE):
    """The file, its slices, also empty ones, and its streams raise the error, with the path."""
    for read in (
        file.read,
        file.text,
        file.slice(1, 2).read,
        file.slice(3, 3).read,
        file.slice().text,
        lambda: anext(file.stream(10)),
        lambda: anext(file.slice(0, 0).stream()),
    ):
        with pytest.raises(error) as caught:
            await read()
        assert caught.value.errno == number and caught.value.name == error.__name__
        assert caught.value.filename.endswith("file")


CHANGES = {
    "a byte": lambda handle: handle.write(b"x", at=5),
    "growth": lambda handle: handle.write(b"x", at=SIZE),
    "truncate": lambda handle: handle.truncate(5),
    "extension": lambda handle: handle.truncate(SIZE + 5),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_any_change_through_a_handle_makes_a_file_stale(file, change):
    before = await file.get_file()
    async with file.create_access_handle() as handle:
        await change(handle)
        await unreadable(before)
        now = await file.get_file()
        assert len(await now.read()) == now.size
    await unreadable(before)


async def test_change_on_the_way_ends_a_stream(file):
    pieces = (await file.get_file()).stream(100)
    assert await anext(pieces) == CONTENT[:100]
    write_file(file._volume, "file", b"x")
    with pytest.raises(NotReadableError):
        await anext(pieces)


async def test_writing_nothing_and_changing_the_mode_leave_a_file_readable(on_disk):
    before = await on_disk.get_file()
    async with on_disk.create_access_handle() as handle:
        assert await handle.write(b"", at=5) == 0
    os.chmod(f"{on_disk._volume._directory}/file", 0o600)
    assert await before.read() == CONTENT


OTHER_PROCESS = """
import os, sys
from aiofs import FileHandle, PrivateVolume
directory, path = sys.argv[1:]
before = os.stat(f"{directory}/file")
with PrivateVolume(directory) as volume:
    with FileHandle._of(volume, path).create_sync_access_handle() as handle:
        handle.write(b"other", at=3)
os.utime(f"{directory}/file", ns=(before.st_atime_ns, before.st_mtime_ns))
"""


async def test_change_by_another_process_is_noticed_though_it_restores_the_time(on_disk):
    before = await on_disk.get_file()
    directory = on_disk._volume._directory
    command = [sys.executable, "-c", OTHER_PROCESS, directory, "file"]
    await asyncio.to_thread(subprocess.run, command, check=True, timeout=50)
    assert os.stat(f"{directory}/file").st_mtime_ns // 1_000_000 == before.last_modified
    await unreadable(before)


async def test_restored_time_does_not_hide_a_change(on_disk):
    path = f"{on_disk._volume._directory}/file"
    for number in range(20):
        before, found = await on_disk.get_file(), os.stat(path)
        write_file(on_disk._volume, "file", bytes([number]), at=number)
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
        with pytest.raises(NotReadableError):
            await before.read()


async def test_removed_file_is_not_found(file):
    before = await file.get_file()
    pieces = before.stream(10)
    await anext(pieces)
    await file.remove()
    await unreadable(before, NotFoundError, errno.ENOENT)
    with pytest.raises(NotFoundError):
        await anext(pieces)


async def test_replaced_file_is_stale(on_disk):
    """By another file of the same size and time."""
    before = await on_disk.get_file()
    path = f"{on_disk._volume._directory}/file"
    found = os.stat(path)
    with open(path + "2", "wb") as other:
        other.write(CONTENT[::-1])
    os.utime(path + "2", ns=(found.st_atime_ns, found.st_mtime_ns))
    on_disk._volume._ops.rename("file2", "file")
    await unreadable(before)


async def test_file_is_stale_where_a_directory_stands_now(file):
    before = await file.get_file()
    await file.remove()
    await file._volume.root.get_directory_handle("file", create=True)
    await unreadable(before)


async def test_files_of_a_closed_volume_are_closed(tmp_path):
    with PrivateVolume(tmp_path / "volume") as volume:
        write_file(volume, "file", CONTENT)
        file = await (await volume.root.get_file_handle("file")).get_file()
    with pytest.raises(aiofs.InvalidStateError):
        await file.read()


async def test_file_keeps_its_name_and_its_path_when_its_handle_moves(file):
    snapshot = await file.get_file()
    await file.move("moved")
    assert snapshot.name == "file"
    await unreadable(snapshot, NotFoundError, errno.ENOENT)
    assert (await file.get_file()).name == "moved"
