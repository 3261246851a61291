"""Handles: messages name the path of the entry, in one form, and the reason."""

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
    """The path of an entry in messages: its path on disk, or below the root."""
    return volume._ops.show(path)


async def test_every_error_names_paths_in_the_same_form(volume):
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


async def test_error_says_that_the_root_is_not_empty(volume):
    await volume.root.get_file_handle("file", create=True)
    error = await refusal(volume.root.remove())
    assert "the root is not empty" in str(error) and "recursive=True" in str(error)
    assert isinstance(error, aiofs.InvalidModificationError)
    assert repr(place(volume, "")) in str(error)


async def test_error_for_a_missing_entry_mentions_create(volume):
    for get in (volume.root.get_file_handle, volume.root.get_directory_handle):
        assert "create=True" in str(await refusal(get("missing")))
    directory = await volume.root.get_directory_handle("directory", create=True)
    await directory.remove()
    for get in (directory.get_file_handle, directory.get_directory_handle):
        assert "create=True" not in str(await refusal(get("missing")))  # create=True would not help


async def test_error_names_a_bad_name(volume):
    for name in ("", "..", "a/b", "a\0b"):
        with pytest.raises(ValueError) as caught:
            volume.root.get_file_handle(name)
        assert repr(name) in str(caught.value)


async def test_error_says_once_that_the_handle_is_closed(volume):
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
async def test_copying_an_open_handle_is_a_type_error_with_advice(volume, take):
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
async def test_copying_a_started_operation_is_a_type_error_with_advice(volume, take):
    file = await volume.root.get_file_handle("file", create=True)
    opening = file.create_access_handle()
    with pytest.raises(TypeError, match="Opening cannot be copied or pickled"):
        take(opening)
    async with opening as handle:
        operation = handle.flush()
        with pytest.raises(TypeError, match="Operation cannot be copied or pickled"):
            take(operation)
        await operation


async def test_repr_of_an_operation_shows_its_method_and_status(volume):
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


async def test_repr_of_an_operation_in_progress_names_its_file(volume):
    file = await volume.root.get_file_handle("file", create=True)
    async with file.create_access_handle() as handle:
        writing = handle.write(bytes(4 << 20), at=0)
        size = handle.get_size()  # waits for the write
        if "in progress" in repr(size):
            assert repr(size) == f"<Operation get_size of {place(volume, 'file')!r}, in progress>"
        await writing
        assert repr(await size) == str(4 << 20)
