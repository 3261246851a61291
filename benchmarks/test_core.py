"""Measures the core's operations one by one: `pytest benchmarks --benchmark-only`.

They measure the cost of a call inside one process, and so the effect of a change to the core.
`python -m benchmarks` compares aiofs with C and with its peers.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

import aiofs
from aiofs import aio
from aiofs.bench.measuring.data import PAGE, DataFile, content
from aiofs.bench.measuring.work import new_buffer

pytest.importorskip("pytest_benchmark")

PAGES = 256


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A cached file of 1 MiB, in a directory of its own."""
    directory = tmp_path / "volume"
    directory.mkdir(mode=0o700)
    DataFile("file", PAGES * PAGE).make(directory)
    return directory / "file"


@pytest.fixture
def request_(path: Path) -> Iterator[aio.aiocb]:
    """A request on a plain descriptor."""
    descriptor = os.open(path, os.O_RDWR)
    yield aio.aiocb(descriptor, new_buffer(PAGE))
    os.close(descriptor)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = uvloop.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def file(path: Path, loop: asyncio.AbstractEventLoop) -> Iterator[aiofs.FileHandle]:
    async def find() -> aiofs.FileHandle:
        return await volume.root.get_file_handle(path.name)

    with aiofs.PrivateVolume(path.parent) as volume:
        yield loop.run_until_complete(find())


@pytest.fixture
def handle(file: aiofs.FileHandle) -> Iterator[aiofs.SyncAccessHandle]:
    with file.create_sync_access_handle() as handle:
        yield handle


Benchmark = Callable[..., Any]


def finish(request: aio.aiocb) -> Any:
    while aio.aio_error(request) == errno.EINPROGRESS:
        aio.aio_suspend([request])
    return aio.aio_return(request)


@pytest.mark.parametrize("submit", [aio.aio_read, aio.aio_write])
def test_request_from_submission_to_result(
    benchmark: Benchmark, request_: aio.aiocb, submit: Callable[[aio.aiocb], int]
) -> None:
    def once() -> Any:
        submit(request_)
        return finish(request_)

    assert benchmark(once) == PAGE


def test_aio_error_of_a_finished_request(benchmark: Benchmark, request_: aio.aiocb) -> None:
    aio.aio_read(request_)
    finish(request_)
    aio.aio_read(request_)
    aio.aio_suspend([request_])
    assert benchmark(aio.aio_error, request_) == 0


def test_sync_access_handle_read(benchmark: Benchmark, handle: aiofs.SyncAccessHandle) -> None:
    assert benchmark(handle.read, new_buffer(PAGE), at=PAGE) == PAGE


def test_sync_access_handle_write(benchmark: Benchmark, handle: aiofs.SyncAccessHandle) -> None:
    assert benchmark(handle.write, new_buffer(PAGE), at=PAGE) == PAGE


def test_open_lock_and_close(benchmark: Benchmark, file: aiofs.FileHandle) -> None:
    benchmark(lambda: file.create_sync_access_handle().close())


def test_awaited_requests(
    benchmark: Benchmark, request_: aio.aiocb, loop: asyncio.AbstractEventLoop
) -> None:
    async def pages() -> None:
        for request_.aio_offset in range(0, PAGES * PAGE, PAGE):
            aio.aio_read(request_)
            await request_

    benchmark(lambda: loop.run_until_complete(pages()))
    buffer: Any = request_.aio_buf
    assert buffer[:] == content((PAGES - 1) * PAGE, PAGE)


def test_awaited_access_handle_reads(
    benchmark: Benchmark, file: aiofs.FileHandle, loop: asyncio.AbstractEventLoop
) -> None:
    buffer = new_buffer(PAGE)

    async def open_handle() -> aiofs.AccessHandle:
        return await file.create_access_handle()

    async def close() -> None:
        await opened.close()

    async def pages() -> None:
        for offset in range(0, PAGES * PAGE, PAGE):
            await opened.read(buffer, at=offset)

    opened = loop.run_until_complete(open_handle())
    benchmark(lambda: loop.run_until_complete(pages()))
    assert buffer[:] == content((PAGES - 1) * PAGE, PAGE)
    loop.run_until_complete(close())
