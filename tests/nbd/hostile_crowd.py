# SPDX-License-Identifier: MIT
"""hostile_crowd.py: clients that take what there is: memory, buffers, connections, attention; and
what is left for the others. See hostile.py."""
import contextlib
import random
import socket
import struct

from server import KIB, MIB, check, equal, until
import wire
from ward import control_differs, hog, mistreated, serve

ABORTS = 'aborts in an assertion when a client goes whose replies wait'
FLOOD_MAX = 32 * MIB  # of small messages that may be taken from one who never reads


def has_been_answered(client):
    """There is something to read, so the server has read what was asked."""
    return client.socket.recv(1, socket.MSG_PEEK)


@control_differs(nbdkit=ABORTS)
def a_client_that_never_reads_costs_bounded_memory():
    with mistreated() as ward:
        for is_structured in [False, True, False, True]:
            client = hog(ward, is_structured=is_structured)
            check('a first byte', has_been_answered(client))
            ward.serves(10)
            client.close()


@control_differs(nbdkit=ABORTS)
def many_clients_that_never_read_do_not_starve_one_that_does():
    with mistreated() as ward, contextlib.ExitStack() as stack:
        for number in range(32):
            client = stack.enter_context(hog(ward, is_structured=number % 2 == 0))
            check('a first byte', has_been_answered(client))
            if number % 8 == 0:
                ward.serves(5)
        ward.serves(20)


def who_reads_late_is_answered_in_full():
    with mistreated() as ward:
        for is_structured in [False, True]:
            with hog(ward, 64, is_structured=is_structured) as client:
                ward.serves(5)
                check('some requests were taken', len(client.requests) > 8)
                while client.requests:
                    equal('read', client.receive_reply()[0].error, 0)
                client.disconnect()


def is_stopped(ward, client, message):
    """Sends as much as is taken, until no more is for a while, or until it is hung up on: who asks
    for so much may be."""
    client.socket.setblocking(False)
    block = message * (28 * KIB // len(message))
    total, begin, is_new = 0, 0, True
    while is_new and total <= FLOOD_MAX:
        is_new = False
        with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            while total <= FLOOD_MAX:
                sent = client.socket.send(block[begin:])
                begin, total, is_new = (begin + sent) % len(block), total + sent, True
        ward.serves(3)  # the server has had its time
    check(f'{total} bytes were taken from a client that reads nothing', total <= FLOOD_MAX)


@control_differs(nbdkit=ABORTS)
def a_client_that_never_reads_is_not_read_for_ever():
    with mistreated() as ward:
        for command, length in [(wire.CMD_READ, 1), (wire.CMD_FLUSH, 0), (99, 0),
                                (wire.CMD_WRITE, 512), (wire.CMD_BLOCK_STATUS, MIB)]:
            with ward.ready() as client:
                payload = bytes(length) if command == wire.CMD_WRITE else b''
                is_stopped(ward, client, wire.request_bytes(command, 0, length, payload))


def a_client_that_never_reads_its_options_is_not_read_for_ever():
    with mistreated() as ward:
        for option, data in [(wire.OPT_LIST, b''), (0x4242, b''), (wire.OPT_INFO, wire.go_data()),
                             (wire.OPT_GO, b'bad')]:
            with ward.greeted() as client:
                is_stopped(ward, client, wire.option_bytes(option, data))


def writes_that_never_end_cost_bounded_memory_and_starve_nobody():
    cases = [(32 * MIB, 256 * KIB), (MIB, MIB - 1), (4096, 4095), (32 * MIB, 0)]
    with mistreated() as ward:
        for length, given in cases:
            with contextlib.ExitStack() as stack:
                for number in range(24):
                    client = stack.enter_context(ward.ready())
                    client.socket.setblocking(False)
                    with contextlib.suppress(BlockingIOError):
                        client.send(wire.request_bytes(wire.CMD_WRITE, 0, length, bytes(given)))
                    if number % 8 == 0:
                        ward.serves(2)
                ward.serves(10)


def two_thousand_who_connect_and_leave_hurt_nobody():
    hellos = [b'', b'\0\0', struct.pack('>I', 3), struct.pack('>I', 3) + b'IHAVE']
    with mistreated() as unix, serve(is_tcp=True) as tcp:
        for number in range(2000):  # more than there are buffers
            for ward, every in [(unix, 1), (tcp, 4)]:
                if number % every == 0:
                    with ward.connect() as client:
                        client.send(hellos[number // 4 % 4])
                        if number % 2:
                            client.receive_hello()
                        if number % 3 == 0:
                            client.reset()


def a_hundred_at_once_are_served_each():
    with mistreated() as ward, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(ward.ready(number % 2 == 0)) for number in range(100)]
        order = random.Random(7)
        for _ in range(3):
            order.shuffle(clients)
            for client in clients:
                client.request(wire.CMD_READ, 4096, 4096)
            for client in clients:
                equal('read', client.receive_reply()[0].error, 0)


# --- more than may be -------------------------------------------------------------------------


def has_hello(client):
    """Whether one came; False as well if the server hung up."""
    client.socket.setblocking(False)
    try:
        return bool(client.socket.recv(1, socket.MSG_PEEK))
    except (BlockingIOError, ConnectionResetError):
        return False
    finally:
        client.socket.settimeout(wire.TIMEOUT)


@control_differs(nbdkit='has no --max-connections')
def more_than_max_connections_wait_or_are_closed():
    with serve('--max-connections', '4') as ward:
        idle_fds = ward.idle_fds
        for _ in range(3):
            with contextlib.ExitStack() as stack:
                inside = [stack.enter_context(ward.ready()) for _ in range(4)]
                outside = [stack.enter_context(ward.connect()) for _ in range(12)]
                for client in 50 * inside:  # the server has had its time
                    client.read(0, 4096)
                check('nobody more is let in', not any(map(has_hello, outside)))
                check(f'fds are bounded: {ward.server.fds()}', ward.server.fds() <= idle_fds + 8)
                inside.pop().disconnect()
                late = [client for client in outside if waits(client)]
                if late:  # they are in the backlog, and the first of them is next
                    until('one who waited is let in', lambda: any(map(has_hello, late)))
                    check('one, and not more', sum(map(has_hello, late)) == 1)
            until('all of them are gone', lambda: ward.server.fds() <= idle_fds)


def waits(client):
    """It was not hung up on."""
    client.socket.setblocking(False)
    try:
        return bool(client.socket.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return True
    except ConnectionResetError:
        return False
    finally:
        client.socket.settimeout(wire.TIMEOUT)


TESTS = [
    a_client_that_never_reads_costs_bounded_memory,
    many_clients_that_never_read_do_not_starve_one_that_does, who_reads_late_is_answered_in_full,
    a_client_that_never_reads_is_not_read_for_ever,
    a_client_that_never_reads_its_options_is_not_read_for_ever,
    writes_that_never_end_cost_bounded_memory_and_starve_nobody,
    two_thousand_who_connect_and_leave_hurt_nobody, a_hundred_at_once_are_served_each,
    more_than_max_connections_wait_or_are_closed,
]
