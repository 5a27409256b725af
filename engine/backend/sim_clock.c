/* SPDX-License-Identifier: MIT */
/*
 * sim_clock.c: the world's clock, the heap of what will happen (a pairing heap through links in
 * what it happens to, so that it needs no memory), and the dice.
 */
#include "sim.h"

/* --- the heap --------------------------------------------------------------------------------- */

static bool is_earlier(const struct weir_happening *one, const struct weir_happening *other)
{
    return one->at_ns != other->at_ns ? one->at_ns < other->at_ns : one->sequence < other->sequence;
}

/* Of two roots, one. */
static struct weir_happening *merge(struct weir_happening *one, struct weir_happening *other)
{
    if (!one || !other) {
        return one ? one : other;
    }
    if (is_earlier(other, one)) {
        struct weir_happening *later = one;
        one = other;
        other = later;
    }
    other->before = one;
    other->next = one->child;
    if (one->child) {
        one->child->before = other;
    }
    one->child = other;
    return one;
}

/* A root without links to others. */
static struct weir_happening *cut_off(struct weir_happening *root)
{
    root->next = NULL;
    root->before = NULL;
    return root;
}

/* Of a list of siblings, one root: in pairs, then from the last pair to the first. */
static struct weir_happening *merge_all(struct weir_happening *list)
{
    struct weir_happening *pairs = NULL;
    while (list) {
        struct weir_happening *one = list;
        struct weir_happening *other = one->next;
        list = other ? other->next : NULL;
        struct weir_happening *pair = merge(cut_off(one), other ? cut_off(other) : NULL);
        pair->next = pairs;
        pairs = pair;
    }
    struct weir_happening *root = NULL;
    while (pairs) {
        struct weir_happening *pair = pairs;
        pairs = pair->next;
        root = merge(cut_off(pair), root);
    }
    return root;
}

void weir_sim_unplan(struct weir_sim *sim, struct weir_happening *happening)
{
    if (happening->sequence == 0) {
        return;
    }
    struct weir_happening *below = merge_all(happening->child);
    if (happening == sim->first) {
        sim->first = below;
    } else {
        struct weir_happening *before = happening->before;
        *(before->child == happening ? &before->child : &before->next) = happening->next;
        if (happening->next) {
            happening->next->before = before;
        }
        sim->first = merge(sim->first, below);
    }
    happening->child = NULL;
    happening->next = NULL;
    happening->before = NULL;
    happening->sequence = 0;
}

void weir_sim_plan(struct weir_sim *sim, struct weir_happening *happening, uint64_t at_ns)
{
    weir_sim_unplan(sim, happening);
    happening->at_ns = at_ns;
    happening->sequence = ++sim->sequence;
    sim->first = merge(sim->first, happening);
}

/* --- the clock -------------------------------------------------------------------------------- */

void weir_sim_happen(struct weir_sim *sim)
{
    while (sim->first && sim->first->at_ns <= sim->now_ns && !sim->crashed) {
        struct weir_happening *due = sim->first;
        weir_sim_unplan(sim, due);
        due->happen(sim, due);
    }
}

bool weir_sim_advance(struct weir_sim *sim, uint64_t until_ns)
{
    uint64_t next_ns = sim->first ? sim->first->at_ns : UINT64_MAX;
    next_ns = next_ns < until_ns ? next_ns : until_ns;
    if (next_ns == UINT64_MAX) {
        return false;
    }
    if (next_ns > sim->now_ns) { /* a jump may have passed it */
        sim->now_ns = next_ns;
        weir_disk_set_now(sim->disk, next_ns);
    }
    weir_sim_happen(sim);
    return true;
}

/* --- dice ------------------------------------------------------------------------------------- */

/* SplitMix64: Steele, Lea and Flood, "Fast splittable pseudorandom number generators". */
static uint64_t mix(uint64_t value)
{
    value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9ULL;
    value = (value ^ value >> 27) * 0x94d049bb133111ebULL;
    return value ^ value >> 31;
}

uint64_t weir_sim_roll(struct weir_sim *sim, enum weir_sim_die die)
{
    sim->dice[die] += 0x9e3779b97f4a7c15ULL;
    return mix(sim->dice[die]);
}

uint64_t weir_sim_draw(struct weir_sim *sim, enum weir_sim_die die,
                       const struct weir_sim_span *span)
{
    uint64_t wide = span->max_ns - span->min_ns + 1;
    uint64_t roll = weir_sim_roll(sim, die);
    return wide == 0 ? roll : span->min_ns + roll % wide;
}

void weir_sim_seed(struct weir_sim *sim, uint64_t seed)
{
    for (uint64_t i = 0; i < WEIR_SIM_DICE; i++) {
        sim->dice[i] = mix(mix(seed) + i * 0x9e3779b97f4a7c15ULL);
    }
}
