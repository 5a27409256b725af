/* SPDX-License-Identifier: MIT */
/*
 * twin.c: one seeded script of mixed ops on both backends: what they answer, move and leave behind
 * must be the same. The two differences that the contract allows (rule 15) are kept out of the
 * script: it cancels no call that runs in a worker, and opens no FIFO that has no writer.
 *
 *   twin [--seed N] [--steps N]
 */
#include "twin.h"

#include "check.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LANES 8

static uint64_t seed;
static unsigned steps = 2000; /* a lane */

/* --- playing ---------------------------------------------------------------------------------- */

static void step(struct lane *lane);

static void on_step(struct weir_op *op)
{
    struct lane *lane = op->user;
    CHECK(!lane->idle_live);
    lane_record(lane, &lane->outcomes[lane->done++]);
    for (int i = 0; i < 2; i++) {
        if (lane->spare[i] >= 0) {
            int answer = weir_forget(lane->loop, lane->spare[i]);
            CHECK(answer == 0 || answer == -EBUSY);
            close(lane->spare[i]);
        }
        lane->spare[i] = -1;
    }
    if (lane->done < steps) {
        step(lane);
    }
}

static void step(struct lane *lane)
{
    lane_fill(lane);
    lane->op.callback = on_step;
    lane->op.user = lane;
    bool posts = twin_random(lane, 4) == 0;
    int answer = posts ? weir_loop_post(lane->loop, &lane->op) : weir_submit(lane->loop, &lane->op);
    CHECK_EQUAL(answer, 0);
}

static void play(enum weir_policy policy, struct outcome *outcomes)
{
    struct lane *lanes = calloc(LANES, sizeof *lanes);
    struct weir_loop *loop = NULL;
    struct weir_options options = {.policy = policy, .offload_workers = 2};
    CHECK(lanes != NULL);
    CHECK_EQUAL(weir_loop_open(&options, &loop), 0);
    for (unsigned i = 0; i < LANES; i++) {
        lane_open(&lanes[i], seed * LANES + i, i % 2 == 0);
        lanes[i].loop = loop;
        lanes[i].outcomes = outcomes + (size_t)i * steps;
        step(&lanes[i]);
    }
    CHECK_EQUAL(weir_loop_run(loop), 0);
    check_close(loop);
    for (unsigned i = 0; i < LANES; i++) {
        CHECK_EQUAL(lanes[i].done, steps);
        lane_close(&lanes[i]);
    }
    free(lanes);
}

/* --- comparing -------------------------------------------------------------------------------- */

static void print(const char *name, const struct outcome *o)
{
    fprintf(stderr, "  %-8s %s, route %u, flags %u: %lld%s%s, moved %llu, data %llx, left %llx\n",
            name, weir_kind_name(o->kind), o->route, o->flags, (long long)o->result,
            o->result < 0 ? " " : "", o->result < 0 ? strerror((int)-o->result) : "",
            (unsigned long long)o->moved, (unsigned long long)o->data,
            (unsigned long long)o->state);
}

static unsigned compare(const struct outcome *uring, const struct outcome *epoll)
{
    unsigned different = 0;
    for (unsigned lane = 0; lane < LANES; lane++) {
        for (unsigned i = 0; i < steps; i++) {
            const struct outcome *a = &uring[lane * steps + i];
            const struct outcome *b = &epoll[lane * steps + i];
            if (memcmp(a, b, sizeof *a) == 0) {
                continue;
            }
            different++;
            fprintf(stderr, "lane %u, step %u (choice %u), seed %llu:\n", lane, i, a->choice,
                    (unsigned long long)seed);
            print("io_uring", a);
            print("epoll", b);
            break; /* the rest of the lane follows from it */
        }
    }
    return different;
}

static void summarise(const struct outcome *outcomes)
{
    unsigned kinds[WEIR_KIND_COUNT] = {0};
    unsigned failed[WEIR_KIND_COUNT] = {0};
    for (unsigned i = 0; i < LANES * steps; i++) {
        kinds[outcomes[i].kind]++;
        failed[outcomes[i].kind] += outcomes[i].result < 0;
    }
    for (unsigned kind = 0; kind < WEIR_KIND_COUNT; kind++) {
        if (kinds[kind] > 0) {
            printf("%s %u (%u failed); ", weir_kind_name(kind), kinds[kind], failed[kind]);
        }
    }
    printf("\n");
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"seed", required_argument, NULL, 's'},
        {"steps", required_argument, NULL, 'n'},
        {0},
    };
    seed = (uint64_t)time(NULL);
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == 's') {
            seed = strtoull(optarg, NULL, 0);
        } else if (option == 'n') {
            steps = (unsigned)strtoul(optarg, NULL, 0);
        } else {
            return 2;
        }
    }
    check_guard(300);
    printf("seed %llu\n", (unsigned long long)seed);
    fflush(stdout);
    struct outcome *outcomes[2];
    for (int i = 0; i < 2; i++) {
        outcomes[i] = calloc((size_t)LANES * steps, sizeof **outcomes);
        CHECK(outcomes[i] != NULL);
        play(i == 0 ? WEIR_IO_URING : WEIR_EPOLL, outcomes[i]);
    }
    unsigned different = compare(outcomes[0], outcomes[1]);
    summarise(outcomes[0]);
    free(outcomes[0]);
    free(outcomes[1]);
    if (different != 0) {
        fprintf(stderr, "%u of %d lanes differ\n", different, LANES);
        return 1;
    }
    printf("OK\n");
    return 0;
}
