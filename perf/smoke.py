#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Does weir-perf run, and is what it prints well formed? Asserts nothing about speed.

usage: smoke.py PATH-OF-WEIR-PERF
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

PERF = sys.argv[1]
HANG_S = 120
TESTS = []

# Every engine with every workload that it has, and what a run of it needs.
SHORT = ("--seconds", "0.05")
WORKLOADS = {
    "nop": (),
    "file": ("--size", "1M", "--depth", "4", "--workers", "2"),
    "echo": ("--connections", "3"),
    "offload": ("--depth", "4", "--workers", "2"),
}
WEIR = ("weir", "weir@auto", "weir@io_uring", "weir@epoll")
ENGINES = {
    "nop": (*WEIR, "uring"),
    "file": (*WEIR, "uring", "psync", "pread"),
    "echo": (*WEIR, "uring", "epoll"),
    "offload": (*WEIR, "mutex"),
}


def test(function):
    TESTS.append(function)
    return function


def needs_ring(function):
    function.needs_ring = True
    return test(function)


# Why there is no io_uring here, or "".
WITHOUT_RING = ""
ON_RING = ("weir@io_uring", "uring", "mutex")


def engines_of(workload):
    return [name for name in ENGINES[workload] if not WITHOUT_RING or name not in ON_RING]


def run(*arguments):
    return subprocess.run([PERF, *arguments], capture_output=True, text=True, timeout=HANG_S)


def run_json(*arguments):
    done = run(*arguments, "--json", "-")
    assert done.returncode == 0, f"exit {done.returncode}: {done.stderr}"
    return json.loads(done.stdout)


def wait_until_it_catches_ctrl_c(process):
    """A signal before the handler stands would test the shell, not the program."""
    end = time.monotonic() + HANG_S
    while time.monotonic() < end:
        with open(f"/proc/{process.pid}/status", encoding="ascii") as status:
            caught = next(line for line in status if line.startswith("SigCgt:"))
        if int(caught.split()[1], 16) & 1 << (signal.SIGINT - 1):
            return
        time.sleep(0.01)
    raise AssertionError("SIGINT was never caught")


def check_latency(latency):
    assert latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["p99.9"]
    assert latency["samples"] > 0


def check_comparison(document, engines):
    assert [engine["name"] for engine in document["engines"]] == engines
    for engine in document["engines"]:
        for figure in ("ops_per_s", "cpu_ns_per_op"):
            summary = engine[figure]
            assert 0 < summary["min"] <= summary["median"] <= summary["max"]
        check_latency(engine["latency_ns"])
    assert [ratio["b"] for ratio in document["ratios"]] == [engines[1]] * (len(engines) - 1)
    assert document["control"]["a"] == document["control"]["b"] == engines[0]
    for ratio in [*document["ratios"], document["control"]]:
        for figure in ("ops_per_s", "cpu_ns_per_op"):
            assert 0 < ratio[figure]["q1"] <= ratio[figure]["median"] <= ratio[figure]["q3"]
    assert document["machine"]["kernel"] == os.uname().release


@needs_ring
def a_comparison_of_nops_has_the_documented_shape():
    document = run_json("compare", "--workload", "nop", "--engines", "weir,uring", "--pairs", "1")
    assert document["workload"] == "nop" and document["pairs"] == 1
    check_comparison(document, ["weir", "uring"])
    nop = next(task for task in document["tasks"] if task["name"] == "nop")
    assert nop["finished"] > 0
    for stage in ("wait", "flight", "delivery", "total"):
        check_latency(nop[stage])


@needs_ring
def a_comparison_of_three_sets_all_against_the_second():
    document = run_json(
        "compare", "--engines", "weir,uring,weir", "--pairs", "2", "--interval", "0.05"
    )
    check_comparison(document, ["weir", "uring", "weir"])
    assert [ratio["a"] for ratio in document["ratios"]] == ["weir", "weir"]


