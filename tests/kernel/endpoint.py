#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""endpoint.py TOP_TARGET [TEST...]: what an endpoint answers, to requests made byte by byte."""
import json
import re
import socket
import sys
import urllib.parse

from service import Service, run_tests

TARGET = sys.argv[1]
CONNECTIONS = 16
REQUEST_MAX = 1024


def receive(connection):
    """All of an answer: status, head, body; None if the server hung up without one."""
    data = b""
    while True:
        part = connection.recv(1 << 16)
        if not part:
            break
        data += part
    connection.close()
    if not data:
        return None
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    status = re.fullmatch(r"HTTP/1\.0 (\d{3}) [A-Z].*", lines[0])
    fields = dict(line.split(": ", 1) for line in lines[1:])
    assert status and int(fields["Content-Length"]) == len(body), lines
    assert fields["Connection"] == "close", lines
    return int(status[1]), fields, body.decode()


def send(service, request):
    connection = service.connect()
    connection.sendall(request)
    return connection


def ask(service, page):
    return receive(send(service, f"GET {page} HTTP/1.0\r\n\r\n".encode()))


def ask_json(service, page="/json"):
    status, fields, body = ask(service, page)
    assert status == 200 and fields["Content-Type"] == "application/json", (status, fields)
    return json.loads(body)


# --- pages ------------------------------------------------------------------------------------


def every_page_answers():
    with Service(TARGET, "blind") as service:
        status, fields, body = ask(service, "/")
        assert status == 200 and fields["Content-Type"].startswith("text/plain"), fields
        for page in ["/metrics", "/json", "/json?interval=1", "/hlog", "/trace?loop="]:
            assert page in body, body

        status, fields, body = ask(service, "/metrics")
        assert status == 200 and "version=0.0.4" in fields["Content-Type"], fields
        assert re.search(r'^weir_task_finished_total\{loop="main",task="fetch"\} [1-9]', body, re.M)
        assert 'loop="side & co"' in body

        merged = ask(service, "/metrics?as=a%6cl")[2]
        assert re.search(r'^weir_task_finished_total\{loop="all",task="fetch"\} [1-9]', merged,
                         re.M), merged
        assert 'loop="main"' not in merged and 'side & co' not in merged, merged
        for wrong in ["%6x", "x" * 48]:
            assert ask(service, "/metrics?as=" + wrong)[0] == 400, wrong

        document = ask_json(service)
        assert [loop["label"] for loop in document["loops"]] == ["main", "side & co"]
        assert document["since_ns"] == 0 and document["taken_ns"] > 0

        status, fields, body = ask(service, "/hlog")
        if status == 501:
            print("this library was built without zlib: /hlog says so")
        else:
            assert status == 200 and "main.fetch.flight" in body, body


def a_trace_is_of_the_loop_that_is_named():
    with Service(TARGET, "blind") as service:
        document = ask_json(service, "/trace?loop=main")
        assert document["traceEvents"], document
        assert ask_json(service, "/trace?x=1&loop=%6dain")["traceEvents"]
        assert ask(service, "/trace")[0] == 400  # of two loops
        assert ask(service, "/trace?loop=mai")[0] == 404
        status, _, body = ask(service, "/trace?loop=" + urllib.parse.quote("side & co"))
        assert status == 404 and "recorder" in body, body  # it has none
        for wrong in ["%", "%6", "%6x", "%00", "x" * 48]:
            assert ask(service, "/trace?loop=" + wrong)[0] == 400, wrong
        assert ask(service, "/trace?loop=" + "x" * 47)[0] == 404
    with Service(TARGET) as service:
        assert ask_json(service, "/trace")["traceEvents"]  # of the only one


