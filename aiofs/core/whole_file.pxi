# Whole large files, read on a host thread: entries/file_read.c does the work.
#
# Ownership. The call on the host thread owns the memory until it returns it; if its await was cancelled, the call ends
# after the piece that it is reading, and frees the memory.
#
# Locking. The loop's thread sets `stopped`, the host thread reads it without the GIL.

cdef extern from "Python.h":
    const Py_ssize_t PY_SSIZE_T_MAX
    int _PyBytes_Resize(PyObject **data, Py_ssize_t size) except -1
    PyObject *new_bytes "PyBytes_FromStringAndSize" (const char *text, Py_ssize_t size) except NULL
    char *bytes_of "PyBytes_AS_STRING" (PyObject *data)


@cython.final
cdef class WholeRead:
    """One read of a whole file, which can be stopped."""
    cdef int stopped

    def stop(self):
        """Ends the read, from another thread, after its piece."""
        self.stopped = 1

    def run(self, int fd, Py_ssize_t size):
        """All bytes of a descriptor's file, which has about `size`; blocks. None: it cannot be read at offsets.

        A file that is cut or grows meanwhile gives what is there, as by the method of io.FileIO. OSError with the
        kernel's errno, ECANCELED if it was stopped; MemoryError.
        """
        cdef Py_ssize_t room = size + 1  # so that the end of the file is seen in the last read
        cdef Py_ssize_t done = 0
        cdef int64_t got
        cdef char *rest
        cdef PyObject *data
        if size > PY_SSIZE_T_MAX // 2:
            raise MemoryError
        data = new_bytes(NULL, room)
        try:
            while True:
                rest = bytes_of(data) + done
                with nogil:
                    got = aiofs_read_stoppable(fd, rest, <size_t>(room - done), done, &self.stopped)
                if got == -ESPIPE:
                    return None
                if got < 0:
                    raise make_error(-got, None, "read")
                done += got
                if done < room:
                    _PyBytes_Resize(&data, done)
                    return <object>data
                room += room // 8
                _PyBytes_Resize(&data, room)
        finally:
            Py_XDECREF(data)
