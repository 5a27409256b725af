/* SPDX-License-Identifier: MIT */
/* engine/base/probes.h in a build without sys/sdt.h. */
#include "unit.h"

#include <engine/op/op.h>

static void a_probe_that_is_not_there_evaluates_nothing(void **state)
{
    (void)state;
    static struct weir_op ops[8];
    struct weir_op *op = ops;
    int64_t result = 0;
    WEIR_PROBE_SUBMIT(op++);
    WEIR_PROBE_REFUSE(op++, result++);
    WEIR_PROBE_LEAVE(op++);
    WEIR_PROBE_DONE(op++, result++);
    WEIR_PROBE_HAND_BACK(op++, result++);
    WEIR_PROBE_TURN(op++, result++);
    WEIR_PROBE_STALL(op++, result++);
    assert_ptr_equal(op, ops);
    assert_int_equal(result, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_probe_that_is_not_there_evaluates_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
