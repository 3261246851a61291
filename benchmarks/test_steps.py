"""Tests of what counts the system calls of a step."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from . import steps


def can_trace() -> bool:
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "true"]
    return bool(shutil.which("strace")) and subprocess.run(command).returncode == 0


def test_calls_are_counted_for_the_loop_and_for_others() -> None:
    lines = [
        "7 preadv2(5, [], 1, 0, RWF_NOWAIT) = -1 EAGAIN",
        "9 <... io_uring_enter resumed>) = 1",
        "9 write(4, 8) = 8",
        "7 syscall_0x1c3(0x16, 0x7f, 0x7f, 0, 0, 0) = 0",
        "9 +++ exited with 0 +++",
    ]
    counted = steps.counted("7", [lines, []])
    assert counted[0] == {(True, "preadv2"): 1, (True, "cachestat"): 1, (False, "write"): 1}
    assert not counted[1]


@pytest.mark.skipif(not can_trace(), reason="needs strace, and leave to trace")
def test_only_the_calls_of_a_step_are_counted() -> None:
    name, total, on_loop, on_others, switches = steps.row("nothing", 3)
    assert (name, total, on_loop, on_others) == ("nothing", "0", "-", "-")
    assert float(switches) >= 0

    # On every filesystem, both syncs are made by a thread that may block.
    taken = steps.counted(*steps.traced("write_bytes-durable", 3))
    assert [(step[False, "fsync"], step[True, "fsync"]) for step in taken] == [(2, 0)] * 3
