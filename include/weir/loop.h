/* SPDX-License-Identifier: MIT */
/*
 * weir/loop.h: the loop: open, submit, turn, cancel, close.
 *
 * Threads. The thread that opened the loop (or adopted it) owns it. Every call answers -EPERM from
 * another thread, but those marked "any thread". After fork(2) every call answers -ECHILD in the
 * child, and the parent goes on undisturbed. Loops share nothing: any number of them, in any
 * threads.
 *
 * Phases. open -> (submit, turn)* -> close. Callbacks run only inside weir_loop_turn(),
 * weir_loop_run() and weir_loop_close(), never inside submit or cancel; turn, run and close called
 * from a callback answer -EBUSY.
 *
 * Memory. All of it is taken at open; weir_loop_facts() shows it. Afterwards the engine neither
 * allocates nor frees.
 *
 * A turn that cannot go on (a seccomp filter added later, lost completions: EBADR) makes the loop
 * FAILED: turn, run and submit answer that errno from then on; weir_loop_close() hands back what
 * never reached the kernel with -ECANCELED, reports the rest and answers the errno;
 * weir_loop_abandon() ends it.
 */
#ifndef WEIR_LOOP_H
#define WEIR_LOOP_H

#include <weir/op.h>
#include <weir/policy.h>
#include <weir/sim.h>
#include <weir/task.h>

