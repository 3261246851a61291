"""Unmodified programs under `aiofs run`: fio, stress-ng, and a program that copies by lists.

The counters of the engine show that the requests of each program went through aiofs. A preloaded
library, programs/witness.c, writes the counters to a file when a process exits. fio prints how many
operations it made, and the two numbers must be equal.
"""

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from itertools import combinations, product
from pathlib import Path

import pytest
from native import ENGINES, INCLUDES, compile_c, needs_compiler
from pairwise import pairs, pairwise
from support import eventually, failed

import aiofs

PROGRAMS = Path(__file__).parent / "programs"
PACKAGE = Path(aiofs.__file__).parent
STARTS = "import ctypes, sys; sys.exit(ctypes.CDLL(sys.argv[1]).aiofs_engine_start() < 0)"

needs_fio = pytest.mark.skipif(shutil.which("fio") is None, reason="needs fio")
needs_stress_ng = pytest.mark.skipif(shutil.which("stress-ng") is None, reason="needs stress-ng")
pytestmark = [
    needs_compiler,
    pytest.mark.skipif("AIOFS_SANITIZE" in os.environ, reason="programs are not sanitized"),
]


@pytest.fixture(scope="module", params=ENGINES)
def engine(request):
    environment = os.environ | {"AIOFS_ENGINE": request.param}
    starts = [sys.executable, "-c", STARTS, PACKAGE / "libaiofs.so"]
    if subprocess.run(starts, env=environment).returncode:
        pytest.skip(f"this kernel refuses {request.param}")
    return request.param


def compiled(source, target, *flags):
    compile_c("-std=gnu11", "-O2", "-pthread", *flags, PROGRAMS / source, "-o", target)
    return target


@pytest.fixture(scope="session")
def witness_library(tmp_path_factory):
    library = tmp_path_factory.mktemp("witness") / "witness.so"
    return compiled("witness.c", library, "-shared", "-fPIC", *INCLUDES, "-ldl")


class Witness:
    """Runs commands, and collects the counters of the engines of their processes."""

    def __init__(self, library, folder):
        self._library = str(library)
        self._folder = folder
        self._log = folder / "witness.log"

    def run(self, command):
        """Runs a command, which must succeed. Returns its output."""
        environment = os.environ | {"LD_PRELOAD": self._library, "WITNESS": str(self._log)}
        command = [*map(str, command)]
        ended = subprocess.run(
            command, env=environment, cwd=self._folder, capture_output=True, text=True, timeout=50
        )
        output = f"{command} ended with {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
        assert ended.returncode == 0, output
        return ended.stdout

    def processes(self):
        """The number of requests of each process that exited with libaiofs.so loaded."""
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        return [sum(map(int, line.split()[1:])) for line in lines]

    def requests(self):
        return sum(self.processes())


@pytest.fixture
def witness(witness_library, tmp_path):
    return Witness(witness_library, tmp_path)


def under_aiofs(engine, command, volume=None):
    run = [sys.executable, "-m", "aiofs", "run", f"--engine={engine}"]
    if volume is not None:
        run += [f"--volume={volume}"]
    return [*run, "--", *command]


# ---- fio ----------------------------------------------------------------------------------------

SETTINGS = {
    "rw": ("read", "randread", "write", "randwrite", "rw", "randrw"),
    "verify": (False, True),
    "iodepth": (1, 32, 256),
    "jobs": (1, 2),
    "sync": ("", "fsync=16", "fdatasync=16", "end_fsync=1"),
    "direct": (False, True),
    "thread": (False, True),
    "volume": (False, True),
}
SIZE, BLOCK = 1 << 20, 4096


def is_possible(one):
    return not (one["sync"] and one["rw"] in ("read", "randread"))


def named(one):
    switched = [name for name, value in one.items() if value is True]
    numbers = [f"{name}={one[name]}" for name in ("iodepth", "jobs")]
    return ",".join([one["rw"], *numbers, *filter(None, [one["sync"]]), *switched])


