"""Locks on entries: who shares, who is refused, when they go; in one process and between two."""

import errno
import os
import signal
import sys
import threading
from contextlib import contextmanager

import pytest
from elsewhere import holding

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
def tree(tmp_path):
    tree = _core.Tree(tmp_path / "volume", flags=_core.VOLUME_CREATE)
    yield tree
    tree.close()


def take(tree, path="file", lock=_core.LOCK_EXCLUSIVE, owner=0):
    return tree.open(path, os.O_RDWR | os.O_CREAT, 0o666, lock, owner)


def is_locked(tree, path="file"):
    try:
        take(tree, path).close()
    except NoModificationAllowedError as error:
        assert error.errno == errno.EBUSY
        return True
    return False


# ---- in one process


@pytest.mark.parametrize("mine,theirs", PAIRS)
def test_modes_share_with_their_own_kind_only(tree, mine, theirs):
    held = take(tree, lock=MODES[mine])
    if shares(mine, theirs):
        take(tree, lock=MODES[theirs]).close()
    else:
        with pytest.raises(NoModificationAllowedError):
            take(tree, lock=MODES[theirs])
    held.close()
    assert not is_locked(tree)


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "exclusive"])
def test_shared_lock_lasts_until_its_last_holder_in_any_order(tree, mode):
    first, second, third = (take(tree, lock=MODES[mode]) for _ in range(3))
    for holder in (second, first):
        holder.close()
        assert is_locked(tree)
    third.close()
    assert not is_locked(tree)


def test_exclusive_lock_is_shared_by_one_owner_only(tree):
    first, second = take(tree, owner=7), take(tree, owner=7)
    for owner in (0, 8):
        with pytest.raises(NoModificationAllowedError):
            take(tree, owner=owner)
    first.close()
    assert is_locked(tree)
    second.close()
    assert not is_locked(tree)


def test_read_only_open_takes_no_lock_and_meets_none(tree):
    with_lock = take(tree)
    reader = tree.open("file", os.O_RDONLY, 0, _core.LOCK_NONE, 0)
    with_lock.close()
    assert not is_locked(tree)
    reader.close()


def test_lock_is_on_the_path_however_it_is_written(tree):
    tree.mkdir("directory")
    held = take(tree, "directory/file")
    for path in ("directory//file", "./directory/./file", "directory/../directory/file"):
        assert is_locked(tree, path)
    held.close()


def test_directory_opened_twice_is_one_set_of_locks(tree, tmp_path):
    (tmp_path / "link").symlink_to("volume")
    again = _core.Tree(tmp_path / "link")
    assert again.same(tree)
    held = take(tree)
    assert is_locked(again)
    held.close()
    assert not is_locked(again)
    again.close()


def test_lock_outlives_the_volume_it_was_taken_in(tree, tmp_path):
    passing = _core.Tree(tmp_path / "volume")
    held = take(passing)
    passing.close()
    assert is_locked(tree)
    held.close()
    assert not is_locked(tree)


def test_failed_open_leaves_no_lock(tree):
    tree.mkdir("directory")
    for path in ("missing/file", "directory"):
        with pytest.raises(OSError):
            take(tree, path)
    assert tree.holds("") == 0
    with pytest.raises(FileNotFoundError):
        tree.open("new", os.O_RDWR, 0, _core.LOCK_EXCLUSIVE, 0)
    assert not is_locked(tree, "new")


def test_many_entries_are_locked_at_once(tree):
    held = [take(tree, f"file-{number}") for number in range(3000)]
    assert tree.holds("") == 3000
    assert is_locked(tree, "file-1234")
    for holder in held:
        holder.close()
    assert tree.holds("") == 0


def test_threads_never_hold_one_exclusive_lock_together(tree):
    inside, failures, taken = [], [], []

    def compete():
        for _ in range(300):
            try:
                held = take(tree)
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
def test_modes_share_between_processes_as_within_one(tree, tmp_path, mine, theirs):
    held = take(tree, lock=MODES[mine])
    with holding(tmp_path / "volume", "file", MODES[theirs]) as other:
        assert other.answer == ("held" if shares(mine, theirs) else "EBUSY")
        held.close()
        assert is_locked(tree) == shares(mine, theirs)


@pytest.mark.parametrize("mine", MODES)
def test_exclusive_holder_is_not_waited_for(tree, tmp_path, faults, mine):
    with holding(tmp_path / "volume", "file"):
        before = faults.calls("fcntl")
        with pytest.raises(NoModificationAllowedError):
            take(tree, lock=MODES[mine])
        assert faults.calls("fcntl") - before < 20


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_lock_is_free_when_its_holder_is_killed(tree, tmp_path, number):
    with holding(tmp_path / "volume", "file") as other:
        assert other.answer == "held" and is_locked(tree)
        other.send_signal(number)
        other.wait()
        assert not is_locked(tree)


@contextmanager
def forked(body):
    """A child that runs `body`, says so, and waits; killed at the end, with what it forked."""
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


def test_lock_dies_with_its_holder_though_a_forked_child_lives_on(tree):
    def hold_and_fork():
        held = take(tree)
        forked_end, child_end = os.pipe()
        if os.fork() == 0:
            os.write(child_end, b"x")
            signal.pause()
        os.read(forked_end, 1)
        return held

    with forked(hold_and_fork) as holder:
        assert is_locked(tree)
        os.kill(holder, signal.SIGKILL)
        os.waitid(os.P_PID, holder, os.WEXITED | os.WNOWAIT)
        assert not is_locked(tree)


def in_child(check):
    """Runs a check in a forked child: whether it held."""
    child = os.fork()
    if child == 0:
        try:
            good = check()
        except BaseException:
            sys.excepthook(*sys.exc_info())
            good = False
        os._exit(0 if good else 1)
    return os.waitpid(child, 0)[1] == 0


def test_forked_child_has_none_of_its_parents_locks(tree):
    held = take(tree)

    def check():
        refused = is_locked(tree)
        held.close()  # releases nothing of the parent's
        return refused and is_locked(tree) and tree.holds("") == 0

    assert in_child(check)
    assert is_locked(tree)
    held.close()
    assert in_child(lambda: not is_locked(tree))


def test_forked_child_takes_locks_of_its_own(tree):
    with forked(lambda: take(tree)):
        assert is_locked(tree)
    assert not is_locked(tree)


def test_inherited_descriptor_still_works_in_the_child(tree):
    held = take(tree)
    assert in_child(lambda: os.pwrite(held.fileno(), b"child", 0) == 5)
    assert held.read(5, 0) == b"child"
    held.close()


def test_locks_leave_no_descriptor_behind(tree, tmp_path):
    take(tree).close()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        take(tree).close()
        _core.Tree(tmp_path / "volume").close()
    assert len(os.listdir("/proc/self/fd")) == before
