#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""guide.py ROOT: the C code in README.md and docs/ is that of the programs which the tests run.

Above a block of C stands where it is from:
    <!-- file: docs/examples/copy.c -->    the block is the whole file
    <!-- part: docs/examples/copy.c -->    the block's lines stand in the file, one after the other
    <!-- sketch -->                        not from a program
Links to files of the tree must lead somewhere.
"""
import glob
import os
import re
import sys
import tempfile
import textwrap

BLOCK = re.compile(r'^(?:<!-- (file|part): (\S+) -->\n|<!-- (sketch) -->\n)?\n?```c\n(.*?)^```$',
                   re.M | re.S)
LINK = re.compile(r'\]\((?!https?:|#)([^)#\s]+)')


def dedented(text):
    return textwrap.dedent(text).strip('\n')


def has_part(whole, part):
    """The part's lines, whatever its indent, are lines of the whole in a row."""
    lines = whole.split('\n')
    wanted = dedented(part).split('\n')
    return any(dedented('\n'.join(lines[i:i + len(wanted)])) == '\n'.join(wanted)
               for i in range(len(lines) - len(wanted) + 1))


def check_page(root, page):
    with open(os.path.join(root, page), encoding='utf-8') as file:
        text = file.read()
    for match in BLOCK.finditer(text):
        how, path, sketch, code = match.groups()
        where = f'{page}:{text.count(chr(10), 0, match.start(4))}'
        if sketch:
            continue
        if not how:
            yield f'{where}: a block of C that does not say where it is from'
            continue
        if not os.path.exists(os.path.join(root, path)):
            yield f'{where}: there is no {path}'
            continue
        with open(os.path.join(root, path), encoding='utf-8') as file:
            whole = file.read()
        if how == 'file' and code != whole:
            yield f'{where}: is not {path} as it stands'
        if how == 'part' and not has_part(whole, code):
            yield f'{where}: does not stand in {path}'
    for target in LINK.findall(text):
        if not os.path.exists(os.path.join(root, os.path.dirname(page), target)):
            yield f'{page}: leads to {target}, which is not there'


def check(root):
    pages = ['README.md', 'CONTRIBUTING.md']
    pages += [os.path.relpath(page, root) for folder in ('docs', 'engine', 'perf')
              for page in glob.glob(os.path.join(root, folder, '**', '*.md'), recursive=True)]
    pages = [page for page in pages if os.path.exists(os.path.join(root, page))]
    errors = [error for page in sorted(pages) for error in check_page(root, page)]
    return errors if pages else ['no pages']


PROGRAM = 'int main(void)\n{\n    int a = 1;\n    return a;\n}\n'
GOOD = [
    '<!-- file: a.c -->\n```c\n' + PROGRAM + '```\n',
    '<!-- part: a.c -->\n```c\nint a = 1;\nreturn a;\n```\n',
    '<!-- sketch -->\n```c\nx = 1;\n```\n[the program](a.c) [elsewhere](https://example.org)\n',
]
BAD = [
    ('```c\n' + PROGRAM + '```\n', 'does not say'),
    ('<!-- file: a.c -->\n```c\nint main(void)\n```\n', 'as it stands'),
    ('<!-- part: a.c -->\n```c\nint a = 2;\n```\n', 'does not stand'),
    ('<!-- part: b.c -->\n```c\nint a = 1;\n```\n', 'no b.c'),
    ('[x](gone.md)\n', 'not there'),
]


def self_test():
    with tempfile.TemporaryDirectory() as root:
        with open(os.path.join(root, 'a.c'), 'w', encoding='utf-8') as file:
            file.write(PROGRAM)

        def errors_of(text):
            with open(os.path.join(root, 'README.md'), 'w', encoding='utf-8') as page:
                page.write(text)
            return check(root)
        wrong = [f'{text!r}: {errors_of(text)}' for text in GOOD if errors_of(text)]
        for text, expected in BAD:
            if not any(expected in error for error in errors_of(text)):
                wrong.append(f'{text!r}: not noticed')
        return wrong


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    errors = self_test() if sys.argv[1] == '--self-test' else check(sys.argv[1])
    for error in errors:
        print(error)
    sys.exit(1 if errors else 0)


if __name__ == '__main__':
    main()
