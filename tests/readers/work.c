/* SPDX-License-Identifier: MIT */
/*
 * work.c FOLDER: loops at work, two snapshots of them, and what they hold in every format, for
 * readers.py, which lets others read it: metrics.txt, whole.json, interval.json, whole.hlog,
 * interval.hlog, N.hgrm; and in expected.json what they should find, from weir_task_read() and
 * without a snapshot. Names are written there as hexadecimal digits: some are not fit to be quoted.
 * Rows that no loop has filled add what no work brings about: all buckets, large counts, clipped
 * samples.
 */
#include <engine/base/histogram.h>
#include <engine/observe/snapshot.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <weir/weir.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])
#define SNAPSHOT_TASKS 256
#define ROUND_OPS 64

#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s: not so: %s (errno %d)\n", WEIR_SITE, #condition, errno);          \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* Whoever takes such a name for text of the format meets weir_injected. */
#define HOSTILE_LABEL "l\"} 1\nweir_injected_total 1\n#\\"
#define HOSTILE_TASK "t\\\",\"weir_injected\":1,\n\xff\xc3 \xe2\x82\xac,\t"

enum {
    FILES,
    PIPES,
    FAILING,
    CALLS,
    CANCELLED,
    IDLE,
    HOSTILE,
    TASK_COUNT, /* and made up: */
    EDGES = TASK_COUNT,
    COUNTS,
    CLIPPED,
    ONE_CLIPPED,
    SMALL,
    ROW_COUNT
};
#define MADE_UP 2 /* the label of the last */

static const struct {
    unsigned loop;
    const char *name;
} places[ROW_COUNT] = {
    [FILES] = {0, "files"},
    [PIPES] = {0, "pipe, both ends"},
    [FAILING] = {0, "failing"},
    [CALLS] = {0, "calls"},
    [CANCELLED] = {0, "cancelled"},
    [IDLE] = {0, "idle"},
    [HOSTILE] = {1, HOSTILE_TASK},
    [EDGES] = {MADE_UP, "edges"},
    [COUNTS] = {MADE_UP, "counts"},
    [CLIPPED] = {MADE_UP, "clipped"},
    [ONE_CLIPPED] = {MADE_UP, "one clipped"},
    [SMALL] = {MADE_UP, "small"},
};
static const char *const labels[] = {"main loop", HOSTILE_LABEL, "made up"};

static struct weir_loop *loops[MADE_UP];
static struct weir_task *tasks[TASK_COUNT];
static struct weir_histogram first[ROW_COUNT][WEIR_STAGE_COUNT]; /* at the first snapshot */
static struct weir_histogram now[ROW_COUNT][WEIR_STAGE_COUNT];

/* --- work ------------------------------------------------------------------------------------- */

static unsigned called;
static struct weir_op ops[ROUND_OPS];

static void on_done(struct weir_op *op)
{
    (void)op;
    called++;
}

static struct weir_op *next_op(unsigned task)
{
    struct weir_op *op = &ops[called];
    memset(op, 0, sizeof *op);
    op->callback = on_done;
    op->task = tasks[task];
    return op;
}

/* The result, once it is back. */
static int64_t carry_out(struct weir_op *op, unsigned task)
{
    unsigned before = called;
    struct weir_loop *loop = loops[places[task].loop];
    MUST(weir_submit(loop, op) == 0);
    while (called == before) {
        MUST(weir_loop_turn(loop, WEIR_S) >= 0);
    }
    return op->result;
}

static int64_t sleep_a_little(void *argument)
{
    const struct timespec time = {.tv_nsec = *(const long *)argument};
    nanosleep(&time, NULL);
    return time.tv_nsec > 1000000 ? -ENODATA : 0;
}

static void do_files(int file)
{
    static char block[4096];
    for (unsigned i = 0; i < 4; i++) {
        called = 0;
        struct weir_op *op = next_op(FILES);
        weir_op_write(op, file, block, sizeof block, i * sizeof block);
        MUST(carry_out(op, FILES) == sizeof block);
        op = next_op(FILES);
        weir_op_read(op, file, block, 100, i * sizeof block);
        MUST(carry_out(op, FILES) == 100);
    }
}

