"""Runs the tests of files and paths of aiofiles and anyio against aiofs.files.

    python tools/peers/run.py

Their source archives come from PyPI by pip, into ${XDG_CACHE_HOME:-~/.cache}/aiofs-peers, and so do
the plugins that their tests need. Each run copies the tests into a new folder there. A test that
does not apply is left out and printed with the reason. The exit status is 1 if another one fails.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aiofs-peers"
LIBRARIES = ["pytest>=8", "pytest-asyncio", "anyio==4.16.0"]


@dataclass
class Peer:
    name: str
    version: str
    tests: list[str]  # how the names of files below tests/ begin
    options: list[str]  # of pytest
    left_out: dict[str, str]  # why tests do not apply


AIOFILES = Peer(
    "aiofiles",
    "25.1.0",
    tests=["test_os", "test_simple", "test_stdio", "test_tempfile", "threadpool/", "resources/"],
    options=["-p", "pytest_asyncio.plugin", "--asyncio-mode=auto"],
    left_out={
        "tests/threadpool/test_concurrency.py::test_slow_file": "it replaces the `open` that "
        "aiofiles calls by a slow one; aiofs has no such name",
    },
)
if os.geteuid() == 0:
    AIOFILES.left_out["tests/test_os.py::test_access"] = "root may access everything"

ANYIO = Peer(
    "anyio",
    "4.16.0",
    tests=["test_fileio.py"],
    options=["-p", "anyio.pytest_plugin", "-o", "anyio_mode=auto"],
    left_out={
        "tests/test_fileio.py, [True]": "with a limiter of threads: aiofs ignores the argument",
    },
)
if sys.version_info < (3, 13):
    ANYIO.left_out["tests/test_fileio.py::TestPath::test_with_stem_empty_stem_with_suffix"] = (
        "anyio raises what pathlib of Python 3.13 raises; aiofs's Path is a pathlib of its Python"
    )

PEERS = [AIOFILES, ANYIO]


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    subprocess.run(command, check=True)


def fetch() -> Path:
    """Puts the archives and the libraries into the cache. Returns the folder of the libraries."""
    CACHE.mkdir(parents=True, exist_ok=True)
    library = CACHE / f"lib-{sys.version_info[0]}.{sys.version_info[1]}"
    if not library.exists():
        new = library.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)
        pip("install", "--target", str(new), *LIBRARIES)
        new.rename(library)
    for peer in PEERS:
        if not archive_of(peer).exists():
            wanted = f"{peer.name}=={peer.version}"
            pip("download", "--no-deps", "--no-binary", ":all:", "--dest", str(CACHE), wanted)
    return library


def archive_of(peer: Peer) -> Path:
    return CACHE / f"{peer.name}-{peer.version}.tar.gz"


def unpack(peer: Peer) -> Path:
    """A folder with the tests, and with our conftest instead of theirs."""
    folder = CACHE / peer.name
    shutil.rmtree(folder, ignore_errors=True)
    prefix = f"{peer.name}-{peer.version}/tests/"
    wanted = tuple(prefix + name for name in peer.tests)
    with tarfile.open(archive_of(peer)) as archive:
        for member in archive:
            if member.isfile() and member.name.startswith(wanted):
                target = folder / "tests" / member.name.removeprefix(prefix)
                target.parent.mkdir(parents=True, exist_ok=True)
                data = archive.extractfile(member)
                assert data is not None
                target.write_bytes(data.read())
    shutil.copy(HERE / f"{peer.name}_conftest.py", folder / "tests" / "conftest.py")
    (folder / "pytest.ini").write_text("[pytest]\n")
    return folder


def run(peer: Peer, library: Path) -> bool:
    folder = unpack(peer)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(library), str(ROOT)]),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    left_out = [f"--deselect={name}" for name in peer.left_out]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *peer.options]
    print(f"== {peer.name} {peer.version}", flush=True)
    done = subprocess.run([*command, *left_out, "tests"], cwd=folder, env=environment)
    for name, reason in peer.left_out.items():
        print(f"left out: {name}: {reason}")
    return done.returncode == 0


def main() -> int:
    library = fetch()
    passed = [run(peer, library) for peer in PEERS]
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
