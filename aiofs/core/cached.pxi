# What is done inside the call because the kernel has it in memory: opening, looking, reading whole files.
#
# Each function tries, and returns None if the thread would have to wait, if this turn of the loop is used up, or on any
# error. The caller then makes the same operation by offload_in_turn, in a later turn or on a host thread, which also gives
# the error. So these functions have no errors of their own, and none of them needs a loop. See sys/cached.h.

from libc.string cimport strlen
from posix.unistd cimport close as c_close

cdef extern from "Python.h":
    bytes PyUnicode_EncodeFSDefault(object text)

cdef extern from "<fcntl.h>" nogil:
    int c_fcntl "fcntl"(int fd, int command, ...)
    int F_SETFL, c_O_RDONLY "O_RDONLY", c_O_NONBLOCK "O_NONBLOCK", c_O_NOFOLLOW "O_NOFOLLOW"

cdef enum:
    WHOLE_MAX = 1024 * 1024  # the most bytes that one call reads


cdef bytes _plain_path(path):
    """The path as the kernel takes it; None if the built-in `open` would not take it, or it needs a look."""
    cdef bytes encoded
    if type(path) is not str and type(path) is not bytes:
        try:
            path = os.fspath(path)
        except TypeError:
            return None
    try:
        encoded = PyUnicode_EncodeFSDefault(path) if isinstance(path, str) else bytes(path)
    except UnicodeError:
        return None
    return encoded if strlen(PyBytes_AS_STRING(encoded)) == <size_t>len(encoded) else None


cdef inline bint _affords_call() except -1:
    cdef LoopNotifier notifier = current_notifier()
    return notifier is not None and notifier.affords_call()


cdef inline bint _has_turn() except -1:
    cdef LoopNotifier notifier = current_notifier()
    return notifier is not None and notifier.has_turn()


cdef Operation completed_operation(int gives, object value):
    """An operation that has succeeded."""
    cdef Operation operation = Operation.__new__(Operation)
    operation.kind = DONE
    operation.gives = gives
    operation.state = SUCCEEDED
    operation.value = value
    return operation


def completed(value):
    """An Operation that has succeeded with a value."""
    return completed_operation(GIVES_OBJECT, value)


@cython.final
cdef class Opened:
    """A handle that was opened inside the call: `await` it for the handle, or enter it with `async with`.

    As every opening it is a collections.abc.Coroutine. If it is dropped before it returned the handle, the handle is
    closed.
    """
    cdef object handle   # until an await has returned it
    cdef object entered
    cdef bint waited     # the await has suspended once

    def __del__(self):
        if self.handle is not None:
            self.close()  # first, because the receiver of the warning gets this object
            warnings.warn("the opening of a handle was never awaited: await it, or use 'async with'", RuntimeWarning,
                          stacklevel=1, source=self)

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return next_by_send(self)

    def send(self, value):
        return next_by_send(self)

    def throw(self, kind, value=None, traceback=None):
        self.close()
        raise_thrown(kind, value, traceback)

    def close(self):
        handle, self.handle = self.handle, None
        if handle is not None:
            mark_unwanted(handle)

    async def __aenter__(self):
        self.entered = handle = await self
        return handle

    async def __aexit__(self, kind, exception, traceback):
        handle, self.entered = self.entered, None
        return await handle.__aexit__(kind, exception, traceback)

    def __repr__(self):
        return f"<Opened {'awaited' if self.handle is None else self.handle!r}>"

    def __reduce__(self):
        raise TypeError("an opening cannot be copied or pickled: await it, once")


cpdef Opened opened(object handle):
    """An Opened of a handle."""
    cdef Opened made = Opened.__new__(Opened)
    made.handle = handle
    return made


