# SPDX-License-Identifier: MIT
"""clients_nbdsh.py: what nbdsh, a Python that speaks NBD, can ask for and no other client does.

The scripts run in nbdsh: `h` is its connection, `nbd` its module. What fails in them is a traceback
and exit code 1.
"""
from clients_copy import patchy_file
from server import MIB, check, contents, equal, random_file, real_folder, run, want

SIZE = 8 * MIB


def nbdsh(uri, script, *options):
    return run(['nbdsh', *options, '-u', uri, '-c', script], URI=uri)


# --- what is right ----------------------------------------------------------------------------

EVERY_KIND = r'''
h.pwrite(b"\xa5" * 131072, 0, nbd.CMD_FLAG_FUA)
h.zero(65536, 0)
assert h.pread(131072, 0) == bytes(65536) + b"\xa5" * 65536
h.zero(4096, 65536, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FUA)
assert h.pread(8192, 65536) == bytes(4096) + b"\xa5" * 4096
h.flush()
h.trim(65536, 262144, nbd.CMD_FLAG_FUA)
if h.can_cache():
    h.cache(65536, 0)
if h.can_fast_zero():
    try:
        h.zero(65536, 524288, nbd.CMD_FLAG_FAST_ZERO)
        assert h.pread(65536, 524288) == bytes(65536)
    except nbd.Error as error:
        assert error.errno == "ENOTSUP", error.errno  # the one way to say: not fast

# one byte, and bytes across every boundary
h.pwrite(b"\x01", 1048575)
h.pwrite(b"\x02\x03\x04", 1048577)
assert h.pread(6, 1048574)[1:2] == b"\x01" and h.pread(3, 1048577) == b"\x02\x03\x04"
last = h.get_size() - 1
h.pwrite(b"\x99", last)
assert h.pread(1, last) == b"\x99"

# DF: one chunk, however many extents there are; or none, of more than a server need have at hand
chunks = []
data = h.pread_structured(65536, 1048576 - 32768, lambda part, offset, kind, error: chunks.append(
    (offset, len(part), kind)), nbd.CMD_FLAG_DF)
assert data == h.pread(65536, 1048576 - 32768)
assert len(chunks) == 1 and chunks[0][:2] == (1048576 - 32768, 65536), chunks
try:
    h.pread_structured(1048576, 0, lambda *chunk: None, nbd.CMD_FLAG_DF)
except nbd.Error as error:
    assert error.errno == "EOVERFLOW", error.errno
data = h.pread(1048576, 0)
pieces = []
assert h.pread_structured(1048576, 0, lambda part, offset, kind, error: pieces.append(
    (offset, len(part), kind))) == data
spans = sorted((offset, size) for offset, size, kind in pieces)
assert sum(size for offset, size in spans) == 1048576 or nbd.READ_HOLE in [k for *_, k in pieces]
'''

STATUS = r'''
assert h.can_meta_context("base:allocation")
seen = []
def take(context, offset, entries, error):
    assert context == "base:allocation", context
    assert offset == asked[0], (offset, asked)
    seen.append(list(zip(entries[::2], entries[1::2])))
def status(length, offset, flags=0):
    global asked
    asked = (offset, length)
    seen.clear()
    h.block_status(length, offset, take, flags)
    assert len(seen) == 1 and seen[0], seen
    assert all(length > 0 for length, kind in seen[0]), seen
    return seen[0]

size = h.get_size()
whole, place = [], 0
while place < size:
    for length, kind in status(size - place, place):
        whole.append((place, length, kind))
        place += length
assert place == size, "extents go past the end"
assert {kind for *_, kind in whole} == {0, 3}, whole

first = status(1048576, 0)
assert first[0][1] == 0
one = status(size, 0, nbd.CMD_FLAG_REQ_ONE)
assert len(one) == 1 and one[0][0] <= size and one[0][1] == 0, one
hole = next(entry for entry in whole if entry[2] == 3)
middle = status(4096, hole[0] + 8192, nbd.CMD_FLAG_REQ_ONE)
assert middle == [(4096, 3)], middle  # no longer than asked for
h.pwrite(b"x" * 4096, hole[0])  # what was written is a hole no more
h.flush()
assert status(4096, hole[0]) [0][1] == 0
h.zero(1048576, 0)
assert status(1048576, 0)[0][1] & 2  # zero now, hole or not
assert h.pread(1048576, 0) == bytes(1048576)
'''


