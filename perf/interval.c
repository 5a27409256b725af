/* SPDX-License-Identifier: MIT */
/*
 * perf/interval.c: runs an engine between two looks at the clocks. The end is a signal and not a
 * clock that the engine's loop reads: at depth 1 that reading would be a tenth of what is
 * measured.
 */
#include "interval.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/time.h>

#include "engine.h"
#include "meter.h"

volatile sig_atomic_t meter_over;
volatile sig_atomic_t interrupted;

static uint64_t batch_now(struct meter *meter)
{
    meter->now_ns = meter->now_ns != 0 ? meter->now_ns : meter_clock();
    return meter->now_ns;
}

__attribute__((noinline)) uint64_t meter_stamp(struct meter *meter)
{
    meter->countdown = meter->every;
    return batch_now(meter);
}

__attribute__((noinline)) void meter_sample(struct meter *meter, uint64_t started_ns)
{
    weir_histogram_record(&meter->latency, batch_now(meter) - started_ns);
}

static void on_signal(int number)
{
    if (number == SIGINT) {
        interrupted = 1;
    }
    meter_over = 1;
}

void interval_prepare(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGALRM, &action, NULL);
    signal(SIGPIPE, SIG_IGN); /* a child that ended is found by its errno */
}

static uint64_t read_clock(clockid_t clock)
{
    struct timespec now = {0};
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void set_alarm(double seconds)
{
    double whole = floor(seconds);
    struct itimerval alarm = {
        .it_value = {.tv_sec = (time_t)whole, .tv_usec = (suseconds_t)((seconds - whole) * 1e6)},
    };
    setitimer(ITIMER_REAL, &alarm, NULL);
}

void interval_run(const struct driver *driver, void *state, const struct interval_plan *plan,
                  struct interval *ret_interval)
{
    struct meter meter = {
        .every = plan->every,
        .countdown = plan->every,
        .expected = plan->expected,
    };
    meter_over = interrupted;
    set_alarm(plan->seconds);
    uint64_t cpu_ns = read_clock(plan->cpu_clock);
    uint64_t wall_ns = meter_clock();
    int r = driver->run(state, &meter);
    wall_ns = meter_clock() - wall_ns;
    cpu_ns = read_clock(plan->cpu_clock) - cpu_ns;
    set_alarm(0);
    if (r == 0 && meter.failed > 0) {
        r = meter.failure < 0 ? (int)meter.failure : -EIO;
    }
    *ret_interval = (struct interval){
        .ops = meter.ops,
        .wall_ns = wall_ns,
        .cpu_ns = cpu_ns,
        .error = r,
        .latency = meter.latency,
    };
}

void interval_add(struct interval *into, const struct interval *from)
{
    into->ops += from->ops;
    into->wall_ns += from->wall_ns;
    into->cpu_ns += from->cpu_ns;
    if (into->error == 0) {
        into->error = from->error;
    }
    weir_histogram_merge(&into->latency, &from->latency);
}

double interval_ops_per_s(const struct interval *interval)
{
    return interval->wall_ns == 0 ? 0 : (double)interval->ops * 1e9 / (double)interval->wall_ns;
}

double interval_cpu_ns_per_op(const struct interval *interval)
{
    return interval->ops == 0 ? 0 : (double)interval->cpu_ns / (double)interval->ops;
}
