/* SPDX-License-Identifier: MIT */
/*
 * perf/probe.c: shows what the kernel offers, what a loop runs on, and why; or why there is no
 * loop. One description, printed in two forms: for people as "key: value", and as JSON.
 */
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

/* --- the two forms ---------------------------------------------------------------------------- */

struct form {
    struct json *json; /* NULL: for people */
    int level;
};

static void label(const struct form *form, const char *key)
{
    printf("%*s%s", 2 * form->level, "", key ? key : "-");
    if (key) {
        putchar(':');
    }
}

static void begin(struct form *form, const char *key, char bracket)
{
    if (form->json) {
        json_begin(form->json, key, bracket);
        return;
    }
    label(form, key);
    putchar('\n');
    form->level++;
}

static void end(struct form *form, char bracket)
{
    if (form->json) {
        json_end(form->json, bracket);
    }
    form->level--;
}

static void put_text(struct form *form, const char *key, const char *text)
{
    if (form->json) {
        json_string(form->json, key, text);
    } else if (text && text[0] != '\0') {
        label(form, key);
        printf(" %s\n", text);
    }
}

static void put_number(struct form *form, const char *key, uint64_t number)
{
    if (form->json) {
        json_integer(form->json, key, number);
    } else {
        label(form, key);
        printf(" %llu\n", (unsigned long long)number);
    }
}

static void put_bytes(struct form *form, const char *key, uint64_t bytes)
{
    char text[FIGURE_MAX];
    if (form->json) {
        json_integer(form->json, key, bytes);
    } else {
        put_text(form, key, format_bytes(text, sizeof text, bytes));
    }
}

static void put_bool(struct form *form, const char *key, bool value)
{
    if (form->json) {
        json_bool(form->json, key, value);
    } else {
        put_text(form, key, value ? "yes" : "no");
    }
}

/* A list of words, on one line for people. */
static void put_word(struct form *form, const char *word)
{
    if (form->json) {
        json_string(form->json, NULL, word);
    } else {
        printf(" %s", word);
    }
}

static void begin_words(struct form *form, const char *key)
{
    if (form->json) {
        json_begin(form->json, key, '[');
    } else {
        label(form, key);
    }
}

static void end_words(struct form *form)
{
    if (form->json) {
        json_end(form->json, ']');
    } else {
        putchar('\n');
    }
}

static void put_bits(struct form *form, const char *key, uint32_t bits, const struct name *names)
{
    begin_words(form, key);
    for (; names->name != NULL; names++) {
        if ((bits & names->bit) != 0) {
            put_word(form, names->name);
            bits &= ~names->bit;
        }
    }
    if (bits != 0) {
        char text[16];
        snprintf(text, sizeof text, "0x%x", bits);
        put_word(form, text);
    }
    end_words(form);
}

/* --- what there is to tell -------------------------------------------------------------------- */

static void put_error(struct form *form, int error, enum weir_cause cause)
{
    if (form->json) {
        json_signed(form->json, "error", error);
    }
    put_text(form, "error_name", error != 0 ? strerrorname_np(-error) : "");
    put_text(form, "error_text", error != 0 ? strerror(-error) : "");
    put_text(form, "cause", weir_cause_name(cause));
}

/* The kinds that a worker has to do. */
static void put_worker_kinds(struct form *form, uint64_t native_kinds)
{
    begin_words(form, "needs_a_worker_for");
    for (unsigned kind = WEIR_KIND_NOP; kind < WEIR_KIND_COUNT; kind++) {
        if (!(native_kinds >> kind & 1)) {
            put_word(form, weir_kind_name(kind));
        }
    }
    end_words(form);
}

static void put_probe(struct form *form, const struct weir_probe *probe)
{
    begin(form, "probe", '{');
    put_text(form, "kernel", probe->kernel);
    put_number(form, "cpus", probe->cpus);
    put_text(form, "cpus_reason", probe->cpus_reason);
    begin(form, "io_uring", '{');
    put_error(form, probe->io_uring.error, probe->io_uring.cause);
    put_bits(form, "ring_flags", probe->io_uring.ring_flags, setup_names);
    put_bits(form, "ring_features", probe->io_uring.ring_features, feature_names);
    put_worker_kinds(form, probe->io_uring.native_kinds);
    put_text(form, "bug", probe->io_uring.bug);
    end(form, '}');
    begin(form, "epoll", '{');
    put_error(form, probe->epoll.error, probe->epoll.cause);
    put_worker_kinds(form, probe->epoll.native_kinds);
    put_bool(form, "has_pwait2", probe->epoll.has_pwait2 != 0);
    end(form, '}');
    end(form, '}');
}

