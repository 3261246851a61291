# What is done inside the call because the kernel has it in memory: cached.pxi.

cdef extern from "sys/cached.h" nogil:
    int aiofs_cached_open(const char *path, int flags, status_of_file *found)
    int aiofs_cached_stat(const char *path, int flags, status_of_file *found)
    int64_t aiofs_cached_read(int fd, unsigned long filesystem, void *buffer, size_t size)
    bint aiofs_filesystem_is_local(int fd)
    bint aiofs_closes_at_once(int fd)

cdef Operation completed_operation(int gives, object value)
cdef object cached_mode(ops, str path)
