/* SPDX-License-Identifier: MIT */
/* The formats of weir/snapshot.h, to the byte where that matters; tests/readers has others read
 * them. */
#include "observed.h"

#include <engine/observe/deflate.h>
#include <engine/observe/pulse.h>
#include <pthread.h>
#include <stdio.h>

static struct weir_loop *loop;
static struct weir_snapshot *snapshot;

static struct {
    char *bytes;
    size_t used;
    size_t room;
    unsigned calls;
    unsigned fails_at; /* the call that fails; 0: none */
} written;

static int keep(void *context, const char *bytes, size_t size)
{
    assert_ptr_equal(context, &written);
    assert_true(written.fails_at == 0 || written.calls < written.fails_at);
    if (++written.calls == written.fails_at) {
        return -ENOLINK;
    }
    if (written.used + size + 1 > written.room) {
        written.room = 2 * (written.used + size + 1);
        written.bytes = realloc(written.bytes, written.room);
        assert_non_null(written.bytes);
    }
    memcpy(written.bytes + written.used, bytes, size);
    written.used += size;
    written.bytes[written.used] = '\0';
    return 0;
}

static void forget(void)
{
    free(written.bytes);
    memset(&written, 0, sizeof written);
}

static int open_all(void **state)
{
    (void)state;
    loop = observed_open();
    snapshot = observed_snapshot(0, 0);
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    forget();
    weir_snapshot_close(snapshot);
    observed_close(loop);
    return 0;
}

/* What the format says, until the next. */
static const char *text_of(enum weir_format format)
{
    forget();
    assert_int_equal(weir_snapshot_write(snapshot, format, keep, &written), 0);
    return written.bytes;
}

static const char *hgrm_of(const struct weir_histogram *histogram)
{
    forget();
    assert_int_equal(weir_histogram_write_hgrm(histogram, keep, &written), 0);
    return written.bytes;
}

static bool has_zlib(void)
{
    return weir_deflate_bound(1) > 0;
}

/* --- any format ------------------------------------------------------------------------------- */

static void whichever_write_fails_its_error_is_the_answer(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 40; i++) {
        char name[16];
        snprintf(name, sizeof name, "task %u", i);
        observed_record(observed_task(loop, name), WEIR_STAGE_FLIGHT, 1000 + i, 1 + i);
    }
    assert_int_equal(weir_snapshot_add(snapshot, loop, "l"), 0);
    for (enum weir_format format = WEIR_FORMAT_PROMETHEUS; format <= WEIR_FORMAT_HLOG; format++) {
        if (format == WEIR_FORMAT_HLOG && !has_zlib()) {
            continue;
        }
        text_of(format);
        unsigned calls = written.calls;
        assert_true(calls > 1);
        for (unsigned n = 1; n <= calls; n++) {
            forget();
            written.fails_at = n;
            assert_int_equal(weir_snapshot_write(snapshot, format, keep, &written), -ENOLINK);
            assert_int_equal(written.calls, n);
        }
    }
    forget();
    written.fails_at = 1;
    const struct weir_histogram none = {0};
    assert_int_equal(weir_histogram_write_hgrm(&none, keep, &written), -ENOLINK);
}

static void what_makes_no_sense_is_refused(void **state)
{
    (void)state;
    const struct weir_histogram none = {0};
    assert_int_equal(weir_snapshot_write(NULL, WEIR_FORMAT_JSON, keep, &written), -EINVAL);
    assert_int_equal(weir_snapshot_write(snapshot, WEIR_FORMAT_JSON, NULL, NULL), -EINVAL);
    assert_int_equal(weir_snapshot_write(snapshot, WEIR_FORMAT_HLOG + 1, keep, &written), -EINVAL);
    assert_int_equal(weir_snapshot_write(snapshot, -1, keep, &written), -EINVAL);
    assert_int_equal(weir_histogram_write_hgrm(NULL, keep, &written), -EINVAL);
    assert_int_equal(weir_histogram_write_hgrm(&none, NULL, NULL), -EINVAL);
    assert_int_equal(written.calls, 0);
}

