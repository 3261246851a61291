"""The disk after a power cut, rebuilt from a log of record.c with any part of what was not synced.

The model allows what POSIX leaves open, which is more than most filesystems do:

- Each write and truncate of a file that was not synced since is on the disk or not, whole or in
  part, in any combination. fdatasync and fsync of the file put all of them there. A change of its
  mode needs fsync.
- Each change of a name is on the disk or not, in any combination, until its directory is synced by
  fsync. The sync of a file says nothing about its name, nor the reverse. A rename is one change,
  but the old name may be there as well.
- An inode that no name leads to is lost.
"""

import itertools
import os
import random
import struct
from dataclasses import dataclass, field
from pathlib import Path

KINDS = (
    "mark create mkdir symlink link unlink rename exchange write truncate mode fsync fdatasync"
).split()
HEADER = struct.Struct("=IIQQQQq")
OWN = ".aiofs"


@dataclass
class Entry:
    """One entry of the log."""

    kind: str
    object: int
    parent: int
    other: int
    offset: int
    name: str
    data: bytes


def read_log(log):
    at = 0
    while at < len(log):
        kind, name_length, length, object, parent, other, offset = HEADER.unpack_from(log, at)
        at += HEADER.size
        name = os.fsdecode(log[at : at + name_length])
        at += name_length
        yield Entry(KINDS[kind], object, parent, other, offset, name, log[at : at + length])
        at += length


# ---- inodes -------------------------------------------------------------------------------------


@dataclass
class Inode:
    """A file, a symbolic link or a directory: what is on the disk for certain."""

    kind: str
    mode: int = 0o600
    data: bytes = b""
    names: dict = field(default_factory=dict)  # of a directory: the inodes by name

    def copy(self):
        return Inode(self.kind, self.mode, self.data, dict(self.names))


@dataclass
class Change:
    """A change that is not on the disk for certain."""

    inode: Inode  # which it changes
    kind: str  # write, truncate, mode; name: add or remove a name
    offset: int = 0
    data: bytes = b""
    name: str = ""
    target: Inode | None = None  # of a name; None: the name goes
    pair: "Change | None" = None  # the other half of a rename: this half is not there without it

    def apply(self, inode, part="whole"):
        if self.kind == "write":
            half = len(self.data) // 2
            data, offset = self.data, self.offset
            if part == "first":
                data = data[:half]
            elif part == "second":
                data, offset = data[half:], offset + half
            old = inode.data.ljust(offset, b"\0")
            inode.data = old[:offset] + data + old[offset + len(data) :]
        elif self.kind == "truncate":
            inode.data = inode.data[: self.offset].ljust(self.offset, b"\0")
        elif self.kind == "mode":
            inode.mode = self.offset
        elif self.target is None:
            inode.names.pop(self.name, None)
        else:
            inode.names[self.name] = self.target


