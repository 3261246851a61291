"""The short form of kill.py: a few rounds of processes that save files and are killed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROUNDS = 12


@pytest.mark.timeout(600)
def test_killed_processes_leave_nothing_torn_lost_or_locked(tmp_path):
    command = [sys.executable, Path(__file__).with_name("kill.py"), str(ROUNDS), tmp_path]
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}
    ran = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"{ROUNDS} rounds" in ran.stdout
