/* SPDX-License-Identifier: MIT */
/*
 * sim_trace.c: every step of a world, as a hash that goes on, and as a line for those who want to
 * read along. Both are made of the same: nothing that differs from one machine to another.
 */
#include "sim.h"

#include <inttypes.h>
#include <stdio.h>

#define LINE_MAX 160
#define NS_PER_S 1000000000u

static void add(struct weir_sim *sim, uint64_t value)
{
    uint64_t hash = (sim->hash ^ value) * 0xd6e8feb86659fd93ULL;
    sim->hash = hash ^ hash >> 32;
}

static void add_text(struct weir_sim *sim, const char *text)
{
    uint64_t hash = 0xcbf29ce484222325ULL;
    for (; *text; text++) {
        hash = (hash ^ (uint8_t)*text) * 0x100000001b3ULL;
    }
    add(sim, hash);
}

static uint32_t file_of(const struct weir_sim_run *run)
{
    return run->attempt.file ? run->attempt.file->serial : 0;
}

static void write_line(struct weir_sim *sim, const char *what, const struct weir_sim_run *run,
                       int64_t value)
{
    char line[LINE_MAX];
    int used = snprintf(line, sizeof line, "%" PRIu64 ".%09" PRIu64 " ", sim->now_ns / NS_PER_S,
                        sim->now_ns % NS_PER_S);
    if (run) {
        used += snprintf(line + used, sizeof line - (size_t)used, "loop %u op %" PRIu64 " %s",
                         run->loop->number, run->serial, weir_kind_name(run->op->kind));
        if (run->attempt.file) {
            used += snprintf(line + used, sizeof line - (size_t)used, " file %u", file_of(run));
        }
        used += snprintf(line + used, sizeof line - (size_t)used, ": ");
    }
    snprintf(line + used, sizeof line - (size_t)used, "%s %" PRId64, what, value);
    sim->plan.trace(sim->plan.trace_context, line);
}

void weir_sim_trace(struct weir_sim *sim, const char *what, const struct weir_sim_run *run,
                    int64_t value)
{
    sim->counters.steps++;
    add(sim, sim->now_ns);
    add_text(sim, what);
    if (run) {
        add(sim, (uint64_t)run->loop->number << 32 | run->op->kind);
        add(sim, run->serial);
        add(sim, file_of(run));
    }
    add(sim, (uint64_t)value);
    if (sim->plan.trace) {
        write_line(sim, what, run, value);
    }
}
