#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""clients.py PROGRAM POLICY [--server nbdkit] [--without-tls] [--spin US] [TEST...]: real clients
drive the server, each line of them with its exit code checked and what it moved compared.

PROGRAM is weir-nbd. With `--server nbdkit` the tests that are about the protocol run against nbdkit
instead, and the others skip: it shows that a test asks for what the protocol says.
`--without-tls` is for a program that was built without it. `--spin` is given to the program.
"""
import argparse
import os

import clients_copy
import clients_nbdsh
import clients_qemu
import clients_service
import clients_tls
from server import Nbdkit, Server, Skipped, free_port, need, need_policy, run_tests


class Rig:
    """What starts the server that the tests are run against."""

    def __init__(self, program, policy, is_nbdkit, is_without_tls, spin):
        self.program = os.path.abspath(program)
        self.policy = policy
        self.is_nbdkit = is_nbdkit
        self.is_without_tls = is_without_tls
        self.more = ['--spin', spin] if spin else []

    def weir_only(self):
        """For a test of what is ours alone."""
        if self.is_nbdkit:
            raise Skipped('nbdkit has another way')

    def command(self, exports, *options):
        """How the server is called. `exports` is a file, or files by name."""
        if self.is_nbdkit:
            return ['nbdkit', *options, 'file', exports]
        if isinstance(exports, dict):
            words = []
            for name, path in exports.items():
                words += ['--export', f'{name}={path}']
        else:
            words = [exports]
        return [self.program, *words, '--policy', self.policy, *self.more, *options]

    def serve(self, exports, folder, *options, is_read_only=False, is_tcp=False, certificates=None,
              psk=None, environment=None):
        if self.is_nbdkit:
            return self.serve_by_nbdkit(exports, folder, is_read_only, is_tcp, certificates, psk)
        words = ['--listen', '127.0.0.1:0'] if is_tcp else [
            '--unix', os.path.join(folder, 'weir.sock')]
        words += ['--read-only'] if is_read_only else []
        words += ['--tls-certificates', certificates] if certificates else []
        words += ['--tls-psk', psk] if psk else []
        return Server(self.command(exports, *words, *options), folder, environment)

    def serve_by_nbdkit(self, exports, folder, is_read_only, is_tcp, certificates, psk):
        words = ['-r'] if is_read_only else []
        words += ['--tls=require'] if certificates or psk else []
        words += [f'--tls-certificates={certificates}'] if certificates else []
        words += [f'--tls-psk={psk}'] if psk else []
        if isinstance(exports, dict):
            shown = os.path.join(folder, 'exports')
            os.mkdir(shown)
            for name, path in exports.items():
                os.link(path, os.path.join(shown, name))
            plugin = ['file', f'dir={shown}']
        else:
            plugin = ['file', exports]
        port = free_port() if is_tcp else None
        return Nbdkit([*words, *plugin], folder, port, bool(certificates or psk))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('program')
    parser.add_argument('policy', choices=['io_uring', 'epoll', 'auto'])
    parser.add_argument('--server', choices=['weir-nbd', 'nbdkit'], default='weir-nbd')
    parser.add_argument('--without-tls', action='store_true')
    parser.add_argument('--spin')
    parser.add_argument('names', nargs='*')
    options = parser.parse_intermixed_args()
    is_nbdkit = options.server == 'nbdkit'
    need('nbdinfo', 'cmp', *(['nbdkit'] if is_nbdkit else []))
    if not is_nbdkit:
        need_policy(options.policy)
    tests = [*clients_copy.TESTS, *clients_qemu.TESTS, *clients_nbdsh.TESTS, *clients_tls.TESTS,
             *clients_service.TESTS]
    rig = Rig(options.program, options.policy, is_nbdkit, options.without_tls, options.spin)
    run_tests(tests, options.names, [rig])


if __name__ == '__main__':
    main()
