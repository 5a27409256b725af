#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""readers.py PIECE WORK FOLDER: runs WORK, which takes snapshots of working loops, and lets
others read what it wrote; they must find what WORK saw of its tasks. FOLDER is where ./run puts
promtool and hdr-histogram-js.

  promtool     `promtool check metrics` accepts the Prometheus text, and has no complaint
  prometheus   the text, strictly: families, labels, cumulative buckets; names inject nothing
  json         Python's parser; all numbers of all named tasks, of the whole and of an interval
  hlog         hdr-histogram-js decodes both logs
  hgrm         the percentile files, strictly, and line by line as hdr-histogram-js writes them
"""
import codecs
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

STAGES = ['wait', 'flight', 'delivery', 'total', 'queue', 'run']
CAUSES = ['running', 'blocked', 'descheduled']
PERCENTS = ['p50_ns', 'p90_ns', 'p99_ns', 'p99.9_ns']
BOUNDS = 24
BUCKET_SHARE = 1 / 32


def skip(why):
    print(f'skipped: {why}')
    sys.exit(77)


def equal(what, got, want):
    if got != want:
        sys.exit(f'{what}: got {got!r}, want {want!r}')


def mark_bytes(error):
    """A byte that is no UTF-8: U+FFFD and its digits."""
    bad = error.object[error.start:error.end]
    return ''.join(f'\ufffd{byte:02x}' for byte in bad), error.end


codecs.register_error('mark', mark_bytes)


def shown(digits):
    return bytes.fromhex(digits).decode('utf-8', errors='mark')


def tag_of(digits):
    return re.sub(r'[\x00-\x20,\x7f]', '_', shown(digits))


def text_of(folder, name):
    with open(os.path.join(folder, name), encoding='utf-8', newline='') as file:
        return file.read()


def expected(folder):
    """What WORK saw of each task and stage, also of those that have no samples."""
    records = json.loads(text_of(folder, 'expected.json'))
    equal('stages expected', {record['stage'] for record in records}, set(STAGES))
    if not any(record['interval']['count'] != record['whole']['count'] for record in records):
        sys.exit('the interval is the whole')
    return records


# --- Prometheus -------------------------------------------------------------------------------

SAMPLE = re.compile(r'([a-z_]+)(?:\{(.*)\})? ([0-9]+(?:\.[0-9]{9})?)')
LABEL = re.compile(r'([a-z]+)="((?:[^"\\\n]|\\[\\"n])*)"(?:,|$)')
UNESCAPED = {'\\\\': '\\', '\\"': '"', '\\n': '\n'}


def labels_of(text):
    labels = {}
    while text:
        match = LABEL.match(text)
        if not match or match.group(1) in labels:
            sys.exit(f'no labels: {text!r}')
        labels[match.group(1)] = re.sub(r'\\.', lambda found: UNESCAPED[found.group()],
                                        match.group(2))
        text = text[match.end():]
    return labels


def parse_prometheus(text):
    """{metric: [(suffix, labels, value)]}; families stand together, with HELP and TYPE once."""
    families = {}
    types = {}
    name = None
    if not text.endswith('\n'):
        sys.exit('the last line has no end')
    for line in text[:-1].split('\n'):
        if line.startswith('# HELP '):
            name = line.split(' ')[2]
            if name in families or len(line.split(' ')) < 4:
                sys.exit(f'a family twice, or without help: {line!r}')
            families[name] = []
        elif line.startswith('# TYPE '):
            equal(line, line.split(' ')[2], name)
            types[name] = line.split(' ')[3]
        else:
            match = SAMPLE.fullmatch(line)
            if not match or not match.group(1).startswith(name) or name not in types:
                sys.exit(f'no sample of {name}: {line!r}')
            suffix = match.group(1)[len(name):]
            suffixes = ('_bucket', '_sum', '_count') if types[name] == 'histogram' else ('',)
            if suffix not in suffixes or (types[name] == 'counter') != name.endswith('_total'):
                sys.exit(f'{line!r} is no {types[name]}')
            families[name].append((suffix, labels_of(match.group(2) or ''), match.group(3)))
    return families


def series(family):
    """{(suffix, labels but le): {le: value}}; none twice."""
    found = {}
    for suffix, labels, value in family:
        le = labels.get('le')
        key = (suffix, tuple(sorted(pair for pair in labels.items() if pair[0] != 'le')))
        here = found.setdefault(key, {})
        if le in here:
            sys.exit(f'a series twice: {key} {le}')
        here[le] = value
    return found


def check_buckets(what, buckets, want):
    """Cumulative, and each percentile within a bucket's width of the bound that it is under."""
    bounds = [(float(le), int(count)) for le, count in buckets.items()]
    equal(f'{what} bounds', len(bounds), BOUNDS + 1)
    equal(f'{what} order', bounds, sorted(bounds))
    equal(f'{what} +Inf', bounds[-1], (float('inf'), want['count']))
    for percent, key in ((50, 'p50_ns'), (90, 'p90_ns'), (99, 'p99_ns')):
        for bound, count in bounds:
            here = want[key] / 1e9
            if here * (1 + BUCKET_SHARE) <= bound and count * 100 < percent * want['count']:
                sys.exit(f'{what}: {key} is under {bound}, but only {count} samples')
            if bound < here * (1 - BUCKET_SHARE) and count * 100 >= percent * want['count']:
                sys.exit(f'{what}: {key} is above {bound}, but {count} samples')


