# SPDX-License-Identifier: MIT
"""clients_copy.py: libnbd's programs: nbdinfo, nbdcopy, nbddump, nbdfuse."""
import json
import os
import re
import signal
import stat
import subprocess

from server import (KIB, MIB, Failed, Skipped, check, contents, equal, random_file, real_folder,
                    run, same_contents, system_environment, until, want)

SIZE = 32 * MIB
ABLE = ['connect', 'read', 'write', 'flush', 'fua', 'trim', 'zero', 'fast-zero', 'cache', 'df',
        'multi-conn', 'structured-reply']
HOLE, ZERO = 1, 2  # bits of base:allocation


def patchy_file(path):
    """Data, a hole, data, zeroes that were written, data, and a hole to the end."""
    random_file(path, SIZE, seed=2)
    with open(path, 'r+b') as file:
        file.seek(20 * MIB)
        file.write(bytes(2 * MIB))
        file.flush()
        for begin, length in ((8 * MIB, 8 * MIB), (28 * MIB, 4 * MIB)):
            # a file system's own: what is not to be had here is no failure of the server
            done = subprocess.run(['fallocate', '-p', '-o', str(begin), '-l', str(length), path],
                                  capture_output=True, check=False)
            if done.returncode:
                raise Skipped(f'no holes can be punched here: {done.stderr}')
        os.fsync(file.fileno())
    return path


def extents(path):
    """[begin, length, is a hole] of a file, as the kernel tells them."""
    found, place, size = [], 0, os.path.getsize(path)
    fd = os.open(path, os.O_RDONLY)
    while place < size:
        try:
            data = os.lseek(fd, place, os.SEEK_DATA)
        except OSError:
            data = size
        if data > place:
            found.append([place, data - place, True])
        if data == size:
            break
        place = os.lseek(fd, data, os.SEEK_HOLE)
        found.append([data, place - data, False])
    os.close(fd)
    return found


# --- nbdinfo ----------------------------------------------------------------------------------


def nbdinfo_tells_what_the_export_is_and_can(rig):
    with real_folder() as folder:
        with rig.serve(random_file(f'{folder}/disk', SIZE), folder) as server:
            text = run(['nbdinfo', server.uri])
            check(f'the protocol: {text}', text.startswith(
                'protocol: newstyle-fixed without TLS, using structured packets\n'))
            check(f'the size: {text}', f'export-size: {SIZE} (32M)' in text)
            check(f'the context: {text}', 'base:allocation' in text)

            facts = json.loads(run(['nbdinfo', '--json', server.uri]))
            export, = facts['exports']
            equal('structured', facts['structured'], True)
            equal('TLS', facts['TLS'], False)
            equal('the size', export['export-size'], SIZE)
            equal('contexts', export['contexts'], ['base:allocation'])
            equal('read-only', export['is_read_only'], False)
            for flag in ('cache', 'df', 'flush', 'fua', 'multi_conn', 'trim', 'zero'):
                equal(flag, export[f'can_{flag}'], True)
            if not rig.is_nbdkit:  # its file plugin tells no sizes and knows no fast zero
                equal('fast zero', export['can_fast_zero'], True)
                least, liked = export['block_size_minimum'], export['block_size_preferred']
                most = export['block_size_maximum']
                check(f'block sizes {least} {liked} {most}', least & (least - 1) == 0
                      and 1 <= least <= 64 * KIB and liked >= max(least, 512)
                      and liked & (liked - 1) == 0 and most >= MIB)
            equal('the size alone', run(['nbdinfo', '--size', server.uri]), f'{SIZE}\n')


def nbdinfo_list_shows_the_one_export(rig):
    with real_folder() as folder:
        with rig.serve(random_file(f'{folder}/disk', SIZE), folder) as server:
            text = run(['nbdinfo', '--list', server.uri])
            equal('exports', re.findall('^export="(.*)":$', text, re.M), [''])
            listed, = json.loads(run(['nbdinfo', '--list', '--json', server.uri]))['exports']
            equal('the size listed', listed['export-size'], SIZE)


