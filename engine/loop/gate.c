/* SPDX-License-Identifier: MIT */
/*
 * gate.c: the arithmetic of admission, and the fair order of those who wait.
 *
 * Order: start-time fair queueing. A flow's tag is the virtual time at which its first op is to be
 * served: it moves on by the op's cost over the flow's share. The lowest is next; at equal tags who
 * began to wait first. A flow that begins to wait starts at the gate's virtual time, so that it is
 * owed nothing for having been idle, and owes nothing for what it was lent: when nobody waits any
 * more, the virtual time jumps past all tags. What goes through while nobody waits is not counted.
 */
#include <engine/loop/gate.h>

#define TAG_UNIT (1ULL << 20) /* of virtual time: an op of a flow of share 1 */

void weir_gate_init(struct weir_gate *gate, unsigned index, uint32_t depth, uint32_t waiting_max)
{
    *gate = (struct weir_gate){
        .depth = depth,
        .depth_max = depth,
        .places = depth + waiting_max,
        .index = index,
        .common = {.share = 1},
        .steer = {.depth_min = 1},
    };
}

/* --- lines ------------------------------------------------------------------------------------ */

/* Tags may wrap. */
static bool is_before(uint64_t tag, uint64_t than)
{
    return (int64_t)(tag - than) < 0;
}

void weir_gate_append(struct weir_gate *gate, struct weir_flow *flow, enum weir_line line)
{
    struct weir_flow_list *list = &gate->lines[line];
    flow->links[line] = (struct weir_flow_link){.prev = list->tail};
    *(list->tail ? &list->tail->links[line].next : &list->head) = flow;
    list->tail = flow;
}

void weir_gate_remove(struct weir_gate *gate, struct weir_flow *flow, enum weir_line line)
{
    struct weir_flow_list *list = &gate->lines[line];
    struct weir_flow_link link = flow->links[line];
    *(link.prev ? &link.prev->links[line].next : &list->head) = link.next;
    *(link.next ? &link.next->links[line].prev : &list->tail) = link.prev;
}

void weir_gate_stand(struct weir_gate *gate, struct weir_flow *flow, enum weir_line line,
                     struct weir_op *op)
{
    bool first = !flow->lines[line].head;
    weir_queue_push(&flow->lines[line], op);
    if (!first) {
        return;
    }
    if (line == WEIR_LINE_WAITING && !gate->lines[line].head) {
        gate->virtual_time = gate->last_tag; /* all debts are forgotten */
    }
    weir_gate_append(gate, flow, line);
    if (line == WEIR_LINE_WAITING && is_before(flow->tag, gate->virtual_time)) {
        flow->tag = gate->virtual_time;
    }
}

void weir_gate_step_out(struct weir_gate *gate, struct weir_flow *flow, enum weir_line line,
                        struct weir_op *op)
{
    weir_queue_remove(&flow->lines[line], op);
    if (!flow->lines[line].head) {
        weir_gate_remove(gate, flow, line);
    }
}

/* --- books ------------------------------------------------------------------------------------ */

static uint32_t unused(uint32_t reserve, uint32_t used)
{
    return used < reserve ? reserve - used : 0;
}

static uint32_t over_cap(const struct weir_flow *flow)
{
    return flow->depth != 0 && flow->live > flow->depth ? flow->live - flow->depth : 0;
}

static void count_live(struct weir_gate *gate, struct weir_flow *flow, int more)
{
    gate->unused_places -= unused(flow->reserve, flow->live);
    gate->over_cap -= over_cap(flow);
    flow->live += (uint32_t)more;
    gate->over_cap += over_cap(flow);
    gate->unused_places += unused(flow->reserve, flow->live);
}

static void count_in_flight(struct weir_gate *gate, struct weir_flow *flow, int64_t more)
{
    gate->unused_credits -= unused(flow->reserve, flow->in_flight);
    flow->in_flight += (uint32_t)more;
    gate->unused_credits += unused(flow->reserve, flow->in_flight);
}

