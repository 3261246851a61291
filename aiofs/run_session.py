"""Sessions: the descriptors by which a session of processes has its volumes open.

What they mean is told in preload/run_session.c, and where they lie among the descriptors of the
program in preload/preload.h. AIOFS_RUN in the environment says both to the program: the base, and
the number and the directory of each session fd, as in `1024:2048=/srv/media:2049=/srv/cache`.
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

# As preload.h has them.
VOLUMES_MAX, SPARE = 64, 128
BASE_MAX = 4096  # a fork copies the table up to the highest descriptor


def open_session(directories: Sequence[str], environment: Mapping[bytes, bytes]) -> bytes:
    """Opens each directory as a volume of a new session; the AIOFS_RUN for it.

    Volumes of the session that this process is in stay volumes, with that session's sessions.
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
    """The base: descriptors below it are the program's, as many above it are their locks'.

    Where the hard limit lets it, the soft one is raised, so that the program loses none.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft, most = (value if value >= 0 else 2**31 for value in (soft, hard))
    ours = SPARE + VOLUMES_MAX
    base = min(soft, BASE_MAX, (most - ours) // 2)
    if base < 16:
        raise Refused(f"{most} descriptors are too few for volumes: see ulimit -n")
    if soft < 2 * base + ours:
        resource.setrlimit(resource.RLIMIT_NOFILE, (2 * base + ours, hard))
    return base


def _session(directory: str, number: int) -> tuple[int, bytes]:
    if not os.path.isdir("/proc/self/fd"):
        raise Refused("volumes need /proc, and it is not mounted")
    if not directory:
        raise Refused("the --volume is '': name the directory ('.' for the current one)")
    if ":" in os.path.realpath(directory):
        raise Refused(f"{directory}: a volume's path may have no ':' in it")
    try:
        descriptor = _core.begin_run_session(directory, number)
        return descriptor, os.fsencode(os.path.realpath(directory))
    except OSError as error:
        busy = (
            ": it lies inside or around another open volume" if error.errno == errno.EBUSY else ""
        )
        raise Refused(f"{directory}: {error.strerror}{busy}") from None
