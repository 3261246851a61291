"""Plays a WAV file of a private volume as a player would: in pieces, from any second on.

Usage: python media.py DIRECTORY NAME [SECOND]. Two pieces are in memory, however long the file is:
while one plays, the next is read. "Playing" prints the loudest sample of each second. While the
file plays, others can play it too, and nobody can change it.
"""

import struct
import sys
from collections.abc import AsyncIterator

import uvloop

from aiofs import AccessHandle, NoModificationAllowedError, PrivateVolume

PIECE = 65536  # bytes


async def find_samples(handle: AccessHandle) -> tuple[int, int, int]:
    """Reads the headers: the samples per second, where they begin, and how many bytes they are."""
    stream, position, rate = handle.readable, 12, 0
    riff, _, wave = struct.unpack("<4sI4s", await stream.read(12))
    while (riff, wave) == (b"RIFF", b"WAVE") and len(header := await stream.read(8)) == 8:
        kind, size = struct.unpack("<4sI", header)
        if kind == b"data":
            return rate, position + 8, size
        if kind == b"fmt ":
            coding, channels, rate, _, _, bits = struct.unpack("<HHIIHH", await stream.read(16))
            if (coding, channels, bits) != (1, 1, 16):
                sys.exit("only one channel of 16 bits, please")
        position += 8 + size + size % 2
        await stream.seek(position)
    sys.exit("this is no WAV file")


async def pieces(handle: AccessHandle, start: int, size: int) -> AsyncIterator[memoryview]:
    """The bytes from `start` on, in two buffers by turns. A call starts reading; await waits."""
    now, later = memoryview(bytearray(PIECE)), memoryview(bytearray(PIECE))
    coming = handle.readable.readinto(now[:size], at=start)
    while size > 0 and (count := await coming):
        size -= count
        coming = handle.readable.readinto(later[:size])
        yield now[:count]
        now, later = later, now
    await coming


async def play(handle: AccessHandle, second: int) -> None:
    rate, start, size = await find_samples(handle)
    print(f"{size // 2 // rate} seconds")
    skipped = min(second * rate * 2, size)
    loudest, left = 0, rate
    async for piece in pieces(handle, start + skipped, size - skipped):
        samples = piece[: len(piece) // 2 * 2].cast("h")
        while samples:
            loudest = max(loudest, *map(abs, samples[:left]), 0)
            samples, left = samples[left:], left - len(samples[:left])
            if left == 0:
                print(f"{second:4}  {'#' * (loudest * 60 // 32768)}")
                second, loudest, left = second + 1, 0, rate


async def main(directory: str, name: str, second: str = "0") -> None:
    async with PrivateVolume(directory) as volume:
        file = await volume.root.get_file_handle(name)
        try:
            async with file.create_access_handle(mode="read-only") as handle:
                await play(handle, int(second))
        except NoModificationAllowedError:
            sys.exit(f"somebody is changing {name}")


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
