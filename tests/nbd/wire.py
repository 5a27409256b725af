# SPDX-License-Identifier: MIT
"""wire.py: an NBD client on a bare socket, which can say what no library would, and which checks
every field of what it gets.

What the server may not send is Violation. Where it hangs up: Dropped, or Torn if that is in the
middle of a message. Names are those of the protocol's text, without their NBD_.
"""
import array
import fcntl
import socket
import ssl
import struct
import time

from server import Failed

TIMEOUT = 60  # s; a server that says nothing for so long hangs

MAGIC = 0x4e42444d41474943
OPTION_MAGIC = 0x49484156454f5054
OPTION_REPLY_MAGIC = 0x0003e889045565a9
REQUEST_MAGIC = 0x25609513
SIMPLE_MAGIC = 0x67446698
STRUCTURED_MAGIC = 0x668e33ef

FLAG_FIXED_NEWSTYLE, FLAG_NO_ZEROES = 1, 2  # of the server's hello, and of the client's

OPT_EXPORT_NAME, OPT_ABORT, OPT_LIST, OPT_STARTTLS = 1, 2, 3, 5
OPT_INFO, OPT_GO, OPT_STRUCTURED_REPLY = 6, 7, 8
OPT_LIST_META_CONTEXT, OPT_SET_META_CONTEXT = 9, 10

REP_ACK, REP_SERVER, REP_INFO, REP_META_CONTEXT = 1, 2, 3, 4
ERR_UNSUP, ERR_POLICY, ERR_INVALID, ERR_PLATFORM, ERR_TLS_REQD, ERR_UNKNOWN, ERR_SHUTDOWN, \
    ERR_BLOCK_SIZE_REQD, ERR_TOO_BIG = range(0x80000001, 0x8000000a)
# What each option may be answered with, before its last reply.
REPLIES = {OPT_LIST: REP_SERVER, OPT_INFO: REP_INFO, OPT_GO: REP_INFO,
           OPT_LIST_META_CONTEXT: REP_META_CONTEXT, OPT_SET_META_CONTEXT: REP_META_CONTEXT}

INFO_EXPORT, INFO_NAME, INFO_DESCRIPTION, INFO_BLOCK_SIZE = range(4)

HAS_FLAGS, READ_ONLY, SEND_FLUSH, SEND_FUA, ROTATIONAL, SEND_TRIM, SEND_WRITE_ZEROES, SEND_DF, \
    CAN_MULTI_CONN, SEND_RESIZE, SEND_CACHE, SEND_FAST_ZERO = (1 << bit for bit in range(12))
# Reserved for extensions that nobody here asks for.
UNKNOWN_EXPORT_FLAGS = 0xffff & ~(0xfff & ~SEND_RESIZE)

CMD_READ, CMD_WRITE, CMD_DISC, CMD_FLUSH, CMD_TRIM, CMD_CACHE, CMD_WRITE_ZEROES, \
    CMD_BLOCK_STATUS = range(8)
CMD_FLAG_FUA, CMD_FLAG_NO_HOLE, CMD_FLAG_DF, CMD_FLAG_REQ_ONE, CMD_FLAG_FAST_ZERO = 1, 2, 4, 8, 16

CHUNK_NONE, CHUNK_DATA, CHUNK_HOLE, CHUNK_BLOCK_STATUS = 0, 1, 2, 5
CHUNK_ERROR, CHUNK_ERROR_OFFSET = 0x8001, 0x8002
CHUNK_DONE = 1

EPERM, EIO, ENOMEM, EINVAL, ENOSPC, EOVERFLOW, ENOTSUP, ESHUTDOWN = 1, 5, 12, 22, 28, 75, 95, 108
ERRORS = (EPERM, EIO, ENOMEM, EINVAL, ENOSPC, EOVERFLOW, ENOTSUP, ESHUTDOWN)

STRING_MAX = 4096
PAYLOAD_MAX = 32 << 20
OPTION_MAX = 16 << 10  # what weir-nbd takes; nbdkit draws the same line
TIOCOUTQ = 0x5411


