/* SPDX-License-Identifier: MIT */
/*
 * trace.c: the flight recorder's events as Chrome trace JSON. Told life by life, an op's life after
 * the other, which the format allows: so the same address may be many ops, and clock stamps that
 * were taken out of turn disturb nobody else. Must not know the loop; touches no op.
 *
 * Invariants: every "b" has its "e" with the same id; an id is one life, the number of its first
 * event that was kept; within an id slices nest and times never fall; counters are never negative.
 */
#include <engine/observe/recorder.h>
#include <engine/observe/task.h>
#include <engine/observe/text.h>
#include <stdlib.h>
#include <unistd.h>

#define TASKS_TOLD (1u << 16) /* as many as a record tells apart */
#define NO_STAGE WEIR_STAGE_COUNT

/* Of the counters. */
struct step {
    uint64_t at_ns;
    int32_t live; /* more, or less */
    int32_t in_flight;
};

struct trace {
    const struct weir_tasks *tasks;
    struct weir_record *records; /* in the order they were noted */
    uint32_t *order;             /* of the records: by op, then as they were noted */
    struct step *steps;
    uint64_t count;
    uint64_t first; /* the number of the first record */
    uint64_t step_count;
    uint64_t begin_ns; /* the oldest stamp: ts 0 */
    uint64_t end_ns;   /* when what is live ends */
    int pid;
    bool comma; /* an event stands before the next */
    uint64_t tasks_seen[TASKS_TOLD / 64];
    struct weir_text text;
};

/* An op, from its submission until it is handed back. */
struct life {
    bool open;
    const struct weir_record *record; /* the first */
    uint64_t id;
    uint64_t at_ns;        /* how far its op has been told */
    enum weir_stage stage; /* that lasts; or NO_STAGE */
    bool has_result;
    int64_t result;
};

/* --- one event -------------------------------------------------------------------------------- */

static void begin_of_process(struct trace *trace, const char *phase)
{
    weir_text_print(&trace->text, "%s\n{\"ph\":\"%s\",\"pid\":%d", trace->comma ? "," : "", phase,
                    trace->pid);
    trace->comma = true;
}

/* In the row of a task. */
static void begin_event(struct trace *trace, const char *phase, uint32_t task)
{
    begin_of_process(trace, phase);
    weir_text_print(&trace->text, ",\"tid\":%u", task + 1);
}

static void put_at(struct trace *trace, uint64_t at_ns)
{
    weir_text_print(&trace->text, ",\"ts\":");
    weir_text_fixed(&trace->text, at_ns - trace->begin_ns, 3);
}

static void put_task(struct trace *trace, uint32_t index)
{
    char name[WEIR_TASK_NAME_MAX + 1] = "?";
    if (index < weir_tasks_used(trace->tasks)) {
        weir_task_copy_name(&trace->tasks->array[index], name);
    }
    weir_text_json_string(&trace->text, name);
}

static const char *kind_of(const struct weir_record *record)
{
    const char *name = weir_kind_name(weir_record_kind(record));
    return name ? name : "?"; /* one that was refused may say anything */
}

static void put_arguments(struct trace *trace, const struct weir_record *record)
{
    weir_text_print(&trace->text, ",\"args\":{\"task\":");
    put_task(trace, weir_record_task(record));
    if (weir_record_fd(record) != -1) { /* what the helpers of kinds without one write */
        weir_text_print(&trace->text, ",\"fd\":%d", weir_record_fd(record));
    }
}

static void begin_slice(struct trace *trace, const struct life *life, const char *phase,
                        const char *name, uint64_t at_ns)
{
    begin_event(trace, phase, weir_record_task(life->record));
    weir_text_print(&trace->text, ",\"cat\":\"op\",\"id\":\"0x%llx\",\"name\":\"%s\"",
                    (unsigned long long)life->id, name);
    put_at(trace, at_ns);
}

static void end_event(struct trace *trace)
{
    weir_text_put(&trace->text, "}", 1);
}

