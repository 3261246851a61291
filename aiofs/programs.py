"""Finds a program as a shell does, and checks whether libraries can be preloaded into it."""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path
from typing import BinaryIO

__all__ = [
    *("NOT_EXECUTABLE", "NOT_FOUND", "REFUSED", "Refused"),
    *("check", "dynamic_linker", "find"),
]

# The exit statuses that shells and env(1) use for programs that they cannot run.
REFUSED, NOT_EXECUTABLE, NOT_FOUND = 2, 126, 127

LIBRARY = Path(__file__).with_name("libaiofs.so")
INTERPRETERS_MAX = 5  # the kernel's limit for scripts whose interpreters are scripts


class Refused(Exception):
    """A program cannot be run. The message says why; `status` is the exit status to use."""

    def __init__(self, message: str, status: int = REFUSED) -> None:
        super().__init__(message)
        self.status = status


def find(name: str) -> str:
    """Returns the file that a shell would run for this name. Raises Refused if there is none."""
    if "/" in name:
        candidates = [name]
    else:
        folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
        candidates = [os.path.join(folder or ".", name) for folder in folders if name]
    there = [path for path in candidates if os.path.exists(path)]
    for path in there:
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    if not there:
        why = "no such file" if "/" in name else "not found on PATH"
        raise Refused(f"{name}: {why}", NOT_FOUND)
    why = "is a directory" if os.path.isdir(there[0]) else "is not executable, see chmod(1)"
    raise Refused(f"{there[0]}: {why}", NOT_EXECUTABLE)


def check(path: str, depth: int = 0) -> None:
    """Raises Refused for a program into which the dynamic linker would not load libaiofs.so.

    A file that is neither ELF nor a script passes, and so does a file that cannot be read: execve
    will accept or refuse it.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(4)
            if start == b"\x7fELF":
                _check_elf(path, file)
            elif start[:2] == b"#!" and depth < INTERPRETERS_MAX:
                file.seek(2)
                words = file.readline(4096).split()
                if words:
                    check(os.fsdecode(words[0]), depth + 1)
    except PermissionError:
        pass
    except FileNotFoundError:
        raise Refused(f"{path}: the interpreter of the script is missing", NOT_FOUND) from None


def dynamic_linker(path: str) -> str:
    """Returns the dynamic linker of a program. Raises Refused if it would not load libaiofs.so."""
    try:
        with open(path, "rb") as file:
            if file.read(4) != b"\x7fELF":
                raise Refused(f"{path}: is not an ELF file: check its interpreter instead")
            return os.fsdecode(_dynamic_linker(path, file))
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from None


def _check_elf(path: str, file: BinaryIO) -> None:
    _dynamic_linker(path, file)
    if _gains_privileges(path):
        raise Refused(
            f"{path}: runs with rights of its own (set-user-ID, set-group-ID or capabilities), "
            "and nothing is preloaded into such a program: run a copy without them"
        )


def _dynamic_linker(path: str, file: BinaryIO) -> bytes:
    with open(LIBRARY, "rb") as library, open("/proc/self/exe", "rb") as python:
        ours, libc = _Elf(library), _Elf(python).interpreter()
    elf = _Elf(file)
    if elf.kind != ours.kind:
        raise Refused(
            f"{path}: is built for another kind of machine than {LIBRARY}: "
            "use an aiofs that was built for that kind of machine"
        )
    interpreter = elf.interpreter()
    if interpreter is None:
        raise Refused(
            f"{path}: is statically linked, so its functions cannot be replaced: "
            "link it dynamically, or with libaiofs"
        )
    if libc and os.path.basename(interpreter) != os.path.basename(libc):
        raise Refused(
            f"{path}: uses another C library than aiofs ({os.fsdecode(interpreter)}): "
            "use an aiofs that was built for that C library"
        )
    return interpreter


class _Elf:
    """The header of an ELF file. The program headers are read only when they are needed."""

    def __init__(self, file: BinaryIO) -> None:
        file.seek(0)
        header = file.read(64).ljust(64, b"\0")
        self.file = file
        self.wide = header[4] == 2
        fields = struct.unpack_from("=16sHHIQQQIHHH" if self.wide else "=16sHHIIIIIHHH", header)
        self.kind = fields[0][4:6], fields[2]  # word size and byte order; machine
        self.offset, self.size, self.count = fields[5], fields[9], fields[10]

    def interpreter(self) -> bytes | None:
        """Returns the dynamic linker (PT_INTERP), or None if the file is static.

        The file must be for this kind of machine.
        """
        PT_INTERP = 3
        for index in range(self.count):
            self.file.seek(self.offset + index * self.size)
            layout = struct.Struct("=IIQQQQQQ" if self.wide else "=IIIIIIII")
            fields = layout.unpack(self.file.read(layout.size).ljust(layout.size, b"\0"))
            if fields[0] == PT_INTERP:
                self.file.seek(fields[2] if self.wide else fields[1])
                name: bytes = self.file.read(fields[5] if self.wide else fields[4])
                return name.rstrip(b"\0")
        return None


def _gains_privileges(path: str) -> bool:
    """Returns whether the kernel would set AT_SECURE, so that the linker ignores LD_PRELOAD."""
    if os.statvfs(path).f_flag & os.ST_NOSUID:
        return False
    status = os.stat(path)
    if status.st_mode & stat.S_ISUID and status.st_uid != os.getuid():
        return True
    group = stat.S_ISGID | stat.S_IXGRP
    if status.st_mode & group == group and status.st_gid != os.getgid():
        return True
    try:
        return os.getuid() != 0 and bool(os.getxattr(path, "security.capability"))
    except OSError:
        return False
