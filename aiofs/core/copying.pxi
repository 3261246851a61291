# Copies of files of the machine: entries/file_copy.c does the work.


cdef struct copying:
    PyObject *each  # the Python function, or NULL
    PyObject *error  # what it raised; a reference


cdef c_bool go_on(void *context, int64_t copied) noexcept nogil:
    cdef copying *state = <copying *>context
    if state.each == NULL:
        return True
    with gil:
        try:
            (<object>state.each)(copied)
            return True
        except BaseException as error:
            Py_INCREF(error)
            state.error = <PyObject *>error
            return False


def copy_bytes(int source, int target, each=None):
    """Copies the bytes of a descriptor's file to the empty file of another; blocks. Holes stay holes.

    each: called with the count of bytes that are done, now and then, from this thread; what it raises ends the
    copy. OSError with the kernel's errno.
    """
    cdef copying state
    cdef int status
    state.each = NULL if each is None else <PyObject *>each
    state.error = NULL
    with nogil:
        status = aiofs_copy_file_bytes(source, target, go_on, &state)
    if state.error != NULL:
        error = <object>state.error
        Py_DECREF(error)
        raise error
    if status < 0:
        raise make_error(-status, None, "copy")


def copy_attributes(int source, int target):
    """Copies owner, mode and extended attributes of a descriptor's file, as far as this process may set them."""
    cdef int status
    with nogil:
        status = aiofs_copy_file_attributes(source, target)
    if status < 0:
        raise make_error(-status, None, "copy attributes")