static void an_empty_snapshot_is_written_as_nothing_much(void **state)
{
    (void)state;
    assert_string_equal(text_of(WEIR_FORMAT_JSON),
                        "{\"taken_ns\":0,\"since_ns\":0,\"loops\":[],\"tasks\":[]}\n");
    assert_null(strstr(text_of(WEIR_FORMAT_PROMETHEUS), "{"));
}

/* Lines that begin so. */
static unsigned lines_of(const char *text, const char *beginning)
{
    unsigned count = 0;
    for (const char *at = text; at; at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL) {
        count += strncmp(at, beginning, strlen(beginning)) == 0;
    }
    return count;
}

static void a_hostile_name_stays_where_names_are(void **state)
{
    (void)state;
    const char *hostile = "a\"} 1\nweir_evil 1\n#\\\t,\x80\x01";
    observed_record(observed_task(loop, hostile), WEIR_STAGE_RUN, 10, 1);
    assert_int_equal(weir_snapshot_add(snapshot, loop, hostile), 0);
    const char *text = text_of(WEIR_FORMAT_PROMETHEUS);
    assert_int_equal(lines_of(text, "weir_evil"), 0);
    assert_non_null(strstr(text, "weir_task_live{loop=\"a\\\"} 1\\nweir_evil 1\\n#\\\\\t,"
                                 "\xef\xbf\xbd"
                                 "80\x01\",task=\"a\\\"} 1\\nweir_evil 1\\n#\\\\\t,"
                                 "\xef\xbf\xbd"
                                 "80\x01\"} 0\n"));
    text = text_of(WEIR_FORMAT_JSON);
    assert_non_null(strstr(text, "{\"loop\":\"a\\\"} 1\\nweir_evil 1\\n#\\\\\\u0009,"
                                 "\xef\xbf\xbd"
                                 "80\\u0001\",\"task\":"));
    for (const char *at = text; *at; at++) {
        assert_true((unsigned char)*at >= ' ' || *at == '\n');
    }
    if (has_zlib()) {
        text = text_of(WEIR_FORMAT_HLOG);
        assert_int_equal(lines_of(text, "weir_evil"), 0);
        assert_int_equal(lines_of(text, "Tag=a\"}_1_weir_evil_1_#\\__\xef\xbf\xbd"
                                        "80_.a\"}_1_"
                                        "weir_evil_1_#\\__\xef\xbf\xbd"
                                        "80_.run,"),
                         1);
    }
}

/* --- Prometheus ------------------------------------------------------------------------------- */

/* The value of the sample whose line begins so. */
static uint64_t sample(const char *text, const char *beginning)
{
    const char *line = strstr(text, beginning);
    assert_non_null(line);
    return strtoull(line + strlen(beginning), NULL, 10);
}

static uint64_t bucket(const char *text, const char *le)
{
    char beginning[128];
    snprintf(beginning, sizeof beginning,
             "\nweir_task_stage_seconds_bucket{loop=\"l\",task=\"t\",stage=\"flight\",le=\"%s\"} ",
             le);
    return sample(text, beginning);
}

static const struct {
    uint64_t ns;
    const char *le;
} bounds[] = {
    {1000, "1e-06"},     {25000, "2.5e-05"},     {100000, "0.0001"},     {5000000, "0.005"},
    {250000000, "0.25"}, {2500000000ULL, "2.5"}, {60000000000ULL, "60"}, {UINT64_MAX, "+Inf"},
};

