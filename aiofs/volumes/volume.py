"""What a volume is: the base class of all."""

from __future__ import annotations

from collections.abc import Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar

from aiofs import _core
from aiofs.handles import DirectoryHandle
from aiofs.volume_ops import VolumeOps
from aiofs.volumes.methods import VolumeMethods
from aiofs.volumes.virtual import VirtualOps

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Volume"]


class Volume(VolumeMethods):
    """A tree of files somewhere.

    `MemoryVolume` and `PrivateVolume` are directories, whose files the engine opens itself. Files
    that live elsewhere (behind HTTP, in an archive, in a dict) are a class of yours, derived from
    this one, that implements the methods from `open_file` to `rename`; locks, handles, mounts,
    descriptors and POSIX AIO then work on it as on any other.

    Rules for these methods. Paths are canonical: relative to the root, '/' between components, ""
    the root. They raise `OSError` with the errno that the system call of that name would set. An
    exception that has no errno, or a result of a wrong type, makes the operation fail with EIO.
    It is reported by `sys.unraisablehook`; in a call of the tree it is the cause of the
    `OSError`. aiofs takes the locks before it calls them, and calls them from any thread, several
    at a time. Buffers are valid until the method returns.

    The methods may block. For what is awaited, and for POSIX AIO, they run on threads of the
    engine, never on an event loop's thread; at most 16 threads read and write in one volume. A
    synchronous call runs them on its own thread. A class whose methods for files never block
    says `blocking = False`. Then `read_at`, `write_at`, `truncate`, `flush`, `size` and `submit`
    run inside the call that asks for them, on the event loop's thread too: no other thread has
    to be woken.

    A method may use other volumes in any way, and wait for them. It cannot close the handle that
    has called it (OSError EDEADLK).

    A volume is a context manager, `close` at its end.
    """

    #: The mode of an access handle that is asked for none.
    default_mode: ClassVar[str] = "in-place"

    _own_ops: VolumeOps | None = None

    @property
    def root(self) -> DirectoryHandle:
        """The handle of the volume's root directory."""
        return DirectoryHandle._of(self, "")

    def close(self) -> None:
        """Gives the volume up: its handles raise `InvalidStateError` (EBADF) from now on.

        What is open in it stays open, and locked, until it is closed itself.
        """
        if self._own_ops is not None:
            self._own_ops.close()

    def estimate(self) -> Coroutine[Any, Any, tuple[int, int | None]]:
        """`await volume.estimate()` gives (usage, quota) in bytes; quota is None if there is none.

        usage is the sum of the sizes of all files, holes included, counted now. WHATWG Storage:
        `estimate()`.
        """
        return _core.offload(self._ops.estimate)

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

    # ---- what aiofs asks of it

    @property
    def _ops(self) -> VolumeOps:
        if self._own_ops is None:
            self._own_ops = VirtualOps(self)
        return self._own_ops
