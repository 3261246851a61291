# What is done inside the call because the kernel has it in memory: opening, looking, reading whole files.
#
# Each function tries, and returns None if the thread would have to wait, if the budget of this turn of the loop is spent
# several times over, or on any error. The caller then makes the same operation on a host thread, which also gives the
# error. So these functions have no errors of their own, and none of them needs a loop. See sys/cached.h.

from posix.unistd cimport close as c_close

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
        encoded = path if type(path) is bytes else os.fsencode(path)
    except UnicodeError:
        return None
    return None if b"\0" in encoded else encoded


cdef inline bint _affords_call() except -1:
    cdef LoopNotifier notifier = current_notifier()
    return notifier is not None and notifier.affords_call()


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
    cdef Operation operation
    cdef object entered

    def __cinit__(self):
        self.operation = completed_operation(GIVES_OBJECT, None)
        self.operation.retrieved = True  # until `opened` gives it a handle

    def __del__(self):
        if not self.operation.retrieved:
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
        return self.operation.throw(kind, value, traceback)

    def close(self):
        self.operation.drop()
        self.operation.retrieved = True

    async def __aenter__(self):
        self.entered = handle = await self
        return handle

    async def __aexit__(self, kind, exception, traceback):
        handle, self.entered = self.entered, None
        return await handle.__aexit__(kind, exception, traceback)

    def __repr__(self):
        return f"<Opened {'awaited' if self.operation.retrieved else self.operation!r}>"

    def __reduce__(self):
        raise TypeError("an opening cannot be copied or pickled: await it, once")


def opened(handle):
    """An Opened of a handle."""
    cdef Opened made = Opened.__new__(Opened)
    made.operation.value = handle
    made.operation.retrieved = False
    return made


cdef int opened_send(object self, object value, PyObject **out) except -1:
    cdef Operation operation = (<Opened>self).operation
    cdef int outcome
    if operation.retrieved:
        raise RuntimeError("cannot reuse what was awaited already")
    outcome = operation_send(operation, value, out)
    if outcome == PYGEN_RETURN:
        operation.value = None
    return outcome


type_set_send(<PyTypeObject *>Opened, opened_send)


# ---- entries of volumes ---------------------------------------------------------------------------------------

def cached_mode(ops, str path):
    """The st_mode of an entry; None: on a host thread."""
    cdef status_of_file found
    cdef aiofs_volume *volume
    cdef bytes encoded
    cdef int status
    if type(ops) is not DirectoryOps or (<DirectoryOps>ops).volume == NULL or not _affords_call():
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
    cdef status_of_file found
    cdef uint64_t changes = 0
    cdef aiofs_volume *volume
    cdef bytes encoded
    cdef int status
    if type(ops) is not DirectoryOps or (<DirectoryOps>ops).volume == NULL or not _affords_call():
        return None
    encoded = _plain_path(path)
    if encoded is None:
        return None
    volume = (<DirectoryOps>ops).use()
    status = aiofs_volume_snapshot_cached(volume, encoded, &found, &changes)
    aiofs_volume_release(volume)
    return (_stat_result(&found), changes) if status == 0 else None


def cached_access_handle(ops, str path, mode, key, shown=None):
    """An AccessHandle of an existing file; None: on a host thread. `key`: as for offload_waiting."""
    cdef aiofs_file *file = NULL
    cdef aiofs_volume *volume
    cdef bytes encoded
    cdef int status, lock, flags
    if type(ops) is not DirectoryOps or (<DirectoryOps>ops).volume == NULL or not _affords_call():
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

def cached_bytes(path):
    """All bytes of a file; None: on a host thread."""
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
        if (found.st_mode & 0o170000) == 0o100000 and found.st_size <= WHOLE_MAX and found.st_nlink > 0:
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
