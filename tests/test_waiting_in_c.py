"""C programs that wait for locks, beside Python's."""

import asyncio
import subprocess
from pathlib import Path

import pytest
from native import compile_c, needs_compiler

import aiofs

ROOT = Path(__file__).resolve().parents[1]

ONE_TURN = r"""
#include <aiofs.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    const struct timespec none = {0}, tenth = {.tv_nsec = 100000000}, invalid = {.tv_nsec = -1};
    const struct timespec *const timeouts[] = {&none, &tenth, &invalid, NULL};
    (void)argc;
    for (int i = 0; i < 4; i++) {
        int fd = aiofs_open_wait(argv[1], "log", O_RDWR, 0, AIOFS_MODE_IN_PLACE, timeouts[i]);
        const char *error = errno == EBUSY ? "EBUSY" : errno == EINVAL ? "EINVAL" : "another";
        printf("%s\n", fd >= 0 ? "has it" : error);
        fflush(stdout);
    }
    int fd = aiofs_open_wait(argv[1], "log", O_RDWR, 0, AIOFS_MODE_READ_ONLY, NULL);
    return fd != -1 || errno != EINVAL;
}
"""


@pytest.fixture
def program(tmp_path):
    def build(source, name):
        library = aiofs.get_library_dir()
        flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", f"-I{aiofs.get_include()}"]
        link = [f"-L{library}", "-laiofs", f"-Wl,-rpath,{library}"]
        compile_c(*flags, source, "-o", tmp_path / name, *link)
        return tmp_path / name

    return build


@needs_compiler
async def test_c_program_waits_behind_a_handle_of_python(program, tmp_path):
    (tmp_path / "turn.c").write_text(ONE_TURN)
    built = program(tmp_path / "turn.c", "turn")
    with aiofs.PrivateVolume(tmp_path / "volume") as volume:
        file = await volume.root.get_file_handle("log", create=True)
        handle = await file.create_access_handle()
        process = subprocess.Popen([built, tmp_path / "volume"], stdout=subprocess.PIPE, text=True)
        lines = [process.stdout.readline() for _ in range(3)]
        assert lines == ["EBUSY\n", "EBUSY\n", "EINVAL\n"]
        await asyncio.wait_for(handle.contention(), 30)
        await handle.close()
        assert process.communicate()[0] == "has it\n"
        assert process.returncode == 0


@needs_compiler
def test_processes_hand_a_file_round_fairly(program, tmp_path):
    built = program(ROOT / "benchmarks/native/hand_round.c", "hand_round")
    done = subprocess.run(
        [built, tmp_path / "volume", "20", "20"], capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert done.stdout.startswith("400 hand-overs") and "; 0 passed over" in done.stdout
