#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""trace.py PROGRAM [ARGUMENT]...: runs it, and holds what it writes to stdout, a dump of the flight
recorder, to what the Chrome trace format and engine/observe/trace.c say. Exit 77 is handed on. A
line "lives L refused R" behind the dump says that it is whole, and what must be in it.

trace.py --self-test breaks a good dump in every way it knows, and expects each to be noticed.
"""
import copy
import errno
import json
import subprocess
import sys
from collections import Counter, defaultdict
from decimal import Decimal

STAGES = ['wait', 'flight', 'delivery']
KEYS = {
    'b': {'cat', 'id', 'name', 'ts', 'tid'},
    'e': {'cat', 'id', 'name', 'ts', 'tid'},
    'i': {'cat', 'name', 'ts', 'tid', 's', 'args'},
    'C': {'name', 'ts', 'args'},
    'M': {'name', 'args'},
}
TYPES = {'ph': str, 'cat': str, 'id': str, 'name': str, 's': str, 'pid': int, 'tid': int,
         'ts': Decimal, 'args': dict}


class Wrong(Exception):
    pass


def need(condition, what, event=None):
    if not condition:
        raise Wrong(what if event is None else f'{what}: {event}')


def no_doubles(pairs):
    keys = [key for key, _ in pairs]
    need(len(keys) == len(set(keys)), f'a key twice: {keys}')
    return dict(pairs)


def no_constant(text):
    raise Wrong(f'no number: {text}')


def parse(text):
    return json.loads(text, object_pairs_hook=no_doubles, parse_float=Decimal,
                      parse_constant=no_constant)


def check_shape(trace):
    need(set(trace) == {'displayTimeUnit', 'otherData', 'traceEvents'}, 'top level')
    need(trace['displayTimeUnit'] == 'ns', 'displayTimeUnit')
    other = trace['otherData']
    need(set(other) == {'clock', 'begin_ns', 'events', 'lost'}, 'otherData')
    need(other['begin_ns'].isdigit() and other['events'] >= 0 and other['lost'] >= 0, 'otherData')
    for event in trace['traceEvents']:
        phase = event.get('ph')
        need(phase in KEYS, 'phase', event)
        optional = {'args'} if phase in 'be' else {'tid'} if phase == 'M' else set()
        keys = set(event) - {'ph', 'pid'}
        need(keys - optional == KEYS[phase] - optional, 'keys', event)
        for key, value in event.items():
            need(type(value) is TYPES[key], f'type of {key}', event)
        if 'ts' in event:
            need(event['ts'] >= 0 and event['ts'].as_tuple().exponent == -3, 'ts', event)
    need(len({event['pid'] for event in trace['traceEvents']}) == 1, 'more than one process')


class Life:
    """The slices of one id."""

    def __init__(self, begin):
        self.begin = begin
        self.end = None
        self.stages = []  # (name, from, to)
        self.open = []

    @property
    def earlier(self):
        return 'begun' in self.begin['args']

    @property
    def live(self):
        return 'live' in self.end['args']

    @property
    def lost(self):
        return 'lost' in self.end['args']

    @property
    def kind(self):
        return self.begin['name']


def check_begin(event):
    args = event.get('args', {})
    need(set(args) - {'fd', 'begun'} == {'task', 'op'}, 'args of a beginning', event)
    need(args.get('begun', 'earlier') == 'earlier', 'begun', event)
    need(type(args.get('fd', 0)) is int, 'fd', event)


def check_end(event):
    args = event.get('args', {})
    need(set(args) <= {'result', 'live', 'lost'}, 'args of an end', event)
    need(len(set(args) & {'live', 'lost'}) <= 1, 'live and lost', event)
    need('result' in args or 'live' in args or 'lost' in args, 'an end without a result', event)


def step(life, event):
    """One more slice's begin or end of a life that is open."""
    need(event['tid'] == life.begin['tid'], 'another row', event)
    last = life.stages[-1][2] if life.stages else life.begin['ts']
    unknown = life.earlier and not life.stages and event['name'] == 'delivery'
    if event['ph'] == 'b':
        need(event['name'] in STAGES and len(life.open) == 1, 'nested wrongly', event)
        need('args' not in event, 'args of a stage', event)
        need(all(STAGES.index(name) < STAGES.index(event['name']) for name, _, _ in life.stages),
             'stages out of order', event)
        need(event['ts'] == last or (unknown and event['ts'] > last), 'stages apart', event)
        life.open.append(event)
        return
    opened = life.open.pop()
    need(opened['name'] == event['name'], 'ends another', event)
    need(event['ts'] >= opened['ts'], 'time falls', event)
    if life.open:
        need('args' not in event, 'args of a stage', event)
        life.stages.append((event['name'], opened['ts'], event['ts']))
    else:
        check_end(event)
        need(event['ts'] == last or not life.stages, 'ends after its last stage', event)
        life.end = event


