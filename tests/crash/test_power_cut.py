"""The power fails at every moment of a program: what aiofs has acknowledged is on the disk.

A program of histories.py runs, and its system calls that change files are recorded. After each of
them the disk is rebuilt, with any part of what was not synced, and opened again: every commit is
whole or absent, every flushed byte and the name of its file are there.

At each moment all outcomes are tried, if they are at most AIOFS_POWER_CUTS (64), else so many by
chance; SEED=... repeats a choice. A history ends with a check that the log is complete.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from disk import Disk, frozen, read_log, seeded, write_tree
from histories import HISTORIES, OLD
from native import INCLUDES, compile_c, needs_compiler

from aiofs import FileHandle, PrivateVolume

HERE = Path(__file__).parent
MOST = int(os.environ.get("AIOFS_POWER_CUTS", "64"))
SEED = int(os.environ.get("SEED", random.randrange(2**31)))
VOLUME = "volume"

pytestmark = needs_compiler


@pytest.fixture(scope="module")
def recorder(tmp_path_factory):
    library = tmp_path_factory.mktemp("recorder") / "record.so"
    compile_c("-shared", "-fPIC", "-O1", "-pthread", *INCLUDES, HERE / "record.c", "-o", library)
    return library


def recorded(name, folder, recorder):
    """The disk before a history, and its log."""
    base, log = folder / "base", folder / "log"
    (base / VOLUME).mkdir(parents=True)
    (base / VOLUME / "file").write_bytes(OLD)
    (base / VOLUME / "file").chmod(0o640)
    disk = Disk(base)
    command = [sys.executable, HERE / "histories.py", name, base / VOLUME, recorder, log]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    return disk, list(read_log(log.read_bytes())), base


# ---- promises -----------------------------------------------------------------------------------


def read_at(root, path):
    """The bytes of the file at a path of a rebuilt tree, or None, and its mode."""
    inode = root
    for name in (VOLUME, *path.split("/")):
        inode = inode.names.get(name) if inode.kind == "directory" else None
        if inode is None:
            return None, None
    return (inode.data, inode.mode) if inode.kind == "file" else (None, None)


def in_place_is_kept(found, flushed, changes):
    """Whether a file has all its flushed bytes, where no later change was made."""
    if found is None:
        return False
    cuts = [at for at, data in changes if data is None]
    ends = [at if data is None else at + len(data) for at, data in changes]
    if not min([len(flushed), *cuts]) <= len(found) <= max([len(flushed), *ends]):
        return False
    for at, byte in enumerate(found):
        allowed = {flushed[at]} if at < min([len(flushed), *cuts]) else {0, *flushed[at : at + 1]}
        allowed |= {data[at - w] for w, data in changes if data and 0 <= at - w < len(data)}
        if byte not in allowed:
            return False
    return True


def is_kept(promise, found, mode):
    kind, _, *values = promise
    if kind == "mode":
        return found is None or mode == values[0]
    if kind == "whole":
        return found in [value if value is None else value.encode() for value in values[0]]
    changes = [(at, data if data is None else data.encode()) for at, data in values[1]]
    return in_place_is_kept(found, values[0].encode(), changes)


# ---- the disk opened again ----------------------------------------------------------------------


def read_all(volume, path):
    with FileHandle._of(volume, path).create_sync_access_handle(mode="read-only") as handle:
        data = bytearray(handle.get_size())
        assert handle.read(data) == len(data)
        return bytes(data)


def check_opened_again(root, promises, chance):
    """Opens a rebuilt disk with aiofs: it has the same files, no swap files, and can be written."""
    with tempfile.TemporaryDirectory(
        dir="/dev/shm" if os.path.isdir("/dev/shm") else None
    ) as folder:
        base = Path(folder, "base")
        write_tree(root, base, chance)
        if not (base / VOLUME).exists():
            return
        with PrivateVolume(base / VOLUME) as volume:
            for path in {promise[1] for promise in promises}:
                found = read_at(root, path)[0]
                if found is not None:
                    assert read_all(volume, path) == found
            with volume._ops.sync_access_handle("again", "exclusive", True) as handle:
                handle.write(b"again")
            assert read_all(volume, "again") == b"again"
            swap = base / VOLUME / ".aiofs" / "swap"
            assert list(swap.iterdir()) == []


# ---- tests --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HISTORIES)
def test_what_was_acknowledged_survives_a_power_cut_at_every_moment(name, tmp_path, recorder):
    print(f"SEED={SEED}")
    chance = seeded(SEED)
    disk, log, base = recorded(name, tmp_path, recorder)
    promises, seen, opened = {}, set(), set()
    for number, entry in enumerate(log):
        if entry.kind == "mark":
            promise = json.loads(entry.data)
            promises[promise[0] if promise[0] == "mode" else "content", promise[1]] = promise
        else:
            disk.happen(entry)
        for root in disk.outcomes(MOST, chance):
            state = frozen(root, own=False)
            if (state, str(promises)) not in seen:
                seen.add((state, str(promises)))
                for promise in promises.values():
                    found, mode = read_at(root, promise[1])
                    assert is_kept(promise, found, mode), (number, entry, promise, found, state)
            if frozen(root) not in opened and chance.random() < 0.1:
                opened.add(frozen(root))
                check_opened_again(root, promises.values(), chance)
    assert promises
    assert frozen(disk.everything(), own=False) == on_the_disk(base)  # the log is complete


def on_the_disk(base):
    return frozen(Disk(base).root, own=False)


@pytest.mark.parametrize("name", ["commit_exclusive"])
def test_log_has_the_syncs_of_a_commit(name, tmp_path, recorder):
    _, log, _ = recorded(name, tmp_path, recorder)
    kinds = [entry.kind for entry in log]
    first = kinds.index("rename")
    assert "fsync" in kinds[:first] and "fsync" in kinds[first:]
