"""The table of cases: each has its work, its contenders, and the goals of aiofs.

The keys (P1, P2, ...) are those of the project's performance goals. Contenders are measured in the
order of this table, so the contenders that a goal compares are measured close together.
"""

from __future__ import annotations

from dataclasses import replace

from aiofs.bench.measuring.data import DataFile, KiB, MiB
from aiofs.bench.measuring.work import Work

from .case import Case, Scale, coroutines
from .contenders import PEERS
from .file_cases import file_cases
from .goals import (
    FASTEST_PEER,
    AtMost,
    AtMostMore,
    Each,
    Faster,
    Goal,
    Memory,
    Overhead,
    Within,
)

REQUESTS, HANDLE = "aiofs await aiocb", "aiofs AccessHandle"
AWAITED = (REQUESTS, HANDLE)
LISTS = "aiofs lio_listio"

# For cases that would take too long with all peers: the peers that are fast with many requests, and
# one peer of each kind that holds the loop (aiofile moves bytes as caio does).
FAST_PEERS = ("caio linux", "caio io_uring", "aiofile", "ayafileio")
STALLING_PEERS = ("caio linux", "caio io_uring", "ayafileio", "asyncio.to_thread", "aiofiles")
FLOODED_PEERS = ("caio io_uring", "ayafileio", "asyncio.to_thread")
SAVING_PEERS = ("caio io_uring", "asyncio.to_thread")

NOT_MEASURED = {
    "P8/throttled": "writes while the kernel throttles dirty pages",
}


def cases(scale: Scale) -> list[Case]:
    file = DataFile("cached", scale.file)
    cached = Work(file, seconds=scale.seconds, observed=scale.observed)
    cold = replace(cached, file=DataFile("cold", scale.file))
    return [
        *awaited_reads(cached),
        synchronous_reads(cached),
        *awaited_writes(replace(cached, file=DataFile("written", scale.file), operation="write")),
        memory_reads(replace(cached, file=DataFile("memory", scale.file, on_tmpfs=True))),
        direct_reads(replace(cold, direct=True)),
        *real_programs(cached, replace(cold, direct=True)),
        *loop_stall(scale, cached, cold),
        *crowds(replace(cached, operation="crowd", seconds=scale.seconds * 4)),
        *lists(cached, replace(cold, direct=True)),
        streaming(replace(cached, file=DataFile("stream", scale.stream, fill=MiB))),
        opening(replace(cached, operation="open")),
        *atomic_saves(replace(cached, operation="replace", seconds=scale.seconds * 4)),
        *file_cases(scale, cached, replace(cold, direct=True)),
        *waiting(scale, cached),
        importing(replace(cached, operation="import")),
    ]


def awaited_reads(cached: Work) -> list[Case]:
    return [
        Case(
            key,
            f"awaited 4 KiB cached read, {coroutines(depth)}",
            replace(cached, depth=depth),
            ("C", *AWAITED, other, *peers),
            (
                *beside_c_and_peers(over_c, over_peers),
                *((AtMost(other, 3),) if other == "aiofs gather" else ()),
            ),
        )
        for key, depth, over_c, over_peers, other, peers in (
            ("P1", 1, 1.25, 3, "os call, blocking", (*PEERS,)),
            ("P2/32", 32, 1.45, 1, "aiofs gather", (*PEERS,)),
            ("P2/256", 256, 1.45, 1, "aiofs gather", FAST_PEERS),
        )
    ]


def synchronous_reads(cached: Work) -> Case:
    bounds = {"aiofs SyncAccessHandle": 1.2, "aiofs aio_return": 1.4}
    return Case(
        "P3",
        "synchronous 4 KiB cached read",
        cached,
        ("C", *bounds, "os call, blocking"),
        tuple(AtMost(name, bound) for name, bound in bounds.items()),
    )


