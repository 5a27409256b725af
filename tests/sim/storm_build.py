# SPDX-License-Identifier: MIT
"""Builds the storm from a tree by a compiler of one's choice: the engine's sources and the storm's
own, without meson, since what is built is not what is installed."""
import glob
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

FLAGS = ['-std=gnu11', '-D_GNU_SOURCE', '-Iinclude', '-I.']
LIBRARIES = ['-luring', '-lpthread']


def sources(root):
    found = sorted(glob.glob('engine/*/*.c', root_dir=root))
    found.remove('engine/observe/deflate_zlib.c')  # deflate_none.c stands in its place
    return found + sorted(glob.glob('tests/sim/storm*.c', root_dir=root))


def build(root, folder, compiler, flags):
    """The path of the program; raises RuntimeError with what the compiler said."""
    os.makedirs(folder, exist_ok=True)

    def compile_one(source):
        target = os.path.join(folder, source.replace('/', '_') + '.o')
        run([compiler, *FLAGS, *flags, '-c', source, '-o', target], root)
        return target

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_one, sources(root)))
    program = os.path.join(folder, 'storm')
    run([compiler, *flags, *objects, *LIBRARIES, '-o', program], root)
    return program


def run(command, folder):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(' '.join(command) + '\n' + done.stdout + done.stderr)