def what_is_no_request_is_refused():
    with Service(TARGET) as service:
        for request, status in [
            (b"GET /nothing HTTP/1.0\r\n\r\n", 404),
            (b"GET /json/ HTTP/1.0\r\n\r\n", 404),
            (b"GET //json HTTP/1.0\r\n\r\n", 404),
            (b"POST /json HTTP/1.0\r\n\r\n", 405),
            (b"get / HTTP/1.1\r\n\r\n", 405),
            (b"GET / HTTP/2.0\r\n\r\n", 400),
            (b"GET /\r\n\r\n", 400),
            (b"GET / \r\n\r\n", 400),
            (b"GET http://weir/json HTTP/1.0\r\n\r\n", 400),
            (b"GET\r\n\r\n", 400),
            (b"\r\n\r\n", 400),
            (b"\0GET / HTTP/1.0\r\n\r\n", 400),
            (b"GET / HTTP/1.0\r\nHost: \0\r\n\r\n", 400),
            (b"GET /json?interval=2 HTTP/1.0\r\n\r\n", 400),
            (b"GET /json?interval=10 HTTP/1.0\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: weir\r\nAccept: */*\r\n\r\n", 200),
            (b"GET / HTTP/1.0\n\n", 200),
            (b"GET /? HTTP/1.0\r\n\r\n", 200),
            (b"GET / HTTP/1.0\r\n\r\nand more that nobody asked for", 200),
        ]:
            answer = receive(send(service, request))
            assert answer and answer[0] == status, (request, answer)
        assert receive(send(service, b"POST / HTTP/1.0\r\n\r\n"))[1]["Allow"] == "GET, HEAD"
        for part, status in [(b"GET / HTTP/1.0\r\n", 400), (b"", None)]:
            connection = send(service, part)
            connection.shutdown(socket.SHUT_WR)
            answer = receive(connection)
            assert (answer and answer[0]) == status, (part, answer)


def head_is_answered_like_get_without_the_body():
    with Service(TARGET) as service:
        for page, status in [("/", 200), ("/metrics", 200), ("/nothing", 404)]:
            connection = send(service, f"HEAD {page} HTTP/1.1\r\n\r\n".encode())
            data = b""
            while part := connection.recv(1 << 16):
                data += part
            head, _, body = data.decode().partition("\r\n\r\n")
            assert head.startswith(f"HTTP/1.0 {status} ") and body == "", data
            length = int(re.search(r"Content-Length: (\d+)", head)[1])
            if page != "/metrics":
                assert length == len(ask(service, page)[2]) > 0, head
            assert length > 0 and "Connection: close" in head, head


def a_request_is_a_kibibyte_at_most():
    with Service(TARGET) as service:
        start, end = b"GET / HTTP/1.0\r\nX: ", b"\r\n\r\n"
        longest = start + b"x" * (REQUEST_MAX - len(start) - len(end)) + end
        assert receive(send(service, longest))[0] == 200
        assert receive(send(service, longest[: len(start)] + b"x" + longest[len(start):]))[0] == 431
        assert receive(send(service, b"x" * 100000))[0] == 431
        connection = service.connect()
        for byte in longest:
            connection.send(bytes([byte]))
        assert receive(connection)[0] == 200


# --- slow clients -----------------------------------------------------------------------------


def the_seventeenth_is_told_and_a_silent_one_is_dropped():
    with Service(TARGET) as service:
        silent = [service.connect() for _ in range(CONNECTIONS - 1)]
        for _ in range(3):  # one after another, in the last place
            assert ask(service, "/json")[0] == 200
        silent.append(send(service, b"GET / HT"))
        assert ask(service, "/json")[0] == 503
        while ask(service, "/json")[0] != 200:  # until their time is up
            pass
        for connection in silent:
            assert receive(connection) is None
        assert ask(service, "/json")[0] == 200


