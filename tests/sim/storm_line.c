/* SPDX-License-Identifier: MIT */
/*
 * storm_line.c: the books of the gates as their callers may keep them: a line for each task, its
 * share of places, credits and bytes, and who may go. Written from the public headers; of the
 * engine it looks at an op's state alone, where only the engine knows when somebody left a line.
 */
#include "storm.h"

#include <engine/loop/loop.h>

struct line *line_of(struct storm *storm, enum bound bound, int task)
{
    bool apart = task >= 0 && bound <= BOUND_OFFLOAD;
    return &storm->lines[bound][apart ? task : STORM_TASKS];
}

static struct line *own_line(struct item *item)
{
    return &item->storm->lines[item->bound][item->line];
}

/* --- arithmetic ------------------------------------------------------------------------------- */

unsigned line_reserved(const struct storm *storm, enum bound bound)
{
    unsigned sum = 0;
    for (unsigned i = 0; i < STORM_LINES; i++) {
        sum += storm->lines[bound][i].reserve;
    }
    return sum;
}

static unsigned beyond(unsigned used, unsigned reserve)
{
    return used > reserve ? used - reserve : 0;
}

/* Places that are taken from what is nobody's. */
static unsigned lent_places(const struct storm *storm, enum bound bound)
{
    unsigned sum = 0;
    for (unsigned i = 0; i < STORM_LINES; i++) {
        sum += beyond(storm->lines[bound][i].live, storm->lines[bound][i].reserve);
    }
    return sum;
}

static unsigned lent_credits(const struct storm *storm, enum bound bound)
{
    unsigned sum = 0;
    for (unsigned i = 0; i < STORM_LINES; i++) {
        sum += beyond(storm->lines[bound][i].flying, storm->lines[bound][i].reserve);
    }
    return sum;
}

uint64_t line_sum_bytes(const struct storm *storm, enum bound bound, bool flying)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < STORM_LINES; i++) {
        const struct line *line = &storm->lines[bound][i];
        sum += flying ? line->bytes_flying : line->bytes;
    }
    return sum;
}

/* One larger op passes alone; one that moves nothing has nothing to do with it. */
static bool fits_budget(uint64_t used, uint64_t more, uint64_t most)
{
    return most == 0 || more == 0 || used == 0 || used + more <= most;
}

static uint64_t budget(const struct storm *storm, enum bound bound)
{
    return bound <= BOUND_OFFLOAD ? storm->options.bytes_max : 0;
}

void line_read_depths(struct storm *storm)
{
    struct weir_op call = {.kind = WEIR_KIND_CALL};
    for (enum bound bound = 0; bound <= BOUND_OFFLOAD; bound++) {
        struct weir_gate_state state;
        const struct weir_op *op = bound == BOUND_OFFLOAD ? &call : NULL;
        STORM_EQUAL(storm, weir_loop_gate(storm->loop, op, &state), 0);
        storm->depths[bound] = state.depth;
    }
}

bool line_has_place(const struct storm *storm, enum bound bound, const struct line *line)
{
    unsigned most = gate_most(storm, bound);
    return storm->live[bound] < most &&
           (line->live < line->reserve ||
            line_reserved(storm, bound) + lent_places(storm, bound) < most);
}

static bool has_reserve(const struct storm *storm, enum bound bound, const struct line *line)
{
    return line->flying < line->reserve && storm->flying[bound] < gate_credits(storm, bound);
}

bool line_is_armed(const struct item *item)
{
    return weir_kind_traits(item->op.kind) & WEIR_KIND_WAITS;
}

/* What a line takes of the gate, when those over its cap are not counted. */
static unsigned wanting(const struct line *line)
{
    return line->depth != 0 && line->live > line->depth ? line->depth : line->live;
}

/* Whether a lowered depth has room for one more, of those that are live, or in flight. */
static bool fits_lowered(const struct storm *storm, enum bound bound, bool flying)
{
    unsigned used = 0;
    unsigned free = 0;
    for (unsigned i = 0; i < STORM_LINES; i++) {
        const struct line *line = &storm->lines[bound][i];
        used += flying ? line->steered_flying : line->steered;
        free += beyond(line->reserve, flying ? line->flying : line->live);
    }
    return storm->depths[bound] == gate_credits(storm, bound) ||
           used + free <= line_reserved(storm, bound) || used + free + 1 <= storm->depths[bound];
}

