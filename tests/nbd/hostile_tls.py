# SPDX-License-Identifier: MIT
"""hostile_tls.py: what is said before TLS, instead of it and in its middle. See hostile.py."""
import contextlib
import os
import ssl
import struct

from clients_tls import make_authority
from server import KIB, MIB, Failed, Skipped, check, equal, missing, real_folder
import wire
from wire import ERR_INVALID, ERR_TLS_REQD, REP_ACK
from ward import Settings, serve

START = wire.option_bytes(wire.OPT_STARTTLS)
HELLO = bytes.fromhex('1603010200010001fc0303')  # as a TLS client begins


class Authority:
    """Certificates, made once."""
    stack = contextlib.ExitStack()
    place = None


def certificates():
    if Settings.is_without_tls:
        raise Skipped('built without GnuTLS')
    if missing('certtool'):
        raise Skipped('not here: certtool')
    if not Authority.place:
        Authority.place = make_authority(Authority.stack.enter_context(real_folder()), 'pki')
    return Authority.place


def context():
    """What a client trusts, and is trusted for."""
    place = certificates()
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.load_verify_locations(os.path.join(place, 'ca-cert.pem'))
    made.load_cert_chain(os.path.join(place, 'client-cert.pem'),
                         os.path.join(place, 'client-key.pem'))
    return made


def wrap(client):
    """TLS on the connection as it is; what was agreed before does not count any more."""
    client.socket = context().wrap_socket(client.socket, server_hostname='localhost')
    client.is_structured, client.contexts = False, {}
    return client


def start_tls(client):
    equal('STARTTLS', client.ask_option(wire.OPT_STARTTLS), (REP_ACK, []))
    return wrap(client)


@contextlib.contextmanager
def serve_tls(*options):
    with contextlib.ExitStack() as stack:
        ward = stack.enter_context(serve(*options, '--tls-certificates', certificates(),
                                         is_watched=False))
        ward.wrap = start_tls
        ward.settle()
        with ward.watched():
            yield ward


def a_server_without_tls_says_so():
    with serve() as ward, ward.greeted() as client:
        for data in [b'', b'data']:
            kind, _ = client.ask_option(wire.OPT_STARTTLS, data)
            check(f'{kind:#x}', kind in (wire.ERR_UNSUP, wire.ERR_POLICY, wire.ERR_PLATFORM,
                                         ERR_INVALID))
        client.go().read(0, 4096)


def options_before_tls_are_refused():
    options = [(wire.OPT_LIST, b''), (wire.OPT_INFO, wire.go_data()),
               (wire.OPT_GO, wire.go_data()), (wire.OPT_GO, wire.go_data('elsewhere')),
               (wire.OPT_STRUCTURED_REPLY, b''), (wire.OPT_SET_META_CONTEXT, wire.meta_data()),
               (wire.OPT_LIST_META_CONTEXT, wire.meta_data()), (0x4242, b'data')]
    with serve_tls() as ward:
        with ward.connect().hello() as client:
            for option, data in options:
                equal(option, client.ask_option(option, data), (ERR_TLS_REQD, []))
            start_tls(client).list()
            client.structured().go().read(0, 4096)
        with ward.connect().hello() as client:
            equal('ABORT', client.ask_option(wire.OPT_ABORT), (REP_ACK, []))


def nothing_is_served_to_who_strips_tls():
    with serve_tls() as ward:
        for flags in [0, 1, 2, 3]:
            with ward.connect() as client:
                client.hello(flags)
                client.send(wire.option_bytes(wire.OPT_EXPORT_NAME))
                client.must_be_dropped('EXPORT_NAME without TLS')
            with ward.connect() as client:  # GO does not lead to requests either
                client.hello(flags)
                client.send(wire.option_bytes(wire.OPT_GO, wire.go_data()))
                client.send(wire.request_bytes(wire.CMD_READ, 0, 512))
                with contextlib.suppress(wire.Dropped):
                    kind, datas = client.receive_option_replies(wire.OPT_GO)
                    check('GO', kind == ERR_TLS_REQD or flags & 1 == 0 and kind & 1 << 31)
                    equal('no word about the export', datas, [])
                    client.must_be_dropped('a request, where options are expected')


