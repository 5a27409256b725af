# SPDX-License-Identifier: MIT
"""nbd_servers: the NBD servers that are compared, how each is started, watched and ended."""

import contextlib
import ctypes
import errno
import os
import select
import shutil
import signal
import subprocess
import time

# Bounds against hanging, far beyond what a server that works needs.
START_S = 30
END_S = 30

# Clocks of the kernel for another process: its id inverted, and 2 for "time on a CPU, in ns".
# Unlike the sum over /proc/PID/task it keeps what threads used that have ended: nbdkit's end with
# the connection, workers of io_uring when they idle.
CLOCK_BITS = 3
CLOCK_ON_CPU = 2

PAGE = 4096


class Failure(Exception):
    """Something that was wanted did not happen; the text is for people."""


class Interrupts:
    """Ctrl-C and SIGTERM: once, as KeyboardInterrupt; put off while a process is being started, or
    nobody would know of it."""

    held = False
    wanted = False

    @classmethod
    def handle(cls, *_):
        # The clean-up that follows is not to be interrupted in its turn.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if cls.held:
            cls.wanted = True
        else:
            raise KeyboardInterrupt

    @classmethod
    @contextlib.contextmanager
    def put_off(cls):
        cls.held = True
        try:
            yield
        finally:
            cls.held = False
        if cls.wanted:
            raise KeyboardInterrupt

    @classmethod
    def catch(cls):
        signal.signal(signal.SIGINT, cls.handle)
        signal.signal(signal.SIGTERM, cls.handle)


class Server:
    """A server that runs."""

    def __init__(self, name, process, unix, log, metrics):
        self.name = name
        self.process = process
        self.unix = unix
        self.log = log
        self.metrics = metrics
        self.uri = f"nbd+unix:///?socket={unix}"

    def cpu_s(self):
        return time.clock_gettime(~self.process.pid << CLOCK_BITS | CLOCK_ON_CPU)

    def rss_kib(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            for line in file:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1])
        raise Failure(f"{self.name} ended: {self.said()}")

    def fds(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def alive(self):
        return self.process.poll() is None

    def said(self):
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return file.read()[-2000:].strip() or "it said nothing"

    def end(self):
        """Asks the server to end; returns its exit code, None if it had to be killed."""
        if self.alive():
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None


# --- the table: a name, what it is called in tables, and its command ------------------------------


def weir(*arguments):
    def command(place):
        spin = ("--spin", str(place.spin)) if "spin" in arguments else ()
        others = [argument for argument in arguments if argument != "spin"]
        metrics = ("--metrics", place.metrics) if place.metrics else ()
        return [place.program, place.image, "--unix", place.unix, *others, *spin, *metrics]

    return command


def nbdkit(threads):
    def command(place):
        return ["nbdkit", "--foreground", "--pidfile", place.pidfile, "--unix", place.unix,
                "--threads", str(threads), "file", place.image]

    return command


def qemu(aio):
    # Its locks on the image would keep a second qemu-nbd from the same file; raw and writeback are
    # what the others do: no format, and the page cache is written to.
    def command(place):
        name = place.image.replace(",", ",,")
        image = f"driver=raw,file.driver=file,file.locking=off,file.filename={name}"
        return ["qemu-nbd", "--socket", place.unix, "--pid-file", place.pidfile, "--persistent",
                "--shared=16", f"--aio={aio}", "--cache=writeback", "--image-opts", image]

    return command


SERVERS = {
    "weir": ("weir-nbd, io_uring", weir("--policy", "io_uring")),
    "weir-epoll": ("weir-nbd, epoll", weir("--policy", "epoll")),
    "weir-spin": ("weir-nbd, io_uring, spin", weir("--policy", "io_uring", "spin")),
    "weir-inline": ("weir-nbd, inline writes", weir("--policy", "io_uring", "--inline-writes")),
    "weir-epoll-spin": ("weir-nbd, epoll, spin", weir("--policy", "epoll", "spin")),
    "nbdkit-1": ("nbdkit file -t 1", nbdkit(1)),
    "nbdkit-16": ("nbdkit file -t 16", nbdkit(16)),
    "qemu-io_uring": ("qemu-nbd, io_uring", qemu("io_uring")),
    "qemu-threads": ("qemu-nbd, threads", qemu("threads")),
}


class Place:
    """What a command line is made of."""

    def __init__(self, program, image, unix, spin=0, metrics=None):
        self.program = program
        self.image = image
        self.unix = unix
        self.spin = spin
        self.metrics = metrics
        self.pidfile = f"{unix}.pid"


def title(name):
    return SERVERS[name][0]


def missing_for(names, program):
    """What these servers need and the machine lacks."""
    needed = {"weir": program, "nbdkit": "nbdkit", "qemu": "qemu-nbd"}
    wanted = dict.fromkeys(needed[name.split("-", maxsplit=1)[0]] for name in names)
    missing = [one for one in wanted if shutil.which(one) is None]
    on_ring = any(name in ("weir", "weir-inline", "weir-spin", "qemu-io_uring") for name in names)
    if on_ring and without_ring():
        missing.append(f"io_uring (the kernel: {without_ring()})")
    return missing


def without_ring():
    """Why there is no io_uring here, or ''."""
    setup = 425  # the same number on every architecture
    # No entries: a kernel that would make a ring calls that invalid.
    ctypes.CDLL(None, use_errno=True).syscall(setup, 0, None)
    error = ctypes.get_errno()
    return "" if error in (errno.EINVAL, errno.EFAULT) else os.strerror(error)


def ready(process, name, pidfile):
    """weir-nbd prints its URI once it listens; the others then write their pid file."""
    if name.startswith("weir"):
        readable, _, _ = select.select([process.stdout], [], [], 0.05)
        return bool(readable) and process.stdout.readline().startswith("nbd")
    with contextlib.suppress(OSError):
        if os.path.getsize(pidfile):
            return True
    time.sleep(0.01)
    return False


@contextlib.contextmanager
def running(name, folder, image, options, metrics=False):
    """A server over the image while the block runs. Its socket and log are in the folder."""
    unix = os.path.join(folder, f"{name}.sock")
    scraped = os.path.join(folder, f"{name}.metrics") if metrics and name[:4] == "weir" else None
    place = Place(options.program, image, unix, getattr(options, "spin", 0), scraped)
    command = SERVERS[name][1](place)
    log = os.path.join(folder, f"{name}.log")
    server = None
    try:
        with open(log, "wb") as errors, Interrupts.put_off():
            # A session of its own: Ctrl-C of a terminal is for us, who then end the servers.
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                       stderr=errors, text=True, start_new_session=True)
            server = Server(name, process, unix, log, scraped)
        deadline = time.monotonic() + START_S
        while not ready(process, name, place.pidfile):
            if not server.alive():
                raise Failure(f"{title(name)} did not start: {server.said()}")
            if time.monotonic() > deadline:
                raise Failure(f"{title(name)} does not listen after {START_S} s: {server.said()}")
        yield server
    finally:
        if server:
            server.end()
            server.process.stdout.close()
        for path in (unix, place.pidfile, scraped):
            if path:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)