static void a_bounds_count_is_right_to_a_buckets_width(void **state)
{
    (void)state;
    static uint64_t values[20000];
    struct random random = random_open();
    struct weir_task *task = observed_task(loop, "t");
    for (size_t i = 0; i < COUNT_OF(values); i++) {
        values[i] = random_next(&random) >> (26 + random_below(&random, 38));
        observed_record(task, WEIR_STAGE_FLIGHT, values[i], 1);
    }
    assert_int_equal(weir_snapshot_add(snapshot, loop, "l"), 0);
    const char *text = text_of(WEIR_FORMAT_PROMETHEUS);
    for (size_t b = 0; b < COUNT_OF(bounds); b++) {
        uint64_t at_most = 0;
        uint64_t at_least = 0;
        for (size_t i = 0; i < COUNT_OF(values); i++) {
            at_most += values[i] <= bounds[b].ns;
            at_least += values[i] <= bounds[b].ns - bounds[b].ns / 32;
        }
        uint64_t count = bucket(text, bounds[b].le);
        assert_true(count <= at_most);
        assert_true(count >= at_least);
    }
    assert_int_equal(bucket(text, "+Inf"), COUNT_OF(values));
}

static void no_bounds_count_shrinks_when_a_larger_sample_comes(void **state)
{
    (void)state;
    struct weir_task *task = observed_task(loop, "t");
    observed_record(task, WEIR_STAGE_FLIGHT, 1000, 3); /* its bucket ends at 1007 */
    uint64_t before[COUNT_OF(bounds)];
    assert_int_equal(weir_snapshot_add(snapshot, loop, "l"), 0);
    const char *text = text_of(WEIR_FORMAT_PROMETHEUS);
    for (size_t b = 0; b < COUNT_OF(bounds); b++) {
        before[b] = bucket(text, bounds[b].le);
    }
    observed_record(task, WEIR_STAGE_FLIGHT, 1ULL << 40, 1);
    weir_snapshot_clear(snapshot);
    assert_int_equal(weir_snapshot_add(snapshot, loop, "l"), 0);
    text = text_of(WEIR_FORMAT_PROMETHEUS);
    for (size_t b = 0; b < COUNT_OF(bounds); b++) {
        assert_true(bucket(text, bounds[b].le) >= before[b]);
    }
    assert_int_equal(bucket(text, "60"), 3);
    assert_int_equal(bucket(text, "+Inf"), 4);
}

static void counts_and_errors_are_told_by_name(void **state)
{
    (void)state;
    struct weir_task *task = observed_task(loop, "t");
    observed_fail(task, -EIO);
    observed_fail(task, -EIO);
    observed_fail(task, -4000); /* a CALL's: no errno */
    observed_fail(task, -5000);
    task->counters.bytes = 12345;
    task->counters.submitted += 2;
    assert_int_equal(weir_snapshot_add(snapshot, loop, "l"), 0);
    const char *text = text_of(WEIR_FORMAT_PROMETHEUS);
#define OF_T "{loop=\"l\",task=\"t\""
    assert_int_equal(sample(text, "\nweir_task_submitted_total" OF_T "} "), 6);
    assert_int_equal(sample(text, "\nweir_task_failed_total" OF_T "} "), 4);
    assert_int_equal(sample(text, "\nweir_task_moved_bytes_total" OF_T "} "), 12345);
    assert_int_equal(sample(text, "\nweir_task_live" OF_T "} "), 2);
    assert_int_equal(sample(text, "\nweir_loop_live{loop=\"l\"} "), 2);
    assert_int_equal(sample(text, "\nweir_task_errors_total" OF_T ",errno=\"EIO\"} "), 2);
    assert_int_equal(sample(text, "\nweir_task_errors_total" OF_T ",errno=\"other\"} "), 2);
    assert_int_equal(sample(text, "\nweir_gate_depth{loop=\"l\",gate=\"main\"} "), 8);
    assert_null(strstr(text, "gate=\"offload\"")); /* it has no workers */
    text = text_of(WEIR_FORMAT_JSON);
    assert_non_null(strstr(text, "\"errors\":[{\"errno\":\"EIO\",\"error\":-5,\"times\":2},"
                                 "{\"errno\":\"\",\"error\":-4000,\"times\":1}],"
                                 "\"other_errors\":1"));
}

