"""Quick checks of the mutants in tests/mutants: every patch applies, and its test exists.

`make mutants` builds the mutants and runs their tests.
"""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "mutants"))

import run  # noqa: E402

PATCHES = sorted(run.HERE.glob("*.patch"))


@pytest.mark.parametrize("patch", PATCHES, ids=lambda path: path.stem)
def test_patch_applies_and_changes_something(patch):
    for path, text in run.changed(run.read_mutant(patch)).items():
        assert text != (ROOT / path).read_text()


@pytest.mark.parametrize("patch", PATCHES, ids=lambda path: path.stem)
def test_patch_names_an_existing_test(patch):
    for named in run.read_mutant(patch).tests:
        assert is_there(named), named


def is_there(named):
    if run.is_program(named):
        return (ROOT / "tests" / "posix" / f"{named}.c").exists()
    path, _, function = named.partition("::")
    functions = {
        node.name
        for node in ast.walk(ast.parse((ROOT / path).read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    return function.partition("[")[0] in functions
