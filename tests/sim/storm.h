/* SPDX-License-Identifier: MIT */
/*
 * storm.h: what the parts of the simulated storm share: a loop in a world, the ops that are live on
 * it, and the shadow model: what the engine must answer, to the op and to the byte.
 *
 * storm_gate.c and storm_seam.c are the model of submit, posts and hand-back, seen from both sides
 * of the engine: its callers' and its backend's; storm_line.c has the books of its gates, and
 * storm_count.c compares what is counted. The other files are named after what they model.
 *
 * Invariant: all is drawn from the seed; no address, no real time, no memory of the C library's.
 */
#ifndef WEIR_TESTS_SIM_STORM_H
#define WEIR_TESTS_SIM_STORM_H

#include <engine/backend/sim.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <weir/weir.h>

#define STORM_FILES 3
#define STORM_STREAMS 6
#define STORM_NAMES 6
#define STORM_TASKS 3
#define STORM_LINES (STORM_TASKS + 1) /* of a gate: one a task; the last for ops without one */
#define STORM_ROOMS 6
#define STORM_MARKS 3
#define STORM_ITEMS 512
#define STORM_FAULTS 6
#define STORM_FILE_MAX 12288
#define STORM_BUFFER_MAX 6144
#define STORM_UNTOUCHED 0xa5 /* in buffers that are handed in */
#define STORM_POISON 0xdb    /* in those that came back */

/* What bounds an op. */
enum bound {
    BOUND_GATE,
    BOUND_OFFLOAD,
    BOUND_TIMERS,
    BOUND_CALLER, /* a CALL that submit ran */
    BOUNDS
};

/* An fd, and what is live on it. */
struct handle {
    int fd; /* -1: none */
    enum {
        HANDLE_OPEN,
        HANDLE_CLOSING,  /* a CLOSE op is live */
        HANDLE_DRAINING, /* forget answered -EBUSY: to be closed when nothing is live on it */
        HANDLE_CLOSED
    } state;
    unsigned refs; /* live items */
};

/* A file: what reads must see, and what may be found after a crash. */
struct file {
    char path[16];
    struct handle handle;
    uint8_t now[STORM_FILE_MAX];
    uint8_t may[STORM_FILE_MAX][32]; /* a bit for each value that a crash may leave */
    bool missed[STORM_FILE_MAX];     /* by a sync that failed: later ones may pass over it */
    uint64_t size;
    uint64_t size_least; /* since it was last synced */
    uint64_t size_most;
    uint64_t position;
    uint64_t opens;
};

/* What goes one way through a stream. */
struct direction {
    uint64_t sent;    /* bytes of which the engine has said so */
    uint64_t pending; /* those of live writers: perhaps sent too */
    uint64_t got;
    unsigned readers; /* live */
    unsigned writers;
    bool ended;  /* the writer's end is shut or closed, or may be */
    bool broken; /* bytes may be lost: reset, or the reader's end is closed */
};

enum stream_type { STREAM_PIPE, STREAM_PAIR, STREAM_MESSAGES, STREAM_LISTENER, STREAM_TYPES };

/* way[i] is what end i reads and the other writes. A pipe has way[0] alone, a listener none. */
struct stream {
    enum stream_type type;
    bool ordered; /* at most one reader and one writer a way: every byte says where it stands */
    unsigned char tag;
    struct handle end[2];
    unsigned refs; /* live items */
    struct direction way[2];
    struct sockaddr_in address;
};

/* A name in the world's root directory. inode 0: not there. */
struct name {
    char path[16];
    uint64_t inode;
    enum { NAME_FILE, NAME_DIR, NAME_LINK } type;
};

/* How a loop went. */
enum ending { ENDING_CLEAN, ENDING_ABANDON, ENDING_CRASH };

enum came { CAME_NOT, CAME_EVENT, CAME_WITHDRAWN, CAME_AT_ONCE };

struct storm;

