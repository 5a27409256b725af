/* SPDX-License-Identifier: MIT */
/* perf/probe.c: opens a loop and shows the decision and the facts, or why there is no loop. */
#include "probe.h"

#include <stdio.h>
#include <string.h>
#include <weir/weir.h>

#include "json.h"
#include "machine.h"
#include "options.h"
#include "report.h"

struct name {
    uint32_t bit;
    const char *name;
};

/* By number, since the headers of liburing 2.3 end before the newer ones. */
static const struct name setup_names[] = {
    {1u << 0, "IOPOLL"},
    {1u << 1, "SQPOLL"},
    {1u << 2, "SQ_AFF"},
    {1u << 3, "CQSIZE"},
    {1u << 4, "CLAMP"},
    {1u << 5, "ATTACH_WQ"},
    {1u << 6, "R_DISABLED"},
    {1u << 7, "SUBMIT_ALL"},
    {1u << 8, "COOP_TASKRUN"},
    {1u << 9, "TASKRUN_FLAG"},
    {1u << 10, "SQE128"},
    {1u << 11, "CQE32"},
    {1u << 12, "SINGLE_ISSUER"},
    {1u << 13, "DEFER_TASKRUN"},
    {1u << 14, "NO_MMAP"},
    {1u << 15, "REGISTERED_FD_ONLY"},
    {1u << 16, "NO_SQARRAY"},
    {1u << 17, "HYBRID_IOPOLL"},
    {1u << 18, "CQE_MIXED"},
    {1u << 19, "SQE_MIXED"},
    {0, NULL},
};
static const struct name feature_names[] = {
    {1u << 0, "SINGLE_MMAP"},
    {1u << 1, "NODROP"},
    {1u << 2, "SUBMIT_STABLE"},
    {1u << 3, "RW_CUR_POS"},
    {1u << 4, "CUR_PERSONALITY"},
    {1u << 5, "FAST_POLL"},
    {1u << 6, "POLL_32BITS"},
    {1u << 7, "SQPOLL_NONFIXED"},
    {1u << 8, "EXT_ARG"},
    {1u << 9, "NATIVE_WORKERS"},
    {1u << 10, "RSRC_TAGS"},
    {1u << 11, "CQE_SKIP"},
    {1u << 12, "LINKED_FILE"},
    {1u << 13, "REG_REG_RING"},
    {1u << 14, "RECVSEND_BUNDLE"},
    {1u << 15, "MIN_TIMEOUT"},
    {1u << 16, "RW_ATTR"},
    {1u << 17, "NO_IOWAIT"},
    {0, NULL},
};

static void print_names(const char *what, uint32_t bits, const struct name *names)
{
    printf("  %-18s", what);
    for (; names->name != NULL; names++) {
        if ((bits & names->bit) != 0) {
            printf(" %s", names->name);
            bits &= ~names->bit;
        }
    }
    printf(bits != 0 ? " and 0x%x\n" : "\n", bits);
}

static void names_json(struct json *json, const char *key, uint32_t bits, const struct name *names)
{
    json_begin(json, key, '[');
    for (; names->name != NULL; names++) {
        if ((bits & names->bit) != 0) {
            json_string(json, NULL, names->name);
        }
    }
    json_end(json, ']');
}

static void print_decision(const struct weir_decision *decision)
{
    printf("chosen: %s\n", decision->chosen != NULL ? decision->chosen : "nothing");
    for (uint32_t i = 0; i < decision->rejected_count; i++) {
        const struct weir_rejection *rejection = &decision->rejected[i];
        printf("rejected: %s: %s (%s)\n  %s\n", rejection->backend, strerror(-rejection->error),
               weir_cause_name(rejection->cause), rejection->hint);
    }
}

static void print_memory(const struct weir_facts *facts)
{
    const struct {
        const char *name;
        uint64_t bytes;
    } parts[] = {
        {"ring", facts->memory_ring},     {"slots", facts->memory_slots},
        {"timers", facts->memory_timers}, {"events", facts->memory_events},
        {"tasks", facts->memory_tasks},   {"loop", facts->memory_loop},
        {"total", facts->memory_total},
    };
    printf("  memory            ");
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        char text[FIGURE_MAX];
        printf("%s %s %s", i == 0 ? "" : ",", parts[i].name,
               format_bytes(text, sizeof text, parts[i].bytes));
    }
    putchar('\n');
}

