"""What the README says holds: its programs run, its links lead somewhere, its numbers are saved."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
BLOCKS = [(found[1], found[2]) for found in BLOCK.finditer(README)]
PROGRAMS = [source for language, source in BLOCKS if language == "python"]
PAGES = sorted(["README.md", *(str(page.relative_to(ROOT)) for page in ROOT.glob("docs/*.md"))])


def expected_output(program):
    """The block of text right behind a program, if it has one."""
    following = BLOCKS[BLOCKS.index(("python", program)) + 1 :][:1]
    return following[0][1] if following and following[0][0] == "text" else None


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_programs_run_and_print_what_is_said(program, tmp_path):
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", program],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=50,
        )
        assert (done.returncode, done.stderr) == (0, "")
        expected = expected_output(program)
        if expected is not None:
            assert sorted(done.stdout.splitlines()) == sorted(expected.splitlines())


def test_excerpts_are_those_of_the_examples():
    for language, suffix in ("c", ".c"), ("cython", ".pyx"):
        examples = "".join(path.read_text() for path in (ROOT / "examples").rglob(f"*{suffix}"))
        excerpts = [source for written_in, source in BLOCKS if written_in == language]
        assert excerpts and all(excerpt in examples for excerpt in excerpts)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page):
    links = re.findall(r"\]\(([^)\s]+)\)", (ROOT / page).read_text())
    for link in links:
        if not re.match(r"https?://", link):
            path, _, _ = link.partition("#")
            assert ((ROOT / page).parent / path).exists(), link


def test_commands_are_in_the_makefile():
    commands = set(re.findall(r"`make ([a-z-]+)`", README))
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"demo", "test"} <= commands <= targets


def test_table_is_made_from_the_saved_results():
    done = subprocess.run(
        [
            *(sys.executable, "-c"),
            "from benchmarks import readme; "
            "assert (old := readme.README.read_text()) == readme.filled(old)",
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, "run python -m benchmarks --readme: " + done.stderr


def test_names_that_it_uses_exist():
    import aiofs
    from aiofs import aio

    for name in re.findall(r"`aiofs\.aio\.(\w+)|`aio\.(\w+)", README):
        assert hasattr(aio, "".join(name))
    for name in re.findall(r"`(\w+(?:Volume|Handle|System|Error))\b", README):
        assert hasattr(aiofs, name) or name == "OSError", name
