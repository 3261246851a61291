"""All contenders, by the names in the tables."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ..work import Work
from . import aiofs, floor, peers, programs
from .base import Library, Program

PROGRAMS: dict[str, Program] = {
    "C": floor.Floor(),
    "dd": programs.Dd(),
    "fio psync": programs.Fio("psync"),
    "fio io_uring": programs.Fio("io_uring"),
    "fio posixaio": programs.Fio("posixaio"),
    "fio posixaio, aiofs": programs.Fio("posixaio", through="io_uring"),
    "fio posixaio, aiofs threads": programs.Fio("posixaio", through="threads"),
    "C, 100": programs.Crowd("C", 100),
    "C, 100,000": programs.Crowd("C", 100_000),
    "Python, 100": programs.Crowd("Python", 100),
    "Python, 100,000": programs.Crowd("Python", 100_000),
    "C futex": programs.Round("futex"),
    "aiofs_open_wait": programs.Round("aiofs"),
    "import uvloop": programs.Importing("uvloop"),
    "import uvloop, aiofs": programs.Importing("uvloop", "aiofs"),
}

# Peers: aiofs must be faster than these.
PEERS: dict[str, Callable[[Work], Library]] = {
    "caio linux": partial(peers.Caio, "linux_aio"),
    "caio io_uring": partial(peers.Caio, "linux_uring"),
    "caio threads": partial(peers.Caio, "thread_aio"),
    "aiofile": peers.Aiofile,
    "ayafileio": peers.Ayafileio,
    "asyncio.to_thread": peers.ToThread,
    "anyio": peers.Anyio,
    "aiofiles": peers.Aiofiles,
}

LIBRARIES: dict[str, Callable[[Work], Library]] = {
    "C threads": floor.Threads,
    "aiofs await aiocb": aiofs.Requests,
    "aiofs aio_return": aiofs.PosixCalls,
    "aiofs lio_listio": aiofs.Lists,
    "aiofs AccessHandle": aiofs.Handle,
    "aiofs gather": aiofs.Gathered,
    "aiofs SyncAccessHandle": aiofs.SyncHandle,
    "aiofs MemoryVolume": aiofs.MemoryHandle,
    "aiofs open + close": aiofs.Opening,
    "aiofs open + close, wait=": aiofs.WaitingOpening,
    "aiofs create_writable": aiofs.Writable,
    "aiofs SyncAccessHandle, exclusive": aiofs.ExclusiveHandle,
    "os call, blocking": peers.Inline,
    **PEERS,
}
