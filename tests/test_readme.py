"""The README: its programs run, its links are valid, its numbers are those of saved results."""

import os
import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from pages import PAGES, ROOT, blocks_of, check_python, headings_of, links_of, run, text_of

README = text_of("README.md")
PROGRAMS = blocks_of("README.md", "python")


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_programs_of_the_readme_print_the_documented_output(program, tmp_path):
    check_python(program, tmp_path)


def test_first_program_prints_its_lines_whenever_the_callback_runs(tmp_path):
    """The first run creates the file. The second finds it, and may write inside the call."""
    program = PROGRAMS[0]
    expected = program.output.splitlines()
    for _ in range(3):
        said = run([sys.executable, "-c", program.source], tmp_path).stdout.splitlines()
        assert sorted(said) == sorted(expected)
        said.remove("written")
        assert said == [line for line in expected if line != "written"]


def test_excerpts_are_those_of_the_examples():
    for language, suffix in ("c", ".c"), ("cython", ".pyx"):
        examples = "".join(path.read_text() for path in (ROOT / "examples").rglob(f"*{suffix}"))
        excerpts = [block.source for block in blocks_of("README.md", language)]
        assert excerpts and all(excerpt in examples for excerpt in excerpts)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page):
    for link, target, heading in links_of(page):
        assert target.exists(), link
        assert not heading or heading in headings_of(target), link


# ---- engines ------------------------------------------------------------------------------------

# Installs a filter that refuses io_uring_setup with ENOSYS, as an old kernel does, and then execs.
WITHOUT_IO_URING = """
import ctypes, os, struct, sys
LOAD, EQUAL, RETURN, ALLOW, ENOSYS = 0x20, 0x15, 0x06, 0x7FFF0000, 0x00050000 | 38
rules = [(LOAD, 0, 0, 0), (EQUAL, 0, 1, 425), (RETURN, 0, 0, ENOSYS), (RETURN, 0, 0, ALLOW)]
filter = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *rule) for rule in rules))
program = struct.pack("HP", len(rules), ctypes.addressof(filter))
prctl = ctypes.CDLL(None, use_errno=True).prctl
NO_NEW_PRIVS, SECCOMP, FILTER = 38, 22, 2
zero = ctypes.c_ulong(0)
done = prctl(NO_NEW_PRIVS, ctypes.c_ulong(1), zero, zero, zero)
done = done or prctl(SECCOMP, ctypes.c_ulong(FILTER), program, zero, zero)
assert done == 0, os.strerror(ctypes.get_errno())
os.execv(sys.argv[1], sys.argv[1:])
"""
NAME = "from aiofs import _core; print(_core.engine())"


def engine_of(folder, word, before=()):
    """The engine of a process with AIOFS_ENGINE=word; None: it cannot start."""
    done = run([*before, sys.executable, "-c", NAME], folder, AIOFS_ENGINE=word)
    assert done.returncode == 0 or "OSError" in done.stderr, done.stderr
    return done.stdout.strip() or None


def test_environment_chooses_the_engine_as_the_table_says(tmp_path):
    section = README.partition("## Engines")[2].partition("## ")[0]
    rows = re.findall(r"^\| `(\w+)`(?:, the default)? \| (.*) \|$", section, re.MULTILINE)
    assert dict(rows) == {
        "auto": "io_uring if the kernel allows it, else threads",
        "io_uring": "io_uring, or an error",
        "threads": "threads",
    }
    kernel = engine_of(tmp_path, "io_uring")
    assert kernel in ("io_uring", None)
    assert engine_of(tmp_path, "auto") == engine_of(tmp_path, "") == (kernel or "threads")
    assert engine_of(tmp_path, "threads") == "threads"


def test_kernel_that_refuses_io_uring_leaves_threads(tmp_path):
    refusing = [sys.executable, "-c", WITHOUT_IO_URING]
    if run([*refusing, sys.executable, "-c", ""], tmp_path).returncode:
        pytest.skip("needs seccomp")
    words = {"auto": "threads", "io_uring": None, "threads": "threads"}
    assert {word: engine_of(tmp_path, word, refusing) for word in words} == words


