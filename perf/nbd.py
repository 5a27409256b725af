#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measures weir-nbd with fio, beside the servers that people run today.

  nbd.py speed      against nbdkit and qemu-nbd, in adjacent pairs
  nbd.py fairness   what a modest client notices of two greedy ones
  nbd.py soak       minutes of mixed load, of clients that come, go and break off

Each takes --help. Needs fio with its NBD engine; speed and fairness also nbdkit and qemu-utils.
A table goes to stdout, progress to stderr, everything measured to --json FILE.
Exit code: 0 fine; 1 a goal was missed or something failed; 2 misuse; 77 what it needs is missing;
130 after Ctrl-C, which ends what was started and shows what there is.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time

# The modules beside this file are no installed ones: leave nothing in the source tree.
sys.dont_write_bytecode = True

import nbd_fairness  # noqa: E402
import nbd_fio  # noqa: E402
import nbd_servers  # noqa: E402
import nbd_soak  # noqa: E402
import nbd_speed  # noqa: E402

SKIP = 77
INTERRUPTED = 130
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROGRAM = os.path.join(ROOT, "build", "docs", "examples", "nbd", "weir-nbd")


class Progress:
    """Where things stand, on stderr: one line, rewritten on a terminal, else now and then."""

    EVERY_S = 30  # without a terminal

    def __init__(self):
        self.terminal = sys.stderr.isatty()
        self.left_runs = 0
        self.all_runs = 0
        self.each_s = 0.0
        self.said = 0.0

    def clear(self):
        if self.terminal:
            sys.stderr.write("\r\033[K")

    def say(self, text):
        self.clear()
        print(text, file=sys.stderr, flush=True)

    def expect(self, runs, seconds):
        self.left_runs = self.all_runs = runs
        self.each_s = seconds / runs if runs else 0
        self.say(f"{runs} runs, about {duration(seconds)}")

    def step(self, text):
        number = self.all_runs - self.left_runs + 1
        left = duration(self.left_runs * self.each_s)
        self.left_runs -= 1
        self.show(f"[{number}/{self.all_runs}, {left} left] {text}")

    def show(self, text):
        now = time.monotonic()
        if self.terminal:
            columns = os.get_terminal_size(sys.stderr.fileno()).columns
            sys.stderr.write("\r\033[K" + text[: max(columns - 1, 20)])
            sys.stderr.flush()
        elif now - self.said >= self.EVERY_S or not self.said:
            self.said = now
            print(text, file=sys.stderr, flush=True)


def duration(seconds):
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min"


# --- the command line -----------------------------------------------------------------------------


def size_of(text):
    units = {"k": 10, "m": 20, "g": 30}
    try:
        shift = units.get(text[-1:].lower())
        size = int(text[:-1]) << shift if shift else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: give a size, like 512M or 1G") from None
    if size < 16 << 20 or size % (1 << 20):
        raise argparse.ArgumentTypeError(f"{text}: at least 16M, in whole MiB")
    return size


def number_from(least, kind):
    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"{text}: give a number from {least}")
        return value

    return parse


def add_common(parser):
    parser.add_argument("--program", default=PROGRAM, metavar="PATH",
                        help="weir-nbd (default: the one in build/)")
    parser.add_argument("--json", metavar="FILE", help="everything measured goes there as well")


SPEED_HELP = """\
How fast the servers are on a 1 GiB image that is in the page cache, in tmpfs and on a disk's file
system. All servers are up, one is loaded at a time by fio over a unix socket: runs in the order
A B B A, and the median of the ratios of neighbours. Of nbdkit's threads (1 and 16) and qemu-nbd's
ways (io_uring and threads) the better median of a short heat counts, for each workload.

nbdkit serves with its file plugin; qemu-nbd with a raw image, --persistent --shared=16
--cache=writeback (the page cache is written to, as with the others) and without its image locks,
which would keep the next qemu-nbd away. Nobody is tied to a CPU.

Goals, with weir-nbd on io_uring: 4k random reads, 32 in flight: 1.4 of nbdkit and 2.3 of qemu-nbd,
at no more than 0.70 of nbdkit's server CPU per operation; 4k random writes: nbdkit's within its
noise, 2.5 of qemu-nbd (on a disk's file system the first takes --inline-writes, measured beside it
as "in the loop"); 128k sequential: 0.95 of nbdkit; one at a time with spin: 1.3 of the better.
"""

SPEED_EXAMPLES = """\
examples:
  nbd.py speed --only tmpfs,randread,nbdkit      one row of the table, in some minutes
  nbd.py speed --pairs 2 --seconds 0.5           does it run? (the figures mean nothing)
  nbd.py speed --subject nbdkit-1 --only qemu    two others, without weir-nbd
  nbd.py speed --json speed.json                 all of it: an hour and more
"""

FAIRNESS_HELP = """\
What a client at a steady 100 reads a second (4k, one at a time) notices of two others that keep 32
reads in flight each: its p99 alone and beside them, in rounds of alone, beside, beside, alone, and
the ratio of the medians. On an image in tmpfs. Goal: at most 5, for weir-nbd on io_uring and on
epoll.
"""