def nbdinfo_can_and_is_answer_by_exit_codes(rig):
    with real_folder() as folder:
        disk = random_file(f'{folder}/disk', SIZE)
        with rig.serve(disk, folder) as server:
            for what in ABLE:
                lacks = rig.is_nbdkit and what == 'fast-zero'
                run(['nbdinfo', '--can', what, server.uri], expect=2 if lacks else 0)
            run(['nbdinfo', '--is', 'read-only', server.uri], expect=2)
            run(['nbdinfo', '--is', 'tls', server.uri], expect=2)
            run(['nbdinfo', '--is', 'rotational', server.uri], expect=2)
            run(['nbdinfo', '--is', 'shiny', server.uri], expect=1)
            run(['nbdinfo', '--size', server.uri.replace(':///', ':///no-such-export')],
                expect=(0,) if rig.is_nbdkit else 1)  # nbdkit's file plugin takes any name
            run(['nbdinfo', '--can', 'connect', server.uri])  # it is well after that
            uri = server.uri
        run(['nbdinfo', '--can', 'connect', uri], expect=1)  # gone


def nbdinfo_map_is_the_files_own(rig):
    with real_folder() as folder:
        disk = patchy_file(f'{folder}/disk')
        with rig.serve(disk, folder) as server:
            wanted = extents(disk)
            check(f'the file has holes and data: {wanted}', len(wanted) >= 4)
            told = json.loads(run(['nbdinfo', '--map', '--json', server.uri]))
            equal('the map', [[one['offset'], one['length'], one['type']] for one in told],
                  [[begin, length, HOLE | ZERO if is_hole else 0]
                   for begin, length, is_hole in wanted])
            lines = run(['nbdinfo', '--map', server.uri]).splitlines()
            equal('as lines', [line.split()[:3] for line in lines],
                  [[str(one[key]) for key in ('offset', 'length', 'type')] for one in told])
            totals = run(['nbdinfo', '--map', '--totals', server.uri])
            counted = {int(kind): int(total) for total, kind in re.findall(
                r'^ *(\d+) +[\d.]+% +(\d+)', totals, re.M)}
            for kind in (0, HOLE | ZERO):
                equal(f'total of {kind}', counted[kind],
                      sum(one['length'] for one in told if one['type'] == kind))


# --- nbdcopy ----------------------------------------------------------------------------------


def nbdcopy_takes_a_disk_there_and_back(rig):
    with real_folder() as folder:
        source = patchy_file(f'{folder}/source')
        disk = random_file(f'{folder}/disk', SIZE)  # what must be zero is not so by itself
        with rig.serve(disk, folder) as server:
            run(['nbdcopy', '--connections=4', '--requests=64', '--flush', source, server.uri])
            same_contents('what came', disk, source)
            run(['nbdcopy', server.uri, f'{folder}/out'])
            same_contents('what went', f'{folder}/out', source)
            run(['nbdcopy', '--synchronous', '--no-extents', server.uri, f'{folder}/slow'])
            same_contents('what went one by one', f'{folder}/slow', source)


def nbdcopy_copies_a_disk_whose_size_is_odd(rig):
    with real_folder() as folder:
        source = random_file(f'{folder}/source', 3 * MIB + 517, seed=3)
        disk = random_file(f'{folder}/disk', 3 * MIB + 517)
        with rig.serve(disk, folder) as server:
            equal('the size', run(['nbdinfo', '--size', server.uri]), f'{3 * MIB + 517}\n')
            run(['nbdcopy', '--flush', source, server.uri])
            same_contents('what came', disk, source)
            run(['nbdcopy', server.uri, f'{folder}/out'])
            same_contents('what went', f'{folder}/out', source)


def nbdcopy_to_nowhere_reads_it_all(rig):
    with real_folder() as folder:
        with rig.serve(random_file(f'{folder}/disk', SIZE), folder) as server:
            run(['nbdcopy', server.uri, 'null:'])
            run(['nbdcopy', '--connections=4', '--requests=64', '--request-size=262144',
                 server.uri, 'null:'])


def nbdcopy_fails_if_the_server_is_killed_meanwhile(rig):
    """64 GiB of a hole, read all the same, last longer than it takes to see a percent of it."""
    with real_folder() as folder:
        with open(f'{folder}/disk', 'wb') as file:
            file.truncate(64 << 30)
        with rig.serve(f'{folder}/disk', folder) as server:
            progress, to_copy = os.pipe()
            # One connection: with several threads libnbd 1.14 now and then ends by an assertion of
            # its own (enter_STATE_DEAD) when all connections die, whatever the server.
            copy = subprocess.Popen(
                ['nbdcopy', '--connections=1', '--no-extents', f'--progress={to_copy}', server.uri,
                 'null:'],
                pass_fds=[to_copy], stderr=subprocess.PIPE, env=system_environment())
            os.close(to_copy)
            told = b''
            while not re.search(rb'[1-9]\d*/100\n', told):
                part = os.read(progress, 4096)
                if not part:
                    raise Failed(f'nbdcopy ended before: {told} {copy.communicate()}')
                told += part
            server.kill()
            _, says = copy.communicate(timeout=60)
            os.close(progress)
            equal(f'exit of nbdcopy, which said {says}', copy.returncode, 1)
            check(f'and was not through: {told}', b'100/100' not in told)