EVERY = [
    one
    for values in product(*SETTINGS.values())
    if is_possible(one := dict(zip(SETTINGS, values, strict=True)))
]
CHOSEN = pairwise(EVERY)


def test_every_pair_of_fio_settings_is_run():
    wanted = {
        ((a, x), (b, y))
        for a, b in combinations(sorted(SETTINGS), 2)
        for x, y in product(SETTINGS[a], SETTINGS[b])
        if not (a == "rw" and b == "sync" and x in ("read", "randread") and y)
    }
    assert {pair for one in CHOSEN for pair in pairs(one)} == wanted
    assert len(CHOSEN) < 40


def fio(one, folder, ioengine="posixaio"):
    """The command line. Jobs that verify have one file each; other jobs share a file."""
    command = ["fio", "--name=job", f"--ioengine={ioengine}", f"--directory={folder}"]
    command += [f"--rw={one['rw']}", f"--bs={BLOCK}", f"--size={SIZE}", "--output-format=json"]
    command += [f"--iodepth={one['iodepth']}", f"--numjobs={one['jobs']}"]
    command += [f"--direct={one['direct']:d}", "--verify_state_save=0"]
    command += ["--verify=crc32c", "--verify_fatal=1"] if one["verify"] else ["--filename=shared"]
    command += [f"--{one['sync']}"] if one["sync"] else []
    command += ["--thread"] if one["thread"] else []
    return command


def jobs_of(output):
    """fio's report of each job. None may have failed."""
    jobs = json.loads(output[output.index("{") :])["jobs"]
    assert [job["error"] for job in jobs] == [0] * len(jobs)
    return jobs


def has_direct(folder):
    try:
        os.close(os.open(folder / "direct", os.O_RDWR | os.O_CREAT | os.O_DIRECT))
    except OSError:
        return False
    return True


def run_fio(one, folder, engine, witness):
    if one["direct"] and not has_direct(folder):
        pytest.skip("this filesystem has no O_DIRECT")
    files = folder / "files"
    files.mkdir()
    if one["verify"] and one["rw"] in ("read", "randread"):
        written = {**one, "rw": "write", "direct": False}
        witness.run([*fio(written, files, "psync"), "--do_verify=0"])
    volume = files if one["volume"] else None
    jobs = jobs_of(witness.run(under_aiofs(engine, fio(one, files), volume)))
    moved = [job["read"]["total_ios"] + job["write"]["total_ios"] for job in jobs]
    synced = [job["sync"]["total_ios"] for job in jobs]
    blocks = SIZE // BLOCK
    assert len(moved) == one["jobs"]
    assert min(moved) >= blocks
    if "end_fsync" in one["sync"]:  # fio does not count end_fsync
        synced = [1] * one["jobs"]
    if "fdatasync" in one["sync"]:  # fio does not count these
        assert witness.requests() > sum(moved)
    else:
        assert witness.requests() == sum(moved) + sum(synced)
    shutil.rmtree(files)  # else pytest keeps thousands of files


@needs_fio
@pytest.mark.parametrize("one", CHOSEN, ids=named)
def test_fio_verifies_every_byte(one, tmp_path, engine, witness):
    run_fio(one, tmp_path, engine, witness)


@needs_fio
@pytest.mark.soak
@pytest.mark.parametrize("one", EVERY, ids=named)
def test_fio_verifies_every_byte_in_every_combination(one, tmp_path, engine, witness):
    run_fio(one, tmp_path, engine, witness)


WRITES = dict.fromkeys(SETTINGS, False) | {
    "rw": "randwrite",
    "verify": True,
    "iodepth": 32,
    "jobs": 1,
}


