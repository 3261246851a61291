"""`aiofs.open` of a `FileHandle`: the same file object as its method `open` gives."""

import asyncio
import os

import pytest

import aiofs
from aiofs import files


@pytest.fixture
def handle(tmp_path):
    with aiofs.PrivateVolume(tmp_path / "volume") as volume:
        (tmp_path / "volume/file").write_text("old text")
        yield aiofs.FileHandle._of(volume, "file")


@pytest.fixture
def path(tmp_path, handle):
    return tmp_path / "volume/file"


@pytest.mark.parametrize("opener", [aiofs.open, files.open])
async def test_handle_is_opened_as_a_path_is(handle, path, opener):
    async with opener(handle) as file:
        assert await file.read() == "old text"
    async with opener(handle, "r+b", 0) as file:
        assert isinstance(file, files.AsyncFileIO)
        assert await file.write(b"new") == 3
    async with opener(file=handle, mode="a", encoding="utf-8", newline="\r\n") as file:
        await file.write(" ä\n")
    assert path.read_bytes() == b"new text \xc3\xa4\r\n"


async def test_handle_is_locked_and_its_lock_is_waited_for(handle):
    async with files.open(handle, "a") as file:
        with pytest.raises(aiofs.NoModificationAllowedError):
            await files.open(handle, "a")
        task = asyncio.ensure_future(asyncio.wait_for(files.open(handle, "a", wait=30), 30))
        await asyncio.sleep(0.02)
        assert not task.done()
        await file.write("!")
    async with await task as file:
        assert await file.tell() == 9


async def test_atomic_and_durable_are_those_of_the_handle(handle, path):
    with pytest.raises(KeyError):
        async with files.open(handle, "w", atomic=True, durable=True) as file:
            await file.write("new")
            raise KeyError
    assert path.read_text() == "old text"
    async with files.open(handle, "w", atomic=True, durable=True) as file:
        await file.write("new")
    assert path.read_text() == "new" and set(os.listdir(path.parent)) == {".aiofs", "file"}


async def test_loop_and_executor_are_ignored(handle):
    async with files.open(handle, loop=None, executor=object()) as file:
        assert await file.read() == "old text"


def test_argument_of_descriptors_or_of_paths_only_is_refused(handle, path):
    with pytest.raises(ValueError, match="closefd=True"):
        files.open(handle, closefd=False)
    with pytest.raises(ValueError, match="opener"):
        files.open(handle, opener=os.open)
    with pytest.raises(ValueError, match="needs a FileHandle"):
        files.open(path, wait=1.0)
    with pytest.raises(ValueError, match="mode that writes"):
        files.open(handle, atomic=True)


async def test_handle_of_a_directory_is_no_file(handle):
    with pytest.raises(TypeError):
        await files.open(handle._volume.root)


def test_programs_that_have_handles_do_without_the_modules_of_files(tmp_path):
    import subprocess
    import sys

    program = "import sys, aiofs; print('aiofs.files' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"False\n"