def seconds(ns):
    return f'{ns // 10**9}.{ns % 10**9:09d}'


def piece_prometheus(folder, _):
    text = text_of(folder, 'metrics.txt')
    families = parse_prometheus(text)
    if any('injected' in name for name in families):
        sys.exit('a name became a metric')
    stages = series(families['weir_task_stage_seconds'])
    largest = series(families['weir_task_stage_max_seconds'])
    for name in families:
        series(families[name])
    for record in expected(folder):
        loop, task, stage = shown(record['loop']), shown(record['task']), record['stage']
        of_task = (('loop', loop), ('task', task))
        for field, name in (('submitted', 'submitted'), ('failed', 'failed'),
                            ('cancelled', 'cancelled'), ('bytes', 'moved_bytes')):
            found = series(families[f'weir_task_{name}_total'])[('', of_task)]
            equal(f'{task} {field}', found, {None: str(record[field])})
        of_stage = (('loop', loop), ('stage', stage), ('task', task))
        want = record['whole']
        if want['count'] == 0:
            equal(f'{task} {stage}', ('_count', of_stage) in stages, False)
            continue
        equal(f'{task} {stage}', stages[('_count', of_stage)], {None: str(want['count'])})
        equal(f'{task} {stage}', stages[('_sum', of_stage)], {None: seconds(want['sum_ns'])})
        equal(f'{task} {stage}', largest[('', of_stage)], {None: seconds(want['max_ns'])})
        check_buckets(f'{task} {stage}', stages[('_bucket', of_stage)], want)
    errors = {(labels['task'], labels['errno']) for _, labels, _ in
              families['weir_task_errors_total']}
    for pair in (('failing', 'EBADF'), ('failing', 'ENOENT'), ('calls', 'ENODATA')):
        equal(f'{pair} in {errors}', pair in errors, True)
    backends = {labels['loop']: labels['backend'] for _, labels, _ in families['weir_loop_info']}
    equal('loops', len(backends), 2)
    for metric in ('weir_loop_stalls_total', 'weir_loop_longest_stall_seconds'):
        equal(metric, {(labels['loop'], labels['cause']) for _, labels, _ in families[metric]},
              {(loop, cause) for loop in backends for cause in CAUSES})
    if not set(backends.values()) <= {'io_uring', 'epoll'}:
        sys.exit(f'backends: {backends}')


