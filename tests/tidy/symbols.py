#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""symbols.py: the public functions are those that the headers declare with WEIR_API.

symbols.py write INCLUDE-FOLDER OUTPUT.c   a program that takes the address of each, and
                                           OUTPUT.c.d, for ninja
symbols.py check INCLUDE-FOLDER LIBRARY    the shared library exports exactly these
"""
import glob
import os
import re
import subprocess
import sys

COMMENT = re.compile(r'/\*.*?\*/', re.S)
DIRECTIVE = re.compile(r'^\s*#(?:[^\n]*\\\n)*[^\n]*\n', re.M)
MARKED = re.compile(r'\bWEIR_API\b([^;]*);')
# A declaration: starts after a ; or a brace, has a list of parameters, is no pointer to a function.
DECLARED = re.compile(r'(?:^|(?<=[;{}]))\s*((?:[\w*]+\s+)*[\w*\s]*?\b(weir_\w+)\s*\([^;{}]*\))\s*;',
                      re.M)


def text_of(header):
    with open(header, encoding='utf-8') as file:
        return DIRECTIVE.sub('', COMMENT.sub('', file.read()))


def declared_in(include):
    """The names of all functions marked WEIR_API, and the errors of those that are not."""
    names = []
    errors = []
    for header in sorted(glob.glob(os.path.join(include, 'weir', '*.h'))):
        text = text_of(header)
        marked = [re.search(r'\b(weir_\w+)\s*\(', body).group(1) for body in MARKED.findall(text)]
        names += marked
        for declaration, name in DECLARED.findall(text):
            if name not in marked and not declaration.lstrip().startswith('typedef'):
                errors.append(f'{os.path.basename(header)}: {name} is not marked WEIR_API')
    if len(names) != len(set(names)):
        errors.append('a function is declared twice')
    return sorted(names), errors


def write(include, output):
    names, _ = declared_in(include)
    with open(output + '.d', 'w', encoding='utf-8') as file:
        headers = ' '.join(glob.glob(os.path.join(include, 'weir', '*.h')))
        file.write(f'{output}: {headers}\n')
    rows = ''.join(f'    {{"{name}", (any_function *){name}}},\n' for name in names)
    with open(output, 'w', encoding='utf-8') as file:
        file.write(f'''/* SPDX-License-Identifier: MIT */
/* Written by tests/tidy/symbols.py: the address of every public function. */
#include <stdio.h>
#include <weir/weir.h>

typedef void any_function(void);

static const struct {{
    const char *name;
    any_function *address;
}} functions[] = {{
{rows}}};

int main(void)
{{
    int missing = 0;
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {{
        if (!functions[i].address) {{
            printf("%s is not there\\n", functions[i].name);
            missing++;
        }}
    }}
    printf("%zu public functions linked, weir %s\\n", sizeof functions / sizeof functions[0],
           weir_version());
    return missing != 0;
}}
''')
    return 0


def exported_by(library):
    listing = subprocess.run(['nm', '-D', '--defined-only', library], capture_output=True,
                             text=True, check=True).stdout
    # The version node itself is listed as an absolute symbol.
    return sorted(line.split()[2].split('@')[0] for line in listing.splitlines()
                  if line.split()[1] != 'A')


def check(include, library):
    names, errors = declared_in(include)
    exported = exported_by(library)
    errors += [f'{name} is declared, not exported' for name in sorted(set(names) - set(exported))]
    errors += [f'{name} is exported, not declared' for name in sorted(set(exported) - set(names))]
    for error in errors:
        print(error)
    print(f'{len(names)} declared, {len(exported)} exported')
    return 1 if errors or not names else 0


def main():
    words = {'write': write, 'check': check}
    if len(sys.argv) != 4 or sys.argv[1] not in words:
        sys.exit(__doc__)
    sys.exit(words[sys.argv[1]](*sys.argv[2:]))


if __name__ == '__main__':
    main()
