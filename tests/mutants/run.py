"""Mutation tests: breaks the rules of POSIX AIO one at a time, and runs the tests that must fail.

Every *.patch in this directory breaks one rule. Its first lines name the rule and its test:

    rule: a second aio_return gives -1 with EINVAL
    test: outcome
    engine: threads

`test` is a program of tests/posix, or a test of pytest (tests/test_x.py::test_y). A rule that C and
Python share has one `test` line for each, and both tests must fail. `engine` names the only engine
on which the test can fail. A hunk applies where its old lines are found exactly once, whatever
their numbers, in the named file or in another one. So a patch survives changes around it. A patch
that does not apply is a failure, and so is a mutant that survives its tests.

The sources stay unchanged: C mutants are linked with the objects of the unchanged files, Cython
mutants are built in a copy of the tree under build/mutants.

    python tests/mutants/run.py             all mutants
    python tests/mutants/run.py 8           eight random mutants; SEED=... repeats them
    python tests/mutants/run.py cancel lio  those whose names begin with these words
"""

import os
import random
import re
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILD = ROOT / "build" / "mutants"
CC = os.environ.get("CC", "gcc").split()
FLAGS = ["-std=gnu11", "-O1", "-pthread", "-DPATIENCE=3"]
FLOORS = ["aiofs/sys", "aiofs/entries", "aiofs/engine", "aiofs/posix"]
INCLUDES = ["aiofs", *FLOORS]
ENGINES = ("threads", "io_uring")
SECONDS = 25  # for one run; a mutant that hangs has failed
UNBROKEN_SECONDS = 300
REFUSED = 77


class Broken(Exception):
    """The patch or the test cannot be used."""


# ---- patches ------------------------------------------------------------------------------------


@dataclass
class Hunk:
    path: str
    old: str = ""
    new: str = ""


@dataclass
class Mutant:
    name: str
    rule: str = ""
    engine: str = ""
    tests: list[str] = field(default_factory=list)
    hunks: list[Hunk] = field(default_factory=list)

    @property
    def in_c(self) -> bool:
        return all(hunk.path.endswith((".c", ".h")) for hunk in self.hunks)


def read_mutant(path: Path) -> Mutant:
    mutant = Mutant(path.stem)
    for line in path.read_text().splitlines():
        if said := re.fullmatch(r"(rule|engine): (.+)", line):
            setattr(mutant, said[1], said[2])
        elif said := re.fullmatch(r"test: (.+)", line):
            mutant.tests.append(said[1])
        elif line.startswith("+++ b/"):
            target = line.removeprefix("+++ b/")
        elif line.startswith("@@"):
            mutant.hunks.append(Hunk(target))
        elif mutant.hunks and not line.startswith("---"):
            if line[:1] in ("", " ", "-"):
                mutant.hunks[-1].old += line[1:] + "\n"
            if line[:1] in ("", " ", "+"):
                mutant.hunks[-1].new += line[1:] + "\n"
    if not (mutant.rule and mutant.tests and mutant.hunks):
        raise Broken(f"{path.name} names no rule, no test, or changes nothing")
    return mutant


def home_of(hunk: Hunk) -> str:
    """The file that contains the old lines: the named one, or the one that they were moved to."""
    named = ROOT / hunk.path
    beside = [path for path in sorted(ROOT.glob("aiofs/**/*" + named.suffix)) if path != named]
    for group in ([named] if named.exists() else [], beside):
        counts = {path: path.read_text().count(hunk.old) for path in group}
        if sum(counts.values()) == 1:
            return str(max(counts, key=lambda path: counts[path]).relative_to(ROOT))
    raise Broken(f"the old lines of its hunk in {hunk.path} are not found, or more than once")


def changed(mutant: Mutant) -> dict[str, str]:
    """The new texts of the files that the mutant changes, by path."""
    texts: dict[str, str] = {}
    for hunk in mutant.hunks:
        path = home_of(hunk)
        text = texts.get(path) or (ROOT / path).read_text()
        if hunk.old not in text:
            raise Broken(f"its hunks in {path} overlap")
        texts[path] = text.replace(hunk.old, hunk.new)
    return texts


