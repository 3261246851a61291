"""`aiofs.files.open` beside the built-in `open`: random programs, on two equal files.

Each call returns the same or raises the same error, in every mode, encoding and newline. The two
files stay equal.
"""

import asyncio
import builtins
import os
import random

import pytest
from support import write_file
from volumes.dict_volume import DictVolume

from aiofs import FileHandle, HostVolume, _core, files

SEEDS, STEPS = range(150), 40
WINDOWS = [
    None,
    (1, 1, 1),
    (7, 30, 7),
    (100, 100, 100),
    (3000, 9000, 3000),
]  # bytes; None: as usual
MODES = ["r", "r+", "w", "w+", "a", "a+", "rb", "r+b", "wb", "w+b", "ab", "a+b"]
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "latin-1", "ascii", "shift_jis", "utf-7"]
NEWLINES = [None, "", "\n", "\r", "\r\n"]
PIECES = ["a", "line\n", "\r\n", "\r", "größer", "日本", "x" * 9000, "\n", ""]
LINES = [
    "row;1;2\n" * 40,
    "a\r\n" * 50,
    "gr\u00f6\u00dfe\n" * 30,
    "b\r" * 9,
    "\u65e5\u672c\r\n" * 20,
]
READS = ["read", "readline", "next", "next", "next", "readline", "tell", "back", "seek", "peek"]
CALLS = [
    *("read", "readline", "readlines", "write", "writelines", "seek", "tell", "truncate", "flush"),
    *("read1", "readinto", "peek", "next", "seekable", "writable", "close", "back"),
]


async def outcome(call):
    try:
        result = call()
        if asyncio.iscoroutine(result):
            result = await result
        return result
    except (StopIteration, StopAsyncIteration):
        return "the end"
    except Exception as error:
        return type(error), str(error)


class Program:
    """A file of each kind, and the random calls on both."""

    whences = 4  # with SEEK_DATA

    def __init__(self, random, ours, plain, calls=CALLS):
        self.random, self.ours, self.plain, self.calls = random, ours, plain, calls
        self.binary = isinstance(ours, (files.AsyncBufferedIOBase, files.AsyncFileIO))
        self.cookies = [0]

    def data(self):
        text = "".join(self.random.choices(PIECES, k=self.random.randrange(4)))
        return text.encode() if self.binary else text

    def arguments(self, name):
        if name in ("read", "readline", "readlines", "read1"):
            return self.random.choice([(), (-1,), (0,), (1,), (7,), (5000,), (None,)])
        if name == "write":
            return (self.random.choice([self.data(), self.data(), 5]),)
        if name == "writelines":
            return ([self.data() for _ in range(self.random.randrange(4))],)
        if name == "seek":
            if self.binary or not self.random.randrange(3):
                return (self.random.randrange(-2, 30), self.random.randrange(self.whences))
            return (self.random.choice(self.cookies),)
        if name == "truncate":
            return self.random.choice([(), (0,), (5,), (9000,)])
        return ()

    async def both(self, name, arguments):
        if name == "readinto":
            buffers = bytearray(6), bytearray(6)
            theirs = await outcome(lambda: self.plain.readinto(buffers[0]))
            got = await outcome(lambda: self.ours.readinto(buffers[1]))
            return (theirs, buffers[0]), (got, buffers[1])
        if name == "next":
            theirs = await outcome(lambda: self.plain.readline() or "the end")
            return theirs, await outcome(self.ours.__anext__)
        theirs = await outcome(lambda: getattr(self.plain, name)(*arguments))
        return theirs, await outcome(lambda: getattr(self.ours, name)(*arguments))

    async def step(self):
        name = self.random.choice(self.calls)
        if name == "close" and self.random.randrange(10):
            name = "tell"
        if name == "back":
            name, arguments = "seek", (self.random.choice(self.cookies),)
        else:
            arguments = self.arguments(name)
        if not hasattr(self.ours, name) and name != "next":
            return
        theirs, got = await self.both(name, arguments)
        assert got == theirs, (name, arguments)
        if name == "tell" and isinstance(got, int):
            self.cookies.append(got)


def without_amounts(calls, mode, options):
    """Without the calls that tell the size of the buffer, where `open` has its own."""
    if mode != "rb" or options["buffering"] != -1:
        return calls
    return [name for name in calls if name not in ("peek", "read1")]