def starttls_with_data_or_twice_is_invalid():
    with serve_tls() as ward, ward.connect().hello() as client:
        equal('data', client.ask_option(wire.OPT_STARTTLS, b'data'), (ERR_INVALID, []))
        start_tls(client)
        equal('twice', client.ask_option(wire.OPT_STARTTLS), (ERR_INVALID, []))
        equal('now it is known', client.ask_option(0x4242), (wire.ERR_UNSUP, []))
        client.go().read(0, 4096)


def what_was_agreed_before_tls_is_forgotten():
    """Whether it is refused or agreed to before TLS: it does not hold after it."""
    with serve_tls() as ward, ward.connect().hello() as client:
        client.ask_option(wire.OPT_STRUCTURED_REPLY)
        client.ask_option(wire.OPT_SET_META_CONTEXT, wire.meta_data())
        start_tls(client)
        equal('contexts want structured replies',
              client.ask_option(wire.OPT_SET_META_CONTEXT, wire.meta_data())[0], ERR_INVALID)
        client.go()  # whose flags must not have DF
        client.read(0, 4096)  # whose reply must be a simple one
        equal('no context', client.ask(wire.CMD_BLOCK_STATUS, 0, 4096).error, wire.EINVAL)


def words_in_the_clear_behind_starttls_are_not_taken_for_protected_ones():
    """They came in one segment with STARTTLS, so anybody may have put them there. A server may
    hang up, or forget them; it may not answer them under TLS."""
    words = [wire.option_bytes(wire.OPT_STRUCTURED_REPLY), wire.option_bytes(0x4242, b'data'),
             wire.option_bytes(wire.OPT_GO, wire.go_data()), wire.option_bytes(wire.OPT_LIST),
             wire.option_bytes(wire.OPT_SET_META_CONTEXT, wire.meta_data())[:20], b'\0']
    with serve_tls() as ward:
        for injected in words:
            with ward.connect().hello() as client:
                client.send(START + injected)
                try:
                    equal('STARTTLS', client.receive_option_replies(wire.OPT_STARTTLS),
                          (REP_ACK, []))
                    wrap(client)
                except (OSError, wire.Dropped):
                    continue  # hung up: the best there is
                # The first answer is to what was said under TLS, and to nothing else.
                equal('LIST', client.ask_option(wire.OPT_LIST)[0], REP_ACK)
                client.go().read(0, 4096)


def what_is_no_tls_is_hung_up_on():
    with serve_tls() as ward:
        for data in [b'GET / HTTP/1.0\r\n\r\n', bytes(64 * KIB), HELLO + bytes(513),
                     wire.option_bytes(wire.OPT_LIST) * 8, b'\x15\x03\x01\x00\x02\x02\x28',
                     b'\x16\x03\x01\xff\xff' + bytes(70000), struct.pack('>I', 3)]:
            with ward.connect().hello() as client:
                equal('STARTTLS', client.ask_option(wire.OPT_STARTTLS), (REP_ACK, []))
                client.send(data)
                if len(data) < 16:  # it may be the beginning of something
                    continue
                with contextlib.suppress(wire.Dropped):
                    client.receive(64 * KIB)  # an alert, at most, and then the end
                    raise Failed('so much was said in TLS')


def clients_that_vanish_in_tls_hurt_nobody():
    with serve_tls() as ward:
        outgoing = ssl.MemoryBIO()
        hello = context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname='localhost')
        with contextlib.suppress(ssl.SSLWantReadError):
            hello.do_handshake()
        first = outgoing.read()
        for length in [0, 1, 5, 100, len(first) - 1, len(first)]:
            for is_reset in [False, True]:
                with ward.connect().hello() as client:
                    equal('STARTTLS', client.ask_option(wire.OPT_STARTTLS)[0], REP_ACK)
                    client.send(first[:length])
                    if is_reset:
                        client.reset()
        for _ in range(10):
            with ward.ready() as client:  # in the middle of a record, and of a write
                plain = os.dup(client.socket.fileno())
                client.send(wire.request_bytes(wire.CMD_WRITE, 0, MIB, bytes(64 * KIB)))
                os.write(plain, b'\x17\x03\x03\x10\x00' + bytes(100))
                os.close(plain)


