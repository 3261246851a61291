"""Extension modules in C and in Cython (linking/shared.c, linking/shared.pyx) use aiofs's engine.

They are loaded into a process in which the name aio_read already leads to libc. Both have the same
functions.
"""

import errno
import importlib.util
import os
import shutil
import sys
import sysconfig
from pathlib import Path

import pytest
from native import COMPILER, INCLUDES, SANITIZE, call, compile_c, needs_compiler
from pages import blocks_of, run
from support import eventually, failed

import aiofs
import aiofs.config
from aiofs import FileSystem, PrivateVolume, _core, aio, cli, linking

SOURCES = Path(__file__).parent / "linking"
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")

# ---- where it is, and how that is said -----------------------------------------------------------


def test_config_prints_existing_paths_of_header_and_library():
    assert (Path(aiofs.get_include()) / "aiofs.h").is_file()
    assert (Path(aiofs.get_library_dir()) / "libaiofs.so").is_file()
    mapped = Path("/proc/self/maps").read_text()
    assert os.path.realpath(aiofs.get_library_dir()) + "/libaiofs.so" in mapped


def config(capsys, *options):
    try:
        status = cli.main(["config", *options])
    except SystemExit as stop:
        status = stop.code
    said = capsys.readouterr()
    return status, said.out, said.err


def test_config_prints_a_line_for_each_option_in_their_order(capsys):
    include, library = aiofs.get_include(), aiofs.get_library_dir()
    lines = {
        "--cflags": f"-I{include}\n",
        "--libs": f"-L{library} -Wl,-rpath,{library} -laiofs\n",
        "--preload": f"{library}/libaiofs.so\n",
    }
    for option, line in lines.items():
        assert config(capsys, option) == (0, line, "")
    asked = ["--preload", "--cflags", "--libs"]
    assert config(capsys, *asked) == (0, "".join(map(lines.get, asked)), "")


def test_config_without_options_prints_its_usage(capsys):
    for options in ([], ["--lib"], ["--cflags", "more"]):
        status, out, err = config(capsys, *options)
        assert (status, out) == (2, "") and "usage: aiofs" in err


def test_path_with_a_space_is_quoted_and_cannot_be_preloaded(capsys, monkeypatch):
    monkeypatch.setattr(linking, "_PACKAGE", "/a b/aiofs")
    monkeypatch.setattr(aiofs.config, "_LIBRARY", "/a b/aiofs/libaiofs.so")
    _, cflags, _ = config(capsys, "--cflags")
    assert call("sh", "-c", f"printf %s {cflags}") == "-I/a b/aiofs/include"
    _, libs, _ = config(capsys, "--libs")
    arguments = ["-L/a b/aiofs", "-Wl,-rpath,/a b/aiofs", "-laiofs"]
    assert call("sh", "-c", f"printf '%s\\n' {libs}").splitlines() == arguments
    status, out, err = config(capsys, "--preload")
    assert (status, out) == (1, "") and "/a b/aiofs" in err and "install" in err


@needs_compiler
@pytest.mark.parametrize(
    "language",
    [
        ["-xc", "-std=c99", "-D_POSIX_C_SOURCE=200809L"],
        ["-xc", "-std=gnu17", "-DAIOFS_REPLACE_AIO"],
        ["-xc++", "-std=c++11"],
    ],
    ids=" ".join,
)
def test_header_compiles_alone_without_a_warning(language, tmp_path):
    if "-xc++" in language and shutil.which("g++") is None:
        pytest.skip("needs a C++ compiler")
    source = tmp_path / "source"
    source.write_text("#include <aiofs.h>\nint (*const closes)(int) = aiofs_close;\n")
    strict = ["-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only"]
    compiler = "g++" if "-xc++" in language else COMPILER[0]
    call(compiler, *language, *strict, f"-I{aiofs.get_include()}", source)


@pytest.mark.skipif(shutil.which("musl-gcc") is None, reason="needs musl-gcc")
def test_private_fields_of_an_aiocb_fit_in_musls_aiocb(tmp_path):
    source = tmp_path / "layout.c"
    source.write_text('#include "control.h"\n')
    call("musl-gcc", "-std=gnu11", "-fsyntax-only", *INCLUDES, source)


