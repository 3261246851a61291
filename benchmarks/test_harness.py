"""Tests the harness of the comparison. Run by `pytest benchmarks --benchmark-disable`."""

from __future__ import annotations

import array
import asyncio
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import uvloop

from aiofs.bench import results
from aiofs.bench.measuring import measure
from aiofs.bench.measuring.cache import Unavailable, drop_cache, pages_in_cache
from aiofs.bench.measuring.data import DataFile, KiB
from aiofs.bench.measuring.heartbeat import Heartbeat
from aiofs.bench.measuring.libraries.base import Offsets
from aiofs.bench.measuring.libraries.peers import ToThread
from aiofs.bench.measuring.work import Work, shares
from aiofs.bench.plots import plots

from . import compare, report
from .case import BRIEF, FULL, QUICK, Case
from .cases import cases
from .compare import Outcome
from .contenders import LIBRARIES, PROGRAMS
from .goals import FASTEST_PEER, AtMost, AtMostMore, Faster, Overhead


@pytest.fixture
def work(tmp_path: Path) -> Work:
    """A short measurement of reads, with an existing file."""
    file = DataFile("file", 256 * KiB)
    file.make(tmp_path)
    return Work(file, seconds=0.001, observed=0.01, directory=str(tmp_path))


def outcome(*goals: Any, **times: list[float]) -> Outcome:
    """Rounds in which only these times were measured."""
    case = Case("P0", "a case", Work(DataFile("file", 0)), tuple(times), goals)
    return Outcome(case, {name: [{"time": t} for t in taken] for name, taken in times.items()})


def test_every_contender_of_every_case_is_known() -> None:
    for scale in (FULL, QUICK):
        for case in cases(scale):
            assert set(case.contenders) <= PROGRAMS.keys() | LIBRARIES.keys()
            for goal in case.goals:
                assert goal.needs(goal.over) - {FASTEST_PEER} <= {*case.contenders}, case.key


@pytest.mark.parametrize(
    ("goal", "value"),
    [
        (AtMost("us", 2, "them"), 0.5),
        (Faster("us", 2, "them"), 2),
        (AtMostMore("us", 2, "them"), -2),
        (Overhead("us", 2, "them", floor="base"), 1 / 3),
    ],
)
def test_a_goal_has_a_value_per_round_and_its_median_is_judged(goal: Any, value: float) -> None:
    run = outcome(goal, us=[2, 20, 2], them=[4, 1, 4], base=[1, 0.5, 1])
    spread = run.judge(goal)
    assert spread is not None
    assert spread.median == pytest.approx(value)


def test_a_goal_without_its_contenders_is_not_judged() -> None:
    assert outcome(us=[1, 1]).judge(AtMost("us", 2, "them")) is None
    assert outcome(us=[1, 1]).judge(Faster("us", 2, FASTEST_PEER)) is None


def test_the_fastest_peer_is_found_by_its_median() -> None:
    times = {"caio linux": [3.0, 1.0, 3.0], "aiofiles": [2.0, 2.0, 9.0], "C": [1.0, 1.0, 1.0]}
    assert outcome(**times).fastest_peer() == "aiofiles"


def test_every_offset_is_in_one_lane() -> None:
    assert sorted(chain.from_iterable(shares(array.array("q", range(100)), 7))) == list(range(100))


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_heartbeat_measures_a_blocked_loop(loop: str) -> None:
    async def hold() -> None:
        await asyncio.sleep(0.01)
        time.sleep(0.05)

    runner = uvloop.new_event_loop() if loop == "uvloop" else asyncio.new_event_loop()
    beats = Heartbeat(runner)
    with beats:
        runner.run_until_complete(hold())
    runner.close()
    assert max(beats.lateness) > 45_000_000
    assert len(beats.lateness) >= 59, (
        "each beat that was due is counted, also those that were missed"
    )


def test_a_measurement_has_every_metric(work: Work) -> None:
    metrics = measure.measure(ToThread, work)["metrics"]
    assert {"time", "cpu", "p50", "p99.9", "stall worst", "idle p99.9", "memory"} <= metrics.keys()


