/* SPDX-License-Identifier: MIT */
#include "shard.h"
#include "connection.h"

#include <errno.h>
#include <unistd.h>

/* Clients that are busy at the same time are waited for in turns. */
#define LATELY_TURNS 64

/* --- connections that have something to do ---------------------------------------------------- */

void shard_mark_ready(struct shard *shard, struct connection *connection)
{
    if (!connection->is_ready) {
        connection->is_ready = true;
        connection->next_ready = NULL;
        *(shard->ready ? &shard->last_ready->next_ready : &shard->ready) = connection;
        shard->last_ready = connection;
    }
}

void shard_mark_starved(struct shard *shard, struct connection *connection)
{
    if (!connection->is_starved) {
        connection->is_starved = true;
        connection->next_starved = NULL;
        *(shard->starved ? &shard->last_starved->next_starved : &shard->starved) = connection;
        shard->last_starved = connection;
    }
}

void shard_note_waiting(struct shard *shard, const struct connection *connection)
{
    if (shard->waiting != connection) {
        shard->waiting = connection;
        shard->waiting_turn = shard->turns;
    }
}

bool shard_has_others(const struct shard *shard, const struct connection *connection)
{
    return shard->waiting != connection || shard->turns - shard->waiting_turn < LATELY_TURNS;
}

/* Who waited longest looks first. */
static void feed(struct shard *shard)
{
    struct connection *connection = shard->starved;
    shard->starved = NULL;
    shard->buffers.was_dropped = false;
    for (; connection; connection = connection->next_starved) {
        connection->is_starved = false;
        shard_mark_ready(shard, connection);
    }
}

void shard_forget(struct shard *shard, struct connection *connection)
{
    if (connection->is_starved) { /* all of them look again */
        feed(shard);
    }
    if (connection->is_ready) {
        struct connection *last = NULL, **link = &shard->ready;
        while (*link != connection) {
            last = *link;
            link = &last->next_ready;
        }
        *link = connection->next_ready;
        if (shard->last_ready == connection) {
            shard->last_ready = last;
        }
    }
    *(connection->previous ? &connection->previous->next : &shard->connections) = connection->next;
    if (connection->next) {
        connection->next->previous = connection->previous;
    }
    if (shard->waiting == connection) {
        shard->waiting = NULL;
    }
    shard->connection_count--;
}

void shard_look_at(struct shard *shard, uint64_t at_ns)
{
    if (shard->look_ns == 0 || at_ns < shard->look_ns) {
        shard->look_ns = at_ns;
    }
}

/* What is left to wait of wait_ns: not past the next look. */
static int64_t until_look(const struct shard *shard, int64_t wait_ns)
{
    if (shard->look_ns == 0) {
        return wait_ns;
    }
    uint64_t now_ns = weir_now(shard->loop);
    int64_t left_ns = shard->look_ns > now_ns ? (int64_t)(shard->look_ns - now_ns) : 0;
    return wait_ns < 0 || left_ns < wait_ns ? left_ns : wait_ns;
}

/* Who was left alone for long enough is ready. */
static void look(struct shard *shard)
{
    if (shard->look_ns == 0) {
        return;
    }
    uint64_t now_ns = weir_now(shard->loop);
    if (now_ns < shard->look_ns) {
        return;
    }
    shard->look_ns = 0;
    for (struct connection *connection = shard->connections; connection;
         connection = connection->next) {
        uint64_t until_ns = connection->pace.until_ns;
        if (until_ns > now_ns) {
            shard_look_at(shard, until_ns);
        } else if (until_ns > 0) {
            connection->pace.until_ns = 0;
            shard_mark_ready(shard, connection);
        }
    }
}

int shard_turn(struct shard *shard, int64_t wait_ns)
{
    shard->turns++;
    bool is_idle = !shard->ready && !(shard->starved && shard->buffers.was_dropped);
    int result = weir_loop_turn(shard->loop, is_idle ? until_look(shard, wait_ns) : 0);
    look(shard);
    if (shard->starved && shard->buffers.was_dropped) {
        feed(shard);
    }
    shard->buffers.was_dropped = false;
    /* Each that is ready now, once; one that has more to do then is ready again. */
    struct connection *last = shard->last_ready;
    shard->is_shared = shard->ready && shard->ready != last;
    while (shard->ready) {
        struct connection *connection = shard->ready;
        bool was_last = connection == last;
        shard->ready = connection->next_ready;
        connection->is_ready = false;
        connection_work(connection);
        if (was_last) {
            break;
        }
    }
    return result;
}

