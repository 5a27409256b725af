#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""test_examples.py WORD WHY PROGRAM...: runs the example programs, told well and badly.

    basics WHY COPY FIRST      echo WHY ECHO      offload WHY OFFLOAD      foreign WHY [FOREIGN]
    overload WHY OVERLOAD      wal WHY WAL       observed WHY OBSERVED
"""
import json
import os
import random
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zlib

BLOCK = 256 * 1024
SIZES = [0, 1, 4095, BLOCK - 1, BLOCK, BLOCK + 1, 8 * BLOCK, 8 * BLOCK + 1, 5 * 1024 * 1024 + 12345]
GUARD = 60  # s; what takes longer hangs

wrong = []


def run(*command, env=None, told=None):
    # A copy that hangs is a failure, not a test that never ends.
    given = {'stdin': subprocess.DEVNULL} if told is None else {'input': told}
    return subprocess.run(command, **given, capture_output=True, text=True, check=False,
                          timeout=GUARD, env=env)


def expect(what, condition, done):
    if not condition:
        wrong.append(what)
        print(f'{what}: exit {done.returncode}, {done.stdout!r}, {done.stderr!r}')


def read(path):
    with open(path, 'rb') as file:
        return file.read()


def copies(program, folder):
    for size in SIZES:
        source = os.path.join(folder, f'source-{size}')
        target = os.path.join(folder, f'target-{size}')
        data = random.Random(size).randbytes(size)
        with open(source, 'wb') as file:
            file.write(data)
        done = run(program, source, target)
        expect(f'a copy of {size} bytes is the same',
               done.returncode == 0 and not done.stderr and read(target) == data, done)


def refusals(program, folder):
    there = os.path.join(folder, f'source-{BLOCK}')
    data = read(there)
    gone = os.path.join(folder, 'gone')
    new = os.path.join(folder, 'new')

    done = run(program, gone, new)
    expect('a source that is not there is named',
           done.returncode == 1 and gone in done.stderr and 'No such file' in done.stderr
           and not os.path.exists(new), done)
    done = run(program, there, os.path.join(gone, 'x'))
    expect('a target that cannot be made is named',
           done.returncode == 1 and 'No such file' in done.stderr, done)
    done = run(program, there, there)
    expect('a file is not copied onto itself',
           done.returncode == 1 and 'File exists' in done.stderr and read(there) == data, done)
    done = run(program, folder, new)
    expect('a directory cannot be read',
           done.returncode == 1 and 'read: Is a directory' in done.stderr, done)
    for arguments in ([], [there], [there, new, new]):
        done = run(program, *arguments)
        expect(f'{len(arguments)} arguments are refused',
               done.returncode == 2 and done.stderr.startswith('usage:'), done)


def firsts(program, folder):
    for size, result in ((0, 0), (1, 1), (BLOCK, 4096)):
        done = run(program, os.path.join(folder, f'source-{size}'))
        expect(f'the first bytes of {size}',
               done.returncode == 0 and done.stdout == f'{result} bytes\n', done)
    done = run(program, os.path.join(folder, 'gone'))
    expect('a bad fd is a result', done.returncode == 0 and re.match('-9 bytes', done.stdout), done)


def whys(program):
    plain = {name: value for name, value in os.environ.items() if name != 'WEIR_POLICY'}
    done = run(program, 'epoll', env=plain)
    expect('a program that demands epoll gets it, and is told what that rules out',
           done.returncode == 0 and done.stdout.startswith('chosen: epoll\nnot io_uring: forced')
           and 'options.policy demands epoll' in done.stdout, done)
    done = run(program, env=dict(plain, WEIR_POLICY='epoll'))
    expect('so does its operator',
           done.returncode == 0 and done.stdout.startswith('chosen: epoll (asked for by')
           and 'WEIR_POLICY=epoll' in done.stdout, done)
    done = run(program, 'auto', env=plain)
    expect('the best is chosen', done.returncode == 0 and done.stdout.startswith('chosen: '), done)
    done = run(program, env=dict(plain, WEIR_POLICY='kqueue'))
    expect('a value that is none is no choice', done.returncode == 1
           and done.stdout.startswith('chosen: nothing') and 'WEIR_POLICY' in done.stdout, done)
    done = run(program, 'kqueue', env=plain)
    expect('nor is a word', done.returncode == 2 and done.stderr.startswith('usage:'), done)


def backends(why):
    """The backends that are to be had here."""
    plain = {name: value for name, value in os.environ.items() if name != 'WEIR_POLICY'}
    for backend in ('io_uring', 'epoll'):
        done = run(why, backend, env=plain)
        if done.returncode == 0:
            yield backend, dict(plain, WEIR_POLICY=backend)
        else:
            print(f'skipped: {backend} is not to be had: {done.stdout}')


# --- echo --------------------------------------------------------------------------------------


class Server:
    """An echo server that runs, until SIGTERM ends it."""

    def __init__(self, program, policy, folder, where):
        self.where = where
        self.says = open(os.path.join(folder, 'echo.says'), 'w+', encoding='utf-8')
        self.process = subprocess.Popen([program, '--policy', policy, where],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=self.says, text=True)
        line = self.process.stdout.readline()
        self.port = None if '/' in where else int(line.rsplit(':')[-1])

    def connect(self):
        if self.port is None:
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(GUARD)
            connection.connect(self.where)
            return connection
        return socket.create_connection(('127.0.0.1', self.port), timeout=GUARD)

    def complaints(self):
        with open(self.says.name, encoding='utf-8') as file:
            return file.read()

    def fds(self):
        return [int(name) for name in os.listdir(f'/proc/{self.process.pid}/fd')]

    def cpu(self):
        """Seconds of CPU time, in user space and kernel, of all its threads."""
        return time.clock_gettime(~self.process.pid << 3 | 2)  # clock_getcpuclockid(3)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.process.send_signal(signal.SIGTERM)
        try:
            out, _ = self.process.communicate(timeout=GUARD)
        except subprocess.TimeoutExpired:
            self.process.kill()
            out, _ = self.process.communicate()
        done = subprocess.CompletedProcess([], self.process.returncode, out, self.complaints())
        self.says.close()
        expect('SIGTERM ends an echo server, with nothing left',
               done.returncode == 0 and re.search(r'^receive: [1-9]\d*, p50 .* p99', out, re.M)
               and 'left:' not in out and not os.path.exists(self.where), done)


def receive(connection, size):
    data = bytearray()
    while len(data) < size:
        part = connection.recv(1 << 20)
        if not part:
            break
        data += part
    return bytes(data)


def check(what, condition):
    if not condition:
        wrong.append(what)
        print(f'wrong: {what}')


def echoes(connections, text):
    for number, connection in enumerate(connections):
        connection.sendall(b'%s %d' % (text, number))
    return all(receive(connection, len(b'%s %d' % (text, number))) == b'%s %d' % (text, number)
               for number, connection in enumerate(connections))


def serve_until(count, connections, data, served):
    """Takes what comes back, until `count` of the connections stand in `served`."""
    while len(served) < count:
        waiting = [one for one in connections if one not in served]
        ready, _, _ = select.select(waiting, [], [], GUARD)
        if not ready:
            raise TimeoutError(f'{len(served)} connections are served, {count} should be')
        for connection in ready:
            check('what comes back is what was sent', receive(connection, len(data)) == data)
        served += ready


def many(server):
    connections = [server.connect() for _ in range(100)]
    for number in range(10):
        check('100 connections have what they sent back', echoes(connections, b'%d' % number))
    connections[0].shutdown(socket.SHUT_WR)
    check('the end is answered by the end', connections[0].recv(1) == b'')
    for connection in connections[1:]:
        connection.close()


def large(server):
    """More than the socket buffers hold: nothing is read from who does not read."""
    data = random.Random(1).randbytes(8 << 20)
    with server.connect() as connection:
        sender = threading.Thread(target=connection.sendall, args=[data])
        sender.start()
        check('8 MiB come back whole', receive(connection, len(data)) == data)
        sender.join()


def more_than_fit(server):
    """The gate has 256 places: one for the signal, 255 for connections while ACCEPT has none."""
    waiting = [server.connect() for _ in range(300)]
    for connection in waiting:
        connection.sendall(b'x')
    served = []
    serve_until(255, waiting, b'x', served)
    sockets = sum(os.readlink(f'/proc/{server.process.pid}/fd/{fd}').startswith('socket:')
                  for fd in server.fds())
    check(f'a full gate accepts no more: {len(served)} served, {sockets} sockets',
          len(served) == 255 and sockets == 256)
    served[0].close()
    serve_until(256, waiting, b'x', served)
    for connection in served:
        connection.close()
    serve_until(300, waiting, b'x', served)


def starved(server, name):
    early = [server.connect()]
    check('it runs', echoes(early, b'early'))
    limits = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE,
                     (max(server.fds()) + 1 + 8, limits[1]))
    starved_since = time.monotonic()
    waiting = [server.connect() for _ in range(20)]
    for connection in waiting:
        connection.sendall(b'y')
    served = []
    serve_until(8, waiting, b'y', served)
    until = time.monotonic() + GUARD
    while '64 ms' not in server.complaints() and time.monotonic() < until:
        time.sleep(0.01)
    begin, begin_cpu = time.monotonic(), server.cpu()
    while time.monotonic() < begin + 2:
        check('who has a connection is served all the while', echoes(early + served, b'z'))
        time.sleep(0.5)
    share = 100 * (server.cpu() - begin_cpu) / (time.monotonic() - begin)
    print(f'{name}: starved of fds, the server takes {share:.2f} % of a CPU')
    check('a server without fds leaves the CPU alone', share < 50)
    pauses = [int(ms) for ms in re.findall(r'Too many open files, tries again in (\d+) ms',
                                           server.complaints())]
    passed = (time.monotonic() - starved_since) * 1000
    check(f'without fds it backs off, longer and longer: {pauses}',
          pauses[:12] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 1000][:len(pauses)])
    check(f'and keeps to that: {pauses}, {passed} ms', sum(pauses[:-1]) <= passed)
    for connection in served:
        connection.close()
    serve_until(16, waiting, b'y', served)
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, limits)
    serve_until(20, waiting, b'y', served)
    check('with fds it serves again', echoes(waiting[16:], b'again'))


def echo(folder, why, program):
    for policy, _ in backends(why):
        for where in ('0', os.path.join(folder, 'echo.socket')):
            name = f'{policy}, {"unix" if "/" in where else "tcp"}'
            print(name, flush=True)
            with Server(program, policy, folder, where) as server:
                many(server)
                large(server)
                more_than_fit(server)
            with Server(program, policy, folder, where) as server:
                starved(server, name)
    taken = socket.create_server(('127.0.0.1', 0))
    done = run(program, str(taken.getsockname()[1]))
    expect('a port that is taken is named',
           done.returncode == 1 and 'Address already in use' in done.stderr, done)
    for arguments in ([], ['--policy', 'kqueue', '0'], ['0', '1']):
        done = run(program, *arguments)
        expect(f'{arguments} are refused', done.returncode == 2, done)


# --- CPU work ----------------------------------------------------------------------------------


def offload(folder, why, program):
    path = os.path.join(folder, 'blocks')
    for backend, env in backends(why):
        for size in SIZES:
            data = random.Random(size).randbytes(size)
            with open(path, 'wb') as file:
                file.write(data)
            sums = ''.join(f'{at} {zlib.crc32(data[at:at + BLOCK]):08x}\n'
                           for at in range(0, size, BLOCK))
            done = run(program, path, env=env)
            expect(f'{backend}: the sums of {size} bytes, in order',
                   done.returncode == 0 and done.stdout == sums, done)
        interrupted(program, folder, env)
    for arguments in ([], [os.path.join(folder, 'gone')], [folder]):
        done = run(program, *arguments)
        expect(f'{arguments} cannot be summed', done.returncode == 1 and done.stderr, done)


def interrupted(program, folder, env):
    """A hole of 64 GiB: a quarter of an hour's work."""
    path = os.path.join(folder, 'hole')
    with open(path, 'wb') as file:
        file.truncate(64 << 30)
    with subprocess.Popen([program, path], bufsize=0, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, env=env) as process:
        out = process.stdout.read(4096)
        process.send_signal(signal.SIGINT)
        rest, complaint = process.communicate(timeout=GUARD)
    lines = (out + rest).decode().splitlines(keepends=True)
    done = subprocess.CompletedProcess([], process.returncode, ''.join(lines), complaint.decode())
    zeros = zlib.crc32(bytes(BLOCK))
    expect('an interrupt ends it, and what was printed is a beginning',
           done.returncode == 1 and 'Interrupted' in done.stderr
           and lines == [f'{i * BLOCK} {zeros:08x}\n' for i in range(len(lines))], done)


