"""All contenders, by the names in the tables."""

from __future__ import annotations

from pathlib import Path

from aiofs.bench.programs import Fio, Floor, Program
from aiofs.bench.running import LIBRARIES as MODULES
from aiofs.bench.running import Python, ours, peer

from . import programs

ROOT = str(Path(__file__).parent.parent.parent)


def single(name: str, needs_aiofs: bool = False) -> Python:
    """A class of ../libraries, `module:name`."""
    return Python(f"benchmarks.libraries.{name}", needs_aiofs=needs_aiofs, path=(ROOT,))


PROGRAMS: dict[str, Program] = {
    "C": Floor(),
    "dd": programs.Dd(),
    "cp -r": programs.Cp(),
    "C, 4 threads": programs.SaveTree(),
    "aiofs await aiocb, under strace": programs.SystemCalls(),
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
    "aiofs open, async for": single("lines:Ours", True),
    "open(), for, blocking": single("lines:Inline"),
    "aiofiles, async for, first lines": single("lines:Aiofiles"),
    "anyio, async for, first lines": single("lines:Anyio"),
    "aiofs read_ranges": single("ranges:Ours", True),
    "asyncio.to_thread(os.pread of all)": single("ranges:OneTrip"),
    "aiofiles, seek and read": single("ranges:Aiofiles"),
    "aiofs copyfile, 32 tasks": single("trees:Ours", True),
    "aiofs copytree": single("trees:CopyTree", True),
    "aiofs write_bytes, atomic and durable": single("trees:Ours", True),
    "asyncio.to_thread(shutil.copyfile)": single("trees:ToThread"),
    "asyncio.to_thread(save)": single("trees:ToThread"),
    "aiofiles, read and write": single("trees:Aiofiles"),
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