def nbdsh_does_every_kind_of_request(rig):
    want('nbdsh')
    with real_folder() as folder:
        disk = random_file(f'{folder}/disk', SIZE)
        with rig.serve(disk, folder) as server:
            nbdsh(server.uri, EVERY_KIND, '--base-allocation')
            equal('the last byte of the file', contents(disk, SIZE - 1), b'\x99')


def nbdsh_reads_block_status(rig):
    want('nbdsh')
    with real_folder() as folder:
        disk = patchy_file(f'{folder}/disk')
        with rig.serve(disk, folder) as server:
            nbdsh(server.uri, STATUS, '--base-allocation')


IN_FLIGHT = r'''
import random
want = open("%s", "rb").read()
dice = random.Random(7)
for turn in range(20):
    asked = []
    for _ in range(64):
        length = dice.choice([512, 4096, 65536, 262144])
        offset = dice.randrange(0, len(want) // 2 - length)
        buffer = nbd.Buffer(length)
        asked.append((h.aio_pread(buffer, offset), buffer, offset, length))
    written = dice.randbytes(4096)  # beside them, in the other half
    asked.append((h.aio_pwrite(written, len(want) // 2 + turn * 4096), None, 0, 0))
    assert h.aio_in_flight() > 0
    while h.aio_in_flight() > 0:
        h.poll(-1)
    for cookie, buffer, offset, length in asked:
        assert h.aio_command_completed(cookie)
        if buffer:
            assert buffer.to_bytearray() == want[offset:offset + length], (turn, offset, length)
    assert h.pread(4096, len(want) // 2 + turn * 4096) == written
'''


def nbdsh_has_64_in_flight(rig):
    want('nbdsh')
    with real_folder() as folder:
        disk = random_file(f'{folder}/disk', SIZE)
        with rig.serve(disk, folder) as server:
            nbdsh(server.uri, IN_FLIGHT % random_file(f'{folder}/same', SIZE))


COHERENT = r'''
import os
a, b = nbd.NBD(), nbd.NBD()
for handle in (a, b):
    handle.connect_uri(os.environ["URI"])
    assert handle.can_multi_conn()
for turn in range(200):
    data = bytes([turn]) * 4096
    writer, reader = (a, b) if turn % 2 else (b, a)
    if turn % 3:
        writer.pwrite(data, turn * 4096)
        writer.flush()
    else:
        writer.pwrite(data, turn * 4096, nbd.CMD_FLAG_FUA)
    assert reader.pread(4096, turn * 4096) == data, turn
# a flush covers what another connection was told is written
a.pwrite(b"\xee" * 4096, 4194304)
b.flush()
assert b.pread(4096, 4194304) == b"\xee" * 4096
'''


def what_one_connection_flushed_the_other_sees(rig):
    want('nbdsh')
    with real_folder() as folder:
        disk = random_file(f'{folder}/disk', SIZE)
        for options in ([],) if rig.is_nbdkit else ([], ['--loops', '2']):
            with rig.serve(disk, folder, *options) as server:
                run(['nbdsh', '-c', COHERENT], URI=server.uri)


# --- what is not ------------------------------------------------------------------------------

REFUSED = r'''
h.set_strict_mode(0)
size = h.get_size()
def refused(what, wanted, call, *arguments):
    try:
        call(*arguments)
    except nbd.Error as error:
        assert error.errno == wanted, f"{what}: {error.errno}, not {wanted}"
    else:
        raise AssertionError(f"{what}: it was done")
'''

