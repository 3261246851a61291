"""The engine and its C face: small C programs (tests/c), linked with the sources, on both engines.

`make test` runs them on the engine of each of its rounds, `make asan` and `make tsan` under the
sanitizers. A program prints a line for each check; 77 is its word for an engine that the kernel
refuses.
"""

import os
import shutil
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = sorted(path.stem for path in (ROOT / "tests" / "c").glob("*.c"))
ENGINES = [e for e in (os.environ.get("AIOFS_ENGINE"),) if e] or ["io_uring", "threads"]
COMPILER = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()
SANITIZE = os.environ.get("AIOFS_SANITIZE")
INCLUDES = [f"-I{ROOT / 'aiofs' / folder}" for folder in ("", "engine", "posix")]
FLAGS = ["-std=gnu11", "-O1", "-g", "-pthread", *INCLUDES]
if SANITIZE:
    FLAGS += [f"-fsanitize={SANITIZE}"]
SKIPPED = 77

pytestmark = [
    pytest.mark.skipif(shutil.which(COMPILER[0]) is None, reason="needs a C compiler"),
    pytest.mark.skipif("PYTHONASYNCIODEBUG" in os.environ, reason="C programs know no asyncio"),
]


def compile_c(*arguments):
    # Under a sanitizer the compiler itself must run without it.
    environment = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
    command = [*COMPILER, *FLAGS, *map(str, arguments)]
    made = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr


@pytest.fixture(scope="session")
def engine_objects(tmp_path_factory):
    """The sources of the engine and of the C face, compiled once."""
    folder = tmp_path_factory.mktemp("engine")

    def compile_one(source):
        compiled = folder / f"{source.parent.name}-{source.stem}.o"
        compile_c("-c", source, "-o", compiled)
        return compiled

    sources = [path for part in ("engine", "posix") for path in (ROOT / "aiofs" / part).glob("*.c")]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(compile_one, sorted(sources)))


@pytest.fixture(scope="session")
def built(engine_objects, tmp_path_factory):
    """built(name): the program, compiled when it is first asked for."""
    folder = tmp_path_factory.mktemp("c")

    def build(name):
        program = folder / name
        if not program.exists():
            compile_c(ROOT / "tests" / "c" / f"{name}.c", *engine_objects, "-o", program, "-ldl")
        return program

    return build


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", PROGRAMS)
def test_c_program(built, name, engine, tmp_path):
    environment = os.environ | {"AIOFS_ENGINE": engine}
    log = tmp_path / "log"
    with log.open("w") as out:  # a file: a program that is killed has flushed into it
        status = subprocess.run(
            [built(name)], env=environment, stdout=out, stderr=subprocess.STDOUT, cwd=tmp_path
        ).returncode
    told = log.read_text()
    if status == SKIPPED:
        pytest.skip(told.strip().splitlines()[-1] if told else "the program skipped itself")
    wrong = [line for line in told.splitlines() if not line.startswith("ok ")]
    assert status == 0, f"{name} on {engine} ended with {status}\n" + "\n".join(wrong)
