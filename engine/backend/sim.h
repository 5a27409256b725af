/* SPDX-License-Identifier: MIT */
/*
 * sim.h: a simulated world and the backend in it, for the files of `sim` alone, and for tests.
 *
 * A world has one clock and one heap of what will happen, ordered by time, then by the order of
 * planning. An op that was staged is a run: it departs with its loop's turn, happens at its time,
 * may wait for a stream, and is finished: then it stands on its loop's list until that turns.
 *
 * Invariants. Everything lives in the arena. No pointer, address or number of the real system
 * decides anything: lists and heap are ordered by serial numbers. The clock moves only in
 * weir_sim_advance().
 */
#ifndef WEIR_ENGINE_SIM_H
#define WEIR_ENGINE_SIM_H

#include "backend.h"
#include "sim_arena.h"
#include "sim_disk.h"
#include "sim_stream.h"

#include <fcntl.h>
#include <weir/sim.h>

#define WEIR_SIM_BEGIN_NS                                                                          \
    (3600 * 1000000000ULL)    /* the clock of a new world: an hour is behind it */
#define WEIR_SIM_WORKERS 4    /* where options.offload_workers says 0 */
#define WEIR_SIM_LONG_EVERY 8 /* a worker takes long work at least so often */

/* --- what will happen ------------------------------------------------------------------------- */

/* Embedded in what it happens to; zeroed: not planned. */
struct weir_happening {
    uint64_t at_ns;
    uint64_t sequence; /* decides between equals; 0: not planned */
    struct weir_happening *child;
    struct weir_happening *next;
    struct weir_happening *before; /* the one that has it as child or next */
    void (*happen)(struct weir_sim *sim, struct weir_happening *happening);
};

/* --- random numbers --------------------------------------------------------------------------- */

/* A stream for each use, so that what is drawn for one does not shift the others. */
enum weir_sim_die {
    WEIR_SIM_DIE_TIME,   /* latencies */
    WEIR_SIM_DIE_FAULT,  /* whether and how faults strike */
    WEIR_SIM_DIE_CANCEL, /* whether a cancel comes in time */
    WEIR_SIM_DIE_USER,   /* weir_sim_random() */
    WEIR_SIM_DICE,
};

/* --- open files ------------------------------------------------------------------------------- */

enum weir_sim_file_kind {
    WEIR_SIM_FILE_NULL, /* /dev/null */
    WEIR_SIM_FILE_DISK,
    WEIR_SIM_FILE_STREAM,
};

struct weir_sim_run;

struct weir_sim_runs {
    struct weir_sim_run *head;
    struct weir_sim_run *tail;
};

/* What an fd stands for: an open file description. */
struct weir_sim_file {
    struct weir_happening look; /* those who wait are tried again */
    uint32_t holds;             /* fds, and runs on it */
    uint32_t serial;            /* never given twice */
    enum weir_sim_file_kind kind;
    int flags; /* O_* */
    uint64_t position;
    struct weir_inode *inode;   /* of the disk's; it holds it */
    struct weir_stream *stream; /* of streams */
    struct weir_sim_runs waiting;
    char *path; /* it was opened by, or NULL; path_size bytes */
    size_t path_size;
};

struct weir_sim_fd {
    struct weir_sim_file *file; /* NULL: free */
    int flags;                  /* FD_CLOEXEC */
};

/* --- ops -------------------------------------------------------------------------------------- */

/* An attempt to do what an op asks for. */
struct weir_sim_try {
    struct weir_sim_file *file;  /* of op->fd, held; NULL: none is needed */
    struct weir_sim_file *file2; /* of its second fd */
    uint64_t way_ns;             /* what it sends takes to arrive */
    uint64_t cut;                /* not 0: it shall be short, by this draw */
    uint64_t moved;              /* earlier, of what is to come back together (MSG_WAITALL) */
    struct weir_sim_file *waits; /* after -EAGAIN: it is to be tried again when this changes; NULL:
                                  * that is its result */
};

enum weir_sim_run_state {
    WEIR_SIM_FREE,
    WEIR_SIM_STAGED,   /* on loop->staged */
    WEIR_SIM_QUEUED,   /* for a simulated worker, on a lane */
    WEIR_SIM_UNDERWAY, /* `next` is planned */
    WEIR_SIM_WAITING,  /* on file->waiting */
    WEIR_SIM_STOPPED,  /* it does not finish by itself */
    WEIR_SIM_FINISHED, /* on loop->finished */
};

struct weir_sim_run {
    struct weir_happening next; /* first: a happening is its run */
    struct weir_op *op;
    struct weir_sim_loop *loop;
    struct weir_sim_run *after; /* links of the list that the state names; of the free ones, too */
    struct weir_sim_run *before;
    struct weir_sim_runs *list;
    uint64_t serial; /* among the loop's, from 1 */
    int64_t result;
    enum weir_sim_run_state state;
    uint64_t tag;                   /* of its op's slot, as a kernel is given it */
    uint32_t worker;                /* that carries it: its number and 1; 0: none */
    enum weir_sim_fault_what fault; /* that struck; 0: none */
    int error;                      /* of it */
    uint64_t delay_ns;              /* of it */
    uint64_t begun_ns;              /* when a worker began it */
    struct weir_sim_try attempt;
};

