"""The cases of files by path: whole files, lines, ranges, trees, lone reads, shifted buffers."""

from __future__ import annotations

import os
from dataclasses import replace

from aiofs.bench.measuring.data import DataFile, KiB, MiB
from aiofs.bench.measuring.work import Work

from .case import Case, Scale, coroutines
from .goals import AtMost, Calls, Faster, Goal, Memory

REQUESTS, HANDLE = "aiofs await aiocb", "aiofs AccessHandle"


def file_cases(scale: Scale, cached: Work, direct: Work) -> list[Case]:
    return [
        *whole_files(scale, cached),
        *lines(scale, cached),
        *ranges(scale, cached, direct),
        *trees(scale, cached),
        lone_read(direct),
        *shifted_reads(cached),
    ]


def whole_files(scale: Scale, cached: Work) -> list[Case]:
    """Opens, reads and closes: small files by path and by handle, and one large file."""
    ours, handles, blocking = (
        "aiofs read_bytes",
        "aiofs read-only handles",
        "open().read(), blocking",
    )
    small = DataFile("small", scale.files * 4 * KiB, apart=True)
    peers = (blocking, "asyncio.to_thread(open().read)", "aiofiles, whole", "anyio, whole")
    pieces = replace(cached, file=small)
    large = replace(cached, operation="whole", block=scale.file, seconds=cached.seconds * 4)
    cases = []
    for depth in (1, 32):
        whole = replace(pieces, operation="whole", depth=depth)
        locked = replace(pieces, operation="locked", depth=depth)
        cases += [
            Case(
                f"P15/{depth}",
                f"whole small files, {coroutines(depth)}",
                whole,
                ("C", ours, *peers),
                (AtMost(ours, 1.6),),
            ),
            Case(
                f"P16/{depth}",
                f"whole small files through handles, {coroutines(depth)}",
                locked,
                ("C", handles),
                (AtMost(handles, 4),),
            ),
        ]
    cases.append(
        Case(
            "P17",
            "a whole large file",
            large,
            (blocking, ours, *peers[1:]),
            (AtMost(ours, 1.0 if (os.cpu_count() or 1) < 4 else 0.6, blocking),),
        )
    )
    return cases


def lines(scale: Scale, work: Work) -> list[Case]:
    ours, blocking = "aiofs open, async for", "open(), for, blocking"
    peers = ("aiofiles, async for, first lines", "anyio, async for, first lines")
    file = DataFile("rows", scale.rows, fill=MiB, rows=True)
    return [
        Case(
            f"P18/{kind}",
            f"lines of a CSV file, {title}",
            replace(work, file=file, operation=operation),
            (blocking, ours, *peers),
            (AtMost(ours, 1.5, blocking),),
        )
        for kind, title, operation in (
            ("binary", "as bytes", "lines"),
            ("text", "as str", "text"),
        )
    ]


def ranges(scale: Scale, cached: Work, direct: Work) -> list[Case]:
    """Many ranges in one await, into new memory or into buffers that the ranges share."""
    ours = "aiofs read_ranges"
    peers = ("asyncio.to_thread(os.pread of all)", "aiofiles, seek and read")

    def case(key: str, title: str, work: Work, operation: str, first: str, *goals: Goal) -> Case:
        work = replace(
            work, operation=operation, block=64 * KiB, depth=64, sweep=scale.ranges, observed=0.03
        )
        title = f"ranges of 4 to 64 KiB in one await, {title}"
        return Case(f"P19/{key}", title, work, (first, ours, *peers), goals)

    bounded = Memory(ours, 32 * MiB)
    into = "ranges_into"
    return [
        case("cached", "new bytes", cached, "ranges", "C", AtMost(ours, 1.25)),
        case("buffers", "into buffers", cached, into, "C", AtMost(ours, 1.25), bounded),
        case(
            "direct",
            "O_DIRECT",
            direct,
            into,
            "fio io_uring",
            Faster(ours, 0.85, "fio io_uring"),
            bounded,
        ),
    ]


def trees(scale: Scale, work: Work) -> list[Case]:
    file = DataFile("files", scale.tree * 4 * KiB, tree=True)
    work = replace(work, file=file, sweep=scale.tree, observed=0.03)
    few = scale.tree // 4  # all of them would take minutes
    saved = DataFile("saved-files", few * 4 * KiB, tree=True)
    copies = ("aiofs copyfile, 32 tasks", "aiofs copytree")
    saves = "aiofs write_bytes, atomic and durable"
    return [
        Case(
            "P20/copy",
            "a tree of small files, copied",
            replace(work, operation="copy_tree"),
            (
                "cp -r",
                *copies,
                "asyncio.to_thread(shutil.copyfile)",
                "aiofiles, read and write",
            ),
            tuple(Faster(name, 0.7, "cp -r") for name in copies),
        ),
        Case(
            "P20/save",
            "a tree of small files, saved atomically and durably",
            replace(work, operation="save_tree", file=saved, sweep=few),
            ("C, 4 threads", saves, "asyncio.to_thread(save)"),
            (Faster(saves, 0.8, "C, 4 threads"),),
        ),
    ]


def lone_read(direct: Work) -> Case:
    counted = "aiofs await aiocb, under strace"
    return Case(
        "P21",
        "a lone awaited O_DIRECT read",
        replace(direct, seconds=direct.seconds * 2, observed=direct.seconds * 2),
        ("C", REQUESTS, "fio psync", "fio io_uring", "asyncio.to_thread", "aiofiles", counted),
        (AtMost(REQUESTS, 1.25, metric="p50"), Calls(counted, 8)),
    )


def shifted_reads(cached: Work) -> list[Case]:
    """Reads into buffers that begin where those of large bytearrays do."""
    aligned = "aiofs AccessHandle, aligned"
    return [
        Case(
            f"P25/{key}",
            f"cached reads of {key}, 16 bytes after a page begins",
            replace(cached, block=block, shift=16),
            ("C", HANDLE, aligned),
            (AtMost(HANDLE, 1.3, aligned), AtMost(HANDLE, 0.7)),
        )
        for key, block in (("4K", 4 * KiB), ("64K", 64 * KiB), ("1M", MiB))
    ]
