/* SPDX-License-Identifier: MIT */
/* groups.c: the groups of the contract program. memory.c, a program of its own, has its own
 * list. */
#include "seam.h"

extern const struct seam_group answers_group;
extern const struct seam_group call_group;
extern const struct seam_group calls_at_once_group;
extern const struct seam_group cancel_group;
extern const struct seam_group clamp_group;
extern const struct seam_group close_group;
extern const struct seam_group close_calls_group;
extern const struct seam_group closing_fds_group;
extern const struct seam_group deadline_group;
extern const struct seam_group failed_group;
extern const struct seam_group fork_group;
extern const struct seam_group gate_group;
extern const struct seam_group goals_group;
extern const struct seam_group handback_group;
extern const struct seam_group inside_group;
extern const struct seam_group kinds_files_group;
extern const struct seam_group kinds_paths_group;
extern const struct seam_group kinds_sockets_group;
extern const struct seam_group lanes_group;
extern const struct seam_group late_group;
extern const struct seam_group loopfd_group;
extern const struct seam_group loopfd_workers_group;
extern const struct seam_group nonblock_group;
extern const struct seam_group observe_group;
extern const struct seam_group observer_group;
extern const struct seam_group offload_fds_group;
extern const struct seam_group offload_gate_group;
extern const struct seam_group offload_limits_group;
extern const struct seam_group on_the_spot_group;
extern const struct seam_group parked_group;
extern const struct seam_group splices_group;
extern const struct seam_group poll_group;
extern const struct seam_group post_group;
extern const struct seam_group posted_group;
extern const struct seam_group races_group;
extern const struct seam_group refill_group;
extern const struct seam_group results_group;
extern const struct seam_group room_group;
extern const struct seam_group routes_group;
extern const struct seam_group shares_group;
extern const struct seam_group signals_group;
extern const struct seam_group snapshots_group;
extern const struct seam_group spin_group;
extern const struct seam_group stages_group;
extern const struct seam_group stuck_group;
extern const struct seam_group task_limits_group;
extern const struct seam_group tasks_group;
extern const struct seam_group threads_group;
extern const struct seam_group timers_group;
extern const struct seam_group watch_group;
extern const struct seam_group watermarks_group;
extern const struct seam_group whole_group;

/* One a line, in the contract's order. */
/* clang-format off */
const struct seam_group *const seam_groups[] = {
    &handback_group,
    &refill_group,
    &inside_group,
    &results_group,
    &whole_group,
    &clamp_group,
    &nonblock_group,
    &races_group,
    &parked_group,
    &splices_group,
    &poll_group,
    &cancel_group,
    &deadline_group,
    &closing_fds_group,
    &offload_fds_group,
    &timers_group,
    &threads_group,
    &post_group,
    &posted_group,
    &late_group,
    &snapshots_group,
    &spin_group,
    &fork_group,
    &failed_group,
    &loopfd_group,
    &loopfd_workers_group,
    &close_group,
    &stuck_group,
    &close_calls_group,
    &room_group,
    &gate_group,
    &answers_group,
    &shares_group,
    &task_limits_group,
    &watermarks_group,
    &goals_group,
    &offload_gate_group,
    &offload_limits_group,
    &on_the_spot_group,
    &call_group,
    &calls_at_once_group,
    &lanes_group,
    &routes_group,
    &signals_group,
    &tasks_group,
    &observe_group,
    &observer_group,
    &stages_group,
    &kinds_files_group,
    &kinds_paths_group,
    &kinds_sockets_group,
    &watch_group,
    NULL,
};
