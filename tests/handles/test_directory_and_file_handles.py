"""DirectoryHandle, FileHandle and File: finding, creating, removing, listing and reading."""

import asyncio
import collections.abc
import errno
import os
import pickle
import subprocess
import sys
import threading
import time

import pytest
from coroutines import failure
from support import python

import aiofs
from aiofs import DirectoryHandle, FileHandle, HostVolume, MemoryVolume, PrivateVolume, _core

BAD_NAMES = ["", ".", "..", "a/b", "a\0b", "/", "a\ud800b"]
# Linux allows these names. Other systems or terminals may not. "\udcff" stands for the byte 0xff.
UNUSUAL_NAMES = ["photos\\img1.jpg", "\\", "\udcff", "a\nb", "\t", " ", "a:b?*", "...", "\x7f\x1b"]


@pytest.fixture
def volume(tmp_path):
    with PrivateVolume(tmp_path / "volume") as volume:
        yield volume


def lock(volume, path):
    return volume._ops.sync_access_handle(path, "in-place", True)


async def put(directory, name, data=b""):
    file = await directory.get_file_handle(name, create=True)
    async with file.create_access_handle() as handle:
        await handle.write(data)
    return file


# ---- finding and making


def test_handles_are_found_and_made(run, volume, tmp_path):
    async def body():
        root = volume.root
        assert (root.kind, root.name) == ("directory", "")
        with pytest.raises(aiofs.NotFoundError):
            await root.get_directory_handle("photos")
        photos = await root.get_directory_handle("photos", create=True)
        assert (photos.kind, photos.name) == ("directory", "photos")
        with pytest.raises(aiofs.NotFoundError) as error:
            await photos.get_file_handle("a.jpg")
        assert error.value.filename.endswith("photos/a.jpg")
        file = await photos.get_file_handle("a.jpg", create=True)
        assert (file.kind, file.name) == ("file", "a.jpg")
        assert (tmp_path / "volume/photos/a.jpg").stat().st_size == 0
        assert await photos.get_file_handle("a.jpg") == file
        assert await root.get_directory_handle("photos", create=True) == photos

    run(body())


def test_file_in_place_of_a_directory_and_the_reverse_is_a_type_mismatch(run, volume):
    async def body():
        root = volume.root
        await root.get_file_handle("file", create=True)
        await root.get_directory_handle("directory", create=True)
        for create in (False, True):
            with pytest.raises(aiofs.TypeMismatchError) as error:
                await root.get_directory_handle("file", create=create)
            assert error.value.errno == errno.ENOTDIR
            with pytest.raises(aiofs.TypeMismatchError) as error:
                await root.get_file_handle("directory", create=create)
            assert error.value.errno == errno.EISDIR

    run(body())


@pytest.mark.parametrize("name", BAD_NAMES)
def test_bad_names_are_refused_at_the_call(run, volume, name):
    async def body():
        root = volume.root
        for call in (root.get_file_handle, root.get_directory_handle, root.remove_entry):
            with pytest.raises(ValueError):
                call(name)
        with pytest.raises(TypeError):
            root.get_file_handle(b"bytes")

    run(body())


@pytest.mark.parametrize("name", UNUSUAL_NAMES)
def test_every_name_that_linux_allows_is_a_name(run, volume, tmp_path, name):
    async def body():
        root = volume.root
        (tmp_path / "volume" / name).write_bytes(b"data")  # as another program creates it
        file = await root.get_file_handle(name)
        assert await (await file.get_file()).read() == b"data"
        assert [entry async for entry in root] == [(name, file)]
        assert [key async for key in root.keys()] == [name]
        assert [value async for value in root.values()] == [file]
        assert await root.resolve(file) == [name]
        async with file.create_access_handle() as handle:
            assert await handle.write(b"more") == 4
        await root.remove_entry(name)
        directory = await root.get_directory_handle(name, create=True)
        await put(directory, name, b"below")
        assert os.listdir(tmp_path / "volume" / name) == [name]
        await root.remove(recursive=True)
        assert [key async for key in root.keys()] == []

    run(body())


def test_name_that_is_too_long_is_refused(run, volume):
    async def body():
        too_long = volume.root.get_file_handle("n" * 256, create=True)
        await failure(errno.ENAMETOOLONG, too_long)

    run(body())


def test_finding_and_listing_need_no_lock(run, volume):
    async def body():
        with lock(volume, "file"):
            file = await volume.root.get_file_handle("file", create=True)
            assert await (await file.get_file()).read() == b""
            assert [name async for name in volume.root.keys()] == ["file"]

    run(body())