cdef int opened_send(object self, object value, PyObject **out) except -1:
    cdef Opened opening = <Opened>self
    cdef object handle = opening.handle
    if handle is None:
        raise RuntimeError("cannot reuse what was awaited already")
    if not opening.waited and turn_is_spent():
        opening.waited = True
        Py_INCREF(None)
        out[0] = <PyObject *>None
        return PYGEN_NEXT
    opening.handle = None
    Py_INCREF(handle)
    out[0] = <PyObject *>handle
    return PYGEN_RETURN


type_set_send(<PyTypeObject *>Opened, opened_send)


# ---- entries of volumes ---------------------------------------------------------------------------------------

def cached_entry(kind, volume, str path, int wanted):
    """The handle of an entry, of the class `kind`, if its st_mode is of the type `wanted`; None: on a host thread."""
    mode = cached_mode(volume._ops, path)
    if mode is None or (<int>mode & 0o170000) != wanted:
        return None
    handle = kind.__new__(kind)
    handle._volume = volume
    handle._path = path
    return handle


cdef object cached_mode(ops, str path):
    """The st_mode of an entry, or None."""
    cdef status_of_file found
    cdef aiofs_volume *volume
    cdef bytes encoded
    cdef int status
    if type(ops) is not DirectoryOps or (<DirectoryOps>ops).volume == NULL or not _has_turn():
        return None
    encoded = _plain_path(path)
    if encoded is None:
        return None
    volume = (<DirectoryOps>ops).use()
    status = aiofs_volume_stat_cached(volume, encoded, &found)
    aiofs_volume_release(volume)
    return found.st_mode if status == 0 else None


def cached_snapshot(ops, str path):
    """What `snapshot` and `generation` give, as a tuple; None: on a host thread."""
    cdef bytes encoded
    if type(ops) is not DirectoryOps or (<DirectoryOps>ops).volume == NULL or not _has_turn():
        return None
    encoded = _plain_path(path)
    if encoded is None:
        return None
    return snapshot_of(ops, encoded)


cdef object snapshot_of(DirectoryOps ops, bytes path):
    cdef status_of_file found
    cdef uint64_t changes = 0
    cdef aiofs_volume *volume = ops.use()
    cdef int status = aiofs_volume_snapshot_cached(volume, path, &found, &changes)
    aiofs_volume_release(volume)
    return (_stat_result(&found), changes) if status == 0 else None


def cached_part(ops, str path, int64_t start, size_t size):
    """Bytes of an entry, and then what `cached_snapshot` gives: (bytes, stat_result, int). None: on a host thread."""
    cdef aiofs_volume *volume
    cdef aiofs_file *file = NULL
    cdef bytes encoded
    cdef object data = None
    if type(ops) is not DirectoryOps or (<DirectoryOps>ops).volume == NULL or size > WHOLE_MAX or not _has_turn():
        return None
    encoded = _plain_path(path)
    if encoded is None:
        return None
    volume = (<DirectoryOps>ops).use()
    try:
        if aiofs_volume_open_cached(volume, encoded, c_O_RDONLY, AIOFS_LOCK_NONE, &file) == 0:
            data = cached_bytes_of(file, start, size)
    finally:
        aiofs_volume_release(volume)
        if file != NULL:
            if aiofs_file_close_at_once(file):
                aiofs_file_release(file)
            else:
                drop_file_on_host_thread(file)
    known = None if data is None else snapshot_of(ops, encoded)
    return None if known is None else (data, *known)


cdef object cached_bytes_of(aiofs_file *file, int64_t start, size_t size):
    """`size` bytes from byte `start`; None if they are not in memory, or are fewer."""
    cdef object data = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>size)
    cdef iovec piece
    piece.iov_base = PyBytes_AS_STRING(data)
    piece.iov_len = size
    if size and aiofs_read_inline(file, -1, &piece, 1, size, start, False) != <int64_t>size:
        return None
    return data


def cached_opening(ops, str path, mode, key):
    """An Opened of an existing file; None: on a host thread. `key`: as for offload_waiting."""
    handle = cached_access_handle(ops, path, mode, key)
    return None if handle is None else opened(handle)