def read_lives(events):
    lives = {}
    for event in events:
        if event['ph'] not in 'be':
            continue
        key = (event['cat'], event['id'])
        life = lives.get(key)
        if life is None:
            need(event['ph'] == 'b', 'an end without a beginning', event)
            need(event['name'] not in STAGES, 'a stage of nobody', event)
            check_begin(event)
            life = lives[key] = Life(event)
            life.open.append(event)
        else:
            need(life.open, 'an id twice', event)
            step(life, event)
    for key, life in lives.items():
        need(not life.open, f'no end: {key}')
    return list(lives.values())


def check_stages(life):
    names = [name for name, _, _ in life.stages]
    if not life.earlier:
        need(names and names[0] == ('flight' if life.kind == 'timeout' else 'wait'),
             'begins with another stage', life.begin)
    need(life.kind != 'timeout' or 'wait' not in names, 'a timer waits', life.begin)
    need(life.live or life.lost or names[-1:] == ['delivery'], 'not delivered', life.begin)


def check_addresses(lives):
    """An address is one op at a time."""
    of_op = defaultdict(list)
    for life in lives:
        of_op[life.begin['args']['op']].append((life.begin['ts'], life.end['ts']))
    for op, spans in of_op.items():
        spans.sort()
        for (_, end), (begin, _) in zip(spans, spans[1:]):
            need(begin >= end, f'{op} is two ops at {begin}')


def check_rows(events):
    names = {}
    for event in events:
        if event['ph'] == 'M':
            need(event['name'] in ('process_name', 'thread_name'), 'metadata', event)
            need(set(event['args']) == {'name'}, 'metadata', event)
            if event['name'] == 'thread_name':
                need(event['tid'] not in names, 'a row named twice', event)
                names[event['tid']] = event['args']['name']
    for event in events:
        if event['ph'] in 'bi':
            need(event['tid'] in names, 'a row without a name', event)
            task = event.get('args', {}).get('task')
            need(task in (None, names[event['tid']]), 'another row than its task', event)
        if event['ph'] == 'i':
            need(event['s'] == 't' and event['cat'] == 'refused', 'instant', event)
            need(event['args']['error'] < 0, 'refused without an error', event)


def curve(lives, spans):
    """[(ts, count)], where it changes."""
    steps = Counter()
    for life in lives:
        for begin, end in spans(life):
            steps[begin] += 1
            if end is not None:
                steps[end] -= 1
    count, points = 0, {}
    for at in sorted(steps):
        count += steps[at]
        points[at] = count
    return points


def live_spans(life):
    yield life.begin['ts'], None if life.live else life.end['ts']


def flight_spans(life):
    for i, (name, begin, end) in enumerate(life.stages):
        if name == 'flight' and life.kind != 'timeout':
            last = i + 1 == len(life.stages)
            yield begin, None if last and life.live else end


def check_counters(events, lives):
    for name, spans in (('ops live', live_spans), ('ops in flight', flight_spans)):
        wanted = curve(lives, spans)
        told = [event for event in events if event['ph'] == 'C' and event['name'] == name]
        need(told and told[0]['ts'] == 0, f'{name}: begins late')
        values = {}
        for before, event in zip([None] + told, told):
            need(set(event['args']) == {'ops'} and event['args']['ops'] >= 0, 'counter', event)
            need(before is None or event['ts'] >= before['ts'], 'time falls', event)
            values[event['ts']] = event['args']['ops']
        value = 0
        for at in sorted(set(values) | set(wanted)):
            value = values.get(at, value)
            need(at not in wanted or wanted[at] == value, f'{name}: {value} at {at}')
            if at not in wanted:
                need(at == 0 and value == 0, f'{name}: changes at {at} for no reason')
    names = {event['name'] for event in events if event['ph'] == 'C'}
    need(names == {'ops live', 'ops in flight'}, f'counters {names}')


def check(trace):
    check_shape(trace)
    events = trace['traceEvents']
    lives = read_lives(events)
    for life in lives:
        check_stages(life)
    check_addresses(lives)
    check_rows(events)
    check_counters(events, lives)
    return lives


def check_whole(trace, lives, line):
    _, wanted, _, refused = line.split()
    need(trace['otherData']['lost'] == 0, 'events are lost')
    need(not any(life.earlier or life.lost for life in lives), 'a life begun earlier')
    need(len(lives) == int(wanted), f'{len(lives)} lives, {wanted} wanted')
    told = sum(event['ph'] == 'i' for event in trace['traceEvents'])
    need(told == int(refused), f'{told} refused, {refused} wanted')
    for life in lives:
        flown = any(name == 'flight' for name, _, _ in life.stages)
        unasked = life.end['args'].get('result', -errno.ETIME) not in (-errno.ECANCELED,
                                                                       -errno.ETIME)
        need(flown or not unasked, 'came back without having left', life.begin)


