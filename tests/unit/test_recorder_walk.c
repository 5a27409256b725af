/* SPDX-License-Identifier: MIT */
/* engine/observe/recorder.h: random lives of random ops, in rings that are written over or not;
 * what is dumped against a model that keeps every life whole. */
#include "told.h"

#include <stdio.h>
#include <string.h>

#define EVENTS 1024u
#define OPS 24u
#define ROUNDS 60
#define STEPS_MOST 6000u
#define NEVER UINT64_MAX

enum point { SUBMITTED, LEFT, DONE, BACK, POINTS };

/* Of each event its number, or NEVER, and its stamp. */
struct lived {
    uint64_t numbers[POINTS];
    uint64_t stamps[POINTS];
    int64_t result;
    uint32_t op;
    bool timer;
};

/* What is to be told of it. */
struct expected {
    uint64_t id;
    bool earlier;
    bool live;
    uint64_t from[WEIR_STAGE_COUNT]; /* NEVER: not that stage */
    uint64_t to[WEIR_STAGE_COUNT];
    uint64_t begin_ns;
    uint64_t end_ns;
};

struct walk {
    struct random random;
    struct weir_recorder recorder;
    struct weir_guard guard;
    struct weir_tasks tasks;
    struct weir_op ops[OPS];
    struct lived *of_op[OPS]; /* its last; NULL or with BACK: none is live */
    struct lived lives[STEPS_MOST];
    uint32_t count;
    uint64_t stamps[STEPS_MOST]; /* of each event */
    bool refused[STEPS_MOST];
    struct expected expected[STEPS_MOST];
    uint32_t expected_count;
    uint64_t now_ns;
    uint64_t begin_ns;
    uint64_t end_ns;
    uint64_t until_ns[OPS]; /* how far each op has come */
    uint64_t first;
    struct told told;
    void *ring;
    void *memory;
};

/* --- the walk --------------------------------------------------------------------------------- */

/* Most of the time of the latest reading, at times of an older one. */
static uint64_t note(struct walk *walk, enum weir_recorded what, uint32_t i, int64_t value)
{
    uint64_t number = walk->recorder.written;
    walk->now_ns += random_below(&walk->random, 3) == 0 ? random_below(&walk->random, 9) : 0;
    bool old = random_below(&walk->random, 8) == 0;
    walk->stamps[number] = walk->now_ns - (old ? random_below(&walk->random, 20) : 0);
    walk->refused[number] = what == WEIR_RECORDED_REFUSED;
    weir_recorder_note(&walk->recorder, what, &walk->ops[i], walk->ops[i].kind - 1u, value,
                       walk->stamps[number]);
    return number;
}

static void submit(struct walk *walk, uint32_t i)
{
    bool timer = random_below(&walk->random, 4) == 0;
    if (timer) {
        weir_op_timeout(&walk->ops[i], 0);
    } else {
        weir_op_read(&walk->ops[i], (int)i, NULL, 0, 0);
    }
    struct lived *life = &walk->lives[walk->count++];
    *life = (struct lived){.op = i, .timer = timer, .numbers = {NEVER, NEVER, NEVER, NEVER}};
    walk->of_op[i] = life;
    life->numbers[SUBMITTED] = note(walk, WEIR_RECORDED_SUBMITTED, i, 0);
}

static void go_on(struct walk *walk, uint32_t i)
{
    struct lived *life = walk->of_op[i];
    if (life->numbers[DONE] != NEVER) {
        life->numbers[BACK] = note(walk, WEIR_RECORDED_HANDED_BACK, i, life->result);
        return;
    }
    bool waits = !life->timer && life->numbers[LEFT] == NEVER;
    if (waits && random_below(&walk->random, 4) > 0) {
        life->numbers[LEFT] = note(walk, WEIR_RECORDED_LEFT, i, 0);
        return;
    }
    static const int64_t others[] = {0, 1, 4096, -EIO, -ETIME, -ECANCELED, INT64_MIN};
    life->result = waits ? -ECANCELED : others[random_below(&walk->random, COUNT_OF(others))];
    life->numbers[DONE] = note(walk, WEIR_RECORDED_DONE, i, life->result);
}

