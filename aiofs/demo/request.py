"""Act one: shows one request through the functions of <aio.h>, and a refused lock."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
from pathlib import Path

import aiofs
from aiofs import PrivateVolume, aio
from aiofs.demo.screen import Screen

OTHER_PROCESS = """
import errno, sys, aiofs
with aiofs.PrivateVolume(sys.argv[1]) as volume, aiofs.FileSystem() as fs:
    fs.mount("/", volume)
    try:
        fs.create_sync_access_handle(sys.argv[2])
    except OSError as error:
        print(errno.errorcode[error.errno])
    else:
        print("opened")
"""


async def act_one(show: Screen, volume: PrivateVolume, directory: Path) -> None:
    called_back: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    read = bytearray(18)

    file = await volume.root.get_file_handle("hello.txt", create=True)
    async with file.create_access_handle() as handle:
        cb = aio.aiocb(handle, b"Hello, POSIX AIO!\n")
        cb.aio_sigevent = aio.sigevent(
            aio.SIGEV_LOOP, sigev_value="hello.txt", sigev_notify_function=called_back.set_result
        )
        show.pair("aio_write(cb)", f"{aio.aio_write(cb)}: the write is accepted")
        show.pair("aio_error(cb)", errno_name(aio.aio_error(cb)))
        show.pair("aio_suspend([cb])", f"{aio.aio_suspend([cb])}: the write has ended")
        show.pair("aio_return(cb)", f"{aio.aio_return(cb)} bytes written")
        show.pair("the callback, on the loop", f"called with {await called_back!r}")

        cb = aio.aiocb(handle, read)
        aio.aio_fsync(os.O_DSYNC, cb)
        show.pair("aio_fsync(O_DSYNC, cb), await cb", f"{await cb}: the file is on the disk")
        aio.aio_read(cb)
        show.pair("aio_read(cb), await cb", f"{await cb} bytes: {bytes(read)!r}")

        show.pair("a second handle on the file", await ask_this_process(volume, "hello.txt"))
        show.pair("a handle of another process", await ask_another_process(directory, "hello.txt"))
    show.pair("the same, after the close", await ask_another_process(directory, "hello.txt"))
    await volume.root.remove_entry("hello.txt")


async def ask_this_process(volume: PrivateVolume, name: str) -> str:
    """Opens one more handle in this process. Returns "opened", or the error."""
    file = await volume.root.get_file_handle(name)
    try:
        async with file.create_access_handle():
            return "opened"
    except OSError as error:
        return f"{errno_name(error.errno)}, {type(error).__name__}"


async def ask_another_process(directory: Path, name: str) -> str:
    """Opens the file in another process. Returns its output: "opened" or the errno."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OTHER_PROCESS, str(directory), f"/{name}"),
        stdout=asyncio.subprocess.PIPE,
        env=environment(),
    )
    answer, _ = await process.communicate()
    return answer.decode().strip() or f"the process ended with status {process.returncode}"


def environment() -> dict[str, str]:
    """Returns an environment in which another Python imports the same aiofs as this one."""
    package = str(Path(aiofs.__file__).parent.parent)
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def errno_name(number: int | None) -> str:
    return errno.errorcode.get(number, str(number)) if number else "0"
