# SPDX-License-Identifier: MIT
"""hostile_handshake.py: what is wrong before the first request. See hostile.py."""
import struct

from server import check, equal
import wire
from wire import ERR_INVALID, ERR_UNKNOWN, ERR_UNSUP, REP_ACK
from ward import Settings, control_differs, mistreated, serve

MANY = 0xffffffff
NAMED = [wire.OPT_GO, wire.OPT_INFO]
META = [wire.OPT_SET_META_CONTEXT, wire.OPT_LIST_META_CONTEXT]


def still_haggles(client):
    """The server is where it would be without what it refused."""
    equal('an option that nobody knows', client.ask_option(0x4242, b'data'), (ERR_UNSUP, []))
    client.go()
    client.read(0, 512)
    client.disconnect()


def is_refused(ward, option, data, wanted=(ERR_INVALID,), prepare=lambda client: None):
    what = f'option {option} with {data[:24]!r}, {len(data)} bytes'
    with ward.greeted() as client:
        prepare(client)
        kind, datas = client.ask_option(option, data)
        check(f'{what}: {kind:#x}', kind in wanted)
        check(f'{what}: {len(datas)} replies', not datas or option in META)  # void, with an error
        still_haggles(client)


# --- the first bytes --------------------------------------------------------------------------


def unknown_client_flags_are_dropped():
    with mistreated() as ward:
        for flags in [4, 7, 1 << 16 | 3, 1 << 31, MANY, 0x47455420, 0x16030100]:  # 'GET ', TLS
            with ward.connect() as client:
                client.hello(flags)
                client.send(wire.option_bytes(wire.OPT_LIST))
                client.must_be_dropped(f'client flags {flags:#x}')


def the_old_way_is_served_with_and_without_zeroes():
    with mistreated() as ward:
        for flags, zeroes in [(0, 124), (1, 124), (2, 0), (3, 0)]:
            with ward.connect() as client:
                client.hello(flags).export_name('', zeroes)
                check('no DF', not client.export.flags & wire.SEND_DF)
                client.read(4096, 4096)
                client.disconnect()


def a_bad_option_magic_is_dropped():
    with mistreated() as ward:
        for magic in [0, wire.MAGIC, wire.OPTION_MAGIC + 1, wire.REQUEST_MAGIC, 2 ** 64 - 1]:
            with ward.greeted() as client:
                client.send(wire.option_bytes(wire.OPT_LIST, magic=magic))
                client.must_be_dropped(f'option magic {magic:#x}')


def a_request_before_go_is_dropped():
    with mistreated() as ward, ward.greeted() as client:
        client.send(wire.request_bytes(wire.CMD_READ, 0, 512))
        client.must_be_dropped('a request in the handshake')


def an_option_of_4_gib_is_dropped_before_its_data_comes():
    limit = [] if Settings.control else [wire.OPTION_MAX + 1]  # nbdkit's is another one
    with mistreated() as ward:
        for option in [0, *range(1, 12), 0x4242, MANY]:
            for length in [*limit, 1 << 31, MANY]:
                with ward.greeted() as client:
                    client.send(wire.option_bytes(option, length=length))
                    client.must_be_dropped(f'option {option} of {length} bytes')


def an_unknown_option_is_unsupported_and_go_still_works():
    with mistreated() as ward, ward.greeted() as client:
        for option in [0, 4, 11, 0x4242, 1 << 31, MANY]:
            for data in [b'', b'x', bytes(wire.OPTION_MAX)]:
                equal(option, client.ask_option(option, data), (ERR_UNSUP, []))
        still_haggles(client)


# --- names ------------------------------------------------------------------------------------


def names_that_cannot_be_are_invalid():
    name = 5000 * b'n'
    cases = [
        wire.go_data(name), wire.go_data(4097 * b'n'), wire.go_data(3000 * b'n')[:-100],
        struct.pack('>I', MANY), struct.pack('>IH', MANY, 0), struct.pack('>I', MANY) + name,
        struct.pack('>IH', 0xfffffffa, 0), struct.pack('>IH', 0x80000000, 0),
        struct.pack('>IH', 1, 0), struct.pack('>IH', 0x7fffffff, 0), struct.pack('>I', 2) + b'ab',
    ]
    with mistreated() as ward:
        for option in NAMED:
            for data in cases:
                is_refused(ward, option, data)