static void take_steps(struct walk *walk, uint64_t steps)
{
    for (uint64_t step = 0; step < steps; step++) {
        uint32_t i = (uint32_t)random_below(&walk->random, OPS);
        const struct lived *life = walk->of_op[i];
        if (random_below(&walk->random, 20) == 0) {
            note(walk, WEIR_RECORDED_REFUSED, i, -EAGAIN);
        } else if (!life || life->numbers[BACK] != NEVER) {
            submit(walk, i);
        } else {
            go_on(walk, i);
        }
    }
}

/* --- the model -------------------------------------------------------------------------------- */

static void find_bounds(struct walk *walk)
{
    uint64_t written = walk->recorder.written;
    walk->first = written >= EVENTS ? written - EVENTS + 1 : 0;
    walk->begin_ns = written > 0 ? NEVER : walk->now_ns;
    walk->end_ns = walk->now_ns;
    for (uint64_t i = walk->first; i < written; i++) {
        uint64_t at_ns = walk->stamps[i];
        walk->begin_ns = at_ns < walk->begin_ns ? at_ns : walk->begin_ns;
        walk->end_ns = at_ns > walk->end_ns ? at_ns : walk->end_ns;
    }
}

static bool kept(const struct walk *walk, const struct lived *life, enum point point)
{
    return life->numbers[point] != NEVER && life->numbers[point] >= walk->first;
}

/* Never before the one before. */
static void straighten(struct walk *walk, struct lived *life)
{
    uint64_t at_ns =
        walk->begin_ns > walk->until_ns[life->op] ? walk->begin_ns : walk->until_ns[life->op];
    for (enum point point = SUBMITTED; point < POINTS; point++) {
        if (kept(walk, life, point)) {
            uint64_t stamp_ns = walk->stamps[life->numbers[point]];
            at_ns = stamp_ns > at_ns ? stamp_ns : at_ns;
            life->stamps[point] = at_ns;
        } else {
            life->stamps[point] = NEVER;
        }
    }
    walk->until_ns[life->op] = at_ns;
}

static void expect_stage(struct expected *expected, enum weir_stage stage, uint64_t from_ns,
                         uint64_t to_ns)
{
    expected->from[stage] = from_ns;
    expected->to[stage] = to_ns == NEVER ? expected->end_ns : to_ns;
}

static void expect_life(struct walk *walk, struct lived *life)
{
    struct expected *expected = &walk->expected[walk->expected_count];
    uint64_t *at = life->stamps;
    bool any = false;
    straighten(walk, life);
    for (enum point point = SUBMITTED; point < POINTS && !any; point++) {
        any = kept(walk, life, point);
        expected->id = life->numbers[point];
    }
    if (!any) {
        return;
    }
    walk->expected_count++;
    expected->earlier = at[SUBMITTED] == NEVER;
    expected->live = at[BACK] == NEVER;
    expected->begin_ns = expected->earlier ? walk->begin_ns : at[SUBMITTED];
    expected->end_ns = expected->live ? walk->end_ns : at[BACK];
    for (enum weir_stage stage = 0; stage < WEIR_STAGE_COUNT; stage++) {
        expected->from[stage] = NEVER;
    }
    if (!life->timer && (at[SUBMITTED] != NEVER || at[LEFT] != NEVER)) {
        expect_stage(expected, WEIR_STAGE_WAIT, expected->begin_ns,
                     at[LEFT] != NEVER ? at[LEFT] : at[DONE]);
    }
    bool unknown = life->result == -ECANCELED || life->result == -ETIME;
    if (at[LEFT] != NEVER) {
        expect_stage(expected, WEIR_STAGE_FLIGHT, at[LEFT], at[DONE]);
    } else if ((life->timer && !expected->earlier) ||
               (expected->earlier && at[DONE] != NEVER && !unknown)) {
        expect_stage(expected, WEIR_STAGE_FLIGHT, expected->begin_ns, at[DONE]);
    }
    if (at[DONE] != NEVER || at[BACK] != NEVER) {
        expect_stage(expected, WEIR_STAGE_DELIVERY,
                     at[DONE] != NEVER ? at[DONE] : expected->begin_ns, at[BACK]);
    }
}

