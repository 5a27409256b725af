/* SPDX-License-Identifier: MIT */
/*
 * perf/gate_rig.c: opens the loop and its pools, feeds them, and adds up. Invariant: an arrival is
 * offered once, and offered = accepted + refused; the engine's counters must say the same.
 */
#include "gate_rig.h"

#include <errno.h>
#include <string.h>

#include "gate_request.h"
#include "meter.h"
#include "report.h"

#define MESSAGE 64
#define DRAIN_NS (2 * (uint64_t)WEIR_S) /* then what is out is cancelled */
#define HANG_NS (20 * (uint64_t)WEIR_S)

/*
 * Arrivals nearer than this are watched for. A sleeping CPU of a virtual machine takes 25 to 60 us
 * to wake up, which would be most of what is measured.
 */
#define WATCH_NS 100000

/* --- requests --------------------------------------------------------------------------------- */

/* The latest used first, so that memory is touched only when so many are out at once. */
static struct request *take_request(struct flow *flow)
{
    struct request *request = flow->free;
    if (request != NULL) {
        flow->free = request->next;
        return request;
    }
    if (flow->fresh == flow->room) {
        return NULL;
    }
    request = &flow->requests[flow->fresh++];
    request->flow = flow;
    request->op.task = flow->task;
    return request;
}

static void give_request(struct request *request)
{
    request->next = request->flow->free;
    request->flow->free = request;
}

static void on_done(struct weir_op *op)
{
    struct request *request = WEIR_CONTAINER(op, struct request, op);
    struct flow *flow = request->flow;
    struct rig *rig = flow->rig;
    flow->out--;
    flow->traffic.finished++;
    if (op->result == -ECANCELED && rig->cancels) {
        flow->traffic.cancelled++;
        rig->sent--;
    } else if (op->result != (rig->plan.echo ? MESSAGE : (int64_t)flow->work.block)) {
        rig->error = op->result < 0 ? (int)op->result : -EIO;
    }
    weir_histogram_record(&flow->traffic.intended, meter_clock() - request->intended_ns);
    give_request(request);
}

/* 0; -EAGAIN: refused; -ENOBUFS: the pool is empty; what else submit answered. */
static int offer(struct flow *flow, uint64_t intended_ns)
{
    struct rig *rig = flow->rig;
    struct request *request = take_request(flow);
    if (request == NULL) {
        return -ENOBUFS;
    }
    char *buffer = flow->buffers + (size_t)(request - flow->requests) * flow->work.block;
    if (rig->plan.echo) {
        weir_op_send(&request->op, rig->fd, buffer, MESSAGE, 0);
    } else {
        weir_op_read(&request->op, flow->work.fd, buffer, flow->work.block,
                     workload_next(&flow->work).offset);
    }
    request->op.callback = on_done;
    request->intended_ns = intended_ns;
    int r = weir_submit(rig->loop, &request->op);
    flow->traffic.offered++;
    if (r == 0) {
        flow->traffic.accepted++;
        flow->out++;
        rig->sent++;
    } else {
        flow->traffic.refused += r == -EAGAIN;
        give_request(request);
    }
    return r;
}

static void note(struct rig *rig, int r)
{
    if (r == -ENOBUFS) {
        rig->exhausted = true;
    } else if (r < 0 && r != -EAGAIN && rig->error == 0) {
        rig->error = r;
    }
}

/* All arrivals before that time, and what a closed loop lacks. True: something was offered. */
static bool feed(struct flow *flow, uint64_t before_ns)
{
    struct rig *rig = flow->rig;
    bool fed = false;
    for (int r = 0; r == 0 && flow->out < flow->outstanding;) {
        r = offer(flow, meter_clock());
        fed |= r == 0;
        note(rig, r);
    }
    if (flow->gap_ns == 0) {
        return fed;
    }
    double before = (double)(before_ns - rig->begun_ns);
    while (flow->next_ns < before && !rig->exhausted && rig->error == 0) {
        note(rig, offer(flow, rig->begun_ns + (uint64_t)flow->next_ns));
        flow->next_ns += flow->gap_ns;
        fed = true;
    }
    return fed;
}

