"""Runs one participant once, in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiofs.bench.measuring import child
from aiofs.bench.measuring.cache import Unavailable
from aiofs.bench.measuring.work import Work
from aiofs.bench.programs import Finished, Program

PACKAGE = Path(__file__).parent.parent
TIMEOUT = 120  # seconds; what takes longer is not measured
LIBRARIES = "aiofs.bench.measuring.libraries"


@dataclass(frozen=True)
class Measured:
    """The metrics of one participant in one round, in seconds and bytes, and what it is."""

    metrics: dict[str, float]
    about: dict[str, str]


@dataclass(frozen=True)
class Python:
    """A class that is measured by an interpreter: `module:name`, and its first arguments.

    path: folders to import it from, beside those of the interpreter.
    """

    library: str
    arguments: Sequence[Any] = ()
    needs_aiofs: bool = False
    path: Sequence[str] = ()

    def command(self, work: Work, interpreter: str) -> list[str]:
        task = {
            "package": str(PACKAGE),
            "path": list(self.path),
            "library": self.library,
            "arguments": list(self.arguments),
            "aiofs": self.needs_aiofs,
            "work": work.to_json(),
        }
        return [interpreter, child.__file__, json.dumps(task)]


def ours(name: str) -> Python:
    """A class of libraries/ours.py."""
    return Python(f"{LIBRARIES}.ours:{name}", needs_aiofs=True)


def peer(name: str, *arguments: str) -> Python:
    """A class of libraries/peers.py."""
    return Python(f"{LIBRARIES}.peers:{name}", arguments)


def measure(
    participant: Python | Program,
    work: Work,
    interpreter: str = sys.executable,
    environment: Mapping[str, str] | None = None,
) -> Measured:
    """Measures one participant once. Raises Unavailable if it cannot do this work here."""
    if isinstance(participant, Python):
        finished = run(participant.command(work, interpreter), work.directory, environment)
        result: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
        if "unavailable" in result:
            raise Unavailable(result["unavailable"])
        return Measured(result["metrics"], result["about"])
    finished = run(participant.command(work), work.directory, environment)
    metrics: dict[str, Any] = participant.metrics(work, finished)
    if "unavailable" in metrics:
        raise Unavailable(metrics["unavailable"])
    return Measured(metrics, participant.about())


def run(command: list[str], directory: str, environment: Mapping[str, str] | None) -> Finished:
    """Runs a command to its end. It is killed, with its children, if this is interrupted."""
    with subprocess.Popen(
        command,
        cwd=directory or None,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            kill(process)
            raise Unavailable(f"took more than {TIMEOUT} s") from None
        except BaseException:
            kill(process)
            raise
    if process.returncode:
        last = (err or out).strip().splitlines()[-1:] or [f"exit status {process.returncode}"]
        raise Unavailable(f"failed: {last[0]}")
    return Finished(command, process.returncode, out, err)


def kill(process: subprocess.Popen[str]) -> None:
    """Kills a process and those that it started, which are in its session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
