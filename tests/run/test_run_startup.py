"""`aiofs run --volume`: code of the program runs before the preloaded libraries are initialised.

Allocators, and constructors of other libraries, may then call open and the functions of <aio.h>.
"""

import pytest
from native import ENGINES
from running import (
    ENVIRONMENT,
    ROOT,
    compile_c,
    locked,
    needed,
    run,
    run_in,
    session,
    unsanitized,
)

SOURCES = ROOT / "tests" / "run"


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    return tmp_path_factory.mktemp("programs")


@pytest.fixture(scope="module")
def allocator(programs):
    return compile_c(SOURCES / "allocator.c", programs / "allocator")


@unsanitized
@pytest.mark.parametrize("engine", ENGINES)
def test_allocator_that_opens_files_under_its_own_lock_does_not_deadlock(allocator, folder, engine):
    options = ["--engine", needed(engine), "--volume", folder]
    done = run(*options, allocator, folder / "journal")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "read, lines: some, refused: 0\n"
    assert {*(folder / "journal").read_text().splitlines()} == {"line"}


@unsanitized
def test_preloaded_allocator_does_not_deadlock(programs, folder):
    """The allocator is preloaded into a shell, which starts differently, and its children."""
    library = compile_c(SOURCES / "allocator.c", programs / "liballocator.so", "-shared", "-fPIC")
    program = "echo line >file; exec /bin/cat file"
    said = run_in(folder, "env", f"LD_PRELOAD={library}", "sh", "-c", program)
    assert said == ["line"]
    preload = f'LD_PRELOAD="$LD_PRELOAD:{library}" exec sh -c "{program}"'
    assert run_in(folder, "sh", "-c", preload) == ["line"]


def test_program_with_an_open_of_its_own_is_locked(programs, folder, outside):
    program = compile_c(SOURCES / "own_open.c", programs / "own_open", "-ldl")
    with session(folder, program, "file") as running:
        assert running.here() == ["opened 1"]
        assert locked(outside)
        running.go_on()
        assert running.here() == ["closed 1"]
        assert not locked(outside)
        running.go_on()
        assert running.process.wait() == 0


@unsanitized
@pytest.mark.parametrize("engine", ENGINES)
def test_file_opened_by_a_constructor_before_the_library_is_locked(
    programs, folder, outside, engine
):
    library = compile_c(SOURCES / "early.c", programs / "libearly.so", "-shared", "-fPIC")
    source = programs / "late.c"
    source.write_text(
        "#include <stdio.h>\n#include <unistd.h>\n"
        "int early_fd(void);\n"
        'static void say(void) { puts("here"); fflush(stdout); getchar(); }\n'
        "int main(void) { say(); close(early_fd()); say(); return 0; }\n"
    )
    program = compile_c(source, programs / "late", library, f"-Wl,-rpath,{programs}")
    environment = ENVIRONMENT | {"EARLY_FILE": "file", "AIOFS_ENGINE": needed(engine)}
    with session(folder, program, env=environment) as running:
        assert running.here() == ["file 1, pipe 1"]
        assert locked(outside)
        running.go_on()
        running.here()
        assert not locked(outside)
