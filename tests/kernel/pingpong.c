/* SPDX-License-Identifier: MIT */
/*
 * pingpong.c: no wake-up is lost: a ball goes to and fro between two threads, with random delays
 * between the look at it and the sleep, and before it is sent; a lost one is a hang. The bell is
 * behind all of it, and each way to ring it has its own inbox.
 *
 *   pingpong --policy io_uring|epoll --by wake|post|offload [--foreign] [--spin NS] [--fresh]
 *            [--seed N] [--rounds N]
 *
 * 100,000 rounds; 10 million with WEIR_LONG=1. --foreign: the loop sleeps in an epoll set of its
 * host, which has the loop's fd. --fresh: one way, wake or post, and to a new loop each time, a
 * hundredth as often: it is the first ring of a bell.
 */
#include "check.h"

#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define GUARD_SECONDS 300
#define GUARD_SECONDS_LONG 14000

enum by { BY_WAKE, BY_POST, BY_OFFLOAD };

static enum weir_policy policy = WEIR_AUTO;
static enum by by;
static bool foreign;
static bool fresh;
static uint64_t spin_ns;
static uint64_t rounds;
static uint64_t seed;

struct player {
    struct weir_loop *loop;
    struct player *other;
    uint64_t random;
    uint64_t ball; /* the last round that reached this side */
    int epoll;     /* --foreign */
    pthread_barrier_t *through;
    struct weir_op ops[2]; /* to post, in turns: no side is ever two rounds ahead of the other */
};

static uint64_t next_random(uint64_t *random)
{
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    return *random >> 33;
}

/* Mostly as short as the window, sometimes longer than a sleep takes to begin. */
static void delay(uint64_t *random)
{
    uint64_t turns = next_random(random) % 64 == 0 ? 20000 : 512;
    for (turns = next_random(random) % turns; turns > 0; turns--) {
        __asm__ volatile("" ::: "memory");
    }
}

static struct weir_loop *open_loop(uint32_t flags)
{
    struct weir_loop *loop = NULL;
    struct weir_options options = {
        .policy = policy,
        .flags = flags,
        .depth = 8,
        .offload_workers = by == BY_OFFLOAD ? 2 : WEIR_NO_OFFLOAD,
        .spin_ns_max = spin_ns,
    };
    CHECK_EQUAL(weir_loop_open(&options, &loop), 0);
    return loop;
}

static void join_host(struct player *player)
{
    if (foreign) {
        struct epoll_event event = {.events = EPOLLIN};
        player->epoll = epoll_create1(EPOLL_CLOEXEC);
        CHECK(player->epoll >= 0);
        int fd = weir_loop_fd(player->loop);
        CHECK(fd >= 0);
        CHECK_EQUAL(epoll_ctl(player->epoll, EPOLL_CTL_ADD, fd, &event), 0);
    }
}

/* Sleeps until the loop has something to do, and lets it. */
static void sleep_and_turn(struct player *player)
{
    struct epoll_event event;
    if (foreign) {
        CHECK(epoll_wait(player->epoll, &event, 1, -1) >= 0 || errno == EINTR);
    }
    CHECK(weir_loop_turn(player->loop, foreign ? 0 : -1) >= 0);
}

static uint64_t ball_of(const struct player *player)
{
    return __atomic_load_n(&player->ball, __ATOMIC_ACQUIRE);
}

/* On the other's thread: the ball has arrived there. */
static void on_ball(struct weir_op *op)
{
    struct player *here = op->user;
    CHECK_EQUAL(op->result, 0);
    here->ball++;
}

static void send_ball(struct player *player, uint64_t round)
{
    if (by == BY_WAKE) {
        __atomic_store_n(&player->other->ball, round, __ATOMIC_RELEASE);
        delay(&player->random);
        CHECK_EQUAL(weir_loop_wake(player->other->loop), 0);
        return;
    }
    /* Of two rounds ago: the other side had it before it sent the last ball. */
    struct weir_op *op = &player->ops[round % 2];
    weir_op_nop(op);
    op->callback = on_ball;
    op->user = player->other;
    CHECK_EQUAL(weir_loop_post(player->other->loop, op), 0);
}

static void *play(void *context)
{
    struct player *player = context;
    CHECK_EQUAL(weir_loop_adopt(player->loop), 0);
    join_host(player);
    pthread_barrier_wait(player->through);
    for (uint64_t round = 1; round <= rounds; round++) {
        delay(&player->random);
        send_ball(player, round);
        while (ball_of(player) < round) {
            delay(&player->random); /* between the look and the sleep */
            sleep_and_turn(player);
        }
    }
    pthread_barrier_wait(player->through); /* nobody may wake a closed loop */
    check_close(player->loop);
    return NULL;
}

static void between_two_loops(void)
{
    struct player players[2];
    pthread_t threads[2];
    pthread_barrier_t through;
    memset(players, 0, sizeof players);
    CHECK_EQUAL(pthread_barrier_init(&through, NULL, 2), 0);
    for (int i = 0; i < 2; i++) {
        players[i].loop = open_loop(WEIR_FOR_ADOPTION);
        players[i].other = &players[1 - i];
        players[i].random = seed + (uint64_t)i;
        players[i].through = &through;
    }
    for (int i = 0; i < 2; i++) {
        CHECK_EQUAL(pthread_create(&threads[i], NULL, play, &players[i]), 0);
    }
    for (int i = 0; i < 2; i++) {
        CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
        CHECK_EQUAL(players[i].ball, rounds);
    }
    pthread_barrier_destroy(&through);
}

