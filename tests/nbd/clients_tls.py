# SPDX-License-Identifier: MIT
"""clients_tls.py: TLS, by certificates and by shared keys, with libnbd's programs and QEMU's."""
import json
import os

from clients_copy import SIZE, patchy_file
from server import (Skipped, check, equal, missing, random_file, real_folder, run, same_contents,
                    want)

DAYS = 'expiration_days = 30\n'


def template(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, 'w', encoding='ascii') as file:
        file.write(text + DAYS)
    return path


def make_authority(folder, name):
    """The folder of an authority: its certificate and those of a server and a client, under the
    names that libnbd, nbdkit and QEMU look for."""
    place = os.path.join(folder, name)
    os.mkdir(place)

    def certtool(what, target, *options):
        run(['certtool', what, *options, '--outfile', f'{place}/{target}'])

    def key(target):
        certtool('--generate-privkey', target, '--key-type=ecdsa')

    key('ca-key.pem')
    certtool('--generate-self-signed', 'ca-cert.pem', '--load-privkey', f'{place}/ca-key.pem',
             '--template', template(place, 'ca.info', f'cn = {name}\nca\ncert_signing_key\n'))
    for role, words in {
            'server': 'cn = localhost\ndns_name = localhost\nip_address = 127.0.0.1\n'
                      'tls_www_server\n',
            'client': 'cn = a client\ntls_www_client\n',
    }.items():
        key(f'{role}-key.pem')
        certtool('--generate-certificate', f'{role}-cert.pem',
                 '--load-ca-certificate', f'{place}/ca-cert.pem',
                 '--load-ca-privkey', f'{place}/ca-key.pem',
                 '--load-privkey', f'{place}/{role}-key.pem',
                 '--template', template(place, f'{role}.info', words + 'signing_key\n'))
    return place


def make_key(folder, name, user):
    path = os.path.join(folder, name)
    run(['psktool', '-u', user, '-p', path])
    return path


def with_query(uri, name, value):
    return f'{uri}{"&" if "?" in uri else "?"}{name}={value}'


def as_user(uri, user):
    return uri.replace('://', f'://{user}@', 1)


def want_tls(rig, *tools):
    want('certtool', 'psktool', *tools)
    if rig.is_without_tls:
        raise Skipped('built without GnuTLS')


def drives(uri, disk, folder):
    """A client that may: both ways, and it is TLS indeed."""
    facts = json.loads(run(['nbdinfo', '--json', uri]))
    equal('TLS, and what is asked for after it', (facts['TLS'], facts['structured']), (True, True))
    equal('contexts', facts['exports'][0]['contexts'], ['base:allocation'])
    run(['nbdinfo', '--is', 'tls', uri])
    run(['nbdinfo', '--list', uri])
    source = os.path.join(folder, 'source')
    random_file(disk, SIZE)
    run(['nbdcopy', '--connections=4', '--requests=64', '--flush', source, uri])
    same_contents('what came', disk, source)
    run(['nbdcopy', uri, f'{folder}/out'])
    same_contents('what went', f'{folder}/out', source)


def refused(uri, why):
    text = run(['nbdinfo', '--size', uri], expect=1, merged=True)
    check(f'{why}: {text}', why in text)


# --- certificates -----------------------------------------------------------------------------


def certificates_over_tcp(rig):
    want_tls(rig)
    with real_folder() as folder:
        place, stranger = make_authority(folder, 'pki'), make_authority(folder, 'stranger')
        patchy_file(f'{folder}/source')
        disk = random_file(f'{folder}/disk', SIZE)
        with rig.serve(disk, folder, is_tcp=True, certificates=place) as server:
            check(f'the URI says so: {server.uri}', server.uri.startswith('nbds://127.0.0.1:'))
            for host in ('127.0.0.1', 'localhost'):
                uri = server.uri.replace('127.0.0.1', host)
                run(['nbdinfo', '--can', 'connect', with_query(uri, 'tls-certificates', place)])
            drives(with_query(server.uri, 'tls-certificates', place), disk, folder)
            refused(with_query(server.uri, 'tls-certificates', stranger), 'certificate')
            drives(with_query(server.uri, 'tls-certificates', place), disk, folder)


