"""The C programs of single goals."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import aiofs
from aiofs.bench.measuring.native import build

SOURCES = Path(__file__).parent
PACKAGE = Path(aiofs.__file__).parent
LIBRARY = (str(PACKAGE / "libaiofs.so"), f"-Wl,-rpath,{PACKAGE}")


@cache
def crowd() -> Path:
    """Builds the program with many requests in flight, by the <aio.h> of the installed aiofs."""
    headers = [f"-I{PACKAGE / floor}" for floor in ("sys", "entries", "engine")]
    return build(SOURCES / "crowd.c", *headers, *LIBRARY)


@cache
def hand_round() -> Path:
    """Builds the program that hands a locked file round processes, with the installed aiofs."""
    return build(SOURCES / "hand_round.c", f"-I{PACKAGE / 'include'}", *LIBRARY)


@cache
def save_tree() -> Path:
    """Builds the program that saves a tree of files by threads."""
    return build(SOURCES / "save_tree.c")


@cache
def futex_round() -> Path:
    """Builds the program that hands a turn round processes by futexes."""
    return build(SOURCES / "futex_round.c")