def test_demo_shows_the_engine(tmp_path):
    (tmp_path / "file").write_text("its contents")
    demo = [sys.executable, "-m", "aiofs", "demo", tmp_path / "file"]
    for word in {engine_of(tmp_path, "auto"), "threads"}:
        environment = {"AIOFS_ENGINE": word, "CC": "no-such-compiler", "PYTHONPATH": str(ROOT)}
        assert f"engine {word}" in run(demo, tmp_path, **environment).stdout


def test_cached_read_completes_inside_the_call_and_a_waiting_read_does_not(tmp_path):
    from aiofs import _core, aio

    def counted(fd, size):
        """The counts of one read: completed inside the call; completed by the reactor."""
        before, cb = _core.counters(), aio.aiocb(fd, bytearray(size))
        aio.aio_read(cb)
        if fd == pipe[0]:
            os.write(pipe[1], b"x")
        aio.aio_suspend([cb])
        assert aio.aio_return(cb) > 0
        changed = {name: count - before[name] for name, count in _core.counters().items()}
        return changed["inline_reads"], changed["ring"] + changed["polled"]

    (tmp_path / "file").write_bytes(bytes(1 << 20))
    fd, pipe = os.open(tmp_path / "file", os.O_RDONLY), os.pipe()
    try:
        for _ in range(1000):  # with little memory the file does not stay cached
            os.pread(fd, 1 << 18, 0)
            if counted(fd, 1 << 18) == (1, 0):
                break
        else:
            raise AssertionError("no cached read of 256 KiB ended inside its call")
        assert counted(fd, (1 << 18) + 1)[0] == 0
        assert counted(pipe[0], 1) == (0, 1)
    finally:
        for number in (fd, *pipe):
            os.close(number)


def test_commands_are_in_the_makefile():
    commands = set(re.findall(r"`make ([a-z-]+)`", README))
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"demo", "test"} <= commands <= targets


def benchmarks_say(program):
    """What a program prints that uses the modules of benchmarks/."""
    done = subprocess.run(
        [sys.executable, "-c", f"from benchmarks import growth_plot, plot, readme\n{program}"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


RENEW = "run python -m benchmarks --readme, or python -m benchmarks.growth --draw"


def test_table_is_made_from_the_saved_results():
    assert (
        benchmarks_say("print(end=readme.filled(readme.README.read_text()))").decode() == README
    ), RENEW


@pytest.mark.parametrize(
    ("page", "module"), [("README.md", "plot"), ("docs/growth.md", "growth_plot")]
)
def test_plot_shows_the_saved_results(page, module):
    (drawn,) = [target for link, target, _ in links_of(page) if link.endswith(".svg")]
    described = "{http://purl.org/dc/elements/1.1/}description"
    description = ElementTree.parse(drawn).getroot().findtext(f".//{described}")
    results = f"readme.saved(readme.ROOT / {str(drawn.with_suffix('.json'))!r})"
    said = benchmarks_say(f"print({module}.described({results}))").decode().strip()
    assert said == description, RENEW

    # The bytes are those that the same matplotlib draws.
    matplotlib = pytest.importorskip("matplotlib")
    if f"Matplotlib v{matplotlib.__version__}," in drawn.read_text():
        draw = f"import sys; sys.stdout.buffer.write({module}.svg({results}))"
        assert benchmarks_say(draw) == drawn.read_bytes(), RENEW


def test_names_that_it_uses_exist():
    import aiofs
    from aiofs import aio

    for name in re.findall(r"`aiofs\.aio\.(\w+)|`aio\.(\w+)", README):
        assert hasattr(aio, "".join(name))
    for name in re.findall(r"`(\w+(?:Volume|Handle|System|Error))\b", README):
        assert hasattr(aiofs, name) or name == "OSError", name
