"""The file of a measurement: its size, its bytes, and how it is filled."""

from __future__ import annotations

import dataclasses
import functools
import os
import struct
from pathlib import Path

KiB, MiB, GiB = 1 << 10, 1 << 20, 1 << 30
PAGE = 4 * KiB
PAYLOAD = bytes(range(256)) * (PAGE // 256)
PER_FOLDER = 100  # files of a tree


@dataclasses.dataclass(frozen=True)
class DataFile:
    """A file for measurements. It is made anew for every run, by writes of `fill` bytes.

    The size of these writes matters: large writes give the page cache large folios, and a later
    small write into a large folio costs many times more. `fill` is 0 for a file that was there
    before: its bytes are not known. Of a file that is `apart`, the bytes of each write are in a
    file of their own, NAME.OFFSET, and NAME is empty. Of a `tree`, the directory NAME.tree has
    them, with `PER_FOLDER` files in each of its directories. A file of `rows` is a CSV file.
    """

    name: str
    size: int
    fill: int = PAGE
    on_tmpfs: bool = False
    apart: bool = False
    tree: bool = False
    rows: bool = False

    @property
    def filled(self) -> str:
        if not self.fill:
            return "that was there before"
        if self.apart or self.tree:
            return f"in files of {size_text(self.fill)}"
        return f"filled by {size_text(self.fill)} writes"

    def make(self, directory: Path) -> None:
        """Creates the file. FileExistsError if there is one."""
        if self.apart or self.tree:
            (directory / self.name).touch(exist_ok=False)
            for offset, path in self.paths(str(directory), self.fill).items():
                os.makedirs(os.path.dirname(path), exist_ok=True)
                Path(path).write_bytes(content(offset, self.fill))
            return
        make = rows if self.rows else content
        with open(directory / self.name, "xb", buffering=0) as file:
            for offset in range(0, self.size, self.fill):
                written = file.write(make(offset, min(self.fill, self.size - offset)))
                if written != min(self.fill, self.size - offset):
                    raise OSError(f"{directory / self.name}: a write was short: is the disk full?")
            os.fsync(file)

    def paths(self, directory: str, block: int) -> dict[int, str]:
        """The path of the file that begins at each offset."""
        path = os.path.join(directory, self.name)
        offsets = range(0, self.size, block)
        if self.tree:
            folder = block * PER_FOLDER
            return {at: f"{path}.tree/{at // folder}/{at % folder // block}" for at in offsets}
        return {at: f"{path}.{at}" for at in offsets} if self.apart else {0: path}


def content(offset: int, size: int) -> bytes:
    """The bytes of a data file from an offset on: each 8 bytes of a page are the page's offset."""
    first = offset // PAGE * PAGE
    pages = range(first, offset + size, PAGE)
    data = b"".join(struct.pack("<q", page) * (PAGE // 8) for page in pages)
    return data[offset - first : offset - first + size]


def rows(offset: int, size: int) -> bytes:
    """The bytes of a CSV file from an offset on: lines of 20 to 90 bytes, the same in each MiB."""
    first = offset // MiB * MiB
    data = row_text() * -(-(offset + size - first) // MiB)
    return data[offset - first : offset - first + size]


@functools.cache
def row_text() -> bytes:
    """One MiB of whole lines."""
    lines, size, number = [], 0, 0
    while size < MiB:
        words = ",".join(["value"] * (number * 7 % 12))
        line = f"{number},{number * 997 % 10_000 / 100},{words}\n".encode()
        lines.append(line)
        size += len(line)
        number += 1
    return b"".join(lines)[: MiB - 1] + b"\n"


def payload(size: int) -> bytes:
    """The bytes that a write of this size writes."""
    return (PAYLOAD * -(-size // PAGE))[:size]


def size_text(size: int) -> str:
    for unit, name in ((GiB, "GiB"), (MiB, "MiB"), (KiB, "KiB")):
        if size >= unit and size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size} bytes"
