"""`aiofs run`: the environment of the program, and the arguments that are refused."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from running import COMMAND, COMPILER, PACKAGE, ROOT, compile_c, run, unsanitized


def program_in(folder, *flags):
    """Makes a program that does nothing."""
    source = folder / "program.c"
    source.write_text("int main(void) { return 0; }\n")
    return compile_c(source, folder / "program", *flags)


# ---- the program has everything to itself -------------------------------------------------------


@pytest.mark.parametrize("status", [0, 1, 2, 77, 127, 255])
def test_run_returns_the_exit_status_of_the_program(status):
    assert run("sh", "-c", f"exit {status}").returncode == status


@unsanitized
@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_run_dies_by_the_signal_that_killed_the_program(signal_number):
    assert run("sh", "-c", f"kill -{int(signal_number)} $$").returncode == -signal_number


def test_signal_sent_to_the_command_reaches_the_program():
    program = "trap 'echo caught; exit 5' USR1; echo ready; while :; do read line; done"
    with subprocess.Popen(
        [*COMMAND, "sh", "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout.readline() == "ready\n"
        running.send_signal(signal.SIGUSR1)
        said, _ = running.communicate("\n", timeout=60)  # it may exit before it reads
        assert (said, running.returncode) == ("caught\n", 5)


def test_program_gets_the_signal_dispositions_of_a_run_without_aiofs():
    """Python ignores SIGPIPE and SIGXFSZ. The program must not inherit that."""
    program = ["grep", "Sig[BIC]", "/proc/self/status"]
    without = subprocess.run(program, capture_output=True, text=True).stdout
    assert "SigIgn" in without and run(*program).stdout == without


def test_program_inherits_the_standard_streams():
    done = run("sh", "-c", "cat; echo wrong >&2", stdin=None, input="line\n")
    assert (done.stdout, done.stderr) == ("line\n", "wrong\n")


@pytest.mark.parametrize("separator", [["--"], []])
def test_arguments_after_the_program_are_its_own(separator):
    arguments = ["-n", "--engine", "x", "--", "--help", "", "a b", "--volume=/"]
    done = run(*separator, "printf", "<%s>", *arguments)
    assert done.stdout == "".join(f"<{argument}>" for argument in arguments)


def test_arguments_that_are_not_text_arrive():
    done = run("printf", "%s", os.fsdecode(b"\xff\xfe"), text=False)
    assert done.stdout == b"\xff\xfe"


@unsanitized
def test_program_gets_the_environment_plus_ld_preload_only():
    given = {"PATH": os.environ["PATH"], "ONE": "1", "LANG": "C"}
    done = run("env", env=given | {"PYTHONPATH": str(PACKAGE.parent)})
    got = dict(line.split("=", 1) for line in done.stdout.splitlines())
    preload = {"LD_PRELOAD": str(PACKAGE / "libaiofs.so")}
    assert got == given | {"PYTHONPATH": str(PACKAGE.parent)} | preload


@unsanitized
def test_earlier_ld_preload_entries_stay_after_the_library():
    (libc,) = (
        line.split()[-1]
        for line in Path("/proc/self/maps").read_text().splitlines()
        if line.endswith(("/libc.so.6", "/libc-2.31.so")) and " 00000000 " in line
    )
    done = run("printenv", "LD_PRELOAD", env=os.environ | {"LD_PRELOAD": libc})
    assert done.stdout == f"{PACKAGE / 'libaiofs.so'}:{libc}\n"


def test_runtime_of_a_sanitizer_stays_first(tmp_path):
    program = compile_c(ROOT / "examples" / "copy.c", tmp_path / "copy", "-fsanitize=address")
    sanitizer = subprocess.run(
        [*COMPILER, "-print-file-name=libasan.so"], capture_output=True, text=True
    ).stdout.strip()
    if "/" not in sanitizer:
        pytest.skip("needs AddressSanitizer")
    environment = os.environ | {"LD_PRELOAD": sanitizer, "ASAN_OPTIONS": "detect_leaks=0"}
    done = run(program, ROOT / "README.md", tmp_path / "to", env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "to").read_bytes() == (ROOT / "README.md").read_bytes()


def test_program_gets_the_chosen_engine():
    done = run("--engine", "threads", "printenv", "AIOFS_ENGINE")
    assert done.stdout == "threads\n"


def test_program_inherits_the_working_directory_and_other_descriptors(tmp_path):
    with open(tmp_path / "log", "w") as log:
        number = log.fileno()
        done = run(
            *("sh", "-c", f"pwd; echo said >/proc/self/fd/{number}; ls /proc/$$/fd"),
            cwd=tmp_path,
            pass_fds=[number],
            env=os.environ | {"PYTHONPATH": str(PACKAGE.parent)},
        )
    cwd, *descriptors = done.stdout.split()
    assert cwd == str(tmp_path)
    assert set(map(int, descriptors)) == {0, 1, 2, number}
    assert (tmp_path / "log").read_text() == "said\n"


def test_script_without_an_interpreter_line_is_run_by_sh(tmp_path):
    script = tmp_path / "script"
    script.write_text('echo "shell $1"\n')
    script.chmod(0o755)
    assert run(script, "here").stdout == "shell here\n"


def test_program_is_found_on_path_as_a_shell_would(tmp_path):
    for folder, mode in ("first", 0o644), ("second", 0o755):
        program = tmp_path / folder / "greet"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\necho {folder}\n")
        program.chmod(mode)
    path = f"{tmp_path / 'first'}:{tmp_path / 'second'}:{os.environ['PATH']}"
    assert run("greet", env=os.environ | {"PATH": path}).stdout == "second\n"


# ---- what is refused -----------------------------------------------------------------------------


def refused(status, *arguments, **options):
    done = run(*arguments, **options)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith("aiofs run: ") and done.stderr.count("\n") == 1
    return done.stderr


@pytest.mark.parametrize("name", ["no-such-program", "./no-such-program", ""])
def test_missing_program_is_status_127(name):
    assert f"{name}: no" in refused(127, name)


def test_program_without_execute_permission_is_refused(tmp_path):
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    assert "is not executable" in refused(126, program)
    assert "is a directory" in refused(126, tmp_path)


def test_script_with_a_missing_interpreter_is_refused(tmp_path):
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    assert "interpreter" in refused(127, script)


@pytest.mark.parametrize("flag", ["-static", "-static-pie"])
def test_static_program_and_script_of_a_static_interpreter_are_refused(tmp_path, flag):
    program = program_in(tmp_path, "-static", flag)
    assert "statically linked" in refused(2, program)
    script = tmp_path / "script"
    script.write_text(f"#! {program} -x\n")
    script.chmod(0o755)
    assert "statically linked" in refused(2, script)


def test_program_for_another_machine_is_refused(tmp_path):
    program = program_in(tmp_path)
    image = bytearray(program.read_bytes())
    image[18:20] = (0xF00D).to_bytes(2, sys.byteorder)
    program.write_bytes(image)
    assert "another kind of machine" in refused(2, program)


def test_program_for_another_libc_is_refused(tmp_path):
    program = program_in(tmp_path, "-Wl,--dynamic-linker=/lib/ld-other.so.1")
    assert "another C library" in refused(2, program)


@pytest.mark.parametrize("bit", [stat.S_ISUID, stat.S_ISGID])
def test_setuid_or_setgid_program_is_refused(tmp_path, bit):
    program = program_in(tmp_path)
    try:
        os.chown(program, os.getuid() + 1, os.getgid() + 1)
    except PermissionError:
        pytest.skip("needs a file of another user")
    program.chmod(0o755 | bit)
    assert "rights of its own" in refused(2, program)


def test_unknown_engine_is_refused():
    assert "AIOFS_ENGINE=steam" in refused(2, "true", env=os.environ | {"AIOFS_ENGINE": "steam"})
    done = run("--engine", "steam", "true")
    assert done.returncode == 2 and "--engine" in done.stderr


def test_volume_without_a_name():
    assert "--volume is ''" in refused(2, "--volume", "", "true")


@pytest.mark.parametrize("arguments", [[], ["--"], ["--engine"], ["--speed", "true"]])
def test_misuse_is_status_2(arguments):
    done = run(*arguments)
    assert done.returncode == 2 and "usage: aiofs" in done.stderr
