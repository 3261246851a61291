"""`aiofs bench`: what it prints and writes, what it refuses, and that it leaves nothing behind."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from aiofs.bench import participants, tables
from aiofs.bench.places import Refused, may_replace

ROUNDS = 2
SHORT = ("--size", "64k", "--runtime", "2ms", "--rounds", str(ROUNDS))


@pytest.fixture
def results(bench, tmp_path):
    """The document of a short run of two participants."""
    path = tmp_path / "results.json"
    status, _, err = bench(*SHORT, "--iodepth", "1,4", "--with", "threads,aiofs", "--json", path)
    assert (status, err) == (0, "")
    return json.loads(path.read_text())


def test_run_prints_a_table_for_each_job(bench, data):
    status, out, err = bench(*SHORT, "--bs", "4k,8k", "--with", "aiofs,threads")
    assert (status, err) == (0, "")
    assert "## job bs=4k" in out and "## job bs=8k" in out
    assert "filled by 4 KiB writes; one buffer of 4 KiB, page-aligned" in out
    assert "x aiofs (spread)" in out and "reads into the given buffers" in out
    assert os.listdir(data) == []


def test_json_has_the_machine_the_job_and_every_metric(results):
    assert {"kernel", "filesystem", "processor", "packages", "command"} <= results["facts"].keys()
    assert results["rounds"] == ROUNDS
    assert [job["varies"] for job in results["jobs"]] == [{"iodepth": 1}, {"iodepth": 4}]
    for job in results["jobs"]:
        assert job["keys"]["bs"] == 4096 and job["reference"] == "threads"
        for name, found in job["participants"].items():
            metrics = found["metrics"]
            assert {"time", "ratio", "cpu", "p50", "p99", "p99.9"} <= metrics.keys(), name
            assert {"stall p99.9", "stall worst", "idle p99.9", "idle worst"} <= metrics.keys()
            assert metrics["time"]["least"] <= metrics["time"]["median"] <= metrics["time"]["most"]
        assert job["participants"]["threads"]["metrics"]["ratio"]["median"] == 1
        assert "engine" in job["participants"]["aiofs"]["about"]


def test_csv_has_a_line_for_each_participant_of_each_job(bench, tmp_path):
    path = tmp_path / "results.csv"
    assert bench(*SHORT, "--bs", "4k,8k", "--with", "aiofs,threads", "--csv", path)[0] == 0
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [(row["bs"], row["participant"]) for row in rows] == [
        (bs, name) for bs in ("4096", "8192") for name in ("aiofs", "threads")
    ]
    assert all(float(row["time median"]) > 0 and row["kernel"] for row in rows)


def test_c_comes_first_and_a_missing_compiler_is_named(bench, monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    status, out, _ = bench(*SHORT, "--with", "aiofs,C")
    assert status == 0
    assert "C: left out: there is no C compiler, no-such-compiler: install gcc" in out


def test_run_without_a_measurement_fails(bench, monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    assert bench(*SHORT, "--with", "C")[0] == 1


def test_c_is_the_reference(bench, compiler):
    status, out, _ = bench(*SHORT, "--with", "aiofs,C")
    assert status == 0 and "x C (spread)" in out


def test_engine_of_the_job_is_that_of_aiofs(bench, tmp_path):
    path = tmp_path / "results.json"
    assert bench(*SHORT, "--engine", "threads", "--with", "aiofs", "--json", path)[0] == 0
    (job,) = json.loads(path.read_text())["jobs"]
    assert job["participants"]["aiofs"]["about"]["engine"] == "threads"


def test_jobs_run_from_a_file(bench, tmp_path):
    if sys.version_info < (3, 11):
        pytest.importorskip("tomli")
    path = tmp_path / "jobs.toml"
    path.write_text(
        'rounds = 1\nwith = ["threads"]\n[global]\nsize = "64k"\ncount = 20\n'
        '[reads]\n[writes]\nrw = "randwrite"\nvolume = "memory"\n'
    )
    status, out, err = bench(path)
    assert (status, err) == (0, "")
    assert "## reads" in out and "## writes" in out and "Medians of 1 rounds" in out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--iodepth", "0"], "--iodepth 0: must be from 1 to 100,000"),
        (["--rw", "reed"], "--rw reed: choose from read, write"),
        (["--with", "aoifs"], '--with: unknown participant "aoifs" (did you mean "aiofs"?)'),
        (["--rounds", "none"], "--rounds none: is no number"),
        (["--python", "/no/such/python"], "/no/such/python: No such file or directory"),
        (["--python", "/bin/true"], "/bin/true: is no Python interpreter"),
        (["no-such.toml"], "no-such.toml: No such file or directory"),
        (["--json", "/no/such/folder/r.json"], "there is no directory /no/such/folder"),
        (["--filename", "/no/such/folder/data"], "/no/such/folder: no such directory"),
        (["--filename", "/dev/null"], "/dev/null: is no regular file"),
        (["--size", "1000000g"], "are needed, and"),
    ],
)
def test_mistake_is_status_2_and_one_line(bench, data, arguments, named):
    status, out, err = bench("--with", "threads", *arguments)
    assert (status, out) == (2, "") and err.startswith("aiofs bench: ")
    assert named in err and err.count("\n") == 1
    assert os.listdir(data) == []


def test_missing_directory_is_refused(bench, data):
    data.rmdir()
    status, _, err = bench(*SHORT, "--with", "threads")
    assert status == 2 and f"{data}: no such directory" in err


def test_list_names_every_participant(bench):
    status, out, _ = bench("--list")
    assert status == 0
    assert {line.split()[0] for line in out.splitlines()} == participants.PARTICIPANTS.keys()


def test_peer_that_is_not_installed_is_left_out_with_what_to_do(bench, monkeypatch):
    gone = participants.Participant(
        participants.PARTICIPANTS["turbofile"].what, "", "no_such_peer", "Python 3.12 or newer"
    )
    monkeypatch.setitem(participants.PARTICIPANTS, "turbofile", gone)
    status, out, _ = bench(*SHORT, "--with", "aiofs,turbofile")
    assert status == 0
    assert "turbofile: left out: not installed" in out and "needs Python 3.12" in out
    assert "pip install no_such_peer" in out and "--python PATH" in out


def test_peer_is_measured_by_the_interpreter_that_has_it_with_aiofs_beside(
    bench, monkeypatch, tmp_path
):
    """The other interpreter is this one, under another name, with one more module."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "peer_of_the_other.py").write_text("")
    other = tmp_path / "other"
    other.write_text(f'#!/bin/sh\nPYTHONPATH="$PYTHONPATH:{folder}" exec {sys.executable} "$@"\n')
    other.chmod(0o755)
    what = participants.PARTICIPANTS["blocking"].what
    peer = participants.Participant(what, "", "peer_of_the_other")
    monkeypatch.setitem(participants.PARTICIPANTS, "urio", peer)
    found = participants.entrants(["aiofs", "urio", "threads"], [str(other)])
    short = ".".join(map(str, sys.version_info[:2]))
    assert [(one.name, one.interpreter) for one in found] == [
        ("aiofs", sys.executable),
        (f"aiofs ({short})", str(other)),
        (f"urio ({short})", str(other)),
        ("threads", sys.executable),
    ]
    status, out, _ = bench(*SHORT, "--with", "aiofs,urio", "--python", other)
    assert status == 0 and f"| urio ({short})" in out and f"| aiofs ({short})" in out


