"""`aiofs doctor`: what this machine allows, and what it costs if something is missing.

The command makes each system call; it does not look at version numbers (but for RLIMIT_MEMLOCK,
whose meaning depends on the kernel's version). A system call that a sandbox may forbid is made in a
child process, because some sandboxes kill the process that makes it. docs/engines.md explains the
answers.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import mmap
import os
import platform
import re
import resource
import signal
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from aiofs import _core

__all__ = ["main"]

PLACES = (".", "/tmp", "/dev/shm")
PAGE = mmap.PAGESIZE

# The same on every processor but kcmp's.
IO_URING_SETUP, IO_URING_ENTER, IO_URING_REGISTER = 425, 426, 427
PIDFD_OPEN, PIDFD_GETFD, CACHESTAT = 434, 438, 451
KCMP = {"x86_64": 312}.get(platform.machine(), 272)
KCMP_FILE, IORING_REGISTER_PROBE = 0, 8
FLOCK = "hhqqi0q"  # struct flock

_libc = ctypes.CDLL(None, use_errno=True)


class Finding(NamedTuple):
    """The answer to one question."""

    subject: str  # "io_uring", "limits", a directory, ...
    name: str
    good: bool | None  # None: information only
    detail: str
    cost: str = ""  # what its lack costs


def main(directories: Sequence[str], as_json: bool) -> int:
    findings = [*of_kernel(), *of_limits()]
    for directory in dict.fromkeys(directories or filter(os.path.isdir, PLACES)):
        findings += of_directory(directory)
    findings += of_engine()  # last, because it starts threads, and the others fork
    if as_json:
        print(json.dumps([finding._asdict() for finding in findings], indent=2))
        return 0
    subject = None
    for finding in findings:
        if finding.subject != subject:
            subject = finding.subject
            print(subject)
        mark = {True: "yes", False: "NO", None: "   "}[finding.good]
        print(f"  {finding.name:<22}{mark:<4} {finding.detail}".rstrip())
        if finding.cost:
            print(f"  {'':<22}     {finding.cost}")
    return 0


# ---- trying -------------------------------------------------------------------------------------


def system_call(number: int, *arguments: object) -> int:
    """Makes a system call and returns its result; raises OSError for an error."""
    ctypes.set_errno(0)
    known = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    returned = int(_libc.syscall(ctypes.c_long(number), *known))
    if returned < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return returned


def tried(action: Callable[[], object]) -> str:
    """Runs `action` in a child process. Returns "", or the name of its errno or fatal signal."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            action()
        except OSError as error:
            os.write(write_end, errno.errorcode.get(error.errno or 0, str(error)).encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with open(read_end) as answer:
        met = answer.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return met


def answer(subject: str, name: str, met: str, cost: str, why: str = "") -> Finding:
    if not met:
        return Finding(subject, name, True, "")
    return Finding(subject, name, False, f"{met}{': ' if why else ''}{why}", cost)


# ---- the kernel ---------------------------------------------------------------------------------


def of_kernel() -> Iterator[Finding]:
    seccomp = {"0": "none", "1": "strict", "2": "a filter"}
    yield Finding("machine", "kernel", None, f"{platform.release()}, {platform.machine()}")
    yield Finding("machine", "processors", None, str(len(os.sched_getaffinity(0))))
    yield Finding("machine", "seccomp", None, seccomp.get(status_of("Seccomp"), "unknown"))
    yield Finding("io_uring", "io_uring_disabled", None, disabled_in_words())
    for name, action in (
        ("io_uring_setup", new_ring),
        ("io_uring_register", register_probe),
        ("io_uring_enter", enter_ring),
    ):
        met = tried(action)
        cost = (
            "The engine is `threads`: each running read of a device occupies a thread, and fewer "
            "requests are with a device at the same time."
        )
        yield answer("io_uring", name, met, cost, reason_of(met))
    yield answer(
        *("system calls", "cachestat", tried(ask_cachestat)),
        "A write to several cached pages goes to a worker thread; it is not made inside the call.",
    )
    yield answer(
        *("system calls", "pidfd_getfd", tried(get_descriptor)),
        "If the program closes a descriptor of the engine, the engine cannot get it back: "
        "requests are refused (EAGAIN).",
    )
    yield answer(
        *("system calls", "kcmp", tried(compare_descriptors)),
        "aiofs cannot ask whether a number still leads to the same open file, and sends the file "
        "to the engine again.",
    )


def status_of(field: str) -> str:
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return value.strip()
    return ""


def disabled_in_words() -> str:
    try:
        value = Path("/proc/sys/kernel/io_uring_disabled").read_text().strip()
    except OSError:
        return "this kernel has no such setting"
    meaning = {
        "0": "0: every process may use io_uring",
        "1": "1: only processes with CAP_SYS_ADMIN or in the group kernel.io_uring_group",
        "2": "2: no process may use io_uring",
    }
    return f"kernel.io_uring_disabled = {meaning.get(value, value)}"


def reason_of(met: str) -> str:
    if met == "ENOSYS":
        return "the kernel has no io_uring (before Linux 5.1), or a seccomp filter forbids it"
    if met in ("EPERM", "EACCES"):
        if disabled_in_words().split(" = ")[-1].startswith(("1", "2")):
            return "kernel.io_uring_disabled forbids it"
        return "a seccomp filter or a security module forbids it (containers' default profiles do)"
    if met == "ENOMEM":
        return "RLIMIT_MEMLOCK is too small for a ring on this kernel"
    return ""


def new_ring() -> int:
    return system_call(IO_URING_SETUP, 8, ctypes.create_string_buffer(120))


def register_probe() -> None:
    room = ctypes.create_string_buffer(16 + 256 * 8)
    without_ring(
        lambda ring: system_call(IO_URING_REGISTER, ring, IORING_REGISTER_PROBE, room, 256)
    )


def enter_ring() -> None:
    without_ring(lambda ring: system_call(IO_URING_ENTER, ring, 0, 0, 0, None, 0))


def without_ring(use: Callable[[int], object]) -> None:
    """Calls `use` with a ring, or with another file if there is no ring.

    EOPNOTSUPP, the error for a file that is not a ring, shows that the call is allowed.
    """
    try:
        ring = new_ring()
    except OSError:
        ring = os.open(os.devnull, os.O_RDONLY)
    try:
        use(ring)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise


def ask_cachestat() -> None:
    with tempfile.TemporaryFile() as file:
        bounds, counts = (ctypes.c_uint64 * 2)(0, PAGE), (ctypes.c_uint64 * 5)()
        system_call(CACHESTAT, file.fileno(), bounds, counts, 0)


def get_descriptor() -> None:
    pidfd = system_call(PIDFD_OPEN, os.getpid(), 0)
    system_call(PIDFD_GETFD, pidfd, pidfd, 0)


def compare_descriptors() -> None:
    here = os.open(os.devnull, os.O_RDONLY)
    system_call(KCMP, os.getpid(), os.getpid(), KCMP_FILE, here, here)


# ---- limits -------------------------------------------------------------------------------------


def of_limits() -> Iterator[Finding]:
    memlock = (
        "Kernels before 5.12 count a ring against it; later ones do not."
        if tuple(map(int, re.findall(r"\d+", platform.release())[:2])) < (5, 12)
        else ""
    )
    for name, enough, cost in (
        ("RLIMIT_MEMLOCK", 1 << 20 if memlock else 0, memlock),
        ("RLIMIT_NOFILE", 1024, "Each open file of a volume needs a descriptor: EMFILE is likely."),
        ("RLIMIT_NPROC", 256, "Threads may be refused: requests then wait, or fail with EAGAIN."),
    ):
        soft, hard = resource.getrlimit(getattr(resource, name))
        good = soft == resource.RLIM_INFINITY or soft >= enough
        detail = f"{in_words(soft)} (at most {in_words(hard)})"
        yield Finding("limits", name, good, detail, "" if good else cost)
    most = pids_max()
    if most:
        yield Finding("limits", "pids.max", int(most) >= 256, f"{most}, set by a control group")
    yield answer(
        *("limits", "a thread", started_thread()),
        "No request can be started: the engine needs threads of its own.",
    )


def in_words(limit: int) -> str:
    return "unlimited" if limit == resource.RLIM_INFINITY else str(limit)


def pids_max() -> str:
    """The lowest pids.max of this process's control groups; "" if none is set."""
    try:
        line = next(
            line for line in Path("/proc/self/cgroup").read_text().splitlines() if "::" in line
        )
    except (OSError, StopIteration):
        return ""
    group = Path("/sys/fs/cgroup") / line.split("::")[1].lstrip("/")
    found = []
    for folder in (group, *group.parents):
        try:
            found.append((folder / "pids.max").read_text().strip())
        except OSError:
            continue
    return min((each for each in found if each.isdigit()), key=int, default="")


def started_thread() -> str:
    thread = threading.Thread(target=int)
    try:
        thread.start()
    except RuntimeError:
        return "EAGAIN"
    thread.join()
    return ""


# ---- a directory --------------------------------------------------------------------------------


def of_directory(directory: str) -> Iterator[Finding]:
    path, subject = os.path.realpath(directory), directory
    try:
        kind = filesystem_of(path)
        subject = f"{directory} ({kind})"
        descriptor, name = tempfile.mkstemp(prefix=".aiofs-doctor-", dir=path)
    except OSError as error:
        yield Finding(
            subject, "a file in it", False, error.strerror or "", "No property can be tried."
        )
        return
    try:
        os.write(descriptor, bytes(2 * PAGE))
        yield nowait_of(subject, kind, descriptor)
        yield answer(
            *(subject, "O_DIRECT", raised(lambda: read_directly(name))),
            "O_DIRECT cannot be used: reads and writes go through the page cache.",
        )
        yield answer(
            *(subject, "OFD locks", raised(lambda: lock_twice(name))),
            "The locks of a volume would not hold here: use another directory for volumes.",
        )
    finally:
        os.close(descriptor)
        os.unlink(name)


def nowait_of(subject: str, kind: str, descriptor: int) -> Finding:
    met = raised(lambda: os.preadv(descriptor, [bytearray(PAGE)], 0, os.RWF_NOWAIT))
    if met == "EAGAIN":  # the kernel knows the flag, and the read would block
        met = ""
    if met and kind == "tmpfs":
        return Finding(
            *(subject, "RWF_NOWAIT", None),
            f"{met}, but a read of tmpfs never blocks, and is made inside the call",
        )
    return answer(
        *(subject, "RWF_NOWAIT", met),
        "Every read, cached or not, goes to a worker thread; none is made inside the call.",
    )


def raised(action: Callable[[], object]) -> str:
    try:
        action()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return ""


def read_directly(name: str) -> None:
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, PAGE) as aligned:
            os.preadv(descriptor, [aligned], 0)
    finally:
        os.close(descriptor)


