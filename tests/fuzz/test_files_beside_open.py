"""`aiofs.files.open` beside the built-in `open`: random programs, on two equal files.

Each call returns the same or raises the same error, in every mode, encoding and newline. The two
files stay equal.
"""

import asyncio
import builtins
import random

from aiofs import files

SEEDS, STEPS = range(150), 40
MODES = ["r", "r+", "w", "w+", "a", "a+", "rb", "r+b", "wb", "w+b", "ab", "a+b"]
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "latin-1", "ascii", "shift_jis", "utf-7"]
NEWLINES = [None, "", "\n", "\r", "\r\n"]
PIECES = ["a", "line\n", "\r\n", "\r", "größer", "日本", "x" * 9000, "\n", ""]
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

    def __init__(self, random, ours, plain):
        self.random, self.ours, self.plain = random, ours, plain
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
                return (self.random.randrange(-2, 30), self.random.randrange(4))
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
        name = self.random.choice(CALLS)
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


async def compare(seed, folder):
    chance = random.Random(seed)
    mode = chance.choice(MODES)
    options = {}
    if "b" not in mode:
        options = {"encoding": chance.choice(ENCODINGS), "newline": chance.choice(NEWLINES)}
        options["errors"] = chance.choice([None, "replace"])
    options["buffering"] = chance.choice([-1, -1, 0 if "b" in mode else 1, 100])
    begins = "".join(chance.choices(PIECES, k=6)).encode(
        options.get("encoding", "utf-8"), "replace"
    )
    paths = folder / f"ours{seed}", folder / f"plain{seed}"
    for path in paths:
        path.write_bytes(begins)
    with builtins.open(paths[1], mode, **options) as plain:
        async with files.open(paths[0], mode, **options) as ours:
            program = Program(chance, ours, plain)
            try:
                for _ in range(STEPS):
                    await program.step()
                    assert ours.closed == plain.closed
            except AssertionError:
                print(f"seed {seed}: {mode} {options}")
                raise
    assert paths[0].read_bytes() == paths[1].read_bytes(), seed


async def test_random_programs_have_the_same_outcome(tmp_path):
    for seed in SEEDS:
        await compare(seed, tmp_path)
