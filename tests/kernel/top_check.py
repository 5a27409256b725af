# SPDX-License-Identifier: MIT
"""top_check.py: runs weir-top, plainly or on a terminal of its own, for top.py and top_screen.py;
and an endpoint that is made up."""
import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time

TOP, TARGET = sys.argv[1:3]
LONG = 60  # against hanging, s
ENTER, LEAVE = "\033[?1049h", "\033[?1049l"


def run(*arguments, **options):
    return subprocess.run(
        [TOP, *arguments], capture_output=True, text=True, timeout=LONG, check=False, **options
    )


def once(path, *arguments):
    done = run("--once", "--interval", "0.5", *arguments, path)
    assert done.returncode == 0 and done.stderr == "", (done.returncode, done.stderr)
    return done.stdout


def row_of(text, name):
    """The cells of a line of the table behind its name."""
    line = next(line for line in text.splitlines() if line.startswith(f"  {name} "))
    return line[len(name) + 2:].split()


@contextlib.contextmanager
def made_up(answer):
    """An endpoint that answers always this; None: a reset. Its path."""
    with tempfile.TemporaryDirectory(prefix="weir-") as folder:
        path = os.path.join(folder, "s")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(8)

        def serve():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):
                    if answer is None:
                        select.select([connection], [], [], LONG)
                        continue  # what it does not read makes it a reset
                    connection.recv(4096)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield path
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(LONG)
        listener.close()


def answer_of(body, status="200 OK"):
    return f"HTTP/1.0 {status}\r\nContent-Length: {len(body.encode())}\r\n\r\n{body}".encode()


HISTOGRAM = {"count": 10, "p50_ns": 1500, "p99_ns": 2000000}
DOCUMENT = {
    "taken_ns": 12 * 10**9,
    "since_ns": 10 * 10**9,
    "loops": [
        {
            "label": "m\033]0;x\007ain",
            "loops": 2,
            "backend": "epoll",
            "reason": "io_uring: sysctl: no",
            "has_state": True,
            "counters": {"turns": 200, "timers": 7, "refused": 4},
            "gates": [
                {
                    "gate": "main",
                    "depth": 64,
                    "depth_max": 128,
                    "in_flight": 32,
                    "waiting": 5,
                    "places": 256,
                    "reason": "task_goal",
                },
                {"gate": "offload", "depth": 0, "depth_max": 0},
            ],
        }
    ],
    "tasks": [
        {
            "loop": "m\033]0;x\007ain",
            "task": "Ärger\u009b1mhe",
            "counters": {"finished": 246912, "live": 2},
            "stages": {"wait": {"count": 0}, "flight": HISTOGRAM, "run": HISTOGRAM},
        },
        {"loop": "m\033]0;x\007ain", "task": "idle", "counters": {}, "stages": {}},
    ],
    "live_count": 9000,
    "live": [
        {
            "loop": "m\033]0;x\007ain",
            "task": "Ärger\u009b1mhe",
            "kind": "write",
            "state": "in flight",
            "site": "a.c:1",
            "fd": 3,
            "offset": 4096,
            "length": 512,
            "age_ns": 61 * 10**9,
        },
        {
            "loop": "m\033]0;x\007ain",
            "task": "Ärger\u009b1mhe",
            "kind": "call",
            "state": "at gate",
            "site": "b.c:2",
            "fd": -1,
            "offset": -1,
            "age_ns": 900,
        },
    ],
}


class Screen:
    """weir-top on a terminal of its own."""

    def __init__(self, path, lines=24, columns=80, **environment):
        self.master, terminal = pty.openpty()
        self.resize(lines, columns)
        self.before = termios.tcgetattr(terminal)
        self.terminal = terminal
        self.seen = ""  # since the test last cleared it
        self.whole = ""
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
            for fd in range(3):
                os.dup2(terminal, fd)
            environment = {**os.environ, "TERM": "xterm", **environment}
            os.execve(TOP, [TOP, "-i", "0.5", path], environment)

    def resize(self, lines, columns):
        self.size = lines, columns
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def read_some(self):
        """False: the time is up."""
        ready, _, _ = select.select([self.master], [], [], 0.2)
        if ready:
            part = os.read(self.master, 1 << 16).decode(errors="replace")
            self.seen += part
            self.whole += part
        return bool(ready)

    def wait_for(self, text):
        end = time.monotonic() + LONG
        while text not in self.seen:
            assert time.monotonic() < end, f"no {text!r} in {self.seen!r}"
            self.read_some()

    def next_frame(self):
        """The lines of a whole frame that begins after now."""
        self.seen = ""
        self.wait_for("\033[J")  # the end of one that may be old
        self.seen = self.seen[self.seen.index("\033[J") + 3:]
        self.wait_for("\033[J")
        frame = self.seen[self.seen.index("\033[H") + 3:self.seen.index("\033[J")]
        return frame.replace("\033[K", "").replace("\r", "").split("\n")

    def wait_end(self):
        end = time.monotonic() + LONG
        while True:
            self.read_some()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                break
            assert time.monotonic() < end, "it does not end"
        while self.read_some():
            pass
        return os.waitstatus_to_exitcode(status)

    def check_restored(self):
        assert self.whole.count(LEAVE) == self.whole.count(ENTER) > 0, self.whole
        assert self.whole.rindex(LEAVE) > self.whole.rindex(ENTER)
        assert self.whole.rindex("\033[?25h") > self.whole.rindex("\033[?25l")
        assert "\033[" not in self.whole[self.whole.rindex(LEAVE) + len(LEAVE):]
        assert termios.tcgetattr(self.terminal) == self.before

    def close(self):
        with contextlib.suppress(OSError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.master)
        os.close(self.terminal)


@contextlib.contextmanager
def screen_of(path, **options):
    screen = Screen(path, **options)
    try:
        yield screen
    finally:
        screen.close()


def plain(line):
    return re.sub(r"\033\[\d+m", "", line)