def awaited_writes(cached: Work) -> list[Case]:
    return [
        Case(
            f"P4/{depth}",
            f"awaited 4 KiB cached write, {coroutines(depth)}",
            replace(cached, depth=depth),
            ("C", *AWAITED, "os call, blocking", *PEERS),
            beside_c_and_peers(over_c, 1),
        )
        for depth, over_c in ((1, 1.4), (32, 1.45))
    ]


def memory_reads(tmpfs: Work) -> Case:
    ours = "aiofs MemoryVolume"
    return Case(
        "P5",
        "synchronous 4 KiB read, memory volume",
        tmpfs,
        ("C", ours),
        (AtMost(ours, 1.3),),
    )


def direct_reads(direct: Work) -> Case:
    return Case(
        "P6",
        "O_DIRECT random read, 32 in flight",
        replace(direct, depth=32, seconds=direct.seconds * 4),
        ("fio io_uring", REQUESTS, "fio posixaio", "fio psync"),
        (Faster(REQUESTS, 0.85, "fio io_uring"),),
    )


def real_programs(cached: Work, direct: Work) -> list[Case]:
    """fio alone, and fio under `aiofs run`."""
    ours, threads, glibc = "fio posixaio, aiofs", "fio posixaio, aiofs threads", "fio posixaio"

    def case(key: str, title: str, work: Work, other: str, *goals: Goal) -> Case:
        work = replace(work, seconds=work.seconds * 4)
        return Case(f"P7/{key}", f"fio: {title}", work, (other, ours, threads, glibc), goals)

    return [
        case(
            "cached-1",
            "cached reads, one at a time",
            cached,
            "fio psync",
            Faster(ours, 0.75, "fio psync"),
        ),
        case(
            "direct-32",
            "O_DIRECT random reads, 32 in flight",
            replace(direct, depth=32),
            "fio io_uring",
            Faster(ours, 0.75, "fio io_uring"),
            Faster(ours, 4, glibc),
        ),
        case(
            "cached-32",
            "cached reads, 32 in flight",
            replace(cached, depth=32),
            "fio io_uring",
            Faster(ours, 1.5, glibc),
        ),
    ]


def crowds(work: Work) -> list[Case]:
    """Compares the cost of a request when many are in flight with its cost when few are."""
    pairs = [(f"{face}, 100", f"{face}, 100,000") for face in ("C", "Python")]
    goals = [
        goal
        for few, many in pairs
        for goal in (
            AtMost(many, 1.3, few),
            AtMost(many, 1.3, few, "cpu"),
            Each(many, KiB),
            Each(many, KiB, metric="kernel memory each"),
        )
    ]
    contenders = tuple(name for pair in pairs for name in pair)
    return [
        Case(f"P9/{key}", f"many outstanding: {title}", its, contenders, tuple(goals))
        for key, title, its in (
            ("pipe", "reads of one pipe", replace(work, block=64)),
            ("direct", "O_DIRECT reads", replace(work, direct=True)),
        )
    ]


