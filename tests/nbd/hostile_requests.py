# SPDX-License-Identifier: MIT
"""hostile_requests.py: requests that cannot be done, and how each is refused. See hostile.py.

After each refusal the connection goes on: a payload that comes with what is refused is passed over,
and an error is never followed by data.
"""
import contextlib
import os
import socket

from server import KIB, MIB, check, equal, until
import wire
from wire import CMD_BLOCK_STATUS, CMD_CACHE, CMD_DISC, CMD_FLUSH, CMD_READ, CMD_TRIM, \
    CMD_WRITE, CMD_WRITE_ZEROES, EINVAL, ENOSPC, EPERM
from ward import HELD, SIZE, Settings, control_differs, mistreated, serve

MANY = 0xffffffff
RANGES = [CMD_READ, CMD_WRITE, CMD_TRIM, CMD_CACHE, CMD_WRITE_ZEROES, CMD_BLOCK_STATUS]
UNKNOWN = [8, 9, 0xff, 0x100, 0x8000, 0xffff]
PLACE = 1 * MIB  # what these tests write to


def refused(client, wanted, command, offset, length, flags=0):
    payload = length * b'!' if command == CMD_WRITE else b''
    got = client.ask(command, offset, length, payload, flags).error
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    check(f'command {command} at {offset:#x}, {length:#x} bytes, flags {flags:#x}: error {got}, '
          f'not {wanted}', got in wanted)


def in_both_styles(ward):
    """Simple replies are asked for as well as structured ones."""
    for is_structured in [False, True]:
        with ward.ready(is_structured) as client:
            yield client
            client.read(0, 4096)
            client.disconnect()


def bad_request_magics_are_dropped():
    with mistreated() as ward:
        for magic in [0, 0x12560953, 0x21e41c71, 0x25609514, wire.SIMPLE_MAGIC, MANY]:
            with ward.ready() as client:
                client.write(PLACE, 4096 * b'a')
                client.send(wire.request_bytes(CMD_WRITE, PLACE, 4096, 4096 * b'b', magic=magic))
                client.must_be_dropped(f'request magic {magic:#x}')
            equal('what was there', ward.content(PLACE, 4096), 4096 * b'a')


def what_is_past_the_end_is_refused():
    wanted = {CMD_WRITE: ENOSPC, CMD_WRITE_ZEROES: ENOSPC}
    with mistreated() as ward:
        tail = ward.content(SIZE - 512, 512)
        for client in in_both_styles(ward):
            for command in RANGES:
                for offset, length in [
                        (SIZE, 512), (SIZE - 512, 1024), (SIZE - 1, 2), (SIZE + 1, 1),
                        (1 << 62, 4096), ((1 << 63) - 1, 1), (1 << 63, 512), (2 ** 64 - 1, 1),
                        (2 ** 64 - 512, 512), (2 ** 64 - 512, 1024), (2 ** 64 - 1, 65536)]:
                    refused(client, wanted.get(command, EINVAL), command, offset, length)
                if command != CMD_WRITE:
                    refused(client, wanted.get(command, EINVAL), command, 4096, MANY)
        equal('size', os.path.getsize(ward.file), SIZE)
        equal('the last bytes', ward.content(SIZE - 512, 512), tail)


def unknown_commands_are_refused():
    with mistreated() as ward:
        for client in in_both_styles(ward):
            for command in UNKNOWN:
                for offset, length in [(0, 0), (0, 4096), (2 ** 64 - 1, MANY)]:
                    refused(client, EINVAL, command, offset, length)
                refused(client, EINVAL, command, 0, 512, flags=0xffff)


def unknown_flags_are_refused():
    with mistreated() as ward, ward.ready() as writer:
        writer.write(PLACE, 4096 * b'a')
        for client in in_both_styles(ward):
            for command in [*RANGES, CMD_FLUSH]:
                length = 0 if command == CMD_FLUSH else 4096
                for flag in (1 << bit for bit in range(5, 16)):
                    refused(client, EINVAL, command, PLACE if length else 0, length, flag)
        equal('what was there', ward.content(PLACE, 4096), 4096 * b'a')


def flags_of_another_command_are_refused():
    known = {CMD_READ: wire.CMD_FLAG_DF, CMD_BLOCK_STATUS: wire.CMD_FLAG_REQ_ONE,
             CMD_WRITE_ZEROES: wire.CMD_FLAG_NO_HOLE | wire.CMD_FLAG_FAST_ZERO}
    with mistreated() as ward, ward.ready() as writer:
        writer.write(PLACE, 4096 * b'a')
        for client in in_both_styles(ward):
            for command in [*RANGES, CMD_FLUSH]:
                length = 0 if command == CMD_FLUSH else 4096
                for flag in [2, 4, 8, 16]:
                    if not flag & known.get(command, 0):
                        refused(client, EINVAL, command, PLACE if length else 0, length, flag)
            if not client.is_structured and not Settings.control:  # nbdkit ignores DF
                refused(client, EINVAL, CMD_READ, PLACE, 4096, wire.CMD_FLAG_DF)
        equal('what was there', ward.content(PLACE, 4096), 4096 * b'a')