def test_methods_return_coroutines(run, volume):
    async def body():
        root = volume.root
        file = await asyncio.create_task(root.get_file_handle("file", create=True))
        for coroutine in (root.get_file_handle("file"), file.get_file(), file.is_same_entry(file)):
            assert isinstance(coroutine, collections.abc.Coroutine)
            await coroutine
        opening = file.create_access_handle()
        assert isinstance(opening, collections.abc.Coroutine)
        await (await asyncio.create_task(opening)).close()

    run(body())


# ---- access handles


def test_access_handle_is_created_by_await_and_by_async_with(run, volume):
    async def body():
        file = await volume.root.get_file_handle("file", create=True)
        handle = await file.create_access_handle()
        await handle.write(b"data")
        await handle.close()
        async with file.create_access_handle(mode="read-only") as handle:
            buffer = bytearray(4)
            assert await handle.read(buffer) == 4 and buffer == b"data"
        assert volume._ops.lock_count("") == 0

    run(body())


def test_second_access_handle_is_refused(run, volume):
    async def body():
        file = await volume.root.get_file_handle("file", create=True)
        async with file.create_access_handle():
            with pytest.raises(aiofs.NoModificationAllowedError) as error:
                await file.create_access_handle()
            assert error.value.errno == errno.EBUSY
            with pytest.raises(aiofs.NoModificationAllowedError):
                file.create_sync_access_handle(mode="read-only")
        with file.create_sync_access_handle() as handle:
            assert handle.mode == "in-place"

    run(body())


def test_modes_read_only_and_unsafe_share_with_their_own_kind(run, volume):
    async def body():
        file = await volume.root.get_file_handle("file", create=True)
        for mode, others in (
            ("read-only", ["readwrite-unsafe", "in-place", "readwrite"]),
            ("readwrite-unsafe", ["read-only", "in-place", "readwrite"]),
        ):
            async with (
                file.create_access_handle(mode=mode) as one,
                file.create_access_handle(mode=mode) as two,
            ):
                assert one.mode == two.mode == mode
                for other in others:
                    with pytest.raises(aiofs.NoModificationAllowedError):
                        await file.create_access_handle(mode=other)

    run(body())


def test_readwrite_is_reported_as_in_place_and_unknown_modes_refused_at_the_call(run, volume):
    async def body():
        file = await volume.root.get_file_handle("file", create=True)
        async with file.create_access_handle(mode="readwrite") as handle:
            assert handle.mode == "in-place"
        for call in (file.create_access_handle, file.create_sync_access_handle):
            with pytest.raises(ValueError):
                call(mode="write")

    run(body())


def test_opening_that_is_cancelled_or_dropped_leaves_no_lock_and_no_descriptor(run, volume):
    async def body():
        file = await volume.root.get_file_handle("file", create=True)

        async def enter():
            async with file.create_access_handle():
                pass

        async def nothing_left():
            while _core.counters()["outstanding"] or volume._ops.lock_count(""):
                await asyncio.sleep(0.001)

        for turns in range(20):
            for start in (file.create_access_handle, enter):
                task = asyncio.create_task(start())
                for _ in range(turns % 4):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
                if not task.cancelled() and task.result() is not None:
                    await task.result().close()
                del task
                await nothing_left()
            file.create_access_handle().close()
            await nothing_left()
        async with file.create_access_handle():
            pass

    run(body())


def test_handle_of_a_removed_file_is_not_found(run, volume):
    async def body():
        file = await volume.root.get_file_handle("file", create=True)
        await file.remove()
        for call in (file.get_file, file.create_access_handle, file.remove):
            with pytest.raises(aiofs.NotFoundError):
                await call()

    run(body())


# ---- removing


def test_files_and_directories_are_removed(run, volume):
    async def body():
        root = volume.root
        await put(root, "file")
        sub = await root.get_directory_handle("sub", create=True)
        await put(sub, "inner")
        await root.remove_entry("file")
        with pytest.raises(aiofs.NotFoundError):
            await root.remove_entry("file")
        with pytest.raises(aiofs.InvalidModificationError) as error:
            await root.remove_entry("sub")
        assert error.value.errno == errno.ENOTEMPTY
        with pytest.raises(aiofs.InvalidModificationError):
            await sub.remove()
        await root.remove_entry("sub", recursive=True)
        assert [entry async for entry in root] == []

    run(body())


