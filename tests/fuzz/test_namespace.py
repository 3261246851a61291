"""A FileSystem against a model of dicts: any sequence of calls, with paths of every kind, has the
same effects or the same errors as in the model. Nothing outside of the volumes changes.

Two FileSystems use the same two volumes and keep files open, so each finds the other's locks.
Another party creates symbolic links in the volumes, most of which lead out. A canary directory
beside the volumes must be unchanged.
"""

import errno
import os
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import pytest
from drawing import examples, programs
from hypothesis import given
from hypothesis import strategies as st

from aiofs import FileSystem, MemoryVolume, PrivateVolume

SECRET = b"what lies beside a volume" * 100

PLAIN = ["a", "b", "c"]
HOSTILE = [
    *("..", ".", "", ".aiofs", "m", "nul\0", "\\", "*", "-rf", " ", "a\n"),
    *("n" * 255, "n" * 256, "é" * 127, "é" * 128, "\udc80", "\ud800", "canary", "volume"),
]
COMPONENT = st.one_of(*[st.sampled_from(PLAIN)] * 5, st.sampled_from(HOSTILE))
PLAIN_PATH = st.lists(st.sampled_from(PLAIN), min_size=1, max_size=3).map(
    lambda components: "/" + "/".join(components)
)
HOSTILE_PATH = st.builds(
    lambda root, components, slash: root + "/".join(components) + slash,
    st.sampled_from(["/", "/", "/", "", "/m/", "/../", "//"]),
    st.lists(COMPONENT, max_size=4),
    st.sampled_from([""] * 6 + ["/"]),
)


@dataclass(frozen=True)
class Known:
    """The path of an existing entry, or of an open file, or of a child of one."""

    which: int
    child: str | None = None
    is_open: bool = False


KNOWN_PATH = st.builds(
    Known, st.integers(0, 15), st.none() | st.none() | st.sampled_from(PLAIN) | COMPONENT
)
OPEN_PATH = st.builds(Known, st.integers(0, 5), is_open=st.just(True))
PATH = KNOWN_PATH | KNOWN_PATH | OPEN_PATH | PLAIN_PATH | HOSTILE_PATH
FLAGS = st.sampled_from(
    [
        os.O_RDONLY,
        os.O_RDWR,
        os.O_RDWR | os.O_CREAT,
        os.O_RDWR | os.O_CREAT,
        os.O_RDWR | os.O_CREAT | os.O_EXCL,
        os.O_RDWR | os.O_CREAT | os.O_TRUNC,
        os.O_RDWR | os.O_TRUNC,
        os.O_RDONLY | os.O_CREAT,
        os.O_RDONLY | os.O_TRUNC,
        os.O_RDWR | os.O_NOFOLLOW,
    ]
)
TARGETS = st.sampled_from(
    ["../canary", "../canary/secret", "..", "/", ".", "a", "a/b", "/etc/passwd", "m", ".aiofs"]
)


@dataclass
class Step:
    kind: str
    who: int = 0
    path: str | Known = ""
    other: object = None  # second path, flags, length, or target of a link
    which: int = 0


WHO = st.integers(0, 1)
STEP = st.one_of(
    st.builds(Step, st.just("open"), WHO, PATH, FLAGS),
    st.builds(Step, st.just("open"), WHO, PATH, FLAGS),
    st.builds(Step, st.just("mkdir"), WHO, PATH),
    st.builds(Step, st.just("mkdir"), WHO, PATH),
    st.builds(Step, st.just("rename"), WHO, PATH, PATH),
    st.builds(Step, st.just("rename"), WHO, PATH, PATH),
    st.builds(Step, st.sampled_from(["unlink", "rmdir", "listdir", "stat"]), WHO, PATH),
    st.builds(Step, st.just("truncate"), WHO, PATH, st.integers(-1, 100)),
    st.builds(Step, st.sampled_from(["close", "write", "read"]), which=st.integers(0, 5)),
    st.builds(Step, st.just("plant"), WHO, PATH, TARGETS),
)


