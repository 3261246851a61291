"""A FUSE server for one file, /file, of 5000 bytes. It speaks the kernel's protocol on /dev/fuse.

    python fuse_server.py MOUNTPOINT [slow [forgetful]]

It prints a line when the file system is mounted. It answers a read of HELD bytes when a line comes
on its standard input, and never answers a read at SECOND or later. It exits at the end of its
standard input.

If it is slow, it answers what opens, closes and asks in the same way, but lets the kernel keep the
names and the attributes, so that these are in the cache. If it is forgetful, too, the kernel asks
for the attributes each time, and the answer is slow.
"""

import ctypes
import errno
import os
import select
import struct
import sys

DATA = b"".join(b"%07d\n" % i for i in range(0, 5000, 8))
HELD, SECOND = 1234, 4096
LOOKUP, FORGET, GETATTR, STATFS, OPEN, READ, RELEASE, FLUSH, INIT, BATCH_FORGET = (
    *(1, 2, 3, 17, 14, 15, 18, 25, 26, 42),
)
DIRECT_IO = 1
MOUNT_DETACH = 2


SLOW = sys.argv[2:3] == ["slow"]
FORGETFUL = sys.argv[3:] == ["forgetful"]
KEPT = 1000 if SLOW else 0  # seconds
KEPT_ATTRIBUTES = 0 if FORGETFUL else KEPT
HELD_CALLS = {OPEN, FLUSH, RELEASE, STATFS, READ} | ({GETATTR} if FORGETFUL else set())


def attributes(node):
    mode = 0o100644 if node > 1 else 0o40755
    return struct.pack(
        "<6Q10I", node, len(DATA), 10, *(0,) * 3, *(0,) * 3, mode, 1, *(0,) * 3, 4096, 0
    )


def answer(message):
    """The errno and the body of an answer; None: the request is not answered."""
    _, operation, _, node = struct.unpack_from("<IIQQ", message)
    if operation == INIT:
        return 0, struct.pack("<IIIIHHII", 7, 31, 1 << 17, 1, 16, 12, 1 << 17, 1).ljust(64, b"\0")
    if operation == LOOKUP:
        return 0, struct.pack("<4QQ", 2, 0, KEPT, KEPT_ATTRIBUTES, 0) + attributes(2)
    if operation == GETATTR:
        return 0, struct.pack("<QQ", KEPT_ATTRIBUTES, 0) + attributes(node)
    if operation == OPEN:
        return 0, struct.pack("<QII", 0, DIRECT_IO, 0)
    if operation == READ:
        offset, size = struct.unpack_from("<QI", message, 48)
        return 0, DATA[offset : min(offset + size, SECOND)] if offset < SECOND else b""
    if operation in (FORGET, BATCH_FORGET):
        return None
    return (0 if operation in (RELEASE, FLUSH) else -errno.ENOSYS), b""


def asked(message):
    """The offset and the size that a read requests."""
    if struct.unpack_from("<I", message, 4)[0] != READ:
        return 0, 0
    return struct.unpack_from("<QI", message, 48)


def serve(device):
    held = []

    def send(message):
        unique = struct.unpack_from("<Q", message, 8)[0]
        body = answer(message)
        if body is not None:
            os.write(device, struct.pack("<IiQ", 16 + len(body[1]), body[0], unique) + body[1])

    while True:
        ready, _, _ = select.select([device, 0], [], [])
        if 0 in ready:
            if not os.read(0, 1):
                return
            for message in held:
                send(message)
            held.clear()
        if device in ready:
            message = os.read(device, 1 << 21)
            offset, size = asked(message)
            if offset >= SECOND and not SLOW:
                continue
            operation = struct.unpack_from("<I", message, 4)[0]
            if size == HELD or (SLOW and operation in HELD_CALLS):
                held.append(message)
            else:
                send(message)


def main(mountpoint):
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        device = os.open("/dev/fuse", os.O_RDWR)
    except OSError as error:
        sys.exit(f"refused: {error}")
    options = b"fd=%d,rootmode=40000,user_id=0,group_id=0" % device
    if libc.mount(b"x", mountpoint.encode(), b"fuse.x", 0, options) != 0:
        sys.exit(f"refused: mount: {os.strerror(ctypes.get_errno())}")
    try:
        print("mounted", flush=True)
        serve(device)
    finally:
        libc.umount2(mountpoint.encode(), MOUNT_DETACH)


if __name__ == "__main__":
    main(sys.argv[1])
