"""Run sessions: the descriptors (session fds) by which a session's processes have volumes open.

preload/run_session.c says what a session fd means. preload/preload.h says which numbers the session
fds have. The variable AIOFS_RUN passes both to the program: the base, and the number and the
directory of each session fd, as in `1024:2048=/srv/media:2049=/srv/cache`.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Mapping, Sequence

from aiofs import _core
from aiofs.programs import Refused

__all__ = ["VARIABLE", "open_session"]

VARIABLE = b"AIOFS_RUN"

# The same values as in preload/preload.h.
VOLUMES_MAX, SPARE = 64, 128
BASE_MAX = 4096  # a fork copies the descriptor table up to the highest descriptor


def open_session(directories: Sequence[str], environment: Mapping[bytes, bytes]) -> bytes:
    """Opens each directory as a volume of a new run session. Returns the session's AIOFS_RUN.

    If this process is in a session, the volumes of that session stay volumes, with its session fds.
    """
    base, inherited = _parse(environment.get(VARIABLE, b""))
    base = base or _make_room()
    sessions = [_session(directory, 2 * base) for directory in directories] + inherited
    if len(sessions) > VOLUMES_MAX:
        raise Refused(f"{len(sessions)} volumes are too many: at most {VOLUMES_MAX}")
    return b":".join([b"%d" % base, *(b"%d=%s" % session for session in sessions)])


def _parse(variable: bytes) -> tuple[int, list[tuple[int, bytes]]]:
    base, *sessions = variable.split(b":")
    pairs = [session.split(b"=", 1) for session in sessions]
    return int(base or 0), [(int(number), path) for number, path in pairs]


def _make_room() -> int:
    """Returns the base. The program's descriptors are below it, and as many above it are for locks.

    The soft limit is raised, as far as the hard limit allows, so that the program can open as many
    files as before.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft, most = (value if value >= 0 else 2**31 for value in (soft, hard))
    ours = SPARE + VOLUMES_MAX
    base = min(soft, BASE_MAX, (most - ours) // 2)
    if base < 16:
        raise Refused(f"a limit of {most} descriptors is too few for volumes: see ulimit -n")
    if soft < 2 * base + ours:
        resource.setrlimit(resource.RLIMIT_NOFILE, (2 * base + ours, hard))
    return base


def _session(directory: str, number: int) -> tuple[int, bytes]:
    if not os.path.isdir("/proc/self/fd"):
        raise Refused("volumes need /proc, which is not mounted")
    if not directory:
        raise Refused("the --volume is '': name the directory ('.' for the current one)")
    if ":" in os.path.realpath(directory):
        raise Refused(f"{directory}: the path of a volume cannot contain ':'")
    try:
        descriptor = _core.begin_run_session(directory, number)
        return descriptor, os.fsencode(os.path.realpath(directory))
    except OSError as error:
        busy = (
            ": it lies inside or around another open volume" if error.errno == errno.EBUSY else ""
        )
        raise Refused(f"{directory}: {error.strerror}{busy}") from None
