/* SPDX-License-Identifier: MIT */
/* What the library says of itself: its version, and the names of stages and causes. */
#include "unit.h"

#include <string.h>
#include <weir/weir.h>

static void the_version_is_the_projects(void **state)
{
    (void)state;
    assert_string_equal(weir_version(), WEIR_PROJECT_VERSION);
}

static void every_stage_has_a_name_and_no_other(void **state)
{
    (void)state;
    assert_string_equal(weir_stage_name(WEIR_STAGE_WAIT), "wait");
    assert_string_equal(weir_stage_name(WEIR_STAGE_FLIGHT), "flight");
    assert_string_equal(weir_stage_name(WEIR_STAGE_DELIVERY), "delivery");
    assert_string_equal(weir_stage_name(WEIR_STAGE_TOTAL), "total");
    assert_null(weir_stage_name(WEIR_STAGE_COUNT));
    assert_null(weir_stage_name((enum weir_stage)1000));
}

static void every_cause_has_a_name_of_its_own(void **state)
{
    (void)state;
    for (int cause = WEIR_CAUSE_NONE; cause <= WEIR_CAUSE_OTHER; cause++) {
        assert_non_null(weir_cause_name((enum weir_cause)cause));
        for (int other = WEIR_CAUSE_NONE; other < cause; other++) {
            assert_string_not_equal(weir_cause_name((enum weir_cause)cause),
                                    weir_cause_name((enum weir_cause)other));
        }
    }
    assert_string_equal(weir_cause_name(WEIR_CAUSE_SECCOMP), "seccomp");
    assert_string_equal(weir_cause_name(WEIR_CAUSE_MEMLOCK), "memlock");
    assert_string_equal(weir_cause_name(WEIR_CAUSE_FEATURE), "feature missing");
    assert_string_equal(weir_cause_name(WEIR_CAUSE_KERNEL_BUG), "kernel bug");
    assert_null(weir_cause_name((enum weir_cause)(WEIR_CAUSE_OTHER + 1)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_version_is_the_projects),
        cmocka_unit_test(every_stage_has_a_name_and_no_other),
        cmocka_unit_test(every_cause_has_a_name_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
