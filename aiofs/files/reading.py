"""Reads on host threads. What a cancelled one has read goes to the next read.

The cursor is moved back. Where it cannot, as in a pipe, the bytes or characters are kept for the
next reads (`_kept` of the file). A `file` here is an `AsyncFile`.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import Any

__all__ = ["READS", "Reading", "tell_kept"]

READS = frozenset(
    ("read", "read1", "readall", "readinto", "readinto1", "readline", "readlines", "peek")
)


class Reading:
    """A read, and its undoing. Both run while the file's turn is theirs."""

    def __init__(self, file: Any, name: str, arguments: tuple[Any, ...]) -> None:
        self._file = file
        self._name = name
        self._arguments = arguments
        self._cookie: int | None = None
        self._result: Any = None

    def __call__(self) -> Any:
        file = self._file
        if file._kept is not None:
            self._result = read_kept(file, self._name, self._arguments)
        else:
            self._cookie = _cookie(file)
            self._result = file._call_on_host(file._file, self._name, self._arguments)
        return self._result

    def undo(self) -> None:
        data = self._consumed()
        file = self._file
        if not data or file.closed:
            return
        if file._kept is None:
            try:
                if isinstance(data, str):
                    if self._cookie is not None:
                        file._call_on_host(file._file, "seek", (self._cookie,))
                        return
                else:
                    file._call_on_host(file._file, "seek", (-len(data), os.SEEK_CUR))
                    return
            except (OSError, ValueError):  # it has no cursor
                pass
            file._kept = data
        else:
            file._kept = data + file._kept

    def _consumed(self) -> Any:
        """What was read; a copy, because the caller's buffer is the caller's again."""
        result = self._result
        if self._name == "peek" or not result:
            return None
        if self._name == "readlines":
            return type(result[0])().join(result)
        if isinstance(result, int):
            return bytes(memoryview(self._arguments[0]).cast("B")[:result])
        return result


def _cookie(file: Any) -> int | None:
    """The cursor of a text file; None: the file is binary, or has none.

    Telling it would flush what was written, which a read may not do.
    """
    target = file._file
    if not isinstance(target, io.TextIOBase) or not file._can_tell():
        return None
    try:
        return int(target.tell())
    except (OSError, ValueError):
        return None


def tell_kept(file: Any) -> int:
    """The cursor, before what is kept."""
    kept = file._kept
    if isinstance(kept, bytes):
        return int(file._file.tell()) - len(kept)
    raise OSError("the position is unknown after a cancelled read, until the next seek or read")


def read_kept(file: Any, name: str, arguments: tuple[Any, ...]) -> Any:
    """A read of a file that keeps something: of that first, then of the file."""
    size = arguments[0] if arguments else None
    if name in ("readinto", "readinto1"):
        return _read_kept_into(file, name, size)
    if name == "readlines":
        return _kept_lines(file, -1 if size is None else size)
    if name == "peek":
        return file._kept
    size = -1 if size is None else int(size)
    return _kept_line(file, size) if name == "readline" else _read_kept(file, name, size)


def _take(file: Any, size: int) -> Any:
    kept = file._kept
    if size < 0 or size >= len(kept):
        file._kept = None
        return kept
    file._kept = kept[size:]
    return kept[:size]


def _read_kept(file: Any, name: str, size: int) -> Any:
    data = _take(file, size)
    once = name == "read1" or (isinstance(file._file, io.RawIOBase) and name == "read" and size > 0)
    if file._kept is not None or once or len(data) == size:
        return data
    rest = getattr(file._file, name)(*(() if size < 0 else (size - len(data),)))
    return data + (rest or data[:0])


def _kept_line(file: Any, size: int) -> Any:
    kept = file._kept
    memory: Any
    if isinstance(kept, str):
        memory = io.StringIO(kept, newline="\n" if file._line_end is None else file._line_end)
    else:
        memory = io.BytesIO(kept)
    line = memory.readline(size)
    _take(file, len(line))
    ends = ("\n", "\r") if file._line_end == "" else file._line_end or "\n"
    whole = line.endswith(ends) if isinstance(line, str) else line.endswith(b"\n")
    if file._kept is not None or whole or len(line) == size:
        return line
    rest = file._file.readline(*(() if size < 0 else (size - len(line),)))
    return line + (rest or line[:0])


def _lines(file: Any) -> Iterator[Any]:
    while line := (_kept_line(file, -1) if file._kept is not None else file._file.readline()):
        yield line


def _kept_lines(file: Any, hint: int) -> list[Any]:
    lines, size = [], 0
    for line in _lines(file):
        lines.append(line)
        size += len(line)
        if 0 < hint <= size:
            break
    return lines


def _read_kept_into(file: Any, name: str, buffer: Any) -> int:
    with memoryview(buffer).cast("B") as view:
        data = _take(file, view.nbytes)
        view[: len(data)] = data
        if name == "readinto1" or isinstance(file._file, io.RawIOBase) or view.nbytes == len(data):
            return len(data)
        with view[len(data) :] as rest:
            return len(data) + int(file._file.readinto(rest) or 0)
