"""Jobs: read from the command line and from TOML, checked, and spread over the values they list."""

from __future__ import annotations

import difflib
import itertools
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiofs.bench.keys import KEYS, shown
from aiofs.bench.measuring.data import PAGE, KiB, MiB
from aiofs.bench.participants import PARTICIPANTS

try:
    if sys.version_info >= (3, 11):
        import tomllib as toml
    else:
        import tomli as toml
except ImportError:
    toml = None

LENGTHS = ("runtime", "count")  # of a pass: one or the other
RUN_KEYS = ("rounds", "with", "directory", "python")
LEAST_DIRECT = 512  # bytes; no device has smaller sectors


class BadJob(Exception):
    """A job cannot be read. The message names the file, the job, the key and the choices."""


@dataclass(frozen=True)
class Job:
    """One measurement for all participants: a value for every key.

    group: the name of the job in its file. varies: the keys for which the group lists values.
    given: the keys that are not left to their defaults.
    """

    group: str
    keys: Mapping[str, Any]
    varies: Sequence[str] = ()
    given: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        values = [f"{key}={shown(key, self.keys[key])}" for key in self.varies]
        return " ".join([self.group, *values])

    def __getitem__(self, key: str) -> Any:
        return self.keys[key]

    @property
    def writes(self) -> bool:
        return self["rw"] not in ("read", "randread")


@dataclass
class JobSet:
    """The jobs of a run, and what the file says of the run itself."""

    jobs: list[Job] = field(default_factory=list)
    run: dict[str, Any] = field(default_factory=dict)


DEFAULT_SET: dict[str, dict[str, Any]] = {
    "one read at a time": {"rw": "randread", "iodepth": 1},
    "32 reads in flight": {"rw": "randread", "iodepth": 32},
    "32 writes in flight": {"rw": "randwrite", "iodepth": 32},
    "large reads": {"rw": "read", "bs": MiB, "iodepth": 4, "fill": MiB},
}
DEFAULT_KEYS: dict[str, Any] = {"runtime": 0.1, "size": 32 * MiB, "fill": 4 * KiB}


def default_set() -> JobSet:
    """What `aiofs bench` runs without arguments."""
    tables = {name: {**DEFAULT_KEYS, **table} for name, table in DEFAULT_SET.items()}
    return JobSet([*from_tables(tables, {}, "the default jobs")])


def from_command_line(keys: Mapping[str, Any]) -> JobSet:
    """One job, whose keys are the options, which may list values: `--iodepth 1,32`."""
    return JobSet(
        [*expanded("job", {key: listed(key, text) for key, text in keys.items()}, "", "--")]
    )


def listed(key: str, text: str) -> str | list[str]:
    """The values of an option, which may list them: `--iodepth 1,32`."""
    return text.split(",") if KEYS[key].many and "," in text else text


def from_file(path: Path, overridden: Mapping[str, Any]) -> JobSet:
    """Reads a file of jobs: a table for each, `[global]` for keys of all, and keys of the run."""
    document = load(path)
    tables = {name: value for name, value in document.items() if isinstance(value, dict)}
    run = {name: value for name, value in document.items() if name not in tables}
    for key, value in run.items():
        check_run_key(key, value, str(path))
    if not tables.keys() - {"global"}:
        raise BadJob(f"{path}: has no job: write a table such as [reads], with keys below it")
    return JobSet([*from_tables(tables, overridden, str(path))], run)


