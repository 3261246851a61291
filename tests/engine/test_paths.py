"""Paths cannot leave their volume by '..' or symbolic links, with openat2 and without."""

import errno
import os

import pytest
from support import failed

import aiofs
from aiofs import _core


@pytest.fixture(params=[None, errno.ENOSYS, errno.EPERM], ids=["openat2", "ENOSYS", "EPERM"])
def openat2(request):
    """openat2 as the kernel has it, or refused as by an old kernel, or as by seccomp."""
    if request.param is not None:
        request.getfixturevalue("faults").fail("openat2", request.param)


@pytest.fixture
def place(tmp_path):
    """A volume with links that lead in and out, and a directory with a secret beside it."""
    (tmp_path / "secret").write_text("secret")
    volume = tmp_path / "volume"
    (volume / "inside").mkdir(parents=True)
    (volume / "inside/file").write_text("mine")
    (volume / "up").symlink_to("..")
    (volume / "out").symlink_to(tmp_path)
    (volume / "secret").symlink_to("../secret")
    (volume / "in").symlink_to("inside")
    (volume / "inside/turn").symlink_to("../inside/file")
    (volume / "loop").symlink_to("loop")
    (volume / "dangling").symlink_to("inside/new")
    return volume


OUT = ["up/secret", "out/secret", "secret", "in/../up/secret"]
INSIDE = ["in/file", "inside/turn", "in/turn"]


def read(ops, path):
    opened = ops.open(path, os.O_RDONLY, 0, _core.LOCK_NONE, 0)
    try:
        return opened.read(100, 0)
    finally:
        opened.close()


@pytest.mark.usefixtures("openat2")
@pytest.mark.parametrize("flags", [0, _core.VOLUME_HOST], ids=["private", "host"])
@pytest.mark.parametrize("path", OUT)
def test_no_path_leads_out_of_a_volume(place, flags, path):
    ops = _core.DirectoryOps(place, flags=flags)
    before = (place / "../secret").read_text()
    operations = [
        lambda: read(ops, path),
        lambda: ops.open(path, os.O_RDWR | os.O_TRUNC, 0, _core.LOCK_EXCLUSIVE, 0),
        lambda: ops.open(path, os.O_RDWR | os.O_CREAT, 0o666, _core.LOCK_EXCLUSIVE, 0),
        lambda: ops.stat(path),
        lambda: ops.truncate(path, 0),
        lambda: ops.mkdir(path + "/new"),
        lambda: ops.rename("inside/file", path + "/new"),
    ]
    for operation in operations:
        with pytest.raises(OSError) as refused:
            operation()
        assert refused.value.errno in (errno.EXDEV, errno.ELOOP)
        assert path.split("/")[0] in str(refused.value)
    assert (place / "../secret").read_text() == before
    assert ops.lock_count("") == 0
    ops.close()


@pytest.mark.usefixtures("openat2")
@pytest.mark.parametrize("path", ["..", "../secret", "inside/../../x", "../volume/inside/file"])
def test_dot_dot_does_not_lead_above_the_root(place, path):
    ops = _core.DirectoryOps(place)
    with pytest.raises(aiofs.InvalidModificationError) as refused:
        ops.stat(path)
    assert refused.value.errno == errno.EXDEV
    ops.close()


@pytest.mark.usefixtures("openat2")
@pytest.mark.parametrize("path", INSIDE)
def test_inside_links_are_refused_in_private_volumes(place, path):
    ops = _core.DirectoryOps(place)
    failed(errno.ELOOP, read, ops, path)
    ops.close()


@pytest.mark.usefixtures("openat2")
@pytest.mark.parametrize("path", INSIDE)
def test_inside_links_are_followed_in_host_volumes_and_the_target_locked(place, path):
    ops = _core.DirectoryOps(place, flags=_core.VOLUME_HOST)
    assert read(ops, path) == b"mine"
    held = ops.open(path, os.O_RDWR, 0, _core.LOCK_EXCLUSIVE, 0)
    for same in ("inside/file", *INSIDE):
        with pytest.raises(aiofs.NoModificationAllowedError):
            ops.open(same, os.O_RDWR, 0, _core.LOCK_EXCLUSIVE, 0)
    held.close()
    ops.close()


@pytest.mark.usefixtures("openat2")
def test_dangling_link_inside_a_host_volume_is_made_at_its_target(place):
    ops = _core.DirectoryOps(place, flags=_core.VOLUME_HOST)
    ops.open("dangling", os.O_RDWR | os.O_CREAT, 0o666, _core.LOCK_EXCLUSIVE, 0).close()
    assert (place / "inside/new").exists() and (place / "dangling").is_symlink()
    failed(errno.ELOOP, read, ops, "loop")
    ops.close()


@pytest.mark.usefixtures("openat2")
@pytest.mark.parametrize("flags", [0, _core.VOLUME_HOST], ids=["private", "host"])
def test_reserved_names_of_aiofs_are_not_found(place, flags):
    ops = _core.DirectoryOps(place, flags=flags)
    (place / "kept").symlink_to(".aiofs")
    names = [".aiofs", ".aiofs/volume", "inside/../.aiofs/volume", "./.aiofs"]
    for name in names + ["kept/volume"] * bool(flags):
        with pytest.raises(FileNotFoundError):
            ops.stat(name)
        with pytest.raises(FileNotFoundError):
            ops.open(name, os.O_RDWR | os.O_CREAT, 0o666, _core.LOCK_EXCLUSIVE, 0)
        with pytest.raises(FileNotFoundError):
            ops.rename("inside", name)
    assert ".aiofs" not in {name for name, _ in ops.scan("")}
    ops.close()


@pytest.mark.usefixtures("openat2")
def test_names_and_paths_are_limited_to_name_max_and_path_max(place):
    ops = _core.DirectoryOps(place)
    ops.open("n" * 255, os.O_RDWR | os.O_CREAT, 0o666, _core.LOCK_EXCLUSIVE, 0).close()
    for path in ("n" * 256, "é" * 128, "/".join(["d" * 200] * 30)):
        failed(errno.ENAMETOOLONG, ops.mkdir, path)
    ops.close()


@pytest.mark.usefixtures("openat2")
def test_file_as_a_path_component_is_enotdir(place):
    ops = _core.DirectoryOps(place)
    for path in ("inside/file/below", "inside/file/"):
        with pytest.raises(NotADirectoryError):
            ops.stat(path)
    with pytest.raises(NotADirectoryError):
        read(ops, "inside/file/")
    with pytest.raises(IsADirectoryError):
        read(ops, "inside/")
    ops.close()
