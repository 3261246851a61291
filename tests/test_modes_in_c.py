"""C programs that open files in the modes exclusive and shared, beside Python's handles."""

import subprocess

import pytest
from native import compile_c, needs_compiler

import aiofs

pytestmark = needs_compiler

# Its arguments: the volume; the first letter of a mode; T for O_TRUNC, A for O_APPEND, or -; and a
# text, which it writes by aio_write. Then it waits for a line: "close" or "abort".
WRITER = r"""
#include <aio.h>
#include <aiofs.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    const struct timespec none = {0};
    enum aiofs_mode mode = *argv[2] == 'e' ? AIOFS_MODE_EXCLUSIVE : AIOFS_MODE_SHARED;
    int flags = *argv[3] == 'T' ? O_TRUNC : *argv[3] == 'A' ? O_APPEND : 0;
    char line[20];
    int fd = aiofs_open_wait(argv[1], "file", O_WRONLY | flags, 0, mode, &none);
    if (argc != 5 || fd < 0) {
        puts(strerror(errno));
        return 1;
    }
    struct aiocb cb = {.aio_fildes = fd, .aio_buf = argv[4], .aio_nbytes = strlen(argv[4])};
    if (aio_write(&cb) < 0)
        return 2;
    if (*argv[3] != '-') { /* else the close waits for it */
        const struct aiocb *const list[] = {&cb};
        while (aio_error(&cb) == EINPROGRESS)
            aio_suspend(list, 1, NULL);
        if (aio_return(&cb) != (ssize_t)cb.aio_nbytes)
            return 3;
    }
    puts("written");
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin))
        return 4;
    if ((*line == 'c' ? aiofs_close(fd) : aiofs_abort(fd)) < 0)
        return 5;
    return aiofs_close(fd) != -1 || errno != EBADF || aiofs_abort(fd) != -1 || errno != EBADF;
}
"""


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("writer")
    (folder / "writer.c").write_text(WRITER)
    library = aiofs.get_library_dir()
    flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", f"-I{aiofs.get_include()}"]
    link = [f"-L{library}", "-laiofs", f"-Wl,-rpath,{library}"]
    compile_c(*flags, folder / "writer.c", "-o", folder / "writer", *link)
    return folder / "writer"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume" / "file").write_bytes(b"old bytes")
    return tmp_path / "volume"


@pytest.fixture
def write(writer, folder):
    started = []

    def start(mode, flags, text):
        process = subprocess.Popen(
            [writer, folder, mode, flags, text],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process, process.stdout.readline().strip()

    yield start
    for process in started:
        process.kill()
        process.communicate()


def end(process, how):
    process.communicate(how + "\n", timeout=50)
    return process.returncode


@pytest.mark.parametrize("mode", ["exclusive", "shared"])
@pytest.mark.parametrize(
    ("flags", "new"), [("-", b"new bytes"), ("T", b"new"), ("A", b"old bytesnew")]
)
def test_changes_appear_at_the_close(write, folder, mode, flags, new):
    text = "new" if flags != "-" else "new bytes"
    process, said = write(mode, flags, text)
    assert said == "written"
    assert (folder / "file").read_bytes() == b"old bytes"
    assert end(process, "close") == 0
    assert (folder / "file").read_bytes() == new
    assert list((folder / ".aiofs" / "swap").iterdir()) == []


@pytest.mark.parametrize("mode", ["exclusive", "shared"])
def test_abort_discards_the_copy(write, folder, mode):
    process, _ = write(mode, "T", "new")
    assert end(process, "abort") == 0
    assert (folder / "file").read_bytes() == b"old bytes"
    assert list((folder / ".aiofs" / "swap").iterdir()) == []


def test_killed_program_leaves_the_old_file_and_no_lock(write, folder):
    process, _ = write("exclusive", "T", "new")
    process.kill()
    process.wait()
    with aiofs.PrivateVolume(folder):
        assert (folder / "file").read_bytes() == b"old bytes"
        assert list((folder / ".aiofs" / "swap").iterdir()) == []
    assert write("exclusive", "T", "new")[1] == "written"


async def test_modes_exclude_as_those_of_handles_do(write, folder):
    with aiofs.PrivateVolume(folder) as volume:
        file = await volume.root.get_file_handle("file")
        process, said = write("exclusive", "-", "1")
        assert said == "written"
        with pytest.raises(aiofs.NoModificationAllowedError):
            await file.create_access_handle(mode="shared")
        assert [(lock.mode, lock.waiting) for lock in await volume.locks()] == [
            ("exclusive", False)
        ]
        assert end(process, "abort") == 0
        async with file.create_access_handle(mode="shared"):
            assert write("exclusive", "-", "1")[1] == "Device or resource busy"
            process, said = write("shared", "-", "1")
            assert said == "written"
            assert [lock.mode for lock in await volume.locks()] == ["shared", "shared"]
            assert end(process, "close") == 0
        assert (folder / "file").read_bytes() == b"1ld bytes"


async def test_locks_name_the_mode_that_was_asked_for(folder):
    with aiofs.PrivateVolume(folder) as volume:
        file = await volume.root.get_file_handle("file")

        async def modes():
            return [lock.mode for lock in await volume.locks()]

        for mode in ("in-place", "exclusive", "shared", "read-only", "readwrite-unsafe"):
            async with file.create_access_handle(mode=mode):
                assert await modes() == [mode]
        async with file.create_writable(mode="exclusive") as stream:
            assert await modes() == ["exclusive"]
            waiting = file.create_writable(mode="siloed", wait=50)
            while await modes() != ["exclusive", "shared"]:
                pass
            await stream.abort()
            second = await waiting
            assert await modes() == ["shared"]
            await second.abort()
