# SPDX-License-Identifier: MIT
"""nbd_fio: runs fio's NBD engine against a server and reads what it measured."""

import contextlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import tempfile
import time

import nbd_servers

# Beyond the time asked for: a bound against hanging.
HANG_S = 60
DIRECTIONS = ("read", "write", "trim")
# What a run takes beside the seconds asked for: fio starts and connects twice.
OVERHEAD_S = 0.35


class Result:
    """What a fio run measured; latencies in us, of the direction with the most operations."""

    def __init__(self, report):
        jobs = report["jobs"]
        sums = {d: sum(job[d]["total_ios"] for job in jobs) for d in DIRECTIONS}
        main = max(DIRECTIONS, key=sums.get)
        self.operations = sum(sums.values())
        self.bytes = sum(job[d]["io_bytes"] for job in jobs for d in DIRECTIONS)
        runtime_ms = max(job[d]["runtime"] for job in jobs for d in DIRECTIONS)
        self.seconds = runtime_ms / 1000
        self.iops = self.operations / self.seconds if runtime_ms else 0.0
        self.mib_s = self.bytes / self.seconds / (1 << 20) if runtime_ms else 0.0
        percentiles = jobs[0][main]["clat_ns"].get("percentile", {})
        self.latency = {
            name: percentiles.get(key, 0) / 1000
            for name, key in (("p50", "50.000000"), ("p99", "99.000000"), ("p99.9", "99.900000"))
        }
        self.client_cpu = sum(job["usr_cpu"] + job["sys_cpu"] for job in jobs) / 100
        self.others = 0.0  # share of all CPUs that went to neither the client nor the server
        self.error = next((job["error"] for job in jobs if job["error"]), 0)


class Fio:
    """A fio process: made by loading()."""

    def __init__(self, uri, arguments, folder, seconds):
        self.seconds = seconds
        self.process = None
        handle, self.output = tempfile.mkstemp(prefix="fio-", suffix=".json", dir=folder)
        os.close(handle)
        self.folder = folder
        self.command = ["fio", f"--output={self.output}", "--output-format=json", "--eta=never",
                        "--ioengine=nbd", f"--uri={uri}", "--verify_state_save=0",
                        "--percentile_list=50:99:99.9", *arguments]
        # Not to a pipe: nobody reads it while fio runs.
        self.errors = tempfile.TemporaryFile(dir=folder)

    def start(self):
        with nbd_servers.Interrupts.put_off():
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL,
                                            stdout=subprocess.DEVNULL, stderr=self.errors,
                                            cwd=self.folder, start_new_session=True)

    def close(self):
        if self.process and self.process.poll() is None:
            # Its jobs are processes of the session that was made for it.
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.errors.close()
        os.unlink(self.output)

    def running(self):
        return self.process.poll() is None

    def stop(self):
        """Ends the run early. fio then says 128, and what it has measured."""
        if self.running():
            self.process.send_signal(signal.SIGINT)

    def result(self, codes=(0,)):
        """Waits for the end; raises Failure unless fio was content."""
        try:
            code = self.process.wait(timeout=self.seconds + HANG_S)
        except subprocess.TimeoutExpired:
            raise nbd_servers.Failure(f"fio hangs: {' '.join(self.command)}") from None
        self.errors.seek(0)
        said = self.errors.read().decode("utf-8", "replace").strip()[-1500:]
        if code not in codes:
            raise nbd_servers.Failure(f"fio ended with {code}: {said}")
        with open(self.output, encoding="utf-8") as file:
            text = file.read()
        # What its threads print comes before the document.
        result = Result(json.loads(text[text.index("{"):]))
        if result.error:
            raise nbd_servers.Failure(f"fio saw error {result.error}: {said}")
        return result


@contextlib.contextmanager
def loading(uri, arguments, folder, seconds):
    """fio at work while the block runs; it is killed if it still is at the end."""
    fio = Fio(uri, arguments, folder, seconds)
    try:
        fio.start()
        yield fio
    finally:
        fio.close()


def missing():
    """Why fio cannot do it, or ''."""
    if shutil.which("fio") is None:
        return "no fio"
    done = subprocess.run(["fio", "--enghelp=nbd"], capture_output=True, text=True, timeout=HANG_S,
                          check=False)
    return "" if "uri" in done.stdout else "a fio without its nbd engine"


def version(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, check=False)
    except FileNotFoundError:
        return ""
    number = re.search(r"\d+\.\d+(\.\d+)?", done.stdout)
    return number.group(0) if number else ""


def job(name, access, block, depth, seconds):
    return [f"--name={name}", f"--rw={access}", f"--bs={block}", f"--iodepth={depth}",
            "--time_based", f"--runtime={round(seconds * 1000)}ms", "--norandommap"]


def machine_busy_s():
    """The time that the machine's CPUs were not idle, by whoever it was, its host included."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _idle, _waiting, *rest = map(int, file.readline().split()[1:9])
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")


def own_s():
    """What this program and the clients that it has waited for have used."""
    return sum(sum(resource.getrusage(whose)[:2])
               for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def measure(server, arguments, folder, seconds):
    """One run: what fio measured, and the server's time on a CPU for each operation, in us."""
    begin, busy_s, before_s, ours_s = time.monotonic(), machine_busy_s(), server.cpu_s(), own_s()
    with loading(server.uri, arguments, folder, seconds) as fio:
        result = fio.result()
    used_s = server.cpu_s() - before_s
    others_s = machine_busy_s() - busy_s - used_s - (own_s() - ours_s)
    # The rest of the machine's work is somebody else's: a figure beside much of it means little.
    result.others = max(others_s / (time.monotonic() - begin) / os.cpu_count(), 0.0)
    if not result.operations:
        raise nbd_servers.Failure(f"{nbd_servers.title(server.name)}: fio did nothing")
    return result, used_s / result.operations * 1e6


def wait_until_busy(server, used_s=0.05):
    """Returns when the server has worked for so long: its clients have begun."""
    begin, deadline = server.cpu_s(), time.monotonic() + HANG_S
    while server.cpu_s() - begin < used_s:
        if time.monotonic() > deadline or not server.alive():
            raise nbd_servers.Failure(f"{nbd_servers.title(server.name)}: its clients do nothing")
        time.sleep(0.01)
