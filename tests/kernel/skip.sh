#!/bin/sh
# SPDX-License-Identifier: MIT
# A test that this build cannot have: says why.
echo "skipped: $1"
exit 77
