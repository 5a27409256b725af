# SPDX-License-Identifier: MIT
"""hostile_storage.py: clients that behave, and storage that does not: full, broken, or with rules
of its own. See hostile.py."""
import contextlib
import errno
import os
import re
import subprocess

from server import (KIB, MIB, Failed, Skipped, check, equal, metrics_at, missing, real_folder, run,
                    until)
import wire
from wire import CMD_FLUSH, CMD_READ, CMD_TRIM, CMD_WRITE, CMD_WRITE_ZEROES, EIO, EINVAL, ENOSPC
from ward import SIZE, Settings, control_differs, serve

FUA = wire.CMD_FLAG_FUA
LOST = (EIO, ENOSPC)  # what a kernel may call it, when it could not write back


# --- storage that fails -----------------------------------------------------------------------


@contextlib.contextmanager
def small_tmpfs(size='4m'):
    """A folder in which there is room for so much."""
    with real_folder() as folder:
        try:
            run(['mount', '-t', 'tmpfs', '-o', f'size={size}', 'tmpfs', folder])
        except Failed as why:
            raise Skipped(f'no tmpfs can be mounted here: {why}') from None
        try:
            yield folder
        finally:
            run(['umount', folder])


@contextlib.contextmanager
def loop_device(file, *options):
    try:
        device = run(['losetup', *options, '--find', '--show', file]).strip()
    except (Failed, FileNotFoundError) as why:
        raise Skipped(f'no loop device can be had here: {why}') from None
    try:
        yield device
    finally:
        run(['losetup', '--detach', device])