bool line_would_wait(struct storm *storm, enum bound bound, const struct line *line, uint64_t bytes,
                     bool armed)
{
    line_look(storm);
    unsigned kept = line_reserved(storm, bound) + lent_credits(storm, bound);
    if (line->live < line->reserve && kept <= gate_credits(storm, bound)) {
        return false;
    }
    unsigned lent = 0;
    for (unsigned i = 0; i < STORM_LINES; i++) {
        const struct line *each = &storm->lines[bound][i];
        lent += beyond(wanting(each), each->reserve);
    }
    bool full = (lent > 0 && line_reserved(storm, bound) + lent + 1 > gate_credits(storm, bound)) ||
                !(armed || fits_lowered(storm, bound, false));
    bool capped = line->depth != 0 && line->live > 0 && line->live + 1 > line->depth;
    return full || capped || !fits_budget(line->bytes, bytes, line->bytes_max) ||
           !fits_budget(line_sum_bytes(storm, bound, false), bytes, budget(storm, bound));
}

static bool fits_line(const struct line *line, const struct item *item)
{
    bool capped = line->depth != 0 && line->flying > 0 && line->flying + 1 > line->depth;
    return !capped && fits_budget(line->bytes_flying, item->bytes, line->bytes_max);
}

static bool fits_gate(struct storm *storm, const struct item *item)
{
    enum bound bound = item->bound;
    unsigned lent = lent_credits(storm, bound);
    bool full = (lent > 0 && line_reserved(storm, bound) + lent + 1 > gate_credits(storm, bound)) ||
                !(line_is_armed(item) || fits_lowered(storm, bound, true));
    return !full &&
           fits_budget(line_sum_bytes(storm, bound, true), item->bytes, budget(storm, bound));
}

static bool transfers(const struct item *item)
{
    return weir_kind_traits(item->op.kind) & WEIR_KIND_MAY_WHOLE;
}

uint64_t line_bytes(const struct item *item, enum bound bound)
{
    const struct storm *storm = item->storm;
    bool waits = line_is_armed(item);
    const struct line *line = &storm->lines[bound][item->task < 0 ? STORM_TASKS : item->task];
    bool counts = bound <= BOUND_OFFLOAD && (budget(storm, bound) | line->bytes_max) != 0;
    return counts && transfers(item) && !waits ? item->length : 0;
}

bool line_refuses(const struct storm *storm, unsigned flags)
{
    return flags & WEIR_OR_REFUSE ||
           (storm->options.flags & WEIR_REFUSES && !(flags & (WEIR_OR_WAIT | WEIR_OR_RUN)));
}

/* --- the way of an op ------------------------------------------------------------------------- */

/* Lines with somebody in them. */
static unsigned count_waiting(const struct storm *storm, enum bound bound)
{
    unsigned lines = 0;
    for (unsigned i = 0; i < STORM_LINES; i++) {
        lines += !TAILQ_EMPTY(&storm->lines[bound][i].waiting);
    }
    return lines;
}

bool line_has_goals(const struct storm *storm)
{
    bool goals = storm->options.goal_ns != 0;
    for (unsigned i = 0; i < STORM_LINES; i++) {
        goals |= storm->lines[BOUND_GATE][i].goal_ns != 0;
    }
    return goals;
}

static bool is_governed(const struct storm *storm, const struct line *line)
{
    return storm->options.bytes_max != 0 || line_has_goals(storm) ||
           (line->depth | line->reserve) != 0 || line->bytes_max != 0;
}

void line_enter(struct item *item)
{
    struct storm *storm = item->storm;
    bool apart = item->task >= 0 && item->bound <= BOUND_OFFLOAD;
    item->line = apart ? (unsigned)item->task : STORM_TASKS;
    struct line *line = own_line(item);
    line_look(storm);
    if (count_waiting(storm, item->bound) == 0) {
        storm->virtual_time[item->bound] = storm->last_tag[item->bound]; /* nobody owes either */
    }
    if (TAILQ_EMPTY(&line->waiting) && line->tag < storm->virtual_time[item->bound]) {
        line->tag = storm->virtual_time[item->bound]; /* who was idle is owed nothing */
    }
    storm->live[item->bound]++;
    line->live++;
    item->steered = is_governed(storm, line) && !line_is_armed(item);
    line->steered += item->steered;
    item->bytes = line_bytes(item, item->bound);
    line->bytes += item->bytes;
    if (item->bound <= BOUND_OFFLOAD) {
        item->waits = true;
        TAILQ_INSERT_TAIL(&line->waiting, item, link);
    }
}

