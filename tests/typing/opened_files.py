"""What type checkers know of an open file from its mode: `make lint` checks it."""

from __future__ import annotations

from typing import Any

from typing_extensions import assert_type

from aiofs import FileHandle, files


async def kinds(mode: str, size: int) -> None:
    assert_type(await files.open("file"), files.AsyncTextIOWrapper)
    assert_type(await files.open("file", "w+", encoding="utf-8"), files.AsyncTextIOWrapper)
    assert_type(await files.open("file", "rb"), files.AsyncBufferedReader)
    assert_type(await files.open("file", "r+b", atomic=True), files.AsyncBufferedReader)
    assert_type(await files.open("file", "wb"), files.AsyncBufferedIOBase)
    assert_type(await files.open("file", "rb", 0), files.AsyncFileIO)
    assert_type(await files.open("file", "rb", size), files.AsyncFile[bytes])
    assert_type(await files.open("file", mode), files.AsyncFile[Any])


async def calls() -> None:
    async with files.open("file") as text:
        async for line in text:
            assert_type(line, str)
        assert_type(await text.read(), str)
        assert_type(await text.write("data"), int)
        text.read()  # type: ignore[unused-coroutine]
    async with files.open("file", "rb") as binary:
        assert_type([line async for line in binary], list[bytes])
        assert_type(await binary.peek(), bytes)
        await binary.write("data")  # type: ignore[arg-type]
    files.open("file", 3)  # type: ignore[call-overload]


async def handles(handle: FileHandle, mode: str, size: int) -> None:
    assert_type(await handle.open(), files.AsyncTextIOWrapper)
    assert_type(await handle.open("w+", encoding="utf-8", wait=1.5), files.AsyncTextIOWrapper)
    assert_type(await handle.open("rb"), files.AsyncBufferedReader)
    assert_type(await handle.open("r+b", atomic=True), files.AsyncBufferedReader)
    assert_type(await handle.open("wb", durable=True), files.AsyncBufferedIOBase)
    assert_type(await handle.open("rb", 0), files.AsyncFileIO)
    assert_type(await handle.open("rb", size), files.AsyncFile[bytes])
    assert_type(await handle.open(mode), files.AsyncFile[Any])
    assert_type(await files.open(handle, "rb"), files.AsyncBufferedReader)
    assert_type(await files.open(handle, "w", wait=1), files.AsyncTextIOWrapper)
    async with handle.open("ab") as file:
        await file.write("data")  # type: ignore[arg-type]
    handle.open(3)  # type: ignore[call-overload]
