"""Describes the machine and the software of a run, for readers of its numbers."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path

from . import native

PACKAGES = ("aiofs", "uvloop", "caio", "aiofile", "ayafileio", "anyio", "aiofiles")


def facts(directory: Path, loop: str) -> dict[str, str]:
    return {
        "command": " ".join(["python -m benchmarks", *sys.argv[1:]]),
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "revision": revision(),
        "kernel": platform.release(),
        "processor": f"{os.cpu_count()} x {processor()}",
        "memory": memory(),
        "filesystem": filesystem(directory),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "loop": loop,
        "packages": ", ".join(versions()),
        "compiler": first_line(*native.compiler(), "--version"),
        "fio": first_line("fio", "--version"),
        "load before": f"{os.getloadavg()[0]:.2f}",
    }


def versions() -> list[str]:
    def version(package: str) -> str:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return "not installed"

    return [f"{package} {version(package)}" for package in PACKAGES]


def revision() -> str:
    root = str(Path(__file__).parent)
    name = first_line("git", "-C", root, "rev-parse", "--short", "HEAD")
    changed = first_line("git", "-C", root, "status", "--porcelain", "--untracked-files=no")
    return f"{name}, with changes" if changed else name


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


def first_line(*command: str) -> str:
    try:
        output = subprocess.run(command, capture_output=True, text=True).stdout
    except OSError:
        return "not installed"
    return output.partition("\n")[0]