/* --- opening ---------------------------------------------------------------------------------- */

/* A file that is another one now: who waited for it goes on. */
static void on_changed(struct file *file, int result)
{
    struct shard *shard = file->user;
    if (shard->options.reopened) {
        shard->options.reopened(shard, file, result);
    }
    for (struct connection *connection = shard->connections; connection;
         connection = connection->next) {
        shard_mark_ready(shard, connection);
    }
}

/* Reserved are all that is not behind the gate: so what is left of the depth is for requests, and
 * a connection can always receive, send and be closed. */
static int open_tasks(struct shard *shard)
{
    uint32_t connections = shard->options.connections, exports = shard->options.export_count;
    const struct weir_task_options tasks[WORK_COUNT] = {
        [WORK_READ] = {.name = "read"},
        [WORK_WRITE] = {.name = "write"},
        [WORK_FLUSH] = {.name = "flush", .reserve = exports},
        [WORK_TRIM] = {.name = "trim"},
        [WORK_CACHE] = {.name = "cache"},
        [WORK_WRITE_ZEROES] = {.name = "write zeroes"},
        [WORK_BLOCK_STATUS] = {.name = "block status"},
        [WORK_RECEIVE] = {.name = "receive", .reserve = connections},
        [WORK_SEND] = {.name = "send", .reserve = connections},
        [WORK_OTHER] = {.name = "other",
                        .reserve = connections + exports + PIPES + shard->options.others,
                        .offload_reserve = exports},
    };
    for (int i = 0; i < WORK_COUNT; i++) {
        if (tasks[i].name) {
            int result = weir_task_open(shard->loop, &tasks[i], &shard->tasks[i]);
            if (result < 0) {
                return result;
            }
        }
    }
    return 0;
}

int shard_open(struct shard *shard, const struct shard_options *options)
{
    *shard = (struct shard){.options = *options};
    struct weir_options loop = options->loop;
    loop.depth = options->depth + 3 * options->connections + 2 * options->export_count + PIPES +
                 options->others;
    loop.user = shard;
    int result = buffers_open(&shard->buffers, options->connections);
    result = result < 0 ? result : weir_loop_open(&loop, &shard->loop);
    result = result < 0 ? result : open_tasks(shard);
    if (result < 0) {
        weir_loop_close(shard->loop, 0, NULL);
        buffers_close(&shard->buffers);
        return result;
    }
    splicing_open(shard);
    for (uint32_t i = 0; i < options->export_count; i++) {
        shard->files[i] = (struct file){
            .export = &options->exports[i],
            .loop = shard->loop,
            .syncing = shard->tasks[WORK_FLUSH],
            .reopening = shard->tasks[WORK_OTHER],
            .opened.fd = -1,
            .changed = on_changed,
            .user = shard,
        };
    }
    return 0;
}

void shard_serve(struct shard *shard, uint32_t export, const struct opened *opened)
{
    shard->files[export].opened = *opened;
}

/* --- ending ----------------------------------------------------------------------------------- */

void shard_drain(struct shard *shard)
{
    shard->is_draining = true;
    for (struct connection *connection = shard->connections; connection;
         connection = connection->next) {
        connection->lingers = connection->phase == CONNECTION_TRANSMISSION;
        connection_end(connection);
    }
}

void shard_hang_up(struct shard *shard)
{
    for (struct connection *connection = shard->connections; connection;
         connection = connection->next) {
        connection_break(connection, "the server ends");
    }
}

int shard_close(struct shard *shard, int64_t wait_ns, struct weir_report *ret_report)
{
    int result = weir_loop_close(shard->loop, wait_ns, ret_report);
    if (result == 0) {
        for (uint32_t i = 0; i < shard->options.export_count; i++) {
            if (shard->files[i].opened.fd >= 0) {
                close(shard->files[i].opened.fd);
            }
        }
        splicing_close(shard);
        buffers_close(&shard->buffers);
    }
    return result;
}