def names_that_nobody_has_are_unknown():
    with mistreated() as ward:
        for option in NAMED:
            for name in ['elsewhere', 3000 * 'n', 4096 * 'n', '../../etc/passwd', '%n%s', ' ']:
                is_refused(ward, option, wire.go_data(name), (ERR_UNKNOWN,))
            for name in [b'\0', b'\0elsewhere', b'\xff\xfe', b'\xc0\x80']:  # these are no strings
                is_refused(ward, option, wire.go_data(name), (ERR_UNKNOWN, ERR_INVALID))


def an_old_style_name_that_nobody_has_is_dropped():
    with mistreated() as ward:
        for name in ['elsewhere', '\0', 3000 * 'n', 4096 * 'n', 4097 * 'n', 5000 * 'n']:
            with ward.greeted() as client:
                client.send(wire.option_bytes(wire.OPT_EXPORT_NAME, name.encode()))
                client.must_be_dropped(f'EXPORT_NAME of {len(name)} bytes')


# --- data of options --------------------------------------------------------------------------


def malformed_go_and_info_are_invalid():
    good = wire.go_data('', [wire.INFO_EXPORT, wire.INFO_BLOCK_SIZE])
    cases = [b'', b'\0', bytes(3), bytes(4), bytes(5), good[:-1], good + b'\0', good + bytes(2),
             struct.pack('>IH', 0, 1), struct.pack('>IHB', 0, 0, 0), struct.pack('>IHB', 0, 1, 0),
             struct.pack('>IH', 0, 0xffff), struct.pack('>IH', 0, 0xffff) + bytes(2000)]
    with mistreated() as ward:
        for option in NAMED:
            for data in cases:
                is_refused(ward, option, data)


@control_differs(nbdkit='gives each as often as it is asked for')
def information_that_is_asked_for_8000_times_is_given_once():
    requests = [wire.INFO_EXPORT, wire.INFO_NAME, wire.INFO_DESCRIPTION, wire.INFO_BLOCK_SIZE,
                4, 0x4242, 0xffff]
    with mistreated() as ward, ward.greeted() as client:
        most = (wire.OPTION_MAX - 6) // 2
        data = wire.go_data('', (requests * most)[:most])
        kind, _ = client.ask_export(wire.OPT_INFO, data)  # which checks that each comes once
        check(f'INFO: {kind:#x}', kind in (REP_ACK, ERR_INVALID))
        still_haggles(client)


def what_was_asked_before_go_does_not_bind_it():
    """An export may be asked for again and again, by names that are there and that are not."""
    with mistreated() as ward, ward.greeted() as client:
        for _ in range(5):
            for name, wanted in [('', REP_ACK), ('elsewhere', ERR_UNKNOWN)]:
                kind, _ = client.ask_export(wire.OPT_INFO, wire.go_data(name, [1, 3]))
                equal(f'INFO of {name}', kind, wanted)
        equal('GO', client.ask_export(wire.OPT_GO, wire.go_data('elsewhere'))[0], ERR_UNKNOWN)
        client.structured()
        kind, _ = client.ask_option(wire.OPT_STRUCTURED_REPLY)
        check(f'twice: {kind:#x}', kind in (REP_ACK, ERR_INVALID))
        still_haggles(client)


def data_where_none_may_be_is_invalid():
    with mistreated() as ward:
        for option in [wire.OPT_LIST, wire.OPT_STRUCTURED_REPLY]:
            for data in [b'x', bytes(wire.OPTION_MAX)]:
                is_refused(ward, option, data)
        with ward.greeted() as client:  # that was refused indeed
            client.ask_option(wire.OPT_STRUCTURED_REPLY, b'x')
            client.go().read(0, 512)


