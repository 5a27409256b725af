/* SPDX-License-Identifier: MIT */
#include <engine/base/check.h>
#include <engine/base/clock.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LEARN_NS 10000000ULL /* shortest base for a scale, and how often a longer one refines it */
#define RENEW_NS 1000000000ULL /* oldest anchor */
#define TORN_TICKS 20000       /* two TSC readings further apart were preempted in between */
#define CLOCKSOURCE "/sys/devices/system/clocksource/clocksource0/current_clocksource"

__extension__ typedef unsigned __int128 wide;

#if defined(__x86_64__)
static inline uint64_t ticks_now(void)
{
    return __builtin_ia32_rdtsc();
}

static bool ticks_are_the_clock(void)
{
    char name[8] = "";
    int fd = open(CLOCKSOURCE, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    ssize_t got = read(fd, name, sizeof name - 1);
    close(fd);
    return got >= 3 && memcmp(name, "tsc\n", 4) == 0;
}
#else
static inline uint64_t ticks_now(void)
{
    return 0;
}

static bool ticks_are_the_clock(void)
{
    return false;
}
#endif

uint64_t weir_clock_monotonic(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

void weir_clock_init(struct weir_clock *clock)
{
    memset(clock, 0, sizeof *clock);
    clock->ticking = ticks_are_the_clock();
    weir_clock_monotonic(); /* the first reading may fault pages in */
    clock->base_ns = weir_clock_monotonic();
    clock->base_ticks = ticks_now(); /* after it, as learn() is given it */
    clock->last_ns = clock->base_ns;
}

static void learn(struct weir_clock *clock, uint64_t now_ns, uint64_t ticks)
{
    uint64_t base_ns = now_ns - clock->base_ns;
    uint64_t since_ns = now_ns - clock->anchor_ns;
    if (base_ns < LEARN_NS || ticks <= clock->base_ticks) {
        return;
    }
    if (clock->scale == 0 || since_ns >= LEARN_NS) {
        uint64_t base_ticks = ticks - clock->base_ticks;
        clock->scale = (uint64_t)(((wide)base_ns << 32) / base_ticks);
        /* The error of a scale grows with the age of the anchor as it shrinks with the base. */
        uint64_t renew_ns = base_ns < RENEW_NS ? base_ns : RENEW_NS;
        clock->stale_ticks = clock->scale ? (uint64_t)(((wide)renew_ns << 32) / clock->scale) : 0;
    }
    clock->anchor_ns = now_ns;
    clock->anchor_ticks = ticks;
}

uint64_t weir_clock_exact(struct weir_clock *clock)
{
    if (!clock->ticking) {
        return weir_clock_monotonic();
    }
    uint64_t before = ticks_now();
    uint64_t now_ns = weir_clock_monotonic();
    uint64_t after = ticks_now();
    if (after - before < TORN_TICKS) {
        learn(clock, now_ns, after);
    }
    return now_ns;
}

static inline uint64_t never_back(struct weir_clock *clock, uint64_t now_ns)
{
    clock->last_ns = now_ns < clock->last_ns ? clock->last_ns : now_ns;
    return clock->last_ns;
}

static __attribute__((noinline)) uint64_t stamp_exactly(struct weir_clock *clock)
{
    return never_back(clock, weir_clock_exact(clock));
}

uint64_t weir_clock_stamp(struct weir_clock *clock)
{
    uint64_t age = ticks_now() - clock->anchor_ticks;
    if (weir_unlikely(age >= clock->stale_ticks)) { /* 0 until a scale is learned */
        return stamp_exactly(clock);
    }
    return never_back(clock, clock->anchor_ns + ((age * clock->scale) >> 32));
}
