#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""test_examples.py COPY FIRST: runs the example programs on real files, good and bad."""
import os
import random
import re
import subprocess
import sys
import tempfile

BLOCK = 256 * 1024
SIZES = [0, 1, 4095, BLOCK - 1, BLOCK, BLOCK + 1, 8 * BLOCK, 8 * BLOCK + 1, 5 * 1024 * 1024 + 12345]

wrong = []


def run(*command):
    # A copy that hangs is a failure, not a test that never ends.
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          check=False, timeout=60)


def expect(what, condition, done):
    if not condition:
        wrong.append(what)
        print(f'{what}: exit {done.returncode}, {done.stdout!r}, {done.stderr!r}')


def read(path):
    with open(path, 'rb') as file:
        return file.read()


def copies(program, folder):
    for size in SIZES:
        source = os.path.join(folder, f'source-{size}')
        target = os.path.join(folder, f'target-{size}')
        data = random.Random(size).randbytes(size)
        with open(source, 'wb') as file:
            file.write(data)
        done = run(program, source, target)
        expect(f'a copy of {size} bytes is the same',
               done.returncode == 0 and not done.stderr and read(target) == data, done)


def refusals(program, folder):
    there = os.path.join(folder, f'source-{BLOCK}')
    data = read(there)
    gone = os.path.join(folder, 'gone')
    new = os.path.join(folder, 'new')

    done = run(program, gone, new)
    expect('a source that is not there is named',
           done.returncode == 1 and gone in done.stderr and 'No such file' in done.stderr
           and not os.path.exists(new), done)
    done = run(program, there, os.path.join(gone, 'x'))
    expect('a target that cannot be made is named',
           done.returncode == 1 and 'No such file' in done.stderr, done)
    done = run(program, there, there)
    expect('a file is not copied onto itself',
           done.returncode == 1 and 'File exists' in done.stderr and read(there) == data, done)
    done = run(program, folder, new)
    expect('a directory cannot be read',
           done.returncode == 1 and 'read: Is a directory' in done.stderr, done)
    for arguments in ([], [there], [there, new, new]):
        done = run(program, *arguments)
        expect(f'{len(arguments)} arguments are refused',
               done.returncode == 2 and done.stderr.startswith('usage:'), done)


def firsts(program, folder):
    for size, result in ((0, 0), (1, 1), (BLOCK, 4096)):
        done = run(program, os.path.join(folder, f'source-{size}'))
        expect(f'the first bytes of {size}',
               done.returncode == 0 and done.stdout == f'{result} bytes\n', done)
    done = run(program, os.path.join(folder, 'gone'))
    expect('a bad fd is a result', done.returncode == 0 and re.match('-9 bytes', done.stdout), done)


def main():
    copy, first = (os.path.abspath(program) for program in sys.argv[1:])
    with tempfile.TemporaryDirectory(prefix='weir-examples-', dir=os.getcwd()) as folder:
        copies(copy, folder)
        refusals(copy, folder)
        firsts(first, folder)
    sys.exit(1 if wrong else 0)


if __name__ == '__main__':
    main()
