"""What the README says holds: its programs run, its links lead somewhere, its numbers are saved."""

import os
import re
import subprocess
import sys

import pytest
from pages import PAGES, ROOT, blocks_of, check_python, headings_of, links_of, text_of

README = text_of("README.md")
PROGRAMS = blocks_of("README.md", "python")


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_programs_run_and_print_what_is_said(program, tmp_path):
    check_python(program, tmp_path)


def test_excerpts_are_those_of_the_examples():
    for language, suffix in ("c", ".c"), ("cython", ".pyx"):
        examples = "".join(path.read_text() for path in (ROOT / "examples").rglob(f"*{suffix}"))
        excerpts = [block.source for block in blocks_of("README.md", language)]
        assert excerpts and all(excerpt in examples for excerpt in excerpts)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page):
    for link, target, heading in links_of(page):
        assert target.exists(), link
        assert not heading or heading in headings_of(target), link


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