BAD_INPUT = REFUSED + r'''
before = h.pread(size, 0)
refused("read past the end", "EINVAL", h.pread, 4096, size - 512)
refused("read from past the end", "EINVAL", h.pread, 512, size + 4096)
refused("read at the last offset there is", "EINVAL", h.pread, 512, (1 << 63) - 512)
refused("write past the end", "ENOSPC", h.pwrite, b"x" * 4096, size - 512)
refused("write from past the end", "ENOSPC", h.pwrite, b"x" * 512, size)
refused("trim past the end", "EINVAL", h.trim, 4096, size - 512)
refused("zero past the end", "ENOSPC", h.zero, 4096, size - 512)
refused("zero of 4 GiB less a byte", "ENOSPC", h.zero, (1 << 32) - 1, 0)
refused("cache past the end", "EINVAL", h.cache, 4096, size - 512)
refused("status past the end", "EINVAL", h.block_status, 4096, size - 512, lambda *_: 0)
refused("no bytes read", "EINVAL", h.pread, 0, 0)
refused("no bytes read past the end", "EINVAL", h.pread, 0, size + 1)
for flag in (1 << 6, 1 << 10, 1 << 15):
    refused(f"read with flag {flag}", "EINVAL", h.pread, 512, 0, flag)
    refused(f"write with flag {flag}", "EINVAL", h.pwrite, b"x" * 512, 0, flag)
    refused(f"flush with flag {flag}", "EINVAL", h.flush, flag)
    refused(f"trim with flag {flag}", "EINVAL", h.trim, 512, 0, flag)
    refused(f"zero with flag {flag}", "EINVAL", h.zero, 512, 0, flag)
    refused(f"status with flag {flag}", "EINVAL", h.block_status, 512, 0, lambda *_: 0, flag)
assert h.pread(size, 0) == before, "a refused request changed something"
h.pwrite(b"fine", 0)  # the connection is as good as before
assert h.pread(4, 0) == b"fine"
'''

NO_CONTEXT = REFUSED + r'''
refused("status without a context", "EINVAL", h.block_status, 512, 0, lambda *_: 0)
assert len(h.pread(512, 0)) == 512
'''


def bad_input_is_refused_and_the_connection_goes_on(rig):
    want('nbdsh')
    with real_folder() as folder:
        disk = random_file(f'{folder}/disk', SIZE)
        kept = contents(disk)
        with rig.serve(disk, folder) as server:
            nbdsh(server.uri, BAD_INPUT, '--base-allocation')
            nbdsh(server.uri, NO_CONTEXT)
            check('the server is alive', server.is_alive())
        check('the file is as it was, but for what was fine', contents(disk) == b'fine' + kept[4:])


READ_ONLY = REFUSED + r'''
assert h.is_read_only()
refused("write", "EPERM", h.pwrite, b"x" * 512, 0)
refused("write with FUA", "EPERM", h.pwrite, b"x" * 512, 0, nbd.CMD_FLAG_FUA)
refused("trim", "EPERM", h.trim, 512, 0)
refused("zero", "EPERM", h.zero, 512, 0)
assert len(h.pread(512, 0)) == 512
'''


def a_read_only_export_can_only_be_read(rig):
    want('nbdsh', 'nbdcopy')
    with real_folder() as folder:
        disk = random_file(f'{folder}/disk', SIZE)
        kept = contents(disk)
        with rig.serve(disk, folder, is_read_only=True) as server:
            run(['nbdinfo', '--is', 'read-only', server.uri])
            for what in ('write', 'trim', 'zero'):
                run(['nbdinfo', '--can', what, server.uri], expect=2)
            nbdsh(server.uri, READ_ONLY)
            other = random_file(f'{folder}/other', SIZE, seed=9)
            run(['nbdcopy', other, server.uri], expect=1)
            run(['nbdcopy', server.uri, f'{folder}/out'])
            check('it reads as it is', contents(f'{folder}/out') == kept)
        check('nothing is written', contents(disk) == kept)


TESTS = [
    nbdsh_does_every_kind_of_request,
    nbdsh_reads_block_status,
    nbdsh_has_64_in_flight,
    what_one_connection_flushed_the_other_sees,
    bad_input_is_refused_and_the_connection_goes_on,
    a_read_only_export_can_only_be_read,
]
