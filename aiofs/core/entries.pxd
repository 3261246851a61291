# Declarations of entries/volume.h that the core uses: volumes, entries, and the locks on entries.

from libc.stdint cimport int64_t, uint64_t
from posix.types cimport mode_t


cdef extern from "<sys/stat.h>" nogil:
    struct timespec_of_stat "timespec":
        long tv_sec
        long tv_nsec

    struct status_of_file "stat":
        unsigned long st_dev
        unsigned long st_ino
        mode_t st_mode
        unsigned long st_nlink
        unsigned int st_uid
        unsigned int st_gid
        unsigned long st_rdev
        int64_t st_size
        long st_blksize
        int64_t st_blocks
        timespec_of_stat st_atim
        timespec_of_stat st_mtim
        timespec_of_stat st_ctim


cdef extern from "sys/clock.h" nogil:
    int64_t aiofs_now()


cdef extern from "entries/volume.h" nogil:
    ctypedef struct aiofs_volume:
        pass

    enum aiofs_lock:
        AIOFS_LOCK_NONE
        AIOFS_LOCK_EXCLUSIVE
        AIOFS_LOCK_SHARED
        AIOFS_LOCK_READ_ONLY
        AIOFS_LOCK_READWRITE_UNSAFE
        AIOFS_LOCK_ATOMIC

    enum:
        AIOFS_VOLUME_CREATE
        AIOFS_VOLUME_HOST
        AIOFS_VOLUME_READ_ONLY
        AIOFS_VOLUME_LAZY

    int aiofs_volume_open(const char *directory, unsigned flags, int64_t quota, aiofs_volume **volume)
    int aiofs_volume_virtual(aiofs_volume **volume)
    void aiofs_volume_retain(aiofs_volume *volume)
    void aiofs_volume_release(aiofs_volume *volume)
    int aiofs_volume_in_use(const char *directory)
    int aiofs_volume_stat_cached(aiofs_volume *volume, const char *path, status_of_file *out)
    int aiofs_volume_snapshot_cached(aiofs_volume *volume, const char *path, status_of_file *out, uint64_t *generation)
    bint aiofs_volume_same(const aiofs_volume *a, const aiofs_volume *b)
    int aiofs_volume_estimate(aiofs_volume *volume, int64_t *usage, int64_t *quota)
    int64_t aiofs_volume_request_capacity(aiofs_volume *volume, int64_t bytes)
    int64_t aiofs_volume_release_capacity(aiofs_volume *volume, int64_t bytes)
    long aiofs_volume_lock_count(aiofs_volume *volume, const char *path)

    int aiofs_volume_stat(aiofs_volume *volume, const char *path, status_of_file *out)
    int aiofs_volume_lstat(aiofs_volume *volume, const char *path, status_of_file *out)
    int aiofs_volume_snapshot(aiofs_volume *volume, const char *path, status_of_file *out)
    uint64_t aiofs_volume_generation(aiofs_volume *volume, const char *path)
    int aiofs_volume_mkdir(aiofs_volume *volume, const char *path, mode_t mode)
    int aiofs_volume_rmdir(aiofs_volume *volume, const char *path)
    int aiofs_volume_unlink(aiofs_volume *volume, const char *path, const void *owner)
    int aiofs_volume_rename(aiofs_volume *volume, const char *from_, const char *to,
                            const void *owner)
    int aiofs_volume_move(aiofs_volume *volume, const char *from_, const char *to)
    int aiofs_volume_chmod(aiofs_volume *volume, const char *path, mode_t mode)
    int aiofs_volume_utime(aiofs_volume *volume, const char *path, const timespec_of_stat *times, bint follow)
    int aiofs_volume_symlink(aiofs_volume *volume, const char *text, const char *path)
    ssize_t aiofs_volume_readlink(aiofs_volume *volume, const char *path, char *out, size_t size)
    int aiofs_volume_link(aiofs_volume *volume, const char *from_, const char *to)
    int aiofs_volume_open_path(aiofs_volume *volume, const char *path)
    int aiofs_volume_truncate(aiofs_volume *volume, const char *path, int64_t size,
                              const void *owner)
    int aiofs_volume_locked_below(aiofs_volume *volume, const char *path)
    int aiofs_volume_remove_tree(aiofs_volume *volume, const char *path)
    int aiofs_volume_open_directory(aiofs_volume *volume, const char *path)

    int aiofs_lock_ref_take(aiofs_volume *volume, const char *path, aiofs_lock lock, const void *owner,
                            aiofs_lock_ref **lock_ref)
    void aiofs_lock_ref_release(aiofs_lock_ref *lock_ref)
    bint aiofs_lock_ref_created(const aiofs_lock_ref *lock_ref)
    void aiofs_lock_ref_changed(aiofs_lock_ref *lock_ref)
    void aiofs_lock_ref_releasing(aiofs_lock_ref *lock_ref)
    int aiofs_swap_adopt(aiofs_lock_ref *lock_ref, bint changed, int64_t (*commit)(void *self, int fd) noexcept,
                         void (*release)(void *self) noexcept, void *self)

    struct aiofs_acquisition:
        bint abandoned
        int64_t until
        void (*ready)(aiofs_acquisition *acquisition) noexcept nogil
        void *waiter
        bint parked
        bint looks
    bint aiofs_acquisition_expected(uint64_t key)
    void aiofs_acquisition_arrive(aiofs_acquisition *acquisition, uint64_t key)

    void aiofs_acquisition_begin(aiofs_acquisition *acquisition)
    void aiofs_acquisition_abandon(aiofs_acquisition *acquisition)
    void aiofs_acquisition_end(aiofs_acquisition *acquisition)
    bint aiofs_lock_ref_contended(const aiofs_lock_ref *lock_ref)
    int aiofs_lock_ref_watch(aiofs_lock_ref *lock_ref)

    struct aiofs_listed_lock:
        char *path
        const char *mode
        bint waiting, local
        int pid
        int64_t since
    long aiofs_volume_locks(aiofs_volume *volume, aiofs_listed_lock **list)
    ctypedef bint c_bool "bool"
    int aiofs_copy_file_bytes(int source, int target, c_bool (*go_on)(void *context, int64_t copied) noexcept nogil,
                              void *context)
    int64_t aiofs_read_stoppable(int fd, char *memory, size_t size, int64_t offset, const int *stop)
    int aiofs_copy_file_attributes(int source, int target)
    void aiofs_volume_locks_free(aiofs_listed_lock *list, long count)


cdef extern from "engine/engine.h" nogil:
    int aiofs_volume_open_cached(aiofs_volume *volume, const char *path, int flags, aiofs_lock lock, aiofs_file **file)
    int aiofs_volume_open_file(aiofs_volume *volume, const char *path, int flags, mode_t mode,
                               aiofs_lock lock, const void *owner, aiofs_file **file)
    int aiofs_volume_open_swap(aiofs_volume *volume, const char *path, int flags, mode_t mode,
                               aiofs_lock lock, const void *owner, aiofs_file **file)


cdef extern from "preload/run_session.h" nogil:
    int run_session_begin(const char *directory, int number)