def piece_promtool(folder, tools):
    promtool = shutil.which('promtool', path=os.pathsep.join(
        [os.environ.get('PATH', os.defpath), os.path.join(tools, 'usr', 'bin')]))
    if not promtool:
        skip('promtool is not installed')
    with open(os.path.join(folder, 'metrics.txt'), encoding='utf-8') as text:
        done = subprocess.run([promtool, 'check', 'metrics'], stdin=text, text=True, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    equal('promtool check metrics', (done.returncode, done.stdout), (0, ''))


# --- JSON -------------------------------------------------------------------------------------

def once(pairs):
    """An object whose members have different names."""
    equal('members', len({name for name, _ in pairs}), len(pairs))
    return dict(pairs)


def check_json(folder, name, key):
    snapshot = json.loads(text_of(folder, name), object_pairs_hook=once)
    equal(name, set(snapshot), {'taken_ns', 'since_ns', 'loops', 'tasks'})
    equal('an interval', snapshot['since_ns'] != 0, key == 'interval')
    tasks = {(task['loop'], task['task']): task for task in snapshot['tasks']}
    equal('tasks', len(tasks), len(snapshot['tasks']))
    for record in expected(folder):
        where = (shown(record['loop']), shown(record['task']))
        task = tasks[where]
        found = task['stages'][record['stage']]
        want = record[key]
        for member in ('count', 'sum_ns', 'max_ns', 'clipped', *PERCENTS):
            equal(f'{name} {where} {record["stage"]} {member}', found[member], want[member])
        mean_ns = want['sum_ns'] // want['count'] if want['count'] else 0
        equal(f'{name} {where} mean_ns', found['mean_ns'], mean_ns)
        if key == 'whole':
            for member in ('submitted', 'failed', 'cancelled', 'bytes'):
                equal(f'{where} {member}', task['counters'][member], record[member])
        times = sum(error['times'] for error in task['errors']) + task['other_errors']
        equal(f'{name} {where} errors', times, task['counters']['failed'])
    return snapshot, tasks


def piece_json(folder, _):
    snapshot, tasks = check_json(folder, 'whole.json', 'whole')
    check_json(folder, 'interval.json', 'interval')
    errors = {error['errno']: error['error'] for error in tasks['main loop', 'failing']['errors']}
    equal('errors', errors, {'EBADF': -9, 'ENOENT': -2})
    equal('what is of no task', ('main loop', 'nop') in tasks, True)
    for loop in snapshot['loops']:
        equal('its state', loop['has_state'], True)
        equal('its gates', [gate['gate'] for gate in loop['gates']], ['main', 'offload'])
        equal('no watchdog', (loop['stalls'], loop['slow_ops'], loop['longest_stall_ns']),
              ({cause: 0 for cause in CAUSES}, 0, {cause: 0 for cause in CAUSES}))
        equal('its depth', (loop['gates'][0]['depth'], loop['gates'][0]['places']), (8, 72))
        of_loop = [task['counters'] for task in snapshot['tasks'] if task['loop'] == loop['label']]
        for member in ('submitted', 'finished'):
            equal(f'{loop["label"]} {member}', loop['counters'][member],
                  sum(counters[member] for counters in of_loop))


# --- HdrHistogram -----------------------------------------------------------------------------

def read_by_node(folder, tools):
    """{file: [interval]}, as hdr-histogram-js sees them."""
    package = os.path.join(tools, 'node_modules', 'hdr-histogram-js')
    if not shutil.which('node'):
        skip('node is not installed')
    if not os.path.isdir(package):
        skip('the npm package hdr-histogram-js is not installed in build/readers')
    if not os.path.exists(os.path.join(folder, 'whole.hlog')):
        skip('built without zlib')
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'hlog.js')
    done = subprocess.run(['node', script, package, 'whole.hlog', 'interval.hlog'], cwd=folder,
                          text=True, check=False, stdout=subprocess.PIPE, encoding='utf-8')
    equal('node', done.returncode, 0)
    return json.loads(done.stdout)


def by_tag(intervals):
    found = {interval['tag']: interval for interval in intervals}
    equal('tags', len(found), len(intervals))
    return found


def tag_of_record(record):
    return f"{tag_of(record['loop'])}.{tag_of(record['task'])}.{record['stage']}"


def check_log(folder, intervals, key):
    snapshot = json.loads(text_of(folder, f'{key}.json'))
    start = (snapshot['since_ns'] or snapshot['taken_ns']) // 10**6
    for record in expected(folder):
        tag = tag_of_record(record)
        want = record[key]
        if want['count'] == 0:
            equal(tag, tag in intervals, False)
            continue
        found = intervals[tag]
        equal(f'{tag} count', found['count'], want['count'])
        equal(f'{tag} digits', found['digits'], 2)
        equal(f'{tag} start', round(found['start_ms']), start)
        # The reader knows the largest value to its slot, and so the percentiles that are it.
        slot = found['highest_equivalent_of_max']
        equal(f'{tag} max', want['max_ns'] <= slot <= want['max_ns'] * (1 + 1 / 128), True)
        for percent, got in zip(PERCENTS, found['percentiles']):
            equal(f'{tag} {percent}', got,
                  slot if want[percent] == want['max_ns'] else want[percent])


def piece_hlog(folder, tools):
    for key in ('whole', 'interval'):
        text = text_of(folder, f'{key}.hlog') if os.path.exists(
            os.path.join(folder, f'{key}.hlog')) else ''
        if 'weir_injected_total 1' in text:
            sys.exit('a name became a line')
    read = read_by_node(folder, tools)
    for key in ('whole', 'interval'):
        check_log(folder, by_tag(read[f'{key}.hlog']), key)


HGRM_HEAD = '       Value     Percentile TotalCount 1/(1-Percentile)\n\n'
NUMBER = r' *(\d+\.\d{%d})'