struct weir_want weir_gate_want(const struct weir_gate *gate, const struct weir_op *op)
{
    uint32_t most = gate->depth_max - gate->reserved;
    uint32_t traits = weir_kind_traits(op->kind);
    bool transfers = traits & WEIR_KIND_MAY_WHOLE && !(traits & WEIR_KIND_WAITS);
    uint64_t bytes = transfers ? weir_op_bytes(op) : 0;
    return (struct weir_want){
        .waits = traits & WEIR_KIND_WAITS,
        .credits = op->burst < 2      ? 1
                   : op->burst < most ? op->burst
                                      : most,
        .bytes = bytes < WEIR_TRANSFER_MAX ? bytes : WEIR_TRANSFER_MAX,
    };
}

static bool waits(const struct weir_op *op)
{
    return weir_kind_traits(op->kind) & WEIR_KIND_WAITS;
}

static void count_steered(struct weir_gate *gate, struct weir_flow *flow, const struct weir_op *op,
                          int more)
{
    if (!waits(op)) {
        gate->steered += (uint32_t)more * op->credits;
        gate->steer.of_loop.out += (uint32_t)more;
        flow->goal.out += (uint32_t)more;
    }
}

static bool counts_bytes(const struct weir_gate *gate, const struct weir_flow *flow)
{
    return gate->bytes_max != 0 || flow->bytes_max != 0;
}

/* --- limits ----------------------------------------------------------------------------------- */

/* A budget lets one op pass alone, whatever its size, and stops nobody who moves nothing. */
static bool fits_budget(uint64_t used, uint64_t more, uint64_t most)
{
    return most == 0 || more == 0 || used == 0 || (more <= most && used <= most - more);
}

/* The part of the flow's reserve that is free is enough; false for a while after it was set at a
 * gate that was full. */
static bool fits_reserve(const struct weir_gate *gate, const struct weir_flow *flow,
                         struct weir_want want)
{
    return flow->reserve != 0 && flow->in_flight + want.credits <= flow->reserve &&
           weir_gate_in_flight(gate) + want.credits <= gate->depth_max;
}

bool weir_gate_is_reserved(const struct weir_gate *gate, const struct weir_flow *flow)
{
    const struct weir_op *op = flow->lines[WEIR_LINE_WAITING].head;
    return fits_reserve(gate, flow, weir_gate_want(gate, op));
}

static bool fits_flow(const struct weir_flow *flow, struct weir_want want)
{
    bool credits =
        flow->depth == 0 || flow->in_flight == 0 || flow->in_flight + want.credits <= flow->depth;
    return credits && fits_budget(flow->bytes_in_flight, want.bytes, flow->bytes_max);
}

/* One that wants more than a lowered depth passes when nothing else that it bounds is in flight but
 * what is reserved. */
static bool fits_depth(const struct weir_gate *gate, struct weir_want want)
{
    uint32_t taken = weir_gate_in_flight(gate) + gate->unused_credits;
    if (taken > gate->reserved && taken + want.credits > gate->depth_max) {
        return false;
    }
    uint32_t steered = gate->steered + gate->unused_credits;
    return gate->depth == gate->depth_max || want.waits || steered <= gate->reserved ||
           steered + want.credits <= gate->depth;
}

static bool fits_bytes(const struct weir_gate *gate, struct weir_want want)
{
    return fits_budget(gate->bytes_in_flight, want.bytes, gate->bytes_max);
}

bool weir_gate_would_wait(const struct weir_gate *gate, const struct weir_flow *flow,
                          struct weir_want want)
{
    bool reserves_stand = weir_gate_in_flight(gate) + gate->unused_credits <= gate->depth_max;
    if (flow->live + want.credits <= flow->reserve && reserves_stand) {
        return false;
    }
    uint64_t taken =
        gate->live - gate->over_cap + gate->extra + gate->extra_wanted + gate->unused_places;
    uint64_t steered = gate->steered_live + gate->unused_places;
    bool gate_full = (taken > gate->reserved && taken + want.credits > gate->depth_max) ||
                     (gate->depth < gate->depth_max && !want.waits && steered > gate->reserved &&
                      steered + want.credits > gate->depth);
    bool flow_full = flow->depth != 0 && flow->live != 0 && flow->live + want.credits > flow->depth;
    return gate_full || flow_full || !fits_budget(gate->bytes, want.bytes, gate->bytes_max) ||
           !fits_budget(flow->bytes, want.bytes, flow->bytes_max);
}