/* --- to new loops ----------------------------------------------------------------------------- */

static void *serve(void *context)
{
    struct player *player = context;
    for (uint64_t round = 1; round <= rounds; round++) {
        pthread_barrier_wait(player->through);
        delay(&player->random);
        send_ball(player, round);
        pthread_barrier_wait(player->through); /* nobody may wake a closed loop */
    }
    return NULL;
}

static void to_new_loops(void)
{
    struct player here = {.random = seed};
    struct player there = {.other = &here, .random = seed + 1};
    pthread_barrier_t through;
    pthread_t thread;
    CHECK_EQUAL(pthread_barrier_init(&through, NULL, 2), 0);
    here.through = there.through = &through;
    CHECK_EQUAL(pthread_create(&thread, NULL, serve, &there), 0);
    for (uint64_t round = 1; round <= rounds; round++) {
        here.loop = open_loop(0);
        pthread_barrier_wait(&through);
        while (ball_of(&here) < round) {
            delay(&here.random);
            sleep_and_turn(&here);
        }
        pthread_barrier_wait(&through);
        check_close(here.loop);
    }
    CHECK_EQUAL(pthread_join(thread, NULL), 0);
    pthread_barrier_destroy(&through);
}

/* --- between a loop and its workers ----------------------------------------------------------- */

static unsigned answers;

static int64_t answer_after_a_while(void *argument)
{
    uint64_t *random = argument;
    delay(random);
    return 0;
}

static void on_answer(struct weir_op *op)
{
    CHECK_EQUAL(op->result, 0);
    answers++;
}

/* Sometimes two at once: one may come while the loop looks after the other. */
static void with_workers(void)
{
    struct player player = {.loop = open_loop(0), .random = seed};
    struct weir_op calls[2];
    uint64_t delays[2] = {seed ^ 1, seed ^ 2};
    memset(calls, 0, sizeof calls);
    join_host(&player);
    for (uint64_t round = 0; round < rounds;) {
        unsigned count = 1 + (unsigned)(next_random(&player.random) % 2);
        answers = 0;
        for (unsigned i = 0; i < count; i++) {
            calls[i].callback = on_answer;
            weir_op_call(&calls[i], answer_after_a_while, &delays[i]);
            calls[i].flags = i == 0 ? WEIR_SHORT : 0; /* one in each lane */
            CHECK_EQUAL(weir_submit(player.loop, &calls[i]), 0);
        }
        CHECK(weir_loop_turn(player.loop, 0) >= 0);
        while (answers < count) {
            delay(&player.random);
            sleep_and_turn(&player);
        }
        CHECK_EQUAL(answers, count);
        round += count;
    }
    check_close(player.loop);
}

/* --- main ------------------------------------------------------------------------------------- */

static int one_of(const char *value, const char *const *names)
{
    for (int i = 0; names[i] != NULL; i++) {
        if (strcmp(value, names[i]) == 0) {
            return i;
        }
    }
    check_fail(WEIR_SITE, "%s: not known", value);
}

static void take_options(int argc, char **argv)
{
    static const struct option options[] = {
        {"policy", required_argument, NULL, 'p'}, {"by", required_argument, NULL, 'b'},
        {"foreign", no_argument, NULL, 'f'},      {"fresh", no_argument, NULL, 'n'},
        {"spin", required_argument, NULL, 's'},   {"seed", required_argument, NULL, 'e'},
        {"rounds", required_argument, NULL, 'r'}, {0},
    };
    static const char *const policies[] = {"auto", "io_uring", "epoll", NULL};
    static const char *const ways[] = {"wake", "post", "offload", NULL};
    const char *given = getenv("WEIR_LONG");
    bool is_long = given != NULL && strcmp(given, "1") == 0;
    check_guard(is_long ? GUARD_SECONDS_LONG : GUARD_SECONDS);
    rounds = 0;
    seed = (uint64_t)time(NULL);
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 'p':
            policy = (enum weir_policy)one_of(optarg, policies);
            break;
        case 'b':
            by = (enum by)one_of(optarg, ways);
            break;
        case 'f':
            foreign = true;
            break;
        case 'n':
            fresh = true;
            break;
        case 's':
            spin_ns = strtoull(optarg, NULL, 0);
            break;
        case 'e':
            seed = strtoull(optarg, NULL, 0);
            break;
        case 'r':
            rounds = strtoull(optarg, NULL, 0);
            break;
        default:
            exit(2);
        }
    }
    CHECK(!fresh || (by != BY_OFFLOAD && !foreign)); /* workers ring, and so does being hosted */
    if (rounds == 0) {
        rounds = (is_long ? 10000000 : 100000) / (fresh ? 100 : 1);
    }
}

int main(int argc, char **argv)
{
    take_options(argc, argv);
    printf("seed %llu, %llu rounds\n", (unsigned long long)seed, (unsigned long long)rounds);
    fflush(stdout);
    if (by == BY_OFFLOAD) {
        with_workers();
    } else if (fresh) {
        to_new_loops();
    } else {
        between_two_loops();
    }
    printf("OK\n");
    return 0;
}
