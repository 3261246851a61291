# Volumes in Python: thin wrappers of entries/volume.h.
#
# A DirectoryOps owns one reference to its aiofs_volume until it is closed. Each call takes one more until it
# returns, so a thread can close the volume while another uses it. A call that can wait for the disk or for another
# process's lock runs without the GIL.

from posix.types cimport mode_t

from stat import S_ISDIR, S_ISREG

_MODES = {
    "in-place": AIOFS_LOCK_EXCLUSIVE,
    "readwrite": AIOFS_LOCK_EXCLUSIVE,
    "exclusive": AIOFS_LOCK_ATOMIC,
    "shared": AIOFS_LOCK_SHARED,
    "read-only": AIOFS_LOCK_READ_ONLY,
    "readwrite-unsafe": AIOFS_LOCK_READWRITE_UNSAFE,
}

LOCK_NONE = AIOFS_LOCK_NONE
LOCK_EXCLUSIVE = AIOFS_LOCK_EXCLUSIVE
LOCK_SHARED = AIOFS_LOCK_SHARED
LOCK_READ_ONLY = AIOFS_LOCK_READ_ONLY
LOCK_READWRITE_UNSAFE = AIOFS_LOCK_READWRITE_UNSAFE
LOCK_ATOMIC = AIOFS_LOCK_ATOMIC

VOLUME_CREATE = AIOFS_VOLUME_CREATE
VOLUME_HOST = AIOFS_VOLUME_HOST
VOLUME_READ_ONLY = AIOFS_VOLUME_READ_ONLY
VOLUME_LAZY = AIOFS_VOLUME_LAZY


def mode_of_handle(mode):
    """Returns a tuple for an access handle's mode: its canonical name, its lock, its open(2) flags.

    Raises TypeError if the mode is no str, ValueError if it is unknown.
    """
    if not isinstance(mode, str):
        raise TypeError(f"mode must be a str, not {type(mode).__name__}")
    lock = _MODES.get(mode)
    if lock is None:
        raise ValueError(f"unknown mode {mode!r}: one of {', '.join(map(repr, _MODES))}")
    flags = os.O_RDONLY if mode == "read-only" else os.O_RDWR
    return "in-place" if mode == "readwrite" else mode, lock, flags


def is_atomic(str mode):
    """Whether the changes of an access handle in this mode appear all or nothing, at its close."""
    return mode == "exclusive" or mode == "shared"


def volume_in_use(directory):
    """Whether any process has the directory open as a volume. Raises OSError if it cannot be opened."""
    cdef bytes path = _path_bytes(directory)
    cdef const char *c_path = path
    cdef int status
    with nogil:
        status = aiofs_volume_in_use(c_path)
    if status < 0:
        raise make_error(-status, directory, "open volume")
    return status > 0


def begin_run_session(directory, int number):
    """Begins a session of `aiofs run`: this process, and all that inherit the descriptor, have the directory open.

    Returns the descriptor, the lowest free number from `number` on; it stays open across exec. Raises OSError as
    opening a volume does.
    """
    cdef bytes path = _path_bytes(directory)
    cdef const char *c_path = path
    cdef int descriptor
    with nogil:
        descriptor = run_session_begin(c_path, number)
    if descriptor < 0:
        raise make_error(-descriptor, directory, "open volume")
    return descriptor


cdef bytes _path_bytes(path):
    cdef bytes encoded = os.fsencode(path)
    if b"\0" in encoded:
        raise ValueError(f"a path has no NUL character in it: {path!r}")
    return encoded


cdef inline const void *_owner(unsigned long long owner) noexcept:
    return <const void *><size_t>owner


cdef object _identity(found):
    return f"{found.st_dev:x}:{found.st_ino:x}"


