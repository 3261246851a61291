"""The demo: it copies whole files, names files that it cannot copy, and sets the exit status."""

import asyncio
import fcntl
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import time
import tty

import pytest
import uvloop
from support import eventually

from aiofs.demo import main, transfer
from aiofs.demo.heartbeat import Heartbeat
from aiofs.demo.screen import Bar, printable, size

COMMAND = [sys.executable, "-m", "aiofs.cli", "demo"]


@pytest.fixture
def tree(tmp_path):
    """Files whose sizes are near the size of a piece, and files with unusual names."""
    tree = tmp_path / "tree"
    (tree / "deep" / "er").mkdir(parents=True)
    for length in (0, 1, transfer.PIECE - 1, transfer.PIECE, transfer.PIECE + 1, 9_000_000):
        (tree / "deep" / f"{length}").write_bytes(os.urandom(length))
    for i in range(70):
        (tree / "deep" / "er" / f"small {i}").write_bytes(b"%d\n" % i)
    for name in ("hello.txt", "back\\slash", "new\nline", "\udcff not UTF-8", "ö", "[bold]"):
        (tree / name).write_text("its contents")
    return tree


@pytest.fixture(autouse=True)
def no_compiler(monkeypatch):
    """Skips the third act, which takes a second, in all tests but its own."""
    monkeypatch.setenv("CC", "no-such-compiler")


@pytest.fixture
def compiler(monkeypatch, tmp_path):
    """compiler(script): sets the compiler of the demo to a shell script, or to the system's cc."""

    def use(script=None):
        path = "cc"
        if script is not None:
            path = tmp_path / "compiler"
            path.write_text(f'#!/bin/sh\n[ "$2" = -o ] && program=$3\n{script}\n')
            path.chmod(0o755)
        elif shutil.which(path) is None:
            pytest.skip("needs a C compiler")
        elif "AIOFS_SANITIZE" in os.environ:
            pytest.skip("a sanitizer must be loaded before libaiofs")
        monkeypatch.setenv("CC", str(path))

    return use


def contents(directory):
    return {
        os.path.relpath(os.path.join(folder, name), directory): open(
            os.path.join(folder, name), "rb"
        ).read()
        for folder, _, names in os.walk(directory)
        for name in names
        if ".aiofs" not in os.path.relpath(folder, directory)
    }


def test_whole_tree_is_copied(capsys, tree, tmp_path):
    assert main(str(tree), str(tmp_path / "volume")) == 0
    out = capsys.readouterr().out
    assert contents(tmp_path / "volume") == contents(tree)
    count = len(contents(tree))
    assert f"SHA-256: {count} of {count} files are equal to their sources" in out
    assert not re.search(r"(left out|failed): \d", out)


def test_act_one_shows_request_callback_and_refused_lock(capsys, tree):
    assert main(str(tree / "hello.txt"), None) == 0
    shown = pairs(capsys.readouterr().out)
    assert shown["aio_write(cb)"].startswith("0")
    assert shown["aio_error(cb)"] in ("0", "EINPROGRESS")
    assert shown["aio_suspend([cb])"].startswith("0")
    assert shown["aio_return(cb)"].startswith("18 bytes")
    assert shown["the callback, on the loop"] == "called with 'hello.txt'"
    assert shown["aio_read(cb), await cb"] == r"18 bytes: b'Hello, POSIX AIO!\n'"
    assert shown["a second handle on the file"] == "EBUSY, NoModificationAllowedError"
    assert shown["a handle of another process"] == "EBUSY"
    assert shown["the same, after the close"] == "opened"


def pairs(output):
    lines = (line.strip() for line in output.splitlines() if re.match("  [^ ].*  ", line))
    return dict(re.split("  +", line, maxsplit=1) for line in lines)


def test_act_three_runs_a_c_program_whose_file_is_locked(capsys, compiler, tree, tmp_path):
    compiler()
    assert main(str(tree / "hello.txt"), str(tmp_path / "volume")) == 0
    _, _, act = capsys.readouterr().out.partition("A C program")
    shown = pairs(act)
    assert shown["aiofs run --volume DIR -- ./copy"] == "has copied 500.0 kB to DIR/FILE"
    assert shown["a handle on FILE"] == "EBUSY, NoModificationAllowedError"
    assert shown["a handle of another process"] == "EBUSY"
    assert shown["the same, after the program's end"] == "opened"
    assert list(contents(tmp_path / "volume")) == ["hello.txt"]


