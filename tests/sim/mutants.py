#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""mutants.py ROOT [--long]: does the storm find bugs? Known ones are put into a copy of the engine,
one at a time, and the storm has to notice each; the engine without them must pass the same seeds.

In the copy all the engine's own checks are compiled out, so that what is found, the shadow model
has found. Without --long (or WEIR_LONG=1): 50 seeds and three bugs; with it 200 seeds and all."""
import os
import re
import shutil
import subprocess
import sys
import tempfile

import storm_build

SEEDS_LONG, SEEDS_SHORT = 200, 50
RUN_SECONDS = 900

# Each: name, file, what stands there (a regular expression that is found once), what then does.
MUTANTS = [
    ('skip a credit release', 'engine/loop/handback.c',
     r'loop->gate\.live--;',
     'loop->gate.live -= loop->counters.turns % 64 != 63;'),
    ('hand back twice', 'engine/loop/handback.c',
     r'(?<=HAND_BACK\(op, op->result\);)\n    op->callback\(op\);\n',
     '\n    weir_callback *callback = op->callback;\n    callback(op);\n'
     '    if (loop->counters.turns % 128 == 127) {\n        callback(op);\n    }\n'),
    ('lose a cancel', 'engine/loop/cancel.c',
     r'is_ours = loop->backend->table->cancel\(loop->backend, op\) == WEIR_CANCEL_WITHDRAWN;',
     'is_ours = false;'),
    ('publish a cancel before its target', 'engine/loop/cancel.c',
     r'weir_gate_step_out\(gate, flow, WEIR_LINE_WAITING, op\);\n'
     r'\s*weir_loop_finish_early\(loop, op, weir_op_asked_result\(op\)\);',
     '/* the backend is told, and does not know it yet */'),
    ('publish a cancel before its target, in the backend', 'engine/backend/sim_run.c',
     r'    case WEIR_SIM_STAGED:\n    case WEIR_SIM_QUEUED:',
     '    case WEIR_SIM_STAGED:\n        return WEIR_CANCEL_ASKED;\n    case WEIR_SIM_QUEUED:'),
    ('drop the last event of a batch', 'engine/loop/loop.c',
     r'uint32_t count = \(uint32_t\)carried;',
     'uint32_t count = (uint32_t)carried - (carried > 3);'),
    ('lose the last that was done by being staged', 'engine/loop/loop.c',
     r'(?<=i < loop->finished)(?=; i\+\+\) \{\n        loop->events\[count)', ' - 1'),
    ('take the wrong end of a line', 'engine/loop/gate.c',
     r'struct weir_op \*op = flow->lines\[WEIR_LINE_WAITING\]\.head;\n'
     r'(?=    struct weir_want want = weir_gate_want\(gate, op\);\n    bool is_reserved)',
     'struct weir_op *op = flow->lines[WEIR_LINE_WAITING].tail;\n'),
    ('lend a reserve', 'engine/loop/gate.c',
     r'taken = weir_gate_in_flight\(gate\) \+ gate->unused_credits;',
     'taken = weir_gate_in_flight(gate);'),
    ('let one more than the cap of a task go', 'engine/loop/gate.c',
     r'flow->in_flight \+ want\.credits <= flow->depth;',
     'flow->in_flight + want.credits <= flow->depth + 1;'),
    ('keep the bytes of an op that came back', 'engine/loop/gate.c',
     r'gate->bytes_in_flight -= op->bytes;',
     'gate->bytes_in_flight -= op->result < 0 ? 0 : op->bytes;'),
    ('let a full FIFO eat into a reserve', 'engine/loop/gate.c',
     r'(?<=flow->reserve && )reserves_stand(?=\) \{\n        return false)',
     'gate->live + gate->extra < gate->depth_max'),
    ('forget a mark that was never told', 'engine/loop/mark.c',
     r'mark->turn = loop->counters\.turns;(?= /\*)',
     'mark->turn = UINT64_MAX;'),
    ('let those who move nothing wait for bytes', 'engine/loop/gate.c',
     r'most == 0 \|\| more == 0 \|\|',
     'most == 0 ||'),
    ('ignore the shares', 'engine/loop/gate.c',
     r'cost \* TAG_UNIT / flow->share',
     'cost * TAG_UNIT'),
    ('lower the depth below its least', 'engine/loop/steer.c',
     r'depth = depth > steer->depth_min \? depth : steer->depth_min;',
     'depth = depth > 1 ? depth : 1;'),
    ("ignore a slot's generation", 'engine/op/slots.h',
     r'if \(weir_unlikely\(slot->tag != tag\)\) \{',
     'if (weir_slots_is_free(slots, slot)) {'),
    ('fire a deadline after done', 'engine/loop/cancel.c',
     r'    if \(op->state != WEIR_IN_FLIGHT \|\| op->with != WEIR_CARRIER_TIMER\) \{',
     '    if (op->state == WEIR_DONE) {\n        *ret_result = -ETIME;\n'
     '        return true;\n    }\n'
     '    if (op->state != WEIR_IN_FLIGHT || op->with != WEIR_CARRIER_TIMER) {'),
    ('skip the re-check before sleep', 'engine/loop/carry.c',
     r'if \(look_again && weir_loop_is_rung\(loop\)\) \{',
     'if (false) {'),
    ('let the first ring be silent', 'engine/backend/backend.h',
     r'return word == WEIR_BELL_ASLEEP \|\| word == WEIR_BELL_UNTOUCHED;',
     'return word == WEIR_BELL_ASLEEP;'),
    ('complete a WHOLE transfer early', 'engine/loop/settle.c',
     r'bool ended = \*result == 0 \|\| op->moved >= weir_op_bytes\(op\);',
     'bool ended = *result == 0 || 2 * op->moved >= weir_op_bytes(op);'),
    ('take a part of a WHOLE transfer for all of it', 'engine/op/op.h',
     r'\(uint64_t\)result != op->arg\.io\.length', '(uint64_t)result > op->arg.io.length'),
    ('stage who was asked back while it left', 'engine/loop/carry.c',
     r'weir_op_stand\(\*op\) == leaving', '(*op)->with == WEIR_CARRIER_LEAVING'),
]
SHORT = ['take the wrong end of a line', 'lend a reserve', 'fire a deadline after done']

# The engine's checks, its own and assert(), off.
CHECKS = ('engine/base/check.h', r'if \(weir_unlikely\(!\(condition\)\)\) \{',
          'if (!(condition) && weir_unlikely(0)) {')
FLAGS = ['-O2', '-DNDEBUG', '-w']


def replace(root, path, pattern, text):
    """The former content. Fails unless the pattern is found exactly once."""
    path = os.path.join(root, path)
    with open(path, encoding='utf-8') as file:
        before = file.read()
    found = len(re.findall(pattern, before))
    if found != 1:
        sys.exit(f'mutants.py: {path}: {found} places, not one, for {pattern}')
    with open(path, 'w', encoding='utf-8') as file:
        file.write(re.sub(pattern, lambda match: text, before))
    return before


def restore(root, path, before):
    with open(os.path.join(root, path), 'w', encoding='utf-8') as file:
        file.write(before)


def storm(program, seeds):
    """None, or the seed that failed and how it was found."""
    command = [program, '--seeds', f'1..{seeds}']
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS,
                              check=False)
    except subprocess.TimeoutExpired:
        return '?', 'hangs'
    if done.returncode == 0:
        return None
    seed = re.search(r'seed (\d+) failed', done.stderr)
    lines = done.stderr.strip().splitlines() or ['']
    by = re.sub(r'^\S+: (the model|failed)', r'\1', lines[0]) if 'the model' in lines[0] else \
        f'the end of the process, {done.returncode}'
    return (seed.group(1) if seed else '?'), by[:200]


def survives(root, folder, mutant, seeds):
    name, path, pattern, text = mutant
    before = replace(root, path, pattern, text)
    found = storm(storm_build.build(root, folder, 'cc', FLAGS), seeds)
    restore(root, path, before)
    if not found:
        print(f'SURVIVED {seeds} seeds: {name}', flush=True)
        return True
    print(f'seed {found[0]}: {name}; by {found[1]}', flush=True)
    return False


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    is_long = '--long' in sys.argv or os.environ.get('WEIR_LONG') == '1'
    seeds = SEEDS_LONG if is_long else SEEDS_SHORT
    mutants = [mutant for mutant in MUTANTS if is_long or mutant[0] in SHORT]
    with tempfile.TemporaryDirectory() as work:
        root, folder = os.path.join(work, 'tree'), os.path.join(work, 'build')
        for part in ('engine', 'include', 'tests/sim'):
            shutil.copytree(os.path.join(sys.argv[1], part), os.path.join(root, part))
        for _, path, pattern, text in MUTANTS:  # all must apply, also those that are not run
            restore(root, path, replace(root, path, pattern, text))
        replace(root, *CHECKS)
        failed = storm(storm_build.build(root, folder, 'cc', FLAGS), seeds)
        if failed:
            sys.exit(f'the engine as it is fails seed {failed[0]}: {failed[1]}')
        print(f'the engine as it is passes seeds 1 to {seeds}', flush=True)
        survivors = [mutant[0] for mutant in mutants if survives(root, folder, mutant, seeds)]
    print(f'{len(mutants) - len(survivors)} of {len(mutants)} bugs found')
    sys.exit(1 if survivors else 0)


if __name__ == '__main__':
    main()