/* --- the one against the other ---------------------------------------------------------------- */

static const struct told_event *expect_event(const struct walk *walk,
                                             const struct told_event *event, char phase,
                                             const char *name, uint64_t at_ns)
{
    while (event->phase == 'i') { /* a refusal in the middle of it */
        event++;
    }
    assert_int_equal(event->phase, phase);
    assert_string_equal(event->name, name);
    assert_true(event->ts_ns == at_ns - walk->begin_ns);
    return event + 1;
}

static const struct told_event *find(const struct walk *walk, uint64_t id)
{
    for (size_t i = 0; i < walk->told.count; i++) {
        if (walk->told.events[i].phase == 'b' && walk->told.events[i].id == id) {
            return &walk->told.events[i];
        }
    }
    fail_msg("no life %llu", (unsigned long long)id);
    return NULL;
}

static void compare_life(const struct walk *walk, const struct expected *expected,
                         const struct lived *life)
{
    const struct told_event *event = find(walk, expected->id);
    const char *name = life->timer ? "timeout" : "read";
    assert_int_equal(event->earlier, expected->earlier);
    event = expect_event(walk, event, 'b', name, expected->begin_ns);
    for (enum weir_stage stage = 0; stage < WEIR_STAGE_COUNT; stage++) {
        if (expected->from[stage] != NEVER) {
            const char *named = weir_stage_name(stage);
            event = expect_event(walk, event, 'b', named, expected->from[stage]);
            event = expect_event(walk, event, 'e', named, expected->to[stage]);
        }
    }
    event = expect_event(walk, event, 'e', name, expected->end_ns) - 1;
    assert_int_equal(event->live, expected->live);
    bool has_result = life->stamps[DONE] != NEVER || life->stamps[BACK] != NEVER;
    assert_int_equal(event->has_result, has_result);
    assert_true(!has_result || event->result == life->result);
}

/* What the counter of that name says at a moment. */
static uint64_t counted(const struct told *told, const char *name, uint64_t ts_ns)
{
    uint64_t ops = 0;
    for (size_t i = 0; i < told->count && told->events[i].ts_ns <= ts_ns; i++) {
        if (strcmp(told->events[i].name, name) == 0) {
            ops = told->events[i].ops;
        }
    }
    return ops;
}

static void keep_counters(struct told *told)
{
    size_t count = 0;
    for (size_t i = 0; i < told->count; i++) {
        if (told->events[i].phase == 'C') {
            told->events[count++] = told->events[i];
        }
    }
    told->count = count;
}

static void compare_counters(struct walk *walk, const struct lived *lives[])
{
    keep_counters(&walk->told);
    for (uint32_t i = 0; i < walk->expected_count; i++) {
        uint64_t moments[] = {walk->expected[i].begin_ns, walk->expected[i].end_ns,
                              walk->expected[i].from[WEIR_STAGE_FLIGHT]};
        uint64_t at_ns = moments[random_below(&walk->random, COUNT_OF(moments))];
        at_ns = at_ns == NEVER ? walk->begin_ns : at_ns;
        uint64_t live = 0;
        uint64_t in_flight = 0;
        for (uint32_t j = 0; j < walk->expected_count; j++) {
            const struct expected *other = &walk->expected[j];
            live += other->begin_ns <= at_ns && (other->live || other->end_ns > at_ns);
            bool flies = lives[j]->stamps[DONE] == NEVER;
            in_flight += !lives[j]->timer && other->from[WEIR_STAGE_FLIGHT] <= at_ns &&
                         (flies || other->to[WEIR_STAGE_FLIGHT] > at_ns);
        }
        assert_int_equal(counted(&walk->told, "ops live", at_ns - walk->begin_ns), live);
        assert_int_equal(counted(&walk->told, "ops in flight", at_ns - walk->begin_ns), in_flight);
    }
}

