#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""hashes.py ROOT: the same seed is the same run in every build: by gcc and clang, with and without
optimisation, assertions and sanitizers. Exit 77: there are not two compilers."""
import os
import shutil
import subprocess
import sys
import tempfile

import storm_build

SEEDS, SEEDS_LONG = '1..20', '1..200'
DEBUG = ['-O0', '-g', '-w']
RELEASE = ['-O3', '-DNDEBUG', '-w']
SANITIZED = ['-O1', '-g', '-w', '-fsanitize=address,undefined']


def hashes(program, seeds):
    done = subprocess.run([program, '--seeds', seeds, '--hash'], capture_output=True, text=True,
                          timeout=900, check=False)
    if done.returncode != 0:
        sys.exit(f'{program}: {done.stdout[-500:]}{done.stderr}')
    return [line for line in done.stdout.splitlines() if ' hash ' in line]


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    root = os.path.abspath(sys.argv[1])
    is_long = os.environ.get('WEIR_LONG') == '1'
    compilers = [name for name in ('gcc', 'clang') if shutil.which(name)]
    if len(compilers) < 2:
        print(f'skipped: only {compilers} of gcc and clang is installed')
        sys.exit(77)
    builds = [(compiler, flags) for compiler in compilers for flags in (DEBUG, RELEASE)]
    builds += [('gcc', SANITIZED)] if is_long else []
    first, wrong = None, 0
    with tempfile.TemporaryDirectory() as work:
        for number, (compiler, flags) in enumerate(builds):
            program = storm_build.build(root, os.path.join(work, str(number)), compiler, flags)
            found = hashes(program, SEEDS_LONG if is_long else SEEDS)
            first = first or found
            differs = [one for one, other in zip(found, first) if one != other]
            wrong += len(differs) + (len(found) != len(first))
            print(f'{compiler} {" ".join(flags)}: {len(found)} seeds, {len(differs)} differ, '
                  f'{found[-1]}', flush=True)
    sys.exit(1 if wrong else 0)


if __name__ == '__main__':
    main()
