/* SPDX-License-Identifier: MIT */
/*
 * recorder.h: the flight recorder: the last things that befell a loop's ops, in a ring that is
 * written over. One writer, the loop's thread; read from any thread at any time, without stopping
 * the writer: events are four words written relaxed, and a reader throws away what the writer has
 * come to meanwhile. Must not know the loop.
 */
#ifndef WEIR_ENGINE_RECORDER_H
#define WEIR_ENGINE_RECORDER_H

#include <engine/op/op.h>
#include <weir/observe.h>

enum weir_recorded {
    WEIR_RECORDED_NOTHING, /* a place never written */
    WEIR_RECORDED_SUBMITTED,
    WEIR_RECORDED_LEFT,
    WEIR_RECORDED_DONE,        /* value: the result */
    WEIR_RECORDED_HANDED_BACK, /* value: the result */
    WEIR_RECORDED_REFUSED,     /* value: the error */
};

struct weir_record {
    uint64_t at_ns;
    uint64_t op;    /* its address: one op has one life at a time */
    uint64_t value; /* int64_t */
    uint64_t rest;  /* what (8 bits), kind (8), task's index (16), fd (32) */
};

_Static_assert(sizeof(struct weir_record) == 32, "two events are a cache line");

struct weir_recorder {
    struct weir_record *records;
    uint64_t mask;
    uint64_t written; /* events ever; atomic */
};

/* Places for `events`: a power of two, 1024 at least. Bytes; 0 for 0. */
size_t weir_recorder_size(uint32_t events);
/* memory: zeroed, of that size, aligned to a cache line. */
void weir_recorder_init(struct weir_recorder *recorder, uint32_t events, void *memory);

/* The loop's thread. */
static inline void weir_recorder_note(struct weir_recorder *recorder, enum weir_recorded what,
                                      const struct weir_op *op, uint32_t task, int64_t value,
                                      uint64_t at_ns)
{
    uint64_t written = recorder->written;
    struct weir_record *record = &recorder->records[written & recorder->mask];
    uint64_t rest = (uint64_t)what << 56 | (uint64_t)op->kind << 48 |
                    (uint64_t)(task & 0xffff) << 32 | (uint32_t)op->fd;
    /* Who sees a word of this event, and then acquires, sees that the count had come to it: so it
     * knows that the event which stood here is lost. */
    __atomic_thread_fence(__ATOMIC_RELEASE);
    __atomic_store_n(&record->at_ns, at_ns, __ATOMIC_RELAXED);
    __atomic_store_n(&record->op, (uint64_t)(uintptr_t)op, __ATOMIC_RELAXED);
    __atomic_store_n(&record->value, (uint64_t)value, __ATOMIC_RELAXED);
    __atomic_store_n(&record->rest, rest, __ATOMIC_RELAXED);
    /* Release: who sees the count sees the event. */
    __atomic_store_n(&recorder->written, written + 1, __ATOMIC_RELEASE);
}

struct weir_tasks;

/* Writes the Chrome trace; `tasks` names the tasks, now_ns ends what is live. Any thread. As
 * weir_loop_trace(). */
int weir_recorder_dump(const struct weir_recorder *recorder, const struct weir_tasks *tasks,
                       uint64_t now_ns, weir_writer *writer, void *context);

#endif
