/*
 * binding.c - the end of a binding: when the engine's descriptor of an open file is closed, and by whom.
 *
 * A plain file is let go of by its last request, before that ends: nothing that the program's close does (a lock of
 * flock(2) given up, the end of a pipe, the file executable) waits for the engine. One kind is kept for a moment
 * (file_keep), because the next read of it mostly comes at once: what is read directly, from a disk. The program's
 * number is looked at for each request all the same, and while the inode is held no other file can have its number. So
 * a kept binding serves whoever leads to that inode with the same flags.
 *
 * A close that can block is made by a worker, every other by the thread that finds the binding unused.
 */
#define _GNU_SOURCE
#include <fcntl.h>

#include "internal.h"

/* Where nobody misses the program's close for a moment: a file on a disk that the next read finds the same, whoever
 * opened it anew, and whose last close has nothing to do. An open file that may be written is not kept: it could not
 * be executed meanwhile. */
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

int files_let_go(void)
{
    enum { MS = 1000000 };
    int64_t now = list_empty(&engine.kept) ? 0 : aiofs_now();
    while (!list_empty(&engine.kept)) {
        aiofs_file *file = CONTAINER(engine.kept.next, aiofs_file, leaving);
        if (file->kept_until > now)
            return (int)((file->kept_until - now) / MS) + 1;
        list_remove(&file->leaving);
        file->kept_until = 0;
        if (file->outstanding) { /* its last request does it; the reference is not the last */
            aiofs_file_release(file);
        } else {
            file_forget(file);
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
