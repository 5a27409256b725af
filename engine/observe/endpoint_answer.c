/* SPDX-License-Identifier: MIT */
/*
 * What an endpoint answers to which path. Loops are only looked at by calls that any thread may
 * make, so that all of it works while one is stuck; answers are made in memory, since nobody may
 * have to wait for a client while a loop is held open.
 */
#include <engine/base/clock.h>
#include <engine/observe/endpoint.h>
#include <engine/observe/pulse.h>
#include <engine/observe/snapshot.h>
#include <engine/observe/symbol.h>
#include <engine/observe/task.h>
#include <engine/observe/text.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define INTERVAL_MIN_NS (500 * WEIR_MS)

/* What the live ops of all loops come to. */
struct listing {
    size_t count;   /* in endpoint->ops */
    uint64_t found; /* live */
    uint32_t seen;  /* loops that showed theirs */
    uint32_t blind; /* loops that did not: not WEIR_INSPECTABLE */
};

/* --- numbers ---------------------------------------------------------------------------------- */

/* Adds all loops, under `as` if that is not "". 0, or the error of the first that could not be
 * added. */
static int take(struct weir_endpoint *endpoint, const char *as)
{
    int r = 0;
    weir_snapshot_clear(endpoint->now);
    for (uint32_t i = 0; i < endpoint->shown_max && r == 0; i++) {
        const struct weir_shown *shown = weir_endpoint_look(endpoint, i);
        if (shown) {
            r = weir_snapshot_add(endpoint->now, shown->loop, as[0] ? as : shown->label);
            weir_endpoint_look_away(endpoint);
        }
    }
    return r;
}

/* The interval since the last one asked for; the same once more if that was a moment ago, so that
 * several who ask now and then do not cut each other's short. */
static int take_interval(struct weir_endpoint *endpoint)
{
    uint64_t now_ns = weir_clock_monotonic();
    if (endpoint->earlier_ns != 0 && now_ns - endpoint->earlier_ns < (uint64_t)INTERVAL_MIN_NS) {
        return 0;
    }
    int r = take(endpoint, "");
    r = r < 0 ? r : weir_snapshot_copy(endpoint->interval, endpoint->now);
    if (r == 0 && endpoint->earlier_ns != 0) {
        r = weir_snapshot_subtract(endpoint->interval, endpoint->earlier);
    }
    if (r < 0) {
        return r;
    }
    struct weir_snapshot *now = endpoint->now;
    endpoint->now = endpoint->earlier;
    endpoint->earlier = now;
    endpoint->earlier_ns = now_ns;
    return 0;
}

/* Says why there is no answer. */
static void fail(struct weir_http_answer *answer, int error)
{
    if (error == -ENOSPC) {
        weir_http_say(answer, 503,
                      "there are more tasks than weir_endpoint_options.tasks_max: raise it");
    } else if (error == -ENOMEM) {
        weir_http_say(answer, 503, "no memory");
    } else if (error == -EOPNOTSUPP) {
        weir_http_say(answer, 501, "this library was built without zlib");
    } else {
        weir_http_say(answer, 500, "errno %d", -error);
    }
}

static void answer_format(struct weir_endpoint *endpoint, const struct weir_http_request *request,
                          enum weir_format format, struct weir_http_answer *answer)
{
    char as[WEIR_LABEL_MAX + 1] = "";
    if (weir_http_parameter(request->query, "as", as, sizeof as) < 0) {
        weir_http_say(answer, 400, "as=LABEL, at most %d bytes, escaped as %%41", WEIR_LABEL_MAX);
        return;
    }
    int r = take(endpoint, as);
    r = r < 0 ? r : weir_snapshot_write(endpoint->now, format, weir_http_append, answer);
    if (r < 0) {
        fail(answer, r);
    }
}

static void answer_metrics(struct weir_endpoint *endpoint, const struct weir_http_request *request,
                           struct weir_http_answer *answer)
{
    answer->type = "text/plain; version=0.0.4; charset=utf-8";
    answer_format(endpoint, request, WEIR_FORMAT_PROMETHEUS, answer);
}