/* --- a life ----------------------------------------------------------------------------------- */

static void step(struct trace *trace, uint64_t at_ns, int live, int in_flight)
{
    if (live != 0 || in_flight != 0) {
        trace->steps[trace->step_count++] = (struct step){at_ns, live, in_flight};
    }
}

/* Timers have no gate to be counted behind. */
static bool counts_in_flight(const struct life *life)
{
    return life->stage == WEIR_STAGE_FLIGHT && weir_record_kind(life->record) != WEIR_KIND_TIMEOUT;
}

/* Ends the stage that lasts, begins another. */
static void pass(struct trace *trace, struct life *life, enum weir_stage stage)
{
    if (life->stage != NO_STAGE) {
        begin_slice(trace, life, "e", weir_stage_name(life->stage), life->at_ns);
        end_event(trace);
    }
    life->stage = stage;
    if (stage != NO_STAGE) {
        begin_slice(trace, life, "b", weir_stage_name(stage), life->at_ns);
        end_event(trace);
    }
}

/* Not before the one that its op had last has ended. */
static void begin_life(struct trace *trace, struct life *life, const struct weir_record *record,
                       bool earlier)
{
    *life = (struct life){
        .open = true,
        .record = record,
        .id = trace->first + (uint64_t)(record - trace->records),
        .at_ns = life->at_ns,
        .stage = NO_STAGE,
    };
    begin_slice(trace, life, "b", kind_of(record), life->at_ns);
    put_arguments(trace, record);
    weir_text_print(&trace->text, ",\"op\":\"0x%llx\"%s}}", (unsigned long long)record->op,
                    earlier ? ",\"begun\":\"earlier\"" : "");
}

/* mark: "live" or "lost", if it was not handed back. */
static void end_life(struct trace *trace, struct life *life, const char *mark)
{
    pass(trace, life, NO_STAGE);
    begin_slice(trace, life, "e", kind_of(life->record), life->at_ns);
    weir_text_print(&trace->text, ",\"args\":{");
    if (life->has_result) {
        weir_text_print(&trace->text, "\"result\":%lld%s", (long long)life->result,
                        mark ? "," : "");
    }
    if (mark) {
        weir_text_print(&trace->text, "\"%s\":true", mark);
    }
    weir_text_print(&trace->text, "}}");
    life->open = false;
}

/* The stage of a life whose beginning is lost, by what comes next. What is back without a sample
 * may never have left. */
static enum weir_stage stage_before(const struct weir_record *record)
{
    int64_t result = (int64_t)record->value;
    switch (weir_record_what(record)) {
    case WEIR_RECORDED_LEFT:
        return WEIR_STAGE_WAIT;
    case WEIR_RECORDED_DONE:
        return result == -ECANCELED || result == -ETIME ? NO_STAGE : WEIR_STAGE_FLIGHT;
    default:
        return WEIR_STAGE_DELIVERY;
    }
}

static void begin_earlier(struct trace *trace, struct life *life, const struct weir_record *record)
{
    begin_life(trace, life, record, true);
    pass(trace, life, stage_before(record));
    step(trace, life->at_ns, 1, counts_in_flight(life));
}

/* What befell it, but its submission. Stages are never gone back to: an op that was asked back
 * before its turn may be found to have left after it is done. */
static void go_on(struct trace *trace, struct life *life, const struct weir_record *record)
{
    bool was_in_flight = counts_in_flight(life);
    bool ends = weir_record_what(record) == WEIR_RECORDED_HANDED_BACK;
    if (weir_record_what(record) == WEIR_RECORDED_LEFT) {
        if (life->stage == WEIR_STAGE_WAIT) {
            pass(trace, life, WEIR_STAGE_FLIGHT);
        }
    } else {
        life->has_result = true;
        life->result = (int64_t)record->value;
        if (!ends && life->stage != WEIR_STAGE_DELIVERY) {
            pass(trace, life, WEIR_STAGE_DELIVERY);
        }
    }
    if (ends) {
        end_life(trace, life, NULL);
    }
    step(trace, life->at_ns, ends ? -1 : 0, counts_in_flight(life) - was_in_flight);
}

