# SPDX-License-Identifier: MIT
"""hostile_time.py: clients that take their time, and a server that is told to end while they do.
See hostile.py. Nothing here asserts on how long something took."""
import contextlib
import os
import re
import select
import signal
import socket
import struct

from server import KIB, MIB, check, equal, metrics_at, real_folder, until
import wire
from ward import control_differs, hog, mistreated, serve

BOUND = 30  # s, in which a server has to be gone: its drain timeout is 2 s, or not needed
PLACE = 1 * MIB
LINGERS = 'does not end before its clients do'


# --- idle and slow ----------------------------------------------------------------------------


def idle_clients(ward, stack):
    """One for each place in the handshake at which a client may fall silent."""
    option = wire.option_bytes(wire.OPT_INFO, wire.go_data('', [3]))
    for data in [b'', b'\0\0', struct.pack('>I', 3), struct.pack('>I', 3) + option[:5],
                 struct.pack('>I', 3) + option[:16], struct.pack('>I', 3) + option[:-1],
                 struct.pack('>I', 3) + option + wire.option_bytes(wire.OPT_LIST)]:
        client = stack.enter_context(ward.connect())
        client.send(data)
        yield client


def is_hung_up(client):
    """Reads what is there."""
    while select.select([client.socket], [], [], 0)[0]:
        if not client.receive_some(1 << 16):
            return True
    return False


def keep_busy(client, data):
    """Sends that at once and again until the server has had enough of it."""
    def has_enough():
        client.send(data)
        return is_hung_up(client)
    until('who never comes to an end of the handshake is hung up on', has_enough, 60)


@control_differs(nbdkit='has no limit to a handshake')
def clients_idle_in_the_handshake_are_dropped_and_those_in_transmission_stay():
    with serve('--handshake-timeout', '1') as ward, ward.ready() as idle:
        for _ in range(2):  # so that twice the time has gone by, at least
            with contextlib.ExitStack() as stack:
                for client in list(idle_clients(ward, stack)):
                    until('an idle client is hung up on', lambda: is_hung_up(client), 60)
        idle.write(PLACE, 4096 * b'i')
        idle.disconnect()


@control_differs(nbdkit='has no limit to a handshake')
def a_handshake_that_goes_on_for_ever_is_dropped():
    with serve('--handshake-timeout', '1') as ward:
        with ward.greeted() as client:  # one byte after the other of an option's data
            client.send(wire.option_bytes(0x4242, length=wire.OPTION_MAX))
            keep_busy(client, b'x')
        with ward.greeted() as client:  # one good option after the other
            keep_busy(client, wire.option_bytes(wire.OPT_LIST))


@control_differs(nbdkit='has no limit to a handshake')
def a_handshake_whose_answers_nobody_takes_is_dropped():
    with serve('--handshake-timeout', '1') as ward, ward.greeted() as client:
        client.socket.setblocking(False)

        def is_dropped():
            try:
                while True:
                    client.socket.send(wire.option_bytes(wire.OPT_LIST) * 1000)
            except BlockingIOError:
                return False
            except (BrokenPipeError, ConnectionResetError):
                return True
        until('who takes no answer is hung up on', is_dropped, 60)


def a_handshake_byte_by_byte_is_a_handshake():
    with mistreated() as ward, ward.connect() as client:
        client.receive_hello()
        client.drip(struct.pack('>I', 3))
        for option, data, wanted in [
                (wire.OPT_LIST, b'', wire.REP_ACK), (0x4242, 100 * b'x', wire.ERR_UNSUP),
                (wire.OPT_INFO, wire.go_data('elsewhere'), wire.ERR_UNKNOWN),
                (wire.OPT_GO, b'bad', wire.ERR_INVALID),
                (wire.OPT_STRUCTURED_REPLY, b'', wire.REP_ACK),
                (wire.OPT_SET_META_CONTEXT, wire.meta_data(), wire.REP_ACK),
                (wire.OPT_GO, wire.go_data('', [0, 1, 2, 3]), wire.REP_ACK)]:
            client.drip(wire.option_bytes(option, data))
            equal(option, client.receive_option_replies(option)[0], wanted)
        client.is_structured = True
        client.read(0, 4096)


