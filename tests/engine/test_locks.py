"""Locks on entries: sharing, refusal and release, within one process and between two."""

import contextlib
import errno
import os
import signal
import sys
import threading
from contextlib import contextmanager

import pytest
from lock_holder_process import holding

from aiofs import NoModificationAllowedError, _core

MODES = {
    "exclusive": _core.LOCK_EXCLUSIVE,
    "shared": _core.LOCK_SHARED,
    "read-only": _core.LOCK_READ_ONLY,
    "readwrite-unsafe": _core.LOCK_READWRITE_UNSAFE,
}
PAIRS = [(mine, theirs) for mine in MODES for theirs in MODES]


def shares(mine, theirs):
    return mine == theirs != "exclusive"


@pytest.fixture
def ops(tmp_path):
    ops = _core.DirectoryOps(tmp_path / "volume", flags=_core.VOLUME_CREATE)
    yield ops
    ops.close()


def take(ops, path="file", lock=_core.LOCK_EXCLUSIVE, owner=0):
    return ops.open(path, os.O_RDWR | os.O_CREAT, 0o666, lock, owner)


def is_locked(ops, path="file"):
    try:
        take(ops, path).close()
    except NoModificationAllowedError as error:
        assert error.errno == errno.EBUSY
        return True
    return False


# ---- in one process


@pytest.fixture
def folder(ops, tmp_path):
    """A volume with a file, which this process has not open."""
    take(ops).close()
    ops.close()
    return tmp_path / "volume"


@pytest.fixture
def reader(folder):
    with contextlib.closing(_core.DirectoryOps(folder, flags=_core.VOLUME_READ_ONLY)) as reader:
        yield reader


def read_locked(reader):
    return reader.open("file", os.O_RDONLY, 0, _core.LOCK_READ_ONLY, 0)


def test_volume_opened_for_reading_before_can_be_locked_for_writing(reader, folder):
    read_locked(reader).close()
    with contextlib.closing(_core.DirectoryOps(folder)) as writer:
        take(writer).close()
        held = read_locked(reader)
        assert is_locked(writer)
        held.close()


@pytest.mark.parametrize("call", ["faccessat", "mkdirat", "openat", "fcntl"])
def test_failed_opening_for_writing_leaves_the_locks_of_its_reader(reader, folder, faults, call):
    with holding(folder, "file", _core.LOCK_EXCLUSIVE):
        for nth in range(1, 60):
            before = faults.calls(call)
            faults.fail(call, errno.EIO, nth)
            with contextlib.suppress(OSError):
                _core.DirectoryOps(folder).close()
            met = faults.calls(call) - before >= nth
            faults.clear()
            with pytest.raises(NoModificationAllowedError):
                read_locked(reader)
            if not met:
                break


@pytest.mark.parametrize("mine,theirs", PAIRS)
def test_modes_share_with_their_own_kind_only(ops, mine, theirs):
    held = take(ops, lock=MODES[mine])
    if shares(mine, theirs):
        take(ops, lock=MODES[theirs]).close()
    else:
        with pytest.raises(NoModificationAllowedError):
            take(ops, lock=MODES[theirs])
    held.close()
    assert not is_locked(ops)


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "exclusive"])
def test_shared_lock_lasts_until_its_last_holder_in_any_order(ops, mode):
    first, second, third = (take(ops, lock=MODES[mode]) for _ in range(3))
    for holder in (second, first):
        holder.close()
        assert is_locked(ops)
    third.close()
    assert not is_locked(ops)


def test_exclusive_lock_is_shared_within_one_owner_only(ops):
    first, second = take(ops, owner=7), take(ops, owner=7)
    for owner in (0, 8):
        with pytest.raises(NoModificationAllowedError):
            take(ops, owner=owner)
    first.close()
    assert is_locked(ops)
    second.close()
    assert not is_locked(ops)


def test_read_only_open_takes_no_lock_and_is_never_refused(ops):
    with_lock = take(ops)
    reader = ops.open("file", os.O_RDONLY, 0, _core.LOCK_NONE, 0)
    with_lock.close()
    assert not is_locked(ops)
    reader.close()


def test_different_spellings_of_a_path_are_one_lock(ops):
    ops.mkdir("directory")
    held = take(ops, "directory/file")
    for path in ("directory//file", "./directory/./file", "directory/../directory/file"):
        assert is_locked(ops, path)
    held.close()


def test_directory_opened_twice_is_one_set_of_locks(ops, tmp_path):
    (tmp_path / "link").symlink_to("volume")
    again = _core.DirectoryOps(tmp_path / "link")
    assert again.same(ops)
    held = take(ops)
    assert is_locked(again)
    held.close()
    assert not is_locked(again)
    again.close()


