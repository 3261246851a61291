"""Act two: copies a tree of files into a volume, reads it back, and compares it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

from aiofs import FileSystem, PrivateVolume, _core
from aiofs.demo.heartbeat import Heartbeat
from aiofs.demo.screen import Screen, printable, size
from aiofs.demo.survey import Survey
from aiofs.demo.transfer import DEPTH, PIECE, CopyIn, ReadBack, Transfer

IDLE_SECONDS = 0.5
SHOWN_PROBLEMS = 5


async def act_two(show: Screen, survey: Survey, volume: PrivateVolume, directory: Path) -> int:
    show.heading(survey.title)
    show.note(f"{len(survey.files):,} files, {size(survey.bytes)}, into the volume {directory}")
    show.note(f"{DEPTH} requests at a time, each of up to {PIECE // 1024} KiB\n")
    with Heartbeat() as idle:
        await asyncio.sleep(IDLE_SECONDS)
    async with FileSystem() as fs:
        fs.mount("/", volume)
        await asyncio.to_thread(make_directories, fs, survey.directories)
        async with show.progress("copying in", 2 * survey.bytes) as bar:
            copied = CopyIn(fs, bar)
            await copied.run(survey.files)
        async with show.progress("reading back", copied.bytes) as bar:
            back = ReadBack(fs, bar)
            await back.run(copied.digests)

    failed = survey.failed + [
        (file.path, why) for way in (copied, back) for file, why in way.failed.items()
    ]
    different = [file for file, digest in back.digests.items() if digest != copied.digests[file]]
    failed += [(file.path, "what was read back differs") for file in different]
    equal = len(back.digests) - len(different)
    show_results(show, idle, copied, back)
    show.note("copied in: each file is read, hashed, written, and flushed to the disk")
    show.note("loop stall: how late a timer of 1 ms fired on the loop that did this work\n")
    show.note(f"SHA-256: {equal:,} of {len(survey.files):,} files are equal to their sources")
    show_problems(show, "left out", survey.left_out)
    show_problems(show, "failed", failed)
    return 1 if failed else 0


def make_directories(fs: FileSystem, names: Iterable[str]) -> None:
    for name in names:
        fs.mkdir(name)


def show_results(show: Screen, idle: Heartbeat, *ways: Transfer) -> None:
    def row(title: str, *values: str) -> tuple[str, ...]:
        return (title, "", *values)

    stalls = (idle, *(way.heartbeat for way in ways))
    show.table(
        ("", "idle", "copied in", "read back"),
        [
            row("files", *(f"{len(way.digests):,}" for way in ways)),
            row("bytes", *(size(way.bytes) for way in ways)),
            row("time", *(f"{way.seconds:.2f} s" for way in ways)),
            row("MB/s", *(f"{way.bytes / 1e6 / way.seconds:,.1f}" for way in ways)),
            row("requests", *(f"{way.requests:,}" for way in ways)),
            row("engine", *(_core.engine() for _ in ways)),
            ("loop stall, worst", *(f"{beat.worst * 1e3:.1f} ms" for beat in stalls)),
            ("loop stall, 99.9th percentile", *(f"{beat.tail * 1e3:.1f} ms" for beat in stalls)),
        ],
    )


def show_problems(show: Screen, title: str, problems: list[tuple[str, str]]) -> None:
    if not problems:
        return
    show.note(f"{title}: {len(problems):,}")
    for path, reason in problems[:SHOWN_PROBLEMS]:
        show.note(f"  {printable(path)}: {reason}")
    if len(problems) > SHOWN_PROBLEMS:
        show.note(f"  and {len(problems) - SHOWN_PROBLEMS:,} more")