def requests_byte_by_byte_are_requests():
    with mistreated() as ward:
        for is_structured in [False, True]:
            with ward.ready(is_structured) as client:
                data = ward.random.randbytes(4096)
                for number, (command, length, payload, wanted) in enumerate([
                        (wire.CMD_WRITE, 4096, data, 0), (wire.CMD_READ, 4096, b'', 0),
                        (99, 4096, b'', wire.EINVAL), (wire.CMD_WRITE, 13, data[:13], 0),
                        (wire.CMD_READ, 13, b'', 0)]):
                    client.note(command, PLACE, length, 0, number)
                    client.drip(wire.request_bytes(command, PLACE, length, payload,
                                                   cookie=number))
                    request, cookie = client.receive_reply()
                    equal('answer', (request.error, cookie), (wanted, number))
                    check('data', command != wire.CMD_READ or request.data == data[:length])
                client.disconnect()


def a_payload_in_pieces_is_written_where_it_belongs():
    """Pieces of every size up to a page, across each border that the server may draw."""
    with mistreated() as ward, ward.ready() as client:
        data = ward.random.randbytes(256 * KIB)
        client.note(wire.CMD_WRITE, PLACE, len(data), 0, 5)
        message = wire.request_bytes(wire.CMD_WRITE, PLACE, len(data), data, cookie=5)
        begin, size = 0, 1
        while begin < len(message):
            client.send(message[begin:begin + size])
            client.wait_until_taken()
            begin, size = begin + size, size % 4096 + 7
        equal('written', client.receive_reply()[0].error, 0)
        check('in place', ward.content(PLACE, len(data)) == data)


@control_differs(nbdkit='takes no more than it has answered, and its socket has room for')
def a_client_that_reads_nothing_until_it_has_asked_for_everything_is_answered():
    """Request after request, and each waits until there is room in the socket."""
    with mistreated() as ward:
        for is_structured in [False, True]:
            with ward.ready(is_structured) as client:
                for number in range(600):
                    client.request(wire.CMD_READ, number * 4096, 4096, cookie=number)
                while client.requests:
                    request, _ = client.receive_reply()
                    check('data', request.data == ward.content(request.offset, 4096))
                client.disconnect()


@control_differs(nbdkit='counts nothing')
def a_client_with_much_to_read_is_waited_for():
    """Its wait is told from none by its end: nobody reads, so it passes its deadline."""
    expired = re.compile(r'^weir_task_expired_total\{.*task="receive".*\} [1-9]', re.MULTILINE)
    with real_folder() as folder:
        metrics = os.path.join(folder, 'metrics')
        with serve('--metrics', metrics) as ward, ward.ready() as client:
            client.read(0, 4096)  # so that it is in the page cache
            for number in range(8):
                cookies = range(32 * number, 32 * (number + 1))
                for cookie in cookies:
                    client.note(wire.CMD_READ, 0, 4096, 0, cookie)
                client.send(b''.join(wire.request_bytes(wire.CMD_READ, 0, 4096, cookie=cookie)
                                     for cookie in cookies))
                client.wait_until_taken()
            until('it was waited for', lambda: expired.search(metrics_at(metrics)))
            while client.requests:
                client.receive_reply()


# --- the end ----------------------------------------------------------------------------------


def ends_with_0(ward):
    until('it has ended', lambda: not ward.server.is_alive(), BOUND)
    equal(f'its exit code; it said {ward.server.says()[-2000:]}', ward.server.process.returncode, 0)


def drains(seconds):
    return serve('--drain-timeout', seconds, is_watched=False)


