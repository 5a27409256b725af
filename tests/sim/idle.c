/* SPDX-License-Identifier: MIT */
/*
 * idle.c: a service that mostly waits, for hours of virtual time: clients that send a line now and
 * then, which is logged and answered. Prints how much faster than real time that is.
 *
 *   idle [--hours N] [--clients N]
 */
#include <weir/weir.h>

#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define CLIENTS_MOST 1000
#define LINE 64
#define PAUSE_NS (30 * WEIR_S) /* between two lines of a client, at most */
#define CHECK(condition) check((condition), WEIR_SITE, #condition)

static struct weir_loop *loop;
static struct weir_sim *sim;
static uint64_t end_ns;
static uint64_t ops;
static uint64_t log_end;
static int log_fd;

struct client {
    struct weir_op timer;
    struct weir_op send;
    struct weir_op answer;
    struct weir_op receive; /* from here the server's */
    struct weir_op log;
    struct weir_op sync;
    struct weir_op reply;
    int fds[2];
    char out[LINE];
    char in[LINE];
    char answered[LINE];
};

static struct client clients[CLIENTS_MOST];

static void check(bool condition, const char *site, const char *what)
{
    if (!condition) {
        fprintf(stderr, "%s: failed: %s\n", site, what);
        exit(1);
    }
}

static void go(struct weir_op *op, struct client *client, weir_callback *callback)
{
    op->callback = callback;
    op->user = client;
    ops++;
    CHECK(weir_submit(loop, op) == 0);
}

static void pause_client(struct client *client);

static void on_answer(struct weir_op *op)
{
    CHECK(op->result == LINE);
    pause_client(op->user);
}

static void on_sent(struct weir_op *op)
{
    CHECK(op->result == LINE);
}

static void on_timer(struct weir_op *op)
{
    struct client *client = op->user;
    if (weir_now(loop) >= end_ns) {
        CHECK(weir_loop_stop(loop) == 0);
        return;
    }
    weir_op_recv(&client->answer, client->fds[0], client->answered, LINE, 0);
    client->answer.flags = WEIR_WHOLE;
    go(&client->answer, client, on_answer);
    weir_op_send(&client->send, client->fds[0], client->out, LINE, 0);
    client->send.flags = WEIR_WHOLE;
    go(&client->send, client, on_sent);
}

static void pause_client(struct client *client)
{
    weir_op_timeout_in(&client->timer, loop, weir_sim_random(sim) % PAUSE_NS);
    go(&client->timer, client, on_timer);
}

static void receive(struct client *client);

static void on_replied(struct weir_op *op)
{
    CHECK(op->result == LINE);
    receive(op->user);
}

static void on_synced(struct weir_op *op)
{
    struct client *client = op->user;
    CHECK(op->result == 0);
    weir_op_send(&client->reply, client->fds[1], client->in, LINE, 0);
    go(&client->reply, client, on_replied);
}

static void on_logged(struct weir_op *op)
{
    struct client *client = op->user;
    CHECK(op->result == LINE);
    weir_op_fdatasync(&client->sync, log_fd);
    go(&client->sync, client, on_synced);
}

static void on_line(struct weir_op *op)
{
    struct client *client = op->user;
    CHECK(op->result == LINE);
    weir_op_write(&client->log, log_fd, client->in, LINE, log_end);
    log_end = (log_end + LINE) % (1u << 20);
    go(&client->log, client, on_logged);
}

static void receive(struct client *client)
{
    weir_op_recv(&client->receive, client->fds[1], client->in, LINE, 0);
    client->receive.flags = WEIR_WHOLE;
    go(&client->receive, client, on_line);
}

static void on_opened(struct weir_op *op)
{
    log_fd = (int)op->result;
    CHECK(log_fd >= 0);
}

static uint64_t real_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * WEIR_S + (uint64_t)now.tv_nsec;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"hours", required_argument, NULL, 'h'}, {"clients", required_argument, NULL, 'c'}, {0}};
    static const struct weir_sim_plan plan = {.fds_max = 2 * CLIENTS_MOST + 16};
    uint64_t hours = 24;
    unsigned long count = 100;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        hours = option == 'h' ? strtoull(optarg, NULL, 0) : hours;
        count = option == 'c' ? strtoul(optarg, NULL, 0) : count;
    }
    CHECK(count > 0 && count <= CLIENTS_MOST);
    CHECK(weir_sim_open(1, &plan, &sim) == 0);
    CHECK(weir_loop_open(&(struct weir_options){.policy = WEIR_SIM,
                                                .depth = 8 * CLIENTS_MOST,
                                                .timers_max = CLIENTS_MOST,
                                                .sim = {.world = sim}},
                         &loop) == 0);
    struct weir_op open_op = {0};
    weir_op_openat(&open_op, AT_FDCWD, "/log", O_RDWR | O_CREAT, 0600);
    go(&open_op, NULL, on_opened);
    CHECK(weir_loop_run(loop) == 0);
    uint64_t begin_ns = weir_now(loop);
    uint64_t begin_real_ns = real_ns();
    end_ns = begin_ns + hours * 3600 * WEIR_S;
    for (unsigned long i = 0; i < count; i++) {
        CHECK(weir_sim_socketpair(sim, SOCK_STREAM, clients[i].fds) == 0);
        receive(&clients[i]);
        pause_client(&clients[i]);
    }
    CHECK(weir_loop_run(loop) == 0);
    double virtual_s = (double)(weir_now(loop) - begin_ns) / 1e9;
    double real_s = (double)(real_ns() - begin_real_ns) / 1e9;
    printf("%.0f s simulated in %.3f s: %.0f to 1; %" PRIu64 " ops, %.0f ops/s; hash %016" PRIx64
           "\n",
           virtual_s, real_s, virtual_s / real_s, ops, (double)ops / real_s, weir_sim_hash(sim));
    CHECK(weir_loop_abandon(loop) == 0);
    CHECK(weir_sim_close(sim) == 0);
    return 0;
}
