"""Several processes keep one log by turns: each holds it until another wants it.

Start it as often as you like, at the same time. Each writes its lines to log.txt in a volume. It
keeps the file open while nobody waits for it; when somebody does, it finishes its line, closes, and
queues again behind the others.

    python examples/hand_over.py VOLUME NAME LINES
"""

import asyncio
import math
import sys

import uvloop

import aiofs


async def write_line(log, line):
    await log.write(line.encode(), at=await log.get_size())
    await asyncio.sleep(0.001)  # other work, for which the file stays open


async def main(directory, name, lines):
    written = 0
    with aiofs.PrivateVolume(directory) as volume:
        file = await volume.root.get_file_handle("log.txt", create=True)
        while written < lines:
            async with file.create_access_handle(wait=math.inf) as log:
                while written < lines:
                    written += 1
                    await write_line(log, f"{name} {written}\n")
                    if log.contended:
                        break


if len(sys.argv) != 4:
    sys.exit("usage: hand_over.py VOLUME NAME LINES")
uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