/* --- loops ------------------------------------------------------------------------------------ */

/* A completion that comes once more, as of a kernel that is wrong: its op's slot has moved on. */
struct weir_sim_echo {
    uint64_t tag; /* 0: none is to come */
    int64_t result;
    uint32_t turns; /* until it does */
};

struct weir_sim_worker {
    struct weir_sim_run *run; /* NULL: idle */
    uint32_t since_long;      /* short work taken since */
};

/* A backend: what of a loop is in a world. */
struct weir_sim_loop {
    struct weir_backend base;
    struct weir_sim *sim;
    struct weir_sim_loop *next; /* of the world's */
    uint32_t number;            /* among all there were, from 1 */
    bool woken;
    struct weir_sim_run *runs;
    uint32_t run_count;
    struct weir_sim_run *free;
    uint64_t serials;
    struct weir_sim_runs staged;
    struct weir_sim_runs finished;
    struct weir_sim_runs lanes[2]; /* short work, long work */
    struct weir_sim_worker *workers;
    uint32_t worker_count;
    uint64_t plain; /* events that were the plain end of their ops */
    struct weir_sim_echo echo;
};

static inline struct weir_sim_loop *weir_sim_loop_of(struct weir_backend *backend)
{
    return (struct weir_sim_loop *)(void *)backend;
}

static inline struct weir_sim *weir_sim_world_of(const struct weir_backend *backend)
{
    return ((const struct weir_sim_loop *)(const void *)backend)->sim;
}

extern const struct weir_backend_table weir_sim_table;

/* --- the world -------------------------------------------------------------------------------- */

struct weir_sim {
    struct weir_arena arena;
    size_t size; /* of the mapping that begins here */
    struct weir_sim_plan plan;
    struct weir_sim_fault *faults; /* a copy of the plan's */
    uint32_t *matched;             /* by each: ops so far */
    const void *thread;
    bool is_private; /* goes with its loop */
    bool late;       /* ops are staged when a turn begins, as with epoll; else by submit */
    bool crashed;
    uint64_t dice[WEIR_SIM_DICE];
    uint64_t hash;
    struct weir_sim_counters counters;

    uint64_t now_ns;
    uint64_t sequence;
    struct weir_happening *first; /* the heap's root */

    struct weir_sim_fd *fds;
    uint32_t fds_max; /* the table's; plan.fds_max is what may be used of it */
    uint32_t fds_open;
    uint32_t files; /* there ever were */
    struct weir_disk *disk;
    struct weir_net net;

    struct weir_sim_loop *loops;
    uint32_t loop_count;
    uint32_t loops_ever;
    uint64_t finished; /* runs: to see that one did */

    /* For tests: every so many-th event that ends its op comes once more; 0: none. */
    uint32_t echo_every;
    /* For tests: asked before a CALL ends; false: again 1 ms later. NULL: it ends. */
    bool (*may_end_call)(struct weir_op *op);
};

/* sim_clock.c */
/* Plans it, or plans it anew. */
void weir_sim_plan(struct weir_sim *sim, struct weir_happening *happening, uint64_t at_ns);
/* Does nothing to one that is not planned. */
void weir_sim_unplan(struct weir_sim *sim, struct weir_happening *happening);
/* All that is due happens, until there is no more or the machine has crashed. */
void weir_sim_happen(struct weir_sim *sim);
/* The clock moves to the next happening, or to until_ns if that is earlier, and what is due
 * happens. False: there is neither. */
bool weir_sim_advance(struct weir_sim *sim, uint64_t until_ns);
uint64_t weir_sim_roll(struct weir_sim *sim, enum weir_sim_die die);
uint64_t weir_sim_draw(struct weir_sim *sim, enum weir_sim_die die,
                       const struct weir_sim_span *span);
void weir_sim_seed(struct weir_sim *sim, uint64_t seed);

/* sim_trace.c */
/* A step of the world: into the hash, and as a line of what, run, value. run may be NULL. */
void weir_sim_trace(struct weir_sim *sim, const char *what, const struct weir_sim_run *run,
                    int64_t value);

/* sim_world.c */
int weir_sim_make(const struct weir_sim_options *options, struct weir_sim **ret_sim);
void weir_sim_free(struct weir_sim *sim);

/* sim_fd.c */
struct weir_sim_file *weir_sim_file_of(const struct weir_sim *sim, int fd); /* NULL: no such */
/* 0, or why no fd can be had. */
int weir_sim_may_open(const struct weir_sim *sim);
/* Makes a file and an fd for it; weir_sim_may_open() answered 0. The fd or -ENOMEM. */
int weir_sim_file_open(struct weir_sim *sim, enum weir_sim_file_kind kind, int flags,
                       struct weir_sim_file **ret_file);
