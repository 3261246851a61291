"""The work of one measurement: the operation, the file, the order of offsets, the time."""

from __future__ import annotations

import array
import dataclasses
import json
import mmap
import os
import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

from . import native

# Not a list: the objects of a shuffled list are scattered over memory. Every contender in Python
# would pay for fetching them, and C would not.
Offsets: TypeAlias = "array.array[int]"

KiB, MiB, GiB = 1 << 10, 1 << 20, 1 << 30
PAGE = 4 * KiB
PAYLOAD = bytes(range(256)) * (PAGE // 256)
SEED = 20


class Unavailable(Exception):
    """This contender cannot do this work here. The message says why, and the report shows it."""


@dataclasses.dataclass(frozen=True)
class DataFile:
    """A file for measurements. It is made anew for every run, by writes of `fill` bytes.

    The size of these writes matters: large writes give the page cache large folios, and a later
    small write into a large folio costs many times more.
    """

    name: str
    size: int
    fill: int = PAGE
    on_tmpfs: bool = False

    def make(self, directory: Path) -> None:
        with open(directory / self.name, "wb", buffering=0) as file:
            for offset in range(0, self.size, self.fill):
                file.write(content(offset, self.fill))
            os.fsync(file)


def content(offset: int, size: int) -> bytes:
    """The bytes of a data file at an offset: each 8 bytes of a page are the page's own offset."""
    pages = range(offset, offset + size, PAGE)
    return b"".join(struct.pack("<q", page) * (PAGE // 8) for page in pages)


@dataclasses.dataclass(frozen=True)
class Work:
    """The work of one measurement.

    operation  read, write, save (a write, then fdatasync), open (open, lock, close), replace (the
               whole file, atomically), import, crowd (the contender's number of reads, of a pipe,
               or of the file if it is `direct`), round (processes hand a lock round)
    depth      operations in flight; each coroutine awaits one at a time; of a round, the processes
    sweep      operations in one go; None: as many as take about `seconds`; of a round, the rounds
    seconds    length of the timed pass; 0: only the observed pass runs
    observed   length of the pass with a heartbeat, which records every operation's latency
    """

    file: DataFile
    operation: str = "read"
    block: int = PAGE
    depth: int = 1
    sequential: bool = False
    cold: bool = False
    direct: bool = False
    sweep: int | None = None
    seconds: float = 0.15
    observed: float = 0.25
    directory: str = ""
    loop: str = "uvloop"

    @property
    def path(self) -> str:
        return os.path.join(self.directory, self.file.name)

    def offsets(self) -> Offsets:
        """The offsets of all blocks of the file, in the order that all contenders use."""
        order = list(range(0, self.file.size - self.block + 1, self.block))
        if not self.sequential:
            random.Random(SEED).shuffle(order)
        return array.array("q", order)

    def offsets_path(self) -> str:
        """The path of a file with the offsets, for programs in C."""
        kind = "sequential" if self.sequential else "random"
        path = f"{self.path}.{kind}-{self.block}"
        if not os.path.exists(path):
            Path(path).write_bytes(self.offsets().tobytes())
        return path

    def describe(self) -> str:
        """Describes the work, without what is the same in the whole run."""
        if self.operation == "open":
            return f"open, lock and close a file of {size_text(self.file.size)}"
        if self.operation == "replace":
            return f"write {size_text(self.block)}, fsync, rename, fsync of the directory"
        if self.operation == "round":
            return f"{self.depth} processes, {self.sweep} times each; the time is the median"
        if self.operation == "import":
            return "a fresh interpreter for each"
        if self.operation == "crowd" and not self.direct:
            return f"{size_text(self.block)} reads of one pipe; the oldest are taken and made anew"
        order = "sequential" if self.sequential else "random"
        names = {"save": "write + fdatasync", "crowd": "read"}
        operation = names.get(self.operation, self.operation)
        cache = "cold (POSIX_FADV_DONTNEED)" if self.cold else "cached"
        state = "O_DIRECT" if self.direct else cache
        sweep = f", {self.sweep} in a go" if self.sweep else ""
        depth = (
            f"depth {self.depth}{sweep}" if self.operation != "crowd" else "the oldest made anew"
        )
        place = "tmpfs file" if self.file.on_tmpfs else "file"
        return (
            f"{size_text(self.block)} {order} {operation}, {depth}, {state}; "
            f"{place} of {size_text(self.file.size)} filled by {size_text(self.file.fill)} writes"
        )

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Work:
        fields = json.loads(text)
        return cls(**{**fields, "file": DataFile(**fields["file"])})


def size_text(size: int) -> str:
    for unit, name in ((GiB, "GiB"), (MiB, "MiB"), (KiB, "KiB")):
        if size >= unit and size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size} bytes"


def new_buffer(size: int) -> mmap.mmap:
    """A page-aligned buffer, as the C floor has, with its pages already allocated."""
    buffer = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for offset in range(0, size, PAGE):
        buffer[offset] = 1
    return buffer


def load_cache(path: str) -> None:
    """Reads a file into the page cache, and checks that it is there."""
    with open(path, "rb", buffering=0) as file:
        while file.read(MiB):
            pass
    resident, pages = pages_in_cache(path)
    if resident < pages - pages // 100:
        raise Unavailable(f"only {resident} of {pages} pages stay in the cache")


def drop_cache(path: str) -> None:
    """Drops a file from the page cache, and checks that it is gone."""
    with open(path, "rb", buffering=0) as file:
        os.fdatasync(file)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    resident, pages = pages_in_cache(path)
    if resident > pages // 100:
        raise Unavailable(f"{resident} of {pages} pages stay in the cache: it cannot be made cold")


def pages_in_cache(path: str) -> tuple[int, int]:
    """How many of a file's pages are in the page cache, and how many it has."""
    with open(path, "rb", buffering=0) as file:
        pages = -(-os.fstat(file.fileno()).st_size // PAGE)
        return native.check(native.beside().resident(file.fileno())), pages


def cycle_to(offsets: Offsets, count: int) -> Offsets:
    """Repeats the offsets until there are `count`."""
    times, rest = divmod(count, len(offsets))
    return offsets * times + offsets[:rest]


def shares(offsets: Offsets, lanes: int) -> Iterator[Offsets]:
    """Distributes the offsets over the lanes, as evenly as possible."""
    return (offsets[lane::lanes] for lane in range(lanes))