static void spend(struct item *item)
{
    struct storm *storm = item->storm;
    if (item->bound == BOUND_GATE) {
        storm->turn_ops++;
        storm->turn_bytes += transfers(item) ? item->length : 0;
    }
}

/* The first of a line that could go now as far as its task is concerned. */
static const struct item *could_go(struct storm *storm, enum bound bound, unsigned line)
{
    const struct item *first = TAILQ_FIRST(&storm->lines[bound][line].waiting);
    return first && fits_line(&storm->lines[bound][line], first) ? first : NULL;
}

/* Who is first of all, or one of several of that tag, waits for bytes: those who move none may
 * pass. */
static bool lets_light_ones_pass(struct storm *storm, enum bound bound)
{
    uint64_t flying = line_sum_bytes(storm, bound, true);
    uint64_t tag = UINT64_MAX;
    bool waits = false;
    for (unsigned i = 0; i < STORM_LINES; i++) {
        const struct item *item = could_go(storm, bound, i);
        if (item && storm->lines[bound][i].tag <= tag) {
            waits &= storm->lines[bound][i].tag == tag;
            waits |= !fits_budget(flying, item->bytes, budget(storm, bound));
            tag = storm->lines[bound][i].tag;
        }
    }
    return waits;
}

/* Whether one of another task is to be served first. */
static bool is_behind(struct item *item)
{
    struct storm *storm = item->storm;
    bool only_light = item->bytes == 0 && lets_light_ones_pass(storm, item->bound);
    for (unsigned i = 0; i < STORM_LINES; i++) {
        const struct line *line = &storm->lines[item->bound][i];
        if (i == item->line || TAILQ_EMPTY(&line->waiting)) {
            continue;
        }
        if (has_reserve(storm, item->bound, line)) {
            return true;
        }
        const struct item *first = could_go(storm, item->bound, i);
        if (first && line->tag < own_line(item)->tag && !(only_light && first->bytes != 0)) {
            return true;
        }
    }
    return false;
}

/* Ops of the storm are too small to count for more than one. */
static void serve(struct item *item)
{
    struct storm *storm = item->storm;
    struct line *line = own_line(item);
    uint64_t *virtual_time = &storm->virtual_time[item->bound];
    uint64_t *last_tag = &storm->last_tag[item->bound];
    if (item != storm->submitting) {
        *virtual_time = line->tag > *virtual_time ? line->tag : *virtual_time;
        line->tag += count_waiting(storm, item->bound) > 1 ? (1u << 20) / line->share : 0;
        *last_tag = line->tag > *last_tag ? line->tag : *last_tag;
    }
}

void line_admit(struct item *item)
{
    struct storm *storm = item->storm;
    struct line *line = own_line(item);
    if (!has_reserve(storm, item->bound, line)) {
        bool lowered = storm->depths[item->bound] < gate_credits(storm, item->bound);
        if (!storm->order_unsure && !lowered && is_behind(item)) {
            item_wrong(item, "served before one of another task whose turn it was");
        }
        serve(item);
    }
    TAILQ_REMOVE(&line->waiting, item, link);
    item->waits = false;
    item->admitted = true;
    if (has_reserve(storm, item->bound, line)) {
        line->bytes -= item->bytes; /* it passes every budget */
        item->bytes = 0;
    } else if (!fits_line(line, item)) {
        item_wrong(item, "past the caps of its task");
    } else if (!fits_gate(storm, item)) {
        item_wrong(item, "past the credits or bytes of its gate, or into another's reserve");
    }
    storm->flying[item->bound]++;
    line->flying++;
    line->steered_flying += item->steered;
    line->bytes_flying += item->bytes;
    spend(item);
    if (storm->flying[item->bound] > gate_credits(storm, item->bound)) {
        item_wrong(item, "more are in flight than there are credits");
    }
}

