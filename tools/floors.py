"""Prints which layer ("floor") of aiofs uses which, and fails if a lower one uses a higher one.

    python tools/floors.py           a line for each floor: the number of its files, what it uses
    python tools/floors.py --files   and a line for each file

It also fails if files use each other in a circle. A use is an #include, an import or a cimport,
except an import for types only (`if TYPE_CHECKING:`).
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "aiofs"

# The lowest floor first. Files and folders of aiofs/; a folder stands for all files below it.
FLOORS = {
    "sys": ["sys"],
    "entries": ["entries"],
    "engine": ["engine"],
    "dresses": ["posix", "preload", "include"],
    "errors": ["errors.py"],
    "core": ["_core.pyx", "core", "*.pxi", "*.pxd", "submission.h"],
    "filesystem": ["volumes", "filesystem.py", "handles.py", "files"],
    "faces": ["aio.py", "sqlite", "fsspec.py", "fuse.py", "sync"],
    "command": [
        *("__init__.py", "__main__.py", "cli.py", "demo", "doctor.py"),
        *("run_session.py", "linking.py", "programs.py", "run.py"),
    ],
}

# Known uses of a higher floor: (file, the file that it uses). Only remove from this list.
KNOWN: set[tuple[str, str]] = set()


def floor_of(path: Path) -> int:
    name = path.relative_to(PACKAGE)
    for number, places in enumerate(FLOORS.values()):
        for place in places:
            if name.parts[0] == place or (len(name.parts) == 1 and name.match(place)):
                return number
    raise SystemExit(f"floors: {name} is on no floor; FLOORS in {__file__} says which it is on")


def included_by(text: str) -> Iterator[Path]:
    """The headers and parts of aiofs that a text includes; their file names are unique."""
    for name in re.findall(r'^\s*(?:#\s*include|include|cdef extern from) "([^"]+)"', text, re.M):
        yield from PACKAGE.rglob(Path(name).name)


def cimported_by(text: str) -> Iterator[Path]:
    pattern = r"^(?:from aiofs(?:\.(\w+))? c?import (.+)|c?import aiofs\.(\w+).*)$"
    for module, names, other in re.findall(pattern, text, re.M):
        for name in [module or other] if module or other else re.findall(r"\w+", names):
            yield from module_named(f"aiofs.{name}")


def imported_by(tree: ast.AST) -> Iterator[Path]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from module_named(alias.name)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for alias in node.names:
                inner = list(module_named(f"{node.module}.{alias.name}"))
                yield from inner or module_named(node.module)
        else:
            yield from imported_by(node)


def module_named(name: str) -> Iterator[Path]:
    """The file of a module, if it is one of aiofs."""
    package, *rest = name.split(".")
    if package == "aiofs":
        path = PACKAGE.joinpath(*rest)
        for file in (path.with_suffix(".py"), path.with_suffix(".pyx"), path / "__init__.py"):
            if (file.exists() and path != PACKAGE) or file == PACKAGE / "__init__.py":
                yield file
                return


def used_by(path: Path) -> set[Path]:
    text = path.read_text()
    if path.suffix == ".py":
        used = imported_by(ast.parse(text))
    else:
        used = (*included_by(text), *cimported_by(text))
    return set(used) - {path}


def main(options: list[str]) -> int:
    suffixes = {".c", ".h", ".py", ".pyx", ".pxi", ".pxd"}
    generated = {PACKAGE / "_core.c"}
    files = sorted(p for p in PACKAGE.rglob("*") if p.suffix in suffixes and p not in generated)
    files = [path for path in files if path.parts[-2:-1] != ("demo",) or path.suffix == ".py"]
    uses = {path: used_by(path) for path in files}
    names = list(FLOORS)
    for number in reversed(range(len(names))):
        inside = [path for path in files if floor_of(path) == number]
        if not inside:
            continue
        below = {floor_of(used) for path in inside for used in uses[path]} - {number}
        print(f"{names[number]:<12}{len(inside):>3} files, uses {words(names, below)}")
        for path in inside if "--files" in options else []:
            print(f"    {name_of(path):<26}{' '.join(sorted(map(name_of, uses[path])))}")
    upwards = {
        (name_of(path), name_of(used))
        for path in files
        for used in uses[path]
        if floor_of(used) > floor_of(path)
    }
    for low, high in sorted(upwards - KNOWN):
        print(f"floors: aiofs/{low} reaches up to aiofs/{high}", file=sys.stderr)
    for low, high in sorted(KNOWN - upwards):
        print(f"floors: {low} does not use {high} any more: take it from KNOWN", file=sys.stderr)
    circle = circle_in(uses)
    if circle:
        print(f"floors: files use each other: {' '.join(map(name_of, circle))}", file=sys.stderr)
    return int(upwards != KNOWN or bool(circle))


def circle_in(uses: dict[Path, set[Path]]) -> list[Path]:
    try:
        TopologicalSorter(uses).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def words(names: list[str], floors: set[int]) -> str:
    return ", ".join(names[floor] for floor in sorted(floors, reverse=True)) or "nothing of ours"


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