# ---- the model ----------------------------------------------------------------------------------


class File:
    def __init__(self):
        self.content = bytearray()


@dataclass(frozen=True)
class Link:
    target: str


@dataclass
class Place:
    """The entry that a path leads to. `errors`: one of them must occur for every call on it."""

    mount: str = ""
    components: tuple[str, ...] = ()
    slash: bool = False
    errors: set = field(default_factory=set)
    parent: dict | None = None
    node: object = None

    @property
    def is_root(self):
        return not self.components

    @property
    def name(self):
        return self.components[-1]

    @property
    def key(self):
        return self.mount, self.components


@dataclass
class Descriptor:
    who: int
    fd: int
    file: File
    key: tuple
    writes: bool
    left: set = field(default_factory=set)  # keys before renames, which stay locked

    @property
    def keys(self):
        return {self.key, *self.left}


def canonical(path):
    components = []
    for component in path.split("/"):
        if component == "..":
            del components[-1:]
        elif component not in ("", "."):
            components.append(component)
    return tuple(components)


def encoded(component):
    try:
        return os.fsencode(component)
    except UnicodeEncodeError:
        return None


class Model:
    """The trees of "/" and of "/m", and the open files. Each method returns the errnos of which one
    must occur. An empty set: the call must succeed, and the method has changed the model."""

    def __init__(self):
        self.trees = {"": {}, "m": {}}
        for tree in self.trees.values():
            tree |= {"a": {"b": {}, "c": File()}, "b": File()}
        self.open = []

    def find(self, path):
        if "\0" in path:
            return Place(errors={ValueError})
        components = canonical(path)
        if not path:
            return Place(errors={errno.ENOENT})
        mount = "m" if components[:1] == ("m",) else ""
        place = Place(mount, components[len(mount) :], path.endswith(("/", "/.")))
        place.errors = self.walk(place)
        if place.slash and not place.errors and not self.is_directory(place):
            if place.node is not None:
                place.errors = {errno.ELOOP if isinstance(place.node, Link) else errno.ENOTDIR}
        return place

    def walk(self, place):
        if None in map(encoded, place.components):
            return {ValueError}
        for number, component in enumerate(place.components):
            if len(encoded(component)) > 255:
                return {errno.ENAMETOOLONG}
            if number == 0 and component == ".aiofs":
                return {errno.ENOENT}
        node = self.trees[place.mount]
        for component in place.components:
            if isinstance(node, File):
                return {errno.ENOTDIR}
            if isinstance(node, Link):
                return {errno.ELOOP}
            if node is None:
                return {errno.ENOENT}
            place.parent = node
            node = node.get(component)
        place.node = node
        return set()

    @staticmethod
    def is_directory(place):
        return isinstance(place.node, dict)

    def paths(self):
        """The paths of all entries."""
        found = []
        unseen = [("/m", self.trees["m"]), ("", self.trees[""])]
        while unseen:
            path, node = unseen.pop()
            found.append(path or "/")
            if isinstance(node, dict):
                unseen += [(f"{path}/{name}", below) for name, below in node.items()]
        return found

    def open_paths(self):
        """The paths of the open files, or their last paths if they were unlinked."""
        return ["/".join(["", opened.key[0], *opened.key[1]]) for opened in self.open]

    # ---- locks

    def holders(self, key):
        return {opened.who for opened in self.open if opened.writes and key in opened.keys}

    def holders_below(self, key):
        mount, components = key
        return {
            opened.who
            for opened in self.open
            if opened.writes
            for key in opened.keys
            if key[0] == mount and key[1][: len(components)] == components
        }

    def locked(self, place, who):
        return {errno.EBUSY} if self.holders(place.key) - {who} else set()

    # ---- calls

    def may_open(self, step, place):
        flags = step.other
        errors, node = set(place.errors), place.node
        writes, creates = flags & os.O_ACCMODE != os.O_RDONLY, flags & os.O_CREAT
        if creates and place.slash:  # its parent, which may be a file, is looked at first
            errors |= {errno.EISDIR, *({errno.ENOTDIR, errno.ENOENT} if errors else ())}
        if errors and not place.components:
            return errors
        if isinstance(node, dict):
            errors |= {errno.EISDIR, *({errno.EEXIST} if flags & os.O_EXCL else ())}
        elif isinstance(node, Link):
            errors |= {errno.ELOOP, *({errno.EEXIST} if flags & os.O_EXCL else ())}
        elif node is None and not creates:
            errors.add(errno.ENOENT)
        elif node is not None and flags & os.O_EXCL:
            errors.add(errno.EEXIST)
        if writes or flags & os.O_TRUNC:
            errors |= self.locked(place, step.who)
        return errors

    def opened(self, step, place, fd):
        flags = step.other
        if place.node is None:
            place.node = place.parent[place.name] = File()
        if flags & os.O_TRUNC:
            place.node.content.clear()
        writes = flags & os.O_ACCMODE != os.O_RDONLY
        self.open.append(Descriptor(step.who, fd, place.node, place.key, writes))

    def mkdir(self, step, place):
        errors = set(place.errors)
        if (place.is_root and not errors) or place.node is not None:
            errors.add(errno.EEXIST)
        if not errors:
            place.parent[place.name] = {}
        return errors

    def rmdir(self, step, place):
        errors = set(place.errors)
        if place.is_root and not errors:
            return {errno.EBUSY}
        if step.path.endswith("/."):
            return errors | {errno.EINVAL}
        if place.node is None:
            errors.add(errno.ENOENT)
        elif not self.is_directory(place):
            errors.add(errno.ENOTDIR)
        elif place.node:
            errors.add(errno.ENOTEMPTY)
            if self.holders_below(place.key):
                errors = {errno.EBUSY}
        if self.holders(place.key):
            errors.add(errno.EBUSY)
        if not errors:
            del place.parent[place.name]
        return errors

    def unlink(self, step, place):
        errors = set(place.errors)
        if place.is_root and not errors:
            return {errno.EBUSY}
        if place.node is None:
            errors.add(errno.ENOENT)
        elif self.is_directory(place):
            errors.add(errno.EISDIR)
        errors |= self.locked(place, step.who)
        if not errors:
            del place.parent[place.name]
        return errors

    def rename(self, step, source):
        target = self.find(step.other)
        errors = source.errors | target.errors
        for place in (source, target):
            if place.is_root and not place.errors:
                errors.add(errno.EBUSY)
        if errors:
            return errors | self.could_also(step, source, target)
        if source.mount != target.mount:
            errors.add(errno.EXDEV)
        if source.node is None:
            errors.add(errno.ENOENT)
        elif self.is_directory(source):
            errors |= self.directory_to(source, target)
        else:
            errors |= self.file_to(source, target)
        if source.key == target.key and not errors:
            return set()
        errors |= self.locks_of_rename(step, source, target)
        if not errors:
            self.move(step, source, target)
        return errors

    def could_also(self, step, source, target):
        also = {errno.ENOENT} if source.node is None else set()
        if source.mount != target.mount:
            also.add(errno.EXDEV)
        if source.slash or target.slash:
            also.add(errno.ENOTDIR)
        if self.is_directory(source) and source.mount == target.mount:
            also |= self.directory_to(source, target)
        return also | self.locks_of_rename(step, source, target)

    def directory_to(self, source, target):
        if target.components[: len(source.components)] == source.components:
            if len(target.components) > len(source.components):
                return {errno.EINVAL}
            return set()
        if target.node is None:
            return set()
        if not self.is_directory(target):
            return {errno.ENOTDIR}
        return {errno.ENOTEMPTY, errno.EEXIST} if target.node else set()

    def file_to(self, source, target):
        if source.slash or target.slash:
            return {errno.ENOTDIR}
        if not self.is_directory(target):
            return set()
        inside = source.components[: len(target.components)] == target.components
        return {errno.EISDIR, *({errno.ENOTEMPTY} if inside else ())}

    def locks_of_rename(self, step, source, target):
        holders = self.holders(target.key)
        if self.is_directory(source):
            holders |= self.holders_below(source.key)
        else:
            holders |= self.holders(source.key)
        return {errno.EBUSY} if holders - {step.who} else set()

    def move(self, step, source, target):
        del source.parent[source.name]
        target.parent[target.name] = source.node
        length = len(source.components)
        for opened in self.open:
            mount, components = opened.key
            inside = self.is_directory(source) and components[:length] == source.components
            if mount == source.mount and (components == source.components or inside):
                opened.left.add(opened.key)
                opened.key = mount, target.components + components[length:]

    def truncate(self, step, place):
        errors = set(place.errors)
        if step.other < 0:
            errors.add(errno.EINVAL)
        if isinstance(place.node, dict):
            errors.add(errno.EISDIR)
        elif isinstance(place.node, Link):
            errors.add(errno.ELOOP)
        elif place.node is None:
            errors.add(errno.ENOENT)
        errors |= self.locked(place, step.who)
        if not errors:
            resize(place.node.content, step.other)
        return errors

    def looked_at(self, place):
        """The errors that a stat of it can fail with."""
        if place.errors:
            return place.errors
        if place.node is None:
            return {errno.ENOENT}
        return {errno.ELOOP} if isinstance(place.node, Link) else set()

    def names(self, place):
        return sorted([*place.node, *(["m"] if place.key == ("", ()) else [])])