# ---- programs -----------------------------------------------------------------------------------


def compile_c(*arguments: object, includes: Path = ROOT) -> None:
    command = [*CC, *FLAGS, *(f"-I{includes / name}" for name in INCLUDES), *map(str, arguments)]
    made = subprocess.run(command, capture_output=True, text=True)
    if made.returncode != 0:
        raise Broken(made.stderr.strip())


def sources() -> list[str]:
    found = [path for folder in FLOORS for path in ROOT.glob(f"{folder}/*.c")]
    return [str(path.relative_to(ROOT)) for path in sorted(found)]


def object_of(source: str, folder: Path) -> Path:
    return folder / (source.replace("/", "-")[:-2] + ".o")


compiling = threading.Lock()


@cache
def program_object(name: str) -> Path:
    target = BUILD / f"{name}.o"
    compile_c("-c", ROOT / "tests" / "posix" / f"{name}.c", "-o", target)
    return target


def build_program(name: str, texts: dict[str, str], folder: Path) -> Path:
    """Builds the program with these changed files."""
    folder.mkdir(parents=True, exist_ok=True)
    includes = ROOT
    if texts:
        includes = folder
        for directory in (*INCLUDES[1:], "aiofs/include"):
            shutil.copytree(ROOT / directory, folder / directory, dirs_exist_ok=True)
        for path, text in texts.items():
            (folder / path).write_text(text)
    everything = any(path.endswith(".h") for path in texts)
    objects = []
    for source in sources():
        own = everything or source in texts
        objects.append(object_of(source, folder if own else BUILD))
        if own:
            compile_c("-c", folder / source, "-o", objects[-1], includes=includes)
    with compiling:
        main = program_object(name)
    compile_c(main, *objects, "-o", folder / name, "-ldl")
    return folder / name


