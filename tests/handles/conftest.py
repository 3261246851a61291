"""Volumes of each kind, and a file that is not open."""

import pytest
from opened import CONTENT
from support import write_file
from volumes.dict_volume import DictVolume

from aiofs import FileHandle, MemoryVolume, PrivateVolume


@pytest.fixture(params=["private", "memory", "dict"])
def volume(request, tmp_path):
    made = {
        "private": lambda: PrivateVolume(tmp_path / "volume"),
        "memory": MemoryVolume,
        "dict": DictVolume,
    }
    with made[request.param]() as volume:
        yield volume


@pytest.fixture
def file(volume):
    """The handle of a file with CONTENT."""
    write_file(volume, "file", CONTENT)
    return FileHandle._of(volume, "file")


@pytest.fixture
def on_disk(tmp_path):
    """The same file, in a private volume."""
    with PrivateVolume(tmp_path / "volume") as volume:
        write_file(volume, "file", CONTENT)
        yield FileHandle._of(volume, "file")