def load(path: Path) -> dict[str, Any]:
    if toml is None:
        raise BadJob(f"{path}: this Python has no TOML reader: pip install 'aiofs[bench]'")
    try:
        document: dict[str, Any] = toml.loads(path.read_text())
    except OSError as error:
        raise BadJob(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise BadJob(f"{path}: is no TOML: {error}") from None
    return document


def check_run_key(key: str, value: Any, where: str) -> None:
    if key in KEYS:
        raise BadJob(f'{where}: "{key}" belongs into a job or into [global], not above them')
    if key not in RUN_KEYS:
        raise BadJob(f'{where}: unknown key "{key}"{like(key, RUN_KEYS)}')
    if key == "rounds":
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise BadJob(f"{where}: rounds = {value!r}: must be a number from 1 on")
    elif key == "with":
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise BadJob(f'{where}: with = {value!r}: must be a list, ["C", "aiofs"]')
        check_participants(value, f"{where}: with")
    elif not isinstance(value, str) and not (key == "python" and isinstance(value, list)):
        raise BadJob(f"{where}: {key} = {value!r}: must be a path")


def check_participants(names: Iterable[str], where: str) -> None:
    for name in names:
        if name not in PARTICIPANTS:
            raise BadJob(f'{where}: unknown participant "{name}"{like(name, PARTICIPANTS)}')


def from_tables(
    tables: Mapping[str, Mapping[str, Any]], overridden: Mapping[str, Any], where: str
) -> Iterator[Job]:
    common = tables.get("global", {})
    options = {key: listed(key, value) for key, value in overridden.items()}
    for name, table in tables.items():
        if name != "global":
            keys = over(over(common, table), options)
            yield from expanded(name, keys, f'{where}: job "{name}": ')


def over(keys: Mapping[str, Any], nearer: Mapping[str, Any]) -> dict[str, Any]:
    """The keys, where those that are nearer to the job count. It has one of LENGTHS."""
    replaced = LENGTHS if nearer.keys() & set(LENGTHS) else ()
    return {**{key: value for key, value in keys.items() if key not in replaced}, **nearer}


def expanded(group: str, keys: dict[str, Any], where: str, dashes: str = "") -> Iterator[Job]:
    """The jobs of a table: one for each combination of the values that its keys list."""
    values = {key: parsed(key, value, where, dashes) for key, value in keys.items()}
    if all(key in values for key in LENGTHS):
        raise BadJob(f"{where}{dashes}runtime and {dashes}count exclude each other: choose one")
    varies = [key for key, listed in values.items() if len(listed) > 1]
    every = {key: values.get(key, [spec.default]) for key, spec in KEYS.items()}
    for combination in itertools.product(*every.values()):
        keys_of_job = dict(zip(every, combination, strict=True))
        job = Job(group, keys_of_job, varies, frozenset(values))
        check(job, where, dashes)
        yield job


def parsed(key: str, value: Any, where: str, dashes: str) -> list[Any]:
    """The values of a key, each checked."""
    spec = KEYS.get(key)
    if spec is None:
        raise BadJob(f'{where}unknown key "{key}"{like(key, KEYS)}')
    given = value if isinstance(value, list) else [value]
    if not given or (len(given) > 1 and not spec.many):
        raise BadJob(f"{where}{dashes}{key} = {value!r}: takes one value")
    results = []
    for one in given:
        try:
            result = spec.parse(one)
        except ValueError as error:
            said = f"{dashes}{key} {one}" if dashes else f"{key} = {one!r}"
            raise BadJob(f"{where}{said}: {error}") from None
        if result not in results:
            results.append(result)
    return results


def check(job: Job, where: str, dashes: str) -> None:
    """Refuses keys that exclude each other."""

    def refuse(key: str, why: str) -> None:
        raise BadJob(f"{where}{dashes}{key} {shown(key, job[key])}: {why}")

    if job["size"] < job["bs"] and job["filename"] is None:
        refuse("size", f"is less than one operation, bs={shown('bs', job['bs'])}")
    if job["direct"]:
        if job["bs"] % LEAST_DIRECT:
            refuse("bs", f"direct=true needs a multiple of {LEAST_DIRECT}")
        if job["buffer_offset"] % LEAST_DIRECT:
            refuse("buffer_offset", f"direct=true needs a multiple of {LEAST_DIRECT}")
        if job["volume"] != "file":
            refuse("volume", "access handles have no O_DIRECT: direct=true needs volume=file")
        if job["cache"] == "cold":
            refuse("cache", "direct=true passes the page cache by: leave cache away")
    if job["cache"] == "cold" and job["volume"] == "memory":
        refuse("volume", "what is in memory cannot be cold: choose another volume")
    if job["filename"] is not None and job["volume"] != "file":
        refuse("volume", "a filename is opened by its path: it needs volume=file")
    if job["volume"] != "file" and job["fill"] % PAGE:
        refuse("fill", f"volume={job['volume']} needs a multiple of {PAGE}")


def like(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: what is near to it, and all choices."""
    names = list(known)
    near = difflib.get_close_matches(name, names, 1)
    meant = f' (did you mean "{near[0]}"?)' if near else ""
    return f"{meant}: choose from {', '.join(names)}"
