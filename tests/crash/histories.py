"""Programs whose calls are recorded; each says what must be on the disk from when on.

    python tests/crash/histories.py NAME DIRECTORY RECORDER LOG

runs one of them in DIRECTORY, and writes the log of the library RECORDER (see record.c) to LOG.

A mark in the log is a promise about one path: `whole` lists the contents that the file may have
(None: there may be no file), `in_place` says which bytes were flushed and which changes were not,
`mode` which mode it has. It holds until the next mark of the same kind for that path.
"""

import asyncio
import ctypes
import inspect
import json
import os
import sys
from pathlib import Path

import aiofs
from aiofs import FileSystem, HostVolume, PrivateVolume
from aiofs.aio import aio_error, aio_fsync, aio_return, aio_suspend, aio_write, aiocb

OLD = b"old" * 700
NEW = b"NEW" * 900


class Recorder:
    def __init__(self, library):
        self._library = ctypes.CDLL(library)
        self._library.record_take.restype = ctypes.c_void_p
        engine = ctypes.CDLL(str(Path(aiofs.__file__).parent / "libaiofs.so"))
        self._library.record_attach(ctypes.byref(ctypes.c_char.in_dll(engine, "aiofs_sys")))

    def _mark(self, kind, path, *values):
        self._library.record_mark(json.dumps([kind, path, *values]).encode())

    def whole(self, path, *contents):
        self._mark("whole", path, [c if c is None else c.decode() for c in contents])

    def in_place(self, path, flushed, *changes):
        """`changes`: (offset, bytes) of a write, or (size, None) of a truncate."""
        decoded = [(at, data if data is None else data.decode()) for at, data in changes]
        self._mark("in_place", path, flushed.decode(), decoded)

    def mode(self, path, mode):
        self._mark("mode", path, mode)

    def set_directories_apart(self):
        """From now on each directory is a filesystem of its own."""
        self._library.record_apart()

    def log(self):
        size = ctypes.c_size_t()
        at = self._library.record_take(ctypes.byref(size))
        return ctypes.string_at(at, size.value)


def done(cb):
    aio_suspend([cb])
    assert aio_error(cb) == 0
    return aio_return(cb)


def file_of(volume, path):
    return aiofs.FileHandle._of(volume, path)


# ---- in place -----------------------------------------------------------------------------------


def write_and_flush_in_place(directory, promise):
    with PrivateVolume(directory) as volume:
        handle = file_of(volume, "file").create_sync_access_handle(mode="in-place")
        promise.in_place("file", OLD, (0, b"aaaa"), (5000, b"bbbb"))
        handle.write(b"aaaa", at=0)
        handle.write(b"bbbb", at=5000)
        handle.flush()
        flushed = b"aaaa" + OLD[4:] + bytes(5000 - len(OLD)) + b"bbbb"
        promise.in_place("file", flushed, (2, b"cccc"))
        handle.write(b"cccc", at=2)
        handle.close()
        promise.in_place("file", flushed[:2] + b"cccc" + flushed[6:])


async def write_and_flush_in_place_async(directory, promise):
    with PrivateVolume(directory) as volume:
        handle = await file_of(volume, "file").create_access_handle(mode="in-place")
        promise.in_place("file", OLD, (0, b"aaaa"), (5000, b"bbbb"))
        handle.write(b"aaaa", at=0)
        handle.write(b"bbbb", at=5000)
        await handle.flush()
        flushed = b"aaaa" + OLD[4:] + bytes(5000 - len(OLD)) + b"bbbb"
        promise.in_place("file", flushed, (2, b"cccc"))
        handle.write(b"cccc", at=2)
        await handle.close()
        promise.in_place("file", flushed[:2] + b"cccc" + flushed[6:])


def truncate_and_flush(directory, promise):
    with PrivateVolume(directory) as volume:
        handle = file_of(volume, "file").create_sync_access_handle(mode="in-place")
        promise.in_place("file", OLD, (5, None))
        handle.truncate(5)
        handle.flush()
        promise.in_place("file", OLD[:5], (7, b"x"))
        handle.write(b"x", at=7)
        handle.close()
        promise.in_place("file", OLD[:5] + b"\0\0x")


def abort_keeps_what_was_flushed(directory, promise):
    with PrivateVolume(directory) as volume:
        handle = file_of(volume, "file").create_sync_access_handle(mode="in-place")
        promise.in_place("file", OLD, (0, b"aaaa"))
        handle.write(b"aaaa", at=0)
        handle.flush()
        promise.in_place("file", b"aaaa" + OLD[4:], (0, b"bb"))
        handle.write(b"bb", at=0)
        handle.abort()


