"""`aiofs run --volume`: which calls lock a file, and which calls release the lock.

The program is tests/run/steps.c. A file is locked if a FileSystem of this process cannot open it.
"""

import os
import shutil
import subprocess

import pytest
from running import compile_c, locked, outside_holds, run_in, session, unsanitized

from aiofs import FileSystem, PrivateVolume

# ---- every open ----------------------------------------------------------------------------------

OPENS = ["open", "open64", "openat", "openat64", "creat", "creat64"]
FORTIFIED = ["__open_2", "__open64_2", "__openat_2", "__openat64_2"]
STREAMS = ["fopen", "fopen64", "freopen", "freopen64"]
TEMPORARIES = ["mkstemp", "mkstemp64", "mkostemp", "mkostemp64"]
WITH_SUFFIX = ["mkstemps", "mkstemps64", "mkostemps", "mkostemps64"]


@pytest.mark.parametrize("how", OPENS + FORTIFIED + STREAMS)
def test_file_opened_for_writing_is_locked_until_close(steps, folder, outside, how):
    close = "fclose" if how in STREAMS else "close"
    with session(folder, steps, f"{how}=file", "say", f"{close}=$", "say") as running:
        running.here()
        assert locked(outside)
        running.go_on()
        assert running.here() == [f"{close} 0"]
        assert not locked(outside)


@pytest.mark.parametrize("how", ["open", "fopen"])
def test_lock_goes_with_its_file_where_the_closing_thread_is_cancelled(steps, folder, outside, how):
    with session(folder, steps, f"{how}=file", "cancelled_close=$", "say") as running:
        assert running.here()[-1] == "cancelled_close 1"
        assert not locked(outside)


@pytest.mark.parametrize("how", OPENS + FORTIFIED + STREAMS)
def test_file_locked_by_another_program_is_refused_and_unchanged(steps, folder, outside, how):
    with outside_holds(outside, "file"):
        assert run_in(folder, steps, f"{how}=file")[-1] == f"{how} EBUSY"
    assert (folder / "file").read_text() == "old bytes"


@pytest.mark.parametrize("how", TEMPORARIES + WITH_SUFFIX)
def test_temporary_file_is_locked_until_closed(steps, folder, outside, how):
    suffix = ".c" if how in WITH_SUFFIX else ""
    with session(folder, steps, f"{how}=a-XXXXXX{suffix}", "say", "close=$", "say") as running:
        running.here()
        (made,) = folder.glob(f"a-??????{suffix}")
        assert "X" * 6 not in made.name and made.stat().st_mode & 0o777 == 0o600
        assert locked(outside, made.name)
        running.go_on()
        running.here()
        assert not locked(outside, made.name)


def test_mkstemp_template_without_room_is_refused(steps, folder):
    steps_of = [steps, "mkstemp=XXXXX", "mkstemps=XXXXXX", "mkstemp=aXXXXXXb"]
    assert run_in(folder, *steps_of) == ["mkstemp EINVAL", "mkstemps EINVAL", "mkstemp EINVAL"]


def test_file_is_not_made_where_its_lock_is_refused(steps, folder, outside):
    with outside_holds(outside, "file"):
        (folder / "file").unlink()
        assert run_in(folder, steps, "creat=file", "exclusive=file") == [
            "creat EBUSY",
            "exclusive EBUSY",
        ]
        assert not (folder / "file").exists()


def test_fortified_program_takes_locks(folder, outside, tmp_path):
    source = tmp_path / "fortified.c"
    source.write_text(
        "#include <fcntl.h>\n#include <stdio.h>\n#include <unistd.h>\n"
        "int main(int argc, char **argv) {\n"
        "    (void)argc;\n"
        "    int flags = argv[2] ? O_RDWR : O_RDONLY;\n"
        '    printf("%d\\n", open(argv[1], flags));\n'
        '    puts("here"); fflush(stdout); getchar(); return 0; }\n'
    )
    program = compile_c(source, tmp_path / "fortified", "-O2", "-D_FORTIFY_SOURCE=2")
    if shutil.which("nm"):
        assert "__open_2" in subprocess.run(["nm", program], capture_output=True, text=True).stdout
    with session(folder, program, "file", "write") as running:
        running.here()
        assert locked(outside)
    with session(folder, program, "file") as running:
        running.here()
        assert not locked(outside)


@unsanitized
def test_file_opened_in_a_signal_handler_with_a_small_stack(steps, folder, outside):
    with session(folder, steps, "handler=file", "say") as running:
        assert running.here() == ["handler 3"]
        assert locked(outside)


def test_new_descriptor_has_the_lowest_number(steps, folder):
    assert run_in(folder, steps, "open=file", "fopen=other", "close=3", "mkstemp=XXXXXX") == [
        "open 3",
        "fopen 4",
        "close 0",
        "mkstemp 3",
    ]


