#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""users.py WAY ROOT: a project of somebody else's, with a program in C and one in C++, gets weir
in one of three ways, builds it and runs both programs.

  subproject   a meson subproject, found as weir_dep through its wrap name
  installed    meson install, then pkg-config; the shared library
  static       the same, with the static library
"""
import os
import shutil
import subprocess
import sys
import tempfile

PROGRAM = '''\
#include <stdio.h>
#include <string.h>
#include <weir/weir.h>

static int called;

static void on_nop(struct weir_op *op)
{
    called += op->result == 0;
}

int main(void)
{
    struct weir_decision why;
    struct weir_options options;
    memset(&options, 0, sizeof options);
    options.decision = &why;
    struct weir_loop *loop;
    int result = weir_loop_open(&options, &loop);
    if (result < 0) {
        printf("open: %s: %s\\n", strerror(-result), why.rejected[0].hint);
        return 1;
    }
    struct weir_op op;
    memset(&op, 0, sizeof op);
    weir_op_nop(&op);
    op.callback = on_nop;
    if (weir_submit(loop, &op) < 0 || weir_loop_run(loop) < 0) {
        return 1;
    }
    printf("weir %s on %s: %d op came back\\n", weir_version(), why.chosen, called);
    return weir_loop_close(loop, 0, NULL) != 0 || called != 1;
}
'''

MESON = '''\
project('user', ['c', 'cpp'])
weir = {dependency}
executable('in_c', 'user.c', dependencies: weir)
executable('in_cpp', 'user.cpp', dependencies: weir)
'''

# What a user of the library needs of the tree, and no more.
NEEDED = ['meson.build', 'meson_options.txt', 'engine', 'include']
PREFIX_OPTIONS = ['-Dtests=false', '-Dperf=false', '--libdir=lib']


def run(*command, cwd, env=None):
    done = subprocess.run(command, cwd=cwd, env=env, text=True, check=False,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    if done.returncode:
        sys.exit(f'{" ".join(command)}: exit {done.returncode}\n{done.stdout}')
    return done.stdout


def copy(root, target, names):
    for name in names:
        source = os.path.join(root, name)
        whole = os.path.join(target, name)
        os.makedirs(os.path.dirname(whole), exist_ok=True)
        if os.path.isdir(source):
            shutil.copytree(source, whole)
        else:
            shutil.copy(source, whole)


def write(folder, name, text):
    with open(os.path.join(folder, name), 'w', encoding='utf-8') as file:
        file.write(text)


def write_user(folder):
    os.makedirs(folder, exist_ok=True)
    for name in ('user.c', 'user.cpp'):
        write(folder, name, PROGRAM)


def run_both(folder, env=None):
    for name in ('in_c', 'in_cpp'):
        out = run(os.path.join(folder, name), cwd=folder, env=env)
        print(f'{name}: {out.strip()}')
        if '1 op came back' not in out:
            sys.exit('no op came back')


def as_subproject(root, folder):
    user = os.path.join(folder, 'user')
    write_user(user)
    copy(root, os.path.join(user, 'subprojects', 'weir'), NEEDED)
    dependency = "dependency('weir', fallback: ['weir', 'weir_dep'])"
    write(user, 'meson.build', MESON.format(dependency=dependency))
    run('meson', 'setup', 'build', '--wrap-mode=forcefallback', cwd=user)
    run('ninja', '-C', 'build', cwd=user)
    run_both(os.path.join(user, 'build'))


def install(root, folder):
    tree = os.path.join(folder, 'tree')
    copy(root, tree, NEEDED + ['docs/examples'])
    prefix = os.path.join(folder, 'prefix')
    run('meson', 'setup', 'build', f'--prefix={prefix}', *PREFIX_OPTIONS, cwd=tree)
    run('ninja', '-C', 'build', cwd=tree)
    run('meson', 'install', '-C', 'build', '--no-rebuild', cwd=tree)
    shutil.rmtree(tree)  # what is installed must stand alone
    for name in ('libweir.so', 'libweir.so.0', 'libweir.a', 'pkgconfig/weir.pc'):
        if not os.path.exists(os.path.join(prefix, 'lib', name)):
            sys.exit(f'lib/{name} is not installed')
    installed = sorted(os.listdir(os.path.join(prefix, 'include', 'weir')))
    public = sorted(os.listdir(os.path.join(root, 'include', 'weir')))
    if installed != public:
        sys.exit(f'installed headers {installed}, public ones {public}')
    needed = run('objdump', '-p', os.path.join(prefix, 'lib', 'libweir.so'), cwd=folder)
    if 'SONAME               libweir.so.0\n' not in needed:
        sys.exit('the library has no soname libweir.so.0')
    return prefix


def as_installed(root, folder):
    prefix = install(root, folder)
    user = os.path.join(folder, 'user')
    write_user(user)
    write(user, 'meson.build', MESON.format(dependency="dependency('weir', version: '>=0.1')"))
    env = dict(os.environ, PKG_CONFIG_PATH=os.path.join(prefix, 'lib', 'pkgconfig'),
               LD_LIBRARY_PATH=os.path.join(prefix, 'lib'))
    run('meson', 'setup', 'build', cwd=user, env=env)
    run('ninja', '-C', 'build', cwd=user, env=env)
    run_both(os.path.join(user, 'build'), env)


def as_static(root, folder):
    """By hand, with every compiler that is there: the archive must hold plain machine code."""
    prefix = install(root, folder)
    user = os.path.join(folder, 'user')
    write_user(user)
    os.remove(os.path.join(prefix, 'lib', 'libweir.so'))
    env = dict(os.environ, PKG_CONFIG_PATH=os.path.join(prefix, 'lib', 'pkgconfig'))
    flags = run('pkg-config', '--static', '--cflags', '--libs', 'weir', cwd=user, env=env).split()
    pairs = [('gcc', 'g++'), ('clang', 'clang++')]
    for c, cpp in (pair for pair in pairs if all(shutil.which(name) for name in pair)):
        run(c, '-fno-lto', 'user.c', '-o', 'in_c', *flags, cwd=user)
        run(cpp, '-fno-lto', 'user.cpp', '-o', 'in_cpp', *flags, cwd=user)
        run_both(user)


def main():
    ways = {'subproject': as_subproject, 'installed': as_installed, 'static': as_static}
    if len(sys.argv) != 3 or sys.argv[1] not in ways:
        sys.exit(__doc__)
    # A sanitizer's settings and the outer build's flags are not this user's.
    for name in ('CFLAGS', 'CXXFLAGS', 'LDFLAGS', 'DESTDIR'):
        os.environ.pop(name, None)
    with tempfile.TemporaryDirectory(prefix='weir-user-') as folder:
        ways[sys.argv[1]](os.path.abspath(sys.argv[2]), folder)


if __name__ == '__main__':
    main()
