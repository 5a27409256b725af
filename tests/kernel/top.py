#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""top.py WEIR_TOP TOP_TARGET [TEST...]: weir-top beside a real service, beside one that is made up,
and on a terminal."""
import contextlib
import fcntl
import json
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

from service import Service, run_tests

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


# --- beside a service -------------------------------------------------------------------------


def once_shows_rates_and_latency_of_an_interval():
    with Service(TARGET, "blind") as service:
        text = once(service.path)
        assert f"pid {service.process.pid}" in text and os.path.realpath(TARGET) in text, text
        assert re.search(r"^over \d", text, re.M), text
        assert re.search(r"^main  (io_uring|epoll): ", text, re.M), text
        assert re.search(r"^  main +\[.{20}\]  \d+ in flight of 16384, ", text, re.M), text
        rate, live, flying, _, wait, flight, delivery = row_of(text, "fetch")[:7]
        assert float(rate.rstrip("kM")) > 0 and live.isdigit(), text
        assert flying.isdigit() or flying == "-", text
        for pair in [wait, flight, delivery]:
            assert re.fullmatch(r"[\d.]+[num]?s?/[\d.]+[num]?s?", pair), pair
        rate, live, flying, oldest, wait, *_ = row_of(text, 'peer "1"')
        assert [rate, live, flying, wait] == ["0", "1", "1", "-"] and oldest != "-", text
        assert len(row_of(text, "digest")) == 8, text  # with run
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
        assert re.search(r"in flight recv .*top_target\.c:\d+$", text, re.M), text
        assert re.search(r"turns 0/s", text), text
        service.go_on()


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
        assert done.returncode == 1 and "nobody listens" in done.stderr, done
        done = run("--once", folder + "/" + "x" * 120)
        assert done.returncode == 1 and "longer" in done.stderr, done


def a_wrong_command_line_is_2():
    for line in ["", "a b", "--interval 0.4 a", "-i 1x a", "--twice a"]:
        arguments = line.split()
        done = run(*arguments)
        assert done.returncode == 2 and "weir-top" in done.stderr and done.stdout == "", done
    done = run("--help")
    assert done.returncode == 0 and "Exit status" in done.stdout
    assert run("--version").stdout.startswith("weir-top ")


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


@contextlib.contextmanager
def made_up(answer):
    """An endpoint that answers always this; its path."""
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
            "age_ns": 61 * 10**9,
        },
        {
            "loop": "m\033]0;x\007ain",
            "task": "Ärger\u009b1mhe",
            "kind": "call",
            "state": "at gate",
            "site": "b.c:2",
            "fd": -1,
            "age_ns": 900,
        },
    ],
}


def what_it_draws_is_what_it_was_told():
    with made_up(answer_of(json.dumps(DOCUMENT))) as path:
        text = once(path)
        for part in [
            "over 2.0s",
            "m?]0;x?ain (2 loops)  epoll: io_uring: sysctl: no",
            "[#####.....----------]  32 in flight of 64 (opened with 128, lowered for a task's ",
            "goal), 5 waiting, 256 places",
            "timers 7, turns 100/s, refused 2/s",
            "1 idle task\n",
            "live ops: 9000, the oldest 2:",
            "61s in flight write         3 m?]0;x?~ Ärger?1mhe",
            "900ns at gate   call          - ",
            "a.c:1\n",
        ]:
            assert part in text, (part, text)
        assert "\033" not in text and "\u009b" not in text
        assert "  offload" not in text  # there is none
        row = row_of(text, "Ärger?1mhe")
        assert row == ["123k", "2", "1", "61s", "-", "1.5us/2.0ms", "-", "1.5us/2.0ms"], row
    blind = {**DOCUMENT, "live": None, "live_count": None, "since_ns": 0}
    with made_up(answer_of(json.dumps(blind))) as path:
        text = once(path)
        assert "since the loops were opened" in text and "live ops" not in text, text
        assert row_of(text, "Ärger?1mhe")[:4] == ["-", "2", "-", "-"], text
    with made_up(answer_of(json.dumps({**DOCUMENT, "loops": [], "tasks": [], "live": []}))) as path:
        assert "no loops" in once(path)


def an_answer_that_is_none_is_refused():
    body = json.dumps(DOCUMENT)
    for answer, part in [
        (b"", "hung up"),
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


# --- on a terminal ----------------------------------------------------------------------------


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


def the_screen_is_given_back_however_it_ends():
    ends = [
        lambda screen: os.write(screen.master, b"q"),
        lambda screen: os.write(screen.master, b"\x03"),  # Ctrl-C
        lambda screen: os.kill(screen.pid, signal.SIGINT),
        lambda screen: os.kill(screen.pid, signal.SIGTERM),
        lambda screen: os.kill(screen.pid, signal.SIGHUP),
    ]
    with Service(TARGET) as service:
        for end in ends:
            with screen_of(service.path) as screen:
                screen.wait_for("log append")
                assert screen.seen.count(ENTER) == 1
                assert not termios.tcgetattr(screen.terminal)[3] & (termios.ECHO | termios.ICANON)
                end(screen)
                assert screen.wait_end() == 0
                screen.check_restored()


def other_keys_do_nothing_and_it_goes_on():
    with Service(TARGET) as service, screen_of(service.path) as screen:
        screen.wait_for("log append")
        os.write(screen.master, b"x\r\033[A ")
        for _ in range(3):
            assert any("live ops" in line for line in screen.next_frame())
        os.write(screen.master, b"q")
        assert screen.wait_end() == 0


def a_resize_is_survived_and_fitted():
    with Service(TARGET, "blind") as service, screen_of(service.path) as screen:
        screen.wait_for("log append")
        for lines, columns in [(60, 200), (24, 80), (10, 30), (3, 5), (1, 1), (24, 80)]:
            while screen.read_some():
                pass
            screen.resize(lines, columns)
            screen.next_frame()  # it may have been drawn before it knew
            frame = [plain(line) for line in screen.next_frame()]
            assert len(frame) <= lines, (lines, frame)
            assert max(len(line) for line in frame) <= columns, (columns, frame)
            if lines >= 10:
                assert any(line.startswith("live ops") for line in frame), frame
            if columns == 80:
                assert any(line.endswith(" delivery") for line in frame), frame
            if columns == 200:
                assert any("top_target.c" in line for line in frame), frame
        os.write(screen.master, b"q")
        assert screen.wait_end() == 0
        screen.check_restored()


def no_color_is_respected():
    with made_up(answer_of(json.dumps(DOCUMENT))) as path:
        for value, coloured in [("", True), ("1", False)]:
            with screen_of(path, NO_COLOR=value) as screen:
                frame = "".join(screen.next_frame())
                assert ("\033[1m" in frame and "\033[0m" in frame) == coloured, frame
                assert ("\033[" in frame) == coloured, frame
                assert "\033]" not in frame and "\u009b" not in frame


def a_dumb_terminal_gets_plain_text():
    with Service(TARGET) as service, screen_of(service.path, TERM="dumb") as screen:
        screen.wait_for("live ops")
        assert "\033" not in screen.seen


def a_service_that_goes_away_is_said_and_is_1():
    service = Service(TARGET)
    with service, screen_of(service.path) as screen:
        screen.wait_for("log append")
        service.end()
        assert screen.wait_end() == 1
        screen.check_restored()
        after = screen.seen[screen.seen.rindex(LEAVE):]
        assert "weir-top: " in after and "no such socket" in after, after


def a_stop_gives_the_terminal_back_and_going_on_takes_it_again():
    with Service(TARGET) as service, screen_of(service.path) as screen:
        screen.wait_for("log append")
        os.write(screen.master, b"\x1a")  # Ctrl-Z
        pid, status = os.waitpid(screen.pid, os.WUNTRACED)
        assert pid == screen.pid and os.WIFSTOPPED(status), status
        while screen.read_some():
            pass
        screen.check_restored()
        screen.seen = ""
        os.kill(screen.pid, signal.SIGCONT)
        screen.wait_for(ENTER)
        screen.wait_for("log append")
        os.write(screen.master, b"q")
        assert screen.wait_end() == 0


if __name__ == "__main__":
    run_tests(
        [
            once_shows_rates_and_latency_of_an_interval,
            once_json_of_a_stuck_process_lists_what_is_in_flight,
            without_a_terminal_it_goes_on_printing,
            who_cannot_be_read_is_said_plainly,
            a_wrong_command_line_is_2,
            output_that_cannot_be_written_is_1,
            what_it_draws_is_what_it_was_told,
            an_answer_that_is_none_is_refused,
            the_screen_is_given_back_however_it_ends,
            other_keys_do_nothing_and_it_goes_on,
            a_resize_is_survived_and_fitted,
            no_color_is_respected,
            a_dumb_terminal_gets_plain_text,
            a_service_that_goes_away_is_said_and_is_1,
            a_stop_gives_the_terminal_back_and_going_on_takes_it_again,
        ],
        sys.argv[3:],
    )
