/* SPDX-License-Identifier: MIT */
/*
 * perf/workload.h: what the ops do: NOPs, transfers between a file and one buffer per op, echoes,
 * or calls of a function that does nothing. The next transfer is chosen by the same inline code in
 * every engine.
 */
#ifndef PERF_WORKLOAD_H
#define PERF_WORKLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "options.h"

struct workload {
    enum job job;
    bool fake_enter; /* the kernel is not entered: fake_enter.h */
    uint32_t depth;  /* ops in flight; of an echo: active connections */
    uint32_t workers;
    const struct contender *who; /* whose turn it is; before a driver's open */

    /* Of a file. */
    int fd;
    bool write;  /* at least sometimes */
    bool mixed;  /* half and half */
    bool random; /* else in order, and around */
    bool direct;
    uint32_t block;
    uint64_t blocks; /* in the file; below 2^32 */
    char *buffers;   /* depth of them, block bytes each */
    uint64_t state;  /* of the generator, or the next block */

    /* Of an echo. */
    bool tcp;
    bool client_spin;
    bool pin;      /* server and client to a CPU each */
    uint32_t size; /* bytes of a message */
    int listener;  /* the server's; each server has its own */
    int stop_fd;   /* readable when the server shall stop */
    struct sockaddr_storage address;
    socklen_t address_size;
};

struct transfer {
    uint64_t offset;
    bool write;
};

/*
 * xorshift64: a multiply-free generator of a few cycles; its upper half is random enough for
 * offsets.
 */
static inline uint64_t random_next(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    *state = x;
    return x;
}

static inline struct transfer workload_next(struct workload *workload)
{
    if (!workload->random) {
        uint64_t block = workload->state;
        workload->state = block + 1 == workload->blocks ? 0 : block + 1;
        return (struct transfer){block * workload->block, workload->write};
    }
    uint64_t number = random_next(&workload->state);
    uint64_t block = ((number >> 32) * workload->blocks) >> 32;
    bool write = workload->write && (!workload->mixed || (number & 1) != 0);
    return (struct transfer){block * workload->block, write};
}

/* What every op must answer. */
static inline int64_t workload_expected(const struct workload *workload)
{
    return workload->job == JOB_FILE   ? workload->block
           : workload->job == JOB_ECHO ? workload->size
                                       : 0;
}

/* A file is read through the page cache. */
static inline bool workload_is_hot(const struct workload *workload)
{
    return workload->job == JOB_FILE && !workload->direct;
}

static inline char *workload_buffer(const struct workload *workload, uint32_t index)
{
    return workload->buffers + (size_t)index * workload->block;
}

/*
 * Makes ready what the options ask for; a file is opened, filled with real data where it is
 * missing or short, and an unsuitable one refused. 0; or -1 after a message on standard error.
 */
int workload_open(const struct options *options, struct workload *ret_workload);
void workload_close(struct workload *workload);

/*
 * Reads the file again unless all of it is in the page cache. The share that is, 0 to 1; 0 on
 * errors.
 */
double workload_warm(const struct workload *workload);
/* The share of the file's bytes in the page cache, 0 to 1; 0 on errors. */
double workload_resident(const struct workload *workload);

#endif