@needs_ring
def a_hot_file_is_read_again_and_its_residency_stated(folder):
    path = os.path.join(folder, "data")
    document = run_json(
        *("compare", "--workload", "file", "--pairs", "1", "--interval", "0.05"),
        *("--rw", "randread", "--size", "1M", "--path", path),
    )
    check_comparison(document, ["weir", "uring"])
    assert document["residency"]["before"] == 1
    assert os.path.getsize(path) == 1 << 20


@needs_ring
def a_file_is_measured_with_every_kind_of_access(folder):
    path = os.path.join(folder, "data")
    for access in ("randread", "randwrite", "read", "write", "randrw"):
        for engine in ("weir", "uring"):
            document = run_json(
                *("file", "--engine", engine, "--rw", access, "--seconds", "0.05"),
                *("--size", "1M", "--block", "16k", "--depth", "4", "--path", path),
            )
            assert document["ops"] > 0 and document["engine"] == engine
            check_latency(document["latency_ns"])


@test
def every_engine_runs_every_workload_that_it_has_with_and_without_spin():
    for workload, more in WORKLOADS.items():
        for engine in engines_of(workload):
            for spin_ns in (0, 20000):
                document = run_json(
                    *(workload, "--engine", engine, "--spin", f"{spin_ns}ns", *SHORT, *more)
                )
                assert document["workload"] == workload and document["engine"] == engine
                assert document["ops"] > 0, f"{workload} on {engine}: no ops"
                assert document["cpu_ns_per_op"] > 0, f"{workload} on {engine}: no CPU time"
                assert document["spin_ns"] == spin_ns
                assert ("policy" in document) == (engine in WEIR)
                check_latency(document["latency_ns"])


@test
def an_engine_without_the_workload_says_which_have_it():
    for workload, names in ENGINES.items():
        for engine in {name for names in ENGINES.values() for name in names} - set(names):
            done = run(workload, "--engine", engine, *SHORT)
            assert done.returncode == 2, f"{workload} on {engine}: exit {done.returncode}"
            assert f'no workload "{workload}"' in done.stderr and "weir" in done.stderr


@needs_ring
def the_policy_is_in_the_name_or_beside_it():
    document = run_json("nop", *SHORT, "--policy", "epoll")
    assert document["policy"] == "epoll"
    document = run_json("nop", *SHORT, "--policy", "epoll", "--engine", "weir@io_uring")
    assert document["policy"] == "io_uring"
    for arguments, hint in (
        (["--engine", "weir@steam"], "weir@epoll"),
        (["--engine", "uring@epoll"], "only weir takes a policy"),
        (["--policy", "steam"], "give auto, io_uring or epoll"),
    ):
        done = run("nop", *arguments)
        assert done.returncode == 2 and hint in done.stderr, f"{arguments}: {done.stderr}"


@test
def echoes_go_over_either_transport_in_any_size_with_silent_connections():
    for transport in ("tcp", "unix"):
        for engine in engines_of("echo"):
            for size in (1, 64, 4 << 20):
                document = run_json(
                    *("echo", "--engine", engine, "--transport", transport, "--size", str(size)),
                    *("--connections", "2", "--idle", "300", *SHORT),
                )
                options = document["options"]
                assert document["ops"] > 0 and document["idle"] == 300
                assert options["transport"] == transport and options["size"] == size
                assert options["connections"] == 2 and options["client_spin"] is False


@test
def the_tasks_of_an_echo_are_those_of_its_server():
    document = run_json("echo", "--connections", "2", "--client-spin", *SHORT)
    tasks = {task["name"]: task["finished"] for task in document["tasks"]}
    # Beside the measured ones each connection has proven itself by one.
    assert tasks["echo send"] == document["ops"] + 2
    assert document["options"]["client_spin"] is True