def sessions_are_given_back():
    """Whole ones, and those that a client leaves on the way."""
    with serve_tls() as ward:
        def come_and_go():
            for number in range(150):
                with ward.connect().hello() as client:
                    equal('STARTTLS', client.ask_option(wire.OPT_STARTTLS)[0], REP_ACK)
                    if number % 2:
                        client.send(HELLO)
                    else:
                        wrap(client)
        come_and_go()
        ward.settle()
        with ward.watched(2 * MIB):
            come_and_go()


def a_tls_handshake_byte_by_byte_is_one():
    with serve_tls() as ward, ward.connect().hello() as client:
        equal('STARTTLS', client.ask_option(wire.OPT_STARTTLS)[0], REP_ACK)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context().wrap_bio(incoming, outgoing, server_hostname='localhost')

        def turn(call):
            while True:
                try:
                    return call()
                except ssl.SSLWantReadError:
                    client.drip(outgoing.read())
                    incoming.write(client.receive_some(1 << 16))

        turn(tls.do_handshake)
        tls.write(wire.option_bytes(wire.OPT_LIST))
        client.drip(outgoing.read())
        magic, option = struct.unpack_from('>QI', turn(lambda: tls.read(20)))
        equal('an answer', (magic, option), (wire.OPTION_REPLY_MAGIC, wire.OPT_LIST))


def a_damaged_record_ends_the_connection():
    with serve_tls() as ward, ward.ready() as client:
        plain = os.dup(client.socket.fileno())
        os.write(plain, b'\x17\x03\x03\x00\x40' + bytes(64))
        os.close(plain)
        client.must_be_dropped('a record that nobody has sealed')


def a_session_ends_with_a_word():
    """Or its end could be anybody's."""
    with serve_tls() as ward:
        for goes in [lambda client: client.go().send(wire.request_bytes(wire.CMD_DISC)),
                     lambda client: equal('ABORT', client.ask_option(wire.OPT_ABORT)[0], REP_ACK)]:
            with ward.connect() as client:
                client.hello()
                equal('STARTTLS', client.ask_option(wire.OPT_STARTTLS), (REP_ACK, []))
                client.socket = context().wrap_socket(client.socket, server_hostname='localhost',
                                                      suppress_ragged_eofs=False)
                goes(client)
                equal('the end', client.socket.recv(1), b'')


def clients_idle_in_a_tls_handshake_are_dropped():
    if Settings.control:
        raise Skipped('nbdkit has no limit to a handshake')
    with serve_tls('--handshake-timeout', '1') as ward:
        for data in [b'', HELLO]:
            with ward.connect().hello() as client:
                equal('STARTTLS', client.ask_option(wire.OPT_STARTTLS)[0], REP_ACK)
                client.send(data)
                client.must_be_dropped('idle')
        with ward.greeted() as client:  # TLS is there, and then nothing
            client.must_be_dropped('idle under TLS')


TESTS = [
    a_server_without_tls_says_so, options_before_tls_are_refused,
    nothing_is_served_to_who_strips_tls, starttls_with_data_or_twice_is_invalid,
    what_was_agreed_before_tls_is_forgotten,
    words_in_the_clear_behind_starttls_are_not_taken_for_protected_ones,
    what_is_no_tls_is_hung_up_on, clients_that_vanish_in_tls_hurt_nobody,
    sessions_are_given_back,
    a_tls_handshake_byte_by_byte_is_one, a_damaged_record_ends_the_connection,
    a_session_ends_with_a_word,
    clients_idle_in_a_tls_handshake_are_dropped,
]
