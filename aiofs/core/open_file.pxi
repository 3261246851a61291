# Open files in Python. An OpenFile owns the opener's reference to an open file; its finalizer closes the file. A call
# that can wait for the disk runs without the GIL.

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize

cdef str CLOSED_BEFORE = "the descriptor was closed already, by os.close or the like"


cdef class OpenFile:
    """An open file of a volume, and its descriptor, until `close` or the finalizer."""

    def __dealloc__(self):
        cdef aiofs_file *file = self.file
        self.file = NULL
        if file != NULL:
            with nogil:
                aiofs_file_unwanted(file)
                aiofs_file_close(file)
                aiofs_file_release(file)

    def fileno(self):
        """The descriptor; OSError EBADF once it is closed, by os.close too."""
        cdef int fd = -1 if self.file == NULL else aiofs_file_fd(self.file)
        if fd < 0:
            raise make_error(EBADF, self.path, "fileno", CLOSED_BEFORE)
        return fd

    def close(self):
        """Closes the descriptor. The lock is released when the last request on the file is terminal.

        OSError EBADF if it is closed already, by os.close too.
        """
        cdef aiofs_file *file = self.file
        cdef int status = -EBADF
        self.file = NULL
        if file != NULL:
            with nogil:
                status = aiofs_file_close(file)
                aiofs_file_release(file)
        if status < 0:
            raise make_error(-status, self.path, "close", CLOSED_BEFORE if status == -EBADF else None)

    def get_size(self):
        """The size of the file, in bytes."""
        cdef aiofs_file *file = self.file
        cdef int64_t size = -EBADF
        if file != NULL:
            aiofs_file_retain(file)
            size = aiofs_file_size(file)
            aiofs_file_release(file)
        if size < 0:
            raise make_error(-size, self.path, "get_size")
        return size

    def read(self, Py_ssize_t size, long long offset):
        """Returns `size` bytes from `offset` (both in bytes), fewer at the end of the file only. See pread(2)."""
        cdef aiofs_file *file = self.file
        cdef int64_t got
        cdef iovec piece
        if file == NULL:
            raise make_error(EBADF, self.path, "read")
        data = PyBytes_FromStringAndSize(NULL, size)
        piece.iov_base = PyBytes_AS_STRING(data)
        piece.iov_len = <size_t>size
        aiofs_file_retain(file)
        with nogil:
            got = aiofs_file_read(file, &piece, 1, offset, True)
            aiofs_file_release(file)
        if got < 0:
            raise make_error(-got, self.path, "read")
        return data if got == size else data[:got]


cdef OpenFile _open_file(aiofs_file *file, path):
    """An OpenFile that owns the caller's reference to `file`."""
    cdef OpenFile opened = OpenFile.__new__(OpenFile)
    opened.file = file
    opened.path = path
    return opened
