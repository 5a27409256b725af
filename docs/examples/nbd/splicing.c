/* SPDX-License-Identifier: MIT */
#include "splicing.h"
#include "connection.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

/* --- pipes ------------------------------------------------------------------------------------ */

static void put_back(struct pipe *pipe)
{
    pipe->next = pipe->shard->free_pipes;
    pipe->shard->free_pipes = pipe;
}

static struct pipe *take_out(struct shard *shard)
{
    struct pipe *pipe = shard->free_pipes;
    shard->free_pipes = pipe ? pipe->next : NULL;
    return pipe;
}

void splicing_open(struct shard *shard)
{
    for (uint32_t i = 0; i < PIPES; i++) {
        struct pipe *pipe = &shard->pipes[i];
        *pipe = (struct pipe){.fds = {-1, -1}, .shard = shard};
        if (shard->options.open_pipe && shard->options.open_pipe(shard, pipe->fds) == 0) {
            put_back(pipe);
        }
    }
}

void splicing_close(struct shard *shard)
{
    for (uint32_t i = 0; i < PIPES; i++) {
        for (int end = 0; end < 2; end++) {
            if (shard->pipes[i].fds[end] >= 0) {
                close(shard->pipes[i].fds[end]);
            }
        }
    }
}

static void on_taken_out(struct weir_op *op)
{
    struct pipe *pipe = WEIR_CONTAINER(op, struct pipe, op);
    if (op->result > 0) { /* else it is of no use any more */
        pipe->left -= (uint64_t)op->result;
        pipe_give_back(pipe);
    }
}

void pipe_give_back(struct pipe *pipe)
{
    if (pipe->left == 0) {
        put_back(pipe);
        return;
    }
    weir_op_read(&pipe->op, pipe->fds[0], pipe->waste,
                 pipe->left < sizeof pipe->waste ? pipe->left : sizeof pipe->waste, WEIR_CURRENT);
    pipe->op.route = WEIR_ROUTE_INLINE;
    pipe->op.callback = on_taken_out;
    pipe->op.task = pipe->shard->tasks[WORK_OTHER];
    weir_submit(pipe->shard->loop, &pipe->op); /* refused: the loop is closing */
}

/* --- payload ---------------------------------------------------------------------------------- */

bool splicing_suits(const struct connection *connection, uint32_t length)
{
    const struct opened *opened = &connection->file->opened;
    return length >= SPLICED_MIN && opened->is_memory && opened->block_min == 1 &&
           !connection->file->export->direct && !connection->tls && connection->is_unix &&
           connection->shard->pipes[0].fds[0] >= 0;
}

static void on_spliced(struct weir_op *op)
{
    struct connection *connection = WEIR_CONTAINER(op, struct connection, receiving);
    struct intake *intake = &connection->intake;
    struct pipe *pipe = intake->pipe;
    bool is_poll = op->kind == WEIR_KIND_POLL;
    connection->is_receiving = false;
    shard_mark_ready(connection->shard, connection);
    intake->pipe = NULL;
    intake->is_dry = op->result == -EAGAIN;
    if (op->result <= 0 && !intake->is_dry && intake->writing) {
        intake->writing->is_spliced = false; /* an end, or an error: a receive tells which */
    }
    if (is_poll) {
        return;
    }
    pipe->left = op->result > 0 ? (uint64_t)op->result : 0;
    if (pipe->left > 0 && intake->filling) {
        request_cut(intake->filling, (uint32_t)pipe->left);
        intake->filling->pipe = pipe;
        intake->filling->done = intake->filling->length;
    } else {
        pipe_give_back(pipe);
    }
}

bool splicing_go(struct connection *connection)
{
    struct intake *intake = &connection->intake;
    struct weir_op *op = &connection->receiving;
    bool is_wanted = intake->writing && intake->writing->is_spliced && /* all received is taken */
                     !connection_has_rivals(connection);
    struct request *piece = is_wanted ? intake_piece(connection) : NULL;
    if (!piece) {
        return false;
    }
    if (intake->is_dry) {
        weir_op_poll(op, connection->fd, POLLIN);
    } else {
        intake->pipe = take_out(connection->shard);
        if (!intake->pipe) {
            return false;
        }
        weir_op_splice(op, connection->fd, WEIR_CURRENT, intake->pipe->fds[1], WEIR_CURRENT,
                       piece->length, SPLICE_F_NONBLOCK);
        op->route = WEIR_ROUTE_INLINE;
        op->flags = WEIR_IN_MEMORY; /* neither end waits */
    }
    connection->is_receiving = connection_submit(connection, op, WORK_RECEIVE, on_spliced);
    if (!connection->is_receiving) {
        connection_break(connection, "the loop is closing");
    }
    return true;
}
