#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""words.py ROOT: what no file of the tree may say: paths of somebody's machine, notes of work that
was put off, and marks of a merge."""
import os
import re
import sys
import tempfile

# Put together here, so that this file does not say them itself.
FORBIDDEN = [
    (re.compile(r'/(?:work|home|root|Users)/\w'), 'a path of one machine'),
    (re.compile(r'/tmp/(?!(?:weir|XXXXXX))\w'), 'a path in a shared folder'),
    (re.compile(r'\b(?:TO' + r'DO|FIX' + r'ME|XX' + r'X)\b'), 'work that was put off'),
    (re.compile(r'^(?:<{7}|>{7}|={7})(?: |$)'), 'a mark of a merge'),
]
LEFT_OUT = {'build', 'corpus', 'subprojects', '__pycache__'}


def texts(root):
    for path, folders, names in os.walk(root):
        folders[:] = [f for f in folders if f not in LEFT_OUT and not f.startswith('build-')
                      and f != '.git']
        for name in names:
            whole = os.path.join(path, name)
            if os.path.islink(whole) or not os.path.isfile(whole):
                continue
            with open(whole, 'rb') as file:
                content = file.read()
            if b'\0' not in content:
                yield os.path.relpath(whole, root), content.decode('utf-8', 'replace')


def check(root):
    errors = []
    for path, text in texts(root):
        if text and not text.endswith('\n'):
            errors.append(f'{path}: does not end with a line')
        for number, line in enumerate(text.splitlines(), 1):
            errors += [f'{path}:{number}: {what}: {pattern.search(line).group(0)}'
                       for pattern, what in FORBIDDEN if pattern.search(line)]
    return sorted(errors)


def self_test():
    wrong = []
    bad = ['see /wo' + 'rk/a.c', '/ho' + 'me/me', '/tm' + 'p/build-x', '// TO' + 'DO later',
           '<' * 7 + ' ours']
    good = ['the work/life', 'mkstemp("/tmp/weir-XXXXXX")', 'TODOS', 'a <' + '<<< b', '====']
    with tempfile.TemporaryDirectory() as root:
        for lines, noticed in ((bad, True), (good, False)):
            for line in lines:
                with open(os.path.join(root, 'a'), 'w', encoding='utf-8') as file:
                    file.write(line + '\n')
                if bool(check(root)) != noticed:
                    wrong.append(f'{line}: {check(root)}')
    return wrong


def main():
    if len(sys.argv) != 2:
        sys.exit('usage: words.py ROOT | --self-test')
    errors = self_test() if sys.argv[1] == '--self-test' else check(sys.argv[1])
    for error in errors:
        print(error)
    sys.exit(1 if errors else 0)


if __name__ == '__main__':
    main()