/* An op that is submitted while it is live has been cleared by its owner, who must not: the flight
 * recorder is for such days too. */
static void submit(struct trace *trace, struct life *life, const struct weir_record *record)
{
    bool was_open = life->open;
    bool was_in_flight = was_open && counts_in_flight(life);
    if (was_open) {
        end_life(trace, life, "lost");
    }
    begin_life(trace, life, record, false);
    bool waits = weir_record_kind(record) != WEIR_KIND_TIMEOUT;
    pass(trace, life, waits ? WEIR_STAGE_WAIT : WEIR_STAGE_FLIGHT);
    step(trace, life->at_ns, was_open ? 0 : 1, was_in_flight ? -1 : 0);
}

static void tell_refused(struct trace *trace, const struct weir_record *record)
{
    begin_event(trace, "i", weir_record_task(record));
    weir_text_print(&trace->text, ",\"s\":\"t\",\"cat\":\"refused\",\"name\":\"refused %s\"",
                    kind_of(record));
    put_at(trace, record->at_ns);
    put_arguments(trace, record);
    weir_text_print(&trace->text, ",\"error\":%lld}}", (long long)record->value);
}

static void end_live(struct trace *trace, struct life *life)
{
    if (life->open) {
        life->at_ns = trace->end_ns;
        end_life(trace, life, "live");
    }
}

static void tell_record(struct trace *trace, struct life *life, const struct weir_record *record)
{
    bool begins = weir_record_what(record) == WEIR_RECORDED_SUBMITTED;
    if (!begins && !life->open) {
        begin_earlier(trace, life, record);
    }
    life->at_ns = record->at_ns > life->at_ns ? record->at_ns : life->at_ns;
    if (begins) {
        submit(trace, life, record);
    } else {
        go_on(trace, life, record);
    }
}

/* All lives, those of one address in turn. */
static void tell_lives(struct trace *trace)
{
    struct life life = {.open = false};
    uint64_t op = 0;
    for (uint64_t i = 0; i < trace->count && trace->text.error == 0; i++) {
        const struct weir_record *record = &trace->records[trace->order[i]];
        uint32_t task = weir_record_task(record);
        trace->tasks_seen[task / 64] |= 1ULL << task % 64;
        if (record->op != op) {
            end_live(trace, &life);
            op = record->op;
            life.at_ns = trace->begin_ns;
        }
        if (weir_record_what(record) == WEIR_RECORDED_REFUSED) {
            tell_refused(trace, record);
        } else {
            tell_record(trace, &life, record);
        }
    }
    end_live(trace, &life);
}

/* --- the counters ----------------------------------------------------------------------------- */

static int compare_steps(const void *a, const void *b)
{
    uint64_t x = ((const struct step *)a)->at_ns;
    uint64_t y = ((const struct step *)b)->at_ns;
    return (x > y) - (x < y);
}

static void tell_count(struct trace *trace, const char *name, uint64_t at_ns, int64_t count)
{
    begin_of_process(trace, "C");
    weir_text_print(&trace->text, ",\"name\":\"%s\"", name);
    put_at(trace, at_ns);
    weir_text_print(&trace->text, ",\"args\":{\"ops\":%lld}}", (long long)count);
}

/* What is of one moment is one step: so the order within it does not matter. */
static void tell_counters(struct trace *trace)
{
    int64_t live = 0;
    int64_t in_flight = 0;
    qsort(trace->steps, trace->step_count, sizeof *trace->steps, compare_steps);
    tell_count(trace, "ops live", trace->begin_ns, live);
    tell_count(trace, "ops in flight", trace->begin_ns, in_flight);
    for (uint64_t i = 0; i < trace->step_count && trace->text.error == 0;) {
        uint64_t at_ns = trace->steps[i].at_ns;
        int64_t live_before = live;
        int64_t in_flight_before = in_flight;
        for (; i < trace->step_count && trace->steps[i].at_ns == at_ns; i++) {
            live += trace->steps[i].live;
            in_flight += trace->steps[i].in_flight;
        }
        if (live != live_before) {
            tell_count(trace, "ops live", at_ns, live);
        }
        if (in_flight != in_flight_before) {
            tell_count(trace, "ops in flight", at_ns, in_flight);
        }
    }
}

