/* SPDX-License-Identifier: MIT */
/*
 * watchdog_report.c: reports on their way to the callback: how many a loop may have, and telling.
 */
#include <engine/base/probes.h>
#include <engine/observe/watchdog.h>
#include <string.h>

#define MINUTE_NS 60000000000ULL

bool weir_watchdog_is_full(const struct weir_watchdog *watchdog)
{
    return watchdog->report_count == WEIR_REPORTS_MAX;
}

/* Credit is earned by time, up to that of a minute. */
static bool may_report(struct weir_watch *watch, uint64_t now_ns)
{
    uint64_t cost_ns = MINUTE_NS / watch->watchdog->options.reports_a_minute;
    uint64_t earned_ns = now_ns - watch->earned_ns;
    watch->earned_ns = now_ns;
    watch->credit_ns =
        earned_ns < MINUTE_NS - watch->credit_ns ? watch->credit_ns + earned_ns : MINUTE_NS;
    if (watch->credit_ns < cost_ns) {
        return false;
    }
    watch->credit_ns -= cost_ns;
    return true;
}

struct weir_stall_report *weir_report_begin(struct weir_watch *watch, uint64_t now_ns)
{
    struct weir_watchdog *watchdog = watch->watchdog;
    if (!may_report(watch, now_ns)) {
        weir_relaxed_add(&watchdog->counters.left_out, 1);
        return NULL;
    }
    struct weir_stall_report *report = &watchdog->reports[watchdog->report_count++];
    memset(report, 0, sizeof *report);
    memcpy(report->loop, watch->name, sizeof report->loop);
    report->stall.loop = report->loop;
    report->stall.fd = -1;
    return report;
}

void weir_watchdog_tell(struct weir_watchdog *watchdog)
{
    for (uint32_t i = 0; i < watchdog->report_count; i++) {
        struct weir_stall_report *report = &watchdog->reports[i];
        if (report->stall.callback) {
            weir_symbol_write(report->stall.callback, report->symbol, sizeof report->symbol);
            report->stall.callback_symbol = report->symbol;
        }
        weir_relaxed_add(&watchdog->counters.reports, 1);
        WEIR_PROBE_STALL(report->stall.loop, report->stall.lasted_ns);
        watchdog->options.callback(watchdog->options.context, &report->stall);
    }
    watchdog->report_count = 0;
}