/* --- an echo's replies ------------------------------------------------------------------------ */

void gate_on_reply(struct weir_op *op)
{
    struct drain *drain = WEIR_CONTAINER(op, struct drain, op);
    struct rig *rig = drain->rig;
    drain->armed = false;
    if (op->result == MESSAGE) {
        rig->received++;
    } else if (op->result != -ECANCELED) {
        rig->error = op->result < 0 ? (int)op->result : -EIO;
    }
}

/*
 * Replies must be received or the peer stands still, and with it everything that is to be sent: so
 * their task has a reserve, and a full gate cannot keep them out.
 */
static bool arm_drains(struct rig *rig)
{
    bool armed = false;
    for (int i = 0; i < DRAINS && rig->plan.echo; i++) {
        struct drain *drain = &rig->drains[i];
        if (drain->armed) {
            continue;
        }
        weir_op_recv(&drain->op, rig->fd, drain->message, sizeof drain->message, 0);
        int r = weir_submit(rig->loop, &drain->op);
        drain->armed = r == 0;
        armed |= r == 0;
        note(rig, r);
    }
    return armed;
}

/* --- the generator ---------------------------------------------------------------------------- */

static bool feed_all(struct rig *rig, uint64_t before_ns)
{
    bool fed = arm_drains(rig);
    for (int i = 0; i < FLOWS_MAX; i++) {
        fed |= feed(&rig->flows[i], before_ns);
    }
    return fed;
}

/* How long a turn may sleep. */
static int64_t time_to_sleep(const struct rig *rig, uint64_t now_ns, uint64_t end_ns)
{
    uint64_t next_ns = end_ns;
    for (int i = 0; i < FLOWS_MAX; i++) {
        const struct flow *flow = &rig->flows[i];
        uint64_t arrival_ns = rig->begun_ns + (uint64_t)flow->next_ns;
        if (flow->gap_ns != 0 && arrival_ns < next_ns) {
            next_ns = arrival_ns;
        }
    }
    int64_t wait_ns = next_ns > now_ns ? (int64_t)(next_ns - now_ns) : 0;
    if (rig->sleeps) {
        return wait_ns;
    }
    return wait_ns > WATCH_NS ? wait_ns - WATCH_NS : 0;
}

bool rig_work_until(struct rig *rig, uint64_t end_ns)
{
    uint64_t now_ns = meter_clock();
    for (;;) {
        bool fed = feed_all(rig, now_ns < end_ns ? now_ns : end_ns);
        if (rig->exhausted || rig->error != 0 || meter_is_over()) {
            return false;
        }
        if (now_ns >= end_ns) {
            return true;
        }
        int64_t wait_ns = fed ? 0 : time_to_sleep(rig, now_ns, end_ns);
        int made = weir_loop_turn(rig->loop, wait_ns);
        note(rig, made);
        uint64_t after_ns = meter_clock();
        /* A turn that may have slept, or had nothing to do, says nothing about its length. */
        if (wait_ns == 0 && (fed || made > 0)) {
            weir_histogram_record(&rig->turns, after_ns - now_ns);
        }
        now_ns = after_ns;
    }
}

void rig_settle(struct rig *rig)
{
    rig->turns = (struct weir_histogram){0};
    for (int i = 0; i < FLOWS_MAX; i++) {
        struct flow *flow = &rig->flows[i];
        if (flow->task != NULL) {
            flow->traffic = (struct traffic){.offered = flow->out, .accepted = flow->out};
            flow->counted = (struct weir_task_counters){.submitted = flow->out};
            weir_task_reset(flow->task);
        }
    }
}

