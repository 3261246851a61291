"""Handles: a message names the path where the entry is, whatever raised it, and the reason."""

import copy
import pickle

import pytest

import aiofs

TAKES = [copy.copy, copy.deepcopy, pickle.dumps]


async def refusal(awaitable):
    with pytest.raises(OSError) as caught:
        await awaitable
    return caught.value


def place(volume, path):
    """How errors name an entry of a volume: where it is on disk, or below the root."""
    return volume._ops.show(path)


async def test_path_is_named_in_one_form(volume):
    root = volume.root
    directory = await root.get_directory_handle("directory", create=True)
    file = await directory.get_file_handle("file", create=True)
    path = place(volume, "directory/file")
    assert path.endswith("directory/file")
    for operation, named in (
        (directory.get_directory_handle("file"), path),
        (root.get_file_handle("directory"), place(volume, "directory")),
        (directory.get_file_handle("missing"), place(volume, "directory/missing")),
        (root.remove_entry("directory"), place(volume, "directory")),
        (root.remove(), place(volume, "")),
    ):
        error = await refusal(operation)
        assert isinstance(error, OSError) and error.filename == named, error
    before = await file.get_file()
    async with file.create_access_handle() as handle:
        await handle.write(b"more")
    assert (await refusal(before.read())).filename == path
    await file.remove()
    for operation in (file.get_file(), file.create_access_handle(), file.remove()):
        assert (await refusal(operation)).filename == path


async def test_root_that_is_not_empty_says_so(volume):
    await volume.root.get_file_handle("file", create=True)
    error = await refusal(volume.root.remove())
    assert "the root is not empty" in str(error) and "recursive=True" in str(error)
    assert isinstance(error, aiofs.InvalidModificationError)
    assert repr(place(volume, "")) in str(error)


async def test_missing_entry_says_that_create_makes_it(volume):
    for get in (volume.root.get_file_handle, volume.root.get_directory_handle):
        assert "create=True" in str(await refusal(get("missing")))
    directory = await volume.root.get_directory_handle("directory", create=True)
    await directory.remove()
    for get in (directory.get_file_handle, directory.get_directory_handle):
        assert "create=True" not in str(await refusal(get("missing")))  # it would not


async def test_bad_name_is_named(volume):
    for name in ("", "..", "a/b", "a\0b"):
        with pytest.raises(ValueError) as caught:
            volume.root.get_file_handle(name)
        assert repr(name) in str(caught.value)


async def test_closed_handle_says_that_it_is_closed_once(volume):
    file = await volume.root.get_file_handle("file", create=True)
    async with file.create_access_handle() as handle:
        pass
    said = str(await refusal(handle.read(bytearray(1))))
    assert "the access handle is closed" in said and said.count("is closed") == 1
    with file.create_sync_access_handle() as blocking:
        pass
    with pytest.raises(aiofs.InvalidStateError, match="the access handle is closed"):
        blocking.read(bytearray(1))


@pytest.mark.parametrize("take", TAKES)
async def test_open_handles_say_that_they_are_not_copied(volume, take):
    file = await volume.root.get_file_handle("file", create=True)
    async with file.create_access_handle() as handle:
        with pytest.raises(
            TypeError, match=r"AccessHandle cannot be copied or pickled.*FileHandle"
        ):
            take(handle)
    with file.create_sync_access_handle() as handle:
        with pytest.raises(TypeError, match=r"SyncAccessHandle cannot be .*FileHandle"):
            take(handle)


@pytest.mark.parametrize("take", TAKES)
async def test_started_operations_say_that_they_are_not_copied(volume, take):
    file = await volume.root.get_file_handle("file", create=True)
    opening = file.create_access_handle()
    with pytest.raises(TypeError, match="Opening cannot be copied or pickled"):
        take(opening)
    async with opening as handle:
        operation = handle.flush()
        with pytest.raises(TypeError, match="Operation cannot be copied or pickled"):
            take(operation)
        await operation


async def test_operation_shows_what_it_is_and_how_it_stands(volume):
    file = await volume.root.get_file_handle("file", create=True)
    async with file.create_access_handle() as handle:
        operation = handle.write(bytes(1 << 20), at=0)
        assert repr(operation).startswith("<Operation write")
        await operation
        assert repr(operation) == f"<Operation write, gave {1 << 20}>"
        operation = handle.flush()
        await operation
        assert repr(operation) == "<Operation flush, done>"
    operation = handle.read(bytearray(1))
    assert repr(operation).startswith("<Operation read, failed: InvalidStateError(")
    await refusal(operation)


async def test_operation_in_progress_names_its_file(volume):
    file = await volume.root.get_file_handle("file", create=True)
    async with file.create_access_handle() as handle:
        writing = handle.write(bytes(4 << 20), at=0)
        size = handle.get_size()  # waits for the write
        if "in progress" in repr(size):
            assert repr(size) == f"<Operation get_size of {place(volume, 'file')!r}, in progress>"
        await writing
        assert repr(await size) == str(4 << 20)