def test_removing_a_directory_with_a_locked_entry_removes_nothing(run, volume):
    async def body():
        root = volume.root
        sub = await root.get_directory_handle("sub", create=True)
        deep = await sub.get_directory_handle("deep", create=True)
        for name in ("a", "b"):
            await put(sub, name)
        with lock(volume, "sub/deep/locked"):
            for remove in (
                lambda: root.remove_entry("sub"),
                lambda: root.remove_entry("sub", recursive=True),
                lambda: sub.remove(recursive=True),
                lambda: deep.remove_entry("locked"),
                lambda: root.remove(recursive=True),
            ):
                with pytest.raises(aiofs.NoModificationAllowedError) as error:
                    await remove()
                assert error.value.errno == errno.EBUSY
            assert sorted([name async for name in sub.keys()]) == ["a", "b", "deep"]
        await sub.remove(recursive=True)

    run(body())


def test_removing_the_root_empties_it(run, volume, tmp_path):
    async def body():
        root = volume.root
        await root.remove()
        await put(root, "file")
        await put(await root.get_directory_handle("sub", create=True), "inner")
        with pytest.raises(aiofs.InvalidModificationError):
            await root.remove()
        await root.remove(recursive=True)
        assert [name async for name in root.keys()] == []
        assert os.listdir(tmp_path / "volume") == [".aiofs"]
        await put(root, "again")

    run(body())


# ---- listing


def test_iterating_gives_names_and_handles(run, volume):
    async def body():
        root = volume.root
        file = await put(root, "file")
        sub = await root.get_directory_handle("sub", create=True)
        expected = {"file": file, "sub": sub}
        assert {name: handle async for name, handle in root.entries()} == expected
        assert {name: handle async for name, handle in root} == expected
        assert {name async for name in root.keys()} == set(expected)
        kinds = {handle.name: type(handle) async for handle in root.values()}
        assert kinds == {"file": FileHandle, "sub": DirectoryHandle}

    run(body())


def test_symbolic_links_and_reserved_names_are_not_listed(run, volume, tmp_path):
    (tmp_path / "volume/link").symlink_to("/etc")
    os.mkfifo(tmp_path / "volume/fifo")

    async def body():
        assert [name async for name in volume.root.keys()] == []

    run(body())


def test_iterating_a_directory_removed_meanwhile_is_not_found(run, volume):
    async def body():
        sub = await volume.root.get_directory_handle("sub", create=True)
        for number in range(3):
            await put(sub, f"file{number}")
        with pytest.raises(aiofs.NotFoundError):
            async for _ in sub:
                await sub.remove(recursive=True)
        with pytest.raises(aiofs.NotFoundError):
            async for _ in sub.keys():
                pass

    run(body())


# ---- which is which


def test_is_same_entry_and_resolve_compare_paths(run, volume, tmp_path):
    async def body():
        root = volume.root
        sub = await root.get_directory_handle("sub", create=True)
        deep = await sub.get_directory_handle("deep", create=True)
        file = await deep.get_file_handle("file", create=True)
        assert await root.resolve(file) == ["sub", "deep", "file"]
        assert await sub.resolve(file) == ["deep", "file"]
        assert await deep.resolve(deep) == []
        assert await deep.resolve(sub) is None
        with PrivateVolume(tmp_path / "volume") as again, MemoryVolume() as elsewhere:
            assert await sub.is_same_entry(await again.root.get_directory_handle("sub"))
            assert await again.root.resolve(file) == ["sub", "deep", "file"]
            assert not await root.is_same_entry(elsewhere.root)
            assert await elsewhere.root.resolve(file) is None
        assert not await file.is_same_entry(deep)
        for wrong in (None, "sub"):
            with pytest.raises(TypeError):
                root.resolve(wrong)
            with pytest.raises(TypeError):
                root.is_same_entry(wrong)

    run(body())


def test_handles_pickle_and_work_in_another_process(run, volume):
    async def body():
        sub = await volume.root.get_directory_handle("sub", create=True)
        file = await put(sub, "file", b"data")
        again = pickle.loads(pickle.dumps(file))
        assert again == file
        program = (
            "import pickle, sys, uvloop\n"
            "async def main(handle): print(await (await handle.get_file()).text())\n"
            "uvloop.run(main(pickle.load(sys.stdin.buffer)))\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            input=pickle.dumps(file),
            stdout=subprocess.PIPE,
            check=True,
        )
        assert done.stdout == b"data\n"

    run(body())


def test_handles_cannot_be_constructed_directly():
    for kind in (FileHandle, DirectoryHandle, aiofs.File):
        with pytest.raises(TypeError):
            kind()


def test_handle_of_a_closed_volume_is_refused(run, tmp_path):
    async def body():
        volume = PrivateVolume(tmp_path)
        root = volume.root
        file = await root.get_file_handle("file", create=True)
        volume.close()
        with pytest.raises(aiofs.InvalidStateError):
            await root.get_file_handle("file")
        with pytest.raises(aiofs.InvalidStateError):
            file.create_sync_access_handle()

    run(body())


