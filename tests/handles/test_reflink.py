"""The modes that work on a copy, where files can share extents: btrfs and xfs, on loop devices."""

import os
import shutil
import subprocess

import pytest

import aiofs
from aiofs import files

MIB = 1 << 20
SIZE = 64 * MIB
MAKE = {"btrfs": ["mkfs.btrfs", "-q", "-f"], "xfs": ["mkfs.xfs", "-q", "-f", "-m", "reflink=1"]}


@pytest.fixture(scope="module", params=MAKE)
def mounted(request, tmp_path_factory):
    """A directory on a filesystem of that kind."""
    if os.geteuid() != 0 or not shutil.which(MAKE[request.param][0]):
        pytest.skip(f"needs root and {MAKE[request.param][0]}")
    folder = tmp_path_factory.mktemp(request.param)
    image, mount = folder / "image", folder / "mount"
    mount.mkdir()
    with image.open("wb") as file:
        file.truncate(512 * MIB)
    subprocess.run([*MAKE[request.param], image], check=True)
    done = subprocess.run(["mount", "-o", "loop", image, mount], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot mount it: {done.stderr.strip()}")
    yield mount
    subprocess.run(["umount", "--lazy", mount], check=True)


@pytest.fixture(params=["private", "host"])
def volume(request, mounted, tmp_path):
    folder = mounted / tmp_path.name
    folder.mkdir()
    kind = aiofs.PrivateVolume if request.param == "private" else aiofs.HostVolume
    with kind(folder) as opened:
        yield opened
    shutil.rmtree(folder)


def used(folder):
    """Bytes of the filesystem that are in use, with all that is written on the disk."""
    subprocess.run(["sync", "--file-system", folder], check=True)
    status = os.statvfs(folder)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


async def large_file(volume):
    file = await volume.root.get_file_handle("large", create=True)
    async with file.create_access_handle(mode="in-place") as handle:
        block = os.urandom(MIB)
        for number in range(SIZE // MIB):
            await handle.write(block[number:] + block[:number])
    return file


@pytest.mark.parametrize("mode", ["exclusive", "shared"])
async def test_copy_takes_no_space_until_it_is_changed(volume, mounted, mode):
    file = await large_file(volume)
    before = used(mounted)
    async with file.create_access_handle(mode=mode) as handle:
        await handle.write(b"changed", at=SIZE // 2)
        await handle.flush()
        assert used(mounted) - before < SIZE // 4
        assert await (await file.get_file()).slice(SIZE // 2, SIZE // 2 + 7).read() != b"changed"
    found = await file.get_file()
    assert found.size == SIZE
    assert await found.slice(SIZE // 2, SIZE // 2 + 7).read() == b"changed"
    assert used(mounted) - before < SIZE // 4


async def test_writable_that_keeps_the_bytes_takes_no_space(volume, mounted):
    file = await large_file(volume)
    before = used(mounted)
    async with file.create_writable(keep_existing_data=True) as stream:
        await stream.write(b"changed", position=0)
        assert used(mounted) - before < SIZE // 4
    assert await (await file.get_file()).slice(0, 7).read() == b"changed"


async def test_several_copies_are_alone_with_their_changes(volume):
    file = await large_file(volume)
    first = await file.create_access_handle(mode="shared")
    second = await file.create_access_handle(mode="shared")
    await first.write(b"first", at=0)
    await second.write(b"second", at=100)
    buffer = bytearray(5)
    assert await second.read(buffer, at=0) == 5 and buffer != b"first"
    await first.close()
    await second.close()  # the last close wins
    found = await file.get_file()
    assert await found.slice(100, 106).read() == b"second"
    assert await found.slice(0, 5).read() == buffer


async def test_commit_keeps_mode_and_attributes(volume, mounted):
    file = await large_file(volume)
    path = next(mounted.glob("*/large"))
    path.chmod(0o640)
    os.setxattr(path, "user.note", b"kept")
    async with file.create_access_handle(mode="exclusive") as handle:
        await handle.truncate(10)
    assert path.stat().st_size == 10 and path.stat().st_mode & 0o777 == 0o640
    assert os.getxattr(path, "user.note") == b"kept"


async def test_copies_and_atomic_files_by_path_share_extents(mounted, tmp_path):
    folder = mounted / tmp_path.name
    folder.mkdir()
    (folder / "from").write_bytes(os.urandom(SIZE))
    before = used(mounted)
    await files.copyfile(folder / "from", folder / "to")
    async with files.open(folder / "to", "r+b", atomic=True, durable=True) as file:
        await file.write(b"changed")
    assert used(mounted) - before < SIZE // 4
    assert (folder / "to").read_bytes()[7:] == (folder / "from").read_bytes()[7:]
    assert os.listdir(folder) == ["from", "to"] or set(os.listdir(folder)) == {"from", "to"}
    shutil.rmtree(folder)