def await_cpus(count, tied, *arguments):
    """The CPUs of each child's first thread, once there are so many and all are tied or none is."""
    cpus = []
    with subprocess.Popen([PERF, *arguments], stdout=subprocess.DEVNULL) as process:
        try:
            until = time.monotonic() + HANG_S / 4
            while time.monotonic() < until and process.poll() is None:
                time.sleep(0.05)
                try:
                    with open(f"/proc/{process.pid}/task/{process.pid}/children") as file:
                        cpus = [os.sched_getaffinity(int(pid)) for pid in file.read().split()]
                except ProcessLookupError:
                    continue
                if len(cpus) == count and all((len(one) == 1) == tied for one in cpus):
                    break
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(HANG_S)
    return cpus


@test
def engines_are_tied_to_one_cpu_in_comparisons_and_servers_on_demand():
    several = len(os.sched_getaffinity(0)) > 1
    compared = await_cpus(3, True, "compare", "--workload", "nop", "--engines", "weir,uring")
    assert [len(cpus) for cpus in compared] == [1, 1, 1], compared
    echo = ("echo", "--connections", "2", "--seconds", "60")
    pinned = await_cpus(2, True, *echo, "--pin")
    assert [len(cpus) for cpus in pinned] == [1, 1], pinned
    assert not several or pinned[0] != pinned[1], pinned
    free = await_cpus(2, not several, *echo)
    assert [len(cpus) > 1 for cpus in free] == [several, several], free


@test
def engines_of_one_name_are_told_apart_by_what_they_are_given():
    arguments = (
        *("compare", "--workload", "echo", "--engines", "weir@epoll,weir@epoll,epoll"),
        *("--idle", "200,0", "--spin", "0,0,10us", "--connections", "2"),
        *("--pairs", "2", "--interval", "0.05"),
    )
    document = run_json(*arguments)
    check_comparison(document, ["weir@epoll", "weir@epoll", "epoll"])
    assert [engine["idle"] for engine in document["engines"]] == [200, 0, 0]
    assert [engine["spin_ns"] for engine in document["engines"]] == [0, 0, 10000]
    done = run(*arguments)
    assert "weir@epoll idle 200 / weir@epoll " in done.stdout, done.stdout
    assert "epoll spin 10us / weir@epoll " in done.stdout, done.stdout


@test
def all_does_without_io_uring_what_can_be_done_without(folder):
    if not WITHOUT_RING and shutil.which("strace") is None:
        print("skip: all without io_uring: no strace to deny it with")
        return
    deny = ("strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null")
    deny += ("-e", "trace=io_uring_setup", "-e", "inject=io_uring_setup:error=EPERM")
    path = os.path.join(folder, "data")
    out = os.path.join(folder, "out.json")
    command = [PERF, "all", "--size", "1M", "--path", path, "--json", out]
    # A leak check cannot look at a process that is traced.
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
    done = subprocess.run(
        [*(() if WITHOUT_RING else deny), *command],
        capture_output=True,
        text=True,
        timeout=HANG_S,
        env=environment,
    )
    assert done.returncode == 0, f"exit {done.returncode}: {done.stderr}"
    assert "no io_uring here" in done.stdout, done.stdout
    with open(out, encoding="utf-8") as file:
        parts = json.load(file)["comparisons"]
    names = [[engine["name"] for engine in part["engines"]] for part in parts]
    assert names == [["weir@epoll", "psync"]] * 2 + [["weir@epoll", "epoll"]]


@test
def more_connections_than_fds_are_refused_with_a_hint():
    done = subprocess.run(
        ["sh", "-c", 'ulimit -n 100 && exec "$0" echo --connections 50 --idle 50', PERF],
        capture_output=True,
        text=True,
        timeout=HANG_S,
    )
    assert done.returncode == 1 and "ulimit -Hn" in done.stderr, done.stderr


@needs_ring
def files_take_every_route(folder):
    path = os.path.join(folder, "data")
    for engine in ("weir@io_uring", "weir@epoll"):
        for route in ("auto", "ring", "inline", "memory", "offload"):
            document = run_json(
                *("file", "--engine", engine, "--route", route, "--rw", "randrw", *SHORT),
                *("--size", "1M", "--depth", "4", "--workers", "2", "--path", path),
            )
            assert document["ops"] > 0 and document["route"] == route


