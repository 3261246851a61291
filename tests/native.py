"""C programs of the tests: the compiler, the sanitizers of this build, and the engines."""

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

COMPILER = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()
SANITIZERS = os.environ.get("AIOFS_SANITIZE")
SANITIZE = [f"-fsanitize={SANITIZERS}"] if SANITIZERS else []
ENGINES = [e for e in (os.environ.get("AIOFS_ENGINE"),) if e] or ["io_uring", "threads"]
FLOORS = ("sys", "entries", "engine", "posix")  # the sources of libaiofs.so, from the lowest up
INCLUDES = [f"-I{Path(__file__).parents[1] / 'aiofs' / folder}" for folder in ("", *FLOORS)]
SKIPPED = 77  # the exit status of a program that cannot run its checks here

needs_compiler = pytest.mark.skipif(shutil.which(COMPILER[0]) is None, reason="needs a C compiler")


def call(*command):
    """Runs a tool, without a sanitizer that is preloaded here. Returns its output."""
    environment = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def compile_c(*arguments):
    call(*COMPILER, *arguments)


def checked(program, folder, **environment):
    """Runs a program of checks. It must succeed; if it skips, the test does. Returns its output."""
    log = folder / "log"
    with log.open("w") as out:  # not a pipe: the output of a killed program is complete
        status = subprocess.run(
            [program],
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=folder,
        ).returncode
    output = log.read_text(errors="replace")
    if status == SKIPPED:
        pytest.skip(output.strip().splitlines()[-1] if output else "the program skipped itself")
    wrong = [line for line in output.splitlines() if not line.startswith("ok ")]
    assert status == 0, f"{program.name} ended with {status}\n" + "\n".join(wrong)
    return output
