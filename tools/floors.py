"""Prints which layer ("floor") of aiofs uses which, and fails if a lower one uses a higher one.

    python tools/floors.py           a line for each floor: the number of its files, what it uses
    python tools/floors.py --files   and a line for each file

It also fails if

- files use each other in a circle, or C files call each other in a circle other than the engine's;
- a part of the core other than delivery names an event loop or a future;
- a function imports a module: imports stand at the top of a file. A function may import what an
  optional extra brings.

A use is an #include, an import or a cimport, also an import for types only (`if TYPE_CHECKING:`). A
part that `_core.pyx` includes belongs to it.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "aiofs"

# The lowest floor first. Files and folders of aiofs/; a folder stands for all files below it.
FLOORS = {
    "sys": ["sys"],
    "entries": ["entries"],
    "engine": ["engine"],
    "dresses": ["posix", "preload", "include"],
    "errors": ["errors.py"],
    "core": ["_core.pyx", "_core.pxd", "core", "aio.pxd"],
    "ops": ["volume_ops.py"],
    "files": ["files"],
    "handles": ["handles"],
    "volumes": ["volumes"],
    "filesystem": ["namespace.py", "dir_entry.py", "tree_calls.py", "filesystem.py"],
    "faces": ["aio.py", "sqlite", "fsspec.py", "fuse.py", "sync"],
    "command": [
        *("__init__.py", "__main__.py", "bench", "cli.py", "demo", "doctor.py"),
        *("config.py", "linking.py", "programs.py", "run.py", "run_session.py"),
    ],
}

# Imports in a function: the demo and the benchmarks load modules that no other command uses.
LATE = {("cli.py", "aiofs.demo"), ("cli.py", "aiofs.bench.command")}

# Known uses of a higher floor: (file, the file that it uses). Only remove from this list.
KNOWN: set[tuple[str, str]] = set()

# The one circle of calls between C files: a request that completes starts the next one of its file.
CYCLE = frozenset(
    f"engine/{name}.c"
    for name in (
        *("binding", "channel", "descriptor", "engine", "fd_table", "file", "host_threads", "lane"),
        *("main_exit", "notify", "outside", "poll", "pool", "reactor", "request", "ring", "wakeup"),
    )
)

# The part of the core that knows loops, and how one would be known: see `loops_in`.
CORE, DELIVERY = ("core", "_core"), "delivery"
COMMENT = r'"""(?s:.*?)"""|"[^"\n]*"|/\*(?s:.*?)\*/|#[^\n]*'  # and strings, and preprocessor lines
LOOPS = re.compile(
    r"\basyncio\b|\bfutures?\b|running_loop|call_soon|\.loop\b|\b(add|remove)_reader\b"
)


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
        if isinstance(node, ast.Import | ast.ImportFrom):
            for name in names_in(node):
                yield from module_named(name)
        else:
            yield from imported_by(node)


def names_in(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """Modules, as `package.module`; of something in a module, the module."""
    for alias in node.names:
        if isinstance(node, ast.Import):
            yield alias.name
        elif node.module and node.level == 0:
            inner = f"{node.module}.{alias.name}"
            yield inner if any(module_named(inner)) else node.module


def late_imports(path: Path) -> Iterator[str]:
    """Modules that functions of a file import: ours, and those of the standard library."""
    ours = sys.stdlib_module_names | {"aiofs"}
    for name in late_in_python(path) if path.suffix == ".py" else late_in_cython(path):
        if name.partition(".")[0] in ours and (name_of(path), name) not in LATE:
            yield name


def late_in_python(path: Path) -> Iterator[str]:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    for function in ast.walk(ast.parse(path.read_text())):
        for node in ast.walk(function) if isinstance(function, functions) else ():
            if isinstance(node, ast.Import | ast.ImportFrom):
                yield from names_in(node)


def late_in_cython(path: Path) -> Iterator[str]:
    pattern = r"^ +(?:from ([\w.]+) )?import ([\w.]+)"
    for module, name in re.findall(pattern, path.read_text(), re.M):
        yield module or name


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
        used = [*imported_by(ast.parse(text))]
    else:
        used = [*included_by(text), *cimported_by(text)]
    return {*used, *packages_of(used, path)} - {path}


def packages_of(used: Iterable[Path], user: Path) -> Iterator[Path]:
    """An import of a module from outside its package loads the package, too."""
    for path in used:
        package = path.with_name("__init__.py")
        if path.suffix == ".py" and path.parent not in (PACKAGE, user.parent) and package.exists():
            yield package


def calls(files: Iterable[Path]) -> dict[str, set[str]]:
    """Which C files use functions of which others; the files of CYCLE are one node."""
    sources = {p: re.sub(COMMENT, " ", p.read_text()) for p in files if p.suffix == ".c"}
    home = {
        name: path
        for path, text in sources.items()
        for name in re.findall(r"^(?!static\b)\w[\w *]*?\b(\w+)\([^;{}]*\)\n\{", text, re.M)
    }
    graph: dict[str, set[str]] = {}
    for path, text in sources.items():
        used = {home[name] for name in re.findall(r"\w+", text) if name in home}
        graph.setdefault(node_of(path), set()).update(map(node_of, used))
    return {node: used - {node} for node, used in graph.items()}


def node_of(path: Path) -> str:
    return "engine/(the completion cycle)" if name_of(path) in CYCLE else name_of(path)


def loops_in(path: Path) -> list[str]:
    """What code of the core, but for delivery, says of event loops; comments and strings may."""
    if (
        name_of(path).split("/")[0] not in ("core", "_core.pyx", "_core.pxd")
        or path.stem == DELIVERY
    ):
        return []
    return [found[0] for found in LOOPS.finditer(re.sub(COMMENT, "", path.read_text()))]


def main(options: list[str]) -> int:
    suffixes = {".c", ".h", ".py", ".pyx", ".pxi", ".pxd"}
    generated = {PACKAGE / "_core.c"}
    files = sorted(p for p in PACKAGE.rglob("*") if p.suffix in suffixes and p not in generated)
    programs = {PACKAGE / "demo", PACKAGE / "bench" / "measuring"}  # C that is no part of aiofs
    files = [path for path in files if path.parent not in programs or path.suffix == ".py"]
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
    late = [(name_of(path), name) for path in files for name in late_imports(path)]
    for low, name in late:
        print(f"floors: a function of aiofs/{low} imports {name}", file=sys.stderr)
    loops = {path: found for path in files if (found := loops_in(path))}
    for path, found in loops.items():
        print(f"floors: {name_of(path)} knows a loop: {', '.join(found)}", file=sys.stderr)
    circle = circle_in(uses)
    if circle:
        print(f"floors: files use each other: {' '.join(map(name_of, circle))}", file=sys.stderr)
    called = circle_in(calls(files))
    if called:
        print(f"floors: C files call each other in a circle: {' '.join(called)}", file=sys.stderr)
    return int(upwards != KNOWN or bool(late or loops or circle or called))


def circle_in(uses: dict[T, set[T]]) -> list[T]:
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