# ---- what takes no lock --------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["readonly", "reader"])
def test_file_opened_for_reading_is_not_locked_and_never_refused(steps, folder, outside, how):
    with session(folder, steps, f"{how}=file", "say") as running:
        running.here()
        assert not locked(outside)
    with outside_holds(outside, "file"):
        assert run_in(folder, steps, f"{how}=file") == [f"{how} 3"]


def test_read_only_open_with_o_trunc_takes_the_lock_during_the_open(steps, folder, outside):
    with outside_holds(outside, "file"):
        assert run_in(folder, steps, "cut=file") == ["cut EBUSY"]
    assert (folder / "file").read_text() == "old bytes"
    with session(folder, steps, "cut=file", "say") as running:
        assert running.here() == ["cut 3"]
        assert not locked(outside)
    assert (folder / "file").read_text() == ""


def test_errors_and_special_files_are_those_of_a_run_without_aiofs(steps, folder, tmp_path):
    plain = tmp_path / "plain"
    for each in plain, folder:
        (each / "directory").mkdir(parents=True)
        os.mkfifo(each / "fifo")
        (each / "file").write_text("old bytes")
    program = [
        *(steps, f"open={tmp_path / 'elsewhere'}", "keep=fifo", "open=directory", "open=/dev/null"),
        *("keep=missing/file", "open=file/below", "open=", "nofollow=missing", "exclusive=file"),
        *("open=/proc/self/nothing", "open=.", "open=..", "open=file/", "open=" + "x" * 256),
        *("open=" + "x/" * 3000, "keep=directory/", "readonly=directory", "fopen=missing/file"),
        *("close=99", "use=99", "dup", "dup2=5", "close_one=99", "mkstemp=missing/XXXXXX"),
    ]
    expected = subprocess.run(program, cwd=plain, capture_output=True, text=True).stdout
    assert "ENAMETOOLONG" in expected and run_in(folder, *program) == expected.splitlines()


def test_o_excl_of_a_locked_file_is_eexist(steps, folder, outside):
    with outside_holds(outside, "file"):
        assert run_in(folder, steps, "exclusive=file") == ["exclusive EEXIST"]


def test_reserved_files_of_the_volume_cannot_be_written(steps, folder, outside):
    names = [".aiofs/locks/00", ".aiofs/volume", ".aiofs", "./.aiofs/../.aiofs/volume"]
    answers = run_in(folder, steps, *(f"keep={name}" for name in names))
    assert answers == ["keep ENOENT"] * len(names)


# ---- which entry ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "./file",
        "directory/../file",
        "link",
        "directory/up/file",
        "{folder}/file",
        "//{folder}//link",
    ],
)
def test_lock_is_on_the_resolved_path(steps, folder, outside, path):
    (folder / "directory").mkdir()
    (folder / "directory" / "up").symlink_to("..")
    (folder / "link").symlink_to("directory/../file")
    with session(folder, steps, f"keep={path.format(folder=folder)}", "say") as running:
        assert running.here() == ["keep 3"]
        assert locked(outside)


def test_symbolic_link_from_outside_leads_to_a_locked_file(steps, folder, outside, tmp_path):
    (tmp_path / "link").symlink_to(folder / "new")
    with session(folder, steps, f"open={tmp_path / 'link'}", "say") as running:
        assert running.here() == ["open 3"]
        assert (folder / "new").exists() and locked(outside, "new")


def test_looping_link_is_eloop_and_dangling_link_creates_its_target(steps, folder, tmp_path):
    (folder / "loop").symlink_to("loop")
    (folder / "out").symlink_to(tmp_path / "elsewhere")
    assert run_in(folder, steps, "open=loop", "nofollow=out", "open=out") == [
        "open ELOOP",
        "nofollow ELOOP",
        "open 3",
    ]
    assert (tmp_path / "elsewhere").exists()


def test_reopening_a_descriptor_through_proc_takes_the_lock_of_its_file(steps, folder, outside):
    answers = ["readonly 3", "keep 4", "close 0"]
    with session(
        folder, *(steps, "readonly=file", "keep=/proc/self/fd/3", "close=3", "say")
    ) as running:
        assert running.here() == answers
        assert locked(outside)


def test_reopening_a_deleted_file_through_proc_creates_no_entry(steps, folder, outside):
    program = [steps, "readonly=file", "unlink=file", "keep=/proc/self/fd/3", "say"]
    with session(folder, *program) as running:
        assert running.here() == ["readonly 3", "unlink 0", "keep 4"]
        assert sorted(os.listdir(folder)) == [".aiofs"]


def test_relative_paths_inside_the_volume_are_locked(steps, folder, outside):
    (folder / "directory").mkdir()
    with session(folder, steps, "chdir=directory", "open=new", "say") as running:
        running.here()
        assert locked(outside, "directory/new")


def test_files_of_a_second_volume_are_locked(steps, folder, tmp_path):
    other = tmp_path / "other"
    program = [steps, f"open={folder}/file", f"open={other}/file", "say"]
    with (
        session(folder, "--volume", other, *program) as running,
        PrivateVolume(folder) as first,
        PrivateVolume(other) as second,
        FileSystem() as filesystem,
    ):
        running.here()
        filesystem.mount("/first", first)
        filesystem.mount("/second", second)
        assert locked(filesystem, "/first/file") and locked(filesystem, "/second/file")


