"""`aiofs run --volume`: the processes of a session, other sessions, real programs, and limits."""

import errno
import os
import shutil
import signal
import subprocess
import sys

import pytest
from native import ENGINES, INCLUDES
from running import (
    COMMAND,
    ENVIRONMENT,
    PACKAGE,
    ROOT,
    compile_c,
    locked,
    needed,
    outside_holds,
    run,
    run_in,
    session,
    unsanitized,
)
from support import eventually, failed

from aiofs import PrivateVolume

# Copies a file by requests: first all reads, then all writes.
COPY = r"""
#include <aio.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
enum { PIECE = 100000 };
static int all(struct aiocb *cbs, int count, int fd, int opcode) {
    struct aiocb **list = calloc(count, sizeof *list);
    for (int i = 0; i < count; i++) {
        cbs[i].aio_fildes = fd;
        cbs[i].aio_lio_opcode = opcode;
        list[i] = &cbs[i];
    }
    return lio_listio(LIO_WAIT, list, count, NULL);
}
int main(int argc, char **argv) {
    struct stat status;
    int from = open(argv[1], O_RDONLY), to = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (argc != 3 || from < 0 || to < 0 || fstat(from, &status) < 0)
        return 1;
    int count = status.st_size / PIECE;
    struct aiocb *cbs = calloc(count, sizeof *cbs);
    for (int i = 0; i < count; i++) {
        cbs[i].aio_buf = malloc(PIECE);
        cbs[i].aio_nbytes = PIECE;
        cbs[i].aio_offset = (long)i * PIECE;
    }
    return all(cbs, count, from, LIO_READ) < 0 || all(cbs, count, to, LIO_WRITE) < 0;
}
"""


# ---- processes -----------------------------------------------------------------------------------


def test_child_process_shares_the_lock_and_keeps_it_after_the_parent_exits(steps, folder, outside):
    with session(
        folder, steps, "open=file", "fork", "keep=file", "say", "close=3", "say"
    ) as running:
        running.process.wait()
        assert running.here() == ["open 3", "keep 4"]
        assert locked(outside)
        running.go_on()
        running.here()
        assert locked(outside)
        running.go_on()
        eventually(lambda: not locked(outside))


def test_lock_stays_while_another_process_of_the_session_has_the_file_open(steps, folder, outside):
    with session(folder, steps, "open=file", "fork_and_close", "say", "close=3", "say") as running:
        running.here()
        assert locked(outside)
        running.go_on()
        running.here()
        assert not locked(outside)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_death_of_the_process_releases_its_locks(steps, folder, outside, number):
    with session(folder, steps, "open=file", "say") as running:
        running.here()
        assert locked(outside)
        running.kill(number)
        assert not locked(outside)


def test_death_of_one_process_leaves_the_others_lock(steps, folder, outside):
    with session(folder, steps, "open=file", "fork_and_close", "say") as running:
        running.here()
        running.kill()
        assert locked(outside)
        running.go_on()
        eventually(lambda: not locked(outside))


def test_lock_survives_exec_with_its_descriptor(steps, folder, outside):
    program = [steps, "open=file", "cloexec=other", "open=third", "exec"]
    with session(folder, *program, "say", "close=3", "say", "closefrom=3", "say") as running:
        running.here()
        assert locked(outside) and locked(outside, "third") and not locked(outside, "other")
        running.go_on()
        running.here()
        assert not locked(outside) and locked(outside, "third")
        running.go_on()
        running.here()
        assert not locked(outside, "third")


def test_lock_of_a_renamed_file_survives_exec(steps, folder, outside):
    with session(
        folder, steps, "open=file", "rename=file,new", "exec", "say", "close=3", "say"
    ) as running:
        running.here()
        assert locked(outside, "file") and not locked(outside, "new")
        running.go_on()
        running.here()
        assert not locked(outside, "file")


def test_descriptor_moved_by_posix_spawn_keeps_its_lock(steps, folder, outside):
    """posix_spawn's file actions are not intercepted: the new image finds the moved descriptor."""
    program = [steps, "open=file", "spawn_moved", "say", "close=40", "say"]
    with session(folder, *program) as running:
        running.here()
        (child,) = children_of(running.process.pid)
        hidden = {int(number) for number in os.listdir(f"/proc/{child}/fd")}
        (base,) = {number - 40 for number in hidden if number > 1000} & {
            number - 3
            for number in map(int, os.listdir(f"/proc/{running.process.pid}/fd"))
            if number > 1000
        }
        assert base + 3 not in hidden and locked(outside)


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as children:
        return children.read().split()