@control_differs(nbdkit='refuses it where nothing is written')
def fua_is_taken_with_every_command():
    """The text: "the server MUST accept all commands with this bit set"."""
    with mistreated() as ward, ward.ready() as client:
        for command in [*RANGES, CMD_FLUSH]:
            length = 0 if command == CMD_FLUSH else 4096
            refused(client, 0, command, PLACE if length else 0, length, wire.CMD_FLAG_FUA)


def reads_of_2_gib_are_refused():
    with mistreated() as ward:
        for client in in_both_styles(ward):
            for length in [1 << 31, MANY, 0x7fffffff, SIZE + 1]:
                refused(client, EINVAL, CMD_READ, 0, length)
            if not Settings.control:  # more than the 32 MiB which are promised: nbdkit sends it
                refused(client, (EINVAL, wire.EOVERFLOW), CMD_READ, 0, wire.PAYLOAD_MAX + 4096)


def what_is_promised_of_32_mib_works():
    with mistreated(growth_max=64 * MIB) as ward:
        for client in in_both_styles(ward):
            data = ward.random.randbytes(MIB) * 32
            client.write(0, data)
            check('32 MiB', client.read(0, len(data)) == data)
            check('32 MiB in one', client.read(0, 65536, wire.CMD_FLAG_DF) == data[:65536]
                  if client.is_structured else True)
            refused(client, 0, CMD_WRITE_ZEROES, 0, HELD)
            check('zeroes', not any(client.read(0, wire.PAYLOAD_MAX)))


def writes_of_4_gib_are_dropped_before_they_come():
    limit = [] if Settings.control else [wire.PAYLOAD_MAX + 1]  # nbdkit's is 64 MiB
    with mistreated() as ward:
        for length in [*limit, 1 << 31, MANY]:
            for given in [0, 100 * KIB]:
                with ward.ready() as client:
                    client.write(PLACE, 4096 * b'a')
                    client.send(wire.request_bytes(CMD_WRITE, PLACE, length, given * b'!'))
                    client.must_be_dropped(f'a write of {length} bytes')
                equal('what was there', ward.content(PLACE, 4096), 4096 * b'a')


def block_status_without_a_context_is_refused():
    with mistreated() as ward:
        for is_structured in [False, True]:
            with ward.ready(is_structured, contexts=()) as client:
                for flags in [0, wire.CMD_FLAG_REQ_ONE]:
                    refused(client, EINVAL, CMD_BLOCK_STATUS, 0, 4096, flags)
                client.disconnect()


def requests_of_nothing_are_answered():
    with mistreated() as ward:
        for client in in_both_styles(ward):
            refused(client, EINVAL, CMD_READ, 0, 0)
            for command in RANGES[1:]:  # unspecified, but for that nobody is to hang up
                wanted = (0, EINVAL, ENOSPC) if Settings.control else (0, EINVAL)
                refused(client, wanted, command, 0, 0)
            refused(client, EINVAL, CMD_READ, SIZE, 0)


def a_flush_of_a_range_is_answered():
    """It may have none; what a server says to one is its own affair."""
    with mistreated() as ward:
        for client in in_both_styles(ward):
            refused(client, (0, EINVAL), CMD_FLUSH, 4096, 0)
            refused(client, (0, EINVAL), CMD_FLUSH, 0, 4096)
            refused(client, 0, CMD_FLUSH, 0, 0)


def a_read_only_export_is_not_written_to():
    with serve('--read-only') as ward, ward.ready() as client:
        check('READ_ONLY', client.export.flags & wire.READ_ONLY)
        for command in [CMD_WRITE, CMD_TRIM, CMD_WRITE_ZEROES]:
            refused(client, EPERM, command, 0, 4096)
            refused(client, (EPERM, EINVAL), command, 0, 4096, 1 << 15)
            refused(client, (EPERM, ENOSPC, EINVAL), command, SIZE, 4096)
        refused(client, 0, CMD_FLUSH, 0, 0)
        check('zeroes', not any(client.read(0, 64 * KIB)))


def cookies_are_opaque():
    with mistreated() as ward:
        for client in in_both_styles(ward):
            client.write(PLACE, 4096 * b'a')
            cookies = [0, 1, 1, 1 << 63, 2 ** 64 - 1, 0x6698664466986744, 0, 1]
            for cookie in cookies:
                client.request(CMD_READ, PLACE, 4096, cookie=cookie)
            got = [client.receive_reply() for _ in cookies]
            equal('cookies', sorted(cookie for _, cookie in got), sorted(cookies))
            check('data', all(request.data == 4096 * b'a' for request, _ in got))