def parse_hgrm(text, decimals=3):
    """([(value, share, count, inverse)], the foot's fields)."""
    number = NUMBER % decimals
    equal('head', text[:len(HGRM_HEAD)], HGRM_HEAD)
    body, mark, foot = text[len(HGRM_HEAD):].partition('#[Mean')
    match = re.fullmatch(rf'#\[Mean    = {number}, StdDeviation   = {number}\]\n'
                         rf'#\[Max     = {number}, Total count    = +(\d+)\]\n'
                         r'#\[Buckets = +(\d+), SubBuckets     = +(\d+)\]\n', mark + foot)
    if not match:
        sys.exit(f'no foot: {mark + foot!r}')
    lines = []
    for line in body.splitlines():
        found = re.fullmatch(number + r' ([01]\.\d{12}) +(\d+)(?: +(\d+\.\d\d))?', line)
        if not found:
            sys.exit(f'no line: {line!r}')
        lines.append(found.groups())
    return lines, match.groups()


def nanoseconds(text):
    return int(text.replace('.', ''))


def check_hgrm(what, lines, foot, want):
    equal(f'{what} foot', (nanoseconds(foot[2]), int(foot[3])), (want['max_ns'], want['count']))
    equal(f'{what} mean', nanoseconds(foot[0]),
          want['sum_ns'] // want['count'] if want['count'] else 0)
    if want['count'] == 0:
        equal(f'{what} lines', lines, [])
        return
    equal(f'{what} last', (nanoseconds(lines[-1][0]), lines[-1][1:]),
          (want['max_ns'], ('1.000000000000', str(want['count']), None)))
    for column in range(3):
        values = [float(line[column]) for line in lines]
        equal(f'{what} column {column} rises', values, sorted(values))
    for line in lines:
        if int(line[2]) < float(line[1]) * want['count'] - 1e-6:
            sys.exit(f'{what}: {line}: too few samples')
        inverse = float(line[3] or 0) * (1 - float(line[1]))
        if line[3] and abs(inverse - 1) > 0.01 + 1e-12 * float(line[3]):
            sys.exit(f'{what}: {line}: columns 2 and 4 differ')
    middle = next(line for line in lines if line[1] == '0.500000000000') if len(
        lines) > 6 else None
    if middle:
        equal(f'{what} median', nanoseconds(middle[0]), want['p50_ns'])


def compare_hgrm(what, lines, foot, distribution, want):
    """Line by line, as the other one writes it (in ns, with two decimals), but for the largest
    value, see check_log()."""
    others, other_foot = parse_hgrm(distribution, 2)
    equal(f'{what} lines', len(lines), len(others))
    for line, other in zip(lines, others):
        equal(f'{what} samples', line[2], other[2])
        equal(f'{what} end', line[3] is None, other[3] is None)
        if abs(float(line[1]) - float(other[1])) > 1.5e-12:
            sys.exit(f'{what} share: {line}, {other}')
        if line[3] and abs(float(line[3]) / float(other[3]) - 1) > 1e-4:
            sys.exit(f'{what} inverse: {line}, {other}')
        if nanoseconds(line[0]) != want['max_ns']:
            equal(f'{what} values', nanoseconds(line[0]), float(other[0]))
    ours, theirs = nanoseconds(foot[1]), float(other_foot[1])
    if abs(ours - theirs) > 0.02 * (ours + theirs) + 2:
        sys.exit(f'{what}: deviation {ours}, {theirs}')


def piece_hgrm(folder, tools):
    files = {}
    for record in expected(folder):
        files[tag_of_record(record)] = parse_hgrm(text_of(folder, record['hgrm']))
        check_hgrm(record['hgrm'], *files[tag_of_record(record)], record['whole'])
    read = by_tag(read_by_node(folder, tools)['whole.hlog'])
    for record in expected(folder):
        tag = tag_of_record(record)
        if record['whole']['count']:
            compare_hgrm(tag, *files[tag], read[tag]['distribution'], record['whole'])


def main():
    pieces = {'promtool': piece_promtool, 'prometheus': piece_prometheus, 'json': piece_json,
              'hlog': piece_hlog, 'hgrm': piece_hgrm}
    if len(sys.argv) != 4 or sys.argv[1] not in pieces:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory(prefix='weir-readers-') as folder:
        done = subprocess.run([sys.argv[2], folder], check=False)
        equal('the work', done.returncode, 0)
        pieces[sys.argv[1]](folder, os.path.abspath(sys.argv[3]))


if __name__ == '__main__':
    main()