static void do_pipes(const int pipe[2])
{
    char byte = 'x';
    called = 0;
    struct weir_op *op = next_op(PIPES);
    weir_op_write(op, pipe[1], &byte, 1, WEIR_CURRENT);
    MUST(carry_out(op, PIPES) == 1);
    op = next_op(PIPES);
    weir_op_read(op, pipe[0], &byte, 1, WEIR_CURRENT);
    MUST(carry_out(op, PIPES) == 1);
}

static void do_failing(void)
{
    char byte;
    called = 0;
    struct weir_op *op = next_op(FAILING);
    weir_op_read(op, 999999, &byte, 1, 0);
    MUST(carry_out(op, FAILING) == -EBADF);
    op = next_op(FAILING);
    weir_op_openat(op, AT_FDCWD, "there/is/no/such/file", O_RDONLY, 0);
    MUST(carry_out(op, FAILING) == -ENOENT);
}

static void do_calls(unsigned round)
{
    /* Microseconds to tens of milliseconds, so that percentiles differ. */
    static const long naps_ns[] = {1000, 30000, 200000, 900000, 20000000};
    long nap_ns[COUNT_OF(naps_ns)];
    for (unsigned i = 0; i < COUNT_OF(naps_ns); i++) {
        called = 0;
        nap_ns[i] = naps_ns[i] + 10000L * (long)round;
        struct weir_op *op = next_op(CALLS);
        weir_op_call(op, sleep_a_little, &nap_ns[i]);
        carry_out(op, CALLS);
    }
}

static void do_cancelled(const int pipe[2])
{
    char byte;
    called = 0;
    struct weir_op *op = next_op(CANCELLED);
    weir_op_read(op, pipe[0], &byte, 1, WEIR_CURRENT);
    MUST(weir_submit(loops[0], op) == 0);
    MUST(weir_loop_turn(loops[0], 0) >= 0);
    MUST(weir_cancel(loops[0], op) == 0);
    while (called == 0) {
        MUST(weir_loop_turn(loops[0], WEIR_S) >= 0);
    }
    MUST(op->result == -ECANCELED);
}

/* A burst: what waits, and what waits for other callbacks. */
static void do_hostile(unsigned count)
{
    called = 0;
    for (unsigned i = 0; i < count; i++) {
        struct weir_op *op = &ops[i];
        memset(op, 0, sizeof *op);
        op->callback = on_done;
        op->task = tasks[HOSTILE];
        weir_op_nop(op);
        MUST(weir_submit(loops[1], op) == 0);
    }
    MUST(weir_loop_run(loops[1]) == 0);
    MUST(called == count);
}

static void work(int file, const int pipe[2], unsigned rounds)
{
    for (unsigned round = 0; round < rounds; round++) {
        do_files(file);
        do_pipes(pipe);
        do_failing();
        do_calls(round);
        do_cancelled(pipe);
        do_hostile(1 + round * 7 % ROUND_OPS);
        called = 0;
        struct weir_op *op = next_op(FILES); /* of no task: it falls into the built-in one */
        op->task = NULL;
        weir_op_nop(op);
        MUST(carry_out(op, FILES) == 0);
    }
}

/* --- what no work brings about ---------------------------------------------------------------- */

static void record(struct weir_histogram *histogram, uint64_t value_ns, uint64_t times)
{
    histogram->count += times;
    weir_histogram_add(histogram, value_ns, times);
}

/* scale: of the counts, 1 or more; what is made with a larger one holds what a smaller one has. */
static void make_up(struct weir_histogram into[][WEIR_STAGE_COUNT], uint64_t scale)
{
    for (unsigned stage = 0; stage < WEIR_STAGE_COUNT; stage++) {
        for (unsigned bit = 0; bit < WEIR_HISTOGRAM_TOP; bit++) {
            uint64_t power = 1ULL << bit;
            record(&into[EDGES][stage], power - 1, scale);
            record(&into[EDGES][stage], power + (power * stage) / WEIR_STAGE_COUNT, scale);
            /* Large counts of small values: the sum must not wrap. */
            uint64_t count = scale << (WEIR_HISTOGRAM_TOP - 1 - bit);
            record(&into[COUNTS][stage], power + power / 2, count);
            record(&into[COUNTS][stage], power + power / 2 + power / 32, count - 1);
        }
        record(&into[CLIPPED][stage], 1000, 10 * scale);
        record(&into[CLIPPED][stage], 1ULL << WEIR_HISTOGRAM_TOP, scale);
        record(&into[CLIPPED][stage], (5ULL << WEIR_HISTOGRAM_TOP) + 12345, scale);
        for (uint64_t value = 0; value < 300; value++) {
            record(&into[SMALL][stage], value, scale);
        }
    }
    record(&into[ONE_CLIPPED][0], 1ULL << 50, scale);
}

