# SPDX-License-Identifier: MIT
"""clients_service.py: the server as a service: several exports, several loops, sockets that it is
given, signals, and what it tells the service manager."""
import contextlib
import ctypes
import fcntl
import os
import re
import shlex
import signal
import socket
import subprocess

from clients_copy import SIZE, patchy_file
from server import (GUARD, MIB, Failed, Skipped, check, contents, equal, metrics_at, random_file,
                    real_folder, run, same_contents, system_environment, until, want)


def size_of(uri):
    return int(run(['nbdinfo', '--size', uri]))


# --- exports and loops ------------------------------------------------------------------------


def each_export_has_its_name(rig):
    with real_folder() as folder:
        names = {'alpha': MIB, 'b e&t%a?': 2 * MIB}
        disks = {name: random_file(f'{folder}/{size}', size, seed=size)
                 for name, size in names.items()}
        with rig.serve(disks, folder) as server:
            base = server.uri_of('')
            text = run(['nbdinfo', '--list', base])
            equal('listed', sorted(re.findall('^export="(.*)":$', text, re.M)), sorted(names))
            for name, disk in disks.items():
                uri = server.uri_of(name)
                equal(f'size of {name}', size_of(uri), names[name])
                run(['nbdcopy', uri, f'{folder}/out'])
                same_contents(name, f'{folder}/out', disk)
            if not rig.is_nbdkit:
                run(['nbdinfo', '--size', base], expect=1)  # of several, the empty name is none
                run(['nbdinfo', '--size', server.uri_of('gamma')], expect=1)


def a_lone_export_answers_to_no_name_and_to_its_own(rig):
    rig.weir_only()
    with real_folder() as folder:
        disk = random_file(f'{folder}/disk', MIB)
        with rig.serve({'alpha': disk}, folder) as server:
            for uri in (server.uri_of(''), server.uri_of('alpha'), server.uri):
                equal(f'size by {uri}', size_of(uri), MIB)


def connections_on_several_loops_are_served_alike(rig):
    rig.weir_only()
    with real_folder() as folder:
        source = patchy_file(f'{folder}/source')
        disk = random_file(f'{folder}/disk', SIZE)
        with rig.serve(disk, folder, '--loops', '2') as server:
            threads = os.listdir(f'/proc/{server.process.pid}/task')
            check(f'it has a thread for each loop: {len(threads)}', len(threads) >= 2)
            for _ in range(3):
                random_file(disk, SIZE)
                run(['nbdcopy', '--connections=4', '--requests=64', '--flush', source, server.uri])
                same_contents('what came', disk, source)
                run(['nbdcopy', '--connections=4', server.uri, f'{folder}/out'])
                same_contents('what went', f'{folder}/out', source)


def past_the_page_cache_it_moves_the_same(rig):
    rig.weir_only()
    want('qemu-img')
    with real_folder() as folder:
        source = patchy_file(f'{folder}/source')
        disk = random_file(f'{folder}/disk', SIZE)
        with rig.serve(disk, folder, '--direct') as server:
            run(['nbdcopy', '--connections=4', '--requests=64', '--flush', source, server.uri])
            same_contents('what came', disk, source)
            run(['nbdcopy', server.uri, f'{folder}/out'])
            same_contents('what went', f'{folder}/out', source)
            run(['qemu-img', 'compare', '-f', 'raw', '-F', 'raw', source, server.uri])
            run(['qemu-io', '-f', 'raw', '-c', 'write -P 3 5000 3000', '-c', 'read -P 3 5000 3000',
                 server.uri])  # QEMU makes whole blocks of it, as large as the server says
        equal('what is no whole block', contents(disk, 5000, 3000), b'\3' * 3000)


def it_runs_on_the_backend_that_was_asked_for(rig):
    rig.weir_only()
    with real_folder() as folder:
        with rig.serve(random_file(f'{folder}/disk', MIB), folder) as server:
            run(['nbdcopy', server.uri, 'null:'])
            place = f'/proc/{server.process.pid}/fd'
            kinds = {os.readlink(f'{place}/{name}') for name in os.listdir(place)}
            has_ring = 'anon_inode:[io_uring]' in kinds
            if rig.policy != 'auto':
                equal(f'a ring, among {sorted(kinds)}', has_ring, rig.policy == 'io_uring')


