"""A file system in user space whose calls do not return until they are told to: a program for `test_files_hanging_disk`.

It speaks the FUSE protocol (linux/fuse.h) directly: fusermount3 mounts the folder given and hands over the descriptor of
/dev/fuse through a socket. There is one file, `file`, in which every READ and WRITE waits, and one name, `lost`, whose
LOOKUP waits. A line on stdin answers all that waits: `answer`; `always` also all that comes later. The end of stdin ends
the program, and with it the connection, so that nothing stays stuck in the kernel.
"""

from __future__ import annotations

import array
import os
import select
import socket
import stat
import struct
import subprocess
import sys
import time

CONTENT = bytearray(b"0123456789" * 20_000)

LOOKUP, FORGET, GETATTR, SETATTR, OPEN, READ, WRITE, STATFS, RELEASE = 1, 2, 3, 4, 14, 15, 16, 17, 18
FSYNC, FLUSH, INIT, OPENDIR, RELEASEDIR, INTERRUPT, BATCH_FORGET = 20, 25, 26, 27, 29, 36, 42
ENOENT, ENOSYS = 2, 38
ROOT, FILE = 1, 2
DIRECT_IO = 1  # no page cache in between


def say(word: str) -> None:
    """Tell the test how far it is."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def mount(folder: str) -> int:
    """Mount; returns the descriptor of /dev/fuse."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        subprocess.run(
            ["fusermount3", "-o", "fsname=hanging,rw", "--", folder],
            env=os.environ | {"_FUSE_COMMFD": str(theirs.fileno())},
            pass_fds=[theirs.fileno()],
            check=True,
        )
        _, ancillary, _, _ = ours.recvmsg(1, socket.CMSG_SPACE(4))
        numbers = array.array("i")
        numbers.frombytes(ancillary[0][2][:4])
        return numbers[0]


def attributes(node: int) -> bytes:
    """A `struct fuse_attr`."""
    size = len(CONTENT) if node == FILE else 0
    mode = stat.S_IFREG | 0o666 if node == FILE else stat.S_IFDIR | 0o777
    now = int(time.time())
    return struct.pack("<6Q10I", node, size, 8, now, now, now, 0, 0, 0, mode, 1, os.getuid(), os.getgid(), 0, 4096, 0)


def reply(opcode: int, node: int, body: bytes) -> bytes | int:  # noqa: PLR0911 - a table, with code in it
    """What answers a request: a body, or an error number."""
    if opcode == INIT:
        return struct.pack("<4I2H2I2H8I", 7, 31, 1 << 16, 0, 16, 12, 1 << 17, 1, 0, 0, *[0] * 8)
    if opcode == LOOKUP:
        if body != b"file\0":
            return ENOENT
        return struct.pack("<4Q2I", FILE, 0, 1000, 1000, 0, 0) + attributes(FILE)
    if opcode in {GETATTR, SETATTR}:
        return struct.pack("<Q2I", 0, 0, 0) + attributes(node)
    if opcode in {OPEN, OPENDIR}:
        return struct.pack("<Q2I", 0, DIRECT_IO, 0)
    if opcode == READ:
        offset, size = struct.unpack_from("<8xQI", body)
        return bytes(CONTENT[offset : offset + size])
    if opcode == WRITE:
        offset, size = struct.unpack_from("<8xQI", body)
        CONTENT[offset : offset + size] = body[40 : 40 + size]
        return struct.pack("<2I", size, 0)
    if opcode in {FLUSH, RELEASE, RELEASEDIR, FSYNC}:
        return b""
    return ENOSYS


def main(folder: str) -> None:
    """Serve until the end of stdin."""
    fuse = mount(folder)
    os.set_blocking(fuse, False)
    waiting: list[tuple[int, int, int, bytes]] = []
    always = False

    def answer(opcode: int, unique: int, node: int, body: bytes) -> None:
        said = reply(opcode, node, body)
        error, data = (-said, b"") if isinstance(said, int) else (0, said)
        try:
            os.write(fuse, struct.pack("<IiQ", 16 + len(data), error, unique) + data)
        except FileNotFoundError:  # the one that asked is not there any more
            pass

    say("ready")
    poll = select.poll()
    poll.register(fuse, select.POLLIN)
    poll.register(0, select.POLLIN)
    while True:
        for number, _ in poll.poll():
            if number == 0:
                line = os.read(0, 100)
                if not line:
                    return
                always = always or b"always" in line
                while waiting:
                    answer(*waiting.pop(0))
                say("answered")
                continue
            try:
                request = os.read(fuse, 1 << 18)
            except (BlockingIOError, FileNotFoundError):
                continue
            opcode, unique, node = struct.unpack_from("<4xIQQ", request)
            body = request[40:]
            if opcode in {FORGET, BATCH_FORGET, INTERRUPT}:
                continue
            if not always and (opcode in {READ, WRITE} or (opcode == LOOKUP and body == b"lost\0")):
                waiting.append((opcode, unique, node, body))
                say("waiting")
            else:
                answer(opcode, unique, node, body)


if __name__ == "__main__":
    main(sys.argv[1])
