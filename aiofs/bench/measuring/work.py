"""The work of one measurement: the operation, the file, the order of offsets, the time."""

from __future__ import annotations

import array
import ctypes
import dataclasses
import json
import mmap
import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from aiofs.bench.measuring.data import PAGE, DataFile, size_text

# Not a list: the objects of a shuffled list are scattered over memory. Every participant in Python
# would pay for fetching them, and C would not.
Offsets: TypeAlias = "array.array[int]"

SEED = 20
LONGEST = 1 << 21  # offsets; of a file with more blocks, so many are drawn
MAPPINGS = 1 << 10  # buffers with a mapping of their own: the kernel limits the number of mappings


@dataclasses.dataclass(frozen=True)
class Work:
    """The work of one measurement.

    operation  read, write, mixed (reads and writes), save (a write, then fdatasync), open (open,
               lock, close), replace (the whole file, atomically), import, crowd (the participant's
               number of reads, of a pipe, or of the file if it is `direct`), round (processes hand
               a lock round), whole (open, read all, close), locked (open, lock, read all, close)
    depth      operations in flight; each coroutine awaits one at a time; of a round, the processes
    reads      how many percent of mixed operations are reads
    shift      how many bytes after the beginning of a page the buffers begin
    sweep      operations in one go; None: as many as take about `seconds`; of a round, the rounds
    seconds    length of the timed pass; 0: only the observed pass runs
    observed   length of the pass with a heartbeat, which records every operation's latency
    verify     whether a last pass checks bytes
    volume     the kind of volume through which aiofs uses the file: private, host, memory; file: by
               its path
    scratch    the directory of files for programs in C; "": that of the file
    """

    file: DataFile
    operation: str = "read"
    block: int = PAGE
    depth: int = 1
    sequential: bool = False
    cold: bool = False
    direct: bool = False
    reads: int = 50
    shift: int = 0
    sweep: int | None = None
    seconds: float = 0.15
    observed: float = 0.25
    verify: bool = True
    volume: str = "private"
    directory: str = ""
    scratch: str = ""
    loop: str = "uvloop"

    @property
    def path(self) -> str:
        return os.path.join(self.directory, self.file.name)

    @property
    def writes(self) -> bool:
        return self.operation in ("write", "mixed", "save", "replace")

    def paths(self) -> dict[int, str]:
        """The path of the file at each offset, of operations on whole files."""
        if not self.file.apart:
            return {0: self.path}
        return {at: f"{self.path}.{at}" for at in range(0, self.file.size, self.block)}

    def offsets(self) -> Offsets:
        """The offsets of the file's blocks, in the order that all participants use.

        Of mixed operations, a write at `offset` is the negative number `~offset`.
        """
        count, draw = self.file.size // self.block, random.Random(SEED)
        if self.sequential:
            blocks: Sequence[int] = range(min(count, LONGEST))
        elif count > LONGEST:
            blocks = draw.sample(range(count), LONGEST)
        else:
            blocks = list(range(count))
            draw.shuffle(blocks)
        order = array.array("q", (block * self.block for block in blocks))
        if self.operation == "mixed":
            for at, offset in enumerate(order):
                if draw.random() * 100 >= self.reads:
                    order[at] = ~offset
        return order

    def offsets_path(self) -> str:
        """The path of a file with the offsets, for programs in C."""
        kind = "sequential" if self.sequential else "random"
        kind += f"-{self.reads}" if self.operation == "mixed" else ""
        path = os.path.join(
            self.scratch or self.directory, f"{self.file.name}.{kind}-{self.block}-{self.file.size}"
        )
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
        names = {
            "save": "write + fdatasync",
            "crowd": "read",
            "whole": "open + read + close",
            "locked": "open + lock + read + close",
            "mixed": f"read ({self.reads} %) and write",
        }
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
            f"{place} of {size_text(self.file.size)} {self.file.filled}"
        )

    def describe_buffers(self) -> str:
        """Says where the buffers lie that every participant is given."""
        shifted = f"of a bytearray, {self.shift} bytes after a page begins"
        where = shifted if self.shift else "page-aligned"
        count = "one buffer" if self.depth == 1 else f"{self.depth} buffers"
        return f"{count} of {size_text(self.block)}, {where}, touched before"

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Work:
        fields = json.loads(text)
        return cls(**{**fields, "file": DataFile(**fields["file"])})


def new_buffer(size: int) -> mmap.mmap:
    """A page-aligned buffer, as the C floor has, with its pages already allocated."""
    buffer = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for offset in range(0, size, PAGE):
        buffer[offset] = 1
    return buffer


def new_buffers(count: int, size: int, shift: int = 0) -> list[Any]:
    """Buffers that begin `shift` bytes after the beginning of a page each, as the C floor's do.

    With a shift they are parts of a bytearray, which is the memory that programs have there.
    """
    if not shift and count <= MAPPINGS:
        return [new_buffer(size) for _ in range(count)]
    room = -(-(shift + size) // PAGE) * PAGE
    if shift:
        memory = bytearray(b"\1") * (room * count + PAGE)
        first = -ctypes.addressof(ctypes.c_char.from_buffer(memory)) % PAGE
        whole = memoryview(memory)[first:]
    else:
        whole = memoryview(new_buffer(room * count))
    return [whole[at + shift : at + shift + size] for at in range(0, room * count, room)]


def cycle_to(offsets: Offsets, count: int) -> Offsets:
    """Repeats the offsets until there are `count`."""
    times, rest = divmod(count, len(offsets))
    return offsets * times + offsets[:rest]


def shares(offsets: Offsets, lanes: int) -> Iterator[Offsets]:
    """Distributes the offsets over the lanes, as evenly as possible."""
    return (offsets[lane::lanes] for lane in range(lanes))
