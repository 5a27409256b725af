/* SPDX-License-Identifier: MIT */
/*
 * choose.h: the choice itself: which backend, what a refusal means, which kernels have a bug that
 * hurts. Pure functions of what was found, so that every case is a line of a table test. Must not
 * ask the system anything.
 */
#ifndef WEIR_ENGINE_CHOOSE_H
#define WEIR_ENGINE_CHOOSE_H

#include <stdbool.h>
#include <weir/op.h>
#include <weir/policy.h>

/* What stands around a refusal and tells who refused. */
struct weir_surroundings {
    const char *release;     /* uname's */
    int io_uring_disabled;   /* the sysctl; 0 where there is none */
    bool io_uring_permitted; /* while that is 1: by capability or group */
    int seccomp_mode;        /* of this thread: 0 none, 1 strict, 2 filter; -1: not known */
    bool memlock_limited;
};

/* The class of a negative errno that a backend gave when it was opened. */
enum weir_cause weir_policy_classify(enum weir_policy backend, int error,
                                     const struct weir_surroundings *surroundings);

/*
 * Chooses for decision->policy (and from_environment, for the hints) a backend that carries out
 * native_kinds by itself. WEIR_IO_URING or WEIR_EPOLL; or the negative errno of the last candidate
 * looked at. Fills chosen and rejected: those that were looked at and cannot be had, then those
 * that a demand for another ruled out, as far as they would have been preferred to the one chosen.
 */
int weir_policy_choose(uint64_t native_kinds, const struct weir_probe *probe,
                       struct weir_decision *decision);

/* Adds a rejection, hint and all; *decision has then chosen nobody. */
void weir_policy_reject(struct weir_decision *decision, enum weir_policy backend, int error,
                        enum weir_cause cause);

/* Says in one line why decision->chosen was chosen, cut to size: weir_facts.reason. */
void weir_policy_reason(const struct weir_decision *decision, char *ret_reason, size_t size);

/* What is known to be wrong with a kernel's io_uring. */
struct weir_kernel_bugs {
    const char *bug; /* with all of it: reason enough to do without; NULL: nothing */
    uint64_t kinds;  /* with these kinds, which are better carried out elsewhere; a bit each */
};

/* release and machine as uname(2) has them. */
struct weir_kernel_bugs weir_policy_kernel_bugs(const char *release, const char *machine);

#endif