/* One op and what the model knows of it. */
struct item {
    struct weir_op op;
    struct storm *storm;
    TAILQ_ENTRY(item) link; /* of posts, or of those who wait for a credit, in a line; or free */
    uint64_t serial;
    bool live;
    bool posted;  /* has no place yet */
    bool inboxed; /* nor has the loop looked at it */
    bool waits;   /* has a place and no credit, as far as is known */
    bool admitted;
    bool staged; /* the backend has it */
    enum bound bound;
    unsigned line;
    bool steered;   /* a lowered depth bounds it */
    uint64_t bytes; /* that budgets count */
    enum came came; /* how the backend gave it back, in this turn */
    int64_t brought;
    bool polled; /* that was only that it is ready */
    uint64_t came_turn;
    bool asked;        /* cancel answered 0 */
    bool may_cancel;   /* something else may have asked for it */
    uint64_t asked_ns; /* one of them, first */
    uint64_t due_turn; /* -EALREADY promised it for this turn; 0: not said */
    uint64_t born_turn;
    uint64_t deadline_ns;
    uint64_t at_ns; /* of a timer */
    int task;       /* -1: none */
    /* What it works on. */
    struct handle *handle;
    struct handle *handle2;
    struct file *file;
    bool alters; /* the file */
    bool append;
    uint64_t low;
    uint64_t high;
    struct stream *stream;
    int end;
    bool reads;
    bool writes;
    struct name *names[2];
    int expected;      /* of a name: the only result but an injected error */
    struct handle own; /* CONNECT's socket */
    int64_t value;     /* CALL: what its function returns */
    unsigned ran;
    bool may_again; /* RWF_NOWAIT, MSG_DONTWAIT */
    bool syncs;
    int mode;
    size_t length;
    uint64_t offset;
    uint64_t from; /* where the stream's way stood; how often the file had been opened */
    struct iovec iov[2];
    struct msghdr message;
    struct statx statx;
    unsigned char buffer[STORM_BUFFER_MAX];
};

TAILQ_HEAD(items, item);

struct room {
    struct weir_room node;
    struct storm *storm;
    bool waits;
    enum bound bound;
    unsigned line;
    uint16_t flags; /* of the op that it named */
    uint64_t bytes;
    TAILQ_ENTRY(room) link;
};

TAILQ_HEAD(rooms, room);

struct mark {
    struct weir_watermark node;
    struct storm *storm;
    bool watches;
    bool above;
    enum bound bound;
    uint64_t turn; /* of its last call, or when it was set */
};

/* What one task has at one gate. */
struct line {
    struct items waiting; /* for a credit, in order */
    struct items posts;   /* for a place */
    struct rooms rooms;
    unsigned live;                    /* with a place */
    unsigned flying;                  /* of these, with a credit */
    unsigned steered, steered_flying; /* the same of ops that a lowered depth bounds */
    uint64_t bytes;                   /* of the live ones */
    uint64_t bytes_flying;
    uint64_t tag; /* the virtual time at which its first is to be served */
    unsigned share;
    /* Its limits; 0: none. */
    unsigned depth;
    unsigned reserve;
    uint64_t bytes_max;
    uint64_t goal_ns;
};

/* How often what is drawn: 0 is never. */
enum weight {
    WEIGHT_FILE,
    WEIGHT_SYNC,
    WEIGHT_STREAM,
    WEIGHT_LISTENER,
    WEIGHT_NAME,
    WEIGHT_NOP,
    WEIGHT_CALL,
    WEIGHT_TIMER,
    WEIGHT_CANCEL,
    WEIGHT_CANCEL_FD,
    WEIGHT_CANCEL_TASK,
    WEIGHT_CLOSE,
    WEIGHT_FORGET,
    WEIGHT_ROOM,
    WEIGHT_MARK,
    WEIGHT_TASK,
    WEIGHT_WAKE,
    WEIGHT_FORBIDDEN,
    WEIGHT_CRASH,
    WEIGHTS
};

/* In so many of 16. */
enum chance {
    CHANCE_POST,
    CHANCE_DEADLINE,
    CHANCE_WHOLE,
    CHANCE_TASK,
    CHANCE_OFFLOAD,
    CHANCE_INLINE,
    CHANCE_INTENDED,
    CHANCE_NESTED, /* another step, in a callback */
    CHANCE_WINDOW,
    CHANCE_NOWAIT,
    CHANCE_ORDERED,
    CHANCE_ANSWER, /* chosen by the op, not by the loop */
    CHANCES
};

struct tally {
    uint64_t submitted;
    uint64_t refused;
    uint64_t finished;
    uint64_t failed;
    uint64_t cancelled;
    uint64_t expired;
    uint64_t shed;
    uint64_t waited_least; /* of posts that came to their places together the order is not known */
    uint64_t waited_most;
};

struct storm {
    uint64_t seed;
    uint64_t random;
    const char *program;
    bool broken; /* cancels get lost */
    uint64_t hash;
    struct weir_sim *sim;
    struct weir_sim_plan plan;
    struct weir_sim_fault faults[STORM_FAULTS];
    uint64_t failing; /* kinds that may give any error, a bit each */
    bool may_reset;
    bool may_cut;    /* short transfers */
    bool may_fill;   /* the disk may be full */
    bool may_deafen; /* some ops never come back: no loop is closed */
    unsigned weights[WEIGHTS];
    unsigned weight_sum;
    unsigned chances[CHANCES];
    uint64_t span_ns; /* of deadlines and timers */