def malformed_meta_contexts_are_invalid():
    good = wire.meta_data()
    tails = [] if Settings.control else [  # nbdkit does not look behind the last query
        good + b'\0', wire.named('') + struct.pack('>I', 0) + b'x']
    cases = [b'', bytes(3), bytes(7), good[:-1], *tails, wire.meta_data(5000 * 'n'),
             wire.named('') + struct.pack('>I', 2) + wire.named('base:allocation'),
             wire.named('') + struct.pack('>I', MANY), struct.pack('>II', MANY, 0),
             wire.named('') + struct.pack('>I', MANY) + wire.named('base:allocation'),
             wire.named('') + struct.pack('>II', 1, MANY), wire.named('') + b'\0\0\0\1\0\0',
             wire.named('') + struct.pack('>II', 1, MANY) + b'base:allocation',
             struct.pack('>III', 0xfffffffc, 0, 0)]
    with mistreated() as ward:
        for option in META:
            for data in cases:
                is_refused(ward, option, data, prepare=lambda client: client.structured())
            if not Settings.control:  # nbdkit's contexts are those of any name
                is_refused(ward, option, wire.meta_data('elsewhere'), (ERR_UNKNOWN,),
                           prepare=lambda client: client.structured())


def meta_contexts_want_structured_replies_first():
    with mistreated() as ward:
        for option in META:
            # Of LIST the text only says that a server may refuse it.
            wanted = (ERR_INVALID, REP_ACK) if option == META[1] else (ERR_INVALID,)
            is_refused(ward, option, wire.meta_data(), wanted)


@control_differs(nbdkit='selects a context as often as it is named')
def queries_that_match_nothing_select_nothing():
    odd = ['x-there:', 'qemu:dirty-bitmap:a', 'base:elsewhere', 'base:allocatio',
           'base:allocation2', 'x:' + 4000 * 'y']
    with mistreated() as ward, ward.greeted() as client:
        client.structured()
        for option in META:
            equal(odd, client.ask_meta(option, wire.meta_data(queries=odd)), (REP_ACK, {}))
            for query in ['allocation', '', ':', b'base:\0', b'\xff:', 'x:' + 5000 * 'y']:
                kind, found = client.ask_meta(option, wire.meta_data(queries=[query]))
                check(f'{query[:20]!r}: {kind:#x} {found}', not found and kind in
                      (REP_ACK, ERR_INVALID, wire.ERR_TOO_BIG))
        list_, set_ = wire.OPT_LIST_META_CONTEXT, wire.OPT_SET_META_CONTEXT
        for option, queries, wanted in [
                (list_, [], 1), (list_, ['base:'], 1), (list_, ['base:allocation'], 1),
                (set_, [], 0), (set_, ['base:'], 0), (set_, 700 * ['base:allocation'], 1)]:
            kind, found = client.ask_meta(option, wire.meta_data(queries=queries))
            equal((option, queries[:2]), (kind, list(found.values())),
                  (REP_ACK, wanted * ['base:allocation']))
        still_haggles(client)


@control_differs(nbdkit='keeps what was selected before what it refuses')
def only_the_last_choice_of_contexts_counts():
    set_ = wire.OPT_SET_META_CONTEXT
    with mistreated() as ward:
        for last, wanted in [(wire.meta_data(queries=[]), REP_ACK), (b'bad', ERR_INVALID),
                             (wire.meta_data(queries=['base:']), REP_ACK),
                             (wire.meta_data('elsewhere'), ERR_UNKNOWN)]:
            with ward.greeted() as client:
                client.structured()
                equal('SET', client.ask_meta(set_, wire.meta_data())[0], REP_ACK)
                equal('SET once more', client.ask_meta(set_, last)[0], wanted)
                client.contexts = {}
                client.go()
                equal('no context is left', client.ask(wire.CMD_BLOCK_STATUS, 0, 512).error,
                      wire.EINVAL)


@control_differs(nbdkit='has one export')
def contexts_of_another_export_do_not_count():
    with serve(exports=['first', 'second']) as ward:
        for name, wanted in [('first', 0), ('second', wire.EINVAL), ('', wire.EINVAL)]:
            with ward.greeted() as client:
                client.structured()
                kind, _ = client.ask_meta(META[0], wire.meta_data('first'))
                equal('SET_META_CONTEXT', kind, REP_ACK)
                kind, export = client.ask_export(wire.OPT_GO, wire.go_data(name))
                if not name:
                    equal('of two, none is meant by no name', (kind, export), (ERR_UNKNOWN, None))
                    continue
                equal(name, client.ask(wire.CMD_BLOCK_STATUS, 0, 512).error, wanted)