static void answer_hlog(struct weir_endpoint *endpoint, const struct weir_http_request *request,
                        struct weir_http_answer *answer)
{
    answer->type = "text/plain; charset=utf-8";
    answer_format(endpoint, request, WEIR_FORMAT_HLOG, answer);
}

/* --- live ops --------------------------------------------------------------------------------- */

static int by_age(const void *a, const void *b)
{
    uint64_t of_a = ((const struct weir_shown_op *)a)->live.age_ns;
    uint64_t of_b = ((const struct weir_shown_op *)b)->live.age_ns;
    return (of_a < of_b) - (of_a > of_b);
}

static uint64_t less(uint64_t ns, uint64_t by_ns)
{
    return ns == 0 ? 0 : ns > by_ns ? ns - by_ns : 1; /* 0 means that it has not left */
}

/* Of one loop more. Ages of all loops are as of one moment, began_ns: else those of one that was
 * looked at later would seem older. */
static void list_loop(struct weir_endpoint *endpoint, const struct weir_shown *shown,
                      uint64_t began_ns, struct listing *listing)
{
    uint64_t late_ns = weir_clock_monotonic() - began_ns;
    int64_t found = weir_loop_inspect(shown->loop, endpoint->found, WEIR_ENDPOINT_OPS_MAX);
    if (found < 0) {
        listing->blind++;
        return;
    }
    size_t listed = found < WEIR_ENDPOINT_OPS_MAX ? (size_t)found : WEIR_ENDPOINT_OPS_MAX;
    for (size_t i = 0; i < listed; i++) {
        struct weir_shown_op *op = &endpoint->ops[listing->count + i];
        memcpy(op->label, shown->label, sizeof op->label);
        op->live = endpoint->found[i];
        op->live.age_ns = less(op->live.age_ns, late_ns);
        op->live.flight_ns = less(op->live.flight_ns, late_ns);
    }
    listing->seen++;
    listing->found += (uint64_t)found;
    listing->count += listed;
}

/* The oldest of all stay. */
static struct listing list_all(struct weir_endpoint *endpoint)
{
    uint64_t began_ns = weir_clock_monotonic();
    struct listing listing = {0};
    for (uint32_t i = 0; i < endpoint->shown_max; i++) {
        const struct weir_shown *shown = weir_endpoint_look(endpoint, i);
        if (shown) {
            list_loop(endpoint, shown, began_ns, &listing);
            weir_endpoint_look_away(endpoint);
            qsort(endpoint->ops, listing.count, sizeof *endpoint->ops, by_age);
            if (listing.count > WEIR_ENDPOINT_OPS_MAX) {
                listing.count = WEIR_ENDPOINT_OPS_MAX;
            }
        }
    }
    return listing;
}

static void write_frame(struct weir_text *text, const void *frame)
{
    char symbol[WEIR_SYMBOL_MAX];
    weir_symbol_write(frame, symbol, sizeof symbol);
    weir_text_json_string(text, symbol);
}

static void write_member(struct weir_text *text, const char *name, const char *string)
{
    weir_text_print(text, ",\"%s\":", name);
    weir_text_json_string(text, string ? string : "");
}

static void write_op(struct weir_text *text, const struct weir_shown_op *op)
{
    const struct weir_live *live = &op->live;
    weir_text_print(text, "{\"loop\":");
    weir_text_json_string(text, op->label);
    write_member(text, "task", live->task);
    write_member(text, "kind", live->kind);
    write_member(text, "state", live->state);
    write_member(text, "site", live->site);
    /* Signed: -1 is the file's own position, and few readers take more than 63 bits. */
    weir_text_print(text, ",\"fd\":%" PRId32 ",\"offset\":%" PRId64 ",\"length\":%" PRIu64,
                    live->fd, (int64_t)live->offset, live->length);
    weir_text_print(text, ",\"age_ns\":%" PRIu64 ",\"flight_ns\":%" PRIu64 ",\"frames\":[",
                    live->age_ns, live->flight_ns);
    for (uint32_t i = 0; i < live->frame_count; i++) {
        weir_text_put(text, ",", i > 0);
        write_frame(text, live->frames[i]);
    }
    weir_text_print(text, "]}");
}

