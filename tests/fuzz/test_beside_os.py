"""FileSystem beside `os`: random calls, with symbolic links and FIFOs, on two equal directories.

Each call has the same outcome, and the two trees stay equal. Links lead inside, because `os` knows
no volume that they could lead out of.
"""

import errno
import os
import random
import stat

import pytest

from aiofs import FileSystem, HostVolume, PrivateVolume

NAMES = ["a", "b", "c", "l"]
STEPS, SEEDS = 200, range(12)
OPENS = {
    "create": os.O_RDWR | os.O_CREAT,
    "open": os.O_RDONLY,
    "exclusive": os.O_RDWR | os.O_CREAT | os.O_EXCL,
    "no follow": os.O_RDONLY | os.O_NOFOLLOW,
}
ONE_PATH = ["mkdir", "mkdir", "rmdir", "unlink", "readlink", "listdir", "utime"]
CALLS = [
    *("rename", "rename", "link", "symlink", "symlink", "stat", "lstat", "scandir", "truncate"),
    *("chmod", "fifo", "create", *ONE_PATH, *OPENS),
]


def outcome(function, *arguments, **named):
    """What a call returns, or its errno."""
    try:
        return function(*arguments, **named)
    except OSError as error:
        return errno.errorcode[error.errno]


def kind_and_size(found):
    if isinstance(found, str):
        return found
    is_file = stat.S_ISREG(found.st_mode)
    return stat.S_IFMT(found.st_mode), found.st_size if is_file else None


def listed(entries):
    if isinstance(entries, str):
        return entries
    return sorted((entry.name, outcome(entry.is_symlink)) for entry in entries)


def ordered(names):
    return sorted(names) if isinstance(names, list) else names


class Side:
    """A directory and the calls on it: those of `os`, or of a FileSystem."""

    def __init__(self, calls, directory, prefix):
        self.calls = calls
        self.directory = directory
        self.prefix = prefix

    def do(self, call, path, other, number):
        at = self.prefix + path
        if call in ONE_PATH:
            return ordered(outcome(getattr(self.calls, call), at))
        if call in ("rename", "link"):
            return outcome(getattr(self.calls, call), at, self.prefix + other)
        if call == "symlink":
            return outcome(self.calls.symlink, other[1:] if number % 7 else ".", at)
        if call in ("stat", "lstat"):
            return kind_and_size(outcome(self.calls.stat, at, follow_symlinks=call == "stat"))
        if call == "scandir":
            return listed(outcome(self.calls.scandir, at))
        if call in ("truncate", "chmod"):
            return outcome(getattr(self.calls, call), at, 0o700 if call == "chmod" else number)
        if call == "fifo":
            return outcome(os.mkfifo, f"{self.directory}{path}") if number % 10 == 0 else None
        return self.open(at, OPENS[call])

    def open(self, at, flags):
        if self.calls is not os:
            fd = outcome(self.calls.open, at, flags)
            return fd if isinstance(fd, str) else self.calls.close(fd)
        follow = not flags & (os.O_EXCL | os.O_NOFOLLOW)
        found = outcome(os.stat, at, follow_symlinks=follow)
        if not isinstance(found, str) and stat.S_ISFIFO(found.st_mode) and not flags & os.O_EXCL:
            return "ENOTSUP"
        fd = outcome(os.open, at, flags)
        if isinstance(fd, str):
            return fd
        is_directory = stat.S_ISDIR(os.fstat(fd).st_mode)
        os.close(fd)
        return "EISDIR" if is_directory else None

    def tree(self):
        found = {}
        for folder, directories, files in os.walk(self.directory):
            directories[:] = [name for name in directories if name != ".aiofs"]
            for name in [*directories, *files]:
                path = os.path.join(folder, name)
                link = os.readlink(path) if os.path.islink(path) else None
                found[os.path.relpath(path, self.directory)] = kind_and_size(os.lstat(path)), link
        return found


@pytest.mark.parametrize("kind", [HostVolume, PrivateVolume])
def test_calls_do_what_those_of_os_do(kind, tmp_path):
    for number in SEEDS:
        seed = random.SystemRandom().randrange(2**32)
        mine, theirs = tmp_path / f"mine{number}", tmp_path / f"theirs{number}"
        mine.mkdir()
        theirs.mkdir()
        with kind(mine) as volume, FileSystem() as fs:
            fs.mount("/", volume)
            compare(random.Random(seed), kind, Side(fs, mine, ""), Side(os, theirs, str(theirs)))


def compare(drawn, kind, mine, theirs):
    history = []
    for number in range(STEPS):
        call = drawn.choice(CALLS)
        path, other = (
            "/" + "/".join(drawn.choices(NAMES, k=drawn.choice([1, 1, 1, 2, 2, 3])))
            for _ in range(2)
        )
        if call == "symlink" and kind is PrivateVolume:
            continue
        results = [side.do(call, path, other, number) for side in (mine, theirs)]
        history.append((call, path, other, number))
        assert results[0] == results[1], history
    assert mine.tree() == theirs.tree(), history
