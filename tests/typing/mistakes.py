"""Mistakes that type checkers report: `make lint` fails if one of them is no error."""

from aiofs import AccessHandle, FileHandle, FileSystem


async def missing_await(handle: AccessHandle, file: FileHandle) -> None:
    handle.write(b"data")  # type: ignore[unused-coroutine]
    handle.flush()  # type: ignore[unused-coroutine]
    handle.close()  # type: ignore[unused-coroutine]
    file.remove()  # type: ignore[unused-coroutine]


def unknown_mode(file: FileHandle, fs: FileSystem) -> None:
    file.create_sync_access_handle(mode="rw")  # type: ignore[arg-type]
    fs.create_sync_access_handle("/file", mode="rw")  # type: ignore[arg-type]
    fs.open("/file", "r")  # type: ignore[arg-type]
