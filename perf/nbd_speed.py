# SPDX-License-Identifier: MIT
"""nbd_speed: how fast the servers are, each pair of them in turns (A B B A A B B A ...).

A machine drifts within seconds, so what counts is the ratio of runs that stand side by side, and
its median over all pairs. The same order puts two runs of one server side by side between the
pairs: their ratios are the noise, and cost no run more.
"""

import contextlib
import os
import statistics

import nbd_fio
import nbd_servers

FAMILIES = {"nbdkit": ("nbdkit-1", "nbdkit-16"), "qemu": ("qemu-io_uring", "qemu-threads")}
# Who of our own a subject is compared with as well.
KIN = {
    "weir": ("weir-epoll",),
    "weir-epoll": ("weir",),
    "weir-inline": ("weir",),
    "weir-spin": ("weir-epoll-spin", "weir"),
    "weir-epoll-spin": ("weir-spin", "weir-epoll"),
}


class Workload:
    def __init__(self, name, words, access, block, depth, subject="weir"):
        self.name = name
        self.words = words
        self.access = access
        self.block = block
        self.depth = depth
        self.subject = subject
        self.writes = "write" in access
        self.unit = "MiB/s" if block == "128k" else "IOPS"

    def value(self, result):
        return result.mib_s if self.unit == "MiB/s" else result.iops

    def job(self, seconds):
        return nbd_fio.job(self.name, self.access, self.block, self.depth, seconds)


WORKLOADS = (
    Workload("randread", "4k random reads, 32 in flight", "randread", "4k", 32),
    Workload("randwrite", "4k random writes, 32 in flight", "randwrite", "4k", 32),
    Workload("inline", "4k random writes, 32 in flight, in the loop", "randwrite", "4k", 32,
             "weir-inline"),
    Workload("seqread", "128k sequential reads, 8 in flight", "read", "128k", 8),
    Workload("seqwrite", "128k sequential writes, 8 in flight", "write", "128k", 8),
    Workload("depth1", "4k random reads, one at a time", "randread", "4k", 1, "weir-spin"),
    Workload("depth4", "4k random reads, 4 in flight", "randread", "4k", 4, "weir-spin"),
)


def quartiles(values):
    """Lower quartile, median, upper quartile."""
    if len(values) == 1:
        return [values[0]] * 3
    return statistics.quantiles(values, n=4, method="inclusive")


def spread(ratios):
    """The quartiles of ratios of like to like, read both ways: neither of two is the first."""
    return quartiles([*ratios, *(1 / ratio for ratio in ratios)]) if ratios else None


class Comparison:
    """Runs of two servers, in turns."""

    def __init__(self, place, workload, first, second):
        self.place = place
        self.workload = workload
        self.names = (first, second)
        self.runs = []  # (name, value, CPU us of the server per op, result), in their order

    def order(self, pairs):
        for pair in range(pairs):
            yield from self.names if pair % 2 == 0 else reversed(self.names)

    def pairs(self):
        return zip(self.runs[::2], self.runs[1::2], strict=False)

    def ratios(self, column):
        """First server over second, of each pair; column 1 is the value, 2 the CPU per op."""
        ratios = []
        for one, other in self.pairs():
            first, second = (one, other) if one[0] == self.names[0] else (other, one)
            ratios.append(first[column] / second[column])
        return ratios

    def self_ratios(self, name):
        """Of neighbours that are runs of the same server: between one pair and the next."""
        return [one[1] / other[1]
                for one, other in zip(self.runs[1:-1:2], self.runs[2::2], strict=False)
                if one[0] == other[0] == name]

    def median(self, name, of):
        return statistics.median(of(run) for run in self.runs if run[0] == name)

    def side(self, name):
        return {
            "server": name,
            "value": self.median(name, lambda run: run[1]),
            "cpu_us_per_op": self.median(name, lambda run: run[2]),
            "latency_us": {p: self.median(name, lambda run, p=p: run[3].latency[p])
                           for p in ("p50", "p99", "p99.9")},
            "client_cpu": self.median(name, lambda run: run[3].client_cpu),
            "others_cpu": self.median(name, lambda run: run[3].others),
            "self_ratio_quartiles": spread(self.self_ratios(name)),
        }

    def report(self):
        return {
            "place": self.place,
            "workload": self.workload.name,
            "unit": self.workload.unit,
            "pairs": len(self.runs) // 2,
            "first": self.side(self.names[0]),
            "second": self.side(self.names[1]),
            "ratio_quartiles": quartiles(self.ratios(1)),
            "cpu_ratio_quartiles": quartiles(self.ratios(2)),
            "ratios": self.ratios(1),
        }


