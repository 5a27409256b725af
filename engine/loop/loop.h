/* SPDX-License-Identifier: MIT */
/*
 * loop.h: the loop's own data, and what its files offer each other. Nothing outside loop/ includes
 * it but tests and the harness.
 */
#ifndef WEIR_ENGINE_LOOP_H
#define WEIR_ENGINE_LOOP_H

#include <engine/backend/policy.h>
#include <engine/loop/gate.h>
#include <engine/loop/timer.h>
#include <engine/observe/attachment.h>
#include <engine/observe/pulse.h>
#include <engine/observe/tell.h>
#include <engine/offload/offload.h>
#include <weir/weir.h>

#define WEIR_TIMERS_A_TURN 256 /* entries of the heap that one turn looks at when they are due */

/* How submit may take an op of a kind, if nothing else is unusual about it. */
enum weir_way {
    WEIR_WAY_CHECKED, /* only with every check */
    WEIR_WAY_LATE,    /* short, its bytes count against the turn's budget, and it is staged when
                            * the turn begins */
    WEIR_WAY_CALL,    /* queued for a worker at once */
    WEIR_WAY_SHORT_VECTOR, /* its bytes count, and have to be summed up */
    WEIR_WAY_SHORT,        /* from here on the shortest */
    WEIR_WAY_SHORT_BYTES,  /* the same, but that its bytes count */
};

#define WEIR_SPIN_IN_FLIGHT_MAX 16 /* above it, watching only makes batches smaller */

/* Before a turn sleeps. */
struct weir_spin {
    uint64_t max_ns; /* 0: never */
    uint32_t missed; /* spins in a row that found nothing */
    uint32_t skip;   /* turns to go without */
    /* Receives of route INLINE that spins try, as WEIR_CARRIER_LEAVING, until a turn sleeps, or
     * does not spin. */
    struct weir_op *parked[WEIR_SPIN_IN_FLIGHT_MAX];
    uint32_t parked_count;
};

/* The loop's numbers as of its last turn, for other threads; a sequence lock. */
struct weir_published {
    uint64_t sequence;
    struct weir_counters counters;
    struct weir_gate_state gates[WEIR_GATE_COUNT];
};

struct weir_loop {
    struct weir_guard *guard;
    int refuse;   /* what submit answers: 0, -ESHUTDOWN, or `failed` */
    int failed;   /* 0, or the errno of the turn that could not go on */
    bool unowned; /* waits for adoption */
    bool caller_runs;
    bool refuses;
    uint8_t governs; /* WEIR_GOVERNED: all its ops are, for a byte budget, or a goal of the
                         * loop's; WEIR_OBSERVED: somebody is told of them */
    bool loud;       /* no turn of it is quiet: it is inspectable, spins, or refuses */
    bool inspectable;
    uint32_t onlookers; /* waiters for room, watermarks and goals: those who look at a gate each
                         * turn */
    bool in_turn;       /* callbacks may be running */
    bool closing;
    bool in_call; /* a function runs that a simulated worker has carried */

    struct weir_backend *backend;
    struct weir_slots slots;

    struct weir_gate gate; /* the main one */
    /* Ops that went through the gate since the last turn left. */
    struct weir_op **leaving;
    struct weir_op **leaving_stamped; /* from here on when they leave is known: there was no reading
                                       * of the clock since, and there the turn's begins */
    struct weir_op **leaving_end;
    struct weir_op **leaving_limit; /* past it they take the FIFO: the turn's budget is spent, or
                                     * others wait */
    uint64_t bytes_left;            /* of the turn's budget */
    uint32_t leaving_most;          /* places of `leaving` */
    bool leaves_late;               /* some there are to be staged yet: WEIR_CARRIER_LEAVING */
    bool sends; /* ops for the backend leave with this turn: it is not held up by a look */
    uint32_t admit_ops_max;
    uint64_t admit_bytes_max;
    struct weir_gate offload_gate;
    uint32_t tries_left; /* on the spot, in this turn */
    uint32_t slotless;   /* live ops that are neither timers nor have a slot: posts cancelled before
                          * they had one, calls run by their caller */

