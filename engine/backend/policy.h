/* SPDX-License-Identifier: MIT */
/*
 * policy.h: finds out what the system offers, opens the backend that is chosen (choose.h) and
 * writes down why. The one place that names backends, and that reads WEIR_POLICY. Must not know
 * what the loop does with the choice.
 */
#ifndef WEIR_ENGINE_POLICY_H
#define WEIR_ENGINE_POLICY_H

#include <engine/backend/backend.h>

/* Opens the backend that options->policy chooses, by options->probe or by trial: for WEIR_AUTO the
 * second is opened only if the first cannot be. 0 or -errno; options->decision is filled. */
int weir_policy_open(const struct weir_options *options, struct weir_facts *facts,
                     struct weir_backend **ret_backend);

/* Binds it to this thread; a failure goes into options->decision (options may be NULL) as one of
 * open's. */
int weir_policy_adopt(const struct weir_options *options, struct weir_backend *backend,
                      struct weir_facts *facts);

/* The simulated world that it is in; NULL: none. */
struct weir_sim *weir_policy_world(const struct weir_backend *backend);

/* Fills all of *ret_probe but the CPUs, by trying. */
void weir_policy_probe(struct weir_probe *ret_probe);

#endif