/* Of what a watchdog has seen; the pulse is where it writes that. */
static void stalls_are_told_by_cause(void **state)
{
    (void)state;
    struct weir_stall_counts *seen = &weir_loop_pulse(loop)->seen;
    *seen = (struct weir_stall_counts){{1, 2, 3}, 4, {5000000000ULL, 6, 7}};
    assert_int_equal(weir_snapshot_add(snapshot, loop, "l"), 0);
    const char *text = text_of(WEIR_FORMAT_PROMETHEUS);
    assert_int_equal(sample(text, "\nweir_loop_stalls_total{loop=\"l\",cause=\"running\"} "), 1);
    assert_int_equal(sample(text, "\nweir_loop_stalls_total{loop=\"l\",cause=\"blocked\"} "), 2);
    assert_int_equal(sample(text, "\nweir_loop_stalls_total{loop=\"l\",cause=\"descheduled\"} "),
                     3);
    assert_int_equal(lines_of(text, "weir_loop_stalls_total{"), WEIR_STALL_CAUSE_COUNT);
    assert_int_equal(sample(text, "\nweir_loop_slow_ops_total{loop=\"l\"} "), 4);
    assert_int_equal(lines_of(text, "# TYPE weir_loop_slow_ops_total counter\n"), 1);
    assert_non_null(strstr(text, "\nweir_loop_longest_stall_seconds{loop=\"l\",cause=\"running\"} "
                                 "5.000000000\n"));
    assert_non_null(strstr(text, "\nweir_loop_longest_stall_seconds{loop=\"l\","
                                 "cause=\"descheduled\"} 0.000000007\n"));
    text = text_of(WEIR_FORMAT_JSON);
    assert_non_null(strstr(text, ",\"stalls\":{\"running\":1,\"blocked\":2,\"descheduled\":3},"
                                 "\"slow_ops\":4,\"longest_stall_ns\":{\"running\":5000000000,"
                                 "\"blocked\":6,\"descheduled\":7},"));
}

static void an_interval_is_nothing_for_prometheus(void **state)
{
    (void)state;
    struct weir_snapshot *empty = observed_snapshot(0, 0);
    assert_int_equal(weir_snapshot_add(snapshot, loop, "l"), 0);
    assert_int_equal(weir_snapshot_subtract(snapshot, empty), 0);
    weir_snapshot_close(empty);
    assert_int_equal(weir_snapshot_since_ns(snapshot), 0); /* and is one all the same */
    assert_int_equal(weir_snapshot_write(snapshot, WEIR_FORMAT_PROMETHEUS, keep, &written),
                     -EINVAL);
    assert_int_equal(written.calls, 0);
    assert_non_null(strstr(text_of(WEIR_FORMAT_JSON), "\"since_ns\":0,"));
}

static void *add_elsewhere(void *context)
{
    (void)context;
    return (void *)(intptr_t)weir_snapshot_add(snapshot, loop, "l");
}

static void what_is_not_known_of_a_loop_is_null(void **state)
{
    (void)state;
    pthread_t thread;
    void *answer;
    assert_int_equal(pthread_create(&thread, NULL, add_elsewhere, NULL), 0);
    assert_int_equal(pthread_join(thread, &answer), 0);
    assert_int_equal((intptr_t)answer, 0);
    assert_non_null(strstr(text_of(WEIR_FORMAT_JSON),
                           ",\"has_state\":false,\"counters\":null,\"gates\":null,\"stalls\":{"));
}

/* --- HdrHistogram ----------------------------------------------------------------------------- */

#define HEAD "       Value     Percentile TotalCount 1/(1-Percentile)\n\n"
#define SIZES "#[Buckets =           31, SubBuckets     =           64]\n"

