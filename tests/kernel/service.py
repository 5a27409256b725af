# SPDX-License-Identifier: MIT
"""service.py: runs top_target for the drivers beside it, in a folder of its own, and tells it what
to do."""
import os
import shutil
import socket
import subprocess
import tempfile


class Service:
    """A running top_target. `with Service(program, mode) as service:`"""

    def __init__(self, program, *modes):
        self.folder = tempfile.mkdtemp(prefix="weir-")
        self.path = os.path.join(self.folder, "weir.sock")
        self.command = [program, self.path, *modes]
        self.start()

    def start(self):
        """Also once more, after its end."""
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self.expect("ready")

    def expect(self, line):
        got = self.process.stdout.readline().strip()
        assert got == line, f"the service said {got!r}, not {line!r}"

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def stick(self):
        self.tell("stick")
        self.expect("stuck")

    def go_on(self):
        self.tell("go on")
        self.expect("going on")

    def connect(self):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.connect(self.path)
        connection.settimeout(60)
        return connection

    def end(self):
        """It closes all it has, and has left no socket behind."""
        self.process.stdin.close()
        code = self.process.wait(60)
        assert code == 0, f"the service ended with {code}"
        assert not os.path.exists(self.path), "its socket is there still"

    def kill(self):
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            if kind is None and self.process.poll() is None:
                self.end()
        finally:
            if self.process.poll() is None:
                self.kill()
            self.process.stdout.close()
            shutil.rmtree(self.folder)


def run_tests(tests, names):
    """Those named, or all; an assertion that fails is a traceback and exit code 1."""
    known = {test.__name__: test for test in tests}
    for name in names or known:
        known[name]()
        print(f"ok: {name}", flush=True)