cdef object _stat_result(const status_of_file *status):
    """An os.stat_result: the ten fields of its sequence, and the fields that only have names."""
    cdef long long second = 1_000_000_000
    access = status.st_atim.tv_sec * second + status.st_atim.tv_nsec
    change = status.st_mtim.tv_sec * second + status.st_mtim.tv_nsec
    status_change = status.st_ctim.tv_sec * second + status.st_ctim.tv_nsec
    return os.stat_result(
        (
            status.st_mode, status.st_ino, status.st_dev, status.st_nlink, status.st_uid,
            status.st_gid, status.st_size, access // second, change // second,
            status_change // second,
        ),
        {
            "st_atime": access / second,
            "st_mtime": change / second,
            "st_ctime": status_change / second,
            "st_atime_ns": access,
            "st_mtime_ns": change,
            "st_ctime_ns": status_change,
            "st_blksize": status.st_blksize,
            "st_blocks": status.st_blocks,
            "st_rdev": status.st_rdev,
        },
    )


cdef class DirectoryOps:
    """A directory opened as a volume. Implements `aiofs.volume_ops.VolumeOps`.

    Paths are relative to its root; "" is the root. `shown` is the path that errors name; by default it is the path on
    disk. Every method raises OSError EBADF after `close`.
    """


    def __init__(self, directory, *, unsigned flags=0, quota=None):
        cdef bytes path = _path_bytes(directory)
        cdef const char *c_path = path
        cdef int64_t limit = -1 if quota is None else quota
        cdef aiofs_volume *volume = NULL
        cdef int status
        if self.volume != NULL:
            raise RuntimeError("a DirectoryOps is opened once")
        with nogil:
            status = aiofs_volume_open(c_path, flags, limit, &volume)
        if status < 0:
            raise make_error(-status, os.fsdecode(directory), "open volume")
        self.directory = os.fsdecode(directory)
        self.volume = volume

    def __dealloc__(self):
        cdef aiofs_volume *volume = self.volume
        self.volume = NULL
        with nogil:
            aiofs_volume_release(volume)

    cdef aiofs_volume *use(self) except NULL:
        """The volume, with a reference that the call releases. EBADF if it is closed."""
        if self.volume == NULL:
            raise make_error(EBADF, self.directory, "use a closed volume")
        aiofs_volume_retain(self.volume)
        return self.volume

    cdef object shown(self, path, shown):
        return shown if shown is not None else f"{self.directory}/{path}" if path else self.directory

    cdef object failed(self, int status, path, shown, doing):
        return make_error(-status, self.shown(path, shown), doing)

    cdef object failed_opening(self, int status, path, shown, doing):
        if status == -EOPNOTSUPP and doing != "open":  # what handles call no entry
            message = f"{doing}: it is neither a file nor a directory"
            return errors.TypeMismatchError(EISDIR, message, self.shown(path, shown))
        return self.failed(status, path, shown, doing)

    def show(self, str path):
        """The path on disk, as errors name it."""
        return self.shown(path, None)

    @property
    def closed(self):
        return self.volume == NULL

    def close(self):
        """Closes the volume; open files stay open and locked."""
        cdef aiofs_volume *volume = self.volume
        self.volume = NULL
        with nogil:
            aiofs_volume_release(volume)

    def same(self, other):
        """Whether both are the same directory."""
        if self is other:
            return True
        if not isinstance(other, DirectoryOps) or self.volume == NULL or (<DirectoryOps>other).volume == NULL:
            return False
        return bool(aiofs_volume_same(self.volume, (<DirectoryOps>other).volume))

    # ---- opening

    cdef aiofs_file *open_handle(self, path, str mode, int lock, int flags, shown, doing) except NULL:
        """Opens the file of an access handle."""
        if is_atomic(mode):
            return self.open_swap(path, flags, lock, NULL, shown, doing)
        return self.open_file(path, flags, 0o666, lock, NULL, shown, doing)

    cdef aiofs_file *open_swap(self, path, int flags, int lock, const void *owner, shown, doing) except NULL:
        cdef bytes encoded = _path_bytes(path)
        cdef const char *c_path = encoded
        cdef aiofs_file *file = NULL
        cdef int status
        cdef aiofs_volume *volume = self.use()
        with nogil:
            status = aiofs_volume_open_swap(volume, c_path, flags, 0o666, <aiofs_lock>lock, owner, &file)
            aiofs_volume_release(volume)
        if status < 0:
            raise self.failed_opening(status, path, shown, doing)
        return file

    cdef aiofs_file *open_file(self, path, int flags, mode_t mode, int lock, const void *owner,
                               shown, doing) except NULL:
        cdef bytes encoded = _path_bytes(path)
        cdef const char *c_path = encoded
        cdef aiofs_file *file = NULL
        cdef int status
        cdef aiofs_volume *volume = self.use()
        with nogil:
            status = aiofs_volume_open_file(volume, c_path, flags, mode, <aiofs_lock>lock, owner,
                                            &file)
            aiofs_volume_release(volume)
        if status < 0:
            raise self.failed_opening(status, path, shown, doing)
        return file

    def open(self, str path, int flags, mode_t mode, int lock, unsigned long long owner, shown=None):
        """open(2) under a lock: returns an OpenFile. An owner that is not 0 shares one exclusive lock per entry."""
        cdef aiofs_file *file = self.open_file(path, flags, mode, lock, _owner(owner), shown, "open")
        return _open_file(file, self.shown(path, shown))

    def open_locked(self, str path, int flags, bint atomic, unsigned long long owner, shown=None):
        """open(2) under a lock: a SyncAccessHandle, and whether the call has created the file.

        The handle is in mode "exclusive" if `atomic`, else "in-place". With O_TRUNC an atomic one begins empty, and is
        committed even if nothing is written.
        """
        cdef aiofs_file *file
        cdef bint created
        shown_path = self.shown(path, shown)
        if atomic:
            file = self.open_swap(path, flags, AIOFS_LOCK_ATOMIC, _owner(owner), shown, "open file")
        else:
            file = self.open_file(path, flags, 0o666, AIOFS_LOCK_EXCLUSIVE, _owner(owner), shown, "open file")
        created = aiofs_lock_ref_created(aiofs_file_lock_ref(file))
        return sync_access_handle_of(file, "exclusive" if atomic else MODE_IN_PLACE, shown_path), created

    def sync_access_handle(self, str path, mode, bint create, shown=None):
        name, lock, flags = mode_of_handle(mode)
        shown_path = self.shown(path, shown)
        if create:
            flags |= os.O_CREAT
        cdef aiofs_file *file = self.open_handle(path, name, lock, flags, shown, "create access handle")
        return sync_access_handle_of(file, name, shown_path)

    def access_handle(self, str path, mode, bint create, shown=None):
        name, lock, flags = mode_of_handle(mode)
        shown_path = self.shown(path, shown)
        if create:
            flags |= os.O_CREAT
        cdef aiofs_file *file = self.open_handle(path, name, lock, flags, shown, "create access handle")
        return access_handle_of(file, name, shown_path)

    def writable(self, str path, int lock, bint keep, shown=None):
        """A Writable of the file, which begins with the file's bytes if `keep`, else empty."""
        shown_path = self.shown(path, shown)
        cdef int flags = os.O_RDWR if keep else os.O_RDWR | os.O_TRUNC
        cdef aiofs_file *file = self.open_swap(path, flags, lock, NULL, shown, "create writable")
        return writable_of(file, shown_path)

    # ---- looking

    def stat(self, str path, shown=None):
        cdef bytes encoded = _path_bytes(path)
        cdef const char *c_path = encoded
        cdef status_of_file found
        cdef int status
        cdef aiofs_volume *volume = self.use()
        with nogil:
            status = aiofs_volume_stat(volume, c_path, &found)
            aiofs_volume_release(volume)
        if status < 0:
            raise self.failed(status, path, shown, "stat")
        return _stat_result(&found)

    def check_exists(self, str path):
        """Raises as `stat` does, and gives nothing: for many calls in a row."""
        cdef bytes encoded = _path_bytes(path)
        cdef const char *c_path = encoded
        cdef status_of_file found
        cdef int status
        cdef aiofs_volume *volume = self.use()
        with nogil:
            status = aiofs_volume_stat(volume, c_path, &found)
            aiofs_volume_release(volume)
        if status < 0:
            raise self.failed(status, path, None, "stat")

    def lstat(self, str path, shown=None):
        """As `stat`, of a symbolic link itself."""
        cdef bytes encoded = _path_bytes(path)
        cdef const char *c_path = encoded
        cdef status_of_file found
        cdef int status
        cdef aiofs_volume *volume = self.use()
        with nogil:
            status = aiofs_volume_lstat(volume, c_path, &found)
            aiofs_volume_release(volume)
        if status < 0:
            raise self.failed(status, path, shown, "lstat")
        return _stat_result(&found)

    def snapshot(self, str path, shown=None):
        """As `stat`, but first waits, at most a clock tick, until a later change must change the file's mtime."""
        cdef bytes encoded = _path_bytes(path)
        cdef const char *c_path = encoded
        cdef status_of_file found
        cdef int status
        cdef aiofs_volume *volume = self.use()
        with nogil:
            status = aiofs_volume_snapshot(volume, c_path, &found)
            aiofs_volume_release(volume)
        if status < 0:
            raise self.failed(status, path, shown, "stat")
        return _stat_result(&found)

    def generation(self, str path):
        """A counter of the changes that aiofs makes to the file's bytes, in any process. Other paths may share it."""
        cdef bytes encoded = _path_bytes(path)
        cdef const char *c_path = encoded
        cdef uint64_t changes
        cdef aiofs_volume *volume = self.use()
        with nogil:
            changes = aiofs_volume_generation(volume, c_path)
            aiofs_volume_release(volume)
        return changes

    def scan(self, str path, shown=None):
        """The entries of a directory: pairs of a name and "file", "directory", or None for neither."""
        cdef bytes encoded = _path_bytes(path)
        cdef const char *c_path = encoded
        cdef int status
        cdef aiofs_volume *volume = self.use()
        with nogil:
            status = aiofs_volume_open_directory(volume, c_path)
            aiofs_volume_release(volume)
        if status < 0:
            raise self.failed(status, path, shown, "list")
        found = {}  # a name that is removed and created meanwhile may be read twice
        try:
            with os.scandir(status) as entries:
                for entry in entries:
                    if not entry.name.startswith(".aiofs-swap-"):  # of a commit; see entries/swap_beside.c
                        found[entry.name] = self.kind_of(path, entry)
            if ".aiofs" in found and self.identity() == _identity(os.fstat(status)):
                del found[".aiofs"]
        finally:
            os.close(status)
        return list(found.items())

    def identity(self):
        """What identifies the directory among all volumes of the machine."""
        return _identity(self.stat(""))

    cdef object kind_of(self, path, entry):
        if entry.is_symlink():
            try:
                mode = self.stat(f"{path}/{entry.name}").st_mode
            except OSError:
                return None
            return "directory" if S_ISDIR(mode) else "file" if S_ISREG(mode) else None
        if entry.is_dir(follow_symlinks=False):
            return "directory"
        return "file" if entry.is_file(follow_symlinks=False) else None

    def lock_count(self, str path):
        """How many open files and locks this process has on `path` and on the entries below it."""
        cdef bytes encoded = _path_bytes(path)
        cdef const char *c_path = encoded
        cdef long count
        cdef aiofs_volume *volume = self.use()
        with nogil:
            count = aiofs_volume_lock_count(volume, c_path)
            aiofs_volume_release(volume)
        if count < 0:
            raise self.failed(<int>count, path, None, "look at")
        return count

    def locks(self):
        """The locks that all processes hold and wait for in this volume; see list_locks."""
        cdef aiofs_volume *volume = self.use()
        try:
            return list_locks(volume, "list locks", self.directory)
        finally:
            with nogil:
                aiofs_volume_release(volume)

    def locked_below(self, str path):
        cdef bytes encoded = _path_bytes(path)
        cdef const char *c_path = encoded
        cdef int status
        cdef aiofs_volume *volume = self.use()
        with nogil:
            status = aiofs_volume_locked_below(volume, c_path)
            aiofs_volume_release(volume)
        if status < 0:
            raise self.failed(status, path, None, "look at")
        return status > 0

    def estimate(self):
        """The sum of the sizes of all files, counted now, and the quota or None; both in bytes."""
        cdef int64_t usage = 0, quota = -1
        cdef int status
        cdef aiofs_volume *volume = self.use()
        with nogil:
            status = aiofs_volume_estimate(volume, &usage, &quota)
            aiofs_volume_release(volume)
        if status < 0:
            raise self.failed(status, "", None, "estimate")
        return usage, None if quota < 0 else quota

    def request_capacity(self, int64_t size):
        """Reserves `size` bytes of the quota. Returns how many are reserved and not used."""
        cdef int64_t capacity
        cdef aiofs_volume *volume = self.use()
        with nogil:
            capacity = aiofs_volume_request_capacity(volume, size)
            aiofs_volume_release(volume)
        if capacity < 0:
            raise self.failed(<int>capacity, "", None, "request capacity")
        return capacity

    def release_capacity(self, int64_t size):
        """Gives back `size` bytes that are reserved. Returns how many still are. ValueError if fewer were."""
        cdef int64_t capacity
        cdef aiofs_volume *volume = self.use()
        with nogil:
            capacity = aiofs_volume_release_capacity(volume, size)
            aiofs_volume_release(volume)
        if capacity == -ERANGE:
            raise ValueError(f"fewer than {size} bytes of {self.directory!r} are reserved")
        if capacity < 0:
            raise self.failed(<int>capacity, "", None, "release capacity")
        return capacity

    # ---- changing

    def mkdir(self, str path, mode_t mode=0o777, shown=None):
        cdef bytes encoded = _path_bytes(path)
        cdef const char *c_path = encoded
        cdef int status
        cdef aiofs_volume *volume = self.use()
        with nogil:
            status = aiofs_volume_mkdir(volume, c_path, mode)
            aiofs_volume_release(volume)
        if status < 0:
            raise self.failed(status, path, shown, "mkdir")

    def rmdir(self, str path, shown=None):
        cdef bytes encoded = _path_bytes(path)
        cdef const char *c_path = encoded
        cdef int status
        cdef aiofs_volume *volume = self.use()
        with nogil:
            status = aiofs_volume_rmdir(volume, c_path)
            aiofs_volume_release(volume)
        if status < 0:
            raise self.failed(status, path, shown, "rmdir")

    def unlink(self, str path, unsigned long long owner=0, shown=None):
        cdef bytes encoded = _path_bytes(path)
        cdef const char *c_path = encoded
        cdef const void *c_owner = _owner(owner)
        cdef int status
        cdef aiofs_volume *volume = self.use()
        with nogil:
            status = aiofs_volume_unlink(volume, c_path, c_owner)
            aiofs_volume_release(volume)
        if status < 0:
            raise self.failed(status, path, shown, "unlink")

    def rename(self, str source, str target, unsigned long long owner=0, shown=None,
               shown_target=None):
        cdef bytes encoded_source = _path_bytes(source), encoded_target = _path_bytes(target)
        cdef const char *c_source = encoded_source
        cdef const char *c_target = encoded_target
        cdef const void *c_owner = _owner(owner)
        cdef int status
        cdef aiofs_volume *volume = self.use()
        with nogil:
            status = aiofs_volume_rename(volume, c_source, c_target, c_owner)
            aiofs_volume_release(volume)
        if status < 0:
            error = self.failed(status, source, shown, "rename")
            error.filename2 = self.shown(target, shown_target)
            raise error

    def move(self, str source, str target):
        """As `rename`, for handles: replaces a file only, InvalidModificationError for other targets."""
        cdef bytes encoded_source = _path_bytes(source), encoded_target = _path_bytes(target)
        cdef const char *c_source = encoded_source
        cdef const char *c_target = encoded_target
        cdef int status
        cdef aiofs_volume *volume = self.use()
        with nogil:
            status = aiofs_volume_move(volume, c_source, c_target)
            aiofs_volume_release(volume)
        if status < 0:
            error = self.failed(status, source, None, "move")
            error.filename2 = self.shown(target, None)
            raise error

    def chmod(self, str path, mode_t mode, shown=None):
        cdef bytes encoded = _path_bytes(path)
        cdef const char *c_path = encoded
        cdef int status
        cdef aiofs_volume *volume = self.use()
        with nogil:
            status = aiofs_volume_chmod(volume, c_path, mode)
            aiofs_volume_release(volume)
        if status < 0:
            raise self.failed(status, path, shown, "chmod")

    def utime(self, str path, ns, bint follow=True, shown=None):
        """ns: both times in nanoseconds since the epoch; None: now."""
        cdef bytes encoded = _path_bytes(path)
        cdef const char *c_path = encoded
        cdef timespec_of_stat times[2]
        cdef int status
        cdef const timespec_of_stat *c_times = NULL if ns is None else times
        if ns is not None:
            times[0].tv_sec, times[0].tv_nsec = divmod(ns[0], 1_000_000_000)
            times[1].tv_sec, times[1].tv_nsec = divmod(ns[1], 1_000_000_000)
        cdef aiofs_volume *volume = self.use()
        with nogil:
            status = aiofs_volume_utime(volume, c_path, c_times, follow)
            aiofs_volume_release(volume)
        if status < 0:
            raise self.failed(status, path, shown, "utime")

    def symlink(self, str text, str path, shown=None):
        cdef bytes encoded_text = _path_bytes(text), encoded = _path_bytes(path)
        cdef const char *c_text = encoded_text
        cdef const char *c_path = encoded
        cdef int status
        cdef aiofs_volume *volume = self.use()
        with nogil:
            status = aiofs_volume_symlink(volume, c_text, c_path)
            aiofs_volume_release(volume)
        if status < 0:
            raise self.failed(status, path, shown, "symlink")

    def readlink(self, str path, shown=None):
        cdef bytes encoded = _path_bytes(path)
        cdef const char *c_path = encoded
        cdef char text[4096]
        cdef Py_ssize_t length
        cdef aiofs_volume *volume = self.use()
        with nogil:
            length = aiofs_volume_readlink(volume, c_path, text, sizeof(text))
            aiofs_volume_release(volume)
        if length < 0:
            raise self.failed(<int>length, path, shown, "readlink")
        return os.fsdecode(text[:length])

    def link(self, str source, str target, shown=None, shown_target=None):
        cdef bytes encoded_source = _path_bytes(source), encoded_target = _path_bytes(target)
        cdef const char *c_source = encoded_source
        cdef const char *c_target = encoded_target
        cdef int status
        cdef aiofs_volume *volume = self.use()
        with nogil:
            status = aiofs_volume_link(volume, c_source, c_target)
            aiofs_volume_release(volume)
        if status < 0:
            error = self.failed(status, source, shown, "link")
            error.filename2 = self.shown(target, shown_target)
            raise error

    def statvfs(self, str path, shown=None):
        cdef bytes encoded = _path_bytes(path)
        cdef const char *c_path = encoded
        cdef int status
        cdef aiofs_volume *volume = self.use()
        with nogil:
            status = aiofs_volume_open_path(volume, c_path)
            aiofs_volume_release(volume)
        if status < 0:
            raise self.failed(status, path, shown, "statvfs")
        try:
            return os.fstatvfs(status)
        except OSError as error:
            raise self.failed(-error.errno, path, shown, "statvfs") from None
        finally:
            os.close(status)

    def truncate(self, str path, long long size, unsigned long long owner=0, shown=None):
        cdef bytes encoded = _path_bytes(path)
        cdef const char *c_path = encoded
        cdef const void *c_owner = _owner(owner)
        cdef int status
        cdef aiofs_volume *volume = self.use()
        with nogil:
            status = aiofs_volume_truncate(volume, c_path, size, c_owner)
            aiofs_volume_release(volume)
        if status < 0:
            raise self.failed(status, path, shown, "truncate")

    def remove_tree(self, str path, shown=None):
        """Removes a directory with everything below it, or empties the root. EBUSY, and nothing removed, if an entry
        in it is locked."""
        cdef bytes encoded = _path_bytes(path)
        cdef const char *c_path = encoded
        cdef int status
        cdef aiofs_volume *volume = self.use()
        with nogil:
            status = aiofs_volume_remove_tree(volume, c_path)
            aiofs_volume_release(volume)
        if status < 0:
            raise self.failed(status, path, shown, "remove")