    /* Time. */
    struct weir_heap heap;
    uint32_t timers; /* live TIMEOUT ops */
    uint32_t timers_max;
    uint64_t stamp_ns;   /* latest reading */
    bool stamp_fresh;    /* it may be reused: in a turn, or a submit since then has read it */
    uint32_t plain_max;  /* below it, gate.live lets submit take its short way; 0 without a stamp */
    uint32_t plain_most; /* what it is with one */
    uint64_t done_ns;    /* the reading after this turn's enter */
    uint8_t ways[UINT8_MAX + 1]; /* by kind, also by what is none: enum weir_way */

    /* Hand-back. */
    struct weir_queue early;   /* DONE outside a turn's reaping */
    uint32_t finished;         /* DONE by being staged when the turn began: from reap_max on in */
    struct weir_queue closers; /* CLOSE ops that wait for the others on their fd */
    struct weir_event *events;
    struct weir_event *call_until; /* where the callbacks of one reading of the clock end; at once,
                                    * when a machine stops in one: it calls nobody */
    uint32_t reap_max;             /* events a backend's turn may fill */
    uint32_t events_max;           /* and all sources together */

    struct weir_tasks tasks;

    struct weir_tell tell;
    struct weir_pulse pulse;
    struct weir_attachment *attachments;
    struct weir_published published; /* if inspectable */

    struct weir_offload *offload; /* NULL: none */
    struct weir_spin spin;
    uint32_t holds;
    struct weir_queue posted_timers; /* that wait for a place among the timers */

    /* From other threads: a cache line that they write to, apart. */
    struct weir_bell bell __attribute__((aligned(64)));
    uint32_t woken;
    uint32_t stop;
    uint32_t posts; /* accepted and without a place yet: in the inbox or on a FIFO of posts; with
                     * the bit WEIR_POSTS_REFUSED */
    uint32_t posts_max;
    struct weir_op *inbox; /* newest first */
    uint64_t posts_accepted;
    uint64_t posts_refused;

    /* Somebody else's loop. */
    int epoll_fd __attribute__((aligned(64))); /* -1: weir_loop_fd() was not called */
    int timer_fd;
    uint64_t armed_ns; /* what timer_fd is set to; 0: disarmed */

    /* Closing. */
    weir_closed_callback *closed;
    uint64_t close_ns; /* when `closed` gives up; UINT64_MAX: never */
    struct weir_live *report;

    void *user;
    size_t arena_size;    /* of the mapping that begins here */
    void *offload_memory; /* a mapping of its own: stacks */
    size_t offload_size;
    struct weir_facts facts;
    struct weir_counters counters;
};

/* NULL, after fork, wrong thread: what nearly every call begins with. */
static inline int weir_loop_check(const struct weir_loop *loop)
{
    return weir_likely(loop != NULL) ? weir_guard_check(loop->guard) : -EINVAL;
}

/* Nobody's any more, for good; and its backend may be gone. */
static inline bool weir_loop_is_abandoned(const struct weir_loop *loop)
{
    return weir_guard_owner(loop->guard) == &weir_thread_nobody && !loop->unowned && !loop->in_call;
}

static inline uint64_t weir_loop_exact(const struct weir_loop *loop)
{
    return loop->backend->table->now(loop->backend, WEIR_NOW_DEADLINE);
}

/* 0; -EOPNOTSUPP: the backend lives in one thread, and this is another. */
static inline int weir_loop_check_thread(const struct weir_loop *loop)
{
    const void *thread = loop->backend ? loop->backend->thread : NULL;
    return weir_unlikely(thread && thread != weir_thread_self()) ? -EOPNOTSUPP : 0;
}

static inline struct weir_gate *weir_loop_gate_of(struct weir_loop *loop, const struct weir_op *op)
{
    return weir_op_is_offloaded(op) ? &loop->offload_gate : &loop->gate;
}

#define WEIR_POSTS_REFUSED (1u << 31) /* intake has ended: nobody counts up any more */

/* Relaxed: who needs to see a post sees it by the bell. */
static inline uint32_t weir_loop_count_posts(const struct weir_loop *loop)
{
    return __atomic_load_n(&loop->posts, __ATOMIC_RELAXED) & ~WEIR_POSTS_REFUSED;
}