/* One more fd for a file. */
int weir_sim_file_number(struct weir_sim *sim, struct weir_sim_file *file, int flags);
void weir_sim_file_name(struct weir_sim *sim, struct weir_sim_file *file, const char *path);
int weir_sim_file_close(struct weir_sim *sim, int fd);
void weir_sim_file_hold(struct weir_sim_file *file);
void weir_sim_file_release(struct weir_sim *sim, struct weir_sim_file *file);
/* Plans when those who wait are to be tried again. */
void weir_sim_file_expect(struct weir_sim *sim, struct weir_sim_file *file);
/* struct weir_net's. */
void weir_sim_stream_changed(void *context, struct weir_stream *stream);
/* All fds and files go, as a machine that stops loses them. */
void weir_sim_file_drop_all(struct weir_sim *sim);

/* sim_perform.c */
/* Looks up the op's fds and holds their files. 0 or -EBADF. */
int weir_sim_try_begin(struct weir_sim *sim, const struct weir_op *op,
                       struct weir_sim_try *attempt);
void weir_sim_try_end(struct weir_sim *sim, struct weir_sim_try *attempt);
/* >= 0 or -errno; nothing has happened on -EAGAIN but what attempt->moved says. */
int64_t weir_sim_perform(struct weir_sim *sim, const struct weir_op *op,
                         struct weir_sim_try *attempt);
/* sim_socket.c: of these kinds: those of sockets, transfers on streams. */
int64_t weir_sim_on_socket(struct weir_sim *sim, const struct weir_op *op,
                           struct weir_sim_try *attempt);
int64_t weir_sim_message(struct weir_sim *sim, const struct weir_op *op,
                         struct weir_sim_try *attempt);
int64_t weir_sim_stream_read(struct weir_sim *sim, struct weir_sim_try *attempt,
                             const struct iovec *iov, uint32_t count, uint64_t length);
int64_t weir_sim_stream_write(struct weir_sim *sim, struct weir_sim_try *attempt,
                              const struct iovec *iov, uint32_t count, uint64_t length);
int64_t weir_sim_splice(struct weir_sim *sim, const struct weir_op *op,
                        struct weir_sim_try *attempt);
/* How much of what could be moved is: less than that if it shall be short. */
uint64_t weir_sim_cut(const struct weir_sim_try *attempt, uint64_t could);
/* Bytes of the iovecs up to the first that is bad, at most WEIR_TRANSFER_MAX; -EFAULT; -EINVAL. */
int64_t weir_sim_vector_bytes(const struct iovec *iov, uint64_t count);
bool weir_sim_is_bad_address(const void *address);

/* sim_fault.c: whether one strikes the run: sets its fault, error and delay. */
void weir_sim_strike(struct weir_sim *sim, struct weir_sim_run *run);
bool weir_sim_faults_fit(const struct weir_sim_fault *faults, uint32_t count);

/* sim_run.c */
/* All that was staged leaves. */
void weir_sim_depart(struct weir_sim_loop *loop);
void weir_sim_finish(struct weir_sim_run *run, int64_t result);
enum weir_cancelled weir_sim_ask(struct weir_sim_run *run);
/* Tries those again who wait on it. */
void weir_sim_try_waiting(struct weir_sim *sim, struct weir_sim_file *file);
/* The file goes: those who wait on it try elsewhere. */
void weir_sim_send_away(struct weir_sim *sim, struct weir_sim_file *file);
void weir_sim_list(struct weir_sim_runs *list, struct weir_sim_run *run,
                   enum weir_sim_run_state state);
void weir_sim_unlist(struct weir_sim_run *run);
/* Takes a run off whatever it is on; its op is forgotten. */
void weir_sim_drop(struct weir_sim_run *run);
void weir_sim_drop_all(struct weir_sim_loop *loop);

/* sim_worker.c */
void weir_sim_queue(struct weir_sim_run *run);
void weir_sim_free_worker(struct weir_sim_run *run);
/* sim_run.c: what a worker does first. */
void weir_sim_begin(struct weir_sim_run *run);

/* --- for tests: sim_probe.c ------------------------------------------------------------------- */

/* Carries an op out at once, as another process would: no latency, no fault, no trace. Its result;
 * -EAGAIN where it would have to wait. */
int64_t weir_sim_do(struct weir_sim *sim, const struct weir_op *op);
/* The clock moves to the next happening. False: none. */
bool weir_sim_step(struct weir_sim *sim);
/* The clock moves on by ns; what is due on the way happens. */
void weir_sim_sleep(struct weir_sim *sim, uint64_t ns);
/* dup2(2); at -1: dup(2). */
int weir_sim_dup(struct weir_sim *sim, int fd, int at);
int weir_sim_null(struct weir_sim *sim);
uint32_t weir_sim_fds(const struct weir_sim *sim);
void weir_sim_limit_fds(struct weir_sim *sim, uint32_t max);
int weir_sim_fcntl(struct weir_sim *sim, int fd, int command, int argument);
int64_t weir_sim_seek(struct weir_sim *sim, int fd, int64_t offset, int whence);
int weir_sim_sockname(struct weir_sim *sim, int fd, struct sockaddr *ret_address,
                      socklen_t *length);
int weir_sim_getsockopt(struct weir_sim *sim, int fd, int level, int name, void *ret_value,
                        socklen_t *length);

#endif
