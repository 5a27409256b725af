# SPDX-License-Identifier: MIT
"""server.py: runs an NBD server, and its clients, for the tests beside it.

A test is a function whose name is a sentence; it raises Failed, or lets `run` and `check` do so.
Whatever a machine lacks is a skip: `need` ends the script with 77, Skipped ends one test.
"""
import contextlib
import ctypes
import errno
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.parse

GUARD = 120  # s; what takes longer hangs
SKIP = 77
KIB, MIB = 1 << 10, 1 << 20


class Failed(Exception):
    """Something is not as it has to be."""


class Skipped(Exception):
    """What the machine lacks."""


def check(what, condition):
    if not condition:
        raise Failed(what)


def equal(what, got, want):
    if got != want:
        raise Failed(f'{what}: got {got!r}, want {want!r}')


def until(what, condition, bound=GUARD):
    """Waits for a condition; what it answers."""
    end = time.monotonic() + bound
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > end:
            raise Failed(f'not within {bound} s: {what}')
        time.sleep(0.01)


# --- programs ---------------------------------------------------------------------------------


def system_environment(**more):
    """Debian's own python3 first: nbdsh takes the one that is found, which has to know nbd."""
    path = '/usr/bin:/bin:/usr/sbin:/sbin:' + os.environ.get('PATH', '')
    return {**os.environ, 'PATH': path, 'LC_ALL': 'C', **more}


def run(command, expect=0, merged=False, bound=GUARD, folder=None, **environment):
    """Runs a client to its end. Its output; Failed if it does not exit with `expect`, a code or
    several. `merged`: with what it said on stderr."""
    expected = (expect,) if isinstance(expect, int) else expect
    command = [str(word) for word in command]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=bound,
            cwd=folder, env=system_environment(**environment))
    except subprocess.TimeoutExpired as error:
        raise Failed(f'{" ".join(command)}\n  hangs: {error.stdout!r}, {error.stderr!r}') from None
    out, says = (text.decode('utf-8', 'replace') for text in (done.stdout, done.stderr))
    if done.returncode not in expected:
        raise Failed(f'{" ".join(command)}\n  exit {done.returncode}, not {expect}: '
                     f'{out[-2000:]}{says[-2000:]}')
    return out + says if merged else out


def missing(*tools):
    path = system_environment()['PATH']
    return [tool for tool in tools if not shutil.which(tool, path=path)]


def need(*tools):
    """Ends the script with a skip if one is not there."""
    lacks = missing(*tools)
    if lacks:
        print(f'skipped: not here: {", ".join(lacks)}')
        sys.exit(SKIP)


def want(*tools):
    """Skips one test if one is not there."""
    lacks = missing(*tools)
    if lacks:
        raise Skipped(f'not here: {", ".join(lacks)}')


def need_policy(policy):
    """Ends the script with a skip where the kernel refuses the backend."""
    if policy != 'io_uring':
        return
    call = ctypes.CDLL(None, use_errno=True).syscall
    fd = call(425, 1, ctypes.create_string_buffer(120))  # io_uring_setup, on every machine
    if fd >= 0:
        os.close(fd)
    elif ctypes.get_errno() in (errno.ENOSYS, errno.EPERM, errno.EACCES):
        print(f'skipped: io_uring: {os.strerror(ctypes.get_errno())}')
        sys.exit(SKIP)


