# Volumes in Python: volume.pxi.

cdef bytes _path_bytes(path)
cdef const void *_owner(unsigned long long owner) noexcept

cdef class DirectoryOps:
    cdef aiofs_volume *volume
    cdef readonly str directory
    cdef object __weakref__
    cdef aiofs_volume *use(self) except NULL
    cdef object shown(self, path, shown)
    cdef object failed(self, int status, path, shown, doing)
    cdef object failed_opening(self, int status, path, shown, doing)
    cdef aiofs_file *open_handle(self, path, str mode, int lock, int flags, shown, doing) except NULL
    cdef aiofs_file *open_swap(self, path, int flags, int lock, const void *owner, shown, doing) except NULL
    cdef aiofs_file *open_file(self, path, int flags, mode_t mode, int lock, const void *owner,
                               shown, doing) except NULL
    cdef object kind_of(self, path, entry)
