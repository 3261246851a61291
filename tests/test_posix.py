"""The C face: programs that use only <aio.h> (tests/posix), unmodified.

Each program runs in two forms on each engine: `linked` to libaiofs.so, with 64-bit offsets (so with
the 64 names, if <aio.h> distinguishes them), and `preloaded`: built for libc, and run with
LD_PRELOAD. A program prints a line for each check. It exits with 77 if this machine does not have
what it tests.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from native import ENGINES, SANITIZE, checked, compile_c, needs_compiler

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "aiofs" / "libaiofs.so"
PROGRAMS = sorted(path.stem for path in (ROOT / "tests" / "posix").glob("*.c"))
FLAGS = ["-std=gnu11", "-O1", "-g", "-pthread", *SANITIZE]
FORMS = {
    "linked": ["-D_FILE_OFFSET_BITS=64", LIBRARY, f"-Wl,-rpath,{LIBRARY.parent}"],
    "preloaded": ["-Wl,--no-as-needed", "-lrt"],  # the library of aio_read in older glibc
}

pytestmark = [
    needs_compiler,
    pytest.mark.timeout(900),  # a program that hangs is ended earlier, by its alarm()
]


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """compiled(name, form): the program. The first call compiles it."""
    folder = tmp_path_factory.mktemp("posix")

    def build(name, form):
        program = folder / f"{name}-{form}"
        if not program.exists():
            source = ROOT / "tests" / "posix" / f"{name}.c"
            compile_c(*FLAGS, source, *FORMS[form], "-ldl", "-o", program)
        return program

    return build


@pytest.fixture
def run_posix(compiled, tmp_path):
    """run_posix(name, form, engine): runs the program, which must succeed. Returns its output."""

    def run(name, form, engine):
        environment = {"AIOFS_ENGINE": engine, "TMPDIR": str(tmp_path)}
        if form == "preloaded":
            before = os.environ.get("LD_PRELOAD", "").split()  # a sanitizer must be loaded first
            environment |= {"LD_PRELOAD": " ".join([*before, str(LIBRARY)]), "SHORT": "1"}
        return checked(compiled(name, form), tmp_path, **environment)

    return run


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_program(run_posix, name, form, engine):
    run_posix(name, form, engine)


@pytest.mark.parametrize("form", FORMS)
def test_every_name_of_a_function_resolves_to_libaiofs(run_posix, form):
    assert f"they come from {LIBRARY}\n" in run_posix("names", form, ENGINES[0])


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.skipif(bool(SANITIZE), reason="a sanitizer does not run under strace")
@pytest.mark.parametrize("engine", ENGINES)
def test_timed_waits_use_the_monotonic_clock(compiled, tmp_path, engine):
    calls = tmp_path / "calls"
    program = compiled("submission", "linked")
    strace = ["strace", "-f", "-e", "trace=futex", "-o", calls, program]
    environment = os.environ | {"AIOFS_ENGINE": engine, "TMPDIR": str(tmp_path)}
    done = subprocess.run(strace, env=environment, cwd=tmp_path, capture_output=True, text=True)
    if "ptrace" in done.stderr and done.returncode != 0:
        pytest.skip("strace is not allowed here")
    timed = [line for line in calls.read_text().splitlines() if "{tv_sec=" in line]
    assert timed, "a host thread that is idle waits for some seconds"
    assert not [line for line in timed if "FUTEX_CLOCK_REALTIME" in line]
