# SPDX-License-Identifier: MIT
"""hostile_reload.py: a server that is told to open its files again, and to make room for another,
while clients are in the middle of something. See hostile.py."""
import contextlib
import os
import signal
import threading

from server import KIB, MIB, Server, check, equal, random_file, real_folder, until
import wire
from ward import Settings, control_differs, serve

NO_RELOAD = 'ends at a SIGHUP'
SIZE = 64 * MIB


def replace(file, size):
    """By another, of zeroes."""
    with open(file + '.new', 'wb') as made:
        made.truncate(size)
    os.rename(file + '.new', file)


def size_told(ward):
    with ward.ready() as client:
        return client.export.size


def read_on(ward, is_structured, stop, wrong):
    """Reads in pieces, one after the other."""
    try:
        with ward.ready(is_structured) as client:
            while not stop.is_set():
                if client.read(0, 8 * MIB) != ward.content(0, 8 * MIB):
                    wrong.append('other bytes')
    except Exception as why:  # it is said by the test
        wrong.append(repr(why))


@control_differs(nbdkit=NO_RELOAD)
def reads_in_pieces_go_on_while_their_file_is_opened_again():
    with real_folder() as folder:
        file = random_file(f'{folder}/disk', SIZE)
        with serve(file=file, folder=folder, is_watched=False) as ward:
            stop, wrong = threading.Event(), []
            threads = [threading.Thread(target=read_on, args=(ward, flag, stop, wrong))
                       for flag in (False, True)]
            for thread in threads:
                thread.start()
            for _ in range(100):  # each takes a turn of the server, at least
                ward.server.send_signal(signal.SIGHUP)
                equal('size', size_told(ward), SIZE)
            stop.set()
            for thread in threads:
                thread.join()
            equal('what is wrong', wrong, [])


@control_differs(nbdkit=NO_RELOAD)
def a_write_that_does_not_go_on_keeps_nobody_from_another_file():
    with serve(is_watched=False) as ward, ward.ready() as slow, ward.ready() as other:
        slow.request(wire.CMD_WRITE, 0, payload=b'')  # it is answered: a client in transmission
        equal('nothing to write', slow.receive_reply()[0].error, wire.EINVAL)
        data = ward.random.randbytes(512 * KIB)
        message = wire.request_bytes(wire.CMD_WRITE, 0, len(data), data, cookie=7)
        slow.note(wire.CMD_WRITE, 0, len(data), 0, 7)
        slow.send(message[:300 * KIB])
        slow.wait_until_taken()
        replace(ward.file, MIB)
        ward.server.send_signal(signal.SIGHUP)
        until('the new size', lambda: size_told(ward) == MIB)
        check('others go on', not any(other.read(0, 4096)))
        slow.send(message[300 * KIB:])
        equal('the rest of it', slow.receive_reply()[0].error, 0)
        end = len(data) - 64 * KIB
        check('is in the new file', ward.content(end, 64 * KIB) == data[end:])


@control_differs(nbdkit=NO_RELOAD)
def a_write_whose_place_is_gone_does_not_make_the_new_file_longer():
    with serve(is_watched=False) as ward, ward.ready() as client:
        message = wire.request_bytes(wire.CMD_WRITE, 8 * MIB, MIB, MIB * b'w', cookie=7)
        client.note(wire.CMD_WRITE, 8 * MIB, MIB, 0, 7)
        client.send(message[:100 * KIB])
        client.wait_until_taken()
        replace(ward.file, MIB)
        ward.server.send_signal(signal.SIGHUP)
        until('the new size', lambda: size_told(ward) == MIB)
        client.send(message[100 * KIB:])
        equal('the write', client.receive_reply()[0].error, wire.EIO)
        equal('size', os.path.getsize(ward.file), MIB)
        check('the client goes on', not any(client.read(0, 4096)))


@control_differs(nbdkit=NO_RELOAD)
def the_last_of_many_reloads_counts():
    with serve(is_watched=False) as ward:
        for number in range(1, 50):
            for size in (MIB, 4096 * number):
                replace(ward.file, size)
                ward.server.send_signal(signal.SIGHUP)
            until('the last size', lambda: size_told(ward) == size)


@control_differs(nbdkit=NO_RELOAD)
def a_reload_and_the_end_at_once_are_an_end():
    for _ in range(10):
        with serve(is_watched=False) as ward:
            ward.server.send_signal(signal.SIGHUP)
            ward.server.send_signal(signal.SIGTERM)
            ward.server.stop()


@control_differs(nbdkit='has one owner of its socket')
def the_socket_of_who_comes_after_stays():
    with serve('--drain-timeout', '1000', is_watched=False) as ward, ward.ready() as client:
        client.send(wire.request_bytes(wire.CMD_WRITE, 0, MIB, 4096 * b'h'))
        client.wait_until_taken()
        ward.server.send_signal(signal.SIGTERM)
        until('it listens no more', lambda: not os.path.exists(ward.address))
        command = [Settings.program, ward.file, '--unix', 'socket', '--policy', Settings.policy]
        with Server(command, ward.server.folder) as after:
            client.close()
            until('the first has ended', lambda: not ward.server.is_alive())
            with contextlib.closing(wire.Client(after.path('socket'))) as late:
                late.hello().structured().go()
                equal('size', late.export.size, SIZE)


TESTS = [
    reads_in_pieces_go_on_while_their_file_is_opened_again,
    a_write_that_does_not_go_on_keeps_nobody_from_another_file,
    a_write_whose_place_is_gone_does_not_make_the_new_file_longer,
    the_last_of_many_reloads_counts, a_reload_and_the_end_at_once_are_an_end,
    the_socket_of_who_comes_after_stays,
]