@control_differs(nbdkit=LINGERS)
def what_is_in_flight_at_sigterm_is_answered_in_full():
    """And with that it ends, long before the time that it may take is over."""
    with drains('1000') as ward, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(ward.ready(number % 2 == 0)) for number in range(4)]
        for number, client in enumerate(clients):
            for block in range(4):
                place = number * MIB + block * 4096
                client.request(wire.CMD_WRITE, place, payload=4096 * b'w', cookie=place)
                client.request(wire.CMD_READ, 8 * MIB, 64 * KIB, cookie=1)
            client.wait_until_taken()  # so all of them are in flight
        # More than a server need take: what is begun has to be ended.
        greedy = [stack.enter_context(hog(ward, 64, is_structured=flag)) for flag in (False, True)]
        for client in greedy:
            client.socket.recv(1, socket.MSG_PEEK)
        ward.server.send_signal(signal.SIGTERM)
        for client in clients:
            while client.requests:  # Dropped before that is a failure as well
                answered_or_shut_down(ward, client)
            client.must_be_dropped('a server that has ended')
        for client in greedy:
            try:
                while client.requests:
                    answered_or_shut_down(ward, client)
            except wire.Torn:
                raise
            except wire.Dropped:
                pass
        ends_with_0(ward)


def answered_or_shut_down(ward, client):
    request, _ = client.receive_reply()
    check(f'error {request.error}', request.error in (0, wire.ESHUTDOWN))
    if request.command == wire.CMD_WRITE and not request.error:
        check('what is acknowledged', ward.content(request.offset, 4096) == 4096 * b'w')


@control_differs(nbdkit=LINGERS)
def clients_that_hold_their_sockets_do_not_keep_a_server_from_its_end():
    with drains('2') as ward, contextlib.ExitStack() as stack:
        held = list(idle_clients(ward, stack))
        held += [stack.enter_context(ward.ready()) for _ in range(2)]  # with nothing to do
        half = stack.enter_context(ward.ready())  # in the middle of a write
        half.send(wire.request_bytes(wire.CMD_WRITE, PLACE, MIB, 100 * KIB * b'h'))
        held += [stack.enter_context(hog(ward)) for _ in range(2)]
        ward.server.send_signal(signal.SIGTERM)
        ends_with_0(ward)
        for client in [*held, half]:
            until('each is hung up on', lambda: is_hung_up(client))
        check('nothing more was written', not any(ward.content(PLACE + 100 * KIB, MIB)))


@control_differs(nbdkit=LINGERS)
def signals_during_the_end_do_not_make_it_a_bad_one():
    """They may make it a quick one."""
    with drains('2') as ward, ward.ready() as client:
        client.request(wire.CMD_READ, 0, 16 * MIB)
        client.wait_until_taken()
        for number in 5 * [signal.SIGTERM, signal.SIGINT]:
            ward.server.send_signal(number)
        with contextlib.suppress(BlockingIOError, ConnectionError, FileNotFoundError):
            with ward.connect() as late:  # refused, or hung up on
                until('who comes too late is hung up on', lambda: is_hung_up(late))
        with contextlib.suppress(wire.Dropped):
            answered_or_shut_down(ward, client)
        ends_with_0(ward)


TESTS = [
    clients_idle_in_the_handshake_are_dropped_and_those_in_transmission_stay,
    a_handshake_that_goes_on_for_ever_is_dropped,
    a_handshake_whose_answers_nobody_takes_is_dropped, a_handshake_byte_by_byte_is_a_handshake,
    requests_byte_by_byte_are_requests, a_payload_in_pieces_is_written_where_it_belongs,
    a_client_that_reads_nothing_until_it_has_asked_for_everything_is_answered,
    a_client_with_much_to_read_is_waited_for,
    what_is_in_flight_at_sigterm_is_answered_in_full,
    clients_that_hold_their_sockets_do_not_keep_a_server_from_its_end,
    signals_during_the_end_do_not_make_it_a_bad_one,
]
