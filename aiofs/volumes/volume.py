"""`Volume`, the base class of all volumes."""

from __future__ import annotations

from collections.abc import Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any

from aiofs import _core
from aiofs.handles import DirectoryHandle
from aiofs.volume_ops import VolumeOps
from aiofs.volumes.methods import VolumeMethods
from aiofs.volumes.virtual import VirtualOps

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Volume"]


class Volume(VolumeMethods):
    """A tree of files.

    `MemoryVolume`, `PrivateVolume` and `HostVolume` are directories, whose files the engine opens
    itself. For files that are elsewhere (behind HTTP, in an archive, in a dict), write a class that
    derives from this one and implements the methods from `open_file` to `rename`. Locks, handles,
    mounts, descriptors and POSIX AIO then work on it as on any other volume.

    Rules for these methods. Paths are canonical: relative to the root, '/' between components, ""
    the root. A method raises `OSError` with the errno that the system call of that name would set.
    If it raises an exception without an errno, or returns a wrong type, the operation fails with
    EIO. `sys.unraisablehook` reports the exception; in a call of the tree, the exception is the
    cause of the `OSError`. aiofs takes the locks before it calls a method. It calls the methods
    from any thread, and from several threads at the same time. A buffer is valid until the method
    returns.

    The methods may block. For awaited operations and for POSIX AIO they run on threads of the
    engine, never on an event loop's thread; at most 16 threads read and write in one volume. A
    synchronous call runs them on its own thread. If the methods for files never block, set
    `blocking = False` in the class. Then `read_at`, `write_at`, `truncate`, `flush`, `size` and
    `submit` run inside the submitting call, also on an event loop's thread, which saves waking
    another thread.

    The six methods from `chmod` to `statvfs` are for `FileSystem` alone, and need not be there: by
    default they raise EOPNOTSUPP.

    A method may use other volumes in any way, and wait for them. It cannot close the handle that
    called it (OSError EDEADLK).

    A volume is a context manager that closes the volume at its end.
    """

    #: The mode of an access handle that is asked for none.
    default_mode: str = "in-place"

    _own_ops: VolumeOps | None = None

    @property
    def root(self) -> DirectoryHandle:
        """The handle of the volume's root directory."""
        return DirectoryHandle._of(self, "")

    def close(self) -> None:
        """Closes the volume: its handles raise `InvalidStateError` (EBADF) from now on.

        Files that are open in it stay open and locked until they are closed. Idempotent.
        """
        if self._own_ops is not None:
            self._own_ops.close()

    def estimate(self) -> Coroutine[Any, Any, tuple[int, int | None]]:
        """`await volume.estimate()` returns (usage, quota), both in bytes; quota None for no limit.

        usage is the sum of the sizes of all files, holes included, counted by a walk over the
        volume. Raises `InvalidStateError` (EBADF) if the volume is closed. WHATWG Storage:
        `estimate()`.
        """
        return _core.offload(self._ops.estimate)

    def request_capacity(self, n: int) -> Coroutine[Any, Any, int]:
        """`await volume.request_capacity(n)`: reserves n bytes of the quota, ahead of their use.

        Files that are opened through this volume and grow use reserved bytes first, so that nobody
        else can take the quota from them; what shrinks again goes back to the reservation. It is a
        share of the quota, not of the disk. It ends when the volume and its files are closed, or
        when the process dies. Gives the bytes that are reserved and not used now.

        Raises `QuotaExceededError` (EDQUOT), and reserves nothing, if fewer than n bytes are free;
        ValueError if n is negative; OSError EOPNOTSUPP for a volume written in Python. Storage
        Foundation API: `requestCapacity`.
        """
        return _core.offload(self._ops.request_capacity, _checked_capacity(n))

    def release_capacity(self, n: int) -> Coroutine[Any, Any, int]:
        """`await volume.release_capacity(n)`: gives back n bytes that are reserved and not used.

        Gives the bytes that are still reserved and not used. Raises ValueError if n is negative or
        more than are reserved. Storage Foundation API: `releaseCapacity`.
        """
        return _core.offload(self._ops.release_capacity, _checked_capacity(n))

    def remaining_capacity(self) -> Coroutine[Any, Any, int]:
        """`await volume.remaining_capacity()`: the bytes that are reserved and not used.

        Storage Foundation API: `getRemainingCapacity`.
        """
        return _core.offload(self._ops.release_capacity, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await _core.offload(self.close)

    # ---- for aiofs itself

    @property
    def _ops(self) -> VolumeOps:
        if self._own_ops is None:
            self._own_ops = VirtualOps(self)
        return self._own_ops


def _checked_capacity(n: int) -> int:
    if not isinstance(n, int):
        raise TypeError(f"a capacity must be an int, not {type(n).__name__}")
    if not 0 <= n < 2**63:
        raise ValueError(f"a capacity must be from 0 to 2**63 - 1 bytes, not {n}")
    return n