# --- inside another loop -----------------------------------------------------------------------


def foreign(folder, why, program=None):
    if not program:
        print('skipped: libuv was not found when this was configured (libuv1-dev, libuv-devel)')
        sys.exit(77)
    source = os.path.join(folder, 'source')
    target = os.path.join(folder, 'target')
    for backend, env in backends(why):
        for size in SIZES:
            data = random.Random(size).randbytes(size)
            with open(source, 'wb') as file:
                file.write(data)
            done = run(program, source, target, env=env)
            expect(f'{backend}: all of it, and {size} bytes, go on in another loop',
                   done.returncode == 0 and read(target) == data and
                   done.stdout.startswith('timers 100, calls 100, posts 100, messages 100, '
                                          f'bytes copied {size}\n'), done)
            expect(f'{backend}: and so does the other loop',
                   re.search(r'own clock: [1-9]', done.stdout), done)
    done = run(program, os.path.join(folder, 'gone'), target)
    expect('a source that is not there is named',
           done.returncode == 1 and 'No such file' in done.stderr, done)


# --- the write-ahead log -----------------------------------------------------------------------


def listed(lines):
    return ''.join(f'{number} {line}\n' for number, line in enumerate(lines, 1))


def wal(folder, why, program):
    for backend, env in backends(why):
        log = os.path.join(folder, f'wal-{backend}')
        os.mkdir(log)
        draw = random.Random(backend)
        lines = ['x' * draw.choice([0, 1, 100, draw.randrange(16000)]) for _ in range(1000)]
        lines += ['without an end']
        done = run(program, log, 'append', env=env, told='\n'.join(lines))
        expect(f'{backend}: lines are appended',
               done.returncode == 0 and done.stdout == f'safe to record {len(lines)}\n', done)
        done = run(program, log, 'list', env=env)
        expect(f'{backend}: and are there',
               done.returncode == 0 and done.stdout == listed(lines), done)
        damaged(program, log, lines, env)
        killed(program, log, env)
    done = run(program, os.path.join(folder, 'gone'), 'list')
    expect('a directory that is not there is named',
           done.returncode == 1 and 'No such file' in done.stderr, done)
    done = run(program, log, 'append', told='x' * 20000)
    expect('a line that is too long is refused',
           done.returncode == 1 and 'Message too long' in done.stderr, done)
    for arguments in ([], [log], [log, 'cut']):
        expect(f'{arguments} are refused', run(program, *arguments).returncode == 2, done)