def sample():
    lines = []

    def add(ph, **more):
        lines.append({'ph': ph, 'pid': 1, **more})

    def life(identity, op, begin, spans, end, args):
        common = {'cat': 'op', 'id': identity, 'tid': 4}
        extra = {'begun': 'earlier'} if args.pop('earlier', None) else {}
        add('b', **common, name='read', ts=Decimal(begin),
            args={'task': 'read', 'fd': 3, 'op': op, **extra})
        for name, first, last in spans:
            add('b', **common, name=name, ts=Decimal(first))
            add('e', **common, name=name, ts=Decimal(last))
        add('e', **common, name='read', ts=Decimal(end), args=args)

    life('0x4', '0xa0', '0.000', [('flight', '0.000', '0.500'), ('delivery', '0.500', '0.600')],
         '0.600', {'result': 1, 'earlier': True})
    life('0x6', '0xa0', '0.600', [('wait', '0.600', '0.700'), ('flight', '0.700', '0.900'),
                                  ('delivery', '0.900', '1.000')], '1.000', {'result': -5})
    life('0x9', '0xb0', '0.700', [('wait', '0.700', '2.000')], '2.000', {'live': True})
    add('i', s='t', cat='refused', name='refused read', tid=4, ts=Decimal('0.800'),
        args={'task': 'read', 'fd': 3, 'error': -11})
    for name, points in (
            ('ops live', [('0.000', 1), ('0.700', 2), ('1.000', 1)]),
            ('ops in flight', [('0.000', 1), ('0.500', 0), ('0.700', 1), ('0.900', 0)])):
        for at, ops in points:
            add('C', name=name, ts=Decimal(at), args={'ops': ops})
    add('M', name='process_name', args={'name': 'weir'})
    add('M', name='thread_name', tid=4, args={'name': 'read'})
    return {'displayTimeUnit': 'ns', 'traceEvents': lines,
            'otherData': {'clock': 'CLOCK_MONOTONIC', 'begin_ns': '17', 'events': 9, 'lost': 4}}


def breaks(good):
    """Dumps that are wrong, each in one way."""
    events = good['traceEvents']
    changes = []
    for i, event in enumerate(events):
        if event['ph'] in 'be':
            changes.append((i, None))
            changes.append((i, {'id': '0x77'}))
            changes.append((i, {'ts': event['ts'] + Decimal('0.050')}))
            changes.append((i, {'name': 'write'}))
            changes.append((i, {'tid': 5}))
        if event['ph'] == 'C':
            changes.append((i, {'args': {'ops': event['args']['ops'] + 1}}))
            changes.append((i, {'args': {'ops': -1}}))
            changes.append((i, {'ts': event['ts'] + Decimal('0.050')}))
            changes.append((i, {'name': 'ops'}))
        if event['ph'] == 'i':
            changes.append((i, {'args': {'task': 'read', 'error': 0}}))
            changes.append((i, {'tid': 5}))
        changes.append((i, {'ph': 'X'}))
        changes.append((i, {'pid': 2}))
        if 'ts' in event:
            changes.append((i, {'ts': Decimal('-0.001')}))
            changes.append((i, {'ts': event['ts'].quantize(Decimal('0.01'))}))
    for i, change in changes:
        wrong = copy.deepcopy(good)
        if change is None:
            del wrong['traceEvents'][i]
        else:
            wrong['traceEvents'][i].update(change)
        yield f'event {i}: {change}', wrong
    wrong = copy.deepcopy(good)
    wrong['traceEvents'] = events[:-1]
    yield 'a row without a name', wrong


def self_test():
    good = sample()
    check(good)
    unnoticed = []
    count = 0
    for what, wrong in breaks(good):
        count += 1
        try:
            check(wrong)
        except Wrong:
            continue
        unnoticed.append(what)
    for text in ('{"a":1,"a":2}', '[NaN]', '[1,]'):
        count += 1
        try:
            parse(text)
        except (Wrong, ValueError):
            continue
        unnoticed.append(text)
    for what in unnoticed:
        print(f'not noticed: {what}')
    print(f'{count} wrong dumps, {count - len(unnoticed)} noticed')
    return len(unnoticed) > 0


def main(command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        sys.stdout.buffer.write(done.stdout)
        return done.returncode
    text = done.stdout.decode('utf-8')
    text, whole, line = text.partition('lives ') if '\nlives ' in text else (text, '', '')
    try:
        trace = parse(text)
        lives = check(trace)
        if whole:
            check_whole(trace, lives, whole + line)
    except (Wrong, ValueError) as wrong:
        print(f'{command[0]}: {wrong}')
        return 1
    kinds = Counter(life.kind for life in lives)
    print(f'{len(lives)} lives, {sum(life.live for life in lives)} live, '
          f'{sum(life.earlier for life in lives)} begun earlier: '
          + ', '.join(f'{kind} {times}' for kind, times in sorted(kinds.items())))
    return 0


if __name__ == '__main__':
    sys.exit(self_test() if sys.argv[1:] == ['--self-test'] else main(sys.argv[1:]))