# --- nbddump, nbdfuse -------------------------------------------------------------------------


def nbddump_shows_the_first_bytes(rig):
    want('nbddump')
    with real_folder() as folder:
        with open(f'{folder}/disk', 'wb') as file:
            file.write(bytes(range(64, 96)) + bytes(MIB - 32))
        with rig.serve(f'{folder}/disk', folder) as server:
            equal('the dump', run(['nbddump', '--length', '32', server.uri]),
                  '0000000000: 40 41 42 43 44 45 46 47  48 49 4a 4b 4c 4d 4e 4f '
                  '|@ABCDEFGHIJKLMNO|\n'
                  '0000000010: 50 51 52 53 54 55 56 57  58 59 5a 5b 5c 5d 5e 5f '
                  '|PQRSTUVWXYZ[\\]^_|\n')


def nbdfuse_mounts_it_as_a_file(rig):
    want('nbdfuse', 'fusermount3', 'dd')
    if not (os.path.exists('/dev/fuse') and stat.S_ISCHR(os.stat('/dev/fuse').st_mode)):
        raise Skipped('no /dev/fuse')
    with real_folder() as folder:
        disk = random_file(f'{folder}/disk', SIZE)
        kept = contents(disk)
        mounted = f'{folder}/mounted'
        os.mkdir(mounted)
        with rig.serve(disk, folder) as server, open(f'{folder}/fuse.says', 'w+b') as says:
            fuse = subprocess.Popen(['nbdfuse', f'{mounted}/disk', server.uri], stdout=says,
                                    stderr=says, env=system_environment())
            try:
                until('nbdfuse has mounted it, or ended',
                      lambda: os.path.ismount(mounted) or fuse.poll() is not None)
                if not os.path.ismount(mounted):
                    why = contents(says.name).decode()
                    if re.search(r'fuse(rmount3)?: .*(mount|/dev/fuse|permi|device)', why):
                        raise Skipped(f'nothing can be mounted here: {why.strip()}')
                    raise Failed(f'nbdfuse: {why}')
                read_and_write_a_mount(f'{mounted}/disk', folder, kept)
            finally:
                if os.path.ismount(mounted):
                    run(['fusermount3', '-u', mounted])
                elif fuse.poll() is None:
                    fuse.send_signal(signal.SIGTERM)
            equal('exit of nbdfuse', fuse.wait(60), 0)
            equal('the first half', contents(disk, 0, 16 * MIB), kept[:16 * MIB])
            equal('a MiB in the middle', contents(disk, 16 * MIB, MIB), bytes([0x77]) * MIB)
            equal('the rest', contents(disk, 17 * MIB), kept[17 * MIB:])


def read_and_write_a_mount(path, folder, kept):
    equal('its size', os.path.getsize(path), SIZE)
    run(['dd', f'if={path}', f'of={folder}/out', 'bs=1M', 'count=8'])
    equal('what dd read', contents(f'{folder}/out'), kept[:8 * MIB])
    equal('all of it', contents(path), kept)
    with open(path, 'r+b', buffering=0) as file:
        file.seek(16 * MIB)
        equal('written', file.write(bytes([0x77]) * MIB), MIB)
        os.fsync(file.fileno())


TESTS = [
    nbdinfo_tells_what_the_export_is_and_can,
    nbdinfo_list_shows_the_one_export,
    nbdinfo_can_and_is_answer_by_exit_codes,
    nbdinfo_map_is_the_files_own,
    nbdcopy_takes_a_disk_there_and_back,
    nbdcopy_copies_a_disk_whose_size_is_odd,
    nbdcopy_to_nowhere_reads_it_all,
    nbdcopy_fails_if_the_server_is_killed_meanwhile,
    nbddump_shows_the_first_bytes,
    nbdfuse_mounts_it_as_a_file,
]