def lock_twice(name: str) -> None:
    """Two descriptions of a file must exclude each other's locks, and a close must drop a lock."""
    wanted = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0)
    first, second = (os.open(name, os.O_RDWR) for _ in range(2))
    try:
        fcntl.fcntl(first, fcntl.F_OFD_SETLK, wanted)
        try:
            fcntl.fcntl(second, fcntl.F_OFD_SETLK, wanted)
        except (BlockingIOError, PermissionError):
            pass
        else:
            raise OSError("two holders at the same time")
        os.close(first)
        first = -1
        fcntl.fcntl(second, fcntl.F_OFD_SETLK, wanted)
    finally:
        for descriptor in (first, second):
            if descriptor >= 0:
                os.close(descriptor)


def filesystem_of(path: str) -> str:
    """The type of the filesystem of a path."""
    device = os.stat(path).st_dev
    wanted, kinds = f"{os.major(device)}:{os.minor(device)}", {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        kinds[fields.split()[2]] = rest.split()[0]
    return kinds.get(wanted, "unknown")


# ---- the engine ----------------------------------------------------------------------------------


def of_engine() -> Iterator[Finding]:
    chosen = os.environ.get("AIOFS_ENGINE") or "not set: auto"
    yield Finding("engine", "AIOFS_ENGINE", None, chosen)
    try:
        yield Finding("engine", "engine in use", None, _core.engine())
    except OSError as error:
        yield Finding("engine", "engine in use", False, str(error), "No request can be started.")