static void write_listing(struct weir_endpoint *endpoint, const struct listing *listing,
                          struct weir_text *text)
{
    if (listing->seen == 0 && listing->blind > 0) {
        weir_text_print(text, ",\"live\":null,\"live_count\":null");
        return;
    }
    weir_text_print(text, ",\"live_count\":%" PRIu64 ",\"live\":[", listing->found);
    for (size_t i = 0; i < listing->count; i++) {
        weir_text_put(text, i > 0 ? ",\n" : "\n", i > 0 ? 2 : 1);
        write_op(text, &endpoint->ops[i]);
    }
    weir_text_print(text, "]");
}

/* The one with this label, or the only one if it is "". NULL: none such; else held. */
static const struct weir_shown *look_for(struct weir_endpoint *endpoint, const char *label)
{
    uint32_t count = 0;
    uint32_t last = 0;
    for (uint32_t i = 0; i < endpoint->shown_max; i++) {
        const struct weir_shown *shown = weir_endpoint_look(endpoint, i);
        if (!shown) {
            continue;
        }
        if (strcmp(shown->label, label) == 0) {
            return shown;
        }
        count++;
        last = i;
        weir_endpoint_look_away(endpoint);
    }
    return label[0] == '\0' && count == 1 ? weir_endpoint_look(endpoint, last) : NULL;
}

/* What it is doing right now. False: nobody watches it, so it does not say. */
static bool read_pulse(struct weir_loop *loop, struct weir_beat *ret_beat)
{
    const struct weir_pulse *pulse = weir_loop_pulse(loop);
    if (!__atomic_load_n(&pulse->kept, __ATOMIC_RELAXED)) {
        return false;
    }
    uint64_t sequence = weir_pulse_read(pulse, ret_beat);
    return sequence != 0 && sequence % 2 == 0; /* 0: watched, but no beat yet */
}

static void write_callback(struct weir_text *text, const struct weir_beat *beat)
{
    char task[WEIR_TASK_NAME_MAX + 1];
    char symbol[WEIR_SYMBOL_MAX];
    weir_task_copy_name(beat->task, task);
    weir_symbol_write((const void *)(uintptr_t)beat->callback, symbol, sizeof symbol);
    write_member(text, "task", task);
    write_member(text, "kind", weir_kind_name((unsigned)(beat->kind_and_fd >> 32)));
    write_member(text, "site", beat->site);
    write_member(text, "callback", symbol);
}

/* A weir_snapshot_more, of an endpoint: "at". */
static void write_at(void *context, const struct weir_snapshot_loop *row, struct weir_text *text)
{
    static const char *const phases[] = {
        [WEIR_PHASE_OUTSIDE] = "outside",
        [WEIR_PHASE_TURN] = "turn",
        [WEIR_PHASE_ASLEEP] = "asleep",
        [WEIR_PHASE_CALLBACK] = "callback",
    };
    struct weir_endpoint *endpoint = context;
    struct weir_beat beat;
    const struct weir_shown *shown = look_for(endpoint, row->label);
    bool is_known = shown && read_pulse(shown->loop, &beat);
    if (is_known) {
        uint64_t now_ns = weir_clock_monotonic();
        weir_text_print(text, ",\"at\":{\"phase\":\"%s\",\"since_ns\":%" PRIu64, phases[beat.phase],
                        now_ns > beat.since_ns ? now_ns - beat.since_ns : 0);
        if (beat.phase == WEIR_PHASE_CALLBACK) {
            write_callback(text, &beat); /* its task's place is the loop's memory */
        }
    }
    if (shown) {
        weir_endpoint_look_away(endpoint);
    }
    weir_text_print(text, is_known ? "}" : ",\"at\":null");
}

