"""The script that runs the rounds of `make test`, in a small project with tests of its own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = [sys.executable, ROOT / "tools" / "rounds.py"]
SETTINGS = """
[pytest]
addopts = -p no:randomly -p no:cacheprovider
markers =
    once
    loop
    soak
"""
TESTS = """
import os, pathlib, time
import pytest

HERE = pathlib.Path(__file__).parent
ROUND = os.environ.get("AIOFS_ENGINE", "") + os.environ.get("PYTHONASYNCIODEBUG", "")

def test_any():
    (HERE / f"any-{ROUND}").touch()

@pytest.mark.once
def test_once():
    (HERE / f"once-{ROUND}").touch()

@pytest.mark.loop
def test_loop():
    (HERE / f"loop-{ROUND}").touch()
"""


@pytest.fixture
def project(tmp_path):
    (tmp_path / "pytest.ini").write_text(SETTINGS)
    (tmp_path / "test_it.py").write_text(TESTS)
    return tmp_path


def environment():
    kept = {k: v for k, v in os.environ.items() if k not in ("AIOFS_ENGINE", "PYTHONASYNCIODEBUG")}
    return kept | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # pytest starts in half the time


def rounds(project, *arguments):
    return subprocess.run(
        [*ROUNDS, *arguments], cwd=project, env=environment(), capture_output=True, text=True
    )


def ran(project):
    return sorted(path.name for path in project.glob("*-*"))


@pytest.mark.parametrize("options", [(), ("--serial",)])
def test_each_test_runs_in_the_rounds_that_matter_to_it(project, options):
    done = rounds(project, *options, "A", "B")
    assert (done.returncode, done.stderr) == (0, "")
    assert ran(project) == ["any-A", "any-B", "loop-1", "loop-A", "loop-B", "once-A"]
    titles = {line for line in done.stdout.splitlines() if line.startswith("== ")}
    assert titles == {
        "== tests that run once", "== engine A", "== engine B", "== asyncio debug mode"
    }  # fmt: skip


@pytest.mark.parametrize("options", [(), ("--serial",)])
@pytest.mark.parametrize("failing", ["A", "B", "1"])
def test_failure_in_any_round_fails_the_run(project, options, failing):
    with (project / "test_it.py").open("a") as file:
        file.write(f"    assert ROUND != {failing!r}\n")
    done = rounds(project, *options, "A", "B")
    assert done.returncode == 1
    assert f"assert '{failing}' != '{failing}'" in done.stdout


def test_a_round_may_have_none_of_the_chosen_tests(project):
    assert rounds(project, "A", "B", "--", "-k", "once").returncode == 0
    assert ran(project) == ["once-A"]
    assert rounds(project, "A", "B", "--", "-k", "nothing").returncode == 1


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor: one round at a time")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_ends_all_rounds(project, number):
    with (project / "test_it.py").open("a") as file:
        file.write(
            "    (HERE / f'pid-{ROUND}').write_text(str(os.getpid()))\n    time.sleep(600)\n"
        )
    run = subprocess.Popen(
        [*ROUNDS, "A", "B"], cwd=project, env=environment(), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job may ignore it
    )  # fmt: skip
    pids = [project / "pid-A", project / "pid-B"]
    while not all(path.exists() and path.read_text() for path in pids):
        assert run.poll() is None
    os.killpg(run.pid, number)
    assert run.wait() != 0
    for path in pids:
        wait_for_end(int(path.read_text()))


def wait_for_end(pid):
    """Until the process is gone, or a zombie of whoever adopted it."""
    while True:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state == "Z":
            return
