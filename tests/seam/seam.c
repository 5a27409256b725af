/* SPDX-License-Identifier: MIT */
/* seam.c: expectations, loops and ops of the contract's tests. See seam.h. */
#include "seam.h"

#include "onlooker.h"
#include <engine/observe/pulse.h>

#include <inttypes.h>
#include <signal.h>
#include <sys/random.h>

#define GUARD_SECONDS 120
#define GUARD_SECONDS_LONG 14400

/* How this run differs: --spin, --route=NAME, --post, --observed. */
static bool spins;
static bool posts;
static bool observed;
static enum weir_route route;

static uint64_t seed;
static uint64_t random_state;

/* Of the calling thread: the calls of the loop it is inside of. */
static __thread unsigned turning;
static __thread unsigned asking;
static __thread uint64_t callbacks;

static void explain(const char *file, int line)
{
    fprintf(stderr, "%s:%d: seed %" PRIu64 " (WEIR_SEED), backend %s%s%s%s, route %d\n", file, line,
            seed, seam_backend.name, spins ? ", spinning" : "", posts ? ", posting" : "",
            observed ? ", observed" : "", (int)route);
    _fail(file, line);
}

void seam_expect(int holds, const char *text, const char *file, int line)
{
    if (!holds) {
        fprintf(stderr, "does not hold: %s\n", text);
        explain(file, line);
    }
}

void seam_expect_equal(int64_t got, int64_t want, const char *text, const char *file, int line)
{
    if (got == want) {
        return;
    }
    fprintf(stderr, "%s is %" PRId64, text, got);
    if (got < 0 && got > -4096) {
        fprintf(stderr, " (%s)", strerror((int)-got));
    }
    fprintf(stderr, ", expected %" PRId64, want);
    if (want < 0 && want > -4096) {
        fprintf(stderr, " (%s)", strerror((int)-want));
    }
    fprintf(stderr, "\n");
    explain(file, line);
}

/* xorshift64*, see Vigna, "An experimental exploration of Marsaglia's xorshift generators". */
uint64_t seam_random(void)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * 0x2545f4914f6cdd1dULL;
}

bool seam_long(void)
{
    const char *value = getenv("WEIR_LONG");
    return value != NULL && strcmp(value, "1") == 0;
}

bool seam_plain(void)
{
    return !spins && !posts && !observed && route == WEIR_ROUTE_AUTO;
}

bool seam_simulates(void)
{
    return seam_backend.simulated != NULL;
}

int seam_across_threads(void)
{
    return seam_simulates() ? -EOPNOTSUPP : 0;
}

void seam_skip(const char *why)
{
    fprintf(stderr, "skipped: %s\n", why);
    skip();
}

/* --- loops ----------------------------------------------------------------------------------- */

int seam_open(struct weir_options options, struct weir_loop **ret_loop)
{
    /* A failed test left from wherever it was. */
    turning = 0;
    asking = 0;
    options.policy = seam_backend.policy;
    if (spins && options.spin_ns_max == 0) {
        options.spin_ns_max = 50 * WEIR_US;
    }
    if (posts && options.posts_max == 0) {
        options.posts_max = WEIR_POSTS_MAX;
    }
    if (observed && options.observer == NULL) {
        options.flags |= WEIR_INSPECTABLE;
        options.observer = onlooker_new();
        options.recorder_events = options.recorder_events ? options.recorder_events : 1024;
        options.backtrace_every = options.backtrace_every ? options.backtrace_every : 64;
    }
    if (seam_backend.simulated != NULL) {
        seam_backend.simulated->prepare(&options);
    }
    int result = weir_loop_open(&options, ret_loop);
    if (observed && result == 0) {
        weir_loop_pulse(*ret_loop)->kept = true; /* as for a watchdog */
    }
    if (result == 0 && seam_backend.simulated != NULL) {
        seam_backend.simulated->opened(*ret_loop);
    }
    return result;
}

struct weir_loop *seam_loop_with(struct weir_options options)
{
    struct weir_loop *loop = NULL;
    expect_equal(seam_open(options, &loop), 0);
    expect(loop != NULL);
    return loop;
}

struct weir_loop *seam_loop(void)
{
    return seam_loop_with((struct weir_options){0});
}

void seam_end(struct weir_loop *loop)
{
    expect_equal(seam_close(loop, 20 * WEIR_S, NULL), 0);
}

int seam_turn(struct weir_loop *loop, int64_t wait_ns)
{
    turning++;
    int result = weir_loop_turn(loop, wait_ns);
    turning--;
    return result;
}

int seam_run(struct weir_loop *loop)
{
    turning++;
    int result = weir_loop_run(loop);
    turning--;
    return result;
}

int seam_close(struct weir_loop *loop, int64_t wait_ns, struct weir_report *ret_report)
{
    turning++;
    int result = weir_loop_close(loop, wait_ns, ret_report);
    turning--;
    return result;
}

int seam_turns(struct weir_loop *loop, int count)
{
    int called = 0;
    for (int i = 0; i < count; i++) {
        int result = seam_turn(loop, 0);
        expect(result >= 0);
        called += result;
    }
    return called;
}

/* --- ops ------------------------------------------------------------------------------------- */

struct tracked *seam_of(struct weir_op *op)
{
    return WEIR_CONTAINER(op, struct tracked, op);
}

void seam_called(struct weir_op *op)
{
    struct tracked *tracked = seam_of(op);
    expect(turning > 0);
    expect_equal(asking, 0);
    expect_equal(op->state, 0);
    expect_equal(op->deadline_ns, 0);
    expect_equal(op->intended_ns, 0);
    if (tracked->routed) {
        tracked->routed = false;
        op->route = WEIR_ROUTE_AUTO;
    }
    tracked->calls++;
    tracked->result = op->result;
    tracked->order = ++callbacks;
    if (tracked->then != NULL) {
        tracked->then(tracked);
    }
}

