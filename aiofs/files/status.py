"""The status of a path, inside the call if the kernel has it in memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aiofs import _core
from aiofs.files.turns import on_host_thread

if TYPE_CHECKING:
    from aiofs.files.opening import FilePath

__all__ = ["known_status", "look_slowly"]


async def known_status(path: FilePath, follow: bool = True) -> os.stat_result | None:
    """What `os.stat` gives; None: on a host thread."""
    if (turn := _core._turn_for_call()) is not None:
        await turn
    return _core.cached_status(path, follow)


async def look_slowly(path: FilePath, function: Callable[..., Any], **options: Any) -> Any:
    """`function(**options)` on a host thread; the next status of this filesystem may be known."""
    return await on_host_thread(_look, path, function, options)


def _look(path: FilePath, function: Callable[..., Any], options: dict[str, Any]) -> Any:
    result = function(**options)
    if result:
        try:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            return result
        try:
            _core.learn_filesystem(descriptor)
        finally:
            os.close(descriptor)
    return result
