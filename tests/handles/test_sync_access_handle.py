"""SyncAccessHandle: an open, locked file, read and written by the calling thread."""

import array
import copy
import errno
import gc
import os
import pickle
import warnings

import pytest
from opened import CONTENT, SIZE
from support import failed, result, thread, write_file

import aiofs
from aiofs import PrivateVolume, SyncAccessHandle
from aiofs.aio import aio_error, aio_read, aio_write, aiocb


@pytest.fixture
def open_handle(volume):
    """open_handle(mode): a handle of the only file of the volume."""
    write_file(volume, "file", CONTENT)
    return lambda mode="in-place": volume._ops.sync_access_handle("file", mode, False)


@pytest.fixture
def handle(open_handle):
    with open_handle() as handle:
        yield handle


def all_bytes(handle):
    data = bytearray(handle.get_size() + 10)
    return bytes(data[: handle.read(data, at=0)])


def cursor_of(handle):
    """The position of the cursor, found by a read of one byte."""
    byte = bytearray(1)
    if handle.read(byte) == 0:
        return "at the end"
    return next(n for n in range(SIZE) if n % 256 == byte[0])


# ---- reading and writing ------------------------------------------------------------------------


def test_read_starts_where_the_previous_read_ended(handle):
    pieces = []
    buffer = bytearray(1000)
    while count := handle.read(buffer):
        pieces.append(bytes(buffer[:count]))
    assert b"".join(pieces) == CONTENT
    assert [len(piece) for piece in pieces] == [1000] * 10 + [SIZE - 10_000]


def test_cursor_begins_at_0_and_every_handle_has_its_own(open_handle):
    with open_handle("read-only") as one, open_handle("read-only") as other:
        one.read(bytearray(77))
        assert cursor_of(one) == 77
        assert cursor_of(other) == 0


def test_read_at_moves_the_cursor_behind_what_it_read(handle):
    buffer = bytearray(10)
    assert handle.read(buffer, at=100) == 10
    assert buffer == CONTENT[100:110]
    assert cursor_of(handle) == 110


def test_write_starts_where_the_previous_write_ended(handle):
    assert handle.write(b"abc") == 3
    assert handle.write(b"def") == 3
    assert handle.write(b"xyz", at=100) == 3
    assert handle.write(b"!") == 1
    assert all_bytes(handle) == b"abcdef" + CONTENT[6:100] + b"xyz!" + CONTENT[104:]


@pytest.mark.parametrize("at", [SIZE, SIZE + 1, SIZE * 100, 2**40])
def test_read_past_the_end_gives_0_and_leaves_the_cursor_past_the_end(handle, at):
    assert handle.read(bytearray(10), at=at) == 0
    if at < SIZE * 1000:
        handle.write(b"here")
        assert handle.get_size() == at + 4


def test_short_read_at_the_end_leaves_the_cursor_at_the_end(handle):
    buffer = bytearray(100)
    assert handle.read(buffer, at=SIZE - 30) == 30
    handle.write(b"more")
    assert all_bytes(handle) == CONTENT + b"more"


@pytest.mark.parametrize("at", [0, 5, SIZE, SIZE + 100])
def test_transfer_of_0_bytes_moves_the_cursor_and_never_extends_the_file(handle, at):
    for call in (handle.read, handle.write):
        assert call(bytearray(), at=at) == 0
        assert handle.get_size() == SIZE
    assert handle.readv([], at=at) == 0
    assert handle.writev([b"", b""], at=at) == 0
    assert handle.get_size() == SIZE
    handle.write(b"here")
    assert all_bytes(handle)[at : at + 4] == b"here"


def test_write_past_the_end_leaves_a_gap_of_zeros(handle):
    assert handle.write(b"end", at=SIZE + 5000) == 3
    assert all_bytes(handle) == CONTENT + bytes(5000) + b"end"


@pytest.mark.parametrize("size", [1 << 16, (1 << 16) + 1, 1 << 20])
def test_large_buffers_are_written_and_read_back(handle, size):
    data = os.urandom(size)
    assert handle.write(data, at=3) == size
    buffer = bytearray(size)
    assert handle.read(buffer, at=3) == size
    assert buffer == data