@pytest.mark.parametrize("operation", ["read", "write", "save", "replace"])
def test_wrong_bytes_are_noticed(work: Work, operation: str) -> None:
    class Wrong(ToThread):
        """Writes zeros in place of the payload, and reads wrong bytes."""

        def __init__(self, work: Work) -> None:
            super().__init__(work)
            self.payload = b"\0" * work.block

        async def write(self, lane: int, offsets: Offsets) -> None:
            self.buffers[lane][:] = self.payload
            await super().write(lane, offsets)

        async def save(self, lane: int, offsets: Offsets) -> None:
            self.buffers[lane][:] = self.payload
            await super().save(lane, offsets)

        async def read(self, lane: int, offsets: Offsets) -> Any:
            data = await super().read(lane, offsets)
            data[7:8] = b"\xff"
            return data

    with pytest.raises(AssertionError, match="wrong bytes"):
        measure.measure(Wrong, replace(work, operation=operation))


def test_c_measures_and_checks_the_same_file(work: Work) -> None:
    for operation in ("read", "open", "write"):
        metrics = compare.measure("C", replace(work, operation=operation, depth=3))
        assert 0 < metrics["p50"] <= metrics["p99"] <= metrics["p99.9"]
    with pytest.raises(Unavailable, match="other bytes"):
        compare.measure("C", work)


FILE_CASES = ("P15/1", "P16/32", "P17", "P18/binary", "P18/text", "P19/cached", "P19/buffers")
MORE_FILE_CASES = ("P19/direct", "P20/copy", "P20/save", "P21", "P25/4K", "P25/1M")


@pytest.mark.parametrize("key", [*FILE_CASES, *MORE_FILE_CASES])
def test_cases_of_files_by_path_are_measured(tmp_path: Path, key: str) -> None:
    case = next(case for case in cases(QUICK) if case.key == key)
    case.work.file.make(tmp_path)
    for name in case.contenders:
        metrics = compare.measure(name, replace(case.work, directory=str(tmp_path)))
        assert metrics["time"] > 0


@pytest.mark.parametrize(
    ("operation", "ours"), [("whole", "aiofs read_bytes"), ("locked", "aiofs read-only handles")]
)
def test_wrong_bytes_in_small_files_are_noticed(tmp_path: Path, operation: str, ours: str) -> None:
    file = DataFile("small", 8 * KiB, apart=True)
    file.make(tmp_path)
    (tmp_path / "small.4096").write_bytes(b"w" * 4096)
    work = Work(file, operation, seconds=0.001, observed=0.01, directory=str(tmp_path))
    with pytest.raises(Unavailable, match="other bytes"):
        compare.measure("C", work)
    with pytest.raises(Unavailable, match="wrong bytes"):
        compare.measure(ours, work)


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("P18/binary", "rows"),
        ("P18/text", "rows"),
        ("P19/cached", "cached"),
        ("P19/buffers", "cached"),
        ("P20/copy", "files.tree/0/7"),
        ("P20/save", "saved-files.tree/0/7"),
        ("P21", "cold"),
    ],
)
def test_wrong_bytes_of_files_by_path_are_noticed(tmp_path: Path, key: str, wrong: str) -> None:
    case = next(case for case in cases(QUICK) if case.key == key)
    case.work.file.make(tmp_path)
    path = tmp_path / wrong
    path.write_bytes(path.read_bytes()[::-1])
    for name in case.contenders:
        if name.startswith("fio"):
            continue
        with pytest.raises(Unavailable, match=r"wrong bytes|other bytes"):
            compare.measure(name, replace(case.work, directory=str(tmp_path)))


def test_c_replaces_the_file(work: Work) -> None:
    assert compare.measure("C", replace(work, operation="replace"))["p50"] > 0
    assert Path(work.path).read_bytes() == b"c" * work.block


