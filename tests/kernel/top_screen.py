#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""top_screen.py WEIR_TOP TOP_TARGET [TEST...]: weir-top on a terminal."""
import json
import os
import re
import signal
import sys
import termios

from service import Service, run_tests
from top_check import DOCUMENT, ENTER, LEAVE, TARGET, answer_of, made_up, plain, screen_of


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


def a_service_that_ends_is_waited_for_and_shown_when_it_is_back():
    with Service(TARGET) as service, screen_of(service.path) as screen:
        screen.wait_for("log append")
        old = service.process.pid
        screen.wait_for(f"pid {old}")
        service.kill()
        screen.wait_for("gone since ")
        frame = [plain(line) for line in screen.next_frame()]
        assert re.fullmatch(
            r"gone since \d\d:\d\d:\d\d, waiting for it to come back", frame[1]), frame
        assert any("log append" in line for line in frame), frame  # the last picture
        service.process.stdin.close()
        service.process.stdout.close()
        service.start()
        screen.seen = ""
        screen.wait_for(f"pid {service.process.pid}")
        assert service.process.pid != old
        while plain(screen.next_frame()[1]).startswith("gone"):
            pass
        os.write(screen.master, b"q")
        assert screen.wait_end() == 0
        screen.check_restored()


def a_service_that_is_stopped_is_waited_for():
    with Service(TARGET) as service, screen_of(service.path) as screen:
        screen.wait_for("log append")
        os.kill(service.process.pid, signal.SIGSTOP)
        try:
            screen.wait_for("no answer for ")
            screen.wait_for("s: is the process stopped, or without a CPU?")
            frame = [plain(line) for line in screen.next_frame()]
            seen = re.search(r" \(last seen \d\d:\d\d:\d\d\)$", frame[1])
            assert seen or len(frame[1]) == 80, frame
            assert any("log append" in line for line in frame), frame
            screen.resize(30, 120)  # it looks after its window meanwhile
            while "(last seen " not in screen.next_frame()[1]:
                pass
        finally:
            os.kill(service.process.pid, signal.SIGCONT)
        while not screen.next_frame()[1].startswith("over "):
            pass
        os.kill(service.process.pid, signal.SIGSTOP)
        screen.seen = ""
        try:
            screen.wait_for("no answer for ")
            os.write(screen.master, b"q")  # and after keys
            assert screen.wait_end() == 0
        finally:
            os.kill(service.process.pid, signal.SIGCONT)
        screen.check_restored()


def a_first_look_that_fails_is_1():
    with Service(TARGET) as service, screen_of(service.path + "x") as screen:
        assert screen.wait_end() == 1
        screen.check_restored()
        after = screen.seen[screen.seen.rindex(LEAVE):]
        assert "weir-top: " in after and "no such socket" in after, after


def what_does_not_fit_is_counted():
    tasks = [
        {"loop": "a", "task": f"t{i}", "counters": {"finished": 1}, "stages": {}} for i in range(9)
    ]
    document = {**DOCUMENT, "loops": [{"label": "a", "has_state": True}], "tasks": tasks}
    with made_up(answer_of(json.dumps(document))) as path:
        with screen_of(path, lines=12) as screen:
            frame = [plain(line) for line in screen.next_frame()]
            shown = sum(line.startswith("  t") and line[3].isdigit() for line in frame)
            assert 0 < shown < 9, frame
            assert f"  ... {9 - shown} task{'s' if shown < 8 else ''} more" in frame, frame
            screen.resize(60, 80)
            while len(frame) < 15:
                frame = [plain(line) for line in screen.next_frame()]
            assert sum(line.startswith("  t") and line[3].isdigit() for line in frame) == 9, frame
            assert not any(" more" in line for line in frame), frame


def what_is_wrong_is_red():
    at = {"phase": "turn", "since_ns": 10**9}
    task = {**DOCUMENT["tasks"][0], "counters": {"finished": 9, "failed": 9}}
    document = {**DOCUMENT, "loops": [{**DOCUMENT["loops"][0], "at": at}], "tasks": [task]}
    with made_up(answer_of(json.dumps(document))) as path, screen_of(path) as screen:
        frame = screen.next_frame()
        assert any(line.startswith("\033[1m\033[31m  STANDS STILL") for line in frame), frame
        assert any(line.startswith("\033[31m    failed ") for line in frame), frame


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
            the_screen_is_given_back_however_it_ends,
            other_keys_do_nothing_and_it_goes_on,
            a_resize_is_survived_and_fitted,
            no_color_is_respected,
            a_dumb_terminal_gets_plain_text,
            a_service_that_ends_is_waited_for_and_shown_when_it_is_back,
            a_service_that_is_stopped_is_waited_for,
            a_first_look_that_fails_is_1,
            what_does_not_fit_is_counted,
            what_is_wrong_is_red,
            a_stop_gives_the_terminal_back_and_going_on_takes_it_again,
        ],
        sys.argv[3:],
    )
