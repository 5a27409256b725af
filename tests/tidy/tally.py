#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""tally.py TESTLOG [--slowest N]: adds up a meson test log and ends with "N passed, N failed[, N
skipped]". With --slowest it begins with what took longest.

A cmocka program counts as the tests it ran, any other as one (exit 77: skipped). Skips are listed
with the reason the test printed, failures with the first error they told. Exits 1 if a test
failed, or if none passed.
"""
import argparse
import json
import re
import sys

NOTE = re.compile(r'^\[[ =A-Z-]{10}\]')
PASSED = re.compile(r'^\[  PASSED  \] (?:.*: )?(\d+) test\(s\)', re.M)
FAILED = re.compile(r'^\[  FAILED  \] (?:.*: )?(\d+) test\(s\)', re.M)
FAILED_ALL = re.compile(r'^ (\d+) FAILED TEST\(S\)', re.M)  # those whose set-up failed included
SKIPPED = re.compile(r'^\[  SKIPPED \] (?:.*: )?(\d+) test\(s\)', re.M)
GROUP = re.compile(r'^\[  FAILED  \] GROUP (?:SETUP|TEARDOWN)', re.M)
OK = re.compile(r'^\[       OK \] ', re.M)
NO_REASON = 'no reason given'


def total(pattern, text):
    return sum(int(count) for count in pattern.findall(text))


def cmocka_skips(out, err):
    """(test, reason) for each skipped test. The reason: what it printed before it skipped."""
    skips = []
    printed = []
    for line in out.splitlines():
        if line.startswith('[ RUN      ]'):
            printed = []
        elif line.startswith('[  SKIPPED ]') and 'test(s)' not in line:
            said = [line for line in printed if 'skip' in line.lower()]
            skips.append([line[12:].strip(), ' '.join(said), ' '.join(printed)])
        elif not NOTE.match(line) and line.strip():
            printed.append(line.strip())
    # stderr has no marks of where a test begins: its lines about skipping, in order.
    others = [line.strip() for line in err.splitlines()
              if 'skip' in line.lower() and not NOTE.match(line)
              and not re.match(r'^ \d+ SKIPPED TEST', line)]
    return [[test, said or (others.pop(0) if others else printed or NO_REASON)]
            for test, said, printed in skips]


def tally_cmocka(record, out, err):
    both = out + '\n' + err
    passed = total(PASSED, both)
    failed = max(total(FAILED, both), total(FAILED_ALL, both)) + len(GROUP.findall(both))
    if not PASSED.search(both):
        passed = len(OK.findall(both))  # it died before its summary
    if record['result'] not in ('OK', 'SKIP') and failed == 0:
        failed = 1  # a crash, a time limit, a sanitizer's report
    skips = cmocka_skips(out, err)
    skips += [['?', NO_REASON]] * (total(SKIPPED, both) - len(skips))
    return passed, failed, skips


def last_line(text):
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ''


ERROR = re.compile(r'ERROR: \S+Sanitizer|WARNING: ThreadSanitizer|runtime error:'
                   r'|^\[  (?:ERROR| LINE)   \]|[Ff]ailed: |FAILED: |^\w+(?:Error|Exception)\b')


def first_error(record):
    """What a failed test said, in a line."""
    lines = [line.strip() for key in ('stderr', 'stdout')
             for line in (record.get(key) or '').splitlines() if line.strip()]
    said = [line for line in lines if ERROR.search(line)] or lines[-1:] or ['it said nothing']
    return ' '.join(said[:2])[:200]


def tally_one(record):
    out = record.get('stdout') or ''
    err = record.get('stderr') or ''
    if '[==========]' in out + err:
        return tally_cmocka(record, out, err)
    if record['result'] == 'SKIP':
        return 0, 0, [['', last_line(out) or last_line(err) or NO_REASON]]
    passed = record['result'] in ('OK', 'EXPECTEDFAIL')
    return int(passed), int(not passed), []


def report(records, write):
    """Writes the lists and the tally; the exit status."""
    passed = failed = 0
    skips = []
    failures = []
    for record in records:
        here = tally_one(record)
        passed += here[0]
        failed += here[1]
        if here[1]:
            failures.append(f"{record['name']} ({record['result'].lower()}, {here[1]} failed)"
                            f": {first_error(record)}")
        skips += [(record['name'], test, reason) for test, reason in here[2]]
    for name, test, reason in skips:
        reason = re.sub(r'^skip(?:ped)?: *', '', reason, flags=re.I)
        write(f"skipped: {' '.join(filter(None, (name, test)))}: {reason}")
    for failure in failures:
        write(f'failed: {failure}')
    line = f'{passed} passed, {failed} failed'
    write(line + (f', {len(skips)} skipped' if skips else ''))
    return 1 if failed or not passed else 0


def show_slowest(records, count):
    records = sorted(records, key=lambda record: -record['duration'])
    total_s = sum(record['duration'] for record in records)
    print(f'{len(records)} programs, {total_s:.0f} s one after the other; the slowest:')
    for record in records[:count]:
        print(f"{record['duration']:8.1f} s  {record['name']}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('testlog')
    parser.add_argument('--slowest', type=int, default=0, metavar='N')
    options = parser.parse_args()
    try:
        with open(options.testlog, encoding='utf-8', errors='replace') as log:
            records = [json.loads(line) for line in log if line.strip()]
    except OSError:
        records = []
    if options.slowest > 0:
        show_slowest(records, options.slowest)
    sys.exit(report(records, print))


if __name__ == '__main__':
    main()