def test_several_buffers_are_one_transfer(handle):
    buffers = [bytearray(3), bytearray(0), array.array("I", [0, 0]), memoryview(bytearray(9))[2:7]]
    assert handle.readv(buffers, at=10) == 16
    assert b"".join(memoryview(each).tobytes() for each in buffers) == CONTENT[10:26]
    assert handle.writev([b"ab", b"", bytearray(b"cd"), memoryview(b"efg")]) == 7
    assert all_bytes(handle) == CONTENT[:26] + b"abcdefg" + CONTENT[33:]
    assert handle.readv([bytearray(10)] * 2, at=SIZE - 5) == 5


def test_thousands_of_buffers_are_one_transfer(handle):
    pieces = [b"%05d" % number for number in range(3000)]
    assert handle.writev(pieces, at=0) == 15_000
    assert all_bytes(handle) == b"".join(pieces)
    buffers = [bytearray(5) for _ in pieces]
    assert handle.readv(iter(buffers), at=0) == 15_000
    assert buffers == pieces


# ---- size ---------------------------------------------------------------------------------------


def test_truncate_cuts_and_extends_with_zeros(handle):
    handle.truncate(100)
    assert (handle.get_size(), all_bytes(handle)) == (100, CONTENT[:100])
    handle.truncate(300)
    assert all_bytes(handle) == CONTENT[:100] + bytes(200)
    handle.truncate(0)
    assert handle.get_size() == 0


def test_truncate_moves_a_cursor_past_the_new_end_to_the_end(handle):
    handle.read(bytearray(500))
    handle.truncate(1000)
    assert cursor_of(handle) == 500 % 256
    handle.truncate(200)
    handle.write(b"!")
    assert all_bytes(handle) == CONTENT[:200] + b"!"


def test_truncate_that_extends_leaves_the_cursor(handle):
    handle.read(bytearray(50))
    handle.truncate(SIZE * 2)
    assert cursor_of(handle) == 50


# ---- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [-1, -(2**70), 2**63, 2**70])
@pytest.mark.parametrize("name", ["read", "write", "readv", "writev"])
def test_bad_offset_is_a_value_error_and_moves_nothing(handle, name, at):
    handle.read(bytearray(7))
    buffers = bytearray(1) if name in ("read", "write") else [bytearray(1)]
    with pytest.raises(ValueError):
        getattr(handle, name)(buffers, at=at)
    assert cursor_of(handle) == 7
    assert all_bytes(handle) == CONTENT


@pytest.mark.parametrize("size", [-1, 2**63])
def test_bad_size_is_a_value_error(handle, size):
    with pytest.raises(ValueError):
        handle.truncate(size)
    assert handle.get_size() == SIZE


@pytest.mark.parametrize("at", ["0", 1.0, b"0", [0]])
def test_offset_of_another_type_is_a_type_error(handle, at):
    for name in ("read", "write"):
        with pytest.raises(TypeError):
            getattr(handle, name)(bytearray(1), at=at)
    with pytest.raises(TypeError):
        handle.truncate(at)


def test_error_names_a_bad_offset():
    for name in ("read", "write", "readv", "writev"):
        with pytest.raises(TypeError):
            getattr(SyncAccessHandle, name)(None, bytearray(1), 0)


@pytest.mark.parametrize("buffer", [b"", b"abc", memoryview(b"abc"), "abc", None, 3, [1]])
def test_read_into_an_unwritable_object_is_refused(handle, buffer):
    with pytest.raises((TypeError, BufferError)):
        handle.read(buffer)
    with pytest.raises((TypeError, BufferError)):
        handle.readv([bytearray(1), buffer])
    assert cursor_of(handle) == 0


@pytest.mark.parametrize("buffer", ["abc", None, 3, [1], memoryview(b"abcdef")[::2]])
def test_write_of_an_object_without_a_buffer_is_refused(handle, buffer):
    with pytest.raises((TypeError, BufferError)):
        handle.write(buffer)
    with pytest.raises((TypeError, BufferError)):
        handle.writev([b"abc", buffer])
    assert all_bytes(handle) == CONTENT


def test_any_iterable_of_buffers_is_a_vector(handle):
    for name in ("readv", "writev"):
        with pytest.raises(TypeError):
            getattr(handle, name)(5)