# --- the end of it ----------------------------------------------------------------------------


def abort_is_acknowledged_and_ends_it():
    with mistreated() as ward:
        for data in [b'', b'why', bytes(wire.OPTION_MAX)]:
            with ward.greeted() as client:
                equal('ABORT', client.ask_option(wire.OPT_ABORT, data), (REP_ACK, []))
                client.must_be_dropped('after ABORT')
        with ward.greeted() as client:  # and goes without the answer
            client.send(wire.option_bytes(wire.OPT_ABORT))


def clients_that_vanish_in_the_handshake_hurt_nobody():
    parts = [struct.pack('>I', 3), wire.option_bytes(wire.OPT_LIST),
             wire.option_bytes(wire.OPT_STRUCTURED_REPLY),
             wire.option_bytes(wire.OPT_SET_META_CONTEXT, wire.meta_data()),
             wire.option_bytes(wire.OPT_GO, wire.go_data('', [3])),
             wire.request_bytes(wire.CMD_READ, 0, 65536)]
    data = b''.join(parts)
    with mistreated() as unix, serve(is_tcp=True) as tcp:
        for ward in [unix, tcp]:
            for length in range(0, len(data) + 1, 3):
                with ward.connect() as client:
                    client.send(data[:length])
                    if length % 2:
                        client.reset()


def all_in_one_segment_is_answered_in_order():
    """No client may do so before GO is answered; what is buffered has to be parsed all the same."""
    data = [struct.pack('>I', 3), wire.option_bytes(wire.OPT_LIST),
            wire.option_bytes(0x4242, 100 * b'x'), wire.option_bytes(wire.OPT_STRUCTURED_REPLY),
            wire.option_bytes(wire.OPT_GO, wire.go_data()),
            wire.request_bytes(wire.CMD_WRITE, 0, 4096, 4096 * b'w', cookie=1),
            wire.request_bytes(wire.CMD_CACHE, 0, 4096, cookie=2)]
    with mistreated() as ward, ward.connect() as client:
        client.send(b''.join(data))
        client.receive_hello()
        for option, wanted in [(wire.OPT_LIST, REP_ACK), (0x4242, ERR_UNSUP),
                               (wire.OPT_STRUCTURED_REPLY, REP_ACK), (wire.OPT_GO, REP_ACK)]:
            equal(option, client.receive_option_replies(option)[0], wanted)
        client.is_structured = True
        client.note(wire.CMD_WRITE, 0, 4096, 0, 1)
        client.note(wire.CMD_CACHE, 0, 4096, 0, 2)
        for _ in range(2):
            equal('error', client.receive_reply()[0].error, 0)
        equal('written', client.read(0, 4096), 4096 * b'w')


TESTS = [
    unknown_client_flags_are_dropped, the_old_way_is_served_with_and_without_zeroes,
    a_bad_option_magic_is_dropped, a_request_before_go_is_dropped,
    an_option_of_4_gib_is_dropped_before_its_data_comes,
    an_unknown_option_is_unsupported_and_go_still_works,
    names_that_cannot_be_are_invalid, names_that_nobody_has_are_unknown,
    an_old_style_name_that_nobody_has_is_dropped,
    malformed_go_and_info_are_invalid, information_that_is_asked_for_8000_times_is_given_once,
    what_was_asked_before_go_does_not_bind_it, data_where_none_may_be_is_invalid,
    malformed_meta_contexts_are_invalid,
    meta_contexts_want_structured_replies_first, queries_that_match_nothing_select_nothing,
    only_the_last_choice_of_contexts_counts, contexts_of_another_export_do_not_count,
    abort_is_acknowledged_and_ends_it, clients_that_vanish_in_the_handshake_hurt_nobody,
    all_in_one_segment_is_answered_in_order,
]
