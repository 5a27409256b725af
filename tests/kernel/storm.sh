#!/bin/bash
# SPDX-License-Identifier: MIT
# storm.sh PROGRAM POLICY OPS seeds: the storm with fixed seeds and one that is new each time; 200
# of them with WEIR_LONG=1.
# storm.sh PROGRAM POLICY OPS broken-cancel: the storm must notice that cancels are lost.
set -u
program=$1
policy=$2
ops=$3

seeds()
{
    local fixed="6 8" count=0 failed=0 seed # a gate of one, and a wide one
    if [ "${WEIR_LONG:-0}" = 1 ]; then
        fixed=$(seq 1 199)
    fi
    for seed in $fixed "$(date +%s%N)"; do
        count=$((count + 1))
        if ! "$program" --policy "$policy" --seed "$seed" --ops "$ops"; then
            echo "FAILED: $program --policy $policy --seed $seed --ops $ops"
            failed=$((failed + 1))
        fi
    done
    echo "$failed of $count seeds failed"
    [ "$failed" = 0 ]
}

broken_cancel()
{
    local output code seed
    for seed in 1 2 3; do
        output=$("$program" --policy "$policy" --seed "$seed" --ops "$ops" --patience 3 \
            --broken-cancel 2>&1)
        code=$?
        echo "$output"
        if [ "$code" != 1 ] || ! grep -q "lost cancel" <<<"$output"; then
            echo "FAILED: seed $seed: exit $code, and the storm did not notice the lost cancels"
            return 1
        fi
    done
}

case $4 in
seeds) seeds ;;
broken-cancel) broken_cancel ;;
esac
