"""The sdist, the wheel, the package in an empty environment, and how they are built."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

import pytest
from pages import blocks_of

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
EXTENSION = "_core" + __import__("sysconfig").get_config_var("EXT_SUFFIX")


def run(*command, cwd, **environment):
    """Runs a command, which must succeed, without this build's environment. Returns its output."""
    for_this_run = ("PYTHONPATH", "LD_PRELOAD", "AIOFS_SANITIZE", "AIOFS_DEBUG", "MAKEFLAGS")
    inherited = {name: value for name, value in os.environ.items() if name not in for_this_run}
    finished = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=inherited | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert finished.returncode == 0, finished.stdout
    return finished.stdout


def dynamic_section(library):
    if shutil.which("readelf") is None:
        pytest.skip("needs readelf")
    return run("readelf", "--dynamic", library, cwd=library.parent, LC_ALL="C")


# ---- what is shipped ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """The source archive, made in a directory without a repository, where git fails."""
    folder = tmp_path_factory.mktemp("sdist")
    tree = folder / "tree"
    made = shutil.ignore_patterns(
        ".*", "build", "dist", "*.egg-info", "*.so", "_core.c", "__pycache__"
    )
    shutil.copytree(ROOT, tree, ignore=made)
    git = folder / "bin" / "git"
    git.parent.mkdir()
    git.write_text("#!/bin/sh\nexit 1\n")
    git.chmod(0o755)
    run(
        sys.executable,
        "-c",
        "from setuptools.build_meta import build_sdist; build_sdist('..')",
        cwd=tree,
        PATH=f"{git.parent}:{os.environ['PATH']}",
    )
    (archive,) = folder.glob("aiofs-*.tar.gz")
    return archive


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    """The wheel, made from the source archive only.

    The tests are about what it holds and how it is used. To optimise the core takes a minute more.
    """
    folder = tmp_path_factory.mktemp("wheel")
    pip_wheel = [sys.executable, "-m", "pip", "wheel", "--no-index", "--no-build-isolation"]
    run(*pip_wheel, "--no-deps", "--wheel-dir", folder, sdist, cwd=folder, CFLAGS="-O0")
    (archive,) = folder.glob("aiofs-*.whl")
    return archive


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """The Python of an environment that contains only aiofs and its one dependency."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    python = folder / "bin" / "python"
    pip_install = [sys.executable, "-m", "pip", "--python", python, "install", "--no-index"]
    run(*pip_install, "--no-deps", wheel, cwd=folder)
    (site_packages,) = folder.glob("lib/python3.*/site-packages")
    (uvloop,) = find_spec("uvloop").submodule_search_locations
    (site_packages / "uvloop").symlink_to(uvloop)
    return python


def test_sdist_holds_every_source(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    sources = {
        str(path.relative_to(ROOT))
        for pattern in ("aiofs/**/*.py", "aiofs/**/*.[ch]", "aiofs/**/*.p[yx]*", "tests/**/*.py")
        for path in ROOT.glob(pattern)
        if path.suffix != ".pyc" and path.name != "_core.c"
    }
    assert sources <= names
    assert {"LICENSE", "README.md", "Makefile", "pyproject.toml", "setup.py"} <= names
    assert {"examples/keep.c", "examples/cython/lines.pyx", "tests/linking/shared.pyx"} <= names


def test_sdist_holds_nothing_that_was_built(sdist):
    with tarfile.open(sdist) as archive:
        names = archive.getnames()
    assert not [name for name in names if re.search(r"\.so$|\.pyc$|_core\.c$|/build/", name)]


def test_wheel_holds_the_libraries_and_what_others_compile_against(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    libraries = {"aiofs/libaiofs.so", "aiofs/libaiofs-run.so", f"aiofs/{EXTENSION}"}
    assert libraries | {"aiofs/py.typed"} <= names
    headers_and_types = {
        str(path.relative_to(ROOT))
        for pattern in ("aiofs/*.pyi", "aiofs/aio.pxd", "aiofs/**/*.h")
        for path in ROOT.glob(pattern)
    }
    assert {"aiofs/include/aiofs.h", "aiofs/aio.pxd"} <= headers_and_types <= names
    assert not [name for name in names if name.startswith("tests")]


def test_wheel_is_for_linux_only_and_needs_only_uvloop(wheel):
    assert "-linux_" in wheel.name
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = [name for name in archive.namelist() if name.endswith("METADATA")]
        fields = archive.read(metadata).decode().splitlines()
    always = [field for field in fields if field.startswith("Requires-Dist") and ";" not in field]
    assert always == ["Requires-Dist: uvloop"]
    assert "Requires-Python: >=3.10" in fields
    assert "License-Expression: MIT" in fields


@pytest.mark.parametrize("which", [EXTENSION, "libaiofs-run.so"])
def test_library_is_found_beside_those_that_need_it(environment, which):
    (package,) = environment.parents[1].glob("lib/python3.*/site-packages/aiofs")
    assert re.search(r"RUNPATH.*\$ORIGIN", dynamic_section(package / which))
    assert re.search(r"NEEDED.*\[libaiofs\.so\]", dynamic_section(package / which))
    assert re.search(r"SONAME.*\[libaiofs\.so\]", dynamic_section(package / "libaiofs.so"))


def exports(environment, name):
    if shutil.which("nm") is None:
        pytest.skip("needs nm")
    (library,) = environment.parents[1].glob(f"lib/python3.*/site-packages/aiofs/{name}")
    listing = run("nm", "--dynamic", "--defined-only", library, cwd=library.parent)
    return {line.split()[-1] for line in listing.splitlines()}


def test_library_exports_nothing_but_names_of_its_own(environment):
    exported = exports(environment, "libaiofs.so")
    assert "aiofs_engine_start" in exported
    posix = {
        *("aio_read", "aio_write", "aio_fsync", "aio_error", "aio_return", "aio_suspend"),
        *("aio_cancel", "lio_listio"),
    }
    expected = posix | {name + "64" for name in posix}
    assert {name for name in exported if not name.startswith("aiofs_")} == expected


def test_preloaded_library_takes_the_place_of_every_open_and_close(environment):
    doubled = {
        *("open", "openat", "creat", "fopen", "freopen", "fcntl"),
        *("mkstemp", "mkostemp", "mkstemps", "mkostemps"),
    }
    fortified = {"__open_2", "__open64_2", "__openat_2", "__openat64_2"}
    closing = {"dup", "dup2", "dup3", "close", "fclose", "close_range", "closefrom"}
    old = {"__open", "__open64", "__close", "__dup2", "__fcntl"}
    names = doubled | {name + "64" for name in doubled} | fortified | closing | old
    assert exports(environment, "libaiofs-run.so") == names


def test_installed_package_reads_a_file(environment, tmp_path):
    program = (
        "import os, sys, aiofs\n"
        "from aiofs import aio\n"
        "with open('greeting', 'wb') as file: file.write(b'good morning')\n"
        "buffer = bytearray(12)\n"
        "cb = aio.aiocb(os.open('greeting', os.O_RDONLY), buffer)\n"
        "aio.aio_read(cb)\n"
        "while aio.aio_error(cb): aio.aio_suspend([cb])\n"
        "print(aio.aio_return(cb), buffer.decode(), aiofs.__file__)\n"
    )
    answer = run(environment, "-I", "-c", program, cwd=tmp_path)
    assert answer.startswith("12 good morning ")
    assert str(ROOT) not in answer
    aiofs = environment.parent / "aiofs"
    assert run(aiofs, "--version", cwd=tmp_path).strip()
    run(aiofs, "run", "--volume", "volume", "cp", "greeting", "volume/copy", cwd=tmp_path)
    assert (tmp_path / "volume" / "copy").read_text() == "good morning"


# ---- what is compiled against the installed package ---------------------------------------------

EXAMPLES = ROOT / "examples"
BOUND_TO_AIOFS = re.compile(r"to \S*/site-packages/aiofs/libaiofs\.so.*: normal symbol `(\w+)'")
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


@pytest.fixture
def shell(environment, tmp_path):
    """shell(commands): runs them in an empty directory, with the installed `aiofs`.

    Returns their output.
    """
    path = f"{environment.parent}:{os.environ['PATH']}"

    def run_in_shell(commands, **variables):
        return run("sh", "-ec", commands, cwd=tmp_path, PATH=path, **variables)

    return run_in_shell


def bound(output):
    """The functions that LD_DEBUG=bindings reports as found in libaiofs.so."""
    return set(BOUND_TO_AIOFS.findall(output))


@needs_compiler
def test_commands_of_the_readme_use_the_installed_library(shell, tmp_path):
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    (commands,) = [block for block in blocks if "aiofs config" in block]
    linked, unmodified = commands.splitlines()
    shutil.copy(EXAMPLES / "copy.c", tmp_path)
    (tmp_path / "SOURCE").write_bytes(os.urandom(200_000))
    for command in linked, unmodified:
        (tmp_path / "TARGET").write_bytes(b"")
        # LD_DEBUG is set for the program only, not for the compiler.
        said = shell(re.sub("&& ", "&& LD_DEBUG=bindings ", command))
        assert {"aio_read", "aio_write", "aio_error", "aio_return"} <= bound(said), said
        assert (tmp_path / "TARGET").read_bytes() == (tmp_path / "SOURCE").read_bytes()
    assert bound(shell("LD_DEBUG=bindings ./copy SOURCE TARGET")) == set()


@needs_compiler
def test_example_that_keeps_its_input_under_a_lock(shell, tmp_path):
    shutil.copy(EXAMPLES / "keep.c", tmp_path)
    warnings = "-Wall -Wextra -Werror"
    shell(f"cc {warnings} keep.c $(aiofs config --cflags --libs) -o keep")
    for size in (0, 1, 3_000_000):
        (tmp_path / "input").write_bytes(os.urandom(size))
        assert shell("cat input | ./keep volume file") == ""
        assert (tmp_path / "volume" / "file").read_bytes() == (tmp_path / "input").read_bytes()
    with subprocess.Popen(
        [tmp_path / "keep", "volume", "file"], cwd=tmp_path, stdin=subprocess.PIPE
    ) as first:
        first.stdin.write(b"first")
        first.stdin.flush()
        while (tmp_path / "volume" / "file").read_bytes() != b"first":
            time.sleep(0.01)
        refused = shell("echo second | ./keep volume file && exit 1 || true")
        first.stdin.close()
        assert first.wait() == 0
    assert "busy" in refused
    assert (tmp_path / "volume" / "file").read_bytes() == b"first"


@pytest.fixture(scope="module")
def build_tools(tmp_path_factory):
    """A directory for PYTHONPATH that contains only the tools to build extensions."""
    folder = tmp_path_factory.mktemp("build_tools")
    for name in ("setuptools", "Cython"):
        try:
            there = distribution(name)
        except PackageNotFoundError:
            pytest.skip(f"needs {name}")
        for top in {file.parts[0] for file in there.files} - {"..", "__pycache__"}:
            (folder / top).symlink_to(there.locate_file(top))
    return folder


@needs_compiler
def test_example_in_cython_is_built_with_the_installed_package(build_tools, shell, tmp_path):
    for name in ("lines.pyx", "setup.py"):
        shutil.copy(EXAMPLES / "cython" / name, tmp_path)
    build = "python setup.py -q build_ext --inplace"
    shell(build, PYTHONPATH=str(build_tools), CFLAGS="-O0 -Wall -Wextra -Werror")
    (tmp_path / "text").write_bytes(b"a line\n" * 100_000 + b"the last")
    program = "import lines; print(lines.count('text'), lines.count('/dev/null'))"
    said = shell(f'python -c "{program}"', LD_DEBUG="bindings", LD_DEBUG_OUTPUT=tmp_path / "log")
    assert said == "100000 0\n"
    logs = "".join(path.read_text() for path in tmp_path.glob("log.*"))
    assert {"aiofs_aio_read", "aiofs_aio_suspend", "aiofs_aio_return"} <= bound(logs)
    failing = "import lines; lines.count('.')"
    assert "Is a directory" in shell(f'python -c "{failing}" || true')


def wheel_of(name, folder):
    """Makes a wheel of an installed package, for a build without a package index."""
    there = distribution(name)
    tag = re.search("^Tag: (.*)$", there.read_text("WHEEL"), re.MULTILINE)[1]
    distinct = re.sub("[-_.]+", "_", there.metadata["Name"])
    with zipfile.ZipFile(folder / f"{distinct}-{there.version}-{tag}.whl", "w") as archive:
        for file in there.files:
            if file.parts[0] != ".." and "__pycache__" not in file.parts:
                archive.write(there.locate_file(file), file)


@needs_compiler
def test_package_of_the_porting_page_is_built_in_isolation_and_reads(wheel, tmp_path):
    """Runs the page's commands on the page's files, in an empty environment."""
    blocks = blocks_of("docs/porting.md", "python", "cython", "toml")
    project, wheels, venv = (tmp_path / name for name in ("project", "wheels", "venv"))
    project.mkdir()
    wheels.mkdir()
    for name in ("first.pyx", "setup.py", "pyproject.toml"):
        (source,) = (b.source for b in blocks if b.source.startswith(f"# {name}\n"))
        (project / name).write_text(source)
    (commands,) = (b.source for b in blocks_of("docs/porting.md", "sh") if "pip wheel" in b.source)
    shutil.copy(wheel, wheels)
    for name in ("setuptools", "Cython", "uvloop"):
        try:
            wheel_of(name, wheels)
        except PackageNotFoundError:
            pytest.skip(f"needs {name}")
    run(sys.executable, "-m", "venv", venv, cwd=tmp_path)
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
    run("sh", "-ec", commands, cwd=project, PATH=f"{venv}/bin:{os.environ['PATH']}", **offline)
    shutil.rmtree(project)  # the module must not need the project or the build environment
    python, (module,) = venv / "bin" / "python", venv.glob("lib/python3.*/site-packages/first.*.so")
    (runpath,) = re.findall(r"RUNPATH.*\[(.*)\]", dynamic_section(module))
    folders = runpath.split(":")  # some belong to this Python
    assert "$ORIGIN/aiofs" in folders and not [path for path in folders if "build-env" in path]
    (tmp_path / "file").write_bytes(b"first bytes, and others")
    reading = (
        "import first, os; buffer = bytearray(11); fd = os.open({!r}, os.O_RDONLY);"
        "print(first.first_bytes(fd, buffer), buffer.decode())"
    )
    said = run(python, "-I", "-c", reading.format("file"), cwd=tmp_path)
    assert said == "11 first bytes\n"
    said = run(python, "-I", "-c", reading.format("/dev/zero"), cwd=tmp_path, AIOFS_ENGINE="none")
    assert said.startswith("-1 ")  # only aiofs fails for an unknown engine


# ---- how it is built: on a project of the same shape that compiles in a second ------------------

SMALL_PROJECT = {
    "README.md": "small\n",
    "aiofs/__init__.py": "__version__ = '1'\n",
    "aiofs/engine/engine.h": '__attribute__((visibility("default"))) int engine_number(void);\n',
    "aiofs/engine/one.c": '#include "engine.h"\nint engine_number(void) { return 40; }\n',
    "aiofs/engine/two.c": '#include "engine.h"\n',
    "aiofs/preload/run.c": "int engine_number(void);\nint run_number(void);\n"
    "int run_number(void) { return engine_number(); }\n",
    "aiofs/_core.pyx": (
        'cdef extern from "engine/engine.h":\n    int engine_number()\ninclude "core/part.pxi"\n'
    ),
    "aiofs/core/part.pxi": "def number():\n    return engine_number() + 2\n",
}


@pytest.fixture
def small_project(tmp_path):
    for name in ("setup.py", "pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    for name, text in SMALL_PROJECT.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    build(tmp_path)
    return tmp_path


def build(project, **environment):
    return run(sys.executable, "setup.py", "build_ext", "--inplace", cwd=project, **environment)


def compiled(output):
    return set(re.findall(r" -c (\S+)", output))


def edit(path, old, new):
    later = time.time() + 2
    path.write_text(path.read_text().replace(old, new))
    os.utime(path, (later, later))


def number(project):
    program = "import aiofs._core; print(aiofs._core.number())"
    return int(run(sys.executable, "-c", program, cwd=project, PYTHONPATH=str(project)))


def test_second_build_compiles_nothing(small_project):
    assert number(small_project) == 42
    assert compiled(build(small_project)) == set()


def test_changed_engine_source_is_compiled_alone(small_project):
    edit(small_project / "aiofs/engine/one.c", "40", "50")
    assert compiled(build(small_project)) == {"aiofs/engine/one.c"}
    assert number(small_project) == 52


def test_changed_cython_part_rebuilds_the_core_alone(small_project):
    edit(small_project / "aiofs/core/part.pxi", "2", "3")
    assert compiled(build(small_project)) == {"aiofs/_core.c"}
    assert number(small_project) == 43


def test_changed_header_rebuilds_everything(small_project):
    edit(small_project / "aiofs/engine/engine.h", ";", "; /* documented */")
    sources = {"aiofs/engine/one.c", "aiofs/engine/two.c", "aiofs/preload/run.c"}
    assert compiled(build(small_project)) == sources | {"aiofs/_core.c"}


def test_removed_engine_source_leaves_the_library(small_project):
    (small_project / "aiofs/engine/two.c").unlink()
    assert "two.o" not in build(small_project)
    assert number(small_project) == 42


def test_sanitized_build_and_the_plain_one_replace_each_other(small_project):
    libraries = [small_project / "aiofs" / name for name in ("libaiofs.so", EXTENSION)]

    def sanitized():
        return [b"__ubsan_handle" in library.read_bytes() for library in libraries]

    assert sanitized() == [False, False]
    if "/" not in run("gcc", "-print-file-name=libubsan.so", cwd=small_project):
        pytest.skip("needs the compiler's libubsan")
    divides = "static volatile int two = 2; return 80 / two"
    edit(small_project / "aiofs/engine/one.c", "return 40", divides)
    build(small_project)
    build(small_project, AIOFS_SANITIZE="undefined")
    assert sanitized() == [True, True]
    build(small_project)
    assert sanitized() == [False, False]
    assert number(small_project) == 42


def test_in_place_build_leaves_the_mapped_library_alone(small_project):
    library = small_project / "aiofs/libaiofs.so"
    with open(library, "rb") as mapped:
        before = mapped.read()
        edit(small_project / "aiofs/engine/one.c", "40", "50")
        build(small_project)
        mapped.seek(0)
        assert mapped.read() == before
    assert library.read_bytes() != before


def test_setup_outside_linux_stops_with_one_sentence():
    program = (
        "import runpy, sys\n"
        "sys.platform, sys.argv = 'darwin', ['setup.py', '--version']\n"
        "runpy.run_path('setup.py', run_name='__main__')\n"
    )
    stopped = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True
    )
    assert stopped.returncode == 1
    assert stopped.stdout == ""
    assert re.fullmatch(r"[^.\n]*\bLinux\b[^.\n]*\.\n", stopped.stderr.replace("'s", ""))
