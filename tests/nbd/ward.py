# SPDX-License-Identifier: MIT
"""ward.py: a server that tests mistreat, and what has to hold once they have: it lives, serves a
client that behaves, has grown by no more than is stated here, and has no fd more than before.
"""
import contextlib
import functools
import os
import random

from server import KIB, MIB, Nbdkit, Server, Skipped, check, equal, free_port, real_folder, until
import wire

SIZE = 64 * MIB
GROWTH_MAX = 8 * MIB  # of resident memory, from before a test until after it
# Of resident memory at any time, over that of a server which has seen one client: room for the
# fixed pool of buffers, and far from what the tests ask for (6 GiB at once).
PEAK_MAX = 160 * MIB
HELD = SIZE * 3 // 4  # from here on, the file belongs to the client that behaves


class Settings:
    """What hostile.py was called with."""
    program = policy = control = None
    is_without_tls = False
    more = []


def control_differs(**reasons):
    """Marks a test by why one of the servers for control gives no wanted answer: nbdkit, qemu."""
    def mark(test):
        @functools.wraps(test)
        def marked():
            if Settings.control in reasons:
                raise Skipped(f'{Settings.control}: {reasons[Settings.control]}')
            test()
        return marked
    return mark


# --- which server -----------------------------------------------------------------------------


def for_nbdkit(options):
    """weir-nbd's options in nbdkit's words."""
    words = list(options)
    spoken = []
    while words:
        word = words.pop(0)
        if word == '--read-only':
            spoken.append('-r')
        elif word == '--tls-certificates':
            spoken += ['--tls=require', f'--tls-certificates={words.pop(0)}']
        elif word != '--direct':
            raise Skipped(f'nbdkit has no {word}')
    return spoken


def make_server(options, file, exports, folder, port, environment):
    if Settings.control == 'nbdkit':
        arguments = [*for_nbdkit(options), '--filter=exportname', 'file', file, 'exportname=',
                     'exportname-strict=true']
        return Nbdkit(arguments, folder, port, '--tls-certificates' in options, environment)
    where = ['--listen', f'127.0.0.1:{port}'] if port else ['--unix', 'socket']
    what = [word for name in exports for word in ['--export', f'{name}={file}']] or [file]
    command = [Settings.program, *what, *where, '--policy', Settings.policy, *Settings.more,
               *options]
    return Server(command, folder, environment)


def size_of(file):
    """Of a block device as well."""
    with open(file, 'rb') as opened:
        return opened.seek(0, os.SEEK_END)


def stanza(name):
    """A line of /proc/PID/status, in bytes."""
    def read(pid):
        with open(f'/proc/{pid}/status', encoding='ascii') as file:
            return next(int(line.split()[1]) for line in file if line.startswith(name)) * KIB
    return read


def forget_peak(pid):
    with open(f'/proc/{pid}/clear_refs', 'w', encoding='ascii') as file:
        file.write('5')


resident, resident_peak = stanza('VmRSS:'), stanza('VmHWM:')


