"""The keys of jobs: their values, defaults and meanings, as fio has them where fio has them.

The parser of a key checks a value. It takes what a command line gives (text) and what TOML gives
(numbers, booleans), and raises ValueError with a message that says what is allowed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiofs.bench.measuring.data import PAGE, GiB, KiB, MiB, size_text

UNITS = {"": 1, "k": KiB, "m": MiB, "g": GiB, "t": 1024 * GiB}
MOST_IN_FLIGHT = 100_000

RW = ("read", "write", "rw", "randread", "randwrite", "randrw")
CACHES = ("cached", "cold")
ENGINES = ("auto", "io_uring", "threads")
VOLUMES = ("file", "private", "memory", "host")
LOOPS = ("uvloop", "asyncio")


def size(value: Any) -> int:
    """Bytes: a number, or text such as 4k, 64KiB, 1g. Units are powers of 1024, as in fio."""
    found = re.fullmatch(r"([0-9]+)\s*([kmgt]?)(i?b)?", str(value).strip().lower())
    if isinstance(value, bool) or not found:
        raise ValueError("is no size: write bytes, or 4k, 1m, 2g")
    count = int(found[1]) * UNITS[found[2]]
    if count <= 0:
        raise ValueError("must be more than 0 bytes")
    return count


def seconds(value: Any) -> float:
    """A time: a number of seconds, or text such as 500ms, 2s, 1m."""
    found = re.fullmatch(r"([0-9]+\.?[0-9]*|\.[0-9]+)\s*(ms|s|m|)", str(value).strip().lower())
    if isinstance(value, bool) or not found:
        raise ValueError("is no time: write seconds, or 500ms, 2s, 1m")
    taken = float(found[1]) * {"ms": 1e-3, "m": 60}.get(found[2], 1)
    if not 0.001 <= taken <= 600:
        raise ValueError("must be from 1ms to 600s")
    return taken


def truth(value: Any) -> bool:
    names = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    answer = names.get(str(value).strip().lower())
    if answer is None:
        raise ValueError("choose from true and false")
    return answer


def number(least: int, most: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        text = str(value).strip()
        if isinstance(value, bool) or not re.fullmatch(r"-?[0-9]+", text):
            raise ValueError(f"is no number: write one from {least:,} to {most:,}")
        if not least <= int(text) <= most:
            raise ValueError(f"must be from {least:,} to {most:,}")
        return int(text)

    return parse


def choice(*names: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if value not in names:
            raise ValueError(f"choose from {', '.join(names)}")
        return str(value)

    return parse


def text(value: Any) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("must be the path of a file")
    return value


@dataclass(frozen=True)
class Key:
    """A key of a job. `many`: a job may list several values, and is measured with each."""

    parse: Callable[[Any], Any]
    default: Any
    meaning: str
    many: bool = False
    metavar: str = "VALUE"


KEYS = {
    "rw": Key(choice(*RW), "randread", "what is done: " + ", ".join(RW), metavar="RW"),
    "bs": Key(size, 4 * KiB, "bytes of one operation: 512, 4k, 1m", True, "SIZE"),
    "iodepth": Key(
        number(1, MOST_IN_FLIGHT), 1, "operations in flight, each of one coroutine", True, "N"
    ),
    "size": Key(size, 64 * MiB, "bytes of the file", True, "SIZE"),
    "direct": Key(truth, False, "O_DIRECT: past the page cache; for volume=file", metavar="BOOL"),
    "cache": Key(
        choice(*CACHES),
        "cached",
        "cached, or cold: the file is dropped from the page cache before each pass",
        metavar="CACHE",
    ),
    "engine": Key(
        choice(*ENGINES), "auto", "aiofs's engine: " + ", ".join(ENGINES), True, "ENGINE"
    ),
    "volume": Key(
        choice(*VOLUMES),
        "file",
        "how aiofs has the file: file (by its path), or through a handle of a private, host or "
        "memory volume; the others use its path, for memory one on tmpfs",
        True,
        "KIND",
    ),
    "runtime": Key(seconds, 0.2, "length of each of the two passes, such as 500ms", metavar="TIME"),
    "count": Key(
        number(1, 1 << 31), None, "operations in each pass, in place of a runtime", metavar="N"
    ),
    "rwmixread": Key(number(0, 100), 50, "how many percent of rw and randrw are reads", True, "N"),
    "fill": Key(size, 4 * KiB, "bytes of the writes that fill the file", metavar="SIZE"),
    "buffer_offset": Key(
        number(0, PAGE - 1),
        0,
        "how many bytes after the beginning of a page the buffers begin",
        True,
        "N",
    ),
    "verify": Key(truth, True, "check bytes in a pass of its own", metavar="BOOL"),
    "loop": Key(choice(*LOOPS), "uvloop", "the event loop: uvloop or asyncio", True, "LOOP"),
    "filename": Key(
        text,
        None,
        "a file: read if there is one, otherwise made and removed (default: a file of the run)",
        metavar="PATH",
    ),
}


def shown(key: str, value: Any) -> str:
    """A value as a person would write it, also of a key that jobs do not have."""
    if key not in KEYS:
        return size_text(value) if key == "bytes" else f"{value:,}"
    if KEYS[key].parse is size:
        short = size_text(value)
        return short.replace(" KiB", "k").replace(" MiB", "m").replace(" GiB", "g").split()[0]
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}s" if key == "runtime" else str(value)
