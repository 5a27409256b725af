/* SPDX-License-Identifier: MIT */
#include <engine/observe/stall.h>
#include <string.h>

#define LATE 2 /* times the interval: whoever looks was kept from it */

void weir_stalling_init(struct weir_stalling *stalling, uint64_t threshold_ns, uint64_t interval_ns)
{
    memset(stalling, 0, sizeof *stalling);
    stalling->threshold_ns = threshold_ns;
    stalling->interval_ns = interval_ns;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* What of the time since the last look counts. */
static uint64_t seen_since(const struct weir_stalling *stalling, uint64_t now_ns)
{
    if (stalling->looked_ns == 0 || now_ns <= stalling->looked_ns) {
        return 0;
    }
    uint64_t gap_ns = now_ns - stalling->looked_ns;
    return gap_ns > LATE * stalling->interval_ns ? stalling->interval_ns : gap_ns;
}

/* It has begun since the last look. */
static void begin(struct weir_stalling *stalling, const struct weir_beat *beat, uint64_t sequence,
                  uint64_t seen_ns, uint64_t now_ns)
{
    uint64_t age_ns = now_ns > beat->since_ns ? now_ns - beat->since_ns : 0;
    stalling->sequence = sequence;
    stalling->lasted_ns = least(age_ns, seen_ns);
    stalling->looks = 0;
    stalling->asleep = 0;
    stalling->nth = 0;
    stalling->next_ns = stalling->threshold_ns;
}

bool weir_stalling_look(struct weir_stalling *stalling, const struct weir_beat *beat,
                        uint64_t sequence, uint64_t now_ns)
{
    uint64_t seen_ns = seen_since(stalling, now_ns);
    bool same = stalling->looked_ns != 0 && sequence == stalling->sequence;
    stalling->looked_ns = now_ns;
    if (!same) {
        begin(stalling, beat, sequence, seen_ns, now_ns);
        return false;
    }
    if (beat->phase == WEIR_PHASE_OUTSIDE || beat->phase == WEIR_PHASE_ASLEEP) {
        return false;
    }
    stalling->lasted_ns += seen_ns;
    return true;
}

static bool is_asleep(const struct weir_thread_sight *sight)
{
    return sight->state == 'S' || sight->state == 'D';
}

void weir_stalling_add(struct weir_stalling *stalling, const struct weir_thread_sight *sight)
{
    if (stalling->looks == 0) {
        stalling->from = *sight;
        stalling->from_ns = stalling->lasted_ns;
    }
    stalling->looks++;
    stalling->asleep += is_asleep(sight);
}

bool weir_stalling_is_due(const struct weir_stalling *stalling)
{
    return stalling->looks > 1 && stalling->lasted_ns > stalling->next_ns;
}

static uint64_t moved(uint64_t now, uint64_t from)
{
    return now > from ? now - from : 0;
}

/*
 * The time is what it computed, what it waited for a CPU, and a rest. The rest is sleep, or a wait
 * for a CPU that has not ended, or a hypervisor's: what most looks found tells which. Where they
 * could not find out (no /proc), it is taken for sleep: rather a report too many. It is not let if
 * that took most of the time, and it would not have been a stall without: an endless loop with a
 * tenth of a CPU is one all the same.
 */
enum weir_stall_cause weir_stalling_judge(const struct weir_stalling *stalling,
                                          const struct weir_thread_sight *sight)
{
    uint64_t time_ns = stalling->lasted_ns - stalling->from_ns;
    uint64_t cpu_ns = moved(sight->cpu_ns, stalling->from.cpu_ns);
    uint64_t wait_ns = moved(sight->wait_ns, stalling->from.wait_ns);
    uint64_t rest_ns = moved(time_ns, cpu_ns + wait_ns);
    bool slept = stalling->asleep * 2 >= stalling->looks || sight->state == 0;
    if (!slept) {
        wait_ns += rest_ns;
        rest_ns = 0;
    }
    if (wait_ns > cpu_ns && wait_ns > rest_ns && cpu_ns + rest_ns <= stalling->threshold_ns) {
        return WEIR_STALL_DESCHEDULED;
    }
    return cpu_ns >= rest_ns ? WEIR_STALL_RUNNING : WEIR_STALL_BLOCKED;
}

void weir_stalling_reported(struct weir_stalling *stalling)
{
    stalling->nth++;
    do {
        stalling->next_ns *= 2;
    } while (stalling->next_ns < stalling->lasted_ns);
}

const char *weir_stall_cause_name(enum weir_stall_cause cause)
{
    static const char *const names[] = {
        [WEIR_STALL_RUNNING] = "running",
        [WEIR_STALL_BLOCKED] = "blocked",
        [WEIR_STALL_DESCHEDULED] = "descheduled",
        [WEIR_STALL_UNKNOWN] = "unknown",
    };
    return (unsigned)cause < sizeof names / sizeof names[0] ? names[cause] : NULL;
}

const char *weir_stall_place_name(enum weir_stall_place place)
{
    static const char *const names[] = {
        [WEIR_STALL_CALLBACK] = "callback",
        [WEIR_STALL_TURN] = "turn",
        [WEIR_STALL_OP] = "op",
    };
    return (unsigned)place < sizeof names / sizeof names[0] ? names[place] : NULL;
}
