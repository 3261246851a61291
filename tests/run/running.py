"""Helpers for tests of `aiofs run`: the command, and compiling programs."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from native import COMPILER

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "aiofs"
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}  # found from any directory
COMMAND = [sys.executable, "-m", "aiofs", "run"]

unsanitized = pytest.mark.skipif("AIOFS_SANITIZE" in os.environ, reason="the sanitizer differs")


def run(*arguments, **options):
    """Runs the command and waits for its exit."""
    options = {"stdin": subprocess.DEVNULL, "text": True, "timeout": 60, **options}
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, **options)


def needed(engine):
    """Returns the engine; skips the test if the kernel refuses it."""
    if run("--engine", engine, "true").returncode:
        pytest.skip(f"this kernel refuses {engine}")
    return engine


def compile_c(source, program, *flags):
    """Compiles a source file; skips the test if that is not possible."""
    if shutil.which(COMPILER[0]) is None:
        pytest.skip("needs a C compiler")
    made = subprocess.run(
        [*COMPILER, "-pthread", "-o", program, source, *flags], capture_output=True, text=True
    )
    if "-static" in flags and made.returncode:
        pytest.skip("needs a static C library")
    assert made.returncode == 0, made.stderr
    return program


def locked(outside, name="file"):
    """Is another opening of the file refused?"""
    try:
        outside.close(outside.open(name, os.O_RDWR | os.O_CREAT))
    except OSError as error:
        assert error.errno == errno.EBUSY, error
        return True
    return False


class Session:
    """A running `aiofs run`. Its program repeatedly prints `here` and waits for a line."""

    def __init__(self, process):
        self.process = process

    def here(self):
        """Reads the output until the program waits. Returns the new lines."""
        lines = []
        while (line := self.process.stdout.readline()) != "here\n":
            assert line, (lines, self.process.wait())
            lines.append(line.rstrip("\n"))
        return lines

    def go_on(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def kill(self, number=signal.SIGKILL):
        self.process.send_signal(number)
        self.process.wait()


@contextmanager
def session(folder, *program, **options):
    options = {"cwd": folder, "env": ENVIRONMENT, **options}
    command = [*COMMAND, "--volume", str(folder), *map(str, program)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **options,
    ) as process:
        try:
            yield Session(process)
        finally:
            process.kill()


def run_in(folder, *program, **options):
    """Runs a program in a session. It must succeed. Returns the lines of its output."""
    done = run("--volume", folder, *program, cwd=folder, env=ENVIRONMENT, **options)
    assert done.returncode == 0, done
    return done.stdout.splitlines()


@contextmanager
def outside_holds(outside, name):
    descriptor = outside.open(name, os.O_RDWR)
    try:
        yield
    finally:
        outside.close(descriptor)