def tried_on_the_spot(rig, *options):
    """How many ops were, while 128 KiB at a time were read: by epoll those, by the ring none."""
    with real_folder() as folder:
        metrics = f'{folder}/metrics.sock'
        with rig.serve(random_file(f'{folder}/disk', 8 * MIB), folder, '--metrics', metrics,
                       *options) as server:
            run(['nbdcopy', '--connections=1', '--requests=1', '--request-size=262144', server.uri,
                 'null:'])
            page = metrics_at(metrics)
    counts = re.findall(r'^weir_loop_inline_done_total(?:{.*})? (\d+)$', page, re.MULTILINE)
    check(f'the counter is told: {page[:200]}', counts)
    return sum(map(int, counts))


def what_is_received_is_tried_by_a_loop_that_spins(rig):
    rig.weir_only()
    without = tried_on_the_spot(rig, '--spin', '0')
    spinning = tried_on_the_spot(rig, '--spin', '100000')
    check(f'what comes is: {spinning}, not {without}', spinning > without)


def a_file_is_made_if_that_is_asked_for(rig):
    rig.weir_only()
    with real_folder() as folder:
        disk = f'{folder}/new'
        command = rig.command(disk, '--unix', f'{folder}/weir.sock')
        says = run(command, expect=1, merged=True)
        check(f'a file that is not there is named: {says}', disk in says
              and 'No such file' in says and 'weir-nbd: ' in says)
        with rig.serve(disk, folder, '--create', '8M') as server:
            equal('its size', size_of(server.uri), 8 * MIB)
            equal('and that of the file', os.path.getsize(disk), 8 * MIB)
            run(['qemu-io', '-f', 'raw', '-c', 'write -P 7 1M 64k', server.uri])
        with rig.serve(disk, folder, '--create', '8M') as server:
            equal('its size', size_of(server.uri), 8 * MIB)
        equal('one that is there keeps what it has', contents(disk, MIB, 65536), b'\7' * 65536)


# --- sockets that it is given -----------------------------------------------------------------


def libnbd_starts_it_with_a_socket(rig):
    want('nbddump')
    with real_folder() as folder:
        disk = patchy_file(f'{folder}/disk')
        server = ['[', *rig.command(disk), ']']
        equal('its size and nothing else on stdout', run(['nbdinfo', '--size', '--', *server]),
              f'{SIZE}\n')
        check('nbdinfo', 'base:allocation' in run(['nbdinfo', '--', *server]))
        run(['nbdcopy', '--', *server, 'null:'])
        run(['nbdcopy', '--', *server, f'{folder}/out'])
        same_contents('what went', f'{folder}/out', disk)
        other = random_file(f'{folder}/other', SIZE, seed=5)
        run(['nbdcopy', '--flush', '--', other, *server])
        same_contents('what came', disk, other)
        check('nbddump', run(['nbddump', '--length', '16', '--', *server]).startswith(
            '0000000000: ' + contents(other, 0, 8).hex(' ')))


@contextlib.contextmanager
def given_sockets(rig, folder, exports, listeners):
    """The server with listeners as the service manager passes them: from fd 3 on, counted in
    LISTEN_FDS, for the process LISTEN_PID."""
    # Far from 3, so that none is in the way of another. A shell puts them in place and becomes the
    # server, so that the pid is known when the environment is made.
    far = [fcntl.fcntl(listener, fcntl.F_DUPFD, 100) for listener in listeners]
    moves = ' '.join(f'{3 + number}<&{fd} {fd}<&-' for number, fd in enumerate(far))
    line = (f'exec {moves} && LISTEN_FDS={len(listeners)} LISTEN_PID=$$ exec '
            + shlex.join(rig.command(exports)))
    with open(f'{folder}/given.says', 'w+b') as says:
        process = subprocess.Popen(['bash', '-c', line], stdin=subprocess.DEVNULL, stdout=says,
                                   stderr=says, env=system_environment(), cwd=folder,
                                   pass_fds=far)
        for fd in far:
            os.close(fd)
        try:
            yield process
            process.terminate()
            equal('exit at SIGTERM', process.wait(GUARD), 0)
        except Failed as error:
            raise Failed(f'{error}; it said {contents(says.name)!r}') from None
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def two_sockets_that_it_is_given_are_both_served(rig):
    with real_folder() as folder, socket.socket() as tcp, socket.socket(socket.AF_UNIX) as local:
        disk = random_file(f'{folder}/disk', SIZE)
        tcp.bind(('127.0.0.1', 0))
        local.bind(f'{folder}/given.sock')
        for one in (tcp, local):
            one.listen()
        with given_sockets(rig, folder, disk, [tcp, local]):
            equal('by TCP', size_of(f'nbd://127.0.0.1:{tcp.getsockname()[1]}'), SIZE)
            uri = f'nbd+unix:///?socket={folder}/given.sock'
            run(['nbdcopy', uri, f'{folder}/out'])
            same_contents('by the local socket', f'{folder}/out', disk)
        check('the socket of another is left in its place', os.path.exists(f'{folder}/given.sock'))