# ---- files of the user ---------------------------------------------------------------------------


def test_file_of_the_user_is_read_and_kept(bench, data, tmp_path):
    path = tmp_path / "mine"
    path.write_bytes(os.urandom(64 << 10))
    before = path.read_bytes()
    status, out, _ = bench(*SHORT[2:], "--filename", path, "--with", "aiofs,threads,C-threads")
    assert status == 0 and "file of 64 KiB that was there before" in out
    assert path.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["data", "mine"] and os.listdir(data) == []


@pytest.mark.parametrize("rw", ["write", "randwrite", "randrw", "rw"])
def test_file_of_the_user_is_never_written(bench, tmp_path, rw):
    path = tmp_path / "mine"
    path.write_bytes(b"m" * (64 << 10))
    status, _, err = bench(*SHORT, "--filename", path, "--rw", rw, "--with", "threads")
    assert status == 2 and "would overwrite it" in err
    assert path.read_bytes() == b"m" * (64 << 10)


def test_named_file_that_is_new_is_removed(bench, tmp_path):
    path = tmp_path / "new"
    assert bench(*SHORT, "--filename", path, "--rw", "randwrite", "--with", "threads")[0] == 0
    assert not path.exists()


def test_only_results_are_replaced(bench, tmp_path):
    path = tmp_path / "results.json"
    for _ in range(2):
        assert bench(*SHORT, "--with", "threads", "--json", path)[0] == 0
    path.write_text("my notes")
    status, _, err = bench(*SHORT, "--with", "threads", "--json", path)
    assert status == 2 and "is no result of aiofs bench" in err
    assert path.read_text() == "my notes"


def test_device_and_directory_are_no_results(tmp_path):
    for path in (tmp_path, tmp_path / "none" / "file"):
        with pytest.raises(Refused):
            may_replace(path)


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_run_leaves_no_file_and_no_process(data, signum, status):
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "aiofs", "bench", "--runtime", "60s", "--size", "64k"),
            *("--with", "threads", "--directory", str(data), "--rw", "randwrite"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    measured = wait_for(lambda: working_in(data, process))
    process.send_signal(signum)
    _, err = process.communicate(timeout=30)
    assert process.returncode == status, err
    assert "Traceback" not in err
    assert os.listdir(data) == []
    wait_for(lambda: not any(os.path.exists(f"/proc/{pid}/exe") for pid in measured))


def working_in(directory, parent):
    """The processes other than the parent whose working directory is below `directory`."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            inside = os.readlink(f"/proc/{pid}/cwd").startswith(f"{directory}/")
        except OSError:
            continue
        if inside and int(pid) != parent.pid:
            found.append(int(pid))
    return found


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not (answer := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return answer


# ---- how numbers are written ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "shown"),
    [(2.5, "2.5 s"), (0.0025, "2.5 ms"), (2.5e-6, "2.5 us"), (2.5e-9, "0.0025 us")],
)
def test_times_have_a_unit(value, shown):
    assert tables.seconds(value) == shown


@pytest.mark.parametrize(("time", "shown"), [(1e-6, "1 M"), (1e-3, "1 k"), (0.5, "2")])
def test_rates_have_a_unit(time, shown):
    assert tables.rate(time) == shown