def test_act_three_reports_a_missing_compiler(capsys, tree):
    assert main(str(tree / "hello.txt"), None) == 0
    assert "left out: there is no C compiler, no-such-compiler\n" in capsys.readouterr().out


def test_act_three_reports_a_failing_compiler(capsys, compiler, tree):
    compiler("echo no headers >&2; exit 1")
    assert main(str(tree / "hello.txt"), None) == 0
    assert "cannot compile it: no headers\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("echo no disk >&2; exit 3", "no disk"),
        ('cat >"$2"; exit 3', "the copy differs"),
        ('head -c 500000 >"$2"; sleep 0.1; cat >/dev/null', "the copy differs"),
    ],
)
@pytest.mark.skipif("AIOFS_SANITIZE" in os.environ, reason="a sanitizer must be loaded first")
def test_act_three_says_what_went_wrong(capsys, compiler, tree, tmp_path, program, why):
    (tmp_path / "program").write_text(f"#!/bin/sh\n{program}\n")
    (tmp_path / "program").chmod(0o755)
    compiler(f"cp {tmp_path / 'program'} $program")
    assert main(str(tree / "hello.txt"), str(tmp_path / "volume")) == 1
    assert f"failed: {why}\n" in capsys.readouterr().out
    assert list(contents(tmp_path / "volume")) == ["hello.txt"]


def test_single_file_is_copied_under_its_name(capsys, tree, tmp_path):
    assert main(str(tree / "deep" / "1"), str(tmp_path / "volume")) == 0
    assert list(contents(tmp_path / "volume")) == ["1"]