static void print_facts(const struct weir_facts *facts)
{
    printf("  %-18s %s\n", "kernel", facts->kernel);
    printf("  %-18s %s\n", "clock of stamps", facts->clock);
    printf("  %-18s %u asked, %u got%s%s\n", "depth", facts->depth_asked, facts->depth,
           facts->depth_reason[0] != '\0' ? ": " : "", facts->depth_reason);
    printf("  %-18s %u ops at the gate, %u timers\n", "room for", facts->waiting_max,
           facts->timers_max);
    printf("  %-18s %u submissions, %u completions\n", "ring entries", facts->sq_entries,
           facts->cq_entries);
    print_names("ring flags", facts->ring_flags, setup_names);
    print_names("kernel features", facts->ring_features, feature_names);
    printf("  %-18s %s\n", "ring fd", facts->ring_fd_registered ? "registered" : "plain");
    printf("  %-18s %s\n", "waiting",
           facts->no_iowait ? "not counted as iowait" : "counted as iowait");
    printf("  %-18s at most %u for files, %u for what may block for ever\n", "kernel workers",
           facts->workers_bounded, facts->workers_unbounded);
    if (facts->sigpipe_blocked) {
        printf("  %-18s blocked in the loop's thread\n", "SIGPIPE");
    }
    print_memory(facts);
}

static void decision_json(struct json *json, const struct weir_decision *decision)
{
    json_begin(json, "decision", '{');
    json_string(json, "chosen", decision->chosen);
    json_begin(json, "rejected", '[');
    for (uint32_t i = 0; i < decision->rejected_count; i++) {
        const struct weir_rejection *rejection = &decision->rejected[i];
        json_begin(json, NULL, '{');
        json_string(json, "backend", rejection->backend);
        json_signed(json, "error", rejection->error);
        json_string(json, "error_text", strerror(-rejection->error));
        json_string(json, "cause", weir_cause_name(rejection->cause));
        json_string(json, "hint", rejection->hint);
        json_end(json, '}');
    }
    json_end(json, ']');
    json_end(json, '}');
}

static void facts_json(struct json *json, const struct weir_facts *facts)
{
    json_begin(json, "facts", '{');
    json_string(json, "backend", facts->backend);
    json_string(json, "kernel", facts->kernel);
    json_string(json, "clock", facts->clock);
    json_integer(json, "depth_asked", facts->depth_asked);
    json_integer(json, "depth", facts->depth);
    json_string(json, "depth_reason", facts->depth_reason);
    json_integer(json, "waiting_max", facts->waiting_max);
    json_integer(json, "timers_max", facts->timers_max);
    json_integer(json, "sq_entries", facts->sq_entries);
    json_integer(json, "cq_entries", facts->cq_entries);
    names_json(json, "ring_flags", facts->ring_flags, setup_names);
    names_json(json, "ring_features", facts->ring_features, feature_names);
    json_bool(json, "ring_fd_registered", facts->ring_fd_registered != 0);
    json_bool(json, "no_iowait", facts->no_iowait != 0);
    json_bool(json, "sigpipe_blocked", facts->sigpipe_blocked != 0);
    json_integer(json, "workers_bounded", facts->workers_bounded);
    json_integer(json, "workers_unbounded", facts->workers_unbounded);
    json_begin(json, "memory", '{');
    json_integer(json, "ring", facts->memory_ring);
    json_integer(json, "slots", facts->memory_slots);
    json_integer(json, "timers", facts->memory_timers);
    json_integer(json, "events", facts->memory_events);
    json_integer(json, "tasks", facts->memory_tasks);
    json_integer(json, "loop", facts->memory_loop);
    json_integer(json, "total", facts->memory_total);
    json_end(json, '}');
    json_end(json, '}');
}

static int write_json(const char *path, const struct weir_decision *decision,
                      const struct weir_facts *facts)
{
    struct json json = {.file = json_open(path)};
    if (json.file == NULL) {
        return -1;
    }
    json_begin(&json, NULL, '{');
    machine_json(&json, "machine");
    decision_json(&json, decision);
    if (facts != NULL) {
        facts_json(&json, facts);
    }
    json_end(&json, '}');
    return json_close(&json, path);
}

int probe_main(int argc, char **argv)
{
    struct options options;
    options_parse(OPTION_SET_PROBE, argc, argv, &options);
    struct weir_decision decision = {0};
    struct weir_options wanted = {.depth = options.depth, .decision = &decision};
    struct weir_loop *loop = NULL;
    struct weir_facts facts;
    int r = weir_loop_open(&wanted, &loop);
    if (r == 0) {
        r = weir_loop_facts(loop, &facts);
    }
    if (options.json == NULL || strcmp(options.json, "-") != 0) {
        printf("weir %s\n", weir_version());
        print_decision(&decision);
        if (r == 0) {
            print_facts(&facts);
        }
    }
    int written = 0;
    if (options.json != NULL) {
        written = write_json(options.json, &decision, r == 0 ? &facts : NULL);
    }
    if (r < 0) {
        complain("no loop: %s", strerror(-r));
    }
    weir_loop_close(loop, WEIR_S, NULL);
    return r < 0 || written < 0 ? 1 : 0;
}
