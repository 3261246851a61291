"""Fixtures for `aiofs run`: a program of steps, a volume, and somebody else who has it open."""

import pytest
from running import ROOT, compile_c

from aiofs import FileSystem, PrivateVolume


@pytest.fixture(scope="session")
def steps(tmp_path_factory):
    """tests/run/steps.c, whose arguments are calls of libc's by their own names."""
    source = ROOT / "tests" / "run" / "steps.c"
    return compile_c(source, tmp_path_factory.mktemp("programs") / "steps")


@pytest.fixture
def folder(tmp_path):
    """The volume's directory, with a file in it."""
    folder = tmp_path / "volume"
    folder.mkdir()
    (folder / "file").write_text("old bytes")
    return folder


@pytest.fixture
def outside(folder):
    """A FileSystem of this process on the volume: somebody else, for every session."""
    with PrivateVolume(folder) as volume, FileSystem() as filesystem:
        filesystem.mount("/", volume)
        yield filesystem
