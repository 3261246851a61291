"""What one process measures: the same operations, on the same bytes, for every participant."""

import asyncio
import ctypes
import shutil
import time
from dataclasses import replace

import pytest

from aiofs.bench.measuring import measure as measuring
from aiofs.bench.measuring.cache import Unavailable, drop_cache, load_cache, pages_in_cache
from aiofs.bench.measuring.data import PAGE, DataFile, KiB, content
from aiofs.bench.measuring.heartbeat import Heartbeat
from aiofs.bench.measuring.libraries.base import Library
from aiofs.bench.measuring.libraries.peers import ToThread
from aiofs.bench.measuring.work import Work, new_buffers, shares
from aiofs.bench.participants import PARTICIPANTS
from aiofs.bench.running import Python, measure, run


@pytest.fixture
def work(tmp_path):
    """Reads of a small file, for a moment."""
    file = DataFile("file", 64 * KiB)
    tmp_path.chmod(0o700)
    file.make(tmp_path)
    return Work(file, seconds=0.001, observed=0.001, directory=str(tmp_path), volume="file")


@pytest.mark.parametrize("operation", ["read", "write", "mixed"])
@pytest.mark.parametrize(
    ("name", "volume"),
    [
        *(("aiofs", volume) for volume in ("file", "private", "host", "memory")),
        *(("aiofs-sync", volume) for volume in ("private", "memory")),
        *((name, "file") for name in ("aiofs-aio", "threads", "blocking")),
    ],
)
def test_participant_moves_the_bytes_in_every_volume(work, name, volume, operation):
    found = measure(
        PARTICIPANTS[name].what, replace(work, volume=volume, operation=operation, depth=3)
    )
    assert found.metrics["time"] > 0 and found.metrics["p50"] > 0
    assert found.about["reads into"] == "the given buffers"


@pytest.mark.parametrize("state", ["cached", "cold", "direct"])
@pytest.mark.parametrize("operation", ["read", "write", "mixed"])
def test_floor_does_every_operation_on_every_state_of_the_file(compiler, work, operation, state):
    work = replace(work, operation=operation, depth=3, cold=state == "cold")
    found = measure(PARTICIPANTS["C"].what, replace(work, direct=state == "direct"))
    assert found.metrics["p0"] <= found.metrics["p50"] <= found.metrics["p100"]


def test_floor_notices_other_bytes(compiler, work):
    with open(work.path, "r+b") as file:
        file.write(b"x" * work.file.size)
    with pytest.raises(Unavailable, match="other bytes"):
        measure(PARTICIPANTS["C"].what, work)
    assert measure(PARTICIPANTS["C"].what, replace(work, verify=False)).metrics["time"] > 0


def test_floor_makes_as_many_operations_as_are_asked_for(compiler, work):
    begun = time.monotonic()
    measure(PARTICIPANTS["C"].what, replace(work, sweep=10, seconds=60, observed=60))
    assert time.monotonic() - begun < 60


@pytest.mark.parametrize("shift", [0, 16])
def test_buffers_lie_where_the_job_says(shift):
    for count in (2, 3000):
        for buffer in new_buffers(count, 100, shift)[:3]:
            address = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
            assert (address % PAGE, len(buffer)) == (shift, 100)


@pytest.mark.parametrize("operation", ["read", "write", "mixed"])
def test_participants_take_buffers_that_lie_badly(compiler, work, operation):
    work = replace(work, shift=16, operation=operation)
    for name in ("C", "aiofs", "threads"):
        assert measure(PARTICIPANTS[name].what, work).metrics["time"] > 0


@pytest.mark.parametrize("operation", ["read", "write", "mixed"])
def test_wrong_bytes_are_noticed(work, operation):
    class Wrong(ToThread):
        """Moves nothing."""

        async def read(self, lane, offsets):
            for _ in offsets:
                await asyncio.sleep(0)
            return self.buffers[lane]

        async def write(self, lane, offsets):
            await self.read(lane, offsets)

        mixed = read

    with pytest.raises(AssertionError, match="wrong bytes"):
        measuring.measure(Wrong, replace(work, operation=operation))


