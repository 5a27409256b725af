/* SPDX-License-Identifier: MIT */
/*
 * weir/snapshot.h: the numbers of any number of loops at one moment, and the formats that others
 * read: Prometheus text, JSON, HdrHistogram logs and percentile files.
 *
 * A snapshot is taken without stopping anybody, by any thread: a busy loop goes on while its rows
 * are copied, and the counters and histograms of one may be some ops apart. Rows are kept by label
 * and task: two loops added under one label are merged task by task (by name), which is exact; and
 * so are tasks of one name on one loop, a task named as a built-in one included. The difference of
 * two snapshots is an interval.
 *
 * A snapshot belongs to whoever opened it: one thread at a time. Opening and writing allocate;
 * nothing of that is a loop's.
 */
#ifndef WEIR_SNAPSHOT_H
#define WEIR_SNAPSHOT_H

#include <weir/loop.h>
#include <weir/observe.h>
#include <weir/task.h>
#include <weir/watchdog.h>

#ifdef __cplusplus
extern "C" {
#endif

struct weir_snapshot;

#define WEIR_LABEL_MAX 47 /* bytes, without the NUL */

/* A row: one task under one label. */
struct weir_snapshot_task {
    char label[WEIR_LABEL_MAX + 1];
    char task[WEIR_TASK_NAME_MAX + 1];
    struct weir_task_counters counters;
    struct weir_task_errors errors;
    struct weir_histogram stages[WEIR_STAGE_COUNT];
    uint64_t epoch; /* moves with every reset, and every reuse of a closed task's place; of all that
                     * were merged the sum */
};

/* What was added under one label. */
struct weir_snapshot_loop {
    char label[WEIR_LABEL_MAX + 1];
    uint32_t loops;   /* merged into it */
    char backend[16]; /* of the last one added */
    char reason[240]; /* why that, as weir_facts.reason */
    uint64_t memory_total;
    /* Sums, as of each loop's last turn where another thread asks; all 0 if one of the loops is
     * neither the calling thread's nor WEIR_INSPECTABLE (has_state 0). */
    uint8_t has_state;
    struct weir_counters counters;
    /* The main one, the offload one; numbers summed. `waiting` counts also those that were
     * cancelled at the gate and are not handed back yet. */
    struct weir_gate_state gates[2];
    struct weir_histogram turns; /* as weir_loop_times() */
    struct weir_histogram callbacks;
    /* What watchdogs have seen since open, by enum weir_stall_cause (weir/watchdog.h): all 0 of a
     * loop that was never watched, which is no sign that it did not stall. Sums; the longest is
     * that of all loops, and of an interval still that since open. */
    uint64_t stalls[WEIR_STALL_CAUSE_COUNT];
    uint64_t slow_ops;
    uint64_t longest_stall_ns[WEIR_STALL_CAUSE_COUNT];
};

/* Memory for at most tasks_max rows (0: 128; about 50 KiB each, touched only as used) and loops_max
 * labels (0: 16). 0; -EINVAL: NULL, more than 65536 rows or labels; -ENOMEM. Any thread. */
WEIR_API int weir_snapshot_open(uint32_t tasks_max, uint32_t loops_max,
                                struct weir_snapshot **ret_snapshot);
/* NULL too. */
WEIR_API void weir_snapshot_close(struct weir_snapshot *snapshot);
/* Empty again. */
WEIR_API void weir_snapshot_clear(struct weir_snapshot *snapshot);
/* A copy of `from`. 0; -EINVAL: NULL; -ENOSPC: it does not fit. */
WEIR_API int weir_snapshot_copy(struct weir_snapshot *into, const struct weir_snapshot *from);

/*
 * Adds a loop under a label of 1 to WEIR_LABEL_MAX bytes. Any thread; the loop must stay open
 * during the call. A task that is opened or closed meanwhile may be missing. 0; -EINVAL: NULL, no
 * label, the snapshot is an interval; -ENAMETOOLONG; -ENOSPC: no more rows or labels
 * (nothing was added); -EOPNOTSUPP: another thread, of a loop in a simulated world; -ECHILD.
 */
WEIR_API int weir_snapshot_add(struct weir_snapshot *snapshot, const struct weir_loop *loop,
                               const char *label);

/*
 * Makes `snapshot` what happened since `earlier`: counters and histograms are differences, what is
 * "now" (live, in flight, depths) stays, and so does the longest stall. A row that was not there,
 * was reset meanwhile (its epoch differs), or has any number that went down (a loop of its label
 * has ended) stays as it is. An interval's `max` is exact if it is the largest since open, else the
 * highest value of its bucket. Several intervals: take snapshots, copy each, subtract the one
 * before it from the copy.
 * 0; -EINVAL: NULL, one of the two is an interval.
 */
WEIR_API int weir_snapshot_subtract(struct weir_snapshot *snapshot,
                                    const struct weir_snapshot *earlier);

/* When the first loop was added (0: none was), and, of an interval, when it began (0: it is
 * none, or one since an empty snapshot): CLOCK_REALTIME, ns. */
WEIR_API uint64_t weir_snapshot_taken_ns(const struct weir_snapshot *snapshot);
WEIR_API uint64_t weir_snapshot_since_ns(const struct weir_snapshot *snapshot);
/* The rows, NULL past the last; sorted by label, then task. Valid until the next change. */
WEIR_API const struct weir_snapshot_task *
weir_snapshot_task_at(const struct weir_snapshot *snapshot, uint32_t index);
WEIR_API const struct weir_snapshot_loop *
weir_snapshot_loop_at(const struct weir_snapshot *snapshot, uint32_t index);

/*
 * Labels and names may be any bytes. JSON and Prometheus text quote what they must; all formats
 * show a byte that is not part of valid UTF-8 as U+FFFD and its two hexadecimal digits.
 */
enum weir_format {
    /*
     * Prometheus text exposition 0.0.4. weir_loop_*, weir_gate_*, weir_task_*: counters end in
     * _total, times are seconds, sizes bytes; labels loop, task, stage, gate, backend, reason,
     * errno ("EIO"; "other"), cause. Histograms of stages, and of turns and callbacks, if they have
     * samples, with bounds from 1 us to 60 s. A bucket (weir/histogram.h) counts for a bound if its
     * highest value does not exceed it: so a sample less than 3.125 % below a bound may count for
     * the next one only, and a quantile that is read from them is not below the truth for it. Of a
     * loop without state (has_state) no counters and gates. Not of an interval (-EINVAL):
     * Prometheus makes its own, of numbers that only grow.
     */
    WEIR_FORMAT_PROMETHEUS,
    /*
     * {"taken_ns", "since_ns", "loops": [...], "tasks": [...]}, names and units as in the structs.
     * A loop: label, loops, backend, reason, memory_total, has_state, counters {}, gates [{"gate":
     * "main" or "offload", ..., "reason": "as_opened", "loop_goal" or "task_goal"}], turns {},
     * callbacks {}, stalls {"running", "blocked", "descheduled"}, slow_ops, longest_stall_ns {the
     * same}; counters and gates are null without state (has_state). A task: loop, task, epoch,
     * counters {}, errors [{"errno": "EIO", "error": -5, "times"}], other_errors, stages {"wait":
     * {}, ...}. A histogram: count, sum_ns, max_ns, clipped, mean_ns, p50_ns, p90_ns, p99_ns,
     * p99.9_ns.
     */
    WEIR_FORMAT_JSON,
    /*
     * HdrHistogram interval log, version 1.2, histograms of ns in V2 compressed encoding with two
     * significant digits, largest values in ms: a line for each task and stage that has samples,
     * Tag=label.task.stage, in which whitespace, control characters and commas became '_'. Of what
     * is no interval: it begins when it was taken, and is 0 s long. Percentiles that a reader finds
     * there are weir_histogram_percentile()'s; of those that answer `max` the highest value that
     * two digits tell from it. Needs zlib at build time.
     */
    WEIR_FORMAT_HLOG,
};

/* Writes all of it. 0; -EINVAL: NULL, no such format, WEIR_FORMAT_PROMETHEUS of an interval;
 * -ENOMEM; -EOPNOTSUPP: built without zlib; what the writer answered. */
WEIR_API int weir_snapshot_write(const struct weir_snapshot *snapshot, enum weir_format format,
                                 weir_writer *writer, void *context);

/* Writes one histogram as a percentile distribution, .hgrm (HdrHistogram's text form), values in
 * microseconds with three decimals, the standard deviation from the buckets' middles. Any thread;
 * does not allocate. 0; -EINVAL: NULL; what the writer answered. */
WEIR_API int weir_histogram_write_hgrm(const struct weir_histogram *histogram, weir_writer *writer,
                                       void *context);

#ifdef __cplusplus
}
#endif
#endif
