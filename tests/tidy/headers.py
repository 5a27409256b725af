#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""headers.py INCLUDE-FOLDER: every public header compiles alone, as strict C11 and as C++, with
each compiler that is there. WEIR_SITE, WEIR_CONTAINER and the submit macro are used in both."""
import glob
import os
import shutil
import subprocess
import sys
import tempfile

WARNINGS = ['-Wall', '-Wextra', '-pedantic-errors', '-Werror']
USES = '''
struct holder {
    int before;
    struct weir_op op;
};
int use(struct weir_loop *loop, struct weir_op *op, struct weir_room *room);
int use(struct weir_loop *loop, struct weir_op *op, struct weir_room *room)
{
    struct holder *holder = WEIR_CONTAINER(op, struct holder, op);
    return holder->before + weir_submit(loop, op) + weir_wait_room(loop, room, op);
}
'''


def compilers():
    found = [(name, ['-x', 'c', '-std=c11']) for name in ('gcc', 'clang') if shutil.which(name)]
    found += [(name, ['-x', 'c++', f'-std={standard}'])
              for name in ('g++', 'clang++') if shutil.which(name)
              for standard in ('c++11', 'c++20')]
    return found


def main():
    include = sys.argv[1]
    headers = sorted(glob.glob(os.path.join(include, 'weir', '*.h')))
    languages = {flags[1] for _, flags in compilers()}
    if not headers or languages != {'c', 'c++'}:
        sys.exit(f'{len(headers)} headers, compilers for {languages or "nothing"}')
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for header in headers:
            name = os.path.relpath(header, include)
            source = os.path.join(folder, 'alone')
            with open(source, 'w', encoding='utf-8') as file:
                # Twice: the guard must hold.
                file.write(f'#include <{name}>\n#include <{name}>\n')
                file.write(USES if name == 'weir/weir.h' else 'extern int nothing_else;\n')
            for compiler, flags in compilers():
                command = [compiler, *flags, *WARNINGS, '-I', include, '-fsyntax-only', source]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    failed += 1
                    print(f'{name}: {" ".join(command)}\n{done.stderr}')
    print(f'{len(headers)} headers, {len(compilers())} compilers and standards, {failed} failed')
    sys.exit(1 if failed else 0)


if __name__ == '__main__':
    main()
