"""The files of a run: what it makes is removed at the end, what was there before is kept.

Data files lie in a new directory, on disk or on tmpfs. A job that names a file reads it if there is
one, and is refused if it would write to it. A result replaces an older result, and no other file.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from aiofs.bench.jobs import Job
from aiofs.bench.keys import shown
from aiofs.bench.measuring.data import PAGE, DataFile, size_text
from aiofs.bench.measuring.native import cache_directory

TMPFS = Path("/dev/shm")
MARK = b"aiofs bench"  # in the first bytes of every file that a result is written to
MARKED_WITHIN = 4096  # bytes


class Refused(Exception):
    """A run cannot begin. The message names the file and says what to do."""


@dataclass(frozen=True)
class Place:
    """The data file of a job, and the directory for what goes with it."""

    directory: Path
    file: DataFile
    scratch: Path


class Places:
    """A context manager: the directories of a run. `progress` is told what is made."""

    def __init__(self, directory: Path | None, progress: Callable[[str], None]) -> None:
        self._parent = directory or cache_directory()
        self._progress = progress
        self._stack = contextlib.ExitStack()
        self._roots: dict[bool, Path] = {}
        self._places: dict[tuple[object, ...], Place] = {}

    def __enter__(self) -> Places:
        if not self._parent.is_dir():
            raise Refused(f"{self._parent}: no such directory")
        self._root(on_tmpfs=False)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def directory(self) -> Path:
        return self._root(on_tmpfs=False)

    def place(self, job: Job) -> Place:
        """The file of a job, which is made if it is the first to need it.

        Jobs that only read share a file of the same size and fill.
        """
        if job["filename"] is not None:
            return self._named(job, Path(job["filename"]).absolute())
        shared: tuple[object, ...] = (job["size"], job["fill"], job["volume"])
        key = (*shared, job.name if job.writes else "")
        if key not in self._places:
            self._places[key] = self._made(job)
        return self._places[key]

    def release(self, job: Job, place: Place) -> None:
        """Removes the file of a job that wrote to it: no other job uses it."""
        if job.writes and job["filename"] is None:
            shutil.rmtree(place.directory)
            self._places = {key: one for key, one in self._places.items() if one is not place}

    def _made(self, job: Job) -> Place:
        on_tmpfs = job["volume"] == "memory"
        directory = self._root(on_tmpfs) / f"{job['volume']}-{len(self._places)}"
        directory.mkdir(mode=0o700)
        size = job["size"] // job["bs"] * job["bs"] if job["volume"] == "file" else job["size"]
        file = DataFile("data", size, job["fill"], on_tmpfs)
        self._fill(file, directory)
        return Place(directory, file, directory)

    def _named(self, job: Job, path: Path) -> Place:
        scratch = self._root(on_tmpfs=False) / f"named-{len(self._places)}"
        key = (path, job["size"], job["fill"])
        if key in self._places:
            return self._places[key]
        scratch.mkdir(mode=0o700)
        if path.exists():
            place = Place(path.parent, there_before(job, path), scratch)
        else:
            if not path.parent.is_dir():
                raise Refused(f"{path.parent}: no such directory")
            file = DataFile(path.name, job["size"], job["fill"])
            self._stack.callback(path.unlink, missing_ok=True)
            self._fill(file, path.parent)
            place = Place(path.parent, file, scratch)
        self._places[key] = place
        return place

    def _fill(self, file: DataFile, directory: Path) -> None:
        free = shutil.disk_usage(directory).free
        if free < file.size:
            raise Refused(
                f"{directory}: {size_text(file.size)} are needed, and {free >> 20} MiB are free: "
                "choose another --directory, or a smaller size"
            )
        self._progress(f"filling a file of {size_text(file.size)}")
        file.make(directory)

    def _root(self, on_tmpfs: bool) -> Path:
        if on_tmpfs not in self._roots:
            parent = TMPFS if on_tmpfs else self._parent
            if not os.access(parent, os.W_OK):
                raise Refused(f"{parent}: is not writable, and files of the run go there")
            made = tempfile.TemporaryDirectory(prefix="aiofs-bench-run-", dir=parent)
            self._roots[on_tmpfs] = Path(self._stack.enter_context(made))
        return self._roots[on_tmpfs]


def there_before(job: Job, path: Path) -> DataFile:
    """A user's file, as a job reads it. Raises Refused if it would be written, or is too small."""
    if job.writes:
        raise Refused(
            f"{path}: is there already, and rw={job['rw']} would overwrite it: name a new file, or "
            "leave filename away"
        )
    try:
        state = path.stat()
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from None
    if not stat.S_ISREG(state.st_mode):
        raise Refused(f"{path}: is no regular file")
    if not os.access(path, os.R_OK):
        raise Refused(f"{path}: is not readable")
    size = min(job["size"], state.st_size) if "size" in job.given else state.st_size
    size = size // PAGE * PAGE
    if size < job["bs"]:
        raise Refused(f"{path}: is smaller than one operation, bs={shown('bs', job['bs'])}")
    return DataFile(path.name, size, fill=0)


def may_replace(path: Path) -> None:
    """Raises Refused if there is a file at `path` that is no result of an earlier run."""
    try:
        with open(path, "rb") as file:
            if MARK in file.read(MARKED_WITHIN):
                return
        what = "is there already, and is no result of aiofs bench"
    except FileNotFoundError:
        if path.parent.is_dir():
            return
        what = f"there is no directory {path.parent}"
    except OSError as error:
        what = error.strerror or "cannot be read"
    raise Refused(f"{path}: {what}: name another file")


def replace(path: Path, data: bytes) -> None:
    """Writes a result, all or nothing."""
    may_replace(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(data)
        os.replace(unfinished, path)
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from None
    finally:
        unfinished.unlink(missing_ok=True)
