#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""repeats.py CONTRACT_SIM GROUP...: a group that is run twice with one seed makes the same world
twice, and with another seed another one."""
import os
import re
import subprocess
import sys


def hash_of(program, group, seed):
    env = {**os.environ, "WEIR_SEED": str(seed), "WEIR_HASH": "1"}
    run = subprocess.run([program, group], env=env, capture_output=True, text=True, check=False)
    found = re.search(r"^hash ([0-9a-f]{16})$", run.stdout, re.M)
    if run.returncode != 0 or not found:
        sys.exit(f"{group}, WEIR_SEED={seed}: exit {run.returncode}, no hash\n{run.stderr}")
    return found.group(1)


def main(program, groups):
    bad = 0
    for group in groups:
        first, again, other = (hash_of(program, group, seed) for seed in (7, 7, 9))
        if first != again or first == other:
            bad += 1
            print(f"{group}: {first} and {again} of WEIR_SEED=7, {other} of 9")
    return bad > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