class Disk:
    """What is on the disk for certain, and the changes that may be."""

    def __init__(self, root):
        """`root`: a directory; what is in it now is on the disk."""
        self.by_number = {}
        self.root = self._scan(Path(root))
        self.pending = []
        self.users = set()  # ids of files that have or had a name outside of .aiofs
        self.own = set()  # ids of .aiofs and the directories below it
        self._note(self.root)

    def _scan(self, path):
        status = path.lstat()
        if path.is_symlink():
            inode = Inode("symlink", data=os.fsencode(os.readlink(path)))
        elif path.is_dir():
            inode = Inode("directory")
            inode.names = {child.name: self._scan(child) for child in path.iterdir()}
        else:
            inode = Inode("file", status.st_mode & 0o7777, path.read_bytes())
        self.by_number[status.st_ino] = inode
        return inode

    def _note(self, directory):
        for name, inode in directory.names.items():
            self._named(directory, name, inode)
            if inode.kind == "directory":
                self._note(inode)

    def _named(self, directory, name, inode):
        if name == OWN or id(directory) in self.own:
            if inode.kind == "directory":
                self.own.add(id(inode))
        else:
            self.users.add(id(inode))

    # ---- what happens ----

    def happen(self, entry):
        """Adds an entry of the log."""
        if entry.kind in ("create", "mkdir", "symlink"):
            kind = {"create": "file", "mkdir": "directory"}.get(entry.kind, "symlink")
            self.by_number[entry.object] = Inode(kind, entry.offset, entry.data)
        inode = self.by_number.get(entry.object)
        parent = self.by_number.get(entry.parent)
        if entry.kind in ("create", "mkdir", "symlink", "link"):
            self._name(parent, entry.name, inode)
        elif entry.kind == "unlink":
            self._name(parent, entry.name, None)
        elif entry.kind in ("rename", "exchange"):
            self._rename(entry, parent)
        elif entry.kind in ("write", "truncate", "mode") and inode:
            self.pending.append(Change(inode, entry.kind, entry.offset, entry.data))
        elif entry.kind in ("fsync", "fdatasync") and inode:
            self._sync(inode, entry.kind == "fsync")

    def _name(self, directory, name, inode, pair=None):
        change = Change(directory, "name", name=name, target=inode, pair=pair)
        if inode:
            self._named(directory, name, inode)
        self.pending.append(change)
        return change

    def now(self, directory):
        """The names in a directory, all changes included."""
        names = directory.copy()
        for change in self.pending:
            if change.inode is directory:
                change.apply(names)
        return names.names

    def _rename(self, entry, source):
        target, new = self.by_number[entry.other], os.fsdecode(entry.data)
        moved = self.now(source)[entry.name]
        back = self.now(target)[new] if entry.kind == "exchange" else None
        first = self._name(target, new, moved)
        second = self._name(source, entry.name, back, pair=first)
        if back:
            first.pair = second

    def _sync(self, inode, everything):
        done = [c for c in self.pending if c.inode is inode and (everything or c.kind != "mode")]
        done += [c.pair for c in done if c.pair]
        left = []
        for change in self.pending:
            if any(change is other for other in done):
                change.apply(change.inode)
            else:
                left.append(change)
        self.pending = left

    # ---- what may be there ----

    def matters(self, change):
        """Whether it changes what the program has, not what aiofs keeps for itself."""
        if change.kind == "name":
            return id(change.inode) not in self.own and change.name != OWN
        return id(change.inode) in self.users

    def rebuilt(self, chosen):
        """The root after the changes of `chosen`, a list of (change, part) in their order."""
        copies = {}

        def copy_of(inode):
            if id(inode) not in copies:
                copies[id(inode)] = inode.copy()
            return copies[id(inode)]

        for change, part in chosen:
            change.apply(copy_of(change.inode), part)

        def whole(inode):
            inode = copies.get(id(inode)) or inode.copy()
            inode.names = {name: whole(child) for name, child in inode.names.items()}
            return inode

        return whole(self.root)

    def outcomes(self, most, chance):
        """Roots that a power cut may leave now: all, or `most` by chance if there are more.

        Of the changes in .aiofs, each has some by chance. Some roots have a torn write.
        """
        mine = [change for change in self.pending if self.matters(change)]
        aside = [change for change in self.pending if not self.matters(change)]
        if 2 ** len(mine) <= most:
            ways = itertools.product([False, True], repeat=len(mine))
        else:
            every = [[False] * len(mine), [True] * len(mine)]
            ways = every + [[chance.random() < 0.5 for _ in mine] for _ in range(most - 2)]
        for way in ways:
            parts = {id(change): "whole" for change, there in zip(mine, way, strict=True) if there}
            parts |= {id(change): "whole" for change in aside if chance.random() < 0.7}
            yield self.rebuilt(self._chosen(parts))
            torn = [change for change in mine if change.kind == "write" and len(change.data) > 1]
            if torn and chance.random() < 0.5:
                parts[id(chance.choice(torn))] = chance.choice(["first", "second"])
                yield self.rebuilt(self._chosen(parts))

    def _chosen(self, parts):
        def there(change):
            pair = change.pair
            both = pair is None or id(pair) in parts or not any(pair is c for c in self.pending)
            return id(change) in parts and both

        return [(change, parts[id(change)]) for change in self.pending if there(change)]

    def everything(self):
        """The root after all changes."""
        return self.rebuilt([(change, "whole") for change in self.pending])


# ---- on a real disk -----------------------------------------------------------------------------


def frozen(inode, own=True):
    """A value that is equal for equal trees."""
    if inode.kind == "symlink":
        return inode.kind, inode.data
    if inode.kind == "file":
        return inode.kind, inode.mode, inode.data
    names = inode.names.items()
    return tuple(sorted((n, frozen(i, own)) for n, i in names if own or n != OWN))


def write_tree(inode, path, chance=None):
    """Writes a tree to a new directory. With `chance`, files directly in .aiofs may have any bytes.

    They are those that aiofs maps, and stores to maps are not in the log.
    """
    path = Path(path)
    path.mkdir()
    for name, child in inode.names.items():
        target = path / name
        if child.kind == "directory":
            write_tree(child, target, chance)
        elif child.kind == "symlink":
            target.symlink_to(os.fsdecode(child.data))
        else:
            data = child.data
            if chance and path.name == OWN and chance.random() < 0.5:
                data = chance.randbytes(len(data))
            target.write_bytes(data)
            target.chmod(child.mode)


def seeded(seed):
    return random.Random(seed)
