"""The model of test_handles_model.py: the entries, bytes, locks and snapshots of a volume.

A method that looks at a call returns two sets of errnos, `Errors`. The call must fail with one of
`must`, if there are any; it may also fail with one of `may`. A method that changes something is
called when the call has succeeded.
"""

import errno
from dataclasses import dataclass, field

DIRECTORY = None  # what the tree has for a directory
ALONE, SHARED, READERS, UNSAFE, NO_LOCK = "in-place", "shared", "read-only", "readwrite-unsafe", ""
LOCKS = {
    "in-place": ALONE,
    "readwrite": ALONE,
    "exclusive": ALONE,
    "shared": SHARED,
    "siloed": SHARED,
    "read-only": READERS,
    "readwrite-unsafe": UNSAFE,
}


@dataclass
class Errors:
    must: set = field(default_factory=set)
    may: set = field(default_factory=set)

    def __or__(self, other):
        return Errors(self.must | other.must, self.may | other.may)


@dataclass(eq=False)
class Bytes:
    """The bytes of a file. A commit replaces them by others; who has them open keeps them."""

    content: bytearray = field(default_factory=bytearray)
    changes: int = 0
    touches: int = 0  # what may count as a change: cutting nothing off, renaming

    def write(self, at, data):
        if data:
            self.content.extend(bytes(max(at - len(self.content), 0)))
            self.content[at : at + len(data)] = data
            self.changes += 1

    def truncate(self, size):
        if size == len(self.content):
            self.touches += 1
            return
        del self.content[size:]
        self.content.extend(bytes(size - len(self.content)))
        self.changes += 1


@dataclass(eq=False)
class Opened:
    """An open handle, stream or descriptor. `real` is the object under test."""

    kind: str  # "sync", "async", "writable" or "fd"
    path: str
    lock: str
    real: object
    bytes: Bytes | None = None
    listed: str = ""  # the mode that the list of locks shows, if it is not `lock`
    owner: object = None  # the FileSystem whose descriptor it is
    swapped: bool = False  # it has a copy, which a commit puts in the place of the file
    changed: bool = False
    appends: bool = False
    reads: bool = True
    writes: bool = True
    cursors: dict = field(
        default_factory=lambda: dict.fromkeys(["handle", "readable", "writable"], 0)
    )
    closed_streams: set = field(default_factory=set)
    left: set = field(default_factory=set)  # the paths before renames, which stay locked

    @property
    def paths(self):
        return {self.path, *self.left}

    def write(self, at, data):
        self.bytes.write(at, data)
        self.changed |= bool(data)

    def truncate(self, size):
        self.bytes.truncate(size)
        self.changed = True
        self.cursors["handle"] = min(self.cursors["handle"], size)


@dataclass(eq=False)
class Snapshot:
    """A `File`: the bytes of a path at a time, or a part of them."""

    path: str
    bytes: Bytes
    changes: int
    touches: tuple
    content: bytes
    real: object


def parent_of(path):
    return path.rpartition("/")[0]


def is_below(path, directory):
    return path != directory and (directory == "" or path.startswith(directory + "/"))