@test
def somebody_elses_file_is_not_written_to(folder):
    path = os.path.join(folder, "precious")
    with open(path, "wb") as file:
        file.write(b"precious" * 8192)
    for access in ("randwrite", "write", "randrw"):
        done = run("file", "--rw", access, "--size", "64k", "--path", path)
        assert done.returncode == 1 and "--overwrite" in done.stderr, done.stderr
    done = run("file", "--rw", "read", "--size", "1M", "--path", path)
    assert done.returncode == 1 and "--size" in done.stderr, done.stderr
    with open(path, "rb") as file:
        assert file.read() == b"precious" * 8192


@needs_ring
def user_space_work_is_compared_without_the_kernel():
    document = run_json("nop", "--fake-enter", "--pairs", "1")
    assert [part["options"]["depth"] for part in document] == [32, 1]
    for part in document:
        assert part["fake_enter"] is True
        check_comparison(part, ["weir", "uring"])


@test
def timers_and_lateness_are_measured():
    document = run_json("timer", "--timers", "2000", "--samples", "10")
    for phase in ("start", "cancel", "fire", "rearm"):
        assert document["ns_each"][phase] > 0
    assert document["lateness"]["samples"] == 10
    for percent in ("p50", "p99"):
        assert document["lateness"][percent]["weir_ns"] >= 0, "a timer came early"


@needs_ring
def the_probe_tells_what_was_chosen_and_why():
    document = run_json("probe")
    assert document["decision"]["chosen"] == document["facts"]["backend"] == "io_uring"
    assert document["facts"]["depth"] <= document["facts"]["depth_asked"]
    memory = document["facts"]["memory"]
    assert memory["total"] == sum(memory.values()) - memory["total"]
    done = run("probe")
    assert done.returncode == 0 and "chosen: io_uring" in done.stdout


def run_gate(*arguments):
    return run_json(
        *("gate", "--rounds", "1", "--interval", "0.05", "--hold", "0.05", "--window", "0.02"),
        *("--size", "8M", "--pool", "8192"),
        *(("--policy", "epoll") if WITHOUT_RING else ()),
        *arguments,
    )


def check_load(load, multipliers):
    """With the gate and without it, side by side; every arrival has one answer."""
    points = load["points"]
    assert load["rounds"] == 1
    assert [point["multiplier"] for point in points[::2]] == multipliers
    assert [point["gate"] for point in points] == [True, False] * len(multipliers)
    for point in points:
        assert point["trials"] == 1 and point["offered"] > 0, point
        assert point["offered"] == point["accepted"] + point["refused"], point
        assert point["rss_min_bytes"] <= point["rss_max_bytes"], point
        assert point["intended_p50_ns"]["median"] <= point["intended_p99_ns"]["median"], point
        assert point["born_p50_ns"]["median"] <= point["born_p99_ns"]["median"], point
        assert point["gate"] or point["refused"] == 0, "nothing refuses without a gate"
        assert not point["gate"] or point["exhausted"] == point["cancelled"] == 0, point


@test
def overload_is_measured_on_a_file_and_on_an_echo():
    for workload in ("file", "echo"):
        document = run_gate("--workload", workload, "--experiment", "sweep,hold")
        assert document["workload"] == "gate" and document["complete"] is True
        assert document["options"]["workload"] == workload
        check_load(document["sweep"], [0.5, 0.75, 1, 1.5, 2, 3])
        check_load(document["hold"], [2])
        assert document["tasks"] == [] and "goal" not in document