/* What the groups that are run by another route are about: bytes and files. */
static bool takes_route(const struct weir_op *op)
{
    switch (op->kind) {
    case WEIR_KIND_NOP:
    case WEIR_KIND_CLOSE:
    case WEIR_KIND_ACCEPT:
    case WEIR_KIND_CONNECT:
    case WEIR_KIND_RECV:
    case WEIR_KIND_RECVMSG:
    case WEIR_KIND_POLL:
    case WEIR_KIND_TIMEOUT:
    case WEIR_KIND_SIGNAL:
    case WEIR_KIND_CHILD:
        return route != WEIR_ROUTE_OFFLOAD;
    default:
        return true;
    }
}

int seam_try_submit(struct weir_loop *loop, struct tracked *tracked, const char *site)
{
    bool routed = tracked->op.route == WEIR_ROUTE_AUTO && takes_route(&tracked->op);
    if (routed) {
        tracked->op.route = (uint8_t)route;
        tracked->routed = true;
    }
    tracked->op.callback = seam_called;
    asking++;
    int result = posts ? weir_loop_post_at(loop, &tracked->op, site)
                       : weir_submit_at(loop, &tracked->op, site);
    asking--;
    if (result != 0 && routed) {
        tracked->op.route = WEIR_ROUTE_AUTO;
    }
    return result;
}

void seam_refused(struct weir_loop *loop, struct tracked *tracked, int want)
{
    if (posts && want == -EAGAIN) {
        return;
    }
    struct weir_op before;
    unsigned calls = tracked->calls;
    memcpy(&before, &tracked->op, sizeof before);
    asking++;
    int result = weir_submit(loop, &tracked->op);
    asking--;
    expect_equal(result, want);
    expect(memcmp(&before, &tracked->op, sizeof before) == 0);
    expect_equal(tracked->calls, calls);
}

int seam_cancel(struct weir_loop *loop, struct tracked *tracked)
{
    asking++;
    int result = weir_cancel(loop, &tracked->op);
    asking--;
    return result;
}

void seam_await_count(struct weir_loop *loop, const unsigned *count, unsigned want)
{
    while (*count < want) {
        expect(seam_turn(loop, -1) >= 0);
    }
    expect_equal(*count, want);
}

void seam_await(struct weir_loop *loop, struct tracked *tracked)
{
    unsigned before = tracked->calls;
    if (weir_loop_live(loop) > 0 && tracked->op.state != 0) {
        seam_await_count(loop, &tracked->calls, before + 1);
    }
    expect(tracked->calls > 0);
}

int64_t seam_carry_out_at(struct weir_loop *loop, struct tracked *tracked, const char *site)
{
    unsigned before = tracked->calls;
    expect_equal(seam_try_submit(loop, tracked, site), 0);
    expect_equal(tracked->calls, before);
    seam_await_count(loop, &tracked->calls, before + 1);
    return tracked->result;
}

void seam_read_byte(struct weir_loop *loop, struct tracked *tracked, int fd)
{
    weir_op_read(&tracked->op, fd, tracked->data, 1, WEIR_CURRENT);
    seam_submit(loop, tracked);
}

/* --- main ------------------------------------------------------------------------------------ */

extern const struct seam_group *const seam_groups[];

static void on_alarm(int signal)
{
    (void)signal;
    static const char text[] = "the test above hangs\n";
    if (write(2, text, sizeof text - 1) < 0) {
        _exit(123);
    }
    _exit(124);
}

static void seed_take(void)
{
    const char *given = getenv("WEIR_SEED");
    if (given != NULL) {
        seed = strtoull(given, NULL, 10);
    } else if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed) {
        seed = 1;
    }
    seed |= 1; /* xorshift's state must not be zero */
    random_state = seed;
}

/* Takes the options; the other arguments move up. */
static int take_options(int argc, char **argv)
{
    static const char *const names[] = {"auto", "ring", "inline", "offload"};
    int kept = 1;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--spin") == 0) {
            spins = true;
        } else if (strcmp(argv[i], "--post") == 0) {
            posts = true;
        } else if (strcmp(argv[i], "--observed") == 0) {
            observed = true;
        } else if (strncmp(argv[i], "--route=", 8) == 0) {
            for (size_t j = 0; j < SEAM_COUNT(names); j++) {
                route = strcmp(argv[i] + 8, names[j]) == 0 ? (enum weir_route)j : route;
            }
        } else {
            argv[kept++] = argv[i];
        }
    }
    return kept;
}

int seam_main(int argc, char **argv)
{
    seed_take();
    argc = take_options(argc, argv);
    signal(SIGALRM, on_alarm);
    alarm(seam_long() ? GUARD_SECONDS_LONG : GUARD_SECONDS);
    if (argc > 2) {
        cmocka_set_test_filter(argv[2]); /* with * and ? */
    }
    int failed = 0;
    bool found = false;
    for (size_t i = 0; seam_groups[i] != NULL; i++) {
        const struct seam_group *group = seam_groups[i];
        if (argc > 1 && strcmp(argv[1], group->name) != 0) {
            continue;
        }
        found = true;
        bool others = seam_simulates() && group->simulated_tests != NULL;
        failed +=
            _cmocka_run_group_tests(group->name, others ? group->simulated_tests : group->tests,
                                    others ? group->simulated_count : group->count, NULL, NULL);
    }
    if (!found) {
        fprintf(stderr, "%s: no such group\n", argc > 1 ? argv[1] : "none");
        return 2;
    }
    return failed == 0 ? 0 : 1;
}