def test_closing_in_a_child_of_vfork_leaves_the_parents_lock(steps, folder, outside):
    with session(folder, steps, "open=file", "vfork", "say", "close=3", "say") as running:
        running.here()
        assert locked(outside)
        running.go_on()
        running.here()
        assert not locked(outside)


def test_close_range_with_cloexec_releases_the_locks_at_exec(steps, folder, outside):
    program = [steps, "open=file", "cloexec_range=3", "say", "exec", "say", "keep=file", "say"]
    with session(folder, *program) as running:
        running.here()
        assert locked(outside)
        running.go_on()
        running.here()
        assert not locked(outside)
        running.go_on()
        assert running.here() == ["keep 3"]
        assert locked(outside)


def test_threads_that_open_and_close_during_forks_leave_no_lock(steps, folder, outside):
    assert run_in(folder, steps, "race=many") == ["race 0"]
    assert not any(locked(outside, f"many{number}") for number in range(4))


def test_many_opens_leave_no_descriptor_open(steps, folder):
    once = ["open=file", "dup2=9", "close=3", "close=9", "fopen=file", "fclose"]
    with session(folder, steps, *[*once, "mkstemp=XXXXXX", "close=$"] * 20, "say") as running:
        running.here()
        assert len(os.listdir(f"/proc/{running.process.pid}/fd")) == 4  # with the session's


# ---- sessions ------------------------------------------------------------------------------------


def test_two_run_sessions_refuse_each_other(steps, folder):
    with session(
        folder, steps, "open=file", "say", "close=3", "say", "keep=file", "say"
    ) as running:
        running.here()
        assert run_in(folder, steps, "keep=file", "open=other") == ["keep EBUSY", "open 3"]
        running.go_on()
        running.here()
        with session(folder, steps, "keep=file", "say") as second:
            assert second.here() == ["keep 3"]
            running.go_on()
            assert running.here() == ["keep EBUSY"]


def test_many_run_sessions_write_to_separate_files(steps, folder):
    with (
        session(folder, steps, "say", "keep=file", "say") as first,
        session(folder, steps, "say", "keep=file", "say") as second,
        session(folder, steps, "say", "keep=file", "say") as third,
    ):
        for running in (first, second, third):
            running.here()
            running.go_on()
        assert sorted(running.here() for running in (first, second, third)) == [
            ["keep 3"],
            ["keep EBUSY"],
            ["keep EBUSY"],
        ]


def test_python_in_a_run_session_takes_locks_like_any_program(folder, outside):
    program = (
        "import os, subprocess, sys\n"
        "with open('file', 'w') as file:\n"
        "    print('here', flush=True); sys.stdin.readline()\n"
        "subprocess.run(['sh', '-c', 'echo from the shell > other'], check=True)\n"
        "with open('file', 'w') as file:\n"
        "    subprocess.run(['sh', '-c', 'echo shared >> file; true'], check=True)\n"
        "    subprocess.run(['echo', 'more'], stdout=file, check=True)\n"
        "    print('here', flush=True); sys.stdin.readline()\n"
        "print('here', flush=True); sys.stdin.readline()\n"
    )
    with session(folder, sys.executable, "-c", program) as running:
        for held in (True, True, False):
            running.here()
            assert locked(outside) is held
            running.go_on()
    assert (folder / "other").read_text() == "from the shell\n"


def test_access_handles_in_a_run_session_hold_locks_of_their_own(folder):
    program = (
        "import os, aiofs\n"
        "with aiofs.PrivateVolume('.') as volume, aiofs.FileSystem() as filesystem:\n"
        "    filesystem.mount('/', volume)\n"
        "    descriptor = filesystem.open('/file', os.O_RDWR)\n"
        "    try: open('file', 'r+')\n"
        "    except OSError as error: print(error.strerror)\n"
        "    os.write(descriptor, b'new')\n"
        "    filesystem.close(descriptor)\n"
        "    open('file', 'r+').close()\n"
    )
    assert run_in(folder, sys.executable, "-c", program) == ["Device or resource busy"]
    assert (folder / "file").read_text() == "new bytes"


def test_volume_counts_as_open_while_the_run_session_lives(steps, folder):
    inner = folder / "inner"
    inner.mkdir()
    with session(folder, steps, "fork_and_wait", "say") as running:
        running.here()
        failed(errno.EBUSY, PrivateVolume, inner)
        running.kill()
        running.process.stdin.close()  # the child runs on, until the end of its input
        eventually(lambda: opens(inner))