/* Ops accepted and not handed back. */
static inline uint64_t weir_loop_count_live(const struct weir_loop *loop)
{
    return (uint64_t)loop->gate.live + loop->offload_gate.live + loop->timers + loop->slotless +
           weir_loop_count_posts(loop);
}

/* Nobody waits for anything but backend and workers, not even for a time, and no other thread looks
 * on: what most turns find, by one compare. Nothing is early, due or to be admitted then. */
static inline bool weir_loop_is_quiet(const struct weir_loop *loop)
{
    uintptr_t any = (uintptr_t)loop->early.head | (uintptr_t)loop->closers.head |
                    (uintptr_t)loop->gate.lines[WEIR_LINE_WAITING].head |
                    (uintptr_t)loop->offload_gate.lines[WEIR_LINE_WAITING].head |
                    (uintptr_t)loop->backend->window;
    return (any | loop->heap.count | loop->loud | loop->onlookers | loop->pulse.kept |
            weir_loop_count_posts(loop)) == 0;
}

static inline void weir_loop_set_stamp(struct weir_loop *loop, uint64_t stamp_ns)
{
    loop->stamp_ns = stamp_ns;
    loop->leaving_stamped = loop->leaving_end;
}

/* Reads the clock for stamps. */
static inline void weir_loop_stamp(struct weir_loop *loop)
{
    weir_loop_set_stamp(loop, loop->backend->table->now(loop->backend, WEIR_NOW_STAMP));
}

/* The short way of submit is for an open loop whose stamp may be used and that has a credit: what a
 * stamp begins, */
static inline void weir_loop_let_plain(struct weir_loop *loop)
{
    loop->stamp_fresh = true;
    loop->plain_max = loop->plain_most;
}

/* and its end. */
static inline void weir_loop_end_plain(struct weir_loop *loop)
{
    loop->stamp_fresh = false;
    loop->plain_max = 0;
}

static inline uint32_t weir_loop_plain_most(const struct weir_loop *loop)
{
    return loop->refuse == 0 && !loop->governs ? weir_gate_plain_max(&loop->gate) : 0;
}

/* After a change of what decides it. */
static inline void weir_loop_set_plain(struct weir_loop *loop)
{
    loop->plain_most = weir_loop_plain_most(loop);
    loop->plain_max = loop->stamp_fresh ? loop->plain_most : 0;
}

static inline struct weir_task *weir_loop_task_of(struct weir_loop *loop, const struct weir_op *op)
{
    struct weir_task *of_kind = loop->tasks.of_kind[op->kind]; /* read in any case: no jump */
    return op->task ? op->task : of_kind;
}

/* Takes an op's bytes from the turn's budget. False: there is not enough left; but the first op of
 * a turn passes whatever its size. */
static inline bool weir_loop_fits_bytes(struct weir_loop *loop, uint64_t wanted)
{
    uint64_t left = loop->bytes_left;
    if (weir_unlikely(wanted > left)) {
        loop->bytes_left = left == loop->admit_bytes_max ? 0 : left;
        return left == loop->admit_bytes_max;
    }
    loop->bytes_left = left - wanted;
    return true;
}

/* For tests and the harness, which put other tables and functions into it. */
struct weir_backend *weir_loop_backend(struct weir_loop *loop);

static inline struct weir_flow *weir_loop_flow_of(struct weir_loop *loop, const struct weir_op *op)
{
    return weir_gate_flow(weir_loop_gate_of(loop, op), weir_loop_task_of(loop, op));
}

/* admit.c */
/* Lets waiting ops through, in order, while there is room and budget. */
void weir_loop_admit_who_waits(struct weir_loop *loop);
/* Gives an op a slot and a place at its gate, behind those of its task; there must be one. */
void weir_loop_wait_at_gate(struct weir_loop *loop, struct weir_op *op, struct weir_task *task,
                            const char *site);
/* The same for any kind of op, with what it brings about. */
void weir_loop_enter_gate(struct weir_loop *loop, struct weir_op *op, const char *site);