def sockets_for_another_process_are_not_taken(rig):
    rig.weir_only()
    with real_folder() as folder:
        disk = random_file(f'{folder}/disk', MIB)
        with rig.serve(disk, folder,
                       environment={'LISTEN_FDS': '1', 'LISTEN_PID': '1'}) as server:
            equal('it listens by itself', size_of(server.uri), MIB)


# --- signals ----------------------------------------------------------------------------------

STAYS = r'''
import sys
print("here", flush=True)
for line in sys.stdin:
    h.pwrite(b"\x42" * 4096, 0, nbd.CMD_FLAG_FUA)
    assert h.pread(4096, 0) == b"\x42" * 4096
    print(h.get_size(), flush=True)
'''


def a_hangup_makes_it_look_at_its_files_again(rig):
    rig.weir_only()
    want('nbdsh')
    with real_folder() as folder:
        disk = random_file(f'{folder}/disk', MIB)
        with rig.serve(disk, folder) as server:
            early = subprocess.Popen(['nbdsh', '-u', server.uri, '-c', STAYS], text=True,
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                     env=system_environment())
            try:
                equal('an early client', early.stdout.readline(), 'here\n')
                with open(disk, 'r+b') as file:
                    file.truncate(3 * MIB)
                equal('before the signal', size_of(server.uri), MIB)
                server.send_signal(signal.SIGHUP)
                until('a new client sees the new size', lambda: size_of(server.uri) == 3 * MIB)
                run(['qemu-io', '-f', 'raw', '-c', 'write -P 9 2M 64k', server.uri])
                equal('in the file', contents(disk, 2 * MIB, 65536), b'\x09' * 65536)
                out, _ = early.communicate('go on\n', timeout=GUARD)
                equal('who was there goes on with what it was told', out, f'{MIB}\n')
                equal('exit of who was there', early.returncode, 0)
            finally:
                early.kill()
                early.wait()

            other = random_file(f'{folder}/other', 2 * MIB, seed=8)
            kept = contents(other)
            os.replace(other, disk)
            server.send_signal(signal.SIGHUP)
            until('the file in its place is opened', lambda: size_of(server.uri) == 2 * MIB)
            run(['nbdcopy', server.uri, f'{folder}/out'])
            check('and read', contents(f'{folder}/out') == kept)

            os.rename(disk, f'{folder}/away')
            server.send_signal(signal.SIGHUP)
            until('a file that is gone is complained about', lambda: disk in server.says())
            equal('and what was there is served on', size_of(server.uri), 2 * MIB)
            os.rename(f'{folder}/away', disk)


def either_signal_ends_it_with_0_and_removes_its_socket(rig):
    rig.weir_only()
    for number in (signal.SIGTERM, signal.SIGINT):
        with real_folder() as folder:
            with rig.serve(random_file(f'{folder}/disk', MIB), folder) as server:
                path = server.uri.split('socket=')[1]
                check('its socket is there', os.path.exists(path))
                server.stop(number)
                check('its socket is gone', not os.path.exists(path))


# --- the service manager ----------------------------------------------------------------------


class Manager:
    """What NOTIFY_SOCKET names: a datagram socket, in the file system or (@) beside it."""

    def __init__(self, folder, is_abstract):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(GUARD)
        path = f'{folder}/notify.sock'
        self.name = '@' + path if is_abstract else path
        self.socket.bind('\0' + path if is_abstract else path)
        self.told = []

    def hear(self, line):
        """Waits for a line; those before it are in `told`."""
        while True:
            try:
                datagram = self.socket.recv(4096)
            except TimeoutError:
                raise Failed(f'{line} is not told, only {self.told}') from None
            lines = datagram.decode().splitlines()
            self.told += lines
            if line in lines:
                return