static void a_percentile_file_is_as_the_format_wants_it(void **state)
{
    (void)state;
    static struct weir_histogram histogram;
    memset(&histogram, 0, sizeof histogram);
    assert_string_equal(hgrm_of(&histogram),
                        HEAD "#[Mean    =        0.000, StdDeviation   =        0.000]\n"
                             "#[Max     =        0.000, Total count    =            0]\n" SIZES);
    weir_histogram_record(&histogram, 10);
    weir_histogram_record(&histogram, 10);
    weir_histogram_record(&histogram, 20);
    weir_histogram_record(&histogram, 12345678);
    assert_string_equal(hgrm_of(&histogram),
                        HEAD "       0.010 0.000000000000          2           1.00\n"
                             "       0.010 0.100000000000          2           1.11\n"
                             "       0.010 0.200000000000          2           1.25\n"
                             "       0.010 0.300000000000          2           1.43\n"
                             "       0.010 0.400000000000          2           1.67\n"
                             "       0.010 0.500000000000          2           2.00\n"
                             "       0.020 0.550000000000          3           2.22\n"
                             "       0.020 0.600000000000          3           2.50\n"
                             "       0.020 0.650000000000          3           2.86\n"
                             "       0.020 0.700000000000          3           3.33\n"
                             "       0.020 0.750000000000          3           4.00\n"
                             "   12345.678 0.775000000000          4           4.44\n"
                             "   12345.678 1.000000000000          4\n"
                             "#[Mean    =     3086.429, StdDeviation   =     5340.437]\n"
                             "#[Max     =    12345.678, Total count    =            4]\n" SIZES);
}

static void a_histogram_whose_counts_do_not_agree_is_written_all_the_same(void **state)
{
    (void)state;
    static struct weir_histogram histogram;
    memset(&histogram, 0, sizeof histogram);
    weir_histogram_record(&histogram, 100);
    histogram.count = 1000; /* a torn copy, or never filled in */
    assert_non_null(strstr(hgrm_of(&histogram), "Total count    =         1000]\n"));
}

static void a_log_begins_as_readers_want_it(void **state)
{
    (void)state;
    observed_record(observed_task(loop, "a b,c"), WEIR_STAGE_TOTAL, 1ULL << 63, 1);
    observed_task(loop, "idle");
    assert_int_equal(weir_snapshot_add(snapshot, loop, "l m"), 0);
    if (!has_zlib()) {
        assert_int_equal(weir_snapshot_write(snapshot, WEIR_FORMAT_HLOG, keep, &written),
                         -EOPNOTSUPP);
        assert_int_equal(written.calls, 0);
        return;
    }
    const char *text = text_of(WEIR_FORMAT_HLOG);
    assert_int_equal(lines_of(text, "#[Histogram log format version 1.2]\n"), 1);
    assert_int_equal(lines_of(text, "#[StartTime: "), 1);
    assert_int_equal(lines_of(text, "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\","
                                    "\"Interval_Compressed_Histogram\"\n"),
                     1);
    assert_int_equal(lines_of(text, "Tag="), 1);
    char line[128];
    uint64_t ms = weir_snapshot_taken_ns(snapshot) / 1000000;
    snprintf(line, sizeof line, "Tag=l_m.a_b_c.total,%llu.%03llu,0.000,9223372036854.775,HISTFAAA",
             (unsigned long long)(ms / 1000), (unsigned long long)(ms % 1000));
    assert_int_equal(lines_of(text, line), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_all, close_all)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(whichever_write_fails_its_error_is_the_answer),
        TEST(what_makes_no_sense_is_refused),
        TEST(an_empty_snapshot_is_written_as_nothing_much),
        TEST(a_hostile_name_stays_where_names_are),
        TEST(a_bounds_count_is_right_to_a_buckets_width),
        TEST(no_bounds_count_shrinks_when_a_larger_sample_comes),
        TEST(counts_and_errors_are_told_by_name),
        TEST(stalls_are_told_by_cause),
        TEST(an_interval_is_nothing_for_prometheus),
        TEST(what_is_not_known_of_a_loop_is_null),
        TEST(a_percentile_file_is_as_the_format_wants_it),
        TEST(a_histogram_whose_counts_do_not_agree_is_written_all_the_same),
        TEST(a_log_begins_as_readers_want_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
