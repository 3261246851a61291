"""One namespace over many volumes: mounts, paths, and real descriptors."""

from __future__ import annotations

import errno
import itertools
import os
import stat
import sys
import threading
import warnings
from asyncio import _get_running_loop as _running_loop
from collections.abc import Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn
from weakref import WeakSet

from aiofs import _core, errors
from aiofs._core import AccessHandle, OpenFile, SyncAccessHandle
from aiofs.handles import DirectoryHandle, Opening, missing
from aiofs.volume_ops import HasOps, Mode, VolumeOps
from aiofs.volumes import Volume, entry_stat

if TYPE_CHECKING:
    from typing_extensions import Self

    Path = str | os.PathLike[str]

__all__ = ["FileSystem"]

_owners = itertools.count(1)


class _Mount(NamedTuple):
    at: str  # in the namespace; "" is "/"
    volume: HasOps
    base: str  # in the volume

    @property
    def ops(self) -> VolumeOps:
        return self.volume._ops


class _Place(NamedTuple):
    """Where a path of the namespace leads: an entry of a volume, or with mount None only upwards of
    mounts, if anywhere."""

    mount: _Mount | None
    path: str  # in the volume
    namespace: str  # canonical, "" is "/"
    shown: str


class FileSystem:
    """A namespace of volumes, with calls as in `os`.

    Its calls are synchronous and can block, as those of `os` do: on an event loop use handles.
    Paths begin at "/", which a relative one is taken from too; "." and ".." are resolved inside the
    namespace, and "/.." is "/". Directories that only lead to a mount point exist by themselves.

    A FileSystem is one holder of locks. What it opens for writing it locks, once per entry however
    many descriptors it has there: another FileSystem or process, and any access handle, is refused
    (EBUSY). It is a context manager, also an asynchronous one, that closes what it opened.
    """

    def __init__(self) -> None:
        self._owner = next(_owners)
        self._process = os.getpid()
        self._mounts: dict[str, _Mount] = {}
        self._files: dict[int, OpenFile] = {}
        self._handles: WeakSet[AccessHandle | SyncAccessHandle] = WeakSet()
        self._lock = threading.Lock()

    # ---- mounts

    def mount(self, path: Path, source: Volume | DirectoryHandle) -> None:
        """Shows a volume, or a directory of one, at a path.

        The path need not exist. Raises `InvalidModificationError` (EEXIST) where an entry or a
        mount stands, but for "/", which may be mounted first or last; `NotFoundError` or
        `TypeMismatchError` if the source is a handle of no directory. mount(2).
        """
        if isinstance(source, DirectoryHandle):
            mount = _Mount(_canonical(path), source._volume, source._path)
        elif isinstance(source, Volume):
            mount = _Mount(_canonical(path), source, "")
        else:
            raise TypeError(f"a volume or a DirectoryHandle is wanted, not {type(source).__name__}")
        shown = os.fspath(path)
        if not stat.S_ISDIR(mount.ops.stat(mount.base).st_mode):
            raise errors.from_errno(errno.ENOTDIR, mount.ops.show(mount.base), "mount")
        with self._lock:
            if mount.at in self._mounts:
                reason = "a volume is mounted there already"
                raise errors.from_errno(errno.EEXIST, shown, "mount", reason)
            if mount.at and self._exists(shown):
                reason = "there is an entry of that name already"
                raise errors.from_errno(errno.EEXIST, shown, "mount", reason)
            self._mounts[mount.at] = mount

    def unmount(self, path: Path) -> None:
        """Takes a mount away; the volume stays open.

        Raises EBUSY while descriptors or handles of this process are open in it, or another mount
        lies below; EINVAL if nothing is mounted at the path, `NotFoundError` if nothing is there.
        umount(2).
        """
        at, shown = _canonical(path), os.fspath(path)
        with self._lock:
            mount = self._mounts.get(at)
            if mount is None:
                number = errno.EINVAL if self._exists(shown) else errno.ENOENT
                reason = "nothing is mounted there" if number == errno.EINVAL else None
                raise errors.from_errno(number, shown, "unmount", reason)
            below = self._mounts_below(at) if at else []
            held = 0 if below else mount.ops.lock_count(mount.base)
            if below or held:
                reason = f"{_listed(below)} is mounted below it" if below else f"{held} open in it"
                raise errors.from_errno(errno.EBUSY, shown, "unmount", reason)
            del self._mounts[at]

    # ---- descriptors

    def open(self, path: Path, flags: int, mode: int = 0o666) -> int:
        """Opens a file: a descriptor that `os`, `mmap`, C and `aiofs.aio` work on. open(2).

        Opening for writing takes the entry's lock before it creates or truncates anything; with
        O_RDONLY no lock is taken. Raises `NoModificationAllowedError` (EBUSY) if another holder has
        it, and otherwise as `os.open`; `TypeMismatchError` (EISDIR) for a directory. Close the
        descriptor with `close`, not with `os.close`. A descriptor of a volume that is not a
        directory is a placeholder: only aiofs's own calls work on it.
        """
        _check_flags(flags)
        place = self._find(path, "open")
        if flags & os.O_CREAT and _ends_in_slash(path):
            raise errors.from_errno(errno.EISDIR, place.shown, "open")
        writes = flags & os.O_ACCMODE != os.O_RDONLY
        lock = _core.LOCK_EXCLUSIVE if writes else _core.LOCK_NONE
        mount = self._mount_of(place, "open", directory=errno.EISDIR)
        opened = mount.ops.open(place.path, flags, mode, lock, self._owner, place.shown)
        with self._lock:
            descriptor = opened.fileno()
            # One that somebody closed with os.close may stand there: dropped, it gives its lock up.
            self._files[descriptor] = opened
        return descriptor

    def close(self, fd: int) -> None:
        """Closes a descriptor that `open` returned; requests in flight on it end first. close(2).

        The lock goes with the last descriptor and the last request. Raises EBADF if it is not open,
        or was closed behind aiofs's back.
        """
        with self._lock:
            opened = self._files.pop(fd, None)
        if opened is None:
            if not isinstance(fd, int):
                raise TypeError(f"a descriptor is an int, not {type(fd).__name__}")
            reason = f"descriptor {fd} is not of this FileSystem, or closed already"
            raise errors.from_errno(errno.EBADF, fd, "close", reason)
        opened.close()

    # ---- the tree

    def stat(self, path: Path) -> os.stat_result:
        """As `os.stat`."""
        place = self._find(path, "stat")
        if place.mount is None:
            return self._stat_of_lead(place)
        try:
            return place.mount.ops.stat(place.path, place.shown)
        except FileNotFoundError:
            if self._mounts_below(place.namespace):
                return self._stat_of_lead(place)
            raise

    def mkdir(self, path: Path, mode: int = 0o777) -> None:
        """As `os.mkdir`."""
        place = self._find(path, "mkdir")
        if self._leads_to_mount(place):
            raise errors.from_errno(errno.EEXIST, place.shown, "mkdir")
        self._mount_of(place, "mkdir").ops.mkdir(place.path, mode, place.shown)

    def rmdir(self, path: Path) -> None:
        """As `os.rmdir`; EBUSY for a mount point, or if something in it is locked."""
        place = self._changeable(path, "rmdir")
        self._mount_of(place, "rmdir").ops.rmdir(place.path, place.shown)

    def unlink(self, path: Path) -> None:
        """As `os.unlink`; EBUSY if another holder has it locked.

        What this FileSystem has open stays readable and writable, and locked, until it is closed.
        """
        place = self._changeable(path, "unlink")
        self._mount_of(place, "unlink").ops.unlink(place.path, self._owner, place.shown)

    def rename(self, source: Path, target: Path) -> None:
        """As `os.rename`; EXDEV from one mount to another, EBUSY if another holder has one locked.

        Descriptors of this FileSystem stay open, and their lock moves along.
        """
        from_place = self._changeable(source, "rename")
        to_place = self._changeable(target, "rename")
        mount = self._mount_of(from_place, "rename")
        if self._mount_of(to_place, "rename") is not mount:
            error = errors.from_errno(errno.EXDEV, from_place.shown, "rename across mounts")
            error.filename2 = to_place.shown
            raise error
        if _ends_in_slash(source) or _ends_in_slash(target):
            if not stat.S_ISDIR(mount.ops.stat(from_place.path, from_place.shown).st_mode):
                error = errors.from_errno(errno.ENOTDIR, from_place.shown, "rename")
                error.filename2 = to_place.shown
                raise error
        mount.ops.rename(
            from_place.path, to_place.path, self._owner, from_place.shown, to_place.shown
        )

    def truncate(self, path: Path, length: int) -> None:
        """As `os.truncate`, to a length in bytes; EBUSY if another holder has it locked."""
        place = self._find(path, "truncate")
        mount = self._mount_of(place, "truncate", directory=errno.EISDIR)
        mount.ops.truncate(place.path, length, self._owner, place.shown)

    def listdir(self, path: Path = "/") -> list[str]:
        """As `os.listdir`: names in no particular order, those of mounts too."""
        place = self._find(path, "listdir")
        mounted = {
            at[len(place.namespace) + 1 :].partition("/")[0]: None
            for at in self._mounts_below(place.namespace)
        }
        if place.mount is None:
            self._stat_of_lead(place)
            return list(mounted)
        try:
            found = place.mount.ops.scan(place.path, place.shown)
        except FileNotFoundError:
            if not mounted:
                raise
            found = []
        return list({name: None for name, _ in found} | mounted)

    # ---- handles

    def directory(self, path: Path = "/") -> DirectoryHandle:
        """The handle of a directory. It belongs to the volume there, and sees no other mount.

        Raises `NotFoundError`, also for a directory that only leads to mount points, and
        `TypeMismatchError` for a file.
        """
        place = self._find(path, "directory")
        mount = self._mount_of(place, "directory", directory=errno.ENOENT)
        if not stat.S_ISDIR(mount.ops.stat(place.path, place.shown).st_mode):
            raise errors.from_errno(errno.ENOTDIR, place.shown, "directory")
        return DirectoryHandle._of(mount.volume, place.path)

    def create_access_handle(
        self, path: Path, *, mode: Mode | None = None, create: bool = False
    ) -> Opening[AccessHandle]:
        """Opens and locks a file: an `AccessHandle`, by `await` or by `async with`.

        mode: as of `FileHandle.create_access_handle`. create: make the file, empty, if it is
        missing. Raises as that does; the path and the mode are checked at the call.
        """
        mount, place, checked = self._for_handle(path, mode)

        def open_it() -> AccessHandle:
            with missing(mount.ops, place.path, create):
                handle = mount.ops.access_handle(place.path, checked, bool(create), place.shown)
            self._remember(handle)
            return handle

        return Opening(open_it)

    def create_sync_access_handle(
        self, path: Path, *, mode: Mode | None = None, create: bool = False
    ) -> SyncAccessHandle:
        """The same, at once: a `SyncAccessHandle`, whose methods block."""
        mount, place, checked = self._for_handle(path, mode)
        with missing(mount.ops, place.path, create):
            handle = mount.ops.sync_access_handle(place.path, checked, bool(create), place.shown)
        self._remember(handle)
        return handle

    # ---- the end

    def __repr__(self) -> str:
        mounts = [f"{at or '/'!r}: {mount.volume!r}" for at, mount in self._mounts.items()]
        return f"<FileSystem of {{{', '.join(mounts)}}}, descriptors {sorted(self._files)}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a FileSystem cannot be copied or pickled: its descriptors and locks are this process's"
        )

    def __del__(self) -> None:
        # After a fork the child's copy is the parent's business.
        if not getattr(self, "_files", None) or self._process != os.getpid():
            return
        files, self._files = self._files, {}  # a warning that is kept keeps no lock
        if not sys.is_finalizing():
            message = f"unclosed FileSystem with open descriptors {sorted(files)}"
            warnings.warn(message, ResourceWarning, stacklevel=2, source=self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if _running_loop() is not None:
            self._start_closing_handles()
        self._close_all()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        closing = self._start_closing_handles()
        await _core.offload(self._close_all)
        closing += self._start_closing_handles()  # of those that were being opened
        for operation in closing:
            await operation

    def _start_closing_handles(self) -> list[Coroutine[Any, Any, None]]:
        """Of those whose methods are awaited: their closing goes on by itself."""
        with self._lock:
            handles = [handle for handle in self._handles if isinstance(handle, AccessHandle)]
            self._handles -= WeakSet(handles)
        return [handle.close() for handle in handles]

    def _close_all(self) -> None:
        with self._lock:
            files, self._files = self._files, {}
            handles = [handle for handle in self._handles if isinstance(handle, SyncAccessHandle)]
            self._handles -= WeakSet(handles)
            self._mounts.clear()
        first: OSError | None = None
        closables: list[SyncAccessHandle | OpenFile] = [*handles, *files.values()]
        for closable in closables:
            try:
                closable.close()
            except OSError as error:
                first = first or error
                if error.errno == errno.EDEADLK and isinstance(closable, SyncAccessHandle):
                    self._remember(closable)  # it is open yet: the next time closes it
        if first is not None:
            raise first

    def _remember(self, handle: AccessHandle | SyncAccessHandle) -> None:
        with self._lock:
            self._handles.add(handle)

    # ---- paths

    def _find(self, path: Path, doing: str) -> _Place:
        """The mount that a path lies in: the longest one above it."""
        shown, namespace = os.fspath(path), _canonical(path)
        if not shown:
            raise errors.from_errno(errno.ENOENT, shown, doing)
        at = namespace
        while at not in self._mounts and at:
            at = at.rpartition("/")[0]
        mount = self._mounts.get(at)
        if mount is None:
            return _Place(None, "", namespace, shown)
        below = namespace[len(at) + 1 :]
        inside = f"{mount.base}/{below}" if mount.base and below else mount.base or below
        place = _Place(mount, inside, namespace, shown)
        if _ends_in_slash(shown) and inside:
            self._refuse_file(place, doing)
        return place

    def _refuse_file(self, place: _Place, doing: str) -> None:
        """A path that ends in '/' names a directory, if anything."""
        assert place.mount is not None
        try:
            mode = place.mount.ops.stat(place.path, place.shown).st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISDIR(mode):
            raise errors.from_errno(errno.ENOTDIR, place.shown, doing)

    def _mount_of(self, place: _Place, doing: str, directory: int = errno.EROFS) -> _Mount:
        """The place's mount. What only leads to mounts is a directory that nothing can be done to:
        `directory` is the error."""
        if place.mount is not None:
            return place.mount
        lead = self._mounts_below(place.namespace)
        raise errors.from_errno(directory if lead else errno.ENOENT, place.shown, doing)

    def _changeable(self, path: Path, doing: str) -> _Place:
        """A place that is no mount point, and leads to none."""
        place = self._find(path, doing)
        if place.namespace in self._mounts:
            raise errors.from_errno(errno.EBUSY, place.shown, doing, "it is a mount point")
        below = self._mounts_below(place.namespace)
        if below:
            reason = f"{_listed(below)} is mounted below it"
            raise errors.from_errno(errno.EBUSY, place.shown, doing, reason)
        return place

    def _leads_to_mount(self, place: _Place) -> bool:
        return place.namespace in self._mounts or bool(self._mounts_below(place.namespace))

    def _mounts_below(self, namespace: str) -> list[str]:
        return [at for at in self._mounts if at.startswith(namespace + "/")]

    def _stat_of_lead(self, place: _Place) -> os.stat_result:
        if not self._mounts_below(place.namespace):
            raise errors.from_errno(errno.ENOENT, place.shown, "stat")
        return entry_stat("directory", mode=0o555)

    def _exists(self, path: str) -> bool:
        try:
            self.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def _for_handle(self, path: Path, mode: Mode | None) -> tuple[_Mount, _Place, str]:
        place = self._find(path, "create access handle")
        mount = self._mount_of(place, "create access handle", directory=errno.EISDIR)
        name, _, _ = _core.mode_of_handle(mount.volume.default_mode if mode is None else mode)
        return mount, place, name


_FLAGS = {
    "r": "os.O_RDONLY",
    "r+": "os.O_RDWR",
    "w": "os.O_WRONLY | os.O_CREAT | os.O_TRUNC",
    "x": "os.O_WRONLY | os.O_CREAT | os.O_EXCL",
    "a": "os.O_WRONLY | os.O_CREAT | os.O_APPEND",
}


def _check_flags(flags: object) -> None:
    if not isinstance(flags, int):
        like = _FLAGS.get(flags.rstrip("bt")) if isinstance(flags, str) else None
        advice = f": {like} for {flags!r}" if like else ""
        raise TypeError(f"flags must be an int, as of os.open, not {flags!r}{advice}")


def _listed(paths: list[str]) -> str:
    return ", ".join(map(repr, paths))


def _ends_in_slash(path: Path) -> bool:
    return os.fspath(path).endswith("/")


def _canonical(path: Path) -> str:
    """The path's components from "/" on, joined: "" for "/" itself, "/a/b" for what lies below."""
    text = os.fspath(path)
    if not isinstance(text, str):
        raise TypeError(f"a path must be a str, not {type(text).__name__}")
    if "\0" in text:
        raise ValueError(f"a path has no NUL character in it: {text!r}")
    components: list[str] = []
    for component in text.split("/"):
        if component == "..":
            del components[-1:]
        elif component not in ("", "."):
            components.append(component)
    return "".join(f"/{component}" for component in components)