def the_service_manager_is_told(rig):
    rig.weir_only()
    for is_abstract in (False, True):
        with real_folder() as folder:
            disk = random_file(f'{folder}/disk', MIB)
            manager = Manager(folder, is_abstract)
            told = {'NOTIFY_SOCKET': manager.name, 'WATCHDOG_USEC': '200000'}
            with manager.socket, rig.serve(disk, folder, environment=told) as server:
                manager.hear('READY=1')
                equal('it listens when it says so', size_of(server.uri), MIB)
                for _ in range(5):  # again and again, while nobody does anything
                    manager.hear('WATCHDOG=1')
                server.send_signal(signal.SIGHUP)
                manager.hear('RELOADING=1')
                manager.hear('READY=1')
                server.send_signal(signal.SIGTERM)
                manager.hear('STOPPING=1')
                equal('exit', server.process.wait(GUARD), 0)
            check(f'each is told once in its turn: {manager.told}',
                  [line for line in manager.told if line in ('READY=1', 'STOPPING=1')]
                  == ['READY=1', 'READY=1', 'STOPPING=1'])


PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207


@contextlib.contextmanager
def held_still(thread):
    """One thread of a process of ours stands still; the others go on."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]

    def ptrace(request):
        if libc.ptrace(request, thread, None, None) < 0:
            raise Skipped(f'ptrace: {os.strerror(ctypes.get_errno())}')
    ptrace(PTRACE_SEIZE)
    ptrace(PTRACE_INTERRUPT)
    os.waitpid(thread, 0x40000000)  # __WALL; it is stopped now
    try:
        yield
    finally:
        ptrace(PTRACE_DETACH)


def second_loop(pid):
    """The thread that waits for I/O, and is not the first; workers wait for a futex."""
    wait = {int(thread): contents(f'/proc/{pid}/task/{thread}/wchan')
            for thread in os.listdir(f'/proc/{pid}/task') if int(thread) != pid}
    if set(wait.values()) <= {b'0'}:
        raise Skipped('the kernel does not say where a thread waits (wchan)')
    loops = [thread for thread, where in wait.items()
             if b'epoll' in where or where.startswith((b'ep_', b'io_'))]
    return loops[0] if len(loops) == 1 else None


def a_watchdog_is_not_fed_while_any_loop_stands_still(rig):
    rig.weir_only()
    with real_folder() as folder:
        manager = Manager(folder, False)
        told = {'NOTIFY_SOCKET': manager.name, 'WATCHDOG_USEC': '100000'}
        with manager.socket, rig.serve(random_file(f'{folder}/disk', MIB), folder, '--loops', '2',
                                       environment=told) as server:
            manager.hear('WATCHDOG=1')
            until('the second loop sleeps', lambda: second_loop(server.process.pid))
            with held_still(second_loop(server.process.pid)):
                manager.socket.settimeout(1)  # ten times as long as it may be silent
                fed = 0
                with contextlib.suppress(Failed):  # nothing is heard any more
                    for fed in range(4):
                        manager.hear('WATCHDOG=1')
                check(f'it is fed {fed} times', fed < 3)  # one or two were on their way
            manager.socket.settimeout(GUARD)
            manager.hear('WATCHDOG=1')  # again


def a_watchdog_of_another_process_is_not_fed(rig):
    rig.weir_only()
    with real_folder() as folder:
        manager = Manager(folder, False)
        told = {'NOTIFY_SOCKET': manager.name, 'WATCHDOG_USEC': '200000', 'WATCHDOG_PID': '1'}
        with manager.socket, rig.serve(random_file(f'{folder}/disk', MIB), folder,
                                       environment=told) as server:
            manager.hear('READY=1')
            equal('it works', size_of(server.uri), MIB)
            server.stop()
            manager.hear('STOPPING=1')
            check(f'a watchdog of another process is not fed: {manager.told}',
                  'WATCHDOG=1' not in manager.told)


TESTS = [
    each_export_has_its_name,
    a_lone_export_answers_to_no_name_and_to_its_own,
    connections_on_several_loops_are_served_alike,
    past_the_page_cache_it_moves_the_same,
    it_runs_on_the_backend_that_was_asked_for,
    what_is_received_is_tried_by_a_loop_that_spins,
    a_file_is_made_if_that_is_asked_for,
    libnbd_starts_it_with_a_socket,
    two_sockets_that_it_is_given_are_both_served,
    sockets_for_another_process_are_not_taken,
    a_hangup_makes_it_look_at_its_files_again,
    either_signal_ends_it_with_0_and_removes_its_socket,
    the_service_manager_is_told,
    a_watchdog_is_not_fed_while_any_loop_stands_still,
    a_watchdog_of_another_process_is_not_fed,
]