# --- the image ------------------------------------------------------------------------------------


@contextlib.contextmanager
def image_in(folder, size):
    """A file of random bytes without holes (qemu-nbd seeks for holes with each read, and is slow on
    a file with many), and how long its data took to reach the disk.

    Written by pages, as one that random reads and writes have brought into the page cache. What is
    written by megabytes stands there in large folios, of which ext4 in Linux 6.16 to at least 6.18
    looks at every page for each 4 KiB written: 16 us instead of 1.7, whoever serves it."""
    path = os.path.join(folder, f"weir-nbd-{os.getpid()}.img")
    space = os.statvfs(folder)
    if space.f_bavail * space.f_frsize < size + (64 << 20):
        raise Failure(f"{folder}: no room for an image of {size >> 20} MiB")
    try:
        pages = [os.urandom(PAGE) for _ in range(256)]
        with open(path, "xb", buffering=0) as file:
            for number in range(size // PAGE):
                if file.write(pages[number % len(pages)]) != PAGE:
                    raise Failure(f"{folder}: its disk takes no more")
            begin = time.monotonic()
            os.fdatasync(file.fileno())
            sync_s = time.monotonic() - begin
        yield path, sync_s
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def warm(path):
    """Reads the file into the page cache; returns how many bytes were not there."""
    absent = 0
    buffer = bytearray(1 << 20)
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        for offset in range(0, size, len(buffer)):
            wanted = min(len(buffer), size - offset)
            try:
                got = os.preadv(file.fileno(), [buffer], offset, os.RWF_NOWAIT)
            except BlockingIOError:
                got = 0
            except OSError:
                return 0  # tmpfs has no such flag, and needs none: it is the page cache.
            if got < wanted:
                absent += wanted - got
                os.preadv(file.fileno(), [buffer], offset)
    return absent


def settle(path):
    """Lets written data reach the disk, so that one server's writes are no load on the next."""
    with open(path, "rb") as file:
        os.fdatasync(file.fileno())


def kind_of_filesystem(folder):
    """The type of the file system that the folder is on, by the longest mount point above it."""
    best, kind = "", "?"
    folder = os.path.realpath(folder)
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        for line in file:
            fields = line.split()
            point = fields[4].rstrip("/") + "/"
            if f"{folder}/".startswith(point) and len(point) >= len(best):
                best, kind = point, fields[fields.index("-") + 1]
    return kind