def refused_and_good_requests_in_one_segment_are_each_answered():
    with mistreated() as ward:
        for client in in_both_styles(ward):
            cases = 20 * [
                (CMD_WRITE, PLACE, 4096, 0, 0), (CMD_WRITE, SIZE, 4096, 0, ENOSPC),
                (CMD_READ, SIZE, 4096, 0, EINVAL), (CMD_READ, 0, 4096, 0, 0),
                (CMD_WRITE, PLACE, 3000, 1 << 9, EINVAL), (99, 5, 4096, 0, EINVAL),
                (CMD_READ, 2 ** 64 - 1, MANY, 0, EINVAL), (CMD_WRITE, PLACE + 8192, 17, 0, 0)]
            data = b''
            for number, (command, offset, length, flags, _) in enumerate(cases):
                client.note(command, offset, length, flags, number)
                payload = length * b'p' if command == CMD_WRITE else b''
                data += wire.request_bytes(command, offset, length, payload, flags, number)
            client.send(data)
            for _ in cases:
                request, number = client.receive_reply()
                equal(cases[number], request.error, cases[number][4])


# --- the end of it ----------------------------------------------------------------------------


def half_a_write_writes_nothing_that_was_not_sent():
    size = 128 * KIB
    ends = [lambda client: client.close(), lambda client: client.reset(),
            lambda client: client.socket.shutdown(socket.SHUT_WR)]
    with mistreated() as ward, ward.ready() as writer:
        for end in ends:
            for given in [0, 1, 4095, 64 * KIB, size - 1]:
                writer.write(PLACE, (size + 4096) * b'a')
                fds = ward.server.fds()
                with ward.ready() as client:
                    client.send(wire.request_bytes(CMD_WRITE, PLACE, size, given * b'b'))
                    end(client)
                    if client.socket.fileno() >= 0:  # an error may come, and the end must
                        client.note(CMD_WRITE, PLACE, size, 0, 1)
                        with contextlib.suppress(wire.Dropped):
                            check('half a write fails', client.receive_reply()[0].error)
                            client.must_be_dropped('half a write, and no more')
                until('that one is gone', lambda: ward.server.fds() <= fds, 30)
                rest = ward.content(PLACE + given, size + 4096 - given)
                check(f'{given} bytes of {size}: beyond them', rest == len(rest) * b'a')


@control_differs(nbdkit='aborts in an assertion when a client goes whose replies wait')
def clients_that_vanish_with_requests_in_flight_hurt_nobody():
    with mistreated() as unix, serve(is_tcp=True) as tcp:
        for number in range(60):
            for ward in [unix, tcp]:
                with ward.ready(number % 2 == 0) as client:
                    client.socket.setblocking(False)
                    with contextlib.suppress(BlockingIOError):  # it ends wherever it is stopped
                        for block in range(16):
                            place = PLACE + block * 64 * KIB
                            client.request(CMD_READ, place, 64 * KIB)
                            client.request(CMD_WRITE, place, payload=64 * KIB * b'c')
                        client.request(CMD_FLUSH)
                    if number % 3:
                        client.reset()


@control_differs(nbdkit='answers some of it with ESHUTDOWN')
def what_came_before_a_disconnect_is_done():
    with mistreated() as ward:
        for client in in_both_styles(ward):
            with ward.ready(client.is_structured) as other:
                count = 64
                mark = bytes([ward.random.randrange(1, 255)])
                for block in range(count):
                    other.request(CMD_WRITE, PLACE + block * 4096, payload=4096 * mark)
                after = wire.request_bytes(CMD_WRITE, PLACE, 4096, 4096 * b'\xff', cookie=999)
                other.send(wire.request_bytes(CMD_DISC) + after)
                answered = 0
                with contextlib.suppress(wire.Dropped):
                    while True:
                        equal('write', other.receive_reply()[0].error, 0)
                        answered += 1
                equal('answered', answered, count)
                check('written', ward.content(PLACE, count * 4096) == count * 4096 * mark)


def a_client_that_only_listens_is_answered_or_hung_up_on():
    """It has shut down its own half, which NBD does not know: what comes is right, and ends."""
    with mistreated() as ward:
        for client in in_both_styles(ward):
            with ward.ready(client.is_structured) as other:
                for block in range(16):
                    other.request(CMD_READ, block * MIB, MIB)
                other.socket.shutdown(socket.SHUT_WR)
                with contextlib.suppress(wire.Dropped):
                    while True:
                        error = other.receive_reply()[0].error
                        check(f'error {error}', error in (0, wire.ESHUTDOWN))


TESTS = [
    bad_request_magics_are_dropped, what_is_past_the_end_is_refused, unknown_commands_are_refused,
    unknown_flags_are_refused, flags_of_another_command_are_refused,
    fua_is_taken_with_every_command, reads_of_2_gib_are_refused, what_is_promised_of_32_mib_works,
    writes_of_4_gib_are_dropped_before_they_come, block_status_without_a_context_is_refused,
    requests_of_nothing_are_answered, a_flush_of_a_range_is_answered,
    a_read_only_export_is_not_written_to, cookies_are_opaque,
    refused_and_good_requests_in_one_segment_are_each_answered,
    half_a_write_writes_nothing_that_was_not_sent,
    clients_that_vanish_with_requests_in_flight_hurt_nobody,
    what_came_before_a_disconnect_is_done, a_client_that_only_listens_is_answered_or_hung_up_on,
]