void rig_begin(struct rig *rig, bool sleeps)
{
    rig->sleeps = sleeps;
    rig->exhausted = false;
    rig_settle(rig);
    rig->begun_ns = meter_clock();
}

void rig_pace(struct rig *rig, uint32_t flow, double per_s)
{
    double now_ns = (double)(meter_clock() - rig->begun_ns);
    rig->flows[flow].gap_ns = per_s > 0 ? 1e9 / per_s : 0;
    rig->flows[flow].next_ns = now_ns;
}

void rig_keep_out(struct rig *rig, uint32_t flow, uint32_t outstanding)
{
    rig->flows[flow].outstanding = outstanding;
}

static void add_counters(struct flow *flow)
{
    struct weir_task_counters counters;
    weir_task_read_counters(flow->task, &counters);
    flow->counted.submitted += counters.submitted;
    flow->counted.refused += counters.refused;
    flow->counted.finished += counters.finished;
}

static int check_flow(const struct flow *flow)
{
    const struct traffic *seen = &flow->traffic;
    const struct weir_task_counters *told = &flow->counted;
    if (seen->offered == seen->accepted + seen->refused && seen->finished == seen->accepted &&
        told->submitted == seen->accepted && told->refused == seen->refused &&
        told->finished == seen->finished) {
        return 0;
    }
    complain("the sums are wrong: %llu offered, %llu accepted, %llu refused, %llu finished; the "
             "engine counted %llu submitted, %llu refused, %llu finished",
             (unsigned long long)seen->offered, (unsigned long long)seen->accepted,
             (unsigned long long)seen->refused, (unsigned long long)seen->finished,
             (unsigned long long)told->submitted, (unsigned long long)told->refused,
             (unsigned long long)told->finished);
    return -1;
}

static bool is_drained(const struct rig *rig)
{
    return rig->flows[0].out == 0 && rig->flows[1].out == 0 &&
           (!rig->plan.echo || rig->received == rig->sent);
}

/*
 * Without a gate so much may be out that it would take minutes: the age that it has reached when it
 * is cancelled is less than its latency would have been.
 */
static void drain(struct rig *rig)
{
    uint64_t cancel_ns = meter_clock() + DRAIN_NS;
    uint64_t hang_ns = meter_clock() + HANG_NS;
    while (!is_drained(rig) && rig->error == 0) {
        arm_drains(rig);
        note(rig, weir_loop_turn(rig->loop, WEIR_S / 10));
        uint64_t now_ns = meter_clock();
        if (now_ns > cancel_ns && !rig->cancels) {
            rig->cancels = true;
            note(rig, weir_cancel_task(rig->loop, rig->flows[0].task));
        } else if (now_ns > hang_ns) {
            rig->error = -ETIMEDOUT;
        }
    }
    rig->cancels = false;
}

int rig_end(struct rig *rig)
{
    drain(rig);
    int r = 0;
    for (int i = 0; i < FLOWS_MAX; i++) {
        struct flow *flow = &rig->flows[i];
        flow->outstanding = 0;
        flow->gap_ns = 0;
        if (flow->task != NULL && rig->error == 0) {
            weir_task_read(flow->task, WEIR_STAGE_TOTAL, &flow->traffic.born);
            add_counters(flow);
            r |= check_flow(flow);
        }
    }
    if (rig->error != 0) {
        complain("an op or a turn failed: %s", strerror(-rig->error));
        return -1;
    }
    return r;
}

void rig_take_flight(struct rig *rig, uint32_t flow, struct weir_histogram *ret_flight)
{
    weir_task_read(rig->flows[flow].task, WEIR_STAGE_FLIGHT, ret_flight);
    add_counters(&rig->flows[flow]);
    weir_task_reset(rig->flows[flow].task);
}

uint32_t rig_depth(const struct rig *rig)
{
    struct weir_gate_state state = {0};
    weir_loop_gate(rig->loop, NULL, &state);
    return state.depth;
}
