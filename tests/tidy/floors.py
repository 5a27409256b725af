#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""floors.py ROOT: holds the source tree to the rules of the house.

Includes of engine/: include/weir/*, the file's own folder, strictly lower floors. In backend/ a
backend sees backend.h and kernel.h and its own files, only policy.* sees backends; outside backend/
nobody names one. liburing is the business of backend/ alone.
Shape: an SPDX line first, no line over 100 columns, no tabs; C files of at most 500 lines (near 450
is meant), functions of at most 70, no #if in a function body.

floors.py --self-test breaks every rule once, and expects each to be noticed.
"""
import os
import re
import sys
import tempfile

FLOORS = {'base': 0, 'op': 1, 'backend': 2, 'offload': 2, 'observe': 2, 'loop': 3}
# In backend/: what every backend may see. Of these, the loop sees the seam only.
SEAM = 'backend.h'
SHARED = {SEAM, 'kernel.h'}
NOT_BACKENDS = {'backend', 'kernel', 'policy'}

LINES_MOST = 500
FUNCTION_MOST = 70
COLUMNS_MOST = 100
SHAPED = ('include', 'engine', 'tests', 'perf', 'docs/examples')
C_NAMES = ('.c', '.h')
SPDX_NAMES = ('.c', '.h', '.py', '.sh', 'meson.build')

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
CONDITIONAL = re.compile(r'^\s*#\s*(if|ifdef|ifndef|elif|else|endif)\b')


def files_under(root, folder):
    for path, folders, names in os.walk(os.path.join(root, folder)):
        folders[:] = sorted(f for f in folders if not f.startswith(('.', '__')))
        for name in sorted(names):
            yield os.path.relpath(os.path.join(path, name), root)


def lines_of(root, path):
    with open(os.path.join(root, path), encoding='utf-8') as file:
        return file.read().splitlines()


def family(name):
    """uring_stage.c and uring.h are files of `uring`."""
    return re.split(r'[_.]', name)[0]


def target_of(path, bracket, included):
    """(folder, name) in engine/ of what is included, or None: not the engine's."""
    if included.startswith('engine/'):
        parts = included.split('/')[1:]
    elif bracket == '"':
        folder = os.path.dirname(path)
        parts = os.path.normpath(os.path.join(folder, included)).split('/')[1:]
    else:
        return None
    return ('/'.join(parts[:-1]), parts[-1])


def check_include(path, included, target):
    """What is wrong with an include, or None."""
    folder, name = path.split('/')[1], os.path.basename(path)
    to_folder, to_name = target
    if to_folder not in FLOORS:
        return f'includes {included}, which is on no floor'
    if to_folder != folder and FLOORS[to_folder] >= FLOORS[folder]:
        return f'floor {FLOORS[folder]} ({folder}) includes {included} of floor {FLOORS[to_folder]}'
    if to_folder == 'backend':
        if folder != 'backend':
            if to_name != SEAM and family(to_name) != 'policy':
                return f'names a backend: {included}; only policy.* does'
        elif to_name not in SHARED and family(name) not in ('policy', family(to_name)):
            return f'a backend sees backend.h and its own files, not {included}'
    return None


def check_includes(root):
    backends = {family(os.path.basename(p)) for p in files_under(root, 'engine/backend')
                if p.endswith(C_NAMES)} - NOT_BACKENDS
    # Not the public type of weir/sim.h, which the loop hands out unseen.
    named = re.compile(r'\b(?!weir_sim \*)weir_(?:%s)_?\w*\b' % '|'.join(sorted(backends))) \
        if backends else None
    for path in files_under(root, 'engine'):
        if not path.endswith(C_NAMES):
            continue
        if path.split('/')[1] not in FLOORS:
            yield f'{path}: in no folder that is a floor'
            continue
        for number, line in enumerate(lines_of(root, path), 1):
            match = INCLUDE.match(line)
            where = f'{path}:{number}'
            if match:
                target = target_of(path, *match.groups())
                wrong = check_include(path, match.group(2), target) if target else None
                if wrong:
                    yield f'{where}: {wrong}'
                if match.group(2).startswith('liburing') and not path.startswith('engine/backend/'):
                    yield f'{where}: includes liburing outside backend/'
            elif named and not path.startswith('engine/backend/') and named.search(line):
                yield f'{where}: names a backend: {named.search(line).group(0)}'


def check_functions(path, lines):
    """A function body is what stands between a brace and its end in the first column."""
    start = 0
    for number, line in enumerate(lines, 1):
        if line == '{':
            start = number
        elif line.startswith('}') and start:
            if number - start + 1 > FUNCTION_MOST:
                yield f'{path}:{start}: a function of {number - start + 1} lines'
            start = 0
        elif start and CONDITIONAL.match(line):
            yield f'{path}:{number}: #if in a function body'


def check_shape(root):
    every = [path for folder in SHAPED for path in files_under(root, folder)]
    every += [name for name in ('run', '.ci/run', 'meson.build')
              if os.path.exists(os.path.join(root, name))]
    for path in every:
        is_c = path.endswith(C_NAMES)
        if not path.endswith(SPDX_NAMES) and os.path.basename(path) != 'run':
            continue
        lines = lines_of(root, path)
        first = lines[1 if lines and lines[0].startswith('#!') else 0:][:1]
        if not first or 'SPDX-License-Identifier: MIT' not in first[0]:
            yield f'{path}: its first line is no SPDX line'
        for number, line in enumerate(lines, 1):
            if len(line) > COLUMNS_MOST:
                yield f'{path}:{number}: {len(line)} columns'
            if '\t' in line:
                yield f'{path}:{number}: a tab'
            if line != line.rstrip():
                yield f'{path}:{number}: blanks at the end'
        if is_c:
            if len(lines) > LINES_MOST:
                yield f'{path}: {len(lines)} lines'
            yield from check_functions(path, lines)


def check(root):
    return list(check_includes(root)) + list(check_shape(root))


# --- the test of the test ---------------------------------------------------------------------

SPDX = '/* SPDX-License-Identifier: MIT */\n'
CLEAN = {
    'include/weir/op.h': SPDX,
    'engine/base/clock.h': SPDX + '#include <time.h>\n#include <weir/op.h>\n',
    'engine/op/op.h': SPDX + '#include <engine/base/clock.h>\n',
    'engine/backend/backend.h': SPDX + '#include <engine/op/op.h>\n',
    'engine/backend/uring.h': SPDX + '#include <liburing.h>\n#include "backend.h"\n',
    'engine/backend/uring_open.c': SPDX + '#include "uring.h"\n',
    'engine/backend/epoll.c': SPDX + '#include <engine/backend/backend.h>\n',
    'engine/backend/policy.c': SPDX + '#include "uring.h"\n',
    'engine/backend/policy.h': SPDX,
    'engine/loop/loop.c': SPDX + '#include <engine/backend/backend.h>\n'
                                 '#include <engine/backend/policy.h>\n'
                                 '#if X\nint f(void)\n{\n' + '    ;\n' * 68 + '}\n#endif\n',
}
LOOP = 'engine/loop/loop.c'
BROKEN = [
    ('base includes op', 'engine/base/clock.h', '#include <engine/op/op.h>\n', 'floor 0'),
    ('op includes loop', 'engine/op/op.h', '#include "../loop/loop.h"\n', 'floor 1'),
    ('backend includes loop', 'engine/backend/epoll.c', '#include <engine/loop/gate.h>\n',
     'floor 2'),
    ('backend includes observe', 'engine/backend/epoll.c', '#include <engine/observe/a.h>\n',
     'floor 2'),
    ('a backend includes another', 'engine/backend/epoll.c', '#include "uring.h"\n',
     'not uring.h'),
    ('a backend includes policy', 'engine/backend/epoll.c', '#include "policy.h"\n',
     'not policy.h'),
    ('the loop includes a backend', LOOP, '#include <engine/backend/uring.h>\n', 'names a backend'),
    ('the loop includes what is for backends', LOOP, '#include <engine/backend/kernel.h>\n',
     'names a backend'),
    ('the loop names a backend', LOOP, 'extern int weir_uring_table;\n', 'names a backend'),
    ('liburing in the loop', LOOP, '#include <liburing.h>\n', 'liburing'),
    ('a folder that is no floor', 'engine/util/a.c', SPDX, 'no folder'),
    ('an include of no floor', LOOP, '#include <engine/util/a.h>\n', 'no floor'),
    ('a long line', LOOP, '/*' + 'x' * 97 + '*/\n', '101 columns'),
    ('a tab', LOOP, '\tint x;\n', 'a tab'),
    ('blanks', LOOP, 'int x; \n', 'blanks'),
    ('a long file', LOOP, 'int x;\n' * 500, 'lines'),
    ('a long function', LOOP, 'int g(void)\n{\n' + '    ;\n' * 69 + '}\n', 'of 71 lines'),
    ('#if in a body', LOOP, 'int g(void)\n{\n#ifdef X\n#endif\n}\n', '#if in a function'),
    ('no SPDX line', 'perf/a.c', 'int x;\n', 'SPDX'),
    ('no SPDX line in python', 'tests/a.py', '#!/usr/bin/env python3\nx = 1\n', 'SPDX'),
]


def write_tree(root, tree):
    for path, text in tree.items():
        os.makedirs(os.path.join(root, os.path.dirname(path)), exist_ok=True)
        with open(os.path.join(root, path), 'w', encoding='utf-8') as file:
            file.write(text)


def found_in(tree):
    with tempfile.TemporaryDirectory() as root:
        write_tree(root, tree)
        return check(root)


def self_test():
    wrong = [f'clean tree: {error}' for error in found_in(CLEAN)]
    for what, path, text, expected in BROKEN:
        found = found_in({**CLEAN, path: CLEAN.get(path, '') + text})
        if not any(expected in error and path in error for error in found):
            wrong.append(f'{what}: not noticed, found {found}')
        if len(found) > 2:
            wrong.append(f'{what}: more than that was found: {found}')
    return wrong


def main():
    if len(sys.argv) != 2:
        sys.exit('usage: floors.py ROOT | --self-test')
    errors = self_test() if sys.argv[1] == '--self-test' else check(sys.argv[1])
    for error in errors:
        print(error)
    sys.exit(1 if errors else 0)


if __name__ == '__main__':
    main()