def resize(content, length):
    del content[length:]
    content.extend(bytes(length - len(content)))


# ---- carrying it out ----------------------------------------------------------------------------


def outcome(call, *arguments):
    """The result of a call, and its errno or ValueError if it fails."""
    try:
        return call(*arguments), None
    except OSError as error:
        return None, error.errno
    except ValueError:
        return None, ValueError


def tree_of(directory, kept=".aiofs"):
    """The tree on disk, without the files of aiofs."""
    found = {}
    for entry in os.scandir(directory):
        if entry.name == kept:
            continue
        if entry.is_symlink():
            found[entry.name] = Link(os.readlink(entry.path))
        elif entry.is_dir():
            found[entry.name] = tree_of(entry.path, None)
        else:
            with open(entry.path, "rb") as file:
                found[entry.name] = file.read()
    return found


def plain(node):
    """The tree of the model, in the same form."""
    if isinstance(node, dict):
        return {name: plain(below) for name, below in node.items()}
    return bytes(node.content) if isinstance(node, File) else node


def furnish(directory):
    """Creates the entries that the model starts with."""
    os.makedirs(os.path.join(directory, "a", "b"))
    for path in ("a/c", "b"):
        os.close(os.open(os.path.join(directory, path), os.O_CREAT))


class World:
    """Two FileSystems on two volumes, and their model."""

    def __init__(self, volumes, systems):
        self.directories = {"": volumes[0]._directory, "m": volumes[1]._directory}
        self.systems = systems
        self.model = Model()
        for directory in self.directories.values():
            furnish(directory)

    def path(self, path):
        if not isinstance(path, Known):
            return path
        paths = self.model.open_paths() if path.is_open else []
        paths = paths or self.model.paths()
        below = "" if path.child is None else f"/{path.child}"
        return paths[path.which % len(paths)] + below

    def carry_out(self, step):
        step = replace(step, path=self.path(step.path), other=self.path(step.other))
        if step.kind in ("close", "write", "read"):
            if step.which < len(self.model.open):
                getattr(self, step.kind)(self.model.open[step.which])
        elif step.kind == "plant":
            self.plant(step)
        else:
            place = self.model.find(step.path)
            getattr(self, step.kind, self.change)(step, place)
        for mount, directory in self.directories.items():
            assert tree_of(directory) == plain(self.model.trees[mount]), step

    def call(self, step, *arguments):
        return outcome(getattr(self.systems[step.who], step.kind), step.path, *arguments)

    def change(self, step, place):
        _, error = self.call(step, *([] if step.other is None else [step.other]))
        expected = getattr(self.model, step.kind)(step, place)
        check(step, error, expected)

    def open(self, step, place):
        fd, error = self.call(step, step.other)
        expected = self.model.may_open(step, place)
        if fd is not None:
            if expected:
                self.systems[step.who].close(fd)
            else:
                self.model.opened(step, place, fd)
        check(step, error, expected)

    def stat(self, step, place):
        found, error = self.call(step)
        check(step, error, self.model.looked_at(place))
        if found is not None and not self.model.is_directory(place):
            assert found.st_size == len(place.node.content)

    def listdir(self, step, place):
        names, error = self.call(step)
        expected = self.model.looked_at(place)
        if not expected and not self.model.is_directory(place):
            expected = {errno.ENOTDIR}
        check(step, error, expected)
        if names is not None:
            assert sorted(names) == self.model.names(place)

    # ---- descriptors

    def close(self, opened):
        self.systems[opened.who].close(opened.fd)
        self.model.open.remove(opened)

    def write(self, opened):
        if opened.writes:
            content = opened.file.content
            data, at = b"%d" % opened.fd * 3, len(content) // 2
            os.pwrite(opened.fd, data, at)
            content[at : at + len(data)] = data

    def read(self, opened):
        assert os.pread(opened.fd, 10_000, 0) == opened.file.content

    # ---- another party

    def plant(self, step):
        place = self.model.find(step.path)
        if place.errors or place.is_root or place.node is not None:
            return
        os.symlink(step.other, os.path.join(self.directories[place.mount], *place.components))
        place.parent[place.name] = Link(step.other)