static void answer_json(struct weir_endpoint *endpoint, const struct weir_http_request *request,
                        struct weir_http_answer *answer)
{
    char wanted[2] = "0";
    int r = weir_http_parameter(request->query, "interval", wanted, sizeof wanted);
    if (r < 0 || (wanted[0] != '0' && wanted[0] != '1')) {
        weir_http_say(answer, 400, "interval is 0 or 1");
        return;
    }
    r = wanted[0] == '1' ? take_interval(endpoint) : take(endpoint, "");
    if (r < 0) {
        fail(answer, r);
        return;
    }
    struct listing listing = list_all(endpoint);
    struct weir_text text;
    answer->type = "application/json";
    weir_text_begin(&text, weir_http_append, answer);
    weir_text_print(&text, "{");
    weir_snapshot_write_json_members(wanted[0] == '1' ? endpoint->interval : endpoint->now,
                                     write_at, endpoint, &text);
    write_listing(endpoint, &listing, &text);
    weir_text_print(&text, "}\n");
    r = weir_text_end(&text);
    if (r < 0) {
        fail(answer, r);
    }
}

/* --- a loop's flight recorder ----------------------------------------------------------------- */

static void answer_trace(struct weir_endpoint *endpoint, const struct weir_http_request *request,
                         struct weir_http_answer *answer)
{
    char label[WEIR_LABEL_MAX + 1] = "";
    if (weir_http_parameter(request->query, "loop", label, sizeof label) < 0) {
        weir_http_say(answer, 400, "loop=LABEL, at most %d bytes, escaped as %%41", WEIR_LABEL_MAX);
        return;
    }
    const struct weir_shown *shown = look_for(endpoint, label);
    if (!shown) {
        weir_http_say(answer, label[0] ? 404 : 400, "%s",
                      label[0] ? "there is no loop of that label; /json lists them"
                               : "which loop? /trace?loop=LABEL; /json lists them");
        return;
    }
    answer->type = "application/json";
    int r = weir_loop_trace(shown->loop, weir_http_append, answer);
    weir_endpoint_look_away(endpoint);
    if (r == -ENODATA) {
        weir_http_say(answer, 404,
                      "the loop has no flight recorder: weir_options.recorder_events is 0");
    } else if (r < 0) {
        fail(answer, r);
    }
}

/* --- which ------------------------------------------------------------------------------------ */

static void answer_list(struct weir_endpoint *endpoint, const struct weir_http_request *request,
                        struct weir_http_answer *answer)
{
    static const char text[] =
        "/metrics            Prometheus text\n"
        "/metrics?as=LABEL   the same of all loops merged, under one label; so too /hlog\n"
        "/json               all numbers since the loops were opened, and the live ops\n"
        "/json?interval=1    the numbers since the last request of this kind\n"
        "/hlog               HdrHistogram log\n"
        "/trace?loop=LABEL   a loop's flight recorder, for ui.perfetto.dev\n";
    (void)endpoint;
    (void)request;
    weir_http_append(answer, text, sizeof text - 1);
}

void weir_endpoint_answer(void *context, const struct weir_http_request *request,
                          struct weir_http_answer *answer)
{
    static const struct {
        const char *path;
        void (*answer)(struct weir_endpoint *endpoint, const struct weir_http_request *request,
                       struct weir_http_answer *answer);
    } pages[] = {
        {"/", answer_list},     {"/metrics", answer_metrics}, {"/json", answer_json},
        {"/hlog", answer_hlog}, {"/trace", answer_trace},
    };
    for (size_t i = 0; i < sizeof pages / sizeof *pages; i++) {
        if (strcmp(request->path, pages[i].path) == 0) {
            pages[i].answer(context, request, answer);
            return;
        }
    }
    weir_http_say(answer, 404, "there is no such page; / lists them");
}