@test
def two_tasks_share_a_loop_by_five_sets_of_rules():
    for policy in ("epoll",) if WITHOUT_RING else ("io_uring", "epoll"):
        (tasks,) = run_gate("--experiment", "tasks", "--policy", policy)["tasks"]
        assert tasks["policy"] == policy and tasks["rounds"] == 1
        for rules in ("shares_off", "shares_on", "goal"):
            assert tasks[rules]["foreground_per_s"]["median"] > 0, rules
            assert tasks[rules]["background_bytes_per_s"]["median"] > 0, rules
            assert tasks[rules]["foreground_p99_over_alone"]["median"] > 0, rules
            check_latency(tasks[rules]["turns_ns"])
        assert tasks["foreground_alone"]["background_bytes_per_s"]["median"] == 0
        assert tasks["background_alone"]["foreground_per_s"]["median"] == 0


@test
def a_latency_goal_is_judged_by_windows_beside_a_run_without_it():
    goal = run_gate("--experiment", "goal")["goal"]
    for mode in ("with", "without"):
        (trial,) = goal[mode]["trials"]
        judged = [window for window in trial["windows"] if window["judged"]]
        assert goal[mode]["windows"] == len(judged) == len(trial["windows"]) - 1 == 8
        assert goal[mode]["held"] == sum(window["held"] for window in judged)
        assert [window["multiplier"] for window in judged] == [0.5, 0.5, 3, 3] * 2
        for window in trial["windows"]:
            limit = goal["slack"] * trial["goal_ns"]
            assert window["held"] == (window["flight_p99_ns"] <= limit), window
            assert all(1 <= depth <= 32 for depth in window["depths"]), window
    without = goal["without"]["trials"][0]["windows"]
    assert all(depth == 32 for window in without for depth in window["depths"])


@test
def the_curves_are_drawn_without_anything_from_elsewhere(folder):
    page = os.path.join(folder, "gate.html")
    run_gate("--html", page, "--svg-dir", folder)
    names = [os.path.join(folder, name + ".svg") for name in ("load", "tasks", "goal")]
    for name in names:
        root = xml.etree.ElementTree.parse(name).getroot()
        assert root.tag.endswith("svg") and len(root) > 20, name
    for name in (page, *names):
        with open(name, encoding="utf-8") as file:
            text = file.read()
        assert "prefers-color-scheme" in text and "<script" not in text
        for foreign in ("href", "src=", "url(", "@import"):
            assert foreign not in text, f"{name}: {foreign}"
        assert name == page or ("nan" not in text and "inf" not in text), name
    with open(page, encoding="utf-8") as file:
        assert file.read().count("<svg") == 3


@test
def json_goes_to_a_file_beside_the_text(folder):
    path = os.path.join(folder, "out.json")
    done = run("nop", "--seconds", "0.05", "--json", path)
    assert done.returncode == 0 and "ops/s" in done.stdout, done.stderr
    with open(path, encoding="utf-8") as file:
        assert json.load(file)["workload"] == "nop"
    done = run("nop", "--seconds", "0.05", "--json", os.path.join(folder, "no", "such", "folder"))
    assert done.returncode == 1 and "--json" in done.stderr


@test
def wrong_command_lines_exit_2_and_say_what_to_do():
    for arguments, hint in (
        ([], "usage"),
        (["nope"], "weir-perf help"),
        (["nop", "--depth", "0"], "from 1 to 32764"),
        (["nop", "--depth", "many"], "from 1 to 32764"),
        (["nop", "--engine", "steam"], "weir uring epoll psync pread mutex"),
        (["nop", "--spin", "2s"], "such as 50us"),
        (["nop", "--spin", "1us,2us"], "one for each engine"),
        (["file", "--route", "scenic"], "inline"),
        (["echo", "--transport", "pigeon"], "tcp or unix"),
        (["echo", "--connections", "0"], "from 1"),
        (["echo", "--connections", "30000", "--idle", "30000"], "together"),
        (["echo", "--size", "0"], "from 1 to 16M"),
        (["compare", "--workload", "echo", "--size", "1G"], "at most 16M"),
        (["offload", "--workers", "0"], "from 1"),
        (["nop", "--nonsense"], "--help"),
        (["nop", "surplus"], "--help"),
        (["file", "--rw", "sideways"], "randread"),
        (["file", "--block", "4097"], "multiple of 512"),
        (["file", "--block", "8k", "--size", "4k"], "larger"),
        (["file", "--size", "99999999G"], "--size"),
        (["compare", "--engines", "weir"], "two or more"),
        (["compare", "--workload", "steam"], "nop, file, echo or offload"),
        (["timer", "--timers", "0"], "from 1"),
        (["gate", "--experiment", "sweep,steam"], "sweep,hold,tasks,goal"),
        (["gate", "--workload", "nop"], "file or echo"),
        (["gate", "--policy", "steam"], "io_uring or epoll"),
        (["gate", "--rounds", "0"], "from 1"),
        (["gate", "--pool", "96"], "more than --depth and --waiting"),
        (["gate", "--depth", "8", "--experiment", "tasks"], "16 at least"),
        (["gate", "--hold", "forever"], "seconds"),
        (["gate", "surplus"], "--help"),
    ):
        done = run(*arguments)
        assert done.returncode == 2, f"{arguments}: exit {done.returncode}"
        assert hint in done.stderr, f"{arguments}: {done.stderr}"
        assert done.stdout == "", f"{arguments}: {done.stdout}"