def check(step, error, expected):
    names = {errno.errorcode.get(each, each) for each in expected}
    shown = errno.errorcode.get(error, error)
    if expected:
        assert error in expected, f"{step} ended with {shown}, not with one of {names}"
    else:
        assert error is None, f"{step} failed with {shown}"


def lay_out(folder):
    (folder / "canary" / "inner").mkdir(parents=True)
    (folder / "canary" / "secret").write_bytes(SECRET)
    (folder / "canary" / "inner" / "file").write_bytes(SECRET)


def seen(folder):
    """The canary's contents, modes and times."""
    found = {}
    for path in sorted([folder / "canary", *(folder / "canary").rglob("*")]):
        status = path.stat()
        content = path.read_bytes() if path.is_file() else None
        found[path] = (status.st_mode, status.st_mtime_ns, status.st_ctime_ns, content)
    return found


@pytest.fixture
def canary(tmp_path):
    lay_out(tmp_path)
    before, entries = seen(tmp_path), sorted(os.listdir(tmp_path))
    passwd = os.stat("/etc/passwd")

    def untouched():
        assert seen(tmp_path) == before
        assert sorted(set(os.listdir(tmp_path)) - {"volume"}) == entries
        assert os.stat("/etc/passwd").st_mtime_ns == passwd.st_mtime_ns

    return untouched


counted = iter(range(10**9))


@examples(5)
@given(program=programs(STEP))
def test_any_sequence_of_operations_matches_a_model_of_dicts(tmp_path, canary, program):
    with ExitStack() as stack:
        directory = tmp_path / "volume" / str(next(counted))
        directory.parent.mkdir(exist_ok=True)
        volumes = [
            stack.enter_context(PrivateVolume(directory)),
            stack.enter_context(MemoryVolume()),
        ]
        systems = [stack.enter_context(FileSystem()) for _ in range(2)]
        for fs in systems:
            fs.mount("/", volumes[0])
            fs.mount("/m", volumes[1])
        world = World(volumes, systems)
        for step in program:
            world.carry_out(step)
        while world.model.open:
            world.read(world.model.open[-1])
            world.close(world.model.open[-1])
        assert not any(volume._ops.lock_count("") for volume in volumes)
    canary()