/* carry.c */
/* Gives an op that holds a credit, and is in flight, to who carries it out. */
void weir_loop_stage(struct weir_loop *loop, struct weir_op *op);
/* The same for those who have passed the gate and were not staged at once. */
void weir_loop_stage_leaving(struct weir_loop *loop);
/* The same, if a worker does. */
void weir_loop_send_to_worker(struct weir_loop *loop, struct weir_op *op);
/* What follows from the backend's answer. */
void weir_loop_staged(struct weir_loop *loop, struct weir_op *op, enum weir_staged staged);
/* An op that finished outside the backend's turn: its event is the next. */
void weir_loop_finish_early(struct weir_loop *loop, struct weir_op *op, int64_t result);
/* What is DONE by being staged is not for the turn that is: it is early for the next. */
void weir_loop_put_off_finished(struct weir_loop *loop);
/* The backend's turn, the only sleep: of a turn that is quiet, or not. The number of events;
 * -errno: the backend cannot go on. */
int weir_loop_carry_quiet(struct weir_loop *loop, uint64_t until_ns);
/* What is parked goes its way, in order; one of them no more, if it was. */
void weir_loop_send_parked(struct weir_loop *loop);
void weir_loop_unpark(struct weir_loop *loop, const struct weir_op *op);
int weir_loop_carry_loud(struct weir_loop *loop, uint64_t until_ns);

/* settle.c */
enum weir_settled {
    WEIR_ENDS,     /* with the result that stands */
    WEIR_GOES_ON,  /* to be staged again */
    WEIR_IS_LATER, /* a timer holds it */
    WEIR_STAYS,    /* with its carrier */
};
/* Whether a completion is the end of its op. An event with `more` is to be handed back all the
 * same. */
enum weir_settled weir_loop_settle(struct weir_loop *loop, struct weir_op *op,
                                   struct weir_event *event);

/* handback.c */
/* Calls back the turn's events, and what else is DONE before the first callback, by the same array:
 * its callback was promised for this turn. The number called. */
uint32_t weir_loop_hand_back(struct weir_loop *loop, uint32_t count);

/* submit.c */
/* Whether an op that cannot have a credit at once is refused. */
bool weir_loop_refuses_to_wait(const struct weir_loop *loop, const struct weir_op *op);
/* 0, or what submit answers to an op that the header says may not be so. Any thread. */
int weir_loop_judge(const struct weir_loop *loop, const struct weir_op *op);
/* A TIMEOUT for which there is a place. */
void weir_loop_start_timer(struct weir_loop *loop, struct weir_op *op);

/* post.c */
/* Moves posts on: from the inbox to a FIFO, from there to a place as far as there is one. */
void weir_loop_move_posts(struct weir_loop *loop);

static inline void weir_loop_take_posts(struct weir_loop *loop)
{
    if (weir_unlikely(weir_loop_count_posts(loop) > 0)) {
        weir_loop_move_posts(loop);
    }
}

/* Puts what is in the inbox onto the FIFOs. */
void weir_loop_empty_inbox(struct weir_loop *loop);
/* A post on a FIFO was asked back. */
void weir_loop_withdraw_post(struct weir_loop *loop, struct weir_op *op);
/* Which of them. */
struct weir_posts {
    int fd;                       /* on it; negative: on any */
    const struct weir_task *task; /* of it; NULL: of any */
    const struct weir_op *but;    /* not this one */
};

/* Asks for those. How many. */
int weir_loop_ask_posts(struct weir_loop *loop, const struct weir_posts *which,
                        enum weir_asked asked);
/* How many of those on fd are on their way back. */
uint32_t weir_loop_count_slotless(const struct weir_loop *loop, int fd);

/* cancel.c */
/* Asks for a live op back. As weir_cancel(), but for -ENOENT. */
int weir_loop_ask(struct weir_loop *loop, struct weir_op *op, enum weir_asked asked);
/* Asks for all ops on fd but `but`. How many are live on it; *ret_asked: how many were asked
 * now. */
uint32_t weir_loop_ask_fd(struct weir_loop *loop, int fd, const struct weir_op *but,
                          int *ret_asked);
