/* SPDX-License-Identifier: MIT */
/*
 * steer.c: the depth that holds a latency goal: additive increase, multiplicative decrease, and a
 * band between them in which the depth stays. See docs/decisions/0018-steering.md.
 *
 * A goal is judged by the ops that left since the depth was last changed: every 10 ms that bring
 * 128 of them back, every second at the latest, when one without any is met, unless one is out all
 * that time: who is idle keeps nobody back. More than 1 in 100 late, and more than one: the depth
 * goes down by an eighth, more than 1 in 10: to a half, of what was used of it. At most 1 in 100
 * later than 7/8 of the goal, for every goal since the depth last changed, and ops waited for the
 * depth: it goes up by a sixteenth. While nothing at all comes back and ops wait, it goes up by one
 * each second. Knows no clock but what it is told.
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
        goal->met = false;
    }
    steer->held = false;
    steer->peak = 0;
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
    if (!steer->goals) {
        put_depth(gate, gate->depth_max, steer->changed_ns);
        steer->held_ns = 0;                 /* it may be long before somebody looks again */
    } else if (steer->task == goal->task) { /* another now answers for the depth */
        steer->task = steer->goals->task;
        steer->reason = steer->task ? WEIR_DEPTH_TASK_GOAL : WEIR_DEPTH_LOOP_GOAL;
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

static uint64_t due_ns(const struct weir_goal *goal)
{
    return goal->begin_ns + (goal->samples >= SAMPLES_ENOUGH ? WINDOW_NS : WINDOW_LONGEST_NS);
}

/* A window without an op is met, unless one is out all that time. One op alone says nothing. */
static enum verdict judge(const struct weir_goal *goal, uint64_t now_ns)
{
    uint64_t samples = goal->samples;
    if (now_ns < due_ns(goal) || (samples == 0 && goal->out > 0)) {
        return TOO_EARLY;
    }
    return goal->late > 1 && (uint64_t)goal->late * IN_TEN > samples       ? MISSED_BY_FAR
           : goal->late > 1 && (uint64_t)goal->late * IN_HUNDRED > samples ? MISSED
           : (uint64_t)goal->near * IN_HUNDRED > samples                   ? NEARLY
                                                                           : MET;
}

/* From what was used of it: a depth that nobody needed is not to blame. */
static void lower(struct weir_gate *gate, const struct weir_goal *goal, enum verdict verdict,
                  uint64_t now_ns)
{
    struct weir_steer *steer = &gate->steer;
    uint32_t used = steer->held || steer->peak > gate->depth ? gate->depth : steer->peak;
    uint32_t step = verdict == MISSED_BY_FAR ? used / 2 : used / 8;
    uint32_t depth = used > 1 ? used - (step > 0 ? step : 1) : gate->depth;
    depth = depth > steer->depth_min ? depth : steer->depth_min;
    if (depth < gate->depth) {
        steer->lowered++;
        steer->reason = goal->task ? WEIR_DEPTH_TASK_GOAL : WEIR_DEPTH_LOOP_GOAL;
        steer->task = goal->task;
    }
    put_depth(gate, depth < gate->depth ? depth : gate->depth, now_ns);
}

static void raise(struct weir_gate *gate, uint64_t now_ns)
{
    uint32_t step = gate->depth / 16 > 0 ? gate->depth / 16 : 1;
    uint32_t room = gate->depth_max - gate->depth;
    gate->steer.raised++;
    put_depth(gate, gate->depth + (step < room ? step : room), now_ns);
}

/* Who is out may never come back (a SEND to a peer that is gone) and hold what others wait for: one
 * more may go each second. Unlike other changes this one leaves the windows as they are: what was
 * in flight before is still heard. */
static void creep(struct weir_gate *gate, uint64_t now_ns)
{
    struct weir_steer *steer = &gate->steer;
    steer->moved_ns = now_ns;
    steer->raised++;
    gate->depth++;
    if (gate->depth == gate->depth_max) {
        steer->reason = WEIR_DEPTH_AS_OPENED;
        steer->task = NULL;
    }
}

static uint64_t creep_ns(const struct weir_gate *gate)
{
    return gate->steer.held_ns != 0 ? gate->steer.moved_ns + WINDOW_LONGEST_NS : UINT64_MAX;
}

void weir_steer_judge(struct weir_gate *gate, uint64_t now_ns)
{
    struct weir_steer *steer = &gate->steer;
    if (now_ns >= creep_ns(gate) && gate->depth < gate->depth_max) {
        creep(gate, now_ns);
    }
    bool all_met = steer->goals != NULL;
    for (struct weir_goal *goal = steer->goals; goal; goal = goal->next) {
        enum verdict verdict = judge(goal, now_ns);
        if (verdict >= MISSED) {
            lower(gate, goal, verdict, now_ns);
            return;
        }
        if (verdict != TOO_EARLY) {
            goal->met = verdict == MET;
            begin_window(goal, now_ns);
        }
        all_met &= goal->met;
    }
    if (all_met && steer->held && gate->depth < gate->depth_max) {
        raise(gate, now_ns);
    }
}

void weir_steer_look(struct weir_gate *gate, uint64_t now_ns)
{
    struct weir_steer *steer = &gate->steer;
    if (steer->held_ns != 0 && now_ns > steer->held_ns) {
        steer->throttled_ns += now_ns - steer->held_ns;
    }
    uint32_t used = gate->steered + gate->unused_credits;
    bool held = weir_gate_has_waiting(gate) && gate->depth < gate->depth_max && used >= gate->depth;
    steer->peak = used > steer->peak ? used : steer->peak;
    steer->held |= held;
    if (held && steer->held_ns == 0 && now_ns > steer->moved_ns) {
        steer->moved_ns = now_ns;
    }
    steer->held_ns = held ? now_ns : 0;
}

uint64_t weir_steer_due(const struct weir_gate *gate)
{
    uint64_t due = creep_ns(gate);
    for (const struct weir_goal *goal = gate->steer.goals; goal && gate->steer.held_ns != 0;
         goal = goal->next) {
        bool stuck = goal->samples == 0 && goal->out > 0;
        due = !stuck && due_ns(goal) < due ? due_ns(goal) : due;
    }
    return due;
}
