/* SPDX-License-Identifier: MIT */
/* engine/base/probes.h in a build without sys/sdt.h. */
#include "unit.h"

#include <engine/op/op.h>

static int looks;

static struct weir_op *look(struct weir_op *op)
{
    looks++;
    return op;
}

static void a_probe_that_is_not_there_evaluates_nothing(void **state)
{
    (void)state;
    struct weir_op op = {0};
    WEIR_PROBE_SUBMIT(look(&op));
    WEIR_PROBE_REFUSE(look(&op), looks++);
    WEIR_PROBE_LEAVE(look(&op));
    WEIR_PROBE_DONE(look(&op), looks++);
    WEIR_PROBE_HAND_BACK(look(&op), looks++);
    WEIR_PROBE_TURN(look(&op), looks++);
    WEIR_PROBE_STALL(look(&op), looks++);
    assert_int_equal(looks, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_probe_that_is_not_there_evaluates_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