SOAK_HELP = """\
Minutes of mixed load on weir-nbd: fio with 70 % reads of 4k to 1M on two connections, writes that
are verified, trims; clients that connect, do a little and leave, and others that break off within
the handshake, a header or a payload; and at first a crowd that asks for much and reads nothing, so
that most of what the server has for clients is touched early. --metrics is scraped each second.

It fails on an error of any client; on metrics that cannot be parsed or a counter that goes down; on
a resident set that grows by more than --rss-bound after the first minute (after the first half, if
it takes less than two minutes); on a file descriptor that is left when all clients have gone; and
if the server does not exit with 0 on SIGTERM.
"""


def parser_of_all():
    parser = argparse.ArgumentParser(prog="nbd.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="speed|fairness|soak")

    def add(name, words, epilog=None):
        sub = commands.add_parser(name, description=words, epilog=epilog,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
        add_common(sub)
        return sub

    speed = add("speed", SPEED_HELP, SPEED_EXAMPLES)
    speed.add_argument("--only", default="", metavar="WORD,...",
                       help="of the places: tmpfs, disk; of the workloads: "
                       f"{', '.join(one.name for one in nbd_speed.WORKLOADS)}; of the peers: "
                       "nbdkit, qemu, weir, or one of them by its name (default: all)")
    speed.add_argument("--subject", choices=nbd_servers.SERVERS, metavar="SERVER",
                       help="who is compared with the peers (default: weir, but weir-inline for "
                       "inline, weir-spin for depth1 and depth4); of "
                       f"{', '.join(nbd_servers.SERVERS)}")
    speed.add_argument("--pairs", type=number_from(1, int), default=16, metavar="N",
                       help="adjacent pairs of a comparison (default: %(default)s)")
    speed.add_argument("--seconds", type=number_from(0.1, float), default=2.0, metavar="S",
                       help="of each run (default: %(default)s)")
    speed.add_argument("--heat", type=number_from(0, int), default=4, metavar="N",
                       help="pairs by which the better of two like peers is found; 0: compare with "
                       "each (default: %(default)s)")
    speed.add_argument("--spin", type=number_from(0, int), default=100, metavar="US",
                       help="of the servers with spin (default: %(default)s)")
    speed.add_argument("--size", type=size_of, default=1 << 30, metavar="SIZE",
                       help="of the image (default: 1G)")
    speed.add_argument("--disk", metavar="DIR", help="where the disk's image is (default: build/)")

    fairness = add("fairness", FAIRNESS_HELP)
    fairness.add_argument("--server", action="append", choices=nbd_servers.SERVERS,
                          metavar="SERVER",
                          help="once or more (default: weir, weir-epoll, nbdkit-16); of "
                          f"{', '.join(nbd_servers.SERVERS)}")
    fairness.add_argument("--rounds", type=number_from(1, int), default=4, metavar="N",
                          help="of alone, beside, beside, alone (default: %(default)s)")
    fairness.add_argument("--seconds", type=number_from(0.5, float), default=5.0, metavar="S",
                          help="of each phase (default: %(default)s)")
    fairness.add_argument("--size", type=size_of, default=1 << 30, metavar="SIZE",
                          help="of the image (default: 1G)")

    fairness.add_argument("--elsewhere", action="store_true",
                          help="also with the greedy two on another server of the same kind: what "
                          "the paced one then notices is the CPUs' doing, not the server's")

    soak = add("soak", SOAK_HELP)
    length = soak.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=number_from(0.1, float), default=10.0, metavar="N",
                        help="for each policy (default: %(default)s)")
    length.add_argument("--seconds", type=number_from(4, float), metavar="N",
                        help="a short form, for a test")
    soak.add_argument("--policy", choices=("io_uring", "epoll", "both"), default="both",
                      help="(default: %(default)s, one after the other)")
    soak.add_argument("--server", choices=nbd_servers.SERVERS, metavar="SERVER",
                      help="another server than weir-nbd, to try the clients on: "
                      f"{', '.join(nbd_servers.SERVERS)}")
    soak.add_argument("--rss-bound", type=number_from(0.1, float), metavar="MIB",
                      help="how much the resident set may grow (default: "
                      f"{nbd_soak.RSS_BOUND_MIB})")
    soak.add_argument("--size", type=size_of, default=256 << 20, metavar="SIZE",
                      help="of the image in tmpfs (default: 256M)")
    return parser


def complete_speed(parser, options):
    """Makes options of the words of --only."""
    words = [word for word in options.only.split(",") if word]
    names = {one.name: one for one in nbd_speed.WORKLOADS}
    families = ("nbdkit", "qemu", "weir")
    for word in words:
        if word not in (*names, *families, *nbd_servers.SERVERS, "tmpfs", "disk"):
            parser.error(f"--only {word}: no place, workload or peer; see --help")
    peers = [word for word in words if word in families or word in nbd_servers.SERVERS]
    options.places = [word for word in ("tmpfs", "disk") if word in words] or ["tmpfs", "disk"]
    options.workloads = [names[w] for w in names if w in words] or list(nbd_speed.WORKLOADS)
    options.wants_peer = lambda name: not peers or any(
        name == peer or peer in families and name.startswith(peer) for peer in peers)
    if not any(nbd_speed.workloads_of(place, options) for place in options.places):
        parser.error("inline: files on a tmpfs are always written in the loop; add disk")
    if not nbd_speed.servers_of(options):
        parser.error("nobody is left to compare with")
    if options.disk is None:
        folder = os.path.join(ROOT, "build")
        options.disk = folder if os.path.isdir(folder) else os.getcwd()
    if not os.path.isdir(options.disk):
        parser.error(f"--disk {options.disk}: no such folder")


# --- what each subcommand does --------------------------------------------------------------------


def speed(options, work, progress, document):
    places = {"tmpfs": "/dev/shm", "disk": os.path.abspath(options.disk)}
    if "disk" in options.places and nbd_servers.kind_of_filesystem(places["disk"]) == "tmpfs":
        raise nbd_servers.Failure(f"{places['disk']} is in memory as well: give --disk DIR")
    # What the disk adds is known once an image was written to it.
    total_s = sum(nbd_speed.estimate_s(place, options, 0) for place in options.places)
    progress.say(f"about {duration(total_s)} in all, and what a disk needs to take what is written")
    done = []
    try:
        for place in options.places:
            nbd_speed.measure_place(place, places[place], options, work, progress, done)
    finally:
        progress.clear()
        done = [one for one in done if len(one.runs) > 1]  # the last one may have been cut short
        results = nbd_speed.goals(done, options.places)
        document["comparisons"] = [one.report() for one in done]
        document["goals"] = results
        document["disk"] = nbd_servers.kind_of_filesystem(places["disk"])
        if done:
            print(nbd_speed.table(done))
            if any(result["met"] is not None for result in results):
                print("\n" + nbd_speed.goal_lines(results))
    return all(result["met"] is not False for result in results)


def fairness(options, work, progress, document):
    return nbd_fairness.measure(options, work, progress, document)


def soak(options, work, progress, document):
    return nbd_soak.measure(options, work, progress, document)


COMMANDS = {"speed": speed, "fairness": fairness, "soak": soak}


def servers_needed(options):
    if options.command == "speed":
        return nbd_speed.servers_of(options)
    if options.command == "fairness":
        options.server = options.server or ["weir", "weir-epoll", "nbdkit-16"]
        return options.server
    both = options.policy == "both"
    weirs = [*(["weir"] if both or options.policy == "io_uring" else []),
             *(["weir-epoll"] if both or options.policy == "epoll" else [])]
    options.servers = [options.server] if options.server else weirs
    return options.servers


def machine():
    model = ""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return {
        "cpus": os.cpu_count(),
        "model": model,
        "kernel": os.uname().release,
        "fio": nbd_fio.version("fio", "--version"),
        "nbdkit": nbd_fio.version("nbdkit", "--version"),
        "qemu-nbd": nbd_fio.version("qemu-nbd", "--version"),
    }


def run(options, document):
    progress = Progress()
    fine = False
    try:
        with tempfile.TemporaryDirectory(prefix="weir-nbd-") as work:
            fine = COMMANDS[options.command](options, work, progress, document)
    except KeyboardInterrupt:
        progress.say("interrupted")
        return INTERRUPTED
    except nbd_servers.Failure as failure:
        progress.say(f"nbd.py: {failure}")
        document["failure"] = str(failure)
    finally:
        progress.clear()
        if options.json:
            with open(options.json, "w", encoding="utf-8") as file:
                json.dump(document, file, indent=1)
                file.write("\n")
    return 0 if fine else 1


def main():
    parser = parser_of_all()
    options = parser.parse_args()
    if options.command == "speed":
        complete_speed(parser, options)
    names = servers_needed(options)
    missing = nbd_servers.missing_for(names, options.program)
    if without := nbd_fio.missing():
        missing.append(without)
    if missing:
        print(f"skip: this needs {', '.join(missing)}")
        return SKIP
    options.program = os.path.abspath(options.program)
    about = machine()
    document = {"command": options.command, "machine": about,
                "options": {key: value for key, value in vars(options).items()
                            if isinstance(value, (str, int, float, type(None)))}}
    print(f"{about['cpus']} CPUs, {about['model']}, Linux {about['kernel']}; fio {about['fio']}, "
          f"nbdkit {about['nbdkit'] or '-'}, qemu-nbd {about['qemu-nbd'] or '-'}\n", flush=True)
    nbd_servers.Interrupts.catch()
    with contextlib.suppress(BrokenPipeError):
        return run(options, document)
    return 1


if __name__ == "__main__":
    sys.exit(main())