class Bench:
    """What is measured in one place, with all its servers up."""

    def __init__(self, place, image, servers, options, folder, progress):
        self.place = place
        self.image = image
        self.servers = servers
        self.options = options
        self.folder = folder
        self.progress = progress
        self.absent = 0  # the most bytes that the page cache had lost before a run

    def run(self, comparison, name, what):
        workload, seconds = comparison.workload, self.options.seconds
        if workload.writes and self.place != "tmpfs":
            nbd_servers.settle(self.image)
        self.absent = max(self.absent, nbd_servers.warm(self.image))
        self.progress.step(f"{self.place}, {workload.words}: {what}: "
                           f"{nbd_servers.title(name)}")
        result, cpu_us = nbd_fio.measure(self.servers[name], workload.job(seconds), self.folder,
                                         seconds)
        comparison.runs.append((name, workload.value(result), cpu_us, result))

    def compare(self, comparison, pairs):
        first, second = comparison.names
        workload = comparison.workload
        what = f"{nbd_servers.title(first)} against {nbd_servers.title(second)}"
        for name in comparison.order(pairs):
            self.run(comparison, name, what)

    def better(self, workload, names):
        """The one with the better median, of two."""
        if len(names) == 1:
            return names[0]
        heat = Comparison(self.place, workload, *names)
        self.compare(heat, self.options.heat)
        return max(names, key=lambda name: heat.median(name, lambda run: run[1]))


def plan(workload, options):
    """The comparisons of a workload: (subject, the servers of which the better one is taken)."""
    subject = options.subject or workload.subject
    rivals = []
    for members in FAMILIES.values():
        wanted = [name for name in members if options.wants_peer(name) and name != subject]
        if options.heat and len(wanted) > 1:
            rivals.append(wanted)
        else:
            rivals += [[name] for name in wanted]
    rivals += [[name] for name in KIN.get(subject, ()) if options.wants_peer(name)]
    return [(subject, rival) for rival in rivals]


def servers_of(options):
    names = {}
    for workload in options.workloads:
        for subject, rival in plan(workload, options):
            names.update(dict.fromkeys([subject, *rival]))
    return list(names)


def runs_of(workload, options):
    return sum(2 * options.pairs + (2 * options.heat if len(rival) > 1 else 0)
               for _, rival in plan(workload, options))


def has(place, workload):
    """Files on a tmpfs are always written in the loop: there that would be randwrite once more."""
    return place != "tmpfs" or workload != "inline"


def workloads_of(place, options):
    return [one for one in options.workloads if has(place, one.name)]


def estimate_s(place, options, sync_s):
    """Of one place, for which syncing a whole image takes so long."""
    each = options.seconds + nbd_fio.OVERHEAD_S + options.size / (6 << 30)
    return sum(runs_of(workload, options) * (each + (sync_s if workload.writes else 0))
               for workload in workloads_of(place, options))


def measure_place(place, folder, options, work, progress, done):
    """All comparisons of one place, appended to `done` as they begin."""
    with contextlib.ExitStack() as stack:
        progress.say(f"{place}: writing an image of {options.size >> 20} MiB in {folder}")
        image, sync_s = stack.enter_context(nbd_servers.image_in(folder, options.size))
        workloads = workloads_of(place, options)
        runs = sum(runs_of(workload, options) for workload in workloads)
        progress.expect(runs, estimate_s(place, options, sync_s if place != "tmpfs" else 0))
        own = os.path.join(work, place)
        os.mkdir(own)
        servers = {name: stack.enter_context(nbd_servers.running(name, own, image, options))
                   for name in servers_of(options)}
        bench = Bench(place, image, servers, options, own, progress)
        for workload in workloads:
            for subject, rival in plan(workload, options):
                chosen = bench.better(workload, rival)
                done.append(Comparison(place, workload, subject, chosen))
                bench.compare(done[-1], options.pairs)
        if bench.absent:
            progress.say(f"{place}: up to {bench.absent / (1 << 20):.1f} MiB of the image had left "
                         "the page cache before a run, and were read again first")


# --- what is to be reached ------------------------------------------------------------------------


def found(done, place, workload, family):
    """The comparison with the best of a family: where each was compared, the worst for us."""
    these = [one for one in done
             if one.place == place and one.workload.name == workload
             and one.names[0].startswith("weir") and one.names[1].startswith(family)]
    return min(these, key=lambda one: statistics.median(one.ratios(1)), default=None)


def at_least(limit):
    return lambda one: (statistics.median(one.ratios(1)), ">=", limit)


