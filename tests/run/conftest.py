"""Fixtures for `aiofs run`: the program steps.c, a volume, and a FileSystem outside the session."""

import pytest
from running import ROOT, compile_c
from support import mounted

from aiofs import PrivateVolume


@pytest.fixture(scope="session")
def steps(tmp_path_factory):
    """tests/run/steps.c, compiled. Its arguments are names of libc functions to call."""
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
    """A FileSystem of this process on the volume: another holder for every session."""
    with PrivateVolume(folder) as volume, mounted(volume) as filesystem:
        yield filesystem