def lazy_close_then_flush(directory, promise):
    """durable=False: close promises nothing, flush does."""
    with PrivateVolume(directory, durable=False) as volume:
        promise.in_place("file", OLD, (0, b"aaaa"))
        with file_of(volume, "file").create_sync_access_handle(mode="in-place") as handle:
            handle.write(b"aaaa", at=0)
        with file_of(volume, "file").create_sync_access_handle(mode="in-place") as handle:
            promise.in_place("file", OLD, (0, b"aaaa"), (2, b"bb"))
            handle.write(b"bb", at=2)
            handle.flush()
            promise.in_place("file", b"aabb" + OLD[4:])


# ---- new names ----------------------------------------------------------------------------------


def create_in_a_new_volume(directory, promise):
    with PrivateVolume(f"{directory}/sub") as volume:
        with volume._ops.sync_access_handle("new", "in-place", True) as handle:
            handle.write(b"first")
            handle.flush()
            promise.whole("sub/new", b"first")


def create_and_flush(directory, promise):
    with PrivateVolume(directory) as volume:
        volume._ops.mkdir("a")
        volume._ops.mkdir("a/b")
        with volume._ops.sync_access_handle("a/b/new", "in-place", True) as handle:
            handle.write(b"first")
            handle.flush()
            promise.whole("a/b/new", b"first")
        with volume._ops.sync_access_handle("a/other", "in-place", True):
            pass
        promise.whole("a/other", b"")


async def create_and_flush_async(directory, promise):
    with PrivateVolume(directory) as volume:
        sub = await volume.root.get_directory_handle("a", create=True)
        file = await sub.get_file_handle("new", create=True)
        async with file.create_access_handle(mode="in-place") as handle:
            await handle.write(b"first")
            await handle.flush()
            promise.whole("a/new", b"first")
        other = await sub.get_file_handle("other", create=True)
        async with other.create_access_handle(mode="in-place"):
            pass
        promise.whole("a/other", b"")


def create_in_atomic_mode_and_write_nothing(directory, promise):
    with PrivateVolume(directory) as volume:
        volume._ops.sync_access_handle("new", "exclusive", True).close()
        promise.whole("new", b"")


def remove_and_create(directory, promise):
    with PrivateVolume(directory) as volume:
        promise.whole("file", OLD, None, b"", b"N")
        volume._ops.unlink("file")
        with volume._ops.sync_access_handle("file", "in-place", True) as handle:
            handle.write(b"N")
        promise.whole("file", b"N")


def remove_a_tree_and_create(directory, promise):
    with PrivateVolume(directory) as volume:
        volume._ops.mkdir("a")
        with volume._ops.sync_access_handle("a/one", "in-place", True) as handle:
            handle.write(b"one")
        promise.whole("a/one", b"one", None)
        volume._ops.remove_tree("a")
        volume._ops.mkdir("a")
        with volume._ops.sync_access_handle("a/two", "in-place", True) as handle:
            handle.write(b"two")
        promise.whole("a/two", b"two")


# ---- moves --------------------------------------------------------------------------------------


def move_and_flush(directory, promise):
    changed = b"N" + OLD[1:]
    with PrivateVolume(directory) as volume:
        volume._ops.mkdir("a")
        with volume._ops.sync_access_handle("a/first", "in-place", True) as handle:
            handle.flush()  # the names of both directories are on the disk
        promise.whole("file", OLD, changed, None)  # not synced: it may have both names
        promise.whole("a/moved", OLD, None)
        volume._ops.move("file", "a/moved")
        with file_of(volume, "a/moved").create_sync_access_handle(mode="in-place") as handle:
            promise.whole("a/moved", OLD, changed, None)
            handle.write(b"N", at=0)
            handle.flush()
            promise.whole("a/moved", changed)


def move_over_another_file(directory, promise):
    with PrivateVolume(directory) as volume:
        with volume._ops.sync_access_handle("other", "in-place", True) as handle:
            handle.write(NEW)
        promise.whole("other", NEW)
        promise.whole("file", OLD, NEW)
        promise.whole("other", NEW, None)
        volume._ops.move("other", "file")
        with file_of(volume, "file").create_sync_access_handle(mode="in-place") as handle:
            handle.flush()
        promise.whole("file", NEW)