def cpu_at_most(limit):
    return lambda one: (statistics.median(one.ratios(2)), "<=", limit)


def within_noise(one):
    noise = spread(one.self_ratios(one.names[1]))
    return statistics.median(one.ratios(1)), ">=", noise[0] if noise else 1.0


GOALS = (
    ("randread", "nbdkit", "4k random reads, 32 in flight, to nbdkit", at_least(1.4)),
    ("randread", "qemu", "4k random reads, 32 in flight, to qemu-nbd", at_least(2.3)),
    ("randread", "nbdkit", "  server CPU per operation, to nbdkit", cpu_at_most(0.70)),
    ("randwrite", "nbdkit", "4k random writes, 32 in flight, to nbdkit (its noise)", within_noise),
    ("randwrite", "qemu", "4k random writes, 32 in flight, to qemu-nbd", at_least(2.5)),
    ("inline", "nbdkit", "  in the loop, to nbdkit (its noise)", within_noise),
    ("inline", "qemu", "  in the loop, to qemu-nbd", at_least(2.5)),
    ("seqread", "nbdkit", "128k sequential reads, 8 in flight, to nbdkit", at_least(0.95)),
    ("seqwrite", "nbdkit", "128k sequential writes, 8 in flight, to nbdkit", at_least(0.95)),
    ("depth1", "nbdkit", "4k random reads, one at a time, with spin, to nbdkit", at_least(1.3)),
    ("depth1", "qemu", "4k random reads, one at a time, with spin, to qemu-nbd", at_least(1.3)),
)


def goals(done, places):
    """Each goal in each place; its value and whether it is met are None if not measured."""
    results = []
    for place in places:
        for workload, family, words, judge in GOALS:
            if not has(place, workload):
                continue
            one = found(done, place, workload, family)
            value, sign, limit = judge(one) if one else (None, "", None)
            met = None if one is None else value >= limit if sign == ">=" else value <= limit
            results.append({"place": place, "goal": words, "value": value, "sign": sign,
                            "limit": limit, "met": met})
    return results


# --- for people -----------------------------------------------------------------------------------


def number(value):
    return f"{value / 1000:.1f} k" if value >= 10000 else f"{value:.0f}"


def span(values, digits=2):
    if values is None:
        return "-"
    low, middle, high = values
    return f"{middle:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def side_line(side, unit, ratio="", cpu_ratio=""):
    late = side["latency_us"]
    latency = "/".join(f"{late[p]:.0f}" for p in ("p50", "p99", "p99.9"))
    return (f"  {nbd_servers.title(side['server']):24}{number(side['value']):>8} {unit:5} "
            f"{ratio:>16} {span(side['self_ratio_quartiles']):>16} "
            f"{side['cpu_us_per_op']:7.2f} {cpu_ratio:>5} {latency:>16} "
            f"{side['client_cpu'] * 100:4.0f}%").rstrip()


HEAD = (f"  {'':24}{'median':>8} {'':5} {'ratio (quart.)':>16} {'to itself':>16} "
        f"{'us/op':>7} {'ratio':>5} {'p50/p99/p99.9 us':>16} {'fio':>5}")


def table(done):
    lines, before = [], None
    for one in done:
        heading = f"{one.place}, {one.workload.words}"
        if heading != before:
            lines += ["", heading, HEAD]
            before = heading
        report = one.report()
        lines.append(side_line(report["first"], report["unit"], span(report["ratio_quartiles"]),
                               f"{report['cpu_ratio_quartiles'][1]:.2f}"))
        lines.append(side_line(report["second"], report["unit"]))
    loud = max((run[3].others for one in done for run in one.runs), default=0.0)
    usual = statistics.median([run[3].others for one in done for run in one.runs] or [0.0])
    lines += ["", "ratio: of the line over the next one, median of its pairs; us/op: the server's "
                  "time on a CPU", "for each operation; to itself: neighbouring runs of one "
                  "server, the noise; fio: how much of a", "CPU the client used: near 100 % the "
                  "client is the limit, and servers look alike.",
              f"Others used {usual * 100:.0f} % of the machine's CPUs (median; at most "
              f"{loud * 100:.0f} %)."]
    return "\n".join(lines[1:])


def goal_lines(results):
    lines = []
    for result in results:
        if result["value"] is None:
            verdict = "not measured"
        else:
            verdict = (f"{result['value']:.3f}, wanted {result['sign']} {result['limit']:.2f}: "
                       f"{'met' if result['met'] else 'MISSED'}")
        lines.append(f"{result['place']:6} {result['goal']:55} {verdict}")
    return "\n".join(lines)
