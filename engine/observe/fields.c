/* SPDX-License-Identifier: MIT */
#include <engine/observe/fields.h>
#include <engine/op/flow.h>
#include <stddef.h>
#include <string.h>
#include <weir/loop.h>

#define AT(type, field) offsetof(struct type, field), sizeof((struct type){0}.field)
#define TASK(field) AT(weir_task_counters, field)
#define LOOP(field) AT(weir_counters, field)
#define GATE(field) AT(weir_gate_state, field)
#define TOTAL true, false
#define TOTAL_NS true, true
#define NOW false, false
#define END                                                                                        \
    {                                                                                              \
        NULL, NULL, NULL, 0, 0, NOW                                                                \
    }

const struct weir_field weir_task_fields[] = {
    {"submitted", "weir_task_submitted_total", "Ops that submit accepted.", TASK(submitted), TOTAL},
    {"refused", "weir_task_refused_total", "Ops that submit refused: full.", TASK(refused), TOTAL},
    {"waited", "weir_task_waited_total", "Ops that waited at a gate.", TASK(waited), TOTAL},
    {"shed", "weir_task_shed_total", "Ops whose deadline passed before they left.", TASK(shed),
     TOTAL},
    {"finished", "weir_task_finished_total", "Ops handed back.", TASK(finished), TOTAL},
    {"failed", "weir_task_failed_total", "Ops handed back with an error of their own.",
     TASK(failed), TOTAL},
    {"cancelled", "weir_task_cancelled_total", "Ops handed back cancelled.", TASK(cancelled),
     TOTAL},
    {"expired", "weir_task_expired_total", "Ops handed back past their deadline.", TASK(expired),
     TOTAL},
    {"bytes", "weir_task_moved_bytes_total", "Bytes moved by finished transfers.", TASK(bytes),
     TOTAL},
    {"continued", "weir_task_continued_total", "Short transfers that were continued.",
     TASK(continued), TOTAL},
    {"live", "weir_task_live", "Ops accepted and not handed back.", TASK(live), NOW},
    END,
};

const struct weir_field weir_loop_fields[] = {
    {"submitted", "weir_loop_submitted_total", "Ops that submit accepted.", LOOP(submitted), TOTAL},
    {"refused", "weir_loop_refused_total", "Ops that submit refused: full.", LOOP(refused), TOTAL},
    {"waited", "weir_loop_waited_total", "Ops that waited at a gate.", LOOP(waited), TOTAL},
    {"shed", "weir_loop_shed_total", "Ops whose deadline passed before they left.", LOOP(shed),
     TOTAL},
    {"finished", "weir_loop_finished_total", "Ops handed back.", LOOP(finished), TOTAL},
    {"turns", "weir_loop_turns_total", "Turns.", LOOP(turns), TOTAL},
    {"enters", "weir_loop_enters_total", "Calls of io_uring_enter.", LOOP(enters), TOTAL},
    {"enter_eintr", "weir_loop_enter_eintr_total", "Enters that answered EINTR.", LOOP(enter_eintr),
     TOTAL},
    {"enter_eagain", "weir_loop_enter_eagain_total", "Enters that answered EAGAIN or ENOMEM.",
     LOOP(enter_eagain), TOTAL},
    {"enter_ebusy", "weir_loop_enter_ebusy_total", "Enters that answered EBUSY.", LOOP(enter_ebusy),
     TOTAL},
    {"enter_short", "weir_loop_enter_short_total", "Enters that took fewer entries than offered.",
     LOOP(enter_short), TOTAL},
    {"cq_overflow", "weir_loop_cq_overflow_total", "Completions that the kernel kept aside.",
     LOOP(cq_overflow), TOTAL},
    {"stale", "weir_loop_stale_total", "Completions whose op was gone.", LOOP(stale), TOTAL},
    {"retried", "weir_loop_retried_total", "Ops staged again after EINTR or EAGAIN.", LOOP(retried),
     TOTAL},
    {"continued", "weir_loop_continued_total", "Short transfers that were continued.",
     LOOP(continued), TOTAL},
    {"rearmed", "weir_loop_rearmed_total", "Multishot ops started again.", LOOP(rearmed), TOTAL},
    {"cancels", "weir_loop_cancels_total", "Cancels that went to the kernel.", LOOP(cancels),
     TOTAL},
    {"wakes", "weir_loop_wakes_total", "Wake-ups that cost a system call.", LOOP(wakes), TOTAL},
    {"posts", "weir_loop_posts_total", "Ops posted by other threads.", LOOP(posts), TOTAL},
    {"posts_refused", "weir_loop_posts_refused_total", "Posts refused: full.", LOOP(posts_refused),
     TOTAL},
    {"offloaded", "weir_loop_offloaded_total", "Calls given to workers.", LOOP(offloaded), TOTAL},
    {"caller_ran", "weir_loop_caller_ran_total", "CALLs that submit ran itself.", LOOP(caller_ran),
     TOTAL},
    {"inline_tries", "weir_loop_inline_tries_total", "Ops tried on the spot.", LOOP(inline_tries),
     TOTAL},
    {"inline_done", "weir_loop_inline_done_total", "Ops done on the spot.", LOOP(inline_done),
     TOTAL},
    {"spins", "weir_loop_spins_total", "Turns that watched before they slept.", LOOP(spins), TOTAL},
    {"spins_paid", "weir_loop_spins_paid_total", "Of these, those that found something.",
     LOOP(spins_paid), TOTAL},
    {"spin_ns", "weir_loop_spin_seconds_total", "Time spent watching.", LOOP(spin_ns), TOTAL_NS},
    {"clock_clamped", "weir_loop_clock_clamped_total", "Samples that would have been negative.",
     LOOP(clock_clamped), TOTAL},
    /* The next four are the gates'. */
    {"in_flight", NULL, NULL, LOOP(in_flight), NOW},
    {"waiting", NULL, NULL, LOOP(waiting), NOW},
    {"offload_in_flight", NULL, NULL, LOOP(offload_in_flight), NOW},
    {"offload_waiting", NULL, NULL, LOOP(offload_waiting), NOW},
    {"timers", "weir_loop_timers", "Live timers.", LOOP(timers), NOW},
    END,
};