# ---- which <aio.h> a program gets ----------------------------------------------------------------

(HELLO,) = (b.source for b in blocks_of("docs/porting.md", "c") if "int main(" in b.source)


@pytest.fixture
def hello(tmp_path):
    """hello(before, behind): compiles the C program of docs/porting.md.

    The flags are before and behind the source in the command.
    """

    def built(before=(), behind=()):
        (tmp_path / "hello.c").write_text(HELLO)
        before = ["-pthread", *SANITIZE, *before]  # the flags of libaiofs.so
        compile_c(*before, tmp_path / "hello.c", "-o", tmp_path / "hello", *behind)
        return tmp_path / "hello"

    return built


def uses_aiofs(program, **environment):
    """Does the program use aiofs? Only aiofs fails if AIOFS_ENGINE has an unknown value."""
    done = run([program], program.parent, **environment)
    assert (done.returncode, done.stdout) == (0, "Hello, world!\n"), done
    return run([program], program.parent, AIOFS_ENGINE="none", **environment).returncode != 0


@needs_compiler
def test_check_of_a_program_with_the_flags_behind_its_source(hello, capsys):
    program = hello(behind=aiofs.config.libs().split())
    library = f"{aiofs.get_library_dir()}/libaiofs.so"
    said = f"{program}: <aio.h> is aiofs's, {library}\n"
    assert config(capsys, "--check", str(program)) == (0, said, "")
    assert uses_aiofs(program)


@needs_compiler
@pytest.mark.parametrize("before", ["", "-Wl,--as-needed -I. LIBS", "-lc LIBS"])
def test_check_of_a_program_with_libcs_aio_says_what_to_do(hello, capsys, before):
    flags = ["-Wl,--as-needed", *before.replace("LIBS", aiofs.config.libs()).split()]
    program = hello(before=flags)
    status, out, err = config(capsys, "--check", str(program))
    assert (status, err) == (1, "")
    assert "<aio.h> is the C library's, /" in out and "behind the source" in out
    assert not uses_aiofs(program)


@needs_compiler
@pytest.mark.skipif(bool(SANITIZE), reason="a sanitized library cannot be preloaded alone")
def test_check_considers_ld_preload(hello, capsys, monkeypatch):
    program = hello()
    monkeypatch.setenv("LD_PRELOAD", aiofs.config.preload())
    assert config(capsys, "--check", str(program))[0] == 0
    assert uses_aiofs(program)


@needs_compiler
def test_check_of_a_program_whose_runpath_leads_nowhere(hello, capsys, tmp_path):
    program = hello(behind=[f"-L{aiofs.get_library_dir()}", "-laiofs", "-Wl,-rpath,/nowhere"])
    status, out, err = config(capsys, "--check", str(program))
    assert (status, err) == (1, "")
    assert "cannot start" in out and "libaiofs.so" in out and "RUNPATH" in out
    assert run([program], tmp_path).returncode != 0


def test_check_of_a_program_without_aio_or_a_missing_program(capsys, tmp_path):
    status, out, err = config(capsys, "--check", "true")
    assert (status, err) == (1, "") and "uses no function of <aio.h>" in out
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    for program in str(script), str(tmp_path / "missing"), str(tmp_path):
        status, out, err = config(capsys, "--check", program)
        assert (status, out) == (2, "") and program in err
    assert config(capsys, "--check", "true", "--libs")[0] == 2


# ---- one engine, one table of locks -------------------------------------------------------------


def build_c(folder):
    target = folder / f"shared_c{SUFFIX}"
    python = sysconfig.get_paths()["include"]
    flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-I{python}"]
    ours = [aiofs.config.cflags(), *aiofs.config.libs().split()]
    compile_c(*flags, SOURCES / "shared.c", *ours, "-o", target)
    return target


