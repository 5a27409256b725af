#!/bin/bash
# SPDX-License-Identifier: MIT
# storm.sh PROGRAM seeds: 50 seeds and one that is new each time; 1,000 with WEIR_LONG=1.
# storm.sh PROGRAM broken-cancel: with cancels lost, the storm must say which seed, and how to see
# that again.
set -u
program=$1

seeds()
{
    local last=50
    if [ "${WEIR_LONG:-0}" = 1 ]; then
        last=1000
    fi
    "$program" --seeds "1..$((last / 2))" --long &
    local other=$!
    "$program" --seeds "$((last / 2 + 1))..$last" --long
    local code=$?
    wait "$other" && [ "$code" = 0 ] && "$program" --seed "$(date +%s)"
}

broken_cancel()
{
    local output again
    output=$("$program" --seeds 1..20 --broken-cancel 2>&1)
    if [ $? != 1 ] || ! grep -q "the model: " <<<"$output"; then
        echo "FAILED: the storm did not notice the lost cancels: $output"
        return 1
    fi
    again=$(sed -n 's/^seed [0-9]* failed; again: //p' <<<"$output")
    echo "$output"
    if [ "$($again --broken-cancel 2>&1)" != "$output" ]; then
        echo "FAILED: $again does not fail in the same way"
        return 1
    fi
}

case $2 in
seeds) seeds ;;
broken-cancel) broken_cancel ;;
esac
