"""Builds programs and libraries in C, by the system's compiler, into the user's cache directory."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
from functools import cache
from pathlib import Path

from aiofs.bench.measuring.cache import Unavailable

SOURCES = Path(__file__).parent
FLAGS = ("-O2", "-Wall", "-Wextra", "-pthread")


def compiler() -> list[str]:
    """The command of the compiler, from CC. It may have more than one word."""
    return shlex.split(os.environ.get("CC") or "cc")


def cache_directory() -> Path:
    """The directory of the programs and, during a run, of the data files."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    directory = Path(home) / "aiofs-bench"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def floor() -> Path:
    """Builds the program that does the same I/O in C."""
    return build(SOURCES / "floor.c")


@cache
def beside() -> ctypes.CDLL:
    """Builds the library that runs C threads beside a loop."""
    library = ctypes.CDLL(str(build(SOURCES / "beside.c", "-shared", "-fPIC")))
    library.start.argtypes = [
        *(ctypes.c_int, ctypes.c_int, ctypes.c_size_t),
        *(ctypes.POINTER(ctypes.c_int64), ctypes.c_int64, ctypes.c_int),
        *(ctypes.POINTER(ctypes.c_void_p), ctypes.c_int),
    ]
    library.start.restype = ctypes.c_void_p
    library.finish.argtypes = [ctypes.c_void_p]
    return library


def build(source: Path, *flags: str) -> Path:
    """Compiles, unless the same was compiled before. Returns the path of the result."""
    command = [*compiler(), *FLAGS, *flags]
    key = hashlib.sha256(repr(command).encode() + source.read_bytes()).hexdigest()[:16]
    target = cache_directory() / f"{source.stem}-{key}"
    if target.exists():
        return target
    if not shutil.which(command[0]):
        raise Unavailable(f"there is no C compiler, {command[0]}: install gcc, or name one in CC")
    unfinished = target.with_suffix(f".{os.getpid()}")
    try:
        command = [*compiler(), *FLAGS, "-o", str(unfinished), str(source), *flags]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            complaint = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[0]
            raise Unavailable(f"{command[0]} cannot compile {source.name}: {complaint}")
        unfinished.rename(target)
    finally:
        unfinished.unlink(missing_ok=True)
    return target