    struct weir_loop *loop;
    struct weir_options options;
    struct weir_backend *backend;
    const struct weir_backend_table *real;
    struct weir_backend_table table; /* real, looked through */
    uint64_t ops_left;               /* to be submitted to this loop */
    uint64_t turn;                   /* those begun */
    bool in_turn;
    bool began;       /* and its posts have moved */
    bool moved_posts; /* at the end of this turn */
    bool rung;        /* something was left for the loop before it slept */
    bool closing;
    bool closed;   /* close_begin's callback came */
    unsigned deep; /* steps in callbacks of steps */

    struct item items[STORM_ITEMS];
    struct items free;
    struct line lines[BOUNDS][STORM_LINES]; /* timers, and what is nowhere, use the last */
    const struct item *submitting;
    uint64_t serials;
    unsigned live[BOUNDS]; /* of all lines */
    unsigned flying[BOUNDS];
    unsigned depths[BOUNDS]; /* as lowered: they change at the very end of a turn */
    uint32_t turn_ops;       /* of the turn's budget, since the last turn let ops through */
    uint64_t turn_bytes;
    uint64_t virtual_time[BOUNDS];
    uint64_t last_tag[BOUNDS];
    bool order_unsure; /* in which tasks are served, from here to the loop's end */
    unsigned posted;
    struct tally tally;
    struct tally tallies[STORM_TASKS];
    uint64_t posts_accepted;
    uint64_t posts_refused;
    uint64_t caller_ran;
    unsigned called; /* back in this turn */
    unsigned events; /* that the backend gave in it */
    struct weir_task *tasks[STORM_TASKS];
    struct room rooms[STORM_ROOMS];
    unsigned places[BOUNDS]; /* for waiters for room, in this turn */
    struct mark marks[STORM_MARKS];
    bool mark_moved; /* one of the offload gate's has submitted in this turn */

    struct file files[STORM_FILES];
    struct stream streams[STORM_STREAMS];
    struct name names[STORM_NAMES];
    uint64_t inodes;
    unsigned char tag;
    int null;

    uint64_t ops; /* in all */
    uint64_t turns;
    uint64_t deadlocks;
    uint64_t end_ns;
    uint64_t crashes;
};

/* storm.c */
uint64_t storm_random(struct storm *storm, uint64_t below);
bool storm_chance(struct storm *storm, enum chance chance);
void storm_hash(struct storm *storm, uint64_t value);
_Noreturn void storm_fail(struct storm *storm, const char *site, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* One of these values. */
uint64_t storm_one_of(struct storm *storm, const uint64_t *values, size_t count);
#define ONE_OF(storm, ...)                                                                         \
    storm_one_of((storm), (const uint64_t[]){__VA_ARGS__},                                         \
                 sizeof((const uint64_t[]){__VA_ARGS__}) / 8)

#define STORM_CHECK(storm, condition)                                                              \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            storm_fail((storm), WEIR_SITE, "%s", #condition);                                      \
        }                                                                                          \
    } while (0)

