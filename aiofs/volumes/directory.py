"""The base class of volumes that are directories, whose files the engine opens itself."""

from __future__ import annotations

import os

from aiofs import _core
from aiofs.volumes.volume import Volume


class DirectoryVolume(Volume):
    """A directory as a volume; `flags` are the core's VOLUME_ constants. See its subclasses."""

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        flags: int,
        quota: int | None,
        durable: bool = True,
    ) -> None:
        if quota is not None:
            if not isinstance(quota, int):
                raise TypeError(f"quota must be an int, not {type(quota).__name__}")
            if not 0 <= quota < 2**63:
                raise ValueError(f"quota must be from 0 to 2**63 - 1, not {quota}")
        if not os.fspath(directory):
            raise ValueError("the directory is '': name it ('.' for the current one)")
        self._directory = os.path.abspath(os.fspath(directory))
        self._quota = quota
        self._durable = bool(durable)
        if not durable:
            flags |= _core.VOLUME_LAZY
        self._own_ops = _core.DirectoryOps(self._directory, flags=flags, quota=quota)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._directory!r})"
