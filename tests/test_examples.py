"""The examples run as described. The C example also runs with libc's own functions."""

import http.client
import os
import shutil
import socket
import subprocess
import sys
import wave
from array import array
from concurrent.futures import ThreadPoolExecutor
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


def test_two_processes_hand_a_log_over_and_lose_no_line(tmp_path):
    command = [sys.executable, EXAMPLES / "hand_over.py", tmp_path / "volume"]
    writers = [subprocess.Popen([*command, name, "200"]) for name in ("a", "b")]
    assert [writer.wait(timeout=50) for writer in writers] == [0, 0]
    lines = (tmp_path / "volume" / "log.txt").read_text().splitlines()
    for name in ("a", "b"):
        own = [line for line in lines if line.startswith(name)]
        assert own == [f"{name} {number}" for number in range(1, 201)]
    assert len(lines) == 400


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


# ---- the note store ------------------------------------------------------------------------------


def notes(folder, *arguments):
    done = python("note_store.py", folder / "notes", *arguments)
    return done.stdout if done.returncode == 0 else done.stderr


def test_notes_are_saved_listed_renamed_and_removed(tmp_path):
    assert notes(tmp_path, "list") == ""
    assert notes(tmp_path, "save", "monday", "buy", "milk") == ""
    assert notes(tmp_path, "save", "tuesday", "sleep") == ""
    assert notes(tmp_path, "save", "monday", "buy", "nothing") == ""
    assert notes(tmp_path, "show", "monday") == "buy nothing\n"
    assert notes(tmp_path, "list") == "      12  monday\n       6  tuesday\n"
    assert notes(tmp_path, "rename", "tuesday", "monday") == ""
    assert notes(tmp_path, "show", "monday") == "sleep\n"
    assert notes(tmp_path, "remove", "monday") == ""
    assert notes(tmp_path, "list") == ""
    assert "No such file" in notes(tmp_path, "show", "monday")
    assert "bad name" in notes(tmp_path, "save", "../escape", "text")


def test_notes_are_whole_while_several_processes_save_and_read_one(tmp_path):
    words = [chr(ord("a") + n) * 3000 for n in range(4)]
    command = [sys.executable, str(EXAMPLES / "note_store.py"), str(tmp_path / "notes")]
    notes(tmp_path, "save", "note", words[0] * 3)
    savers = [
        subprocess.Popen([*command, "save", "note", word * 3]) for word in words for _ in range(2)
    ]
    while any(saver.poll() is None for saver in savers):
        text = notes(tmp_path, "show", "note")
        assert text.rstrip("\n") in [word * 3 for word in words]
    assert [saver.returncode for saver in savers] == [0] * 8


# ---- uploads -------------------------------------------------------------------------------------


@pytest.fixture
def address(tmp_path):
    """The host and port of a server of uploads."""
    (tmp_path / "uploads").mkdir()
    server = subprocess.Popen(
        [sys.executable, EXAMPLES / "uploads.py", tmp_path / "uploads"],
        stdout=subprocess.PIPE,
        text=True,
    )
    host, port = server.stdout.readline().strip().rpartition("/")[2].split(":")
    yield host, int(port)
    server.terminate()
    server.wait()
    server.stdout.close()


def asked(address, method, path, body=None):
    connection = http.client.HTTPConnection(*address, timeout=50)
    expects = {"Expect": "100-continue"} if body else {}  # as curl does
    connection.request(method, path, body, expects)
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


def test_uploads_are_served_and_listed(address, tmp_path):
    assert asked(address, "GET", "/") == (200, b"")
    assert asked(address, "GET", "/one") == (404, b"")
    assert asked(address, "PUT", "/one", b"1" * 200_000) == (201, b"")
    assert asked(address, "GET", "/one") == (200, b"1" * 200_000)
    assert asked(address, "PUT", "/two%20words", b"2") == (201, b"")
    assert asked(address, "GET", "/") == (200, b"one\ntwo words\n")
    assert (tmp_path / "uploads" / "two words").read_bytes() == b"2"
    assert asked(address, "GET", "/..%2Fescape") == (400, b"")
    assert asked(address, "GET", "/.aiofs") == (404, b"")


def test_upload_that_breaks_off_changes_nothing(address):
    asked(address, "PUT", "/file", b"whole")
    with socket.create_connection(address, timeout=50) as connection:
        connection.sendall(b"PUT /file HTTP/1.1\r\nContent-Length: 100000\r\n\r\n" + b"half" * 10)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    assert asked(address, "GET", "/file") == (200, b"whole")


def test_no_request_is_refused_and_no_file_torn_while_all_is_replaced(address):
    bodies = [bytes([letter]) * 150_000 for letter in b"abcdefgh"]
    for name in ("/one", "/two"):
        asked(address, "PUT", name, bodies[0])

    def ask(number):
        name = ("/one", "/two")[number // 8 % 2]
        if number % 2:
            return asked(address, "PUT", name, bodies[number % 8]) == (201, b"")
        status, body = asked(address, "GET", name)
        return status == 200 and body in bodies

    with ThreadPoolExecutor(16) as threads:
        assert all(threads.map(ask, range(400)))