def who_does_not_read_holds_up_nobody():
    with Service(TARGET, "many") as service:
        whole = ask(service, "/json")[2]
        assert len(whole) > 500000, len(whole)  # more than a socket holds
        deaf = [send(service, b"GET /json HTTP/1.0\r\n\r\n") for _ in range(CONNECTIONS - 1)]
        for _ in range(3):
            assert ask(service, "/metrics")[0] == 200
        deaf.append(send(service, b"GET /json HTTP/1.0\r\n\r\n"))
        while ask(service, "/metrics")[0] != 503:
            pass
        while ask(service, "/metrics")[0] != 200:
            pass
        got = 0
        part = deaf[0].recv(1 << 16)
        while part:
            got += len(part)
            part = deaf[0].recv(1 << 16)
        assert 0 < got < len(whole)  # the rest was not kept for it


def who_leaves_before_the_answer_does_no_harm():
    with Service(TARGET, "many") as service:
        for _ in range(2 * CONNECTIONS):
            send(service, b"GET /json HTTP/1.0\r\n\r\n").close()
        while True:
            answer = ask(service, "/json")
            if answer and answer[0] == 200:
                break


# --- what is live -----------------------------------------------------------------------------


def a_stuck_loop_shows_what_is_in_flight():
    with Service(TARGET) as service:
        service.stick()
        before = ask_json(service)
        after = ask_json(service)
        assert before["loops"][0]["counters"] == after["loops"][0]["counters"]
        assert before["live_count"] == len(before["live"]) > 0
        by_task = {op["task"]: op for op in after["live"]}
        peer = by_task['peer "1"']
        assert peer["kind"] == "recv" and peer["state"] == "in flight" and peer["fd"] >= 0, peer
        assert re.fullmatch(r".*top_target\.c:\d+", peer["site"]), peer
        assert peer["loop"] == "main" and peer["length"] == 1 and peer["offset"] == 0, peer
        assert 0 < peer["flight_ns"] <= peer["age_ns"], peer
        assert all(op["frames"] == [] for op in after["live"] if op is not peer)
        for frame in peer["frames"]:  # of the one task whose stacks are kept
            assert re.fullmatch(r"[^/]+\+0x[0-9a-f]+|0x[0-9a-f]+", frame), frame
        assert any(frame.startswith("top_target+0x") for frame in peer["frames"]), peer
        old = next(op for op in before["live"] if op["task"] == 'peer "1"')
        assert peer["age_ns"] > old["age_ns"]  # it gets older while the loop stands still
        ages = [op["age_ns"] for op in after["live"]]
        assert ages == sorted(ages, reverse=True)
        assert ask(service, "/metrics")[0] == 200
        assert ask(service, "/trace?loop=main")[0] == 200
        service.go_on()
        while ask_json(service)["loops"][0]["counters"] == after["loops"][0]["counters"]:
            pass


def a_watched_loop_says_what_it_is_at():
    with Service(TARGET) as service:
        assert ask_json(service)["loops"][0]["at"] is None  # nobody watches it
    with Service(TARGET, "watched", "blind") as service:
        service.stick()
        first, side = (loop["at"] for loop in ask_json(service)["loops"])
        assert side is None, side
        assert first["phase"] == "callback" and first["kind"] == "poll", first
        assert re.fullmatch(r"top_target\+0x[0-9a-f]+", first["callback"]), first
        assert re.fullmatch(r".*top_target\.c:\d+", first["site"]) and first["task"], first
        again = ask_json(service, "/json?interval=1")["loops"][0]["at"]
        assert again["since_ns"] > first["since_ns"] > 0, (first, again)
        assert {**again, "since_ns": 0} == {**first, "since_ns": 0}, (first, again)
        service.go_on()
        seen = set()
        while not {"asleep"} <= seen:
            at = ask_json(service)["loops"][0]["at"]
            seen.add(at["phase"])
            assert at["phase"] in ["callback", "turn", "asleep", "outside"], at
            assert ("callback" in at) == (at["phase"] == "callback"), at


def live_ops_of_several_loops_are_in_one_order():
    with Service(TARGET, "both") as service:
        service.stick()
        live = ask_json(service)["live"]
        waiting = [op["loop"] for op in live if op["kind"] == "recv"]
        assert waiting == ["side & co", "main", "side & co"], waiting
        service.go_on()


