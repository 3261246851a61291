"""Runs the tests in rounds: all of them once, and some again on another engine or in debug mode.

    python tools/rounds.py [--serial] ENGINE... [-- ARGUMENTS]

Tests that do not depend on the engine have a round of their own. Each engine gets a round of the
others, and the last round runs the tests of coroutines in asyncio's debug mode; see the markers in
tests/conftest.py. ARGUMENTS are pytest's.

Two rounds run at a time: those that show their progress, and those that run beside them, whose
output follows at the end. With --serial, or with one processor, one round runs at a time. No round
begins after one has failed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from typing import IO, NamedTuple

NO_TESTS = 5  # pytest's exit status: a round may have none of the chosen tests


class Round(NamedTuple):
    title: str
    marks: str
    variables: dict[str, str]


def rounds_of(engines: list[str]) -> list[Round]:
    """The longest first, so that both lanes end at about the same time."""
    return [
        Round("tests that run once", "once and not soak", {"AIOFS_ENGINE": engines[0]}),
        *(Round(f"engine {e}", "not soak and not once", {"AIOFS_ENGINE": e}) for e in engines),
        Round("asyncio debug mode", "loop and not soak", {"PYTHONASYNCIODEBUG": "1"}),
    ]


class Runner:
    """Takes rounds from the list, in one lane or two, until it is empty or a round has failed."""

    def __init__(self, rounds: list[Round], arguments: list[str]) -> None:
        self._left = rounds
        self._arguments = arguments
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._statuses: list[int] = []

    def run(self, lanes: int) -> bool:
        with tempfile.TemporaryFile() as log:
            beside = threading.Thread(target=self._lane, args=(log,)) if lanes == 2 else None
            try:
                if beside:
                    beside.start()
                self._lane(None)
                if beside:
                    beside.join()
            except BaseException:
                self._kill()
                raise
            log.seek(0)
            sys.stdout.buffer.write(log.read())
            sys.stdout.flush()
        return not self._failed() and 0 in self._statuses

    def _failed(self) -> bool:
        return any(status not in (0, NO_TESTS) for status in self._statuses)

    def _lane(self, log: IO[bytes] | None) -> None:
        while process := self._begin(log):
            status = process.wait()
            with self._lock:
                self._running.discard(process)
                self._statuses.append(status)

    def _begin(self, log: IO[bytes] | None) -> subprocess.Popen[bytes] | None:
        with self._lock:
            if not self._left or self._failed():
                return None
            one = self._left.pop(0)
            title = f"== {one.title}\n".encode()
            if log:
                log.write(title)
                log.flush()
            else:
                sys.stdout.buffer.write(title)
                sys.stdout.flush()
            process = subprocess.Popen(
                # Two pytests would overwrite each other's cache.
                [sys.executable, "-m", "pytest", *(["-p", "no:cacheprovider"] if log else []),
                 "-m", one.marks, *self._arguments],
                env={**os.environ, **one.variables},
                stdout=log, stderr=log, start_new_session=log is not None,
            )  # fmt: skip
            self._running.add(process)
            return process

    def _kill(self) -> None:
        """Ends all rounds. One beside has a session of its own, with all processes of its tests."""
        with self._lock:
            self._left.clear()
            for process in self._running:
                with suppress(ProcessLookupError):  # its lane has just seen its end
                    if os.getpgid(process.pid) == process.pid:
                        os.killpg(process.pid, signal.SIGKILL)
                    else:
                        process.kill()


def main(arguments: list[str]) -> int:
    split = arguments.index("--") if "--" in arguments else len(arguments)
    engines = [word for word in arguments[:split] if word != "--serial"]
    serial = "--serial" in arguments[:split] or len(os.sched_getaffinity(0)) < 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        return not Runner(rounds_of(engines), arguments[split + 1 :]).run(1 if serial else 2)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