def damaged(program, log, lines, env):
    """What a crash may leave: a record cut off, one that was torn, something else after them."""
    path = os.path.join(log, 'wal')
    whole = read(path)

    def holds(what, data, expected):
        with open(path, 'wb') as file:
            file.write(data)
        done = run(program, log, 'list', env=env)
        expect(what, done.returncode == 0 and done.stdout == listed(expected), done)
        return done

    holds('a record that is cut off is none', whole[:-1], lines[:-1])
    holds('what stands after the last one is none', whole + bytes(100000), lines)
    holds('a copy of the log after it is none', whole + whole, lines)
    torn = bytearray(whole)
    torn[-3] ^= 1
    holds('a record that is torn is none', torn, lines[:-1])
    done = run(program, log, 'append', env=env, told='anew\n')
    expect('the next takes its number', done.stdout == f'safe to record {len(lines)}\n', done)
    done = run(program, log, 'list', env=env)
    expect('and its place', done.stdout == listed(lines[:-1] + ['anew']), done)


def killed(program, log, env):
    os.remove(os.path.join(log, 'wal'))
    text = ''.join(f'{number} {"y" * 1000}\n' for number in range(50000)).encode()
    with subprocess.Popen([program, log, 'append'], stdin=subprocess.PIPE, env=env) as process:
        try:
            process.stdin.write(text[:len(text) // 2])  # most of it was read when this is through
        finally:
            process.kill()
    done = run(program, log, 'list', env=env)
    lines = done.stdout.splitlines()
    print(f'{len(lines)} records are left by a log that was killed')
    expect('what a kill leaves is a beginning', done.returncode == 0 and len(lines) > 0 and
           done.stdout == listed(text.decode().splitlines()[:len(lines)]), done)


def overloads(folder, why, program):
    path = os.path.join(folder, 'blocks')
    size = 3 * 1024 * 1024 + 4097
    with open(path, 'wb') as file:
        file.write(bytes(size))
    for backend, env in backends(why):
        done = run(program, path, env=env)
        lookup = re.search(r'^lookup +(\d+) done, +(\d+) refused', done.stdout, re.M)
        scrub = re.search(r'^scrub +(\d+) done', done.stdout, re.M)
        expect(f'on {backend} every lookup is answered, and some had to wait for room',
               done.returncode == 0 and lookup and int(lookup[1]) == 64 * 200
               and int(lookup[2]) > 0, done)
        expect(f'on {backend} the scrub rests, and ends',
               scrub and int(scrub[1]) == 25
               and re.search(rf'^{size} bytes scrubbed, [1-9]', done.stdout, re.M), done)
    gone = os.path.join(folder, 'gone')
    for arguments, status, word in (([], 2, 'usage:'), ([gone], 1, 'No such'),
                                    ([os.devnull], 1, 'shorter than a block')):
        done = run(program, *arguments)
        expect(f'{arguments} are refused', done.returncode == status and word in done.stderr, done)


def ask(path, page):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(f'GET {page} HTTP/1.0\r\n\r\n'.encode())
        answer = b''.join(iter(lambda: client.recv(65536), b''))
    return answer.split(b'\r\n\r\n', 1)[1]


def observed(folder, why, program):
    path = os.path.join(os.path.relpath(folder), 's')
    for backend, env in backends(why):
        child = subprocess.Popen([program, os.path.join(folder, 'store'), path, '3', 'stall'],
                                 env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        live = []
        until = time.monotonic() + GUARD
        while not live and time.monotonic() < until and child.poll() is None:
            if os.path.exists(path):
                live = [op for op in json.loads(ask(path, '/json'))['live'] if op['kind'] == 'read'
                        and op['task'] == 'read']
        out, err = child.communicate(timeout=GUARD)
        done = subprocess.CompletedProcess([program], child.returncode, out, err)
        expect(f'on {backend} it ends well and leaves no socket',
               child.returncode == 0 and not os.path.exists(path), done)
        expect(f'on {backend} the read that nobody answers is shown with its line',
               live and re.search(r'observed\.c:\d+$', live[0]['site']), done)
        expect(f'on {backend} seconds are printed',
               re.search(r'^wal append +[1-9]\d* ops, p99 of flight +\d+ us$', out, re.M), done)
    done = run(program, os.path.join(folder, 'store'), path, '1')
    expect('it ends though its second is due together with the end', done.returncode == 0, done)
    done = run(program)
    expect('no arguments are refused', done.returncode == 2 and 'usage:' in done.stderr, done)


def basics(folder, why, copy, first):
    copies(copy, folder)
    refusals(copy, folder)
    firsts(first, folder)
    whys(why)


def main():
    word, *programs = sys.argv[1:]
    words = {'basics': basics, 'echo': echo, 'offload': offload, 'foreign': foreign,
             'overload': overloads, 'wal': wal, 'observed': observed}
    with tempfile.TemporaryDirectory(prefix='weir-examples-', dir=os.getcwd()) as folder:
        words[word](folder, *(os.path.abspath(program) for program in programs))
    sys.exit(1 if wrong else 0)


if __name__ == '__main__':
    main()
