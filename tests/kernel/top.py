#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""top.py WEIR_TOP TOP_TARGET [TEST...]: what weir-top prints, beside a real service and beside one
that is made up."""
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile

from service import Service, run_tests
from top_check import DOCUMENT, LONG, TARGET, TOP, answer_of, made_up, once, row_of, run


# --- beside a service -------------------------------------------------------------------------


def once_shows_rates_and_latency_of_an_interval():
    with Service(TARGET, "blind") as service:
        text = once(service.path)
        assert f"pid {service.process.pid}" in text and os.path.realpath(TARGET) in text, text
        assert re.search(r"^over \d", text, re.M), text
        assert re.search(r"^main  (io_uring|epoll): ", text, re.M), text
        gate = r"^  main +\[.{20}\]  \d+ in flight of 16384, \d+ of 0 waiting$"
        assert re.search(gate, text, re.M), text
        rate, fails, moved, live, flying, _, queue, on_worker, *pairs = row_of(text, "fetch")
        assert queue == on_worker == "-", text  # of "digest" alone
        assert fails == "0" and moved[-1] in "kMG", text
        assert float(rate.rstrip("kM")) > 0 and live.isdigit(), text
        assert flying.isdigit() and int(flying) <= int(live), text
        for pair in pairs:
            assert re.fullmatch(r"[\d.]+[num]?s?/[\d.]+[num]?s?", pair), pair
        rate, _, _, live, flying, oldest, *_, wait = row_of(text, 'peer "1"')
        assert [rate, live, flying, wait] == ["0", "1", "1", "-"] and oldest != "-", text
        assert "-" not in row_of(text, "digest")[6:], text  # with queue and run
        assert re.match(r"weir-top  \d\d:\d\d:\d\d  /", text), text
        assert "not opened WEIR_INSPECTABLE" in text, text
        assert "\033" not in text


def once_json_of_a_stuck_process_lists_what_is_in_flight():
    with Service(TARGET) as service:
        service.stick()
        document = json.loads(once(service.path, "--json"))
        flying = [op for op in document["live"] if op["state"] == "in flight"]
        peer = next(op for op in flying if op["task"] == 'peer "1"')
        assert "top_target.c:" in peer["site"] and peer["fd"] >= 0 and peer["age_ns"] > 0, peer
        assert 0 < document["since_ns"] < document["taken_ns"], document
        text = once(service.path)
        assert re.search(r"in flight recv .*top_target\.c:\d+ \+stack$", text, re.M), text
        assert re.search(r"turns 0/s", text), text
        assert "no turn in this interval: what is listed as in flight may be back" in text, text
        assert "STANDS STILL" not in text, text  # nobody watches it
        service.go_on()


def a_watched_loop_that_stands_still_is_said_to():
    with Service(TARGET, "watched") as service:
        service.stick()
        once(service.path)
        assert re.search(
            r"^  STANDS STILL [\d.]+m?s in top_target\+0x[0-9a-f]+, the callback of a poll of poll "
            r"\(.*top_target\.c:\d+\)$",
            once(service.path),
            re.M,
        )
        service.go_on()
        while "STANDS STILL" in once(service.path):
            pass


def errors_are_shown_under_their_task():
    with Service(TARGET, "fails") as service:
        text = once(service.path)
        rate, fails, *_ = row_of(text, "broken")
        assert rate == fails != "0", text
        assert re.search(r"^    failed ([\d.k]+)/s: EBADF \1/s$", text, re.M), text
        assert text.count("failed") == 1, text


def without_a_terminal_it_goes_on_printing():
    with Service(TARGET) as service:
        for arguments, mark in [((), "weir-top  "), (("--json",), '{"taken_ns"')]:
            command = [TOP, "--interval", "0.5", *arguments, service.path]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                seen = 0
                while seen < 3:
                    line = process.stdout.readline()
                    assert line and "\033" not in line
                    seen += line.startswith(mark)
                process.kill()


def who_cannot_be_read_is_said_plainly():
    with tempfile.TemporaryDirectory(prefix="weir-") as folder:
        path = os.path.join(folder, "s")
        for make, part in [
            (lambda: None, "no such socket: is the service running, and did it open an endpoint"),
            (lambda: open(path, "w", encoding="ascii").close(), "no socket"),
        ]:
            make()
            done = run("--once", path)
            assert done.returncode == 1 and part in done.stderr and done.stdout == "", done
            assert done.stderr.startswith("weir-top: ") and done.stderr.count("\n") == 1, done
        os.unlink(path)
        socket.socket(socket.AF_UNIX).bind(path)
        done = run("--once", path)
        assert done.returncode == 1, done
        assert "has ended and left its socket behind (killed?)" in done.stderr, done
        done = run("--once", folder + "/" + "x" * 120)
        assert done.returncode == 1 and "longer" in done.stderr, done


def a_wrong_command_line_is_2():
    for line in ["", "a b", "--interval 0.4 a", "-i 1x a", "--twice a"]:
        arguments = line.split()
        done = run(*arguments)
        assert done.returncode == 2 and "weir-top" in done.stderr and done.stdout == "", done
        assert TOP not in done.stderr, done
    for option in ["--help", "-h", "-?"]:
        done = run(option)
        assert done.returncode == 0 and "Exit status" in done.stdout, done
    assert run("--version").stdout.startswith("weir-top ")


def a_stopped_process_is_said():
    with Service(TARGET) as service:
        os.kill(service.process.pid, signal.SIGSTOP)
        done = run("--once", service.path)
        os.kill(service.process.pid, signal.SIGCONT)
        assert done.returncode == 1 and done.stdout == "", done
        assert "no answer in 10 s: its process is stopped (a debugger, SIGSTOP)" in done.stderr


def output_that_cannot_be_written_is_1():
    with Service(TARGET) as service, open("/dev/full", "w", encoding="ascii") as full:
        done = subprocess.run(
            [TOP, "--once", "--interval", "0.5", service.path],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=LONG,
            check=False,
        )
        assert done.returncode == 1 and "standard output" in done.stderr, done


# --- beside one that is made up ---------------------------------------------------------------


def what_it_draws_is_what_it_was_told():
    with made_up(answer_of(json.dumps(DOCUMENT))) as path:
        text = once(path)
        for part in [
            "over 2.0s",
            "m?]0;x?ain (2 loops)  epoll: io_uring: sysctl: no",
            "[#####.....----------]  32 in flight of 64 (opened with 128, lowered for a task's ",
            "goal), 5 of 192 waiting\n",
            "timers 7, turns 100/s, refused 2/s",
            "1 idle task\n",
            "live ops: 9000, the oldest 2:",
            "    61s              in flight write        3           4096       512 Ärger?1mhe  ",
            "  900ns              at gate   call         -              -         0 Ärger?1mhe  ",
            " a.c:1\n",
        ]:
            assert part in text, (part, text)
        assert "\033" not in text and "\u009b" not in text
        assert "  offload" not in text  # there is none
        row = row_of(text, "Ärger?1mhe")
        pair = "1.5us/2.0ms"
        assert row == ["123k", "0", "2", "1+", "61s", pair, "-", pair, "-"], row
    blind = {**DOCUMENT, "live": None, "live_count": None, "since_ns": 0}
    with made_up(answer_of(json.dumps(blind))) as path:
        text = once(path)
        assert "since the loops were opened" in text and "live ops" not in text, text
        assert row_of(text, "Ärger?1mhe")[:5] == ["-", "-", "2", "0+", "-"], text
    with made_up(answer_of(json.dumps({**DOCUMENT, "loops": [], "tasks": [], "live": []}))) as path:
        assert "no loops" in once(path)


def row_with(counters, **more):
    """The document with one task that has these counters; what it prints of the task."""
    task = {**DOCUMENT["tasks"][0], "task": "t", "counters": counters, **more}
    with made_up(answer_of(json.dumps({**DOCUMENT, "tasks": [task]}))) as path:
        lines = once(path).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("  t "))
    return lines[at].split()[1:], lines[at + 1]


def each_way_to_fail_is_told_apart():
    errors = [{"errno": "ENOSPC", "error": -28, "times": 8}, {"error": -4095, "times": 2}]
    row, line = row_with(
        {"finished": 100, "failed": 14, "refused": 6, "expired": 2, "cancelled": 4},
        errors=errors,
        other_errors=4,
    )
    assert row[:2] == ["50", "11"], row
    assert line == (
        "    failed 7/s: ENOSPC 4/s, errno 4095 1/s, others 2/s; refused 3/s; expired 1/s"
        "; cancelled 2/s"
    ), line
    row, line = row_with({"finished": 2, "cancelled": 2})
    assert row[:2] == ["1", "0"] and line == "    cancelled 1/s", (row, line)
    row, line = row_with({"finished": 2})
    assert not line.startswith("    "), line


def a_loop_is_said_to_stand_still_when_it_does():
    at = {"phase": "callback", "since_ns": 4 * 10**9, "task": "t", "kind": "call", "site": "a.c:1",
          "callback": "p+0x1"}
    still = "  STANDS STILL 4.0s in p+0x1, the callback of a call of t (a.c:1)\n"
    quiet = "  no turn in this interval"
    for changes, turns, expected in [
        ({}, 0, still),
        ({"site": ""}, 0, still.replace(" (a.c:1)", "")),
        ({"phase": "turn", "site": ""}, 0, "  STANDS STILL 4.0s in a turn, but in no callback\n"),
        ({"since_ns": 99 * 10**6}, 1, None),
        ({"phase": "outside"}, 0, quiet),
        ({"phase": "outside"}, 1, None),
        ({"phase": "asleep"}, 0, None),  # it waits: what is in flight is
        (None, 0, quiet),
        (None, 1, None),
    ]:
        loop = {**DOCUMENT["loops"][0], "counters": {"turns": turns},
                "at": None if changes is None else {**at, **changes}}
        with made_up(answer_of(json.dumps({**DOCUMENT, "loops": [loop]}))) as path:
            text = once(path)
            assert ("STANDS STILL" in text) == ("STANDS" in (expected or "")), text
            assert (quiet in text) == (expected == quiet), text
            assert expected is None or expected in text, text


def ops_that_are_alike_are_one_line():
    op = {**DOCUMENT["live"][0], "site": "a.c:1"}
    other = {**op, "state": "at gate", "age_ns": 2000}
    live = [{**op, "age_ns": (60 - i) * 10**9, "fd": 3 + (i == 2)} for i in range(3)]
    live += [other, {**other, "site": "a.c:2"}, {**other, "site": "a.c:2", "frames": ["p+0x1"]}]
    live_count = len(live)
    document = {**DOCUMENT, "live": live, "live_count": live_count}
    with made_up(answer_of(json.dumps(document))) as path:
        text = once(path)
    lines = text[text.index("live ops: 6\n"):].splitlines()[1:]
    assert lines[0].split()[:6] == ["oldest", "newest", "ops", "state", "kind", "fd"], lines
    cells = [line.split() for line in lines[1:]]
    assert len(cells) == 3, lines
    assert cells[0][:7] == ["60s", "58s", "x3", "in", "flight", "write", ".."], cells
    assert cells[1][:4] == ["2.0us", "at", "gate", "write"] and cells[1][-1] == "a.c:1", cells
    assert cells[2][:3] == ["2.0us", "2.0us", "x2"] and cells[2][-2:] == ["a.c:2", "+stack"], cells
    assert row_of(text, "Ärger?1mhe")[2:5] == ["6", "3", "60s"], text  # of the list, which is whole


def an_answer_that_is_none_is_refused():
    body = json.dumps(DOCUMENT)
    for answer, part in [
        (b"", "hung up"),
        (None, "hung up"),
        (b"SSH-2.0-x\r\n", "no endpoint of weir"),
        (b"HTTP/2 200\r\n\r\n", "no endpoint of weir"),
        (answer_of("{"), "no endpoint of weir"),
        (answer_of("[]"), "no endpoint of weir"),
        (answer_of("{}"), "members are missing"),
        (answer_of(json.dumps({**DOCUMENT, "tasks": 3})), "members are missing"),
        (answer_of(body)[:-1], "ends too early"),
        (answer_of("16 connections\nmore", "503 Service Unavailable"), "503: 16 connections\n"),
        (answer_of("no such page", "404 Not Found"), "404: no such page"),
    ]:
        with made_up(answer) as path:
            done = run("--once", path)
            assert done.returncode == 1 and part in done.stderr and done.stdout == "", (part, done)
            assert done.stderr.count("\n") == 1, done


if __name__ == "__main__":
    run_tests(
        [
            once_shows_rates_and_latency_of_an_interval,
            once_json_of_a_stuck_process_lists_what_is_in_flight,
            a_watched_loop_that_stands_still_is_said_to,
            errors_are_shown_under_their_task,
            without_a_terminal_it_goes_on_printing,
            who_cannot_be_read_is_said_plainly,
            a_wrong_command_line_is_2,
            a_stopped_process_is_said,
            output_that_cannot_be_written_is_1,
            what_it_draws_is_what_it_was_told,
            each_way_to_fail_is_told_apart,
            a_loop_is_said_to_stand_still_when_it_does,
            ops_that_are_alike_are_one_line,
            an_answer_that_is_none_is_refused,
        ],
        sys.argv[3:],
    )