class Violation(Failed):
    """The server sent what it may not."""


class Dropped(Failed):
    """The server has hung up, between two messages."""


class Torn(Dropped):
    """The server has hung up within one."""


def require(condition, what, *more):
    if not condition:
        raise Violation(' '.join([what, *(repr(value)[:200] for value in more)]))


def text(data, what):
    require(len(data) <= STRING_MAX, f'{what} is of {len(data)} bytes')
    require(b'\0' not in data, f'{what} has a NUL', data)
    try:
        return data.decode('utf-8')
    except UnicodeDecodeError:
        raise Violation(f'{what} is not UTF-8: {data!r}') from None


# --- data of options --------------------------------------------------------------------------


def named(name):
    name = name.encode() if isinstance(name, str) else name
    return struct.pack('>I', len(name)) + name


def go_data(name='', requests=()):
    return named(name) + struct.pack(f'>H{len(requests)}H', len(requests), *requests)


def meta_data(name='', queries=('base:allocation',)):
    return named(name) + struct.pack('>I', len(queries)) + b''.join(map(named, queries))


def option_bytes(option, data=b'', length=None, magic=OPTION_MAGIC):
    return struct.pack('>QII', magic, option, len(data) if length is None else length) + data


def request_bytes(command, offset=0, length=0, payload=b'', flags=0, cookie=1,
                  magic=REQUEST_MAGIC):
    return struct.pack('>IHHQQI', magic, flags, command, cookie, offset, length) + payload


class Export:
    """What GO, INFO or EXPORT_NAME told."""

    def __init__(self, size, flags):
        self.size, self.flags = size, flags
        self.infos = {}
        require(flags & HAS_FLAGS, 'transmission flags without HAS_FLAGS', hex(flags))
        require(not flags & UNKNOWN_EXPORT_FLAGS, 'unknown transmission flags', hex(flags))
        require(not flags & SEND_FAST_ZERO or flags & SEND_WRITE_ZEROES, 'FAST_ZERO alone')
        require(size < 1 << 63, 'size', size)


class Request:
    """What is in flight, as far as it is answered."""

    def __init__(self, command, offset, length, flags):
        self.command, self.offset, self.length, self.flags = command, offset, length, flags
        self.data = bytearray(length) if command == CMD_READ and length <= PAYLOAD_MAX else None
        self.ranges = []  # of the content chunks so far
        self.error = 0
        self.message = None
        self.extents = {}  # by context: [(length, flags)]

    def add_content(self, offset, length, data=None):
        require(self.command == CMD_READ, 'content for command', self.command)
        require(self.offset <= offset and offset + length <= self.offset + self.length,
                'content outside of what was asked', offset, length)
        require(all(offset + length <= begin or end <= offset for begin, end in self.ranges),
                'content twice at', offset)
        require(not (self.flags & CMD_FLAG_DF and self.ranges), 'two chunks in spite of DF')
        self.ranges.append((offset, offset + length))
        if data is not None:
            self.data[offset - self.offset:offset - self.offset + length] = data

    def add_extents(self, payload, contexts):
        require(self.command == CMD_BLOCK_STATUS, 'extents for command', self.command)
        require(len(payload) >= 12 and len(payload) % 8 == 4, 'extents of bytes', len(payload))
        context, = struct.unpack_from('>I', payload)
        require(context in contexts, 'extents of no context', context)
        require(context not in self.extents, 'extents twice', context)
        extents = list(struct.iter_unpack('>II', payload[4:]))
        require(all(length for length, _ in extents), 'an extent of 0', extents)
        require(all(not flags & ~3 for _, flags in extents), 'flags of extents', extents)
        require(len(extents) <= 1 << 20, 'extents', len(extents))
        if self.flags & CMD_FLAG_REQ_ONE:
            require(len(extents) == 1 and extents[0][0] <= self.length, 'REQ_ONE', extents)
        # Only the last may go beyond what was asked.
        require(sum(length for length, _ in extents[:-1]) < self.length, 'too many extents')
        self.extents[context] = extents

    def finish(self, contexts):
        if self.error:
            return
        if self.command == CMD_READ:
            require(sum(end - begin for begin, end in self.ranges) == self.length,
                    'a read has not all its content', self.ranges)
        if self.command == CMD_BLOCK_STATUS:
            require(set(self.extents) == set(contexts), 'not every context', self.extents)


