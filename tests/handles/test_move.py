"""move of files and directories: renaming, moving, replacing, and what is refused."""

import asyncio
import errno
import os
import threading

import pytest
from coroutines import failure
from lock_holder_process import holding
from support import write_file
from volumes.dict_volume import DictVolume

import aiofs
from aiofs import DirectoryHandle, FileHandle, HostVolume, MemoryVolume, PrivateVolume

BAD_NAMES = ["", ".", "..", "a/b", "/", "a\0b"]


@pytest.fixture(params=["private", "memory", "host", "dict"])
def volume(request, tmp_path):
    (tmp_path / "host").mkdir()
    made = {
        "private": lambda: PrivateVolume(tmp_path / "volume"),
        "memory": MemoryVolume,
        "host": lambda: HostVolume(tmp_path / "host"),
        "dict": DictVolume,
    }
    with made[request.param]() as volume:
        yield volume


@pytest.fixture
def root(volume):
    return volume.root


async def make(directory, name, text="text"):
    write_file(directory._volume, directory._below(name), text.encode())
    return await directory.get_file_handle(name)


async def names(directory):
    return sorted([name async for name in directory.keys()])


async def text_of(file):
    return await (await file.get_file()).text()


# ---- files


async def test_move_of_a_name_renames_a_file_and_the_handle_follows(root):
    file = await make(root, "before", "abc")
    assert await file.move("after") is None
    assert file.name == "after"
    assert await names(root) == ["after"]
    assert await text_of(file) == "abc"
    assert await text_of(await root.get_file_handle("after")) == "abc"
    with pytest.raises(aiofs.NotFoundError):
        await root.get_file_handle("before")
    await file.move("again")
    assert await names(root) == [file.name] == ["again"]


async def test_move_to_the_same_place_changes_nothing(root):
    file = await make(root, "file", "abc")
    await file.move("file")
    await file.move(root)
    await file.move(root, "file")
    assert await names(root) == ["file"]
    assert await text_of(file) == "abc"


async def test_move_to_a_directory_keeps_the_name_unless_there_is_one(root):
    one = await root.get_directory_handle("one", create=True)
    two = await root.get_directory_handle("two", create=True)
    file = await make(root, "file", "abc")
    await file.move(one)
    assert (await names(root), await names(one)) == (["one", "two"], ["file"])
    await file.move(two, "renamed")
    assert (await names(one), await names(two)) == ([], ["renamed"])
    assert await root.resolve(file) == ["two", "renamed"]
    await file.move(directory=root, name="home")
    assert await names(root) == ["home", "one", "two"]
    assert await text_of(file) == "abc"


async def test_move_replaces_an_unlocked_file(root):
    source, target = await make(root, "source", "new"), await make(root, "target", "old")
    await source.move("target")
    assert await names(root) == ["target"]
    assert await text_of(target) == await text_of(source) == "new"
    assert await source.is_same_entry(target)


async def test_handle_of_what_was_there_finds_what_is_there_now(root):
    file = await make(root, "file", "one")
    other = await root.get_file_handle("file")
    await file.move("moved")
    with pytest.raises(aiofs.NotFoundError):
        await other.get_file()
    await make(root, "file", "two")
    assert await text_of(other) == "two"


@pytest.mark.parametrize("name", BAD_NAMES)
async def test_bad_name_is_refused_at_the_call(root, name):
    file = await make(root, "file")
    directory = await root.get_directory_handle("directory", create=True)
    for handle in (file, directory):
        with pytest.raises(ValueError):
            handle.move(name)
        with pytest.raises(ValueError):
            handle.move(root, name)
    assert await names(root) == ["directory", "file"]


async def test_wrong_types_are_refused_at_the_call(root):
    file = await make(root, "file")
    for arguments in [(), (None,), (1,), (b"name",), (file,), ("a", "b"), (root, 1), (root, b"b")]:
        with pytest.raises(TypeError):
            file.move(*arguments)


async def test_name_over_255_bytes_is_too_long(root, volume):
    if isinstance(volume, DictVolume):
        pytest.skip("its names have any length")
    file = await make(root, "file")
    await failure(errno.ENAMETOOLONG, file.move("n" * 256))
    await file.move("n" * 255)


