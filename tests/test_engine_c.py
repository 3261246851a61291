"""The engine and the C face: small C programs (tests/c), linked with the sources, on both engines.

Each round of `make test` runs them on its engine, `make asan` and `make tsan` with sanitizers. A
program prints a line for each check. It exits with 77 if the kernel refuses the engine.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from native import (
    ENGINES,
    FLOORS,
    INCLUDES,
    SANITIZE,
    checked,
    compile_c,
    needs_compiler,
)

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = sorted(path.stem for path in (ROOT / "tests" / "c").glob("*.c"))
FLAGS = ["-std=gnu11", "-O1", "-g", "-pthread", *INCLUDES, *SANITIZE]

pytestmark = [
    needs_compiler,
    pytest.mark.timeout(1200),  # a program that hangs is ended earlier, by its alarm()
]


@pytest.fixture(scope="session")
def engine_objects(tmp_path_factory):
    """The object files of the engine and the C face, compiled once."""
    folder = tmp_path_factory.mktemp("engine")

    def compile_one(source):
        compiled = folder / f"{source.parent.name}-{source.stem}.o"
        compile_c(*FLAGS, "-c", source, "-o", compiled)
        return compiled

    sources = [path for part in FLOORS for path in (ROOT / "aiofs" / part).glob("*.c")]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(compile_one, sorted(sources)))


@pytest.fixture(scope="session")
def built(engine_objects, tmp_path_factory):
    """built(name): the program. The first call compiles it."""
    folder = tmp_path_factory.mktemp("c")

    def build(name):
        program = folder / name
        if not program.exists():
            source = ROOT / "tests" / "c" / f"{name}.c"
            compile_c(*FLAGS, source, *engine_objects, "-o", program, "-ldl")
        return program

    return build


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", PROGRAMS)
def test_c_program(built, name, engine, tmp_path):
    checked(built(name), tmp_path, AIOFS_ENGINE=engine)
