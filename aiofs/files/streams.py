"""The standard streams, awaited: aiofiles' names. Each follows what `sys` has under its name."""

from __future__ import annotations

import sys
from typing import Any

from aiofs.files.wrapped import AsyncBufferedIOBase, AsyncTextIOWrapper

__all__ = ["stderr", "stderr_bytes", "stdin", "stdin_bytes", "stdout", "stdout_bytes"]


class _Text(AsyncTextIOWrapper):
    @property
    def _file(self) -> Any:
        return getattr(sys, self._target)


class _Bytes(AsyncBufferedIOBase):
    @property
    def _file(self) -> Any:
        return getattr(sys, self._target).buffer


stdin, stdout, stderr = _Text("stdin"), _Text("stdout"), _Text("stderr")
stdin_bytes, stdout_bytes, stderr_bytes = _Bytes("stdin"), _Bytes("stdout"), _Bytes("stderr")
