"""`aiofs config`: what compiles and links a C program with aiofs, and which `<aio.h>` one gets."""

from __future__ import annotations

import os
import re
import shlex
import subprocess

from aiofs.linking import get_include, get_library_dir
from aiofs.programs import Refused, dynamic_linker, find

__all__ = ["cflags", "check", "libs", "preload"]

_BINDING = re.compile(
    r"binding file (.*) \[\d+\] to (.*) \[\d+\]: normal symbol "
    r"`(?:aiofs_)?(?:aio_(?:read|write|fsync|error|return|suspend|cancel)|lio_listio)(?:64)?'"
)

_LIBRARY = os.path.join(get_library_dir(), "libaiofs.so")


def cflags() -> str:
    """Returns the flags for the compiler, quoted for the shell."""
    return shlex.quote(f"-I{get_include()}")


def libs() -> str:
    """Returns the flags for the linker, quoted for the shell."""
    directory = get_library_dir()
    return shlex.join([f"-L{directory}", f"-Wl,-rpath,{directory}", "-laiofs"])


def preload() -> str:
    """Returns the value of LD_PRELOAD. Raises ValueError if LD_PRELOAD cannot contain the path."""
    if any(character in _LIBRARY for character in " \t\n:$"):
        raise ValueError(
            f"{_LIBRARY}: LD_PRELOAD cannot name a path with a space, ':' or '$' in it: "
            "install aiofs elsewhere"
        )
    return _LIBRARY


def check(program: str) -> tuple[bool, str]:
    """Returns whether a program gets the `<aio.h>` of aiofs when it runs, and a text that says why.

    As ldd(1) does, this asks the dynamic linker, which binds all functions and does not run the
    program. The linker does not know libraries that a program loads later. Raises programs.Refused
    if the linker cannot be asked.
    """
    output = _bindings(program)
    if re.search(r"^\s*libaiofs\.so => not found", output, re.MULTILINE):
        return False, (
            f"{program}: cannot start, because libaiofs.so is not in any directory of its RUNPATH: "
            "link it with $(aiofs config --libs), or with a RUNPATH that exists at run time"
        )
    if "binding file" not in output:
        raise Refused(f"{program}: its dynamic linker does not print its bindings")
    bound = dict.fromkeys(match.groups() for match in _BINDING.finditer(output))
    if not bound:
        return False, f"{program}: uses no function of <aio.h>"
    lines = [f"{user}: <aio.h> is {_owner(library)}" for user, library in bound]
    good = all(os.path.basename(library) == "libaiofs.so" for _, library in bound)
    if not good:
        lines.append(
            "to get the <aio.h> of aiofs, put its flags behind the source and before -lc: "
            "cc prog.c $(aiofs config --cflags --libs)"
        )
    return good, "\n".join(lines)


def _owner(library: str) -> str:
    owner = "aiofs's" if os.path.basename(library) == "libaiofs.so" else "the C library's"
    return f"{owner}, {library}"


def _bindings(program: str) -> str:
    path = program if os.path.exists(program) else find(program)
    tracing = {"LD_TRACE_LOADED_OBJECTS": "1", "LD_BIND_NOW": "1", "LD_WARN": "1"}
    environment = {**os.environ, **tracing, "LD_DEBUG": "bindings"}
    environment.pop("LD_DEBUG_OUTPUT", None)
    command = [dynamic_linker(path), path if "/" in path else f"./{path}"]
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    return os.fsdecode(done.stdout)
