# Open files in Python: open_file.pxi.

cdef class OpenFile:
    cdef aiofs_file *file
    cdef readonly object path  # the path that error messages show

cdef OpenFile _open_file(aiofs_file *file, path)
