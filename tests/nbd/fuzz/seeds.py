#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""seeds.py FOLDER: inputs for the fuzzer that are whole conversations, as fuzz.h says them."""
import struct
import sys
from pathlib import Path

BARE, GREETED, SIMPLE, STRUCTURED = range(4)
REQUEST, OPTION, FILL, PAUSE, DRAIN, HANG_UP, READING = range(0xf0, 0xf7)
READ, WRITE, DISC, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS = range(8)
FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO = 1, 2, 4, 8, 16
EXPORT_NAME, ABORT, LIST, STARTTLS, INFO, GO, STRUCTURED_REPLY, LIST_CONTEXT, SET_CONTEXT = (
    1, 2, 3, 5, 6, 7, 8, 9, 10)


def head(handshake, exports=1, read_only=False, blocks=False, closes=False, silent=False, depth=4,
         poor=False, small=False, faults=0):
    return bytes([exports - 1 | read_only << 2 | blocks << 3 | handshake << 4 | closes << 6 |
                  silent << 7, depth - 1 | poor << 3 | small << 4, faults])


def request(kind, flags=0, cookie=1, offset=0, length=0, filled=True):
    """offset in 37 bytes, length in 7."""
    return bytes([REQUEST, kind | (0 if filled else 0x80), flags, cookie]) + struct.pack(
        '>HH', offset, length)


def option(number, data=b''):
    return bytes([OPTION, number, len(data)]) + data


def text(string):
    return struct.pack('>I', len(string)) + string


def raw(data):
    return b''.join(bytes([len(part)]) + part
                    for part in (data[at:at + 200] for at in range(0, len(data), 200)))


def infos(name, *numbers):
    return text(name) + struct.pack('>H', len(numbers)) + b''.join(
        struct.pack('>H', number) for number in numbers)


def contexts(name, *queries):
    return text(name) + struct.pack('>I', len(queries)) + b''.join(map(text, queries))


ALL = b''.join(
    request(kind, flags, cookie, offset, length) for cookie, (kind, flags, offset, length) in
    enumerate([(WRITE, 0, 0, 100), (WRITE, FUA, 9, 9000), (READ, 0, 0, 20000), (FLUSH, 0, 0, 0),
               (TRIM, FUA, 50, 600), (WRITE_ZEROES, NO_HOLE, 70, 5000), (CACHE, 0, 3, 700),
               (WRITE_ZEROES, FAST_ZERO, 100, 100), (READ, DF, 11, 500), (READ, DF, 0, 20000),
               (BLOCK_STATUS, 0, 0, 3000), (BLOCK_STATUS, REQ_ONE, 30, 20000)]))
WRONG = b''.join(
    request(kind, flags, cookie, offset, length) for cookie, (kind, flags, offset, length) in
    enumerate([(READ, 0, 65535, 9), (WRITE, 0, 65535, 9), (TRIM, 0, 4400, 9000), (READ, 0, 0, 0),
               (WRITE, 0, 0, 0), (READ, 64, 0, 9), (9, 0, 0, 9), (WRITE_ZEROES, 0, 60000, 9),
               (FLUSH, 2, 0, 0), (BLOCK_STATUS, 0, 65535, 1), (CACHE, 0, 65535, 1)]))
BIG = b''.join(request(READ, 0, cookie, cookie * 5, 23000) for cookie in range(8))
HEADER = struct.Struct('>IHHQQI')

