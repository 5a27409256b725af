# SPDX-License-Identifier: MIT
"""clients_qemu.py: QEMU's programs, which have a client of their own, and fio."""
import json
import os

from clients_copy import SIZE, extents, patchy_file
from server import (KIB, MIB, check, contents, equal, random_file, real_folder, run, same_contents,
                    want)


# --- qemu-img, qemu-io ------------------------------------------------------------------------


def qemu_img_tells_size_and_map(rig):
    want('qemu-img')
    with real_folder() as folder:
        disk = patchy_file(f'{folder}/disk')
        with rig.serve(disk, folder) as server:
            facts = json.loads(run(['qemu-img', 'info', '--output=json', server.uri]))
            equal('the format and size', (facts['format'], facts['virtual-size']), ('raw', SIZE))
            check('the same in words', f'({SIZE} bytes)' in run(['qemu-img', 'info', server.uri]))
            told = json.loads(run(['qemu-img', 'map', '--output=json', '-f', 'raw', server.uri]))
            equal('the map', [[one['start'], one['length'], one['zero']] for one in told],
                  extents(disk))


def qemu_img_compare_tells_equal_from_different(rig):
    want('qemu-img')
    with real_folder() as folder:
        disk = patchy_file(f'{folder}/disk')
        other = patchy_file(f'{folder}/other')
        with open(other, 'r+b') as file:
            file.seek(SIZE - MIB)
            file.write(b'x')
        with rig.serve(disk, folder) as server:
            compare = ['qemu-img', 'compare', '-f', 'raw', '-F', 'raw']
            run([*compare, disk, server.uri])
            text = run([*compare, other, server.uri], expect=1)
            check(f'where it differs: {text}', 'mismatch at offset' in text)


def qemu_img_convert_writes_it_out_of_order(rig):
    want('qemu-img')
    with real_folder() as folder:
        source = patchy_file(f'{folder}/source')
        disk = random_file(f'{folder}/disk', SIZE)
        with rig.serve(disk, folder) as server:
            run(['qemu-img', 'convert', '-n', '-W', '-m', '16', '-f', 'raw', '-O', 'raw', source,
                 server.uri])
            same_contents('what came', disk, source)
            run(['qemu-img', 'convert', '-W', '-m', '16', '-f', 'raw', '-O', 'raw', server.uri,
                 f'{folder}/out'])
            same_contents('what went', f'{folder}/out', source)


def qemu_img_bench_reads_and_writes_with_flushes(rig):
    want('qemu-img')
    with real_folder() as folder:
        disk = random_file(f'{folder}/disk', SIZE)
        kept = contents(disk)
        bench = ['qemu-img', 'bench', '-s', '4096', '-f', 'raw', '-t', 'none']
        with rig.serve(disk, folder) as server:
            run([*bench, '-c', '20000', '-d', '64', server.uri])
            check('reads change nothing', contents(disk) == kept)
            run([*bench, '-w', '-c', '5000', '-d', '16', '--flush-interval=100', '--pattern=0x3c',
                 server.uri])
            equal('what was written', contents(disk, 0, 5000 * 4096), b'\x3c' * (5000 * 4096))
            check('and no more', contents(disk, 5000 * 4096) == kept[5000 * 4096:])


def qemu_io_does_every_kind_of_request(rig):
    want('qemu-io')
    with real_folder() as folder:
        disk = random_file(f'{folder}/disk', SIZE)
        kept = contents(disk)
        steps = ['write -P 0xa5 0 64k', 'read -P 0xa5 0 64k', 'write -f -P 0x5a 64k 4k',
                 'write -z 128k 64k', 'write -z -u 256k 64k', 'discard 512k 64k',
                 'read -P 0 128k 64k', 'flush', 'aio_write -P 1 1M 1M', 'aio_read 0 1M',
                 'aio_flush', 'read -P 1 1M 1M', 'read -P 0 256k 64k', 'read -P 0x5a 64k 4k']
        command = ['qemu-io', '-f', 'raw']
        for step in steps:
            command += ['-c', step]
        with rig.serve(disk, folder) as server:
            text = run([*command, server.uri], merged=True)
            check(f'nothing failed: {text}', 'fail' not in text)
            run(['qemu-io', '-f', 'raw', '-c', 'read -P 0x11 0 64k', server.uri], expect=1)
        wanted = bytearray(kept)
        wanted[:64 * KIB] = b'\xa5' * (64 * KIB)
        wanted[64 * KIB:68 * KIB] = b'\x5a' * (4 * KIB)
        wanted[128 * KIB:192 * KIB] = bytes(64 * KIB)
        wanted[256 * KIB:320 * KIB] = bytes(64 * KIB)
        wanted[MIB:2 * MIB] = b'\1' * MIB
        wanted[512 * KIB:576 * KIB] = contents(disk, 512 * KIB, 64 * KIB)  # whatever a discard does
        check('the file is as it was told to be', contents(disk) == bytes(wanted))


# --- fio --------------------------------------------------------------------------------------


def fio(folder, server, *options):
    """A job of fio's, by its JSON; nothing in it may have failed."""
    report = os.path.join(folder, 'fio.json')
    text = run(['fio', '--name=job', '--ioengine=nbd', f'--uri={server.uri}', '--bs=4k',
                '--output-format=json', f'--output={report}', *options], merged=True, folder=folder)
    with open(report, encoding='utf-8') as file:
        words = file.read()
    job, = json.loads(words[words.index('{'):])['jobs']
    equal(f'error of the job, {text}', job['error'], 0)
    return job


def want_fio():
    want('fio')
    check('fio has the engine', 'nbd' in run(['fio', '--enghelp']).split())


def fio_mixes_reads_and_writes(rig):
    want_fio()
    with real_folder() as folder:
        with rig.serve(random_file(f'{folder}/disk', SIZE), folder) as server:
            job = fio(folder, server, '--rw=randrw', '--rwmixread=70', '--iodepth=32', '--fsync=64',
                      '--time_based', '--runtime=3')
            check(f'it read and wrote: {job["read"]["total_ios"]}, {job["write"]["total_ios"]}',
                  min(job[way]['total_ios'] for way in ('read', 'write')) > 100)
            check('it flushed', job['sync']['total_ios'] > 0)


def fio_verifies_what_it_wrote(rig):
    want_fio()
    with real_folder() as folder:
        disk = random_file(f'{folder}/disk', SIZE)
        verify = ['--rw=randwrite', '--iodepth=16', '--size=16M', '--verify=crc32c']
        with rig.serve(disk, folder) as server:
            job = fio(folder, server, *verify, '--do_verify=1')
            equal('each block is written', job['write']['total_ios'], 16 * MIB // 4096)
            equal('and read again', job['read']['total_ios'], 16 * MIB // 4096)
            check('what is past it is left alone', contents(disk, 16 * MIB) == contents(
                random_file(f'{folder}/again', SIZE), 16 * MIB))
        with rig.serve(disk, folder) as server:  # another server has it from the file
            fio(folder, server, *verify, '--verify_only')


TESTS = [
    qemu_img_tells_size_and_map,
    qemu_img_compare_tells_equal_from_different,
    qemu_img_convert_writes_it_out_of_order,
    qemu_img_bench_reads_and_writes_with_flushes,
    qemu_io_does_every_kind_of_request,
    fio_mixes_reads_and_writes,
    fio_verifies_what_it_wrote,
]
