"""`files.Path`: pathlib's names, awaited where they touch the disk."""

import asyncio
import copy
import os
import pathlib
import pickle
import socket
import sys

import pytest

from aiofs import files
from aiofs.files import Path

PURE = sorted(name for name in dir(pathlib.PurePosixPath) if not name.startswith("_"))
WHOLE = sorted(
    name
    for name in dir(pathlib.Path)
    if not name.startswith("_") and name not in PURE and name not in ("link_to", "info")
)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "file").write_text("text\n")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "sub" / "deep").mkdir(parents=True)
    (tmp_path / "sub" / "deep" / "note.txt").write_text("note")
    os.mkfifo(tmp_path / "fifo")
    return Path(tmp_path)


def test_it_has_every_method_of_pathlib():
    assert [name for name in WHOLE if not hasattr(Path, name)] == []


def test_what_looks_at_the_text_only_is_not_awaited():
    path = Path("/a/b.txt")
    assert path == pathlib.Path("/a/b.txt") and hash(path) == hash(pathlib.Path("/a/b.txt"))
    assert isinstance(path, pathlib.PurePosixPath) and os.fspath(path) == "/a/b.txt"
    assert repr(path) == "Path('/a/b.txt')"
    for made in (path / "c", "/x" / Path("y"), path.parent, path.with_name("z"), path.parents[0]):
        assert type(made) is Path
    assert Path("a", "b", limiter=None) == Path("a/b") and path.limiter is None
    assert copy.copy(path) == path and pickle.loads(pickle.dumps(path)) == path
    assert path < Path("/b") and path.match("*.txt") and path.suffix == ".txt"


async def test_what_it_is(folder):
    plain = pathlib.Path(folder)
    for name in ("file", "link", "sub", "fifo", "missing"):
        for kind in ("exists", "is_file", "is_dir", "is_symlink", "is_fifo", "is_socket"):
            assert await getattr(folder / name, kind)() == getattr(plain / name, kind)()
    for kind in ("is_mount", "is_block_device", "is_char_device"):
        assert await getattr(folder, kind)() == getattr(plain, kind)()
    assert await Path("/dev/null").is_char_device() and await Path("/").is_mount()
    with socket.socket(socket.AF_UNIX) as unix:
        os.chdir(plain)
        unix.bind("socket")
        assert await (folder / "socket").is_socket()
    assert (await (folder / "link").stat()).st_size == 5
    assert (await (folder / "link").lstat()).st_size == 4
    assert (await (folder / "link").stat(follow_symlinks=False)).st_size == 4
    assert await (folder / "link").samefile(folder / "file")
    assert await (folder / "file").owner() == (plain / "file").owner()
    assert await (folder / "file").group() == (plain / "file").group()


async def test_where_it_is(folder, monkeypatch):
    plain = pathlib.Path(folder)
    monkeypatch.chdir(plain)
    monkeypatch.setenv("HOME", str(plain))
    assert await Path.cwd() == plain and type(await Path.cwd()) is Path
    assert await Path.home() == plain
    assert await Path("~/x").expanduser() == plain / "x"
    assert await Path("sub").absolute() == plain / "sub"
    assert await Path("link").resolve() == (plain / "file").resolve()
    assert await Path("link").readlink() == pathlib.Path("file")
    with pytest.raises(FileNotFoundError):
        await Path("missing").resolve(strict=True)


async def test_changing_it(folder):
    made = folder / "made" / "it"
    await made.mkdir(parents=True)
    with pytest.raises(FileExistsError):
        await made.mkdir()
    await made.mkdir(exist_ok=True)
    await (made / "a").touch()
    await (made / "a").chmod(0o600)
    assert (await (made / "a").stat()).st_mode & 0o777 == 0o600
    moved = await (made / "a").rename(made / "b")
    assert type(moved) is Path and await moved.exists() and not await (made / "a").exists()
    await (made / "c").symlink_to("b")
    await (made / "d").hardlink_to(made / "b")
    assert (await (made / "d").stat()).st_nlink == 2
    assert await (made / "d").replace(made / "b") == made / "b"
    with pytest.raises(OSError):
        await made.rmdir()
    for name in ("b", "c", "d"):
        await (made / name).unlink(missing_ok=True)
    await made.rmdir()
    with pytest.raises(FileNotFoundError):
        await made.unlink()


async def test_what_is_in_it(folder):
    plain = pathlib.Path(folder)
    for found, wanted in [
        (folder.iterdir(), plain.iterdir()),
        (folder.glob("*i*"), plain.glob("*i*")),
        (folder.rglob("*.txt"), plain.rglob("*.txt")),
    ]:
        paths = [path async for path in found]
        assert sorted(paths) == sorted(map(Path, wanted)) and {type(path) for path in paths} == {
            Path
        }
    with pytest.raises(FileNotFoundError):
        async for _ in (folder / "missing").iterdir():
            pass


@pytest.mark.skipif(sys.version_info < (3, 12), reason="pathlib has no walk")
async def test_walk(folder):
    plain = pathlib.Path(folder)
    found = [step async for step in folder.walk()]
    assert [(pathlib.Path(path), *rest) for path, *rest in found] == list(plain.walk())
    async for _, directories, _ in folder.walk():
        directories.clear()  # it does not go below
    assert len([step async for step in folder.walk(top_down=False)]) == 3


async def test_large_directory_comes_whole(folder):
    for number in range(1000):
        (pathlib.Path(folder) / "sub" / str(number)).touch()
    found = [path.name async for path in (folder / "sub").iterdir()]
    assert sorted(found) == sorted([*map(str, range(1000)), "deep"])


async def test_its_bytes(folder):
    path = folder / "bytes"
    assert await path.write_bytes(b"a\r\nb") == 4
    assert await path.read_bytes() == b"a\r\nb"
    assert await path.read_text() == "a\nb"
    assert await path.write_text("größer\n", "latin-1", newline="\r\n", atomic=True) == 7
    assert await path.read_bytes() == b"gr\xf6\xdfer\r\n"
    async with path.open("rb") as file:
        assert await file.read() == await path.read_bytes()
    async with path.open("w", encoding="utf-8", atomic=True, durable=True) as file:
        await file.write("x")
    assert await path.read_text() == "x"
    assert await files.read_text(path) == "x"


async def test_status_is_that_of_os_stat_also_inside_the_call(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "fifo")
    for _ in range(3):  # the first look learns what filesystem it is
        for name in (".", "file", "link", "fifo"):
            path = Path(tmp_path / name)
            assert await path.stat() == os.stat(path)
            assert await path.lstat() == os.lstat(path)
            assert await path.exists()
            assert await path.is_file() == (name in ("file", "link"))
            assert await path.is_dir() == (name == ".")
        for name in ("dangling", "missing", "file/below"):
            path = Path(tmp_path / name)
            assert not await path.exists() and not await path.is_file()
            with pytest.raises(OSError) as caught:
                await path.stat()
            assert caught.value.filename == str(path)
        await asyncio.sleep(0)
