"""Runs the long form of these tests, and C programs with random seeds, for a given time.

    python tests/fuzz/run.py 300 io_uring threads       300 seconds on each engine

In each round all tests run with many new examples, then each C program runs with new seeds. The
first failure stops it and prints how to repeat the failure: for a test the line of hypothesis, for
a program its command. The programs stay in build/fuzz.
"""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILD = ROOT / "build" / "fuzz"
CC = os.environ.get("CC", "gcc").split()
FLAGS = ["-std=gnu11", "-O1", "-g", "-pthread", "-D_FILE_OFFSET_BITS=64"]
FLOORS = ("sys", "entries", "engine", "posix")
INCLUDES = [f"-I{ROOT / 'aiofs' / folder}" for folder in ("", *FLOORS)]
LIBRARY = ROOT / "aiofs" / "libaiofs.so"
PROGRAMS = {"posix": ["hostile"], "c": ["cancel", "order"]}
SEEDS = 3  # for each program in a round
REFUSED = 77


def build():
    """Compiles the programs: tests/posix with the library, tests/c with the engine's sources."""
    BUILD.mkdir(parents=True, exist_ok=True)
    engine = sorted(path for folder in FLOORS for path in ROOT.glob(f"aiofs/{folder}/*.c"))
    made = []
    for folder, names in PROGRAMS.items():
        parts = [LIBRARY, f"-Wl,-rpath,{LIBRARY.parent}"] if folder == "posix" else engine
        for name in names:
            source, program = ROOT / "tests" / folder / f"{name}.c", BUILD / name
            command = [*CC, *FLAGS, *INCLUDES, source, *parts, "-ldl", "-o", program]
            subprocess.run(command, check=True)
            made.append(program)
    return made


def run(command, **environment):
    """Runs a command. Returns its output if it failed, else None."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    return None if done.returncode in (0, REFUSED) else f"{done.stdout}ended with {done.returncode}"


def round_on(engine, programs, seed):
    """Runs one round. Returns the command that repeats a failure and its output, or None."""
    tests = [sys.executable, "-m", "pytest", "-q", "-x", f"--randomly-seed={seed}", str(HERE)]
    if output := run(tests, AIOFS_ENGINE=engine, AIOFS_FUZZ="long"):
        return f"AIOFS_ENGINE={engine} AIOFS_FUZZ=long {' '.join(tests)}", output
    for program in programs:
        for number in range(seed, seed + SEEDS):
            if output := run([program], AIOFS_ENGINE=engine, SEED=str(number)):
                return f"AIOFS_ENGINE={engine} SEED={number} {program}", output
    return None


def fuzz(engine, programs, seconds):
    """Runs rounds until the time is up. Returns whether all succeeded."""
    begin = time.monotonic()
    rounds = 0
    while time.monotonic() - begin < seconds:
        if found := round_on(engine, programs, random.randrange(2**31)):
            repeat, output = found
            print(f"{output}\n== engine {engine}, round {rounds + 1}; to repeat it:\n{repeat}")
            return False
        rounds += 1
    print(f"{rounds} rounds in {time.monotonic() - begin:.0f} s, and nothing found")
    return True


def main(seconds, *engines):
    programs = build()
    for engine in engines:
        print(f"== engine {engine}", flush=True)
        if not fuzz(engine, programs, float(seconds)):
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