def test_lock_outlives_the_volume_it_was_taken_in(ops, tmp_path):
    passing = _core.DirectoryOps(tmp_path / "volume")
    held = take(passing)
    passing.close()
    assert is_locked(ops)
    held.close()
    assert not is_locked(ops)


def test_failed_open_leaves_no_lock(ops):
    ops.mkdir("directory")
    for path in ("missing/file", "directory"):
        with pytest.raises(OSError):
            take(ops, path)
    assert ops.lock_count("") == 0
    with pytest.raises(FileNotFoundError):
        ops.open("new", os.O_RDWR, 0, _core.LOCK_EXCLUSIVE, 0)
    assert not is_locked(ops, "new")


def test_many_entries_are_locked_at_once(ops):
    held = [take(ops, f"file-{number}") for number in range(3000)]
    assert ops.lock_count("") == 3000
    assert is_locked(ops, "file-1234")
    for holder in held:
        holder.close()
    assert ops.lock_count("") == 0


def test_threads_never_hold_one_exclusive_lock_together(ops):
    inside, failures, taken = [], [], []

    def compete():
        for _ in range(300):
            try:
                held = take(ops)
            except NoModificationAllowedError:
                continue
            inside.append(1)
            if len(inside) != 1:
                failures.append(len(inside))
            inside.pop()
            taken.append(1)
            held.close()

    threads = [threading.Thread(target=compete) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert taken and not failures


# ---- between processes


@pytest.mark.parametrize("mine,theirs", PAIRS)
def test_modes_share_between_processes_as_within_one(ops, tmp_path, mine, theirs):
    held = take(ops, lock=MODES[mine])
    with holding(tmp_path / "volume", "file", MODES[theirs]) as other:
        assert other.answer == ("held" if shares(mine, theirs) else "EBUSY")
        held.close()
        assert is_locked(ops) == shares(mine, theirs)


@pytest.mark.parametrize("mine", MODES)
def test_exclusive_lock_of_another_process_is_refused_at_once(ops, tmp_path, faults, mine):
    with holding(tmp_path / "volume", "file"):
        before = faults.calls("fcntl")
        with pytest.raises(NoModificationAllowedError):
            take(ops, lock=MODES[mine])
        assert faults.calls("fcntl") - before < 20


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_lock_is_free_when_its_holder_is_killed(ops, tmp_path, number):
    with holding(tmp_path / "volume", "file") as other:
        assert other.answer == "held" and is_locked(ops)
        other.send_signal(number)
        other.wait()
        assert not is_locked(ops)


@contextmanager
def forked(body):
    """Forks a child that runs `body`, reports, and waits. The child and its children are killed."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        try:
            kept = body()  # noqa: F841
            os.write(write_end, b"x")
            signal.pause()
        finally:
            os._exit(1)
    os.close(write_end)
    try:
        assert os.read(read_end, 1) == b"x"
        yield child
    finally:
        os.close(read_end)
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_lock_dies_with_its_holder_though_a_forked_child_lives_on(ops):
    def hold_and_fork():
        held = take(ops)
        forked_end, child_end = os.pipe()
        if os.fork() == 0:
            os.write(child_end, b"x")
            signal.pause()
        os.read(forked_end, 1)
        return held

    with forked(hold_and_fork) as holder:
        assert is_locked(ops)
        os.kill(holder, signal.SIGKILL)
        os.waitid(os.P_PID, holder, os.WEXITED | os.WNOWAIT)
        assert not is_locked(ops)


def in_child(check):
    """Runs a check in a forked child. Returns whether it is true there."""
    child = os.fork()
    if child == 0:
        try:
            good = check()
        except BaseException:
            sys.excepthook(*sys.exc_info())
            good = False
        os._exit(0 if good else 1)
    return os.waitpid(child, 0)[1] == 0


def test_forked_child_does_not_hold_its_parents_locks(ops):
    held = take(ops)

    def check():
        refused = is_locked(ops)
        held.close()  # does not release the parent's lock
        return refused and is_locked(ops) and ops.lock_count("") == 0

    assert in_child(check)
    assert is_locked(ops)
    held.close()
    assert in_child(lambda: not is_locked(ops))


def test_forked_child_acquires_its_own_locks(ops):
    with forked(lambda: take(ops)):
        assert is_locked(ops)
    assert not is_locked(ops)


def test_inherited_descriptor_still_works_in_the_child(ops):
    held = take(ops)
    assert in_child(lambda: os.pwrite(held.fileno(), b"child", 0) == 5)
    assert held.read(5, 0) == b"child"
    held.close()


def test_locks_leave_no_descriptor_behind(ops, tmp_path):
    take(ops).close()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        take(ops).close()
        _core.DirectoryOps(tmp_path / "volume").close()
    assert len(os.listdir("/proc/self/fd")) == before