def run_program(program: Path, engine: str, seconds: float) -> str:
    """Runs the program. Returns its failed checks; "" if it succeeds or skips."""
    folder = program.parent / engine
    folder.mkdir(exist_ok=True)
    environment = os.environ | {"AIOFS_ENGINE": engine, "TMPDIR": str(folder), "SHORT": "1"}
    running = subprocess.Popen(
        [program],
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    timer = threading.Timer(seconds, running.kill)
    timer.start()
    assert running.stdout is not None
    complaint = ""
    for line in running.stdout:
        if line.startswith("FAIL"):
            complaint = line.removeprefix("FAIL").strip()
            running.kill()
            break
    running.stdout.close()
    status = running.wait()
    timer.cancel()
    if complaint or status in (0, REFUSED):
        return complaint
    return f"it ended with {status}"


def complaint_of(name: str, mutant: Mutant | None) -> str:
    folder = BUILD / (f"{mutant.name}-{name}" if mutant else f"unbroken-{name}")
    program = build_program(name, changed(mutant) if mutant else {}, folder)
    for engine in ENGINES:
        if mutant and mutant.engine not in ("", engine):
            continue
        if complaint := run_program(program, engine, SECONDS if mutant else UNBROKEN_SECONDS):
            return f"{engine}: {complaint}"
    return ""


# ---- tests of pytest's --------------------------------------------------------------------------


def copy_tree() -> Path:
    tree = BUILD / "tree"
    leave = shutil.ignore_patterns("build", "dist", ".venv*", ".git", "__pycache__", "*.egg-info")
    for old in ("aiofs", "tests"):
        shutil.rmtree(tree / old, ignore_errors=True)
    shutil.copytree(ROOT, tree, ignore=leave, dirs_exist_ok=True)
    return tree


def run_pytest(test: str, tree: Path) -> str:
    environment = os.environ | {
        "AIOFS_DEBUG": "1",
        "AIOFS_ENGINE": "threads",
        "PYTHONPATH": str(tree),
    }
    built = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
    )
    if built.returncode != 0:
        raise Broken(built.stderr.strip()[-2000:])
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:randomly", test]
    try:
        ran = subprocess.run(
            command,
            cwd=tree,
            env=environment,
            capture_output=True,
            text=True,
            timeout=UNBROKEN_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return "it hung"
    if ran.returncode < 0:
        return f"it ended with {ran.returncode}"
    if ran.returncode not in (0, 1):
        raise Broken(f"{test}: {(ran.stdout + ran.stderr).strip().splitlines()[-1:]}")
    complaints = [line for line in ran.stdout.splitlines() if line.startswith("E  ")]
    return complaints[0][1:].strip() if complaints else "it failed" * ran.returncode


def complaint_in_tree(test: str, mutant: Mutant, tree: Path) -> str:
    texts = changed(mutant)
    try:
        for path, text in texts.items():
            (tree / path).write_text(text)
        return run_pytest(test, tree)
    finally:
        for path in texts:
            (tree / path).write_text((ROOT / path).read_text())


# ---- all of them --------------------------------------------------------------------------------


def chosen(mutants: list[Mutant], words: list[str]) -> list[Mutant]:
    if not words:
        return mutants
    if not words[0].isdigit():
        return [mutant for mutant in mutants if mutant.name.startswith(tuple(words))]
    seed = int(os.environ.get("SEED", time.time_ns() % 10000))
    print(f"{words[0]} of {len(mutants)}; SEED={seed} repeats the choice")
    return random.Random(seed).sample(mutants, min(int(words[0]), len(mutants)))


def report(mutant: Mutant, test: str, complaint: str) -> bool:
    print(f"{'killed  ' if complaint else 'SURVIVED'}  {mutant.name}: {mutant.rule}")
    print(f"          by {test}: {complaint[:150]}", flush=True)
    return bool(complaint)


def is_program(test: str) -> bool:
    return not test.startswith("tests/")


def judge(mutant: Mutant, test: str, tree: Path | None = None) -> bool:
    """Runs a test on the mutant. Returns whether the test fails, as it must."""
    try:
        if is_program(test):
            complaint = complaint_of(test, mutant)
        else:
            assert tree is not None
            complaint = complaint_in_tree(test, mutant, tree)
    except Broken as why:
        print(f"BROKEN    {mutant.name}: {why}", flush=True)
        return False
    return report(mutant, test, complaint)


def passes_unbroken(test: str, tree: Path | None = None) -> bool:
    complaint = run_pytest(test, tree) if tree else complaint_of(test, None)
    if complaint:
        print(f"BROKEN    {test} does not pass as it is: {complaint}", flush=True)
    return not complaint


def main(words: list[str]) -> int:
    mutants = chosen([read_mutant(path) for path in sorted(HERE.glob("*.patch"))], words)
    if not mutants:
        print("no such mutant")
        return 1
    shutil.rmtree(BUILD, ignore_errors=True)
    BUILD.mkdir(parents=True)
    pairs = [(mutant, test) for mutant in mutants for test in mutant.tests]
    by_program = [(mutant, test) for mutant, test in pairs if is_program(test)]
    by_pytest = [(mutant, test) for mutant, test in pairs if not is_program(test)]
    survived: set[str] = set()

    def note(mutant: Mutant, test: str, tree: Path | None = None) -> None:
        if not judge(mutant, test, tree):
            survived.add(mutant.name)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(
            pool.map(
                lambda source: compile_c("-c", ROOT / source, "-o", object_of(source, BUILD)),
                sources(),
            )
        )
        sound = list(pool.map(passes_unbroken, sorted({test for _, test in by_program})))
        list(pool.map(lambda pair: note(*pair), by_program))
    if by_pytest:
        tree = copy_tree()
        sound += [passes_unbroken(test, tree) for test in sorted({test for _, test in by_pytest})]
        for mutant, test in by_pytest:
            note(mutant, test, tree)
    print(f"{len(mutants) - len(survived)} of {len(mutants)} mutants killed")
    return bool(survived) or not all(sound)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
