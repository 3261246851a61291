"""`atomic=True` and `durable=True`: the file is replaced at its close, or not at all."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import warnings

import pytest

from aiofs import files

PLACES = ["disk", "memory"]


@pytest.fixture(params=PLACES)
def folder(request, tmp_path, tmp_path_factory):
    if request.param == "disk":
        yield tmp_path
        return
    import tempfile

    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        yield type(tmp_path)(name)


@pytest.fixture
def path(folder):
    path = folder / "file"
    path.write_bytes(b"old bytes")
    path.chmod(0o640)
    return path


def alone(path):
    return [path.name] == os.listdir(path.parent)


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize(
    ("mode", "new"),
    [("w", b"new"), ("wb", b"new"), ("r+", b"new bytes"), ("a", b"old bytesnew"), ("w+", b"new")],
)
async def test_file_is_replaced_at_the_close(path, mode, new, durable):
    before = path.stat()
    async with files.open(path, mode, atomic=True, durable=durable) as file:
        await file.write(b"new" if "b" in mode else "new")
        await file.flush()
        assert path.read_bytes() == b"old bytes" and alone(path)
    after = path.stat()
    assert path.read_bytes() == new and alone(path)
    assert after.st_ino != before.st_ino
    assert (after.st_mode, after.st_uid) == (before.st_mode, before.st_uid)


@pytest.mark.parametrize("mode", ["w", "a", "x"])
async def test_new_file_gets_its_name_at_the_close(folder, mode):
    path = folder / "new"
    mask = os.umask(0o022)
    try:
        async with files.open(path, mode, atomic=True) as file:
            await file.write("text")
            assert not path.exists()
    finally:
        os.umask(mask)
    assert path.read_text() == "text" and alone(path)
    assert path.stat().st_mode & 0o777 == 0o644


async def test_exclusive_file_does_not_replace_what_came_meanwhile(folder):
    path = folder / "new"
    with pytest.raises(FileExistsError):
        async with files.open(path, "x", atomic=True) as file:
            await file.write("ours")
            path.write_text("theirs")
    assert path.read_text() == "theirs" and alone(path)
    with pytest.raises(FileExistsError) as caught:
        await files.open(path, "x", atomic=True)
    assert caught.value.filename == str(path)


async def test_exception_leaves_the_old_file(path):
    with pytest.raises(KeyError):
        async with files.open(path, "w", atomic=True) as file:
            await file.write("new")
            raise KeyError
    assert file.closed
    assert path.read_bytes() == b"old bytes" and alone(path)


async def test_cancelled_block_leaves_the_old_file(path):
    async def save():
        async with files.open(path, "w", atomic=True) as file:
            await file.write("new")
            await asyncio.sleep(100)

    task = asyncio.ensure_future(save())
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert path.read_bytes() == b"old bytes" and alone(path)


async def test_dropped_file_leaves_the_old_file(path):
    file = await files.open(path, "w", atomic=True)
    await file.write("new")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del file
        gc.collect()
    assert path.read_bytes() == b"old bytes" and alone(path)


async def test_failed_flush_leaves_the_old_file(path):
    file = await files.open(path, "w", encoding="ascii", atomic=True)
    await file.write("x" * 10)
    os.close(file.fileno())
    with pytest.raises(OSError):
        await file.close()
    assert file.closed
    assert path.read_bytes() == b"old bytes" and alone(path)


async def test_symbolic_link_stays_one(path):
    link = path.parent / "link"
    link.symlink_to(path.name)
    async with files.open(link, "w", atomic=True) as file:
        await file.write("new")
    assert link.is_symlink() and path.read_text() == "new"
    link.unlink()
    link.symlink_to("missing")
    async with files.open(link, "w", atomic=True) as file:
        await file.write("made")
    assert (path.parent / "missing").read_text() == "made"


async def test_what_is_no_regular_file_is_refused(folder):
    os.mkfifo(folder / "fifo")
    with pytest.raises(OSError, match="no regular file"):
        await files.open(folder / "fifo", "w", atomic=True)
    with pytest.raises(IsADirectoryError):
        await files.open(folder, "w", atomic=True)
    with pytest.raises(FileNotFoundError):
        await files.open(folder / "missing", "r+", atomic=True)
    with pytest.raises(FileNotFoundError):
        await files.open(folder / "no" / "file", "w", atomic=True)
    assert os.listdir(folder) == ["fifo"]


async def test_arguments_that_do_not_fit(path):
    for arguments, options in [
        ((3, "w"), {}),
        ((path, "r"), {}),
        ((path, "w"), {"opener": os.open}),
    ]:
        with pytest.raises(ValueError, match="atomic=True needs"):
            files.open(*arguments, atomic=True, **options)
    async with files.open(path, "w", atomic=True) as file:
        with pytest.raises(OSError, match="cannot be detached"):
            file.detach()
    with pytest.raises(ValueError, match="mode"):
        await files.open(path, "wq", atomic=True)
    assert path.read_bytes() == b"" and alone(path)


async def test_extended_attributes_are_kept(path):
    try:
        os.setxattr(path, "user.note", b"kept")
    except OSError:
        pytest.skip("this filesystem has no extended attributes")
    await files.write_text(path, "new", atomic=True)
    assert os.getxattr(path, "user.note") == b"kept"


async def test_durable_file_is_synced_with_its_name(path, monkeypatch):
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda fd: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd))
    )
    await files.write_text(path, "new", durable=True)
    assert synced == [str(path), str(path.parent)]
    synced.clear()
    await files.write_text(path, "new", atomic=True, durable=True)
    assert len(synced) == 2 and synced[1] == str(path.parent)
    synced.clear()
    await files.write_text(path, "new", atomic=True)
    assert synced == []


def test_killed_program_leaves_the_old_file_and_nothing_else(path):
    code = f"""
import asyncio, os, signal
from aiofs import files
async def main():
    async with files.open({str(path)!r}, "w", atomic=True) as file:
        await file.write("new" * 100000)
        await file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code])
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old bytes" and alone(path)


@pytest.mark.parametrize("atomic", [False, True])
async def test_whole_files(path, atomic):
    assert await files.read_bytes(path) == b"old bytes"
    assert await files.write_bytes(path, memoryview(b"abcdef")[::1], atomic=atomic) == 6
    assert await files.write_text(path, "zwölf\n", "latin-1", newline="\r\n", atomic=atomic) == 6
    assert path.read_bytes() == b"zw\xf6lf\r\n"
    assert await files.read_text(path, "latin-1") == "zwölf\n"
    for wrong in (lambda: files.write_text(path, b"x"), lambda: files.write_bytes(path, "x")):
        with pytest.raises(TypeError):
            await wrong()
    assert path.read_bytes() == b"zw\xf6lf\r\n" and alone(path)
