"""Runs the tests in rounds: all of them once, and some again on another engine or in debug mode.

    python tools/rounds.py [--serial] ENGINE... [-- ARGUMENTS]

The first round runs every test on the first engine. Each further engine gets a round of the tests
that depend on the engine, and the last round runs the tests of coroutines in asyncio's debug mode;
see the markers in tests/conftest.py. ARGUMENTS are pytest's.

The first round shows its progress. The others run beside it, one after the other, and their output
follows at the end. With --serial, or with one processor, all rounds run one after the other.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import NamedTuple

NO_TESTS = 5  # pytest's exit status: a further round may have none of the chosen tests


class Round(NamedTuple):
    title: str
    marks: str
    variables: dict[str, str]
    may_be_empty: bool = True


def rounds_of(engines: list[str]) -> Iterator[Round]:
    first, *others = engines
    yield Round(f"engine {first}", "not soak", {"AIOFS_ENGINE": first}, False)
    for engine in others:
        yield Round(f"engine {engine}", "not soak and not once", {"AIOFS_ENGINE": engine})
    yield Round("asyncio debug mode", "loop and not soak", {"PYTHONASYNCIODEBUG": "1"})


def run(one: Round, arguments: list[str], output: object = None) -> bool:
    command = [sys.executable, "-m", "pytest", "-m", one.marks, *arguments]
    print(f"== {one.title}", file=output, flush=True)  # type: ignore[call-overload]
    if output is not None:
        command[3:3] = ["-p", "no:cacheprovider"]  # the cache belongs to the first round
    status = subprocess.run(
        command, env={**os.environ, **one.variables}, stdout=output, stderr=output
    ).returncode
    return status == 0 or (one.may_be_empty and status == NO_TESTS)


def run_all(rounds: list[Round], arguments: list[str], output: object = None) -> bool:
    """Stops at the first round that fails."""
    return all(run(one, arguments, output) for one in rounds)


def run_beside(rounds: list[Round], arguments: list[str]) -> bool:
    """Runs all rounds but the first in a process of their own, beside the first."""
    with tempfile.TemporaryFile("w+") as log:
        beside = os.fork()
        if beside == 0:
            os.setpgid(0, 0)
            try:
                os._exit(0 if run_all(rounds[1:], arguments, log) else 1)
            finally:
                os._exit(1)
        try:
            passed = run(rounds[0], arguments)
            passed &= os.waitpid(beside, 0)[1] == 0
        except BaseException:
            os.killpg(beside, signal.SIGKILL)
            raise
        log.seek(0)
        sys.stdout.write(log.read())
    return passed


def main(arguments: list[str]) -> int:
    split = arguments.index("--") if "--" in arguments else len(arguments)
    engines = [word for word in arguments[:split] if word != "--serial"]
    rounds, rest = list(rounds_of(engines)), arguments[split + 1 :]
    serial = "--serial" in arguments[:split] or len(os.sched_getaffinity(0)) < 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        return not (run_all(rounds, rest) if serial else run_beside(rounds, rest))
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
