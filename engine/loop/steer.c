/* SPDX-License-Identifier: MIT */
/*
 * steer.c: the depth that holds a latency goal: additive increase, multiplicative decrease, and a
 * band between them in which the depth stays. See docs/decisions/0018-steering.md.
 *
 * A goal is judged by the ops that left since the depth was last changed: every 10 ms that bring
 * 128 of them back, every second at the latest, when one without any is met: who is idle keeps
 * nobody back. More than 1 in 100 late: the depth goes down by an eighth, more than 1 in 10: to its
 * half. At most 1 in 100 later than 7/8 of the goal, for every goal, and ops waited for the depth:
 * it goes up by a sixteenth. Knows no clock but what it is told.
 */
#include <engine/loop/gate.h>

#define WINDOW_NS 10000000ULL
#define WINDOW_LONGEST_NS 1000000000ULL
#define SAMPLES_ENOUGH 128
#define IN_HUNDRED 100 /* p99 */
#define IN_TEN 10

enum verdict { TOO_EARLY, MET, NEARLY, MISSED, MISSED_BY_FAR };

void weir_steer_set(struct weir_steer *steer, struct weir_goal *goal)
{
    if (goal->flight_ns != 0) {
        goal->next = steer->goals;
        steer->goals = goal;
    }
}

static void begin_window(struct weir_goal *goal, uint64_t now_ns)
{
    goal->begin_ns = now_ns;
    goal->samples = 0;
    goal->late = 0;
    goal->near = 0;
}

static void put_depth(struct weir_gate *gate, uint32_t depth, uint64_t now_ns)
{
    struct weir_steer *steer = &gate->steer;
    gate->depth = depth;
    steer->changed_ns = now_ns;
    for (struct weir_goal *goal = steer->goals; goal; goal = goal->next) {
        begin_window(goal, now_ns);
        goal->holds = false;
    }
    steer->held = false;
    if (depth == gate->depth_max) {
        steer->reason = WEIR_DEPTH_AS_OPENED;
        steer->task = NULL;
    }
}

void weir_steer_unset(struct weir_gate *gate, struct weir_goal *goal)
{
    if (goal->flight_ns == 0) {
        return;
    }
    struct weir_steer *steer = &gate->steer;
    struct weir_goal **at = &steer->goals;
    while (*at != goal) {
        at = &(*at)->next;
    }
    *at = goal->next;
    if (!steer->goals || (steer->task && steer->task == goal->task)) {
        put_depth(gate, gate->depth_max, steer->changed_ns);
        steer->held_ns = 0; /* it may be long before somebody looks again */
    }
}

void weir_steer_add(struct weir_steer *steer, struct weir_goal *goal, uint64_t left_ns,
                    uint64_t flight_ns)
{
    if (goal->flight_ns == 0 || left_ns < steer->changed_ns) {
        return;
    }
    if (goal->samples == 0) {
        goal->begin_ns = left_ns + flight_ns; /* now */
    }
    goal->samples++;
    goal->late += flight_ns > goal->flight_ns;
    goal->near += flight_ns > goal->flight_ns - goal->flight_ns / 8;
}

static enum verdict judge(const struct weir_goal *goal, uint64_t now_ns)
{
    uint64_t samples = goal->samples;
    uint64_t wanted_ns = samples >= SAMPLES_ENOUGH ? WINDOW_NS : WINDOW_LONGEST_NS;
    if (now_ns < goal->begin_ns + wanted_ns) {
        return TOO_EARLY;
    }
    return (uint64_t)goal->late * IN_TEN > samples       ? MISSED_BY_FAR
           : (uint64_t)goal->late * IN_HUNDRED > samples ? MISSED
           : (uint64_t)goal->near * IN_HUNDRED > samples ? NEARLY
                                                         : MET;
}

static void lower(struct weir_gate *gate, const struct weir_goal *goal, enum verdict verdict,
                  uint64_t now_ns)
{
    struct weir_steer *steer = &gate->steer;
    uint32_t step = verdict == MISSED_BY_FAR ? gate->depth / 2 : gate->depth / 8;
    uint32_t depth = gate->depth - (step > 0 ? step : 1);
    depth = depth > steer->depth_min && depth < gate->depth ? depth : steer->depth_min;
    if (depth < gate->depth) {
        steer->lowered++;
        steer->reason = goal->task ? WEIR_DEPTH_TASK_GOAL : WEIR_DEPTH_LOOP_GOAL;
        steer->task = goal->task;
    }
    put_depth(gate, depth, now_ns);
}

static void raise(struct weir_gate *gate, uint64_t now_ns)
{
    uint32_t step = gate->depth / 16 > 0 ? gate->depth / 16 : 1;
    uint32_t room = gate->depth_max - gate->depth;
    gate->steer.raised++;
    put_depth(gate, gate->depth + (step < room ? step : room), now_ns);
}

void weir_steer_judge(struct weir_gate *gate, uint64_t now_ns)
{
    struct weir_steer *steer = &gate->steer;
    bool any_met = false;
    bool any_holds = false;
    for (struct weir_goal *goal = steer->goals; goal; goal = goal->next) {
        enum verdict verdict = judge(goal, now_ns);
        if (verdict >= MISSED) {
            lower(gate, goal, verdict, now_ns);
            return;
        }
        if (verdict != TOO_EARLY) {
            goal->holds = verdict == NEARLY;
            begin_window(goal, now_ns);
        }
        any_met |= verdict == MET;
        any_holds |= goal->holds;
    }
    if (any_met) {
        if (steer->held && !any_holds && gate->depth < gate->depth_max) {
            raise(gate, now_ns);
        }
        steer->held = false;
    }
}

void weir_steer_look(struct weir_gate *gate, uint64_t now_ns)
{
    struct weir_steer *steer = &gate->steer;
    if (steer->held_ns != 0 && now_ns > steer->held_ns) {
        steer->throttled_ns += now_ns - steer->held_ns;
    }
    bool held = weir_gate_has_waiting(gate) && gate->depth < gate->depth_max &&
                weir_gate_in_flight(gate) + gate->unused_credits >= gate->depth;
    steer->held |= held;
    steer->held_ns = held ? now_ns : 0;
}