#define STORM_EQUAL(storm, actual, wanted)                                                         \
    storm_equal((storm), WEIR_SITE, #actual, (int64_t)(actual), (int64_t)(wanted))
void storm_equal(struct storm *storm, const char *site, const char *what, int64_t actual,
                 int64_t wanted);

/* storm_run.c: the whole of a seed. */
void storm_run(struct storm *storm);
bool storm_is_dead(const struct storm *storm);

/* storm_gate.c */
void gate_submit(struct item *item);
void gate_post(struct item *item);
void gate_cancel(struct item *item);
/* Something may have asked for it. */
void gate_asked(struct item *item);
unsigned gate_most(const struct storm *storm, enum bound bound);
unsigned gate_live(const struct storm *storm);
enum bound gate_bound(const struct item *item);
/* After its callbacks posts go before who waits for room. */
void gate_move_posts(struct storm *storm);
void gate_forget_all(struct storm *storm);
void gate_compare(struct storm *storm);
unsigned gate_credits(const struct storm *storm, enum bound bound);
/* It has a credit now. */
void gate_pass(struct item *item);
/* It may have been asked back without the model's knowing when. */
bool gate_is_unsure(const struct item *item);

/* storm_line.c */
struct line *line_of(struct storm *storm, enum bound bound, int task);
void line_enter(struct item *item);
/* Off the model's lines and counts. */
void line_leave(struct item *item);
/* It has a credit: rightly so? */
void line_admit(struct item *item);
/* Once asked back it holds its place and waits no more. */
void line_wait_no_more(struct item *item);
/* Those who wait and of whom only the engine knew when they ceased to. */
void line_look(struct storm *storm);
bool line_has_place(const struct storm *storm, enum bound bound, const struct line *line);
bool line_would_wait(struct storm *storm, enum bound bound, const struct line *line, uint64_t bytes,
                     bool armed);
bool line_is_armed(const struct item *item); /* waits for others, maybe for ever */
uint64_t line_sum_bytes(const struct storm *storm, enum bound bound, bool flying);
bool line_has_goals(const struct storm *storm);
/* What budgets count of an op that is not yet accepted. */
uint64_t line_bytes(const struct item *item, enum bound bound);
/* Nobody waits who could go; if `in_turn`, within the turn's budget. */
void line_judge(struct storm *storm, bool in_turn);
void line_compare(struct storm *storm);
void line_read_depths(struct storm *storm);
bool line_refuses(const struct storm *storm, unsigned flags);
/* Credits that tasks have reserved. */
unsigned line_reserved(const struct storm *storm, enum bound bound);

/* storm_task.c: opens a task with random limits. */
void task_open(struct storm *storm, int task);

/* storm_room.c */
void room_step(struct storm *storm);
void mark_step(struct storm *storm);
/* A turn has ended, or is to sleep: who should have been told? */
void mark_judge(struct storm *storm, bool sleeps);
void room_judge_sleep(struct storm *storm);

/* storm_seam.c */
void gate_watch(struct storm *storm);
void gate_turn_begins(struct storm *storm);
/* `called`: what the turn answered. */
void gate_turn_ends(struct storm *storm, int called);
/* Nothing ever happens: rightly so? */
void gate_judge_deadlock(struct storm *storm);
/* The world will never give it back. */
bool gate_is_deaf(const struct item *item);

/* storm_item.c */
/* A random op of that sort, filled; NULL: there is none to be had now. */
struct item *item_make(struct storm *storm, enum weight sort);
struct item *item_take(struct storm *storm);
/* Deadline, task, flags and route. */
void item_dress(struct item *item);
/* It was never accepted, or has come back. */
void item_give(struct item *item);
struct item *item_random_live(struct storm *storm);

/* storm_judge.c */
void item_judge(struct item *item);
_Noreturn void item_wrong(struct item *item, const char *why);
/* Bytes that were moved, as its result says. */
uint64_t item_moved(const struct item *item);

/* storm_file.c */
void file_open(struct storm *storm, struct file *file);
/* False: what it would touch is in use. */
bool file_fill(struct item *item, bool sync);
void file_judge(struct item *item);
/* Gone in a crash, or abandoned: it may have happened. */
void file_may(struct item *item);
void file_check_all(struct storm *storm, enum ending ending);

/* storm_name.c */
bool name_fill(struct item *item);
void name_judge(struct item *item);
void name_clear_all(struct storm *storm);

/* storm_stream.c */
void stream_open(struct storm *storm, struct stream *stream);
bool stream_fill(struct item *item, bool listener);
void stream_judge(struct item *item);
/* It leaves the model. */
void stream_let_go(struct item *item);
void stream_closes(struct stream *stream, int end);
/* All that was sent and not read must be there. */
void stream_drain(struct storm *storm, struct stream *stream);

/* storm_fd.c */
struct handle *handle_random(struct storm *storm);
struct item *handle_close(struct storm *storm, struct handle *handle);
void handle_forget(struct storm *storm, struct handle *handle);
void handle_judge_close(struct item *item);
/* One less is live on it. */
void handle_release(struct storm *storm, struct handle *handle);
/* All that is live on that number, but one, may be asked back. */
void handle_mark(struct storm *storm, int fd, const struct item *but);
/* With nothing live: what only waited for that is closed. */
void handle_settle_all(struct storm *storm);
/* Whatever is open in the world. */
void handle_close_all(struct storm *storm);
void handle_open_all(struct storm *storm);
uint32_t handle_count_open(const struct storm *storm);

/* storm_step.c */
void storm_step(struct storm *storm);
void storm_window(struct storm *storm, int asleep);

/* The one there is. */
extern struct storm *storm_current;

static inline int64_t storm_do(struct storm *storm, const struct weir_op *op)
{
    return weir_sim_do(storm->sim, op);
}

#endif
