"""`copyfile`, `copytree` and `walk`."""

import asyncio
import os
import pathlib
import shutil

import pytest

from aiofs import files


@pytest.fixture
def tree(tmp_path):
    tree = tmp_path / "tree"
    (tree / "sub" / "empty").mkdir(parents=True)
    (tree / "a").write_bytes(b"a" * 100_000)
    (tree / "sub" / "b").write_text("b")
    (tree / "sub" / "b").chmod(0o600)
    (tree / "link").symlink_to("a")
    return tree


async def test_copy_has_the_bytes_and_reports_its_progress(tree):
    told = []
    target = tree / "copy"
    assert await files.copyfile(tree / "a", target, progress=lambda *at: told.append(at)) == target
    assert target.read_bytes() == b"a" * 100_000
    assert told[-1] == (100_000, 100_000) and told == sorted(told)
    await files.copyfile(tree / "sub" / "b", target)
    assert target.read_text() == "b"


async def test_holes_stay_holes(tree):
    with open(tree / "sparse", "wb") as file:
        file.truncate(50 << 20)
        file.seek(20 << 20)
        file.write(b"data")
    await files.copyfile(tree / "sparse", tree / "copy")
    assert (tree / "copy").stat().st_size == 50 << 20
    assert (tree / "copy").stat().st_blocks * 512 <= 1 << 20
    with open(tree / "copy", "rb") as file:
        file.seek(20 << 20)
        assert file.read(5) == b"data\0"


async def test_what_cannot_be_copied(tree):
    os.mkfifo(tree / "fifo")
    os.link(tree / "a", tree / "same")
    for source, target, error in [
        ("missing", "copy", FileNotFoundError),
        ("a", "same", shutil.SameFileError),
        ("a", "link", shutil.SameFileError),
        ("sub", "copy", IsADirectoryError),
        ("a", "sub", IsADirectoryError),
        ("fifo", "copy", shutil.SpecialFileError),
    ]:
        with pytest.raises(error):
            await files.copyfile(tree / source, tree / target)
    assert (tree / "a").read_bytes() == b"a" * 100_000


async def test_cancelled_copy_stops(tree):
    with open(tree / "large", "wb") as file:
        for _ in range(64):
            file.write(os.urandom(1 << 20))
    copy = asyncio.ensure_future(files.copyfile(tree / "large", tree / "copy"))
    await asyncio.sleep(0)
    copy.cancel()
    with pytest.raises(asyncio.CancelledError):
        await copy
    assert (tree / "large").stat().st_size == 64 << 20


async def test_tree_is_copied(tree):
    told = []
    target = await files.copytree(tree, tree.parent / "copy", symlinks=True, progress=told.append)
    assert (target / "a").read_bytes() == (tree / "a").read_bytes()
    assert (target / "link").is_symlink() and (target / "sub" / "empty").is_dir()
    assert (target / "sub" / "b").stat().st_mode == (tree / "sub" / "b").stat().st_mode
    assert (target / "a").stat().st_mtime_ns == (tree / "a").stat().st_mtime_ns
    assert sorted(told) == sorted(map(str, (target / "a", target / "sub" / "b")))
    with pytest.raises(FileExistsError):
        await files.copytree(tree, target)
    await files.copytree(
        tree, target, dirs_exist_ok=True, symlinks=True, ignore=lambda *_: ["link"]
    )


async def test_walk_is_that_of_os(tree):
    assert [step async for step in files.walk(tree)] == list(os.walk(tree))
    seen = []
    async for path, directories, _ in files.walk(tree):
        seen.append(pathlib.Path(path))
        directories.clear()
    assert seen == [tree]
    failed = []
    assert [step async for step in files.walk(tree / "missing", onerror=failed.append)] == []
    assert isinstance(failed[0], FileNotFoundError)