@pytest.mark.parametrize("mode", ["in-place", "read-only", "readwrite-unsafe"])
async def test_locked_file_is_neither_moved_nor_replaced(root, mode):
    locked, other = await make(root, "locked", "abc"), await make(root, "other", "def")
    directory = await root.get_directory_handle("directory", create=True)
    async with locked.create_access_handle(mode=mode):
        moves = [
            lambda: locked.move("new"),
            lambda: locked.move(directory),
            lambda: locked.move("locked"),
            lambda: other.move("locked"),
        ]
        for move in moves:
            error = await failure(errno.EBUSY, move())
            assert isinstance(error, aiofs.NoModificationAllowedError)
            assert error.name == "NoModificationAllowedError"
        assert (locked.name, other.name) == ("locked", "other")
    assert await text_of(locked) == "abc"
    await other.move("locked")
    assert await text_of(locked) == "def"


async def test_missing_source_and_missing_target_directory_are_not_found(root):
    file = await make(root, "file")
    gone = await root.get_directory_handle("gone", create=True)
    missing = FileHandle._of(root._volume, "missing")
    await gone.remove()
    error = await failure(errno.ENOENT, file.move(gone))
    assert isinstance(error, aiofs.NotFoundError)
    await failure(errno.ENOENT, missing.move("other"))
    assert file.name == "file"


async def test_file_onto_a_directory_is_an_invalid_modification(root):
    file = await make(root, "file")
    empty = await root.get_directory_handle("empty", create=True)
    full = await root.get_directory_handle("full", create=True)
    await make(full, "inside")
    for name in ("empty", "full"):
        error = await failure(errno.EEXIST, file.move(name))
        assert isinstance(error, aiofs.InvalidModificationError)
    assert await names(empty) == []
    assert await names(root) == ["empty", "file", "full"]


async def test_handle_of_the_other_kind_is_a_type_mismatch(root):
    await make(root, "file")
    await root.get_directory_handle("directory", create=True)
    wrong = [FileHandle._of(root._volume, "directory"), DirectoryHandle._of(root._volume, "file")]
    for handle, number in zip(wrong, (errno.EISDIR, errno.ENOTDIR), strict=True):
        error = await failure(number, handle.move("moved"))
        assert isinstance(error, aiofs.TypeMismatchError)
    assert await names(root) == ["directory", "file"]


# ---- directories


async def test_directories_are_renamed_and_moved_with_all_that_is_in_them(root):
    directory = await root.get_directory_handle("before", create=True)
    below = await directory.get_directory_handle("below", create=True)
    await make(below, "file", "abc")
    await directory.move("after")
    assert (directory.name, await names(root)) == ("after", ["after"])
    target = await root.get_directory_handle("target", create=True)
    await directory.move(target)
    await directory.move(target, "renamed")
    assert (await names(root), await names(target)) == (["target"], ["renamed"])
    assert await names(directory) == ["below"]
    moved = await (await directory.get_directory_handle("below")).get_file_handle("file")
    assert await text_of(moved) == "abc"
    with pytest.raises(aiofs.NotFoundError):
        await names(below)


async def test_directory_does_not_move_into_itself_or_below(root):
    directory = await root.get_directory_handle("directory", create=True)
    below = await directory.get_directory_handle("below", create=True)
    for target in (directory, below):
        for arguments in [(target,), (target, "name")]:
            with pytest.raises(aiofs.InvalidModificationError) as error:
                await directory.move(*arguments)
            assert error.value.name == "InvalidModificationError"
    await directory.move(root)
    assert await names(directory) == ["below"]


async def test_directory_replaces_nothing(root):
    directory = await root.get_directory_handle("directory", create=True)
    await root.get_directory_handle("empty", create=True)
    await make(root, "file", "abc")
    for name in ("empty", "file"):
        error = await failure(errno.EEXIST, directory.move(name))
        assert isinstance(error, aiofs.InvalidModificationError)
    assert await names(root) == ["directory", "empty", "file"]


async def test_directory_with_a_locked_descendant_is_not_moved(root):
    directory = await root.get_directory_handle("directory", create=True)
    below = await directory.get_directory_handle("below", create=True)
    locked = await make(below, "locked")
    async with locked.create_access_handle(mode="in-place"):
        await failure(errno.EBUSY, directory.move("moved"))
        await failure(errno.EBUSY, directory.move("directory"))
        await failure(errno.EBUSY, root.remove_entry("directory", recursive=True))
        await failure(errno.EBUSY, root.remove_entry("directory"))
        await failure(errno.EBUSY, root.remove())
        assert await names(root) == ["directory"]
    await directory.move("moved")


async def test_root_does_not_move(root):
    directory = await root.get_directory_handle("directory", create=True)
    with pytest.raises(OSError):
        await root.move("name")
    with pytest.raises(OSError):
        await root.move(directory, "name")


# ---- between volumes and processes


