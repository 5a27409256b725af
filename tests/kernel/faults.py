#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs the program `faults` under strace, which makes chosen io_uring_enter calls fail.

    faults.py PROGRAM work EINTR|EAGAIN|EBUSY|retval=0
        the N-th enter fails; the N-th and every second one after it; ten in a row: for N in 1..40
    faults.py PROGRAM open    the enters of open itself: the probe's NOP
    faults.py PROGRAM failed  EBADR: the loop must fail

A run whose trace shows no INJECTED counts as failed. Exit 77: skipped, with the reason.
"""
import concurrent.futures
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile

ENTERS = 40
AT_ONCE = 2
PROBLEMS_MAX = 4  # after which the rest is not run: each may take as long as the guards allow
LIMIT_S = 60  # a guard against hangs


class Run:
    """One run of the program under strace, and what its trace shows."""

    def __init__(self, program, mode, inject=None):
        self.name = f"{mode} {inject or 'undisturbed'}"
        with tempfile.NamedTemporaryFile("r", suffix=".trace") as trace:
            command = ["strace", "-f", "-qq", "-o", trace.name,
                       "-e", "trace=io_uring_enter,getppid"]
            if inject:
                command += ["-e", f"inject=io_uring_enter:{inject}"]
            self.code, self.output = limited(command + [program, mode])
            self.phases = phases(trace.read())

    def enters(self, phase):
        return len(self.phases[phase]) if phase < len(self.phases) else 0

    def injected(self, phase=None):
        chosen = self.phases if phase is None else self.phases[phase:phase + 1]
        return sum("INJECTED" in line for lines in chosen for line in lines)

    def problem(self):
        if self.code != 0:
            return f"exit {self.code}: {self.output.strip()}"
        if not self.output.endswith("OK\n"):
            return f"no OK: {self.output.strip()}"
        return None


def limited(command):
    # The leak check of a sanitized build cannot run under ptrace.
    options = os.environ.get("ASAN_OPTIONS", "")
    environment = dict(os.environ, ASAN_OPTIONS=f"{options}:detect_leaks=0".strip(":"))
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                             env=environment, start_new_session=True)
    try:
        output, _ = child.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        output, _ = child.communicate()
        return -1, f"hung for {LIMIT_S} s: {output}"
    return child.returncode, output


def phases(trace):
    """The enters before, between and after the program's marks; a call counts where it ends."""
    found = [[]]
    for line in trace.splitlines():
        if "getppid(" in line:
            found.append([])
        elif "io_uring_enter" in line and "<unfinished" not in line:
            found[-1].append(line)
    return found


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(77)


def need_strace():
    if not shutil.which("strace"):
        skip("strace is not installed")
    command = ["strace", "-o", "/dev/null", "-e", "inject=getppid:error=EPERM", "true"]
    tried = subprocess.run(command, capture_output=True, text=True)
    if tried.returncode != 0:
        skip(f"strace cannot trace here: {tried.stderr.strip()}")


def undisturbed(program, mode):
    run = Run(program, mode)
    if run.code != 0:
        print(f"{run.name}: {run.problem()}")
        sys.exit(1)
    return run


def counters_problem(run, fault):
    """What the loop counted must be what the trace shows: the work's, open's own too or not."""
    counters = dict(re.findall(r"(\w+)=(\d+)", run.output))
    least, most = run.injected(1), run.injected(0) + run.injected(1)
    if fault == "retval=0":
        # Short only where there was something to take; other enters just did not wait.
        name, least = "short", 0
    else:
        name = fault.removeprefix("error=")
    if not least <= int(counters[name]) <= most:
        return f"counted {counters[name]} {name}, but {least} to {most} were injected"
    return None


def work_problem(run, fault):
    if run.problem():
        return run.problem()
    if run.injected() == 0:
        return "nothing was INJECTED"
    return counters_problem(run, fault)


def run_all(program, mode, faults, problem_of):
    """Runs mode once per (fault, when), until too many had a problem; True if none had."""
    runs, problems = [], []

    def one(job):
        if len(problems) >= PROBLEMS_MAX:
            return
        run = Run(program, mode, f"{job[0]}:when={job[1]}")
        runs.append(run)
        problem = problem_of(run, job[0])
        if problem:
            problems.append(problem)
            print(f"FAILED {run.name}: {problem}", flush=True)

    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(one, faults))
    injected = sum(run.injected() for run in runs)
    print(f"{mode}: {len(runs)} of {len(faults)} runs, {injected} faults injected, "
          f"{len(problems)} failed")
    return not problems


def test_work(program, fault):
    plain = undisturbed(program, "work")
    enters = sum(plain.enters(phase) for phase in range(len(plain.phases)))
    print(f"undisturbed: {enters} enters, of these {plain.enters(0)} the probe's; "
          f"{plain.output.splitlines()[0]}")
    if enters < ENTERS + 2:
        print(f"FAILED: the program makes only {enters} enters")
        return False
    if fault != "retval=0":
        fault = f"error={fault}"
    whens = [form for n in range(1, ENTERS + 1) for form in (f"{n}", f"{n}+2", f"{n}..{n + 9}")]
    return run_all(program, "work", [(fault, when) for when in whens], work_problem)


def test_open(program):
    def problem_of(run, _):
        if run.problem():
            return run.problem()
        return None if run.injected(0) else "nothing was INJECTED into open"

    probes = undisturbed(program, "open").enters(0)
    print(f"open makes {probes} enters")
    if probes == 0:
        print("FAILED: open does not try its ring with a NOP")
        return False
    faults = [(fault, when) for fault in ("error=EINTR", "error=EAGAIN", "error=EBUSY", "retval=0")
              for n in range(1, probes + 1) for when in (f"{n}", f"{n}..{n + 2}")]
    return run_all(program, "open", faults, problem_of)


def test_failed(program):
    plain = undisturbed(program, "failed")
    before = plain.enters(0) + plain.enters(1)

    def problem_of(run, _):
        return run.problem() or (None if run.injected(2) else "nothing was INJECTED")

    return run_all(program, "failed", [("error=EBADR", f"{before + 1}")], problem_of)


def main():
    program, mode = sys.argv[1], sys.argv[2]
    need_strace()
    if mode == "work":
        passed = test_work(program, sys.argv[3])
    elif mode == "open":
        passed = test_open(program)
    else:
        passed = test_failed(program)
    sys.exit(0 if passed else 1)


main()