class Model:
    """A volume, and what is open in it."""

    def __init__(self):
        self.tree = {"": DIRECTORY}
        self.open = []
        self.touched = {}  # how often something was changed through a path

    # ---- looking

    def leading(self, path):
        """The errors of a path whose directory is missing, or is a file."""
        parent = parent_of(path)
        while parent:
            if parent in self.tree:
                if self.tree[parent] is not DIRECTORY:
                    return Errors({errno.ENOTDIR, errno.ENOENT})
                return Errors() if parent == parent_of(path) else Errors({errno.ENOENT})
            parent = parent_of(parent)
        return Errors() if parent_of(path) == "" else Errors({errno.ENOENT})

    def found(self, path, kind=None):
        """The errors of a call that needs the entry, of this kind: "file" or "directory"."""
        if path not in self.tree:
            return Errors({errno.ENOENT}) | self.leading(path)
        if kind == "file" and self.is_directory(path):
            return Errors({errno.EISDIR})
        if kind == "directory" and not self.is_directory(path):
            return Errors({errno.ENOTDIR})
        return Errors()

    def is_directory(self, path):
        return path in self.tree and self.tree[path] is DIRECTORY

    def files(self):
        return sorted(path for path in self.tree if not self.is_directory(path))

    def below(self, path):
        return [other for other in self.tree if is_below(other, path)]

    # ---- locks

    def locks(self):
        """What the volume lists of them."""
        locking = [each for each in self.open if each.lock]
        return {(path, each.listed or each.lock) for each in locking for path in each.paths}

    def locked(self, path, lock=ALONE, owner=None):
        """EBUSY if another holder has the entry in a mode that does not go together with `lock`."""
        for each in self.open:
            if path not in each.paths or not each.lock or lock == NO_LOCK:
                continue
            together = each.lock == lock and lock != ALONE
            if not together and (owner is None or each.owner is not owner):
                return Errors({errno.EBUSY})
        return Errors()

    def locked_below(self, path, owner=None):
        """EBUSY if an entry below is locked. A lock can also be that of an unlinked file."""
        errors = Errors()
        for each in self.open:
            for below in [below for below in each.paths if is_below(below, path)]:
                if not each.lock or (owner is not None and each.owner == owner):
                    continue
                kept = self.tree.get(below) is each.bytes or (each.swapped and below == each.path)
                errors |= Errors({errno.EBUSY}) if kept else Errors(may={errno.EBUSY})
        return errors

    # ---- the tree

    def touch(self, path):
        self.touched[path] = self.touched.get(path, 0) + 1

    def may_get(self, path, kind, create):
        if create and path not in self.tree:
            return self.leading(path)
        return self.found(path, kind)

    def get(self, path, kind):
        if path not in self.tree:
            self.tree[path] = DIRECTORY if kind == "directory" else Bytes()

    def may_remove(self, path, recursive):
        errors = self.found(path)
        if errors.must:
            return errors
        errors |= self.locked_below(path)
        if path:
            errors |= self.locked(path)
        if self.below(path) and not recursive and errno.EBUSY not in errors.must:
            errors.must.add(errno.ENOTEMPTY)
        return errors

    def remove(self, path):
        for gone in [path, *self.below(path)]:
            if gone:
                del self.tree[gone]
            self.touch(gone)

    def may_move(self, source, target):
        errors = self.found(source)
        if not source:
            return Errors({errno.EBUSY})
        if errors.must:
            return errors
        errors |= self.locked(source) | self.locked_below(source)
        if source == target:
            return errors
        errors |= self.locked(target)
        if is_below(target, source) and self.is_directory(source):
            return errors | Errors({errno.ENOTEMPTY})
        if self.is_directory(target) or (self.is_directory(source) and target in self.tree):
            return errors | Errors({errno.EEXIST})
        return errors | self.leading(target)

    def may_rename(self, source, target, owner, renames_open):
        """As rename(2). `renames_open`: the volume can tell its open files their new path."""
        if not source or not target:
            return Errors({errno.EBUSY})
        errors = self.found(source)
        if errors.must:
            return errors | Errors(may=self.leading(target).must)
        itself = owner if renames_open else None
        if source != target:
            errors |= self.locked(source, owner=itself) | self.locked(target, owner=itself)
            errors |= self.locked_below(source, itself)
        else:
            errors.may.add(errno.EBUSY)
        if is_below(target, source) and self.is_directory(source):
            return errors | Errors({errno.EINVAL})
        errors |= self.leading(target)
        if target in self.tree and source != target:
            if self.is_directory(source) and not self.is_directory(target):
                errors.must.add(errno.ENOTDIR)
            elif self.is_directory(target) and not self.is_directory(source):
                errors.must |= {errno.EISDIR, *({errno.ENOTEMPTY} if self.below(target) else ())}
            elif self.below(target):
                errors.must |= {errno.ENOTEMPTY, errno.EEXIST}
        return errors

    def move(self, source, target, owner=None):
        """Moves an entry, and the locks that `owner`, a FileSystem, has on it and below it."""
        if source == target:
            return
        self.tree.pop(target, None)
        for path in [source, *self.below(source)]:
            moved = target + path[len(source) :]
            self.tree[moved] = self.tree.pop(path)
            if self.tree[moved] is not DIRECTORY:
                self.tree[moved].touches += 1
            self.touch(path)
            self.touch(moved)
        for each in self.open:
            if each.owner is owner and (each.path == source or is_below(each.path, source)):
                if each.lock:
                    each.left.add(each.path)
                each.path = target + each.path[len(source) :]

    # ---- opening

    def may_open(self, path, lock, create=False, owner=None):
        if create and path not in self.tree:
            return self.leading(path) | self.locked(path, lock, owner)
        return self.found(path, "file") | self.locked(path, lock, owner)

    def opened(self, opened):
        """Adds a handle whose `bytes` are missing: the file's, or a copy of them."""
        if opened.path not in self.tree:
            self.get(opened.path, "file")
        opened.bytes = self.tree[opened.path]
        if opened.swapped:
            opened.bytes = Bytes(bytearray(opened.bytes.content))
        self.open.append(opened)

    def write(self, opened, at, data):
        opened.write(at, data)
        self.touch(opened.path)

    def truncate(self, opened, size):
        opened.truncate(size)
        self.touch(opened.path)

    def close(self, opened, commit=True):
        self.open.remove(opened)
        if opened.swapped and opened.changed and commit:
            self.tree[opened.path] = opened.bytes
            self.touch(opened.path)

    # ---- snapshots

    def snapshot(self, path, real):
        file = self.tree[path]
        return Snapshot(path, file, file.changes, self.touches_of(path), bytes(file.content), real)

    def touches_of(self, path):
        return self.tree[path].touches, self.touched.get(path, 0)

    def may_read(self, snapshot):
        errors = self.found(snapshot.path)
        if errors.must:
            return errors | Errors(may={errno.ESTALE} if errno.ENOTDIR in errors.must else set())
        now = self.tree[snapshot.path]
        if now is not snapshot.bytes or now.changes != snapshot.changes:
            return Errors({errno.ESTALE})
        changed = self.touches_of(snapshot.path) != snapshot.touches
        return Errors(may={errno.ESTALE} if changed else set())