def move_a_directory_and_flush(directory, promise):
    with PrivateVolume(directory) as volume:
        volume._ops.mkdir("a")
        volume._ops.mkdir("c")
        with volume._ops.sync_access_handle("a/one", "in-place", True) as handle:
            handle.write(b"one")
        promise.whole("a/one", b"one", None)
        volume._ops.sync_access_handle("a/two", "in-place", True).abort()
        volume._ops.move("a", "c/b")
        with volume._ops.sync_access_handle("c/b/two", "in-place", True) as handle:
            handle.write(b"two")
            handle.flush()
            promise.whole("c/b/two", b"two")
            promise.whole("c/b/one", b"one")


def rename_while_open(directory, promise):
    with PrivateVolume(directory) as volume, FileSystem() as fs:
        fs.mount("/v", volume)
        fd = fs.open("/v/new", os.O_RDWR | os.O_CREAT)
        done_write(fd, b"first", 0)
        fs.rename("/v/new", "/v/newer")
        done_sync(fd, os.O_DSYNC)
        promise.whole("newer", b"first")
        fs.close(fd)


def link_and_flush(directory, promise):
    with HostVolume(directory) as volume, FileSystem() as fs:
        fs.mount("/v", volume)
        fs.link("/v/file", "/v/second")
        with file_of(volume, "second").create_sync_access_handle(mode="in-place") as handle:
            handle.flush()
        promise.whole("second", OLD)
        fs.mkdir("/v/a")
        fs.symlink("a", "/v/by")
        with volume._ops.sync_access_handle("by/new", "in-place", True) as handle:
            handle.write(b"first")
        promise.whole("a/new", b"first")


# ---- commits ------------------------------------------------------------------------------------


def commit_in_mode(mode, **volume_options):
    def history(directory, promise):
        with PrivateVolume(directory, **volume_options) as volume:
            promise.mode("file", 0o640)
            promise.whole("file", OLD, NEW)
            with file_of(volume, "file").create_sync_access_handle(mode=mode) as handle:
                handle.truncate(0)
                handle.write(NEW, at=0)
                handle.flush()
            promise.whole("file", NEW)
            promise.whole("file", NEW, NEW + b"more")
            with file_of(volume, "file").create_sync_access_handle(mode=mode) as handle:
                handle.write(b"more", at=len(NEW))
            promise.whole("file", NEW + b"more")

    return history


async def commit_async(directory, promise):
    with PrivateVolume(directory) as volume:
        promise.whole("file", OLD, NEW)
        async with file_of(volume, "file").create_access_handle(mode="exclusive") as handle:
            handle.truncate(0)
            await handle.write(NEW, at=0)
        promise.whole("file", NEW)


async def commit_new_file(directory, promise):
    with PrivateVolume(directory) as volume:
        sub = await volume.root.get_directory_handle("a", create=True)
        file = await sub.get_file_handle("new", create=True)
        promise.whole("a/new", None, b"", NEW)
        async with file.create_access_handle(mode="shared") as handle:
            await handle.write(NEW, at=0)
        promise.whole("a/new", NEW)


async def commit_in_host_volume(directory, promise):
    with HostVolume(directory) as volume:
        promise.whole("file", OLD, OLD + NEW)
        async with file_of(volume, "file").create_access_handle() as handle:
            await handle.write(NEW, at=len(OLD))
        promise.whole("file", OLD + NEW)


def commit_below_a_mount_point(directory, promise):
    with PrivateVolume(directory) as volume:
        promise.set_directories_apart()
        promise.mode("file", 0o640)
        promise.whole("file", OLD, NEW)
        with file_of(volume, "file").create_sync_access_handle(mode="exclusive") as handle:
            handle.truncate(0)
            handle.write(NEW, at=0)
        promise.whole("file", NEW)


def commit_by_writable(mode):
    async def history(directory, promise):
        with PrivateVolume(directory) as volume:
            promise.whole("file", OLD, NEW)
            async with file_of(volume, "file").create_writable(mode=mode) as stream:
                await stream.write(NEW[:1000])
                await stream.write(NEW[1000:])
            promise.whole("file", NEW)
            stream = await file_of(volume, "file").create_writable(keep_existing_data=True)
            await stream.write(b"gone")
            await stream.abort()

    return history


def aborted_commit(directory, promise):
    with PrivateVolume(directory) as volume:
        promise.whole("file", OLD)
        handle = file_of(volume, "file").create_sync_access_handle(mode="exclusive")
        handle.write(NEW, at=0)
        handle.flush()
        handle.abort()


# ---- descriptors --------------------------------------------------------------------------------


def done_write(fd, data, offset):
    cb = aiocb(fd, data, aio_offset=offset)
    aio_write(cb)
    assert done(cb) == len(data)


