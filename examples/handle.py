"""A log that nobody else touches: an AccessHandle on a private volume. python handle.py DIRECTORY

While the handle is open, nobody else opens the file; when it is closed, what was written is on the
disk.
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
            # Calling a method starts it; they take effect in the order of the calls.
            await asyncio.gather(log.write(b"one\n", at=end), log.write(b"two\n"), log.flush())

            try:
                await file.create_access_handle()
            except NoModificationAllowedError as error:
                print("a second handle:", error.strerror)

        print((await (await file.get_file()).text()).strip())


uvloop.run(main(sys.argv[1]))