async def test_move_to_another_volume_is_an_invalid_modification(root):
    file = await make(root, "file")
    directory = await root.get_directory_handle("directory", create=True)
    with MemoryVolume() as other:
        for handle in (file, directory):
            for arguments in [(other.root,), (other.root, "name")]:
                error = await failure(errno.EXDEV, handle.move(*arguments))
                assert isinstance(error, aiofs.InvalidModificationError)
        assert await names(other.root) == []
    assert await names(root) == ["directory", "file"]


async def test_move_to_the_same_volume_opened_twice_is_no_move_between_volumes(tmp_path):
    with PrivateVolume(tmp_path / "volume") as one, PrivateVolume(tmp_path / "volume") as other:
        file = await make(one.root, "file")
        directory = await other.root.get_directory_handle("directory", create=True)
        await file.move(directory)
        assert await names(directory) == ["file"]


async def test_lock_of_another_process_holds_a_move_off(tmp_path):
    with PrivateVolume(tmp_path / "volume") as volume:
        directory = await volume.root.get_directory_handle("directory", create=True)
        file = await make(directory, "file")
        other = await make(volume.root, "other")
        with holding(tmp_path / "volume", "directory/file") as process:
            assert process.answer == "held"
            for move in (
                lambda: file.move("new"),
                lambda: other.move(directory, "file"),
                lambda: directory.move("new"),
            ):
                await failure(errno.EBUSY, move())


async def test_reader_sees_the_old_file_or_the_new_one_at_every_moment(tmp_path):
    """A move replaces atomically: the name is there all the time."""
    with PrivateVolume(tmp_path / "volume") as volume:
        await make(volume.root, "target", "old")
        path, seen, stop = tmp_path / "volume/target", set(), threading.Event()

        def read():
            while not stop.is_set():
                seen.add(path.read_bytes())

        reader = threading.Thread(target=read)
        reader.start()
        try:
            for number in range(100):
                source = await make(volume.root, "source", f"new {number}")
                await source.move("target")
        finally:
            stop.set()
            reader.join()
        assert all(text == b"old" or text.startswith(b"new ") for text in seen)


async def test_of_two_moves_of_one_file_at_once_one_wins(root):
    file = await make(root, "file", "abc")
    same = await root.get_file_handle("file")
    outcomes = await asyncio.gather(file.move("one"), same.move("two"), return_exceptions=True)
    failures = [outcome for outcome in outcomes if outcome is not None]
    assert len(failures) <= 1
    assert all(
        isinstance(error, aiofs.NotFoundError | aiofs.NoModificationAllowedError)
        for error in failures
    )
    assert len(await names(root)) == 1


async def test_name_that_a_move_made_is_durable_after_a_flush(tmp_path, faults):
    with PrivateVolume(tmp_path / "volume") as volume:
        directory = await volume.root.get_directory_handle("directory", create=True)
        file = await make(volume.root, "file")
        await file.move(directory, "moved")
        before = faults.calls("fsync")
        async with file.create_access_handle(mode="in-place") as handle:
            await handle.write(b"x")
            await handle.flush()
        assert faults.calls("fsync") > before
    assert os.listdir(tmp_path / "volume/directory") == ["moved"]


# ---- unique ids


async def test_unique_id_is_the_entry_s_own_and_stays(root):
    file = await make(root, "file")
    same = await root.get_file_handle("file")
    directory = await root.get_directory_handle("directory", create=True)
    inside = await make(directory, "file")
    first = await file.get_unique_id()
    assert isinstance(first, str) and len(first) == 36
    ids = [first, await directory.get_unique_id(), await inside.get_unique_id()]
    ids += [await root.get_unique_id(), await (await make(root, "other")).get_unique_id()]
    assert len(set(ids)) == len(ids)
    assert await same.get_unique_id() == first
    async with file.create_access_handle(mode="in-place") as handle:
        await handle.write(b"changed")
        assert await file.get_unique_id() == first
    await file.remove()
    assert await file.get_unique_id() == first
    assert await (await root.get_file_handle("file", create=True)).get_unique_id() == first
    await file.remove()
    other_kind = await root.get_directory_handle("file", create=True)
    assert await other_kind.get_unique_id() != first


async def test_unique_id_tells_volumes_apart_and_not_their_openings(tmp_path):
    volumes = [PrivateVolume(tmp_path / name) for name in ("a", "a", "b")]
    ids = [
        await (await volume.root.get_file_handle("file", create=True)).get_unique_id()
        for volume in volumes
    ]
    assert ids[0] == ids[1] != ids[2]
    volumes[2].close()
    await failure(errno.EBADF, volumes[2].root.get_unique_id())
    for volume in volumes[:2]:
        volume.close()
