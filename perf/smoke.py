#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Does weir-perf run, and is what it prints well formed? Asserts nothing about speed.

usage: smoke.py PATH-OF-WEIR-PERF
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time

PERF = sys.argv[1]
HANG_S = 120
TESTS = []


def test(function):
    TESTS.append(function)
    return function


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


@test
def a_comparison_of_nops_has_the_documented_shape():
    document = run_json("compare", "--workload", "nop", "--engines", "weir,uring", "--pairs", "1")
    assert document["workload"] == "nop" and document["pairs"] == 1
    check_comparison(document, ["weir", "uring"])
    nop = next(task for task in document["tasks"] if task["name"] == "nop")
    assert nop["finished"] > 0
    for stage in ("wait", "flight", "delivery", "total"):
        check_latency(nop[stage])


@test
def a_comparison_of_three_sets_all_against_the_second():
    document = run_json(
        "compare", "--engines", "weir,uring,weir", "--pairs", "2", "--interval", "0.05"
    )
    check_comparison(document, ["weir", "uring", "weir"])
    assert [ratio["a"] for ratio in document["ratios"]] == ["weir", "weir"]


@test
def a_hot_file_is_read_again_and_its_residency_stated(folder):
    path = os.path.join(folder, "data")
    document = run_json(
        *("compare", "--workload", "file", "--pairs", "1", "--interval", "0.05"),
        *("--rw", "randread", "--size", "1M", "--path", path),
    )
    check_comparison(document, ["weir", "uring"])
    assert document["residency"]["before"] == 1
    assert os.path.getsize(path) == 1 << 20


@test
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


@test
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


@test
def the_probe_tells_what_was_chosen_and_why():
    document = run_json("probe")
    assert document["decision"]["chosen"] == document["facts"]["backend"] == "io_uring"
    assert document["facts"]["depth"] <= document["facts"]["depth_asked"]
    memory = document["facts"]["memory"]
    assert memory["total"] == sum(memory.values()) - memory["total"]
    done = run("probe")
    assert done.returncode == 0 and "chosen: io_uring" in done.stdout


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
        (["nop", "--engine", "steam"], "weir or uring"),
        (["nop", "--nonsense"], "--help"),
        (["nop", "surplus"], "--help"),
        (["file", "--rw", "sideways"], "randread"),
        (["file", "--block", "4097"], "multiple of 512"),
        (["file", "--block", "8k", "--size", "4k"], "larger"),
        (["file", "--size", "99999999G"], "--size"),
        (["compare", "--engines", "weir"], "two or more"),
        (["compare", "--workload", "steam"], "nop or file"),
        (["timer", "--timers", "0"], "from 1"),
    ):
        done = run(*arguments)
        assert done.returncode == 2, f"{arguments}: exit {done.returncode}"
        assert hint in done.stderr, f"{arguments}: {done.stderr}"
        assert done.stdout == "", f"{arguments}: {done.stdout}"


@test
def help_lists_every_subcommand():
    done = run("help")
    assert done.returncode == 0
    for name in ("all", "nop", "file", "timer", "compare", "probe", "help"):
        assert f"\n  {name} " in done.stdout
        if name != "help":
            assert run(name, "--help").returncode == 0


@test
def ctrl_c_prints_what_there_is():
    for arguments in (
        ["nop", "--seconds", "600", "--json", "-"],
        ["compare", "--pairs", "2000", "--json", "-"],
    ):
        with subprocess.Popen(
            [PERF, *arguments], stdout=subprocess.PIPE, start_new_session=True, text=True
        ) as process:
            wait_until_it_catches_ctrl_c(process)
            os.killpg(process.pid, signal.SIGINT)
            output, _ = process.communicate(timeout=HANG_S)
            assert process.returncode == 130, f"{arguments}: exit {process.returncode}"
            assert json.loads(output)["workload"] == "nop"


@test
def ctrl_c_in_the_middle_of_all_shows_the_parts_that_are_done(folder):
    path = os.path.join(folder, "data")
    arguments = ["all", "--size", "1M", "--path", path]
    with subprocess.Popen([PERF, *arguments], stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("2 of 4"):
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


def main():
    failed = 0
    with tempfile.TemporaryDirectory(dir=os.getcwd()) as folder:
        for function in TESTS:
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
