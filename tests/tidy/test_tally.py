#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""test_tally.py: tally.py on logs of programs that pass, fail, skip, crash and hang."""
import json
import os
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True  # the tree stays as it is
import tally  # noqa: E402

RUN = '[ RUN      ] '
GOOD = f'[==========] Running 2 test(s).\n{RUN}a\n[       OK ] a\n{RUN}b\n[       OK ] b\n'
CASES = [
    # what, (name, result, stdout, stderr)..., last line, exit status
    ('cmocka tests are summed', [('x', 'OK', GOOD, '[  PASSED  ] 2 test(s).\n'),
                                 ('y', 'OK', GOOD, '[  PASSED  ] 40 test(s).\n')],
     '42 passed, 0 failed', 0),
    ('newer cmocka names the group', [('x', 'OK', GOOD, '[  PASSED  ] group: 2 test(s).\n')],
     '2 passed, 0 failed', 0),
    ('groups of one program are summed',
     [('x', 'FAIL', GOOD, '[  PASSED  ] 1 test(s).\n[  FAILED  ] 2 test(s), listed below:\n'
       '[  FAILED  ] a\n[  FAILED  ] b\n\n 2 FAILED TEST(S)\n[  PASSED  ] 3 test(s).\n')],
     '4 passed, 2 failed', 1),
    ('a test whose set-up failed is one', [('x', 'FAIL', GOOD, '[  ERROR   ] a\n'
                                            '[  PASSED  ] 1 test(s).\n\n 1 FAILED TEST(S)\n')],
     '1 passed, 1 failed', 1),
    ('a group whose set-up failed is one', [('x', 'FAIL', GOOD, '[  FAILED  ] GROUP SETUP\n'
                                             '[  PASSED  ] 0 test(s).\n')],
     '0 passed, 1 failed', 1),
    ('a crash keeps what passed before it', [('x', 'FAIL', GOOD + RUN + 'c\n', '')],
     '2 passed, 1 failed', 1),
    ('a report at exit is a failure', [('x', 'FAIL', GOOD, '[  PASSED  ] 2 test(s).\nleak\n')],
     '2 passed, 1 failed', 1),
    ('a time limit is a failure', [('x', 'TIMEOUT', '', '')], '0 passed, 1 failed', 1),
    ('other programs are one each', [('x', 'OK', '', ''), ('y', 'FAIL', 'no', ''),
                                     ('z', 'SKIP', 'needs root\n', '')],
     '1 passed, 1 failed, 1 skipped', 1),
    ('a skip alone is no success', [('z', 'SKIP', 'needs root\n', '')],
     '0 passed, 0 failed, 1 skipped', 1),
    ('nothing is no success', [], '0 passed, 0 failed', 1),
]
SKIPPING = ('x', 'OK',
            GOOD + f'{RUN}c\nskip: needs root\n[  SKIPPED ] c\n{RUN}d\nseed: 1\n[  SKIPPED ] d\n'
            f'{RUN}e\n[  SKIPPED ] e\n',
            'skipped: old kernel\n[  PASSED  ] 2 test(s).\n[  SKIPPED ] 3 test(s), listed below:\n'
            '[  SKIPPED ] c\n[  SKIPPED ] d\n[  SKIPPED ] e\n\n 3 SKIPPED TEST(S)\n')


FAILING = [
    ('x', 'FAIL', f'[==========] Running 1 test(s).\n{RUN}c\n',
     '[  ERROR   ] --- 0x1 != 0\n[   LINE   ] --- c.c:8: error: Failure!\n[  FAILED  ] c\n'),
    ('y', 'FAIL', 'on we go\n', 'warm\ny.c:25: failed: size > 500\n'),
    ('z', 'FAIL', 'ok 1\n', '==12==ERROR: AddressSanitizer: heap-use-after-free on\nmore\n'),
    ('v', 'FAIL', '', 'Traceback (most recent call last):\n  File x\nAssertionError: no\n'),
    ('w', 'TIMEOUT', '', ''),
]
FAILURES = [
    'failed: x (fail, 1 failed): [  ERROR   ] --- 0x1 != 0 [   LINE   ] --- c.c:8: error: Failure!',
    'failed: y (fail, 1 failed): y.c:25: failed: size > 500',
    'failed: z (fail, 1 failed): ==12==ERROR: AddressSanitizer: heap-use-after-free on',
    'failed: v (fail, 1 failed): AssertionError: no',
    'failed: w (timeout, 1 failed): it said nothing',
]


SLOWEST = ['3 programs, 24 s one after the other; the slowest:', '    20.0 s  slow',
           '     3.0 s  middling', '3 passed, 0 failed']


def lines_of(programs):
    lines = []
    records = [dict(zip(('name', 'result', 'stdout', 'stderr'), program)) for program in programs]
    return tally.report(records, lines.append), lines


def main():
    wrong = 0
    for what, programs, last, status in CASES:
        got, lines = lines_of(programs)
        if got != status or lines[-1] != last:
            wrong += 1
            print(f'{what}: {got} {lines}')
    got, lines = lines_of([SKIPPING])
    expected = ['skipped: x c: needs root', 'skipped: x d: old kernel',
                'skipped: x e: no reason given', '2 passed, 0 failed, 3 skipped']
    if got != 0 or lines != expected:
        wrong += 1
        print(f'skips: {got} {lines}')
    got, lines = lines_of(FAILING)
    if got != 1 or lines[:-1] != FAILURES:
        wrong += 1
        print(f'failures: {got} {lines}')
    with tempfile.TemporaryDirectory() as folder:  # no log at all: nothing ran
        done = subprocess.run([sys.executable, tally.__file__, os.path.join(folder, 'gone')],
                              capture_output=True, text=True, check=False)
        if done.returncode != 1 or done.stdout != '0 passed, 0 failed\n':
            wrong += 1
            print(f'no log: {done}')
        log = os.path.join(folder, 'log')
        with open(log, 'w', encoding='utf-8') as file:
            for name, duration in (('quick', 0.5), ('slow', 20), ('middling', 3)):
                file.write(json.dumps({'name': name, 'duration': duration, 'result': 'OK'}) + '\n')
        done = subprocess.run([sys.executable, tally.__file__, log, '--slowest', '2'],
                              capture_output=True, text=True, check=False)
        if done.returncode != 0 or done.stdout.splitlines() != SLOWEST:
            wrong += 1
            print(f'the slowest: {done}')
    sys.exit(1 if wrong else 0)


if __name__ == '__main__':
    main()