#ifdef __cplusplus
extern "C" {
#endif

struct weir_observer;

#define WEIR_DEPTH_MAX 32764 /* half the kernel's 65536 completion entries, less 4 */
#define WEIR_TIMERS_MAX (1u << 24)
#define WEIR_WAITING_MAX (1u << 20)
#define WEIR_MEMORY_MAX (1ULL << 40)
#define WEIR_RECORDER_MAX (1u << 24)

/* weir_options.flags */
enum weir_loop_flags {
    /* Open on one thread for another: weir_loop_adopt() makes the calling thread the owner. */
    WEIR_FOR_ADOPTION = 1u << 0,
    /* When the offload gate is full, submit runs the function of a CALL itself, in the calling
     * thread, instead of answering -EAGAIN; the callback comes from the next turn, or from the end
     * of this one. Not for posts. */
    WEIR_CALLER_RUNS = 1u << 1,
    /* Submit answers -EAGAIN to an op that cannot have a credit at once, unless the op says
     * WEIR_OR_WAIT; without this flag it may wait, as long as the FIFO has a place. */
    WEIR_REFUSES = 1u << 2,
    /* Keeps a copy of every live op, and of the loop's numbers as of its last turn, that other
     * threads may read at any time, also while the loop is stuck in a callback:
     * weir_loop_inspect(), weir_snapshot_add(), and slow ops of a watchdog. What it costs an op:
     * docs/measurements.md. */
    WEIR_INSPECTABLE = 1u << 3,
};

/* weir_options.offload_workers: no offload ring at all. */
#define WEIR_NO_OFFLOAD UINT32_MAX
#define WEIR_WORKERS_MAX 1024
#define WEIR_OFFLOAD_DEPTH_MAX 32764
#define WEIR_POSTS_MAX (1u << 20)

/* Zeroed options are good defaults. */
struct weir_options {
    enum weir_policy policy;
    uint32_t flags; /* enum weir_loop_flags */

    /* Ops in flight at most: 1 to WEIR_DEPTH_MAX; 0: 256. One that waits for its peer (an armed
     * ACCEPT, a RECV on an idle connection) is in flight: count connections and listeners, and the
     * work. */
    uint32_t depth;
    /* Ops that may wait for the gate beyond depth: to WEIR_WAITING_MAX; 0: none. */
    uint32_t waiting_max;
    /* Live TIMEOUT ops: to WEIR_TIMERS_MAX; 0: 1024. */
    uint32_t timers_max;
    /* Ops let through per turn, 0: 256; and their bytes, 0: 8 MiB (one larger op passes alone). */
    uint32_t admit_ops_max;
    uint64_t admit_bytes_max;
    /* Bytes in flight at most, at each gate by itself; 0: no cap; one larger op passes alone.
     * Counts what READ, WRITE, their vectors, SEND, SENDMSG and SPLICE are to move; not the buffers
     * of RECV and RECVMSG, which may wait for their peers for ever. While the first in order waits
     * for bytes, ops of other tasks that move none pass it. */
    uint64_t bytes_max;
    /*
     * Latency goal, ns: p99 of FLIGHT of all ops but those of kinds that wait for others (ACCEPT,
     * CONNECT, POLL, RECV, RECVMSG, SIGNAL, CHILD); 0: none. While more than 1 in 100 is later, the
     * gate's depth is lowered, to depth_min (0: 1) at least; while it is clearly met and ops wait,
     * raised again. Judged when 10 ms have passed and 128 ops are back, or when a second has
     * passed; one late op alone says nothing. While nothing comes back and ops wait, one more goes
     * each second. What is armed (the kinds above) holds its credits of
     * `depth`, but none of the lowered one. Cancelled ops do not count. SEND may wait for its peer
     * too, and counts: give it a task, and the goals to the others. A task may have a goal of its
     * own, for which the same depth is steered by its ops alone. Each gate steers by the ops that
     * went through it. weir_loop_gate() shows the depth and the reason.
     */
    uint64_t goal_ns;
    uint32_t depth_min;
    /* Bytes for tasks and histograms: to WEIR_MEMORY_MAX; 0: 4 MiB; -EINVAL if too little for the
     * built-in tasks, which take about 1.1 MiB (touched only as they are used). */
    uint64_t memory_max;
    /* Caps of the kernel's worker threads (per thread, not per ring: the last loop opened in it
     * wins). Bounded ones do file I/O; 0: 4 per CPU, at most depth. Unbounded ones do what may
     * block for ever; 0: depth, so that a blocked op never stands before the one that would unblock
     * it. */
    uint32_t workers_bounded;
    uint32_t workers_unbounded;

    /* Worker threads of the offload ring: to WEIR_WORKERS_MAX; 0: one per CPU the process may use
     * (its affinity and its cgroup's CPU limit, whichever is less); WEIR_NO_OFFLOAD: none, and CALL
     * and what else needs a worker answer -EOPNOTSUPP (a CLOSE is done on the spot). They are
     * started at open. */
    uint32_t offload_workers;
    /* The offload gate: CALLs, and ops routed to OFFLOAD, queued and running at most: to
     * WEIR_OFFLOAD_DEPTH_MAX; 0: 256. What a backend sends to a worker by itself is bounded by
     * depth. */
    uint32_t offload_depth;
    /* Ops that may wait for the offload gate beyond that: to WEIR_WAITING_MAX; 0: none. */
    uint32_t offload_waiting_max;
    /* A worker's stack, bytes: 16 KiB to 1 GiB; 0: 256 KiB. Thread-local storage comes on top. */
    uint32_t offload_stack;
    /* Posted ops (weir_loop_post()) that have no place behind their gate, or among the timers, yet:
     * to WEIR_POSTS_MAX; 0: 1024. */
    uint32_t posts_max;
    /* Before it sleeps a turn watches its sources this long, ns, while it finds that this pays: to
     * 1 s; 0: never. Buys latency at low depth with CPU time, and more of it if receives have the
     * route WEIR_ROUTE_INLINE. (While workers have calls, a look of up to 20 us before a sleep is
     * made in any case, if such looks pay, and workers do the same; not where the thread that opens
     * the loop may run on one CPU alone. The look sees posts, wakes, timers and io_uring's
     * completions too; on epoll, which shows nothing in memory, it lasts 3 us if ops other than
     * calls are in flight.) */
    uint64_t spin_ns_max;
    /* Kinds that the backend must carry out by itself, a bit each (1ULL << WEIR_KIND_FTRUNCATE):
     * one that would need a worker for any of them is rejected, WEIR_CAUSE_FEATURE. */
    uint64_t native_kinds;
    /* What weir_probe() found, so that each of many loops need not find it again; NULL: find it. */
    const struct weir_probe *probe;
    /* Of WEIR_SIM alone. */
    struct weir_sim_options sim;

    /* Told of every op, in the loop's thread: weir/observe.h; the table must live as long as the
     * loop. NULL: nobody is. */
    const struct weir_observer *observer;
    /* Events that the flight recorder holds, see weir/observe.h: to WEIR_RECORDER_MAX; 0: none. */
    uint32_t recorder_events;
    /* Keeps the stack that submitted every so manieth op; 0: of none. Needs WEIR_INSPECTABLE. */
    uint32_t backtrace_every;

    void *user;                     /* what weir_loop_user() answers */
    struct weir_decision *decision; /* filled on success and on failure; NULL: not wanted */
};

/*
 * Opens a loop owned by the calling thread. options may be NULL: all defaults. *ret_loop is written
 * on success only. On kernels without RWF_NOSIGNAL (before 6.18) SIGPIPE is blocked in the owning
 * thread until close, since a WRITE to a broken pipe raises it there (weir_facts.sigpipe_blocked);
 * weir installs no signal handler (but for a watchdog, weir/watchdog.h).
 * 0; -EINVAL: NULL, a limit exceeded, an unknown policy or flag, a WEIR_POLICY that is none;
 * -ENOSYS, -EPERM, -EACCES, -ENOTSUP: no backend is to be had, or the one demanded is not (the
 * decision says why); -ENOMEM: also with a ring of 4 entries, see RLIMIT_MEMLOCK; -EMFILE, -ENFILE;
 * -ENOSPC: epoll: no more fds may be watched (fs.epoll.max_user_watches); -EAGAIN: no more threads
 * for the workers (RLIMIT_NPROC, pids cgroup).
 */
WEIR_API int weir_loop_open(const struct weir_options *options, struct weir_loop **ret_loop);

/* Makes the calling thread the owner of a loop opened WEIR_FOR_ADOPTION; until then all calls but
 * this, wake, stop, close and abandon answer -EPERM. Once. 0; -EBUSY: has an owner; -ECHILD;
 * others: the kernel's, and the loop can only be closed. */
WEIR_API int weir_loop_adopt(struct weir_loop *loop);

/*
 * Submits an op of any kind. Outside a turn it leaves with the next turn; call weir_loop_turn().
 * 0: accepted, its callback will come exactly once. Refused, op untouched and no callback:
 * -EAGAIN: full: depth + waiting_max ops, offload_depth + offload_waiting_max calls, or timers_max
 * timers are live (weir_wait_room()), places that are reserved for other tasks counted; or there is
 * no credit at once and op or loop refuses to wait (WEIR_OR_REFUSE, WEIR_REFUSES);
 * -EOPNOTSUPP: CALL or route OFFLOAD, and the loop has no workers;
 * -EBUSY: the op is live already; -EINVAL: NULL, no callback, unknown kind, flag or route, a flag
 * the kind does not know, a task of another loop, deadline_ns on a timer, a length past a stated
 * limit;
 * -ESHUTDOWN: closing; -EPERM; -ECHILD; the loop's errno when it has FAILED.
 */
#define weir_submit(loop, op) weir_submit_at((loop), (op), WEIR_SITE)
WEIR_API int weir_submit_at(struct weir_loop *loop, struct weir_op *op, const char *site);

/*
 * Submits from any thread (not from a signal handler): the op is the engine's from then on, and its
 * callback comes on the loop's thread. Posts are admitted first in, first out per thread, for each
 * task and gate. deadline_ns counts from now on; latency counts from the post. The loop must stay
 * open during the call, and something must keep it turning: a loop that waits only for posts needs
 * a weir_loop_hold().
 * 0: accepted, its callback will come exactly once, it is not refused later. Refused, untouched:
 * -EAGAIN: posts_max posted ops wait for a place; -EBUSY: the op is live; -EINVAL, -EOPNOTSUPP: as
 * of submit; -ESHUTDOWN: closing; -EPERM: not adopted yet, or abandoned; -ECHILD; the errno of a
 * FAILED loop.
 */
#define weir_loop_post(loop, op) weir_loop_post_at((loop), (op), WEIR_SITE)
WEIR_API int weir_loop_post_at(struct weir_loop *loop, struct weir_op *op, const char *site);

/*
 * Asks for an op back: the one way out. At most one cancel per op reaches the kernel; asking again
 * is harmless. An op comes back with -ECANCELED, or with its own result if that was first.
 * 0: its callback will come (a disk transfer in progress cannot be interrupted: when it is done);
 * -EALREADY: finished, its callback comes in this turn (outside one: in the next) with its own
 * result; or running in a worker, which cannot be interrupted: its callback comes when it returns
 * (a CALL can see weir_op_asked()). So a callback that submits its op again, as that of a timer
 * that repeats, has to see by itself that the end has come;
 * -ENOENT: not live, or not of this loop; -EINVAL: NULL; -EPERM; -ECHILD.
 */
WEIR_API int weir_cancel(struct weir_loop *loop, struct weir_op *op);
/* All live ops on an fd (either fd of those with two), or of a task. The number of ops asked for,
 * not counting those asked for before; or -EBADF: negative fd; -EINVAL; -EPERM; -ECHILD. */
WEIR_API int weir_cancel_fd(struct weir_loop *loop, int fd);
WEIR_API int weir_cancel_task(struct weir_loop *loop, struct weir_task *task);

/*
 * Announces that the caller is about to close(2) an fd that was used with this loop. Cancels what
 * is live on it. 0: close it now; its number may be reused at once (the kernel holds the old file
 * for what is still on its way back). -EBUSY: ops are in flight that look the number up late, in a
 * worker (paths relative to it, SPLICE, CLOSE, FSYNC, SYNC_FILE_RANGE, FALLOCATE, FADVISE,
 * FTRUNCATE, SHUTDOWN, what is tried again after EAGAIN, and all that the offload ring carries):
 * they are cancelled, close(2) after their callbacks. So does a number that was given anew while
 * the CLOSE of its former file is still on its way back. -EBADF: negative; -EPERM; -ECHILD. A CLOSE
 * op does all this by itself.
 */
WEIR_API int weir_forget(struct weir_loop *loop, int fd);

/*
 * One turn: lets waiting ops through, enters the kernel once, waits at most wait_ns ns (0: not at
 * all; negative: until something happens) if nothing is ready, and calls back what is finished. A
 * signal or weir_loop_wake() ends the wait.
 * The number of callbacks made; -EBUSY: inside a callback; -EPERM; -ECHILD; the errno of a FAILED
 * loop; -EDEADLK: in a simulated world (weir/sim.h), nothing would ever have ended the wait.
 */
WEIR_API int weir_loop_turn(struct weir_loop *loop, int64_t wait_ns);

/* Turns until nothing is live and nothing holds the loop, or weir_loop_stop(). 0; errors as
 * turn's. */
WEIR_API int weir_loop_run(struct weir_loop *loop);

/* Makes the present or the next turn not wait. Any thread, signal handlers too; the loop must stay
 * open meanwhile. 0; -EINVAL; -ECHILD. */
WEIR_API int weir_loop_wake(struct weir_loop *loop);
/* The same, and the present or next weir_loop_run() answers 0 after its turn. */
WEIR_API int weir_loop_stop(struct weir_loop *loop);

/* A hold keeps weir_loop_run() going while nothing is live; each needs its release. 0; -EINVAL:
 * more releases than holds; -EPERM; -ECHILD. */
WEIR_API int weir_loop_hold(struct weir_loop *loop);
WEIR_API int weir_loop_release(struct weir_loop *loop);

/*
 * An epoll fd for somebody else's loop, readable (EPOLLIN, level) when weir_loop_turn(loop, 0) has
 * something to do: completions, timers, wakes. Made at the first call, closed by close; never read
 * it. From then on every turn submits before it returns what its callbacks submitted. After a
 * weir_submit() or weir_cancel() outside a turn, call weir_loop_turn(loop, 0). The kernel may once
 * end the foreign loop's sleep with EINTR though no signal came (seen on 6.18 after a ring was
 * closed).
 * The fd; -EMFILE, -ENFILE, -ENOMEM, -ENOSPC (fs.epoll.max_user_watches); -EPERM; -ECHILD; the
 * errno of a FAILED loop.
 */
WEIR_API int weir_loop_fd(struct weir_loop *loop);

/* CLOCK_MONOTONIC now, ns (the simulator's clock under it). Any thread. 0 for NULL. */
WEIR_API uint64_t weir_now(const struct weir_loop *loop);
/* weir_options.user. Any thread. NULL for NULL. */
WEIR_API void *weir_loop_user(const struct weir_loop *loop);
/* Ops accepted and not handed back, timers included. Or -EPERM, -ECHILD, -EINVAL. */
WEIR_API int64_t weir_loop_live(const struct weir_loop *loop);

/* --- room: being told when a full gate has a place again -------------------------------------- */

struct weir_room;
struct weir_gate;
struct weir_flow;
/* result: 0: submit now, there is room (others called in the same turn may take it: then wait
 * again);
 * -ESHUTDOWN: the loop is closing. The node is the caller's again. */
typedef void weir_room_callback(struct weir_room *room, int result);

/* An embedded node; zeroed, callback set by the caller. */
struct weir_room {
    weir_room_callback *callback;
    void *user;
    struct weir_room *next; /* the engine's, as are all below */
    struct weir_room *prev;
    struct weir_loop *loop;
    struct weir_gate *gate;
    struct weir_flow *flow;
    const char *site;
    uint64_t turn;
    uint64_t bytes;
    uint32_t credits;
    uint32_t refuses;
};

/*
 * Asks to be called once, in a turn, when an op like `op` would be accepted by its gate. First in,
 * first out; at most as many are called as there are places. Hysteresis: waiters are called when
 * the gate has come down to the low mark (an eighth of its places free, 1 at least, 8 at most), or
 * when a place has stood free for one whole turn. The op is only looked at, not kept: its gate, its
 * task and its flags count, a reserve and WEIR_OR_REFUSE included; NULL: the main gate. One whose
 * task has no room lets those behind it pass. What callbacks submit in the same turn comes first,
 * then posts: waiters share what is left at its end, so callbacks that always submit again leave
 * them nothing; let them wait for room too, or give the task a reserve.
 * 0; -EBUSY: the node waits already; -EINVAL: NULL, no callback, an op without a gate (TIMEOUT);
 * -EOPNOTSUPP: CALL or route OFFLOAD, and the loop has no workers;
 * -ESHUTDOWN; -EPERM; -ECHILD; the errno of a FAILED loop.
 */
#define weir_wait_room(loop, room, op) weir_wait_room_at((loop), (room), (op), WEIR_SITE)
WEIR_API int weir_wait_room_at(struct weir_loop *loop, struct weir_room *room,
                               const struct weir_op *op, const char *site);
/* Takes the node back without a call. 0; -ENOENT: it does not wait; -EINVAL; -EPERM; -ECHILD. */
WEIR_API int weir_withdraw_room(struct weir_loop *loop, struct weir_room *room);

/* --- watermarks: being told when a gate fills and when it has emptied ------------------------- */

struct weir_watermark;
/* is_above: 1: the level has reached `high`; 0: it has come down to `low` again. */
typedef void weir_watermark_callback(struct weir_watermark *mark, int is_above);

/* An embedded node; zeroed, the first four set by the caller. The level is ops accepted and not
 * handed back. */
struct weir_watermark {
    weir_watermark_callback *callback;
    void *user;
    uint32_t high;               /* 1 to the gate's places: depth + waiting_max */
    uint32_t low;                /* below high */
    struct weir_watermark *next; /* the engine's, as are all below */
    struct weir_watermark *prev;
    struct weir_loop *loop;
    struct weir_gate *gate;
    uint64_t turn;
    uint32_t is_above;
};

/*
 * Calls back, at the end of a turn, whenever the level has crossed `high` upwards or `low`
 * downwards since the last call (set in a turn: from the next on): so that an acceptor stops
 * accepting, a reader stops reading, and both go on. Levels between turns count, but a crossing
 * that was undone before the turn's end is not told. The gate is that of `op`, which is only looked
 * at; NULL: the main gate. The callback may submit, and unwatch any watermark. The node is the
 * engine's until it is withdrawn or the loop is gone.
 * 0; -EBUSY: it watches already; -EINVAL: NULL, no callback, low not below high, high above the
 * gate's places, an op without a gate (TIMEOUT); -EOPNOTSUPP: as of weir_wait_room(); -ESHUTDOWN;
 * -EPERM; -ECHILD; the errno of a FAILED loop.
 */
WEIR_API int weir_watch_gate(struct weir_loop *loop, struct weir_watermark *mark,
                             const struct weir_op *op);
/* Takes the node back. 0; -ENOENT: it does not watch; -EINVAL; -EPERM; -ECHILD. */
WEIR_API int weir_unwatch_gate(struct weir_loop *loop, struct weir_watermark *mark);

/* --- closing ---------------------------------------------------------------------------------- */

#define WEIR_FRAMES_MAX 16

/* One live op, as it was submitted. A value: nothing of it is the op's memory. */
struct weir_live {
    const struct weir_op *op; /* which; not to be looked into in another thread */
    const char *kind;         /* "write" */
    const char *state;        /* "posted", "at gate", "in flight", "done" */
    const char *site;         /* "file.c:12", where it was submitted */
    char task[WEIR_TASK_NAME_MAX + 1];
    int32_t fd; /* -1: none */
    uint64_t offset;
    uint64_t length;
    uint64_t age_ns;    /* since it was submitted */
    uint64_t flight_ns; /* since it left; 0: it has not */
    uint32_t frame_count;
    void *frames[WEIR_FRAMES_MAX]; /* the stack that submitted it, if it was kept: return
                                    * addresses, the innermost first */
};

struct weir_report {
    size_t count;
    const struct weir_live *ops; /* oldest first; the loop's memory, valid until it is closed or
                                  * abandoned */
};

/*
 * Ends the loop: no more submits, every live op is cancelled, callbacks run until all are back or
 * wait_ns have passed (0: what comes back without waiting; negative: as long as it takes), then all
 * is torn down and the loop is gone. An ACCEPT, OPENAT or SOCKET that succeeds because this cancel
 * came late has its new fd closed and comes back with -ECANCELED. ret_report may be NULL.
 * 0: gone (0 for NULL too). -ETIMEDOUT: *ret_report names what is still out, its memory must stay;
 * the loop is CLOSING: close again, or abandon it. -EBUSY: inside a callback; -EPERM; -ECHILD: in a
 * child: only the child's copies of the fds were closed; the errno of a FAILED loop, with a report;
 * the loop stays CLOSING and only abandon ends it.
 */
WEIR_API int weir_loop_close(struct weir_loop *loop, int64_t wait_ns,
                             struct weir_report *ret_report);

/* result: 0 or -ETIMEDOUT as of weir_loop_close(), which the callback may not call; call it after
 * the turn: after 0 it answers 0 at once. */
typedef void weir_closed_callback(struct weir_loop *loop, int result);

/*
 * The asynchronous form, also from a callback: the same, carried out by the turns that the owner
 * goes on making; the callback is the last touch of one of them. 0; -EALREADY: closing already;
 * -EINVAL; -EPERM;
 * -ECHILD; the errno of a FAILED loop. If the loop FAILS meanwhile the callback does not come: turn
 * answers the errno.
 */
WEIR_API int weir_loop_close_begin(struct weir_loop *loop, int64_t wait_ns,
                                   weir_closed_callback *callback);

/*
 * Gives a loop up without waiting: no callback will come, and all that the kernel may still touch
 * (ring, arena, wake fd) is leaked on purpose; the memory of live ops must stay as long as the
 * process.
 * 0 (for NULL too); -EBUSY: inside a callback; -EPERM; -ECHILD.
 */
WEIR_API int weir_loop_abandon(struct weir_loop *loop);

/* --- numbers ---------------------------------------------------------------------------------- */

/* Since open. Ops unless said otherwise. */
struct weir_counters {
    uint64_t submitted;
    uint64_t refused;  /* answered -EAGAIN */
    uint64_t waited;   /* found no credit at once, or stood behind one that had not */
    uint64_t shed;     /* their deadline passed before they could leave */
    uint64_t finished; /* handed back */
    uint64_t turns;
    uint64_t enters;       /* io_uring_enter(2) calls */
    uint64_t enter_eintr;  /* of these answered EINTR: taken as a wake */
    uint64_t enter_eagain; /* EAGAIN or ENOMEM: retried after reaping, with back-off */
    uint64_t enter_ebusy;  /* EBUSY: the same */
    uint64_t enter_short;  /* took fewer entries than offered */
    uint64_t cq_overflow;  /* the kernel had to keep completions aside: the gate's arithmetic was
                           * wrong */
    uint64_t stale;        /* completions whose op was gone: answered by generation, dropped */
    uint64_t retried;      /* ops staged again after EINTR or EAGAIN */
    uint64_t continued;    /* short transfers of WHOLE ops staged again */
    uint64_t rearmed; /* multishot ops started again that the kernel had ended for want of room */
    uint64_t cancels; /* that went to the kernel */
    uint64_t wakes;   /* wake-ups that cost a system call: of a sleeping loop, and the first */
    uint64_t posts;   /* accepted by weir_loop_post() */
    uint64_t posts_refused;     /* answered -EAGAIN */
    uint64_t offloaded;         /* calls given to workers, the backend's included */
    uint64_t caller_ran;        /* CALLs run by submit: the offload gate was full */
    uint64_t inline_tries;      /* on the spot; of those by a spin what did it */
    uint64_t inline_done;       /* of these that did it */
    uint64_t spins;             /* turns that watched before they slept */
    uint64_t spins_paid;        /* of these that found something */
    uint64_t spin_ns;           /* time spent watching */
    uint64_t clock_clamped;     /* samples that would have been negative */
    uint32_t in_flight;         /* now */
    uint32_t waiting;           /* now, at the gate */
    uint32_t offload_in_flight; /* now, through the offload gate */
    uint32_t offload_waiting;   /* now, at it */
    uint32_t timers;            /* now */
};

/* Why a gate's depth is what it is. */
enum weir_depth_reason {
    WEIR_DEPTH_AS_OPENED,
    WEIR_DEPTH_LOOP_GOAL, /* lowered for weir_options.goal_ns */
    WEIR_DEPTH_TASK_GOAL, /* lowered for the goal of a task */
};

/* A gate, now. */
struct weir_gate_state {
    uint32_t depth;     /* credits that are given out now */
    uint32_t depth_max; /* as opened */
    enum weir_depth_reason reason;
    const struct weir_task *task; /* whose goal it was, WEIR_DEPTH_TASK_GOAL; else NULL */
    uint32_t in_flight;           /* credits taken */
    uint32_t waiting;             /* ops */
    uint32_t places;              /* ops that may be live: depth_max + waiting_max */
    uint32_t reserved;            /* credits reserved by tasks */
    uint64_t bytes_in_flight;     /* of ops that a budget counts, the loop's or their task's */
    uint64_t bytes_max;           /* 0: no cap */
    uint64_t lowered;             /* times that a goal has lowered the depth */
    uint64_t raised;              /* times that it was raised again */
    uint64_t throttled_ns;        /* time that ops waited while a goal kept the depth down */
};

/* The gate of `op`, which is only looked at; NULL: the main gate. 0; -EINVAL: NULL, an op without a
 * gate (TIMEOUT); -EPERM; -ECHILD. */
WEIR_API int weir_loop_gate(const struct weir_loop *loop, const struct weir_op *op,
                            struct weir_gate_state *ret_state);

/* Any of them: 0; -EINVAL: NULL; -EPERM; -ECHILD. */
WEIR_API int weir_loop_counters(const struct weir_loop *loop, struct weir_counters *ret_counters);
WEIR_API int weir_loop_facts(const struct weir_loop *loop, struct weir_facts *ret_facts);

#ifdef __cplusplus
}
#endif
#endif