@test
def help_lists_every_subcommand():
    done = run("help")
    assert done.returncode == 0
    names = ("all", "nop", "file", "echo", "offload", "timer", "compare", "gate", "probe", "help")
    for name in names:
        assert f"\n  {name} " in done.stdout
        if name != "help":
            assert run(name, "--help").returncode == 0


@needs_ring
def ctrl_c_prints_what_there_is():
    for arguments in (
        ["nop", "--seconds", "600", "--json", "-"],
        ["compare", "--pairs", "2000", "--json", "-"],
        ["echo", "--seconds", "600", "--json", "-"],
        ["gate", "--workload", "echo", "--experiment", "hold", "--hold", "600", "--json", "-"],
    ):
        with subprocess.Popen(
            [PERF, *arguments], stdout=subprocess.PIPE, start_new_session=True, text=True
        ) as process:
            wait_until_it_catches_ctrl_c(process)
            os.killpg(process.pid, signal.SIGINT)
            output, _ = process.communicate(timeout=HANG_S)
            assert process.returncode == 130, f"{arguments}: exit {process.returncode}"
            name = arguments[0] if arguments[0] != "compare" else "nop"
            assert json.loads(output)["workload"] == name


@needs_ring
def ctrl_c_in_the_middle_of_all_shows_the_parts_that_are_done(folder):
    path = os.path.join(folder, "data")
    arguments = ["all", "--size", "1M", "--path", path]
    with subprocess.Popen([PERF, *arguments], stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("2 of 5"):
                break
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=HANG_S)
    assert process.returncode == 130, f"exit {process.returncode}"
    assert "weir/raw" in output and "4 KiB random reads, 32 in flight" in output, output
    assert "task read" in output and "no-op" not in output, output


@test
def nothing_but_text_goes_to_what_is_no_terminal():
    done = run("nop", "--seconds", "0.05")
    assert done.returncode == 0 and done.stderr == "" and "\033" not in done.stdout


def find_ring():
    done = run("nop", "--engine", "weir@io_uring", *SHORT)
    return "" if done.returncode == 0 else done.stderr.strip()


def main():
    global WITHOUT_RING
    WITHOUT_RING = find_ring()
    failed = 0
    if WITHOUT_RING:
        print(f"without io_uring: {WITHOUT_RING}")
    with tempfile.TemporaryDirectory(dir=os.getcwd()) as folder:
        for function in TESTS:
            if WITHOUT_RING and hasattr(function, "needs_ring"):
                print(f"skip: {function.__name__}: needs io_uring")
                continue
            try:
                if function.__code__.co_argcount == 1:
                    function(folder)
                else:
                    function()
                print(f"ok: {function.__name__}")
            except (AssertionError, ValueError, KeyError, subprocess.TimeoutExpired) as error:
                failed += 1
                print(f"FAILED: {function.__name__}: {type(error).__name__}: {error}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