def cached_access_handle(ops, str path, mode, key, shown=None):
    """The AccessHandle itself, or None."""
    cdef aiofs_file *file = NULL
    cdef aiofs_volume *volume
    cdef bytes encoded
    cdef int status, lock, flags
    if type(ops) is not DirectoryOps or (<DirectoryOps>ops).volume == NULL or not _has_turn():
        return None
    name, lock, flags = mode_of_handle(mode)
    encoded = _plain_path(path)
    if is_atomic(name) or encoded is None or aiofs_acquisition_expected(<uint64_t>hash(key) | 1):
        return None
    volume = (<DirectoryOps>ops).use()
    status = aiofs_volume_open_cached(volume, encoded, flags, <aiofs_lock>lock, &file)
    aiofs_volume_release(volume)
    if status < 0:
        return None
    return access_handle_of(file, name, (<DirectoryOps>ops).shown(path, shown))


def cached_open_file(ops, str path, int flags):
    """An OpenFile of an existing file, without a lock; None: on a host thread. `flags`: of open(2)."""
    cdef aiofs_file *file = NULL
    cdef aiofs_volume *volume
    cdef bytes encoded
    cdef int status
    if type(ops) is not DirectoryOps or (<DirectoryOps>ops).volume == NULL or not _affords_call():
        return None
    encoded = _plain_path(path)
    if encoded is None:
        return None
    volume = (<DirectoryOps>ops).use()
    status = aiofs_volume_open_cached(volume, encoded, flags, AIOFS_LOCK_NONE, &file)
    aiofs_volume_release(volume)
    return None if status < 0 else _open_file(file, (<DirectoryOps>ops).shown(path, None))


# ---- files by path ---------------------------------------------------------------------------------------------

def cached_bytes(path, int64_t most=WHOLE_MAX):
    """All bytes of a file that has at most so many; None: on a host thread."""
    cdef status_of_file found
    cdef bytes encoded
    cdef int64_t got = -EAGAIN
    cdef object data = None
    cdef int fd
    if not _affords_call():
        return None
    encoded = _plain_path(path)
    if encoded is None:
        return None
    fd = aiofs_cached_open(encoded, c_O_RDONLY, &found)
    if fd < 0:
        return None
    try:
        if (found.st_mode & 0o170000) == 0o100000 and found.st_size <= most and found.st_nlink > 0:
            data = PyBytes_FromStringAndSize(NULL, found.st_size)
            got = aiofs_cached_read(fd, found.st_dev, PyBytes_AS_STRING(data), <size_t>found.st_size)
        return data if got >= 0 else None
    finally:
        c_close(fd)


def cached_descriptor(path, int flags):
    """Opens an existing file: a descriptor; None: on a host thread. `flags`: of open(2)."""
    cdef status_of_file found
    cdef bytes encoded
    cdef int fd
    if not _affords_call():
        return None
    encoded = _plain_path(path)
    if encoded is None:
        return None
    fd = aiofs_cached_open(encoded, flags, &found)
    if fd < 0:
        return None
    if not flags & c_O_NONBLOCK:
        c_fcntl(fd, F_SETFL, flags)
    return fd


def cached_status(path, bint follow=True):
    """The os.stat_result of a path; None: on a host thread."""
    cdef status_of_file found
    cdef bytes encoded
    if not _affords_call():
        return None
    encoded = _plain_path(path)
    if encoded is None or aiofs_cached_stat(encoded, 0 if follow else c_O_NOFOLLOW, &found) < 0:
        return None
    return _stat_result(&found)


def learn_filesystem(int fd):
    """Whether opens and closes on the filesystem of a descriptor wait for nothing but this kernel.

    Called on a host thread: it may block. The next file there may then be opened inside the call.
    """
    cdef bint local
    with nogil:
        local = aiofs_filesystem_is_local(fd)
    return local


def close_is_immediate(int fd):
    """Whether closing the descriptor cannot block: nothing was written by it, and its file has a name."""
    return aiofs_closes_at_once(fd)
