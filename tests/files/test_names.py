"""The asynchronous names of `os`, `os.path` and `tempfile`."""

import os
import pathlib

import pytest

from aiofs import files


async def test_functions_of_os(tmp_path):
    path = tmp_path / "a"
    await files.os.mkdir(path)
    await files.os.makedirs(tmp_path / "b" / "c")
    await files.os.rename(path, tmp_path / "d")
    await files.os.renames(tmp_path / "d", tmp_path / "e" / "f")
    await files.os.symlink("e", tmp_path / "link")
    assert await files.os.readlink(tmp_path / "link") == "e"
    assert sorted(await files.os.listdir(tmp_path)) == ["b", "e", "link"]
    assert sorted(entry.name for entry in await files.os.scandir(tmp_path)) == ["b", "e", "link"]
    assert (await files.os.stat(tmp_path)).st_ino == tmp_path.stat().st_ino
    assert (await files.os.statvfs(tmp_path)).f_bsize == os.statvfs(tmp_path).f_bsize
    assert await files.os.access(tmp_path, os.R_OK) and await files.os.getcwd() == os.getcwd()
    await files.os.removedirs(tmp_path / "b" / "c")
    await files.os.rmdir(tmp_path / "e" / "f")
    await files.os.unlink(tmp_path / "link")
    with pytest.raises(FileNotFoundError):
        await files.os.remove(tmp_path / "missing", loop=None, executor=None)
    assert await files.os.wrap(len)("abc") == 3
    assert files.os.stat.__name__ == "stat" and files.os.path is files.ospath


async def test_sendfile_and_replace(tmp_path):
    (tmp_path / "from").write_bytes(b"0123456789")
    with open(tmp_path / "from", "rb") as source, open(tmp_path / "to", "wb") as target:
        assert await files.os.sendfile(target.fileno(), source.fileno(), 2, 5) == 5
    await files.os.replace(tmp_path / "to", tmp_path / "from")
    await files.os.link(tmp_path / "from", tmp_path / "other")
    assert (tmp_path / "other").read_bytes() == b"23456"


async def test_functions_of_the_path_module(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"123")
    for name in ("abspath", "exists", "getatime", "getctime", "getmtime", "getsize", "isdir"):
        assert await getattr(files.ospath, name)(path) == getattr(os.path, name)(path)
    for name in ("isfile", "islink", "ismount"):
        assert await getattr(files.ospath, name)(path) == getattr(os.path, name)(path)
    assert await files.ospath.samefile(path, path)
    with open(path) as one, open(path) as two:
        assert await files.ospath.sameopenfile(one.fileno(), two.fileno())


@pytest.mark.parametrize("mode", ["w+", "w+b"])
async def test_temporary_files(tmp_path, mode):
    data = b"abc\n" if "b" in mode else "abc\n"
    async with files.tempfile.TemporaryFile(mode, dir=tmp_path) as file:
        await file.write(data)
        await file.seek(0)
        assert [line async for line in file] == [data]
        assert os.listdir(tmp_path) == []
    async with files.tempfile.NamedTemporaryFile(mode, dir=tmp_path, suffix=".x") as file:
        await file.write(data)
        await file.flush()
        assert os.listdir(tmp_path) == [os.path.basename(file.name)] and file.delete
    assert os.listdir(tmp_path) == []
    async with files.tempfile.NamedTemporaryFile(mode, dir=tmp_path, delete=False) as file:
        pass
    assert os.listdir(tmp_path) == [os.path.basename(file.name)]


async def test_spooled_file_moves_to_the_disk(tmp_path):
    async with files.tempfile.SpooledTemporaryFile(5, dir=tmp_path) as file:
        await file.write(b"123")
        assert not file.wrapped._rolled
        await file.writelines([b"456", b"7"])
        assert file.wrapped._rolled
        assert os.fstat(await file.fileno()).st_nlink == 0
        await file.seek(0)
        assert await file.read() == b"1234567"
    async with files.tempfile.SpooledTemporaryFile(mode="w+", encoding="latin-1") as file:
        await file.rollover()
        assert file.encoding == "latin-1"


async def test_temporary_directory(tmp_path):
    async with files.tempfile.TemporaryDirectory("end", "begin", tmp_path) as name:
        assert name.endswith("end") and os.listdir(tmp_path) == [os.path.basename(name)]
        (pathlib.Path(name) / "file").touch()
    assert os.listdir(tmp_path) == []
    directory = await files.tempfile.TemporaryDirectory(dir=tmp_path)
    assert os.path.isdir(directory.name)
    await directory.close()
    assert os.listdir(tmp_path) == []
    descriptor, name = await files.tempfile.mkstemp(dir=tmp_path)
    os.close(descriptor)
    assert os.path.isfile(name) and os.path.isdir(await files.tempfile.mkdtemp(dir=tmp_path))
