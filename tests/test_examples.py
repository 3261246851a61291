"""The examples run as described. The C example also runs with libc's own functions."""

import os
import shutil
import subprocess
import sys
import wave
from array import array
from pathlib import Path

import pytest
from lock_holder_process import holding
from native import COMPILER, compile_c

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(*command, **options):
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=50, **options
    )


def python(example, *arguments):
    return run(sys.executable, EXAMPLES / example, *arguments)


@pytest.fixture(scope="session")
def copy_in_c(tmp_path_factory):
    if shutil.which(COMPILER[0]) is None:
        pytest.skip("needs a C compiler")
    program = tmp_path_factory.mktemp("examples") / "copy"
    strict = ["-std=gnu11", "-Wall", "-Wextra", "-Werror"]
    compile_c(*strict, "-o", program, EXAMPLES / "copy.c", "-lrt")
    return program


@pytest.mark.parametrize("size", [0, 1, 65536, 200_000])
def test_copy_examples_in_python_and_c_give_the_same_files(copy_in_c, tmp_path, size):
    source = tmp_path / "source"
    source.write_bytes(os.urandom(size))
    commands = {"c": [copy_in_c], "python": [sys.executable, EXAMPLES / "copy.py"]}
    for name, command in commands.items():
        target = tmp_path / name
        target.write_bytes(b"what was there" * 20_000)
        done = run(*command, source, target)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert target.read_bytes() == source.read_bytes()


def test_copy_examples_in_python_and_c_refuse_the_same_arguments(copy_in_c, tmp_path):
    missing, target = tmp_path / "missing", tmp_path / "target"
    for done in (run(copy_in_c, missing, target), python("copy.py", missing, target)):
        assert done.returncode == 1 and "No such file or directory" in done.stderr
    for done in (run(copy_in_c, tmp_path, target), python("copy.py", tmp_path, target)):
        assert done.returncode == 1 and "irectory" in done.stderr
    for done in (run(copy_in_c), python("copy.py")):
        assert done.returncode != 0 and "usage: copy" in done.stderr


def test_copy_uses_the_same_functions_in_both_languages():
    def functions(source):
        text = (EXAMPLES / source).read_text()
        return {
            name
            for name in (
                "aio_read",
                "aio_write",
                "aio_error",
                "aio_suspend",
                "aio_return",
                "aio_cancel",
                "aio_fsync",
                "lio_listio",
            )
            if name in text
        }

    assert functions("copy.py") == functions("copy.c") != set()


def test_plain_descriptor_is_awaited(tmp_path):
    (tmp_path / "file").write_bytes(b"line\n" * 300_000)
    done = python("descriptor.py", tmp_path / "file")
    assert (done.stdout, done.stderr) == ("300000 lines\n", "")


def test_handle_example_is_refused_a_second_handle_and_appends(tmp_path):
    for times in (1, 2):
        done = python("handle.py", tmp_path / "volume")
        assert done.stderr == ""
        refused, *log = done.stdout.splitlines()
        assert "in use" in refused and log == ["one", "two"] * times
        assert (tmp_path / "volume" / "log.txt").read_text() == "one\ntwo\n" * times


RATE = 8000


@pytest.fixture
def song(tmp_path):
    """A volume with a WAV file in it: 40 seconds, each louder than the one before."""
    (tmp_path / "volume").mkdir()
    with wave.open(str(tmp_path / "volume/song.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        for second in range(40):
            file.writeframes(array("h", [second * 800, -second * 800] * (RATE // 2)).tobytes())
    return tmp_path / "volume"


@pytest.mark.parametrize("second", [0, 7, 39, 40, 1000])
def test_media_example_plays_a_file_from_any_second(song, second):
    done = python("media.py", song, "song.wav", second)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["40 seconds"] + [
        f"{number:4}  {'#' * (number * 800 * 60 // 32768)}" for number in range(second, 40)
    ]


def test_media_example_refuses_a_file_that_somebody_changes_or_that_is_none(song):
    with holding(song, "song.wav"):
        done = python("media.py", song, "song.wav")
        assert (done.returncode, done.stderr) == (1, "somebody is changing song.wav\n")
    (song / "text").write_bytes(b"no music here, but enough to read")
    assert python("media.py", song, "text").stderr == "this is no WAV file\n"