@pytest.mark.parametrize("name", ["C futex", "aiofs_open_wait"])
def test_processes_go_round(work: Work, name: str) -> None:
    metrics = compare.measure(name, replace(work, operation="round", depth=5, sweep=3))
    assert metrics["worst"] >= metrics["time"] > 0


def test_c_threads_read_and_save(work: Work) -> None:
    for operation in ("read", "save"):
        assert compare.measure("C threads", replace(work, operation=operation, depth=8))["time"] > 0


@pytest.mark.parametrize("face", ["C", "Python"])
@pytest.mark.parametrize("direct", [False, True])
def test_a_crowd_is_kept_and_its_bytes_are_checked(work: Work, face: str, direct: bool) -> None:
    work = replace(work, operation="crowd", block=4 * KiB if direct else 64, direct=direct)
    metrics = compare.measure(f"{face}, 100,000", work)
    assert metrics["time"] > 0
    assert metrics["memory each"] > 0
    assert metrics["outstanding"] > 50_000
    if direct:
        Path(work.path).write_bytes(b"w" * work.file.size)
        with pytest.raises(Unavailable, match="other bytes"):
            compare.measure(f"{face}, 100", work)


@pytest.mark.skipif(shutil.which("fio") is None, reason="needs fio")
@pytest.mark.parametrize("name", ["fio posixaio", "fio posixaio, aiofs threads"])
def test_fio_reads_the_cached_file(work: Work, name: str) -> None:
    drop_cache(work.path)
    assert compare.measure(name, replace(work, observed=0.1))["time"] > 0
    resident, pages = pages_in_cache(work.path)
    assert resident == pages


def test_the_report_names_a_program_that_is_not_installed(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    run = outcome()
    run.case = replace(run.case, contenders=("fio psync",))
    with pytest.raises(Unavailable) as reason:
        compare.measure("fio psync", work)
    run.unavailable["fio psync"] = str(reason.value)
    assert "fio psync: fio is not installed" in report.text(report.document({}, 1, [run]))


def test_a_file_that_was_dropped_is_cold(work: Work) -> None:
    drop_cache(work.path)


def test_a_brief_case_keeps_what_its_goals_compare() -> None:
    for case in cases(BRIEF):
        brief = case.brief()
        assert brief.contenders and brief.goals == case.goals
        for goal in brief.goals:
            assert goal.needs(goal.over) - {FASTEST_PEER} <= {*brief.contenders}, case.key


@pytest.mark.parametrize(
    ("goal", "value", "verdict"),
    [
        (AtMost("us", 2, "them"), 2, "PASS"),
        (AtMost("us", 2, "them"), 3, "50% off"),
        (Faster("us", 2, "them"), 3, "PASS"),
        (Faster("us", 2, "them"), 1, "50% off"),
        (AtMostMore("us", 2e-3, "them"), 1e-3, "PASS"),
        (AtMostMore("us", 2e-3, "them"), 5e-3, "3.00 ms off"),
    ],
)
def test_a_verdict_is_pass_or_the_distance(goal: Any, value: float, verdict: str) -> None:
    assert goal.verdict(value) == verdict


@pytest.mark.parametrize("key", ["requests", "handles", "entries", "bytes", "loops"])
def test_what_grows_is_measured_at_each_step(tmp_path: Path, key: str) -> None:
    data = tmp_path / "data"
    data.mkdir()
    result = tmp_path / "growth.json"
    options = ("--only", key, "--most", "16", "--rounds", "1", "--seconds", "0.001")
    command = [sys.executable, "-m", "benchmarks.growth", *options]
    root = Path(report.__file__).parent.parent
    subprocess.run(
        [*command, "--json", str(result), "--directory", str(data)],
        cwd=root,
        check=True,
        capture_output=True,
    )
    document = results.load(result)
    for job in document["jobs"]:
        assert "time" in job["participants"]["aiofs"]["metrics"], job["job"]
    assert any(plot.title.endswith(f"time against {key}") for plot in plots(document["jobs"]))
    assert list(data.iterdir()) == []
