"""A volume in a dict: the smallest one that implements the whole protocol."""

import errno
import threading
import time

from aiofs.volumes import Volume, entry_stat


class DictFile:
    """The object of an open file. It stays the same when its path is unlinked."""

    def __init__(self):
        self.data = bytearray()
        self.touch()

    def touch(self):
        self.changed_ns = time.time_ns()


class DictVolume(Volume):
    """`paths` maps each path to a DictFile, or to None for a directory."""

    def __init__(self):
        self.changing = threading.Lock()
        self.paths = {"": None}
        self.open_files = 0
        self.flushes = 0

    # ---- files

    def open_file(self, path, *, create, exclusive):
        if path not in self.paths:
            if not create:
                raise OSError(errno.ENOENT, "no such file")
            self._check_parent(path)
            self.paths[path] = DictFile()
        elif exclusive:
            raise OSError(errno.EEXIST, "there is one")
        if self.paths[path] is None:
            raise OSError(errno.EISDIR, "a directory")
        with self.changing:
            self.open_files += 1
        return self.paths[path]

    def close_file(self, file):
        with self.changing:
            self.open_files -= 1

    def read_at(self, file, buffer, offset):
        piece = bytes(file.data[offset : offset + len(buffer)])
        buffer[: len(piece)] = piece
        return len(piece)

    def write_at(self, file, data, offset):
        with self.changing:
            if len(data) and offset > len(file.data):
                file.data.extend(bytes(offset - len(file.data)))
            file.data[offset : offset + len(data)] = data
            file.touch()
        return len(data)

    def size(self, file):
        return len(file.data)

    def truncate(self, file, size):
        with self.changing:
            del file.data[size:]
            file.data.extend(bytes(size - len(file.data)))
            file.touch()

    def flush(self, file):
        self.flushes += 1

    # ---- the tree

    def stat(self, path):
        file = self._look(path)
        if file is None:
            return entry_stat("directory")
        return entry_stat("file", size=len(file.data), mtime_ns=file.changed_ns)

    def listdir(self, path):
        if self._look(path) is not None:
            raise OSError(errno.ENOTDIR, "a file")
        prefix = f"{path}/" if path else ""
        below = [other[len(prefix) :] for other in self.paths if other.startswith(prefix)]
        return [name for name in below if name and "/" not in name]

    def mkdir(self, path, mode=0o777):
        if path in self.paths:
            raise OSError(errno.EEXIST, "there is one")
        self._check_parent(path)
        self.paths[path] = None

    def rmdir(self, path):
        if self.listdir(path):
            raise OSError(errno.ENOTEMPTY, "not empty")
        del self.paths[path]

    def unlink(self, path):
        if self._look(path) is None:
            raise OSError(errno.EISDIR, "a directory")
        del self.paths[path]

    def rename(self, source, target):
        moving = self._look(source)
        self._check_parent(target)
        if target in self.paths:
            if moving is None:
                self.rmdir(target)
            else:
                self.unlink(target)
        for path in list(self.paths):
            if path != source and not path.startswith(source + "/"):
                continue
            self.paths[target + path[len(source) :]] = self.paths.pop(path)

    # ---- inside

    def _look(self, path):
        if path not in self.paths:
            raise OSError(errno.ENOENT, "no such entry")
        return self.paths[path]

    def _check_parent(self, path):
        if self._look(path.rpartition("/")[0]) is not None:
            raise OSError(errno.ENOTDIR, "the parent is a file")
