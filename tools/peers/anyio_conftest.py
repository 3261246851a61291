"""The conftest of anyio's tests in `make peers`: its files and paths are those of aiofs.files."""

import anyio
import pytest

from aiofs import files


async def open_file(*arguments, limiter=None, **options):
    return await files.open(*arguments, **options)


def wrap_file(file, limiter=None):
    return files.wrap(file)


anyio.open_file = open_file
anyio.wrap_file = wrap_file
anyio.AsyncFile = files.AsyncFile
anyio.Path = files.Path


@pytest.fixture
def anyio_backend():
    return "asyncio"


def pytest_collection_modifyitems(config, items):
    """Leaves out what tests that a file or path keeps its limiter: aiofs has none."""
    with_limiter = [
        item
        for item in items
        if getattr(item, "callspec", None) and item.callspec.params.get("limiter")
    ]
    config.hook.pytest_deselected(items=with_limiter)
    items[:] = [item for item in items if item not in with_limiter]
