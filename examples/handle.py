"""Writes a log file under an exclusive lock, by an AccessHandle on a private volume.

Usage: python handle.py DIRECTORY. While the handle is open, no other handle can open the file. When
it is closed, the written bytes are on the disk.
"""

import asyncio
import sys

import uvloop

from aiofs import NoModificationAllowedError, PrivateVolume


async def main(directory: str) -> None:
    with PrivateVolume(directory) as volume:
        file = await volume.root.get_file_handle("log.txt", create=True)
        async with file.create_access_handle() as log:
            end = await log.get_size()
            # A call starts its operation. Operations take effect in the order of the calls.
            await asyncio.gather(log.write(b"one\n", at=end), log.write(b"two\n"), log.flush())

            try:
                await file.create_access_handle()
            except NoModificationAllowedError as error:
                print("a second handle:", error.strerror)

        print((await (await file.get_file()).text()).strip())


uvloop.run(main(sys.argv[1]))
