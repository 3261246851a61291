/*
 * walk.c - visiting everything below a directory.
 *
 * A walk keeps a list of directories to visit and one open directory: depth costs memory, and no descriptors. It reads
 * directories with getdents64(2) and holds no lock meanwhile. The walk owns its list.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "sys.h"
#include "volume_internal.h"

/* ---- lists of paths --------------------------------------------------------------------------------------- */

/* Puts a path at the head of a list. */
int aiofs_listed_push(struct aiofs_listed **list, const char *path, size_t length, bool directory)
{
    struct aiofs_listed *listed = malloc(sizeof *listed + length + 1);
    if (!listed)
        return -ENOMEM;
    *listed = (struct aiofs_listed){.next = *list, .is_directory = directory, .length = length};
    memcpy(listed->path, path, length);
    listed->path[length] = 0;
    *list = listed;
    return 0;
}

struct aiofs_listed *aiofs_listed_pop(struct aiofs_listed **list)
{
    struct aiofs_listed *listed = *list;
    if (listed)
        *list = listed->next;
    return listed;
}

void aiofs_listed_free(struct aiofs_listed *list)
{
    struct aiofs_listed *listed;
    while ((listed = aiofs_listed_pop(&list)))
        free(listed);
}

/* ---- the walk ----------------------------------------------------------------------------------------------- */

struct walk {
    struct aiofs_listed *directories; /* still to visit */
    aiofs_visit visit;
    void *context;
};

static bool is_directory(int dirfd, const struct aiofs_dirent *record)
{
    struct stat status;
    if (record->type != DT_UNKNOWN)
        return record->type == DT_DIR;
    return aiofs_sys.fstatat(dirfd, record->name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(status.st_mode);
}

static int visit_record(struct walk *walk, int dirfd, const struct aiofs_listed *directory,
                        const struct aiofs_dirent *record)
{
    char path[PATH_MAX];
    size_t length = directory->length, name_length = strlen(record->name);
    if (strcmp(record->name, ".") == 0 || strcmp(record->name, "..") == 0)
        return 0;
    if (length == 0 && strcmp(record->name, AIOFS_OWN_DIR) == 0)
        return 0;
    if (length + 1 + name_length >= sizeof path)
        return -ENAMETOOLONG;
    memcpy(path, directory->path, length);
    if (length > 0)
        path[length++] = '/';
    memcpy(path + length, record->name, name_length + 1);
    struct aiofs_found found = {dirfd, record->name, path, length + name_length, is_directory(dirfd, record)};
    int status = walk->visit(&found, walk->context);
    if (status == 0 && found.is_directory)
        status = aiofs_listed_push(&walk->directories, path, found.length, true);
    return status;
}

static int visit_directory(struct walk *walk, int dirfd, const struct aiofs_listed *directory)
{
    _Alignas(struct aiofs_dirent) char buffer[32768];
    ssize_t got;
    while ((got = aiofs_sys.getdents64(dirfd, buffer, sizeof buffer)) > 0) {
        for (ssize_t at = 0; at < got;) {
            const struct aiofs_dirent *record = (const struct aiofs_dirent *)(buffer + at);
            int status = visit_record(walk, dirfd, directory, record);
            if (status < 0)
                return status;
            at += record->size;
        }
    }
    return (int)got;
}

int aiofs_directory_visit(int directory, aiofs_directory_visitor *visit, void *context)
{
    _Alignas(struct aiofs_dirent) char buffer[4096];
    ssize_t got;
    while ((got = aiofs_sys.getdents64(directory, buffer, sizeof buffer)) > 0) {
        for (ssize_t at = 0; at < got; at += ((const struct aiofs_dirent *)(buffer + at))->size) {
            const char *name = ((const struct aiofs_dirent *)(buffer + at))->name;
            int status = strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ? 0 : visit(name, directory, context);
            if (status < 0)
                return status;
        }
    }
    return (int)got;
}

/* Visits every entry below `path`. A directory that is removed during the walk is skipped; with `skip_refused`, so is
 * one that this user may not read, as there may be in a host volume. */
int aiofs_tree_walk(const struct aiofs_tree *tree, const char *path, aiofs_visit visit, void *context, bool skip_refused)
{
    struct walk walk = {.visit = visit, .context = context};
    struct aiofs_listed *directory;
    int status = aiofs_listed_push(&walk.directories, path, strlen(path), true);
    while (status == 0 && (directory = aiofs_listed_pop(&walk.directories))) {
        int dirfd = aiofs_open_beneath(tree, directory->path, O_RDONLY | O_DIRECTORY, 0);
        if (dirfd >= 0) {
            status = visit_directory(&walk, dirfd, directory);
            aiofs_sys.close(dirfd);
        } else if (dirfd != -ENOENT && !(skip_refused && dirfd == -EACCES)) {
            status = dirfd;
        }
        free(directory);
    }
    aiofs_listed_free(walk.directories);
    return status;
}