# --- the client -------------------------------------------------------------------------------


class Client:
    """A connection, at first without a word; `hello`, options and `go` lead it to requests."""

    def __init__(self, address, buffer=None):
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        if buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        self.socket.settimeout(TIMEOUT)
        self.socket.connect(address)
        if family == socket.AF_INET:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.is_structured = False
        self.contexts = {}  # id -> name
        self.export = None
        self.requests = {}  # in flight, by cookie: those with the same one in their order
        self.cookie_last = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def reset(self):
        """Goes away without a word: on TCP as a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        self.close()

    # --- bytes

    def send(self, data):
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            pass  # what the server said before that is still there to be read

    def drip(self, data):
        """Byte by byte, each once the one before it was taken."""
        for byte in data:
            self.send(bytes([byte]))
            self.wait_until_taken()

    def untaken(self):
        """How much of what was sent is still in the socket, in a unit of the kernel's."""
        left = array.array('i', [0])
        fcntl.ioctl(self.socket.fileno(), TIOCOUTQ, left)
        return left[0]

    def wait_until_taken(self):
        end = time.monotonic() + TIMEOUT
        while self.untaken():
            if time.monotonic() > end:
                raise Failed('the server does not take a byte')
            time.sleep(0)

    def receive_some(self, size):
        try:
            return self.socket.recv(size)
        except (ConnectionResetError, ssl.SSLError):
            return b''
        except TimeoutError:
            raise Failed(f'the server has been silent for {TIMEOUT} s') from None

    def receive(self, size, is_inside=True):
        data = bytearray()
        while len(data) < size:
            part = self.receive_some(min(size - len(data), 1 << 20))
            if not part:
                if data or is_inside:
                    raise Torn(f'the server hung up in a message, {len(data)} bytes of {size}')
                raise Dropped('the server hung up')
            data += part
        return bytes(data)

    def unpack(self, layout, is_inside=True):
        return struct.unpack(layout, self.receive(struct.calcsize(layout), is_inside))

    def must_be_dropped(self, why):
        """Nothing more comes than the end of it."""
        got = self.receive_some(1 << 16)
        if got:
            raise Failed(f'{why}: the server sends {got[:64]!r}, and does not hang up')

    # --- handshake

    def receive_hello(self):
        magic, option_magic, flags = self.unpack('>QQH', False)
        require(magic == MAGIC and option_magic == OPTION_MAGIC, 'hello', hex(magic))
        require(flags == FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES, 'handshake flags', flags)

    def hello(self, flags=FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES):
        self.receive_hello()
        self.send(struct.pack('>I', flags))
        return self

    def receive_option_reply(self, option):
        magic, replied, kind, length = self.unpack('>QIII', False)
        require(magic == OPTION_REPLY_MAGIC, 'magic of an option reply', hex(magic))
        require(replied == option, 'a reply to option', replied, option)
        require(length <= 64 << 10, 'an option reply of', length)
        data = self.receive(length)
        if kind & 1 << 31:
            require(ERR_UNSUP <= kind <= ERR_TOO_BIG, 'error', hex(kind))
            text(data, 'an error')
        elif kind == REP_ACK:
            require(not data, 'an ACK with data', data)
        else:
            require(kind == REPLIES.get(option), 'a reply of type', kind, option)
        return kind, data

    def receive_option_replies(self, option):
        """All until the last one: its type, and the data of those before it."""
        datas = []
        while True:
            kind, data = self.receive_option_reply(option)
            if kind == REP_ACK or kind & 1 << 31:
                return kind, datas
            datas.append(data)
            require(len(datas) <= 10000, 'replies without an end')

    def ask_option(self, option, data=b''):
        self.send(option_bytes(option, data))
        return self.receive_option_replies(option)

    def structured(self):
        kind, _ = self.ask_option(OPT_STRUCTURED_REPLY)
        require(kind == REP_ACK, 'STRUCTURED_REPLY', hex(kind))
        self.is_structured = True
        return self

    def list(self):
        kind, datas = self.ask_option(OPT_LIST)
        require(kind == REP_ACK, 'LIST', hex(kind))
        names = []
        for data in datas:
            require(len(data) >= 4, 'REP_SERVER of', len(data))
            length, = struct.unpack_from('>I', data)
            require(length <= len(data) - 4, 'the name in REP_SERVER', length)
            names.append(text(data[4:4 + length], 'a name'))
            text(data[4 + length:], 'a description')
        return names

    def ask_meta(self, option, data):
        """The last reply, and {id: name}."""
        kind, datas = self.ask_option(option, data)
        require(all(len(data) > 4 for data in datas), 'REP_META_CONTEXT', datas)
        found = [(struct.unpack_from('>I', data)[0], text(data[4:], 'a context'))
                 for data in datas]
        require(len({name for _, name in found}) == len(found), 'a context twice', found)
        if option == OPT_SET_META_CONTEXT:
            require(len(dict(found)) == len(found), 'ids of contexts', found)
            self.contexts = dict(found) if kind == REP_ACK else {}
        return kind, dict(found)

    def ask_export(self, option, data):
        """GO or INFO: its last reply, and the export if that is an ACK."""
        kind, datas = self.ask_option(option, data)
        infos = {}
        for payload in datas:
            require(len(payload) >= 2, 'REP_INFO of', len(payload))
            info, = struct.unpack_from('>H', payload)
            require(info not in infos, 'an information twice', info)
            infos[info] = self.parse_info(info, payload[2:])
        if kind != REP_ACK:
            return kind, None
        require(INFO_EXPORT in infos, 'no INFO_EXPORT', infos)
        export = Export(*infos[INFO_EXPORT])
        export.infos = infos
        require(self.is_structured or not export.flags & SEND_DF, 'DF without structured replies')
        if option == OPT_GO:
            self.export = export
        return kind, export

    @staticmethod
    def parse_info(info, payload):
        if info in (INFO_NAME, INFO_DESCRIPTION):
            return text(payload, 'a name or description')
        layout = {INFO_EXPORT: '>QH', INFO_BLOCK_SIZE: '>III'}.get(info)
        require(layout, 'unknown information', info)
        require(len(payload) == struct.calcsize(layout), 'information of bytes', payload)
        values = struct.unpack(layout, payload)
        if info == INFO_BLOCK_SIZE:
            least, preferred, most = values
            require(least & (least - 1) == 0 and 0 < least <= 1 << 16, 'minimum', least)
            require(preferred & (preferred - 1) == 0 and preferred >= max(least, 512),
                    'preferred', preferred)
            require(most >= max(preferred, 1 << 20), 'maximum', most)
        return values

    def go(self, name='', requests=()):
        kind, _ = self.ask_export(OPT_GO, go_data(name, requests))
        require(kind == REP_ACK, 'GO', hex(kind))
        return self

    def export_name(self, name='', zeroes=0):
        """The old way into transmission; `zeroes`: how many follow."""
        self.send(option_bytes(OPT_EXPORT_NAME, name.encode()))
        self.export = Export(*self.unpack('>QH', False))
        require(not any(self.receive(zeroes)), 'not zeroes')
        return self

    # --- transmission

    def request(self, command, offset=0, length=None, payload=b'', flags=0, cookie=None):
        """Sends one; its cookie."""
        length = len(payload) if length is None else length
        if cookie is None:
            cookie = self.cookie_last = self.cookie_last + 1
        self.note(command, offset, length, flags, cookie)
        self.send(request_bytes(command, offset, length, payload, flags, cookie))
        return cookie

    def note(self, command, offset, length, flags, cookie):
        """That a request is in flight."""
        queue = self.requests.setdefault(cookie, [])
        queue.append(Request(command, offset, length, flags))

    def receive_reply(self):
        """The next request that is answered to its end, and its cookie."""
        while True:
            magic, = self.unpack('>I', False)
            require(magic in (SIMPLE_MAGIC, STRUCTURED_MAGIC), 'magic of a reply', hex(magic))
            receive = self.receive_simple if magic == SIMPLE_MAGIC else self.receive_chunk
            cookie, is_done = receive()
            if is_done:
                queue = self.requests[cookie]
                request = queue.pop(0)
                if not queue:
                    del self.requests[cookie]
                request.finish(self.contexts)
                return request, cookie

    def flying(self, cookie):
        require(cookie in self.requests, 'a reply to what was not asked', cookie)
        return self.requests[cookie][0]

    def receive_simple(self):
        error, cookie = self.unpack('>IQ')
        request = self.flying(cookie)
        require(not error or error in ERRORS, 'error', error)
        if self.is_structured:
            require(request.command != CMD_READ, 'a simple reply to a read')
            require(request.command != CMD_BLOCK_STATUS or error, 'a simple reply to BLOCK_STATUS')
        request.error = error
        if request.command == CMD_READ and not error:
            require(request.data is not None, 'a read of so much', request.length)
            request.add_content(request.offset, request.length, self.receive(request.length))
        return cookie, True

    def receive_chunk(self):
        require(self.is_structured, 'a structured reply that was not negotiated')
        flags, kind, cookie, length = self.unpack('>HHQI')
        request = self.flying(cookie)
        require(not flags & ~CHUNK_DONE, 'flags of a chunk', flags)
        require(length <= PAYLOAD_MAX + 8, 'a chunk of', length)
        payload = self.receive(length)
        if kind == CHUNK_NONE:
            require(flags == CHUNK_DONE and not length, 'NONE', flags, length)
        elif kind == CHUNK_DATA:
            require(length >= 9, 'data of', length)
            offset, = struct.unpack_from('>Q', payload)
            request.add_content(offset, length - 8, payload[8:])
        elif kind == CHUNK_HOLE:
            require(length == 12, 'a hole of', length)
            offset, size = struct.unpack('>QI', payload)
            require(size, 'an empty hole')
            request.add_content(offset, size)
        elif kind == CHUNK_BLOCK_STATUS:
            request.add_extents(payload, self.contexts)
        else:
            require(kind in (CHUNK_ERROR, CHUNK_ERROR_OFFSET), 'a chunk of type', kind)
            self.note_error(request, kind, payload)
        return cookie, bool(flags & CHUNK_DONE)

    @staticmethod
    def note_error(request, kind, payload):
        fixed = 6 if kind == CHUNK_ERROR else 14
        require(len(payload) >= fixed, 'an error of', len(payload))
        error, length = struct.unpack_from('>IH', payload)
        require(error in ERRORS, 'error', error)
        require(len(payload) == fixed + length, 'the length of an error', length, payload)
        request.message = text(payload[6:6 + length], 'an error')
        if kind == CHUNK_ERROR_OFFSET:
            offset, = struct.unpack_from('>Q', payload, 6 + length)
            require(request.offset <= offset < request.offset + request.length, 'at', offset)
        request.error = request.error or error

    def ask(self, command, offset=0, length=None, payload=b'', flags=0, cookie=None):
        """One request, and its answer: nothing else may be in flight."""
        cookie = self.request(command, offset, length, payload, flags, cookie)
        request, got = self.receive_reply()
        require(got == cookie, 'a reply to', got, cookie)
        return request

    def read(self, offset, length, flags=0):
        request = self.ask(CMD_READ, offset, length, flags=flags)
        require(not request.error, 'a read says', request.error)
        return bytes(request.data)

    def write(self, offset, payload, flags=0):
        request = self.ask(CMD_WRITE, offset, payload=payload, flags=flags)
        require(not request.error, 'a write says', request.error)

    def disconnect(self):
        self.send(request_bytes(CMD_DISC))
        self.must_be_dropped('after DISC')
        self.close()