const struct weir_field weir_gate_fields[] = {
    {"depth", "weir_gate_depth", "Credits given out now.", GATE(depth), NOW},
    {"depth_max", "weir_gate_depth_max", "Credits as opened.", GATE(depth_max), NOW},
    {"in_flight", "weir_gate_in_flight", "Credits taken.", GATE(in_flight), NOW},
    {"waiting", "weir_gate_waiting", "Ops that wait.", GATE(waiting), NOW},
    {"places", "weir_gate_places", "Ops that may be live.", GATE(places), NOW},
    {"reserved", "weir_gate_reserved", "Credits reserved by tasks.", GATE(reserved), NOW},
    {"bytes_in_flight", "weir_gate_in_flight_bytes", "Bytes in flight that a budget counts.",
     GATE(bytes_in_flight), NOW},
    {"bytes_max", "weir_gate_max_bytes", "Bytes in flight at most; 0: no cap.", GATE(bytes_max),
     NOW},
    {"lowered", "weir_gate_lowered_total", "Times that a goal lowered the depth.", GATE(lowered),
     TOTAL},
    {"raised", "weir_gate_raised_total", "Times that the depth was raised again.", GATE(raised),
     TOTAL},
    {"throttled_ns", "weir_gate_throttled_seconds_total",
     "Time that ops waited while a goal kept the depth down.", GATE(throttled_ns), TOTAL_NS},
    END,
};

uint64_t weir_field_value(const struct weir_field *field, const void *of)
{
    const char *at = (const char *)of + field->offset;
    uint32_t small = 0;
    uint64_t value = 0;
    if (field->size == sizeof small) {
        memcpy(&small, at, sizeof small);
        return small;
    }
    memcpy(&value, at, sizeof value);
    return value;
}

const char *weir_gate_name(unsigned gate)
{
    return gate == WEIR_GATE_MAIN ? "main" : "offload";
}

const char *weir_depth_reason_name(unsigned reason)
{
    static const char *const names[] = {
        [WEIR_DEPTH_AS_OPENED] = "as_opened",
        [WEIR_DEPTH_LOOP_GOAL] = "loop_goal",
        [WEIR_DEPTH_TASK_GOAL] = "task_goal",
    };
    return reason < sizeof names / sizeof names[0] ? names[reason] : NULL;
}

const char *weir_error_name(int error)
{
    return strerrorname_np(-error);
}