/* --- what is written -------------------------------------------------------------------------- */

static FILE *create(const char *folder, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    MUST(file);
    return file;
}

static int to_file(void *context, const char *text, size_t size)
{
    return fwrite(text, 1, size, context) == size ? 0 : -EIO;
}

static void write_snapshot(const char *folder, const char *name,
                           const struct weir_snapshot *snapshot, enum weir_format format)
{
    FILE *file = create(folder, name);
    int r = weir_snapshot_write(snapshot, format, to_file, file);
    MUST(fclose(file) == 0);
    if (r == -EOPNOTSUPP && format == WEIR_FORMAT_HLOG) { /* built without zlib */
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", folder, name);
        MUST(unlink(path) == 0);
        return;
    }
    MUST(r == 0);
}

static void write_hgrms(const char *folder)
{
    for (unsigned i = 0; i < ROW_COUNT * WEIR_STAGE_COUNT; i++) {
        char name[32];
        snprintf(name, sizeof name, "%u.hgrm", i);
        FILE *file = create(folder, name);
        const struct weir_histogram *histogram = &now[i / WEIR_STAGE_COUNT][i % WEIR_STAGE_COUNT];
        MUST(weir_histogram_write_hgrm(histogram, to_file, file) == 0);
        MUST(fclose(file) == 0);
    }
}

static void expect_hex(FILE *file, const char *key, const char *bytes)
{
    fprintf(file, "\"%s\":\"", key);
    for (; *bytes; bytes++) {
        fprintf(file, "%02x", (unsigned char)*bytes);
    }
    fprintf(file, "\",");
}

static void expect_histogram(FILE *file, const char *key, const struct weir_histogram *histogram)
{
    fprintf(file, "\"%s\":{\"count\":%llu,\"sum_ns\":%llu,\"max_ns\":%llu,\"clipped\":%llu,", key,
            (unsigned long long)histogram->count, (unsigned long long)histogram->sum,
            (unsigned long long)histogram->max, (unsigned long long)histogram->clipped);
    static const double percents[] = {50, 90, 99, 99.9};
    for (unsigned i = 0; i < COUNT_OF(percents); i++) {
        fprintf(file, "%s\"p%g_ns\":%llu", i > 0 ? "," : "", percents[i],
                (unsigned long long)weir_histogram_percentile(histogram, percents[i]));
    }
    fprintf(file, "}");
}

/* Its largest value is what a reader of the bucket finds. */
static struct weir_histogram since(const struct weir_histogram *then,
                                   const struct weir_histogram *later)
{
    struct weir_histogram difference = {.count = later->count - then->count,
                                        .sum = later->sum - then->sum,
                                        .clipped = later->clipped - then->clipped};
    if (difference.clipped > 0) {
        difference.max = later->max;
    }
    for (unsigned i = 0; i < WEIR_HISTOGRAM_BUCKETS; i++) {
        struct weir_histogram alone = {.count = 1, .max = UINT64_MAX};
        difference.buckets[i] = later->buckets[i] - then->buckets[i];
        if (difference.buckets[i] > 0 && difference.clipped == 0) {
            alone.buckets[i] = 1;
            uint64_t highest = weir_histogram_percentile(&alone, 100);
            difference.max = highest < later->max ? highest : later->max;
        }
    }
    return difference;
}

