# SPDX-License-Identifier: MIT
"""nbd_metrics: reads the metrics page over its unix socket and holds it to what a page promises."""

import http.client
import re
import socket

import nbd_servers

TIMEOUT_S = 30
NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(rf"^({NAME})(?:\{{((?:{LABEL}(?:,{LABEL})*,?)?)\}})? (\S+)(?: -?\d+)?$")
COMMENT = re.compile(rf"^# (HELP|TYPE) ({NAME})(?: (.*))?$")
TYPES = ("counter", "gauge", "histogram", "summary", "untyped")
PARTS = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("", "_sum", "_count")}
BOUND = re.compile(r'(?:^|,)le="([^"]*)"')


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("weir", timeout=TIMEOUT_S)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def fetch(path):
    connection = UnixConnection(path)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        text = answer.read().decode("utf-8")
        if answer.status != 200:
            raise nbd_servers.Failure(f"metrics: status {answer.status}")
        return text
    except (OSError, http.client.HTTPException, UnicodeDecodeError) as error:
        raise nbd_servers.Failure(f"metrics: {error!r}") from None
    finally:
        connection.close()


def family_of(name, types):
    """The family that a sample belongs to, and its type."""
    if types.get(name) in ("counter", "gauge", "untyped", "summary"):
        return name, types[name]
    for kind, endings in PARTS.items():
        for ending in endings:
            family = name[: len(name) - len(ending)]
            if ending and name.endswith(ending) and types.get(family) == kind:
                return family, kind
    raise nbd_servers.Failure(f"metrics: {name} has no TYPE")


def parse(text):
    """{(name, labels): (value, does it never go down?)}; raises Failure where the text is wrong."""
    types, samples = {}, {}
    if not text.endswith("\n"):
        raise nbd_servers.Failure("metrics: the last line does not end")
    for number, line in enumerate(text.splitlines(), 1):
        comment = COMMENT.match(line)
        if comment and comment[1] == "TYPE":
            if comment[3] not in TYPES or comment[2] in types:
                raise nbd_servers.Failure(f"metrics, line {number}: {line}")
            types[comment[2]] = comment[3]
        if not line or line.startswith("#"):
            continue
        sample = SAMPLE.match(line)
        try:
            name, labels, value = sample[1], sample[2] or "", float(sample[3])
        except (TypeError, ValueError):
            raise nbd_servers.Failure(f"metrics, line {number}: {line}") from None
        if (name, labels) in samples:
            raise nbd_servers.Failure(f"metrics, line {number}: once more: {line}")
        _, kind = family_of(name, types)
        samples[name, labels] = value, kind in ("counter", "histogram")
    check_buckets(samples)
    return samples


def check_buckets(samples):
    """Buckets grow with their bound, and the last one is all there is."""
    series = {}
    for (name, labels), (value, _) in samples.items():
        bound = BOUND.search(labels)
        if name.endswith("_bucket") and bound:
            rest = BOUND.sub("", labels).strip(",")
            series.setdefault((name[: -len("_bucket")], rest), []).append((float(bound[1]), value))
    for (family, labels), buckets in series.items():
        counts = [count for _, count in sorted(buckets)]
        total = samples.get((f"{family}_count", labels), (None,))[0]
        if counts != sorted(counts) or max(buckets)[0] != float("inf") or counts[-1] != total:
            raise nbd_servers.Failure(f"metrics: buckets of {family}{{{labels}}} do not add up")


def check_growth(before, now):
    """Raises Failure if a counter that both pages have went down. Returns how many went up."""
    grown = 0
    for key, (value, only_grows) in now.items():
        if only_grows and key in before:
            if value < before[key][0]:
                raise nbd_servers.Failure(f"metrics: {key[0]}{{{key[1]}}} went from "
                                          f"{before[key][0]:g} down to {value:g}")
            grown += value > before[key][0]
    return grown
