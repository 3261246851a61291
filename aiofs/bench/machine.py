"""Describes the machine and the software of a run, for readers of its numbers."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import os
import platform
from pathlib import Path

import aiofs
from aiofs.bench.measuring import native
from aiofs.bench.programs import first_line

PACKAGES = ("uvloop", "caio", "aiofile", "ayafileio", "anyio", "aiofiles", "turbofile", "urio")


def facts(directory: Path, command: str) -> dict[str, str]:
    """What a reader must know of a run whose files are in `directory`, by name."""
    return {
        "command": command,
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "kernel": platform.release(),
        "processor": f"{os.cpu_count()} x {processor()}",
        "memory": memory(),
        "filesystem": filesystem(directory),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": ", ".join([f"aiofs {aiofs.__version__}", *versions()]),
        "compiler": first_line(*native.compiler(), "--version"),
        "fio": first_line("fio", "--version"),
        "load before": f"{os.getloadavg()[0]:.2f}",
    }


def versions() -> list[str]:
    """The packages that are installed, and their versions."""
    found = []
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{package} {importlib.metadata.version(package)}")
    return found


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def memory() -> str:
    return f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / (1 << 30):.0f} GiB"


def filesystem(directory: Path) -> str:
    """The type and the options of the filesystem with the longest mount point above `directory`."""
    best, kind = "", "unknown"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, point, name, options, *_ = line.split()
        inside = point == "/" or f"{directory.resolve()}/".startswith(f"{point}/")
        if inside and len(point) >= len(best):
            best, kind = point, f"{name} ({options})"
    return kind