def certificates_over_a_unix_socket(rig):
    want_tls(rig)
    with real_folder() as folder:
        place = make_authority(folder, 'pki')
        patchy_file(f'{folder}/source')
        disk = random_file(f'{folder}/disk', SIZE)
        with rig.serve(disk, folder, certificates=place) as server:
            check(f'the URI says so: {server.uri}', server.uri.startswith('nbds+unix:///?socket='))
            drives(with_query(server.uri, 'tls-certificates', place), disk, folder)


def qemu_speaks_tls_too(rig):
    want_tls(rig, 'qemu-img')
    with real_folder() as folder:
        place = make_authority(folder, 'pki')
        source = patchy_file(f'{folder}/source')
        disk = random_file(f'{folder}/disk', SIZE)
        with rig.serve(disk, folder, is_tcp=True, certificates=place) as server:
            port = server.uri.rsplit(':', 1)[1]
            secret = ['--object', f'tls-creds-x509,id=tls0,dir={place},endpoint=client']
            target = ('driver=raw,file.driver=nbd,file.server.type=inet,file.server.host=127.0.0.1,'
                      f'file.server.port={port},file.tls-creds=tls0')
            run(['qemu-img', 'convert', *secret, '-n', '-W', '-m', '16', '-f', 'raw', source,
                 '--target-image-opts', target])
            same_contents('what came', disk, source)


# --- shared keys ------------------------------------------------------------------------------


def shared_keys_over_tcp_and_a_unix_socket(rig):
    want_tls(rig)
    for is_tcp in (True, False):
        with real_folder() as folder:
            known = make_key(folder, 'keys.psk', 'alice')
            make_key(folder, 'keys.psk', 'bob')  # added
            wrong = make_key(folder, 'wrong.psk', 'alice')
            patchy_file(f'{folder}/source')
            disk = random_file(f'{folder}/disk', SIZE)
            with rig.serve(disk, folder, is_tcp=is_tcp, psk=known) as server:
                alice, bob = (with_query(as_user(server.uri, user), 'tls-psk-file', known)
                              for user in ('alice', 'bob'))
                drives(alice, disk, folder)
                run(['nbdinfo', '--can', 'connect', bob])
                refused(with_query(as_user(server.uri, 'alice'), 'tls-psk-file', wrong), 'TLS')
                make_key(folder, 'wrong.psk', 'mallory')
                refused(with_query(as_user(server.uri, 'mallory'), 'tls-psk-file', wrong), 'TLS')
                run(['nbdinfo', '--can', 'connect', bob])


# --- one side alone ---------------------------------------------------------------------------


def a_server_with_tls_refuses_a_client_without(rig):
    want_tls(rig)
    with real_folder() as folder:
        place = make_authority(folder, 'pki')
        disk = random_file(f'{folder}/disk', SIZE)
        for is_tcp in (True, False):
            with rig.serve(disk, folder, is_tcp=is_tcp, certificates=place) as server:
                plain = server.uri.replace('nbds', 'nbd', 1)
                refused(plain, 'TLS')
                run(['nbdinfo', '--list', plain], expect=1)
                run(['nbdcopy', plain, f'{folder}/out'], expect=1)
                check('nothing came out', not os.path.exists(f'{folder}/out')
                      or os.path.getsize(f'{folder}/out') == 0)
                if not missing('qemu-img'):
                    run(['qemu-img', 'info', plain], expect=1)
                run(['nbdinfo', '--can', 'connect',
                     with_query(server.uri, 'tls-certificates', place)])


def a_server_without_tls_refuses_a_client_that_demands_it(rig):
    want('certtool')
    with real_folder() as folder:
        place = make_authority(folder, 'pki')
        disk = random_file(f'{folder}/disk', SIZE)
        with rig.serve(disk, folder) as server:
            demanding = server.uri.replace('nbd', 'nbds', 1)
            refused(with_query(demanding, 'tls-certificates', place), 'TLS')
            run(['nbdinfo', '--can', 'connect', server.uri])


TESTS = [
    certificates_over_tcp,
    certificates_over_a_unix_socket,
    qemu_speaks_tls_too,
    shared_keys_over_tcp_and_a_unix_socket,
    a_server_with_tls_refuses_a_client_without,
    a_server_without_tls_refuses_a_client_that_demands_it,
]
