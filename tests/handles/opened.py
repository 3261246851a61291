"""Helpers for tests of access handles: the bytes, the cursor and the lock."""

import aiofs

CONTENT = bytes(range(256)) * 40
SIZE = len(CONTENT)


async def all_bytes(handle):
    data = bytearray(await handle.get_size() + 10)
    return bytes(data[: await handle.read(data, at=0)])


async def cursor_of(handle):
    """The value of the next byte, which is the cursor modulo 256. Moves the cursor by one."""
    byte = bytearray(1)
    assert await handle.read(byte) == 1
    return byte[0]


def is_locked(file):
    try:
        file.create_sync_access_handle().close()
    except aiofs.NoModificationAllowedError:
        return True
    return False
