"""The C parts of the benchmarks, built by the system's compiler into the user's cache directory."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

SOURCES = Path(__file__).parent
FLAGS = ("-O2", "-Wall", "-Wextra", "-pthread")


def compiler() -> list[str]:
    """The command of the compiler, from CC. It may have more than one word."""
    return shlex.split(os.environ.get("CC", "cc"))


def cache_directory() -> Path:
    """The directory of the programs and, during a run, of the data files."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    directory = Path(home) / "aiofs-benchmarks"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


@cache
def floor() -> Path:
    """Builds the program that does the same I/O in C."""
    return build("floor.c")


@cache
def crowd() -> Path:
    """Builds the program with many requests in flight, by the <aio.h> of the installed aiofs."""
    import aiofs

    package = Path(aiofs.__file__).parent
    library = str(package / "libaiofs.so")
    headers = [f"-I{package / floor}" for floor in ("sys", "entries", "engine")]
    return build("crowd.c", *headers, library, f"-Wl,-rpath,{package}")


@cache
def hand_round() -> Path:
    """Builds the program that hands a locked file round processes, with the installed aiofs."""
    import aiofs

    package = Path(aiofs.__file__).parent
    library = str(package / "libaiofs.so")
    return build("hand_round.c", f"-I{package / 'include'}", library, f"-Wl,-rpath,{package}")


@cache
def futex_round() -> Path:
    """Builds the program that hands a turn round processes by futexes."""
    return build("futex_round.c")


@cache
def beside() -> ctypes.CDLL:
    """Builds the library that beats, counts resident pages and runs C threads beside a loop."""
    library = ctypes.CDLL(str(build("beside.c", "-shared", "-fPIC")), use_errno=True)
    library.ticker.argtypes = [ctypes.c_int64, ctypes.c_int64]
    library.resident.argtypes = [ctypes.c_int]
    library.resident.restype = ctypes.c_int64
    library.start.argtypes = [
        *(ctypes.c_int, ctypes.c_int, ctypes.c_size_t),
        *(ctypes.POINTER(ctypes.c_int64), ctypes.c_int64, ctypes.c_int),
        *(ctypes.POINTER(ctypes.c_void_p), ctypes.c_int),
    ]
    library.start.restype = ctypes.c_void_p
    library.finish.argtypes = [ctypes.c_void_p]
    return library


def check(result: int) -> int:
    """Returns the result of a function of `beside`. Raises OSError if it is -1."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def build(source: str, *flags: str) -> Path:
    """Compiles, unless the same was compiled before. Returns the path of the result."""
    path = SOURCES / source
    command = [*compiler(), *FLAGS, *flags]
    key = hashlib.sha256(repr(command).encode() + path.read_bytes()).hexdigest()[:16]
    target = cache_directory() / f"{path.stem}-{key}"
    if not target.exists():
        if not shutil.which(command[0]):
            sys.exit(f"the benchmarks need a C compiler, and there is no {command[0]}")
        unfinished = target.with_suffix(f".{os.getpid()}")
        command = [*compiler(), *FLAGS, "-o", str(unfinished), str(path), *flags]
        subprocess.run(command, check=True)
        unfinished.rename(target)
    return target