def loop_stall(scale: Scale, cached: Work, cold: Work) -> list[Case]:
    cached = replace(cached, seconds=0, observed=scale.stall)
    cold = replace(cold, seconds=0, observed=scale.stall, cold=True)

    def case(key: str, title: str, work: Work, ours: tuple[str, ...], *peers: str) -> Case:
        contenders = ("C threads", *ours, *peers)
        return Case(f"P8/{key}", f"loop stall: {title}", work, contenders, no_more_stall(ours))

    def once(block: int) -> Work:
        return replace(cold, block=block, sweep=scale.file // block)

    def many(work: Work) -> Work:
        return replace(work, depth=scale.requests, sweep=scale.requests)

    saved = replace(cached, file=replace(cached.file, name="saved"), operation="save")

    return [
        case("cached-64K", "cached reads of 64 KiB", replace(cached, block=64 * KiB), AWAITED),
        case("cached-1M", "cached reads of 1 MiB", replace(cached, block=MiB), AWAITED),
        case(
            "cached-file",
            "cached reads of a whole file",
            replace(cached, block=scale.file),
            AWAITED,
            *STALLING_PEERS,
        ),
        case("cold-1M", "cold reads of 1 MiB", once(MiB), AWAITED),
        case("cold-file", "cold reads of a whole file", once(scale.file), AWAITED),
        case(
            "many-cached",
            "thousands of cached reads at once",
            many(cached),
            (*AWAITED, LISTS),
        ),
        case(
            "many-cold",
            "thousands of cold reads at once",
            many(cold),
            (*AWAITED, LISTS),
            *FLOODED_PEERS,
        ),
        case(
            "fsync",
            "a storm of writes with fdatasync",
            replace(saved, depth=8, sweep=scale.saves),
            (REQUESTS,),
            *SAVING_PEERS,
        ),
    ]


def lists(cached: Work, direct: Work) -> list[Case]:
    return [
        Case(
            "P10/cached",
            "lio_listio of 256 cached reads against 256 awaits",
            replace(cached, depth=256),
            ("C", REQUESTS, LISTS),
            (Overhead(LISTS, 0.5, REQUESTS),),
        ),
        Case(
            "P10/direct",
            "lio_listio of 256 O_DIRECT reads against 256 awaits",
            replace(direct, depth=256, seconds=direct.seconds * 2),
            (REQUESTS, LISTS),
            (AtMost(LISTS, 0.5, REQUESTS, "cpu"),),
        ),
    ]


def streaming(stream: Work) -> Case:
    return Case(
        "P11",
        "streaming in pieces of 1 MiB",
        replace(stream, block=MiB, sequential=True, sweep=stream.file.size // MiB),
        ("dd", HANDLE),
        (Faster(HANDLE, 0.9, "dd"), Memory(HANDLE, 32 * MiB)),
    )


def opening(work: Work) -> Case:
    ours = "aiofs open + close"
    return Case(
        "P12",
        "open, lock and close a sync access handle",
        work,
        ("C", ours),
        (AtMost(ours, 4),),
    )


def atomic_saves(work: Work) -> list[Case]:
    ours = "aiofs create_writable"
    return [
        Case(
            f"P13/{key}",
            f"atomic save of {title}",
            replace(work, file=DataFile(f"replaced-{key}", size), block=size),
            ("C", ours, "aiofs SyncAccessHandle, exclusive", "asyncio.to_thread"),
            (Faster(ours, 0.8),),
        )
        for key, title, size in (("4K", "4 KiB", 4 * KiB), ("1M", "1 MiB", MiB))
    ]


def waiting(scale: Scale, work: Work) -> list[Case]:
    """Waiting for locks: what a hand-over costs, and what `wait=` costs where nobody waits."""
    ours, without = "aiofs open + close, wait=", "aiofs open + close"
    handed = replace(work, operation="round", depth=scale.processes, sweep=scale.processes)
    return [
        Case(
            "P26/round",
            "one locked file goes round processes",
            handed,
            ("C futex", "aiofs_open_wait"),
            (Within("aiofs_open_wait", 5e-3), AtMost("aiofs_open_wait", 10, "C futex")),
        ),
        Case(
            "P26/open",
            "open, lock and close a file that is free, with `wait=`",
            replace(work, operation="open"),
            (without, ours),
            (AtMost(ours, 1.1, without),),
        ),
    ]


def importing(work: Work) -> Case:
    ours = "import uvloop, aiofs"
    return Case(
        "P14",
        "import of aiofs",
        work,
        ("import uvloop", ours),
        (AtMostMore(ours, 30e-3, "import uvloop"),),
    )


def beside_c_and_peers(over_c: float, over_peers: float) -> tuple[Goal, ...]:
    return (
        *(AtMost(name, over_c) for name in AWAITED),
        *(Faster(name, over_peers, FASTEST_PEER) for name in AWAITED),
    )


def no_more_stall(ours: tuple[str, ...]) -> tuple[Goal, ...]:
    return tuple(
        AtMostMore(name, bound, "C threads", metric)
        for name in ours
        for metric, bound in (("stall p99.9", 1e-3), ("stall worst", 5e-3))
    )