def test_temporary_volume_is_removed(capsys, tree, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    assert main(str(tree), None) == 0
    assert list((tmp_path / "tmp").iterdir()) == []
    assert "removed" in capsys.readouterr().out


def test_special_files_are_skipped_and_named(capsys, tree, tmp_path):
    (tree / "link").symlink_to("/etc/passwd")
    (tree / "round").symlink_to(".")
    os.mkfifo(tree / "fifo")
    (tree / ".aiofs").mkdir()
    (tree / ".aiofs" / "file").write_text("not copied")
    assert main(str(tree), str(tmp_path / "volume")) == 0
    out = capsys.readouterr().out
    assert "left out: 4" in out
    for name, why in (
        ("link", "a symbolic link"),
        ("round", "a symbolic link"),
        ("fifo", "neither file nor directory"),
        (".aiofs", "a name that volumes keep for themselves"),
    ):
        assert f"{tree / name}: {why}" in out
    assert not {"link", "round", "fifo"} & contents(tmp_path / "volume").keys()


def test_unreadable_file_fails_and_the_others_are_copied(capsys, tree, tmp_path, monkeypatch):
    real = os.open

    def refuse(path, *arguments, **named):
        if str(path).endswith("hello.txt") and str(path).startswith(str(tree)):
            raise PermissionError(13, "Permission denied", path)
        return real(path, *arguments, **named)

    monkeypatch.setattr(os, "open", refuse)
    assert main(str(tree), str(tmp_path / "volume")) == 1
    out = capsys.readouterr().out
    count = len(contents(tree))
    assert f"{tree / 'hello.txt'}: Permission denied" in out
    assert f"{count - 1} of {count} files" in out
    assert len(contents(tmp_path / "volume")) == count - 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_directory_fails_by_name(capsys, tree):
    (tree / "deep").chmod(0)
    try:
        assert main(str(tree), None) == 1
    finally:
        (tree / "deep").chmod(0o700)
    assert f"{tree / 'deep'}: Permission denied" in capsys.readouterr().out


def test_file_that_shrinks_meanwhile_is_copied_as_it_was_read(capsys, tree, tmp_path, monkeypatch):
    big = tree / "deep" / "9000000"
    real = transfer.CopyIn.open

    async def shrink(self, files):
        os.truncate(big, 1_000_000)
        await real(self, files)

    monkeypatch.setattr(transfer.CopyIn, "open", shrink)
    assert main(str(tree), str(tmp_path / "volume")) == 0
    assert contents(tmp_path / "volume")["deep/9000000"] == big.read_bytes()


def test_difference_is_found(capsys, tree, monkeypatch):
    real = transfer.ReadBack.open

    async def spoil(self, files):
        for file in files:
            if file.name == "/hello.txt":
                fd = self._fs.open(file.name, os.O_WRONLY)
                os.pwrite(fd, b"X", 3)
                self._fs.close(fd)
        await real(self, files)

    monkeypatch.setattr(transfer.ReadBack, "open", spoil)
    assert main(str(tree), None) == 1
    out = capsys.readouterr().out
    assert "failed: 1" in out and f"{tree / 'hello.txt'}: what was read back differs" in out


@pytest.mark.parametrize("what", ["file", "full"])
def test_volume_needs_a_new_or_empty_directory(capsys, tree, tmp_path, what):
    place = tmp_path / what
    if what == "file":
        place.write_text("something")
    else:
        place.mkdir()
        (place / "something").write_text("precious")
    assert main(str(tree), str(place)) == 2
    said = capsys.readouterr()
    assert said.out == "" and str(place) in said.err
    assert what == "file" or (place / "something").read_text() == "precious"


def test_lack_of_space_is_reported_before_the_copy(capsys, tree, tmp_path, monkeypatch):
    free = shutil.disk_usage(tree)._replace(free=9_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    assert main(str(tree), str(tmp_path / "volume")) == 2
    assert "9.0 MB are free" in capsys.readouterr().err
    assert contents(tmp_path / "volume") == {}


def test_empty_directory_is_refused(capsys, tmp_path):
    (tmp_path / "empty").mkdir()
    assert main(str(tmp_path / "empty"), None) == 2
    assert "there is no file to copy" in capsys.readouterr().err


def test_interrupted_demo_ends_quietly_and_cleans_up(tree, tmp_path):
    for i in range(2000):
        (tree / f"more {i}").write_bytes(b"x" * 10_000)
    (tmp_path / "tmp").mkdir()
    process = subprocess.Popen(
        [*COMMAND, str(tree)],
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while "at a time" not in process.stdout.readline():
        pass
    eventually(lambda: any((tmp_path / "tmp").glob("*/more *")))  # some files are copied, not all
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err.strip()) == (130, "aiofs demo: interrupted")
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("has_rich", [True, False])
def test_terminal_gets_a_bar_with_rich_and_without(tree, tmp_path, has_rich):
    if has_rich:
        pytest.importorskip("rich")
    else:
        (tmp_path / "hidden").mkdir()
        (tmp_path / "hidden" / "rich.py").write_text("raise ImportError('hidden')")
    output = on_terminal(
        [*COMMAND, str(tree)],
        PYTHONPATH=f"{tmp_path / 'hidden'}:{os.environ.get('PYTHONPATH', '')}",
    )
    assert "100%" in output and "loop stall, worst" in output
    assert ("━" in output) == has_rich
    assert ("[####" in output) == (not has_rich)


def on_terminal(command, **environment):
    """Runs a command on a terminal of 100 columns. Returns its output."""
    leader, follower = pty.openpty()
    tty.setraw(follower)
    fcntl.ioctl(follower, termios.TIOCSWINSZ, b"\x28\x00\x64\x00\x00\x00\x00\x00")
    process = subprocess.Popen(
        command,
        stdout=follower,
        env={**os.environ, "TERM": "xterm-256color", "LANG": "C.UTF-8", **environment},
    )
    os.close(follower)
    output = b""
    try:
        while piece := os.read(leader, 65536):
            output += piece
    except OSError:
        pass  # EIO: the other end is closed
    os.close(leader)
    assert process.wait(60) == 0, output.decode()
    return output.decode()


def test_heartbeat_measures_a_blocked_loop():
    async def body():
        with Heartbeat() as held:
            await asyncio.sleep(0.02)
            time.sleep(0.1)
            await asyncio.sleep(0.02)
        assert held.worst >= 0.09 and held.tail >= 0.05

    uvloop.run(body())


def test_progress_bar_of_0_bytes_is_full():
    assert Bar("", 0).part == 1.0
    half = Bar("", 10)
    half.advance(5)
    assert half.part == 0.5


def test_sizes_and_names_are_shown_for_people():
    assert [size(n) for n in (0, 999, 1000, 2_500_000, 3e9)] == [
        "0 bytes",
        "999 bytes",
        "1.0 kB",
        "2.5 MB",
        "3.0 GB",
    ]
    assert printable("a\x1b[31m\n\udcffö") == r"a\x1b[31m\n\udcffö"