void line_leave(struct item *item)
{
    struct storm *storm = item->storm;
    struct line *line = own_line(item);
    item->live = false;
    if (item->posted) {
        TAILQ_REMOVE(&line->posts, item, link);
        storm->posted--;
        item->posted = false;
        return;
    }
    if (item->waits) {
        TAILQ_REMOVE(&line->waiting, item, link);
        item->waits = false;
    }
    storm->live[item->bound]--;
    line->live--;
    line->steered -= item->steered;
    line->bytes -= item->bytes;
    if (item->admitted && item->bound <= BOUND_OFFLOAD) {
        storm->flying[item->bound]--;
        line->flying--;
        line->steered_flying -= item->steered;
        line->bytes_flying -= item->bytes;
    }
}

void line_wait_no_more(struct item *item)
{
    struct storm *storm = item->storm;
    if (item->waits) {
        TAILQ_REMOVE(&own_line(item)->waiting, item, link);
        item->waits = false;
    }
    if (item->posted) {
        TAILQ_REMOVE(&own_line(item)->posts, item, link);
        storm->posted--;
        item->posted = false;
        item->bound = BOUND_CALLER; /* neither: it comes from the early list */
        item->line = STORM_TASKS;
        storm->live[BOUND_CALLER]++;
        own_line(item)->live++;
    }
}

/* A CLOSE that waits for others on its fd has a credit and is not staged. */
static void look_at(struct item *item)
{
    if (item->op.state == WEIR_DONE) {
        if (!gate_is_unsure(item)) {
            item_wrong(item, "it waits no more, and nobody asked it back");
        }
        line_wait_no_more(item);
    } else if (item->op.state == WEIR_IN_FLIGHT && item->op.kind == WEIR_KIND_CLOSE) {
        item->storm->order_unsure =
            true; /* whom it has sent away, and when, only the engine knows */
        line_admit(item);
    }
}

void line_look(struct storm *storm)
{
    for (unsigned i = 0; i < 2 * STORM_LINES; i++) {
        struct line *line = &storm->lines[i / STORM_LINES][i % STORM_LINES];
        struct item *next;
        for (struct item *item = TAILQ_FIRST(&line->waiting); item; item = next) {
            next = TAILQ_NEXT(item, link);
            if (item != storm->submitting) {
                look_at(item);
            }
        }
    }
}

/* --- who could go ----------------------------------------------------------------------------- */

/* 0: nobody; more: surely somebody. Where the gate has no room for one of those whose turn it may
 * be, all may rightly wait behind it. */
struct could {
    bool reserved;
    bool all_reserved;
    bool other;
    bool all_others;
};

static bool fits_turn(const struct storm *storm, const struct item *item)
{
    uint64_t most = storm->options.admit_bytes_max;
    most = most ? most : 8u << 20;
    return item->bound != BOUND_GATE || !transfers(item) || storm->turn_bytes == 0 ||
           (storm->turn_bytes <= most && item->length <= most - storm->turn_bytes);
}

static void ask_line(struct storm *storm, struct line *line, bool in_turn, struct could *could)
{
    struct item *item = TAILQ_FIRST(&line->waiting);
    if (!item) {
        return;
    }
    bool in_budget = !in_turn || fits_turn(storm, item);
    if (has_reserve(storm, item->bound, line)) {
        could->reserved = true;
        could->all_reserved &= in_budget;
    } else if (fits_line(line, item)) {
        could->other = true;
        could->all_others &= in_budget && fits_gate(storm, item);
    }
}

void line_judge(struct storm *storm, bool in_turn)
{
    uint32_t ops_max = storm->options.admit_ops_max ? storm->options.admit_ops_max : 256;
    line_look(storm);
    for (enum bound bound = 0; bound <= BOUND_OFFLOAD; bound++) {
        struct could could = {.all_reserved = true, .all_others = true};
        for (unsigned i = 0; i < STORM_LINES; i++) {
            ask_line(storm, &storm->lines[bound][i], in_turn, &could);
        }
        bool spent = in_turn && bound == BOUND_GATE && storm->turn_ops >= ops_max;
        bool could_go = could.reserved ? could.all_reserved : could.other && could.all_others;
        if (could_go && !spent) {
            storm_fail(storm, WEIR_SITE, "%s an op that could go waits at gate %d",
                       in_turn ? "after the turn let ops through" : "it sleeps, and", (int)bound);
        }
    }
    if (in_turn) {
        storm->turn_ops = 0;
        storm->turn_bytes = 0;
    }
}
