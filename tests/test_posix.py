"""The C face: programs written against <aio.h> alone (tests/posix), as unmodified programs meet it.

Each is compiled once, and then runs in two forms on each engine: `linked` to libaiofs.so, with
offsets of 64 bits (so under the 64 names where <aio.h> tells them apart), and `preloaded`: built
for libc, and run with LD_PRELOAD. A program prints a line for each check; 77 is its word for what
cannot be had here.
"""

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "aiofs" / "libaiofs.so"
PROGRAMS = sorted(path.stem for path in (ROOT / "tests" / "posix").glob("*.c"))
ENGINES = [e for e in (os.environ.get("AIOFS_ENGINE"),) if e] or ["io_uring", "threads"]
COMPILER = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()
SANITIZE = os.environ.get("AIOFS_SANITIZE")
FLAGS = ["-std=gnu11", "-O1", "-g", "-pthread"]
if SANITIZE:
    FLAGS += [f"-fsanitize={SANITIZE}"]
FORMS = {
    "linked": ["-D_FILE_OFFSET_BITS=64", LIBRARY, f"-Wl,-rpath,{LIBRARY.parent}"],
    "preloaded": ["-Wl,--no-as-needed", "-lrt"],  # where glibc once had its own
}
SKIPPED = 77

pytestmark = [
    pytest.mark.skipif(shutil.which(COMPILER[0]) is None, reason="needs a C compiler"),
    pytest.mark.skipif("PYTHONASYNCIODEBUG" in os.environ, reason="C programs know no asyncio"),
    pytest.mark.timeout(900),  # a program ends itself long before
]


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """compiled(name, form): the program, made when it is first asked for."""
    folder = tmp_path_factory.mktemp("posix")

    def compile_c(name, form):
        program = folder / f"{name}-{form}"
        if not program.exists():
            source = ROOT / "tests" / "posix" / f"{name}.c"
            command = [*COMPILER, *FLAGS, source, *FORMS[form], "-ldl", "-o", program]
            # Under a sanitizer the compiler itself must run without it.
            environment = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
            made = subprocess.run(command, env=environment, capture_output=True, text=True)
            assert made.returncode == 0, made.stderr
        return program

    return compile_c


@pytest.fixture
def run_posix(compiled, tmp_path):
    """run_posix(name, form, engine): what the program said, if it ended well."""

    def run(name, form, engine):
        environment = os.environ | {"AIOFS_ENGINE": engine, "TMPDIR": str(tmp_path)}
        if form == "preloaded":
            before = os.environ.get("LD_PRELOAD", "").split()  # a sanitizer wants to be the first
            environment |= {"LD_PRELOAD": " ".join([*before, str(LIBRARY)]), "SHORT": "1"}
        log = tmp_path / "log"
        with log.open("w") as out:  # a file: a program that is killed has flushed into it
            status = subprocess.run(
                [compiled(name, form)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=tmp_path,
            ).returncode
        told = log.read_text(errors="replace")
        if status == SKIPPED:
            pytest.skip(told.strip().splitlines()[-1] if told else "the program skipped itself")
        wrong = [line for line in told.splitlines() if not line.startswith("ok ")]
        assert status == 0, f"{name}, {form}, on {engine}: ended with {status}\n" + "\n".join(wrong)
        return told

    return run


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_program(run_posix, name, form, engine):
    run_posix(name, form, engine)


@pytest.mark.parametrize("form", FORMS)
def test_functions_under_all_names_are_those_of_libaiofs(run_posix, form):
    assert f"they come from {LIBRARY}\n" in run_posix("names", form, ENGINES[0])