def build_cython(folder):
    pytest.importorskip("Cython")
    source, target = folder / "shared_cython.c", folder / f"shared_cython{SUFFIX}"
    package = Path(aiofs.__file__).parent.parent
    cython = [sys.executable, "-m", "cython", "-3", "-Wextra", "-Werror", "-I", package]
    call(*cython, SOURCES / "shared.pyx", "-o", source, "--module-name", "shared_cython")
    python = sysconfig.get_paths()["include"]
    flags = ["-O0", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-I{python}"]
    ours = [aiofs.config.cflags(), *aiofs.config.libs().split()]
    compile_c(*flags, source, *ours, "-o", target)
    return target


@pytest.fixture(scope="session", params=[build_c, build_cython], ids=["c", "cython"])
def extension(request, tmp_path_factory):
    """An extension module with one request. It also opens files of volumes."""
    if shutil.which(COMPILER[0]) is None:
        pytest.skip("needs a C compiler")
    path = request.param(tmp_path_factory.mktemp("linking"))
    spec = importlib.util.spec_from_file_location(path.name.partition(".")[0], path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_extension_module_uses_the_engine_of_the_process(extension, pipe):
    before = _core.counters()
    assert extension.read(pipe[0]) == 0
    assert extension.error() == errno.EINPROGRESS
    assert _core.counters()["outstanding"] == before["outstanding"] + 1
    os.write(pipe[1], b"0123456789abcdef")
    assert extension.suspend() == 0
    assert (extension.error(), extension.result()) == (0, (16, b"0123456789abcdef"))
    assert _core.counters()["polled"] + _core.counters()["ring"] > before["polled"] + before["ring"]


def test_request_of_an_extension_is_cancelled_by_python(extension, pipe):
    extension.read(pipe[0])
    assert aio.aio_cancel(pipe[0]) == aio.AIO_CANCELED
    assert extension.error() == errno.ECANCELED
    assert extension.result()[0] == -1


def test_request_of_python_is_cancelled_by_an_extension(extension, pipe):
    cb = aio.aiocb(pipe[0], bytearray(1))
    aio.aio_read(cb)
    assert extension.cancel(pipe[0]) == aio.AIO_CANCELED
    assert aio.aio_error(cb) == errno.ECANCELED


def test_requests_of_both_on_one_pipe_are_in_the_order_of_the_calls(extension, pipe):
    buffer = bytearray(16)
    cb = aio.aiocb(pipe[0], buffer)
    aio.aio_read(cb)
    extension.read(pipe[0])
    os.write(pipe[1], b"python's        extension's     ")
    assert aio.aio_suspend([cb]) == extension.suspend() == 0
    assert (buffer, extension.result()[1]) == (b"python's        ", b"extension's     ")


def test_extension_is_refused_a_file_locked_by_python(extension, tmp_path):
    directory = os.fsencode(tmp_path / "volume")
    with PrivateVolume(tmp_path / "volume") as volume, FileSystem() as fs:
        fs.mount("/", volume)
        with fs.create_sync_access_handle("/file", create=True):
            failed(errno.EBUSY, extension.open, directory, b"file", os.O_RDWR)
            extension.close(extension.open(directory, b"file", os.O_RDONLY))
        fd = extension.open(directory, b"file", os.O_RDWR)
        with pytest.raises(aiofs.NoModificationAllowedError):
            fs.create_sync_access_handle("/file")
        failed(errno.EBUSY, fs.open, "/file", os.O_WRONLY)
        extension.close(fd)
        fs.create_sync_access_handle("/file").close()


def test_extension_cannot_close_what_python_opened(extension, tmp_path):
    with PrivateVolume(tmp_path / "volume") as volume, FileSystem() as fs:
        fs.mount("/", volume)
        with fs.create_sync_access_handle("/file", create=True) as handle:
            failed(errno.EBADF, extension.close, handle.fileno())
            assert handle.write(b"still open", at=0) == 10


def test_python_uses_what_an_extension_opened(extension, tmp_path):
    directory = os.fsencode(tmp_path / "volume")
    fd = extension.open(directory, b"file", os.O_RDWR | os.O_CREAT)
    cb = aio.aiocb(fd, b"by python")
    aio.aio_write(cb)
    aio.aio_suspend([cb])
    assert aio.aio_return(cb) == 9
    extension.read(fd)
    assert extension.suspend() == 0 and extension.result() == (9, b"by python")
    extension.close(fd)
    failed(errno.EBADF, extension.close, fd)
    eventually(lambda: _core.counters()["outstanding"] == 0)
