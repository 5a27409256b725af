#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""rules.py ROOT: tests that docs/design.md names for a rule exist, and every rule names one."""
import re
import sys
from pathlib import Path

LAST = 31


def sources(root, folder):
    files = [*(root / folder).glob("*.c"), *(root / folder).glob("meson.build")]
    return {path.name: path.read_text() for path in files}


def missing(root, cell):
    """What a row names that is not there; None if it names nothing."""
    seam = sources(root, "tests/seam")
    kernel = "\n".join(sources(root, "tests/kernel").values())
    found, wrong = 0, []
    for place, text in re.findall(r"`([\w./]+)`: ([^;]+)", cell):
        names = re.findall(r"\b\w+_\w+_\w+\b", text)
        if place == "tests/kernel":
            body = kernel
        elif place in seam:
            body = seam[place]
        else:
            wrong.append(place)
            continue
        if text.strip().startswith("all"):
            found += body.count("SEAM_TEST(")
        for name in names:
            if re.search(rf"\b{name}\b", body):
                found += 1
            else:
                wrong.append(f"{place}: {name}")
    return wrong if found or wrong else None


def main(root):
    rows = re.findall(r"^\| (\d+) \| .*? \| (.*) \|$", (root / "docs/design.md").read_text(), re.M)
    bad = 0
    for number, cell in rows:
        wrong = missing(root, cell)
        if wrong is None:
            wrong = ["names no test"]
        for what in wrong:
            bad += 1
            print(f"docs/design.md: rule {number}: {what}")
    for number in sorted(set(range(1, LAST + 1)) - {int(n) for n, _ in rows}):
        bad += 1
        print(f"docs/design.md: rule {number} is not there")
    return bad > 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
