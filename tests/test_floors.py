"""tools/floors.py, which `make lint` runs: what it prints, and the uses that it refuses."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def floors(root, *options):
    return subprocess.run(
        [sys.executable, root / "tools" / "floors.py", *options], capture_output=True, text=True
    )


@pytest.fixture
def copy(tmp_path):
    """A copy of the package and of the script, which a test may change."""
    shutil.copytree(ROOT / "tools", tmp_path / "tools")
    left_out = shutil.ignore_patterns("*.so", "_core.c", "__pycache__")
    shutil.copytree(ROOT / "aiofs", tmp_path / "aiofs", ignore=left_out)
    return tmp_path


def test_no_lower_floor_uses_a_higher_floor():
    drawn = floors(ROOT)
    assert (drawn.returncode, drawn.stderr) == (0, "")
    assert [line.split()[0] for line in drawn.stdout.splitlines()][-3:] == [
        *("engine", "entries", "sys")
    ]


def test_drawing_lists_each_file_with_its_uses():
    lines = floors(ROOT, "--files").stdout.splitlines()
    assert ["sys/clock.c", "sys/clock.h"] in [line.split() for line in lines]


@pytest.mark.parametrize(
    ("low", "line", "high"),
    [
        ("entries/path.c", '#include "internal.h"', "engine/internal.h"),
        ("engine/ring.c", '#  include "posix.h"', "posix/posix.h"),
        ("volumes/private.py", "def late():\n    from aiofs import cli", "cli.py"),
        ("handles/__init__.py", "import aiofs.demo.screen", "demo/screen.py"),
        ("core/aiocb.pxi", "from aiofs import handles", "handles/__init__.py"),
        (
            "handles/__init__.py",
            "if TYPE_CHECKING:\n    from aiofs.volumes import Volume",
            "volumes/__init__.py",
        ),
        ("volume_ops.py", "from aiofs.volumes import memory", "volumes/memory.py"),
        ("volume_ops.py", "from aiofs.handles import File", "handles/__init__.py"),
    ],
)
def test_use_of_a_higher_floor_is_reported(copy, low, line, high):
    with (copy / "aiofs" / low).open("a") as file:
        file.write(f"\n{line}\n")
    drawn = floors(copy)
    assert drawn.returncode == 1
    assert f"aiofs/{low} reaches up to aiofs/{high}" in drawn.stderr


@pytest.mark.parametrize(
    ("file", "lines", "module"),
    [
        ("volumes/private.py", "def late():\n    import shutil", "shutil"),
        ("handles/__init__.py", "async def late():\n    from aiofs import errors", "aiofs.errors"),
        ("core/aiocb.pxi", "cdef late():\n    from aiofs.errors import AbortError", "aiofs.errors"),
    ],
)
def test_import_in_a_function_is_named(copy, file, lines, module):
    with (copy / "aiofs" / file).open("a") as text:
        text.write(f"\n{lines}\n")
    drawn = floors(copy)
    assert drawn.returncode == 1
    assert f"a function of aiofs/{file} imports {module}" in drawn.stderr


def test_circular_use_of_files_is_reported(copy):
    with (copy / "aiofs" / "handles/__init__.py").open("a") as file:
        file.write("\nfrom aiofs import filesystem\n")
    drawn = floors(copy)
    assert drawn.returncode == 1
    assert "files use each other" in drawn.stderr and "handles/__init__.py" in drawn.stderr


def test_circle_of_calls_between_c_files_is_reported(copy):
    with (copy / "aiofs" / "entries" / "path.c").open("a") as file:
        file.write("\nvoid upward(void)\n{\n    aiofs_namespace_lock();\n}\n")
    assert floors(copy).returncode == 0
    with (copy / "aiofs" / "entries" / "entry.c").open("a") as file:
        file.write("\nvoid back(void)\n{\n    upward();\n}\n")
    drawn = floors(copy)
    assert drawn.returncode == 1
    assert "C files call each other in a circle" in drawn.stderr and "entry.c" in drawn.stderr


@pytest.mark.parametrize("line", ["loop = notifier.loop", "from asyncio import sleep"])
def test_part_of_the_core_that_knows_a_loop_is_named(copy, line):
    with (copy / "aiofs" / "core" / "aiocb.pxi").open("a") as file:
        file.write(f"\n{line}\n")
    drawn = floors(copy)
    assert drawn.returncode == 1 and "core/aiocb.pxi knows a loop" in drawn.stderr
    shutil.copy(ROOT / "aiofs" / "core" / "aiocb.pxi", copy / "aiofs" / "core")
    with (copy / "aiofs" / "core" / "delivery.pxi").open("a") as file:
        file.write(f"\n{line}\n")
    assert floors(copy).returncode == 0


def test_file_on_no_floor_is_reported(copy):
    (copy / "aiofs" / "attic.py").touch()
    drawn = floors(copy)
    assert drawn.returncode == 1 and "attic.py is on no floor" in drawn.stderr