/* Asks for the others on the fd of a CLOSE op. True: there are some, it waits for them. */
bool weir_loop_close_waits(struct weir_loop *loop, struct weir_op *op);
/* Stages the CLOSE ops whose fd has nothing else live on it. */
void weir_loop_step_closers(struct weir_loop *loop);
/* A due entry of the heap, already taken out. True: the op is DONE with *ret_result. */
bool weir_loop_expire(struct weir_loop *loop, struct weir_op *op, uint64_t now_ns,
                      int64_t *ret_result);
/* Puts an op into the heap until at_ns, or its deadline if that is earlier. */
void weir_loop_arm(struct weir_loop *loop, struct weir_op *op, uint64_t at_ns);

/* carry.c: whether a turn would find something to do without the backend, */
bool weir_loop_has_work(const struct weir_loop *loop);
/* when there will be: a timer, the end of closing, a judgement of goals for which ops wait,
 * UINT64_MAX for none; */
uint64_t weir_loop_due(const struct weir_loop *loop);
/* and whether another thread has left something. Seq_cst: after the store to the bell. */
bool weir_loop_is_rung(const struct weir_loop *loop);

/* loop.c */
/* The loop cannot go on. */
void weir_loop_fail(struct weir_loop *loop, int error);
/* Stops intake: submit and post answer `error` from now on. */
void weir_loop_refuse(struct weir_loop *loop, int error);
/* One turn, also of a closing or failed loop. The number handed back. */
int weir_loop_turn_once(struct weir_loop *loop, uint64_t until_ns);

static inline bool weir_loop_has_rooms(const struct weir_loop *loop)
{
    return loop->gate.lines[WEIR_LINE_ROOM].head || loop->offload_gate.lines[WEIR_LINE_ROOM].head;
}

/* room.c */
bool weir_loop_room_to_tell(const struct weir_loop *loop);
void weir_loop_announce_room(struct weir_loop *loop);
/* Whether an op may stand for its gate; NULL does for the main one. 0, or as weir_wait_room(). */
int weir_loop_judge_example(struct weir_loop *loop, const struct weir_op *op);

/* mark.c: watermarks that have been crossed. */
bool weir_loop_mark_to_tell(const struct weir_loop *loop);
void weir_loop_tell_marks(struct weir_loop *loop);
/* Nobody is told any more: the loop ends. */
void weir_loop_forget_marks(struct weir_loop *loop);

/* foreign.c: leaves the loop so that its fd tells when to turn again. */
void weir_loop_arm_foreign(struct weir_loop *loop);
void weir_loop_close_foreign(struct weir_loop *loop);

/* look.c */
/* Memory for who is told, in this order: views, recorder. Bytes. */
uint64_t weir_loop_observe_size(const struct weir_options *options, uint32_t slots);
void weir_loop_observe(struct weir_loop *loop, const struct weir_options *options, void *memory);
/* The gate's state but for who waits, which is to be counted. */
struct weir_gate_state weir_loop_describe_gate(const struct weir_gate *gate);
/* Lists the live ops, oldest first. How many there are. */
size_t weir_loop_list(const struct weir_loop *loop, struct weir_live *ret_ops, size_t max);
/* Nobody looks any more: the loop ends. */
void weir_loop_detach_all(struct weir_loop *loop);
/* A new beat of a pulse that is kept: what it does from now on. op: of CALLBACK. */
void weir_loop_beat(struct weir_loop *loop, enum weir_phase phase, uint64_t since_ns,
                    const struct weir_op *op);

/* For those who look on, if any: a turn begins, has let ops go, may sleep now, goes on, ends. */
void weir_loop_show_turn(struct weir_loop *loop);
void weir_loop_show_left(struct weir_loop *loop);
void weir_loop_show_sleep(struct weir_loop *loop);
void weir_loop_show_awake(struct weir_loop *loop);
void weir_loop_show_end(struct weir_loop *loop);

/* close.c: the last touch of a turn. */
void weir_loop_step_closing(struct weir_loop *loop);

/* open.c: unmaps the loop itself. */
void weir_loop_free(struct weir_loop *loop);

#endif