@contextlib.contextmanager
def failing_file(marker):
    """A file of FUSE's, each read and write of which fails with EIO while `marker` is there."""
    lacks = missing('nbdkit', 'nbdfuse', 'umount')
    if lacks or not os.access('/dev/fuse', os.R_OK | os.W_OK):
        raise Skipped(f'not here: {", ".join(lacks) or "/dev/fuse"}')
    with real_folder() as folder:
        file = os.path.join(folder, 'disk')
        disk = ['--filter=error', 'memory', str(SIZE), 'error=EIO', 'error-rate=100%',
                f'error-file={marker}']
        fuse = subprocess.Popen(['nbdfuse', file, '--command', 'nbdkit', '-s', *disk],
                                stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
        try:
            until('there is a file', lambda: is_mounted(file, fuse))
            yield file
        finally:
            run(['umount', file], expect=(0, 32))
            if fuse.poll() is None:
                fuse.terminate()
            fuse.wait()


def is_mounted(file, fuse):
    if fuse.poll() is not None:
        raise Skipped('nbdfuse cannot mount here')
    return os.path.exists(file) and os.path.getsize(file) == SIZE


def sparse(folder, name='disk.img', size=SIZE):
    path = os.path.join(folder, name)
    with open(path, 'wb') as file:
        file.truncate(size)
    return path


# --- full -------------------------------------------------------------------------------------


def fill(client, size):
    """Writes until no more goes; how much went, in whole blocks of that size."""
    for block in range(SIZE // size):
        error = client.ask(CMD_WRITE, block * size, payload=bytes([block % 250 + 1]) * size).error
        if error:
            equal('where there is no room', error, ENOSPC)
            return block
    raise Failed('there is room for all of it')


def a_full_file_system_is_no_space_and_what_was_written_stays():
    size = 64 * KIB
    with small_tmpfs() as folder, serve(file=sparse(folder)) as ward, ward.ready() as client:
        went = fill(client, size)
        check(f'{went} blocks went', 16 <= went <= 64)
        for command, offset, length, flags in [
                (CMD_WRITE, 8 * MIB, MIB, 0), (CMD_WRITE, 8 * MIB, MIB, FUA),
                (CMD_WRITE, 9 * MIB, 4096, FUA),
                (CMD_WRITE_ZEROES, 8 * MIB, 8 * MIB, wire.CMD_FLAG_NO_HOLE)]:
            payload = length * b'!' if command == CMD_WRITE else b''
            equal((command, length), client.ask(command, offset, length, payload, flags).error,
                  ENOSPC)
        equal('a flush', client.ask(CMD_FLUSH).error, 0)
        equal('over what is there', client.ask(CMD_WRITE, 0, payload=size * b'\x01').error, 0)
        for block in range(went):
            check(f'block {block}', client.read(block * size, size) == bytes([block % 250 + 1])
                  * size)
        # A write for whose beginning there is room is not said to be done.
        equal('trim', client.ask(CMD_TRIM, 0, 4 * size).error, 0)
        equal('too much', client.ask(CMD_WRITE, 16 * MIB, payload=MIB * b'!').error, ENOSPC)
        equal('trim', client.ask(CMD_TRIM, 0, SIZE).error, 0)
        client.write(32 * MIB, MIB * b'r')
        check('there is room again', client.read(32 * MIB, MIB) == MIB * b'r')


def a_sync_that_fails_is_told_to_everyone_who_wrote():
    """The kernel tells of what it could not write back once for each open file, and holds the
    pages for clean: the next fdatasync is a success. So a failure belongs to all whose writes it
    may have been, on whatever connection, and whenever they ask."""
    with small_tmpfs() as folder, loop_device(sparse(folder)) as device, \
            serve(file=device) as ward, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(ward.ready(number % 2 == 0)) for number in range(4)]
        for number, client in enumerate(clients):
            for block in range(8):
                client.write((number * 8 + block) * MIB, MIB * b'l')
        for number, client in enumerate(clients):
            error = client.ask(CMD_FLUSH).error
            check(f'flush of connection {number}: error {error}', error in LOST)
        if not Settings.control:  # nbdkit says of some that they are there, and they are lost
            are_lost(clients)
        # There is room now: what is written from here on is as good as ever.
        run(['mount', '-o', 'remount,size=128m', folder])
        for client in clients:
            client.ask(CMD_FLUSH)  # it may still have something to tell
        for client in clients:
            client.write(MIB, 4096 * b'g', FUA)
            equal('flush', client.ask(CMD_FLUSH).error, 0)


def are_lost(clients):
    """Writes with FUA in flight together, so that they share one fdatasync or follow on each
    other's: the first to fail may have taken the news from the next. Each has lost its own."""
    for number, client in enumerate(clients):
        for block in range(16):
            client.request(CMD_WRITE, 40 * MIB + (number * 16 + block) * 64 * KIB,
                           payload=4096 * b'f', flags=FUA)
    for number, client in enumerate(clients):
        while client.requests:
            error = client.receive_reply()[0].error
            check(f'FUA on connection {number}: error {error}', error in LOST)


# --- broken -----------------------------------------------------------------------------------


def full_file(folder):
    path = os.path.join(folder, 'disk.img')
    with open(path, 'wb') as file:
        for _ in range(SIZE // MIB):
            file.write(MIB * b'd')
    return path


def what_a_disk_cannot_read_is_eio():
    with real_folder() as folder:
        file = full_file(folder)
        with loop_device(file, '--direct-io=on') as device, serve(file=device) as ward:
            os.truncate(file, 16 * MIB)
            for is_structured in [False, True]:
                with ward.ready(is_structured) as client:
                    is_half_broken(client)
            os.truncate(file, SIZE)


def is_half_broken(client):
    for offset, length in [(32 * MIB, 4096), (20 * MIB, MIB), (31 * MIB + 7, 100)]:
        equal(f'read at {offset}', client.ask(CMD_READ, offset, length).error, EIO)
    equal('a part of a page', client.ask(CMD_WRITE, 24 * MIB + 7, payload=100 * b'w').error, EIO)
    check('a flush is answered', client.ask(CMD_FLUSH).error in (0, EIO))
    wanted = {}
    for number in range(64):  # good and bad ones in flight together
        offset = (number % 2 * 16 + number // 4 % 8) * MIB + number * 4096
        wanted[client.request(CMD_READ, offset, 64 * KIB)] = number % 2 * EIO
    while client.requests:
        request, cookie = client.receive_reply()
        equal(f'read at {request.offset}', request.error, wanted[cookie])
        check('what is read', request.error or request.data == 64 * KIB * b'd')
    # Half of it is there. A simple reply that has begun without an error can only be torn.
    try:
        equal('a read across', client.ask(CMD_READ, 15 * MIB, 2 * MIB).error, EIO)
    except wire.Torn:
        check('a structured reply tells', not client.is_structured)


def what_a_disk_cannot_do_is_eio_and_then_it_can():
    cannot_and_then_can()


def cannot_and_then_can(*options, then=lambda client: None):
    with real_folder() as folder:
        marker = os.path.join(folder, 'marker')
        with failing_file(marker) as file, serve(*options, file=file) as ward:
            for is_structured in [False, True]:
                with ward.ready(is_structured) as client:
                    client.write(0, 64 * KIB * b'a')
                    with open(marker, 'wb'):
                        pass
                    for command, flags in [(CMD_WRITE, 0), (CMD_WRITE, FUA), (CMD_READ, 0),
                                           (CMD_WRITE_ZEROES, 0), (CMD_WRITE_ZEROES, FUA)]:
                        payload = 4096 * b'b' if command == CMD_WRITE else b''
                        # Far from what a page cache may have of the write before.
                        error = client.ask(command, 8 * MIB, 4096, payload, flags).error
                        equal(f'command {command}, flags {flags}', error, EIO)
                    os.unlink(marker)
                    client.ask(CMD_FLUSH)  # it may have something to tell of what failed
                    client.write(0, 4096 * b'c', FUA)
                    equal('flush', client.ask(CMD_FLUSH).error, 0)
                    equal('zeroes', client.ask(CMD_WRITE_ZEROES, 4096, 4096, flags=FUA).error, 0)
                    check('in place', client.read(0, 12 * KIB) ==
                          4096 * b'c' + bytes(4096) + 4096 * b'a')
                    then(client)


# --- with rules of its own --------------------------------------------------------------------


def need_direct(folder):
    try:
        os.close(os.open(sparse(folder, 'probe'), os.O_RDWR | os.O_DIRECT))
    except OSError as why:
        if why.errno != errno.EINVAL:
            raise
        raise Skipped('no O_DIRECT on this file system') from None


def agrees(client, model, command, offset, payload):
    """The model follows what is done. What is not: nothing may change."""
    flags = FUA if command == CMD_WRITE else 0
    error = client.ask(command, offset, len(payload), payload, flags).error \
        if command == CMD_WRITE else client.ask(command, offset, len(payload)).error
    check(f'command {command} at {offset}, {len(payload)} bytes: error {error}',
          error in (0, EINVAL))
    if not error:
        model[offset:offset + len(payload)] = payload
    return not error


def requests_that_are_not_aligned_are_done_or_refused_past_the_page_cache():
    are_done_or_refused(2 * MIB)


def a_file_whose_last_sector_is_not_whole_is_served_past_the_page_cache():
    """It is not made longer by that. Its end can be had, or is no part of the export."""
    are_done_or_refused(2 * MIB + 100)


def are_done_or_refused(size):
    with real_folder() as folder:
        need_direct(folder)
        with serve('--direct', folder=folder, size=size) as ward, ward.ready() as client:
            size, model = client.export.size, bytearray(ward.content(0, size))
            done = 0
            for offset, length in [(0, 4096), (7, 100), (511, 2), (4095, 4098), (0, 1), (512, 512),
                                   (1000, 65536), (size - 1, 1), (size - 100, 100),
                                   (size - 4096, 4096), (size - 612, 512), (8192, 513)]:
                done += agrees(client, model, CMD_WRITE, offset, ward.random.randbytes(length))
                agrees(client, model, CMD_WRITE_ZEROES, min(offset, size - 5), bytes(5))
            check('what is aligned is done', done >= 2)
            check('all of it', client.read(0, MIB) == model[:MIB])
            equal('the size of the file', os.path.getsize(ward.file), len(model))
            check('in the file', ward.content(0, len(model)) == model)
            tail = client.ask(CMD_READ, size - 100, 100)
            check('the tail', tail.error == EINVAL or tail.data == model[size - 100:size])


def neighbours_in_one_sector_do_not_undo_each_other():
    """Reading a sector, changing a part of it and writing it back must not be done twice at once,
    on one connection or on two."""
    count, size = 160, 100
    with real_folder() as folder:
        need_direct(folder)
        with serve('--direct', folder=folder) as ward, contextlib.ExitStack() as stack:
            clients = [stack.enter_context(ward.ready()) for _ in range(2)]
            for turn in range(1, 9):
                model = bytearray(ward.content(0, count * size))
                for number in range(count):
                    clients[number % 2].request(CMD_WRITE, number * size, cookie=number,
                                                payload=bytes([turn * 29 + number & 255]) * size)
                for client in clients:
                    while client.requests:
                        request, number = client.receive_reply()
                        check(f'error {request.error}', request.error in (0, EINVAL))
                        if not request.error:
                            model[number * size:(number + 1) * size] = \
                                bytes([turn * 29 + number & 255]) * size
                check('each has its own', ward.content(0, count * size) == model)


# --- writes on the spot -----------------------------------------------------------------------


def inline_done(length, file, *options):
    """How many of 8 writes of that length the loop makes itself."""
    with real_folder() as folder:
        metrics = os.path.join(folder, 'metrics')
        with serve('--metrics', metrics, '--spin', '0', *options,
                   file=file) as ward, ward.ready() as client:  # a spin would try receives, too
            before = count_of(metrics)
            for number in range(8):
                data = ward.random.randbytes(length)
                equal('error', client.ask(CMD_WRITE, number * MIB, payload=data).error, 0)
                check('in the file', ward.content(number * MIB, length) == data)
            return count_of(metrics) - before


def count_of(metrics):
    return int(re.search(r'^weir_loop_inline_done_total\S* (\d+)', metrics_at(metrics), re.M)[1])


@contextlib.contextmanager
def disk_folder():
    with real_folder() as folder:
        if run(['stat', '--file-system', '--format=%T', folder]).strip() == 'tmpfs':
            raise Skipped(f'{folder} is a tmpfs')
        yield folder


@control_differs(nbdkit='counts nothing')
def a_loop_makes_small_writes_itself_only_if_it_is_asked_to():
    """Or a disk that does not keep up would hold up everybody on the loop."""
    with disk_folder() as folder:
        file = sparse(folder)
        equal('not asked', inline_done(4096, file), 0)
        equal('asked', inline_done(16 * KIB, file, '--inline-writes'), 8)
        equal('more than 16 KiB', inline_done(16 * KIB + 1, file, '--inline-writes'), 0)
        # Of which the second piece is little.
        equal('pieces', inline_done(128 * KIB + 4096, file, '--inline-writes'), 0)


@control_differs(nbdkit='counts nothing')
def a_device_is_no_memory_though_its_node_is_in_one():
    with disk_folder() as folder, loop_device(sparse(folder)) as device:
        equal('not asked', inline_done(4096, device), 0)
        equal('asked', inline_done(4096, device, '--inline-writes'), 8)


def a_write_in_the_loop_that_fails_is_an_error_like_any_other():
    with real_folder() as folder:
        metrics = os.path.join(folder, 'metrics')

        def is_made_in_the_loop(client):
            before = count_of(metrics)
            client.write(0, 4096 * b'd')
            equal('in the loop', count_of(metrics) - before, 1)

        cannot_and_then_can('--inline-writes', '--metrics', metrics, then=is_made_in_the_loop)


TESTS = [
    a_full_file_system_is_no_space_and_what_was_written_stays,
    a_sync_that_fails_is_told_to_everyone_who_wrote, what_a_disk_cannot_read_is_eio,
    what_a_disk_cannot_do_is_eio_and_then_it_can,
    requests_that_are_not_aligned_are_done_or_refused_past_the_page_cache,
    a_file_whose_last_sector_is_not_whole_is_served_past_the_page_cache,
    neighbours_in_one_sector_do_not_undo_each_other,
    a_loop_makes_small_writes_itself_only_if_it_is_asked_to,
    a_device_is_no_memory_though_its_node_is_in_one,
    a_write_in_the_loop_that_fails_is_an_error_like_any_other,
]
