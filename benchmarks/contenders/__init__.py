"""All contenders, by the names in the tables."""

from __future__ import annotations

from aiofs.bench.programs import Fio, Floor, Program
from aiofs.bench.running import LIBRARIES as MODULES
from aiofs.bench.running import Python, ours, peer

from . import programs

PROGRAMS: dict[str, Program] = {
    "C": Floor(),
    "dd": programs.Dd(),
    "fio psync": Fio("psync"),
    "fio io_uring": Fio("io_uring"),
    "fio posixaio": Fio("posixaio"),
    "fio posixaio, aiofs": Fio("posixaio", through="io_uring"),
    "fio posixaio, aiofs threads": Fio("posixaio", through="threads"),
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
PEERS: dict[str, Python] = {
    "caio linux": peer("Caio", "linux_aio"),
    "caio io_uring": peer("Caio", "linux_uring"),
    "caio threads": peer("Caio", "thread_aio"),
    "aiofile": peer("Aiofile"),
    "ayafileio": peer("Ayafileio"),
    "asyncio.to_thread": peer("ToThread"),
    "anyio": peer("Anyio"),
    "aiofiles": peer("Aiofiles"),
}

LIBRARIES: dict[str, Python] = {
    "C threads": Python(f"{MODULES}.threads:Threads"),
    "aiofs await aiocb": ours("Requests"),
    "aiofs aio_return": ours("PosixCalls"),
    "aiofs lio_listio": ours("Lists"),
    "aiofs AccessHandle": ours("Handle"),
    "aiofs AccessHandle, aligned": ours("AlignedHandle"),
    "aiofs read_bytes": ours("WholeFiles"),
    "aiofs read-only handles": ours("LockedFiles"),
    "open().read(), blocking": peer("InlineWhole"),
    "asyncio.to_thread(open().read)": peer("ToThreadWhole"),
    "aiofiles, whole": peer("AiofilesWhole"),
    "anyio, whole": peer("AnyioWhole"),
    "aiofs gather": ours("Gathered"),
    "aiofs SyncAccessHandle": ours("SyncHandle"),
    "aiofs MemoryVolume": ours("SyncMemoryHandle"),
    "aiofs open + close": ours("Opening"),
    "aiofs open + close, wait=": ours("WaitingOpening"),
    "aiofs create_writable": ours("Writable"),
    "aiofs SyncAccessHandle, exclusive": ours("ExclusiveHandle"),
    "os call, blocking": peer("Inline"),
    **PEERS,
}
