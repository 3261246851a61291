"""`aiofs run`: runs an unmodified program with the <aio.h> of libaiofs.so instead of libc's.

The command replaces itself by the program (execve). So the program has the process, its parent, its
streams and its signals to itself, and its exit status reaches the caller directly. A program that
cannot be run in this way is refused before it starts, with one sentence.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from aiofs import _core
from aiofs.programs import NOT_EXECUTABLE, Refused, check, find
from aiofs.run_session import VARIABLE, open_session

__all__ = ["main"]

LIBRARY = Path(__file__).with_name("libaiofs.so")
RUN_LIBRARY = Path(__file__).with_name("libaiofs-run.so")
SHELL = "/bin/sh"
SANITIZER = re.compile(rb"(^|/)lib((a|hwa|l|m|t|ub)san|clang_rt\.[a-z]+san[^/]*)\.so[^/]*$")


def main(volumes: Sequence[str], engine: str | None, command: Sequence[str]) -> int:
    """Replaces this process by the program, or prints why not and returns the exit status."""
    try:
        program = find(command[0])
        check(program)
        choose(engine)
        variables = environment([LIBRARY, RUN_LIBRARY] if volumes else [LIBRARY])
        if volumes:
            variables[VARIABLE] = open_session(volumes, variables)
        become(program, command, variables)
    except Refused as refused:
        print(f"aiofs run: {refused}", file=sys.stderr)
        return refused.status


def choose(engine: str | None) -> None:
    """Sets and starts the engine, because the program could not report why its requests fail."""
    if engine is not None:
        os.environ["AIOFS_ENGINE"] = engine
    try:
        _core.engine()
    except OSError as error:
        raise Refused(str(error)) from None


def environment(libraries: Sequence[Path]) -> dict[bytes, bytes]:
    """Returns the environment of this process, with these libraries first in LD_PRELOAD.

    Only the run-time library of a sanitizer stays before them: it ends a program in which it is not
    the first library.
    """
    for path in libraries:
        if re.search(r"[\s:$]", str(path)):
            raise Refused(
                f"{path}: LD_PRELOAD cannot name a path with a space, ':' or '$' in it: "
                "install aiofs elsewhere"
            )
    variables = dict(os.environb)
    if not was_given(b"LC_CTYPE"):
        variables.pop(b"LC_CTYPE", None)
    ours = [*map(os.fsencode, libraries)]
    others = re.split(rb"[\s:]+", variables.get(b"LD_PRELOAD", b""))
    theirs = [path for path in others if path and path not in ours]
    preload = sorted(ours + theirs, key=lambda path: not SANITIZER.search(path))
    return variables | {b"LD_PRELOAD": b":".join(preload)}


def was_given(name: bytes) -> bool:
    """Whether this process was started with a variable. Python sets LC_CTYPE itself (PEP 538)."""
    try:
        given = Path("/proc/self/environ").read_bytes()
    except OSError:
        return True
    return any(line.startswith(name + b"=") for line in given.split(b"\0"))


def become(program: str, command: Sequence[str], variables: dict[bytes, bytes]) -> NoReturn:
    for ignored_by_python in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored_by_python, signal.SIG_DFL)
    try:
        os.execve(program, [*command], variables)
    except OSError as error:
        if error.errno == errno.ENOEXEC and is_text(program):
            check(SHELL)
            os.execve(SHELL, [SHELL, program, *command[1:]], variables)
        raise Refused(f"{program}: {error.strerror}", NOT_EXECUTABLE) from None


def is_text(path: str) -> bool:
    """Whether a file without `#!` may be a shell script."""
    try:
        with open(path, "rb") as file:
            return b"\0" not in file.read(128)
    except OSError:
        return False