int weir_gate_set_limits(struct weir_gate *gate, struct weir_task *task,
                         const struct weir_flow *limits)
{
    uint32_t reserve = limits->reserve;
    bool over_cap = limits->depth != 0 && reserve > limits->depth;
    if (limits->share > WEIR_SHARE_MAX || over_cap ||
        (reserve != 0 && reserve >= gate->depth_max - gate->reserved)) {
        return -EINVAL;
    }
    struct weir_flow *flow = &task->flows[gate->index];
    *flow = (struct weir_flow){
        .share = limits->share ? limits->share : 1,
        .depth = limits->depth,
        .reserve = reserve,
        .bytes_max = limits->bytes_max,
        .goal = {.flight_ns = limits->goal.flight_ns, .task = task},
    };
    flow->governed = (flow->depth | reserve) != 0 || (flow->bytes_max | flow->goal.flight_ns) != 0;
    gate->reserved += reserve;
    gate->unused_places += reserve;
    gate->unused_credits += reserve;
    weir_steer_set(&gate->steer, &flow->goal);
    return 0;
}

void weir_gate_clear_limits(struct weir_gate *gate, struct weir_task *task)
{
    struct weir_flow *flow = &task->flows[gate->index];
    gate->reserved -= flow->reserve;
    gate->unused_places -= flow->reserve;
    gate->unused_credits -= flow->reserve;
    weir_steer_unset(gate, &flow->goal);
}

/* --- the way of an op ------------------------------------------------------------------------- */

void weir_gate_enter(struct weir_gate *gate, struct weir_flow *flow, struct weir_op *op)
{
    gate->live++;
    gate->unadmitted++;
    if (op->governed & WEIR_GOVERNED) {
        struct weir_want want = weir_gate_want(gate, op);
        op->bytes = counts_bytes(gate, flow) ? want.bytes : 0;
        op->credits = want.credits;
        gate->extra_wanted += op->credits - 1u;
        gate->steered_live += !want.waits;
        count_live(gate, flow, 1);
        gate->bytes += op->bytes;
        flow->bytes += op->bytes;
    }
    weir_gate_stand(gate, flow, WEIR_LINE_WAITING, op);
}

static struct weir_flow *find_posted(const struct weir_gate *gate)
{
    struct weir_flow *flow = gate->lines[WEIR_LINE_POSTED].head;
    while (flow && !weir_gate_has_place(gate, flow)) {
        flow = flow->links[WEIR_LINE_POSTED].next;
    }
    return flow;
}

bool weir_gate_can_take_post(const struct weir_gate *gate)
{
    return find_posted(gate) != NULL;
}

struct weir_op *weir_gate_take_post(struct weir_gate *gate)
{
    struct weir_flow *flow = find_posted(gate);
    if (!flow) {
        return NULL;
    }
    struct weir_op *op = flow->lines[WEIR_LINE_POSTED].head;
    weir_gate_step_out(gate, flow, WEIR_LINE_POSTED, op);
    if (flow->lines[WEIR_LINE_POSTED].head) {
        weir_gate_remove(gate, flow, WEIR_LINE_POSTED);
        weir_gate_append(gate, flow, WEIR_LINE_POSTED);
    }
    return op;
}

static bool is_earlier(const struct weir_flow *flow, const struct weir_flow *than)
{
    return !than || is_before(flow->tag, than->tag);
}

/* One that may be next. */
struct candidate {
    struct weir_flow *flow;
    struct weir_want want;
};

static void consider(struct candidate *best, struct weir_flow *flow, struct weir_want want)
{
    if (is_earlier(flow, best->flow)) {
        *best = (struct candidate){flow, want};
    }
}

