# SPDX-License-Identifier: MIT
"""nbd_soak: a server under mixed load for minutes, looked at each second."""

import contextlib
import os
import random
import threading
import time

import nbd_fio
import nbd_metrics
import nbd_servers
import nbd_visitors

SLICE_S = 20  # of one run of fio; then all its connections are new
FIRST_MINUTE_S = 60
RSS_BOUND_MIB = 1
SHORT_S = 120
VISITORS = 2
CROWD = 48  # of the 64 that a server takes if not told otherwise
FDS_GO_S = 30


def jobs(size, seconds):
    """Who has which part of the image: mixed 4/8, verified 2/8, trimmed 1/8, visitors 1/8."""
    eighth = size // 8

    def job(name, access, first, count, depth, *more):
        return [f"--name={name}", f"--rw={access}", f"--offset={first * eighth}",
                f"--size={count * eighth}", f"--iodepth={depth}", "--time_based",
                f"--runtime={round(seconds * 1000)}ms", *more]

    return [
        *job("mixed", "randrw", 0, 4, 16, "--numjobs=2", "--rwmixread=70", "--norandommap",
             "--bssplit=4k/40:16k/20:64k/20:256k/10:1m/10", "--fsync=256"),
        *job("verified", "randwrite", 4, 2, 8, "--bsrange=4k-64k", "--verify=crc32c",
             "--verify_backlog=64", "--verify_fatal=1"),
        *job("trimmed", "randtrimwrite", 6, 1, 8, "--bs=64k"),
    ]


class Watch:
    """Samples of the server, each second, from a thread of its own; and the visitors' threads."""

    def __init__(self, server, size, seconds, crowd_s, progress):
        self.server = server
        self.size = size
        self.seconds = seconds
        self.crowd_s = crowd_s
        self.progress = progress
        self.begin = time.monotonic()
        self.stopped = threading.Event()
        self.failures = []
        self.samples = []
        self.counts = [{} for _ in range(VISITORS)]
        self.seed = random.randrange(1 << 32)
        self.page = None
        self.grown = 0
        self.threads = []

    def guarded(self, function, *arguments):
        """What goes wrong is kept for the report, in whichever thread it does."""
        try:
            function(*arguments)
        except Exception as error:  # whatever it is, it is not to be lost with the thread
            self.failures.append(str(error) if isinstance(error, nbd_servers.Failure)
                                 else repr(error))

    def start(self):
        share = self.size // 8 // VISITORS
        # With a crowd beside the load at first, more of what the server has for clients is touched
        # than ever after: what is touched later would look like a leak.
        work = [(self.sample_forever,), (nbd_visitors.crowd, self.server.unix, 0, self.size, CROWD,
                                         self.crowd_s, self.stopped)]
        for number, counts in enumerate(self.counts):
            begin = self.size // 8 * 7 + number * share
            work.append((nbd_visitors.visit_forever, self.server.unix, begin, begin + share,
                         self.seed + number, self.stopped, counts))
        self.threads = [threading.Thread(target=self.guarded, args=one) for one in work]
        for thread in self.threads:
            thread.start()

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            if thread.ident:
                thread.join()

    def visits(self):
        return {kind.__name__: sum(counts.get(kind.__name__, 0) for counts in self.counts)
                for kind in nbd_visitors.KINDS}

    def scrape(self):
        if self.server.metrics:
            page = nbd_metrics.parse(nbd_metrics.fetch(self.server.metrics))
            if self.page:
                self.grown = max(self.grown, nbd_metrics.check_growth(self.page, page))
            self.page = page

    def sample(self):
        now = time.monotonic() - self.begin
        self.scrape()
        self.samples.append((round(now, 1), self.server.rss_kib(), self.server.fds()))
        self.progress.show(
            f"{nbd_servers.title(self.server.name)}: {now:.0f} of {self.seconds:.0f} s, RSS "
            f"{self.samples[-1][1] / 1024:.1f} MiB, {self.samples[-1][2]} fds, "
            f"{sum(self.visits().values())} visits")

    def sample_forever(self):
        following = self.begin
        while not self.stopped.is_set():
            self.sample()
            following += 1
            self.stopped.wait(max(following - time.monotonic(), 0))


def fds_when_quiet(server, most=None):
    """How many there are once the clients have gone: when they are no more than `most`, or stay."""
    deadline, same, before = time.monotonic() + FDS_GO_S, 0, None
    while time.monotonic() < deadline:
        now = server.fds()
        same = same + 1 if now == before else 0
        if most is not None and now <= most or most is None and same >= 5:
            return now
        before = now
        time.sleep(0.05)
    return server.fds()