def test_refused_calls_pin_nothing(handle):
    buffer = bytearray(10)
    for call in (
        lambda: handle.read(buffer, at=-1),
        lambda: handle.readv([buffer, b"no"]),
        lambda: handle.writev([buffer, 5]),
    ):
        with pytest.raises((TypeError, ValueError, BufferError)):
            call()
        buffer.append(0)
    handle.close()
    for name in ("read", "write"):
        failed(errno.EBADF, getattr(handle, name), buffer)
        buffer.append(0)


def test_read_only_handle_changes_nothing(open_handle):
    with open_handle("read-only") as handle:
        for call in (
            lambda: handle.write(b"x"),
            lambda: handle.write(b""),
            lambda: handle.writev([b"x"]),
            lambda: handle.truncate(0),
            handle.flush,
        ):
            error = failed(errno.EBADF, call)
            assert isinstance(error, aiofs.NoModificationAllowedError)
            assert error.name == "NoModificationAllowedError"
            assert error.filename.endswith("file")
        assert all_bytes(handle) == CONTENT
        assert handle.mode == "read-only"


def test_write_over_the_quota_is_refused_as_a_whole(tmp_path):
    with PrivateVolume(tmp_path / "volume", quota=1000) as volume:
        with volume._ops.sync_access_handle("file", "in-place", True) as handle:
            assert handle.write(b"x" * 900) == 900
            for call in (
                lambda: handle.write(b"y" * 101),
                lambda: handle.write(b"y", at=1000),
                lambda: handle.writev([b"y" * 50, b"y" * 51]),
                lambda: handle.truncate(1001),
            ):
                error = failed(errno.EDQUOT, call)
                assert isinstance(error, aiofs.QuotaExceededError)
                assert error.filename.endswith("file")
                assert all_bytes(handle) == b"x" * 900
                handle.read(bytearray(0), at=900)
            assert handle.write(b"y" * 100) == 100
            handle.truncate(10)
            assert handle.write(b"z" * 990, at=10) == 990


# ---- modes and locks ----------------------------------------------------------------------------


def test_mode_is_reported_and_readwrite_is_in_place(open_handle):
    for mode, reported in (
        ("in-place", "in-place"),
        ("readwrite", "in-place"),
        ("read-only", "read-only"),
        ("readwrite-unsafe", "readwrite-unsafe"),
    ):
        with open_handle(mode) as handle:
            assert handle.mode == reported
            with pytest.raises(AttributeError):
                handle.mode = "in-place"


@pytest.mark.parametrize("first", ["in-place", "read-only", "readwrite-unsafe"])
@pytest.mark.parametrize("second", ["in-place", "readwrite", "read-only", "readwrite-unsafe"])
def test_lock_is_refused_at_once_or_shared(open_handle, first, second):
    with open_handle(first):
        if first == second != "in-place":
            open_handle(second).close()
        else:
            error = failed(errno.EBUSY, open_handle, second)
            assert isinstance(error, aiofs.NoModificationAllowedError)
            assert error.filename.endswith("file")
    open_handle(second).close()


def test_unsafe_handles_see_each_others_bytes(open_handle):
    with open_handle("readwrite-unsafe") as one, open_handle("readwrite-unsafe") as other:
        one.write(b"seen")
        assert all_bytes(other)[:4] == b"seen"
        other.truncate(2)
        assert one.get_size() == 2


def test_handle_dropped_without_close_leaves_no_lock_and_warns(open_handle):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        handle = open_handle()
        handle.write(b"kept")
        del handle
        gc.collect()
    assert [warning.category for warning in caught] == [ResourceWarning]
    assert "file" in str(caught[0].message)
    with open_handle() as handle:  # although the warning keeps the dropped one
        assert all_bytes(handle)[:4] == b"kept"
    assert "closed" in repr(caught[0].source)


def test_closed_handle_is_dropped_without_a_warning(open_handle):
    gc.collect()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        open_handle().close()
        gc.collect()
    assert [str(warning.message) for warning in caught] == []


def test_lock_is_held_until_the_last_request_is_terminal(volume, open_handle):
    handle = open_handle()
    requests = [aiocb(handle, bytes(100_000), aio_offset=n * 100_000) for n in range(20)]
    for cb in requests:
        aio_write(cb)
    handle.close()
    with open_handle() as other:
        assert other.get_size() == 2_000_000
    assert [result(cb) for cb in requests] == [100_000] * 20


