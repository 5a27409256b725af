/* SPDX-License-Identifier: MIT */
/* overload FILE: more clients look up blocks of a file than its gate lets through, while a scrub
 * reads all of it in the background. Prints who got what, and how long it took. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <weir/weir.h>

enum { CLIENTS = 64, LOOKUPS = 200, BLOCK_SIZE = 4096, SCRUBS = 16, SCRUB_SIZE = 128 * 1024 };

static struct client {
    struct weir_op op;
    struct weir_room room; /* in which it waits when there is none */
    int left;
    uint64_t state; /* of its random numbers */
    char bytes[BLOCK_SIZE];
} clients[CLIENTS];
static struct scrub {
    struct weir_op op;
    int rests;
    char bytes[SCRUB_SIZE];
} scrubs[SCRUBS];

static struct weir_loop *loop;
static struct weir_task *lookup, *background;
static struct weir_watermark mark;
static uint64_t size, scrubbed, paused; /* bytes, bytes, times */
static int file, error, resting, busy;  /* busy: clients that are not done */

static int good(int64_t result)
{
    error = result < 0 && !error ? (int)result : error;
    return !error;
}

/* --- the clients ------------------------------------------------------------------------------ */

static void ask(struct client *client)
{
    client->state = client->state * 6364136223846793005u + 1442695040888963407u;
    uint64_t block = (client->state >> 33) % (size / BLOCK_SIZE);
    weir_op_read(&client->op, file, client->bytes, BLOCK_SIZE, block * BLOCK_SIZE);
    int r = weir_submit(loop, &client->op);
    if (r == -EAGAIN) { /* full: a server would stop reading from this client now */
        r = weir_wait_room(loop, &client->room, &client->op);
    }
    good(r);
}

static void on_room(struct weir_room *room, int result)
{
    if (result == 0 && !error) {
        ask(WEIR_CONTAINER(room, struct client, room));
    }
}

static void on_answer(struct weir_op *op)
{
    struct client *client = WEIR_CONTAINER(op, struct client, op);
    if (!good(op->result) || --client->left == 0) {
        busy--;
    } else {
        ask(client);
    }
}

/* --- the scrub -------------------------------------------------------------------------------- */

static void read_on(struct scrub *scrub)
{
    scrub->rests = resting;
    if (scrubbed < size && !resting && !error) {
        weir_op_read(&scrub->op, file, scrub->bytes, SCRUB_SIZE, scrubbed);
        scrubbed += good(weir_submit(loop, &scrub->op)) ? SCRUB_SIZE : 0;
    }
}

static void on_scrubbed(struct weir_op *op)
{
    if (good(op->result)) {
        read_on(WEIR_CONTAINER(op, struct scrub, op));
    }
}

/* The gate is nearly full: who can wait rests until it has emptied. */
static void on_level(struct weir_watermark *watermark, int is_above)
{
    (void)watermark;
    resting = is_above && busy > 0;
    paused += (uint64_t)resting;
    for (int i = 0; i < SCRUBS && !resting; i++) {
        if (scrubs[i].rests) {
            read_on(&scrubs[i]);
        }
    }
}

/* --- the loop --------------------------------------------------------------------------------- */

static int open_all(const char *path)
{
    struct stat status;
    file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0 || fstat(file, &status) < 0) {
        return -errno;
    }
    size = (uint64_t)status.st_size;
    if (size < BLOCK_SIZE) {
        return -EINVAL;
    }
    struct weir_options options = {
        .depth = 16,       /* in flight at the kernel */
        .waiting_max = 48, /* waiting before it: what comes later is refused */
        .bytes_max = 1 << 20,
    };
    int r = weir_loop_open(&options, &loop);
    if (r < 0) {
        return r;
    }
    struct weir_task_options lookups = {.name = "lookup", .share = 8, .reserve = 4};
    struct weir_task_options scrubbing = {.name = "scrub", .share = 1, .depth = 4};
    r = weir_task_open(loop, &lookups, &lookup);
    if (r == 0) {
        r = weir_task_open(loop, &scrubbing, &background);
    }
    mark = (struct weir_watermark){.callback = on_level, .high = 60, .low = 32};
    return r < 0 ? r : weir_watch_gate(loop, &mark, NULL);
}

static void report(const struct weir_task *task)
{
    static struct weir_histogram wait, total;
    struct weir_task_counters counters;
    weir_task_read_counters(task, &counters);
    weir_task_read(task, WEIR_STAGE_WAIT, &wait);
    weir_task_read(task, WEIR_STAGE_TOTAL, &total);
    printf("%-6s %6" PRIu64 " done, %6" PRIu64 " refused, p99 %6.3f ms, %6.3f of it at the gate\n",
           weir_task_name(task), counters.finished, counters.refused,
           (double)weir_histogram_percentile(&total, 99) / 1e6,
           (double)weir_histogram_percentile(&wait, 99) / 1e6);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: overload FILE\n");
        return 2;
    }
    int r = open_all(argv[1]);
    if (r < 0) {
        fprintf(stderr, "overload: %s: %s\n", argv[1],
                r == -EINVAL ? "shorter than a block" : strerror(-r));
        return 1;
    }
    for (int i = 0; i < SCRUBS; i++) {
        scrubs[i].op.callback = on_scrubbed;
        scrubs[i].op.task = background;
        read_on(&scrubs[i]);
    }
    for (busy = 0; busy < CLIENTS; busy++) {
        struct client *client = &clients[busy];
        client->op.callback = on_answer;
        client->op.task = lookup;
        client->room.callback = on_room;
        client->left = LOOKUPS;
        client->state = (uint64_t)busy;
        ask(client);
    }
    good(weir_loop_run(loop));
    report(lookup);
    report(background);
    printf("%" PRIu64 " bytes scrubbed, %" PRIu64 " pauses\n", scrubbed < size ? scrubbed : size,
           paused);
    weir_loop_close(loop, 5 * WEIR_S, NULL);
    if (error) {
        fprintf(stderr, "overload: %s\n", strerror(-error));
    }
    return error ? 1 : 0;
}