@needs_fio
def test_another_fio_engine_verifies_what_aiofs_wrote(tmp_path, engine, witness):
    jobs_of(witness.run(under_aiofs(engine, [*fio(WRITES, tmp_path), "--do_verify=0"])))
    assert witness.requests() == SIZE // BLOCK
    verified = fio({**WRITES, "rw": "read"}, tmp_path, "psync")
    jobs_of(witness.run(verified))
    with (tmp_path / "job.0.0").open("r+b") as file:
        file.seek(SIZE // 2 + 100)
        file.write(b"wrong")
    wrong = subprocess.run(verified, cwd=tmp_path, capture_output=True)
    assert wrong.returncode != 0, "this check finds nothing"


@needs_fio
def test_run_without_aiofs_counts_no_request(tmp_path, witness):
    jobs_of(witness.run(fio(WRITES, tmp_path)))
    assert witness.processes() == []


def holders(path):
    """The processes that have the file open."""
    found = set()
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(descriptor) == str(path):
                found.add(descriptor.parts[2])
    return found


OPENS_FOR_WRITING = """
import errno, sys
try:
    open(sys.argv[1], "r+b")
except OSError as error:
    sys.exit(errno.errorcode[error.errno])
"""


def opened_by_another(engine, path, volume):
    """Opens the file in another `aiofs run`. Returns the name of the errno; "" for success."""
    command = under_aiofs(engine, [sys.executable, "-c", OPENS_FOR_WRITING, path], volume)
    return subprocess.run([*map(str, command)], capture_output=True, text=True).stderr.strip()


@needs_fio
def test_fio_jobs_share_one_lock_and_another_session_is_refused(tmp_path, engine):
    volume = tmp_path / "files"
    volume.mkdir()
    path = volume / "shared"
    path.write_bytes(bytes(SIZE))
    command = fio({**WRITES, "verify": False, "jobs": 2}, volume)
    command = under_aiofs(engine, [*command, "--time_based", "--runtime=50"], volume)
    with subprocess.Popen(
        [*map(str, command)], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as running:
        try:
            eventually(lambda: len(holders(path)) == 2)
            assert opened_by_another(engine, path, volume) == "EBUSY"
            with aiofs.PrivateVolume(volume) as ours, aiofs.FileSystem() as fs:
                fs.mount("/", ours)
                failed(errno.EBUSY, fs.open, "/shared", os.O_WRONLY)
            assert len(holders(path)) == 2
        finally:
            running.send_signal(signal.SIGINT)  # fio stops at once, and prints its report
        jobs = jobs_of(running.stdout.read())
    assert min(job["write"]["total_ios"] for job in jobs) > 0
    assert opened_by_another(engine, path, volume) == ""


# ---- stress-ng ----------------------------------------------------------------------------------


@needs_stress_ng
@pytest.mark.parametrize("in_volume", [False, True], ids=["plain", "volume"])
@pytest.mark.parametrize("requests", [1, 16, 128])
def test_stress_ng_verifies_its_aio(requests, in_volume, tmp_path, engine, witness):
    workers, operations = 2, 2000
    folder = tmp_path / "files"
    folder.mkdir()
    command = ["stress-ng", "--aio", workers, "--aio-requests", requests, "--verify"]
    command += ["--aio-ops", operations * workers, "--temp-path", folder]
    witness.run(under_aiofs(engine, command, folder if in_volume else None))
    assert [count >= operations for count in witness.processes() if count] == [True] * workers


# ---- a program of our own -----------------------------------------------------------------------


@pytest.fixture(scope="session")
def copy(tmp_path_factory):
    return compiled("copy.c", tmp_path_factory.mktemp("copy") / "copy")


@pytest.mark.parametrize("in_volume", [False, True], ids=["plain", "volume"])
@pytest.mark.parametrize("size", [0, 1, 64 * 1024, 5_000_003])
def test_program_copies_files_with_lio_listio(size, in_volume, copy, tmp_path, engine, witness):
    folder = tmp_path / "files"
    folder.mkdir()
    original, made = folder / "original", folder / "made"
    original.write_bytes(os.urandom(size))
    witness.run(under_aiofs(engine, [copy, original, made], folder if in_volume else None))
    assert made.read_bytes() == original.read_bytes()
    blocks = -(-size // (64 * 1024))
    assert witness.requests() > 2 * blocks