def the_oldest_4096_are_listed_and_all_are_counted():
    with Service(TARGET, "both", "many") as service:
        document = ask_json(service)
        assert document["live_count"] > 5000, document["live_count"]
        assert len(document["live"]) == 4096
        ages = [op["age_ns"] for op in document["live"]]
        assert ages == sorted(ages, reverse=True)


def a_loop_that_is_not_inspectable_shows_its_tasks_alone():
    with Service(TARGET, "blind") as service:
        document = ask_json(service)
        side = document["loops"][1]
        assert side["has_state"] is False and document["loops"][0]["has_state"] is True
        assert side["counters"] is None and side["gates"] is None
        assert document["loops"][0]["counters"]["turns"] > 0
        assert {op["loop"] for op in document["live"]} == {"main"}
        assert any(row["loop"] == "side & co" and row["counters"]["finished"] > 0
                   for row in document["tasks"])


# --- intervals --------------------------------------------------------------------------------


def finished(document, task):
    return next(row for row in document["tasks"] if row["task"] == task)["counters"]["finished"]


def next_interval(service, last):
    """The first that is not the last one again."""
    while (document := ask_json(service, "/json?interval=1"))["taken_ns"] == last["taken_ns"]:
        pass
    return document


def an_interval_is_what_came_since_the_last_one():
    with Service(TARGET) as service:
        first = ask_json(service, "/json?interval=1")
        assert first["since_ns"] == 0  # since open: there was none before
        again = next_interval(service, first)
        assert again["since_ns"] == first["taken_ns"]
        whole = ask_json(service)
        assert whole["since_ns"] == 0
        assert finished(whole, "fetch") >= finished(first, "fetch") + finished(again, "fetch")
        assert finished(again, "fetch") > 0
        assert ask_json(service, "/json?interval=0")["since_ns"] == 0


def an_interval_between_two_moments_of_rest_adds_up():
    """A loop at work goes on while a row is copied, and a row's parts may be an op apart."""
    with Service(TARGET) as service:
        service.stick()
        first = ask_json(service, "/json?interval=1")
        service.go_on()
        while finished(ask_json(service), "fetch") < finished(first, "fetch") + 50:
            pass
        service.stick()
        again = next_interval(service, first)
        whole = ask_json(service)
        assert finished(again, "fetch") >= 50
        for task in ("fetch", "log append", "digest"):
            assert finished(whole, task) == finished(first, task) + finished(again, task), task
            row = next(row for row in again["tasks"] if row["task"] == task)
            assert row["stages"]["flight"]["count"] == finished(again, task), task
        service.go_on()


def within_half_a_second_it_is_the_same_interval():
    with Service(TARGET) as service:
        for _ in range(1000):  # a very slow machine may need more tries than one
            one = ask_json(service, "/json?interval=1")
            another = ask_json(service, "/json?interval=1")
            if one["taken_ns"] == another["taken_ns"]:
                assert one["tasks"] == another["tasks"] and one["loops"] == another["loops"]
                return
        raise AssertionError("each request makes an interval of its own")


if __name__ == "__main__":
    run_tests(
        [
            every_page_answers,
            a_trace_is_of_the_loop_that_is_named,
            what_is_no_request_is_refused,
            head_is_answered_like_get_without_the_body,
            a_request_is_a_kibibyte_at_most,
            the_seventeenth_is_told_and_a_silent_one_is_dropped,
            who_does_not_read_holds_up_nobody,
            who_leaves_before_the_answer_does_no_harm,
            a_stuck_loop_shows_what_is_in_flight,
            a_watched_loop_says_what_it_is_at,
            live_ops_of_several_loops_are_in_one_order,
            the_oldest_4096_are_listed_and_all_are_counted,
            a_loop_that_is_not_inspectable_shows_its_tasks_alone,
            an_interval_is_what_came_since_the_last_one,
            an_interval_between_two_moments_of_rest_adds_up,
            within_half_a_second_it_is_the_same_interval,
        ],
        sys.argv[2:],
    )
