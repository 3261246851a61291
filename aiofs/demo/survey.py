"""Finds the files that the demo copies, and a directory for its volume."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from aiofs import _core
from aiofs.demo.screen import printable, size


class Refused(Exception):
    """The demo cannot begin. The message says why."""


class Source(NamedTuple):
    """A file to copy, with its size at the time of the survey."""

    path: str
    name: str  # in the volume
    size: int


@dataclass
class Survey:
    """The files to copy, and for all others the reason why they are not copied."""

    title: str
    files: list[Source] = field(default_factory=list)
    directories: list[str] = field(default_factory=list)  # in the volume, parents first
    left_out: list[tuple[str, str]] = field(default_factory=list)  # not regular files
    failed: list[tuple[str, str]] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        return sum(file.size for file in self.files)

    @classmethod
    def of(cls, path: str | None) -> Survey:
        """Surveys a tree or one file, or without a path the standard library."""
        root = os.path.abspath(sysconfig.get_path("stdlib") if path is None else path)
        survey = cls(printable(root))
        try:
            is_directory = stat.S_ISDIR(os.stat(root).st_mode)
        except OSError as error:
            raise Refused(f"{printable(root)}: {error.strerror}") from None
        if path is None:
            survey.title += ", without its site-packages"
            survey.look_into(root, "", without=("site-packages", "dist-packages"))
        elif is_directory:
            survey.look_into(root, "")
        else:
            root = os.path.realpath(root)
            survey.look_at(root, "/" + os.path.basename(root))
        if not survey.files:
            why = "".join(f" ({reason})" for _, reason in (survey.failed + survey.left_out)[:1])
            raise Refused(f"{printable(root)}: there is no file to copy{why}")
        return survey

    def look_into(self, path: str, name: str, without: tuple[str, ...] = ()) -> None:
        try:
            found = sorted(os.listdir(path))
        except OSError as error:
            self.failed.append((path, error.strerror or str(error)))
            return
        for entry in found:
            if entry not in without:
                self.look_at(os.path.join(path, entry), f"{name}/{entry}")

    def look_at(self, path: str, name: str) -> None:
        try:
            seen = os.lstat(path)
        except OSError as error:
            self.failed.append((path, error.strerror or str(error)))
            return
        if name == "/.aiofs":
            self.left_out.append((path, "a name that volumes keep for themselves"))
        elif stat.S_ISDIR(seen.st_mode):
            self.directories.append(name)
            self.look_into(path, name)
        elif stat.S_ISREG(seen.st_mode):
            self.files.append(Source(path, name, seen.st_size))
        elif stat.S_ISLNK(seen.st_mode):
            self.left_out.append((path, "a symbolic link"))
        else:
            self.left_out.append((path, "neither file nor directory"))


@contextmanager
def place_for_volume(wanted: str | None, survey: Survey) -> Iterator[Path]:
    """Yields an empty directory with room for the files: the given one, or a temporary one."""
    if wanted is None:
        made = tempfile.mkdtemp(prefix="aiofs-demo-")
        try:
            check_room(made, survey)
            yield Path(made)
        finally:
            remove(made)
        return
    directory = Path(wanted).absolute()
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        if any(directory.iterdir()):
            raise Refused(f"{directory}: is not empty, and the demo writes into new volumes only")
    except OSError as error:
        raise Refused(f"{directory}: {error.strerror}") from None
    check_room(wanted, survey)
    yield directory


def remove(directory: str) -> None:
    """Removes a directory after all requests in it have ended, and ignores SIGINT meanwhile."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        _core.drain_engine()
        shutil.rmtree(directory)
    finally:
        signal.signal(signal.SIGINT, before)


def check_room(directory: str, survey: Survey) -> None:
    free = shutil.disk_usage(directory).free
    if free < survey.bytes:
        raise Refused(
            f"{directory}: {size(survey.bytes)} are to be copied, and {size(free)} are free; "
            "--volume names another place"
        )
