#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""probes.py listed LIBRARY: readelf finds every probe of engine/base/probes.h, with its arguments.
probes.py none LIBRARY: it finds none, in a build without them.
probes.py counted PROGRAM [ARGUMENT]...: bpftrace counts the probes of a run of
tests/kernel/recorded that says on its last line how many lives and refusals there were; so many it
must have seen.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

ARGUMENTS = {'submit': 3, 'refuse': 4, 'leave': 3, 'done': 4, 'hand_back': 4, 'turn': 2, 'stall': 2}
SECONDS = 60


def skip(why):
    print(f'skipped: {why}')
    sys.exit(77)


def notes(library):
    """(name, number of arguments) of each place of provider weir."""
    if not shutil.which('readelf'):
        skip('no readelf')
    text = subprocess.run(['readelf', '-n', library], check=True, text=True,
                          stdout=subprocess.PIPE).stdout
    pattern = r'Provider: weir\n\s+Name: (\w+)\n.*\n\s+Arguments: (.*)'
    return [(name, len(arguments.split())) for name, arguments in re.findall(pattern, text)]


def listed(library):
    found = notes(library)
    for name, count in found:
        print(f'{name}: {count} arguments')
    return set(found) != set(ARGUMENTS.items())


def none(library):
    return bool(notes(library))


def trace(script, output, command):
    return subprocess.run(['bpftrace', '-o', output, '-e', script, *command], check=False,
                          text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=SECONDS)


def need_uprobes(program, output):
    """Skips unless bpftrace can stop at a function of that program."""
    if not shutil.which('bpftrace'):
        skip('no bpftrace')
    if os.geteuid() != 0:
        skip('bpftrace needs root')
    script = f'BEGIN {{ exit(); }} uprobe:{program}:main {{ @ = count(); }}'
    done = trace(script, output, [])
    if done.returncode:
        lines = (done.stderr + done.stdout).strip().splitlines() or ['']
        skip(f'bpftrace cannot attach a uprobe here: {lines[-1]}')


def counted(program):
    with tempfile.TemporaryDirectory() as folder:
        output = os.path.join(folder, 'counts')
        need_uprobes(program[0], output)
        script = (f'usdt:{program[0]}:weir:* {{ @[probe] = count(); }} '
                  f'usdt:{program[0]}:weir:refuse /(int32)arg3 == -11/ {{ @again = count(); }}')
        done = trace(script, output, ['-c', ' '.join(program)])
        with open(output, encoding='utf-8') as file:
            text = file.read()
    wanted = re.search(r'^lives (\d+) refused (\d+)$', done.stdout, re.M)
    if not wanted:
        print(done.stderr)
        return 1
    lives, refused = map(int, wanted.groups())
    counts = {name: int(count) for name, count in re.findall(r'weir:(\w+)\]: (\d+)', text)}
    counts['again'] = int((re.findall(r'@again: (\d+)', text) or ['0'])[0])
    print(f'{lives} lives, {refused} refused, seen: {counts}')
    for name in ('submit', 'done', 'hand_back'):
        if counts.get(name) != lives:
            print(f'{name}: {counts.get(name)}')
            return 1
    same = counts.get('refuse', 0) == refused == counts['again']
    return not (same and 0 < counts['leave'] <= lives and counts['turn'] > 0)


if __name__ == '__main__':
    way = {'listed': listed, 'none': none}.get(sys.argv[1])
    sys.exit(way(sys.argv[2]) if way else counted(sys.argv[2:]))
