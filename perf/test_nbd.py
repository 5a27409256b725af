#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Does nbd.py judge rightly? Its arithmetic and what it refuses, on figures and pages made here,
and its visitors against a server that lies to them. Needs neither a server nor fio.

usage: test_nbd.py
"""

import argparse
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading

sys.dont_write_bytecode = True

import nbd_metrics  # noqa: E402
import nbd_servers  # noqa: E402
import nbd_soak  # noqa: E402
import nbd_speed  # noqa: E402
import nbd_visitors  # noqa: E402

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "nbd.py")
HANG_S = 60
TESTS = []


def test(function):
    TESTS.append(function)
    return function


def refused(function, *arguments):
    """What Failure the call raises; it has to."""
    try:
        function(*arguments)
    except nbd_servers.Failure as failure:
        return str(failure)
    raise AssertionError(f"{function.__name__}{arguments} did not fail")


# --- ratios ---------------------------------------------------------------------------------------


class Measured:
    """What a run of fio looks like to a comparison."""

    latency = {"p50": 1.0, "p99": 2.0, "p99.9": 3.0}
    client_cpu = 0.5
    others = 0.0


def compared(values, workload=nbd_speed.WORKLOADS[0], rival="nbdkit-1"):
    """A comparison in which the runs, in their order, had these values and a tenth of it as CPU."""
    comparison = nbd_speed.Comparison("tmpfs", workload, workload.subject, rival)
    for name, value in zip(comparison.order(len(values) // 2), values, strict=True):
        comparison.runs.append((name, value, value / 10, Measured()))
    return comparison


@test
def runs_stand_in_the_order_a_b_b_a():
    comparison = nbd_speed.Comparison("tmpfs", nbd_speed.WORKLOADS[0], "weir", "nbdkit-1")
    assert list(comparison.order(4)) == ["weir", "nbdkit-1", "nbdkit-1", "weir"] * 2


@test
def the_ratio_is_that_of_neighbours_whatever_the_machine_does():
    # The machine becomes four times as fast in between; the first server always does twice as much.
    comparison = compared([2, 1, 2, 4, 8, 4, 4, 8])
    assert comparison.ratios(1) == [2, 2, 2, 2]
    assert comparison.self_ratios("weir") == [4 / 8]
    assert comparison.self_ratios("nbdkit-1") == [1 / 2, 4 / 4]


@test
def the_noise_of_a_server_does_not_depend_on_which_run_came_first():
    assert nbd_speed.spread([0.5]) == nbd_speed.spread([2.0])
    low, middle, high = nbd_speed.spread([1.0, 1.0])
    assert low == middle == high == 1


def verdict(values, workload, rival, words):
    results = nbd_speed.goals([compared(values, workload, rival)], ["tmpfs"])
    (met,) = [one["met"] for one in results if words in one["goal"] and one["value"] is not None]
    return met


@test
def a_goal_is_met_from_its_limit_on():
    reads, writes, *_, depth1, _depth4 = nbd_speed.WORKLOADS
    for value, met in ((13.9, False), (14.1, True)):
        assert verdict([value, 10, 10, value], reads, "nbdkit-1", "flight, to nbdkit") is met
    # The CPU per operation is a tenth of the value here, so it fails at 14 and is fine at 7.
    for value, met in ((14, False), (7.1, False), (6.9, True)):
        assert verdict([value, 10, 10, value], reads, "nbdkit-1", "server CPU") is met
    for value, met in ((22.9, False), (23.1, True)):
        assert verdict([value, 10, 10, value], reads, "qemu-threads", "to qemu") is met
    for value, met in ((12.9, False), (13.1, True)):
        assert verdict([value, 10, 10, value], depth1, "nbdkit-16", "to nbdkit") is met
    # Nbdkit's own runs lie 10 against 8 apart: 9 is within that noise, 6 is not.
    assert verdict([9, 10, 8, 9, 9, 10, 8, 9], writes, "nbdkit-1", "nbdkit") is True
    assert verdict([6, 10, 8, 6, 6, 10, 8, 6], writes, "nbdkit-1", "nbdkit") is False


@test
def writes_in_the_loop_are_measured_where_they_are_no_matter_of_course():
    options = argparse.Namespace(workloads=nbd_speed.WORKLOADS)
    names = {place: {one.name for one in nbd_speed.workloads_of(place, options)}
             for place in ("tmpfs", "disk")}
    assert names["disk"] - names["tmpfs"] == {"inline"} and names["tmpfs"] < names["disk"]


@test
def nobody_is_compared_with_himself_or_with_nobody():
    for subject, kin in nbd_speed.KIN.items():
        assert {subject, *kin} <= set(nbd_servers.SERVERS) and subject not in kin


@test
def what_was_not_measured_is_neither_met_nor_missed():
    results = nbd_speed.goals([], ["tmpfs", "disk"])
    inline = [goal for goal in nbd_speed.GOALS if goal[0] == "inline"]
    assert inline and len(results) == 2 * len(nbd_speed.GOALS) - len(inline)
    assert all(result["met"] is None for result in results)
    assert "not measured" in nbd_speed.goal_lines(results)


# --- metrics --------------------------------------------------------------------------------------

PAGE = """\
# HELP ops_total Ops.
# TYPE ops_total counter
ops_total{kind="read \\"x\\"",loop="0"} 7
ops_total{kind="write",loop="0"} 3
# TYPE live gauge
live 5
# TYPE wait_seconds histogram
wait_seconds_bucket{kind="read",le="0.1"} 2
wait_seconds_bucket{kind="read",le="+Inf"} 3
wait_seconds_sum{kind="read"} 0.5
wait_seconds_count{kind="read"} 3
"""


@test
def a_page_of_metrics_is_read():
    samples = nbd_metrics.parse(PAGE)
    assert samples["ops_total", 'kind="write",loop="0"'] == (3, True)
    assert samples["live", ""] == (5, False)
    assert len(samples) == 7


@test
def a_page_that_is_wrong_is_refused():
    for good, bad in (
        ("} 7", "} seven"),
        ('loop="0"} 7', "loop=0} 7"),
        ("live 5", "live"),
        ("TYPE live gauge", "TYPE live gage"),
        ("# TYPE live gauge\n", ""),
        ("live 5\n", "live 5\nlive 5\n"),
        ('le="0.1"} 2', 'le="0.1"} 4'),
        ("_count{kind=\"read\"} 3", "_count{kind=\"read\"} 4"),
        ('{kind="read",le="+Inf"} 3', '{kind="read",le="9"} 3'),
        ('{kind="read"} 3\n', '{kind="read"} 3'),
    ):
        assert good in PAGE
        assert refused(nbd_metrics.parse, PAGE.replace(good, bad)).startswith("metrics")


@test
def a_counter_may_not_go_down_and_a_gauge_may():
    before = nbd_metrics.parse(PAGE)
    assert nbd_metrics.check_growth(before, before) == 0
    assert nbd_metrics.check_growth(before, nbd_metrics.parse(PAGE.replace("} 7", "} 8"))) == 1
    nbd_metrics.check_growth(before, nbd_metrics.parse(PAGE.replace("live 5", "live 4")))
    lower = nbd_metrics.parse(PAGE.replace("} 7", "} 6"))
    assert "from 7 down to 6" in refused(nbd_metrics.check_growth, before, lower)


# --- the soak -------------------------------------------------------------------------------------


@test
def memory_grows_from_the_most_it_was_before_it_settled():
    mib = 1024
    samples = [(0, 4 * mib, 9), (30, 9 * mib, 9), (60, 8 * mib, 9), (61, 8 * mib, 9)]
    assert nbd_soak.growth_mib(samples, 60) == -1
    assert nbd_soak.growth_mib([*samples, (90, 12 * mib, 9)], 60) == 3
    assert nbd_soak.growth_mib(samples[:2], 60) == 0


def serve_one(listener, size, answer):
    """A server of a single connection that takes GO and then answers with what it is given."""
    with listener.accept()[0] as peer:
        peer.sendall(nbd_visitors.HELLO + struct.pack(">H", 3))
        peer.recv(4, socket.MSG_WAITALL)
        peer.recv(16 + 6, socket.MSG_WAITALL)
        for kind, data in ((nbd_visitors.INFO, struct.pack(">HQH", 0, size, 1)),
                           (nbd_visitors.ACK, b"")):
            peer.sendall(struct.pack(">QIII", nbd_visitors.REPLY_MAGIC, nbd_visitors.OPTION_GO,
                                     kind, len(data)) + data)
        request = peer.recv(28, socket.MSG_WAITALL)
        cookie = struct.unpack(">IHHQQI", request)[3]
        peer.sendall(answer(cookie))


def visited(answer):
    """What a client of that server gets when it reads four bytes."""
    with tempfile.TemporaryDirectory(prefix="weir-") as folder:
        path = os.path.join(folder, "socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(path)
            listener.listen()
            server = threading.Thread(target=serve_one, args=(listener, 1 << 20, answer))
            server.start()
            try:
                with nbd_visitors.Client(path).go() as client:
                    assert client.size == 1 << 20
                    return client.read(0, 4)
            finally:
                server.join()


def simple(magic, error, cookie, data=b""):
    return struct.pack(">IIQ", magic, error, cookie) + data


@test
def a_visitor_takes_a_right_answer_and_no_other():
    magic = nbd_visitors.SIMPLE_MAGIC
    assert visited(lambda cookie: simple(magic, 0, cookie, b"data")) == b"data"
    for wrong in (
        lambda cookie: simple(magic + 1, 0, cookie, b"data"),
        lambda cookie: simple(magic, 5, cookie),
        lambda cookie: simple(magic, 0, cookie + 1, b"data"),
        lambda cookie: simple(magic, 0, cookie, b"dat"),
        lambda cookie: b"",
    ):
        assert refused(visited, wrong).startswith("a visitor")


# --- the command line -----------------------------------------------------------------------------


def run(*arguments):
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True,
                          timeout=HANG_S, check=False)


@test
def misuse_is_refused():
    for arguments, hint in (
        ((), "required"),
        (("fast",), "speed"),
        (("speed", "--pairs", "0"), "from 1"),
        (("speed", "--only", "steam"), "--only steam"),
        (("speed", "--only", "qemu-threads", "--subject", "qemu-threads"), "nobody is left"),
        (("speed", "--only", "tmpfs,inline"), "add disk"),
        (("speed", "--size", "17"), "at least 16M"),
        (("soak", "--minutes", "1", "--seconds", "8"), "not allowed"),
        (("fairness", "--server", "steam"), "invalid choice"),
    ):
        done = run(*arguments)
        assert done.returncode == 2, f"{arguments}: exit {done.returncode}"
        assert hint in done.stderr, f"{arguments}: {done.stderr}"


@test
def a_missing_program_is_a_reason_to_skip():
    done = run("soak", "--seconds", "8", "--program", "/nowhere/weir-nbd")
    assert done.returncode == 77 and "/nowhere/weir-nbd" in done.stdout, done


def main():
    failed = 0
    for function in TESTS:
        try:
            function()
        except Exception as error:  # one test's failure does not keep the others from running
            failed += 1
            print(f"FAILED {function.__name__}: {error!r}")
        else:
            print(f"ok     {function.__name__}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