def test_files_of_a_renamed_volume_are_locked(steps, folder, tmp_path):
    moved = tmp_path / "moved"
    with session(folder, steps, "say", "open=file", "say") as running:
        running.here()
        folder.rename(moved)
        running.go_on()
        assert running.here() == ["open 3"]
        with PrivateVolume(moved) as volume, FileSystem() as filesystem:
            filesystem.mount("/", volume)
            assert locked(filesystem)


# ---- every close ---------------------------------------------------------------------------------

COPIES = ["dup", "dup2=40", "dup3=40", "F_DUPFD=40", "F_DUPFD_CLOEXEC=40", "fcntl64=40"]


@pytest.mark.parametrize("copy", COPIES)
def test_lock_lasts_until_the_last_copy_is_closed(steps, folder, outside, copy):
    program = [steps, "open=file", copy, "close=3", "say", "close=$", "say"]
    with session(folder, *program) as running:
        running.here()
        assert locked(outside)
        running.go_on()
        running.here()
        assert not locked(outside)


CLOSES = ["close=3", "close_range=3", "close_one=3", "closefrom=3", "close_each=3", "over=3"]


@pytest.mark.parametrize("close", CLOSES)
def test_closing_any_way_releases_the_lock(steps, folder, outside, close):
    """A later open locks the file again: the close left the descriptors that locks need."""
    with session(
        folder, steps, "open=file", close, "say", "keep=other", "keep=file", "say"
    ) as running:
        running.here()
        assert not locked(outside)
        running.go_on()
        running.here()
        assert locked(outside) and locked(outside, "other")


def test_close_range_leaves_descriptors_outside_the_range(steps, folder, outside):
    with session(folder, steps, "open=file", "open=other", "close_one=4", "say") as running:
        running.here()
        assert locked(outside) and not locked(outside, "other")


def test_dup2_over_a_descriptor_releases_its_lock(steps, folder, outside):
    program = [
        steps,
        "open=file",
        "open=other",
        "dup2=3",
        "say",
        "close=4",
        "say",
        "close=3",
        "say",
    ]
    with session(folder, *program) as running:
        running.here()
        assert not locked(outside) and locked(outside, "other")
        running.go_on()
        running.here()
        assert locked(outside, "other")
        running.go_on()
        running.here()
        assert not locked(outside, "other")


def test_failed_dup2_keeps_both_locks(steps, folder, outside):
    program = [steps, "open=file", "use=77", "dup2=3", "dup2=-1", "close=77", "say"]
    with session(folder, *program) as running:
        assert running.here() == ["open 3", "dup2 EBADF", "dup2 EBADF", "close EBADF"]
        assert locked(outside)


def test_program_cannot_close_the_descriptors_of_aiofs(steps, folder, outside):
    with session(folder, steps, "open=file", "say", "open=other", "say") as running:
        running.here()
        descriptors = os.listdir(f"/proc/{running.process.pid}/fd")
        hidden = [number for number in map(int, descriptors) if number > 3]
        assert len(hidden) == 2
    for number in hidden:
        program = [f"close={number}", f"over={number}", f"use={number}", "dup", "dup2=5"]
        answers = run_in(folder, steps, "open=file", *program, "F_DUPFD=5")
        assert answers == [
            "open 3",
            *("close EBADF", "over EBADF", "dup EBADF", "dup2 EBADF", "F_DUPFD EBADF"),
        ]


def test_freopen_releases_the_lock_of_the_old_file(steps, folder, outside):
    with session(folder, steps, "fopen=file", "freopen=other", "say", "fclose", "say") as running:
        running.here()
        assert not locked(outside) and locked(outside, "other")
        running.go_on()
        running.here()
        assert not locked(outside, "other")


def test_freopen_without_a_path_holds_the_lock_only_in_a_writing_mode(steps, folder, outside):
    with session(
        folder, *(steps, "reader=file", "freopen_null=r+", "say", "freopen_null=r", "say")
    ) as running:
        running.here()
        assert locked(outside)
        running.go_on()
        running.here()
        assert not locked(outside)


def test_refused_stream_is_closed(steps, folder, outside):
    with (
        outside_holds(outside, "file"),
        session(folder, steps, "fopen=other", "freopen=file", "say") as running,
    ):
        assert running.here() == ["fopen 3", "freopen EBUSY"]
        assert not locked(outside, "other")
        assert "3" not in os.listdir(f"/proc/{running.process.pid}/fd")


def test_lock_left_by_an_unseen_close_is_released_at_the_next_open(steps, folder, outside):
    program = [steps, "open=file", "unseen_close=3", "say", "open=other", "say", "close=3", "say"]
    with session(folder, *program) as running:
        running.here()
        running.go_on()
        assert running.here() == ["open 3"]
        assert not locked(outside) and locked(outside, "other")
        running.go_on()
        running.here()
        assert not locked(outside, "other")
