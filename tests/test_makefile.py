"""The Makefile: its list of commands and its checks before anything is built."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.packaging

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = "fio stress-ng xfsprogs btrfs-progs"


def make(*arguments):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    return subprocess.run(
        ["make", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )


@pytest.fixture
def broken_python(tmp_path):
    """Makes a `python` that succeeds only for programs that contain one of the given words."""

    def with_answers(*words):
        path = tmp_path / "python"
        cases = "".join(f'*"{word}"*) exit 0;;\n' for word in words)
        path.write_text(f'#!/bin/sh\ncase "$2" in\n"") exit 0;;\n{cases}*) exit 1;;\nesac\n')
        path.chmod(0o755)
        return f"PYTHON={path}"

    return with_answers


def test_make_alone_lists_the_commands():
    listed = re.findall(r"^make (\S+) +\S", make().stdout, re.MULTILINE)
    assert set(listed) >= {
        *("demo", "test", "test-all", "lint", "bench", "docs"),
        *("asan", "tsan", "valgrind", "mutants", "fuzz", "clean"),
        *("dist", "wheels", "coverage", "debug"),
    }


def test_every_listed_command_is_in_the_contributors_guide():
    guide = (ROOT / "CONTRIBUTING.md").read_text()
    listed = re.findall(r"^make (\S+)", make().stdout, re.MULTILINE)
    assert [name for name in listed if f"make {name}" not in guide] == []


@pytest.mark.parametrize(
    ("answers", "missing"),
    [
        ([], "Python 3.10 or newer"),
        (["version_info"], "headers"),
        (["version_info", "Python.h"], "venv"),
    ],
)
def test_missing_tool_is_named_in_one_line(broken_python, tmp_path, answers, missing):
    stopped = make("test", broken_python(*answers), f"VENV={tmp_path / 'venv'}")
    assert stopped.returncode != 0
    complaint, *rest = stopped.stderr.splitlines()
    assert complaint.startswith("aiofs needs ")
    assert missing in complaint
    assert all(line.startswith("make: ***") for line in rest)


def test_missing_compiler_is_named_in_one_line(tmp_path):
    stopped = make("test", "CC=no-such-compiler", f"VENV={tmp_path / 'venv'}")
    assert stopped.returncode != 0
    assert "a C compiler, and there is no no-such-compiler" in stopped.stderr


def test_continuous_integration_runs_lint_and_the_tests():
    commands = (ROOT / ".ci/run").read_text().splitlines()
    assert [line for line in commands if line.startswith("make")] == ["make lint", "make test"]
    assert os.access(ROOT / ".ci/run", os.X_OK)


def test_workflows_run_make_targets_and_nothing_else():
    targets = set(re.findall(r"^make (\S+)", make().stdout, re.MULTILINE))
    for workflow in (ROOT / ".github" / "workflows").iterdir():
        steps = re.findall(r"^ *- run: (.*)", workflow.read_text(), re.MULTILINE)
        commands = [step for step in steps if "apt-get" not in step]
        assert commands
        for command in commands:
            assert command.split()[0] == "make" and command.split()[1] in targets


def test_all_lists_of_python_versions_agree():
    """The classifiers, `make test-all`, the workflow, and the settings of cibuildwheel."""
    project, makefile = (ROOT / "pyproject.toml").read_text(), (ROOT / "Makefile").read_text()
    workflow = (ROOT / ".github" / "workflows" / "checks.yml").read_text()
    classified = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', project)
    assert re.findall(r"\bpython(3\.\d+)", makefile.split("test-all:")[1]) == classified
    assert re.findall(r'"(3\.\d+)"', workflow) == classified
    assert [f"3.{minor}" for minor in re.findall(r"cp3(\d+)-", project)] == classified


@pytest.mark.parametrize(
    ("user", "status", "log"),
    [
        (1000, 0, ["make lint", "make test"]),
        (0, 0, ["apt-get update", f"apt-get install {PACKAGES}", "make lint", "make test"]),
        (0, 1, ["apt-get update", "make lint", "make test"]),
    ],
)
def test_continuous_integration_installs_programs_if_it_may(tmp_path, user, status, log):
    stubs = {
        "id": f"echo {user}",
        "apt-get": f'echo "apt-get $@" | sed "s/ -[^ ]*//g" >> log; exit {status}',
        "make": 'echo "make $@" >> log',
    }
    for name, script in stubs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\ncd {tmp_path}\n{script}\n")
        (tmp_path / name).chmod(0o755)
    for name in ("bash", "dirname", "sed"):
        (tmp_path / name).symlink_to(shutil.which(name))
    subprocess.run([ROOT / ".ci/run"], env={"PATH": str(tmp_path)}, check=True, capture_output=True)
    assert (tmp_path / "log").read_text().splitlines() == log
