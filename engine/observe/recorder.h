/* SPDX-License-Identifier: MIT */
/*
 * recorder.h: the flight recorder: the last things that befell a loop's ops, in a ring that is
 * written over. One writer, the loop's thread; read from any thread at any time, without stopping
 * the writer: events are four words written relaxed, and a reader throws away what the writer has
 * come to meanwhile. Must not know the loop.
 *
 * Invariants: of a ring of n places n - 1 events can be read, since the writer may be at the oldest
 * place just now; what is read has been written, whole.
 */
#ifndef WEIR_ENGINE_RECORDER_H
#define WEIR_ENGINE_RECORDER_H

#include <engine/op/op.h>
#include <weir/observe.h>

enum weir_recorded {
    WEIR_RECORDED_NOTHING, /* a place never written */
    WEIR_RECORDED_SUBMITTED,
    WEIR_RECORDED_LEFT,        /* not of timers, nor of those who never leave */
    WEIR_RECORDED_DONE,        /* value: the result */
    WEIR_RECORDED_HANDED_BACK, /* for the last time; value: the result */
    WEIR_RECORDED_REFUSED,     /* value: the error */
};

struct weir_record {
    uint64_t at_ns;
    uint64_t op;    /* its address: one op has one life at a time */
    uint64_t value; /* int64_t */
    uint64_t rest;  /* what (8 bits), kind (8), task's index (its lower 16), fd (32) */
};

_Static_assert(sizeof(struct weir_record) == 32, "two events are a cache line");

struct weir_recorder {
    struct weir_record *records;
    uint64_t mask;
    uint64_t written; /* events ever; atomic */
};

/* Places for `events`: a power of two, 1024 at least. Bytes; 0 for 0. */
size_t weir_recorder_size(uint32_t events);
/* memory: zeroed, of that size, aligned to a cache line. With 0 events there is no ring, and
 * nothing may be noted. */
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

static inline enum weir_recorded weir_record_what(const struct weir_record *record)
{
    return (enum weir_recorded)(record->rest >> 56);
}

static inline unsigned weir_record_kind(const struct weir_record *record)
{
    return record->rest >> 48 & 0xff;
}

static inline uint32_t weir_record_task(const struct weir_record *record)
{
    return record->rest >> 32 & 0xffff;
}

static inline int32_t weir_record_fd(const struct weir_record *record)
{
    return (int32_t)(uint32_t)record->rest;
}

/* The events that stand, oldest first, into mask + 1 places. How many; *ret_first: the number of
 * the first, counted from 0 since init: so many are lost. Any thread. */
uint64_t weir_recorder_copy(const struct weir_recorder *recorder, struct weir_record *ret_records,
                            uint64_t *ret_first);

struct weir_tasks;

/*
 * Writes the Chrome trace; `tasks` names the tasks as they are called now, now_ns ends what is
 * live. Any thread. Implemented by trace.c.
 * 0; -EINVAL: NULL; -ENODATA: there is no ring; -ENOMEM; what the writer answered.
 */
int weir_recorder_dump(const struct weir_recorder *recorder, const struct weir_tasks *tasks,
                       uint64_t now_ns, weir_writer *writer, void *context);

#endif
