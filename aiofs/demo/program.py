"""Act three: runs a C program that does not use aiofs, and shows that its file is locked."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from io import FileIO
from pathlib import Path

from aiofs import PrivateVolume, aio
from aiofs.demo.request import ask_another_process, ask_this_process, environment
from aiofs.demo.screen import Screen, size

SOURCE = Path(__file__).with_name("copy.c")
HALF = 500_000  # bytes that the program has copied when the other openings are tried
STARTS_WITHIN = 30  # seconds
REFUSED = 2  # exit status of `aiofs run`: it cannot run this program


async def act_three(show: Screen, volume: PrivateVolume, directory: Path) -> int:
    show.heading("A C program that does not use aiofs")
    with tempfile.TemporaryDirectory(prefix="aiofs-demo-") as folder:
        program = Path(folder, "copy")
        left_out = await compile_with_system_cc(program)
        if left_out is not None:
            show.note(f"left out: {left_out}")
            return 0
        show.pair("cc -o copy copy.c", "compiled with the <aio.h> of the C library")
        return await run_beside_others(show, volume, directory, program)


async def compile_with_system_cc(program: Path) -> str | None:
    """Compiles the program. Returns None, or the reason why it could not."""
    compiler = os.environ.get("CC") or "cc"
    command = compiler.split()
    if shutil.which(command[0]) is None:
        return f"there is no C compiler, {compiler}"
    process = await asyncio.create_subprocess_exec(
        *(*command, "-O2", "-o", str(program), str(SOURCE), "-lrt"), stdout=PIPE, stderr=PIPE
    )
    _, complaint = await process.communicate()
    return f"{compiler} cannot compile it: {first_line(complaint)}" if process.returncode else None


async def run_beside_others(
    show: Screen, volume: PrivateVolume, directory: Path, program: Path
) -> int:
    name = f"from-c-{secrets.token_hex(4)}"
    target = directory / name
    source = os.urandom(2 * HALF)
    read_end, write_end = os.pipe()
    command = ("-m", "aiofs", "run", "--volume", str(directory), "--", str(program))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *command, "/dev/stdin", str(target)),
        stdin=read_end,
        stderr=PIPE,
        env=environment(),
    )
    os.close(read_end)
    try:
        with os.fdopen(write_end, "wb", buffering=0) as pipe:
            if await send(pipe, source[:HALF]) and await arrives(process, target):
                show.pair(
                    "aiofs run --volume DIR -- ./copy", f"has copied {size(HALF)} to DIR/FILE"
                )
                show.pair("a handle on FILE", await ask_this_process(volume, name))
                show.pair("a handle of another process", await ask_another_process(directory, name))
                await send(pipe, source[HALF:])
        _, complaint = await process.communicate()
        if process.returncode == REFUSED:
            show.note(f"left out: {first_line(complaint)}")
            return 0
        if process.returncode or target.read_bytes() != source:
            show.note(f"failed: {first_line(complaint) or 'the copy differs'}")
            return 1
        show.pair("the same, after the program's end", await ask_another_process(directory, name))
        return 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        target.unlink(missing_ok=True)


async def send(pipe: FileIO, piece: bytes) -> bool:
    """Writes a piece to the pipe by requests. Returns whether the pipe took all of it."""
    try:
        while piece:
            cb = aio.aiocb(pipe, piece)
            aio.aio_write(cb)
            piece = piece[await cb :]
    except BrokenPipeError:
        return False
    return True


async def arrives(process: Process, target: Path) -> bool:
    """Waits until the first half is in the target. Returns whether it came."""
    deadline = time.monotonic() + STARTS_WITHIN
    while not (target.exists() and target.stat().st_size == HALF):
        if process.returncode is not None or time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.01)
    return True


def first_line(complaint: bytes) -> str:
    """The first line of what a process wrote to standard error."""
    return (complaint.decode(errors="replace").strip().splitlines() or [""])[0]