async def compare(seed, folder, volume=None):
    """volume: what our file is in, opened by its handle; None: it is opened by its path."""
    chance = random.Random(seed)
    mode = chance.choice(MODES)
    if isinstance(volume, DictVolume) and mode in ("r+", "w+", "a+"):
        return  # each read on a host thread tells first, which flushes
    options = {}
    if "b" not in mode:
        options = {"encoding": chance.choice(ENCODINGS), "newline": chance.choice(NEWLINES)}
        options["errors"] = chance.choice([None, "replace"])
    options["buffering"] = chance.choice([-1, -1, 0 if "b" in mode else 1, 100])
    if isinstance(volume, DictVolume) and options["buffering"] == -1:
        options["buffering"] = 4096  # of a volume in Python it is not the filesystem's block
    begins = "".join(chance.choices(PIECES, k=6)).encode(
        options.get("encoding", "utf-8"), "replace"
    )
    paths = folder / f"ours{seed}", folder / f"plain{seed}"
    for path in paths:
        path.write_bytes(begins)
    target, calls = paths[0], without_amounts(CALLS, mode, options)
    if volume is not None:
        target = FileHandle._of(volume, paths[0].name)
    if isinstance(volume, DictVolume):
        write_file(volume, paths[0].name, begins)
    with builtins.open(paths[1], mode, **options) as plain:
        async with files.open(target, mode, **options) as ours:
            program = Program(chance, ours, plain, calls)
            if isinstance(volume, DictVolume):
                program.whences = 3  # it knows no holes
            try:
                for _ in range(STEPS):
                    await program.step()
                    assert ours.closed == plain.closed
            except AssertionError:
                print(f"seed {seed}: {mode} {options}")
                raise
    if isinstance(volume, DictVolume):
        paths[0].write_bytes(volume.paths[paths[0].name].data)
    assert paths[0].read_bytes() == paths[1].read_bytes(), seed


@pytest.mark.parametrize("make", [HostVolume, lambda folder: DictVolume()])
async def test_random_programs_on_handles_have_the_same_outcome(tmp_path, make):
    with make(tmp_path) as volume:
        for seed in SEEDS:
            await compare(seed, tmp_path, volume)
    assert _core._blocking_reads() == 0


async def test_random_programs_have_the_same_outcome(tmp_path):
    for seed in SEEDS:
        await compare(seed, tmp_path)
    assert _core._blocking_reads() == 0


@pytest.fixture(params=WINDOWS)
def calls(request):
    """Calls, with windows of few bytes, which end anywhere in lines and characters.

    Then the buffers hold other pieces of the file than the built-in's, which some calls tell.
    """
    if request.param is None:
        yield READS
        return
    before = _core._set_windows(*request.param)
    yield [name for name in READS if name not in ("peek", "tell")]
    _core._set_windows(*before)


def change(chance, paths, size):
    """Another descriptor writes to both files, cuts them off, or the first leaves the cache."""
    how = chance.randrange(8)
    for path in paths:
        with builtins.open(path, "r+b", 0) as file:
            if how == 0:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            elif how == 1:
                file.truncate(chance.randrange(size + 1))
                return change_of_same(file, paths)
            else:
                file.seek(chance.randrange(size + 1))
                file.write(chance.choice(PIECES).encode())
                return change_of_same(file, paths)


def change_of_same(file, paths):
    """Makes the second file equal to the first, in place."""
    with builtins.open(paths[0], "rb") as source, builtins.open(paths[1], "r+b", 0) as target:
        data = source.read()
        target.write(data)
        target.truncate(len(data))


async def read_beside_changes(seed, folder, calls=READS):
    chance = random.Random(seed)
    mode = chance.choice(["r", "r", "rb", "rb", "r+", "r+b"])
    options = {"buffering": chance.choice([-1, -1, 0 if "b" in mode else 200, 100])}
    if "b" not in mode:
        options |= {"newline": chance.choice([*NEWLINES, None, ""]), "errors": "replace"}
        options["encoding"] = chance.choice([*ENCODINGS, "utf-8", "utf-8", "utf-8"])
    text = "".join(
        chance.choices([*PIECES, *LINES, *LINES, *LINES, *LINES], k=chance.randrange(90))
    )
    data = text.encode(options.get("encoding", "utf-8"), "replace")
    paths = folder / f"ours{seed}", folder / f"plain{seed}"
    for path in paths:
        path.write_bytes(data)
    default = (mode, options["buffering"]) == ("rb", -1)
    changes = chance.choice([0, 0, 3, 20]) if calls is READS and not default else 0
    with builtins.open(paths[1], mode, **options) as plain:
        async with files.open(paths[0], mode, **options) as ours:
            program = Program(chance, ours, plain, without_amounts(calls, mode, options))
            try:
                for _ in range(STEPS * 5):
                    await program.step()
                    if chance.randrange(100) < changes:
                        change(chance, paths, len(data))
            except AssertionError:
                print(f"seed {seed}: {mode} {options}")
                raise


async def test_reads_have_the_same_outcome_while_others_change_the_file(tmp_path, calls):
    for seed in SEEDS[:40]:
        await read_beside_changes(seed, tmp_path, calls)
    assert _core._blocking_reads() == 0