def load(server, options, seconds, folder, watch, done):
    """Runs of fio, one after the other, for the whole time or until something fails; adds what
    they did to `done`."""
    count = max(2, round(seconds / SLICE_S))
    for _ in range(count):
        if watch.failures or not server.alive():
            break
        each = seconds / count - nbd_fio.OVERHEAD_S
        with nbd_fio.loading(server.uri, jobs(options.size, each), folder, each) as fio:
            while fio.running() and not watch.failures:
                time.sleep(0.1)
            if not watch.failures:
                result = fio.result()
                done["operations"] += result.operations
                done["bytes"] += result.bytes
                done["runs"] += 1


def growth_mib(samples, settled_s):
    """How far the resident set rose after it settled, above the most it was before."""
    early = [rss for at, rss, _ in samples if at <= settled_s]
    late = [rss for at, rss, _ in samples if at > settled_s]
    return (max(late) - max(early)) / 1024 if early and late else 0.0


def soak(name, options, seconds, work, image, progress):
    """One server's soak: a report, in which `failures` says what was wrong."""
    settled_s = FIRST_MINUTE_S if seconds >= SHORT_S else seconds / 2
    bound = options.rss_bound or RSS_BOUND_MIB
    folder = os.path.join(work, f"soak-{name}")
    os.mkdir(folder)
    with nbd_servers.running(name, folder, image, options, metrics=True) as server:
        # One visit of each kind first: what a server opens once, for good, is no leak.
        for kind in nbd_visitors.KINDS:
            last = options.size // 8 * 7
            nbd_visitors.visit(kind, server.unix, last, options.size, random.Random(0))
        watch = Watch(server, options.size, seconds, settled_s / 2, progress)
        with contextlib.ExitStack() as stack:
            fds_before = fds_when_quiet(server)
            stack.callback(watch.stop)
            watch.start()
            done = {"runs": 0, "operations": 0, "bytes": 0}
            watch.guarded(load, server, options, seconds, folder, watch, done)
        failures = watch.failures
        report = {"server": name, "seed": watch.seed, "seconds": seconds, "fio": done,
                  "visits": watch.visits(), "scrapes": len(watch.samples) if watch.page else 0,
                  "series": len(watch.page or ()), "samples": watch.samples}
        if server.alive():
            report["fds"] = (fds_before, fds_when_quiet(server, fds_before))
            report["rss_growth_mib"] = growth_mib(watch.samples, settled_s)
            report["exit"] = server.end()
            if report["fds"][1] > fds_before:
                failures.append(f"{report['fds'][1] - fds_before} fds are left")
            if report["rss_growth_mib"] > bound:
                failures.append(f"RSS grew by {report['rss_growth_mib']:.1f} MiB after "
                                f"{settled_s:.0f} s; at most {bound:g} MiB are fine")
            if report["exit"] != 0:
                failures.append(f"exit {report['exit']} on SIGTERM: {server.said()}")
            if watch.page and not watch.grown:
                failures.append("metrics: no counter went up")
        else:
            report["exit"] = server.process.returncode
            failures.append(f"the server ended with {report['exit']}: {server.said()}")
    report["failures"] = failures
    return report


def rss_at(samples, seconds):
    return min(samples, key=lambda sample: abs(sample[0] - seconds))[1] / 1024


def text(report):
    samples, seconds = report["samples"], report["seconds"]
    visits = ", ".join(f"{count} {kind.replace('_', ' ')}"
                       for kind, count in report["visits"].items())
    lines = [f"{nbd_servers.title(report['server'])}: {seconds:.0f} s, seed {report['seed']}",
             f"  fio      {report['fio']['runs']} runs of 4 connections, "
             f"{report['fio']['operations']} operations, "
             f"{report['fio']['bytes'] / (1 << 30):.1f} GiB",
             f"  visits   {visits}"]
    if report["scrapes"]:
        lines.append(f"  metrics  {report['scrapes']} scrapes of {report['series']} series")
    if samples:
        step = FIRST_MINUTE_S if seconds >= SHORT_S else seconds / 4
        points = [step * n for n in range(int(seconds / step) + 1)]
        cells = " ".join(f"{rss_at(samples, point):.1f}" for point in points)
        lines.append(f"  RSS      MiB each {step:g} s: {cells}")
    if "fds" in report:
        lines.append(f"  at end   {report['fds'][1]} fds ({report['fds'][0]} before), RSS grew by "
                     f"{report['rss_growth_mib']:.1f} MiB since it settled, exit {report['exit']}")
    lines += [f"  FAILED   {failure}" for failure in report["failures"]] or ["  fine"]
    return "\n".join(lines)


def measure(options, work, progress, document):
    seconds = options.seconds or options.minutes * 60
    reports = document["servers"] = []
    progress.say(f"about {len(options.servers) * seconds / 60:.1f} min")
    with nbd_servers.image_in("/dev/shm", options.size) as (image, _):
        for name in options.servers:
            reports.append(soak(name, options, seconds, work, image, progress))
            progress.clear()
            print(text(reports[-1]), flush=True)
    return not any(report["failures"] for report in reports)