SEEDS = {
    'options': head(GREETED, 3) + option(LIST) + option(99, b'what') + option(STARTTLS) + option(
        INFO, infos(b'b', 0, 1, 2, 3)) + option(STRUCTURED_REPLY) + option(
            LIST_CONTEXT, contexts(b'')) + option(SET_CONTEXT, contexts(
                b'the third', b'base:allocation')) + option(GO, infos(b'the third', 3)) + request(
                    BLOCK_STATUS, length=9) + request(READ, length=9),
    'options_wrong': head(GREETED, 2, blocks=True) + option(LIST, b'x') + option(
        GO, b'\xff\xff\xff\xff') + option(INFO, text(b'b') + b'\0\7') + option(
            GO, infos(b'nobody')) + option(GO, infos(b'')) + option(
                SET_CONTEXT, contexts(b'')) + option(STRUCTURED_REPLY, b'1') + option(ABORT),
    'export_name': head(GREETED, 1) + option(EXPORT_NAME) + ALL,
    'export_name_zeroes': head(BARE, 3) + raw(b'\0\0\0\1') + option(EXPORT_NAME, b'b') + ALL,
    'export_name_nobody': head(GREETED, 2) + option(EXPORT_NAME, b'nobody'),
    'flags_wrong': head(BARE) + raw(b'\0\0\0\7') + option(LIST),
    'option_magic_wrong': head(GREETED) + raw(b'IHAVEOPX' + bytes(8)) + option(LIST),
    'option_long': head(GREETED) + raw(b'IHAVEOPT' + b'\0\0\0\3\xff\xff\xff\xff') + bytes(
        [FILL, 40]),
    'option_16k': head(GREETED) + raw(b'IHAVEOPT' + struct.pack('>II', GO, 16384)) + bytes(
        [FILL, 16]) + option(GO, infos(b'')),
    'bytes_one_by_one': head(BARE) + b''.join(bytes([1, byte]) for byte in struct.pack(
        '>I8sII', 3, b'IHAVEOPT', GO, 6) + infos(b'')) + request(READ, length=1),
    'simple': head(SIMPLE) + ALL + BIG,
    'simple_pauses': head(SIMPLE, depth=1) + bytes([PAUSE]).join([ALL, WRONG, BIG]),
    'structured': head(STRUCTURED) + ALL + BIG + request(DISC),
    'structured_wrong': head(STRUCTURED, 2) + WRONG + ALL,
    'read_only': head(STRUCTURED, read_only=True) + ALL + WRONG,
    'blocks': head(SIMPLE, blocks=True) + b''.join(
        request(kind, 0, cookie, 512 * cookie, length) for cookie, (kind, length) in enumerate(
            [(WRITE, 512), (WRITE, 511), (READ, 512 * 30), (TRIM, 1024), (WRITE, 512 * 40)])) + ALL,
    'silent': head(STRUCTURED, silent=True, closes=True) + BIG * 4 + ALL,
    'silent_then_reads': head(SIMPLE, silent=True, small=True) + BIG + bytes(
        [PAUSE, READING]) + ALL,
    'poor': head(SIMPLE, poor=True) + ALL + BIG,
    'poor_structured': head(STRUCTURED, poor=True, depth=1, small=True) + BIG + ALL + BIG,
    'poor_silent': head(STRUCTURED, poor=True, silent=True) + BIG * 2 + bytes([READING]) + ALL,
    'faults': head(STRUCTURED, faults=0x07) + ALL + BIG + WRONG + ALL,
    'faults_simple': head(SIMPLE, faults=0x0f, depth=1) + ALL + BIG + ALL,
    'resets': head(SIMPLE, faults=0xf1) + ALL * 3 + BIG,
    'drain_in_read': head(SIMPLE, small=True) + BIG + bytes([DRAIN]) + ALL,
    'drain_in_write': head(STRUCTURED) + request(WRITE, FUA, 1, 0, 20000, filled=False) + bytes(
        [FILL, 64, DRAIN, FILL, 77]),
    'drain_in_handshake': head(GREETED) + option(LIST) + bytes([DRAIN]) + option(GO, infos(b'')),
    'hang_up': head(STRUCTURED, small=True) + BIG + bytes([HANG_UP]) + ALL,
    'half_a_write': head(SIMPLE) + request(WRITE, 0, 1, 0, 20000, filled=False) + bytes([FILL, 64]),
    'half_a_write_closed': head(SIMPLE, closes=True) + request(
        WRITE, 0, 1, 0, 23000, filled=False) + bytes([FILL, 130]),
    'write_refused': head(SIMPLE, read_only=True) + request(
        WRITE, 0, 1, 0, 146, filled=False) + bytes([FILL, 1]) + request(READ, length=7),
    'write_too_long': head(SIMPLE) + raw(HEADER.pack(0x25609513, 0, WRITE, 7, 0, 1 << 26)) + bytes(
        [FILL, 64]),
    'read_4g': head(STRUCTURED) + raw(
        HEADER.pack(0x25609513, 0, READ, 7, 2 ** 64 - 5, 2 ** 32 - 1)),
    'request_magic_wrong': head(SIMPLE) + request(READ, length=9) + raw(bytes(28)),
    'headers_cut': head(SIMPLE) + b''.join(
        raw(part) for header in [HEADER.pack(0x25609513, 0, WRITE, 9, 100, 30) + b'x' * 30] * 3
        for part in (header[:5], header[5:31], header[31:])),
}


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in SEEDS.items():
        (folder / name).write_bytes(data)


if __name__ == '__main__':
    main(Path(sys.argv[1]))
