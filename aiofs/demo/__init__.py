"""`aiofs demo`: shows on real files what aiofs does.

Act one shows one request through the functions of <aio.h>, and a refused lock. Act two copies a
tree of files into a private volume, reads it back and compares SHA-256 digests. It has DEPTH
requests in flight at a time: one lio_listio starts a list of them, and one callback on the loop
reports its end. Act three compiles a C program that does not use aiofs and runs it under
`aiofs run`.

Work that blocks runs on other threads: hashing, opening the sources, making directories. A
heartbeat on the loop measures how long the loop is held.
"""

from __future__ import annotations

import sys
from pathlib import Path

import uvloop

import aiofs
from aiofs import PrivateVolume, _core
from aiofs.demo.copying import act_two
from aiofs.demo.program import act_three
from aiofs.demo.request import act_one
from aiofs.demo.screen import Screen, screen
from aiofs.demo.survey import Refused, Survey, place_for_volume

__all__ = ["main"]


def main(path: str | None, volume: str | None) -> int:
    """Runs the demo. Returns the exit status of `aiofs demo`."""
    show = screen()
    try:
        engine = engine_name()
        survey = Survey.of(path)
        with place_for_volume(volume, survey) as directory:
            show.heading(f"aiofs {aiofs.__version__}, engine {engine}, on uvloop")
            return uvloop.run(play(show, survey, directory, kept=volume is not None))
    except Refused as refused:
        print(f"aiofs demo: {refused}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"aiofs demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\naiofs demo: interrupted", file=sys.stderr)
        return 130


def engine_name() -> str:
    try:
        return _core.engine()
    except OSError as error:
        raise Refused(str(error)) from None


async def play(show: Screen, survey: Survey, directory: Path, *, kept: bool) -> int:
    # A thread that runs Python releases the GIL to the loop's thread after 0.5 ms, not 5 ms.
    sys.setswitchinterval(0.0005)
    with PrivateVolume(directory) as volume:
        await act_one(show, volume, directory)
        status = await act_two(show, survey, volume, directory)
        status = max(status, await act_three(show, volume, directory))
    show.note(f"the volume: {directory}{', kept' if kept else ', removed now'}")
    return status
