"""The participants, by the names that users write, and which interpreter measures which."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aiofs.bench.programs import Fio, Floor, Program
from aiofs.bench.running import LIBRARIES, PACKAGE, Python, ours, peer


@dataclass(frozen=True)
class Participant:
    """What a name stands for. module: what an interpreter needs to measure it, beside Python."""

    what: Python | Program
    meaning: str
    module: str = ""
    needs: str = ""


PARTICIPANTS = {
    "C": Participant(Floor(), "pread and pwrite in C, one operation at a time: the floor"),
    "C-threads": Participant(
        Python(f"{LIBRARIES}.threads:Threads"), "C threads beside an idle loop: the floor of stall"
    ),
    "aiofs": Participant(ours("by_volume"), "aiofs, by the handle or path of the job's volume"),
    "aiofs-aio": Participant(ours("Requests"), "aio_read or aio_write, then await"),
    "aiofs-list": Participant(ours("Lists"), "lio_listio of iodepth reads"),
    "aiofs-sync": Participant(ours("sync_by_volume"), "SyncAccessHandle, blocking"),
    "threads": Participant(peer("ToThread"), "asyncio.to_thread(os.preadv, ...)"),
    "blocking": Participant(peer("Inline"), "os.preadv on the loop's thread, which it blocks"),
    "aiofiles": Participant(peer("Aiofiles"), "aiofiles, seek and readinto", "aiofiles"),
    "anyio": Participant(peer("Anyio"), "anyio.open_file, seek and readinto", "anyio"),
    "ayafileio": Participant(peer("Ayafileio"), "ayafileio, read_at", "ayafileio"),
    "turbofile": Participant(
        peer("Turbofile"), "turbofile, seek and readinto", "turbofile", "Python 3.12 or newer"
    ),
    "urio": Participant(peer("Urio"), "urio, seek and readinto", "urio", "Python 3.12 or newer"),
    "aiofile": Participant(peer("Aiofile"), "aiofile, read_bytes", "aiofile"),
    "caio": Participant(peer("Caio", ""), "caio, by the backend that it chooses", "caio"),
    "caio-linux": Participant(peer("Caio", "linux_aio"), "caio by Linux AIO", "caio"),
    "caio-io_uring": Participant(peer("Caio", "linux_uring"), "caio by io_uring", "caio"),
    "caio-threads": Participant(peer("Caio", "thread_aio"), "caio by threads", "caio"),
    "fio": Participant(Fio(), "fio: psync for iodepth=1, otherwise io_uring"),
    "fio-psync": Participant(Fio("psync"), "fio with pread and pwrite"),
    "fio-io_uring": Participant(Fio("io_uring"), "fio with io_uring"),
    "fio-posixaio": Participant(Fio("posixaio"), "fio with the C library's <aio.h>"),
    "fio-aiofs": Participant(Fio("posixaio", through="auto"), "the same under `aiofs run`"),
}

DEFAULT = ("C", "aiofs", "threads", "aiofiles", "fio")

PROBE = """
import importlib.util, json, sys, sysconfig
names = sys.argv[1:]
suffix = sysconfig.get_config_var("EXT_SUFFIX")
has = []
for name in names:
    try:
        has += [name] if importlib.util.find_spec(name) else []
    except ImportError:
        pass
print(json.dumps([sys.version.split()[0], sys.version_info[:2] >= (3, 10), suffix, has]))
"""


class NoInterpreter(Exception):
    """An interpreter cannot be used. The message names it and says why."""


@dataclass(frozen=True)
class Interpreter:
    """A Python of this machine, and what it can import."""

    path: str
    version: str
    modules: frozenset[str]

    @classmethod
    def probed(cls, path: str) -> Interpreter:
        modules = {one.module for one in PARTICIPANTS.values()} - {""}
        command = [path, "-c", PROBE, "aiofs._core", *sorted(modules)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL
            )
            version, is_new, suffix, has = json.loads(done.stdout)
        except OSError as error:
            raise NoInterpreter(f"{path}: {error.strerror}") from None
        except (ValueError, subprocess.TimeoutExpired):
            raise NoInterpreter(f"{path}: is no Python interpreter that works") from None
        if not is_new:
            raise NoInterpreter(f"{path}: is Python {version}: 3.10 or newer is needed")
        if (PACKAGE / f"_core{suffix}").exists():
            has.append("aiofs._core")
        return cls(path, version, frozenset(has))

    @property
    def short(self) -> str:
        return ".".join(self.version.split(".")[:2])


@dataclass(frozen=True)
class Entrant:
    """A participant of a run: its name in the tables, and the interpreter that measures it.

    missing: why it cannot be measured, or "".
    """

    name: str
    what: Python | Program
    interpreter: str = sys.executable
    missing: str = ""


def entrants(names: Sequence[str], paths: Iterable[str]) -> list[Entrant]:
    """Distributes participants over interpreters: this one, then those at `paths`.

    The first that has a peer measures it. aiofs is measured by each interpreter that measures a
    peer, so that each peer has an aiofs of the same interpreter beside it.
    """
    interpreters = [Interpreter.probed(path) for path in dict.fromkeys([sys.executable, *paths])]
    first = interpreters[0]
    homes = {name: home(PARTICIPANTS[name], interpreters) for name in names}
    used = [one for one in interpreters if one is first or one in homes.values()]
    found: list[Entrant] = []
    for name in names:
        participant, at = PARTICIPANTS[name], homes[name]
        if not isinstance(participant.what, Python):
            found.append(Entrant(name, participant.what))
        elif participant.what.needs_aiofs:
            found += [of_aiofs(name, participant, one, one is first) for one in used]
        elif at is None:
            found.append(Entrant(name, participant.what, missing=missing(participant, first)))
        else:
            label = name if at is first else f"{name} ({at.short})"
            found.append(Entrant(label, participant.what, at.path))
    return found


def home(participant: Participant, interpreters: Sequence[Interpreter]) -> Interpreter | None:
    """The first interpreter that can measure a peer."""
    if not isinstance(participant.what, Python) or participant.what.needs_aiofs:
        return None
    able = (one for one in interpreters if {participant.module} <= one.modules | {""})
    return next(able, None)


def of_aiofs(name: str, participant: Participant, one: Interpreter, is_first: bool) -> Entrant:
    label = name if is_first else f"{name} ({one.short})"
    lacking = "" if "aiofs._core" in one.modules else f"aiofs is not installed for {one.path}"
    return Entrant(label, participant.what, one.path, lacking)


def missing(participant: Participant, first: Interpreter) -> str:
    needs = f"; it needs {participant.needs}" if participant.needs else ""
    return (
        f"not installed for Python {first.short}{needs}: pip install {participant.module}, or name "
        "an interpreter that has it by --python PATH"
    )


def installed(names: Iterable[str]) -> list[str]:
    """Those of `names` that this interpreter and this machine can measure."""
    this = Interpreter.probed(sys.executable)
    able = []
    for name in names:
        participant = PARTICIPANTS[name]
        is_fio = isinstance(participant.what, Fio)
        if (is_fio and shutil.which("fio")) or (
            not is_fio and {participant.module} <= this.modules | {""}
        ):
            able.append(name)
    return able