def opens(folder):
    try:
        PrivateVolume(folder).close()
    except OSError:
        return False
    return True


def test_nested_run_session_has_locks_of_its_own(steps, folder, outside, tmp_path):
    other = tmp_path / "other"
    inner = [*COMMAND, "--volume", other, steps, "keep=file", f"open={other}/file", "say"]
    with session(folder, *inner) as running:
        assert running.here() == ["keep 3", "open 4"]
        assert locked(outside)
    again = [*COMMAND, "--volume", folder, steps, "keep=file"]
    program = ["sh", "-c", 'exec 3<>file; exec "$@"', "sh", *again]
    assert run_in(folder, *program) == ["keep EBUSY"]


# ---- limits --------------------------------------------------------------------------------------


def run_limited(folder, limit, program):
    """Runs a session in a shell, under a limit, until it exits. `program` is shell code."""
    command = " ".join([*COMMAND, "--volume", ".", program])
    return subprocess.run(
        ["sh", "-c", f"ulimit {limit}; {command}"],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )


def test_program_can_open_as_many_descriptors_as_without_aiofs(folder):
    done = run_limited(folder, "-S -n 256", 'sh -c "ulimit -S -n"')
    assert int(done.stdout) >= 2 * 256, done


@pytest.mark.parametrize(
    "use_up",
    [
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))",
        "os.dup2(0, int(os.environ['AIOFS_RUN'].split(':')[0]) + 3)",  # the lock's number
    ],
)
def test_o_trunc_leaves_the_file_alone_when_the_lock_cannot_be_recorded(steps, folder, use_up):
    program = f"import os, resource, sys\n{use_up}\nos.execv(sys.argv[1], sys.argv[1:])\n"
    answers = run_in(folder, sys.executable, "-c", program, steps, "creat=file", "fopen=file")
    assert answers == ["creat EMFILE", "fopen EMFILE"]
    assert (folder / "file").read_text() == "old bytes"


def test_run_is_refused_with_too_few_descriptors_for_the_volumes(folder):
    done = run_limited(folder, "-n 128", "true")
    assert done.returncode == 2 and "too few" in done.stderr


@pytest.mark.parametrize(
    ("directory", "why"),
    [("missing/volume", "No such file"), ("file", "not a directory"), ("a:b", "':'")],
)
def test_invalid_volume_directory_is_refused(folder, directory, why):
    done = run("--volume", folder / directory, "true")
    assert done.returncode == 2 and done.stderr.startswith("aiofs run: ") and why in done.stderr


def test_missing_volume_directory_is_created(folder):
    assert run("--volume", folder / "new", "true").returncode == 0
    assert (folder / "new" / ".aiofs").is_dir()


def test_process_that_lost_its_descriptors_writes_nothing_in_the_volume(folder, tmp_path):
    program = (
        "import errno, os, sys\n"
        "import ctypes\n"
        "libc = ctypes.CDLL(None)\n"
        "libc.syscall(436, 3, 0xffffffff, 0)\n"  # close_range, not intercepted
        "try: os.open('file', os.O_WRONLY | os.O_TRUNC)\n"
        "except OSError as error: print(errno.errorcode[error.errno])\n"
        f"os.open({str(tmp_path / 'elsewhere')!r}, os.O_WRONLY | os.O_CREAT)\n"
    )
    assert run_in(folder, sys.executable, "-c", program) == ["ENOLCK"]
    assert (folder / "file").read_text() == "old bytes"


# ---- programs ------------------------------------------------------------------------------------


@unsanitized
def test_shell_cp_dd_and_tar_work_in_a_volume(folder, outside, tmp_path):
    script = (
        "set -e; cp file copy; dd if=file of=image bs=3 2>/dev/null; echo line >> file\n"
        "tar -cf archive.tar file copy; mkdir out; tar -xf archive.tar -C out; cmp file out/file\n"
        "sed -i s/old/new/ copy; mv copy moved; cat moved; rm image\n"
        "for i in 1 2 3; do echo $i; done > numbers; cat numbers | tr -d '\\n'\n"
    )
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "file").write_text("old bytes")
    expected = subprocess.run(["sh", "-c", script], cwd=plain, capture_output=True, text=True)
    assert run_in(folder, "sh", "-c", script) == expected.stdout.splitlines()
    names = sorted(os.listdir(plain))
    assert sorted(os.listdir(folder)) == [".aiofs", *names]
    assert (folder / "file").read_text() == (plain / "file").read_text() == "old bytesline\n"