# ---- files


def test_get_file_gives_the_size_time_and_content(run, volume):
    async def body():
        before = time.time() * 1000
        handle = await put(volume.root, "file", "grün".encode())
        file = await handle.get_file()
        assert (file.name, file.size) == ("file", 5)
        assert isinstance(file.last_modified, int)
        assert before - 1000 <= file.last_modified <= time.time() * 1000 + 1000
        assert await file.read() == "grün".encode()
        assert await file.text() == "grün"
        await put(volume.root, "file", b"\xff")
        assert await (await handle.get_file()).text() == "\ufffdrün"

    run(body())


def test_file_that_changed_is_not_readable(run, volume, tmp_path):
    path = tmp_path / "volume/file"

    def replace():
        (tmp_path / "volume/new").write_bytes(b"data")
        os.replace(tmp_path / "volume/new", path)

    def write_through_a_descriptor():
        fd = os.open(path, os.O_RDWR)
        os.pwrite(fd, b"atad", 0)
        os.close(fd)

    def write_through_a_handle():
        with volume._ops.sync_access_handle("file", "in-place", False) as handle:
            handle.write(b"atad")

    def write_in_another_process():
        program = (
            "import sys, aiofs\n"
            "ops = aiofs.PrivateVolume(sys.argv[1])._ops\n"
            "with ops.sync_access_handle('file', 'in-place', False) as h: h.write(b'atad')\n"
        )
        python(program, tmp_path / "volume")

    def grow():
        volume._ops.truncate("file", 10)

    async def body():
        handle = await put(volume.root, "file", b"data")
        for change in (
            write_through_a_handle,
            write_through_a_descriptor,
            write_in_another_process,
            replace,
            grow,
        ):
            file = await handle.get_file()
            await file.read()
            change()
            with pytest.raises(aiofs.NotReadableError) as error:
                await file.read()
            assert error.value.errno == errno.ESTALE
            assert len(await (await handle.get_file()).read()) >= 4
        await handle.remove()
        with pytest.raises(aiofs.NotFoundError):
            await file.read()

    run(body())


def test_every_write_right_after_get_file_is_noticed(run, volume):
    """Also if both happen within one tick of the clock."""

    async def body():
        handle = await put(volume.root, "file", b"data")
        with handle.create_sync_access_handle() as writer:
            for number in range(200):
                writer.write(b"%03d" % number, at=0)
                file = await handle.get_file()
                writer.write(b"new", at=0)
                with pytest.raises(aiofs.NotReadableError):
                    await file.read()

    run(body())


def test_touching_a_files_mode_does_not_make_it_stale(run, volume, tmp_path):
    async def body():
        handle = await put(volume.root, "file", b"data")
        file = await handle.get_file()
        (tmp_path / "volume/file").chmod(0o600)
        assert await file.read() == b"data"

    run(body())


def test_estimate_gives_usage_and_quota(run, tmp_path):
    async def body():
        with PrivateVolume(tmp_path / "a", quota=100) as limited, MemoryVolume() as free:
            await put(limited.root, "file", b"x" * 60)
            assert await limited.estimate() == (60, 100)
            assert await free.estimate() == (0, None)

    run(body())


def test_core_and_package_give_the_same_handles():
    assert aiofs.AccessHandle is _core.AccessHandle
    assert aiofs.SyncAccessHandle is _core.SyncAccessHandle


@pytest.mark.parametrize("kind", [PrivateVolume, HostVolume])
async def test_iteration_beside_changes_gives_each_name_once_and_misses_none_that_stays(
    tmp_path, kind
):
    (tmp_path / "place").mkdir()
    staying = {f"staying{number}" for number in range(2000)}
    for name in staying:
        (tmp_path / "place" / name).touch()
    stop = threading.Event()

    def change():
        while not stop.is_set():
            for number in range(300):
                path = tmp_path / f"place/coming and going{number}"
                path.touch()
                path.rename(tmp_path / f"place/renamed{number}")
            for number in range(300):
                (tmp_path / f"place/renamed{number}").unlink()

    changer = threading.Thread(target=change)
    changer.start()
    try:
        with kind(tmp_path / "place") as volume:
            for _ in range(10):
                found = [name async for name in volume.root.keys()]
                assert len(found) == len(set(found))
                assert staying <= set(found)
                async for name, handle in volume.root:
                    assert handle.name == name
                    if name.startswith("renamed"):
                        break
    finally:
        stop.set()
        changer.join()