/* Who only takes what is reserved for it goes first. A flow at its cap lets others pass; where the
 * gate is full for the lowest tag, nobody passes it: else a wide op would wait for ever. But while
 * that one waits for bytes, who moves none may pass, and while it waits for a depth that is
 * lowered, who is not bound by it: it may be the RECV that a peer waits for. */
struct weir_flow *weir_gate_next(const struct weir_gate *gate)
{
    struct candidate next = {0};
    struct candidate light = {0};
    struct candidate armed = {0};
    for (struct weir_flow *flow = gate->lines[WEIR_LINE_WAITING].head; flow;
         flow = flow->links[WEIR_LINE_WAITING].next) {
        struct weir_want want = weir_gate_want(gate, flow->lines[WEIR_LINE_WAITING].head);
        if (fits_reserve(gate, flow, want)) {
            return flow;
        }
        if (!fits_flow(flow, want)) {
            continue;
        }
        consider(&next, flow, want);
        if (want.bytes == 0) {
            consider(&light, flow, want);
        }
        if (want.waits) {
            consider(&armed, flow, want);
        }
    }
    if (next.flow && !fits_bytes(gate, next.want)) {
        next = light;
    }
    if (next.flow && !fits_depth(gate, next.want)) {
        next = armed; /* it moves no bytes either */
    }
    return next.flow && fits_depth(gate, next.want) ? next.flow : NULL;
}

static bool waits_alone(const struct weir_gate *gate)
{
    return gate->lines[WEIR_LINE_WAITING].head == gate->lines[WEIR_LINE_WAITING].tail;
}

static void serve(struct weir_gate *gate, struct weir_flow *flow, struct weir_want want)
{
    if (is_before(gate->virtual_time, flow->tag)) {
        gate->virtual_time = flow->tag;
    }
    if (!waits_alone(gate)) {
        uint64_t cost = want.credits + want.bytes / WEIR_SHARE_BYTES;
        flow->tag += cost * TAG_UNIT / flow->share;
        if (is_before(gate->last_tag, flow->tag)) {
            gate->last_tag = flow->tag;
        }
    }
}

struct weir_op *weir_gate_admit(struct weir_gate *gate, struct weir_flow *flow)
{
    struct weir_op *op = flow->lines[WEIR_LINE_WAITING].head;
    struct weir_want want = weir_gate_want(gate, op);
    bool is_reserved = fits_reserve(gate, flow, want);
    if (!is_reserved) {
        serve(gate, flow, want);
    }
    gate->unadmitted--;
    if (op->governed & WEIR_GOVERNED) {
        gate->extra_wanted -= op->credits - 1u;
        op->credits = want.credits;
        gate->extra += op->credits - 1u;
        count_in_flight(gate, flow, op->credits);
        count_steered(gate, flow, op, 1);
        if (is_reserved) { /* it passes the byte budgets */
            gate->bytes -= op->bytes;
            flow->bytes -= op->bytes;
            op->bytes = 0;
        }
        gate->bytes_in_flight += op->bytes;
        flow->bytes_in_flight += op->bytes;
    }
    weir_gate_step_out(gate, flow, WEIR_LINE_WAITING, op);
    return op;
}

void weir_gate_release(struct weir_gate *gate, struct weir_flow *flow, struct weir_op *op)
{
    bool had_credit = weir_op_has_credit(op);
    gate->live--;
    gate->unadmitted -= !had_credit;
    uint8_t governed = op->governed;
    op->governed = 0;
    if (weir_likely(!(governed & WEIR_GOVERNED))) {
        return;
    }
    count_live(gate, flow, -1);
    gate->steered_live -= !waits(op);
    gate->bytes -= op->bytes;
    flow->bytes -= op->bytes;
    if (had_credit) {
        gate->extra -= op->credits - 1u;
        count_in_flight(gate, flow, -(int64_t)op->credits);
        count_steered(gate, flow, op, -1);
        gate->bytes_in_flight -= op->bytes;
        flow->bytes_in_flight -= op->bytes;
    } else {
        gate->extra_wanted -= op->credits - 1u;
    }
}
