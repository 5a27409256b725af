#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""hostile.py PROGRAM POLICY [TEST...] [--server nbdkit] [--without-tls]: what a server is sent by
clients that err, lie, stall and vanish, and what it has to answer.

After each test the server has to live, to serve, and to have neither memory nor fds lost: ward.py.
With `--server nbdkit` the same is asked of nbdkit (PROGRAM and POLICY are not used): what fails
there too is wrong in the test, unless the test says how nbdkit differs.
"""
import argparse
import contextlib

import hostile_crowd
import hostile_handshake
import hostile_reload
import hostile_requests
import hostile_storage
import hostile_time
import hostile_tls
from server import need, need_policy, run_tests
import ward

MODULES = [hostile_handshake, hostile_requests, hostile_crowd, hostile_time, hostile_storage,
           hostile_reload, hostile_tls]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('program')
    parser.add_argument('policy')
    parser.add_argument('tests', nargs='*')
    parser.add_argument('--server', choices=['nbdkit'])
    parser.add_argument('--loops', help='given to the program')
    parser.add_argument('--spin', help='given to the program')
    parser.add_argument('--without-tls', action='store_true', help='the program has none')
    arguments = parser.parse_intermixed_args()
    if arguments.server:
        need(arguments.server)
    else:
        need_policy(arguments.policy)
    settings = ward.Settings
    settings.program, settings.policy = arguments.program, arguments.policy
    settings.more = [*(['--loops', arguments.loops] if arguments.loops else []),
                     *(['--spin', arguments.spin] if arguments.spin else [])]
    settings.control, settings.is_without_tls = arguments.server, arguments.without_tls

    def the_shared_server_ends_with_0():
        ward.end_shared()

    tests = [test for module in MODULES for test in module.TESTS]
    try:
        run_tests([*tests, the_shared_server_ends_with_0], arguments.tests)
    finally:
        with contextlib.suppress(Exception):  # where only some tests were named
            ward.end_shared()


if __name__ == '__main__':
    main()