static void put_decision(struct form *form, const struct weir_decision *decision)
{
    static const char *const policies[] = {"auto", "io_uring", "epoll"};
    begin(form, "decision", '{');
    put_text(form, "policy", policies[decision->policy]);
    put_bool(form, "from_environment", decision->from_environment != 0);
    put_text(form, "chosen", decision->chosen || form->json ? decision->chosen : "nothing");
    begin(form, "rejected", '[');
    for (uint32_t i = 0; i < decision->rejected_count; i++) {
        const struct weir_rejection *rejection = &decision->rejected[i];
        begin(form, NULL, '{');
        put_text(form, "backend", rejection->backend);
        put_error(form, rejection->error, rejection->cause);
        put_text(form, "hint", rejection->hint);
        end(form, '}');
    }
    end(form, ']');
    end(form, '}');
}

static void put_memory(struct form *form, const struct weir_facts *facts)
{
    begin(form, "memory", '{');
    put_bytes(form, "ring", facts->memory_ring);
    put_bytes(form, "slots", facts->memory_slots);
    put_bytes(form, "timers", facts->memory_timers);
    put_bytes(form, "events", facts->memory_events);
    put_bytes(form, "tasks", facts->memory_tasks);
    put_bytes(form, "offload", facts->memory_offload);
    put_bytes(form, "loop", facts->memory_loop);
    put_bytes(form, "total", facts->memory_total);
    end(form, '}');
}

static void put_facts(struct form *form, const struct weir_facts *facts)
{
    begin(form, "facts", '{');
    put_text(form, "backend", facts->backend);
    put_text(form, "kernel", facts->kernel);
    put_text(form, "clock", facts->clock);
    put_number(form, "depth_asked", facts->depth_asked);
    put_number(form, "depth", facts->depth);
    put_text(form, "depth_reason", facts->depth_reason);
    put_number(form, "waiting_max", facts->waiting_max);
    put_number(form, "timers_max", facts->timers_max);
    put_number(form, "posts_max", facts->posts_max);
    put_number(form, "sq_entries", facts->sq_entries);
    put_number(form, "cq_entries", facts->cq_entries);
    put_bits(form, "ring_flags", facts->ring_flags, setup_names);
    put_bits(form, "ring_features", facts->ring_features, feature_names);
    put_bool(form, "ring_fd_registered", facts->ring_fd_registered != 0);
    put_bool(form, "no_iowait", facts->no_iowait != 0);
    put_bool(form, "sigpipe_blocked", facts->sigpipe_blocked != 0);
    put_number(form, "workers_bounded", facts->workers_bounded);
    put_number(form, "workers_unbounded", facts->workers_unbounded);
    put_number(form, "workers", facts->workers);
    put_text(form, "workers_reason", facts->workers_reason);
    put_number(form, "offload_depth", facts->offload_depth);
    put_number(form, "offload_waiting_max", facts->offload_waiting_max);
    put_text(form, "wakes_by", facts->wakes_by);
    put_memory(form, facts);
    end(form, '}');
}

struct findings {
    struct weir_probe probe;
    struct weir_decision decision;
    struct weir_facts facts;
    int error; /* of the loop's open; facts are valid without one */
};

static void put_findings(struct form *form, const struct findings *findings)
{
    put_probe(form, &findings->probe);
    put_decision(form, &findings->decision);
    if (findings->error == 0) {
        put_facts(form, &findings->facts);
    }
}

static int write_json(const char *path, const struct findings *findings)
{
    struct json json = {.file = json_open(path)};
    struct form form = {.json = &json};
    if (json.file == NULL) {
        return -1;
    }
    json_begin(&json, NULL, '{');
    machine_json(&json, "machine");
    put_findings(&form, findings);
    json_end(&json, '}');
    return json_close(&json, path);
}

static void look(uint32_t depth, struct findings *ret_findings)
{
    struct weir_options wanted = {.depth = depth, .decision = &ret_findings->decision};
    struct weir_loop *loop = NULL;
    weir_probe(&ret_findings->probe);
    ret_findings->error = weir_loop_open(&wanted, &loop);
    if (ret_findings->error == 0) {
        weir_loop_facts(loop, &ret_findings->facts);
        weir_loop_close(loop, WEIR_S, NULL);
    }
}

int probe_main(int argc, char **argv)
{
    struct options options;
    struct findings findings = {0};
    options_parse(OPTION_SET_PROBE, argc, argv, &options);
    look(options.depth, &findings);
    if (options.json == NULL || strcmp(options.json, "-") != 0) {
        printf("weir %s\n", weir_version());
        put_findings(&(struct form){0}, &findings);
    }
    int written = options.json != NULL ? write_json(options.json, &findings) : 0;
    if (findings.error < 0) {
        complain("no loop: %s", strerror(-findings.error));
    }
    return findings.error < 0 || written < 0 ? 1 : 0;
}