static void write_expected(const char *folder)
{
    FILE *file = create(folder, "expected.json");
    const char *before = "[";
    for (unsigned task = 0; task < ROW_COUNT; task++) {
        struct weir_task_counters counters = {0};
        MUST(task >= TASK_COUNT || weir_task_read_counters(tasks[task], &counters) == 0);
        for (unsigned stage = 0; stage < WEIR_STAGE_COUNT; stage++) {
            fprintf(file, "%s{", before);
            expect_hex(file, "loop", labels[places[task].loop]);
            expect_hex(file, "task", places[task].name);
            fprintf(file, "\"stage\":\"%s\",\"hgrm\":\"%u.hgrm\",", weir_stage_name(stage),
                    task * WEIR_STAGE_COUNT + stage);
            fprintf(file, "\"submitted\":%llu,\"failed\":%llu,\"cancelled\":%llu,\"bytes\":%llu,",
                    (unsigned long long)counters.submitted, (unsigned long long)counters.failed,
                    (unsigned long long)counters.cancelled, (unsigned long long)counters.bytes);
            struct weir_histogram interval = since(&first[task][stage], &now[task][stage]);
            expect_histogram(file, "whole", &now[task][stage]);
            fprintf(file, ",");
            expect_histogram(file, "interval", &interval);
            fprintf(file, "}");
            before = ",\n";
        }
    }
    fprintf(file, "]\n");
    MUST(fclose(file) == 0);
}

/* A snapshot, and the same read without one. */
static struct weir_snapshot *look(struct weir_histogram into[][WEIR_STAGE_COUNT])
{
    struct weir_snapshot *snapshot;
    MUST(weir_snapshot_open(SNAPSHOT_TASKS, 0, &snapshot) == 0);
    for (unsigned loop = 0; loop < COUNT_OF(loops); loop++) {
        MUST(weir_snapshot_add(snapshot, loops[loop], labels[loop]) == 0);
    }
    for (unsigned i = TASK_COUNT; i < ROW_COUNT; i++) {
        struct weir_snapshot_task *row =
            weir_snapshot_make_task(snapshot, labels[MADE_UP], places[i].name);
        MUST(row);
        memcpy(row->stages, into[i], sizeof row->stages);
    }
    for (unsigned task = 0; task < TASK_COUNT; task++) {
        for (unsigned stage = 0; stage < WEIR_STAGE_COUNT; stage++) {
            MUST(weir_task_read(tasks[task], stage, &into[task][stage]) == 0);
        }
    }
    return snapshot;
}

int main(int argc, char **argv)
{
    MUST(argc == 2);
    for (unsigned i = 0; i < COUNT_OF(loops); i++) {
        struct weir_options options = {.depth = 8, .waiting_max = 64, .flags = WEIR_INSPECTABLE};
        MUST(weir_loop_open(&options, &loops[i]) == 0);
    }
    for (unsigned i = 0; i < TASK_COUNT; i++) {
        struct weir_task_options options = {.name = places[i].name};
        MUST(weir_task_open(loops[places[i].loop], &options, &tasks[i]) == 0);
    }
    int pipe_fds[2];
    MUST(pipe(pipe_fds) == 0);
    FILE *file = tmpfile();
    MUST(file);
    work(fileno(file), pipe_fds, 8);
    make_up(first, 1);
    struct weir_snapshot *earlier = look(first);
    work(fileno(file), pipe_fds, 60);
    make_up(now, 3);
    struct weir_snapshot *later = look(now);

    write_snapshot(argv[1], "metrics.txt", later, WEIR_FORMAT_PROMETHEUS);
    write_snapshot(argv[1], "whole.json", later, WEIR_FORMAT_JSON);
    write_snapshot(argv[1], "whole.hlog", later, WEIR_FORMAT_HLOG);
    write_hgrms(argv[1]);
    write_expected(argv[1]);
    MUST(weir_snapshot_subtract(later, earlier) == 0);
    write_snapshot(argv[1], "interval.json", later, WEIR_FORMAT_JSON);
    write_snapshot(argv[1], "interval.hlog", later, WEIR_FORMAT_HLOG);
    weir_snapshot_close(later);
    weir_snapshot_close(earlier);

    fclose(file);
    for (unsigned i = 0; i < COUNT_OF(loops); i++) {
        MUST(weir_loop_close(loops[i], 5 * WEIR_S, NULL) == 0);
    }
    return 0;
}