static void compare(struct walk *walk)
{
    static const struct lived *lives[STEPS_MOST];
    uint64_t events[128] = {0};
    uint64_t refused = 0;
    find_bounds(walk);
    for (uint32_t i = 0; i < walk->count; i++) {
        lives[walk->expected_count] = &walk->lives[i];
        expect_life(walk, &walk->lives[i]);
    }
    for (uint64_t i = walk->first; i < walk->recorder.written; i++) {
        refused += walk->refused[i];
    }
    told_dump(&walk->told, &walk->recorder, &walk->tasks, walk->now_ns);
    assert_int_equal(walk->told.lost, walk->first);
    uint64_t lives_told = 0;
    for (size_t i = 0; i < walk->told.count; i++) {
        const struct told_event *event = &walk->told.events[i];
        events[(unsigned char)event->phase]++;
        lives_told += event->phase == 'b' &&
                      (strcmp(event->name, "read") == 0 || strcmp(event->name, "timeout") == 0);
    }
    assert_int_equal(events['i'], refused);
    assert_int_equal(lives_told, walk->expected_count);
    for (uint32_t i = 0; i < walk->expected_count; i++) {
        compare_life(walk, &walk->expected[i], lives[i]);
    }
    compare_counters(walk, lives);
    told_free(&walk->told);
}

static struct walk *open_walk(void)
{
    struct walk *walk = malloc(sizeof *walk);
    assert_non_null(walk);
    walk->ring = malloc(weir_recorder_size(EVENTS));
    walk->memory = calloc(WEIR_KIND_COUNT, sizeof(struct weir_task));
    assert_true(walk->ring && walk->memory);
    return walk;
}

static void close_walk(struct walk *walk)
{
    free(walk->memory);
    free(walk->ring);
    free(walk);
}

static void begin_walk(struct walk *walk, struct random random)
{
    void *ring = walk->ring;
    void *memory = walk->memory;
    memset(walk, 0, sizeof *walk);
    memset(ring, 0, weir_recorder_size(EVENTS));
    walk->ring = ring;
    walk->memory = memory;
    walk->random = random;
    walk->now_ns = 1000000;
    weir_tasks_init(&walk->tasks, &walk->guard, memory, WEIR_KIND_COUNT * sizeof(struct weir_task));
    weir_recorder_init(&walk->recorder, EVENTS, ring);
    for (uint32_t i = 0; i < OPS; i++) {
        weir_op_nop(&walk->ops[i]);
    }
}

static void random_lives_are_told_as_a_model_has_them(void **state)
{
    (void)state;
    struct random random = random_open();
    struct walk *walk = open_walk();
    for (int round = 0; round < ROUNDS; round++) {
        begin_walk(walk, random);
        take_steps(walk, random_below(&walk->random, round % 2 ? EVENTS + 8 : STEPS_MOST));
        compare(walk);
        random = walk->random;
    }
    close_walk(walk);
}

/* A ring larger than an address space, none of which is written. */
static void a_dump_for_which_there_is_no_memory_says_so(void **state)
{
    (void)state;
    struct walk *walk = open_walk();
    begin_walk(walk, (struct random){1});
    walk->recorder.mask = (1ULL << 56) - 1;
    int r = weir_recorder_dump(&walk->recorder, &walk->tasks, 0, told_write, &walk->told);
    assert_int_equal(r, -ENOMEM);
    assert_int_equal(walk->told.calls, 0);
    close_walk(walk);
}

/* AddressSanitizer asks: malloc() answers NULL, as without it. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

static int print(void *context, const char *text, size_t size)
{
    (void)context;
    return fwrite(text, 1, size, stdout) == size ? 0 : -EIO;
}

/* For trace.py. */
static int dump(uint64_t steps, uint64_t seed)
{
    struct walk *walk = open_walk();
    begin_walk(walk, (struct random){seed});
    take_steps(walk, steps);
    int r = weir_recorder_dump(&walk->recorder, &walk->tasks, walk->now_ns, print, NULL);
    close_walk(walk);
    return r != 0;
}

int main(int argc, char **argv)
{
    if (argc == 3) {
        return dump(strtoull(argv[1], NULL, 0) % STEPS_MOST, strtoull(argv[2], NULL, 0) | 1);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_lives_are_told_as_a_model_has_them),
        cmocka_unit_test(a_dump_for_which_there_is_no_memory_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
