#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""words_of_run.py ROOT: ./run says what it can do, and refuses what it cannot, without building."""
import os
import subprocess
import sys

WORDS = ['perf', 'nbd', 'test', 'build', 'check', 'sanitize', 'races', 'fuzz', 'format', 'clean',
         'help']
MISUSED = [['frobnicate'], ['--frobnicate'], ['test', '--short'], ['build', 'now'], ['clean', 'x'],
           ['sanitize', 'x'], ['check', 'x'], ['fuzz', '0'], ['fuzz', '9', 'x'],
           ['fuzz', 'x'], ['fuzz', '9', 'nbd', 'x'], ['format', 'x'], ['help', 'x'], []]


def main():
    root = os.path.abspath(sys.argv[1])
    wrong = []

    def run(*words):
        return subprocess.run([os.path.join(root, 'run'), *words], cwd='/', text=True, check=False,
                              stdin=subprocess.DEVNULL, capture_output=True)
    for words in (['help'], ['--help'], ['-h']):
        done = run(*words)
        missing = [word for word in WORDS if f'\n  {word} ' not in done.stdout]
        if done.returncode or missing:
            wrong.append(f'{words}: exit {done.returncode}, does not name {missing}')
    for word in WORDS:
        for flag in ('--help', '-h'):
            done = run(word, flag)
            if done.returncode or not done.stdout.startswith('usage: ./run'):
                wrong.append(f'{word} {flag}: exit {done.returncode}: {done.stdout}{done.stderr}')
    for words in MISUSED:
        done = run(*words)
        if done.returncode != 2 or done.stdout or 'run' not in done.stderr:
            wrong.append(f'{words}: exit {done.returncode}: {done.stdout}{done.stderr}')
    for error in wrong:
        print(error)
    sys.exit(1 if wrong else 0)


if __name__ == '__main__':
    main()