def done_sync(fd, op):
    cb = aiocb(fd)
    aio_fsync(op, cb)
    done(cb)


def sync_by_descriptor(op):
    def history(directory, promise):
        with PrivateVolume(directory) as volume, FileSystem() as fs:
            fs.mount("/v", volume)
            fd = fs.open("/v/file", os.O_RDWR)
            promise.in_place("file", OLD, (0, b"aaaa"))
            done_write(fd, b"aaaa", 0)
            done_sync(fd, op)
            promise.in_place("file", b"aaaa" + OLD[4:], (2, b"cc"))
            done_write(fd, b"cc", 2)
            fs.close(fd)
            fs.mkdir("/v/a")
            fd = fs.open("/v/a/new", os.O_RDWR | os.O_CREAT)
            done_write(fd, b"first", 0)
            done_sync(fd, op)
            promise.whole("a/new", b"first")
            fs.close(fd)

    return history


async def sync_in_a_list(directory, promise):
    with PrivateVolume(directory) as volume, FileSystem() as fs:
        fs.mount("/v", volume)
        fd = fs.open("/v/file", os.O_RDWR)
        promise.in_place("file", OLD, (0, b"aaaa"), (9, b"b"))
        aio_write(aiocb(fd, b"aaaa"))
        aio_write(aiocb(fd, b"b", aio_offset=9))
        cb = aiocb(fd)
        aio_fsync(os.O_DSYNC, cb)
        await cb
        promise.in_place("file", b"aaaa" + OLD[4:9] + b"b" + OLD[10:])
        fs.close(fd)


def by_the_c_face(directory, promise):
    library = ctypes.CDLL(str(Path(aiofs.__file__).parent / "libaiofs.so"), use_errno=True)
    volume = os.fsencode(directory)
    fd = library.aiofs_open(volume, b"new", os.O_RDWR | os.O_CREAT, 0o600)
    assert fd >= 0
    done_write(fd, b"first", 0)
    done_sync(fd, os.O_SYNC)
    promise.in_place("new", b"first", (0, b"F"))
    done_write(fd, b"F", 0)
    assert library.aiofs_close(fd) == 0


def commit_by_the_c_face(directory, promise):
    library = ctypes.CDLL(str(Path(aiofs.__file__).parent / "libaiofs.so"), use_errno=True)
    volume, no_wait = os.fsencode(directory), (ctypes.c_long * 2)()
    exclusive = 4  # AIOFS_MODE_EXCLUSIVE
    flags = os.O_RDWR | os.O_TRUNC
    fd = library.aiofs_open_wait(volume, b"file", flags, 0, exclusive, ctypes.byref(no_wait))
    assert fd >= 0
    promise.whole("file", OLD, NEW)
    done_write(fd, NEW, 0)
    assert library.aiofs_close(fd) == 0
    promise.whole("file", NEW)


HISTORIES = {
    function.__name__: function
    for function in (
        write_and_flush_in_place,
        write_and_flush_in_place_async,
        truncate_and_flush,
        abort_keeps_what_was_flushed,
        lazy_close_then_flush,
        create_in_a_new_volume,
        create_and_flush,
        create_and_flush_async,
        create_in_atomic_mode_and_write_nothing,
        remove_and_create,
        remove_a_tree_and_create,
        move_and_flush,
        move_over_another_file,
        move_a_directory_and_flush,
        rename_while_open,
        link_and_flush,
        commit_async,
        commit_new_file,
        commit_in_host_volume,
        commit_below_a_mount_point,
        aborted_commit,
        sync_in_a_list,
        by_the_c_face,
        commit_by_the_c_face,
    )
} | {
    "commit_exclusive": commit_in_mode("exclusive"),
    "commit_shared": commit_in_mode("shared"),
    "commit_with_quota": commit_in_mode("exclusive", quota=10**6),
    "commit_by_siloed_writable": commit_by_writable("siloed"),
    "commit_by_exclusive_writable": commit_by_writable("exclusive"),
    "fsync_by_descriptor": sync_by_descriptor(os.O_SYNC),
    "fdatasync_by_descriptor": sync_by_descriptor(os.O_DSYNC),
}


def main(name, directory, library, log):
    history = HISTORIES[name]
    promise = Recorder(library)
    if inspect.iscoroutinefunction(history):
        asyncio.run(history(directory, promise))
    else:
        history(directory, promise)
    Path(log).write_bytes(promise.log())


if __name__ == "__main__":
    main(*sys.argv[1:])
