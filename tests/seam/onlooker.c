/* SPDX-License-Identifier: MIT */
#include "onlooker.h"
#include "seam.h"

#include <sys/mman.h>

#define PLACES (1u << 21) /* twice the ops that may be live at a time; touched as they are used */

enum told { NOTHING, SUBMITTED, LEFT, DONE };

/* A table of what it was told last of each live op, by the op's address: open addressing. */
struct onlooker {
    struct weir_observer observer;
    struct onlooker *next; /* of all: a loop that is abandoned may still tell its own */
    uint64_t live;
    struct {
        const struct weir_op *op;
        enum told told;
        uint64_t at_ns;
    } places[PLACES];
};

static struct onlooker *all; /* atomic */

static void must(bool holds, const char *what, const struct weir_op *op)
{
    if (!holds) {
        fprintf(stderr, "the observer was told wrongly: %s, of a %s\n", what,
                weir_kind_name(op->kind));
        abort();
    }
}

static uint32_t home(const struct weir_op *op)
{
    return (uint32_t)(((uintptr_t)op >> 4) * 2654435761u) % PLACES;
}

/* The op's place, or the empty one where it would stand. */
static uint32_t find(const struct onlooker *onlooker, const struct weir_op *op)
{
    uint32_t i = home(op);
    while (onlooker->places[i].op && onlooker->places[i].op != op) {
        i = (i + 1) % PLACES;
    }
    return i;
}

/* What stands behind it moves up, so that every op is found from its home without a gap. */
static void leave(struct onlooker *onlooker, uint32_t i)
{
    onlooker->live--;
    onlooker->places[i].op = NULL;
    for (uint32_t j = (i + 1) % PLACES; onlooker->places[j].op; j = (j + 1) % PLACES) {
        const struct weir_op *op = onlooker->places[j].op;
        uint32_t from_home = (j + PLACES - home(op)) % PLACES;
        uint32_t from_gap = (j + PLACES - i) % PLACES;
        if (from_home >= from_gap) {
            onlooker->places[i] = onlooker->places[j];
            onlooker->places[j].op = NULL;
            i = j;
        }
    }
}

static void on_submitted(void *context, const struct weir_op *op, uint64_t at_ns)
{
    struct onlooker *onlooker = context;
    uint32_t i = find(onlooker, op);
    must(!onlooker->places[i].op, "submitted while it was live", op);
    must(onlooker->live < PLACES / 2, "more than the table holds", op);
    onlooker->places[i].op = op;
    onlooker->places[i].told = SUBMITTED;
    onlooker->places[i].at_ns = at_ns;
    onlooker->live++;
}

/* Moves an op on; the stamps of one op never go back. */
static uint32_t move(struct onlooker *onlooker, const struct weir_op *op, enum told to,
                     uint64_t at_ns)
{
    uint32_t i = find(onlooker, op);
    must(onlooker->places[i].op != NULL, "it was not submitted", op);
    must(onlooker->places[i].told < to, "out of order", op);
    must(at_ns >= onlooker->places[i].at_ns, "a stamp went back", op);
    onlooker->places[i].told = to;
    onlooker->places[i].at_ns = at_ns;
    return i;
}

static void on_left(void *context, const struct weir_op *op, uint64_t at_ns)
{
    move(context, op, LEFT, at_ns);
}

static void on_done(void *context, const struct weir_op *op, int64_t result, uint64_t at_ns)
{
    (void)result;
    move(context, op, DONE, at_ns);
}

static void on_handed_back(void *context, const struct weir_op *op, uint64_t at_ns)
{
    struct onlooker *onlooker = context;
    uint32_t i = find(onlooker, op);
    must(onlooker->places[i].op && onlooker->places[i].told == DONE, "handed back undone", op);
    must(at_ns >= onlooker->places[i].at_ns, "a stamp went back", op);
    leave(onlooker, i);
}

static void on_refused(void *context, const struct weir_op *op, int error)
{
    struct onlooker *onlooker = context;
    must(error == -EAGAIN, "refused with another error", op);
    must(!onlooker->places[find(onlooker, op)].op, "refused while it was live", op);
}

const struct weir_observer *onlooker_new(void)
{
    /* Not of malloc(), of which MALLOC_PERTURB_ would touch all. */
    struct onlooker *onlooker = mmap(NULL, sizeof *onlooker, PROT_READ | PROT_WRITE,
                                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (onlooker == MAP_FAILED) {
        abort();
    }
    onlooker->observer = (struct weir_observer){
        .submitted = on_submitted,
        .left = on_left,
        .done = on_done,
        .handed_back = on_handed_back,
        .refused = on_refused,
        .context = onlooker,
    };
    onlooker->next = __atomic_load_n(&all, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(&all, &onlooker->next, onlooker, true, __ATOMIC_RELEASE,
                                        __ATOMIC_RELAXED)) {
    }
    return &onlooker->observer;
}