def test_offsets_are_the_same_for_all_and_cover_the_file(work):
    offsets = replace(work, operation="mixed", reads=70).offsets()
    assert offsets == replace(work, operation="mixed", reads=70).offsets()
    assert sorted(at if at >= 0 else ~at for at in offsets) == [*range(0, work.file.size, PAGE)]
    assert 0 < sum(at < 0 for at in offsets) < len(offsets)
    assert sorted(at for lane in shares(offsets, 3) for at in lane) == sorted(offsets)


def test_offsets_of_a_huge_file_are_drawn():
    offsets = Work(DataFile("file", 1 << 40), block=PAGE).offsets()
    assert len(offsets) < 1 << 22 and max(offsets) > 1 << 39


def test_content_is_the_same_however_it_is_cut():
    whole = content(0, 3 * PAGE)
    assert [content(at, 512) for at in range(0, 3 * PAGE, 512)] == [
        whole[at : at + 512] for at in range(0, 3 * PAGE, 512)
    ]


def test_file_is_not_made_over_another(tmp_path):
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        DataFile("file", PAGE).make(tmp_path)
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_cache_is_dropped_and_loaded(work):
    try:
        drop_cache(work.path)
    except Unavailable:
        pytest.skip("this filesystem keeps its files in memory")
    assert pages_in_cache(work.path) == (0, 16)
    load_cache(work.path)
    assert pages_in_cache(work.path) == (16, 16)


def test_heartbeat_counts_every_beat_that_was_due(new_loop):
    async def hold():
        await asyncio.sleep(0.01)
        time.sleep(0.05)

    loop = new_loop()
    beats = Heartbeat(loop)
    with beats:
        loop.run_until_complete(hold())
    loop.close()
    assert max(beats.lateness) > 45_000_000
    assert len(beats.lateness) >= 55


def test_library_without_an_operation_says_so(work):
    class Nothing(Library):
        pass

    with pytest.raises(Unavailable, match="has no read"):
        measuring.measure(Nothing, work)


def test_process_of_a_peer_has_no_aiofs(work, tmp_path):
    (tmp_path / "spy.py").write_text(
        "import sys\n"
        "from aiofs.bench.measuring.libraries.peers import Inline\n"
        "class Spy(Inline):\n"
        "    def about(self):\n"
        "        return {'loaded': str('aiofs._core' in sys.modules)}\n"
    )
    for needs_aiofs in (False, True):
        spy = Python("spy:Spy", needs_aiofs=needs_aiofs, path=[str(tmp_path)])
        assert measure(spy, work).about == {"loaded": str(needs_aiofs)}


def test_children_of_a_participant_end_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr("aiofs.bench.running.TIMEOUT", 1)
    note = tmp_path / "pid"
    script = f"sleep 100 & echo $! > {note}; wait"
    with pytest.raises(Unavailable, match="took more than 1 s"):
        run(["sh", "-c", script], str(tmp_path), None)
    child = int(note.read_text())
    for _ in range(1000):
        if not is_running(child):
            break
        time.sleep(0.01)
    assert not is_running(child)


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(shutil.which("fio") is None, reason="needs fio")
@pytest.mark.parametrize("operation", ["read", "write", "mixed"])
def test_fio_does_the_same_work(work, operation):
    found = measure(
        PARTICIPANTS["fio-psync"].what, replace(work, operation=operation, observed=0.1)
    )
    assert {"time", "p50", "p99", "p99.9", "p100"} <= found.metrics.keys()


@pytest.mark.parametrize("name", ["aiofiles", "anyio", "caio", "aiofile", "ayafileio"])
@pytest.mark.parametrize("operation", ["read", "write", "mixed"])
def test_peer_moves_the_bytes(work, name, operation):
    pytest.importorskip(PARTICIPANTS[name].module)
    found = measure(PARTICIPANTS[name].what, replace(work, operation=operation, depth=2))
    assert found.about["version"].startswith(name)


@pytest.mark.parametrize("operation", ["read", "write", "mixed"])
def test_c_threads_do_the_same_work_beside_a_loop(compiler, work, operation):
    found = measure(PARTICIPANTS["C-threads"].what, replace(work, operation=operation))
    assert {"time", "stall worst", "idle worst"} <= found.metrics.keys()
