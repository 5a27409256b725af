/* SPDX-License-Identifier: MIT */
/* why [POLICY]: opens a loop as told and says what it runs on, and why on nothing better. */
#include <stdio.h>
#include <string.h>
#include <weir/weir.h>

static int policy_of(const char *name)
{
    static const char *const names[] = {"auto", "io_uring", "epoll"};
    for (int i = 0; i < 3; i++) {
        if (strcmp(name, names[i]) == 0) {
            return i;
        }
    }
    return -1;
}

static void explain(const struct weir_decision *why)
{
    printf("chosen: %s%s\n", why->chosen ? why->chosen : "nothing",
           why->from_environment ? " (asked for by WEIR_POLICY)" : "");
    for (uint32_t i = 0; i < why->rejected_count; i++) {
        const struct weir_rejection *rejected = &why->rejected[i];
        printf("not %s: %s: %s\n  %s\n", rejected->backend, weir_cause_name(rejected->cause),
               strerror(-rejected->error), rejected->hint);
    }
}

int main(int argc, char **argv)
{
    struct weir_probe probe;
    struct weir_decision why;
    struct weir_loop *loop;
    int policy = argc > 1 ? policy_of(argv[1]) : WEIR_AUTO;
    if (argc > 2 || policy < 0) {
        fprintf(stderr, "usage: why [auto|io_uring|epoll]\n");
        return 2;
    }
    weir_probe(&probe); /* once, for any number of loops */
    struct weir_options options = {
        .policy = (enum weir_policy)policy,
        .probe = &probe,
        .decision = &why,
    };
    int result = weir_loop_open(&options, &loop);
    explain(&why); /* it is filled either way */
    if (result < 0) {
        return 1;
    }
    weir_loop_close(loop, 0, NULL);
    return 0;
}