def metrics_at(path):
    """What a server with --metrics PATH has counted, as text."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(b'GET /metrics HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n\r\n')
        return b''.join(iter(lambda: client.recv(1 << 16), b'')).decode()


@contextlib.contextmanager
def real_folder():
    """A folder on a disk's file system: that of temporary files is often a tmpfs. Its path is
    short, as that of a socket has to be."""
    place = '/var/tmp' if os.access('/var/tmp', os.W_OK) else None
    path = tempfile.mkdtemp(prefix='weir-', dir=place)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def random_file(path, size, seed=1):
    """Data that is the same in every run, and nowhere zero for long."""
    generator = random.Random(seed)
    with open(path, 'wb') as file:
        for begin in range(0, size, MIB):
            file.write(generator.randbytes(min(MIB, size - begin)))
    return path


def contents(path, begin=0, length=-1):
    with open(path, 'rb') as file:
        file.seek(begin)
        return file.read(length)


def same_contents(what, path, other):
    run(['cmp', path, other], merged=True)
    equal(f'{what}: sizes', os.path.getsize(path), os.path.getsize(other))


# --- the server -------------------------------------------------------------------------------


class Server:
    """A server that runs: `with Server([program, 'disk.img', '--unix', 'socket']) as server:`

    Names in the command are relative to `folder`, an own one if none is given. It is entered when
    the server has said its URI, and left with a SIGTERM, which must end it with 0.
    """

    def __init__(self, command, folder=None, environment=None, fds=()):
        self.stack = contextlib.ExitStack()
        self.folder = folder or self.stack.enter_context(real_folder())
        program = shutil.which(command[0], path=system_environment()['PATH']) or command[0]
        self.command = [os.path.abspath(program), *(str(word) for word in command[1:])]
        self.environment = system_environment(**(environment or {}))
        self.fds_kept = tuple(fds)
        self.process = None
        self.is_killed = False

    def path(self, name):
        return os.path.join(self.folder, name)

    def start(self):
        self.out = self.stack.enter_context(
            tempfile.NamedTemporaryFile(dir=self.folder, prefix='stdout-'))
        self.err = self.stack.enter_context(
            tempfile.NamedTemporaryFile(dir=self.folder, prefix='stderr-'))
        self.process = subprocess.Popen(
            self.command, cwd=self.folder, env=self.environment, pass_fds=self.fds_kept,
            stdin=subprocess.DEVNULL, stdout=self.out, stderr=self.err)
        self.wait_for_uri()
        return self

    def wait_for_uri(self):
        until(f'{self.command[0]} says its URI', self.is_ready)

    def is_ready(self):
        if self.process.poll() is not None:
            raise Failed(f'{" ".join(self.command)}\n  exit {self.process.returncode} before it '
                         f'listened: {self.says()}')
        return self.uris

    @property
    def uris(self):
        """All that it has said, whole lines only."""
        with open(self.out.name, encoding='utf-8') as file:
            lines = file.read().split('\n')[:-1]
        return [line for line in lines if line.startswith('nbd')]

    @property
    def uri(self):
        return self.uris[0]

    def uri_of(self, name):
        """Of an export by its name; for a server on a unix socket."""
        where = self.uri.split('?')[1]
        return f'{self.uri.split(":")[0]}:///{urllib.parse.quote(name, safe="")}?{where}'

    def says(self):
        """What it said on stderr."""
        with open(self.err.name, encoding='utf-8', errors='replace') as file:
            return file.read()

    def is_alive(self):
        return self.process.poll() is None

    def rss_kib(self):
        with open(f'/proc/{self.process.pid}/status', encoding='ascii') as file:
            return next(int(line.split()[1]) for line in file if line.startswith('VmRSS:'))

    def fds(self):
        return len(os.listdir(f'/proc/{self.process.pid}/fd'))

    def send_signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        """At once, without a chance to say anything: the test wants it so."""
        self.is_killed = True
        self.process.kill()
        self.process.wait()

    def stop(self, number=signal.SIGTERM):
        """It ends, and has to say 0."""
        if self.process.poll() is None:
            self.send_signal(number)
        try:
            code = self.process.wait(GUARD)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failed(f'{self.command[0]} is not ended by signal {number}: '
                         f'{self.says()}') from None
        equal(f'{self.command[0]} ended: {self.says()}', code, 0)

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.end()
            raise

    def end(self):
        if self.process and self.process.poll() is None:
            self.kill()
        self.stack.close()

    def __exit__(self, kind, *_):
        try:
            if kind is None and not self.is_killed:
                self.stop()
            elif kind is not None:
                print(f'  {" ".join(self.command)}\n  said: {self.says()[-4000:]}', flush=True)
        finally:
            self.end()


class Nbdkit(Server):
    """nbdkit, another server for the same tests: what fails against both is wrong in the test.
    `arguments` end with the plugin and its own: `Nbdkit(['file', 'disk.img'])`."""

    def __init__(self, arguments, folder=None, port=None, is_tls=False, environment=None):
        super().__init__(['nbdkit'], folder, environment)
        socket_path = self.path('nbdkit.sock')
        for left in (socket_path, self.path('nbdkit.pid')):  # of one before it in that folder
            with contextlib.suppress(FileNotFoundError):
                os.unlink(left)
        if port:
            where = ['-i', '127.0.0.1', '-p', str(port)]
            address = f'://127.0.0.1:{port}'
        else:
            where = ['-U', socket_path]
            address = f'+unix:///?socket={socket_path}'
        self.known_uri = ('nbds' if is_tls else 'nbd') + address
        self.command += ['-f', *where, '-P', self.path('nbdkit.pid'), *arguments]

    @property
    def uris(self):
        """It says none; its pid is in the file as soon as it listens."""
        pid_path = self.path('nbdkit.pid')
        is_listening = os.path.exists(pid_path) and os.path.getsize(pid_path) > 0
        return [self.known_uri] if is_listening else []


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


# --- tests ------------------------------------------------------------------------------------


def run_tests(tests, names=(), arguments=()):
    """Runs those named, or all, each with `arguments` and to its end. Never returns: 0, 1 if one
    failed, 77 if each was skipped."""
    known = {test.__name__: test for test in tests}
    failed, passed = [], 0
    for name in names or known:
        try:
            known[name](*arguments)
        except Skipped as why:
            print(f'skipped: {name}: {why}', flush=True)
        except Failed as why:
            failed.append(name)
            print(f'FAILED: {name}: {why}', flush=True)
        except Exception:  # a test that breaks must not hide those after it
            failed.append(name)
            print(f'FAILED: {name}: {traceback.format_exc()}', flush=True)
        else:
            passed += 1
            print(f'ok: {name}', flush=True)
    if failed:
        print(f'{len(failed)} failed: {", ".join(failed)}')
    sys.exit(1 if failed else 0 if passed else SKIP)