/* --- all of it -------------------------------------------------------------------------------- */

static void tell_names(struct trace *trace)
{
    begin_of_process(trace, "M");
    weir_text_print(&trace->text, ",\"name\":\"process_name\",\"args\":{\"name\":\"weir\"}}");
    for (uint32_t task = 0; task < TASKS_TOLD; task++) {
        if (trace->tasks_seen[task / 64] >> task % 64 & 1) {
            begin_event(trace, "M", task);
            weir_text_print(&trace->text, ",\"name\":\"thread_name\",\"args\":{\"name\":");
            put_task(trace, task);
            weir_text_print(&trace->text, "}}");
        }
    }
}

static void tell_all(struct trace *trace)
{
    weir_text_print(&trace->text,
                    "{\"displayTimeUnit\":\"ns\",\"otherData\":{\"clock\":\"CLOCK_MONOTONIC\","
                    "\"begin_ns\":\"%llu\",\"events\":%llu,\"lost\":%llu},\n\"traceEvents\":[",
                    (unsigned long long)trace->begin_ns, (unsigned long long)trace->count,
                    (unsigned long long)trace->first);
    tell_lives(trace);
    tell_counters(trace);
    tell_names(trace);
    weir_text_print(&trace->text, "\n]}\n");
}

static int compare_records(const void *a, const void *b, void *records)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    uint64_t of_x = ((const struct weir_record *)records)[x].op;
    uint64_t of_y = ((const struct weir_record *)records)[y].op;
    return of_x != of_y ? (of_x > of_y) - (of_x < of_y) : (x > y) - (x < y);
}

static void put_in_order(struct trace *trace, uint64_t now_ns)
{
    trace->begin_ns = trace->count > 0 ? UINT64_MAX : now_ns;
    trace->end_ns = now_ns;
    for (uint64_t i = 0; i < trace->count; i++) {
        uint64_t at_ns = trace->records[i].at_ns;
        trace->begin_ns = at_ns < trace->begin_ns ? at_ns : trace->begin_ns;
        trace->end_ns = at_ns > trace->end_ns ? at_ns : trace->end_ns;
        trace->order[i] = (uint32_t)i;
    }
    qsort_r(trace->order, trace->count, sizeof *trace->order, compare_records, trace->records);
}

int weir_recorder_dump(const struct weir_recorder *recorder, const struct weir_tasks *tasks,
                       uint64_t now_ns, weir_writer *writer, void *context)
{
    if (!recorder || !tasks || !writer) {
        return -EINVAL;
    }
    if (!recorder->records) {
        return -ENODATA;
    }
    size_t places = recorder->mask + 1;
    struct trace *trace = calloc(1, sizeof *trace); /* the stack of a worker is small */
    struct weir_record *records = malloc(places * sizeof *records);
    uint32_t *order = malloc(places * sizeof *order);
    struct step *steps = malloc(2 * places * sizeof *steps); /* if all begin earlier */
    int r = -ENOMEM;
    if (trace && records && order && steps) {
        trace->tasks = tasks;
        trace->records = records;
        trace->order = order;
        trace->steps = steps;
        trace->pid = getpid();
        trace->count = weir_recorder_copy(recorder, records, &trace->first);
        put_in_order(trace, now_ns);
        weir_text_begin(&trace->text, writer, context);
        tell_all(trace);
        r = weir_text_end(&trace->text);
    }
    free(steps);
    free(order);
    free(records);
    free(trace);
    return r;
}
