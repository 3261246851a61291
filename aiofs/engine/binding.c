/*
 * binding.c - the end of a binding: when the engine closes its descriptor of an open file, and on which thread.
 *
 * A binding is the engine's own descriptor of an open file, in the engine's descriptor table. The last request on a
 * plain file closes the binding before its own completion is published, unless that close can block. So when the
 * program then closes its descriptor, the effects are immediate (flock(2) releases the lock, the pipe's reader sees end
 * of file, the file can be executed).
 *
 * One kind of binding is kept for a moment after the last request (file_keep): an O_DIRECT file open for reading only,
 * because the next read mostly follows at once. Each request still examines the program's descriptor with fstat. The
 * kept binding holds the inode, so no other file can get the same inode number. A later request may therefore use a
 * kept binding when its descriptor leads to the same inode with the same flags.
 *
 * A worker makes each close that can block. Every other close is made by the thread that finds the binding unused.
 *
 * Locking. The engine lock guards engine.kept and engine.releasing. file_close_can_block needs no lock.
 */
#define _GNU_SOURCE
#include <fcntl.h>

#include "internal.h"

/* May the close be late without an effect that a program can see? It may for a regular file that is open for reading
 * with O_DIRECT and has a name: a later open of it reads the same bytes, and the last close frees nothing. A file open
 * for writing is not kept, because execve would fail with ETXTBSY meanwhile. */
static bool is_keepable(const aiofs_file *file)
{
    const int matter = O_ACCMODE | O_DIRECT;
    return !file->owned && file->type == S_IFREG && (file->flags & matter) == (O_RDONLY | O_DIRECT) && !file->refuses &&
           !file->nameless && atomic_load(&file->engine_fd) >= 0 && file_is_found(file) && channel_has_own_table();
}

bool file_keep(aiofs_file *file)
{
    enum { KEPT_NS = 2000000 };
    bool was_kept = file->kept_until != 0, keeps = (on_reactor || was_kept) && is_keepable(file);
    if (was_kept)
        list_remove(&file->leaving);
    if (was_kept && !keeps)
        aiofs_file_release(file); /* its last request still has a reference */
    if (keeps && !was_kept)
        aiofs_file_retain(file);
    if (keeps)
        list_append(&engine.kept, &file->leaving);
    file->kept_until = keeps ? aiofs_now() + KEPT_NS : 0;
    return keeps;
}

int files_expire_kept(void)
{
    enum { MS = 1000000 };
    int64_t now = list_empty(&engine.kept) ? 0 : aiofs_now();
    while (!list_empty(&engine.kept)) {
        aiofs_file *file = CONTAINER(engine.kept.next, aiofs_file, leaving);
        if (file->kept_until > now)
            return (int)((file->kept_until - now) / MS) + 1;
        list_remove(&file->leaving);
        file->kept_until = 0;
        if (file->outstanding) { /* its last request will close it; this reference is not the last */
            aiofs_file_release(file);
        } else {
            file_unregister(file);
            list_append(&engine.releasing, &file->leaving);
        }
    }
    return -1;
}

bool file_kind_can_block(const aiofs_file *file)
{
    bool has_name = file->type == S_IFREG && !file->owned && !file->refuses && !file->nameless;
    return !(file->type == S_IFIFO || file->type == 0 || has_name);
}

bool file_close_can_block(const aiofs_file *file)
{
    struct stat stat;
    if (file_kind_can_block(file) || file->type != S_IFREG)
        return file_kind_can_block(file);
    int fd = atomic_load(&file->engine_fd);
    return fd >= 0 && aiofs_sys.fstat(fd, &stat) == 0 && stat.st_nlink == 0;
}