@pytest.mark.parametrize("size", [4096, 300_000])
def test_requests_are_terminal_when_close_returns(open_handle, size):
    for _ in range(150):
        handle = open_handle()
        requests = [aiocb(handle, bytes(size), aio_offset=n, aio_reqprio=n) for n in range(3)]
        for cb in requests:
            aio_write(cb)
        handle.close()
        assert [aio_error(cb) for cb in requests] == [0, 0, 0]


# ---- the end ------------------------------------------------------------------------------------


def test_close_is_idempotent_and_releases_the_lock(open_handle):
    handle = open_handle()
    for _ in range(3):
        assert handle.close() is None
    open_handle().close()
    handle.abort()


def test_abort_releases_the_lock(open_handle):
    handle = open_handle()
    handle.write(b"seen at once")
    handle.abort()
    handle.abort()
    with open_handle() as other:
        assert all_bytes(other)[:12] == b"seen at once"


def test_use_after_close_is_invalid_state(open_handle):
    handle = open_handle()
    handle.close()
    for call in (
        lambda: handle.read(bytearray(1)),
        lambda: handle.write(b"x"),
        lambda: handle.readv([bytearray(1)]),
        lambda: handle.writev([b"x"]),
        lambda: handle.truncate(0),
        handle.get_size,
        handle.flush,
        handle.fileno,
        handle.__enter__,
    ):
        error = failed(errno.EBADF, call)
        assert isinstance(error, aiofs.InvalidStateError)
        assert isinstance(error, ValueError)
        assert error.name == "InvalidStateError"
        assert error.filename.endswith("file")
    assert "closed" in repr(handle)
    assert handle.mode == "in-place"


def test_context_manager_closes_also_when_its_body_raises(open_handle):
    with pytest.raises(ZeroDivisionError), open_handle() as handle:
        handle.write(b"stays")
        raise ZeroDivisionError
    with open_handle() as handle:
        assert all_bytes(handle)[:5] == b"stays"


def test_close_while_threads_are_inside_waits_for_them(open_handle):
    for _ in range(30):
        handle = open_handle()
        started = []

        def work(handle=handle, started=started):
            try:
                while True:
                    handle.write(bytes(200_000), at=0)
                    started.append(1)
                    handle.read(bytearray(200_000), at=0)
                    handle.truncate(200_000)
                    handle.flush()
            except aiofs.InvalidStateError:
                pass

        with thread(work), thread(work):
            while len(started) < 2:
                pass
            handle.close()
            open_handle().close()


def test_handles_cannot_be_constructed_copied_or_pickled(handle):
    with pytest.raises(TypeError):
        SyncAccessHandle()
    for call in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            call(handle)
    assert handle.get_size() == SIZE


def test_fileno_is_a_real_descriptor(tmp_path):
    with PrivateVolume(tmp_path / "volume") as volume:
        handle = volume._ops.sync_access_handle("file", "in-place", True)
        fd = handle.fileno()
        handle.write(CONTENT)
        assert os.fstat(fd).st_size == SIZE
        assert os.pread(fd, 10, 5) == CONTENT[5:15]
        handle.close()
        failed(errno.EBADF, os.fstat, fd)


def test_aio_requests_run_on_a_handle(handle):
    cb = aiocb(handle, bytearray(10), aio_offset=20)
    aio_read(cb)
    assert result(cb) == 10
    assert cb.aio_buf == CONTENT[20:30]
    assert cursor_of(handle) == 0
    cb = aiocb(handle, b"x" * 300_000, aio_offset=5)
    aio_write(cb)
    assert result(cb) == 300_000
    assert handle.get_size() == 300_005


def test_aio_requests_obey_the_handles_mode_and_closing(open_handle):
    with open_handle("read-only") as handle:
        cb = aiocb(handle, b"x")
        aio_write(cb)
        failed(errno.EBADF, result, cb)
        read = aiocb(handle, bytearray(10))
        aio_read(read)
        assert result(read) == 10
    aio_read(read)
    failed(errno.EBADF, result, read)


def test_aio_requests_obey_the_quota(tmp_path):
    with PrivateVolume(tmp_path / "volume", quota=1000) as volume:
        with volume._ops.sync_access_handle("file", "in-place", True) as handle:
            cb = aiocb(handle, b"x" * 1001)
            aio_write(cb)
            assert isinstance(failed(errno.EDQUOT, result, cb), aiofs.QuotaExceededError)
            assert handle.get_size() == 0
