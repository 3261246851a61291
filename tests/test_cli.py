"""The command `aiofs`: its arguments, its output and its exit status."""

import os
import subprocess
import sys

import pytest

import aiofs
from aiofs import cli


def status_of(capsys, *arguments):
    """Runs the command. Returns its exit status, stdout and stderr."""
    try:
        status = cli.main(arguments)
    except SystemExit as stop:
        status = stop.code
    said = capsys.readouterr()
    return status, said.out, said.err


def test_version(capsys):
    assert status_of(capsys, "--version") == (0, f"aiofs {aiofs.__version__}\n", "")


def test_help_names_the_commands(capsys):
    status, out, _ = status_of(capsys, "--help")
    assert status == 0 and "demo" in out and "run" in out
    status, out, _ = status_of(capsys, "demo", "--help")
    assert status == 0 and "--volume" in out and "PATH" in out


@pytest.mark.parametrize("arguments", [(), ("dance",), ("demo", "a", "b"), ("demo", "--volume")])
def test_misuse_is_status_2_and_says_how_to_use_it(capsys, arguments):
    status, out, err = status_of(capsys, *arguments)
    assert status == 2 and not out and "usage: aiofs" in err


def test_module_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "aiofs", "--version"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, f"aiofs {aiofs.__version__}\n")


def test_missing_path_is_refused_before_anything_is_shown(capsys, tmp_path):
    status, out, err = status_of(capsys, "demo", str(tmp_path / "missing"))
    assert (status, out) == (2, "")
    assert err == f"aiofs demo: {tmp_path / 'missing'}: No such file or directory\n"


def test_unknown_engine_is_refused_by_name():
    done = subprocess.run(
        [sys.executable, "-m", "aiofs.cli", "demo", os.devnull],
        env={**os.environ, "AIOFS_ENGINE": "steam"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "AIOFS_ENGINE=steam" in done.stderr
    assert "Traceback" not in done.stderr
