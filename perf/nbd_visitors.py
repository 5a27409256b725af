# SPDX-License-Identifier: MIT
"""nbd_visitors: clients that come, do a little and leave, over raw sockets: some leave in a way
that no client of a library can, in the middle of what they say."""

import contextlib
import itertools
import os
import random
import socket
import struct

import nbd_servers

TIMEOUT_S = 60
HELLO = b"NBDMAGICIHAVEOPT"
OPTION_MAGIC = 0x49484156454F5054
REPLY_MAGIC = 0x3E889045565A9
REQUEST_MAGIC = 0x25609513
SIMPLE_MAGIC = 0x67446698
FLAGS = 3  # fixed newstyle, no zeroes
OPTION_ABORT, OPTION_GO = 2, 7
ACK, INFO = 1, 3
READ, WRITE, DISCONNECT, FLUSH = 0, 1, 2, 3
HAS_FLUSH, HAS_FUA = 1 << 2, 1 << 3
FUA = 1
BLOCK = 4096
CROWD_REQUESTS, CROWD_READ = 32, 256 << 10


class Client:
    """A connection to the export with the empty name, with simple replies."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(TIMEOUT_S)
        self.cookie = 0
        self.size = self.flags = 0
        try:
            self.socket.connect(path)
        except OSError:
            self.socket.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def receive(self, length):
        data = bytearray()
        while len(data) < length:
            part = self.socket.recv(length - len(data))
            if not part:
                raise nbd_servers.Failure("a visitor: the server closed the connection")
            data += part
        return bytes(data)

    def greet(self):
        hello = self.receive(18)
        if hello[:16] != HELLO:
            raise nbd_servers.Failure(f"a visitor: greeted with {hello!r}")
        self.socket.sendall(struct.pack(">I", FLAGS))

    def option(self, option, data=b""):
        self.socket.sendall(struct.pack(">QII", OPTION_MAGIC, option, len(data)) + data)

    def go(self):
        self.greet()
        self.option(OPTION_GO, struct.pack(">IH", 0, 0))
        while True:
            magic, _, kind, length = struct.unpack(">QIII", self.receive(20))
            data = self.receive(length)
            if magic != REPLY_MAGIC or kind not in (ACK, INFO):
                raise nbd_servers.Failure(f"a visitor: GO answered with {kind:#x}: {data!r}")
            if kind == ACK:
                return self
            if data[:2] == b"\0\0":
                self.size, self.flags = struct.unpack(">QH", data[2:12])

    def request(self, command, offset=0, length=0, flags=0):
        self.cookie += 1
        return struct.pack(">IHHQQI", REQUEST_MAGIC, flags, command, self.cookie, offset, length)

    def answer(self, what):
        magic, error, cookie = struct.unpack(">IIQ", self.receive(16))
        if (magic, error, cookie) != (SIMPLE_MAGIC, 0, self.cookie):
            raise nbd_servers.Failure(f"a visitor: {what} answered with magic {magic:#x}, error "
                                      f"{error}, cookie {cookie} for {self.cookie}")

    def write(self, offset, data, flags=0):
        self.socket.sendall(self.request(WRITE, offset, len(data), flags) + data)
        self.answer("a write")

    def read(self, offset, length):
        self.socket.sendall(self.request(READ, offset, length))
        self.answer("a read")
        return self.receive(length)

    def flush(self):
        self.socket.sendall(self.request(FLUSH))
        self.answer("a flush")

    def leave(self):
        """Goes as one should; the server then closes the connection and sends nothing more."""
        self.socket.sendall(self.request(DISCONNECT))
        if self.socket.recv(1):
            raise nbd_servers.Failure("a visitor: something was sent after its disconnect")


# --- what visitors do: each takes the server's path, its own bytes of the image, and a random -----


def polite(path, begin, end, chance):
    """Writes some, reads the same back."""
    with Client(path).go() as client:
        written = {}
        for _ in range(chance.randint(1, 8)):
            offset = begin + chance.randrange((end - begin) // BLOCK - 16) * BLOCK
            data = os.urandom(chance.randint(1, 16) * BLOCK)
            fua = FUA if client.flags & HAS_FUA and chance.random() < 0.3 else 0
            client.write(offset, data, fua)
            for at in range(0, len(data), BLOCK):
                written[offset + at] = data[at : at + BLOCK]
        if client.flags & HAS_FLUSH:
            client.flush()
        for offset, data in written.items():
            if client.read(offset, BLOCK) != data:
                raise nbd_servers.Failure(f"a visitor: other data at {offset} than it wrote")
        client.leave()


def knocks(path, _begin, _end, _chance):
    """Connects, and is gone."""
    with Client(path):
        pass


def aborts(path, _begin, _end, _chance):
    with Client(path) as client:
        client.greet()
        client.option(OPTION_ABORT)


def breaks_off_in_an_option(path, _begin, _end, chance):
    with Client(path) as client:
        client.greet()
        option = struct.pack(">QIIIH", OPTION_MAGIC, OPTION_GO, 6, 0, 0)
        client.socket.sendall(option[: chance.randrange(1, len(option))])


def breaks_off_in_a_header(path, begin, _end, chance):
    with Client(path).go() as client:
        header = client.request(READ, begin, BLOCK)
        client.socket.sendall(header[: chance.randrange(1, len(header))])


def breaks_off_in_a_payload(path, begin, _end, chance):
    with Client(path).go() as client:
        length = 64 * BLOCK
        given = chance.randrange(length)
        client.socket.sendall(client.request(WRITE, begin, length) + bytes(given))


def does_not_wait_for_answers(path, begin, _end, chance):
    """Asks for much, and leaves before it is answered."""
    with Client(path).go() as client:
        count = chance.randint(1, 64)
        client.socket.sendall(b"".join(client.request(READ, begin, 16 * BLOCK)
                                       for _ in range(count)))


def crowd(path, begin, end, count, seconds, stopped):
    """So many clients at once, who ask for much and read nothing for that long: they keep of the
    server's memory what it lets them."""
    with contextlib.ExitStack() as stack:
        offsets = itertools.cycle(range(begin, end - CROWD_READ + 1, CROWD_READ))
        for _ in range(count):
            client = stack.enter_context(Client(path)).go()
            client.socket.sendall(b"".join(client.request(READ, next(offsets), CROWD_READ)
                                           for _ in range(CROWD_REQUESTS)))
        stopped.wait(seconds)


KINDS = (polite, knocks, aborts, breaks_off_in_an_option, breaks_off_in_a_header,
         breaks_off_in_a_payload, does_not_wait_for_answers)
# Half of them behave.
WEIGHTS = (6, 1, 1, 1, 1, 1, 1)


def visit(kind, path, begin, end, chance):
    try:
        kind(path, begin, end, chance)
    except OSError as error:
        raise nbd_servers.Failure(f"a visitor ({kind.__name__}): {error!r}") from None


def visit_forever(path, begin, end, seed, stopped, counts):
    """Visits of all kinds, one after the other, until told to stop."""
    chance = random.Random(seed)
    while not stopped.is_set():
        (kind,) = chance.choices(KINDS, WEIGHTS)
        visit(kind, path, begin, end, chance)
        counts[kind.__name__] = counts.get(kind.__name__, 0) + 1
        # A breath: the load is to be fio's.
        stopped.wait(chance.uniform(0.0, 0.02))
