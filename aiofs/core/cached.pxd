# What is done inside the call because the kernel has it in memory: cached.pxi.

cdef extern from "sys/cached.h" nogil:
    int cached_open(const char *path, int flags, status_of_file *found)
    int cached_stat(const char *path, int flags, status_of_file *found)
    int64_t cached_read(int fd, unsigned long filesystem, void *buffer, size_t size)
    bint filesystem_is_local(int fd)
    bint closes_at_once(int fd)

cdef Operation completed_operation(int gives, object value)