def test_shell_reports_the_errno_of_a_refused_open(folder, outside):
    with outside_holds(outside, "file"):
        done = run("--volume", folder, "sh", "-c", "echo x > file", cwd=folder, env=ENVIRONMENT)
    assert done.returncode != 0 and os.strerror(errno.EBUSY) in done.stderr
    assert (folder / "file").read_text() == "old bytes"


def test_sqlite_works_in_a_volume(folder, outside):
    if shutil.which("sqlite3") is None:
        pytest.skip("needs sqlite3")
    statements = "create table t(x); insert into t values(1),(2); select sum(x) from t;"
    assert run_in(folder, "sqlite3", "data.db", statements) == ["3"]
    with outside_holds(outside, "data.db"):
        done = run("--volume", folder, "sqlite3", folder / "data.db", "insert into t values(3);")
        assert done.returncode != 0
    assert run_in(folder, "sqlite3", "data.db", "select sum(x) from t;") == ["3"]


def test_file_is_replaced_by_renaming_a_temporary_file(steps, folder, outside):
    """The program writes a temporary file and renames it over the file."""
    with session(folder, *(steps, "mkstemp=file-XXXXXX", "write=new", "close=$", "say")) as running:
        running.here()
        (temporary,) = folder.glob("file-*")
        temporary.rename(folder / "file")
        assert not locked(outside)
    assert (folder / "file").read_text() == "new"


# ---- requests in flight --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def in_flight(tmp_path_factory):
    """in_flight.c, compiled: it closes a file while a write on it is in flight."""
    flags = [*INCLUDES, f"-L{PACKAGE}", "-laiofs", f"-Wl,-rpath,{PACKAGE}"]
    source = ROOT / "tests" / "run" / "in_flight.c"
    return compile_c(source, tmp_path_factory.mktemp("programs") / "in_flight", *flags)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("close", ["close", "close_range", "dup2", "fclose", "vfork"])
def test_lock_stays_until_the_last_request_has_ended(in_flight, folder, outside, close, engine):
    with session(folder, "--engine", needed(engine), in_flight, "new", close) as running:
        assert running.here() == ["in flight"]
        assert locked(outside, "new")
        running.go_on()
        assert running.here() == ["written"]
        eventually(lambda: not locked(outside, "new"))


@pytest.mark.parametrize("engine", ENGINES)
def test_failed_dup2_keeps_the_lock_behind_the_last_request(in_flight, folder, outside, engine):
    program = (in_flight, "new", "failed dup2")
    with session(folder, "--engine", needed(engine), *program) as running:
        assert running.here() == ["in flight"]
        running.go_on()
        assert running.here() == ["written"]
        assert locked(outside, "new")


@pytest.mark.parametrize("engine", ENGINES)
def test_requests_work_on_locked_files(folder, engine, tmp_path):
    source = tmp_path / "copy.c"
    source.write_text(COPY)
    program = compile_c(source, tmp_path / "copy")
    (folder / "big").write_bytes(os.urandom(3_000_000))
    assert run_in(folder, "--engine", needed(engine), program, "big", "copied") == []
    assert (folder / "copied").read_bytes() == (folder / "big").read_bytes()


REOPEN = """
import os, sys
path, turns = sys.argv[1], int(sys.argv[2])
kept = os.open(path, os.O_RDWR | os.O_CREAT)
print("held", flush=True)
sys.stdin.readline()
refused = 0
for _ in range(turns):
    try:
        os.close(os.open(path, os.O_RDWR))
    except OSError:
        refused += 1
print(refused)
"""

KNOCK = """
import os, sys
print("ready", flush=True)
while True:
    try:
        os.close(os.open(sys.argv[1], os.O_RDWR))
        print("opened", flush=True)
    except OSError:
        pass
"""


def test_session_reopens_its_file_while_other_sessions_try_to_open_it(tmp_path):
    path = tmp_path / "file"
    command = [*COMMAND, "--volume", str(tmp_path), "--", sys.executable, "-c"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "env": ENVIRONMENT, "text": True}
    with subprocess.Popen([*command, REOPEN, str(path), "4000"], **pipes) as holder:
        assert holder.stdout.readline() == "held\n"
        with subprocess.Popen([*command, KNOCK, str(path)], **pipes) as other:
            assert other.stdout.readline() == "ready\n"
            refused, _ = holder.communicate("go\n", timeout=60)
            other.kill()
            assert refused == "0\n"