class Ward:
    """A running server, and how to reach it."""

    def __init__(self, server, address, file):
        self.server, self.address, self.file = server, address, file
        self.pid = server.process.pid
        self.is_read_only = '--read-only' in server.command or '-r' in server.command
        self.random = random.Random(self.pid)
        self.name = ''
        self.idle_fds = 0
        # A server that goes past the page cache may want a client to ask for its block sizes.
        self.requests = [wire.INFO_BLOCK_SIZE] if '--direct' in server.command else []
        self.wrap = lambda client: client  # what a client does first: TLS

    def connect(self, **more):
        return wire.Client(self.address, **more)

    def greeted(self, **more):
        """A client that may send options."""
        return self.wrap(self.connect(**more).hello())

    def ready(self, is_structured=True, contexts=('base:allocation',), **more):
        """A client that may send requests."""
        client = self.greeted(**more)
        if is_structured:
            client.structured()
            if contexts:
                data = wire.meta_data(self.name, contexts)
                kind, _ = client.ask_meta(wire.OPT_SET_META_CONTEXT, data)
                equal('SET_META_CONTEXT', kind, wire.REP_ACK)
        return client.go(self.name, self.requests)

    def serves(self, rounds=1):
        """What a client that behaves wants, it gets."""
        with self.ready() as client:
            size = client.export.size
            least = client.export.infos.get(wire.INFO_BLOCK_SIZE, [1])[0]
            equal('size', size, size_of(self.file) // least * least)
            for _ in range(rounds):
                offset = self.random.randrange(size * 3 // 4, size - 64 * KIB)
                offset -= offset % least
                data = self.random.randbytes(64 * KIB)
                if self.is_read_only:
                    data = client.read(offset, len(data))
                else:
                    client.write(offset, data, wire.CMD_FLAG_FUA)
                    equal('flush', client.ask(wire.CMD_FLUSH).error, 0)
                check('reads what was written', client.read(offset, len(data)) == data)
                equal('what the file has', self.content(offset, len(data)), data)
            status = client.ask(wire.CMD_BLOCK_STATUS, 0, min(size, 1 * MIB))
            check('extents', not status.error and status.extents)
            client.disconnect()

    def content(self, offset, length):
        with open(self.file, 'rb') as file:
            file.seek(offset)
            return file.read(length)

    def settle(self):
        """How many fds it has with nobody connected: what the first clients bring about, stays."""
        while True:
            before = self.server.fds()
            self.serves(2)
            self.idle_fds = self.server.fds()
            if self.idle_fds == before:
                return

    def figures(self):
        return f'{resident(self.pid) >> 10} KiB, {self.server.fds()} fds'

    @contextlib.contextmanager
    def watched(self, growth_max=GROWTH_MAX):
        """Around what is done to it."""
        if Settings.control:
            growth_max = 64 * MIB  # each of its threads keeps what it once had
        before, fds, says = resident(self.pid), self.idle_fds, self.figures()
        yield
        check(f'it lives; it said {self.server.says()[-2000:]}', self.server.is_alive())
        self.serves()
        until(f'{fds} fds, as before', lambda: self.server.fds() <= fds, 30)
        until(f'grown by at most {growth_max >> 10} KiB: from {says} to {self.figures()}',
              lambda: resident(self.pid) <= before + growth_max, 10)
        print(f'    {says} -> {self.figures()}, at most {resident_peak(self.pid) >> 10} KiB',
              flush=True)


@contextlib.contextmanager
def serve(*options, folder=None, file=None, size=SIZE, exports=(), is_tcp=False,
          is_watched=True):
    """A server of one's own. `file`: one that is there; else a sparse one is made. `exports`: the
    names that it gets, if it is not served without one."""
    with contextlib.ExitStack() as stack:
        folder = folder or stack.enter_context(real_folder())
        if not file:
            file = os.path.join(folder, 'disk.img')
            with open(file, 'wb') as made:
                made.truncate(size)
        port = free_port() if is_tcp else None
        if not Settings.control and '--handshake-timeout' not in options:
            # What has to be hung up on at once is not to be taken for what has timed out.
            options += ('--handshake-timeout', '600')
        # A sanitizer that keeps what was freed would look like a leak.
        asan = os.environ.get('ASAN_OPTIONS', '') + ':quarantine_size_mb=4'
        environment = {'ASAN_OPTIONS': asan.lstrip(':')}
        server = make_server(options, file, exports, folder, port, environment)
        name = 'nbdkit.sock' if Settings.control == 'nbdkit' else 'socket'
        stack.enter_context(server)
        address = ('127.0.0.1', port) if is_tcp else server.path(name)
        ward = Ward(server, address, file)
        ward.name = exports[0] if exports else ''
        if not is_watched:
            yield ward
            return
        ward.settle()
        with ward.watched():
            yield ward


# --- the server that most tests share ---------------------------------------------------------


class Shared:
    stack = contextlib.ExitStack()
    ward = None
    peak_max = 0


def hog(ward, count=200, size=MIB, is_structured=True):
    """A client that asks for `count` times `size` bytes, and never reads. Its socket takes what
    it takes: a server that is full does not read on. Each request is sent whole or not at all."""
    client = ward.ready(is_structured)
    client.socket.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        for number in range(count):
            client.socket.send(wire.request_bytes(wire.CMD_READ, 0, size, cookie=number))
            client.note(wire.CMD_READ, 0, size, 0, number)
    client.socket.settimeout(wire.TIMEOUT)
    return client


def start_shared():
    ward = Shared.stack.enter_context(serve('--max-connections', '128', is_watched=False)
                                      if not Settings.control else serve(is_watched=False))
    ward.settle()
    Shared.ward, Shared.peak_max = ward, resident(ward.pid) + PEAK_MAX
    print(f'    a new server: {ward.figures()}')
    if not Settings.control:
        # All of the pool is touched once, so that growth from here on is growth.
        for client in [hog(ward) for _ in range(32)]:
            ward.serves()
            client.close()
        ward.settle()
        print(f'    with its buffers used: {ward.figures()}')
    return ward


@contextlib.contextmanager
def mistreated(growth_max=GROWTH_MAX):
    """The server that most tests share; a new one if the last one did not live."""
    ward = Shared.ward
    if ward is None or not ward.server.is_alive():
        end_shared()
        ward = start_shared()
    forget_peak(ward.pid)
    with ward.watched(growth_max):
        yield ward
    if not Settings.control:
        peak = resident_peak(ward.pid)
        check(f'its peak is {peak >> 10} KiB, allowed are {Shared.peak_max >> 10}',
              peak <= Shared.peak_max)


def end_shared():
    """With a SIGTERM and a 0, if it lives."""
    ward, Shared.ward = Shared.ward, None
    stack, Shared.stack = Shared.stack, contextlib.ExitStack()
    if ward and ward.server.is_alive():
        print(f'    at the end: {ward.figures()}')
    elif ward:
        ward.server.is_killed = True  # it has failed a test already
    stack.close()
