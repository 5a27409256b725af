# SPDX-License-Identifier: MIT
"""nbd_fairness: what a client with few requests notices of clients with many."""

import contextlib
import os
import statistics

import nbd_fio
import nbd_servers

RATE = 100
GREEDY = 2
DEPTH = 32
GOAL = 5.0
ROUND = ("alone", "beside", "beside", "alone")
ELSEWHERE = ("elsewhere",)


def paced(server, options, folder):
    """The paced client's run."""
    arguments = [*nbd_fio.job("paced", "randread", "4k", 1, options.seconds), f"--rate_iops={RATE}"]
    result, _ = nbd_fio.measure(server, arguments, folder, options.seconds)
    return result


def measured(kind, result, greedy_iops):
    return {"kind": kind, "latency_us": result.latency, "greedy_iops": greedy_iops,
            "others_cpu": result.others if kind == "alone" else None}


def phase(kind, server, loaded, options, folder):
    """The paced client's latencies in us, and what the greedy ones did to `loaded` meanwhile."""
    if kind == "alone":
        return measured(kind, paced(server, options, folder), 0.0)
    # They are to outlast the paced one, and are then ended.
    limit_s = options.seconds + nbd_fio.HANG_S
    arguments = [*nbd_fio.job("greedy", "randread", "4k", DEPTH, limit_s),
                 f"--numjobs={GREEDY}", "--group_reporting"]
    with nbd_fio.loading(loaded.uri, arguments, folder, limit_s) as greedy:
        nbd_fio.wait_until_busy(loaded)
        result = paced(server, options, folder)
        if not greedy.running():
            greedy.result()
            raise nbd_servers.Failure("the greedy clients ended before the paced one")
        greedy.stop()
        return measured(kind, result, greedy.result(codes=(0, 128)).iops)


def summary(name, phases):
    kinds = {one["kind"] for one in phases}

    def median(kind, percentile):
        return statistics.median(one["latency_us"][percentile] for one in phases
                                 if one["kind"] == kind)

    report = {"server": name, "phases": phases}
    for percentile in ("p50", "p99", "p99.9"):
        alone, beside = median("alone", percentile), median("beside", percentile)
        report[percentile] = {"alone_us": alone, "beside_us": beside, "ratio": beside / alone}
        if "elsewhere" in kinds:
            report[percentile]["elsewhere_us"] = median("elsewhere", percentile)
    report["greedy_iops"] = statistics.median(one["greedy_iops"] for one in phases
                                              if one["kind"] == "beside")
    report["others_cpu"] = statistics.median(one["others_cpu"] for one in phases
                                             if one["kind"] == "alone")
    report["met"] = report["p99"]["ratio"] <= GOAL if name.startswith("weir") else None
    return report


def line(report):
    words = "" if report["met"] is None else "met" if report["met"] else "MISSED"
    cells = "".join(
        f"{report[p]['alone_us']:8.0f} {report[p]['beside_us']:8.0f} {report[p]['ratio']:6.2f}"
        for p in ("p50", "p99"))
    return (f"{nbd_servers.title(report['server']):22}{cells} {report['p99.9']['beside_us']:8.0f} "
            f"{report['greedy_iops'] / 1000:7.1f} k {report['others_cpu'] * 100:6.0f}%  {words}"
            ).rstrip()


def elsewhere_line(report):
    times = report["p99"]["elsewhere_us"]
    return (f"{'':22}p99 with the greedy on another server: {times:.0f} us, "
            f"{times / report['p99']['alone_us']:.2f} of alone: the CPUs' part, not the server's")


HEAD = (f"{'':22}{'p50 us':>8} {'beside':>8} {'ratio':>6}{'p99 us':>8} {'beside':>8} {'ratio':>6} "
        f"{'p99.9':>8} {'greedy/s':>9} {'others':>7}  at most {GOAL:g}")


def measure(options, work, progress, document):
    reports = document["servers"] = []
    kinds = ROUND + (ELSEWHERE if options.elsewhere else ())
    runs = len(options.server) * options.rounds * len(kinds)
    progress.expect(runs, runs * (options.seconds + 2 * nbd_fio.OVERHEAD_S))
    with nbd_servers.image_in("/dev/shm", options.size) as (image, _):
        print(HEAD, flush=True)
        for name in options.server:
            phases = []
            with contextlib.ExitStack() as stack:
                server = stack.enter_context(nbd_servers.running(name, work, image, options))
                other = server
                if options.elsewhere:
                    folder = os.path.join(work, f"{name}-other")
                    os.mkdir(folder)
                    other = stack.enter_context(nbd_servers.running(name, folder, image, options))
                for number in range(options.rounds):
                    for kind in kinds:
                        progress.step(f"{nbd_servers.title(name)}, round {number + 1}: {kind}")
                        loaded = other if kind == "elsewhere" else server
                        phases.append(phase(kind, server, loaded, options, work))
            reports.append(summary(name, phases))
            progress.clear()
            print(line(reports[-1]), flush=True)
            if options.elsewhere:
                print(elsewhere_line(reports[-1]), flush=True)
    print(f"\nA client at {RATE} reads a second, alone and beside {GREEDY} that keep {DEPTH} in "
          f"flight each;\nmedians of {2 * options.rounds} phases of {options.seconds:g} s. Others: "
          "their part of the machine's CPUs meanwhile.")
    return all(report["met"] is not False for report in reports)
